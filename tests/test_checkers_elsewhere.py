"""What is judged of a site that is somebody else's: its balancer is closed, and its instances come back in their own time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import (
    ForgeriesAreNotBelieved,
    HeadersAreEverywhere,
    RequestsSurviveLoss,
    SchemeIsKnown,
    SessionOnEveryInstance,
)
from harness.model import Answer, FaultWindow, History, Operation
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
    traffic,
    whoami,
)

CLOSED = {"is_closed": True, "timeout_seconds": 5.0}


# -- a loss ----------------------------------------------------------------------------------------------------------


def untold(window: FaultWindow, *, rate: float = 20.0, end: float = 9.0, **setup: Any) -> History:
    """Requests at the rate such a site bears; the application names itself, the balancer nobody it tried."""
    made = []
    for each in traffic(0, end, rate=rate):
        lost = window.injected <= each.due < (window.healed or end) and each.instance == "app-1"
        made.append(replace(each, instance="app-2" if lost else each.instance, attempts=()))
    return history(
        made,
        faults=[window],
        paces=[pace("browse", rate=rate, begin=0, end=end, planned=len(made))],
        setup=CLOSED | setup,
    )


KILLED = untold(fault())


def test_a_loss_that_cost_nothing() -> None:
    """So many requests came meanwhile that some would surely have been for the victim; it says what it does not know."""
    verdict = RequestsSurviveLoss.by_kill().check(KILLED)
    assert status_of(verdict) == PASS, verdict.measured
    assert "whom the balancer tried is not told" in verdict.measured


def test_of_a_balancer_of_ones_own_more_is_asked() -> None:
    """There the header can be added: without it nobody knows what was saved."""
    ours = replace(KILLED, setup={"timeout_seconds": 5.0})
    assert status_of(RequestsSurviveLoss.by_kill().check(ours)) == INCONCLUSIVE


def test_a_loss_that_cost_something() -> None:
    """A failed request is one, whoever tells whom it was sent to."""

    def lose(each: Operation) -> Operation:
        return failed(each.due, error="reset", attempts=()) if 2.0 < each.due < 2.2 and each.method == "GET" else each

    assert status_of(RequestsSurviveLoss.by_kill().check(doctored(KILLED, lose))) == FAIL


def test_too_few_to_have_met_it() -> None:
    """A victim that had hardly any of the traffic may have been missed by nobody."""
    seldom = doctored(
        KILLED,
        lambda each: replace(each, instance="app-2") if each.instance == "app-1" and each.due > 0.1 else each,
    )
    verdict = RequestsSurviveLoss.by_kill().check(seldom)
    assert status_of(verdict) == INCONCLUSIVE
    assert "by chance" in verdict.measured


def test_who_comes_back_by_itself_is_away_for_that_long() -> None:
    """A short loss is none that must be longer; but as many requests are wanted."""
    short = FaultWindow(
        fault="kill", node="app-1", injected=1.0, effective=1.02, healing=2.2, healed=2.2, by_itself=True
    )
    verdict = RequestsSurviveLoss.by_kill().check(untold(short))
    assert status_of(verdict) == PASS, verdict.measured
    held = replace(short, by_itself=False)
    assert status_of(RequestsSurviveLoss.by_kill().check(untold(held))) == INCONCLUSIVE
    blink = replace(short, healing=1.1, healed=1.1)
    assert status_of(RequestsSurviveLoss.by_kill().check(untold(blink))) == INCONCLUSIVE


# -- sessions --------------------------------------------------------------------------------------------------------


def visited(*, named: bool, times: int = 12) -> History:
    """People log in through the balancer and come back, each time on a connection of their own."""
    people = [f"v{number}" for number in range(20)]
    made = [
        login(person, 0.1 * place, instance=APPS[place % 3] if named else None) for place, person in enumerate(people)
    ]
    for turn in range(times):
        for place, person in enumerate(people):
            who = APPS[(place + turn) % 3] if named else None
            made.append(whoami(person, 3.0 + turn + 0.01 * place, instance=who))
    return history(made, setup=CLOSED, instances=APPS if named else ())


@pytest.mark.parametrize(("named", "words"), [(True, "over 9 pairs of instances"), (False, "by whom is not told")])
def test_sessions_from_outside(*, named: bool, words: str) -> None:
    """Whether or not anybody says who answered."""
    verdict = SessionOnEveryInstance().check(visited(named=named))
    assert status_of(verdict) == PASS, verdict.measured
    assert words in verdict.measured


@pytest.mark.parametrize("answer", [Answer.LOGGED_OUT, Answer.SOMEBODY_ELSE])
def test_sessions_lost_from_outside(answer: Answer) -> None:
    """One that is not known, or somebody else's, is enough."""
    seen = visited(named=False)
    wrong = whoami("v3", 30.0, answer=answer, instance=None)
    assert status_of(SessionOnEveryInstance().check(replace(seen, operations=(*seen.operations, wrong)))) == FAIL


def test_too_few_visits_from_outside() -> None:
    """Nothing is proven by a handful."""
    assert status_of(SessionOnEveryInstance().check(visited(named=False, times=1))) == INCONCLUSIVE


# -- the edge --------------------------------------------------------------------------------------------------------

GUARDED = {"x-frame-options": "DENY", "x-content-type-options": "nosniff"}


def headers(*cases: tuple[str, int, dict[str, str]], setup: dict[str, Any] | None = None) -> History:
    looks = [
        look("headers", "balancer", status=status, value={"case": case, "who": "", "is_secure": True, "headers": held})
        for case, status, held in cases
    ]
    return history(looks=looks, setup=CLOSED if setup is None else setup, instances=())


def test_headers_as_they_come() -> None:
    """A page, an error and the redirect of anybody; nobody is taken out to see the balancer's own errors."""
    seen = headers(("page", 200, GUARDED), ("missing", 404, GUARDED), ("redirect", 301, GUARDED))
    assert status_of(HeadersAreEverywhere().check(seen)) == PASS
    bare = headers(("page", 200, GUARDED), ("missing", 404, {}), ("redirect", 301, GUARDED))
    assert status_of(HeadersAreEverywhere().check(bare)) == FAIL
    unseen = headers(("page", 200, GUARDED), ("redirect", 301, GUARDED))
    assert status_of(HeadersAreEverywhere().check(unseen)) == INCONCLUSIVE


@pytest.mark.parametrize(("told", "status"), [("https", PASS), ("http", FAIL), ("", INCONCLUSIVE)])
def test_what_is_told_by_anybody(told: str, status: str) -> None:
    """Who it was need not be known."""
    value = {"who": "", "seen": "", "forged": {}, "told": {"proto": told} if told else {}}
    seen = history(looks=[look("forwarded", "balancer", value=value)], setup=CLOSED, instances=())
    assert status_of(SchemeIsKnown().check(seen)) == status


def test_a_forgery_that_anybody_believes() -> None:
    """Is one."""
    forged = {"X-Forwarded-For": "203.0.113.77", "X-Forwarded-Proto": "http"}
    value = {"who": "", "seen": "", "forged": forged, "told": {"client": "203.0.113.77", "proto": "https"}}
    seen = history(looks=[look("forged", "balancer", value=value)], setup=CLOSED, instances=())
    assert status_of(ForgeriesAreNotBelieved().check(seen)) == FAIL
