"""A failing run made smaller: what is left fails, nothing of it can be left out alone, and bounds hold."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import shrinking
from harness.cli import main
from harness.door import Wishes
from harness.errors import BadInput
from harness.model import Cause, Confidence, Finding, Status, Verdict
from harness.promises import CATALOGUE
from harness.reporting import RunResult, from_json, to_json
from harness.shrinking import Part, ddmin, parts_of, run_shrink, wishes_with
from harness.trials import Trial
from harness.waiting import set_patience

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
CHOSEN = ("failover.kill", "failover.stop", "failover.hang", "session.every-instance")
BROKEN = "failover.stop"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    yield
    set_patience(1.0)


# -- the method -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 24).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(0, n - 1)), max_size=n))))
def test_what_is_needed_is_found(given: tuple[int, set[int]]) -> None:
    """Where it fails as soon as certain parts are there, exactly these are left, in their order, and none is asked twice."""
    count, needed = given
    needed = {part for part in needed if part < count}
    asked: list[tuple[int, ...]] = []

    def fails(parts: tuple[int, ...]) -> bool:
        asked.append(parts)
        return needed <= set(parts)

    assert ddmin(range(count), fails) == tuple(sorted(needed))
    assert len(asked) == len(set(asked)) <= count * count + 3 * count + 1


@given(st.integers(1, 10), st.randoms(use_true_random=False))
def test_what_is_left_is_one_minimal(count: int, random: Any) -> None:
    """Whatever fails and whatever does not: what is left fails, and without any single part of it it does not."""
    whole = tuple(range(count))
    outcomes: dict[tuple[int, ...], bool] = {whole: True}

    def fails(parts: tuple[int, ...]) -> bool:
        return outcomes.setdefault(parts, random.random() < 0.3)

    left = ddmin(whole, fails)
    assert outcomes[left]
    for part in left:
        assert not fails(tuple(other for other in left if other != part))


def test_of_nothing_nothing_is_left() -> None:
    """Nobody is asked."""
    assert ddmin((), lambda _: pytest.fail("asked")) == ()


# -- what a run consists of -------------------------------------------------------------------------------------------


def cause(name: str) -> Cause:
    return Cause(id=name, sentence="s", confidence=Confidence.CERTAIN, evidence=("e",), remedy="r", guide="")


def run_of(
    promises: tuple[str, ...] = CHOSEN,
    *,
    broken: tuple[str, ...] = (BROKEN,),
    by: str = "no-retry",
    status: Status = Status.FAIL,
    command: str = "harness verify --seed 7",
    **changes: Any,
) -> RunResult:
    findings = tuple(
        Finding(
            promise=promise,
            scenario="s",
            verdict=Verdict(status if promise in broken else Status.PASS, "m"),
            causes=(cause(by),) if promise in broken else (),
        )
        for promise in promises
    )
    stored = from_json(STORED.read_text(), results=Path("reports/a-run"))
    made = {"findings": findings, "promises": (), "planned": {}, "waived": {}, "seed": 7, "command": command}
    return replace(stored, **{**made, "platform": "native", "instances": 4, "run_id": "a-run", **changes})


WISHES = Wishes(overrides=("balancer.max_fails=3", "balancer.next_upstream=[]"), instances=4, seed=7)


def test_a_run_is_taken_apart() -> None:
    """Other promises, changes of keys, instances beyond two, and two halves of the rate."""
    parts = parts_of(WISHES, run_of(), promise=BROKEN)
    assert [str(part) for part in parts] == [
        "failover.kill",
        "failover.hang",
        "session.every-instance",
        "balancer.max_fails=3",
        "balancer.next_upstream=[]",
        "instance 3",
        "instance 4",
        "half of the rate",
        "half of what is left of it",
    ]
    assert len(set(parts)) == len(parts)
    composed = parts_of(WISHES, run_of(platform="compose"), promise=BROKEN)
    assert not [part for part in composed if part.kind == "instance"]


def test_a_run_is_put_together_again() -> None:
    """All of it is what it was, with the promises by name; nothing of it is the promise on two instances at a quarter."""
    parts = parts_of(WISHES, run_of(), promise=BROKEN)

    def made(kept: tuple[Part, ...], wishes: Wishes = WISHES) -> Wishes:
        return wishes_with(kept, of=parts, wishes=wishes, promise=BROKEN, rate=120.0)

    order = tuple(promise for promise in CATALOGUE if promise in CHOSEN)
    assert made(parts) == replace(WISHES, only=order)
    assert made(()) == replace(WISHES, only=(BROKEN,), overrides=("traffic.rate=30",), instances=2)
    assert made(tuple(part for part in parts if part.name != "instance 3")).instances == 3
    paced = replace(WISHES, overrides=("traffic.rate=120", *WISHES.overrides))
    kept = tuple(part for part in parts if part.kind != "rate")
    assert made(kept, paced).overrides == (*WISHES.overrides, "traffic.rate=30")


# -- the whole --------------------------------------------------------------------------------------------------------

Verdicts = Callable[[list[str]], RunResult | None]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], list[Verdicts]]:
    """The words of every try, and what decides its outcome: the last of the list."""
    words: list[list[str]] = []
    deciding: list[Verdicts] = []

    def verify(given: list[str], *, reports: Path) -> Trial:
        words.append(given)
        result = deciding[-1](given)
        return Trial(result=result, code=0 if result else 2, trouble="" if result else "cannot be")

    monkeypatch.setattr(shrinking, "verify", verify)
    return words, deciding


def only_of(words: list[str]) -> tuple[str, ...]:
    return tuple(after for word, after in itertools.pairwise(words) if word == "--only")


def shrunk(result: RunResult, wishes: Wishes = WISHES, **more: Any) -> tuple[int, dict[str, Any]]:
    stream = io.StringIO()
    given = {"promise": None, "within_seconds": 600.0, "tries": 50, "json_only": True, "color": None, **more}
    code = run_shrink(result, wishes, reports=Path("reports"), stream=stream, **given)
    return code, json.loads(stream.getvalue()) if given["json_only"] else {"text": stream.getvalue()}


def test_what_matters_is_left(tried: tuple[list[list[str]], list[Verdicts]]) -> None:
    """It needs one changed key and the promise before it; everything else goes, and the seed stays."""
    words, deciding = tried

    def decides(given: list[str]) -> RunResult:
        needs = "balancer.next_upstream=[]" in given and "failover.kill" in only_of(given)
        return run_of(only_of(given), broken=(BROKEN,) if needs else (), command="harness verify " + " ".join(given))

    deciding.append(decides)
    code, told = shrunk(run_of())
    assert (code, told["minimal"], told["promise"], told["seed"]) == (0, True, BROKEN, 7)
    assert [part["name"] for part in told["needed"]] == ["failover.kill", "balancer.next_upstream=[]"]
    assert told["tries"] == len(words)
    assert all(given[-2:] == ["--seed", "7"] for given in words)
    last = told["command"].split()
    assert only_of(last) == ("failover.kill", BROKEN)
    assert ("traffic.rate=25" in last, "2" in last) == (True, True)


def test_a_promise_that_needs_nothing_is_one_try(tried: tuple[list[list[str]], list[Verdicts]]) -> None:
    """The commonest case is asked about first."""
    words, deciding = tried
    deciding.append(lambda given: run_of(only_of(given)))
    code, told = shrunk(run_of())
    assert (code, told["needed"], len(words)) == (0, [], 1)


@pytest.mark.parametrize(
    "other",
    [
        lambda given: run_of(only_of(given), broken=()),
        lambda given: run_of(only_of(given), status=Status.INCONCLUSIVE),
        lambda given: run_of(only_of(given), by="no-health-check"),
        lambda given: run_of(only_of(given), broken=("failover.kill",)),
        lambda given: None,
    ],
    ids=["kept", "inconclusive", "another cause", "another promise", "no verdict"],
)
def test_what_fails_otherwise_does_not_still_fail(
    other: Verdicts, tried: tuple[list[list[str]], list[Verdicts]]
) -> None:
    """Then the run itself is the smallest there is, and it is told as that."""
    _, deciding = tried
    deciding.append(other)
    code, told = shrunk(run_of())
    assert (code, told["minimal"], told["left_out"], told["run"]) == (0, True, [], "a-run")


def test_tries_are_bounded(tried: tuple[list[list[str]], list[Verdicts]]) -> None:
    """What has failed by then is told, with code 3: there may be less."""
    words, deciding = tried
    deciding.append(
        lambda given: run_of(
            only_of(given), broken=(BROKEN,) if "failover.kill" in only_of(given) else (), run_id="less"
        )
    )
    code, told = shrunk(run_of(), tries=2)
    assert (code, told["minimal"], told["tries"], len(words)) == (3, False, 2, 2)
    assert (told["run"], len(told["needed"])) == ("less", 4)


def test_time_is_bounded(tried: tuple[list[list[str]], list[Verdicts]], monkeypatch: pytest.MonkeyPatch) -> None:
    """No try begins after it."""
    words, deciding = tried
    deciding.append(lambda given: run_of(only_of(given), broken=()))
    moment = iter(range(0, 10_000, 10))
    monkeypatch.setattr(shrinking.clock, "now", lambda: float(next(moment)))
    code, told = shrunk(run_of(), within_seconds=35.0)
    assert (code, told["minimal"], told["tries"], len(words)) == (3, False, 3, 3)


def test_the_text_tells_every_try_and_the_command(tried: tuple[list[list[str]], list[Verdicts]]) -> None:
    """For people: what is needed, what was left out, where it is and how to repeat it."""
    _, deciding = tried
    deciding.append(lambda given: run_of(only_of(given), command="harness verify --only failover.stop --seed 7"))
    _, told = shrunk(run_of(), json_only=False)
    lines = told["text"].splitlines()
    assert re.match(r" fail +try 1, 0 of 9 parts +m$", lines[0])
    assert f" {BROKEN} still fails with nothing but itself (1 try; nothing more can be left out alone)" in lines
    assert lines[-1] == " harness verify --only failover.stop --seed 7"


@pytest.mark.parametrize(
    ("result", "changes", "said"),
    [
        (run_of(broken=()), {}, "nothing failed in a-run"),
        (run_of(waived={BROKEN: "why"}), {}, "nothing failed in a-run"),
        (run_of(), {"promise": "failover.kill"}, "failover.kill did not fail in a-run: these did: failover.stop"),
        (run_of(), {"tries": 0}, "--tries and --within must be above 0"),
        (run_of(), {"within_seconds": 0.0}, "--tries and --within must be above 0"),
    ],
)
def test_what_cannot_be_made_smaller_is_refused(
    result: RunResult, changes: dict[str, Any], said: str, tried: tuple[list[list[str]], list[Verdicts]]
) -> None:
    """Before anything is tried."""
    with pytest.raises(BadInput, match=re.escape(said)):
        shrunk(result, **changes)
    assert tried[0] == []


def stored(folder: Path, result: RunResult) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "verdicts.json").write_text(to_json(result))
    return folder


def test_the_command_line_repeats_what_was_asked_for(
    tried: tuple[list[list[str]], list[Verdicts]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wishes of a run are read from the command that it says repeats it."""
    words, deciding = tried
    deciding.append(lambda given: run_of(only_of(given)))
    command = "harness verify --instances 4 --set balancer.max_fails=3 --only 'failover.*' --seed 7"
    folder = stored(tmp_path / "run", run_of(command=command))
    assert main(["shrink", str(folder), "--json"]) == 0
    assert words == [["--instances", "2", "--set", "traffic.rate=25", "--only", BROKEN, "--seed", "7"]]
    told = json.loads(capsys.readouterr().out)
    assert {"kind": "change", "name": "balancer.max_fails=3"} in told["left_out"]
    page = (Path(__file__).parents[1] / "docs/results.md").read_text(encoding="utf-8")
    section = page.partition("## A failing run made smaller")[2].partition("\n## ")[0]
    assert {*told, "kind", "name"} <= set(re.findall(r"`([a-z_]+)`", section))


@pytest.mark.parametrize("command", ["harness load --users 3", "harness verify --of-another-version"])
def test_a_run_that_cannot_be_repeated_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input, in one message."""
    folder = stored(tmp_path / "run", run_of(command=command))
    assert main(["shrink", str(folder)]) == 2
    assert "a-run cannot be repeated" in capsys.readouterr().err
    assert main(["shrink", str(tmp_path / "none")]) == 2
