"""What the loss of an instance costs, by hand and over simulated runs of nginx, healthy and broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from harness.checkers import NobodyElseAnswers, RequestsSurviveLoss, VictimRejoins
from harness.model import UNNAMED, Answer, FaultWindow, History, Operation, Outcome, Status, Verdict
from tests.checker_histories import (
    APPS,
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    fault,
    history,
    pace,
    status_of,
    traffic,
    without,
)
from tests.checker_simulations import Nginx, loss

WINDOW = fault()  # app-1, broken at 1.0, proven at 1.02, healing from 5.0, ready at 5.5


def carried(window: FaultWindow = WINDOW, *, end: float = 9.0, rate: float = 100.0) -> History:
    """Requests at a rate; while app-1 is lost the others answer, and a probe each second and a half is tried twice."""
    made = []
    for o in traffic(0, end, rate=rate):
        lost = window.injected <= o.due < (window.healed if window.healed is not None else end)
        if lost and o.instance == "app-1":
            o = replace(o, instance="app-2", attempts=("app-2",))
        made.append(o)
    probes = [1.03, 2.6, 4.2]
    for i, o in enumerate(made):
        if probes and o.due >= probes[0] and o.method == "GET" and o.instance == "app-2":
            made[i] = replace(o, attempts=("app-1", "app-2"))
            probes.pop(0)
    return history(
        made,
        faults=[window],
        paces=[pace("browse", rate=rate, begin=0, end=end, planned=len(made))],
        setup={"balancer_workers": 2, "timeout_seconds": 5.0},
    )


KILLED = carried()
HUNG = carried(fault("hang"))
SILENT = carried(fault("cut-off-silence"))
REFUSING = carried(fault("cut-off-refusal"))
STARVED = carried(fault("out-of-memory"))
# Told to end at 1.0, started anew at 1.3, and ready there at 2.0: while it lasts nothing else is done.
MOVED = carried(fault("new-address", effective=1.3, healing=1.3, healed=2.0))


def plus(record: History, *operations: Operation) -> History:
    """The record with further operations."""
    return replace(record, operations=tuple(sorted([*record.operations, *operations], key=lambda o: o.due)))


def writes(*dues: float, **changes: Any) -> list[Operation]:
    """Failed writes."""
    return [failed(due, method="POST", kind="write", **changes) for due in dues]


def tried_always(o: Operation) -> Operation:
    """A balancer that never learns: each third request is tried at the victim first."""
    if 1.02 <= o.due < 5.0 and round(o.due * 100) % 3 == 0:
        return replace(o, attempts=("app-1", "app-2"), instance="app-2")
    return o


def tried_somewhere(o: Operation) -> Operation:
    """The same, told by a balancer that counts attempts and names the last one."""
    tried = tried_always(o)
    return tried if tried is o else replace(tried, attempts=(UNNAMED, "app-2"))


def slow(o: Operation, seconds: float, due: float = 2.0) -> Operation:
    """One request is answered late."""
    return replace(o, answered=o.due + seconds) if o.due == due else o


def late(o: Operation) -> Operation:
    """Each twentieth request is sent half a second late."""
    if round(o.due * 100) % 20 == 0:
        return replace(o, sent=o.due + 0.5, answered=o.due + 0.51)
    return o


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (KILLED, PASS, "450 requests when app-1 was killed: 0 failed, longest gap"),
        (carried(fault("stop")), PASS, "when app-1 was stopped"),
        (carried(fault("kill-sigkill")), PASS, "when app-1 was killed"),
        (HUNG, PASS, "when app-1 was frozen"),
        # A GET may never fail, whenever, and on whichever connection.
        (plus(KILLED, failed(1.5)), FAIL, "1 of 451 requests failed when app-1 was killed (http-502 1)"),
        (plus(KILLED, failed(5.2)), FAIL, "1 of 451"),
        (plus(KILLED, failed(0.99, error="reset")), FAIL, "reset 1"),
        (plus(KILLED, failed(2.0, method="DELETE")), FAIL, "failed when"),
        # Writes that were inside the victim may, a few, at once.
        (plus(KILLED, *writes(1.0, 1.01, 1.02)), PASS, "3 failed (in flight, 3 allowed)"),
        (plus(KILLED, *writes(1.0, 1.01, 1.02, 1.03)), FAIL, "4 requests in flight failed"),
        (plus(KILLED, *writes(2.5)), FAIL, "1 of them later than 1.0 s"),
        (plus(HUNG, *writes(1.1, 1.5, 2.5, 3.5, error="http-504", latency=2.0)), PASS, "4 failed (in flight"),
        (plus(HUNG, *writes(4.3, error="http-504")), FAIL, "1 of them later than 3.0 s"),
        # An answer that had begun cannot be tried elsewhere: it counts with the writes, unless the loss was announced.
        (plus(HUNG, failed(0.99, error="truncated")), PASS, "1 failed (in flight"),
        (plus(KILLED, *(failed(0.98 + i / 100, error="truncated") for i in range(4))), FAIL, "4 requests in flight"),
        (plus(carried(fault("stop")), failed(0.99, error="truncated")), FAIL, "truncated 1"),
        (plus(HUNG, failed(1.5, error="truncated")), FAIL, "truncated 1"),
        (plus(HUNG, failed(0.99, error="truncated", attempts=("app-2",))), FAIL, "truncated 1"),
        # Want of memory is a kill like any other.
        (STARVED, PASS, "450 requests when app-1 ran out of memory: 0 failed"),
        (plus(STARVED, failed(1.5)), FAIL, "1 of 451 requests failed when app-1 ran out of memory"),
        (plus(STARVED, *writes(1.0, 1.01, 1.02, 1.03)), FAIL, "4 requests in flight failed"),
        # Cut off in silence: as in a hang, whoever has written into it may have lost that.
        (SILENT, PASS, "450 requests when app-1 was cut off in silence: 0 failed"),
        (plus(SILENT, *writes(1.1, 1.5, 2.5, 3.5, error="http-504", latency=2.0)), PASS, "4 failed (in flight"),
        (plus(SILENT, *writes(4.3, error="http-504")), FAIL, "1 of them later than 3.0 s"),
        (plus(SILENT, failed(2.0, error="timeout")), FAIL, "timeout 1"),
        (plus(SILENT, failed(0.99, error="truncated")), PASS, "1 failed (in flight"),
        (doctored(SILENT, lambda o: o if o.due > 3 else tried_always(o)), PASS, "left alone after 1.7 s"),
        (doctored(SILENT, tried_always), FAIL, "still tried"),
        (doctored(SILENT, lambda o: slow(o, 2.5)), PASS, "slowest 2.5 s"),
        (doctored(SILENT, lambda o: slow(o, 3.5)), FAIL, "slowest answer took 3.5 s"),
        # Refused: known at once, but what was in flight hears nothing and waits.
        (REFUSING, PASS, "when app-1 was cut off and refused"),
        (plus(REFUSING, failed(1.5, error="refused")), FAIL, "refused 1"),
        (plus(REFUSING, *writes(2.5)), FAIL, "1 of them later than 1.0 s"),
        (doctored(REFUSING, lambda o: slow(o, 2.5)), PASS, "slowest 2.5 s"),
        (doctored(REFUSING, lambda o: o if o.due > 3 else tried_always(o)), FAIL, "allowed 1.0 s"),
        # Moved: how often it is tried says nothing, for that may be at the new address; all else holds.
        (MOVED, PASS, "100 requests when app-1 came back under a new address: 0 failed"),
        (doctored(MOVED, tried_always), PASS, "0 failed"),
        (plus(MOVED, failed(1.5)), FAIL, "1 of 101 requests failed when app-1 came back under a new address"),
        (plus(MOVED, failed(1.5, error="http-503", instance="app-1")), PASS, "0 failed"),
        (plus(MOVED, *writes(1.1, 1.2, 1.3, 1.4)), FAIL, "4 requests in flight failed"),
        (doctored(MOVED, lambda o: slow(o, 2.5, due=1.5)), FAIL, "slowest answer took 2.5 s"),
        # A balancer that never learns, though nothing fails.
        (doctored(KILLED, tried_always), FAIL, "app-1 was still tried 4.0 s after app-1 was killed"),
        # With one instance lost, an attempt that is not named was there.
        (doctored(KILLED, tried_somewhere), FAIL, "app-1 was still tried 4.0 s after app-1 was killed"),
        (doctored(HUNG, tried_always), FAIL, "still tried"),
        (doctored(KILLED, lambda o: o if o.due > 3 else tried_always(o)), FAIL, "allowed 1.0 s"),
        (doctored(HUNG, lambda o: o if o.due > 3 else tried_always(o)), PASS, "left alone after 1.7 s"),
        # Nobody was answered for longer than a second.
        (
            doctored(KILLED, lambda o: replace(o, answered=3.3) if 2.0 <= o.due < 3.3 else o),
            FAIL,
            "nobody was answered for 1.3 s",
        ),
        # One person waited too long.
        (
            doctored(KILLED, lambda o: replace(o, answered=o.due + 2.5) if o.due == 2.0 else o),
            FAIL,
            "slowest answer took 2.5 s",
        ),
        (doctored(HUNG, lambda o: replace(o, answered=o.due + 2.5) if o.due == 2.0 else o), PASS, "slowest 2.5 s"),
        (
            doctored(HUNG, lambda o: replace(o, answered=o.due + 3.5) if o.due == 1.5 else o),
            FAIL,
            "slowest answer took 3.5 s",
        ),
        # What takes long by its nature is not the balancer's doing.
        (
            doctored(KILLED, lambda o: replace(o, stream="slow", answered=o.due + 2.5) if o.due == 2.0 else o),
            PASS,
            "0 failed",
        ),
        # Being logged out is an answer; sessions are judged elsewhere.
        (
            doctored(
                KILLED,
                lambda o: replace(o, outcome=Outcome.FAILED, answer=Answer.LOGGED_OUT, error="logged-out"),
            ),
            PASS,
            "0 failed",
        ),
        # Answered badly by the victim itself on its return: it was used too early, which is another promise.
        (plus(KILLED, failed(5.3, error="http-503", instance="app-1")), PASS, "0 failed"),
        # Nothing was tested.
        (replace(KILLED, faults=()), INCONCLUSIVE, "no fault"),
        (carried(fault(effective=None)), INCONCLUSIVE, "kill on app-1 had no effect"),
        (plus(carried(fault(effective=None)), failed(1.5)), INCONCLUSIVE, "had no effect"),
        (carried(fault(healed=None)), INCONCLUSIVE, "only 0 requests after it was back"),
        (carried(fault("flood")), INCONCLUSIVE, "not the loss of an instance"),
        (without(KILLED, lambda o: o.due < 0.85), INCONCLUSIVE, "only 15 requests before"),
        (without(KILLED, lambda o: 1.1 < o.due < 5.2), INCONCLUSIVE, "while it was lost"),
        (without(KILLED, lambda o: o.due > 5.6), INCONCLUSIVE, "after it was back"),
        (
            doctored(KILLED, lambda o: replace(o, instance="app-2", attempts=("app-2",)) if o.due < 1 else o),
            INCONCLUSIVE,
            "had answered nothing before",
        ),
        (
            doctored(HUNG, lambda o: replace(o, attempts=o.attempts[-1:])),
            INCONCLUSIVE,
            "nothing that could be saved was at app-1",
        ),
        (carried(fault(healing=2.0, healed=2.5)), INCONCLUSIVE, "lost for 1.0 s only (1.5 s are needed)"),
        (carried(fault("hang", healing=4.0, healed=4.1)), INCONCLUSIVE, "3.5 s are needed"),
        (carried(fault("cut-off-silence", healing=4.0, healed=4.1)), INCONCLUSIVE, "3.5 s are needed"),
        (carried(fault("cut-off-refusal", healing=4.0, healed=4.1)), INCONCLUSIVE, "3.5 s are needed"),
        (carried(fault("out-of-memory", healing=2.0, healed=2.1)), INCONCLUSIVE, "1.5 s are needed"),
        (doctored(SILENT, lambda o: replace(o, attempts=o.attempts[-1:])), INCONCLUSIVE, "nothing that could be saved"),
        (
            doctored(STARVED, lambda o: replace(o, attempts=o.attempts[-1:])),
            INCONCLUSIVE,
            "nothing that could be saved",
        ),
        # A move is announced: a balancer that knows in time has nothing to save.
        (doctored(MOVED, lambda o: replace(o, attempts=o.attempts[-1:])), PASS, "0 failed"),
        (carried(fault("new-address", healing=1.02, healed=1.15)), INCONCLUSIVE, "only 15 requests while it was lost"),
        (carried(fault("new-address", effective=None)), INCONCLUSIVE, "new-address on app-1 had no effect"),
        (carried(fault("new-address", healing=1.3, healed=None)), INCONCLUSIVE, "only 0 requests after it was back"),
        (doctored(KILLED, late), INCONCLUSIVE, "too busy"),
        (plus(KILLED, *(failed(2 + i / 100, error="unsent", sent=None) for i in range(30))), INCONCLUSIVE, "too busy"),
        # A late rig can make time-outs and gaps, but no 502.
        (plus(doctored(KILLED, late), failed(2.0, error="timeout")), INCONCLUSIVE, "too busy"),
        (plus(doctored(KILLED, late), failed(2.0)), FAIL, "http-502 1"),
        # What failed as often before is not the fault's.
        (plus(KILLED, *(failed(i / 10) for i in range(60))), INCONCLUSIVE, "had failed before"),
        (plus(KILLED, failed(0.1)), INCONCLUSIVE, "1 request had failed before"),
        (plus(KILLED, failed(0.1), *(failed(1 + i / 50) for i in range(60))), FAIL, "60 of 510"),
    ],
)
def test_requests_survive_loss(record: History, expected: str, said: str) -> None:
    """Bound by bound: seen broken, kept, or not put to the test."""
    verdict = RequestsSurviveLoss().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


@pytest.mark.parametrize(
    ("checker", "record", "expected"),
    [
        (RequestsSurviveLoss.by_kill(), KILLED, PASS),
        (RequestsSurviveLoss.by_hang(), HUNG, PASS),
        (RequestsSurviveLoss.by_stop(), carried(fault("stop")), PASS),
        (RequestsSurviveLoss.by_stop(), KILLED, INCONCLUSIVE),
        (RequestsSurviveLoss.by_kill(), plus(HUNG, failed(2.0)), INCONCLUSIVE),
        (RequestsSurviveLoss.by_kill(), STARVED, PASS),
        (RequestsSurviveLoss.by_partition(), SILENT, PASS),
        (RequestsSurviveLoss.by_partition(), REFUSING, PASS),
        (RequestsSurviveLoss.by_partition(), HUNG, INCONCLUSIVE),
        (RequestsSurviveLoss.by_hang(), SILENT, INCONCLUSIVE),
        (RequestsSurviveLoss.by_new_address(), MOVED, PASS),
        (RequestsSurviveLoss.by_new_address(), KILLED, INCONCLUSIVE),
    ],
)
def test_the_fault_must_be_the_one_that_is_judged(checker: RequestsSurviveLoss, record: History, expected: str) -> None:
    """A hang says nothing of a kill."""
    assert status_of(checker.check(record)) == expected


def test_the_evidence_of_a_loss() -> None:
    """Everything a diagnosis reads, with times since the effect."""
    record = plus(
        doctored(KILLED, tried_always), failed(1.52), failed(4.02, error="timeout", attempts=()), *writes(1.03)
    )
    evidence = RequestsSurviveLoss().check(record).evidence
    assert evidence["broken"] == ["failed-requests", "detection"]
    assert evidence["errors"] == {"http-502": 2, "timeout": 1}
    assert evidence["failed_by_method"] == {"idempotent": 2, "write": 1}
    assert evidence["failed_by_phase"] == {"breaking": 0, "lost": 3, "healing": 0}
    assert evidence["failed_attempts"] == {"app-1": 2, "(unknown)": 1}
    assert (evidence["first_failure_seconds"], evidence["last_failure_seconds"]) == (0.01, 3.0)
    assert evidence["detect_seconds"] is None
    assert evidence["tried_share"] == pytest.approx(1 / 3, abs=0.02)
    assert evidence["tried_late"] > 90
    assert evidence["window_seconds"] == pytest.approx(3.98)
    assert evidence["recover_seconds"] == pytest.approx(3.02, abs=0.02)
    assert evidence["failed_by_connection"] == {"fresh": 3, "reused": 0}
    assert sum(evidence["requests_by_connection"].values()) == evidence["requests"] == 453
    assert [shown["due_seconds"] for shown in evidence["examples"]] == [0.01, 0.5, 3.0]


def test_zero_failures_are_said_to_prove_little() -> None:
    """The rule of three stands beside a clean result, and only there."""
    clean = RequestsSurviveLoss().check(KILLED).evidence
    assert clean["proves"].startswith("zero failures in 450 requests proves only that fewer than 0.67%")
    assert RequestsSurviveLoss().check(plus(KILLED, failed(2.0))).evidence["proves"] == ""


def test_probes_at_a_low_rate_are_knowledge() -> None:
    """At 10 requests/s one probe per second is 10 %, and yet the balancer knows; a third of all is not knowing."""
    quiet = carried(rate=10, end=14)
    assert status_of(RequestsSurviveLoss(each_phase=5).check(quiet)) == PASS
    assert RequestsSurviveLoss(each_phase=5).check(doctored(quiet, tried_always)).status is Status.FAIL


# -- simulated --------------------------------------------------------------------------------------------------


def busy(random: Random) -> float:
    """Answers on a machine whose cores are taken: mostly slow, sometimes very."""
    return 0.02 + random.expovariate(1 / 0.06) + (0.25 if random.random() < 0.01 else 0.0)


def runs(kind: str, nginx: Nginx, *, seeds: int = 15, **given: Any) -> list[Verdict]:
    """How the checker judges so many simulated runs."""
    return [RequestsSurviveLoss().check(loss(kind, nginx, seed=seed, slow=8.0, **given)) for seed in range(seeds)]


def statuses(verdicts: list[Verdict]) -> dict[str, int]:
    return dict(Counter(verdict.status.value for verdict in verdicts))


@pytest.mark.parametrize("kind", ["kill", "stop", "hang", "cut-off-silence", "cut-off-refusal"])
@pytest.mark.parametrize(
    ("nginx", "given"),
    [
        (Nginx("least_conn"), {}),
        (Nginx("round_robin"), {}),
        (Nginx("least_conn", workers=2), {"latency": busy, "sent_late": lambda random: random.expovariate(50)}),
        (Nginx("round_robin", workers=2), {"latency": busy, "sent_late": lambda random: random.expovariate(50)}),
        (Nginx("round_robin", workers=4), {}),
    ],
    ids=["least_conn", "round_robin", "least_conn, busy machine", "round_robin, busy machine", "four workers"],
)
def test_a_healthy_balancer_always_passes(kind: str, nginx: Nginx, given: dict[str, Any]) -> None:
    """max_fails=1 fail_timeout=1s and a read timeout of 2 s at 100 requests/s, also where each worker learns alone."""
    verdicts = runs(kind, nginx, **given)
    assert statuses(verdicts) == {PASS: 15}, [v.measured for v in verdicts if v.status is not Status.PASS]


@pytest.mark.parametrize("gone_after", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["kill", "stop", "out-of-memory"])
@pytest.mark.parametrize("algorithm", ["least_conn", "round_robin"])
def test_a_container_that_takes_its_address_along_costs_a_connect_timeout(
    kind: str, algorithm: str, gone_after: float
) -> None:
    """A second of it is allowed, since another instance answers then; the guide's 60 s are not."""
    verdicts = runs(kind, Nginx(algorithm, connect_timeout=1.0), seeds=8, gone_after=gone_after)
    assert statuses(verdicts) == {PASS: 8}, [v.measured for v in verdicts if v.status is not Status.PASS]
    guide = runs(kind, Nginx(algorithm, connect_timeout=60.0), seeds=8, gone_after=gone_after)
    # Now and then the only request that is tried there is one that takes long by its nature.
    assert sum("slowest-answer" in verdict.evidence["broken"] for verdict in guide) >= 5


@pytest.mark.parametrize("kind", ["kill", "stop", "hang", "cut-off-silence", "cut-off-refusal"])
@pytest.mark.parametrize("algorithm", ["least_conn", "round_robin"])
def test_a_balancer_that_tries_nobody_else_is_caught(kind: str, algorithm: str) -> None:
    """Mutant no-retry: GETs fail, tried at the victim and nowhere else."""
    verdicts = runs(kind, Nginx(algorithm, retries=False))
    assert statuses(verdicts) == {FAIL: 15}
    for verdict in verdicts:
        assert verdict.evidence["broken"][0] == "failed-requests"
        assert set(verdict.evidence["failed_attempts"]) == {"app-1"}


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("kill", "least_conn"),
        ("kill", "round_robin"),
        ("stop", "round_robin"),
        ("hang", "round_robin"),
        ("cut-off-silence", "round_robin"),
        ("cut-off-refusal", "least_conn"),
        ("cut-off-refusal", "round_robin"),
    ],
)
def test_a_balancer_that_never_learns_is_caught(kind: str, algorithm: str) -> None:
    """Mutant no-health-check: nothing fails, and every third request is tried at the victim for as long as it is lost."""
    verdicts = runs(kind, Nginx(algorithm, max_fails=0))
    assert statuses(verdicts) == {FAIL: 15}
    for verdict in verdicts:
        assert verdict.evidence["broken"] == ["detection"]
        assert verdict.evidence["tried_share"] > 0.2


def test_a_long_read_timeout_is_caught_when_an_instance_hangs() -> None:
    """The guide's 60 s: whoever is stuck waits until the instance goes on."""
    for verdict in runs("hang", Nginx("least_conn", max_fails=3, fail_timeout=30, read_timeout=60.0), seeds=10):
        assert verdict.status is Status.FAIL
        assert "slowest-answer" in verdict.evidence["broken"]


def test_without_a_request_to_save_nothing_was_tested() -> None:
    """least_conn keeps away from who does not answer: a few writes may be all that meets a hang. Never a pass then."""
    for seed in range(20):
        record = loss("hang", Nginx("least_conn", retries=False), seed=seed)
        assert RequestsSurviveLoss().check(record).status in (Status.FAIL, Status.INCONCLUSIVE)


# -- rejoin -----------------------------------------------------------------------------------------------------


def gone_after(moment: float, record: History = KILLED) -> History:
    """The victim gets nothing from this moment on; the others answer in its place."""
    return doctored(
        record,
        lambda o: replace(o, instance="app-2", attempts=("app-2",)) if o.due >= moment and o.instance == "app-1" else o,
    )


LONG = carried(end=20)


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (KILLED, PASS, "app-1 answered again after"),
        (HUNG, PASS, "0 of 350 requests failed"),
        (
            plus(KILLED, failed(6.0, error="http-503", instance="app-1")),
            FAIL,
            "1 of 351 requests failed after app-1 had returned",
        ),
        (plus(KILLED, *writes(6.0)), FAIL, "failed after app-1 had returned"),
        # As often as before it was lost: these are nobody's return. What is much more often now is.
        (
            plus(KILLED, *(failed(t, error="http-403", instance="app-1") for t in (0.5, 0.9, 5.5, 5.9))),
            INCONCLUSIVE,
            "2 requests had failed before app-1 was killed",
        ),
        (
            plus(KILLED, failed(0.5), *(failed(5.2 + i / 20, error="http-503", instance="app-1") for i in range(60))),
            FAIL,
            "failed after app-1 had returned",
        ),
        # Used while it was not yet ready, and it answered badly itself.
        (plus(KILLED, failed(5.2, error="http-503", instance="app-1")), FAIL, "1 of 351"),
        # The balancer's own failures before it was ready belong to the loss.
        (plus(KILLED, failed(5.2)), PASS, "0 of 350"),
        (gone_after(5.5, LONG), FAIL, "app-1 answered 0 of 1,450 requests"),
        # Under its old address somebody else answers by now: the application's own word outranks the balancer's.
        (
            doctored(LONG, lambda o: replace(o, named="app-2") if o.due >= 5.5 and o.instance == "app-1" else o),
            FAIL,
            "app-1 answered 0 of 1,450 requests",
        ),
        (doctored(KILLED, lambda o: replace(o, named=o.instance)), PASS, "app-1 answered again after"),
        # A name that is no instance's says nothing of instances.
        (doctored(KILLED, lambda o: replace(o, named="web")), PASS, "app-1 answered again after"),
        (MOVED, PASS, "app-1 answered again after"),
        (SILENT, PASS, "app-1 answered again after"),
        (
            doctored(
                LONG, lambda o: replace(o, instance="app-2") if 5.5 <= o.due < 16 and o.instance == "app-1" else o
            ),
            FAIL,
            "used again 10.5 s after it was ready (allowed 10 s)",
        ),
        (gone_after(5.5), INCONCLUSIVE, "before the traffic stopped"),
        (gone_after(5.6), INCONCLUSIVE, "answered 3 times before the traffic stopped"),
        (without(KILLED, lambda o: o.due > 5.65), INCONCLUSIVE, "requests after app-1 was ready (20 are needed)"),
        (gone_after(0.0, LONG), INCONCLUSIVE, "had answered nothing before"),
        (carried(fault(healed=None)), INCONCLUSIVE, "never came back"),
        (carried(fault(effective=None)), INCONCLUSIVE, "had no effect"),
        (replace(KILLED, faults=()), INCONCLUSIVE, "no fault"),
    ],
)
def test_the_victim_rejoins(record: History, expected: str, said: str) -> None:
    """Used again in time, and only when it can answer."""
    verdict = VictimRejoins().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


def test_the_evidence_of_a_return() -> None:
    """Who answered, when it was first used again, and what it answered badly."""
    bad = [failed(5.6 + i / 10, error="http-503", instance="app-1") for i in range(4)]
    evidence = VictimRejoins().check(plus(KILLED, *bad)).evidence
    assert evidence["failed"] == 4
    assert evidence["failed_attempts"] == {"app-1": 4}
    assert evidence["last_failure_seconds"] == pytest.approx(0.4)
    assert evidence["rejoin_seconds"] < 0.05
    assert set(evidence["by_instance"]) == set(APPS)


@pytest.mark.parametrize("kind", ["kill", "stop", "hang"])
def test_a_healthy_balancer_takes_the_victim_back(kind: str) -> None:
    """fail_timeout 1 s: back in about two, every time; with the guide's 30 s it is not back in ten."""
    for seed in range(5):
        assert VictimRejoins().check(loss(kind, Nginx(), seed=seed)).status is Status.PASS
    if kind != "hang":
        guide = Nginx(max_fails=3, fail_timeout=30)
        for seed in range(3):
            assert VictimRejoins().check(loss(kind, guide, seed=seed, after=11.0)).status is Status.FAIL


# -- strangers --------------------------------------------------------------------------------------------------


def named(record: History, after: float = 0.0, name: str | None = None) -> History:
    """Every answer names its sender; from a moment on those of app-1 name somebody else."""
    return doctored(
        record,
        lambda o: replace(
            o, named=name if name is not None and o.due >= after and o.instance == "app-1" else o.instance
        ),
    )


def at_address(record: History, after: float, address: str) -> History:
    """From a moment on the balancer has what app-1 answered from an address that nobody named."""
    return doctored(
        record,
        lambda o: replace(o, instance=address, attempts=(address,)) if o.due >= after and o.instance == "app-1" else o,
    )


NAMED = named(MOVED)
REFUSED = failed(2.5, error="http-404", instance="10.0.0.9:80", attempts=("10.0.0.9:80",))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (NAMED, PASS, "all 800 answers by instances of the setup, by the application's own word"),
        (MOVED, PASS, "by the addresses the balancer tells"),
        # The old address is somebody else's now, and that answers as well as anybody.
        (named(MOVED, 2.0, "shop-3"), FAIL, "233 answers by shop-3 when app-1 came back under a new address"),
        (named(MOVED, 2.0, ""), FAIL, "233 answers by (unnamed)"),
        (plus(NAMED, replace(REFUSED, named="")), FAIL, "1 answer by 10.0.0.9:80"),
        (at_address(MOVED, 2.0, "10.0.0.9:80"), FAIL, "233 answers by 10.0.0.9:80"),
        # Another instance of the setup took it over: as good as the one that had it.
        (named(MOVED, 2.0, "app-3"), PASS, "all 800 answers"),
        # Not every answer had a name before either; nor has the balancer's own.
        (doctored(named(MOVED, 2.0, ""), lambda o: replace(o, named="") if o.due < 0.5 else o), PASS, "all 800"),
        (plus(NAMED, failed(1.5, named="")), PASS, "all 800"),
        # Nothing can be told.
        (replace(NAMED, faults=()), INCONCLUSIVE, "no fault"),
        (named(carried(fault("new-address", effective=None)), 2.0, "shop-3"), INCONCLUSIVE, "had no effect"),
        (
            doctored(NAMED, lambda o: replace(o, named="web")),
            INCONCLUSIVE,
            "already answers named web, no instance: app.instance_header (or app.identity) must hold {instance}",
        ),
        (without(NAMED, lambda o: o.due < 0.85), INCONCLUSIVE, "only 15 answers before"),
        (without(NAMED, lambda o: o.due > 1.1), INCONCLUSIVE, "answers since app-1 came back under a new address"),
        # Seen is seen, however few there were.
        (without(named(MOVED, 2.0, "shop-3"), lambda o: 1 <= o.due < 2 or o.due > 2.1), FAIL, "4 answers by shop-3"),
    ],
)
def test_nobody_else_answers(record: History, expected: str, said: str) -> None:
    """By the application's own word where the setup names a header for it, else by address."""
    verdict = NobodyElseAnswers().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured
    assert verdict.evidence.get("witness") in (None, "application", "balancer")
