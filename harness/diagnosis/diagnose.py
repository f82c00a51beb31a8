"""Applies every rule to every promise that is broken, and says why nothing could be told where the machine was too busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.diagnosis.case import Case
from harness.diagnosis.own_words import in_own_words
from harness.diagnosis.rules import RULES
from harness.diagnosis.traffic_rules import cpu_starvation
from harness.model import Cause, Confidence, Finding, Look, Status

__all__ = ["diagnose"]

_ORDER = {Confidence.CERTAIN: 0, Confidence.LIKELY: 1, Confidence.POSSIBLE: 2}


def diagnose(findings: Sequence[Finding], *, facts: Mapping[str, Any], looks: Sequence[Look]) -> tuple[Finding, ...]:
    """The findings, each broken promise with its causes: the surest first, and more evidence before less. One of which nothing
    could be told for want of cores has that cause."""
    cases = [Case(finding=finding, findings=findings, facts=facts, looks=looks) for finding in findings]
    return tuple(replace(case.finding, causes=_causes(case)) for case in cases)


def _causes(case: Case) -> tuple[Cause, ...]:
    if case.finding.verdict.status is not Status.FAIL and not case.untold:
        return ()
    rules = (cpu_starvation,) if case.untold else RULES.values()
    found = [in_own_words(cause, case.facts) for rule in rules if (cause := rule(case)) is not None]
    return tuple(sorted(found, key=lambda cause: (_ORDER[cause.confidence], -len(cause.evidence))))
