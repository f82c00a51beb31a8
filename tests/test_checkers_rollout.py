"""Does a rollout cost anybody a request or a session, and does an instance finish what it has begun?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import InFlightFinishes, RolloutCostsNothing
from harness.model import Answer, Connection, History, Look, Operation, Outcome, RolloutStep
from tests.checker_histories import (
    APPS,
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    fault,
    history,
    login,
    look,
    op,
    pace,
    status_of,
    step,
    traffic,
    whoami,
    without,
)

BEGIN = 2.0


def steps(*, drained: bool = True, version: str = "2") -> list[RolloutStep]:
    """One instance a second, drained first."""
    made = [step("begin", "", BEGIN)]
    for i, app in enumerate(APPS):
        at = BEGIN + i
        made += [step("drain", app, at)] if drained else []
        made += [step("stop", app, at + 0.3), step("stopped", app, at + 0.4), step("start", app, at + 0.4)]
        made += [step("ready", app, at + 0.8, version=version)]
        made += [step("enable", app, at + 0.8), step("enabled", app, at + 0.9)] if drained else []
    return [*made, step("end", "", BEGIN + 3)]


def out_of_use(app: str, at: float) -> bool:
    begins = BEGIN + APPS.index(app)
    return begins <= at < begins + 0.9


def version_of(app: str, at: float) -> str:
    return "2" if at >= BEGIN + APPS.index(app) + 0.8 else "1"


def looks(before: str = "1", after: str = "2") -> list[Look]:
    return [look("version", app, at, value={"version": v}) for app in APPS for at, v in ((0.0, before), (8.0, after))]


def rolled(**changes: Any) -> History:
    """Twenty people log in and browse while every instance is drained, replaced and enabled, slow requests running."""
    made = [login(f"v{i}", i / 100, instance=APPS[i % 3]) for i in range(20)]
    for o in traffic(0.5, 7.0):
        app = next(a for a in (o.instance, *APPS) if a is not None and not out_of_use(a, o.due))
        made.append(replace(o, instance=app, attempts=(app,), version=version_of(app, o.due)))
    for i, o in enumerate(traffic(0.5, 6.0, rate=8)):
        app = next(a for a in (APPS[i % 3], *APPS) if not out_of_use(a, o.due))
        made.append(
            replace(o, stream="slow", kind="slow", method="GET", instance=app, attempts=(app,), answered=o.due + 1.0)
        )
    made += [whoami(f"v{i}", 8 + i / 100, stream="after", instance=APPS[i % 3]) for i in range(20)]
    paces = [
        pace("browse", rate=100, begin=0.5, end=7, planned=650),
        pace("slow", rate=8, begin=0.5, end=6, planned=44),
    ]
    return replace(history(made, rollout=steps(), looks=looks(), paces=paces), **changes)


ROLLED = rolled()


def plus(record: History, *operations: Operation) -> History:
    return replace(record, operations=tuple(sorted([*record.operations, *operations], key=lambda o: o.due)))


def at_once() -> History:
    """Everything is stopped, then everything is started."""
    made = [step("begin", "", BEGIN)]
    for app in APPS:
        made += [step("stop", app, 2.0), step("stopped", app, 2.2), step("start", app, 2.2)]
        made += [step("ready", app, 3.0, version="2")]
    down = [failed(2.0 + i / 100, attempts=APPS) for i in range(100)]
    up = without(ROLLED, lambda o: 2.0 <= o.due < 3.0 or (o.stream == "slow" and 1.0 <= o.due < 3.0))
    return plus(replace(up, rollout=(*made, step("end", "", 3.0))), *down)


def late(o: Operation) -> Operation:
    if round(o.due * 100) % 20 == 0:
        return replace(o, sent=o.due + 0.5, answered=o.due + 0.51)
    return o


def slow_one(app: str) -> Callable[[Operation], bool]:
    """Slow requests under way on this instance when its replacement begins."""
    begins = BEGIN + APPS.index(app)
    return lambda o: o.stream == "slow" and o.instance == app and o.due <= begins < o.due + 1.0


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (ROLLED, PASS, "3 of 3 replaced"),
        (ROLLED, PASS, "0 failed"),
        (rolled(rollout=tuple(steps(drained=False))), PASS, "slow ones finished"),
        # One failed request is one too many, before, during or after a step, and on whichever connection.
        (plus(ROLLED, failed(2.35)), FAIL, "1 of"),
        (plus(ROLLED, failed(3.5, connection=Connection.REUSED, error="reset")), FAIL, "reset 1"),
        (plus(ROLLED, failed(6.5)), FAIL, "http-502 1"),
        (plus(ROLLED, failed(1.99, error="truncated")), FAIL, "truncated 1"),
        (
            doctored(ROLLED, lambda o: failed(o.due, stream="slow", error="closed") if slow_one("app-2")(o) else o),
            FAIL,
            "cut in flight",
        ),
        (at_once(), FAIL, "http-502 100"),
        # A request that failed before anything was done is not the rollout's.
        (plus(ROLLED, failed(0.6)), PASS, "0 failed"),
        (
            doctored(ROLLED, lambda o: replace(o, answered=4.5) if 3.0 <= o.due < 4.5 and o.stream == "browse" else o),
            FAIL,
            "nobody was answered for 1.5 s",
        ),
        # Sessions.
        (
            doctored(
                ROLLED,
                lambda o: (
                    replace(o, answer=Answer.LOGGED_OUT, outcome=Outcome.FAILED, error="logged-out")
                    if o.kind == "whoami" and o.due > 4 and o.visitor == "v3"
                    else o
                ),
            ),
            FAIL,
            "1 of 20 people logged out during the rollout",
        ),
        # Versions.
        (rolled(looks=tuple(looks()[:-1])), PASS, "3 of 3 replaced"),  # the answers of app-3 tell its version
        (
            rolled(looks=(*looks()[:-1], look("version", "app-3", 8.0, value={"version": "1"}))),
            FAIL,
            "app-3 still runs the old version",
        ),
        (
            rolled(looks=(*looks()[:-1], look("version", "app-3", 8.0, value={"version": "3"}))),
            FAIL,
            "there are 2 versions: 2 and 3",
        ),
        (
            doctored(ROLLED, lambda o: replace(o, version="1") if o.due > 6.9 and o.stream == "browse" else o),
            FAIL,
            "still came from the old version",
        ),
        (
            doctored(rolled(looks=tuple(looks(after="1"))), lambda o: replace(o, version=None)),
            INCONCLUSIVE,
            "same version as before",
        ),
        (
            doctored(rolled(looks=()), lambda o: replace(o, version=None)),
            INCONCLUSIVE,
            "did not tell its version after",
        ),
        (
            doctored(rolled(looks=tuple(looks()[1::2])), lambda o: replace(o, version=None)),
            INCONCLUSIVE,
            "had not told its version before",
        ),
        # Nothing was put to the test.
        (replace(ROLLED, rollout=()), INCONCLUSIVE, "no rollout"),
        (replace(ROLLED, rollout=ROLLED.rollout[:-1]), INCONCLUSIVE, "did not come to its end"),
        (
            replace(ROLLED, rollout=tuple(s for s in ROLLED.rollout if s.node != "app-2")),
            INCONCLUSIVE,
            "app-2 was not replaced",
        ),
        (without(ROLLED, slow_one("app-2")), INCONCLUSIVE, "no slow request was in flight on app-2"),
        (without(ROLLED, lambda o: o.stream == "slow"), INCONCLUSIVE, "no slow request was in flight on app-1"),
        (
            without(ROLLED, lambda o: o.connection is Connection.REUSED),
            INCONCLUSIVE,
            "only 0 requests on reused connections while app-1",
        ),
        (without(ROLLED, lambda o: o.due > 5), INCONCLUSIVE, "after the rollout (20 are needed)"),
        (doctored(ROLLED, late), INCONCLUSIVE, "too busy"),
        (plus(doctored(ROLLED, late), failed(3.0, error="timeout")), INCONCLUSIVE, "too busy"),
        (plus(doctored(ROLLED, late), failed(3.0)), FAIL, "http-502 1"),
    ],
)
def test_a_rollout_costs_nothing(record: History, expected: str, said: str) -> None:
    """No request, no session, the new version everywhere; or it is said what was not put to the test."""
    verdict = RolloutCostsNothing().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


def test_the_evidence_of_a_rollout() -> None:
    """Which step a failure belongs to, how many were left in use, what each instance told."""
    record = plus(ROLLED, failed(2.1), failed(2.35), failed(2.6), failed(2.85), failed(2.95), failed(6.0))
    evidence = RolloutCostsNothing().check(record).evidence
    assert evidence["failed_by_step"] == {
        "app-1 draining": 1,
        "app-1 stopping": 1,
        "app-1 down": 1,
        "app-1 returning": 1,
        "between": 1,
        "after": 1,
    }
    assert evidence["broken"] == ["failed-requests"]
    assert evidence["min_available"] == 2
    assert evidence["seconds"] == 3.0
    assert evidence["sessions_status"] == PASS
    replaced = evidence["replaced"]["app-2"]
    assert (replaced["version_before"], replaced["version_after"], replaced["promised_version"]) == ("1", "2", "2")
    assert replaced["down_seconds"] == pytest.approx(0.4)
    assert replaced["slow_in_flight"] >= 1
    assert replaced["fresh"] > 10


def test_all_at_once_leaves_nobody_in_use() -> None:
    """The steps alone say that at the worst moment none was up."""
    evidence = RolloutCostsNothing().check(at_once()).evidence
    assert evidence["min_available"] == 0
    assert set(evidence["failed_by_step"]) == {"app-1 stopping", "app-1 down"}


# -- in flight at a stop ----------------------------------------------------------------------------------------

STOP = fault("stop", "app-2", injected=1.0, effective=2.2, healing=2.2, healed=2.8)


def waiting(count: int = 8, *, sent: float = 0.5, **changes: Any) -> History:
    """Slow requests of one and a half seconds on app-2, which is told to stop half a second after they were sent."""
    given = {"stream": "slow", "kind": "slow", "via": "app-2", "latency": 1.5, "answer": Answer.DONE} | changes
    return history([op(sent + i / 1000, visitor=f"v{i}", **given) for i in range(count)], faults=[STOP])


WAITING = waiting()


def cut(error: str) -> Callable[[Operation], Operation]:
    return lambda o: failed(o.due, error=error, via=o.via, stream=o.stream) if o.visitor == "v3" else o


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (WAITING, PASS, "8 of 8 requests in flight finished, the last 1.0 s after app-2 was told to stop"),
        (doctored(WAITING, cut("reset")), FAIL, "1 of 8 requests in flight were cut when app-2 was stopped (reset 1)"),
        (doctored(WAITING, cut("truncated")), FAIL, "truncated 1"),
        (doctored(WAITING, cut("timeout")), FAIL, "timeout 1"),
        (
            doctored(WAITING, lambda o: failed(o.due, error="http-500", via=o.via, stream="slow", latency=1.0)),
            FAIL,
            "8 of 8",
        ),
        (waiting(2), INCONCLUSIVE, "only 2 requests in flight on app-2"),
        # Answered before the order to stop, or sent after it: not in flight.
        (waiting(latency=0.3), INCONCLUSIVE, "only 0 requests"),
        (waiting(sent=1.1), INCONCLUSIVE, "only 0 requests"),
        # Sent in the last moment: nobody knows whether it had been accepted.
        (waiting(sent=0.97), INCONCLUSIVE, "only 0 requests"),
        # Through the balancer, or on another instance.
        (waiting(via="balancer", instance="app-2"), INCONCLUSIVE, "only 0 requests"),
        (waiting(via="app-1"), INCONCLUSIVE, "only 0 requests"),
        (waiting(stream="browse"), INCONCLUSIVE, "only 0 requests"),
        (replace(WAITING, faults=()), INCONCLUSIVE, "no instance was told to stop"),
        (replace(WAITING, faults=(replace(STOP, fault="kill"),)), INCONCLUSIVE, "no instance was told to stop"),
        (replace(WAITING, faults=(replace(STOP, effective=None),)), INCONCLUSIVE, "was not seen to end"),
    ],
)
def test_what_is_in_flight_is_finished(record: History, expected: str, said: str) -> None:
    """Everything an instance had accepted before it was told to stop is answered completely."""
    verdict = InFlightFinishes().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


def test_the_evidence_of_a_stop() -> None:
    """How long the instance took, and how long people waited."""
    evidence = InFlightFinishes().check(doctored(WAITING, cut("reset"))).evidence
    assert (evidence["in_flight"], evidence["finished"], evidence["cut"]) == (8, 7, 1)
    assert evidence["stop_seconds"] == pytest.approx(1.2)
    assert evidence["longest_wait_seconds"] == pytest.approx(1.0, abs=0.02)
    assert evidence["errors"] == {"reset": 1}
