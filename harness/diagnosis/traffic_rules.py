"""Rules about requests: why they fail, wait or go to the wrong instance while instances come, go, or just are.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "all_at_once",
    "exit_at_once",
    "fail_timeout_too_long",
    "faster_than_fail_timeout",
    "instance_not_in_pool",
    "listener_closed_early",
    "listens_before_ready",
    "no_health_check",
    "no_retry",
    "not_drained",
    "read_timeout_too_long",
    "ready_before_warm_up",
    "stop_patience_too_short",
]

_SERVER_ERRORS = ("http-500", "http-503")
"""What an application answers itself; 502 and 504 are the balancer's word for nobody at home."""
_MOST = 0.9
"""Share of the failures a cause must account for: others may have been under way when it struck."""
_SETTLED_SECONDS = 0.3
"""Requests that fail until this close to the end of the traffic have not stopped failing."""
_FAIL_TIMEOUT_GRAIN_SECONDS = 1.0
"""nginx counts in whole seconds and leaves an instance out for more than it was told."""
_AT_ONCE_SECONDS = 0.5
"""The requests that were in flight take a second each: a process gone in half of that did not wait for them."""
_TIME_ENOUGH_SECONDS = 1.5
"""And a process that was killed only after this had the time to finish them."""
_KILLED = re.compile(r"exit code (-9|137)\b")


# -- instances that come -----------------------------------------------------------------------------------------


def ready_before_warm_up(case: Case) -> Cause | None:
    """Requests fail on an instance that has just said it was ready, with an answer of its own, until it serves."""
    evidence: list[str] = []
    against: list[str] = []
    classes: set[str] = set()
    for told in (_failed_on_return(case), _failed_on_new(case)):
        if told is not None:
            evidence.append(told[0])
            against += told[1]
            classes |= told[2]
    if not evidence:
        return None
    evidence.append(f"they were answered by the application: {', '.join(sorted(classes))}")
    return Cause(
        id="ready-before-warm-up",
        sentence="an instance says that it is ready before it can serve",
        confidence=Confidence.LIKELY if against else Confidence.CERTAIN,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="let app.ready answer 503 until warm-up and migrations are done",
        guide="Health Checks",
    )


_Told = tuple[str, list[str], set[str]]
"""What speaks for it, what against it, and the classes of errors."""


def _failed_on_return(case: Case) -> _Told | None:
    seen = case.evidence("VictimRejoins")
    failed = seen.get("failed", 0) - seen.get("failed_before_ready", 0)
    if failed <= 0 or not _by_application(seen) or _failed_last_at(seen, seen["victim"]) < _MOST * seen["failed"]:
        return None
    last, served = seen["last_failure_seconds"], seen.get("rejoin_seconds")
    against = []
    if served is None:
        against.append("it never served properly while anybody watched")
    elif last > served + _SETTLED_SECONDS:
        # Whoever fails now and then to the end is broken, not warming up.
        if last > seen["watched_seconds"] - _SETTLED_SECONDS:
            return None
        against.append("some requests were served properly meanwhile")
    words = (
        f"{failed} failed requests were answered by {seen['victim']} itself, in the first {last:.1f} s after it had "
        "said that it was ready"
    )
    return words, against, set(seen["errors"]) & set(_SERVER_ERRORS)


def _failed_on_new(case: Case) -> _Told | None:
    seen = case.evidence("RolloutCostsNothing")
    on_new = seen.get("failed_on_new") or 0
    if not on_new or on_new < _MOST * seen["failed"] or not _by_application(seen):
        return None
    if seen.get("failed_on_new_after_success", 0) > (1 - _MOST) * on_new:
        return None  # it serves some and fails others: the new version is broken, however long one waits
    against = [] if on_new == seen["failed"] else [f"{seen['failed'] - on_new} more requests failed elsewhere"]
    words = (
        f"{on_new} of {seen['failed']} failed requests were answered by a new instance, in the first "
        f"{seen['failed_on_new_within_seconds']:.1f} s after it had said that it was ready"
    )
    return words, against, set(seen["errors"]) & set(_SERVER_ERRORS)


def listens_before_ready(case: Case) -> Cause | None:
    """The returning instance answered requests, badly, while its own ready path still said no."""
    seen = case.evidence("VictimRejoins")
    early = seen.get("failed_before_ready", 0)
    if not early or str(seen.get("fault", "")).startswith("hang") or not _by_application(seen):
        return None
    return Cause(
        id="listens-before-ready",
        sentence="an instance takes requests before it is ready, and the balancer asks nobody whether it is",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{early} of {seen['failed']} failed requests were answered by {seen['victim']} before it was ready",
        ),
        remedy="open the listener only when requests can be served; or answer 503 until then, and add http_503 to "
        "balancer.next_upstream",
        guide="Health Checks",
    )


# -- instances that go -------------------------------------------------------------------------------------------


def exit_at_once(case: Case) -> Cause | None:
    """Requests in flight are cut, and not because the process was killed before it could have finished them."""
    told = _cut_in_flight(case)
    if told is None:
        return None
    seen, evidence = told
    stop = seen.get("stop_seconds")
    killed = _KILLED.search(str(seen.get("proof", "")))
    if killed and stop is not None and stop < _TIME_ENOUGH_SECONDS:
        return None
    quick = False
    against = []
    if stop is not None and stop < _AT_ONCE_SECONDS:
        quick = True
        evidence.append(f"the process was gone {stop * 1000:.0f} ms after it was told to stop")
    elif stop is not None:
        against.append(f"it took {stop:.1f} s to end: its own patience may be too short")
    return Cause(
        id="exit-at-once",
        sentence="the application does not finish what is in flight when it is told to stop",
        confidence=Confidence.CERTAIN if quick else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="on app.stop_signal stop accepting, finish what is in flight, then exit",
        guide="Best Practices: DO 9",
    )


def stop_patience_too_short(case: Case) -> Cause | None:
    """Requests in flight are cut because the process was killed while it still worked on them."""
    told = _cut_in_flight(case)
    if told is None:
        return None
    seen, evidence = told
    stop = seen.get("stop_seconds")
    if stop is None or stop >= _TIME_ENOUGH_SECONDS or not _KILLED.search(str(seen.get("proof", ""))):
        return None
    return Cause(
        id="stop-patience-too-short",
        sentence="the application is killed before it has finished",
        confidence=Confidence.CERTAIN,
        evidence=(f"it had to be killed {stop:.1f} s after it was told to stop ({seen['proof']})", *evidence),
        remedy="raise app.stop_within_seconds above the longest request; handle app.stop_signal",
        guide="Best Practices: DO 9",
    )


def _cut_in_flight(case: Case) -> tuple[Mapping[str, Any], list[str]] | None:
    """How one stopped instance treated what it had, where this finding is about requests that were cut."""
    seen = case.evidence("InFlightFinishes")
    if seen.get("cut"):
        return seen, [
            f"{seen['cut']} of {seen['in_flight']} requests in flight were cut ({_classes(seen.get('errors', {}))})"
        ]
    cut = case.evidence("RolloutCostsNothing").get("cut")
    for other in case.elsewhere("InFlightFinishes"):
        if cut and other.get("cut"):
            return other, [
                f"{cut} requests were cut at instances that were being stopped",
                f"asked directly, {other['victim']} cut {other['cut']} of {other['in_flight']} in flight",
            ]
    return None


def not_drained(case: Case) -> Cause | None:
    """Requests fail on instances that leave, and nobody had told the balancer."""
    if case.facts.get("rollout") != "rolling" or case.facts.get("drain") != "none":
        return None
    seen = case.evidence("RolloutCostsNothing")
    leaving = _failed_while(seen, "stopping", "down")
    if not leaving or _unreachable(seen) < seen["failed"] / 2 or leaving < seen["failed"] / 2:
        return None
    return Cause(
        id="not-drained",
        sentence="instances are stopped while the balancer still sends to them",
        confidence=Confidence.CERTAIN if leaving == seen["failed"] else Confidence.LIKELY,
        evidence=(
            f"{leaving} of {seen['failed']} failed requests were due between the order to stop and the instance's return",
            f"the balancer could not reach it: {_classes(seen['errors'])}",
            'rollout.drain is "none"',
        ),
        remedy='rollout.drain = "balancer-first": the balancer stops sending before the instance is told to stop',
        guide="Deployment Strategies: Zero-Downtime Deployment",
    )


def listener_closed_early(case: Case) -> Cause | None:
    """The balancer was refused by an instance that had been told to stop, before it had been taken out."""
    if case.facts.get("rollout") != "rolling" or case.facts.get("drain") != "on-unready":
        return None
    seen = case.evidence("RolloutCostsNothing")
    leaving = _failed_while(seen, "draining", "stopping")
    if not leaving or _unreachable(seen) < seen["failed"] / 2 or leaving < seen["failed"] / 2:
        return None
    # Whoever exits at once closes everything, not only the listener.
    if any(other.get("cut") for other in case.elsewhere("InFlightFinishes")):
        return None
    return Cause(
        id="listener-closed-early",
        sentence="an instance closes its listener before the balancer knows that it leaves",
        confidence=Confidence.CERTAIN if leaving == seen["failed"] else Confidence.LIKELY,
        evidence=(
            f"{leaving} of {seen['failed']} failed requests were due between the order to stop and the instance's end",
            f"the balancer could not reach it: {_classes(seen['errors'])}",
        ),
        remedy="on app.stop_signal turn app.ready off first and go on accepting until the balancer has noticed; "
        'or drain at the balancer: rollout.drain = "balancer-first"',
        guide="Deployment Strategies: Zero-Downtime Deployment",
    )


def faster_than_fail_timeout(case: Case) -> Cause | None:
    """The balancer had nobody left to ask although instances were up: it still left out those replaced before."""
    seen = case.evidence("RolloutCostsNothing")
    out = float(case.facts.get("fail_timeout_seconds") or 0.0)
    seconds, replaced = seen.get("seconds"), seen.get("replaced", {})
    if not seen.get("failed") or not seen.get("min_available") or not seconds or not replaced:
        return None
    nobody = seen.get("failed_attempts", {}).get("(unknown)", 0)
    each = seconds / len(replaced)
    if nobody < seen["failed"] / 2 or _unreachable(seen) < nobody or each > out + _FAIL_TIMEOUT_GRAIN_SECONDS:
        return None
    return Cause(
        id="faster-than-fail-timeout",
        sentence="the next instance is replaced while the balancer still leaves out the last one",
        confidence=Confidence.CERTAIN if nobody >= _MOST * seen["failed"] else Confidence.LIKELY,
        evidence=(
            f"{nobody} of {seen['failed']} failed requests were tried nowhere; up were {seen['min_available']} or more",
            f"an instance was replaced every {each:.1f} s; balancer.fail_timeout_seconds is {out:g}",
        ),
        remedy='rollout.drain = "balancer-first", so that no failure is counted; or wait longer than '
        "balancer.fail_timeout_seconds before the next instance, or make that 1",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    )


def all_at_once(case: Case) -> Cause | None:
    """At some moment of the rollout no instance was in use."""
    seen = case.evidence("RolloutCostsNothing")
    if not seen.get("failed") or seen.get("min_available") != 0:
        return None
    evidence = ["at the worst moment none of the instances was up"]
    if seen.get("longest_gap_seconds"):
        evidence.append(f"nobody was answered for {seen['longest_gap_seconds']:.1f} s")
    return Cause(
        id="all-at-once",
        sentence="all instances were replaced at the same time",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy='replace one instance at a time: rollout.kind = "rolling"',
        guide="Best Practices: DON'T 6",
    )


# -- the balancer, while one is lost -----------------------------------------------------------------------------


def no_retry(case: Case) -> Cause | None:
    """Requests that failed were tried at the lost instance and nowhere else, and none was saved by a second try."""
    seen = case.evidence("RequestsSurviveLoss")
    # An answer that was cut in the middle cannot be tried elsewhere by anybody.
    idempotent = seen.get("failed_by_method", {}).get("idempotent", 0) - seen.get("answers_cut", 0)
    only_victim = seen.get("failed_attempts", {}).get(seen.get("victim"), 0)
    if idempotent <= 0 or only_victim < idempotent:
        return None
    configured = case.facts.get("next_upstream")
    needed = "timeout" if str(seen.get("fault", "")).startswith("hang") else "error"
    if needed in configured if configured is not None else seen.get("retried"):
        return None
    evidence = [f"{only_victim} of {seen['failed']} failed requests were tried at {seen['victim']} and nowhere else"]
    if configured is not None:
        evidence.append(f"balancer.next_upstream is {', '.join(configured) or 'off'}")
    return Cause(
        id="no-retry",
        sentence="the balancer tries no other instance when one cannot be reached",
        confidence=Confidence.CERTAIN if configured is not None else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.next_upstream = ["error", "timeout"]',
        guide="Step 3: Configure Load Balancer (proxy_next_upstream)",
    )


def no_health_check(case: Case) -> Cause | None:
    """The lost instance is tried as often at the end of its absence as at the beginning."""
    seen = case.evidence("RequestsSurviveLoss")
    off = case.facts.get("max_fails") == 0
    if "detection" not in seen.get("broken", ()):
        return None
    # Failures are counted: then it must never have been noticed, and not for want of an answer to wait for.
    if not off and (seen.get("detect_seconds") is not None or _waits_too_long(case, seen)):
        return None
    evidence = [
        (
            f"{seen['tried_at_victim']} requests ({(seen.get('tried_share') or 0.0):.0%}) were tried at "
            f"{seen['victim']} while it was lost, {seen['tried_late']} of them after the balancer had to know"
        )
    ]
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
    slow = {"slowest-answer", "detection", "failed-requests", "failed-writes"} & set(seen.get("broken", ()))
    if not slow or not _waits_too_long(case, seen):
        return None
    return Cause(
        id="read-timeout-too-long",
        sentence="the balancer waits too long for an instance that has stopped answering",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"balancer.read_timeout_seconds is {float(case.facts['read_timeout_seconds']):g}",
            f"bounds broken: {', '.join(sorted(slow))}",
        ),
        remedy="balancer.read_timeout_seconds just above the slowest honest answer, 2 for example",
        guide="Best Practices: DO 5",
    )


def _waits_too_long(case: Case, seen: Mapping[str, Any]) -> bool:
    """Whether the balancer cannot know of a hang in time, because it still waits for an answer."""
    wait = float(case.facts.get("read_timeout_seconds") or 0.0)
    return str(seen.get("fault", "")).startswith("hang") and wait > bounds.HANG.detect_within_seconds


def fail_timeout_too_long(case: Case) -> Cause | None:
    """An instance that is back gets nothing, because the balancer leaves it out for longer than promised."""
    seen = case.evidence("VictimRejoins")
    out = float(case.facts.get("fail_timeout_seconds") or 0.0)
    if not seen or seen.get("failed") or out < bounds.REJOIN_SECONDS:
        return None
    if seen.get("tried_at_victim", 0) > seen["answers"] + bounds.REJOIN_ANSWERS:
        return None  # it was tried, and did not answer
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


def instance_not_in_pool(case: Case) -> Cause | None:
    """An instance that is alive gets nothing at all through the balancer."""
    health = {
        name: look for seen in case.elsewhere("EveryInstanceAnswers") for name, look in seen["by_instance"].items()
    }
    alive = {name for name, look in health.items() if 200 <= (look.get("status") or 0) < 300}
    # Whoever is down gets nothing for that reason.
    missing = [name for name in _missing(case, health) if name in alive or name not in health]
    pool = case.facts.get("pool")
    if pool is not None:
        missing = [name for name in missing if name not in pool]
    if not missing:
        return None
    evidence = [f"{listed(missing)} answered nothing through the balancer"]
    if pool is not None:
        evidence.append(f"balancer.pool leaves out {listed(missing)}")
    if asked := [name for name in missing if name in alive]:
        evidence.append(f"asked directly, {listed(asked)} {'is' if len(asked) == 1 else 'are'} alive")
    return Cause(
        id="instance-not-in-pool",
        sentence="an instance is missing from the balancer's pool",
        confidence=Confidence.CERTAIN if pool is not None else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="list every instance in the balancer's upstream: leave balancer.pool out, or complete it",
        guide="Common Issues: Uneven load distribution",
    )


def _missing(case: Case, known: Mapping[str, Any]) -> list[str]:
    complete, share = case.evidence("EveryInstanceGetsTraffic"), case.evidence("SharesFitTheAlgorithm")
    if complete or not share:
        return sorted(complete.get("missing", ()))
    counts = share.get("counts", {})
    return sorted(name for name in {*counts, *known} if not counts.get(name))


# -- what several rules ask --------------------------------------------------------------------------------------


def _by_application(seen: Mapping[str, Any]) -> bool:
    """Whether all but a few of the failures were answers of the application."""
    errors = seen.get("errors", {})
    return bool(errors) and sum(errors.get(name, 0) for name in _SERVER_ERRORS) >= _MOST * sum(errors.values())


def _failed_last_at(seen: Mapping[str, Any], node: str) -> int:
    return sum(n for tried, n in seen.get("failed_attempts", {}).items() if tried.split()[-1:] == [node])


def _failed_while(seen: Mapping[str, Any], *steps: str) -> int:
    return sum(n for step, n in seen.get("failed_by_step", {}).items() if step.endswith(steps))


def _unreachable(seen: Mapping[str, Any]) -> int:
    return sum(n for name, n in seen.get("errors", {}).items() if name in ("http-502", "refused"))


def _classes(errors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())
