"""One verification several times: rates in place of "flaky", one schedule for one seed, and the worst run decides."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import serving

from harness import repetition, trials
from harness.checkers.statistics import wilson_interval
from harness.cli import main
from harness.door import Wishes
from harness.errors import BadInput
from harness.layouts import Choice
from harness.model import Finding, Status, Verdict
from harness.repetition import Repetition, as_json, as_lines, run_repeated
from harness.reporting import QuietView, RunResult, from_json, to_json
from harness.setup import Environment, load_setup
from harness.traffic import Journal, Stream, read_history
from harness.trials import Trial
from harness.verification import Verification
from harness.waiting import set_patience, wait_until
from tests.test_mutants import REFERENCE
from tests.test_traffic import GET, SCENARIO, Rig

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
PASS, FAIL, THIN, RIG = (str(status) for status in Status)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    yield
    set_patience(1.0)


def run_of(seed: int = 1, **statuses: str) -> RunResult:
    """A run that came to this of each promise (`failover_kill="fail"`)."""
    findings = tuple(
        Finding(promise=name.replace("_", "."), scenario="s", verdict=Verdict(Status(status), "m"))
        for name, status in statuses.items()
    )
    stored = from_json(STORED.read_text(), results=Path(f"reports/run-{seed}"))
    command = f"harness verify --seed {seed}"
    return replace(
        stored, run_id=f"run-{seed}", seed=seed, findings=findings, promises=(), planned={}, waived={}, command=command
    )


def tried(*runs: RunResult | None) -> Repetition:
    made = [
        Trial(result=run, code=4 if run is None else run.exit_code, trouble="" if run else "no room") for run in runs
    ]
    return Repetition(trials=tuple(made))


def text_of(repetition: Repetition) -> str:
    return "\n".join(str(line) for line in as_lines(repetition))


# -- rates ------------------------------------------------------------------------------------------------------------


def test_a_promise_has_its_rate_with_its_interval() -> None:
    """Broken in one of four runs that judged it; where it was not judged says nothing of it."""
    told = tried(*(run_of(seed, failover_kill=status) for seed, status in enumerate([PASS, FAIL, PASS, THIN, PASS])))
    (rate,) = told.promises
    assert (rate.failed, rate.judged, rate.rate) == (1, 4, 0.25)
    assert (rate.low, rate.high) == wilson_interval(1, 4)
    assert rate.words == {PASS: 3, FAIL: 1, THIN: 1}
    assert "failed in 1 of 4 runs, 25% (95 %: 5% to 70%), 1 inconclusive" in text_of(told)


def test_never_broken_is_not_never() -> None:
    """Three runs leave more than half open."""
    told = tried(*(run_of(seed, failover_kill=PASS) for seed in range(3)))
    assert "failed in 0 of 3 runs, 0% (95 %: 0% to 56%)" in text_of(told)


def test_a_promise_that_was_never_judged_has_no_rate() -> None:
    """Not 0 %."""
    told = tried(run_of(1, failover_kill=THIN), run_of(2, failover_kill=RIG))
    (rate,) = told.promises
    assert (rate.rate, rate.low, rate.high, rate.worst_word) == (None, 0.0, 1.0, RIG)
    assert "never judged, 1 inconclusive, 1 rig-error" in text_of(told)


@pytest.mark.parametrize(
    ("statuses", "worst", "code"),
    [
        ([PASS, PASS], PASS, 0),
        ([PASS, FAIL, PASS], FAIL, 1),
        ([PASS, THIN], THIN, 3),
        ([THIN, RIG, PASS], RIG, 4),
        ([RIG, FAIL], FAIL, 1),
        ([PASS, None], RIG, 4),
        ([FAIL, None], FAIL, 1),
    ],
)
def test_the_worst_run_decides(statuses: list[str | None], worst: str, code: int) -> None:
    """One bad run of many is not outvoted, and a run without a verdict is none that passed."""
    runs = [None if status is None else run_of(number, failover_kill=status) for number, status in enumerate(statuses)]
    told = tried(*runs)
    assert (told.status, told.exit_code) == (worst, code)
    assert json.loads(as_json(told))["exit_code"] == code


def test_the_command_repeats_the_first_of_the_worst() -> None:
    """Not a run that was merely thin, where one is broken."""
    told = tried(
        run_of(1, failover_kill=PASS),
        run_of(2, failover_kill=THIN),
        run_of(3, failover_kill=FAIL),
        run_of(4, failover_kill=FAIL),
    )
    assert told.repeat_command == "harness verify --only failover.kill --seed 3"
    assert text_of(told).splitlines()[-1].strip() == told.repeat_command
    assert tried(run_of(1, failover_kill=PASS)).repeat_command is None


def test_a_waived_promise_is_no_failure_and_no_success() -> None:
    """It is counted beside the rate."""
    waived = replace(run_of(1, failover_kill=FAIL, failover_stop=PASS), waived={"failover.kill": "why"})
    kill, stop = tried(waived, waived).promises
    assert (kill.judged, kill.words, kill.worst_word) == (0, {"waived": 2}, "waived")
    assert (stop.judged, stop.failed) == (2, 0)


def test_json_has_every_run_with_its_seed() -> None:
    """Keys are those that docs/results.md tells."""
    document = json.loads(as_json(tried(run_of(7, failover_kill=FAIL), None)))
    assert [(each["seed"], each["status"], each["trouble"]) for each in document["runs"]] == [
        (7, FAIL, ""),
        (None, RIG, "no room"),
    ]
    assert document["runs"][0]["folder"] == "reports/run-7"
    page = (Path(__file__).parents[1] / "docs/results.md").read_text(encoding="utf-8")
    section = page.partition("## Several runs")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", section))
    keys = {*document, *document["runs"][0], *document["promises"][0]}
    assert keys <= told


# -- how it is run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs that need no server: each has the seed it was given, or one of its own."""
    words: list[list[str]] = []

    def verify(given: list[str], *, reports: Path) -> Trial:
        words.append(given)
        seed = int(given[given.index("--seed") + 1]) if "--seed" in given else 100 + len(words)
        return Trial(result=run_of(seed, failover_kill=FAIL if seed == 102 else PASS), code=0)

    monkeypatch.setattr(repetition, "verify", verify)
    return words


def repeated(wishes: Wishes, *, times: int = 3, **more: Any) -> tuple[int, str]:
    stream = io.StringIO()
    given = {"quiet": False, "json_only": False, "color": None, **more}
    return run_repeated(wishes, times=times, stream=stream, **given), stream.getvalue()


def test_with_a_seed_all_runs_have_it(asked: list[list[str]]) -> None:
    """One schedule, so many times; every other wish goes to each run as it is."""
    code, said = repeated(Wishes(only=("failover.kill",), seed=7, instances=4, overrides=("balancer.max_fails=3",)))
    assert code == 0
    assert (
        asked == [["--instances", "4", "--set", "balancer.max_fails=3", "--only", "failover.kill", "--seed", "7"]] * 3
    )
    assert "3 runs: 3 pass (one schedule, seed 7)" in said


def test_without_a_seed_each_draws_its_own(asked: list[list[str]]) -> None:
    """And each is told."""
    code, said = repeated(Wishes(only=("failover.kill",)))
    assert code == 1
    assert asked == [["--only", "failover.kill"]] * 3
    assert "3 runs: 2 pass, 1 fail (3 schedules, seeds 101, 102, 103)" in said
    assert [line.split("seed ")[1].split(",")[0] for line in said.splitlines()[:3]] == ["101", "102", "103"]


def test_quiet_and_json(asked: list[list[str]]) -> None:
    """The end only; or the document only."""
    _, quiet = repeated(Wishes(), quiet=True)
    assert "run 1 of 3" not in quiet
    assert "failed in 0 of 3 runs" not in quiet
    assert "failed in 1 of 3 runs" in quiet
    _, document = repeated(Wishes(), json_only=True)
    assert json.loads(document)["format"] == "harness-repetition"


@pytest.mark.parametrize(
    ("wishes", "times"), [({}, 0), ({}, -1), ({"only": ("failover.kil",)}, 2), ({"instances": 1}, 2)]
)
def test_what_cannot_be_repeated_is_refused_before_the_first_run(
    wishes: dict[str, Any], times: int, asked: list[list[str]]
) -> None:
    """Once, not as often as was asked for."""
    with pytest.raises(BadInput):
        repeated(Wishes(**wishes), times=times)
    assert asked == []


def test_what_a_run_finds_missing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one would find the same."""
    done = []

    def verify(words: list[str], *, reports: Path) -> Trial:
        done.append(words)
        return Trial(result=None, code=2, trouble="nginx is missing")

    monkeypatch.setattr(repetition, "verify", verify)
    with pytest.raises(BadInput, match="nginx is missing"):
        repeated(Wishes())
    assert len(done) == 1


def test_the_command_line_repeats(asked: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """`--repeat` goes by the same door as everything else."""
    assert main(["verify", "--repeat", "2", "--only", "failover.kill", "--json"]) == 1
    assert [each["seed"] for each in json.loads(capsys.readouterr().out)["runs"]] == [101, 102]


# -- a verification in a process of its own ---------------------------------------------------------------------------


def scripted(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """What runs in place of the harness."""

    def start(argv: list[str], **more: Any) -> Any:
        assert argv[1:4] == ["-m", "harness.cli", "verify"]
        return subprocess.Popen([argv[0], "-c", program, *argv[4:]], **more)

    monkeypatch.setattr(trials, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))


def test_a_verification_gives_its_result_and_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it was printed, with its exit code, in the folder of its name."""
    stored = tmp_path / "stored.json"
    stored.write_text(to_json(run_of(7, failover_kill=FAIL)))
    scripted(monkeypatch, f"print(open({str(stored)!r}).read()); raise SystemExit(1)")
    done = trials.verify(["--seed", "7"], reports=tmp_path)
    assert done.result is not None
    assert (done.code, done.result.seed, done.result.results) == (1, 7, tmp_path / "run-7")


def test_a_verification_without_a_verdict_gives_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Or that it said nothing."""
    scripted(monkeypatch, "import sys; print('harness: nginx is missing', file=sys.stderr); sys.exit(2)")
    assert trials.verify([], reports=tmp_path) == Trial(result=None, code=2, trouble="nginx is missing")
    scripted(monkeypatch, "raise SystemExit(4)")
    assert trials.verify([], reports=tmp_path).trouble == "no verdicts (exit code 4)"


def test_verifications_are_ended_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In whichever thread they were begun: none goes on after who wanted it."""
    begun = tmp_path / "begun"
    scripted(monkeypatch, f"import pathlib, signal; pathlib.Path({str(begun)!r}).touch(); signal.pause()")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(trials.verify, [], reports=tmp_path)
        wait_until(begun.exists, within_seconds=30, because="it should have begun")
        trials.end_trials()
        assert done.result() == Trial(result=None, code=-15, trouble="no verdicts (exit code -15)")


# -- one seed, one schedule -------------------------------------------------------------------------------------------


def sent(folder: Path, *, seed: int) -> list[tuple[Any, ...]]:
    """What a stream of this seed asked for: when, who, what, and on which connections."""
    folder.mkdir()
    journeys = GET | {"other": {"steps": [{"get": "/x?other"}]}}
    with serving() as server, Rig(folder, server, journeys, seed=seed) as rig:
        visitors = rig.traffic.new_visitors(5)
        rig.traffic.start_stream(Stream("browse", 400, visitors, {"get": 0.7, "other": 0.3}))
        server.wait_for(40, "/x")
        rig.traffic.stop_stream("browse")
        history = read_history(rig.path, SCENARIO)
    begin = history.paces[0].begin
    return [(round(op.due - begin, 4), op.visitor, op.kind, op.path) for op in history.operations][:40]


def test_one_seed_gives_one_schedule(tmp_path: Path) -> None:
    """The same moments, people and mix in two processes of traffic; another seed gives another mix at the same moments."""
    one, again, other = (sent(tmp_path / name, seed=seed) for name, seed in (("1", 7), ("2", 7), ("3", 8)))
    assert one == again
    assert [each[0] for each in one] == [each[0] for each in other]
    assert [each[1:] for each in one] != [each[1:] for each in other]


def victims(folder: Path, *, seed: int) -> list[str]:
    """Whom each scenario of a run with this seed would lose."""
    folder.mkdir()
    verification = Verification(
        setup=load_setup(REFERENCE),
        environment=Environment(),
        seed=seed,
        reports=folder,
        view=QuietView(),
        command="",
        planned={},
        choice=Choice("native"),
        left_out={},
    )
    names = ("app-1", "app-2", "app-3")
    cluster: Any = SimpleNamespace(return_to_known_good=lambda: None, names=names, pooled=lambda: names)
    verification.cluster = cluster
    verification.traffic = SimpleNamespace(begin_scenario=lambda name: None)  # type: ignore[assignment]
    with Journal(folder / "history.jsonl", run="r") as journal:
        verification.journal = journal
        return [str(verification.scene(f"loss-{number}").any_instance()) for number in range(30)]


def test_one_seed_gives_the_same_victims(tmp_path: Path) -> None:
    """Scenario by scenario, whatever ran before; not the same one for all, and not the same for another seed."""
    one, again, other = (victims(tmp_path / name, seed=seed) for name, seed in (("1", 7), ("2", 7), ("3", 8)))
    assert one == again != other
    assert set(one) == {"app-1", "app-2", "app-3"}
