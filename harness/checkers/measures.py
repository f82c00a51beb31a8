"""What can be counted and measured in a list of operations, without judging it. All times in seconds.

Must not: hold a bound or give a verdict.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.checkers import bounds
from harness.model import Gap, History, Operation, longest_gap

__all__ = [
    "SLOW",
    "InFlight",
    "cut_by_stop",
    "ended",
    "error_class",
    "error_classes",
    "first_choice",
    "gap_within",
    "is_late",
    "is_write",
    "mean_in_flight",
    "percentile",
    "probe_interval",
    "time_to_recover",
    "touching",
    "was_in_flight",
    "was_sent",
]

SLOW = "slow"
"""The stream of requests that take long by their nature, so that some are in flight at any time."""

_NON_IDEMPOTENT = frozenset({"POST", "PATCH", "LOCK", "CONNECT"})
"""RFC 9110 9.2.2 defines the idempotent methods; these are the others, as nginx has them."""


def gap_within(operations: Iterable[Operation], *, begin: float, end: float, interval_seconds: float) -> Gap:
    """The longest gap of `harness.model.longest_gap` within [begin, end], while somebody was asking.

    Answers outside are left out, so that a gap that reaches out of the window is cut at its border. The window ends
    with the traffic, and a span in which hardly anybody asked is no gap: nobody can tell whether there would have been
    an answer.
    """
    sent = [op for op in operations if was_sent(op)]
    dues = [op.due for op in sent]
    begin, end = max(begin, min(dues, default=end)), min(end, max(dues, default=begin) + interval_seconds)
    none = Gap(0.0, begin, begin)
    if end <= begin:
        return none
    inside = (op for op in sent if op.answered is not None and begin <= op.answered <= end)
    gap = longest_gap(inside, interval_seconds=interval_seconds, begin=begin, end=end)
    asked = sum(gap.begin <= due < gap.end for due in dues)
    # Of those that the pace promises in that time; without a pace, a few.
    needed = bounds.ASKED_SHARE_IN_GAP * gap.seconds / interval_seconds if interval_seconds else bounds.ASKED_IN_GAP
    return gap if gap.seconds > 0.0 and asked >= needed else none


def probe_interval(history: History, operations: Iterable[Operation]) -> float:
    """Seconds between two requests of the densest open-loop stream among these operations; 0 without any."""
    streams = {op.stream for op in operations}
    rates = [pace.rate for pace in history.paces if pace.stream in streams and pace.rate > 0.0]
    return 1.0 / max(rates) if rates else 0.0


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed (nearest rank). None when there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def is_write(op: Operation) -> bool:
    """Whether sending it twice may have its effect twice, so that nobody may try it again."""
    return op.method.upper() in _NON_IDEMPOTENT


def was_sent(op: Operation) -> bool:
    """Whether the rig did its part: it tried, even if it could not connect."""
    return op.error != "unsent"


def is_late(op: Operation, *, after_seconds: float) -> bool:
    """Whether the rig sent it too late, or not at all."""
    return not was_sent(op) or (op.sent is not None and op.sent - op.due > after_seconds)


def ended(op: Operation, *, timeout_seconds: float) -> float:
    """When it was over, as far as that is known. A failure without an answer has no time of its own: a timeout lasted
    as long as timeouts last, anything else is taken to have lasted a second, so that what was in flight when a fault
    struck counts with that fault."""
    if op.answered is not None:
        return op.answered
    if op.error == "timeout":
        return op.due + timeout_seconds
    return op.due + bounds.FORGOTTEN_UNDER


def cut_by_stop(op: Operation, *, node: str, stops: float, stopped: float, timeout_seconds: float) -> bool:
    """Whether it failed after it had been under way at this instance while that was being stopped.

    A failure of which nobody knows where it was tried is taken to have been there.
    """
    there = op.instance == node or node in op.attempts or not op.attempts
    under_way = op.due < stopped and ended(op, timeout_seconds=timeout_seconds) >= stops
    return not op.available and there and under_way


def touching(operations: Iterable[Operation], *, start: float, end: float, timeout_seconds: float) -> list[Operation]:
    """The operations due in [start, end), and those due earlier that were still unfinished at `start`."""
    return [op for op in operations if op.due < end and ended(op, timeout_seconds=timeout_seconds) >= start]


def was_in_flight(op: Operation, *, at: float) -> bool:
    """Whether it had been sent and was not yet completely answered. Without an answer, it counts as unfinished."""
    return op.sent is not None and op.sent <= at and (op.answered is None or op.answered > at)


def mean_in_flight(operations: Iterable[Operation], *, start: float, end: float) -> float:
    """How many requests were in flight on average in [start, end): the sum of their overlaps with it, by its length."""
    if end <= start:
        return 0.0
    overlaps = (
        min(op.answered, end) - max(op.sent, start)
        for op in operations
        if op.sent is not None and op.answered is not None
    )
    return math.fsum(overlap for overlap in overlaps if overlap > 0.0) / (end - start)


def first_choice(op: Operation) -> str | None:
    """The instance the balancer took first, as far as that is known."""
    return op.attempts[0] if op.attempts else op.instance


class InFlight:
    """How many requests each instance had in flight, as seen from outside: from sent to answered.

    The balancer sees both a moment earlier or later, hence two counts: `surely` leaves out, and `possibly` takes in,
    whatever began or ended within `sight_seconds` of the time asked for.
    """

    def __init__(self, operations: Iterable[Operation], *, instances: Sequence[str], sight_seconds: float) -> None:
        self._sight = sight_seconds
        begins: dict[str, list[float]] = {name: [] for name in instances}
        ends: dict[str, list[float]] = {name: [] for name in instances}
        for op in operations:
            if op.sent is not None and op.answered is not None and op.instance in begins:
                begins[op.instance].append(op.sent)
                ends[op.instance].append(op.answered)
        self._begins = {name: sorted(times) for name, times in begins.items()}
        self._ends = {name: sorted(times) for name, times in ends.items()}

    def now(self, name: str, at: float) -> int:
        """Those sent before `at` and answered after it."""
        return bisect_left(self._begins[name], at) - bisect_right(self._ends[name], at)

    def surely(self, name: str, at: float) -> int:
        """A lower bound. A request shorter than the blur may make it lower still, never higher."""
        begun = bisect_left(self._begins[name], at - self._sight)
        return max(0, begun - bisect_left(self._ends[name], at + self._sight))

    def possibly(self, name: str, at: float) -> int:
        """An upper bound; a request sent at `at` itself is included."""
        return bisect_right(self._begins[name], at + self._sight) - bisect_left(self._ends[name], at - self._sight)


def time_to_recover(operations: Sequence[Operation], *, since: float, successes: int) -> float | None:
    """Seconds from `since` to the first of `successes` answers in a row after the last failure, by when they were due.

    0 without any failure. None when fewer follow: it was not seen to recover.
    """
    ordered = sorted((op for op in operations if op.due >= since), key=lambda op: op.due)
    failures = [index for index, op in enumerate(ordered) if not op.available]
    if not failures:
        return 0.0
    good = ordered[failures[-1] + 1 :]
    if len(good) < successes:
        return None
    answered = good[0].answered
    return None if answered is None else answered - since


def error_class(op: Operation) -> str:
    """Its class of failure; where the record has none, what the answer meant."""
    return op.error or op.answer.value


def error_classes(operations: Iterable[Operation]) -> dict[str, int]:
    """How many failed in which way, most frequent first."""
    return dict(Counter(error_class(op) for op in operations).most_common())
