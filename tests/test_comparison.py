"""Runs held against each other: the method by simulation, the outcomes by tables, the command by stored runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from scipy import stats

from harness import cli
from harness.comparison import Figures, Outcome, as_lines, as_plain_data, baseline_text, compare, method, read_baseline
from harness.comparison import figures as figures_module
from harness.comparison.comparing import ALPHA
from harness.comparison.method import Grace, holm, predicted, quantile, quantile_pairs, share_pair, student_sf
from harness.errors import BadInput
from harness.model import Answer, Connection, FaultWindow, Operation, Pace
from harness.model import Outcome as Told
from harness.traffic import Journal

STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
NO_GRACE = Grace(share=0.0, plus=0.0)


@pytest.fixture
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation needs many comparisons, each of them less exact."""
    monkeypatch.setattr(method, "REPLICATES", 200)


def series(random: Random, *, blocks: int, each: int = 20, rho: float = 0.9, factor: float = 1.0) -> list[list[float]]:
    """Latencies in milliseconds that are alike when they follow each other: the logarithms are an AR(1) process."""
    state, made = random.gauss(0, 1), []
    for _ in range(blocks):
        block = []
        for _ in range(each):
            state = rho * state + math.sqrt(1 - rho * rho) * random.gauss(0, 1)
            block.append(factor * 20 * math.exp(0.5 * state))
        made.append(block)
    return made


def allowed(alpha: float, trials: int) -> float:
    """The share of alarms that a test of level alpha exceeds in one of a thousand simulations."""
    return float(stats.binom.ppf(0.999, trials, alpha)) / trials


# -- the method -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_replicates")
def test_identical_series_do_not_alarm_more_often_than_alpha() -> None:
    """Without any grace, on series that are alike for longer than a block; a test for independent samples would alarm."""
    random, trials = Random(41907), 60
    alarms = {0.5: 0, 0.95: 0}
    as_if_independent = 0
    for trial in range(trials):
        a, b = series(random, blocks=20, rho=0.95), series(random, blocks=20, rho=0.95)
        for q, pair in quantile_pairs(a, b, dict.fromkeys(alarms, NO_GRACE), random=random).items():
            alarms[q] += pair.p_worse <= ALPHA
        if trial < 15:
            # Shuffled, so that nobody can see that neighbours are alike.
            single_a, single_b = (
                random.sample([[value] for block in side[:8] for value in block], 160) for side in (a, b)
            )
            pair = quantile_pairs(single_a, single_b, {0.5: NO_GRACE}, random=random)[0.5]
            as_if_independent += min(pair.p_worse, pair.p_better) <= ALPHA
    assert max(alarms.values()) / trials <= allowed(ALPHA, trials), alarms
    assert as_if_independent / 15 > allowed(2 * ALPHA, 15), "a control: this simulation would show a wrong method"


@pytest.mark.usefixtures("few_replicates")
def test_a_real_shift_is_found() -> None:
    """A median twice as long is found in eight of ten, past a grace of a quarter, and never called no worse."""
    random, trials = Random(41907), 20
    found = called_no_worse = 0
    for _ in range(trials):
        a, b = series(random, blocks=40), series(random, blocks=40, factor=2.0)
        pair = quantile_pairs(a, b, {0.5: Grace(share=0.25, plus=1.0)}, random=random)[0.5]
        found += pair.p_worse <= ALPHA
        called_no_worse += pair.p_no_worse <= ALPHA
    assert found / trials >= 0.8
    assert called_no_worse == 0


@pytest.mark.usefixtures("few_replicates")
def test_what_is_alike_is_called_no_worse() -> None:
    """Equivalence is shown, not taken from a missing difference: at the very grace it is claimed no more than alpha."""
    random, trials = Random(41907), 30
    grace = {0.5: Grace(share=0.25, plus=2.0)}
    shown = sum(
        quantile_pairs(series(random, blocks=60, rho=0.5), series(random, blocks=60, rho=0.5), grace, random=random)[
            0.5
        ].p_no_worse
        <= ALPHA
        for _ in range(4)
    )
    assert shown == 4
    # The medians are 20 and 27 ms: 20 and a quarter, and 2 ms.
    claimed = sum(
        quantile_pairs(series(random, blocks=20), series(random, blocks=20, factor=1.35), grace, random=random)[
            0.5
        ].p_no_worse
        <= ALPHA
        for _ in range(trials)
    )
    assert claimed / trials <= allowed(ALPHA, trials)


@pytest.mark.usefixtures("few_replicates")
def test_failures_that_come_in_bursts() -> None:
    """One burst of many is one event: it is no difference. Many bursts are."""
    random, trials, alarms = Random(41907), 60, 0
    for _ in range(trials):
        a, b = ([(25 if random.random() < 0.2 else 0, 50) for _ in range(30)] for _ in range(2))
        alarms += share_pair(a, b, random=random).p_worse <= ALPHA
    assert alarms / trials <= allowed(ALPHA, trials)
    clean, one, many = [(0, 50)] * 30, [(25, 50)] + [(0, 50)] * 29, [(25, 50)] * 8 + [(0, 50)] * 22
    assert share_pair(clean, one, random=random).p_worse > ALPHA
    assert share_pair(clean, many, random=random).p_worse <= ALPHA
    assert share_pair(many, clean, random=random).p_better <= ALPHA
    assert share_pair(clean, clean, random=random).p_worse == 1.0


def test_a_further_run_is_like_the_ones_before() -> None:
    """Runs differ by a third: another such run is no alarm, one that takes three times as long is."""
    random, trials, alarms, found = Random(41907), 400, 0, 0
    for _ in range(trials):
        runs = [math.exp(random.gauss(0, 0.3)) for _ in range(6)]
        alarms += predicted(runs[:5], runs[5], NO_GRACE).p_worse <= ALPHA
        found += predicted(runs[:5], runs[5] * 3, Grace(share=0.25, plus=0.0)).p_worse <= ALPHA
    assert alarms / trials <= allowed(ALPHA, trials)
    assert found / trials >= 0.6
    with pytest.raises(ValueError, match="three or more"):
        predicted([1.0, 1.1], 2.0, NO_GRACE)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("t", [-3.0, 0.0, 0.7, 2.5, 12.0])
def test_student_s_tail(t: float, df: int) -> None:
    """As scipy has it."""
    assert student_sf(t, df) == pytest.approx(float(stats.t.sf(t, df)), abs=1e-12)


def test_holm_stops_at_the_first_that_is_not() -> None:
    """The least of three is held to a third of alpha, the next to a half."""
    assert holm([0.04, 0.01, 0.02], alpha=0.05) == [True, True, True]
    assert holm([0.04, 0.01, 0.03], alpha=0.05) == [False, True, False]
    assert holm([0.02, 0.02, 0.02], alpha=0.05) == [False, False, False]
    assert holm([], alpha=0.05) == []


def test_a_quantile_is_a_value_that_was_seen() -> None:
    """The smallest that so many do not exceed."""
    blocks = [[4.0, 1.0], [3.0], [2.0, 5.0]]
    assert [quantile(blocks, q) for q in (0.0, 0.2, 0.5, 0.95, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]


@pytest.mark.usefixtures("few_replicates")
def test_the_same_seed_gives_the_same_numbers() -> None:
    """Nothing else decides what is drawn."""
    random = Random(1)
    a, b = series(random, blocks=10), series(random, blocks=10)
    found = [quantile_pairs(a, b, {0.5: NO_GRACE}, random=Random(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


# -- what is said of it -----------------------------------------------------------------------------------------------


def figures(name: str = "a", *, factor: float = 1.0, delay: float = 1.0, seed: int = 0, **changes: object) -> Figures:
    """Figures of a made-up run: twenty seconds of browsing on kept connections."""
    random = Random(f"{name}/{seed}")
    blocks = tuple(map(tuple, series(random, blocks=20, each=50, rho=0.3, factor=factor)))
    made = Figures(
        run=name,
        started="2026-11-30T00:00:00+00:00",
        harness="1",
        seed=1,
        setup={"name": "s", "platform": "native", "balancer": "nginx", "instances": 3, "sessions": "redis"},
        facts={"max_fails": 1},
        verdicts={"failover.kill": "pass"},
        latencies={"browse, reused connection, steady": {"x": blocks}},
        failures={"browse, reused connection": {"x": ((0, 50),) * 20}},
        delays={"x": tuple(tuple(delay + random.random() / 10 for _ in range(50)) for _ in range(20))},
        singles={"boot": 1.0 * factor * (1 + random.random() / 10)},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def outcomes(before: Sequence[Figures], now: Figures, **options: object) -> dict[str, str]:
    made = compare(before, now, seed=1, **options)  # type: ignore[arg-type]
    return {each.name: each.outcome.value for each in made.differences}


P50 = "p50, browse, reused connection, steady"


@pytest.mark.usefixtures("few_replicates")
def test_two_runs_of_one_setup() -> None:
    """The same is no worse, twice as slow is worse and the other way round better; one value in a run is thin."""
    same, slow = compare([figures()], figures("b"), seed=1), compare([figures()], figures("b", factor=2), seed=1)
    assert (same.exit_code, slow.exit_code) == (0, 1)
    assert outcomes([figures()], figures("b"))[P50] == "no worse"
    assert outcomes([figures()], figures("b", factor=2))[P50] == "worse"
    assert outcomes([figures(factor=2)], figures("b"))[P50] == "better"
    assert outcomes([figures()], figures("b", factor=2))["boot"] == "thin"
    assert "got worse beyond noise" in slow.headline
    assert compare([figures()], figures("b"), seed=1) == same


@pytest.mark.usefixtures("few_replicates")
def test_a_busier_machine_is_not_a_slower_setup() -> None:
    """Where the harness itself was late as well, two runs say nothing of times; failures still count."""
    busy = figures("b", factor=2, delay=9.0, failures={"browse, reused connection": {"x": ((9, 50),) * 20}})
    told = outcomes([figures()], busy)
    assert told[P50] == "thin"
    assert told["browse, reused connection"] == "worse"
    alone = compare([figures()], figures("b", factor=2, delay=9.0), seed=1)
    assert alone.of(Outcome.WORSE) == ()
    assert "as free in both runs" in "\n".join(as_lines(alone))


@pytest.mark.usefixtures("few_replicates")
def test_several_runs_tell_how_runs_differ() -> None:
    """With three or more before, values of which a run has one are judged, and a busy day is what it is."""
    before = [figures(f"a{number}", factor=1 + number / 10) for number in range(4)]
    assert compare(before, figures("b", factor=1.2), seed=1).exit_code == 0
    told = outcomes(before, figures("b", factor=4))
    assert told["boot"] == told[P50] == "worse"
    assert outcomes(before, figures("b", factor=1.1))["boot"] == "no worse"
    # What differs a lot among runs before needs more than that to be worse.
    wild = [figures(f"a{number}", factor=factor) for number, factor in enumerate((0.3, 1, 3, 0.5))]
    assert outcomes(wild, figures("b", factor=3))["boot"] == "unclear"


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [
        (["pass"], "pass", Outcome.NO_WORSE),
        (["fail"], "fail", Outcome.NO_WORSE),
        (["pass"], "fail", Outcome.WORSE),
        (["fail"], "pass", Outcome.BETTER),
        (["pass"], "inconclusive", Outcome.THIN),
        (["pass"], "rig-error", Outcome.THIN),
        (["pass"], "not tried", Outcome.THIN),
        (["pass"], None, Outcome.THIN),
        (["inconclusive"], "pass", Outcome.UNCLEAR),
        (["inconclusive"], "fail", Outcome.UNCLEAR),
        ([None], "fail", Outcome.UNCLEAR),
        (["pass"], "waived", Outcome.UNCLEAR),
        (["waived"], "fail", Outcome.UNCLEAR),
        (["pass", "pass"], "fail", Outcome.WORSE),
        (["pass", "fail"], "fail", Outcome.UNCLEAR),
    ],
)
@pytest.mark.usefixtures("few_replicates")
def test_verdicts_that_changed(before: list[str | None], now: str | None, outcome: Outcome) -> None:
    """Only kept to broken is worse, only broken to kept is better; what nobody knows is never the same."""

    def with_word(name: str, word: str | None) -> Figures:
        verdicts = {"rollout.rolling": "pass"} | ({} if word is None else {"failover.kill": word})
        return figures(name, verdicts=verdicts)

    made = compare([with_word(f"a{n}", word) for n, word in enumerate(before)], with_word("b", now), seed=1)
    (found,) = [each for each in made.differences if each.name == "failover.kill"]
    assert found.outcome is outcome
    assert made.exit_code == {Outcome.WORSE: 1, Outcome.THIN: 3}.get(outcome, 0)


@pytest.mark.usefixtures("few_replicates")
def test_too_little_to_say() -> None:
    """No measure with enough in it on both sides: exit code 3, and each says what was missing."""
    thin = figures("b", latencies={"browse, reused connection, steady": {"x": ((1.0, 2.0),) * 3}}, failures={})
    made = compare([figures()], thin, seed=1)
    assert made.exit_code == 3
    assert "10 are needed" in "\n".join(as_lines(made, everything=True))
    assert compare([figures(latencies={}, failures={})], figures(latencies={}, failures={}), seed=1).exit_code == 3


@pytest.mark.usefixtures("few_replicates")
def test_only_scenarios_of_both_runs_are_compared() -> None:
    """A run of some promises is held against the same part of the other."""
    slow = series(Random(3), blocks=20, each=50, factor=50)
    name = "browse, reused connection, steady"
    more = figures("b")
    more = replace(more, latencies={name: {**more.latencies[name], "y": tuple(map(tuple, slow))}})
    assert outcomes([figures()], more) == outcomes([figures()], figures("b"))


@pytest.mark.usefixtures("few_replicates")
def test_setups_that_are_not_alike() -> None:
    """They are not compared, unless that is asked for; then it is said at the top. Other settings are told."""
    other = figures("b", setup={**figures().setup, "platform": "docker"}, facts={"max_fails": 3})
    with pytest.raises(BadInput, match=r"platform: native and docker.*--across"):
        compare([figures()], other, seed=1)
    made = compare([figures()], other, seed=1, across=True)
    shown = "\n".join(as_lines(made))
    assert "NOT ALIKE: platform: native and docker" in shown
    assert "changed: max_fails: 1 before, 3 now" in shown


@pytest.mark.usefixtures("few_replicates")
def test_a_comparison_is_ready_for_programs() -> None:
    """All of it, as JSON."""
    made = compare([figures()], figures("b"), seed=1)
    told = json.loads(json.dumps(as_plain_data(made)))
    assert (told["format"], told["exit_code"], told["before"], told["now"]) == ("harness-comparison", 0, ["a"], "b")
    assert {each["name"] for each in told["differences"]} == {each.name for each in made.differences}


# -- baselines --------------------------------------------------------------------------------------------------------


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    """What is compared with it is what was compared with the runs; a run more is a line more."""
    runs = [figures("a"), figures("b")]
    (tmp_path / "baseline.json").write_text(baseline_text(runs))
    assert list(read_baseline(tmp_path / "baseline.json")) == runs
    assert baseline_text(runs).startswith(baseline_text(runs[:1]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "is no baseline"),
        ("[]", "line 1 is no object"),
        ("{", "line 1 is no JSON"),
        ('{"format": "other"}', "format"),
        ('{"format": "harness-baseline", "version": 9}', "version 9"),
        ('{"format": "harness-baseline", "version": 1}', "holds no run"),
        ('{"format": "harness-baseline", "version": 1}\n{"run": "a"}', "line 2 must hold"),
    ],
)
def test_what_is_no_baseline(tmp_path: Path, text: str | None, words: str) -> None:
    """One message that says what to do."""
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=words):
        read_baseline(path)


# -- from a stored run ------------------------------------------------------------------------------------------------


def op(due: float, took: float | None, **changes: object) -> Operation:
    made = Operation(
        stream="browse",
        kind="whoami",
        step=0,
        final=True,
        visitor="v",
        method="GET",
        path="/",
        via="balancer",
        connection=Connection.REUSED,
        due=due,
        sent=due + 0.001,
        answered=None if took is None else due + took,
        instance="app-1",
        attempts=("app-1",),
        status=200 if took is not None else None,
        outcome=Told.OK if took is not None else Told.UNKNOWN,
        answer=Answer.DONE if took is not None else Answer.FAILED,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


Store = Callable[..., Path]


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    """Stores a run: 24 s of browsing at 50 a second, of which seconds 8 to 12 are under a fault."""

    def store(name: str, *, factor: float = 1.0, changes: Mapping[str, object] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        verdicts = json.loads(STORED.read_text()) | {"run": name} | dict(changes or {})
        (folder / "verdicts.json").write_text(json.dumps(verdicts))
        random = Random(name)
        with Journal(folder / "history.jsonl", run=name) as journal:
            journal.append({"t": "scenario", "scenario": "loss", "seed": 1, "instances": ["app-1"], "setup": {"k": 1}})
            for number in range(1200):
                due = 100 + number / 50
                took = None if number == 450 else factor * (0.01 + random.random() / 100)
                journal.append_fact("loss", op(due, took))
            journal.append_fact("loss", op(101.0, 9.0, stream="matrix"))  # of no open-loop stream
            journal.append_fact("loss", Pace(stream="browse", rate=50, begin=100, end=124, planned=1200, seed=1))
            fault = FaultWindow(fault="kill", node="app-1", injected=108, effective=108.1, healing=110, healed=112)
            journal.append_fact("loss", fault)
        return folder

    return store


def test_what_is_read_of_a_run(stored: Store) -> None:
    """Requests of open-loop streams, in seconds, steady and not; a request without a proper answer has no latency."""
    found = figures_module.figures_of(stored("a"))
    steady = found.latencies["browse, reused connection, steady"]["loss"]
    disturbed = found.latencies["browse, reused connection, disturbed"]["loss"]
    assert set(found.latencies) == {f"browse, reused connection, {phase}" for phase in ("steady", "disturbed")}
    assert (sum(map(len, steady)), sum(map(len, disturbed))) == (949, 250)
    assert found.failures["browse, reused connection"]["loss"][9] == (1, 50)
    assert sum(total for _, total in found.failures["browse, reused connection"]["loss"]) == 1200
    assert found.singles["until ready again, loss"] == 2.0
    assert found.singles["until used again, loss"] == pytest.approx(0.015, abs=0.02)
    assert found.singles["longest gap, browse, loss"] == pytest.approx(0.02, abs=0.02)
    assert found.delays["loss"][0][0] == pytest.approx(1.0)


@pytest.mark.usefixtures("few_replicates")
def test_the_command(stored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs, and a baseline in the place of the first; as text and as JSON."""
    a, b, slow = stored("a"), stored("b"), stored("c", factor=3)
    assert cli.main(["compare", str(a), str(b)]) == 0
    assert "nothing got worse beyond noise" in capsys.readouterr().out
    assert cli.main(["compare", str(a), str(slow), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert P50 in {each["name"] for each in told["differences"] if each["outcome"] == "worse"}
    assert cli.main(["baseline", str(a)]) == 0
    (tmp_path / "baseline.json").write_text(capsys.readouterr().out)
    assert cli.main(["compare", "--baseline", str(tmp_path / "baseline.json"), str(slow)]) == 1
    assert cli.main(["compare", str(b), str(slow), str(a), "--all"]) == 0


def test_bad_input_of_a_comparison(stored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One message, exit code 2."""
    a = stored("a")
    setup = json.loads(STORED.read_text())["setup"] | {"platform": "docker"}
    other = stored("b", changes={"setup": setup})
    for arguments, words in (
        ([str(a)], "--baseline FILE"),
        ([str(a), str(tmp_path / "nowhere")], "nowhere"),
        ([str(a), str(other)], "--across"),
        (["--baseline", str(tmp_path / "none.json"), str(a)], "harness baseline"),
    ):
        assert cli.main(["compare", *arguments]) == 2
        told = capsys.readouterr()
        assert words in told.err
        assert told.out == ""
