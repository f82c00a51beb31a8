"""A search in somebody else's page by a pattern out of a setup file, given up in time.

There are patterns that need longer than anybody lives for some pages, `(a+)+b` for one. Must not: tell what was not found from
what was given up; whoever needs to know says how long it searches.
"""

from __future__ import annotations

import re
import signal
from types import FrameType

__all__ = ["SEARCH_SECONDS", "search"]

SEARCH_SECONDS = 0.25
"""Of this process's own computing, so that a busy machine takes nothing away from it. A good pattern needs some milliseconds for
the longest page."""


class _GivenUp(Exception):  # noqa: N818 - reads as what happened
    pass


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise _GivenUp


def search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """What the pattern finds; None for nothing, and for nothing within SEARCH_SECONDS.

    The bound is that of a signal, which only the first thread of a process can be given: journeys are gone through there.
    """
    try:
        before = signal.signal(signal.SIGVTALRM, _give_up)
    except ValueError:  # another thread
        return pattern.search(text)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, SEARCH_SECONDS)
        try:
            return pattern.search(text)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _GivenUp:
        return None
    finally:
        signal.signal(signal.SIGVTALRM, before)
