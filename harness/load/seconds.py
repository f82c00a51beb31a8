"""What a load run counts in each second of the wall clock, and the sums of several processes.

Locust's own history is an average over ten seconds, told with a delay; a curve of throughput needs what really ended
in each second. Needs nothing but the standard library, as it is sent along with the Locust file. Must not: read clocks,
or know Locust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Counted", "Seconds", "percentile_of"]


def percentile_of(milliseconds: Mapping[int, int], share: float) -> int | None:
    """The latency below which this share of all counted requests lies (nearest rank); None of nothing."""
    total = sum(milliseconds.values())
    if not total:
        return None
    rank, seen = max(1, -(-int(share * total * 1_000_000) // 1_000_000)), 0
    for value in sorted(milliseconds):
        seen += milliseconds[value]
        if seen >= rank:
            return value
    raise AssertionError("the last rank is the total")


@dataclass(slots=True)
class Counted:
    """One second: the requests that ended in it."""

    good: int = 0
    failed: int = 0
    milliseconds: dict[int, int] = field(default_factory=dict)
    """Latency of all of them, rounded, to how many had it."""
    users: int = 0
    """People who were there."""
    busiest: float = 0.0
    """The share of one core that the busiest generating process used, from 0 to 1."""

    def add(self, milliseconds: float, *, good: bool) -> None:
        if good:
            self.good += 1
        else:
            self.failed += 1
        # To two digits above a hundred, as Locust does: a percentile needs no more, and memory stays small.
        value = round(milliseconds) if milliseconds < 100 else round(milliseconds, -(len(str(int(milliseconds))) - 2))
        self.milliseconds[int(value)] = self.milliseconds.get(int(value), 0) + 1

    def merge(self, other: Counted) -> None:
        """What another process counted in the same second."""
        self.good += other.good
        self.failed += other.failed
        for value, count in other.milliseconds.items():
            self.milliseconds[value] = self.milliseconds.get(value, 0) + count
        self.users = max(self.users, other.users)
        self.busiest = max(self.busiest, other.busiest)


class Seconds:
    """Counts by second. `second` is always whole seconds since the epoch."""

    def __init__(self) -> None:
        self._counted: dict[int, Counted] = {}

    def at(self, second: int) -> Counted:
        if second not in self._counted:
            self._counted[second] = Counted()
        return self._counted[second]

    def items(self) -> list[tuple[int, Counted]]:
        """In order. Seconds in which nothing was counted may be missing."""
        return sorted(self._counted.items())

    def between(self, begin: int, end: int) -> Iterable[Counted]:
        """Every second from `begin` to before `end`; an empty one where nothing was counted."""
        return [self._counted.get(second, Counted()) for second in range(begin, end)]

    def take(self) -> list[list[Any]]:
        """All that is counted as plain data, and begin anew: what a worker reports."""
        plain, self._counted = self.plain(), {}
        return plain

    def plain(self) -> list[list[Any]]:
        """JSON-ready: a row for each second with its number, good, failed, users, busiest, and latency pairs."""
        return [
            [second, each.good, each.failed, each.users, round(each.busiest, 3), sorted(each.milliseconds.items())]
            for second, each in self.items()
        ]

    def add_plain(self, rows: Iterable[Any]) -> None:
        """What another process, or a file, tells."""
        for second, good, failed, users, busiest, milliseconds in rows:
            told = Counted(good, failed, {int(value): int(count) for value, count in milliseconds}, users, busiest)
            self.at(int(second)).merge(told)

    @classmethod
    def from_plain(cls, rows: Iterable[Any]) -> Self:
        seconds = cls()
        seconds.add_plain(rows)
        return seconds
