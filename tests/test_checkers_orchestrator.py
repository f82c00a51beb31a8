"""Is a dead replica replaced, does scaling cost anybody anything, and does a bad version go away by itself?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import BadVersionIsTakenBack, LostReplicaIsReplaced, RolloutCostsNothing, ScalingCostsNothing
from harness.model import Answer, Connection, History, Operation, Outcome, RolloutStep
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
    pace,
    status_of,
    step,
    traffic,
    whoami,
    without,
)

SIX = (*APPS, "app-4", "app-5", "app-6")


def plus(record: History, *operations: Operation) -> History:
    return replace(record, operations=tuple(sorted([*record.operations, *operations], key=lambda o: o.due)))


def late(o: Operation) -> Operation:
    if round(o.due * 100) % 20 == 0:
        return replace(o, sent=o.due + 0.5, answered=o.due + 0.51)
    return o


def logged_out(o: Operation) -> Operation:
    return replace(o, answer=Answer.LOGGED_OUT, outcome=Outcome.FAILED, error="logged-out")


def on(apps: Callable[[float], tuple[str, ...]], begin: float, end: float, **changes: Any) -> list[Operation]:
    """Traffic that only those who are there at the time answer."""
    made = []
    for i, o in enumerate(traffic(begin, end, **changes)):
        there = apps(o.due)
        made.append(replace(o, instance=there[i % len(there)], attempts=(there[i % len(there)],)))
    return made


# -- a replica dies -----------------------------------------------------------------------------------------------


def replicas(at: float, healthy: tuple[str, ...], wanted: int = 3) -> Any:
    return look("replicas", "", at, status=None, value={"wanted": wanted, "healthy": list(healthy)})


def healed(healed: float | None = 6.0, *, healing: float = 6.0, **changes: Any) -> History:
    """app-2 is killed at 2 and back at 6; traffic goes on until 20."""
    back = healed if healed is not None else float("inf")
    operations = on(lambda at: APPS if at < 2 or at >= back + 0.3 else ("app-1", "app-3"), 0.0, 20.0, rate=50)
    looks = [replicas(0.0, APPS), replicas(2.1, ("app-1", "app-3"))]
    looks += [replicas(healed, APPS)] if healed is not None else []
    window = fault("kill", "app-2", injected=2.0, effective=2.1, healing=healing, healed=healed)
    paces = [pace("browse", rate=50, begin=0, end=20, planned=1000)]
    return replace(history(operations, faults=[window], looks=looks, paces=paces), **changes)


HEALED = healed()


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (HEALED, PASS, "3 replicas again 3.9 s after app-2 was killed, used 328 ms later"),
        # Later than promised, or never.
        (healed(17.5, healing=17.5), FAIL, "replaced only after 15.4 s (allowed 15 s)"),
        (healed(None, healing=17.2), FAIL, "not replaced within 15 s"),
        # Healthy, and nobody sends to it.
        (doctored(HEALED, lambda o: replace(o, instance="app-1") if o.due > 6 else o), FAIL, "answered 0 requests"),
        (
            doctored(HEALED, lambda o: replace(o, instance="app-1") if 6 < o.due < 16.5 else o),
            FAIL,
            "5 within 10 s are promised",
        ),
        # Nobody answers meanwhile.
        (doctored(HEALED, lambda o: failed(o.due) if 3 <= o.due < 4.5 else o), FAIL, "nobody was answered for 1.5 s"),
        # Requests that fail one by one are for failover.kill.
        (plus(HEALED, failed(3.0)), PASS, "3 replicas again"),
        # Nothing was tested.
        (replace(HEALED, faults=()), INCONCLUSIVE, "no replica was killed"),
        (replace(HEALED, faults=(fault("hang", "app-2"),)), INCONCLUSIVE, "no replica was killed"),
        (healed(faults=(fault("kill", "app-2", effective=None),)), INCONCLUSIVE, "had no effect"),
        (healed(None, healing=8.0), INCONCLUSIVE, "was waited for 5.9 s only"),
        (without(HEALED, lambda o: o.instance == "app-2" and o.due < 2), INCONCLUSIVE, "had answered nothing before"),
        (replace(HEALED, looks=(replicas(0.0, APPS),)), INCONCLUSIVE, "nobody saw a replica less"),
        (without(HEALED, lambda o: 2 <= o.due < 6), INCONCLUSIVE, "only 0 requests while app-2 was lost"),
        (without(HEALED, lambda o: o.due > 6.4), INCONCLUSIVE, "before the traffic stopped"),
        (doctored(HEALED, late), INCONCLUSIVE, "sent late"),
    ],
)
def test_a_dead_replica_is_replaced(record: History, expected: str, said: str) -> None:
    """As many as are wanted are healthy again and used, without anybody's help but the orchestrator's."""
    verdict = LostReplicaIsReplaced().check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


def test_what_is_told_of_a_replacement() -> None:
    """How long it took, how few there were meanwhile, and how soon the new one was used."""
    seen = LostReplicaIsReplaced().check(HEALED).evidence
    assert (seen["victim"], seen["wanted"], seen["fewest"], seen["broken"]) == ("app-2", 3, 2, [])
    assert (seen["healed_seconds"], seen["used_seconds"]) == (3.9, 0.328)
    assert seen["answers"] > 100


# -- more and fewer -----------------------------------------------------------------------------------------------


def scale(before: int, wanted: int, at: float, *, seconds: float, reached: bool = True) -> Any:
    value = {"from": before, "to": wanted, "reached": reached}
    return look("scale", "", at, status=None, value=value, seconds=seconds)


def scaled(**changes: Any) -> History:
    """Three become six at 2 (ready at 5), and three again at 17 (told at 17, gone at 20); traffic until 24."""

    def there(at: float) -> tuple[str, ...]:
        return SIX if 5.2 <= at < 17.5 else APPS

    operations = [login(f"v{i}", i / 100, instance=APPS[i % 3]) for i in range(20)]
    operations += on(there, 0.5, 24.0, rate=50)
    slow = on(there, 0.5, 22.0, rate=8)
    operations += [replace(o, stream="slow", kind="slow", method="GET", answered=o.due + 1.0) for o in slow]
    operations += [whoami(f"v{i}", 25 + i / 100, stream="after", instance=APPS[i % 3]) for i in range(20)]
    steps = [step("begin", "", 2.0), *(step("start", app, 2.1) for app in SIX[3:])]
    steps += [*(step("ready", app, 5.0) for app in SIX[3:]), step("end", "", 5.0), step("begin", "", 17.0)]
    steps += [step(what, app, at) for app in SIX[3:] for what, at in (("stop", 17.1), ("stopped", 20.0))]
    steps += [step("end", "", 20.0)]
    looks = [scale(3, 6, 2.0, seconds=3.0), scale(6, 3, 17.0, seconds=3.0)]
    paces = [pace("browse", rate=50, begin=0.5, end=24, planned=1175)]
    return replace(history(operations, rollout=steps, looks=looks, paces=paces), **changes)


SCALED = scaled()


def replacing(*apps: str, who_was_there: Sequence[str] = APPS) -> History:
    """The same, and these are replaced by others of the same name while it grows, the new one first."""
    steps = [step(what, app, at) for app in apps for what, at in (("start", 3.0), ("ready", 5.0), ("stop", 5.1))]
    steps += [step("stopped", app, 7.0) for app in apps]
    there = look("replicas", "", 2.05, status=None, value={"wanted": 6, "healthy": list(who_was_there)})
    return scaled(rollout=(*SCALED.rollout, *steps), looks=(*SCALED.looks, there))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (SCALED, PASS, "3 to 6 in 3.0 s, 6 to 3 in 3.0 s"),
        (SCALED, PASS, "0 failed"),
        # One request is one too many, while it grows, while it shrinks, and after that.
        (plus(SCALED, failed(4.0)), FAIL, "1 of"),
        (plus(SCALED, failed(18.0, error="reset", connection=Connection.REUSED)), FAIL, "reset 1"),
        (plus(SCALED, failed(23.0)), FAIL, "http-502 1"),
        (plus(SCALED, failed(0.6)), PASS, "0 failed"),
        (
            doctored(SCALED, lambda o: failed(o.due, error="timeout") if 18 <= o.due < 19.5 else o),
            FAIL,
            "nobody was answered for",
        ),
        (doctored(SCALED, lambda o: logged_out(o) if o.due > 6 and o.visitor == "v3" else o), FAIL, "logged out"),
        # The number is not reached, or too late.
        (
            scaled(looks=(scale(3, 6, 2.0, seconds=31.0), scale(6, 3, 17.0, seconds=3.0))),
            FAIL,
            "3 to 6 after 31.0 s",
        ),
        (
            scaled(looks=(scale(3, 6, 2.0, seconds=3.0), scale(6, 3, 17.0, seconds=31, reached=False))),
            FAIL,
            "6 to 3 never",
        ),
        # A new one that is not used.
        (
            doctored(
                SCALED, lambda o: replace(o, instance="app-1", attempts=("app-1",)) if o.instance == "app-5" else o
            ),
            FAIL,
            "app-5 answered nothing",
        ),
        # One that is gone, and still asked: the visitor was served by another.
        (
            plus(SCALED, *(replace(o, attempts=("app-6", "app-1")) for o in traffic(21.5, 22.0, instances=["app-1"]))),
            FAIL,
            "app-6 50 requests",
        ),
        (
            plus(SCALED, *(replace(o, attempts=("app-6", "app-1")) for o in traffic(20.1, 20.9, instances=["app-1"]))),
            PASS,
            "0 failed",
        ),
        # Whoever took the place of another answers by its name, and is not gone.
        (replacing("app-1", "app-2", "app-3"), PASS, "app-1, app-2 and app-3 replaced meanwhile"),
        (replacing("app-4"), PASS, "0 failed"),
        (
            plus(
                replacing("app-1"),
                *(replace(o, attempts=("app-6", "app-1")) for o in traffic(21.5, 22.0, instances=["app-1"])),
            ),
            FAIL,
            "app-6 50 requests",
        ),
        # Nothing was tested.
        (scaled(looks=()), INCONCLUSIVE, "nothing was scaled"),
        (scaled(looks=(scale(6, 3, 17.0, seconds=3.0),)), INCONCLUSIVE, "no replica was added"),
        (scaled(looks=(scale(3, 6, 2.0, seconds=3.0),)), INCONCLUSIVE, "no replica was removed"),
        (
            scaled(looks=(scale(3, 6, 2.0, seconds=9.0, reached=False), scale(6, 3, 17.0, seconds=3.0))),
            INCONCLUSIVE,
            "3 to 6 was waited for 9.0 s only",
        ),
        (
            scaled(rollout=tuple(s for s in SCALED.rollout if s.step != "ready")),
            INCONCLUSIVE,
            "only 0 of 3 added replicas were seen to be ready",
        ),
        (
            scaled(rollout=tuple(s for s in SCALED.rollout if s.step != "stopped")),
            INCONCLUSIVE,
            "only 0 of 3 removed replicas were seen to end",
        ),
        (without(SCALED, lambda o: 2 <= o.due < 17), INCONCLUSIVE, "only 0 requests since 3 to 6"),
        (without(SCALED, lambda o: 5.3 <= o.due < 17.6), INCONCLUSIVE, "answered fewer than 5 requests"),
        (without(SCALED, lambda o: o.stream == "slow" and o.due > 3), INCONCLUSIVE, "no slow request was in flight"),
        (doctored(SCALED, late), INCONCLUSIVE, "late"),
    ],
)
def test_scaling_costs_nothing(record: History, expected: str, said: str) -> None:
    """Nobody loses a request or a session, whoever joins is used, and whoever left is left alone."""
    verdict = ScalingCostsNothing().check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


def test_what_is_told_of_scaling() -> None:
    """When each replica was there and used, and how each one left."""
    seen = ScalingCostsNothing().check(plus(SCALED, failed(18.0))).evidence
    assert seen["scalings"] == [{"from": 3, "to": 6, "seconds": 3.0}, {"from": 6, "to": 3, "seconds": 3.0}]
    assert seen["failed_by_phase"] == {"3 to 6": 0, "6 to 3": 1}
    assert set(seen["added"]) == set(seen["removed"]) == set(SIX[3:])
    assert seen["added"]["app-4"]["used_seconds"] < 0.5
    assert seen["removed"]["app-4"]["stop_seconds"] == 2.9
    assert seen["replaced"] == []
    seen = ScalingCostsNothing().check(replacing("app-1", "app-3")).evidence
    assert seen["replaced"] == ["app-1", "app-3"]
    assert set(seen["added"]) == set(seen["removed"]) == set(SIX[3:])


# -- a bad version ------------------------------------------------------------------------------------------------


def bad(outcome: str = "rolled back", *, end: float = 12.0, **changes: Any) -> History:
    """A version called bad is started as app-1 at 2.1 and never ready; traffic until `end` + 3."""
    operations = [login(f"v{i}", i / 100, instance=APPS[i % 3]) for i in range(20)]
    operations += [replace(o, version="1") for o in traffic(0.5, end + 3, rate=50)]
    operations += [whoami(f"v{i}", end + 4 + i / 100, stream="after", instance=APPS[i % 3]) for i in range(20)]
    steps = [step("begin", "", 2.0, version="bad"), step("start", "app-1", 2.1, version="bad"), step("end", "", end)]
    looks = [look("update", "", end, status=None, value={"outcome": outcome, "message": "task failed"})]
    paces = [pace("browse", rate=50, begin=0.5, end=end + 3, planned=round(50 * (end + 2.5)))]
    return replace(history(operations, rollout=steps, looks=looks, paces=paces), **changes)


BAD = bad()


def met(record: History) -> History:
    """Some of those who asked were answered by it."""
    return doctored(record, lambda o: replace(o, version="bad") if 5 <= o.due < 6 and o.instance == "app-1" else o)


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (BAD, PASS, "taken back after 10.0 s, tried on app-1"),
        (bad("paused"), FAIL, "was paused half-way"),
        (bad("completed"), FAIL, "was completed with it"),
        (bad("unfinished", end=63.0), FAIL, "was never finished"),
        (bad(end=63.0), FAIL, "taken back only after 61 s"),
        (met(BAD), FAIL, "17 answers came from the bad version"),
        (plus(BAD, failed(7.0)), FAIL, "1 of"),
        (
            doctored(BAD, lambda o: failed(o.due) if 6 <= o.due < 7.5 and o.stream == "browse" else o),
            FAIL,
            "nobody was answered",
        ),
        (doctored(BAD, lambda o: logged_out(o) if o.due > 6 and o.visitor == "v3" else o), FAIL, "logged out"),
        # Nothing was tested.
        (bad(looks=()), INCONCLUSIVE, "no version was rolled out"),
        (bad(rollout=()), INCONCLUSIVE, "no version was rolled out"),
        (bad("unfinished"), INCONCLUSIVE, "not watched to its end"),
        (bad(rollout=tuple(s for s in BAD.rollout if s.step != "start")), INCONCLUSIVE, "was never started"),
        (bad(rollout=tuple(replace(s, version="1") for s in BAD.rollout)), FAIL, "answers came from the bad version"),
        (doctored(BAD, lambda o: replace(o, version=None)), INCONCLUSIVE, "no answer told its version"),
        (
            without(BAD, lambda o: 0.12 < o.due < 1.95),
            INCONCLUSIVE,
            "requests before the update",
        ),
        (without(BAD, lambda o: 2 <= o.due < 12), INCONCLUSIVE, "during the update"),
        (without(BAD, lambda o: o.stream == "after"), PASS, "taken back"),
        (without(BAD, lambda o: o.kind == "login"), INCONCLUSIVE, "whether people stay logged in"),
        (doctored(BAD, late), INCONCLUSIVE, "late"),
    ],
)
def test_a_bad_version_is_taken_back(record: History, expected: str, said: str) -> None:
    """By itself, in time, and without anybody having met it or lost anything."""
    verdict = BadVersionIsTakenBack().check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


# -- a rollout that starts the new one first ----------------------------------------------------------------------


def overlapping(**changes: Any) -> History:
    """Each new replica is ready before the old one of the same name is told to go, and that finishes what it has."""
    steps: list[RolloutStep] = [step("begin", "", 2.0)]
    for i, app in enumerate(APPS):
        at = 2.0 + 2 * i
        steps += [step("start", app, at, version="2"), step("ready", app, at + 1, version="2")]
        steps += [step("stop", app, at + 1), step("stopped", app, at + 4)]
    steps.append(step("end", "", 11.0))

    def version(o: Operation) -> Operation:
        return replace(o, version="2" if o.due >= 3.2 + 2 * APPS.index(str(o.instance)) else "1")

    operations = [login(f"v{i}", i / 100, instance=APPS[i % 3]) for i in range(20)]
    operations += [version(o) for o in traffic(0.5, 14.0, rate=50)]
    slow = [version(o) for o in traffic(0.5, 12.0, rate=8)]
    operations += [replace(o, stream="slow", kind="slow", method="GET", answered=o.due + 1.0) for o in slow]
    operations += [whoami(f"v{i}", 15 + i / 100, stream="after", instance=APPS[i % 3]) for i in range(20)]
    paces = [pace("browse", rate=50, begin=0.5, end=14, planned=675)]
    return replace(history(operations, rollout=steps, paces=paces), **changes)


OVERLAPPING = overlapping()


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (OVERLAPPING, PASS, "3 of 3 replaced"),
        (plus(OVERLAPPING, failed(4.0)), FAIL, "1 of"),
        (
            doctored(OVERLAPPING, lambda o: replace(o, version="1") if o.instance == "app-3" else o),
            FAIL,
            "app-3 still runs the old version",
        ),
        (without(OVERLAPPING, lambda o: o.stream == "slow"), INCONCLUSIVE, "no slow request was in flight"),
        (
            without(OVERLAPPING, lambda o: o.connection is Connection.REUSED),
            INCONCLUSIVE,
            "on reused connections while app-1",
        ),
        (doctored(OVERLAPPING, lambda o: replace(o, version="1")), INCONCLUSIVE, "nothing was rolled out"),
    ],
)
def test_a_rollout_that_starts_the_new_one_first(record: History, expected: str, said: str) -> None:
    """Both have the same name for a while; the version tells them apart, and nobody looks at any instance directly."""
    verdict = RolloutCostsNothing().check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


def test_nobody_is_away_where_the_new_one_comes_first() -> None:
    """All of them are there at the worst moment, and a failure of the new one is told from one of the old."""
    bad_new = failed(3.5, instance="app-1", attempts=("app-1",), error="http-500", version="2")
    old = failed(3.6, instance="app-1", attempts=("app-1",), error="http-500", version="1")
    seen = RolloutCostsNothing().check(plus(OVERLAPPING, bad_new, old)).evidence
    assert seen["min_available"] == 3
    assert seen["failed_on_new"] == 1
    assert seen["replaced"]["app-1"]["down_seconds"] == 0.0
    assert seen["failed_by_step"] == {"app-1 stopping": 2}
