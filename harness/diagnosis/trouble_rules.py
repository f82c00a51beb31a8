"""Rules about what instances write to their logs. Must not: guess what a line means that the setup did not name."""

from __future__ import annotations

from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["trouble_in_the_log"]


def trouble_in_the_log(case: Case) -> Cause | None:
    """An instance wrote what the setup calls trouble."""
    seen = case.evidence("NobodyIsInTrouble")
    if not seen.get("matched"):
        return None
    names = list(seen["matched"])
    said = [f"{each['instance']} wrote {each['line']!r} (app.trouble: {each['pattern']})" for each in seen["said"][:3]]
    every = len(names) > 1
    return Cause(
        id="trouble-in-the-log",
        sentence="instances meet trouble in ordinary use, and say so in their logs"
        if every
        else f"{names[0]} meets trouble in ordinary use, and says so in its log",
        confidence=Confidence.CERTAIN,
        evidence=tuple(said),
        remedy=f"read what stands around that line in logs/{names[0]}.log and mend it; where it is harmless, say so by a narrower pattern in "
        "app.trouble",
        guide="Testing Your Distributed Setup: 1. Verify All Instances Are Running",
    )
