"""What can be counted and measured in a list of operations, without judging it. All times in seconds.

Must not: hold a bound or give a verdict.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import sub

from harness.checkers import bounds
from harness.model import UNNAMED, Connection, Gap, History, Operation, longest_gap

__all__ = [
    "SLOW",
    "InFlight",
    "by_connection",
    "cut_by_stop",
    "ended",
    "error_class",
    "error_classes",
    "first_choice",
    "gap_within",
    "is_late",
    "is_write",
    "late_ones",
    "may_have_tried",
    "mean_in_flight",
    "percentile",
    "probe_interval",
    "through_balancer",
    "time_to_recover",
    "touching",
    "tries_are_not_told",
    "was_in_flight",
    "was_sent",
    "who_answered",
    "who_is_not_told",
]

SLOW = "slow"
"""The stream of requests that take long by their nature, so that some are in flight at any time."""

_SAY_SO = "have the balancer send X-Harness-Upstream (nginx: add_header X-Harness-Upstream $upstream_addr always;)"
_NOBODY_SAYS_WHO = (
    "nobody says which instance answered: name a header of the application that does (app.instance_header), or a cookie, a place in "
    "its JSON or a marker in its pages (app.identity), or " + _SAY_SO
)
_NOBODY_SAYS_TRIED = f"the balancer does not say whom it tried, so that nobody knows what it saved: {_SAY_SO}"
_NON_IDEMPOTENT = frozenset({"POST", "PATCH", "LOCK", "CONNECT"})
"""RFC 9110 9.2.2 defines the idempotent methods; these are the others, as nginx has them."""


def gap_within(operations: Iterable[Operation], *, begin: float, end: float, interval_seconds: float) -> Gap:
    """The longest gap of `harness.model.longest_gap` within [begin, end], while somebody was asking.

    Answers outside are left out, so that a gap that reaches out of the window is cut at its border. The window ends
    with the traffic, and a span in which hardly anybody asked is no gap: nobody can tell whether there would have been
    an answer.
    """
    sent = [op for op in operations if op.error != "unsent"]
    dues = sorted([op.due for op in sent])
    begin, end = max(begin, dues[0] if dues else end), min(end, (dues[-1] if dues else begin) + interval_seconds)
    none = Gap(0.0, begin, begin)
    if end <= begin:
        return none
    inside = [op for op in sent if op.answered is not None and begin <= op.answered <= end]
    gap = longest_gap(inside, interval_seconds=interval_seconds, begin=begin, end=end)
    asked = bisect_left(dues, gap.end) - bisect_left(dues, gap.begin)
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


def through_balancer(history: History) -> list[Operation]:
    """What was asked of the balancer, and not of an instance directly; also what was not sent."""
    return [op for op in history.operations if op.via == "balancer"]


def was_sent(op: Operation) -> bool:
    """Whether the rig did its part: it tried, even if it could not connect."""
    return op.error != "unsent"


def who_answered(op: Operation, instances: Sequence[str]) -> str | None:
    """The instance that answered: by its own word where that is the name of one, else by the balancer's.

    The balancer knows addresses, and an address that one instance had may be another's by now.
    """
    return op.named if op.named in instances else op.instance


def who_is_not_told(operations: Sequence[Operation]) -> str | None:
    """What to do where people were answered and neither balancer nor application ever says by whom; None where one does."""
    answered = [op for op in operations if op.available]
    return _NOBODY_SAYS_WHO if answered and all(op.instance is None for op in answered) else None


def tries_are_not_told(operations: Sequence[Operation]) -> str | None:
    """What to do where the balancer never says whom it tried, so that a request it saved looks like any other."""
    return _NOBODY_SAYS_TRIED if operations and not any(op.attempts for op in operations) else None


def is_late(op: Operation, *, after_seconds: float) -> bool:
    """Whether the rig sent it too late, or not at all."""
    return not was_sent(op) or (op.sent is not None and op.sent - op.due > after_seconds)


def late_ones(operations: Iterable[Operation], *, after_seconds: float) -> list[Operation]:
    """Those of which `is_late` is true."""
    return [
        op for op in operations if op.error == "unsent" or (op.sent is not None and op.sent - op.due > after_seconds)
    ]


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
    there = op.instance == node or not op.attempts or may_have_tried(op, node)
    under_way = op.due < stopped and ended(op, timeout_seconds=timeout_seconds) >= stops
    return not op.available and there and under_way


def touching(operations: Iterable[Operation], *, start: float, end: float, timeout_seconds: float) -> list[Operation]:
    """The operations due in [start, end), and those due earlier that were still unfinished at `start`."""
    return [
        op
        for op in operations
        if op.due < end
        and (op.answered if op.answered is not None else ended(op, timeout_seconds=timeout_seconds)) >= start
    ]


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
    first = op.attempts[0] if op.attempts else op.instance
    return None if first == UNNAMED else first


def may_have_tried(op: Operation, node: str) -> bool:
    """Whether the balancer tried this instance for it, as far as anybody can tell: an attempt that it did not name may
    have been there, and so may a failed request of which it says nothing at all."""
    if not op.attempts:
        return not op.available and was_sent(op)
    return node in op.attempts or UNNAMED in op.attempts


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
        self._all_begins = sorted(chain.from_iterable(begins.values()))
        self._all_ends = sorted(chain.from_iterable(ends.values()))

    def now(self, name: str, at: float) -> int:
        """Those sent before `at` and answered after it."""
        return bisect_left(self._begins[name], at) - bisect_right(self._ends[name], at)

    def in_all(self, moments: Sequence[float]) -> list[int]:
        """`now`, of all instances together, at each of these moments."""
        begun = map(partial(bisect_left, self._all_begins), moments)
        return list(map(sub, begun, map(partial(bisect_right, self._all_ends), moments)))

    def surely(self, name: str, at: float) -> int:
        """A lower bound. A request shorter than the blur may make it lower still, never higher."""
        begun = bisect_left(self._begins[name], at - self._sight)
        return max(0, begun - bisect_left(self._ends[name], at + self._sight))

    def possibly(self, name: str, at: float) -> int:
        """An upper bound; a request sent at `at` itself is included."""
        return bisect_right(self._begins[name], at + self._sight) - bisect_left(self._ends[name], at - self._sight)

    def seen(self, moments: Sequence[float]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """`surely` (without its floor of 0) and `possibly` of each instance at each of these moments, in the order of
        the instances."""
        early = [at - self._sight for at in moments]
        late = [at + self._sight for at in moments]
        surely = []
        possibly = []
        for name, begins in self._begins.items():
            ends = self._ends[name]
            surely.append(map(sub, map(partial(bisect_left, begins), early), map(partial(bisect_left, ends), late)))
            possibly.append(map(sub, map(partial(bisect_right, begins), late), map(partial(bisect_left, ends), early)))
        return zip(zip(*surely, strict=True), zip(*possibly, strict=True), strict=True)


def time_to_recover(operations: Sequence[Operation], *, since: float, successes: int) -> float | None:
    """Seconds from `since` to the first of `successes` answers in a row after the last failure, by when they were due.

    0 without any failure. None when fewer follow: it was not seen to recover.
    """
    asked = [op for op in operations if op.due >= since]
    if all(op.available for op in asked):
        return 0.0
    ordered = sorted(asked, key=lambda op: op.due)
    failures = [index for index, op in enumerate(ordered) if not op.available]
    good = ordered[failures[-1] + 1 :]
    if len(good) < successes:
        return None
    answered = good[0].answered
    return None if answered is None else answered - since


def by_connection(operations: Iterable[Operation]) -> dict[str, int]:
    """How many came on each kind of connection: they break apart."""
    counted = Counter(op.connection for op in operations)
    return {kind.value: counted[kind] for kind in Connection}


def error_class(op: Operation) -> str:
    """Its class of failure; where the record has none, what the answer meant."""
    return op.error or op.answer.value


def error_classes(operations: Iterable[Operation]) -> dict[str, int]:
    """How many failed in which way, most frequent first."""
    return dict(Counter(error_class(op) for op in operations).most_common())
