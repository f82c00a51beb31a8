"""Visitors arriving at a rate, and the journal of what they saw.

The traffic runs in a process of its own (`harness.traffic.process`), which `Traffic` starts and orders about. Must
not: retry anything, ever; judge a setup; be slowed down by one.
"""

from __future__ import annotations

from harness.traffic.client import CookieSeen, Progress, Result, Stream, StreamSummary, Task, Traffic
from harness.traffic.journal import (
    Journal,
    StoredRun,
    StoredScenario,
    fact_record,
    read_history,
    read_journal,
    uncollected,
    untold,
)

__all__ = [
    "CookieSeen",
    "Journal",
    "Progress",
    "Result",
    "StoredRun",
    "StoredScenario",
    "Stream",
    "StreamSummary",
    "Task",
    "Traffic",
    "fact_record",
    "read_history",
    "read_journal",
    "uncollected",
    "untold",
]
