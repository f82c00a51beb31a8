"""Applies every rule to every finding that is not green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.diagnosis.case import Case
from harness.diagnosis.own_words import in_own_words
from harness.diagnosis.rules import RULES
from harness.model import Cause, Confidence, Finding, Look, Status

__all__ = ["diagnose"]

_ORDER = {Confidence.CERTAIN: 0, Confidence.LIKELY: 1, Confidence.POSSIBLE: 2}


def diagnose(findings: Sequence[Finding], *, facts: Mapping[str, Any], looks: Sequence[Look]) -> tuple[Finding, ...]:
    """The findings, each broken promise with its causes: the surest first, and more evidence before less."""
    return tuple(
        replace(finding, causes=_causes(Case(finding=finding, findings=findings, facts=facts, looks=looks)))
        if finding.verdict.status is Status.FAIL
        else finding
        for finding in findings
    )


def _causes(case: Case) -> tuple[Cause, ...]:
    found = [in_own_words(cause, case.facts) for rule in RULES.values() if (cause := rule(case)) is not None]
    return tuple(sorted(found, key=lambda cause: (_ORDER[cause.confidence], -len(cause.evidence))))
