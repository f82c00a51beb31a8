"""Rules about an orchestrator: why it does not replace, takes a bad version for a good one, or leaves it there.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file, and of the stack file it stands for. Must not: conclude from the absence of a look that
nobody took.
"""

from __future__ import annotations

from harness.checkers import bounds
from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["bad_version_kept", "not_restarted", "replica_health_blind", "restart_delay_too_long"]

_ORCHESTRATION = "Architecture Patterns: Pattern 3: Container Orchestration"
_DEPLOY = "Deployment Strategies: Zero-Downtime Deployment"


def not_restarted(case: Case) -> Cause | None:
    """A dead replica is missing for good, because nobody was told to start another."""
    seen = case.evidence("LostReplicaIsReplaced")
    restart = case.facts.get("swarm", {}).get("restart")
    if "not-replaced" not in seen.get("broken", ()) or seen.get("healed_seconds") is not None or restart != "none":
        return None
    return Cause(
        id="not-restarted",
        sentence="the orchestrator was told not to replace a replica that ends",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"{seen['victim']} was killed and nobody took its place in {seen['waited_seconds']:.0f} s",
            f"{seen['fewest']} of {seen['wanted']} replicas were left",
            'swarm.restart is "none"',
        ),
        remedy='swarm.restart = "any" (deploy.restart_policy.condition: any)',
        guide=_ORCHESTRATION,
    )


def restart_delay_too_long(case: Case) -> Cause | None:
    """A dead replica is replaced, and most of the time went by before anybody began."""
    seen = case.evidence("LostReplicaIsReplaced")
    delay = float(case.facts.get("swarm", {}).get("restart_delay_seconds", 0.0))
    if "not-replaced" not in seen.get("broken", ()) or delay < bounds.HEAL_SECONDS / 2:
        return None
    if case.facts.get("swarm", {}).get("restart") == "none":
        return None
    return Cause(
        id="restart-delay-too-long",
        sentence="the orchestrator waits too long before it replaces a replica",
        confidence=Confidence.CERTAIN if delay >= bounds.HEAL_SECONDS else Confidence.LIKELY,
        evidence=(
            f"{seen['victim']} was missing for {seen['waited_seconds']:.0f} s",
            f"swarm.restart_delay_seconds is {delay:g}",
        ),
        remedy="swarm.restart_delay_seconds = 1 or less (deploy.restart_policy.delay)",
        guide=_ORCHESTRATION,
    )


def replica_health_blind(case: Case) -> Cause | None:
    """A version that cannot serve was taken for healthy: nobody asked it, or not the right thing."""
    seen = case.evidence("BadVersionIsTakenBack")
    swarm = case.facts.get("swarm", {})
    if not seen.get("ready_on"):
        return None
    unasked = swarm.get("checked") is False
    evidence = [f"the bad version counted as healthy on {listed(seen['ready_on'])}"]
    if seen.get("met"):
        evidence.append(f"{sum(seen['met'].values())} people were answered by it")
    if unasked:
        said = "swarm.health is empty" if swarm.get("health") == [] else "neither swarm.health nor the image names one"
        evidence.append(f"there is no health check ({said}): a container that runs counts as healthy")
    return Cause(
        id="replica-health-blind",
        sentence="a replica counts as healthy although it cannot serve",
        confidence=Confidence.CERTAIN if unasked else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="let swarm.health (healthcheck.test) ask the path of app.ready, and fail unless it says yes",
        guide="Health Checks",
    )


def bad_version_kept(case: Case) -> Cause | None:
    """A bad version was noticed, and nobody was told to take it back."""
    seen = case.evidence("BadVersionIsTakenBack")
    action = case.facts.get("swarm", {}).get("failure_action")
    if "not-taken-back" not in seen.get("broken", ()) or seen.get("ready_on") or action in (None, "rollback"):
        return None
    said = f" ({seen['message']})" if seen.get("message") else ""
    return Cause(
        id="bad-version-kept",
        sentence="the orchestrator notices a bad version and does not take it back",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"the update ended as {seen['outcome']}{said}",
            f"swarm.failure_action is {action}",
        ),
        remedy='swarm.failure_action = "rollback" (deploy.update_config.failure_action: rollback)',
        guide=_DEPLOY,
    )
