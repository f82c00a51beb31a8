"""Moves visits: asks, reads, judges, records, and asks the next step. Nothing is ever sent twice.

One thread, one loop. There is no task and no timer per request: sockets call back, and one sweep ends what took too
long. A request that breaks is a broken operation, on whichever connection; the visit ends there. Must not: decide when
visits begin (streams and batches do), or know the control channel.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from harness.clock import now
from harness.journeys import Journey, Judgement, MissingValueError, Reply, Request, judge
from harness.model import Answer, Connection, Outcome
from harness.traffic.people import People
from harness.traffic.recorder import Recorder, op_head, op_tail, quoted
from harness.traffic.upstream import BALANCER, UPSTREAM_HEADER, UPSTREAM_STATUS_HEADER, read_upstream
from harness.traffic.visits import End, Origin, Visit
from harness.traffic.wire import KnownHeads, Target, WantedHeaders, Wire, error_class

__all__ = ["WRITE", "Counts", "Engine"]

WRITE = "write"
"""The journey that makes records. Every other one that names a record needs one that was made before."""

_SWEEP_SECONDS = 0.02
_FLUSH_SECONDS = 0.1
_CACHE_ENTRIES = 4096


class Counts(NamedTuple):
    """What the live view shows of the current scenario."""

    requests: int
    failed: int
    longest_gap_seconds: float


class _Pool:
    """The connections to one target that are kept for reuse. The one that was idle longest is used next."""

    __slots__ = ("idle", "size")

    def __init__(self) -> None:
        self.idle: dict[Wire, None] = {}
        self.size = 0
        """Idle ones and those in use."""


class Engine:
    """See the module. Raises JournalError out of its callbacks when the disk is full: the process must end then."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        *,
        recorder: Recorder,
        people: People,
        journeys: Mapping[str, Journey],
        headers: Mapping[str, str],
        version_header: str,
        seed: int,
        most_in_flight: int,
    ) -> None:
        """`headers` go with every request. `most_in_flight`: beyond it requests are not sent, and recorded as that."""
        self.people = people
        self.journeys = journeys
        self._loop = loop
        self._recorder = recorder
        self._headers = dict(headers)
        self._version_header = version_header.lower()
        self._most_in_flight = most_in_flight
        self._wanted = WantedHeaders(
            "location",
            "retry-after",
            UPSTREAM_HEADER,
            UPSTREAM_STATUS_HEADER,
            version_header,
            *_taken_headers(journeys),
        )
        self._heads = KnownHeads()
        self._seed = seed
        self._fixed = {
            (name, index): step.request({})
            for name, journey in journeys.items()
            for index, step in enumerate(journey.steps)
            if not step.request_names
        }
        # Only the step that carries the record wrote or read it, not the form that was fetched before.
        self._record_steps = {
            (name, index)
            for name, journey in journeys.items()
            for index, step in enumerate(journey.steps)
            if "record" in step.names or "text" in step.names
        }
        self._record_journeys = {name for name, _ in self._record_steps}
        self._targets: dict[str, Target] = {}
        self._names: dict[str, str] = {}
        self._pools: dict[str, _Pool] = {}
        self._in_flight: dict[Visit, None] = {}
        self._earliest_deadline = float("inf")
        self._sweeping: TimerHandle | None = None
        self._flushing: TimerHandle | None = None
        self._requests: dict[tuple[str, int, str, Connection], tuple[bytes, bytes]] = {}
        self._tails: dict[tuple[object, ...], str] = {}
        self._whos: dict[tuple[str, str | None, int], tuple[str | None, tuple[str, ...]]] = {}
        self.scenario = ""
        self.begin_scenario("")

    # --- set-up ---------------------------------------------------------------------------------------------------

    def begin_scenario(self, scenario: str) -> None:
        """Later visits belong to it. Connections kept from an earlier one are closed: each begins alike."""
        self.scenario = scenario
        self._record_ids = Random(f"{self._seed}/{scenario}/records")  # noqa: S311 - must repeat with the seed
        self._request_count = 0
        self._failed_count = 0
        self._origins: list[Origin] = []
        for via in list(self._pools):
            self._drop_idle(via)

    def retarget(self, targets: Mapping[str, Target], names: Mapping[str, str]) -> None:
        """Where to connect from now on, and which address is whose in the balancer's header."""
        for via, target in self._targets.items():
            if targets.get(via) != target:
                self._drop_idle(via)
        self._targets = dict(targets)
        self._names = dict(names)
        self._requests.clear()
        self._whos.clear()

    def new_origin(self, stream: str, *, timeout_seconds: float, pool_size: int, interval_seconds: float = 0) -> Origin:
        origin = Origin(
            scenario=self.scenario,
            stream=stream,
            timeout_seconds=timeout_seconds,
            pool_size=pool_size,
            interval_seconds=interval_seconds,
        )
        self._origins.append(origin)
        return origin

    def new_record(self) -> str:
        """A record id that nothing else in this run has: a random UUID of the seed's."""
        digits = f"{self._record_ids.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"

    def needs_record(self, journey: Journey) -> bool:
        """Whether a step of it names a record or its text."""
        return journey.name in self._record_journeys

    def counts(self) -> Counts:
        moment = now()
        gaps = [
            max(origin.longest_gap_seconds, origin.gap_until(moment) if origin.is_open else 0.0)
            for origin in self._origins
        ]
        return Counts(self._request_count, self._failed_count, max(gaps, default=0.0))

    def flush(self) -> None:
        """Everything finished is with the system on return."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._recorder.flush()

    def close(self) -> None:
        """Drop what is in flight without a record, and close every connection."""
        for handle in (self._sweeping, self._flushing):
            if handle is not None:
                handle.cancel()
        for visit in self._in_flight:
            if visit.wire is not None:
                visit.wire.close()
        self._in_flight.clear()
        for via in list(self._pools):
            self._drop_idle(via)
        self._recorder.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def begin(self, visit: Visit) -> None:
        """Ask the first step. `visit.on_end` may be called before this returns."""
        visit.origin.in_flight += 1
        self._ask(visit)

    def not_sent(self, visit: Visit, why: str) -> None:
        """Record that the rig could not even begin a visit, and end it."""
        visit.origin.in_flight += 1
        self._set_path(visit)
        self._break(visit, "unsent", why)

    def _ask(self, visit: Visit) -> None:
        visit.begun = now()
        visit.connection = Connection.FRESH
        target = self._targets.get(visit.via)
        if target is None:
            self._set_path(visit)
            self._break(visit, "unsent", f"no target is named {visit.via}")
            return
        try:
            request = self._render(visit, target)
        except MissingValueError as error:
            self._set_path(visit)
            self._break(visit, "unsent", str(error))
            return
        wire = self._idle_wire(visit) if visit.wish is Connection.REUSED else None
        if wire is not None:
            visit.connection = Connection.REUSED
        elif len(self._in_flight) >= self._most_in_flight:
            self._break(visit, "unsent", f"{len(self._in_flight)} requests were in flight already")
            return
        else:
            wire = Wire(
                self._loop, self, self._wanted, self._heads, via=visit.via, is_kept=visit.wish is Connection.REUSED
            )
            try:
                wire.open(target)
            except OSError as error:
                self._break(visit, error_class(error, connecting=True), error.strerror or str(error))
                return
            if wire.is_kept:
                self._pools.setdefault(visit.via, _Pool()).size += 1
        visit.wire = wire
        visit.deadline = visit.begun + visit.origin.timeout_seconds
        self._in_flight[visit] = None
        if visit.deadline < self._earliest_deadline:
            self._earliest_deadline = visit.deadline
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        wire.send(visit, request)

    def _idle_wire(self, visit: Visit) -> Wire | None:
        """A connection that has carried a request before, or None when one should be opened."""
        pool = self._pools.get(visit.via)
        if pool is None or pool.size < visit.origin.pool_size:
            return None
        while pool.idle:
            wire = next(iter(pool.idle))
            del pool.idle[wire]
            # Its end may lie unread in the system: then it was closed before we sent, and is nobody's failure. Asking
            # here makes that independent of how busy this loop is.
            if wire.is_still_open():
                return wire
            self._discard(wire)
        return None

    def _render(self, visit: Visit, target: Target) -> bytes:
        """The whole request. Raises MissingValueError."""
        key = (visit.journey.name, visit.step_index)
        request = self._fixed.get(key)
        if request is None:
            request = visit.step.request(visit.values)
            head, rest = self._bytes(request, target, visit.wish)
        else:
            place = (*key, visit.via, visit.wish)
            cached = self._requests.get(place)
            if cached is None:
                cached = self._requests[place] = self._bytes(request, target, visit.wish)
            head, rest = cached
        visit.path = request.path
        return head + visit.visitor.jar.line + rest

    def _bytes(self, request: Request, target: Target, wish: Connection) -> tuple[bytes, bytes]:
        """What stands before the cookies, and what stands after them."""
        own = {name.lower() for name, _ in request.headers}
        headers = [(name, value) for name, value in self._headers.items() if name.lower() not in own]
        headers += request.headers
        given = {name.lower() for name, _ in headers}
        ours = {"Host": target.host_header, "User-Agent": "harness-traffic", "Accept": "*/*"}
        headers = [(name, value) for name, value in ours.items() if name.lower() not in given] + headers
        headers.append(("Accept-Encoding", "identity"))
        if request.body or request.method in ("POST", "PUT"):
            headers.append(("Content-Length", str(len(request.body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"{request.method} {request.path} HTTP/1.1\r\n{lines}".encode("utf-8", "replace")
        rest = b"Connection: close\r\n\r\n" if wish is Connection.FRESH else b"\r\n"
        return head, rest + request.body

    def _set_path(self, visit: Visit) -> None:
        """For the record of a request that could not be filled in: its path as declared."""
        visit.path = visit.step.path.text

    # --- what became of it ----------------------------------------------------------------------------------------

    def on_reply(self, wire: Wire, reply: Reply) -> None:
        answered = now()
        visit: Visit = wire.exchange
        self._release(visit, wire)
        visitor = visit.visitor
        if reply.set_cookies:
            visitor.jar.take(reply.set_cookies)
        instance, attempts = self._who(visit.via, reply)
        step = visit.step
        judgement = judge(
            step,
            reply,
            visit.values,
            asked=visit.path,
            somebody_else=self.people.names_somebody_else(reply.body, visitor),
            from_balancer=visit.via == BALANCER and instance is None,
        )
        if step.take and judgement.outcome is Outcome.OK:
            judgement = self._take(visit, reply) or judgement
        self._end_step(visit, wire.sent, answered, judgement, reply, instance, attempts)

    def on_broken(self, wire: Wire, error: str, detail: str) -> None:
        visit: Visit = wire.exchange
        if visit.connection is Connection.REUSED:
            detail = f"on a reused connection: {detail}"
        head = wire.head()
        sent = wire.sent
        del self._in_flight[visit]
        self._discard(wire)
        self._break(visit, error, detail, sent=sent, head=head)

    def on_idle_lost(self, wire: Wire) -> None:
        self._pools[wire.via].idle.pop(wire, None)
        self._discard(wire)

    def _release(self, visit: Visit, wire: Wire) -> None:
        del self._in_flight[visit]
        visit.wire = None
        if wire.is_kept and wire.is_reusable and self._targets.get(wire.via) == wire.target:
            wire.exchange = None
            self._pools[wire.via].idle[wire] = None
        else:
            self._discard(wire)

    def _discard(self, wire: Wire) -> None:
        if wire.is_kept:
            self._pools[wire.via].size -= 1
        wire.close()

    def _drop_idle(self, via: str) -> None:
        pool = self._pools.get(via)
        if pool is not None:
            while pool.idle:
                self._discard(pool.idle.popitem()[0])

    def _who(self, via: str, reply: Reply) -> tuple[str | None, tuple[str, ...]]:
        """Who made this answer, and whom the balancer asked before.

        An instance that was asked directly is believed to be the one that answers at its address.
        """
        if via != BALANCER:
            return via, ()
        upstream = reply.headers.get(UPSTREAM_HEADER)
        if upstream is None:
            return None, ()
        key = (upstream, reply.headers.get(UPSTREAM_STATUS_HEADER), reply.status)
        known = self._whos.get(key)
        if known is None:
            if len(self._whos) >= _CACHE_ENTRIES:
                self._whos.clear()
            known = self._whos[key] = read_upstream(*key, names=self._names)
        return known

    def _take(self, visit: Visit, reply: Reply) -> Judgement | None:
        """Keep what the step takes. A judgement of its own when it is not there: the page is not the one declared."""
        for name, take in visit.step.take.items():
            value = take.from_reply(reply)
            if value is None:
                outcome = Outcome.FAILED if visit.step.method == "GET" else Outcome.UNKNOWN
                return Judgement(
                    Answer.FAILED,
                    outcome,
                    "wrong-body",
                    f"nothing to take as {{{name}}}: no {take.source} {take.key!r}",
                )
            visit.take(name, value)
        return None

    def _break(
        self, visit: Visit, error: str, detail: str, *, sent: float | None = None, head: Reply | None = None
    ) -> None:
        """No whole answer. It surely had no effect only when no byte of the request was sent."""
        visit.wire = None
        outcome = Outcome.FAILED if sent is None else Outcome.UNKNOWN
        instance, attempts = (None, ()) if head is None else self._who(visit.via, head)
        self._end_step(visit, sent, None, Judgement(Answer.FAILED, outcome, error, detail), head, instance, attempts)

    def _end_step(
        self,
        visit: Visit,
        sent: float | None,
        answered: float | None,
        judgement: Judgement,
        reply: Reply | None,
        instance: str | None,
        attempts: tuple[str, ...],
    ) -> None:
        is_ok = judgement.outcome is Outcome.OK
        final = not is_ok or visit.is_last_step
        if is_ok or judgement.answer is Answer.LOGGED_OUT:
            self._count_success(visit.origin, answered)
        else:
            self._failed_count += 1
        self._request_count += 1
        status = None if reply is None else reply.status
        version = None if reply is None else reply.headers.get(self._version_header)
        self._record(visit, sent, answered, judgement, final, instance, attempts, status, version)
        if final:
            if is_ok and visit.record is not None and visit.journey.name == WRITE:
                visit.visitor.records.append(visit.record)
            visit.origin.in_flight -= 1
            visit.on_end(visit, End(judgement, status, instance))
        else:
            visit.step_index += 1
            visit.due = now()
            self._ask(visit)

    def _count_success(self, origin: Origin, answered: float | None) -> None:
        if answered is None:
            return
        gap = origin.gap_until(answered)
        if gap > origin.longest_gap_seconds:
            origin.longest_gap_seconds = gap
        origin.last_success = answered

    def _record(
        self,
        visit: Visit,
        sent: float | None,
        answered: float | None,
        judgement: Judgement,
        final: bool,
        instance: str | None,
        attempts: tuple[str, ...],
        status: int | None,
        version: str | None,
    ) -> None:
        origin = visit.origin
        place = (visit.journey.name, visit.step_index, visit.via, visit.connection)
        head = origin.heads.get(place)
        if head is None:
            head = origin.heads[place] = op_head(
                scenario=origin.scenario,
                stream=origin.stream,
                kind=visit.journey.name,
                step=visit.step_index,
                method=visit.step.method,
                via=visit.via,
                connection=visit.connection,
            )
            if (visit.journey.name, visit.step_index) in self._fixed:
                head = origin.heads[place] = f'{head}"path":{quoted(visit.path)},'
        if judgement.outcome is Outcome.OK:
            facts = (final, instance, attempts, status, version, judgement.answer)
            tail = self._tails.get(facts)
            if tail is None:
                if len(self._tails) >= _CACHE_ENTRIES:
                    self._tails.clear()
                tail = self._tails[facts] = op_tail(
                    final=final,
                    instance=instance,
                    attempts=attempts,
                    status=status,
                    version=version,
                    judgement=judgement,
                )
        else:
            detail = judgement.detail.replace(visit.visitor.person.password, "(password)")
            judgement = Judgement(judgement.answer, judgement.outcome, judgement.error, detail)
            tail = op_tail(
                final=final, instance=instance, attempts=attempts, status=status, version=version, judgement=judgement
            )
        if (visit.journey.name, visit.step_index) not in self._fixed:
            head = f'{head}"path":{quoted(visit.path)},'
        record = ""
        if visit.record is not None and (visit.journey.name, visit.step_index) in self._record_steps:
            record = f'"record":{quoted(visit.record)},'
        self._recorder.write(
            f'{head}"visitor":"{visit.visitor.known_as}",{record}"due":{visit.due:.6f},'
            f'"sent":{"null" if sent is None else f"{sent:.6f}"},'
            f'"answered":{"null" if answered is None else f"{answered:.6f}"},{tail}'
        )
        if self._flushing is None:
            self._flushing = self._loop.call_later(_FLUSH_SECONDS, self.flush)

    # --- time -----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """End what took too long. Looks at everything only when something may be over."""
        self._sweeping = None
        moment = now()
        if moment >= self._earliest_deadline:
            late = [visit for visit in self._in_flight if visit.deadline <= moment]
            for visit in late:
                self._time_out(visit)
            self._earliest_deadline = min((visit.deadline for visit in self._in_flight), default=float("inf"))
        if self._in_flight and self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _time_out(self, visit: Visit) -> None:
        wire = visit.wire
        assert wire is not None
        seconds = visit.origin.timeout_seconds
        if wire.sent is None:
            detail = f"not connected within {seconds:g} s"
        else:
            detail = f"no whole answer within {seconds:g} s; {wire.received} bytes of it came"
        self.on_broken(wire, "timeout", detail)


def _taken_headers(journeys: Mapping[str, Journey]) -> list[str]:
    return [
        take.key
        for journey in journeys.values()
        for step in journey.steps
        for take in step.take.values()
        if take.source == "header"
    ]
