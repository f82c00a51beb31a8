"""Whether anything was tested: enough requests in each phase, sent on time, all of them in the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checkers import EnoughTraffic, OnTime, contradictions, weakened
from harness.model import History, Look, Verdict
from tests.checker_histories import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    RIG_ERROR,
    doctored,
    failed,
    fault,
    history,
    op,
    pace,
    status_of,
    step,
    traffic,
    without,
)

BROKEN = history(traffic(0, 9), faults=[fault()])
ROLLED = history(traffic(0, 9), rollout=[step("begin", "", 3.0), step("end", "", 6.0)])


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (BROKEN, PASS, "before"),
        (ROLLED, PASS, "during the rollout"),
        (history(traffic(0, 1)), PASS, "in all"),
        (history(traffic(0, 1, rate=10)), INCONCLUSIVE, "10 in all"),
        (without(BROKEN, lambda o: o.due < 0.85), INCONCLUSIVE, "15 before"),
        (without(BROKEN, lambda o: 1.1 < o.due < 5.2), INCONCLUSIVE, "while app-1 was lost"),
        (without(BROKEN, lambda o: o.due > 5.6), INCONCLUSIVE, "after"),
        (history(traffic(0, 9), faults=[fault(healed=None)]), INCONCLUSIVE, "0 after"),
        (without(ROLLED, lambda o: 3 <= o.due < 6), INCONCLUSIVE, "0 during the rollout"),
        # Answers count before a fault: who answers nobody has nothing to lose.
        (doctored(BROKEN, lambda o: failed(o.due) if o.due < 1 else o), INCONCLUSIVE, "0 before"),
        # Requests count during it: all of them may fail, and that is for others to judge.
        (doctored(BROKEN, lambda o: failed(o.due) if 1 < o.due < 5 else o), PASS, "while app-1 was lost"),
        (doctored(BROKEN, lambda o: failed(o.due, error="unsent", sent=None)), INCONCLUSIVE, "0 before"),
        (doctored(BROKEN, lambda o: replace(o, via="app-2")), INCONCLUSIVE, "0 before"),
        # A restart is healed at once: there is no time in between.
        (history(traffic(0, 9), faults=[fault("restart", effective=2.0, healing=2.0)]), PASS, "before"),
    ],
)
def test_enough_traffic(record: History, expected: str, said: str) -> None:
    """Each phase of what was done has its requests, or nothing is concluded."""
    verdict = EnoughTraffic(each_phase=20).check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


PACED = history(traffic(0, 3), paces=[pace("browse", rate=100, begin=0, end=3, planned=300)])


def late(share: float, by: float = 0.3) -> History:
    """The paced record, with this share of its requests sent late."""
    few = int(share * len(PACED.operations))
    made = [
        replace(o, sent=o.due + by, answered=o.due + by + 0.01) if i < few else o
        for i, o in enumerate(PACED.operations)
    ]
    return replace(PACED, operations=tuple(made))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (PACED, PASS, "300 requests sent on time"),
        (late(0.01), PASS, "slowest start 300 ms"),
        (late(0.02), INCONCLUSIVE, "too busy"),
        (late(1.0, by=0.2), PASS, "slowest start 200 ms"),
        (doctored(PACED, lambda o: failed(o.due, error="unsent", sent=None)), INCONCLUSIVE, "too busy"),
        # A closed loop sends less than was planned, all of it on time.
        (without(PACED, lambda o: o.due > 2.5), RIG_ERROR, "49 of 300 planned requests of browse"),
        (without(PACED, lambda o: True), RIG_ERROR, "300 of 300 planned requests of browse"),
        (history(), INCONCLUSIVE, "no request"),
        # A history written after the fact, or on a clock that was set.
        (doctored(PACED, lambda o: replace(o, sent=o.due - 1.0)), RIG_ERROR, "contradict"),
        (doctored(PACED, lambda o: replace(o, answered=o.due - 0.5)), RIG_ERROR, "contradict"),
        (doctored(PACED, lambda o: replace(o, sent=None)), RIG_ERROR, "contradict"),
        # Steps after the first are due when the one before is answered: they are no arrivals.
        (history([*PACED.operations, *(op(i, step=1) for i in range(50))], paces=list(PACED.paces)), PASS, "350"),
    ],
)
def test_on_time(record: History, expected: str, said: str) -> None:
    """What was planned was sent when it was planned, or the load was another one."""
    verdict = OnTime().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def paced(planned: int, *, rate: float = 100, end: float = 3) -> History:
    """The first so many of a stream's requests, and a pace that counts just those."""
    return history(
        traffic(0, 3, rate=rate)[:planned], paces=[pace("browse", rate=rate, begin=0, end=end, planned=planned)]
    )


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (PACED, ()),
        (history(), ()),
        (history([*PACED.operations, *traffic(0.003, 1, stream="visits")], paces=list(PACED.paces)), ()),
        # Of the last moment nobody knows on which side of the end it fell.
        (paced(299), ()),
        (paced(300, end=3.01), ()),
        # Two streams of one name, one after the other.
        (
            history(
                [*traffic(0, 1), *traffic(2.5, 3.5)],
                paces=[pace("browse", rate=100, begin=begin, end=begin + 1, planned=100) for begin in (0, 2.5)],
            ),
            (),
        ),
        # A rig that waits for answers, and calls what it has sent its plan.
        (paced(250), ("250 requests of browse were planned where its pace asks for 300: it was no open loop",)),
        # Its requests are due when it gets round to them, or were written down afterwards.
        (
            doctored(PACED, lambda o: replace(o, due=o.due - 0.002) if o.due >= 1 else o),
            ("200 of 300 requests of browse were due when none was planned",),
        ),
        (without(PACED, lambda o: o.due == 1.0), ("1 of 300 planned requests of browse are not in the record",)),
        (
            doctored(PACED, lambda o: replace(o, answered=o.sent - 1)),
            ("the times of 300 requests contradict each other",),
        ),
    ],
)
def test_a_record_that_cannot_be_what_happened(record: History, said: tuple[str, ...]) -> None:
    """What was due follows from the pace: one request more or less at the border, and nothing else."""
    assert contradictions(record) == said


def test_a_fast_stream_that_comes_in_groups_keeps_its_pace() -> None:
    """Above 500 a second all requests of a group are due together."""
    made = [op(20 * (k // 20) / 1000) for k in range(1000)]
    assert contradictions(history(made, paces=[pace("browse", rate=1000, begin=0, end=0.9999, planned=1000)])) == ()


def test_guards_never_fail() -> None:
    """A guard has no promise to break."""
    for record in (BROKEN, ROLLED, PACED, late(0.5)):
        for guard in (EnoughTraffic(), OnTime()):
            assert status_of(guard.check(record)) != FAIL


def waiting(
    seconds: float,
    *,
    of: float = 10.0,
    busy: float | None = 1.0,
    others: float | None = 0.6,
    second: bool = True,
) -> Look:
    """Two waited, the second of them so long."""
    value = {
        "scenario": "s",
        "seconds": of,
        "cores": 2,
        "busy_share": busy,
        "others_share": others,
        "waited_seconds": {
            "nginx": 0.1,
            "app-2": seconds,
            "app-1": seconds + 1.0,
            **({} if second else {"app-2": 0.2}),
        },
    }
    return Look(what="waited-for-cores", node="", at=9.0, status=None, value=value)


LATE_ANSWERS = Verdict.fail(
    "3 failed", broken=["failed-requests", "longest-gap"], errors={"timeout": 2, "http-502": 1}, guards=["thin"]
)


@pytest.mark.parametrize(
    ("verdict", "looks", "expected"),
    [
        (LATE_ANSWERS, [waiting(3.0)], INCONCLUSIVE),
        (LATE_ANSWERS, [waiting(2.9)], FAIL),
        # The kernel of a machine that was paused tells of one who waited, and of cores that were idle.
        (LATE_ANSWERS, [waiting(8.0, second=False)], FAIL),
        (LATE_ANSWERS, [waiting(8.0, busy=0.89)], FAIL),
        (LATE_ANSWERS, [waiting(8.0, busy=0.9)], INCONCLUSIVE),
        (LATE_ANSWERS, [waiting(40.0, of=20.0)], INCONCLUSIVE),
        (LATE_ANSWERS, [waiting(4.0, others=0.34)], INCONCLUSIVE),
        # An application that uses up the machine by itself is too slow for its traffic.
        (LATE_ANSWERS, [waiting(4.0, others=0.33)], FAIL),
        (LATE_ANSWERS, [waiting(4.0, busy=None, others=None)], FAIL),
        (Verdict.fail("slow", broken=["slowest-answer"]), [waiting(4.0)], INCONCLUSIVE),
        # The last look is the one that has seen all of it.
        (LATE_ANSWERS, [waiting(0.1, of=1.0), waiting(5.0)], INCONCLUSIVE),
        (LATE_ANSWERS, [waiting(0.9, of=1.0), waiting(1.0)], FAIL),
        (LATE_ANSWERS, [], FAIL),
        (LATE_ANSWERS, [waiting(0.0, of=0.0)], FAIL),
        # Nothing of this is made by waiting, or not all of it.
        (Verdict.fail("out", broken=["session-lost"]), [waiting(9.0)], FAIL),
        (Verdict.fail("out", broken=["failed-requests", "session-lost"], errors={"timeout": 1}), [waiting(9.0)], FAIL),
        (Verdict.fail("own", broken=["failed-requests"], errors={"timeout": 9, "http-500": 1}), [waiting(9.0)], FAIL),
        (Verdict.fail("own", broken=["failed-requests"], errors={"wrong-user": 1}), [waiting(9.0)], FAIL),
        (Verdict.fail("untold", errors={"timeout": 1}), [waiting(9.0)], FAIL),
        (Verdict.passed("well", broken=[]), [waiting(9.0)], PASS),
        (Verdict.rig_error("crashed"), [waiting(9.0)], RIG_ERROR),
    ],
)
def test_a_failure_of_time_alone(verdict: Verdict, looks: list[Look], expected: str) -> None:
    """Where those who serve were given no core for long, requests that were kept waiting prove nothing."""
    assert status_of(weakened(verdict, replace(BROKEN, looks=tuple(looks)))) == expected


def test_what_is_said_of_a_machine_that_was_too_busy() -> None:
    """Who waited, how long, and what had been seen; all that was found is kept."""
    told = weakened(LATE_ANSWERS, replace(BROKEN, looks=(waiting(16.8, of=23.2),)))
    why = (
        "this machine was too busy to tell: the threads of app-1 and app-2 stood ready and were given no core for 17.8 and "
        "16.8 s in 23.2 s (2 cores, 100% busy, 60% for others)"
    )
    assert told.measured == f"{why}; 3 failed"
    waited = why.removeprefix("this machine was too busy to tell: ")
    assert told.evidence == {**LATE_ANSWERS.evidence, "guards": [why, "thin"], "starved": waited}
