"""What begins visits: open-loop streams, and batches of tasks.

A stream sends by the clock, whatever comes back: a slow setup cannot slow it down. A batch keeps each visitor's tasks
in order and so many visitors busy at once. Must not: send or judge; the engine does.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from random import Random
from typing import NamedTuple

from harness import clock
from harness.model import Connection, Pace
from harness.traffic.engine import WRITE, Engine
from harness.traffic.people import Visitor, text_of
from harness.traffic.plans import JourneyPlan
from harness.traffic.schedule import Arrival, Schedule
from harness.traffic.visits import End, Origin, Visit

__all__ = ["LATE_SECONDS", "TOO_LATE_SECONDS", "Batch", "BatchEnd", "BatchTask", "OpenLoop", "StreamCounts"]

LATE_SECONDS = 0.1
"""An arrival that was begun later than this after it was due counts as late."""
TOO_LATE_SECONDS = 1.0
"""Later than this it is not sent at all, but recorded as `unsent`: a burst of old requests tests something else."""

# The first arrival is due a little after the order, so that it need not be late.
_HEAD_START_SECONDS = 0.005
# Reused connections of a stream rotate through this many, or fewer where it is so slow that it would take longer than a
# moment to open them: a request that opens one is a fresh one.
_POOL_SIZE = 8
_POOL_WITHIN_SECONDS = 0.2


class StreamCounts(NamedTuple):
    """What a stream did."""

    planned: int
    sent: int
    late: int
    in_flight_waited: int


class OpenLoop:
    """One stream, from its first arrival until it is stopped."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        engine: Engine,
        *,
        name: str,
        rate: float,
        journeys: Mapping[str, float],
        visitors: Sequence[str],
        via: str,
        connections: Mapping[Connection, float],
        values: Mapping[str, str],
        timeout_seconds: float,
        seed: int,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._via = via
        self._values = values
        self._rate = rate
        self._seed = seed
        self._begin = clock.now() + _HEAD_START_SECONDS
        self._schedule = Schedule(
            seed=seed,
            scenario=engine.scenario,
            stream=name,
            begin=self._begin,
            rate=rate,
            visitors=visitors,
            journeys=journeys,
            connections=connections,
        )
        self._origin = engine.new_origin(
            name,
            timeout_seconds=timeout_seconds,
            pool_size=_pool_size(rate, connections),
            interval_seconds=self._schedule.interval_seconds,
        )
        # Apart from the schedule's: which record is read depends on what was written, the schedule must not.
        self._choice = Random(f"{seed}/{engine.scenario}/{name}/reads")  # noqa: S311 - must repeat with the seed
        self._unsent = 0
        self._late = 0
        self._on_stopped: Callable[[], None] | None = None
        self._timer: TimerHandle | None = None
        self._wait()

    @property
    def scenario(self) -> str:
        return self._origin.scenario

    def stop(self, on_stopped: Callable[[Pace, StreamCounts], None]) -> None:
        """No arrivals after this moment. `on_stopped` is called when nothing is in flight any more."""
        if self._timer is not None:
            self._timer.cancel()
        end = clock.now()
        self._send_due(end)
        self._origin.is_open = False
        self._engine.flush()
        planned = self._schedule.drawn
        pace = Pace(
            stream=self._origin.stream, rate=self._rate, begin=self._begin, end=end, planned=planned, seed=self._seed
        )
        waited_for = self._origin.in_flight
        self._on_stopped = lambda: on_stopped(
            pace, StreamCounts(planned, planned - self._unsent, self._late, waited_for)
        )
        if not self._origin.in_flight:
            self._on_stopped()

    def _wait(self) -> None:
        # The loop's timers count whole milliseconds; rounding down would have it spin until the moment comes.
        seconds = ceil((self._schedule.next_due - clock.now()) * 1000) / 1000
        self._timer = self._loop.call_later(max(seconds, 0.001), self._tick)

    def _tick(self) -> None:
        self._send_due(clock.now())
        self._wait()

    def _send_due(self, moment: float) -> None:
        """Everything due by `moment`, and no more: answers must get their turn however late we are."""
        while self._schedule.next_due <= moment:
            self._arrive(self._schedule.draw())

    def _arrive(self, arrival: Arrival) -> None:
        due, visitor_id, journey, wish = arrival
        engine = self._engine
        visitor, plan = engine.people[visitor_id], engine.plans[journey]
        record, extras = None, self._values
        if plan.needs_record:
            plan, record, extras = _with_record(engine, plan, visitor, None, extras, self._choice.choice)
        visit = Visit(self._origin, visitor, plan, self._via, wish, due, extras, record, self._on_end)
        late_by = clock.now() - due
        if late_by > LATE_SECONDS:
            self._late += 1
        if late_by > TOO_LATE_SECONDS:
            engine.not_sent(visit, f"the rig was {late_by:.3f} s late")
        else:
            engine.begin(visit)

    def _on_end(self, visit: Visit, end: End) -> None:
        if end.judgement.error == "unsent" and visit.step.index == 0:
            self._unsent += 1
        if self._on_stopped is not None and not self._origin.in_flight:
            self._on_stopped()


class BatchTask(NamedTuple):
    """One journey of one visitor that a scenario wants done."""

    visitor: str
    journey: str
    via: str
    connection: Connection
    stream: str
    record: str | None
    values: Mapping[str, str]
    then_via: tuple[str, ...] = ()
    first_steps: int | None = None
    give_up_after: float | None = None


class BatchEnd(NamedTuple):
    """How a task ended, the record it was about, and what it took from answers."""

    end: End
    record: str | None
    taken: Mapping[str, str]


_BURST_SECONDS = 1.0


class BatchPace:
    """So many requests a second at most, of all batches together, after a pause up to a second's worth of them at once: what
    several people do at the same time is then still done so. (A leaky bucket as a meter, ITU-T I.371.)"""

    def __init__(self, most_per_second: float) -> None:
        self._seconds_each = 1.0 / most_per_second
        self._free = 0.0

    def next_time(self, now: float, *, requests: int) -> float:
        """When the next visit may begin, in seconds of the loop's clock; so many requests are taken to be its."""
        self._free = max(self._free, now - _BURST_SECONDS) + requests * self._seconds_each
        return max(now, self._free)


class Batch:
    """Tasks, each visitor's one after the other, `concurrency` visitors at a time."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        engine: Engine,
        tasks: Sequence[BatchTask],
        *,
        concurrency: int,
        timeout_seconds: float,
        on_done: Callable[[list[BatchEnd]], None],
        pace: BatchPace | None = None,
    ) -> None:
        """`on_done` gets how each task ended, in the order of `tasks`. Never before this returns. `pace`: when each may begin;
        None: as soon as the one before is over."""
        self._loop = loop
        self._engine = engine
        self._on_done = on_done
        self._timeout_seconds = timeout_seconds
        self._pace = pace
        self._ends: list[BatchEnd | None] = [None] * len(tasks)
        self._left = len(tasks)
        self._origins: dict[str, Origin] = {}
        queues: dict[str, deque[tuple[int, BatchTask]]] = {}
        for index, task in enumerate(tasks):
            queues.setdefault(task.visitor, deque()).append((index, task))
        self._waiting = deque(queues.values())
        for _ in range(min(concurrency, len(self._waiting))):
            loop.call_soon(self._next_visitor)
        if not tasks:
            loop.call_soon(on_done, [])

    def _next_visitor(self) -> None:
        if self._waiting:
            self._next_task(self._waiting.popleft())

    def _next_task(self, queue: deque[tuple[int, BatchTask]]) -> None:
        if not queue:
            self._next_visitor()
            return
        index, task = queue.popleft()
        origin = self._origins.get(task.stream)
        if origin is None:
            origin = self._origins[task.stream] = self._engine.new_origin(
                task.stream, timeout_seconds=self._timeout_seconds, pool_size=0
            )

        def on_end(visit: Visit, end: End) -> None:
            self._ends[index] = BatchEnd(end, visit.record, _taken(visit))
            self._left -= 1
            if self._left:
                # By way of the loop: a thousand refused connections must not be a thousand calls deep.
                self._loop.call_soon(self._next_task, queue)
            else:
                self._loop.call_soon(self._on_done, [end for end in self._ends if end is not None])

        plan = self._engine.plans[task.journey]
        if self._pace is None:
            self._begin(task, plan, origin, on_end)
        else:
            self._loop.call_at(
                self._pace.next_time(self._loop.time(), requests=len(plan.steps)),
                self._begin,
                task,
                plan,
                origin,
                on_end,
            )

    def _begin(self, task: BatchTask, plan: JourneyPlan, origin: Origin, on_end: Callable[[Visit, End], None]) -> None:
        visitor = self._engine.people[task.visitor]
        record, extras = None, task.values
        if plan.needs_record:
            plan, record, extras = _with_record(self._engine, plan, visitor, task.record, extras, _last)
        visit = Visit(origin, visitor, plan, task.via, task.connection, clock.now(), extras, record, on_end)
        visit.route, visit.give_up_after = task.then_via, task.give_up_after
        if task.first_steps is not None:
            visit.last_index = min(visit.last_index, task.first_steps - 1)
        self._engine.begin(visit)


def _taken(visit: Visit) -> Mapping[str, str]:
    """What this visit took itself, and nothing of what the visitor brought along."""
    names = {name for step in visit.plan.steps for name in step.step.take}
    return {name: visit.extras[name] for name in names if name in visit.extras}


def _pool_size(rate: float, connections: Mapping[Connection, float]) -> int:
    reused_rate = rate * connections.get(Connection.REUSED, 0.0) / sum(connections.values())
    return max(1, min(_POOL_SIZE, round(reused_rate * _POOL_WITHIN_SECONDS)))


def _last(records: Sequence[str]) -> str:
    return records[-1]


def _with_record(
    engine: Engine,
    plan: JourneyPlan,
    visitor: Visitor,
    record: str | None,
    values: Mapping[str, str],
    choose: Callable[[Sequence[str]], str],
) -> tuple[JourneyPlan, str, Mapping[str, str]]:
    """The record for a journey that names one, and its values: a new one for `write`, one of the visitor's own
    acknowledged ones for any other journey, unless it is given.

    Who has nothing to read yet writes instead, and it is recorded as a write.
    """
    if record is None and plan.journey.name != WRITE:
        if visitor.records:
            record = choose(visitor.records)
        else:
            plan = engine.plans.get(WRITE, plan)
    if record is None:
        record = engine.new_record()
    return plan, record, {"record": record, "text": text_of(record), **visitor.given.get(record, {}), **values}
