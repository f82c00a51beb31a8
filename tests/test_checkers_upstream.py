"""What the balancer makes of the instances behind it, by hand: its opinion, what it sends twice, bursts, and whom it binds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import BalancerSeesTheTruth, BoundPeopleMove, BurstIsForgotten, SentOnce
from harness.model import UNNAMED, Answer, FaultWindow, History, Look, Operation, Outcome
from tests.checker_histories import (
    APPS,
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    fault,
    history,
    look,
    op,
    status_of,
    whoami,
)

# -- its opinion ------------------------------------------------------------------------------------------------------

KILLED = fault(injected=1.0, effective=1.1, healing=5.0, healed=5.5)


def view(name: str, at: float, *, up: bool = True, check: str = "L7OK", said: str = "OK") -> list[Look]:
    """The balancer's opinion of an instance."""
    value = {"status": "UP" if up else "DOWN", "up": up, "check": check, "said": said}
    return [look("lb-view", name, at, status=None, value=value)]


def health(name: str, at: float, *, alive: bool = True) -> Look:
    return look("health", name, at, status=200 if alive else None, error="" if alive else "ConnectionError")


def views(
    *,
    knows_at: float | None = 1.7,
    back_at: float | None = 5.8,
    never_up: Iterable[str] = (),
    check: str = "L7OK",
    window: FaultWindow = KILLED,
    until: float = 9.5,
    begin: float = 0.5,
) -> History:
    """Asked every half a second: app-1 is dead from 1.1 to 5.5, and the balancer knows it from `knows_at` to `back_at`."""
    looks: list[Look] = []
    at = begin
    while at < until:
        dead = 1.1 <= at < 5.5
        down = knows_at is not None and knows_at <= at < (back_at if back_at is not None else 99.0)
        for name in APPS:
            looks.append(health(name, at, alive=not (name == "app-1" and dead)))
            is_up = name not in never_up and not (name == "app-1" and down)
            looks += view(name, at + 0.01, up=is_up, check=check if name in never_up else "L7OK")
        at += 0.5
    return history(looks=looks, faults=[window], setup={"pool": list(APPS)})


SEEN = views()


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (SEEN, PASS, "knew of the death of app-1 after 910 ms, of its return 510 ms after it was ready"),
        (
            views(never_up=APPS, check="L7STS"),
            FAIL,
            "takes app-1, app-2 and app-3 for down, and asked directly each is alive",
        ),
        (views(never_up=["app-3"]), FAIL, "takes app-3 for down, and asked directly it is alive"),
        (views(knows_at=None), FAIL, "took app-1 for up 3 s after its death"),
        (views(knows_at=4.4), FAIL, "and knew after 3.4 s"),
        (views(back_at=None), FAIL, "took app-1 for down 3 s after it was ready again"),
        # It was not watched for long enough to say so.
        (
            views(knows_at=None, window=replace(KILLED, healing=2.0, healed=2.5), until=3.0),
            INCONCLUSIVE,
            "came back before",
        ),
        (views(until=5.6), INCONCLUSIVE, "was not asked until it knew that app-1 was back"),
        (views(begin=1.2), INCONCLUSIVE, "was not asked about app-1, app-2 and app-3 before"),
        (replace(SEEN, looks=tuple(SEEN.looks_at("health"))), INCONCLUSIVE, "no opinion that can be read"),
        (replace(SEEN, faults=()), INCONCLUSIVE, "no instance was lost"),
        (views(window=replace(KILLED, effective=None)), INCONCLUSIVE, "no instance was lost"),
    ],
)
def test_the_opinion_of_the_balancer_is_true(record: History, expected: str, said: str) -> None:
    """Up for who answers, down for who is dead, and both in time."""
    verdict = BalancerSeesTheTruth().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in " ".join([verdict.measured, *verdict.evidence.get("guards", ())])


def test_who_is_dead_may_be_taken_for_down_before() -> None:
    """An instance that does not answer anybody is no witness against the balancer."""
    looks = [replace(each, status=None, error="x") if each.what == "health" else each for each in SEEN.looks]
    assert status_of(BalancerSeesTheTruth().check(replace(SEEN, looks=tuple(looks)))) == INCONCLUSIVE


# -- what is sent once ------------------------------------------------------------------------------------------------

HUNG = fault("hang", "app-1", injected=1.0, effective=1.1, healing=4.0, healed=4.1)


def tally(stream: str, record: str, outcome: Outcome, told: int | None) -> Look:
    value = {"stream": stream, "record": record, "outcome": outcome.value, "told": None if told is None else str(told)}
    return look("tally", "balancer", value=value)


def sent_once(
    effects: Callable[[int, str], int] = lambda number, app: 1,
    *,
    twice_tried: bool = False,
    named: bool = True,
    counted: Iterable[int] = range(24),
) -> History:
    """Twenty-four POSTs, a third of them to app-1, which hangs: these are answered with 504, and done when it goes on."""
    made: list[Operation] = []
    looks: list[Look] = []
    for number in range(24):
        app, record = APPS[number % 3], f"r{number}"
        given: dict[str, Any] = {"stream": "sent-once", "kind": "tally", "method": "POST", "record": record}
        if app == "app-1" and not twice_tried:
            attempts = (app if named else UNNAMED,)
            made.append(failed(1.2, error="http-504", latency=2.0, attempts=attempts, **given))
            looks.append(tally("sent-once", record, Outcome.UNKNOWN, None))
        else:
            attempts = ("app-1", "app-2") if app == "app-1" else (app,)
            made.append(op(1.2, instance=attempts[-1], attempts=attempts, answer=Answer.DONE, **given))
            looks.append(tally("sent-once", record, Outcome.OK, 1))
        done = effects(number, app)
        for again in (1, 2):
            outcome = Outcome.OK if number in counted else Outcome.FAILED
            looks.append(tally("counted", record, outcome, done + again if number in counted else None))
    return history(made, looks=looks, faults=[HUNG])


ONCE = sent_once()


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (ONCE, PASS, "24 of 24 POSTs had one effect at most, 8 of them tried at app-1"),
        # Whoever was told that it may have failed may find that it did.
        (sent_once(lambda number, app: int(app != "app-1")), PASS, "24 of 24"),
        (sent_once(lambda number, app: 1, named=False), PASS, "8 of them tried at app-1"),
        (
            sent_once(lambda n, app: 2 if app == "app-1" else 1, twice_tried=True),
            FAIL,
            "8 of 24 POSTs had more than one effect",
        ),
        (sent_once(lambda n, app: 1, twice_tried=True), PASS, "24 of 24"),
        (
            sent_once(lambda n, app: 0 if n == 1 else 1),
            FAIL,
            "1 of 16 that were acknowledged had none when app-1 was frozen",
        ),
        (sent_once(counted=range(20)), INCONCLUSIVE, "of 4 of 24 POSTs nobody could tell"),
        (replace(ONCE, operations=ONCE.operations[1:3]), INCONCLUSIVE, "0 POSTs met app-1 while it hung"),
        (replace(ONCE, faults=(replace(HUNG, healed=None),)), INCONCLUSIVE, "did not go on"),
        (replace(ONCE, faults=()), INCONCLUSIVE, "no instance hung"),
    ],
)
def test_what_is_sent_once_is_done_once(record: History, expected: str, said: str) -> None:
    """By what each number had come to, less what was added to see it."""
    verdict = SentOnce().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


# -- bursts -----------------------------------------------------------------------------------------------------------

AWAY = fault("stop", "postgres", injected=1.0, effective=1.1, healing=3.0, healed=3.5)


def burst(
    *,
    served_after: float | None = 0.2,
    error: str = "http-502",
    errors: int = 12,
    able: Iterable[str] = APPS,
    until: float = 6.0,
) -> History:
    """Errors while the database is away; from 4.0 every instance serves again, and through the balancer so much later."""
    made = [
        failed(1.5 + i / 100, error="http-503", stream="burst", kind="read", instance="app-1") for i in range(errors)
    ]
    made += [op(4.0, stream="needs-database", kind="write", via=app, instance=app, latency=0.0) for app in able]
    for number in range(round(until * 10)):
        at = 4.0 + number / 10
        fails = served_after is None or number < round(served_after * 10)
        given: dict[str, Any] = {"stream": "after-burst", "kind": "read"}
        made.append(failed(at, error=error, attempts=(), **given) if fails else op(at, latency=0.0, **given))
    return history(made, faults=[AWAY])


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (burst(), PASS, "people were served 200 ms after every instance served again, 12 errors"),
        (burst(served_after=0.0), PASS, "people were served 0 ms after"),
        (
            burst(served_after=5.5),
            FAIL,
            "through the balancer people were served after 5.5 s (http-502 55; allowed 5 s)",
        ),
        (burst(served_after=None), FAIL, "people were not served in 5.9 s"),
        (burst(served_after=None, until=2.0), INCONCLUSIVE, "it was not watched until people were served"),
        (burst(errors=3), INCONCLUSIVE, "3 errors came through the balancer meanwhile (6 are needed)"),
        # Who left before anything came has seen none.
        (
            doctored(burst(), lambda o: replace(o, error="given-up") if o.stream == "burst" else o),
            INCONCLUSIVE,
            "0 errors came through the balancer meanwhile",
        ),
        (burst(able=APPS[:2]), INCONCLUSIVE, "asked directly, app-3 did not serve again"),
        (burst(until=0.0), INCONCLUSIVE, "nobody asked through the balancer afterwards"),
        (replace(burst(), faults=()), INCONCLUSIVE, "nothing that the instances need was away"),
        (replace(burst(), faults=(replace(AWAY, healed=None),)), INCONCLUSIVE, "postgres did not come back"),
    ],
)
def test_a_burst_of_errors_is_forgotten(record: History, expected: str, said: str) -> None:
    """Counted from when every instance is able again, asked directly."""
    verdict = BurstIsForgotten().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in verdict.measured


# -- whom it binds ----------------------------------------------------------------------------------------------------

DIES = fault(injected=2.0, effective=2.1, healing=6.5, healed=7.0)


def bound(
    *,
    after: Callable[[float], str | None] = lambda since: "app-2" if since > 0.6 else None,
    out: bool = False,
    homes: Mapping[str, str] | None = None,
    end: float = 6.5,
) -> History:
    """Twelve people, a third of them bound to app-1, ask ten times a second; `after`: who serves those of app-1, so many seconds
    after its death, or nobody."""
    owners = {f"v{i}": APPS[i % 3] for i in range(12)} if homes is None else homes
    made = []
    at = 0.0
    while at < end:
        for who, home in owners.items():
            serves: str | None = home
            if home == "app-1" and at >= 2.1:
                serves = after(at - 2.1)
            if serves is None:
                made.append(failed(at, error="balancer-503", visitor=who, attempts=("app-1",)))
            elif out and home == "app-1" and serves != home:
                made.append(whoami(who, at, instance=serves, answer=Answer.LOGGED_OUT, stream="browse"))
            else:
                made.append(op(at, visitor=who, instance=serves))
        at += 0.1
    return history(made, faults=[DIES])


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (bound(), PASS, "4 of 4 people bound to app-1 were served by another, the last 608 ms"),
        (bound(after=lambda since: "app-3"), PASS, "4 of 4 people"),
        (bound(after=lambda since: None), FAIL, "4 of 4 people bound to app-1 were served by nobody else within 3 s"),
        (bound(after=lambda since: "app-2" if since > 3.5 else None), FAIL, "served by nobody else within 3 s"),
        # Moved, and sent back to the dead one now and then.
        (
            bound(after=lambda s: "app-2" if s < 3.5 else None),
            FAIL,
            "requests of people bound to app-1 failed later than 3 s",
        ),
        (bound(out=True), FAIL, "4 of 4 people bound to app-1 were logged out"),
        (bound(homes={f"v{i}": APPS[i % 2 + 1] for i in range(12)}), INCONCLUSIVE, "0 people bound to app-1"),
        (bound(end=4.0), INCONCLUSIVE, "4 of 4 people bound to app-1 asked nothing"),
        (replace(bound(), faults=()), INCONCLUSIVE, "no instance was lost"),
    ],
)
def test_bound_people_move(record: History, expected: str, said: str) -> None:
    """Everybody who had the cookie of the dead one is served by another, and is still who they were."""
    verdict = BoundPeopleMove().check(record)
    assert status_of(verdict) == expected, verdict.measured
    assert said in " ".join([verdict.measured, *verdict.evidence["guards"]])


def test_who_is_bound_to_nobody_tests_nothing() -> None:
    """Without a cookie everybody is served by all, and nobody's owner can die."""
    made = [op(i / 100, visitor=f"v{i % 12}", instance=APPS[i * 5 % 7 % 3]) for i in range(600)]
    verdict = BoundPeopleMove().check(history(made, faults=[DIES]))
    assert status_of(verdict) == INCONCLUSIVE
    assert any("were bound to one instance" in guard for guard in verdict.evidence["guards"])
