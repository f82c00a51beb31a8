"""From what was asked for to what is run: which scenarios, in which order, with which command to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import door as doors
from harness.cli import _parser
from harness.door import Door, Wishes
from harness.errors import BadInput, HarnessError, NodeNeverReady, SetupError
from harness.promises import CATALOGUE
from harness.reporting import QuietView
from harness.waiting import set_patience

ITEMS = [
    ("inflight", "shutdown.inflight"),
    ("rejoin[kill]", "failover.rejoin"),
    ("helper", None),
    ("kill", "failover.kill"),
    ("rejoin[stop]", "failover.rejoin"),
    ("answer", "instances.answer"),
]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    yield
    set_patience(1.0)


def opened(*only: str, overrides: tuple[str, ...] = (), **wishes: Any) -> Door:
    return Door.for_wishes(Wishes(only=only, overrides=overrides, **wishes))


# -- what is chosen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        ((), ["helper", "answer", "kill", "rejoin[kill]", "rejoin[stop]", "inflight"]),
        (("failover.*",), ["helper", "kill", "rejoin[kill]", "rejoin[stop]"]),
        (("shutdown.inflight", "instances.*"), ["helper", "answer", "inflight"]),
        (("*.kill", "failover.*"), ["helper", "kill", "rejoin[kill]", "rejoin[stop]"]),
    ],
)
def test_what_is_asked_for_runs_in_the_order_of_the_catalogue(only: tuple[str, ...], kept: list[str]) -> None:
    """Globs choose promises, not files; scenarios of one promise stay together, and nothing is kept or left out twice."""
    chosen, left = opened(*only).choose(ITEMS)
    assert chosen == kept
    assert sorted([*chosen, *left]) == sorted(name for name, _ in ITEMS)


@pytest.mark.parametrize("pattern", ["failover", "failover.kil", "", "Failover.*"])
def test_a_name_that_fits_no_promise_is_bad_input(pattern: str) -> None:
    """A typing mistake must not end as a run of nothing: it is told, with where to look."""
    with pytest.raises(
        BadInput, match=rf"no promise matches {pattern!r}: `harness promises` lists all {len(CATALOGUE)}"
    ):
        opened("instances.answer", pattern)


def test_a_scenario_of_an_unknown_promise_is_bad_input() -> None:
    """What is not in the catalogue has no bound, no words and no place in the order."""
    with pytest.raises(BadInput, match=r"failover\.flood"):
        opened().choose([*ITEMS, ("flood", "failover.flood")])


def test_what_the_platform_cannot_judge_is_told_where_nothing_else_was_asked_for() -> None:
    """Whoever asks for one promise gets the reason, and not the word of pytest that nothing was run."""
    door = opened("failover.kill")

    def scenarios() -> int:
        with suppress(BadInput):
            door.choose(ITEMS, needs=lambda item: {"orchestrator"} if item == "kill" else set())
        return 2

    with pytest.raises(BadInput, match=r"failover\.kill cannot be judged here: native: .*--platform swarm"):
        door.run(scenarios)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"instances": 1}, "app.instances"),
        ({"overrides": ("app.instanzes=3",)}, "app.instanzes"),
        ({"overrides": ('promises.waived={"failover.kil" = "x"}',)}, "failover.kil"),
        ({"setup": Path("no-such.toml")}, "no such file"),
    ],
)
def test_a_setup_that_cannot_be_used_is_told_before_anything_starts(wishes: dict[str, Any], said: str) -> None:
    """Options are checked as the setup file is, waivers against the catalogue."""
    with pytest.raises(SetupError, match=said):
        opened(**wishes)


# -- repeating it -----------------------------------------------------------------------------------------------------

ODD = (
    Wishes(),
    Wishes(setup=Path("my setups/it's one.toml"), instances=4),
    Wishes(only=("failover.*", "session.survives-restart")),
    Wishes(overrides=('app.env.X="a b"', "balancer.next_upstream=[]", "app.env.Y=$HOME `id`\n;")),
)


@pytest.mark.parametrize("wishes", ODD, ids=["nothing", "file", "only", "overrides"])
def test_the_command_repeats_the_run(wishes: Wishes) -> None:
    """A shell gives the harness back the very same wishes, whatever is in them, and the seed that was drawn."""
    told = _parser().parse_args(shlex.split(wishes.command(41907))[1:])
    again = Wishes(
        setup=told.setup,
        instances=told.instances,
        only=tuple(told.only),
        overrides=tuple(told.overrides),
        reports=told.report,
    )
    assert (again, told.seed) == (wishes, 41907)


# -- a run ------------------------------------------------------------------------------------------------------------


class Standing:
    """Stands in for a verification: boots nothing, and remembers what it was told."""

    boots: HarnessError | Exception | None = None

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.told: list[Any] = []
        seen.append(self)

    def open(self) -> None:
        if self.boots is not None:
            raise self.boots

    def test_begins(self) -> None: ...

    def crashed(self, promise: str, scenario: str, problem: Exception) -> None:
        self.told.append(("crashed", promise, scenario))

    def promise_result(self, promise: str) -> str:
        return promise

    def conclude(self, *, complete: bool) -> SimpleNamespace:
        self.told.append(("complete", complete))
        return SimpleNamespace(exit_code=3)

    def close(self) -> None:
        self.told.append("closed")

    def write_page(self, result: SimpleNamespace) -> None:
        self.told.append("page")


class Watching(QuietView):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Any] = []

    def promise_done(self, result: Any) -> None:
        self.shown.append(result)

    def end(self, result: Any) -> None:
        self.shown.append("end")


seen: list[Standing] = []


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> Watching:
    seen.clear()
    monkeypatch.setattr(doors, "Verification", type("Fresh", (Standing,), {}))
    return Watching()


def standing_door(view: Watching, *only: str) -> Door:
    door = Door.for_wishes(Wishes(only=only, seed=5), view)
    door.choose(ITEMS)
    return door


def test_each_promise_is_shown_when_all_its_scenarios_are_done(view: Watching) -> None:
    """The plan says how many scenarios judge each promise; a line is final after the last of them, not the first."""
    door = standing_door(view, "failover.*")
    running = door.verification()
    assert running is door.verification()
    assert seen[0].given["planned"] == {"failover.kill": 1, "failover.rejoin": 2}
    assert (seen[0].given["seed"], seen[0].given["command"]) == (5, "harness verify --only 'failover.*' --seed 5")
    for promise in ("failover.kill", "failover.rejoin"):
        door.running(promise)
        door.done(promise)
    assert view.shown == ["failover.kill"]
    door.done("failover.rejoin")
    assert view.shown == ["failover.kill", "failover.rejoin"]


@pytest.mark.parametrize(("code", "complete"), [(0, True), (1, True), (2, False), (5, False)])
def test_the_code_is_the_verdicts_and_never_pytests(code: int, complete: bool, view: Watching) -> None:
    """pytest says 1 for any verdict but pass; what it ends early is incomplete, and a failure of the harness."""
    door = standing_door(view)

    def scenarios() -> int:
        door.verification()
        return code

    if complete:
        assert door.run(scenarios) == 3
    else:
        with pytest.raises(HarnessError, match=f"pytest ended with code {code}"):
            door.run(scenarios)
    assert seen[0].told == [("complete", complete), "closed", "page"]
    assert view.shown == ["end"]


@pytest.mark.parametrize("there", [True, False])
def test_a_summary_that_cannot_be_shown_in_ci_is_a_warning(
    there: bool, view: Watching, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file of the step gets the run's summary; where it cannot be written that is told once, and the code stays."""
    (tmp_path / "summary.md").write_text("### pass")
    step = tmp_path / "step.md" if there else tmp_path / "nowhere" / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    monkeypatch.setattr(doors.Verification, "conclude", lambda *_, **__: SimpleNamespace(exit_code=3, results=tmp_path))
    door = standing_door(view)
    assert door.run(lambda: 0 if door.verification() else 1) == 3
    assert step.exists() == there
    assert [warning for warning in door.warnings if "GITHUB_STEP_SUMMARY" in warning] == door.warnings
    assert len(door.warnings) == (0 if there else 1)
    door.close()
    assert not there or step.read_text() == "### pass"


def test_a_run_for_another_program_is_not_shown_in_ci(
    view: Watching, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trials of `harness mutants` fail on purpose."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    door = Door.for_wishes(Wishes(seed=5, shown_in_ci=False), view)
    door.choose(ITEMS)
    door.verification()
    door.close()
    assert not (tmp_path / "step.md").exists()
    assert door.warnings == []


def test_scenarios_that_never_booted_are_no_verdict(view: Watching) -> None:
    """Where nothing was started there is nothing to conclude, and no success."""
    with pytest.raises(HarnessError, match="could not be run"):
        standing_door(view).run(lambda: 0)
    assert not seen


@pytest.mark.parametrize(
    ("problem", "kind", "said"),
    [
        (NodeNeverReady("app-1 never became ready"), NodeNeverReady, "app-1 never"),
        (ValueError("odd"), HarnessError, "nothing could be booted: ValueError: odd"),
    ],
)
def test_a_boot_that_fails_is_told_as_what_it_is(
    problem: Exception, kind: type[HarnessError], said: str, view: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though pytest swallows it on the way: bad input stays bad input, anything unforeseen is the harness's failure."""
    monkeypatch.setattr(doors.Verification, "boots", problem)
    door = standing_door(view)

    def scenarios() -> int:
        with pytest.raises(HarnessError):
            door.verification()
        return 2

    with pytest.raises(kind, match=said):
        door.run(scenarios)


def test_an_interruption_writes_what_was_judged_and_goes_on(view: Watching) -> None:
    """Ctrl-C within pytest ends the run as Ctrl-C: results are written, marked incomplete, everything is closed, once."""
    door = standing_door(view)

    def scenarios() -> int:
        door.verification()
        door.crashed("failover.kill", "test_x", ValueError())
        door.interrupted(KeyboardInterrupt())
        return 2

    with pytest.raises(KeyboardInterrupt):
        door.run(scenarios)
    door.close()
    assert seen[0].told == [("crashed", "failover.kill", "test_x"), ("complete", False), "closed", "page"]


def test_it_is_closed_also_when_results_cannot_be_written(view: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not leave servers behind."""

    def full(self: Standing, *, complete: bool) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(doors.Verification, "conclude", full)
    door = standing_door(view)
    door.verification()
    with pytest.raises(OSError, match="no space"):
        door.close()
    assert seen[0].told == ["closed"]


def test_what_the_setup_does_not_promise_is_waived_with_its_reason() -> None:
    """The reason of the setup file; None for what it does promise."""
    door = opened(overrides=('promises.waived={"failover.*" = "one rack"}',))
    assert door.waived("failover.kill") == "one rack"
    assert door.waived("session.every-instance") is None
