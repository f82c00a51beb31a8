"""The one reader of clocks and the only sleeper of the harness.

Everything that is judged is judged on one clock, `now()`: CLOCK_MONOTONIC, the same for all
processes of a machine and untouched when NTP steps the wall clock. `wall()` is for names and
headings only. Must not: be used with the wall clock in anything a checker reads.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["now", "sleep", "wall"]


def now() -> float:
    """Seconds on the machine's monotonic clock; comparable between processes, meaningless between machines."""
    return time.monotonic()


def wall() -> datetime:
    """The date and time in UTC, for folder names and headings."""
    return datetime.now(tz=UTC)


def sleep(seconds: float) -> None:
    """Let `seconds` pass. For traffic that must run for a while; whoever awaits an event uses `waiting.wait_until`."""
    time.sleep(seconds)
