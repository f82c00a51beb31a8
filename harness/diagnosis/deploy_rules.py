"""Rules about a deploy that was somebody else's, or was seen from outside alone: what the kinds of failure and their moments tell of it.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Nothing is certain where nobody tells
what was replaced, and when. Must not: speak of single instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["deploy_failed", "deploy_leaves_nobody", "kept_connections_cut", "stopped_while_in_use"]

_DEPLOYMENT = "Deployment Strategies: Zero-Downtime Deployment"
_MOST = 0.9
_NOBODY_THERE = ("refused", "http-502", "http-503", "http-504", "balancer-503", "timeout")
_CUT = ("reset", "closed", "truncated", "http-502")


def deploy_failed(case: Case) -> Cause | None:
    """Whoever replaces instances said that they could not."""
    told = case.evidence("RolloutCostsNothing").get("gave_up")
    if not told:
        return None
    return Cause(
        id="deploy-failed",
        sentence="the deploy itself fails",
        confidence=Confidence.CERTAIN,
        evidence=(str(told),),
        remedy="mend what the deploy hook runs (remote.deploy); what it said is in the logs of that instance",
        guide=_DEPLOYMENT,
    )


def deploy_leaves_nobody(case: Case) -> Cause | None:
    """For a while nobody was answered at all."""
    seen = case.evidence("DeployCostsNothing")
    if "longest-gap" not in seen.get("broken", ()):
        return None
    errors: Mapping[str, int] = seen["errors"]
    away = sum(errors.get(name, 0) for name in _NOBODY_THERE)
    evidence = [
        f"nobody was answered for {seen['longest_gap_seconds']:.1f} s, beginning {seen['gap_begins_seconds']:.1f} s after the command"
    ]
    if away:
        evidence.append(f"{away} requests met nobody who could answer: {_classes(errors)}")
    return Cause(
        id="deploy-leaves-nobody",
        sentence="the deploy takes all instances away before one of the new ones can serve",
        confidence=Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="replace one instance at a time, and go on only when the new one is ready: its ready path answers 200, and the balancer "
        "sends to it",
        guide=_DEPLOYMENT,
    )


def stopped_while_in_use(case: Case) -> Cause | None:
    """Some requests were cut or met nobody, while others were served."""
    seen = case.evidence("DeployCostsNothing")
    if seen.get("broken") != ["failed-requests"] or _on_kept_alone(seen):
        return None
    errors: Mapping[str, int] = seen["errors"]
    cut = sum(errors.get(name, 0) for name in {*_CUT, *_NOBODY_THERE})
    if cut < _MOST * seen["failed"]:
        return None
    return Cause(
        id="stopped-while-in-use",
        sentence="instances are stopped while the balancer still sends to them, or before they have finished",
        confidence=Confidence.LIKELY,
        evidence=(
            f"{seen['failed']} requests failed while others were answered: {_classes(errors)}",
            f"the first {seen['first_failure_seconds']:.1f} s and the last {seen['last_failure_seconds']:.1f} s after the command was begun",
        ),
        remedy="take each instance out of the balancer before it is told to stop, and have it finish what it has; have the balancer ask "
        "another one where connecting fails",
        guide=_DEPLOYMENT,
    )


def kept_connections_cut(case: Case) -> Cause | None:
    """Only those failed who came on connections they had kept."""
    seen = case.evidence("DeployCostsNothing")
    if seen.get("broken") != ["failed-requests"] or not _on_kept_alone(seen):
        return None
    kept, fresh = seen["failed_by_connection"]["reused"], seen["requests_by_connection"]["fresh"]
    return Cause(
        id="kept-connections-cut",
        sentence="connections that people had kept are ended without a word",
        confidence=Confidence.LIKELY,
        evidence=(
            f"{kept} of {seen['failed']} failures were on kept connections: {_classes(seen['errors'])}",
            f"{fresh} requests on new connections were sent meanwhile",
        ),
        remedy="have the balancer (or whoever ends a connection) say `Connection: close` on the last answer before it ends one; reload "
        "the balancer, do not restart it",
        guide=_DEPLOYMENT,
    )


def _on_kept_alone(seen: Mapping[str, Any]) -> bool:
    return bool(seen["failed"]) and seen["failed_by_connection"]["reused"] >= _MOST * seen["failed"]


def _classes(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())
