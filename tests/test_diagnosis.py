"""From what was seen to why: each cause is named for its own symptoms, and for no other's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.checkers import registry
from harness.diagnosis import RULES, Case, diagnose
from harness.door import REFERENCE
from harness.model import Answer, Finding, History, Look, Status, Verdict
from harness.setup import load_setup
from harness.verification import Verification
from tests.checker_histories import APPS, failed, fault, logout, look, whoami
from tests.test_checkers_rollout import ROLLED
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
    Row("another version", agree(version="aab", config="aaa"), {}, also=[SHARED], looks=STORED),
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
    Row("down", NOTHING_FOR_3, {}, also=[health(app_1=200, app_2=200, app_3=None)]),
    Row(
        "uneven, and everybody has some",
        {"SharesFitTheAlgorithm": {"counts": {"app-1": 700, "app-2": 9}}},
        {},
        facts=TWO,
    ),
]

ROWS = SESSIONS + COMING + GOING + LOSING
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
        "pool": [],
        "rollout": "rolling",
        "drain": "none",
    }
    empty = Finding(promise="p", scenario="s", verdict=Verdict.fail("broken"))
    for facts in ({}, suspicious):
        assert RULES[rule](Case(finding=empty, findings=[empty], facts=facts, looks=[])) is None


@pytest.mark.parametrize("status", [Status.PASS, Status.INCONCLUSIVE, Status.RIG_ERROR])
def test_only_what_was_seen_broken_has_a_cause(status: Status) -> None:
    """What is kept, not tested, or the harness's own failure, has none, whatever its evidence looks like."""
    assert not any(row.diagnosed(status).causes for row in ROWS)


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
    faults=(fault("stop", injected=9.5, effective=9.6, healing=9.7, healed=9.8),),
    looks=(*ROLLED.looks, *(look("health", app) for app in APPS)),
    operations=(*ROLLED.operations, logout("v1", 9.0, via="app-1")),
)
GIVEN = {name: dict(checker().check(EVERYTHING).evidence) for name, checker in registry().items()}


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
    run = object.__new__(Verification)  # its facts come from the setup alone
    run._setup = load_setup(CHECKOUT / REFERENCE)
    assert facts <= set(run.facts)


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


@pytest.mark.parametrize(("kind", "causes"), [("kill", ["secret-at-boot"]), ("stop", ["secret-at-boot"]), ("hang", [])])
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
