"""One run of a journey by one visitor, and who asked for it. Plain state: the engine moves it.

Must not: send, judge or write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from harness.journeys import Judgement
from harness.model import Connection
from harness.traffic.people import Visitor
from harness.traffic.plans import JourneyPlan, StepPlan
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
        """The time between arrivals. Nought where there is no pace: no gap to measure, and somebody waits for each."""
        self.heads: dict[tuple[StepPlan, str, Connection], str] = {}
        """First parts of journal lines."""
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
    """A journey under way."""

    __slots__ = (
        "begun",
        "connection",
        "deadline",
        "due",
        "extras",
        "give_up_after",
        "last_index",
        "on_end",
        "origin",
        "path",
        "plan",
        "record",
        "request_id",
        "route",
        "step",
        "via",
        "visitor",
        "wire",
        "wish",
    )

    begun: float
    """When the rig turned to the current step."""
    deadline: float
    path: str
    """Of the current request, as it is sent."""

    def __init__(
        self,
        origin: Origin,
        visitor: Visitor,
        plan: JourneyPlan,
        via: str,
        wish: Connection,
        due: float,
        extras: Mapping[str, str],
        record: str | None,
        on_end: Callable[[Visit, End], None],
    ) -> None:
        self.origin = origin
        self.visitor = visitor
        self.plan = plan
        self.step = plan.steps[0]
        """The step that is being asked."""
        self.via = via
        self.wish = wish
        """The kind of connection it should travel on."""
        self.connection = wish
        """The kind it does travel on: reused only where an earlier request went before."""
        self.due = due
        self.request_id = ""
        """What this request is called in the balancer's log; empty where nobody reads one."""
        """When the current step was due."""
        self.extras = extras
        """Values of this visit alone; those of the visitor stand behind them."""
        self.record = record
        self.wire: Wire | None = None
        self.on_end = on_end
        self.route: tuple[str, ...] = ()
        """Where the steps after the first are asked; the last of them stands for all that follow. Empty: as the first."""
        self.last_index = len(plan.steps) - 1
        """The step after which it ends."""
        self.give_up_after: float | None = None
        """Seconds after which the last request is given up, answered or not, from when it was sent."""

    @property
    def is_at_its_end(self) -> bool:
        return self.step.index >= self.last_index

    def go_on(self) -> None:
        """Turn to the next step."""
        self.step = self.plan.steps[self.step.index + 1]
        if self.route:
            self.via = self.route[min(self.step.index, len(self.route)) - 1]

    def take(self, name: str, value: str) -> None:
        """Keep a value of an answer: for the rest of this visit, and for later ones of the visitor.

        Two visits of one visitor may overlap, so this visit's own come first.
        """
        self.extras = {**self.extras, name: value}
        self.visitor.values[name] = value

    @property
    def values(self) -> Mapping[str, str]:
        return {**self.visitor.values, **self.extras} if self.extras else self.visitor.values
