"""What looking after the balancer costs, by hand: a reload, downloads under way, an instance that is taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.checkers import (
    BalancerComesBack,
    DownloadsAreFinished,
    DrainedIsLeftAlone,
    LateJoinerIsNotFlooded,
    ReloadCostsNothing,
)
from harness.model import Answer, Checker, Connection, FaultWindow, History, Operation, Outcome
from tests.checker_histories import (
    APPS,
    FAIL,
    INCONCLUSIVE,
    PASS,
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

RELOAD = replace(fault("reload", "nginx", injected=6.0, effective=6.1, healing=6.1, healed=6.1), proof="new workers")
OUT = (
    step("drain", "app-1", 2.0),
    step("drained", "app-1", 2.5),
    step("enable", "app-1", 4.0),
    step("enabled", "app-1", 4.1),
)


def slow(begin: float, end: float, *, seconds: float = 0.5, stream: str = "slow") -> list[Operation]:
    """Ten requests a second that take so long each, one instance after the other."""
    asked = traffic(begin, end, rate=10, stream=stream, kind=stream, method="GET", connection=Connection.FRESH)
    return [replace(o, answered=o.due + seconds, status=200) for o in asked]


def looked_after(reload: FaultWindow | None = RELOAD, *, out: Sequence[str] = ("app-1",)) -> History:
    """Somebody is taken out from 2 to 4 seconds and the balancer is reloaded at 6, while people browse and download."""
    browse = traffic(0, 9)
    asked = [*browse, *slow(0, 9), *slow(5, 8, seconds=2.5, stream="download")]
    given = [
        replace(o, instance="app-2", attempts=("app-2",)) if o.instance in out and 2.0 <= o.due < 4.1 else o
        for o in asked
    ]
    return history(
        given,
        faults=[reload] if reload is not None else [],
        rollout=OUT,
        paces=[pace("browse", rate=100, begin=0, end=9, planned=len(browse))],
        setup={"timeout_seconds": 5.0},
    )


HEALTHY = looked_after()
RELOADS, DOWNLOADS, DRAINS = ReloadCostsNothing(), DownloadsAreFinished(), DrainedIsLeftAlone()


def broken(begin: float, end: float, *, error: str = "refused", stream: str | None = None) -> History:
    """Whatever was due then failed."""

    def change(o: Operation) -> Operation:
        if begin <= o.due < end and stream in (None, o.stream):
            told = failed(o.due, error=error, stream=o.stream, method=o.method, connection=o.connection)
            return replace(told, attempts=o.attempts if error.startswith("http") else ())
        return o

    return doctored(HEALTHY, change)


def forbidden(o: Operation) -> Operation:
    """Whoever writes is told that they may not, by an instance."""
    if o.method == "GET" or o.due < 6:
        return o
    return replace(o, status=403, error="http-403", outcome=Outcome.FAILED, answer=Answer.REFUSED)


def late(of: History, since: float) -> History:
    """From then on the rig sends everything late."""
    return doctored(
        of,
        lambda o: (
            replace(o, sent=o.due + 0.4, answered=None if o.answered is None else o.answered + 0.4)
            if o.due >= since and o.sent is not None
            else o
        ),
    )


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (HEALTHY, PASS, "0 failed"),
        (broken(6.0, 6.1), FAIL, "failed when the balancer was reloaded (refused"),
        (broken(5.995, 6.0, error="truncated"), PASS, "0 failed"),
        # What was under way is cut with the old processes.
        (
            broken(5.7, 6.0, error="truncated", stream="slow"),
            FAIL,
            "failed when the balancer was reloaded (truncated 3)",
        ),
        (broken(6.0, 8.0), FAIL, "nobody was answered for 2.0 s"),
        # Downloads are for another promise.
        (broken(5.0, 9.0, stream="download"), PASS, "0 failed"),
        # It failed as often before: then this is not the reload's.
        (broken(0.0, 9.0, stream="slow", error="http-500"), INCONCLUSIVE, "had failed before the reload"),
        # An instance's own word is no business of the balancer.
        (doctored(HEALTHY, forbidden), PASS, "0 failed"),
        (looked_after(None), INCONCLUSIVE, "the balancer was not reloaded"),
        (looked_after(replace(RELOAD, effective=None, healed=None)), INCONCLUSIVE, "had no effect"),
        (without(HEALTHY, lambda o: o.stream == "slow"), INCONCLUSIVE, "0 requests under way"),
        (
            without(HEALTHY, lambda o: o.connection is Connection.REUSED),
            INCONCLUSIVE,
            "0 requests on reused connections",
        ),
        (without(HEALTHY, lambda o: o.due >= 6.05), INCONCLUSIVE, "0 requests on fresh connections after the reload"),
        # Time-outs and gaps a late rig makes itself; a refusal it cannot make.
        (late(broken(6.0, 6.1, error="timeout"), 5.9), INCONCLUSIVE, "too busy for the rate"),
        (late(broken(6.0, 6.1), 5.9), FAIL, "refused"),
    ],
)
def test_a_reload_costs_nothing(record: History, expected: str, said: str) -> None:
    """No failed request and no gap, on either kind of connection, with something under way."""
    verdict = RELOADS.check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in " ".join([verdict.measured, *verdict.evidence.get("guards", ())])


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (HEALTHY, PASS, "10 of 10 downloads under way came to their end, the last 2.4 s after"),
        (broken(5.5, 6.0, error="truncated", stream="download"), FAIL, "5 of 10 downloads under way were cut"),
        # One that was begun afterwards is not one that was under way.
        (broken(6.2, 7.0, error="refused", stream="download"), PASS, "10 of 10"),
        (without(HEALTHY, lambda o: o.stream == "download"), INCONCLUSIVE, "0 downloads under way"),
        (looked_after(None), INCONCLUSIVE, "was not reloaded"),
        (looked_after(replace(RELOAD, effective=None)), INCONCLUSIVE, "had no effect"),
        (late(HEALTHY, 5.0), INCONCLUSIVE, "too busy for the rate"),
    ],
)
def test_downloads_are_finished(record: History, expected: str, said: str) -> None:
    """What was under way at the reload, and nothing else."""
    verdict = DOWNLOADS.check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


def given_to_it(o: Operation) -> Operation:
    """One visitor is bound to the instance that was taken out."""
    bound = o.visitor == "v7" and 2.0 <= o.due < 4.0
    return replace(o, instance="app-1", attempts=("app-1",)) if bound else o


def cut_there(o: Operation) -> Operation:
    """What was under way at the instance when it was taken out is lost."""
    there = o.stream == "slow" and o.instance == "app-1" and 1.5 < o.due < 2.0
    return failed(o.due, error="truncated", stream="slow", attempts=("app-1",)) if there else o


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (HEALTHY, PASS, "were given to app-1 while it was out"),
        (looked_after(out=()), FAIL, "were given to app-1 after it was taken out"),
        (doctored(HEALTHY, given_to_it), FAIL, "were given to app-1 after it was taken out"),
        (doctored(HEALTHY, cut_there), FAIL, "under way at app-1 failed when it was taken out"),
        (broken(3.0, 3.1), FAIL, "failed while app-1 was out (refused"),
        (broken(0.0, 9.0, stream="slow", error="http-500"), INCONCLUSIVE, "had failed before app-1 was taken out"),
        # Before the balancer has said so it may still be given something.
        (
            doctored(HEALTHY, lambda o: replace(o, instance="app-1", attempts=("app-1",)) if 2 <= o.due < 2.4 else o),
            PASS,
            "0 of",
        ),
        (without(HEALTHY, lambda o: o.stream == "slow"), INCONCLUSIVE, "nothing was under way at app-1"),
        (without(HEALTHY, lambda o: 2.1 <= o.due < 4.1), INCONCLUSIVE, "while app-1 was out"),
        (
            without(HEALTHY, lambda o: o.due < (1.97 if o.stream == "browse" else 1.4)),
            INCONCLUSIVE,
            "app-1 had answered",
        ),
        (replace(HEALTHY, rollout=()), INCONCLUSIVE, "nobody was taken out"),
        (replace(HEALTHY, rollout=(step("begin", "", 1.0), *OUT)), INCONCLUSIVE, "nobody was taken out"),
        (late(broken(3.0, 3.1, error="timeout"), 1.9), INCONCLUSIVE, "too busy for the rate"),
    ],
)
def test_a_drained_instance_is_left_alone(record: History, expected: str, said: str) -> None:
    """From when the balancer says so it is given nothing, what it had is answered, and nobody fails meanwhile."""
    verdict = DRAINS.check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in " ".join([verdict.measured, *verdict.evidence.get("guards", ())])


def test_a_drain_that_takes_for_ever_is_not_waited_for() -> None:
    """From five seconds after the order it is left alone, whatever the balancer goes on saying."""
    never = (OUT[0], step("drained", "app-1", 12.0), step("enable", "app-1", 12.1), step("enabled", "app-1", 12.2))
    asked = [*traffic(0, 13), *slow(0, 13)]
    after = replace(history(asked, rollout=never), setup={"timeout_seconds": 5.0})
    assert status_of(DRAINS.check(after)) == FAIL
    assert DRAINS.check(after).evidence["drain_seconds"] == 10.0
    assert DRAINS.check(after).evidence["given"] == sum(
        o.instance == "app-1" and 7.0 <= o.due < 12.1 for o in after.operations
    )


def test_evidence_counts_what_was_seen() -> None:
    """By connection and by method, as a reader needs it."""
    seen = RELOADS.check(broken(6.0, 6.1)).evidence
    assert seen["broken"] == ["failed-requests"]
    assert seen["failed"] == sum(seen["failed_by_connection"].values()) == sum(seen["failed_by_method"].values())
    assert seen["proof"] == "new workers"
    assert op().instance in APPS


@pytest.mark.parametrize("checker", [RELOADS, DOWNLOADS, DRAINS, BalancerComesBack()])
def test_it_can_be_judged_again(checker: Checker) -> None:
    """The same record gives the same verdict."""
    assert checker.check(HEALTHY) == checker.check(HEALTHY)


# -- the death of the balancer ----------------------------------------------------------------------------------------

DEATH = fault("kill", "nginx", injected=2.0, effective=2.01, healing=2.3, healed=2.35)


def lost(window: FaultWindow | None = DEATH, *, back: float = 2.4, end: float = 5.0) -> History:
    """The balancer dies at 2 seconds; from then until `back` every request is refused."""
    browse = traffic(0, end)
    given = [
        replace(failed(o.due, error="refused", stream=o.stream, visitor=o.visitor), attempts=(), sent=o.due)
        if 2.0 <= o.due < back
        else o
        for o in browse
    ]
    return history(
        given,
        faults=[] if window is None else [window],
        paces=[pace("browse", rate=100, begin=0, end=end, planned=len(browse))],
        setup={"timeout_seconds": 5.0, "pool": list(APPS)},
    )


def away(seconds: float) -> FaultWindow:
    return replace(DEATH, healing=2.0 + seconds, healed=2.1 + seconds)


def logged_out(o: Operation) -> Operation:
    return (
        replace(o, answer=Answer.LOGGED_OUT, error="logged-out", status=303) if o.due > 3 and o.visitor == "v2" else o
    )


def logged_out_before(o: Operation) -> Operation:
    is_stranger = o.visitor == "v2" and (o.due > 3 or 1 < o.due < 1.1)
    return replace(o, answer=Answer.LOGGED_OUT, error="logged-out", status=303) if is_stranger else o


def logged_out_seldom(o: Operation) -> Operation | None:
    return None if o.visitor == "v2" and 0.5 < o.due < 2 else logged_out(o)


def given_to_others(o: Operation) -> Operation:
    return replace(o, instance="app-1", attempts=("app-1",)) if o.due > 2.4 and o.instance == "app-3" else o


def nobody_says_who(o: Operation) -> Operation:
    return replace(o, instance=None, attempts=())


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (lost(), PASS, "people were served again 408 ms after the death of nginx, 40 of 300 requests had failed"),
        # Whoever kept the address answered meanwhile.
        (lost(back=2.0), PASS, "0 of 300 requests had failed"),
        (lost(away(4.9), back=6.9, end=9.0), PASS, "served again 4.9 s after"),
        (lost(away(5.9), back=7.9, end=10.0), FAIL, "served again 5.9 s after the death of nginx (5 s are allowed)"),
        (lost(away(6.0), back=9.0, end=9.0), FAIL, "nobody was served for 7.0 s"),
        # It was there soon, and served nobody.
        (lost(back=8.0, end=10.0), FAIL, "served again 6.0 s after"),
        (lost(back=4.0, end=4.0), INCONCLUSIVE, "it was watched for 2.0 s only"),
        (doctored(lost(), logged_out), FAIL, "1 of 20 people were logged out by the death of nginx"),
        # Who was taken for a stranger before, or was asked too seldom, has lost nothing by it.
        (doctored(lost(), logged_out_before), PASS, "served again"),
        (doctored(lost(), logged_out_seldom), PASS, "served again"),
        (doctored(lost(), given_to_others), FAIL, "app-3 answered nobody after nginx was back"),
        (doctored(lost(), nobody_says_who), PASS, "served again"),
        (
            lost(end=2.9),
            INCONCLUSIVE,
            "only 49 answers since people were served again (20 for each instance are needed)",
        ),
        (without(lost(), lambda o: o.due < 1.9), INCONCLUSIVE, "only 10 answers before its death (20 are needed)"),
        (lost(None), INCONCLUSIVE, "the balancer was not killed"),
        (lost(fault("kill", "app-1", injected=2.0)), INCONCLUSIVE, "the balancer was not killed"),
        (lost(replace(DEATH, effective=None)), INCONCLUSIVE, "lived on"),
        (late(lost(), 3.0), INCONCLUSIVE, "too busy for the rate"),
        (late(lost(back=8.0, end=10.0), 3.0), INCONCLUSIVE, "too busy for the rate"),
        # That nobody was there who could have answered is not the rig's doing.
        (late(lost(away(6.0), back=8.0, end=10.0), 3.0), FAIL, "served again"),
    ],
)
def test_the_death_of_the_balancer(record: History, expected: str, said: str) -> None:
    """People are served again in time, by everybody, as who they were."""
    verdict = BalancerComesBack().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


# -- an instance that joins late --------------------------------------------------------------------------------------

BACK = fault("stop", "app-1", injected=1.0, effective=1.2, healing=4.0, healed=5.0)


def joined(*, seconds: float = 0.01, given: str = "in turn", end: float = 8.0, **setup: object) -> History:
    """app-1 is back at 5.0, and takes so long for each answer; `given`: in turn, or to whoever has least in flight."""
    busy: list[tuple[float, str]] = []
    made = []
    for number, o in enumerate(traffic(0, end)):
        away = 1.0 <= o.due < 5.0
        busy = [each for each in busy if each[0] > o.due]
        count = {app: sum(who == app for _, who in busy) for app in APPS if not (away and app == "app-1")}
        names = sorted(count)
        taken = names[number % len(names)] if given == "in turn" else min(names, key=count.__getitem__)
        takes = seconds if taken == "app-1" and o.due >= 5.0 else 0.02
        busy.append((o.due + takes, taken))
        made.append(replace(o, instance=taken, attempts=(taken,), answered=o.due + takes))
    return history(made, faults=[BACK], setup=setup)


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (joined(), PASS, "app-1 was given 100 of 300 requests in the first 5 s after it was ready"),
        (joined(seconds=1.0), FAIL, "requests in flight (allowed"),
        # Whoever goes by what is in flight spares it, however slow it is.
        (joined(seconds=0.2, given="least"), PASS, "in flight at most"),
        (joined(seconds=0.1), PASS, "in flight at most"),
        (joined(seconds=1.0, capacity={"app-1": 9}), PASS, "in flight at most"),
        (joined(end=5.1), INCONCLUSIVE, "app-1 was given"),
        (late(joined(seconds=1.0), 5.0), INCONCLUSIVE, "too busy for the rate"),
        (replace(joined(), faults=()), INCONCLUSIVE, "nobody joined late"),
        (replace(joined(), faults=(replace(BACK, healed=None),)), INCONCLUSIVE, "app-1 never came back"),
        (replace(joined(), faults=(replace(BACK, effective=None),)), INCONCLUSIVE, "had no effect"),
    ],
)
def test_a_late_joiner_is_not_flooded(record: History, expected: str, said: str) -> None:
    """By what it has in flight at each moment at which it is given more."""
    verdict = LateJoinerIsNotFlooded().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in " ".join([verdict.measured, *verdict.evidence["guards"]])
