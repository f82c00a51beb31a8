"""Rules about requests: why they fail, wait or go to the wrong instance while instances come, go, or just are.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import listed, milliseconds
from harness.checkers.guards import MADE_BY_WAITING, OF_TIME
from harness.diagnosis.balancers import ways_of
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "all_at_once",
    "bound_by_cookie",
    "checks_too_slow",
    "connect_timeout_too_long",
    "cpu_starvation",
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
    "stale_address",
    "stop_patience_too_short",
]

_SERVER_ERRORS = ("http-500", "http-503")
"""What an application answers itself; 502, 504 and balancer-503 are the balancer's word for nobody at home."""
_MOST = 0.9
"""Share of the failures a cause must account for: others may have been under way when it struck."""
_SETTLED_SECONDS = 0.3
"""Requests that fail until this close to the end of the traffic have not stopped failing."""
_AT_ONCE_SECONDS = 0.5
"""The requests that were in flight take a second each: a process gone in half of that did not wait for them."""
_TIME_ENOUGH_SECONDS = 1.5
"""And a process that was killed only after this had the time to finish them."""
_MUCH_LATE = 0.1
"""Share of requests sent late from which nothing on this machine can be taken to have had the time it needed."""
_BY_WAITING = ("timeout", "unsent", "http-504")
"""Failures that come of waiting alone, whoever kept whom waiting."""
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
    if not early or _fault(seen).startswith(("hang", "cut-off")) or not _by_application(seen):
        return None
    ways = ways_of(case.facts)
    return Cause(
        id="listens-before-ready",
        sentence=f"an instance takes requests before it is ready, and {ways.early_sentence}",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{early} of {seen['failed']} failed requests were answered by {seen['victim']} before it was ready",
        ),
        remedy=f"open the listener only when requests can be served; or {ways.early_remedy}",
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
        if other.get("cut") and (told := _stopped_alike(case)):
            return other, [
                told,
                f"{other['victim']} cut {other['cut']} of {other['in_flight']} requests of a second as well",
            ]
    return None


def _stopped_alike(case: Case) -> str:
    """What else an instance does that does not finish what it has, told to stop at the same time; empty for nothing."""
    long, drain = case.evidence("LongRequestsFinish"), case.evidence("DrainsInOrder")
    if long.get("cut"):
        return f"{long['cut']} of {long['in_flight']} requests that take {long['longest_seconds']:g} s were cut"
    if "refused-early" in drain.get("broken", ()):
        return f"{drain['victim']} refused connections after it had said {drain['unready_times']} times that it is not ready"
    return ""


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
    ways = ways_of(case.facts)
    pace, remedy = ways.pace
    seconds, replaced = seen.get("seconds"), seen.get("replaced", {})
    if not seen.get("failed") or not seen.get("min_available") or not seconds or not replaced:
        return None
    nobody = seen.get("failed_attempts", {}).get("(unknown)", 0)
    each = seconds / len(replaced)
    if nobody < seen["failed"] / 2 or _unreachable(seen) < nobody or each > pace:
        return None
    return Cause(
        id="faster-than-fail-timeout",
        sentence="the next instance is replaced while the balancer still leaves out the last one",
        confidence=Confidence.CERTAIN if nobody >= _MOST * seen["failed"] else Confidence.LIKELY,
        evidence=(
            f"{nobody} of {seen['failed']} failed requests were tried nowhere; up were {seen['min_available']} or more",
            f"an instance was replaced every {each:.1f} s; {ways.left_out_said}",
        ),
        remedy=remedy,
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
        remedy='replace one at a time, the new one first: swarm.parallelism = 1, swarm.order = "start-first"'
        if "swarm" in case.facts
        else 'replace one instance at a time: rollout.kind = "rolling"',
        guide="Best Practices: DON'T 6",
    )


# -- the balancer, while one is lost -----------------------------------------------------------------------------


def no_retry(case: Case) -> Cause | None:
    """Requests that failed were tried at the lost instance and nowhere else, and none was saved by a second try."""
    seen = case.evidence("RequestsSurviveLoss")
    ways = ways_of(case.facts)
    # An answer that was cut in the middle cannot be tried elsewhere by anybody.
    idempotent = seen.get("failed_by_method", {}).get("idempotent", 0) - seen.get("answers_cut", 0)
    only_victim, maybe = _tried_only_at(seen, seen.get("victim"))
    configured = ways.tries_elsewhere(_needed_retries(case, seen))
    evidence = []
    if 0 < idempotent <= only_victim + maybe:
        evidence.append(
            f"{only_victim} of {seen['failed']} failed requests were tried at {seen['victim']} and nowhere else"
        )
    if "slowest-answer" in seen.get("broken", ()) and ways.waits_between_tries() and seen.get("retried"):
        evidence.append(f"{seen['retried']} requests were tried again, the slowest for {seen['slowest_seconds']:.1f} s")
    if not evidence or (seen.get("retried") if configured is None else configured):
        return None
    if configured is not None:
        evidence.append(ways.retry_said())
    return Cause(
        id="no-retry",
        sentence="the balancer tries no other instance when one cannot be reached",
        confidence=Confidence.CERTAIN if configured is not None else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy=ways.retry_remedy,
        guide=ways.retry_guide,
    )


def no_health_check(case: Case) -> Cause | None:
    """The lost instance is tried as often at the end of its absence as at the beginning."""
    seen = case.evidence("RequestsSurviveLoss")
    ways = ways_of(case.facts)
    off = ways.never_notices
    if "detection" not in seen.get("broken", ()):
        return None
    # Failures are counted: then it must never have been noticed, and not for want of an answer to wait for.
    waits = _waits_too_long(case, seen) or _connects_too_long(case, seen)
    if not off and (seen.get("detect_seconds") is not None or waits or _checks_too_slow(case, seen)):
        return None
    evidence = [
        (
            f"{seen['tried_at_victim']} requests ({(seen.get('tried_share') or 0.0):.0%}) were tried at "
            f"{seen['victim']} while it was lost, {seen['tried_late']} of them after the balancer had to know"
        )
    ]
    if off:
        evidence.append(off)
    return Cause(
        id="no-health-check",
        sentence="the balancer never takes a dead instance out",
        confidence=Confidence.CERTAIN if off else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy=ways.notice_remedy,
        guide=ways.notice_guide,
    )


def checks_too_slow(case: Case) -> Cause | None:
    """The balancer asks too seldom, or must be told too often, to know of a loss in the time that is promised."""
    seen = case.evidence("RequestsSurviveLoss")
    ways = ways_of(case.facts)
    if evidence := _view_lags(case):
        return Cause(
            id="checks-too-slow",
            sentence="the balancer's health checks take too long to notice a loss, or a return",
            confidence=Confidence.CERTAIN,
            evidence=evidence,
            remedy=ways.notice_remedy,
            guide=ways.notice_guide,
        )
    if "detection" not in seen.get("broken", ()) or not _checks_too_slow(case, seen):
        return None
    return Cause(
        id="checks-too-slow",
        sentence="the balancer's health checks take too long to notice a loss",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{seen['tried_at_victim']} requests were tried at {seen['victim']}, {seen['tried_late']} of them too late",
            ways.checks_said,
        ),
        remedy=ways.notice_remedy,
        guide=ways.notice_guide,
    )


def _view_lags(case: Case) -> tuple[str, ...]:
    """What speaks for checks that are too far apart, where the balancer's opinion was wrong for too long; empty where they are
    not."""
    seen = case.evidence("BalancerSeesTheTruth")
    ways = ways_of(case.facts)
    broken = seen.get("broken", ())
    within = ways.notices_within(answers=True)
    if "up-though-dead" in broken and within is not None and within > bounds.VIEW_SECONDS:
        return (
            f"the balancer still took {seen['victim']} for up {bounds.VIEW_SECONDS:.0f} s after its death",
            ways.checks_said,
        )
    if "down-though-back" in broken and ways.left_out_seconds > bounds.VIEW_SECONDS:
        return (f"the balancer still took {seen['victim']} for down although it was back", ways.left_out_said)
    return ()


def _checks_too_slow(case: Case, seen: Mapping[str, Any]) -> bool:
    """Whether the checks of the balancer can miss a loss of this kind for longer than it may be missed."""
    silent = _fault(seen).startswith(("hang", "cut-off-silence"))
    within = ways_of(case.facts).notices_within(answers=not silent)
    return within is not None and within > (bounds.HANG if silent else bounds.KILL).detect_within_seconds


def _needed_retries(case: Case, seen: Mapping[str, Any]) -> set[str]:
    """After which failures another instance has to be tried, where one is lost in this way."""
    fault = _fault(seen)
    if fault.startswith(("hang", "cut-off-silence")):
        return {"timeout"}
    # Who dies natively leaves an address at which one is refused; a container takes its address along.
    refused_only = fault.startswith(("kill", "stop")) and case.facts.get("platform", "native") == "native"
    return {"error"} if refused_only else {"error", "timeout"}


def connect_timeout_too_long(case: Case) -> Cause | None:
    """A lost instance costs more than the promise allows, because connecting to nobody takes the balancer that long."""
    seen = case.evidence("RequestsSurviveLoss")
    slow = _SLOW & set(seen.get("broken", ()))
    if not slow or not _connects_too_long(case, seen):
        return None
    return Cause(
        id="connect-timeout-too-long",
        sentence="the balancer waits too long for a connection to an instance that is not there",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"balancer.connect_timeout_seconds is {float(case.facts['connect_timeout_seconds']):g}",
            f"bounds broken: {', '.join(sorted(slow))}",
        ),
        remedy="balancer.connect_timeout_seconds = 1 or less: accepting a connection is no work",
        guide="Best Practices: DO 5",
    )


_SLOW = {"slowest-answer", "detection", "failed-requests", "failed-writes"}


def _connects_too_long(case: Case, seen: Mapping[str, Any]) -> bool:
    """Whether one request alone, tried where nobody answers any more, takes longer than any may."""
    wait = float(case.facts.get("connect_timeout_seconds") or 0.0)
    fault = _fault(seen)
    if fault.startswith("cut-off-silence"):
        return wait > bounds.SILENCE.slowest_seconds
    gone = fault.startswith(("kill", "stop", "out-of-memory", "new-address"))
    return gone and case.facts.get("platform", "native") != "native" and wait > bounds.KILL.slowest_seconds


def read_timeout_too_long(case: Case) -> Cause | None:
    """A hung instance costs more than the promise allows, because the balancer waits for it that long."""
    seen = case.evidence("RequestsSurviveLoss")
    slow = _SLOW & set(seen.get("broken", ()))
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
    """Whether the balancer cannot know of silence in time, because it still waits for an answer."""
    wait = float(case.facts.get("read_timeout_seconds") or 0.0)
    return _fault(seen).startswith(("hang", "cut-off")) and wait > bounds.HANG.detect_within_seconds


def fail_timeout_too_long(case: Case) -> Cause | None:
    """An instance that is back gets nothing, because the balancer leaves it out for longer than promised."""
    seen = case.evidence("VictimRejoins")
    ways = ways_of(case.facts)
    if not seen or seen.get("failed") or ways.left_out_seconds < bounds.REJOIN_SECONDS:
        return None
    if seen.get("tried_at_victim", 0) > seen["answers"] + bounds.REJOIN_ANSWERS:
        return None  # it was tried, and did not answer
    return Cause(
        id="fail-timeout-too-long",
        sentence="the balancer leaves an instance out long after it has returned",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{seen['victim']} got {seen['answers']} of {seen['requests']} requests after it was ready again",
            ways.left_out_said,
        ),
        remedy=ways.left_out_remedy,
        guide=ways.notice_guide,
    )


def bound_by_cookie(case: Case) -> Cause | None:
    """An instance that is back gets nothing, because everybody stays with the one their cookie names by now."""
    seen = case.evidence("VictimRejoins")
    cookie = case.facts.get("sticky_cookie")
    if not cookie or not seen or seen.get("failed") or seen["answers"] >= bounds.REJOIN_ANSWERS:
        return None
    return Cause(
        id="bound-by-cookie",
        sentence="visitors stay with the instance their cookie names, so that one that is back gets new visitors only",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{seen['victim']} got {seen['answers']} of {seen['requests']} requests after it was ready again",
            f"balancer.sticky_cookie is {cookie}",
        ),
        remedy="leave balancer.sticky_cookie out, and keep sessions where every instance finds them",
        guide="Step 2: Configure Persistent Session Storage",
    )


_RESOLVES = {
    "nginx": "a `resolver`, and `resolve` behind each server of an upstream with a zone",
    "haproxy": "a section `resolvers`, and `server-template`, or `resolvers` behind each server",
}


def stale_address(case: Case) -> Cause | None:
    """An instance that is there under a new address gets nothing: the balancer goes on asking at the old one."""
    seen, strange = case.evidence("VictimRejoins"), case.evidence("NobodyElseAnswers")
    replaced = "swarm" in case.facts  # whoever takes a replica's place has an address of its own
    if "new-address" not in (_fault(seen), _fault(strange)) and not replaced:
        return None
    evidence = []
    strangers = strange.get("strangers", {})
    if strangers:
        evidence.append(f"{sum(strangers.values())} requests were answered by {listed(strangers)} in its place")
    if seen and not seen["answers"] and seen["requests"]:
        tried = seen["tried_at_victim"]
        evidence.append(
            f"{seen['victim']} answered none of {seen['requests']} requests in {seen['watched_seconds']:.1f} s at its new "
            f"address, though it was ready there" + (f"; {tried} were tried at the old one" if tried else "")
        )
    if replaced:
        evidence += _unknown_replicas(case)
    if not evidence:
        return None
    at_start = case.facts.get("resolve") == "at-start"
    if at_start:
        evidence.append('balancer.resolve is "at-start": names are looked up once')
    kind = str(case.facts.get("balancer", "nginx"))
    return Cause(
        id="stale-address",
        sentence="the balancer goes on using the address an instance had before",
        confidence=Confidence.CERTAIN if at_start else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy=f'balancer.resolve = "always" ({kind}: {_RESOLVES.get(kind, "look names up again and again")}); or '
        '"when-told", where whoever replaces an instance gives the balancer its new address and reloads it',
        guide="Deployment Strategies: Zero-Downtime Deployment: 2. Using Docker",
    )


def _unknown_replicas(case: Case) -> list[str]:
    """Replicas that are there, healthy, and get nothing; or that everybody is sent to after they are gone."""
    evidence = []
    healing, scaling = case.evidence("LostReplicaIsReplaced"), case.evidence("ScalingCostsNothing")
    if "not-used" in healing.get("broken", ()) and not healing["answers"]:
        evidence.append(f"the replacement of {healing['victim']} was healthy and answered nothing")
    unused = [name for name, added in scaling.get("added", {}).items() if not added["answers"]]
    if "not-used" in scaling.get("broken", ()) and unused:
        evidence.append(f"{listed(unused)} answered nothing although they were healthy")
    rollout = case.evidence("RolloutCostsNothing")
    after = rollout.get("failed_by_step", {}).get("after", 0)
    if after and case.facts.get("resolve") == "at-start" and _unreachable(rollout) >= rollout["failed"] / 2:
        evidence.append(f"{after} requests failed when every replica had been replaced: {_classes(rollout['errors'])}")
    return evidence


def instance_not_in_pool(case: Case) -> Cause | None:
    """An instance that is alive gets nothing at all through the balancer."""
    health = {
        name: look for seen in case.elsewhere("EveryInstanceAnswers") for name, look in seen["by_instance"].items()
    }
    alive = {name for name, look in health.items() if look.get("well", 200 <= (look.get("status") or 0) < 300)}
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


# -- the machine all of it runs on -----------------------------------------------------------------------------------


def _too_busy(confidence: Confidence, evidence: Sequence[str], against: Sequence[str] = ()) -> Cause:
    return Cause(
        id="cpu-starvation",
        sentence="this machine had too little processor time for the traffic and the setup together",
        confidence=confidence,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="lower traffic.rate, end what else runs on this machine, or take one with more cores; then judge again",
        guide="Testing Your Distributed Setup",
    )


def cpu_starvation(case: Case) -> Cause | None:
    """Requests fail while those who serve stood ready and were given no core; or the harness itself was not, and then the nodes
    beside it were not either. It is named beside whatever else fits, and never as certain: that a machine was busy excuses
    nobody, unless it was so busy that there is no failure to find a cause for (`weakened`)."""
    if case.untold:
        return _too_busy(Confidence.LIKELY, case.untold)
    waited_for = case.waited
    if waited_for is not None and waited_for.share < bounds.WAITED_MUCH_SHARE:
        waited_for = None
    # Who sends late makes gaps and slow answers of his own, which are not held against anybody.
    checker = _broken_alone(case, OF_TIME if waited_for else _FAILED)
    seen = case.evidence(checker)
    errors = seen.get("errors", {})
    late, share = seen.get("late") or 0, seen.get("late_share") or 0.0
    failed = sum(errors.values())
    was_late = late and share > bounds.LATE_SHARE
    if not failed or not (was_late or waited_for):
        return None
    if sum(errors.get(name, 0) for name in MADE_BY_WAITING) < _MOST * failed:
        return None  # what else is said takes no time at all, or too much of it
    late_after = milliseconds(bounds.LATE_AFTER_SECONDS)
    against = []
    if share < _MUCH_LATE:
        against.append(f"{1 - share:.0%} of the requests were sent on time")
    waited = sum(errors.get(name, 0) for name in _BY_WAITING)
    if waited < _MOST * failed:
        against.append(f"{failed - waited} of {failed} failures are none that waiting makes ({_classes(errors)})")
    evidence = [] if waited_for is None else [str(waited_for)]
    if was_late:
        evidence.append(f"{share:.0%} of the requests ({late}) were sent more than {late_after} late or not at all")
    evidence.append(f"{failed} failed: {_classes(errors)}")
    if checker in _OF_ONE_INSTANCE:
        there, unknown = _tried_only_at(seen, seen["victim"])
        if there + unknown >= _MOST * failed:
            against.append(f"they were tried at {seen['victim']} alone, and a busy machine spares nobody")
        else:
            evidence.append(f"{failed - there - unknown} of them had been tried at others than {seen['victim']}")
    return _too_busy(Confidence.POSSIBLE if against else Confidence.LIKELY, evidence, against)


_OF_ONE_INSTANCE = ("RequestsSurviveLoss", "VictimRejoins")
_FAILED = frozenset({"failed-requests", "failed-writes"})
_OF_REQUESTS = ("RequestsSurviveLoss", "RolloutCostsNothing", "ScalingCostsNothing", "BadVersionIsTakenBack")


def _broken_alone(case: Case, kinds: frozenset[str]) -> str:
    """The checker for which nothing else is wrong with the setup; empty where more is."""
    for checker in _OF_REQUESTS:
        if broken := case.evidence(checker).get("broken"):
            return checker if kinds.issuperset(broken) else ""
    return "VictimRejoins"


# -- what several rules ask --------------------------------------------------------------------------------------


def _fault(seen: Mapping[str, Any]) -> str:
    return str(seen.get("fault", ""))


def _by_application(seen: Mapping[str, Any]) -> bool:
    """Whether all but a few of the failures were answers of the application."""
    errors = seen.get("errors", {})
    return bool(errors) and sum(errors.get(name, 0) for name in _SERVER_ERRORS) >= _MOST * sum(errors.values())


def _tried_only_at(seen: Mapping[str, Any], node: str | None) -> tuple[int, int]:
    """How many failed requests were tried there, once or again and again, and nowhere else; and how many may have been:
    those of which nothing is known are taken to be like these, where they are the fewer."""
    tried = seen.get("failed_attempts", {})
    there = sum(n for names, n in tried.items() if set(names.split()) == {node})
    return there, min(there, tried.get("(unknown)", 0))


def _failed_last_at(seen: Mapping[str, Any], node: str) -> int:
    return sum(n for tried, n in seen.get("failed_attempts", {}).items() if tried.split()[-1:] == [node])


def _failed_while(seen: Mapping[str, Any], *steps: str) -> int:
    return sum(n for step, n in seen.get("failed_by_step", {}).items() if step.endswith(steps))


def _unreachable(seen: Mapping[str, Any]) -> int:
    return sum(n for name, n in seen.get("errors", {}).items() if name in ("http-502", "balancer-503", "refused"))


def _classes(errors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())
