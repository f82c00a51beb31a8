"""Judges a stored run again, from its journal alone: no cluster, the same verdicts. Must not: change what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.diagnosis import diagnose
from harness.errors import BadInput, JournalError
from harness.judging import judged_again
from harness.model import Finding
from harness.reporting import RunResult, read_results
from harness.traffic import read_journal, uncollected

__all__ = ["rejudge"]

_ODD = (LookupError, TypeError, AttributeError, ArithmeticError, ValueError)
"""What judges and rules raise who find something else than what is always there."""


def rejudge(folder: Path) -> RunResult:
    """The run in this folder, its findings made anew from `history.jsonl`.

    Raises:
        BadInput: it is not the folder of a run, or one of another version.
    """
    with uncollected():
        try:
            stored = read_results(folder)
            journal = read_journal(folder / "history.jsonl")
        except JournalError as problem:
            raise BadInput(f"{folder} cannot be judged again: {problem}") from problem
        findings: list[Finding] = []
        facts: Mapping[str, Any] = {}
        try:
            for scenario in journal.scenarios.values():
                facts = scenario.history.setup or facts
                findings += judged_again(scenario.judged, scenario.history)
        except ValueError as problem:
            raise BadInput(f"{folder} was judged by another version of the harness: {problem}") from problem
        except _ODD as problem:
            raise BadInput(_changed(folder, problem)) from problem
    # A scenario that could not be carried out left nothing to judge: that it failed stays true.
    again = {(finding.promise, finding.scenario) for finding in findings}
    findings += [finding for finding in stored.findings if (finding.promise, finding.scenario) not in again]
    looks = [look for scenario in journal.scenarios.values() for look in scenario.history.looks]
    try:
        return stored.with_findings(diagnose(findings, facts=facts, looks=looks))
    except _ODD as problem:
        raise BadInput(_changed(folder, problem)) from problem


def _changed(folder: Path, problem: Exception) -> str:
    return (
        f"{folder} says of a run what no run of this version says ({type(problem).__name__}: {problem}): it was changed after it "
        "was written, or written by another version of the harness"
    )
