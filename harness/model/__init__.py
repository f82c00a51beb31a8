"""The facts everything else speaks of. Frozen, importing nothing of the harness but the standard library.

Must not: do I/O, read clocks, know how anything is measured.
"""

from __future__ import annotations

from harness.model.facts import (
    UNNAMED,
    WELL,
    Answer,
    ComplaintKind,
    Connection,
    FaultWindow,
    History,
    Look,
    Operation,
    Outcome,
    Pace,
    RolloutStep,
)
from harness.model.gap import Gap, longest_gap
from harness.model.promise import Promise
from harness.model.verdict import Cause, Checker, Confidence, Finding, Status, Verdict, worst

__all__ = [
    "UNNAMED",
    "WELL",
    "Answer",
    "Cause",
    "Checker",
    "ComplaintKind",
    "Confidence",
    "Connection",
    "FaultWindow",
    "Finding",
    "Gap",
    "History",
    "Look",
    "Operation",
    "Outcome",
    "Pace",
    "Promise",
    "RolloutStep",
    "Status",
    "Verdict",
    "longest_gap",
    "worst",
]
