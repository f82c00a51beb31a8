"""What is left in use while a new version comes, and what a switch from one set to another costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import CapacityIsKept, SwitchCostsNothing
from harness.model import Answer, Checker, History, Operation, RolloutStep
from tests.checker_histories import (
    APPS,
    doctored,
    failed,
    history,
    login,
    op,
    pace,
    status_of,
    step,
    traffic,
    whoami,
    without,
)
from tests.test_checkers_rollout import ROLLED, at_once, plus

CAPACITY, SWITCH = CapacityIsKept(), SwitchCostsNothing()
BEGIN, TO_GREEN, ON_GREEN, BACK, TO_BLUE, ON_BLUE = 2.0, 3.0, 4.0, 5.5, 5.5, 6.5
GREEN = tuple(f"{app}-green" for app in APPS)


# -- what is left --------------------------------------------------------------------------------------------------


def two_at_a_time(*, at_least: int | None = None, ends: bool = True, **changes: Any) -> History:
    """Four instances, of which two are replaced in one second, and the others in the next one."""
    names = tuple(f"app-{i}" for i in range(1, 5))
    made = [step("begin", "", 2.0)]
    for i, app in enumerate(names):
        at = 2.0 + i // 2 + 0.01 * (i % 2)
        made += [step("drain", app, at), step("stop", app, at + 0.3), step("stopped", app, at + 0.4)]
        made += [step("start", app, at + 0.4), step("ready", app, at + 0.8), step("enabled", app, at + 0.9)]
    made += [step("end", "", 4.0)] if ends else []
    setup = {"at_least": at_least, "rollout": "rolling", "batch": 2}
    return replace(history(traffic(1.0, 5.0), rollout=made, instances=names, setup=setup), **changes)


def overlapping() -> History:
    """The new one is ready before the old one is touched: nobody is ever away."""
    made = [step("begin", "", 2.0)]
    for i, app in enumerate(APPS):
        at = 2.0 + i
        made += [step("start", app, at), step("ready", app, at + 0.5), step("stop", app, at + 0.6)]
        made += [step("stopped", app, at + 0.7)]
    return history(traffic(1.0, 6.0), rollout=[*made, step("end", "", 5.0)])


def without_steps_of(record: History, app: str) -> History:
    return replace(record, rollout=tuple(each for each in record.rollout if each.node != app))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (ROLLED, "pass", "2 of 3 instances or more were in use at any moment (2 are needed)"),
        (overlapping(), "pass", "3 of 3 instances or more"),
        (two_at_a_time(at_least=2), "pass", "2 of 4 instances or more"),
        (
            two_at_a_time(),
            "fail",
            "2 of 4 instances were in use for 1.8 s, while app-1 and app-2 were replaced (3 are needed)",
        ),
        (at_once(), "fail", "0 of 3 instances were in use for 1.0 s"),
        (replace(ROLLED, setup={**ROLLED.setup, "at_least": 3}), "fail", "2 of 3 instances were in use"),
        # What was seen stays seen, whether or not it came to its end.
        (two_at_a_time(ends=False), "fail", "2 of 4"),
        (two_at_a_time(ends=False, setup={"at_least": 2}), "inconclusive", "did not come to its end"),
        (without_steps_of(ROLLED, "app-3"), "inconclusive", "app-3 was not replaced"),
        (replace(ROLLED, rollout=()), "inconclusive", "no rollout was carried out"),
    ],
)
def test_what_is_left_in_use(record: History, expected: str, said: str) -> None:
    """Counted by the steps, at the worst moment."""
    verdict = CAPACITY.check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


# -- the switch ----------------------------------------------------------------------------------------------------


def switching(*, gated: bool = True, removed: bool = False) -> list[RolloutStep]:
    """There within a second, and back."""
    ready = [step("ready", app, BEGIN + 0.9) for app in GREEN]
    made = [step("begin", "", BEGIN), *(step("start", app, BEGIN) for app in GREEN)]
    made += ready if gated else []
    made += [step("switch", "", TO_GREEN, detail="green"), step("switched", "", ON_GREEN, detail="green")]
    made += [step("stop", app, ON_GREEN + 0.01) for app in APPS] if removed else []
    made += [] if gated else [step("ready", app, ON_GREEN + 0.5) for app in GREEN]
    made += [step("end", "", ON_GREEN + 0.5), step("begin", "", BACK)]
    made += [step("switch", "", TO_BLUE, detail="blue"), step("switched", "", ON_BLUE, detail="blue")]
    return [*made, *(step("stop", app, ON_BLUE + 0.3) for app in GREEN), step("end", "", ON_BLUE + 0.5)]


def by(app: str, due: float) -> tuple[str, str]:
    """Who answers what is due now, and in which version."""
    green = TO_GREEN + 0.02 <= due < TO_BLUE + 0.02
    return (f"{app}-green", "2") if green else (app, "1")


def switched(**changes: Any) -> History:
    """Twenty people browse while the balancer is switched to the new version and back, slow requests running."""
    made = [login(f"v{i}", i / 100, instance=APPS[i % 3]) for i in range(20)]
    for o in traffic(0.5, 8.0):
        who, version = by(o.instance or "", o.due)
        made.append(replace(o, instance=who, attempts=(who,), version=version))
    for i in range(75):
        due = 0.5 + i / 10
        who, version = by(APPS[i % 3], due)
        made.append(
            op(due, latency=1.0, stream="slow", kind="slow", instance=who, version=version, visitor=f"v{i % 20}")
        )
    made += [whoami(f"v{i}", 8.2 + i / 100, stream="after", instance=APPS[i % 3], version="1") for i in range(20)]
    paces = [
        pace("browse", rate=100, begin=0.5, end=8, planned=750),
        pace("slow", rate=10, begin=0.5, end=8, planned=75),
    ]
    setup = {"rollout": "blue-green", "drain": "balancer-first", "gate": "ready"}
    return replace(history(made, rollout=switching(), paces=paces, setup=setup), **changes)


SWITCHED = switched()


def cut_at_switch(o: Operation) -> Operation:
    if o.stream == "slow" and o.due <= TO_GREEN < o.due + 1.0:
        return failed(o.due, error="http-502", stream="slow", kind="slow", latency=TO_GREEN - o.due + 0.05)
    return o


CUT = replace(doctored(SWITCHED, cut_at_switch), rollout=tuple(switching(removed=True)))


def unanswered(begin: float, end: float) -> Callable[[Operation], Operation]:
    return lambda o: failed(o.due, attempts=()) if begin <= o.due < end and o.stream != "slow" else o


EARLY = replace(doctored(SWITCHED, unanswered(ON_GREEN, ON_GREEN + 0.5)), rollout=tuple(switching(gated=False)))


def answered_by_old(o: Operation) -> Operation:
    return replace(o, version="1") if ON_GREEN + 0.5 <= o.due < ON_GREEN + 0.6 else o


def overtaken(o: Operation) -> Operation:
    if o.stream == "browse" and BACK - 0.015 < o.due < BACK:
        return replace(o, version="1", answered=BACK + 0.001)
    return o


def of_one_version(o: Operation) -> Operation:
    return replace(o, version="1")


def of_no_version(o: Operation) -> Operation:
    return replace(o, version=None)


def late(o: Operation) -> Operation:
    return replace(o, sent=o.due + 0.5, answered=o.due + 0.51) if round(o.due * 100) % 20 == 0 else o


def lost(o: Operation) -> Operation:
    if o.kind != "whoami" or o.due < ON_GREEN or o.stream == "slow":
        return o
    return whoami(o.visitor, o.due, stream=o.stream, instance=o.instance, version=o.version, answer=Answer.LOGGED_OUT)


def fast(o: Operation) -> Operation:
    return replace(o, answered=o.due + 0.01) if o.stream == "slow" else o


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (SWITCHED, "pass", "switched to green in 1.0 s and to blue in 1.0 s"),
        (SWITCHED, "pass", "0 failed, 20 in flight at the switches finished"),
        (plus(SWITCHED, failed(4.505)), "fail", "1 of "),
        (plus(SWITCHED, failed(6.005, error="reset")), "fail", "reset 1"),
        (CUT, "fail", "10 of them in flight at a switch"),
        (EARLY, "fail", "http-502 50"),
        (doctored(SWITCHED, unanswered(4.0, 5.2)), "fail", "nobody was answered for 1.2 s"),
        (
            doctored(SWITCHED, answered_by_old),
            "fail",
            "the set that was left still answered: 10 after the switch to green",
        ),
        # Asked for just before the way back was ordered, and answered just after it.
        (doctored(SWITCHED, overtaken), "pass", "switched to green"),
        (doctored(SWITCHED, lost), "fail", "20 of 20 people logged out"),
        (doctored(SWITCHED, of_one_version), "inconclusive", "both sets tell the same version"),
        (doctored(SWITCHED, of_no_version), "inconclusive", "no answer tells its version"),
        (doctored(SWITCHED, fast), "inconclusive", "slow request"),
        (doctored(SWITCHED, late), "inconclusive", "this machine was too busy for the rate"),
        (
            replace(without(SWITCHED, lambda o: o.due >= BACK), rollout=tuple(switching()[:9])),
            "inconclusive",
            "it was not switched there and back",
        ),
        (
            replace(SWITCHED, rollout=tuple(s for s in switching() if s.step != "end")),
            "inconclusive",
            "come to its end",
        ),
        (without(SWITCHED, lambda o: ON_GREEN <= o.due < BACK), "inconclusive", "only 0 requests on green"),
        (without(SWITCHED, lambda o: o.connection.value == "reused"), "inconclusive", "on reused connections"),
        (replace(SWITCHED, rollout=()), "inconclusive", "nobody was switched"),
    ],
)
def test_what_a_switch_costs(record: History, expected: str, said: str) -> None:
    """Judged from the side of people, there and back."""
    verdict = SWITCH.check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


@pytest.mark.parametrize("checker", [CAPACITY, SWITCH], ids=lambda checker: type(checker).__name__)
def test_a_thing_that_was_seen_is_told(checker: Checker) -> None:
    """Evidence is what a cause is told by."""
    assert CAPACITY.check(two_at_a_time()).evidence["away"] == ["app-1", "app-2"]
    seen = SWITCH.check(CUT).evidence
    assert seen["removed_early"] == ["blue"]
    assert seen["cut"] == 10
    assert SWITCH.check(EARLY).evidence["ready_before_switch"] == {"green": False, "blue": True}
    assert SWITCH.check(EARLY).evidence["failed_by_phase"]["on green"] == 50
    assert checker.check(SWITCHED).evidence["guards"] is not None
