"""Rules about sessions: why people are taken for nobody, or go on being taken for somebody.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "logout_cookie_only",
    "secret_at_boot",
    "secret_per_instance",
    "session_in_memory",
    "session_store_differs",
    "sessions_cached",
]

_STORE_NAMES = {"redis": "Redis", "postgres": "Postgres"}
_STEP_2 = "Step 2: Configure Persistent Session Storage"


_ALWAYS_KNOWN = 0.9
"""Of the times a session was asked for where it began: with less, not even that instance knows it whenever it is asked."""


def session_in_memory(case: Case) -> Cause | None:
    """Sessions that only the instance they began on knows, that leave no trace in the shared store, and die with it."""
    logged_out_elsewhere = case.apart and bool(case.evidence("ReplayIsRefused").get("accepted"))
    if not (case.sessions_lost or logged_out_elsewhere or case.differs("session_store")):
        return None
    # What others recognise is not in one instance's memory, and what outlives its process is in nobody's.
    if case.shared or case.kept_over_restart:
        return None
    alone = {name for camp in case.camps if len(camp) == 1 for name in camp} if case.apart else set()
    traceless = case.traceless & (alone | {"balancer"}) if case.apart else case.traceless
    stores = case.groups("session_store")
    own_stores = "session_store" in case.differing and len(stores) == sum(map(len, stores))
    evidence, against = [], []
    if traceless:
        where = "" if case.all_traceless else f"s on {listed(sorted(traceless))}"
        evidence.append(f"no key appeared in {_store(case)} at login{where}")
    elif case.store_was_seen:
        return None
    if case.facts.get("session_store") == "memory":
        evidence.append('sessions.store is "memory"')
    if own_stores:
        evidence.append("each instance names another session store")
    if case.apart:
        evidence.append(_apart_in_words(case))
    elif not traceless:
        return None
    if "config" in case.differing and "session_store" not in case.differing:
        against.append("the instances tell different configurations: it may be the secret")
    confidence = Confidence.CERTAIN if case.apart and traceless and not against else Confidence.LIKELY
    if len(evidence) == 1 and not traceless:
        # Being known at home alone is what a secret of its own looks like as well.
        if against or any(len(camp) > 1 for camp in case.camps):
            return None
        confidence = Confidence.POSSIBLE
        against.append("the session store could not be looked into: a secret for each instance looks the same")
    known, asked = case.recognised(home=True)
    several = case.apart and known < _ALWAYS_KNOWN * asked
    return Cause(
        id="session-in-memory",
        sentence="sessions live in the memory of one process, and an instance has several"
        if several
        else "sessions live in the memory of one instance",
        confidence=confidence,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy='give every instance the same store: app.env.REDIS_URL = "{redis.url}", or the database',
        guide=_STEP_2,
    )


def session_store_differs(case: Case) -> Cause | None:
    """Instances that keep sessions outside their memory, but not all in the same place."""
    if not (case.sessions_lost or case.differs("session_store")):
        return None
    if case.shared or session_in_memory(case) is not None:
        return None
    evidence = []
    told = "session_store" in case.differing
    if told:
        groups = (listed(sorted(group)) for group in case.groups("session_store"))
        evidence.append(f"different session stores are named by {', and by '.join(groups)}")
    if case.apart and case.kept_over_restart:
        evidence.append("sessions are known again after a restart: they are kept somewhere")
        if case.traceless:
            evidence.append(f"no key appeared in {_store(case)} at logins on {listed(sorted(case.traceless))}")
    if case.apart:
        evidence.append(_apart_in_words(case))
    if not told and not (case.traceless and case.kept_over_restart and case.apart):
        return None
    return Cause(
        id="session-store-differs",
        sentence="the instances do not share one session store",
        confidence=Confidence.CERTAIN if told else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="give every instance the same store: the same app.env for all, nothing of it in app.instance_env",
        guide=_STEP_2,
    )


def secret_per_instance(case: Case) -> Cause | None:
    """Sessions reach the shared store, and yet some instances accept no cookie that others made."""
    refused = case.evidence("LoginCrossesInstances").get("refused")
    if not (case.sessions_lost or case.differs("config") or refused) or not case.apart:
        return None
    if "session_store" in case.differing or (case.store_was_seen and not case.stored):
        return None
    evidence, against = [], []
    if case.stored:
        evidence.append("every login left a session in the shared store")
    elif "config" in case.differing:
        against.append("the session store could not be looked into")
    else:
        return None
    if "config" in case.differing:
        evidence.append("the instances tell different configurations")
    elif "config" in case.agreed:
        against.append("the instances tell the same configuration")
    evidence.append(_apart_in_words(case))
    all_alone = all(len(camp) == 1 for camp in case.camps)
    return Cause(
        id="secret-per-instance",
        sentence=(
            "every instance signs cookies with a secret of its own"
            if all_alone
            else "not all instances sign cookies with the same secret"
        ),
        confidence=Confidence.CERTAIN if case.stored and "config" in case.differing else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy='give every instance the same secret: app.env.SECRET_KEY = "{secret}", nothing in app.instance_env',
        guide="Best Practices: DO 10, DON'T 5; Scaling Checklist: same SESSION_KEY and CSRF_SECRET",
    )


def secret_at_boot(case: Case) -> Cause | None:
    """Sessions work everywhere until an instance starts; then all of them are void, though the store still has them."""
    if not case.sessions_lost or case.apart:
        return None
    # What never was in the store proves nothing, unless others recognised it: then the cookie carries it.
    if case.traceless and not case.shared:
        return None
    left = case.sessions_left
    if left == 0 and not case.traceless:
        return None  # they are gone, not void
    evidence = []
    restart = case.evidence("SessionsSurviveRestart")
    if restart.get("pairs_lost") and not restart.get("pairs_kept"):
        evidence.append(f"all {restart['pairs_lost']} sessions known before the restart were refused after it")
    for lost in (case.evidence("NoSessionLost"), case.evidence("RolloutCostsNothing").get("sessions", {})):
        if not lost.get("lost") or any(lost.get(key) for key in ("logged_out_before", "lost_before_start", "survived")):
            continue
        evidence.append(
            f"{lost['lost']} of {lost['promised']} sessions became void, none before an instance was started"
        )
        others = {who for row in lost.get("lost_matrix", {}).values() for who in row} - set(
            lost.get("since_start_seconds", {})
        )
        if others:
            evidence.append(f"also {listed(sorted(others))} refused them, which had not been started again")
    if not evidence:
        return None
    remembered = f"the shared store still holds the sessions ({left} keys)" if left and not case.traceless else ""
    if remembered:
        evidence.append(remembered)
    return Cause(
        id="secret-at-boot",
        sentence="a new cookie secret is generated when an instance starts",
        confidence=Confidence.CERTAIN if remembered else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="generate the secret once, outside the application, and hand it in by app.env",
        guide="Common Issues: Sessions lost after deployment",
    )


_END_THE_SESSION = "delete the session in the store when somebody logs out; clearing the cookie is only manners"
_NOWHERE_TO_END_IT = (
    ". Where the cookie itself is the session (Flask, Rails, cookie-session, a JWT) there is nothing to delete: keep sessions on "
    "the server, or a number with each person that is in the cookie too and that a logout raises"
)
"""Of a setup that does not say where sessions are: nobody could look."""


def logout_cookie_only(case: Case) -> Cause | None:
    """A copy of the cookie works after the logout, also where the logout itself happened, and its session is there."""
    seen = _after_logout(case)
    if not seen.get("accepted_on_logout_instance"):
        return None
    evidence = ["the copied cookie was accepted even by the instance on which its owner had logged out"]
    sure = False
    if (counted := case.removed_by_logouts()) is not None:
        removed, logouts = counted
        if removed >= logouts:
            return None
        sure = not removed
        evidence.append(f"{logouts} logouts removed {removed} sessions from the shared store")
    return Cause(
        id="logout-cookie-only",
        sentence="logging out clears the cookie in the browser and leaves the session alive",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy=_END_THE_SESSION if counted is not None else f"{_END_THE_SESSION}{_NOWHERE_TO_END_IT}",
        guide=_STEP_2,
    )


def sessions_cached(case: Case) -> Cause | None:
    """A copy of the cookie works after the logout although its session is gone, or only where nobody logged out."""
    seen = _after_logout(case)
    # Where the others do not know a session, they had nothing to keep a copy of: whoever logged out there ended nothing.
    if not seen.get("accepted") or case.apart:
        return None
    evidence = []
    if not seen.get("accepted_on_logout_instance"):
        evidence.append("the copied cookie was refused where its owner had logged out, and accepted elsewhere")
    counted = case.removed_by_logouts()
    if counted is not None and counted[0] >= counted[1]:
        evidence.append(f"{counted[1]} logouts removed {counted[0]} sessions from the shared store")
    if not evidence:
        return None
    return Cause(
        id="sessions-cached",
        sentence="instances keep copies of sessions and do not hear of a logout",
        confidence=Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="ask the shared store at each request, or tell the other instances of a logout",
        guide=_STEP_2,
    )


def _after_logout(case: Case) -> Mapping[str, Any]:
    """What became of copied cookies after the logout, whichever way they were shown."""
    return case.evidence("LogoutHoldsEverywhere") or case.evidence("ReplayIsRefused")


def _store(case: Case) -> str:
    return _STORE_NAMES.get(str(case.facts.get("session_store")), "the shared store")


def _apart_in_words(case: Case) -> str:
    if any(len(camp) > 1 for camp in case.camps):
        return "sessions are recognised within " + ", and within ".join(listed(sorted(camp)) for camp in case.camps)
    (known, asked), (known_away, asked_away) = case.recognised(home=True), case.recognised(home=False)
    return (
        f"recognised {known} of {asked} times by the instance they began on, "
        f"{known_away} of {asked_away} times by any other"
    )
