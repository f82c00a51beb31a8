"""Rules about a new version on its way: too few left in use, or a switch that came too early or cut what was left.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Must not: conclude from a setting what
nobody met.
"""

from __future__ import annotations

from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["assets_of_own_build", "left_set_cut", "session_format_changed", "switched_before_ready", "too_many_at_once"]

_DEPLOY = "Deployment Strategies: Zero-Downtime Deployment"


def too_many_at_once(case: Case) -> Cause | None:
    """More instances were out of use than the load can spare."""
    seen = case.evidence("CapacityIsKept")
    if not seen or seen["fewest"] >= seen["at_least"]:
        return None
    evidence = [
        f"{listed(seen['away'])} were out of use at the same time, and {seen['fewest']} of {seen['instances']} were left",
        f"{seen['at_least']} are needed",
    ]
    if seen["rollout"] == "all-at-once":
        evidence.append('rollout.kind is "all-at-once"')
    elif (seen["batch"] or 1) > 1:
        evidence.append(f"rollout.batch is {seen['batch']}")
    said = len(evidence) > 2
    return Cause(
        id="too-many-at-once",
        sentence="more instances are replaced at the same time than the load can spare",
        confidence=Confidence.CERTAIN if said else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='replace one at a time and wait until it is back: rollout.kind = "rolling", rollout.batch = 1, rollout.gate = "ready" '
        "(Kubernetes: maxUnavailable 0 or 1; Ansible: serial 1); or run so many more that the rest is enough",
        guide="Best Practices: DON'T 6",
    )


def switched_before_ready(case: Case) -> Cause | None:
    """The balancer sent people to a set of instances of which nobody had said that it was ready."""
    seen = case.evidence("SwitchCostsNothing")
    early = [side for side, ready in seen.get("ready_before_switch", {}).items() if not ready]
    failed = sum(count for phase, count in seen.get("failed_by_phase", {}).items() if phase.split()[-1] in early)
    if not early or not failed:
        return None
    evidence = [
        f"the balancer was switched to {listed(early)} before all of it had said that it is ready",
        f"{failed} of {seen['failed']} failed requests were due from then on",
    ]
    if seen["unreachable"]:
        evidence.append(f"{seen['unreachable']} of them met nobody")
    if case.facts.get("gate") == "none":
        evidence.append('rollout.gate is "none"')
    return Cause(
        id="switched-before-ready",
        sentence="the balancer is switched to the new set before that is ready",
        confidence=Confidence.CERTAIN if 2 * failed > seen["failed"] else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='rollout.gate = "ready": switch only when app.ready of each new instance says yes',
        guide=_DEPLOY,
    )


def left_set_cut(case: Case) -> Cause | None:
    """What was in flight at the set that was left failed, because that was ended with the switch."""
    seen = case.evidence("SwitchCostsNothing")
    removed = seen.get("removed_early")
    if not removed or not seen.get("cut"):
        return None
    told = case.facts.get("drain") == "none"
    evidence = [
        f"{seen['cut']} slow requests that were in flight at a switch failed",
        f"{listed(removed)} was ended with the switch",
    ]
    if told:
        evidence.append('rollout.drain is "none"')
    return Cause(
        id="left-set-cut",
        sentence="the set of instances that was left is removed while it still answers",
        confidence=Confidence.CERTAIN if told else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='rollout.drain = "balancer-first": keep the set that was left until it has answered what it had, and better until the '
        "new one has proved itself",
        guide=_DEPLOY,
    )


def session_format_changed(case: Case) -> Cause | None:
    """Sessions are shared among instances of one version, and not from one version to the other."""
    seen = case.evidence("SessionsCrossVersions")
    ways = seen.get("ways", {})
    broken = seen.get("broken", ())
    if not broken or ways["control"]["lost"]:
        return None
    forward = "forward" in broken
    backward = [way for way in ("back", "used", "taken-back") if way in broken]
    evidence = [f"{ways[way]['lost']} of {ways[way]['asked']} were logged out: {way}" for way in broken]
    evidence.append(
        f"{ways['control']['recognised']} of {ways['control']['asked']} were recognised by the version they had logged in on"
    )
    # A secret or a store of its own looks the same from outside, both ways.
    against = (
        ["a new version with another secret or another store would look the same"]
        if forward and "back" in backward
        else []
    )
    reads = (
        "does not read the sessions of the old one"
        if forward
        else "keeps sessions in a form that the old one does not read"
    )
    return Cause(
        id="session-format-changed",
        sentence=f"the new version {reads}",
        confidence=Confidence.LIKELY if against else Confidence.CERTAIN,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="change the form of sessions in two rollouts: first a version that reads both forms and writes the old one, then one that "
        "writes the new one; give both versions the same SECRET_KEY and the same store",
        guide="Common Issues: Sessions lost after deployment",
    )


def assets_of_own_build(case: Case) -> Cause | None:
    """What one version names the other one does not have."""
    seen = case.evidence("AssetsAreEverywhere")
    missing = seen.get("missing")
    if not missing:
        return None
    across = {path: row for path, row in missing.items() if path not in seen["gone"]}
    if not across:
        return None
    named = [path for path in across if path in seen["differ"]]
    evidence = [
        f"{path}, named by {listed(row['named_by'])}, is not to be had from {listed(row['missing_on'])}"
        for path, row in list(across.items())[:3]
    ]
    if named:
        evidence.append("every instance has what its own page names")
    return Cause(
        id="assets-of-own-build",
        sentence="an instance has the stylesheets, scripts and images of its own build alone",
        confidence=Confidence.CERTAIN if len(named) == len(missing) else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="put the files of every build where all instances find them before the first new instance comes (object storage, a CDN, a "
        "volume they share), and keep those of the last builds",
        guide=_DEPLOY,
    )
