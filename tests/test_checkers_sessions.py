"""Do people stay logged in, and do they stay logged out?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checkers import LogoutHoldsEverywhere, NoSessionLost, SessionOnEveryInstance, SessionsSurviveRestart
from harness.model import Answer, FaultWindow, History, Operation, Outcome
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
    logout,
    op,
    status_of,
    step,
    whoami,
    without,
)

Change = Callable[[Operation], Operation | None]


def answered(old: Operation, answer: Answer) -> Operation:
    """The same request, answered otherwise."""
    return whoami(
        old.visitor, old.due, via=old.via, instance=old.instance, stream=old.stream, answer=answer, step=old.step
    )


def where(condition: Callable[[Operation], bool], answer: Answer) -> Change:
    """Look-ups that meet a condition are answered otherwise."""
    return lambda o: answered(o, answer) if o.kind == "whoami" and condition(o) else o


# -- recognised by every instance -------------------------------------------------------------------------------


def everywhere(each: int = 5, through_balancer: int = 45) -> History:
    """`each` people log in on each instance and are asked on each, then everybody visits through the balancer."""
    made, now = [], 0.0
    homes = {f"v{app}-{i}": app for app in APPS for i in range(each)} | {
        f"b{i}": "balancer" for i in range(through_balancer)
    }
    for i, (visitor, home) in enumerate(homes.items()):
        now += 0.1
        made.append(login(visitor, now, via=home, instance=APPS[i % 3] if home == "balancer" else home))
    for app in APPS:
        for visitor in homes:
            now += 0.02
            made.append(whoami(visitor, now, via=app, stream="matrix"))
    for turn in range(6):
        for i, visitor in enumerate(homes):
            now += 0.02
            made.append(whoami(visitor, now, instance=APPS[(i + turn) % 3]))
    return history(made)


EVERYWHERE = everywhere()


def away(o: Operation) -> bool:
    """Asked on an instance on which the person had not logged in."""
    home = o.visitor[1:6] if o.visitor.startswith("v") else APPS[int(o.visitor[1:]) % 3]
    return o.instance != home


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (EVERYWHERE, PASS, "9 of 9 pairs, 60 visitors, 540 visits"),
        (doctored(EVERYWHERE, where(away, Answer.LOGGED_OUT)), FAIL, "3 of 9 pairs"),
        (
            doctored(EVERYWHERE, where(lambda o: o.stream == "visits" and o.visitor == "b7", Answer.LOGGED_OUT)),
            FAIL,
            "6 answered as logged out",
        ),
        (
            doctored(EVERYWHERE, where(lambda o: o.visitor == "b3" and o.via == "app-2", Answer.SOMEBODY_ELSE)),
            FAIL,
            "1 shown somebody else's page",
        ),
        # Errors are no answers: nobody is logged out by them, and a pair without answers was not tested.
        (
            doctored(EVERYWHERE, lambda o: failed(o.due, via=o.via, visitor=o.visitor) if o.via == "app-3" else o),
            INCONCLUSIVE,
            "pairs had fewer than 3 proper answers",
        ),
        (without(EVERYWHERE, lambda o: o.visitor.startswith("vapp-1") and o.via == "app-2"), PASS, "9 of 9"),
        (without(EVERYWHERE, lambda o: o.via == "app-2" and o.kind == "whoami"), INCONCLUSIVE, "6 of 9 pairs"),
        (without(EVERYWHERE, lambda o: o.kind == "login" and o.via == "app-1"), PASS, "9 of 9"),
        (everywhere(each=2, through_balancer=0), INCONCLUSIVE, "0 of 9 pairs"),
        (without(EVERYWHERE, lambda o: o.stream == "visits"), INCONCLUSIVE, "only 0 visits through the balancer"),
        (without(EVERYWHERE, lambda o: o.kind == "login"), INCONCLUSIVE, "0 of 9 pairs"),
        # A login that was not acknowledged promises nothing.
        (
            doctored(EVERYWHERE, lambda o: replace(o, outcome=Outcome.UNKNOWN) if o.kind == "login" else o),
            INCONCLUSIVE,
            "0 of 9 pairs",
        ),
    ],
)
def test_session_on_every_instance(record: History, expected: str, said: str) -> None:
    """All ordered pairs and every visit, or it is not so."""
    verdict = SessionOnEveryInstance().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_the_matrix_tells_home_from_away() -> None:
    """What a diagnosis reads: recognised at home, nowhere else."""
    evidence = SessionOnEveryInstance().check(doctored(EVERYWHERE, where(away, Answer.LOGGED_OUT))).evidence
    assert evidence["matrix"]["app-1"]["app-1"]["recognised"] == evidence["matrix"]["app-1"]["app-1"]["asked"] == 20
    assert evidence["matrix"]["app-1"]["app-2"]["logged_out"] == 20
    assert evidence["same_instance"]["recognised"] == evidence["same_instance"]["asked"]
    assert evidence["other_instances"]["recognised"] == 0
    assert len(evidence["examples"]) == 5


def test_only_the_latest_login_counts() -> None:
    """Whoever logs in again has another session; what was asked meanwhile belongs to neither."""
    made = [
        login("v", 0.0, via="app-1"),
        login("v", 5.0, via="app-2", latency=1.0),
        whoami("v", 5.5, via="app-3", answer=Answer.LOGGED_OUT),
        whoami("v", 7.0, via="app-3"),
    ]
    evidence = SessionOnEveryInstance().check(history(made)).evidence
    assert evidence["matrix"] == {
        "app-2": {"app-3": {"asked": 1, "recognised": 1, "logged_out": 0, "somebody_else": 0, "failed": 0}}
    }


# -- survives the loss of an instance ---------------------------------------------------------------------------


def browsing(faults: list[FaultWindow] | None = None, *, people: int = 20) -> History:
    """People log in on app-1, browse for ten seconds through the balancer, and visit once more at the end."""
    made = [login(f"v{i}", 0.01 * i, via="app-1") for i in range(people)]
    for i in range(1000):
        due = 0.5 + i / 100
        lost = 1.0 <= due < 5.5
        made.append(whoami(f"v{i % people}", due, instance=APPS[1 + i % 2] if lost else APPS[i % 3], stream="browse"))
    made += [whoami(f"v{i}", 11 + i / 100, instance=APPS[i % 3], stream="after") for i in range(people)]
    return history(made, faults=faults if faults is not None else [fault()])


LOST = browsing()


def from_the_fault(o: Operation) -> bool:
    return o.due > 1.02


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (LOST, PASS, "20 of 20 people stayed logged in when app-1 was killed"),
        (browsing([fault("hang")]), PASS, "when app-1 was frozen"),
        (browsing([fault("cut-off-silence")]), PASS, "when app-1 was cut off in silence"),
        (
            doctored(LOST, where(lambda o: from_the_fault(o) and int(o.visitor[1:]) < 14, Answer.LOGGED_OUT)),
            FAIL,
            "14 of 20 people logged out when app-1 was killed",
        ),
        # Once is enough, also when it is well again later.
        (doctored(LOST, where(lambda o: o.due == 2.0, Answer.LOGGED_OUT)), FAIL, "1 of 20 people"),
        (doctored(LOST, where(lambda o: o.stream == "after", Answer.SOMEBODY_ELSE)), FAIL, "20 of 20 people"),
        # Logged out before the fault and never after it is another promise's business.
        (doctored(LOST, where(lambda o: o.due < 0.9, Answer.LOGGED_OUT)), PASS, "20 of 20"),
        # Nobody used them after the heal.
        (without(LOST, lambda o: o.due >= 5.5), INCONCLUSIVE, "20 of 20 sessions were not used afterwards"),
        (without(LOST, lambda o: o.due > 5.5 and o.visitor == "v3"), INCONCLUSIVE, "1 of 20 sessions"),
        # Errors are no answers.
        (doctored(LOST, lambda o: failed(o.due, visitor=o.visitor) if o.due > 5.5 else o), INCONCLUSIVE, "not used"),
        (browsing([fault(effective=None)]), INCONCLUSIVE, "had no effect"),
        (browsing([fault(healed=None)]), INCONCLUSIVE, "never came back"),
        (browsing([fault(node="app-2")]), INCONCLUSIVE, "only 0 people had logged in on app-2"),
        (browsing(people=5), INCONCLUSIVE, "only 5 people had logged in"),
        (browsing([]), INCONCLUSIVE, "no fault was injected"),
        (without(LOST, lambda o: o.kind == "login"), INCONCLUSIVE, "only 0 people"),
    ],
)
def test_no_session_lost_when_an_instance_is(record: History, expected: str, said: str) -> None:
    """Every acknowledged login works after the heal, and never stopped working."""
    verdict = NoSessionLost().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_the_evidence_of_lost_sessions() -> None:
    """Where they began, who refused them, when, and whether that instance had been started again."""
    record = doctored(LOST, where(lambda o: o.instance == "app-1" and o.due > 5.5, Answer.LOGGED_OUT))
    evidence = NoSessionLost().check(record).evidence
    assert evidence["lost_by_home"] == {"app-1": {"promised": 20, "lost": 20}}
    assert evidence["lost_matrix"] == {"app-1": {"app-1": 20}}
    assert set(evidence["said_by"]) == {"app-1"}
    assert evidence["said_by_replaced"] == evidence["said_by"]["app-1"]
    assert evidence["said_while"]["during"] == 0
    assert evidence["first_lost_seconds"] == pytest.approx(4.5, abs=0.1)
    assert evidence["since_start_seconds"]["app-1"] == pytest.approx(0.5, abs=0.1)
    assert evidence["logged_out_before"] == 0
    assert evidence["victims"] == ["app-1"]


def test_a_write_sent_to_the_login_page_is_a_lost_session() -> None:
    """Whatever people did when they were sent away: they were logged in."""
    refused = op(
        2.0,
        visitor="v3",
        kind="write",
        method="POST",
        answer=Answer.LOGGED_OUT,
        outcome=Outcome.FAILED,
        instance="app-2",
    )
    verdict = NoSessionLost().check(history([*LOST.operations, refused], faults=[fault()]))
    assert status_of(verdict) == FAIL


def test_whoever_logged_out_has_no_session_to_lose() -> None:
    """Being logged out after a logout is as it should be; so is being logged in again."""
    out = [logout("v3", 2.001, via="app-2")]
    made = [answered(o, Answer.LOGGED_OUT) if o.visitor == "v3" and o.due > 2.1 else o for o in LOST.operations]
    verdict = NoSessionLost().check(history([*made, *out], faults=[fault()]))
    assert status_of(verdict) == PASS
    assert verdict.evidence["promised"] == 19


def rolled(**changes: object) -> History:
    """The same browsing, while a rollout replaces everything."""
    steps = [step("begin", "", 1.0), step("ready", "app-1", 2.0), step("ready", "app-2", 4.0), step("end", "", 6.0)]
    return replace(browsing([]), rollout=tuple(changes.get("steps", steps)))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("record", "after", "expected", "said"),
    [
        (rolled(), None, PASS, "stayed logged in during the rollout"),
        (rolled(), "rollout", PASS, "during the rollout"),
        (rolled(), "heal", INCONCLUSIVE, "no fault"),
        (LOST, "rollout", INCONCLUSIVE, "no rollout"),
        (rolled(steps=[step("begin", "", 1.0)]), None, INCONCLUSIVE, "did not come to its end"),
        (doctored(rolled(), where(lambda o: o.due > 3, Answer.LOGGED_OUT)), None, FAIL, "20 of 20 people"),
        (without(rolled(), lambda o: o.due > 6), None, INCONCLUSIVE, "not used afterwards"),
    ],
)
def test_no_session_lost_in_a_rollout(record: History, after: str | None, expected: str, said: str) -> None:
    """The same promise while a new version is rolled out."""
    verdict = NoSessionLost(after=after).check(record)  # type: ignore[arg-type]
    assert status_of(verdict) == expected
    assert said in verdict.measured


# -- survives a restart -----------------------------------------------------------------------------------------


def restarted(each: int = 3) -> History:
    """People log in on each instance and are asked everywhere before and after all instances restart."""
    homes = {f"v{app}-{i}": app for app in APPS for i in range(each)}
    made = [login(visitor, i / 10, via=app) for i, (visitor, app) in enumerate(homes.items())]
    made += [whoami(v, 2 + i / 50, via=app, stream="before") for app in APPS for i, v in enumerate(homes)]
    made += [whoami(v, 8 + i / 50, via=app, stream="after") for app in APPS for i, v in enumerate(homes)]
    stop = [fault("restart", app, injected=4.0, effective=4.5, healing=4.5, healed=6.0) for app in APPS]
    return history(made, faults=stop)


RESTARTED = restarted()


def home_of(o: Operation) -> str:
    return o.visitor[1:6]


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (RESTARTED, PASS, "27 of 27 sessions known again after the restart, 9 visitors"),
        (doctored(RESTARTED, where(lambda o: o.stream == "after", Answer.LOGGED_OUT)), FAIL, "9 of 9 people"),
        (doctored(RESTARTED, where(lambda o: o.stream == "after", Answer.SOMEBODY_ELSE)), FAIL, "9 of 9 people"),
        # What never worked is not lost: each instance knows only its own sessions, and still does.
        (doctored(RESTARTED, where(lambda o: o.via != home_of(o), Answer.LOGGED_OUT)), PASS, "9 of 9 sessions"),
        # In memory: known at home before, nowhere after.
        (
            doctored(RESTARTED, where(lambda o: o.stream == "after" or o.via != home_of(o), Answer.LOGGED_OUT)),
            FAIL,
            "9 of 9 people",
        ),
        (
            doctored(RESTARTED, where(lambda o: o.stream == "before", Answer.LOGGED_OUT)),
            INCONCLUSIVE,
            "app-1 had recognised only 0 sessions before",
        ),
        (without(RESTARTED, lambda o: o.stream == "after" and o.via == "app-2"), INCONCLUSIVE, "app-2 was asked about"),
        (replace(RESTARTED, faults=()), INCONCLUSIVE, "no instance was restarted"),
        (replace(RESTARTED, faults=RESTARTED.faults[:2]), INCONCLUSIVE, "app-3 was not restarted"),
        (
            replace(RESTARTED, faults=tuple(replace(f, effective=None) for f in RESTARTED.faults)),
            INCONCLUSIVE,
            "no inst",
        ),
        # "before" was in truth asked after the restart.
        (
            replace(RESTARTED, faults=tuple(replace(f, injected=1.0) for f in RESTARTED.faults)),
            INCONCLUSIVE,
            "had recognised only 0",
        ),
        (restarted(each=0), INCONCLUSIVE, "had recognised only 0"),
    ],
)
def test_sessions_survive_a_restart(record: History, expected: str, said: str) -> None:
    """Only pairs known before count, and each of them must be known again."""
    verdict = SessionsSurviveRestart().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_a_rollout_marks_a_restart_too() -> None:
    """Steps `stopped` and `ready` say the same as a fault window."""
    steps = [step(name, app, at) for app in APPS for name, at in (("stopped", 4.0), ("ready", 6.0))]
    record = replace(RESTARTED, faults=(), rollout=tuple(steps))
    assert status_of(SessionsSurviveRestart().check(record)) == PASS


# -- logout -----------------------------------------------------------------------------------------------------


def logged_out(each: int = 3) -> History:
    """People are known everywhere, log out at home, and their copied cookie is shown everywhere."""
    homes = {f"v{app}-{i}": app for app in APPS for i in range(each)}
    made = [login(visitor, i / 10, via=app) for i, (visitor, app) in enumerate(homes.items())]
    made += [whoami(v, 2 + i / 50, via=app, stream="before") for app in APPS for i, v in enumerate(homes)]
    made += [logout(v, 4 + i / 10, via=home) for i, (v, home) in enumerate(homes.items())]
    made += [
        whoami(v, 6 + i / 50, via=app, stream="replay", answer=Answer.LOGGED_OUT)
        for app in APPS
        for i, v in enumerate(homes)
    ]
    return history(made)


OUT = logged_out()


def replayed(condition: Callable[[Operation], bool] = lambda o: True, answer: Answer = Answer.RECOGNISED) -> History:
    """The copy is accepted where the condition holds."""
    return doctored(OUT, where(lambda o: o.stream == "replay" and condition(o), answer))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (OUT, PASS, "9 of 9 people logged out on all 3 instances"),
        (replayed(), FAIL, "9 of 9 people still accepted by app-1, app-2 and app-3"),
        (replayed(lambda o: o.via != home_of(o)), FAIL, "9 of 9 people still accepted"),
        (
            replayed(lambda o: o.via == "app-2" and o.visitor == "vapp-1-0"),
            FAIL,
            "1 of 9 people still accepted by app-2",
        ),
        (replayed(answer=Answer.SOMEBODY_ELSE), FAIL, "still accepted"),
        # Known at home only: being refused elsewhere proves nothing.
        (
            doctored(OUT, where(lambda o: o.stream == "before" and o.via != home_of(o), Answer.LOGGED_OUT)),
            INCONCLUSIVE,
            "9 of 9 sessions: only ever accepted by one instance",
        ),
        (
            doctored(OUT, where(lambda o: o.stream == "before", Answer.LOGGED_OUT)),
            INCONCLUSIVE,
            "never accepted by any instance",
        ),
        (
            without(OUT, lambda o: o.stream == "replay" and o.via == "app-3"),
            INCONCLUSIVE,
            "not shown to every instance",
        ),
        (
            doctored(OUT, lambda o: failed(o.due, via=o.via, visitor=o.visitor) if o.stream == "replay" else o),
            INCONCLUSIVE,
            "not shown to every instance",
        ),
        # Not acknowledged: nobody was promised anything.
        (
            doctored(OUT, lambda o: replace(o, outcome=Outcome.UNKNOWN) if o.kind == "logout" else o),
            INCONCLUSIVE,
            "nobody logged out",
        ),
        (without(OUT, lambda o: not o.visitor.endswith("-0")), PASS, "3 of 3 people"),
        (without(OUT, lambda o: o.visitor not in ("vapp-1-0", "vapp-2-0")), INCONCLUSIVE, "only 2 people logged out"),
    ],
)
def test_logout_holds_everywhere(record: History, expected: str, said: str) -> None:
    """A copy of the cookie is worth nothing anywhere once its owner has left."""
    verdict = LogoutHoldsEverywhere().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_the_evidence_tells_a_cookie_from_a_cache() -> None:
    """Accepted where the logout happened, or only elsewhere: two different mistakes."""
    cookie_only = LogoutHoldsEverywhere().check(replayed()).evidence
    cached = LogoutHoldsEverywhere().check(replayed(lambda o: o.via != home_of(o))).evidence
    assert (cookie_only["accepted_on_logout_instance"], cookie_only["accepted_on_others"]) == (9, 18)
    assert (cached["accepted_on_logout_instance"], cached["accepted_on_others"]) == (0, 18)
    assert cookie_only["first_accepted_seconds"] > 0


def test_logging_in_again_is_allowed() -> None:
    """After a new login people are recognised again, and rightly so."""
    back = [login("vapp-1-0", 9.0, via="app-1"), whoami("vapp-1-0", 9.5, via="app-2")]
    assert status_of(LogoutHoldsEverywhere().check(history([*OUT.operations, *back]))) == PASS
