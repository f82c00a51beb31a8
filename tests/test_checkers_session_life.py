"""What a session keeps, who else gets hold of it, and what costs somebody theirs: judged from hand-written histories.

Each test starts from a healthy history and doctors one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import (
    ChangesSurvive,
    CookieIsGuarded,
    GivingUpCostsNothing,
    LifeIsKept,
    LoginCrossesInstances,
    NobodyElsesPage,
    OldIdIsNobody,
    OverloadIsNoLogout,
    ReplayIsRefused,
    StepsAreCounted,
    TokenIsAcceptedElsewhere,
)
from harness.model import Answer, Checker, History, Look, Operation, Outcome
from tests.checker_histories import (
    APPS,
    EMPTY,
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    history,
    login,
    logout,
    look,
    op,
    status_of,
    whoami,
    without,
)

PEOPLE = tuple(f"v{number}" for number in range(1, 7))
PAIRS = tuple((giver, taker) for giver in APPS for taker in APPS)
Change = Callable[[History], History]


def looks_changed(of: History, change: Callable[[Look], Look | None]) -> History:
    return replace(of, looks=tuple(new for old in of.looks if (new := change(old)) is not None))


def logged_out(stream: str, *, of: str | None = None) -> Change:
    """Whoever is asked in this stream (of this visitor) is nobody."""

    def change(old: Operation) -> Operation:
        if old.stream != stream or (of is not None and old.visitor != of):
            return old
        return replace(old, answer=Answer.LOGGED_OUT, outcome=Outcome.FAILED, error="logged-out", status=303)

    return lambda record: doctored(record, change)


def recognised(stream: str, *, of: str | None = None) -> Change:
    def change(old: Operation) -> Operation:
        if old.stream != stream or (of is not None and old.visitor != of):
            return old
        return replace(old, answer=Answer.RECOGNISED, outcome=Outcome.OK, error=None, status=200)

    return lambda record: doctored(record, change)


def gone(stream: str) -> Change:
    return lambda record: without(record, lambda old: old.stream == stream)


def posted(visitor: str, due: float, kind: str, *, via: str, **changes: Any) -> Operation:
    given = {"kind": kind, "method": "POST", "answer": Answer.DONE, "status": 201} | changes
    return op(due, visitor=visitor, via=via, **given)


# -- counters ---------------------------------------------------------------------------------------------------------


def counted(visitor: str, stage: str, count: int | None, via: str = "app-1", outcome: str = "ok") -> Look:
    value = {"visitor": visitor, "stage": stage, "outcome": outcome, "answer": "done", "count": count}
    return look("counted", via, value=value | {"count": None if count is None else str(count)}, status=None)


def counts(steps: Sequence[int | None], *, first: int = 1, last: int = 32, outcomes: str = "ok") -> History:
    """One session: raised once, then through three instances at the same time, then once more."""
    told = [
        counted("v1", "together", count, APPS[place % 3], outcomes if count is None else "ok")
        for place, count in enumerate(steps)
    ]
    ops = [
        posted("v1", 1 + place // 3 * 0.1, "counter", via=APPS[place % 3], stream="together", latency=0.05)
        for place in range(len(steps))
    ]
    return history(ops, looks=[counted("v1", "first", first), *told, counted("v1", "last", last)])


COUNTED = counts(range(2, 32))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (COUNTED, PASS, "every one counted once"),
        # A step of which nobody heard may have counted or not.
        (counts([*range(2, 31), None], outcomes="unknown"), PASS, "29 steps"),
        (counts([*range(2, 31), None], last=31, outcomes="unknown"), PASS, "29 steps"),
        (counts([*range(2, 31), None], last=30, outcomes="unknown"), FAIL, "1 lost"),
        (counts(range(2, 32), last=30), FAIL, "2 lost"),
        (counts(range(2, 32), last=33), FAIL, "1 extra"),
        # A step that was told to have failed must not have counted.
        (counts([*range(2, 31), None], outcomes="failed"), FAIL, "1 extra"),
        (counts([*range(2, 31), 30]), FAIL, "1 repeated"),
        (counts(range(2, 12), last=12), INCONCLUSIVE, "only 10 steps"),
        (replace(COUNTED, operations=()), INCONCLUSIVE, "only 0 steps overlapped"),
        (looks_changed(COUNTED, lambda old: old if old.value["stage"] != "last" else None), INCONCLUSIVE, "no counter"),
        (looks_changed(COUNTED, lambda old: replace(old, node="app-1")), INCONCLUSIVE, "no two instances"),
        (EMPTY, INCONCLUSIVE, "no counter"),
    ],
)
def test_every_step_is_counted_once(record: History, expected: str, said: str) -> None:
    """The last count is the first and one for each acknowledged step; unknown ones may count, and no other may."""
    verdict = StepsAreCounted().check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


# -- two changes at once ----------------------------------------------------------------------------------------------


def put(visitor: str, due: float, record: str, via: str, **changes: Any) -> Operation:
    return posted(visitor, due, "remember", via=via, stream="together", record=record, latency=0.05, **changes)


def looked_for(visitor: str, due: float, record: str, **changes: Any) -> Operation:
    given = {"kind": "recall", "stream": "afterwards", "answer": Answer.DONE, "record": record, "via": "app-1"}
    return op(due, visitor=visitor, **given | changes)


CHANGES = history(
    [
        each
        for place, person in enumerate(PEOPLE)
        for each in (
            put(person, place, f"{person}-a", "app-1"),
            put(person, place + 0.01, f"{person}-b", "app-2"),
            looked_for(person, 10 + place, f"{person}-a"),
            looked_for(person, 10.1 + place, f"{person}-b"),
        )
    ]
)


def not_found(record: str, **changes: Any) -> Change:
    given = {"outcome": Outcome.FAILED, "answer": Answer.FAILED, "status": 404, "error": "http-404"} | changes

    def change(old: Operation) -> Operation:
        return replace(old, **given) if old.kind == "recall" and old.record == record else old

    return lambda of: doctored(of, change)


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (CHANGES, PASS, "12 of 12 changes"),
        (not_found("v2-a")(CHANGES), FAIL, "1 acknowledged and lost"),
        (not_found("v2-a", status=200, error="wrong-body")(CHANGES), FAIL, "1 acknowledged and lost"),
        # What was not properly answered says nothing of what is there.
        (not_found("v2-a", status=503, error="http-503")(CHANGES), PASS, "11 of 11"),
        (not_found("v2-a", answer=Answer.LOGGED_OUT, status=303)(CHANGES), PASS, "11 of 11"),
        # One that was not acknowledged need not be there.
        (
            not_found("v2-a")(
                doctored(
                    CHANGES,
                    lambda o: replace(o, outcome=Outcome.UNKNOWN) if o.record == "v2-a" and o.kind != "recall" else o,
                )
            ),
            PASS,
            "11 of 11",
        ),
        (doctored(CHANGES, lambda o: replace(o, via="app-1")), INCONCLUSIVE, "only 0 changes"),
        (gone("afterwards")(CHANGES), INCONCLUSIVE, "only 0 changes"),
        (EMPTY, INCONCLUSIVE, "nothing was put"),
    ],
)
def test_changes_that_meet_survive(record: History, expected: str, said: str) -> None:
    """What was acknowledged and is properly said not to be there is lost; only changes that met count as tested."""
    verdict = ChangesSurvive().check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


# -- ids in the wrong hands -------------------------------------------------------------------------------------------

FIXATION = history(
    [
        each
        for place, person in enumerate(PEOPLE)
        for each in (
            login(person, place, via="app-1"),
            whoami(person, place + 0.1, via="app-1", stream="owner"),
            *(whoami(person, 10 + place, via=app, stream="planted", answer=Answer.LOGGED_OUT) for app in APPS),
        )
    ],
    looks=[look("cookies-at-login", "app-1", value={"visitor": v, "held": ["sid"], "kept": []}) for v in PEOPLE],
)

REPLAY = history(
    [
        each
        for place, person in enumerate(PEOPLE)
        for each in (
            login(person, place),
            *(whoami(person, place + 0.1 * turn, stream="before") for turn in range(1, 4)),
            logout(person, place + 0.5, via="balancer"),
            *(
                whoami(person, 10 + place + 0.1 * turn, stream="replay", answer=Answer.LOGGED_OUT, instance="app-2")
                for turn in range(4)
            ),
            login(person, 20 + place, stream="again"),
            *(whoami(person, 30 + place, stream="replay-again", answer=Answer.LOGGED_OUT) for _ in range(4)),
        )
    ]
)


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (OldIdIsNobody(), FIXATION, PASS, "6 of 6 people"),
        (OldIdIsNobody(), recognised("planted", of="v3")(FIXATION), FAIL, "for 1 of 6 people"),
        (
            OldIdIsNobody(),
            looks_changed(FIXATION, lambda old: replace(old, value={**old.value, "held": []})),
            PASS,
            "no cookie is given before the log-in",
        ),
        # Whoever is not logged in themselves proves nothing by not being so elsewhere.
        (OldIdIsNobody(), logged_out("owner")(FIXATION), INCONCLUSIVE, "only 0 people"),
        (OldIdIsNobody(), without(FIXATION, lambda o: o.via == "app-3"), INCONCLUSIVE, "only 0 people"),
        (OldIdIsNobody(), EMPTY, INCONCLUSIVE, "only 0 people"),
        (ReplayIsRefused(), REPLAY, PASS, "48 replays"),
        (ReplayIsRefused(), recognised("replay", of="v1")(REPLAY), FAIL, "of 1 of 6 people work"),
        (ReplayIsRefused(), recognised("replay-again", of="v1")(REPLAY), FAIL, "of 1 of 6 people work"),
        # Who was not known everywhere to begin with may have logged out nowhere.
        (ReplayIsRefused(), logged_out("before")(recognised("replay")(REPLAY)), INCONCLUSIVE, "only 0 people"),
        (ReplayIsRefused(), gone("replay-again")(REPLAY), INCONCLUSIVE, "only 0 people"),
        (ReplayIsRefused(), gone("leave")(REPLAY), INCONCLUSIVE, "nobody logged out"),
    ],
)
def test_an_id_is_its_owner_s_alone(checker: Checker, record: History, expected: str, said: str) -> None:
    """A cookie of before the log-in, and one of after the logout, is nobody's; only people who are known count."""
    verdict = checker.check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


def test_a_replay_is_told_by_where_it_was_accepted() -> None:
    """Whether the instance of the logout itself accepts it tells a logout that does nothing from copies elsewhere."""
    evidence = ReplayIsRefused().check(recognised("replay")(REPLAY)).evidence
    assert evidence["accepted_by"] == {"app-2": 24}
    assert evidence["accepted_on_others"] == 24
    assert evidence["accepted_on_logout_instance"] == 0


# -- from one instance to another ---------------------------------------------------------------------------------------

WRITES = history(
    [
        posted(f"v{place}", place, "write", via=taker, stream=f"from-{giver}")
        for place, (giver, taker) in enumerate(PAIRS)
    ]
)
LOG_INS = history(
    [
        each
        for kind in ("login", "detour")
        for place, (giver, taker) in enumerate(PAIRS)
        for each in (
            op(place, kind=kind, step=0, final=False, visitor=f"{kind}{place}", via=giver, stream=f"from-{giver}"),
            posted(
                f"{kind}{place}", place + 0.1, kind, step=1, final=False, via=taker, stream=f"from-{giver}", status=303
            ),
            op(
                place + 0.2,
                kind=kind,
                step=2,
                visitor=f"{kind}{place}",
                via=giver if giver == taker else next(app for app in APPS if app not in (giver, taker)),
                stream=f"from-{giver}",
            ),
        )
    ]
)


def ended(of: History, kind: str, step: int, pairs: Iterable[tuple[str, str]], **changes: Any) -> History:
    """These journeys of this kind ended at this step, with this answer."""
    given = {"outcome": Outcome.FAILED, "answer": Answer.REFUSED, "status": 403, "error": "http-403"} | changes
    visitors = (
        {f"{kind}{PAIRS.index(pair)}" for pair in pairs} if kind != "write" else {f"v{PAIRS.index(p)}" for p in pairs}
    )

    def change(old: Operation) -> Operation | None:
        if old.kind != kind or old.visitor not in visitors or old.step < step:
            return old
        return replace(old, final=True, **given) if old.step == step else None

    return doctored(of, change)


CROSSING = [pair for pair in PAIRS if pair[0] != pair[1]]
ALONE = [pair for pair in PAIRS if pair[0] == pair[1]]
OUT = {"answer": Answer.LOGGED_OUT, "status": 303, "error": "logged-out"}


def unregistered(of: History, *, outcome: Outcome = Outcome.UNKNOWN) -> History:
    """The person of the first pair of two got the page to register, and this came of their answer."""
    visitor = f"login{PAIRS.index(CROSSING[0])}"
    steps = [
        op(-0.2, kind="register", step=0, final=False, visitor=visitor, via="app-1", stream="arrive"),
        posted(visitor, -0.1, "register", step=1, via="app-1", stream="arrive", outcome=outcome),
    ]
    return history([*steps, *of.operations])


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (TokenIsAcceptedElsewhere(), WRITES, PASS, "6 of 6 tokens"),
        (TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, CROSSING), FAIL, "0 of 6 tokens"),
        (TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, CROSSING[:1]), FAIL, "1 refused (403 1 times)"),
        # Where sessions are not shared nobody gets as far as the token.
        (TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, CROSSING, **OUT), INCONCLUSIVE, "6 of 6 pairs"),
        # What not even its giver accepts says nothing of the others.
        (TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, PAIRS), INCONCLUSIVE, "6 of 6 pairs"),
        (TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, CROSSING, status=503), INCONCLUSIVE, "6 of 6 pairs"),
        (TokenIsAcceptedElsewhere(), EMPTY, INCONCLUSIVE, "0 of 0 pairs"),
        (LoginCrossesInstances(), LOG_INS, PASS, "12 of 12 log-ins"),
        (LoginCrossesInstances(), without(LOG_INS, lambda o: o.kind == "detour"), PASS, "journey.detour is not given"),
        (LoginCrossesInstances(), ended(LOG_INS, "detour", 1, CROSSING, status=400), FAIL, "6 of 12"),
        (LoginCrossesInstances(), ended(LOG_INS, "login", 1, CROSSING), FAIL, "6 of 12"),
        # A message for the next page that is lost on the way.
        (
            LoginCrossesInstances(),
            ended(LOG_INS, "detour", 2, CROSSING, status=200, error="wrong-body", answer=Answer.FAILED),
            FAIL,
            "6 of 12",
        ),
        (LoginCrossesInstances(), ended(LOG_INS, "login", 2, CROSSING, **OUT), INCONCLUSIVE, "6 of 12 pairs"),
        (LoginCrossesInstances(), ended(LOG_INS, "login", 1, ALONE), INCONCLUSIVE, "6 of 12 pairs"),
        (LoginCrossesInstances(), EMPTY, INCONCLUSIVE, "0 of 0 pairs"),
        # Who was not let register is nobody who could log in.
        (LoginCrossesInstances(), unregistered(ended(LOG_INS, "login", 1, CROSSING[:1])), INCONCLUSIVE, "1 of 12"),
        (LoginCrossesInstances(), unregistered(LOG_INS, outcome=Outcome.OK), PASS, "12 of 12"),
        (
            LoginCrossesInstances(),
            unregistered(ended(LOG_INS, "login", 1, CROSSING[:1]), outcome=Outcome.OK),
            FAIL,
            "11 of 12",
        ),
    ],
)
def test_what_one_instance_gave_is_good_for_another(
    checker: Checker, record: History, expected: str, said: str
) -> None:
    """A pair is broken when each can do it alone and not together; being taken for nobody is another promise's."""
    verdict = checker.check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


# -- the cookie, and the page -------------------------------------------------------------------------------------------


def cookies(**flags: Any) -> History:
    given = {"http_only": True, "secure": True, "same_site": "lax"} | flags
    plain = {"http_only": False, "secure": False, "same_site": ""}
    return history(
        looks=[
            *(look("cookie", "", value={"visitor": v, "name": "sid", **given}) for v in PEOPLE),
            *(look("cookie", "", value={"visitor": v, "name": "theme", **plain}) for v in PEOPLE),
            look("cookie-needed", "", value={"name": "sid", "with": ["recognised"], "without": ["logged-out"]}),
            look("cookie-needed", "", value={"name": "theme", "with": ["recognised"], "without": ["recognised"]}),
        ],
        setup={"tls": {"versions": ["1.3"]}},
    )


def known(count: int, *, of: int) -> Callable[[Look], Look]:
    """So many were recognised with any of the cookies, and nobody without."""
    answers = {"with": ["logged-out"] * (of - count) + ["recognised"] * count, "without": ["logged-out"] * of}
    return lambda old: replace(old, value=dict(old.value) | answers) if old.what == "cookie-needed" else old


BROWSING = history(
    [whoami(f"v{place % 12}", place * 0.01, instance=APPS[place % 3]) for place in range(90)]
    + [posted(f"v{place % 12}", 2 + place * 0.01, "write", via="balancer") for place in range(10)]
)


def strangers(instance: str | None) -> History:
    def change(old: Operation) -> Operation:
        if old.visitor != "v5" or old.kind != "whoami":
            return old
        return replace(old, answer=Answer.SOMEBODY_ELSE, outcome=Outcome.FAILED, error="wrong-user", instance=instance)

    return doctored(BROWSING, change)


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (CookieIsGuarded(), cookies(), PASS, "sid has HttpOnly, SameSite and Secure"),
        (CookieIsGuarded(), cookies(same_site="strict"), PASS, "sid has"),
        (CookieIsGuarded(), cookies(http_only=False), FAIL, "sid has no HttpOnly for 6 of 6 people"),
        (CookieIsGuarded(), cookies(same_site=""), FAIL, "no SameSite"),
        (CookieIsGuarded(), cookies(same_site="none"), FAIL, "no SameSite"),
        (CookieIsGuarded(), cookies(secure=False), FAIL, "no Secure"),
        (CookieIsGuarded(), replace(cookies(secure=False), setup={"tls": None}), PASS, "HttpOnly and SameSite for"),
        (
            CookieIsGuarded(),
            looks_changed(cookies(), lambda old: None if old.what == "cookie-needed" else old),
            INCONCLUSIVE,
            "no cookie was seen",
        ),
        # Where hardly anybody is known, it is chance that nobody is without this one; where every third is, it is not.
        (
            CookieIsGuarded(),
            looks_changed(cookies(http_only=False), known(1, of=27)),
            INCONCLUSIVE,
            "no cookie was seen",
        ),
        (CookieIsGuarded(), looks_changed(cookies(http_only=False), known(9, of=27)), FAIL, "sid has no HttpOnly"),
        (CookieIsGuarded(), EMPTY, INCONCLUSIVE, "no cookie was seen"),
        (NobodyElsesPage(), BROWSING, PASS, "100 pages for 12 people"),
        (NobodyElsesPage(), strangers("app-1"), FAIL, "shown to 1 person"),
        (NobodyElsesPage(), strangers(None), FAIL, "shown to 1 person"),
        (NobodyElsesPage(), without(BROWSING, lambda o: o.due > 0.3), INCONCLUSIVE, "only 31 pages"),
        (NobodyElsesPage(), doctored(BROWSING, lambda o: replace(o, visitor="v1")), INCONCLUSIVE, "only 1 person"),
        (NobodyElsesPage(), EMPTY, INCONCLUSIVE, "only 0 pages"),
    ],
)
def test_cookies_are_guarded_and_pages_are_one_s_own(
    checker: Checker, record: History, expected: str, said: str
) -> None:
    """Only the cookie that makes the session counts; one page of somebody else is one too many."""
    verdict = checker.check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


def test_pages_of_somebody_else_are_told_by_who_gave_them() -> None:
    """An answer that no instance made is the balancer's own."""
    assert set(NobodyElsesPage().check(strangers(None)).evidence["by"]) == {"(nobody)"}
    assert set(NobodyElsesPage().check(strangers("app-2")).evidence["by"]) == {"app-2"}


# -- time and trouble ---------------------------------------------------------------------------------------------------


def life(*, uses: Sequence[float] = (0.5, 1, 1.5, 2, 2.5, 3, 3.5), alone: float = 3.6) -> History:
    """On each instance one session is used again and again, and one left alone; they live 2 s."""
    ops = []
    for app in APPS:
        used, idle = f"used-{app}", f"idle-{app}"
        ops += [login(used, 0.0, via=app), login(idle, 0.0, via=app)]
        ops += [whoami(used, due, via=app, stream="used") for due in uses]
        ops.append(whoami(idle, alone, via="app-1", stream="idle", answer=Answer.LOGGED_OUT))
    return history(ops, setup={"session_ttl_seconds": 2})


def thrown_out_from(due: float, *, at: str | None = None) -> Change:
    def change(old: Operation) -> Operation:
        if old.stream != "used" or old.due < due or (at is not None and old.via != at):
            return old
        return replace(old, answer=Answer.LOGGED_OUT, outcome=Outcome.FAILED, error="logged-out")

    return lambda of: doctored(of, change)


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (life(), PASS, "3 sessions in use went on"),
        (thrown_out_from(2.0)(life()), FAIL, "3 people logged out although used within 2 s"),
        (thrown_out_from(1.0, at="app-2")(life()), FAIL, "logged in on app-2"),
        (recognised("idle", of="idle-app-3")(life()), FAIL, "1 person still logged in after more than 2 s alone"),
        # A machine that was too busy to come in time has not shown anything.
        (thrown_out_from(3.0)(life(uses=(0.5, 3.0))), INCONCLUSIVE, "nobody who had logged in on app-1"),
        (life(uses=(0.5, 1.0)), INCONCLUSIVE, "nobody who had logged in on app-1 could be seen to go on"),
        (recognised("idle")(life(alone=2.5)), INCONCLUSIVE, "be logged out in the end"),
        (without(life(), lambda o: o.via == "app-2"), INCONCLUSIVE, "app-2"),
        (replace(life(), setup={}), INCONCLUSIVE, "nobody says"),
    ],
)
def test_a_life_is_as_long_as_it_is_said_to_be(record: History, expected: str, said: str) -> None:
    """What is used in time goes on, what is left alone ends; what was asked too late, or too early, was not tested."""
    verdict = LifeIsKept().check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


GIVEN_UP = history(
    [
        each
        for place, person in enumerate(PEOPLE)
        for each in (
            login(person, place),
            *(whoami(person, place + 0.1, via=app, stream="before") for app in APPS),
            failed(
                10 + place,
                visitor=person,
                error="given-up",
                stream="given-up",
                kind="counter" if place % 2 else "whoami",
                method="POST",
                attempts=(),
            ),
            *(whoami(person, 20 + place, via=app, stream="after") for app in APPS),
        )
    ],
    looks=[look("cookies-renewed", "", value={"journey": "counter", "renewed": 2, "of": 2})],
)

OVERLOADED = history(
    [
        each
        for place, person in enumerate(PEOPLE)
        for each in (
            login(person, place, via="app-1"),
            whoami(person, place + 0.1, via="app-1", stream="before"),
            whoami(
                person,
                10 + place,
                via="app-1",
                stream="overload",
                answer=Answer.OVERLOADED,
                status=503,
                error="http-503",
            ),
            whoami(person, 20 + place, via="app-1", stream="after"),
        )
    ]
)


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (GivingUpCostsNothing(), GIVEN_UP, PASS, "6 of 6 people still logged in"),
        (GivingUpCostsNothing(), logged_out("after", of="v2")(GIVEN_UP), FAIL, "1 of 6 people logged out"),
        # Who was not known everywhere before has lost nothing by it.
        (
            GivingUpCostsNothing(),
            logged_out("before", of="v2")(logged_out("after", of="v2")(GIVEN_UP)),
            PASS,
            "5 of 5 people",
        ),
        (GivingUpCostsNothing(), logged_out("before")(GIVEN_UP), INCONCLUSIVE, "only 0 people"),
        # An answer that came in time was not given up.
        (
            GivingUpCostsNothing(),
            doctored(GIVEN_UP, lambda o: replace(o, error=None) if o.stream == "given-up" else o),
            INCONCLUSIVE,
            "only 0 people",
        ),
        (GivingUpCostsNothing(), without(GIVEN_UP, lambda o: o.stream == "after"), INCONCLUSIVE, "only 0 people"),
        (GivingUpCostsNothing(), EMPTY, INCONCLUSIVE, "only 0 people"),
        (OverloadIsNoLogout(), OVERLOADED, PASS, "6 people were told"),
        (OverloadIsNoLogout(), logged_out("after", of="v1")(OVERLOADED), FAIL, "0 in it, 1 after it"),
        (OverloadIsNoLogout(), logged_out("overload", of="v1")(OVERLOADED), FAIL, "1 in it, 0 after it"),
        (
            OverloadIsNoLogout(),
            doctored(OVERLOADED, lambda o: replace(o, answer=Answer.FAILED) if o.stream == "overload" else o),
            PASS,
            "6 people were told",
        ),
        (OverloadIsNoLogout(), recognised("overload")(OVERLOADED), INCONCLUSIVE, "nobody was told"),
        (OverloadIsNoLogout(), without(OVERLOADED, lambda o: o.stream == "after"), INCONCLUSIVE, "only 0 people"),
        (OverloadIsNoLogout(), logged_out("before")(OVERLOADED), INCONCLUSIVE, "nobody was told"),
        (OverloadIsNoLogout(), EMPTY, INCONCLUSIVE, "nobody was told"),
    ],
)
def test_trouble_costs_nobody_their_session(checker: Checker, record: History, expected: str, said: str) -> None:
    """Whoever was known before and met the trouble is known afterwards; who did not meet it was not tested."""
    verdict = checker.check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


def test_what_was_given_up_is_told_apart() -> None:
    """Which kind of request cost a session, beside whose cookie it changes, is what the cause follows from."""
    evidence = GivingUpCostsNothing().check(logged_out("after", of="v2")(GIVEN_UP)).evidence
    assert evidence["by_journey"] == {"whoami": {"people": 3, "lost": 0}, "counter": {"people": 3, "lost": 1}}
    assert evidence["renewed"] == {"counter": 2}
