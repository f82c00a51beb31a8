"""Checkers to findings: live and for a stored run alike, so that both reach the same verdict. Must not: do I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkers import contradictions, describe, from_description, run_safely, weakened
from harness.model import Checker, Finding, History, Verdict, worst

__all__ = ["judge_record", "judged", "judged_again"]


def judged(
    promise: str, checkers: Sequence[Checker], history: History, *, untrue: Sequence[str] | None = None
) -> Finding:
    """The verdict of several checkers together on one promise.

    What is said is what the checkers with the worst status say; the evidence of each is kept under its name. Of a record
    that contradicts itself nothing is believed, what was seen to break as little as what was seen to hold. A failure of time
    alone is inconclusive where those who serve were given no core for long.

    `untrue`: what `contradictions` says of this history, where it was asked already.
    """
    if untrue is None:
        untrue = contradictions(history)
    if untrue:
        told = Verdict.rig_error(f"the record contradicts itself: {'; '.join(untrue)}", contradictions=list(untrue))
        return Finding(promise=promise, scenario=history.scenario, verdict=told)
    verdicts = {type(checker).__name__: weakened(run_safely(checker, history), history) for checker in checkers}
    status = worst(verdict.status for verdict in verdicts.values())
    said = [verdict.measured for verdict in verdicts.values() if verdict.status is status]
    evidence = {name: dict(verdict.evidence) for name, verdict in verdicts.items()}
    return Finding(
        promise=promise,
        scenario=history.scenario,
        verdict=Verdict(status, "; ".join(dict.fromkeys(said)) or "nothing was checked", evidence),
    )


def judge_record(promise: str, checkers: Sequence[Checker], history: History) -> dict[str, Any]:
    """What the journal keeps so that this judgement can be repeated."""
    return {
        "t": "judge",
        "scenario": history.scenario,
        "promise": promise,
        "checkers": [describe(checker) for checker in checkers],
    }


def judged_again(records: Sequence[Mapping[str, Any]], history: History) -> list[Finding]:
    """Repeat what was judged of one scenario. Raises ValueError for a checker this harness does not know."""
    untrue = contradictions(history) if records else ()
    return [
        judged(
            str(record["promise"]),
            [from_description(description) for description in record["checkers"]],
            history,
            untrue=untrue,
        )
        for record in records
    ]
