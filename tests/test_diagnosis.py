"""From what was seen to why: each cause is named for its own symptoms, and for no other's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.checkers import (
    BootsTogether,
    ChangesSurvive,
    ClientAddressIsTrue,
    CookieIsGuarded,
    ErrorsHaveStatus,
    EverybodyHears,
    FilesAreEverywhere,
    ForgeriesAreNotBelieved,
    GivingUpCostsNothing,
    HeadersAreEverywhere,
    HttpIsSentToHttps,
    IdleConnectionsAreKept,
    JobsGoOn,
    JobsRunOnce,
    KeyActsOnce,
    LifeIsKept,
    LimitIsShared,
    LoginCrossesInstances,
    NamesAreUnique,
    NobodyElsesPage,
    NumbersAreUnique,
    OldIdIsNobody,
    OnlySecureVersions,
    OverloadIsNoLogout,
    ReadyIsTruthful,
    ReplayIsRefused,
    SchemeIsKnown,
    SettingsReachEveryInstance,
    StepsAreCounted,
    TallyLosesNothing,
    TokenIsAcceptedElsewhere,
    registry,
)
from harness.diagnosis import RULES, Case, diagnose
from harness.door import REFERENCE
from harness.layouts import Choice
from harness.model import Answer, Finding, History, Look, Status, Verdict
from harness.setup import load_setup
from harness.verification import Verification
from tests import test_checkers_balancing as balancing
from tests import test_checkers_deploy as deploys
from tests import test_checkers_mixing as mixing
from tests import test_checkers_replacing as replacing
from tests import test_checkers_shutdown as stops
from tests import test_checkers_state as state
from tests import test_checkers_upstream as upstream
from tests.checker_histories import APPS, doctored, failed, fault, logout, look, whoami
from tests.test_checkers_edge import BOTH, FORGED, TLS, answer, answers, by_all, handshake, redirect, versions
from tests.test_checkers_orchestrator import BAD, HEALED, SCALED
from tests.test_checkers_rollout import ROLLED
from tests.test_checkers_session_life import (
    CHANGES,
    CROSSING,
    FIXATION,
    GIVEN_UP,
    LOG_INS,
    OVERLOADED,
    REPLAY,
    WRITES,
    cookies,
    counts,
    ended,
    life,
    logged_out,
    looks_changed,
    not_found,
    recognised,
    strangers,
    thrown_out_from,
)
from tests.test_checkers_sessions import LOST

CHECKOUT = Path(__file__).parents[1]
Evidence = dict[str, Any]

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"


@dataclass(frozen=True)
class Row:
    """One broken promise and what else was seen, with the causes that must be named: those, and no other."""

    what: str
    seen: Evidence
    causes: Mapping[str, str]
    also: Sequence[Evidence] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    looks: Sequence[Look] = ()
    told: str = ""
    """Part of the first cause's evidence."""
    against: str = ""

    def findings(self, status: Status = Status.FAIL) -> list[Finding]:
        made = [Finding(promise="judged", scenario="s", verdict=Verdict(status, "seen", self.seen))]
        return made + [Finding(promise="other", scenario="s", verdict=Verdict.passed("", **each)) for each in self.also]

    def diagnosed(self, status: Status = Status.FAIL) -> Finding:
        facts = {"session_store": "redis", "rollout": "rolling", "drain": "balancer-first"} | dict(self.facts)
        return diagnose(self.findings(status), facts=facts, looks=self.looks)[0]


# -- evidence, in the form checkers give it -----------------------------------------------------------------------


def matrix(recognises: Callable[[str, str], bool]) -> Evidence:
    """Who was recognised where: ten people from each instance, asked on each."""

    def cell(yes: bool) -> Evidence:
        return {
            "asked": 10,
            "recognised": 10 * yes,
            "logged_out": 10 * (not yes),
            "somebody_else": 0,
            "failed": 0,
        }

    return {home: {asked: cell(recognises(home, asked)) for asked in APPS} for home in APPS}


def everywhere(recognises: Callable[[str, str], bool]) -> Evidence:
    cells = matrix(recognises)
    lost = sum(cell["logged_out"] for row in cells.values() for cell in row.values())
    return {"SessionOnEveryInstance": {"matrix": cells, "balancer_matrix": {}, "logged_out": lost}}


AT_HOME = everywhere(lambda home, asked: home == asked)
SHARED = everywhere(lambda home, asked: True)
ONE_APART = everywhere(lambda home, asked: (home == "app-3") == (asked == "app-3"))


def agree(**groups: Sequence[str]) -> Evidence:
    """What instances told: `config="aab"` means that app-3 told something else."""
    told = {
        key: {value: [a for a, v in zip(APPS, values, strict=True) if v == value] for value in values}
        for key, values in groups.items()
    }
    differing = [key for key, by_value in told.items() if len(by_value) > 1]
    return {"InstancesAgree": {"compared": list(told), "differing": differing, "groups": told}}


def logins(*stored: float) -> list[Look]:
    """Twenty people logged in on each instance; this share of them left a session in the shared store."""
    return [
        look("sessions-stored", app, value={"before": 5, "after": 5 + round(20 * share), "logins": 20})
        for app, share in zip(APPS, stored, strict=True)
    ]


STORED, TRACELESS = logins(1, 1, 1), logins(0, 0, 0)
UNSEEN = [look("sessions-stored", app, value={"before": None, "after": None, "logins": 20}) for app in APPS]


def left(sessions: int | None) -> Look:
    return look("sessions-left", "", value={"sessions": sessions})


def at_logout(before: int | None, after: int | None) -> Look:
    return look("sessions-at-logout", "", value={"before": before, "after": after, "logouts": 9})


def restart(*, lost: int, kept: int) -> Evidence:
    return {"SessionsSurviveRestart": {"pairs_lost": lost, "pairs_kept": kept}}


def lost(**changes: Any) -> Evidence:
    """All sessions void, since app-1 was started again."""
    return {
        "promised": 20,
        "lost": 20,
        "survived": 0,
        "logged_out_before": 0,
        "lost_before_start": 0,
        "lost_matrix": {"app-1": {"app-2": 20}},
        "since_start_seconds": {"app-1": 0.1},
        "matrix": {},
    } | changes


def replay(*, home: int, others: int) -> Evidence:
    seen = {"accepted": 9, "accepted_on_logout_instance": home, "accepted_on_others": others}
    return {"LogoutHoldsEverywhere": seen}


def rejoins(**changes: Any) -> Evidence:
    seen = {
        "fault": "kill",
        "victim": "app-1",
        "failed": 56,
        "failed_before_ready": 0,
        "errors": {"http-500": 56},
        "failed_attempts": {"app-1": 56},
        "last_failure_seconds": 2.9,
        "rejoin_seconds": 3.0,
        "watched_seconds": 4.0,
        "answers": 40,
        "requests": 400,
        "tried_at_victim": 96,
    }
    return {"VictimRejoins": seen | changes}


def rollout(**changes: Any) -> Evidence:
    """Healthy, but for what is changed."""
    seen = {
        "failed": 0,
        "errors": {},
        "cut": 0,
        "failed_by_step": {},
        "failed_on_new": 0,
        "failed_on_new_within_seconds": None,
        "failed_on_new_after_success": 0,
        "longest_gap_seconds": 0.01,
        "min_available": 2,
        "sessions": {"lost": 0, "matrix": {}},
    }
    return {"RolloutCostsNothing": seen | changes}


NEW_FAIL = {"failed": 60, "errors": {"http-500": 60}, "failed_on_new": 60, "failed_on_new_within_seconds": 2.9}


def leaving(**steps: int) -> Evidence:
    by_step = {f"app-1 {name}": count for name, count in steps.items()}
    total = sum(steps.values())
    return rollout(failed=total, errors={"http-502": total}, failed_by_step=by_step)


def in_flight(*, cut: int = 5, stop_seconds: float | None = 0.02, code: int = 0) -> Evidence:
    return {
        "InFlightFinishes": {
            "victim": "app-2",
            "in_flight": 5,
            "cut": cut,
            "errors": {"closed": cut},
            "stop_seconds": stop_seconds,
            "proof": f"the process ended with exit code {code}",
        }
    }


def loss(fault: str = "kill", **changes: Any) -> Evidence:
    seen = {
        "fault": fault,
        "victim": "app-1",
        "failed": 0,
        "failed_by_method": {"idempotent": 0, "write": 0},
        "failed_attempts": {},
        "retried": 0,
        "broken": [],
        "tried_at_victim": 133,
        "tried_share": 0.3325,
        "tried_late": 100,
        "detect_seconds": None,
    }
    return {"RequestsSurviveLoss": seen | changes}


def moved(answers: int = 0, tried: int = 7, **strangers: int) -> Evidence:
    """Ready under its new address, and tried at the old one."""
    rejoin = rejoins(
        fault="new-address",
        failed=0,
        errors={},
        failed_attempts={},
        rejoin_seconds=None if not answers else 0.9,
        watched_seconds=12.2,
        answers=answers,
        tried_at_victim=tried,
    )
    told = {name.replace("_", "-"): count for name, count in strangers.items()}
    return rejoin | {"NobodyElseAnswers": {"fault": "new-address", "strangers": told}}


def not_retried(fault: str = "kill", **changes: Any) -> Evidence:
    given = {"failed": 3, "failed_by_method": {"idempotent": 2, "write": 1}, "failed_attempts": {"app-1": 3}}
    return loss(fault, **given | {"broken": ["failed-requests"]} | changes)


def health(**status: int | None) -> Evidence:
    by_instance = {name.replace("_", "-"): {"status": code} for name, code in status.items()}
    return {"EveryInstanceAnswers": {"by_instance": by_instance}}


ALIVE = health(app_1=200, app_2=204, app_3=200)
NOTHING_FOR_3 = {"EveryInstanceGetsTraffic": {"missing": ["app-3"]}}
UNEVEN = {"SharesFitTheAlgorithm": {"counts": {"app-1": 360, "app-2": 360, "app-3": 0}}}
TWO = {"pool": ["app-1", "app-2"]}
ALL = {"pool": list(APPS)}

SESSIONS = [
    Row(
        "in memory: known at home alone, no trace in the store",
        AT_HOME,
        {"session-in-memory": CERTAIN},
        looks=TRACELESS,
        told="no key appeared in Redis at login",
    ),
    Row(
        "in memory: each instance names a store of its own, and a restart loses all",
        restart(lost=9, kept=0),
        {"session-in-memory": CERTAIN},
        also=[AT_HOME, agree(session_store="abc", config="aaa")],
        looks=TRACELESS,
    ),
    Row(
        "in memory, as the setup file says itself",
        AT_HOME,
        {"session-in-memory": LIKELY},
        facts={"session_store": "memory"},
        told='sessions.store is "memory"',
    ),
    Row(
        "in memory of app-3 only",
        ONE_APART,
        {"session-in-memory": CERTAIN},
        looks=logins(1, 1, 0),
        told="at logins on app-3",
    ),
    Row(
        "in memory of app-3 only, whose configuration therefore differs",
        agree(session_store="aab", config="aab"),
        {"session-in-memory": CERTAIN},
        also=[ONE_APART],
        looks=logins(1, 1, 0),
    ),
    Row(
        "in memory or another secret: nobody could look",
        AT_HOME,
        {"session-in-memory": POSSIBLE},
        looks=UNSEEN,
        against="could not be looked into",
    ),
    Row(
        "known at home alone, no trace, and known again after a restart: a place of each instance's own",
        AT_HOME,
        {"session-store-differs": LIKELY},
        also=[restart(lost=0, kept=9)],
        looks=TRACELESS,
    ),
    Row(
        "app-3 names another store",
        agree(session_store="aab"),
        {"session-store-differs": CERTAIN},
        also=[ONE_APART, restart(lost=0, kept=9)],
        looks=logins(1, 1, 0),
        told="named by app-1 and app-2, and by app-3",
    ),
    Row(
        "a secret each: stored, known at home alone, another configuration each",
        AT_HOME,
        {"secret-per-instance": CERTAIN},
        also=[agree(config="abc", session_store="aaa")],
        looks=STORED,
        told="every login left a session",
    ),
    Row(
        "a secret each, in an application that tells nothing of itself",
        AT_HOME,
        {"secret-per-instance": LIKELY},
        looks=STORED,
    ),
    Row(
        "a secret each, though all tell the same configuration",
        AT_HOME,
        {"secret-per-instance": LIKELY},
        also=[agree(config="aaa")],
        looks=STORED,
        against="the same configuration",
    ),
    Row(
        "a secret each, and nobody could look into the store",
        agree(config="abc"),
        {"secret-per-instance": LIKELY},
        also=[AT_HOME],
        looks=UNSEEN,
        against="could not be looked into",
    ),
    Row(
        "app-3 has another secret",
        ONE_APART,
        {"secret-per-instance": CERTAIN},
        also=[agree(config="aab")],
        looks=STORED,
    ),
    Row("half of the logins left a session: neither", AT_HOME, {}, looks=logins(0.5, 0.5, 0.5)),
    Row("another configuration, and every session known everywhere", agree(config="aab"), {}, also=[SHARED]),
    Row(
        "another version",
        agree(version="aab", config="aaa"),
        {"other-version": CERTAIN},
        also=[SHARED],
        looks=STORED,
        told="app-3 says version b",
    ),
    Row(
        "a secret at boot: known everywhere until all were restarted, and still stored",
        restart(lost=9, kept=0),
        {"secret-at-boot": CERTAIN},
        also=[SHARED],
        looks=[*STORED, left(9)],
        told="all 9 sessions known before the restart",
    ),
    Row(
        "a secret at boot: void since one instance was started, everywhere",
        {"NoSessionLost": lost()},
        {"secret-at-boot": CERTAIN},
        also=[SHARED],
        looks=[*STORED, left(40)],
        told="20 of 20 sessions became void",
    ),
    Row(
        "a secret at boot, seen by a rollout",
        rollout(sessions=lost()),
        {"secret-at-boot": LIKELY},
        also=[SHARED],
        looks=STORED,
    ),
    Row(
        "a secret at boot, with sessions in the cookie itself: no trace, and yet known everywhere",
        restart(lost=9, kept=0),
        {"secret-at-boot": LIKELY},
        also=[SHARED],
        looks=[*TRACELESS, left(0)],
    ),
    Row("gone from the store after a restart", restart(lost=9, kept=0), {}, also=[SHARED], looks=[*STORED, left(0)]),
    Row("lost in a hang: nothing was started", {"NoSessionLost": lost(lost_before_start=20)}, {}, also=[SHARED]),
    Row("some survived the start", {"NoSessionLost": lost(lost=5, survived=15)}, {}, also=[SHARED], looks=STORED),
    Row("logged out before anything was done", {"NoSessionLost": lost(logged_out_before=3)}, {}, also=[SHARED]),
    Row("some outlived the restart", restart(lost=3, kept=6), {}, also=[SHARED], looks=[*STORED, left(9)]),
    Row(
        "the copy works where its owner logged out, and the session is there",
        replay(home=9, others=18),
        {"logout-cookie-only": CERTAIN},
        looks=[at_logout(9, 9)],
        told="even by the instance on which its owner had logged out",
    ),
    Row("the copy works there, nobody could look", replay(home=9, others=18), {"logout-cookie-only": LIKELY}),
    Row(
        "the copy works elsewhere only",
        replay(home=0, others=18),
        {"sessions-cached": LIKELY},
        looks=[at_logout(9, 9)],
        told="refused where its owner had logged out",
    ),
    Row(
        "the copy works, and the session is gone",
        replay(home=9, others=18),
        {"sessions-cached": LIKELY},
        looks=[at_logout(9, 0)],
        told="9 logouts removed 9",
    ),
]

COMING = [
    Row(
        "500 of the returned instance, until it serves",
        rejoins(),
        {"ready-before-warm-up": CERTAIN},
        told="by app-1 itself, in the first 2.9 s",
    ),
    Row(
        "500, and it never served",
        rejoins(rejoin_seconds=None, answers=0),
        {"ready-before-warm-up": LIKELY},
        against="never served",
    ),
    Row("500 now and then, to the end", rejoins(rejoin_seconds=0.1, last_failure_seconds=3.9), {}),
    Row("502: nobody at home", rejoins(errors={"http-502": 55, "http-500": 1}), {}),
    Row("500 of the others", rejoins(failed_attempts={"app-2": 56}), {}),
    Row(
        "500 before it said that it was ready",
        rejoins(failed_before_ready=56, last_failure_seconds=-0.2),
        {"listens-before-ready": CERTAIN},
        told="56 of 56",
    ),
    Row("500 of one that had hung, while it wakes up", rejoins(fault="hang", failed_before_ready=56), {}),
    Row("500 of new instances, until they serve", rollout(**NEW_FAIL), {"ready-before-warm-up": CERTAIN}, told="2.9 s"),
    Row("and a few others", rollout(**NEW_FAIL | {"failed": 62}), {"ready-before-warm-up": LIKELY}, against="2 more"),
    Row("a new version that is broken", rollout(**NEW_FAIL, failed_on_new_after_success=40), {}),
    Row("500 of instances old and new", rollout(**NEW_FAIL | {"failed": 120, "errors": {"http-500": 120}}), {}),
    Row(
        "never used again, left out for 30 s",
        rejoins(failed=0, errors={}, failed_attempts={}, answers=0, tried_at_victim=0),
        {"fail-timeout-too-long": CERTAIN},
        facts={"fail_timeout_seconds": 30.0},
        told="app-1 got 0 of 400 requests",
    ),
    Row(
        "never used again, though the balancer may ask each second",
        rejoins(failed=0, errors={}, failed_attempts={}, answers=0, tried_at_victim=0),
        {},
        facts={"fail_timeout_seconds": 1.0},
    ),
    Row(
        "asked, and it does not answer",
        rejoins(failed=0, errors={}, failed_attempts={}, answers=0, tried_at_victim=30),
        {},
        facts={"fail_timeout_seconds": 30.0},
    ),
]

GOING = [
    Row("gone at once", in_flight(), {"exit-at-once": CERTAIN}, told="5 of 5 requests in flight were cut (closed 5)"),
    Row("dropped, then three seconds of leave-taking", in_flight(stop_seconds=3.0), {"exit-at-once": LIKELY}),
    Row(
        "killed while it worked",
        in_flight(stop_seconds=0.2, code=-9),
        {"stop-patience-too-short": CERTAIN},
        told="killed 0.2 s after",
    ),
    Row(
        "killed, by its container's shell", in_flight(stop_seconds=0.2, code=137), {"stop-patience-too-short": CERTAIN}
    ),
    Row("killed long after it had dropped them", in_flight(stop_seconds=10.0, code=-9), {"exit-at-once": LIKELY}),
    Row("finished, then killed", in_flight(cut=0, stop_seconds=10.0, code=-9), {}),
    Row(
        "cut in a rollout, as when it is asked directly",
        rollout(failed=4, errors={"http-502": 4}, cut=4),
        {"exit-at-once": CERTAIN},
        also=[in_flight()],
        told="4 requests were cut",
    ),
    Row("cut in a rollout, and never otherwise", rollout(failed=4, errors={"http-502": 4}, cut=4), {}),
    Row(
        "refused while it leaves, before the balancer knows",
        leaving(stopping=4, returning=1),
        {"listener-closed-early": LIKELY},
        facts={"drain": "on-unready"},
        told="4 of 5",
    ),
    Row(
        "refused while it leaves only",
        leaving(stopping=4),
        {"listener-closed-early": CERTAIN},
        facts={"drain": "on-unready"},
    ),
    Row("refused because it exits at once", leaving(stopping=4), {}, also=[in_flight()], facts={"drain": "on-unready"}),
    Row("refused when it is back", leaving(returning=4), {}, facts={"drain": "on-unready"}),
    Row("drained before it is stopped", leaving(stopping=4), {}, facts={"drain": "balancer-first"}),
    Row(
        "nobody tells the balancer",
        leaving(stopping=1, down=3),
        {"not-drained": CERTAIN},
        facts={"drain": "none"},
        told="4 of 4",
    ),
    Row(
        "nothing is drained, and new instances fail",
        rollout(**NEW_FAIL),
        {"ready-before-warm-up": CERTAIN},
        facts={"drain": "none"},
    ),
    Row(
        "all at once",
        rollout(failed=300, errors={"http-502": 300}, min_available=0, longest_gap_seconds=1.4),
        {"all-at-once": CERTAIN},
        facts={"rollout": "all-at-once"},
        told="none of the instances was up",
    ),
    Row("one at a time", rollout(failed=3, errors={"http-502": 3}, min_available=2), {}),
    Row(
        "nobody left to ask, though two are up",
        rollout(
            failed=10,
            errors={"http-502": 10},
            min_available=2,
            failed_attempts={"(unknown)": 10},
            seconds=6.0,
            replaced={"app-1": {}, "app-2": {}, "app-3": {}},
        ),
        {"faster-than-fail-timeout": CERTAIN},
        facts={"fail_timeout_seconds": 30},
        told="tried nowhere",
    ),
    Row(
        "nobody left to ask, long after the last was replaced",
        rollout(
            failed=10,
            errors={"http-502": 10},
            min_available=2,
            failed_attempts={"(unknown)": 10},
            seconds=120.0,
            replaced={"app-1": {}, "app-2": {}, "app-3": {}},
        ),
        {},
        facts={"fail_timeout_seconds": 30},
    ),
]

GUIDE_HAPROXY = {
    "balancer": "haproxy",
    "retries": 3,
    "redispatch": 0,
    "retry_on": ["conn-failure"],
    "check_interval_seconds": 2.0,
    "fall": 3,
    "rise": 2,
    "connect_timeout_seconds": 5.0,
    "read_timeout_seconds": 50.0,
}
TUNED_HAPROXY = GUIDE_HAPROXY | {
    "redispatch": 1,
    "retry_on": ["conn-failure", "empty-response", "response-timeout"],
    "check_interval_seconds": 0.3,
    "fall": 2,
    "rise": 1,
    "connect_timeout_seconds": 0.25,
    "read_timeout_seconds": 2.0,
}
SAME_AGAIN = {"app-1 app-1 app-1 app-1": 2, "app-1": 1}
"""As HAProxy tells of retries that went to the same instance."""

LOSING_BEHIND_HAPROXY = [
    Row(
        "tried again and again at the lost one",
        not_retried(failed_attempts=SAME_AGAIN),
        {"no-retry": CERTAIN},
        facts=GUIDE_HAPROXY,
        told="3 of 3 failed requests were tried at app-1 and nowhere else",
    ),
    Row(
        "one was closed without a word, as HAProxy does on connections that are kept",
        not_retried(
            failed=4, failed_by_method={"idempotent": 4, "write": 0}, failed_attempts=SAME_AGAIN | {"(unknown)": 1}
        ),
        {"no-retry": CERTAIN},
        facts=GUIDE_HAPROXY,
        told="3 of 4 failed requests were tried at app-1 and nowhere else",
    ),
    Row(
        "none fails, but all wait for the lost one to come back",
        loss("stop", retried=12, slowest_seconds=3.01, broken=["slowest-answer"]),
        {"no-retry": CERTAIN},
        facts=GUIDE_HAPROXY,
        told="12 requests were tried again, the slowest for 3.0 s",
    ),
    Row(
        "cut in flight, and only refusals are tried elsewhere",
        not_retried(),
        {"no-retry": CERTAIN},
        facts=TUNED_HAPROXY | {"retry_on": ["conn-failure"]},
    ),
    Row(
        "a hang, and only refusals are tried elsewhere",
        not_retried("hang"),
        {"no-retry": CERTAIN},
        facts=TUNED_HAPROXY | {"retry_on": ["conn-failure", "empty-response"]},
    ),
    Row("retries are off", not_retried(), {"no-retry": CERTAIN}, facts=TUNED_HAPROXY | {"retries": 0}),
    Row("retries are on: those were past saving", not_retried(), {}, facts=TUNED_HAPROXY),
    Row(
        "all of it in one word",
        not_retried("hang"),
        {},
        facts=TUNED_HAPROXY | {"retry_on": ["all-retryable-errors"]},
    ),
    Row(
        "tried elsewhere as well, at an instance nobody named",
        not_retried(failed_attempts={"(unnamed) app-2": 3}),
        {},
        facts=GUIDE_HAPROXY,
    ),
    Row(
        "tried to the end, and nobody asks how it is",
        loss(broken=["detection"]),
        {"no-health-check": CERTAIN},
        facts=TUNED_HAPROXY | {"check_interval_seconds": 0.0},
        told="133 requests (33%)",
    ),
    Row(
        "asked every two seconds, and told three times",
        loss(broken=["detection"], detect_seconds=4.1),
        {"checks-too-slow": CERTAIN},
        facts=TUNED_HAPROXY | {"check_interval_seconds": 2.0, "fall": 3},
        told="133 requests were tried at app-1, 100 of them too late",
    ),
    Row(
        "a hang, and each check waits for a second",
        loss("hang", broken=["detection"], detect_seconds=3.6),
        {"checks-too-slow": CERTAIN},
        facts=TUNED_HAPROXY | {"check_interval_seconds": 1.0},
    ),
    Row(
        "noticed late, by checks that are quick",
        loss(broken=["detection"], detect_seconds=1.2),
        {},
        facts=TUNED_HAPROXY,
    ),
    Row(
        "a hang, and it would wait for an answer for a minute",
        loss("hang", broken=["slowest-answer"]),
        {"read-timeout-too-long": CERTAIN},
        facts=TUNED_HAPROXY | {"read_timeout_seconds": 50.0},
    ),
    Row(
        "left out until it was well five times, every three seconds",
        rejoins(failed=0, errors={}, failed_attempts={}, answers=0, tried_at_victim=0),
        {"fail-timeout-too-long": CERTAIN},
        facts=TUNED_HAPROXY | {"check_interval_seconds": 3.0, "rise": 5},
    ),
    Row(
        "everybody was bound to another one meanwhile",
        rejoins(failed=0, errors={}, failed_attempts={}, answers=0, tried_at_victim=0),
        {"bound-by-cookie": CERTAIN},
        facts=TUNED_HAPROXY | {"sticky_cookie": "SERVERID"},
        told="app-1 got 0 of 400 requests",
    ),
    Row(
        "bound, and used again all the same", rejoins(failed=0), {}, facts=TUNED_HAPROXY | {"sticky_cookie": "SERVERID"}
    ),
    Row(
        "replaced before the last one was well again",
        rollout(
            failed=10,
            errors={"balancer-503": 10},
            failed_attempts={"(unknown)": 10},
            min_available=2,
            seconds=9.0,
            replaced={"app-1": {}, "app-2": {}, "app-3": {}},
        ),
        {"faster-than-fail-timeout": CERTAIN},
        facts=GUIDE_HAPROXY | {"drain": "none"},
        told="10 of 10 failed requests were tried nowhere",
    ),
]

LOSING = [
    Row(
        "tried once, retries are off",
        not_retried(),
        {"no-retry": CERTAIN},
        facts={"next_upstream": []},
        told="3 of 3 failed requests were tried at app-1 and nowhere else",
    ),
    Row(
        "tried once, a hang, and timeouts are not retried",
        not_retried("hang"),
        {"no-retry": CERTAIN},
        facts={"next_upstream": ["error"]},
    ),
    Row("tried once, by a balancer nobody knows", not_retried(), {"no-retry": LIKELY}),
    Row("some were saved by a second try", not_retried(retried=20), {}),
    Row("retries are on: those were past saving", not_retried(), {}, facts={"next_upstream": ["error", "timeout"]}),
    Row("tried everywhere", not_retried(failed_attempts={"app-1 app-2": 3}), {}, facts={"next_upstream": []}),
    Row("answers that were cut in the middle", not_retried(answers_cut=2), {}, facts={"next_upstream": []}),
    Row(
        "writes alone, which nobody may try again",
        not_retried(failed_by_method={"idempotent": 0, "write": 3}, broken=["failed-writes"]),
        {},
        facts={"next_upstream": []},
    ),
    Row(
        "tried to the end, failures are not counted",
        loss(broken=["detection"]),
        {"no-health-check": CERTAIN},
        facts={"max_fails": 0},
        told="133 requests (33%)",
    ),
    Row("tried to the end", loss(broken=["detection"]), {"no-health-check": LIKELY}, facts={"max_fails": 1}),
    Row("noticed, but late", loss(broken=["detection"], detect_seconds=1.7), {}, facts={"max_fails": 3}),
    Row("noticed in time", loss(broken=["longest-gap"], detect_seconds=0.0), {}, facts={"max_fails": 0}),
    Row(
        "a hang, and the balancer waits for a minute",
        loss("hang", broken=["slowest-answer", "detection"]),
        {"read-timeout-too-long": CERTAIN},
        facts={"read_timeout_seconds": 60.0, "max_fails": 1},
        told="read_timeout_seconds is 60",
    ),
    Row(
        "a hang, and it waits for 2 s", loss("hang", broken=["slowest-answer"]), {}, facts={"read_timeout_seconds": 2.0}
    ),
    Row(
        "a kill, and it would wait for a minute",
        loss(broken=["slowest-answer"]),
        {},
        facts={"read_timeout_seconds": 60.0},
    ),
    Row(
        "cut off in silence, retried after errors alone",
        not_retried("cut-off-silence"),
        {"no-retry": CERTAIN},
        facts={"next_upstream": ["error"]},
    ),
    Row(
        "cut off and refused, retried after timeouts alone",
        not_retried("cut-off-refusal"),
        {"no-retry": CERTAIN},
        facts={"next_upstream": ["timeout"]},
    ),
    Row(
        "killed with its address, retried after errors alone",
        not_retried(),
        {"no-retry": CERTAIN},
        facts={"next_upstream": ["error"], "platform": "docker"},
        told="balancer.next_upstream is error",
    ),
    Row(
        "killed as a process, which is an error",
        not_retried(),
        {},
        facts={"next_upstream": ["error"], "platform": "native"},
    ),
    Row(
        "silence, and every connection takes a minute",
        loss("cut-off-silence", broken=["failed-requests", "detection"]),
        {"connect-timeout-too-long": CERTAIN},
        facts={"connect_timeout_seconds": 60.0, "read_timeout_seconds": 2.0, "max_fails": 1, "platform": "docker"},
        told="balancer.connect_timeout_seconds is 60",
    ),
    Row(
        "silence, and every answer takes a minute",
        loss("cut-off-silence", broken=["slowest-answer"]),
        {"read-timeout-too-long": CERTAIN},
        facts={"connect_timeout_seconds": 1.0, "read_timeout_seconds": 60.0, "platform": "docker"},
    ),
    Row(
        "refusals, and every answer takes a minute",
        loss("cut-off-refusal", broken=["slowest-answer"]),
        {"read-timeout-too-long": CERTAIN},
        facts={"connect_timeout_seconds": 60.0, "read_timeout_seconds": 60.0, "platform": "docker"},
    ),
    Row(
        "killed with its address, and every connection takes a minute",
        loss(broken=["slowest-answer", "detection"]),
        {"connect-timeout-too-long": CERTAIN},
        facts={"connect_timeout_seconds": 60.0, "max_fails": 3, "platform": "docker"},
    ),
    Row(
        "killed as a process: nobody waits for a connection",
        loss(broken=["slowest-answer"]),
        {},
        facts={"connect_timeout_seconds": 60.0, "platform": "native"},
    ),
    Row(
        "killed with its address, and a connection takes a second",
        loss(broken=["slowest-answer"]),
        {},
        facts={"connect_timeout_seconds": 1.0, "platform": "docker"},
    ),
    Row(
        "under a new address, asked at the old one",
        moved(),
        {"stale-address": CERTAIN},
        facts={"resolve": "at-start", "balancer": "nginx"},
        told="app-1 answered none of 400 requests in 12.2 s at its new address, though it was ready there; 7 were tried",
    ),
    Row("the same, by a balancer nobody knows", moved(), {"stale-address": LIKELY}),
    Row("never asked at all", moved(tried=0), {"stale-address": LIKELY}, facts={"resolve": "always"}),
    Row(
        "under a new address, and somebody has the old one",
        moved(answers=40, shop_3=12),
        {"stale-address": CERTAIN},
        facts={"resolve": "at-start", "balancer": "haproxy"},
        told="12 requests were answered by shop-3 in its place",
    ),
    Row("found under its new address", moved(answers=40), {}, facts={"resolve": "at-start"}),
    Row(
        "alive, and not in the pool",
        NOTHING_FOR_3,
        {"instance-not-in-pool": CERTAIN},
        also=[ALIVE],
        facts=TWO,
        told="app-3 answered nothing",
    ),
    Row("the same, told by shares", UNEVEN, {"instance-not-in-pool": CERTAIN}, also=[ALIVE], facts=TWO),
    Row("nobody knows the pool", NOTHING_FOR_3, {"instance-not-in-pool": LIKELY}, also=[ALIVE]),
    Row("in the pool, and left out", NOTHING_FOR_3, {}, also=[ALIVE], facts=ALL),
    Row(
        "down",
        NOTHING_FOR_3,
        {"instance-down": CERTAIN},
        also=[health(app_1=200, app_2=200, app_3=503)],
        told="app-3: status 503",
    ),
    Row(
        "one is down, and one is left out",
        {"EveryInstanceGetsTraffic": {"missing": ["app-2", "app-3"]}},
        {"instance-not-in-pool": LIKELY, "instance-down": LIKELY},
        also=[health(app_1=200, app_2=200, app_3=None)],
    ),
    Row(
        "uneven, and everybody has some",
        {"SharesFitTheAlgorithm": {"counts": {"app-1": 700, "app-2": 9}}},
        {},
        facts=TWO,
    ),
]


def complains(
    kind: str, *nodes: str, failed: Mapping[str, int] | None = None, broken: Sequence[str] = (), scenario: str = "s"
) -> list[Look]:
    value = {
        "scenario": scenario,
        "instances": list(APPS),
        "heard": {kind: {node: ["the words of it"] for node in nodes}},
        "failed": {"app-2": 40} if failed is None else failed,
        "broken": list(broken),
    }
    return [look("complaints", "", value=value, status=None)]


def waited(seconds: float, *, scenario: str = "s") -> list[Look]:
    value = {
        "scenario": scenario,
        "seconds": 10.0,
        "cores": 2,
        "busy_share": 0.97,
        "others_share": 0.4,
        "waited_seconds": {"app-1": seconds, "app-2": seconds, "nginx": 0.2},
    }
    return [look("waited-for-cores", "", value=value, status=None)]


REFUSING = everywhere(lambda home, asked: True)
STORES = [
    Row(
        f"instances failed people, and one complains: {kind}",
        REFUSING,
        {cause: CERTAIN},
        looks=complains(kind, "app-2"),
        told="app-2 wrote: the words of it",
    )
    for kind, cause in (
        ("store-away", "session-store-not-reached"),
        ("database-away", "database-not-reached"),
        ("database-full", "database-connections-used-up"),
        ("pool-empty", "pool-used-up"),
    )
] + [
    Row(
        "a server says it of itself",
        REFUSING,
        {"database-connections-used-up": CERTAIN},
        looks=complains("database-full", "postgres", failed={"app-1": 2, "app-3": 1}),
        told="postgres wrote: the words of it\n3 requests failed at app-1 (2) and app-3 (1)",
    ),
    Row(
        "others failed people too, and complain of nothing",
        REFUSING,
        {"session-store-not-reached": LIKELY},
        looks=complains("store-away", "app-2", failed={"app-1": 3, "app-2": 3}),
        against="app-1 failed people too, and complained of nothing",
    ),
    Row("it complains, and others failed people", REFUSING, {}, looks=complains("store-away", "app-1")),
    Row("a limit of another kind", REFUSING, {}, looks=complains("limit", "app-2")),
    Row("in another scenario", REFUSING, {}, looks=complains("store-away", "app-2", scenario="t")),
    Row("the store was taken away", REFUSING, {}, looks=complains("store-away", "app-2", broken=["redis"])),
    Row("it was cut off itself", REFUSING, {}, looks=complains("store-away", "app-2", broken=["app-2"])),
    Row(
        "another one was cut off",
        REFUSING,
        {"session-store-not-reached": CERTAIN},
        looks=complains("store-away", "app-2", broken=["app-1"]),
    ),
]


BUSY = {"late": 160, "late_share": 0.16}
TIMEOUTS = {"failed": 12, "errors": {"timeout": 11, "http-504": 1}}
STARVED = [
    Row(
        "much was sent late, and what failed had waited, wherever it was",
        not_retried("hang", **BUSY, **TIMEOUTS, failed_attempts={"app-1": 4, "app-2": 3, "app-3": 5}),
        {"cpu-starvation": LIKELY, "no-retry": LIKELY},
        told="16% of the requests (160) were sent more than 250 ms late or not at all",
    ),
    Row(
        "the same in a rollout",
        rollout(**BUSY, **TIMEOUTS, broken=["failed-requests"]),
        {"cpu-starvation": LIKELY},
    ),
    Row(
        "the same after a return",
        rejoins(**BUSY, **TIMEOUTS, failed_attempts={"app-1": 4, "app-2": 8}),
        {"cpu-starvation": LIKELY},
    ),
    Row(
        "the same while replicas are replaced",
        {"ScalingCostsNothing": {"broken": ["failed-requests"], **BUSY, **TIMEOUTS}},
        {"cpu-starvation": LIKELY},
    ),
    Row(
        "a few were sent late",
        rollout(**TIMEOUTS, late=20, late_share=0.02, broken=["failed-requests"]),
        {"cpu-starvation": POSSIBLE},
        against="98% of the requests were sent on time",
    ),
    Row(
        "what failed was given up at once",
        rollout(**BUSY, failed=12, errors={"http-502": 12}, broken=["failed-requests"]),
        {"cpu-starvation": POSSIBLE},
        against="12 of 12 failures are none that waiting makes (http-502 12)",
    ),
    Row(
        "all was sent on time, and those who serve were given no core",
        rollout(late=0, late_share=0.0, **TIMEOUTS, broken=["failed-requests"]),
        {"cpu-starvation": POSSIBLE},
        looks=waited(2.5),
        told="the threads of app-1 and app-2 stood ready and were given no core for 2.5 and 2.5 s in 10.0 s (2 cores, 97% busy, 40% for others)",
        against="100% of the requests were sent on time",
    ),
    Row(
        "and nobody was answered for a while",
        rollout(late=0, late_share=0.0, **TIMEOUTS, broken=["failed-requests", "longest-gap"]),
        {"cpu-starvation": POSSIBLE},
        looks=waited(2.5),
    ),
    Row(
        "people were logged out as well",
        rollout(late=0, late_share=0.0, **TIMEOUTS, broken=["failed-requests", "session-lost"]),
        {},
        looks=waited(2.5),
    ),
    Row("they waited a little", rollout(**TIMEOUTS, broken=["failed-requests"]), {}, looks=waited(1.9)),
    Row("in another scenario", rollout(**TIMEOUTS, broken=["failed-requests"]), {}, looks=waited(2.5, scenario="t")),
    Row(
        "all of it was at the victim: the setup's own fault first",
        not_retried("hang", **BUSY, **TIMEOUTS, failed_attempts={"app-1": 12}),
        {"read-timeout-too-long": CERTAIN, "no-retry": LIKELY, "cpu-starvation": POSSIBLE},
        facts={"read_timeout_seconds": 60, "max_fails": 1},
    ),
    Row("as many late as are allowed", rollout(**TIMEOUTS, late=10, late_share=0.01, broken=["failed-requests"]), {}),
    Row("nobody counted who was late", rollout(**TIMEOUTS, broken=["failed-requests"]), {}),
    Row("answers of another kind", rollout(**BUSY, failed=5, errors={"wrong-user": 5}, broken=["failed-requests"]), {}),
    Row("people were logged out as well", rollout(**BUSY, **TIMEOUTS, broken=["failed-requests", "session-lost"]), {}),
    Row("an old version stayed", rollout(**BUSY, broken=["old-version"]), {}),
    Row("it was not used again", rejoins(**BUSY, failed=0, errors={}, failed_attempts={}, rejoin_seconds=None), {}),
]


def lost_replica(*broken: str, **changes: Any) -> Evidence:
    """Killed, and not replaced as promised."""
    seen = {
        "victim": "app-2",
        "wanted": 3,
        "fewest": 2,
        "healed_seconds": None,
        "waited_seconds": 16.0,
        "answers": 0,
        "broken": list(broken or ["not-replaced"]),
    }
    return {"LostReplicaIsReplaced": seen | changes}


def kept_bad(*ready: str, outcome: str = "completed", met: int = 0) -> Evidence:
    """A bad version that was not taken back."""
    seen = {"ready_on": list(ready), "outcome": outcome, "message": "", "met": {"bad": met} if met else {}}
    return {"BadVersionIsTakenBack": seen | {"broken": ["not-taken-back"]}}


def swarm(**settings: Any) -> dict[str, Any]:
    healthy = {"health": ["ask"], "restart": "any", "restart_delay_seconds": 0.5, "failure_action": "rollback"}
    return {"swarm": healthy | settings, "resolve": "always"}


AT_START = swarm() | {"resolve": "at-start"}
ORCHESTRATED = [
    Row(
        "nobody replaces it",
        lost_replica(),
        {"not-restarted": CERTAIN},
        facts=swarm(restart="none"),
        told="2 of 3 replicas were left",
    ),
    Row("nobody replaces it, and nobody knows why", lost_replica(), {}, facts=swarm()),
    Row(
        "replaced too late",
        lost_replica(healed_seconds=15.4, waited_seconds=15.4),
        {"restart-delay-too-long": LIKELY},
        facts=swarm(restart_delay_seconds=10),
    ),
    Row(
        "not replaced in time",
        lost_replica(),
        {"restart-delay-too-long": CERTAIN},
        facts=swarm(restart_delay_seconds=60),
        told="restart_delay_seconds is 60",
    ),
    Row("a delay that never mattered", lost_replica("longest-gap"), {}, facts=swarm(restart_delay_seconds=60)),
    Row(
        "nobody asks a replica",
        kept_bad("app-1", "app-2", "app-3", met=412),
        {"replica-health-blind": CERTAIN},
        facts=swarm(health=[], checked=False),
        told="412 people",
    ),
    Row(
        "nor does the image ask it",
        kept_bad("app-1", "app-2", "app-3", met=412),
        {"replica-health-blind": CERTAIN},
        facts=swarm(health=None, checked=False),
        told="neither swarm.health nor the image names one",
    ),
    Row("asked the wrong thing", kept_bad("app-1"), {"replica-health-blind": LIKELY}, facts=swarm()),
    Row(
        "noticed, and left there",
        kept_bad(outcome="paused"),
        {"bad-version-kept": CERTAIN},
        facts=swarm(failure_action="pause"),
        told="ended as paused",
    ),
    Row("noticed, and nobody knows more", kept_bad(outcome="unfinished"), {}, facts=swarm()),
    Row(
        "the replacement is not found",
        lost_replica("not-used", healed_seconds=2.1),
        {"stale-address": CERTAIN},
        facts=AT_START,
        told="the replacement of app-2",
    ),
    Row(
        "new replicas are not found",
        {
            "ScalingCostsNothing": {
                "added": {"app-4": {"answers": 0}, "app-5": {"answers": 0}},
                "broken": ["not-used"],
            }
        },
        {"stale-address": CERTAIN},
        facts=AT_START,
        told="app-4 and app-5 answered nothing",
    ),
    Row(
        "after an update nobody is found",
        rollout(failed=311, errors={"http-502": 311}, failed_by_step={"after": 290}, min_available=3),
        {"stale-address": CERTAIN},
        facts=AT_START | {"rollout": "by-orchestrator", "drain": "by-orchestrator"},
        told="290 requests failed",
    ),
    Row(
        "an update of all together",
        rollout(failed=300, errors={"http-502": 300}, min_available=0, longest_gap_seconds=1.4),
        {"all-at-once": CERTAIN},
        facts=swarm(parallelism=0) | {"rollout": "by-orchestrator", "drain": "by-orchestrator"},
    ),
]

# -- the way in -------------------------------------------------------------------------------------------------------


def found(checker: Any, looks: Sequence[Look]) -> Evidence:
    """What this checker finds in these looks."""
    made = History(scenario="s", seed=1, instances=APPS, looks=tuple(looks), setup={"tls": TLS, "pool": list(APPS)})
    return {type(checker).__name__: dict(checker.check(made).evidence)}


ALL_TOLD = ["X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"]


def tls(**changes: Any) -> Evidence:
    return {"tls": TLS | {"redirect": 308, "security_headers": "always", "forward": ALL_TOLD} | changes}


BARE = [answer("missing", app, 404, headers={}) for app in APPS]
WAY_IN = [
    Row(
        "http is served, as the setup says",
        found(HttpIsSentToHttps(), [*BOTH, redirect("GET", 200, "")]),
        {"no-redirect": CERTAIN},
        facts=tls(redirect=0),
        told="balancer.tls.redirect is 0",
    ),
    Row(
        "http is served, and nobody knows why",
        found(HttpIsSentToHttps(), [*BOTH, redirect("GET", 200, "")]),
        {"no-redirect": LIKELY},
        facts=tls(),
        told="over http is answered with 200",
    ),
    Row(
        "a POST is redirected with 302",
        found(HttpIsSentToHttps(), [redirect("GET", 302), redirect("POST", 302), redirect("PUT", 302)]),
        {"redirect-loses-posts": CERTAIN},
        facts=tls(redirect=302),
        told="POST and PUT over http is sent to https with 302",
    ),
    Row(
        "a POST is redirected with 301, as in the guide",
        found(HttpIsSentToHttps(), [redirect("GET", 301), redirect("POST", 301)]),
        {"redirect-loses-posts": CERTAIN},
        facts=tls(redirect=301),
        told="balancer.tls.redirect is 301",
    ),
    Row(
        "a redirect that keeps the method, for this once",
        found(HttpIsSentToHttps(), [redirect("GET", 307), redirect("POST", 307)]),
        {"redirect-not-for-good": CERTAIN},
        facts=tls(redirect=307),
        told="begin over http again",
    ),
    Row(
        "old versions are spoken",
        found(OnlySecureVersions(), versions(v10=handshake("1.0", agreed=True), v11=handshake("1.1", agreed=True))),
        {"old-tls-versions": CERTAIN},
        facts=tls(versions=["1.0", "1.1", "1.2", "1.3"]),
        told="balancer.tls.versions has 1.0 and 1.1",
    ),
    Row(
        "a version is missing",
        found(OnlySecureVersions(), versions(v13=handshake("1.3", agreed=False))),
        {},
        facts=tls(),
    ),
    Row(
        "errors of everybody are bare",
        found(HeadersAreEverywhere(), [*answers(without="missing"), *BARE, answer("nobody", status=502, headers={})]),
        {"headers-not-on-errors": CERTAIN},
        facts=tls(security_headers="not-on-errors"),
        told="errors of the application: no X-Frame-Options",
    ),
    Row(
        "the balancer's own errors are bare",
        found(HeadersAreEverywhere(), [*answers(without="nobody"), answer("nobody", status=502, headers={})]),
        {"headers-not-on-errors": LIKELY},
        facts=tls(),
        told="pages of every instance have them",
    ),
    Row(
        "nothing has the headers",
        found(HeadersAreEverywhere(), [answer("page", app, headers={}) for app in APPS]),
        {"no-security-headers": CERTAIN},
        facts=tls(security_headers="none"),
        told='balancer.tls.security_headers is "none"',
    ),
    Row(
        "one instance's pages lack them",
        found(HeadersAreEverywhere(), [*answers(), answer("page", "app-2", headers={})]),
        {"no-security-headers": LIKELY},
        facts=tls(),
        told="pages of app-2",
    ),
    Row(
        "the scheme is not told",
        found(SchemeIsKnown(), by_all(proto="http")),
        {"scheme-not-forwarded": CERTAIN},
        facts=tls(forward=["X-Forwarded-For"]),
        told="has no X-Forwarded-Proto",
    ),
    Row(
        "the scheme is not told, and a client's word is believed",
        found(ForgeriesAreNotBelieved(), by_all(forged=True, proto="http")),
        {"scheme-not-forwarded": CERTAIN},
        facts=tls(forward=["X-Real-IP", "X-Forwarded-For"]),
        told="has no X-Forwarded-Proto",
    ),
    Row(
        "the scheme is told, and not listened to",
        found(SchemeIsKnown(), by_all(proto="http")),
        {"forwarded-not-believed": LIKELY},
        facts=tls(),
        told="the balancer sends X-Forwarded-Proto",
    ),
    Row(
        "the address is not told",
        found(ClientAddressIsTrue(), by_all(client="127.0.0.1", real_ip=None)),
        {"address-not-forwarded": CERTAIN},
        facts=tls(forward=["X-Forwarded-Proto"]),
        told="has no X-Forwarded-For and X-Real-IP",
    ),
    Row(
        "the address is not told, and a client's word is believed",
        found(ForgeriesAreNotBelieved(), by_all(forged=True, client=FORGED, real_ip=FORGED)),
        {"address-not-forwarded": CERTAIN},
        facts=tls(forward=["X-Forwarded-Proto"]),
        told="has no X-Forwarded-For",
    ),
    Row(
        "the address is told, and not listened to",
        found(ClientAddressIsTrue(), by_all(client="127.0.0.1")),
        {"forwarded-not-believed": LIKELY},
        facts=tls(),
        told="the balancer sends X-Forwarded-For",
    ),
    Row(
        "the first address is believed",
        found(ForgeriesAreNotBelieved(), by_all(forged=True, client=FORGED)),
        {"first-address-believed": CERTAIN},
        also=[found(ClientAddressIsTrue(), by_all())],
        facts=tls(),
        told="without such a header the address is right",
    ),
]


def held(checker: Any, record: History) -> Evidence:
    """What this checker finds in a record."""
    return {type(checker).__name__: dict(checker.check(record).evidence)}


STATE = [
    Row(
        "each file is only where it was taken",
        held(FilesAreEverywhere(), state.files(lambda a, b: {} if a == b else state.NOT_FOUND)),
        {"files-on-local-disk": CERTAIN},
        told="what app-1 took is not to be had from app-2 and app-3",
    ),
    Row(
        "one instance has a place of its own for files",
        held(FilesAreEverywhere(), state.files(lambda a, b: state.NOT_FOUND if "app-3" in (a, b) and a != b else {})),
        {"files-on-local-disk": LIKELY},
        against="2 of 6 pairs found the file",
    ),
    Row(
        "each instance counts",
        held(NumbersAreUnique(), state.numbers(lambda app, i: i)),
        {"counter-per-instance": CERTAIN},
        told="no instance gave a number twice itself",
    ),
    Row(
        "numbers repeat on one instance too",
        held(NumbersAreUnique(), state.numbers(lambda app, i: i // 2)),
        {"counter-per-instance": POSSIBLE},
        against="does not give one number twice",
    ),
    Row(
        "each instance has the whole limit",
        held(LimitIsShared(), state.limited((10, 10, 10), (10, 10, 10))),
        {"limit-per-instance": CERTAIN},
        told="app-1, app-2 and app-3 each accepted the whole limit",
    ),
    Row(
        "more than the limit is let through",
        held(LimitIsShared(), state.limited((8, 7, 7), (8, 7, 7))),
        {"limit-per-instance": LIKELY},
        told="app-1 accepted 8",
    ),
    Row(
        "a key is new to each instance",
        held(KeyActsOnce(), state.once((7, 8, 9), (1, 2, 3))),
        {"keys-in-memory": CERTAIN},
        told="each instance has an effect of its own",
    ),
    Row(
        "a key has two effects only at the same time",
        held(KeyActsOnce(), state.once(at_once=(8, 9, 8))),
        {"checked-before-insert": CERTAIN},
        told="a key that comes later is known to every instance",
    ),
    Row(
        "a name is given twice at the same time",
        held(NamesAreUnique(), state.registrations(2)),
        {"checked-before-insert": CERTAIN},
        told="a name that is registered is refused when it comes later",
    ),
    Row(
        "increments are lost, and answers repeat",
        held(TallyLosesNothing(), state.tally("22", told=lambda i: i // 3)),
        {"read-modify-write": CERTAIN},
        told="40 answers told a number that had been told before",
    ),
    Row(
        "increments are lost, and no answer repeats",
        held(TallyLosesNothing(), state.tally("22")),
        {"read-modify-write": LIKELY},
        against="no two answers told the same number",
    ),
    Row(
        "a setting is kept in memory",
        held(SettingsReachEveryInstance(), state.setting(lambda app, change: change == 1 and app != "app-1")),
        {"setting-cached": CERTAIN},
        told="app-2 still showed something else 5.2 s after the change",
    ),
    Row(
        "no instance shows a change",
        held(SettingsReachEveryInstance(), state.setting(lambda app, change: True)),
        {"setting-cached": LIKELY},
    ),
    Row(
        "every instance runs every job",
        held(JobsRunOnce(), state.jobs(lambda due: APPS)),
        {"job-on-each-instance": CERTAIN},
        told="6 of 6 were run more than once",
    ),
    Row(
        "a job is run twice now and then",
        held(JobsRunOnce(), state.jobs(lambda due: APPS[:2] if due == 5 else APPS[:1])),
        {"job-on-each-instance": LIKELY},
    ),
    Row(
        "the jobs end with their leader",
        held(JobsGoOn(), state.lost_runner(None)),
        {"leader-for-ever": LIKELY},
        told="app-2 ran the last job, and was killed",
        against="a lock that expires later",
    ),
    Row(
        "only those on the same instance hear",
        held(EverybodyHears(), state.talk(lambda via, at: via == at)),
        {"broadcast-in-process": CERTAIN},
        told="others on app-1, app-2 and app-3 itself heard it",
    ),
    Row(
        "one instance hears nobody",
        held(EverybodyHears(), state.talk(lambda via, at: at != "app-3")),
        {"broadcast-in-process": LIKELY},
        against="6 of 9 pairs heard it",
    ),
    Row(
        "an instance ends idle connections first",
        held(IdleConnectionsAreKept(), state.idle(lambda app: 2.0)),
        {"idle-shorter-than-balancer": CERTAIN},
        told="the balancer keeps them for 4 s",
    ),
    Row(
        "some end when all start at once",
        held(BootsTogether(), state.boots(["app-2", "app-3"], alone=["app-2", "app-3"])),
        {"migrations-raced": LIKELY},
        told="app-2 and app-3 came up when started once more",
    ),
    Row(
        "some end when all start at once, and again",
        held(BootsTogether(), state.boots(["app-2"])),
        {"migrations-raced": POSSIBLE},
        against="it may not come up at all",
    ),
    Row("one is slow to come up", held(BootsTogether(), state.boots(not_ready=["app-2"])), {}),
    Row(
        "all say ready without their database",
        held(ReadyIsTruthful(), state.without_database(ready=lambda app: 200)),
        {"ready-whatever-is-away": CERTAIN},
        told="answered its ready path with 200 while postgres was away",
    ),
    Row(
        "one says ready without its database",
        held(ReadyIsTruthful(), state.without_database(ready=lambda app: 200 if app == "app-2" else 503)),
        {"ready-whatever-is-away": LIKELY},
    ),
    Row("nobody says ready again", held(ReadyIsTruthful(), state.without_database(after=503)), {}),
    Row(
        "errors are sent with 200",
        held(
            ErrorsHaveStatus(), state.without_database(lambda app: {**state.WRONG_PAGE, "detail": "Back in a moment"})
        ),
        {"error-page-with-200": CERTAIN},
        told="the page says: Back in a moment",
    ),
    Row("another goes on too late", held(JobsGoOn(), state.lost_runner(11.0)), {}),
    Row("a number is raised too often", held(TallyLosesNothing(), state.tally("90")), {}),
]

CHANGES_LOST = held(ChangesSurvive(), not_found("v2-a")(not_found("v3-b")(CHANGES)))
CHANGES_KEPT = held(ChangesSurvive(), CHANGES)
MISCOUNTED = held(StepsAreCounted(), counts([*range(2, 31), 30], last=28))
TOKENS_REFUSED = held(TokenIsAcceptedElsewhere(), ended(WRITES, "write", 0, CROSSING))
TOKENS_ACCEPTED = held(TokenIsAcceptedElsewhere(), WRITES)
LOG_INS_REFUSED = held(LoginCrossesInstances(), ended(LOG_INS, "login", 1, CROSSING))
DETOURS_REFUSED = held(LoginCrossesInstances(), ended(LOG_INS, "detour", 1, CROSSING, status=400))
PAGES_OF_OTHERS = held(NobodyElsesPage(), strangers("app-1"))
PAGES_KEPT = held(NobodyElsesPage(), strangers(None))
NOT_RENEWED = held(LifeIsKept(), thrown_out_from(2.0)(life()))
LIVES_DIFFER = held(LifeIsKept(), thrown_out_from(1.0, at="app-2")(life()))
COUNTER_GIVEN_UP = held(GivingUpCostsNothing(), logged_out("after", of="v2")(GIVEN_UP))
PAGE_GIVEN_UP = held(GivingUpCostsNothing(), logged_out("after", of="v1")(GIVEN_UP))
REPLAYED = held(ReplayIsRefused(), recognised("replay")(REPLAY))
REPLAYED_AT_HOME = {"ReplayIsRefused": {**REPLAYED["ReplayIsRefused"], "accepted_on_logout_instance": 8}}
MIXED_UP = everywhere(lambda home, asked: True)
MIXED_UP["SessionOnEveryInstance"] |= {"somebody_else": 10}
MIXED_UP["SessionOnEveryInstance"]["matrix"]["app-1"]["app-2"] = {
    "asked": 10,
    "recognised": 0,
    "logged_out": 0,
    "somebody_else": 10,
    "failed": 0,
}

LIVES = [
    Row("two changes at once, one lost", CHANGES_LOST, {"last-write-wins": LIKELY}, told="2 of them made at the same"),
    Row("the same, and steps lost", CHANGES_LOST, {"last-write-wins": CERTAIN}, also=[MISCOUNTED]),
    Row("steps lost, and other changes", MISCOUNTED, {"last-write-wins": CERTAIN}, also=[CHANGES_LOST]),
    Row("steps lost alone", MISCOUNTED, {"session-counter-read-modify-write": CERTAIN}, also=[CHANGES_KEPT]),
    Row(
        "steps lost, and nobody looked at anything else",
        MISCOUNTED,
        {"session-counter-read-modify-write": LIKELY},
        against="was not seen",
    ),
    Row(
        "changes lost that met no other",
        held(ChangesSurvive(), doctored(not_found("v2-a")(CHANGES), lambda o: replace(o, via="app-1"))),
        {},
    ),
    Row(
        "an id of before the log-in that is good after it",
        held(OldIdIsNobody(), recognised("planted")(FIXATION)),
        {"id-kept-at-login": LIKELY},
    ),
    Row(
        "the same, and the cookie was left as it was",
        held(
            OldIdIsNobody(),
            looks_changed(recognised("planted")(FIXATION), lambda o: replace(o, value={**o.value, "kept": ["sid"]})),
        ),
        {"id-kept-at-login": CERTAIN},
        told="left sid as it was",
    ),
    Row("thrown out at the end of one life", NOT_RENEWED, {"session-not-renewed": CERTAIN}),
    Row("thrown out on one instance", LIVES_DIFFER, {"session-ttl-differs": LIKELY}),
    Row(
        "the same, and it tells another configuration",
        LIVES_DIFFER,
        {"session-ttl-differs": CERTAIN},
        also=[agree(config="aba")],
    ),
    Row(
        "another configuration, and sessions that live for another time",
        agree(config="aba"),
        {"session-ttl-differs": CERTAIN},
        also=[LIVES_DIFFER],
    ),
    Row("tokens refused elsewhere", TOKENS_REFUSED, {"csrf-in-memory": CERTAIN}, also=[SHARED], told="every instance"),
    Row("log-in forms as well", LOG_INS_REFUSED, {"csrf-in-memory": CERTAIN}, also=[TOKENS_REFUSED]),
    Row("log-ins refused, tokens good", DETOURS_REFUSED, {"login-state-in-memory": CERTAIN}, also=[TOKENS_ACCEPTED]),
    Row("log-ins refused, tokens not seen", LOG_INS_REFUSED, {"login-state-in-memory": LIKELY}),
    Row(
        "log-ins refused because each instance has its own secret",
        LOG_INS_REFUSED,
        {"secret-per-instance": CERTAIN},
        also=[AT_HOME, agree(config="abc")],
        looks=STORED,
    ),
    Row("tokens refused where sessions are", TOKENS_REFUSED, {}, also=[AT_HOME], looks=STORED),
    Row(
        "a cookie without its flags",
        held(CookieIsGuarded(), cookies(http_only=False, same_site="")),
        {"cookie-without-flags": CERTAIN},
        told="sid makes the session",
    ),
    Row(
        "a cookie that is not Secure, as nobody told the application",
        held(CookieIsGuarded(), cookies(secure=False)),
        {"cookie-without-flags": LIKELY},
        also=[found(SchemeIsKnown(), by_all(proto="http"))],
        against="edge.proto",
    ),
    Row("pages of others by an instance", PAGES_OF_OTHERS, {"pages-shared": CERTAIN}, told="app-1"),
    Row("pages of others where single people were looked up", MIXED_UP, {"pages-shared": CERTAIN}, told="app-2"),
    Row("pages of others by nobody", PAGES_KEPT, {"balancer-caches-pages": LIKELY}),
    Row(
        "the same, and it is told to keep them",
        PAGES_KEPT,
        {"balancer-caches-pages": CERTAIN},
        facts={"cache_seconds": 1},
        told="balancer.cache_seconds is 1",
    ),
    Row(
        "logged out by a request that changes the cookie", COUNTER_GIVEN_UP, {"session-renewed-without-grace": CERTAIN}
    ),
    Row("logged out by one that does not", PAGE_GIVEN_UP, {}),
    Row(
        "logged out after an overload",
        held(OverloadIsNoLogout(), logged_out("after")(OVERLOADED)),
        {"cookie-cleared-on-errors": CERTAIN},
    ),
    Row("logged out in an overload", held(OverloadIsNoLogout(), logged_out("overload")(OVERLOADED)), {}),
    Row(
        "a cookie replayed after the logout, everywhere",
        REPLAYED_AT_HOME,
        {"logout-cookie-only": CERTAIN},
        looks=[at_logout(20, 20)],
    ),
    Row(
        "a cookie replayed after the logout, elsewhere",
        REPLAYED,
        {"sessions-cached": LIKELY},
        looks=[at_logout(20, 11)],
    ),
    Row(
        "a cookie replayed where its owner did not log out, of sessions that only one instance knows",
        REPLAYED,
        {"session-in-memory": LIKELY},
        also=[AT_HOME],
        facts={"session_store": "memory"},
    ),
]


def reload(failed: int = 40, **errors: int) -> Evidence:
    """Requests failed around a reload of the balancer."""
    broken = ["failed-requests"] if failed else []
    told = {name.replace("_", "-"): count for name, count in errors.items()}
    seen = {"failed": failed, "requests": 300, "errors": told or {"refused": failed}, "broken": broken}
    return {"ReloadCostsNothing": seen | {"proof": "it ended with exit code 0, and was started anew"}}


def balancer_lost(*broken: str, started: float, recover: float | None, watched: float = 8.0) -> Evidence:
    """The balancer died, and people were not served for long."""
    seen = {"node": "nginx", "failed": 300, "started_seconds": started, "recover_seconds": recover}
    return {"BalancerComesBack": seen | {"watched_seconds": watched, "broken": list(broken or ["not-served"])}}


def deployed(
    *broken: str, failed: int = 30, kept: int = 15, gap: float = 0.1, errors: Mapping[str, int] | None = None
) -> Evidence:
    """Requests failed while something was deployed, seen from outside."""
    seen = {
        "broken": list(broken or ["failed-requests"]),
        "failed": failed,
        "errors": errors or {"refused": failed},
        "failed_by_connection": {"fresh": failed - kept, "reused": kept},
        "requests_by_connection": {"fresh": 300, "reused": 300},
        "longest_gap_seconds": gap,
        "gap_begins_seconds": 0.4,
        "first_failure_seconds": 0.4,
        "last_failure_seconds": 2.4,
    }
    return {"DeployCostsNothing": seen}


FROM_OUTSIDE = [
    Row(
        "nobody was left",
        deployed("failed-requests", "longest-gap", gap=1.7),
        {"deploy-leaves-nobody": LIKELY},
        told="nobody was answered for 1.7 s, beginning 0.4 s after the command",
    ),
    Row(
        "the deploy failed",
        {"RolloutCostsNothing": {"gave_up": "web-1: the deploy hook of web-1 (ssh …) ended with exit code 1"}},
        {"deploy-failed": CERTAIN},
        told="web-1: the deploy hook of web-1 (ssh …) ended with exit code 1",
    ),
    Row(
        "nobody was left, and nobody was told",
        deployed("longest-gap", failed=0, kept=0, gap=2.0),
        {"deploy-leaves-nobody": LIKELY},
    ),
    Row(
        "some were cut",
        deployed(errors={"http-502": 25, "reset": 5}),
        {"stopped-while-in-use": LIKELY},
        told="30 requests failed while others were answered: http-502 25, reset 5",
    ),
    Row(
        "on kept connections alone",
        deployed(kept=29, errors={"reset": 30}),
        {"kept-connections-cut": LIKELY},
        told="29 of 30 failures were on kept connections",
    ),
    Row("answers of another kind", deployed(errors={"http-500": 30}), {}),
]


KEPT = {"restart": "any", "restart_delay_seconds": 10.0}
ENTRANCE_LOST = [
    Row(
        "nobody starts the balancer again",
        balancer_lost(started=6.0, recover=6.2),
        {"balancer-not-restarted": CERTAIN},
        facts={"restart": "none", "restart_delay_seconds": 0.1},
        told="nginx was away for 6.0 s, and 300 requests failed",
    ),
    Row(
        "it is started again, but late",
        balancer_lost(started=6.0, recover=6.2),
        {"balancer-restarted-late": CERTAIN},
        facts=KEPT,
        told="balancer.restart_delay_seconds is 10",
    ),
    Row(
        "and was not seen to serve",
        balancer_lost(started=6.0, recover=None),
        {"balancer-restarted-late": CERTAIN},
        facts=KEPT,
        told="people were not served for 8.0 s",
    ),
    Row(
        "it was there soon, and served nobody",
        balancer_lost(started=0.3, recover=6.2),
        {},
        facts={"restart": "any", "restart_delay_seconds": 0.1},
    ),
    Row(
        "people were logged out, and each instance knows its own alone",
        AT_HOME | balancer_lost("session-lost", started=0.3, recover=0.5),
        {"session-in-memory": CERTAIN},
        looks=TRACELESS,
    ),
    Row(
        "people were logged out, and nobody starts it again",
        balancer_lost("session-lost", started=0.3, recover=0.5),
        {},
        facts={"restart": "none", "restart_delay_seconds": 10.0},
    ),
]


def downloads(cut: int = 5, longest: float | None = 1.0, **errors: int) -> Evidence:
    """Downloads under way at a reload were cut."""
    seen = {"under_way": 7, "cut": cut, "errors": errors or {"truncated": cut}, "longest_seconds": longest}
    return {"DownloadsAreFinished": seen | {"proof": "2 new workers serve in place of 2"}}


def drained(given: int = 9) -> Evidence:
    """Requests were given to an instance that was taken out."""
    seen = {"node": "app-1", "given": given, "given_by_visitor": 3, "broken": ["given"] if given else []}
    return {"DrainedIsLeftAlone": seen}


def joins(**changes: Any) -> Evidence:
    """An instance that joined late had too much in flight."""
    seen = {"node": "app-1", "flooded": 20, "most_in_flight": 33, "median_seconds": 1.01, "others_median_seconds": 0.01}
    return {"LateJoinerIsNotFlooded": seen | changes}


LOOKED_AFTER = [
    Row(
        "a reload that is a restart",
        reload(),
        {"reload-is-restart": CERTAIN},
        facts={"reload": "restart"},
        told="40 of 300 requests failed around the reload (refused 40)",
    ),
    Row("the same, told by downloads", downloads(), {"reload-is-restart": CERTAIN}, facts={"reload": "restart"}),
    Row("nobody says how, and they were refused", reload(), {"reload-is-restart": LIKELY}),
    Row("nobody says how, and they were answered", reload(http_500=40), {}),
    Row("it hands over, and requests fail", reload(), {}, facts={"reload": "graceful"}),
    Row("a reload that costs nothing", reload(0, none=0), {}, facts={"reload": "restart"}),
    Row(
        "old processes have no time",
        downloads(),
        {"reload-patience-too-short": CERTAIN},
        facts={"reload": "graceful", "reload_patience_seconds": 1},
        told="5 of 7 downloads under way were cut (truncated 5)",
    ),
    Row(
        "some went on for longer than old processes had",
        downloads(longest=2.4),
        {},
        facts={"reload": "graceful", "reload_patience_seconds": 1},
    ),
    Row("none was cut", downloads(0), {}, facts={"reload": "graceful", "reload_patience_seconds": 1}),
    Row(
        "bound to one that was taken out",
        drained(),
        {"bound-while-drained": CERTAIN},
        facts={"sticky_cookie": "SERVERID", "drain_by": "drain"},
        told="9 requests of 3 people were given to app-1",
    ),
    Row(
        "the same, by a balancer nobody knows", drained(), {"bound-while-drained": LIKELY}, facts={"sticky_cookie": "S"}
    ),
    Row("taken out for everybody", drained(), {}, facts={"sticky_cookie": "SERVERID", "drain_by": "maint"}),
    Row("nobody is bound", drained(), {}, facts={"drain_by": "drain"}),
    Row(
        "slow when it joins, and given its turns",
        joins(),
        {"cold-when-it-joins": CERTAIN},
        facts={"algorithm": "round_robin"},
        told="app-1 had 33 requests in flight",
    ),
    Row("slow, and given what it can bear", joins(flooded=0), {}, facts={"algorithm": "round_robin"}),
    Row("flooded although it is as quick", joins(median_seconds=0.012), {}, facts={"algorithm": "round_robin"}),
    Row("flooded by a balancer nobody knows", joins(), {"cold-when-it-joins": LIKELY}, facts={"algorithm": "unknown"}),
    Row("left alone", drained(0), {}, facts={"sticky_cookie": "SERVERID", "drain_by": "drain"}),
]


def shares(addresses: int = 0, counts: Sequence[int] = (500, 100, 100), **bound: int) -> Evidence:
    """First choices, and which addresses came to one instance alone."""
    told = {name.replace("_", "-"): count for name, count in bound.items()}
    seen = {"counts": dict(zip(APPS, counts, strict=True)), "addresses": addresses, "bound_addresses": told}
    return {"SharesFitTheAlgorithm": seen}


SHARED_OUT = [
    Row(
        "five times as much for one of equals",
        shares(),
        {"wrong-weight": CERTAIN},
        facts={"weights": {"app-1": 5}, "capacity": {}},
        told="first choices: app-1 500, app-2 100, app-3 100",
    ),
    Row("as much for one that can do more", shares(), {"wrong-weight": CERTAIN}, facts={"capacity": {"app-1": 5}}),
    Row("weights that fit", shares(), {}, facts={"weights": {"app-1": 5}, "capacity": {"app-1": 5}}),
    Row("nobody is said to get more", shares(), {}, facts={"weights": {}, "capacity": {}}),
    Row(
        "an office is one address",
        shares(30, app_1=12, app_2=9, app_3=9),
        {"bound-by-address": CERTAIN},
        facts={"sticky_address": True},
        told="of 30 addresses 30 came to one instance only (app-1 12, app-2 9, app-3 9)",
    ),
    Row("the same, by a balancer nobody knows", shares(30, app_1=12, app_2=9, app_3=8), {"bound-by-address": LIKELY}),
    Row("all to one: it may be the only one", shares(30, app_1=30), {}),
    Row("few addresses", shares(4, app_1=2, app_2=2), {}, facts={"sticky_address": True}),
    Row("some by chance", shares(30, app_1=1), {}, facts={"sticky_address": False}),
]


def opinion(*broken: str, down: Sequence[str] = (), check: str = "L7STS") -> Evidence:
    """What the balancer thinks of the instances is wrong."""
    words = dict.fromkeys(APPS, "OK") | dict.fromkeys(down, "Not Found")
    checks = dict.fromkeys(APPS, "L7OK") | dict.fromkeys(down, check)
    seen = {"victim": "app-1", "broken": list(broken), "wrongly_down": list(down), "checks": checks, "said": words}
    return {"BalancerSeesTheTruth": seen}


def twice(count: int = 8, retried: int = 8) -> Evidence:
    """POSTs that were sent once had two effects."""
    return {"SentOnce": {"twice": count, "counted": 24, "retried": retried, "retried_twice": min(count, retried)}}


def after_burst(**errors: int) -> Evidence:
    """All instances serve again, and the balancer answers this instead."""
    return {"BurstIsForgotten": {"errors": {name.replace("_", "-"): count for name, count in errors.items()}}}


def owner_died(*broken: str, stuck: int = 4) -> Evidence:
    """People were bound to an instance that died."""
    people = [f"v{i}" for i in range(stuck)]
    return {"BoundPeopleMove": {"victim": "app-1", "bound": 4, "stuck": people, "broken": list(broken)}}


CHECKED = {"balancer": "haproxy", "check_interval_seconds": 0.3, "fall": 2, "rise": 1}
COUNTS = {"next_upstream": ["error", "timeout", "http_503"], "max_fails": 1}
BEHIND = [
    Row(
        "checks ask what is not there",
        opinion("down-though-alive", down=APPS),
        {"check-asks-wrong": CERTAIN},
        facts=CHECKED | {"check_path": "/nowhere"},
        told="the balancer takes app-1, app-2 and app-3 for down",
    ),
    Row(
        "checks ask what one does not have",
        opinion("down-though-alive", down=["app-3"]),
        {"check-asks-wrong": LIKELY},
        facts=CHECKED,
    ),
    Row("nobody answers its checks", opinion("down-though-alive", down=APPS, check="L4TOUT"), {}, facts=CHECKED),
    Row(
        "it learns of a death too late",
        opinion("up-though-dead"),
        {"checks-too-slow": CERTAIN},
        facts=CHECKED | {"check_interval_seconds": 2, "fall": 3},
        told="still took app-1 for up 3 s after its death",
    ),
    Row(
        "it learns of a return too late",
        opinion("down-though-back"),
        {"checks-too-slow": CERTAIN},
        facts=CHECKED | {"rise": 40},
    ),
    Row("its checks are soon enough", opinion("up-though-dead", "down-though-back"), {}, facts=CHECKED),
    Row("its opinion is true", opinion(), {}, facts=CHECKED | {"rise": 40}),
    Row(
        "nginx sends a POST twice",
        twice(),
        {"writes-sent-twice": CERTAIN},
        facts={"next_upstream": ["error", "timeout", "non_idempotent"]},
        told="8 of 24 POSTs that were sent once had two effects or more",
    ),
    Row("HAProxy does", twice(retried=0), {"writes-sent-twice": CERTAIN}, facts={"retry_writes": True}),
    Row("a balancer nobody knows does", twice(), {"writes-sent-twice": LIKELY}),
    Row("the application does it by itself", twice(retried=0), {}),
    Row("and nginx does not", twice(), {}, facts={"next_upstream": ["error", "timeout"]}),
    Row("none had two", twice(0), {}, facts={"retry_writes": True}),
    Row(
        "left out for half a minute",
        after_burst(http_502=55),
        {"ejected-too-long": CERTAIN},
        facts=COUNTS | {"fail_timeout_seconds": 30},
    ),
    Row(
        "used again after forty checks",
        after_burst(balancer_503=55),
        {"ejected-too-long": CERTAIN},
        facts=CHECKED | {"rise": 40},
        told="55 requests were answered by the balancer itself",
    ),
    Row("used again soon", after_burst(http_502=55), {}, facts=COUNTS | {"fail_timeout_seconds": 1}),
    Row("errors of the application", after_burst(http_500=55), {}, facts=COUNTS | {"fail_timeout_seconds": 30}),
    Row("none", after_burst(), {}, facts=COUNTS | {"fail_timeout_seconds": 30}),
    Row(
        "bound to one that is dead",
        owner_died("not-moved", "failed-requests"),
        {"bound-to-the-dead": CERTAIN},
        facts={"sticky_when_down": True},
        told="4 of 4 people bound to app-1 were never served by another",
    ),
    Row("the same, by a balancer nobody knows", owner_died("not-moved"), {"bound-to-the-dead": LIKELY}),
    Row("moved, and something fails", owner_died("failed-requests", stuck=0), {}),
    Row("it moves them", owner_died("not-moved"), {}, facts={"sticky_when_down": False}),
    Row("moved", owner_died(stuck=0), {}, facts={"sticky_when_down": True}),
]

_KEPT_TO_THE_END = stops.streams((6.01, 6.01, 6.01), None)
_WITH_STREAMS = {"open_streams": _KEPT_TO_THE_END, "codes": {"app-2": -9}}

STOPPING = [
    Row(
        "the signal is not heard",
        held(stops.SIGNAL, stops.deaf()),
        {"signal-ignored": CERTAIN},
        told="it went on answering",
    ),
    Row(
        "the signal is not heard, and so nobody hears of it",
        held(stops.DRAIN, stops.deaf()),
        {"signal-ignored": CERTAIN},
        also=[held(stops.SIGNAL, stops.deaf())],
        told="it never said that it is not ready",
    ),
    Row(
        "the signal is not heard, with streams or without",
        held(stops.STREAMS, stops.deaf()),
        {"signal-ignored": CERTAIN},
    ),
    Row(
        "the signal is heard, and the instance hangs",
        held(stops.SIGNAL, stops.stopped(codes={"app-1": -9}, gone={"app-1": 6.0})),
        {"signal-ignored": LIKELY},
        also=[held(stops.DRAIN, stops.stopped(codes={"app-1": -9}, gone={"app-1": 6.0}))],
        against="it has heard the signal, and hangs",
    ),
    Row(
        "it ends with an error",
        held(stops.SIGNAL, stops.stopped(codes={"app-1": 1})),
        {"stop-ends-badly": LIKELY},
        told="exit code 1",
    ),
    Row(
        "ready to the last",
        held(stops.DRAIN, stops.stopped(ready=stops.in_use)),
        {"ready-while-stopping": CERTAIN},
        told="300 ms after the order it refused",
    ),
    Row(
        "refused with the signal",
        held(stops.DRAIN, stops.stopped(ready=lambda at: 200 if at < stops.TOLD else None)),
        {"listener-closed-with-signal": CERTAIN},
        told="said 0 times",
    ),
    Row(
        "refused with the signal, and what was in flight was cut as well",
        held(stops.DRAIN, stops.stopped(ready=lambda at: 200 if at < stops.TOLD else None)),
        {"exit-at-once": CERTAIN, "listener-closed-with-signal": POSSIBLE},
        also=[{"InFlightFinishes": in_flight()["InFlightFinishes"] | {"victim": "app-1"}}],
        told="app-1 cut 5 of 5 requests of a second as well",
    ),
    Row(
        "kept connections are just ended",
        held(stops.DRAIN, stops.stopped(connections=stops.kept(lambda at: False))),
        {"connections-ended-silently": CERTAIN},
        told="4 of 4 kept connections",
    ),
    Row(
        "long requests are given up",
        held(stops.LONG, stops.stopped(long=stops.long_ones(3.0), codes={"app-2": 1}, gone={"app-2": 3.0})),
        {"finish-time-too-short": CERTAIN},
        told="app-2 ended by itself 1.0 s after the order (exit code 1)",
    ),
    Row(
        "everything in flight is given up",
        held(stops.LONG, stops.stopped(long=stops.long_ones(3.0), codes={"app-2": 1}, gone={"app-2": 3.0})),
        {"exit-at-once": CERTAIN, "finish-time-too-short": POSSIBLE},
        also=[in_flight()],
        told="cut 5 of 5 requests of a second as well",
    ),
    Row(
        "killed before the longest was finished",
        held(
            stops.LONG,
            stops.stopped(
                long=stops.long_ones(3.0),
                looks=[*stops.pages(), stops.exited("app-2", -9, patience_seconds=1.0)],
                gone={"app-2": 3.0},
            ),
        ),
        {"killed-before-longest": CERTAIN},
        told="app.stop_within_seconds is 1; the longest request takes 1.75 s",
    ),
    Row(
        "killed although the longest had the time",
        held(stops.LONG, stops.stopped(long=stops.long_ones(3.0), codes={"app-2": -9}, gone={"app-2": 6.0})),
        {"killed-before-longest": LIKELY},
        against="that should have been enough",
    ),
    Row(
        "streams keep their instance",
        held(stops.STREAMS, stops.stopped(**_WITH_STREAMS, gone={"app-2": 6.0})),
        {"stream-never-ended": CERTAIN},
        told="app-1, which had no stream, ended 1.3 s after",
    ),
    Row(
        "streams keep their instance, and the other takes its time as well",
        held(stops.STREAMS, stops.stopped(**_WITH_STREAMS, gone={"app-2": 6.0, "app-1": 5.0})),
        {"stream-never-ended": LIKELY},
    ),
]

REPLACING = [
    Row(
        "two at a time",
        held(replacing.CAPACITY, replacing.two_at_a_time()),
        {"too-many-at-once": CERTAIN},
        told="rollout.batch is 2",
    ),
    Row(
        "two at a time, and nobody said so",
        held(replacing.CAPACITY, replacing.two_at_a_time(setup={})),
        {"too-many-at-once": LIKELY},
        told="app-1 and app-2 were out of use at the same time",
    ),
    Row(
        "all at once leaves nobody",
        held(replacing.CAPACITY, replace(replacing.at_once(), setup={"rollout": "all-at-once"})),
        {"too-many-at-once": CERTAIN},
        told='rollout.kind is "all-at-once"',
    ),
    Row(
        "switched too early",
        held(replacing.SWITCH, replacing.EARLY),
        {"switched-before-ready": CERTAIN},
        facts={"rollout": "blue-green", "gate": "none"},
        told="50 of 50 failed requests were due from then on",
    ),
    Row(
        "switched early, and most failed later",
        held(
            replacing.SWITCH,
            doctored(replacing.EARLY, lambda o: failed(o.due) if 6.6 < o.due < 7.4 and o.stream == "browse" else o),
        ),
        {"switched-before-ready": LIKELY},
        facts={"rollout": "blue-green"},
    ),
    Row(
        "what was left is cut",
        held(replacing.SWITCH, replacing.CUT),
        {"left-set-cut": CERTAIN},
        facts={"rollout": "blue-green", "drain": "none"},
        told="10 slow requests that were in flight at a switch failed",
    ),
    Row(
        "what was left is cut by somebody",
        held(replacing.SWITCH, replacing.CUT),
        {"left-set-cut": LIKELY},
        facts={"rollout": "blue-green"},
    ),
]

MIXED = [
    Row(
        "the new version does not read what was there",
        held(mixing.SESSIONS, mixing.mixed(lambda way: way == "forward")),
        {"session-format-changed": CERTAIN},
        told="4 of 4 were logged out: forward",
    ),
    Row(
        "the old version does not read what is new",
        held(mixing.SESSIONS, mixing.mixed(lambda way: way in ("back", "used", "taken-back"))),
        {"session-format-changed": CERTAIN},
        told="8 of 8 were recognised by the version they had logged in on",
    ),
    Row(
        "neither reads the other's",
        held(mixing.SESSIONS, mixing.mixed(lambda way: way in ("forward", "back", "taken-back"))),
        {"session-format-changed": LIKELY},
        against="another secret or another store",
    ),
    Row("sessions are not shared at all", held(mixing.SESSIONS, mixing.mixed(lambda way: True)), {}),
    Row(
        "each build has its own files alone",
        held(mixing.ASSETS, mixing.mixed(status=mixing.own_alone)),
        {"assets-of-own-build": CERTAIN},
        told="/assets/site-1.css, named by app-1 and app-3, is not to be had from app-2",
    ),
    Row(
        "one file is nowhere, others only where they are named",
        held(
            mixing.ASSETS,
            mixing.mixed(
                status=lambda path, app: 404 if "lost" in path else mixing.own_alone(path, app),
                named=lambda app: ["/lost.css", mixing.NEW_STYLE if app == mixing.NEW else mixing.OLD_STYLE],
            ),
        ),
        {"assets-of-own-build": LIKELY},
    ),
    Row("a file is nowhere", held(mixing.ASSETS, mixing.mixed(status=lambda path, app: 404)), {}),
]

TROUBLED = {
    "matched": {"app-2": 2},
    "said": [{"instance": "app-2", "line": "panic: nil map", "pattern": "^panic:"}] * 2,
}
IN_LOGS = [
    Row(
        "an instance writes what the setup calls trouble",
        {"NobodyIsInTrouble": TROUBLED},
        {"trouble-in-the-log": CERTAIN},
        told="app-2 wrote 'panic: nil map' (app.trouble: ^panic:)",
    ),
    Row("nobody writes of trouble", {"NobodyIsInTrouble": {"matched": {}, "said": []}}, {}),
]

ROWS = [
    *IN_LOGS,
    *SESSIONS,
    *LIVES,
    *COMING,
    *GOING,
    *LOSING,
    *LOSING_BEHIND_HAPROXY,
    *ORCHESTRATED,
    *STARVED,
    *WAY_IN,
    *STATE,
    *STOPPING,
    *REPLACING,
    *MIXED,
    *LOOKED_AFTER,
    *SHARED_OUT,
    *BEHIND,
    *STORES,
    *ENTRANCE_LOST,
    *FROM_OUTSIDE,
]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)


@each_row
def test_the_causes_of_what_was_seen(row: Row) -> None:
    """Exactly the causes that fit are named, as surely as the evidence allows; where nothing known fits, none is."""
    causes = row.diagnosed().causes
    assert {cause.id: cause.confidence.value for cause in causes} == row.causes
    if row.told:
        assert row.told in "\n".join(causes[0].evidence)
    assert row.against in "\n".join(causes[0].against if causes else ())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_its_rows(rule: str) -> None:
    """Each cause is named by at least one row, under the id its rule stands for, with a remedy; another row is without."""
    named = [cause for row in ROWS for cause in row.diagnosed().causes if cause.id == rule]
    assert named
    assert len(named) < len(ROWS)
    for cause in named:
        assert cause.evidence
        assert all(cause.evidence)
        assert cause.remedy
        assert cause.guide
        assert "[" not in cause.sentence


@pytest.mark.parametrize("rule", RULES)
def test_never_a_cause_without_evidence(rule: str) -> None:
    """Of an empty case no rule says anything, also when the setup alone would make it suspicious."""
    suspicious = {
        "session_store": "memory",
        "max_fails": 0,
        "next_upstream": [],
        "fail_timeout_seconds": 60,
        "read_timeout_seconds": 60,
        "connect_timeout_seconds": 60,
        "platform": "docker",
        "resolve": "at-start",
        "pool": [],
        "rollout": "rolling",
        "drain": "none",
        "swarm": {"restart": "none", "restart_delay_seconds": 60, "health": [], "failure_action": "pause"},
        "tls": {"redirect": 0, "versions": ["1.0"], "security_headers": "none", "forward": []},
    }
    empty = Finding(promise="p", scenario="s", verdict=Verdict.fail("broken"))
    for facts in ({}, suspicious):
        assert RULES[rule](Case(finding=empty, findings=[empty], facts=facts, looks=[])) is None


@pytest.mark.parametrize("status", [Status.PASS, Status.INCONCLUSIVE, Status.RIG_ERROR])
def test_only_what_was_seen_broken_has_a_cause(status: Status) -> None:
    """What is kept, not tested, or the harness's own failure, has none, whatever its evidence looks like."""
    assert not any(row.diagnosed(status).causes for row in ROWS)


def test_what_could_not_be_told_for_want_of_cores_has_that_cause() -> None:
    """And no other: what was seen of it is nobody's doing. A verdict that is inconclusive for another reason has none."""
    told = "the threads of app-1 stood ready and were given no core for 9.0 s in 10.0 s (2 cores)"
    row = Row("weakened", rollout(**TIMEOUTS, broken=["failed-requests"]), {})
    [finding] = row.findings(Status.INCONCLUSIVE)
    seen = {**finding.verdict.evidence["RolloutCostsNothing"], "starved": told}
    weak = replace(finding, verdict=replace(finding.verdict, evidence={"RolloutCostsNothing": seen}))
    ((cause,), ()) = (each.causes for each in diagnose([weak, finding], facts={}, looks=waited(9.0)))
    assert (cause.id, cause.confidence, cause.evidence) == ("cpu-starvation", LIKELY, (told,))
    assert "traffic.rate" in cause.remedy


def test_the_surest_cause_is_first() -> None:
    """Two faults at once are both named: the certain one before the likely one, more evidence before less."""
    seen = in_flight() | not_retried("hang", broken=["failed-requests"])
    told = Row("", seen, {}, facts={"read_timeout_seconds": 60, "max_fails": 1}).diagnosed().causes
    assert [(cause.id, cause.confidence.value) for cause in told] == [
        ("exit-at-once", CERTAIN),
        ("read-timeout-too-long", CERTAIN),
        ("no-retry", LIKELY),
    ]


# -- the rules and the checkers speak of the same things ------------------------------------------------------------


EVERYTHING = replace(
    ROLLED,
    setup={**ROLLED.setup, "session_ttl_seconds": 2},
    faults=(fault("stop", injected=9.5, effective=9.6, healing=9.7, healed=9.8),),
    looks=(*ROLLED.looks, *(look("health", app) for app in APPS)),
    operations=(*ROLLED.operations, logout("v1", 9.0, via="app-1")),
)
OF_BALANCERS = dict.fromkeys(("ReloadCostsNothing", "DownloadsAreFinished", "DrainedIsLeftAlone"), balancing.HEALTHY)
OF_BALANCERS |= {
    "BalancerSeesTheTruth": upstream.SEEN,
    "SentOnce": upstream.ONCE,
    "BurstIsForgotten": upstream.burst(),
    "BoundPeopleMove": upstream.bound(),
    "LateJoinerIsNotFlooded": balancing.joined(),
    "BalancerComesBack": balancing.lost(),
    "DeployCostsNothing": deploys.watched(),
}
"""What is done to the balancer is not among everything that can be done to single instances."""
OF_THEIR_OWN = {
    **OF_BALANCERS,
    "LostReplicaIsReplaced": HEALED,
    "ScalingCostsNothing": SCALED,
    "BadVersionIsTakenBack": BAD,
    **{type(checker).__name__: stops.stopped() for checker in (stops.SIGNAL, stops.DRAIN, stops.LONG, stops.STREAMS)},
    "SwitchCostsNothing": replacing.SWITCHED,
    **{type(checker).__name__: mixing.mixed() for checker in (mixing.SESSIONS, mixing.ASSETS)},
}
"""Nor is what is done to replicas only, or to two at the same time."""
GIVEN = {
    name: dict(checker().check(OF_THEIR_OWN.get(name, EVERYTHING)).evidence) for name, checker in registry().items()
}


class Asked(dict[str, Any]):
    """Remembers what it was asked for."""

    def __init__(self, of: Evidence, names: set[str]) -> None:
        super().__init__(of)
        self.names = names

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.names.add(key)
        return super().__getitem__(key)


def test_rules_ask_for_what_is_there() -> None:
    """No rule waits for a key that no checker gives, or for a fact no run has: it would be silent for ever."""
    names: dict[str, set[str]] = {checker: set() for checker in GIVEN}
    facts: set[str] = set()
    for row in ROWS:
        findings = [
            replace(
                finding,
                verdict=replace(
                    finding.verdict,
                    evidence={key: Asked(value, names[key]) for key, value in finding.verdict.evidence.items()},
                ),
            )
            for finding in row.findings()
        ]
        diagnose(findings, facts=Asked(dict(row.facts), facts), looks=row.looks)
    assert {
        checker: asked - set(GIVEN[checker]) for checker, asked in names.items() if asked - set(GIVEN[checker])
    } == {}
    told: set[str] = set()
    for setup in (REFERENCE, "fixtures/setups/reference-haproxy.toml"):
        run = object.__new__(Verification)  # its facts come from the setup alone
        run._setup = load_setup(CHECKOUT / setup)
        run._choice = Choice("native")
        run._platform_facts = {"swarm": {}}
        told |= set(run.facts)
    assert facts <= told


@each_row
def test_rows_are_in_the_form_of_checkers(row: Row) -> None:
    """The tables above are about evidence as checkers give it."""
    for finding in row.findings():
        for checker, seen in finding.verdict.evidence.items():
            assert set(seen) <= set(GIVEN[checker])


def test_a_healthy_run_has_no_cause() -> None:
    """Were every verdict on a healthy run a failure by mistake, still nothing would be accused."""
    findings = [
        Finding(promise=checker, scenario="s", verdict=Verdict.fail("broken", **{checker: evidence}))
        for checker, evidence in GIVEN.items()
    ]
    told = diagnose(findings, facts={"pool": list(APPS), "max_fails": 1}, looks=EVERYTHING.looks)
    assert {finding.promise: [cause.id for cause in finding.causes] for finding in told if finding.causes} == {}


def causes_of(checker: str, record: History) -> list[str]:
    verdict = registry()[checker]().check(record)
    finding = Finding(promise="p", scenario="s", verdict=replace(verdict, evidence={checker: verdict.evidence}))
    facts = {"rollout": "rolling", "drain": "balancer-first"}
    return [cause.id for cause in diagnose([finding], facts=facts, looks=record.looks)[0].causes]


@pytest.mark.parametrize(
    ("kind", "causes"),
    [
        ("kill", ["secret-at-boot"]),
        ("stop", ["secret-at-boot"]),
        ("out-of-memory", ["secret-at-boot"]),
        ("hang", []),
        ("cut-off-silence", []),
        ("cut-off-refusal", []),
    ],
)
def test_a_secret_at_boot_needs_a_start(kind: str, causes: list[str]) -> None:
    """From a history: sessions void since an instance came back speak of a new secret only where one was started."""
    void = [
        whoami(o.visitor, o.due, instance=o.instance, answer=Answer.LOGGED_OUT)
        if o.kind == "whoami" and o.due > 5.1
        else o
        for o in LOST.operations
    ]
    assert causes_of("NoSessionLost", replace(LOST, operations=tuple(void), faults=(fault(kind),))) == causes


@pytest.mark.parametrize(("until", "causes"), [(1.0, ["ready-before-warm-up"]), (9.0, [])])
def test_a_new_version_warms_up_or_is_broken(until: float, causes: list[str]) -> None:
    """From a history: a new instance that fails at first warms up; one that fails every fifth request for ever is broken."""
    ready = {step.node: step.at for step in ROLLED.rollout if step.step == "ready"}
    made = []
    for i, o in enumerate(ROLLED.operations):
        since = o.due - ready.get(o.instance or "", 99.0)
        fails = 0 <= since < until and (until < 2 or i % 5 == 0) and o.kind != "login"
        made.append(
            failed(o.due, error="http-500", instance=o.instance, attempts=(o.instance or "",), visitor=o.visitor)
            if fails
            else o
        )
    assert causes_of("RolloutCostsNothing", replace(ROLLED, operations=tuple(made))) == causes


def test_a_store_that_could_not_be_counted_once_is_no_crash() -> None:
    """A count that failed on one side of the logins says nothing, and stops nothing."""
    half = [look("sessions-stored", "app-1", value={"before": 3, "after": None, "logins": 20})]
    assert [c.id for c in Row("", AT_HOME, {}, looks=half).diagnosed().causes] == ["session-in-memory"]


def test_memory_of_one_process_of_an_instance_is_told_as_that() -> None:
    """Where an instance has several, not even the one people logged in at knows them each time."""
    half = everywhere(lambda home, asked: home == asked)
    for home, row in half["SessionOnEveryInstance"]["matrix"].items():
        row[home] |= {"recognised": 5, "logged_out": 5}
    said = {
        of: Row("", seen, {}, looks=TRACELESS).diagnosed().causes[0].sentence
        for of, seen in (("all", AT_HOME), ("half", half))
    }
    assert said == {
        "all": "sessions live in the memory of one instance",
        "half": "sessions live in the memory of one process, and an instance has several",
    }


def test_a_session_that_is_its_cookie_cannot_be_deleted() -> None:
    """Where nobody could look into a store there may be none: the remedy says what can be done then."""
    seen = replay(home=9, others=18)
    stored = Row("", seen, {}, looks=[at_logout(9, 9)]).diagnosed().causes[0].remedy
    unseen = Row("", seen, {}).diagnosed().causes[0].remedy
    assert unseen.startswith(f"{stored}. Where the cookie itself is the session")


@pytest.mark.parametrize(
    ("kind", "word"), [("nginx", "`resolver`"), ("haproxy", "`server-template`"), ("envoy", "again")]
)
def test_the_remedy_of_a_stale_address_is_in_the_words_of_the_balancer(kind: str, word: str) -> None:
    """Each looks names up again in its own way; the key of the setup is the same."""
    (cause,) = Row("", moved(), {}, facts={"balancer": kind}).diagnosed().causes
    assert cause.remedy.startswith('balancer.resolve = "always"')
    assert word in cause.remedy
