"""When an open-loop stream sends what: a pure function of its declaration, the seed and the scenario.

Arrivals are evenly spaced, so that a gap is seen to within one over the rate. Above 500 a second they come in evenly
spaced groups, one every 20 ms: such a stream is there to load a setup, and waking up for each arrival would cost more
processor time, which the setup needs too, than the request itself. Who arrives, for which journey and on which kind of
connection is drawn in one fixed order, so that the same seed repeats the same schedule. Must not: read clocks, or draw
anything that depends on an answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeAlias, TypeVar

from harness.model import Connection

__all__ = ["GROUPS_PER_SECOND", "SINGLY_UP_TO", "Arrival", "Schedule"]

SINGLY_UP_TO = 500.0
"""Arrivals per second; up to this rate each is due on its own."""
GROUPS_PER_SECOND = 50.0
"""How often a faster stream sends."""

_T = TypeVar("_T")


Arrival: TypeAlias = tuple[float, str, str, Connection]
"""When what is due: moment, visitor, journey, connection. A bare tuple: one is made for every request."""


class _Shares(Generic[_T]):
    """A weighted choice by one number from [0, 1)."""

    def __init__(self, weights: Mapping[_T, float]) -> None:
        self._items = list(weights)
        total = sum(weights.values())
        # The last edge is left out: whatever rounding makes of it, every number falls before it.
        self._edges = [edge / total for edge in accumulate(weights.values())][:-1]

    def pick(self, number: float) -> _T:
        return self._items[bisect_right(self._edges, number)]


class Schedule:
    """The arrivals of one stream, one after the other."""

    def __init__(
        self,
        *,
        seed: int,
        scenario: str,
        stream: str,
        begin: float,
        rate: float,
        visitors: Sequence[str],
        journeys: Mapping[str, float],
        connections: Mapping[Connection, float],
    ) -> None:
        """`rate` is in arrivals per second; the first is due at `begin`. Shares need not add up to one."""
        self._random = Random(f"{seed}/{scenario}/{stream}")  # noqa: S311 - must repeat with the seed
        self._begin = begin
        self._rate = rate
        self._group = 1 if rate <= SINGLY_UP_TO else round(rate / GROUPS_PER_SECOND)
        self._visitors = tuple(visitors)
        self._visitor_count = len(self._visitors)
        self._journeys = _Shares(journeys)
        self._connections = _Shares(connections)
        self._drawn = 0
        self.next_due = begin

    def draw(self) -> Arrival:
        """The next arrival; from then on `next_due` is that of the one after it."""
        random = self._random.random
        arrival = (
            self.next_due,
            self._visitors[int(random() * self._visitor_count)],
            self._journeys.pick(random()),
            self._connections.pick(random()),
        )
        self._drawn += 1
        if self._drawn % self._group == 0:
            # From the number, not by adding up: no drift.
            self.next_due = self._begin + self._drawn / self._rate
        return arrival

    @property
    def interval_seconds(self) -> float:
        """Between two arrivals, or two groups of them: to within this a gap is seen."""
        return self._group / self._rate

    @property
    def drawn(self) -> int:
        return self._drawn
