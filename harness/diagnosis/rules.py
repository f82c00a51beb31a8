"""The rules, one function for each cause: from symptoms to a cause with what speaks for it and what against.

A rule answers None unless the finding it is asked about shows the symptom this cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["RULES"]

Rule = Callable[[Case], Cause | None]

_STORE_NAMES = {"redis": "Redis", "postgres": "Postgres"}
_FEW_KEYS = 0.1
"""Keys per login below which logins leave no trace in the store: each real session leaves one."""


def session_in_memory(case: Case) -> Cause | None:
    """Sessions that only the instance they began on knows, and that leave no trace in the shared store."""
    about_stores = "session_store" in case.evidence("InstancesAgree").get("differing", ())
    if not (case.sessions_lost or about_stores):
        return None
    store = _STORE_NAMES.get(str(case.facts.get("session_store")), "the shared store")
    keys = case.keys_per_login()
    evidence = []
    if keys is not None and keys < _FEW_KEYS:
        evidence.append(f"no key appeared in {store} at login")
    if "session_store" in case.differing:
        evidence.append("each instance names another session store")
    if not evidence:
        if keys is not None or not _only_at_home(case) or "config" in case.differing:
            return None
        return Cause(
            id="session-in-memory",
            sentence="sessions live in the memory of one instance",
            confidence=Confidence.POSSIBLE,
            evidence=(_at_home_in_words(case),),
            against=("the session store could not be looked into",),
            remedy="give every instance the same store: app.env and sessions.store",
            guide="Step 2: Configure Persistent Session Storage",
        )
    if _only_at_home(case):
        evidence.append(_at_home_in_words(case))
    return Cause(
        id="session-in-memory",
        sentence="sessions live in the memory of one instance",
        confidence=Confidence.CERTAIN if keys is not None and keys < _FEW_KEYS else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='give every instance the same store: app.env.REDIS_URL = "{redis.url}", or the database',
        guide="Step 2: Configure Persistent Session Storage",
    )


def secret_per_instance(case: Case) -> Cause | None:
    """Sessions reach the shared store, and yet only the instance they began on accepts their cookie."""
    about_config = "config" in case.evidence("InstancesAgree").get("differing", ())
    if not (case.sessions_lost or about_config):
        return None
    keys = case.keys_per_login()
    stored = keys is not None and keys >= _FEW_KEYS
    if not _only_at_home(case) and not (about_config and stored):
        return None
    evidence, against = [], []
    if stored:
        evidence.append("every login left a session in the shared store")
    if "config" in case.differing:
        evidence.append("the instances tell different configurations")
    if _only_at_home(case):
        evidence.append(_at_home_in_words(case))
    if not stored:
        if keys is not None or "config" not in case.differing:
            return None
        against.append("the session store could not be looked into")
    sure = stored and "config" in case.differing and _only_at_home(case)
    return Cause(
        id="secret-per-instance",
        sentence="every instance signs cookies with a secret of its own",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy='give every instance the same secret: app.env.SECRET_KEY = "{secret}", nothing in app.instance_env',
        guide="Best Practices: DO 10, DON'T 5; Scaling Checklist: same SESSION_KEY and CSRF_SECRET",
    )


def secret_at_boot(case: Case) -> Cause | None:
    """Sessions work everywhere until an instance starts; then all of them are void, though the store still has them."""
    if not case.sessions_lost or _only_at_home(case):
        return None
    keys = case.keys_per_login()
    if keys is not None and keys < _FEW_KEYS:
        return None
    evidence = []
    restart = case.evidence("SessionsSurviveRestart")
    if restart.get("pairs_lost") and not restart.get("pairs_kept"):
        evidence.append(f"all {restart['pairs_lost']} sessions known before the restart were refused after it")
    for lost in (case.evidence("NoSessionLost"), case.evidence("RolloutCostsNothing").get("sessions", {})):
        if not lost.get("lost") or lost.get("logged_out_before"):
            continue
        evidence.append(
            f"{lost['lost']} of {lost['promised']} sessions became void, none before an instance was started"
        )
        others = {who for row in lost.get("lost_matrix", {}).values() for who in row} - set(
            lost.get("since_start_seconds", {})
        )
        if others:
            evidence.append(f"also {_names(others)} refused them, which had not been started again")
    if not evidence:
        return None
    remembered = _still_stored(case)
    if remembered:
        evidence.append(remembered)
    return Cause(
        id="secret-at-boot",
        sentence="a new cookie secret is generated when an instance starts",
        confidence=Confidence.CERTAIN if remembered and len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="generate the secret once, outside the application, and hand it in by app.env",
        guide="Common Issues: Sessions lost after deployment",
    )


def logout_cookie_only(case: Case) -> Cause | None:
    """A copy of the cookie works after the logout, also where the logout itself happened."""
    seen = case.evidence("LogoutHoldsEverywhere")
    if not seen.get("accepted"):
        return None
    evidence = []
    if seen.get("accepted_on_logout_instance"):
        evidence.append("the copied cookie was accepted even by the instance on which its owner had logged out")
    before, after, logouts = _stored_at_logout(case)
    if before is not None and after is not None and logouts:
        if before - after < logouts * (1 - _FEW_KEYS):
            evidence.append(f"{logouts} logouts removed {max(0, before - after)} sessions from the shared store")
        else:
            return None
    if not evidence:
        return None
    return Cause(
        id="logout-cookie-only",
        sentence="logging out clears the cookie in the browser and leaves the session alive",
        confidence=Confidence.CERTAIN if len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="delete the session in the store when somebody logs out; clearing the cookie is only manners",
        guide="Step 2: Configure Persistent Session Storage",
    )


def sessions_cached(case: Case) -> Cause | None:
    """A copy of the cookie works after the logout, but only on instances that had not handled the logout."""
    seen = case.evidence("LogoutHoldsEverywhere")
    if not seen.get("accepted") or seen.get("accepted_on_logout_instance") or not seen.get("accepted_on_others"):
        return None
    return Cause(
        id="sessions-cached",
        sentence="instances keep copies of sessions and do not hear of a logout elsewhere",
        confidence=Confidence.LIKELY,
        evidence=("the copied cookie was refused where its owner had logged out, and accepted elsewhere",),
        remedy="ask the shared store at each request, or tell the other instances of a logout",
        guide="Step 2: Configure Persistent Session Storage",
    )


def ready_before_warm_up(case: Case) -> Cause | None:
    """Requests fail on an instance that has just said it was ready, with an answer of its own."""
    rejoin = case.evidence("VictimRejoins")
    rollout = case.evidence("RolloutCostsNothing")
    evidence = []
    statuses = {name for name in {**rejoin.get("errors", {}), **rollout.get("errors", {})} if name in _SERVER_ERRORS}
    if rejoin.get("failed") and statuses and rejoin.get("failed_attempts"):
        on_victim = sum(n for tried, n in rejoin["failed_attempts"].items() if tried.split()[-1:] == [rejoin["victim"]])
        if on_victim == rejoin["failed"]:
            evidence.append(
                f"all {on_victim} failed requests were answered by {rejoin['victim']} itself, in the first "
                f"{rejoin['last_failure_seconds']:.1f} s after it had said that it was ready"
            )
    on_new = rollout.get("failed_on_new")
    if on_new and statuses and on_new == rollout["failed"]:
        evidence.append(
            f"all {on_new} failed requests were answered by a new instance, in the first "
            f"{rollout['failed_on_new_within_seconds']:.1f} s after it had said that it was ready"
        )
    if not evidence:
        return None
    evidence.append(f"they were answered by the application: {', '.join(sorted(statuses))}")
    return Cause(
        id="ready-before-warm-up",
        sentence="an instance says that it is ready before it can serve",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="let app.ready answer 503 until warm-up and migrations are done",
        guide="Health Checks",
    )


_SERVER_ERRORS = ("http-500", "http-503")


def exit_at_once(case: Case) -> Cause | None:
    """Requests in flight are cut, and the process is gone before they could have been finished."""
    seen = case.evidence("InFlightFinishes")
    if not seen.get("cut"):
        return None
    stop = seen.get("stop_seconds")
    evidence = [
        f"{seen['cut']} of {seen['in_flight']} requests in flight were cut ({_classes(seen.get('errors', {}))})"
    ]
    quick = False
    if stop is not None and stop < _AT_ONCE_SECONDS:
        quick = True
        evidence.append(f"the process was gone {stop * 1000:.0f} ms after it was told to stop")
    killed = "-9" in str(seen.get("proof", "")) or "137" in str(seen.get("proof", ""))
    if killed:
        return None
    return Cause(
        id="exit-at-once",
        sentence="the application exits at once when it is told to stop",
        confidence=Confidence.CERTAIN if quick else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=() if quick else ("it took its time to end",),
        remedy="on app.stop_signal stop accepting, finish what is in flight, then exit",
        guide="Best Practices: DO 9",
    )


_AT_ONCE_SECONDS = 0.5
"""The requests that were in flight take a second each: a process gone in half of that did not wait for them."""


def stop_patience_too_short(case: Case) -> Cause | None:
    """Requests in flight are cut because the process was killed while it still worked on them."""
    seen = case.evidence("InFlightFinishes")
    if not seen.get("cut") or "-9" not in str(seen.get("proof", "")):
        return None
    return Cause(
        id="stop-patience-too-short",
        sentence="the application is killed before it has finished",
        confidence=Confidence.CERTAIN,
        evidence=(f"it had to be killed ({seen['proof']})", f"{seen['cut']} requests in flight were cut"),
        remedy="raise app.stop_within_seconds above the longest request; handle app.stop_signal",
        guide="Best Practices: DO 9",
    )


def listener_closed_early(case: Case) -> Cause | None:
    """The balancer was refused by an instance that had been told to stop, before it had been taken out."""
    seen = case.evidence("RolloutCostsNothing")
    if not seen.get("failed") or case.facts.get("drain") == "balancer-first" or case.facts.get("rollout") != "rolling":
        return None
    leaving = sum(n for step, n in seen.get("failed_by_step", {}).items() if step.endswith(("draining", "stopping")))
    refused = sum(n for name, n in seen.get("errors", {}).items() if name in ("http-502", "refused"))
    if not leaving or refused < seen["failed"] / 2 or leaving < seen["failed"] / 2:
        return None
    return Cause(
        id="listener-closed-early",
        sentence="an instance closes its listener before the balancer knows that it leaves",
        confidence=Confidence.CERTAIN if leaving == seen["failed"] else Confidence.LIKELY,
        evidence=(
            f"{leaving} of {seen['failed']} failed requests were due between the order to stop and the instance's end",
            f"the balancer could not reach it: {_classes(seen.get('errors', {}))}",
        ),
        remedy="on app.stop_signal turn app.ready off first and go on accepting until the balancer has noticed; "
        'or drain at the balancer: rollout.drain = "balancer-first"',
        guide="Deployment Strategies: Zero-Downtime Deployment",
    )


def all_at_once(case: Case) -> Cause | None:
    """At some moment of the rollout no instance was in use."""
    seen = case.evidence("RolloutCostsNothing")
    if not seen.get("failed") or seen.get("min_available") != 0:
        return None
    return Cause(
        id="all-at-once",
        sentence="all instances were replaced at the same time",
        confidence=Confidence.CERTAIN,
        evidence=(
            "at the worst moment none of the instances was up",
            f"nobody was answered for {seen.get('longest_gap_seconds') or 0.0:.1f} s",
        ),
        remedy='replace one instance at a time: rollout.kind = "rolling"',
        guide="Best Practices: DON'T 6",
    )


def no_retry(case: Case) -> Cause | None:
    """Requests that failed were tried at the lost instance and nowhere else."""
    seen = case.evidence("RequestsSurviveLoss")
    idempotent = seen.get("failed_by_method", {}).get("idempotent", 0)
    if not idempotent:
        return None
    only_victim = seen.get("failed_attempts", {}).get(seen.get("victim"), 0)
    if only_victim < idempotent:
        return None
    configured = case.facts.get("next_upstream")
    evidence = [f"{only_victim} of {seen['failed']} failed requests were tried at {seen['victim']} and nowhere else"]
    if configured is not None and not {"error", "timeout"} <= set(configured):
        evidence.append(f"balancer.next_upstream is {list(configured) or 'off'}")
    return Cause(
        id="no-retry",
        sentence="the balancer tries no other instance when one cannot be reached",
        confidence=Confidence.CERTAIN if len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.next_upstream = ["error", "timeout"]',
        guide="Step 3: Configure Load Balancer (proxy_next_upstream)",
    )


def no_health_check(case: Case) -> Cause | None:
    """The lost instance is tried as often at the end of its absence as at the beginning."""
    seen = case.evidence("RequestsSurviveLoss")
    if "detection" not in seen.get("broken", ()):
        return None
    evidence = [
        (
            f"{seen['tried_at_victim']} requests ({(seen.get('tried_share') or 0.0):.0%}) were tried at "
            f"{seen['victim']} while it was lost, {seen['tried_late']} of them after the balancer had to know"
        )
    ]
    off = case.facts.get("max_fails") == 0
    if off:
        evidence.append("balancer.max_fails is 0: failures are not counted")
    return Cause(
        id="no-health-check",
        sentence="the balancer never takes a dead instance out",
        confidence=Confidence.CERTAIN if off else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="count failures: balancer.max_fails = 1, balancer.fail_timeout_seconds = 1 or a little more",
        guide="Step 3: Configure Load Balancer (max_fails, fail_timeout)",
    )


def read_timeout_too_long(case: Case) -> Cause | None:
    """A hung instance costs more than the promise allows, because the balancer waits for it that long."""
    seen = case.evidence("RequestsSurviveLoss")
    wait = float(case.facts.get("read_timeout_seconds") or 0.0)
    slow = {"slowest-answer", "detection", "failed-requests", "failed-writes"} & set(seen.get("broken", ()))
    if not str(seen.get("fault", "")).startswith("hang") or not slow or wait <= _PATIENT_SECONDS:
        return None
    return Cause(
        id="read-timeout-too-long",
        sentence="the balancer waits too long for an instance that has stopped answering",
        confidence=Confidence.CERTAIN,
        evidence=(f"balancer.read_timeout_seconds is {wait:g}", f"bounds broken: {', '.join(sorted(slow))}"),
        remedy="balancer.read_timeout_seconds just above the slowest honest answer, 2 for example",
        guide="Best Practices: DO 5",
    )


_PATIENT_SECONDS = 3.0
"""Above this the balancer cannot know in time: the bound on detecting a hang."""


def fail_timeout_too_long(case: Case) -> Cause | None:
    """An instance that is back gets nothing, because the balancer leaves it out for longer than promised."""
    seen = case.evidence("VictimRejoins")
    out = float(case.facts.get("fail_timeout_seconds") or 0.0)
    if not seen or seen.get("failed") or out < _REJOIN_SECONDS:
        return None
    return Cause(
        id="fail-timeout-too-long",
        sentence="the balancer leaves an instance out long after it has returned",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{seen['victim']} got {seen['answers']} of {seen['requests']} requests after it was ready again",
            f"balancer.fail_timeout_seconds is {out:g}",
        ),
        remedy="balancer.fail_timeout_seconds = 1 or 2: with one failed try it costs one retry each time",
        guide="Step 3: Configure Load Balancer (fail_timeout)",
    )


_REJOIN_SECONDS = 10.0


def instance_not_in_pool(case: Case) -> Cause | None:
    """An instance that is alive gets nothing at all through the balancer."""
    missing = _missing(case)
    if not missing:
        return None
    pool = case.facts.get("pool")
    unlisted = sorted(set(missing) - set(pool)) if pool is not None else []
    evidence = [f"{_names(missing)} answered nothing through the balancer"]
    if unlisted:
        evidence.append(f"balancer.pool leaves out {_names(unlisted)}")
    alive = any(
        seen.get("by_instance", {}).get(name, {}).get("status") == 200
        for seen in case.elsewhere("EveryInstanceAnswers")
        for name in missing
    )
    if alive:
        evidence.append(f"asked directly, {_names(missing)} is alive")
    return Cause(
        id="instance-not-in-pool",
        sentence="an instance is missing from the balancer's pool",
        confidence=Confidence.CERTAIN if unlisted else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="list every instance in the balancer's upstream: leave balancer.pool out, or complete it",
        guide="Common Issues: Uneven load distribution",
    )


def _missing(case: Case) -> list[str]:
    complete = case.evidence("EveryInstanceGetsTraffic")
    if complete.get("missing"):
        return list(complete["missing"])
    share = case.evidence("SharesFitTheAlgorithm")
    if not share:
        return []
    for seen in case.elsewhere("EveryInstanceGetsTraffic"):
        if seen.get("missing"):
            return list(seen["missing"])
    counts: Mapping[str, int] = share.get("counts", {})
    every = {name for seen in case.elsewhere("EveryInstanceAnswers") for name in seen.get("by_instance", {})}
    every |= set(counts)
    return sorted(name for name in every if not counts.get(name))


# -- what several rules say --------------------------------------------------------------------------------------


def _only_at_home(case: Case) -> bool:
    """Whether sessions were known where they began and nowhere else."""
    (known, asked), (known_away, asked_away) = case.at_home, case.away
    return asked > 0 and asked_away > 0 and known_away == 0 and known > 0


def _at_home_in_words(case: Case) -> str:
    (known, asked), (known_away, asked_away) = case.at_home, case.away
    return (
        f"recognised {known} of {asked} times by the instance they began on, "
        f"{known_away} of {asked_away} times by any other"
    )


def _still_stored(case: Case) -> str:
    """Whether the store still held the sessions after they were refused."""
    counts = [
        look.value["sessions"]
        for look in case.looks
        if look.what == "sessions-left" and look.value.get("sessions") is not None
    ]
    return f"the shared store still holds the sessions ({min(counts)} keys)" if counts and min(counts) > 0 else ""


def _stored_at_logout(case: Case) -> tuple[int | None, int | None, int]:
    for look in case.looks:
        if look.what == "sessions-at-logout":
            return look.value.get("before"), look.value.get("after"), int(look.value.get("logouts", 0))
    return None, None, 0


def _classes(errors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())


def _names(names: Any) -> str:
    return " and ".join(sorted(names))


RULES: tuple[Rule, ...] = (
    session_in_memory,
    secret_per_instance,
    secret_at_boot,
    logout_cookie_only,
    sessions_cached,
    ready_before_warm_up,
    exit_at_once,
    stop_patience_too_short,
    listener_closed_early,
    all_at_once,
    no_retry,
    no_health_check,
    read_timeout_too_long,
    fail_timeout_too_long,
    instance_not_in_pool,
)
