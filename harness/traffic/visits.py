"""One run of a journey by one visitor, and who asked for it. Plain state: the engine moves it.

Must not: send, judge or write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from harness.journeys import Journey, Judgement, Step
from harness.model import Connection
from harness.traffic.people import Visitor
from harness.traffic.wire import Wire

__all__ = ["End", "Origin", "Visit"]


class End(NamedTuple):
    """How a visit ended: by its last operation."""

    judgement: Judgement
    status: int | None
    instance: str | None


class Origin:
    """What sent a visit: an open-loop stream, or a batch of tasks. Its visits share these facts."""

    def __init__(
        self, *, scenario: str, stream: str, timeout_seconds: float, pool_size: int, interval_seconds: float
    ) -> None:
        self.scenario = scenario
        self.stream = stream
        self.timeout_seconds = timeout_seconds
        """For one request, from when the rig turned to it to the end of its answer."""
        self.pool_size = pool_size
        """For reused connections: this many are opened to a target before one is used again."""
        self.interval_seconds = interval_seconds
        """The time between arrivals. Nought where there is no pace, and so no gap to measure."""
        self.heads: dict[tuple[str, int, str, Connection], str] = {}
        """First parts of journal lines, by journey, step, target and connection."""
        self.in_flight = 0
        """Visits under way."""
        self.is_open = interval_seconds > 0
        """Whether more is to come, so that a silence now may become a gap."""
        self.last_success: float | None = None
        self.longest_gap_seconds = 0.0

    def gap_until(self, moment: float) -> float:
        """The gap of `harness.model.longest_gap`, kept up to date for the live view."""
        if self.last_success is None or not self.interval_seconds:
            return 0.0
        return moment - self.last_success - self.interval_seconds


class Visit:
    """A journey under way. `step` is the index of the step that is being asked."""

    __slots__ = (
        "begun",
        "connection",
        "deadline",
        "due",
        "extras",
        "journey",
        "on_end",
        "origin",
        "path",
        "record",
        "step_index",
        "via",
        "visitor",
        "wire",
        "wish",
    )

    def __init__(
        self,
        *,
        origin: Origin,
        visitor: Visitor,
        journey: Journey,
        via: str,
        wish: Connection,
        due: float,
        extras: Mapping[str, str],
        record: str | None,
        on_end: Callable[[Visit, End], None],
    ) -> None:
        self.origin = origin
        self.visitor = visitor
        self.journey = journey
        self.via = via
        self.wish = wish
        """The kind of connection it should travel on."""
        self.connection = wish
        """The kind it does travel on: reused only where an earlier request went before."""
        self.due = due
        """When the current step was due."""
        self.begun = 0.0
        """When the rig turned to the current step."""
        self.deadline = 0.0
        self.extras = extras
        """Values of this visit alone; those of the visitor stand behind them."""
        self.record = record
        self.step_index = 0
        self.path = ""
        """Of the current request, as it is sent."""
        self.wire: Wire | None = None
        self.on_end = on_end

    @property
    def step(self) -> Step:
        return self.journey.steps[self.step_index]

    @property
    def is_last_step(self) -> bool:
        return self.step_index == len(self.journey.steps) - 1

    def take(self, name: str, value: str) -> None:
        """Keep a value of an answer: for the rest of this visit, and for later ones of the visitor.

        Two visits of one visitor may overlap, so this visit's own come first.
        """
        self.extras = {**self.extras, name: value}
        self.visitor.values[name] = value

    @property
    def values(self) -> Mapping[str, str]:
        return {**self.visitor.values, **self.extras} if self.extras else self.visitor.values
