"""Moves visits: asks, reads, has it judged and recorded, and asks the next step. Nothing is ever sent twice.

One thread, one loop. There is no task and no timer per request: sockets call back, and one sweep ends what took too
long. A request that breaks is a broken operation, on whichever connection; the visit ends there. Must not: decide when
visits begin (streams and batches do), or know the control channel.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Mapping
from random import Random
from ssl import SSLContext
from types import MappingProxyType

from harness.clock import now
from harness.journeys import Journey, MissingValueError, Reply, Take
from harness.model import Connection, Outcome
from harness.traffic.ledger import Counts, Ledger
from harness.traffic.people import People, given_with_a_record
from harness.traffic.plans import plan_journeys
from harness.traffic.poller import Poller
from harness.traffic.recorder import Recorder
from harness.traffic.tls import TlsWire
from harness.traffic.upstream import BALANCER, UPSTREAM_HEADER, UPSTREAM_RETRIES_HEADER, UPSTREAM_STATUS_HEADER
from harness.traffic.visits import End, Origin, Visit
from harness.traffic.wire import ANY_HEADER, KnownHeads, Target, WantedHeaders, Wire, error_class

__all__ = ["WRITE", "Engine"]

WRITE = "write"
"""The journey that makes records. Every other one that names a record needs one that was made before."""

_SWEEP_SECONDS = 0.02
# How soon it is looked again whether a request that is to be given up has left at all.
_NOT_SENT_SECONDS = 0.001
# Whole answers of streams are set aside and settled together: judging and recording many in a row costs half of what it
# costs one by one, each after a pause in which the processor's caches went cold.
_SETTLE_SECONDS = 0.05
_MOST_UNSETTLED = 128
_MOST_UNSETTLED_BYTES = 1024 * 1024
_NO_TLS: Mapping[str, SSLContext] = MappingProxyType({})


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
        instance_header: str | None,
        seed: int,
        most_in_flight: int,
        request_ids: str | None = None,
        contexts: Mapping[str, SSLContext] = _NO_TLS,
        identity: Take | None = None,
    ) -> None:
        """`request_ids`: how the ids begin that requests to the balancer carry as X-Request-Id; None: they carry none. `headers` go
        with every request. `contexts`: how TLS is made with the targets that speak it, by name. `most_in_flight`: beyond it requests are not sent, and recorded as that."""
        self.people = people
        self.plans = plan_journeys(journeys, headers)
        self._given_names = given_with_a_record(journeys)
        self._loop = loop
        self._poller = Poller(loop)
        self._recorder = recorder
        self._ledger = Ledger(
            recorder, people, version_header=version_header, instance_header=instance_header, identity=identity
        )
        self._most_in_flight = most_in_flight
        self._request_ids = request_ids
        self._numbered = 0
        self._contexts = contexts
        self._wanted = WantedHeaders(
            "location",
            "retry-after",
            UPSTREAM_HEADER,
            UPSTREAM_STATUS_HEADER,
            UPSTREAM_RETRIES_HEADER,
            version_header,
            *([instance_header] if instance_header is not None else []),
            *_taken_headers(journeys),
        )
        self._known_heads = KnownHeads()
        self._seed = seed
        self._targets: dict[str, Target] = {}
        self._pools: dict[str, _Pool] = {}
        self._in_flight: dict[Visit, None] = {}
        self._earliest_deadline = float("inf")
        self._sweeping: TimerHandle | None = None
        self._settling: TimerHandle | None = None
        self._unsettled: list[tuple[Visit, Reply, float | None, float]] = []
        self._unsettled_bytes = 0
        self.scenario = ""
        self.begin_scenario("")

    # --- set-up ---------------------------------------------------------------------------------------------------

    def begin_scenario(self, scenario: str) -> None:
        """Later visits belong to it. Connections kept from an earlier one are closed: each begins alike."""
        self._settle()
        self.scenario = scenario
        self._record_ids = Random(f"{self._seed}/{scenario}/records")  # noqa: S311 - must repeat with the seed
        self._ledger.begin_scenario()
        for via in list(self._pools):
            self._drop_idle(via)

    def retarget(self, targets: Mapping[str, Target], names: Mapping[str, str]) -> None:
        """Where to connect from now on, and which address is whose in the balancer's header."""
        self._settle()
        for via, target in self._targets.items():
            if targets.get(via) != target:
                self._drop_idle(via)
        self._targets = dict(targets)
        self._ledger.rename(names)

    def new_origin(self, stream: str, *, timeout_seconds: float, pool_size: int, interval_seconds: float = 0) -> Origin:
        origin = Origin(
            scenario=self.scenario,
            stream=stream,
            timeout_seconds=timeout_seconds,
            pool_size=pool_size,
            interval_seconds=interval_seconds,
        )
        self._ledger.watch(origin)
        return origin

    def new_record(self) -> str:
        """A record id that nothing else in this run has: a random UUID of the seed's."""
        digits = f"{self._record_ids.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"

    def counts(self) -> Counts:
        self._settle()
        return self._ledger.counts()

    def flush(self) -> None:
        """Everything finished is judged, and with the system, on return."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._settle()
        self._recorder.flush()

    def close(self) -> None:
        """Drop what is in flight without a record, and close every connection."""
        self.flush()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for visit in self._in_flight:
            if visit.wire is not None:
                visit.wire.close()
        self._in_flight.clear()
        for via in list(self._pools):
            self._drop_idle(via)
        self._poller.close()
        self._recorder.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def begin(self, visit: Visit) -> None:
        """Ask the first step. `visit.on_end` may be called before this returns."""
        visit.origin.in_flight += 1
        self._ask(visit)

    def not_sent(self, visit: Visit, why: str) -> None:
        """Record that the rig could not even begin a visit, and end it."""
        visit.origin.in_flight += 1
        self._never_sent(visit, why)

    def _never_sent(self, visit: Visit, why: str) -> None:
        visit.path = visit.step.step.path.text  # as declared: it was not filled in
        self._end(visit, self._ledger.broken(visit, "unsent", why))

    def _ask(self, visit: Visit) -> None:
        step = visit.step
        visit.begun = now()
        visit.connection = Connection.FRESH
        target = self._targets.get(visit.via)
        if target is None:
            self._never_sent(visit, f"no target is named {visit.via}")
            return
        if step.fixed is not None:
            visit.path = step.fixed.path
            request = step.same_for_all(step.fixed, visit.visitor, target, visit.wish)
        else:
            try:
                visit.path, request = step.filled(visit.visitor, visit.values, target, visit.wish)
            except MissingValueError as error:
                self._never_sent(visit, str(error))
                return
        if self._request_ids is not None and visit.via == BALANCER:
            request = self._numbered_request(visit, request)
        wire = self._idle_wire(visit) if visit.wish is Connection.REUSED else None
        if wire is not None:
            visit.connection = Connection.REUSED
        else:
            wire = self._new_wire(visit, target)
            if wire is None:
                return
        visit.wire = wire
        visit.deadline = visit.begun + visit.origin.timeout_seconds
        self._in_flight[visit] = None
        if visit.deadline < self._earliest_deadline:
            self._earliest_deadline = visit.deadline
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        if visit.give_up_after is not None and visit.is_at_its_end:
            self._loop.call_later(visit.give_up_after, self._give_up, visit)
        wire.send(visit, request)

    def _numbered_request(self, visit: Visit, request: bytes) -> bytes:
        """The same request, with an id that nothing else has."""
        self._numbered += 1
        visit.request_id = f"{self._request_ids}{self._numbered:x}"
        line, end, rest = request.partition(b"\r\n")
        return b"%b%bX-Request-Id: %b%b%b" % (line, end, visit.request_id.encode(), end, rest)

    def _give_up(self, visit: Visit) -> None:
        """Close the connection of a request that nobody waits for any more, as somebody does who leaves the page."""
        wire = visit.wire
        if wire is None:
            return  # it was answered, or broke
        if wire.sent is None:
            self._loop.call_later(_NOT_SENT_SECONDS, self._give_up, visit)
        else:
            self.on_broken(wire, "given-up", f"given up {(now() - wire.sent) * 1000:.0f} ms after it was sent")

    def _idle_wire(self, visit: Visit) -> Wire | None:
        """A connection that has carried a request before, or None when one should be opened.

        A connection whose end lies unread in the system was closed before we sent, and is nobody's failure: the
        system is asked first, so that this does not depend on how busy the rig is.
        """
        is_current = self._poller.catch_up(visit.begun)
        pool = self._pools.get(visit.via)
        if pool is None or pool.size < visit.origin.pool_size:
            return None
        while pool.idle:
            wire = next(iter(pool.idle))
            del pool.idle[wire]
            if is_current or wire.is_still_open():
                return wire
            self._discard(wire)
        return None

    def _new_wire(self, visit: Visit, target: Target) -> Wire | None:
        """A connection that is being opened. None when that failed at once: the visit is over then."""
        if len(self._in_flight) >= self._most_in_flight:
            why = f"{len(self._in_flight)} requests were in flight already"
            self._end(visit, self._ledger.broken(visit, "unsent", why))
            return None
        is_kept = visit.wish is Connection.REUSED
        if target.server_name is None:
            wire = Wire(self._poller, self, self._wanted, self._known_heads, via=visit.via, is_kept=is_kept)
        else:
            context = self._contexts[visit.via]
            wire = TlsWire(self._poller, self, self._wanted, self._known_heads, context, via=visit.via, is_kept=is_kept)
        try:
            # A kept connection is whoever's turn it is to use it: only who has one to themselves comes from an address.
            wire.open(target, source="" if is_kept else visit.visitor.address_from)
        except OSError as error:
            words = error.strerror or str(error)
            self._end(visit, self._ledger.broken(visit, error_class(error, connecting=True), words))
            return None
        if is_kept:
            self._pools.setdefault(visit.via, _Pool()).size += 1
        return wire

    # --- what became of it ----------------------------------------------------------------------------------------

    def on_reply(self, wire: Wire, reply: Reply) -> None:
        answered = now()
        visit: Visit = wire.exchange
        self._release(visit, wire)
        if reply.set_cookies:
            visit.visitor.jar.take(reply.set_cookies)
        self._unsettled.append((visit, reply, wire.sent, answered))
        self._unsettled_bytes += len(reply.body)
        if (
            not visit.step.is_last
            or not visit.origin.is_open  # somebody waits for a batch, or for the end of a stream
            or len(self._unsettled) >= _MOST_UNSETTLED
            or self._unsettled_bytes >= _MOST_UNSETTLED_BYTES
        ):
            self._settle()
        elif self._settling is None:
            self._settling = self._loop.call_later(_SETTLE_SECONDS, self.flush)

    def on_broken(self, wire: Wire, error: str, detail: str) -> None:
        visit: Visit = wire.exchange
        if visit.connection is Connection.REUSED:
            detail = f"on a reused connection: {detail}"
        head, sent = wire.head(), wire.sent
        if head is not None and head.set_cookies:
            visit.visitor.jar.take(head.set_cookies)
        del self._in_flight[visit]
        visit.wire = None
        self._discard(wire)
        self._end(visit, self._ledger.broken(visit, error, detail, sent=sent, head=head))

    def on_idle_lost(self, wire: Wire) -> None:
        self._pools[wire.via].idle.pop(wire, None)
        self._discard(wire)

    def _settle(self) -> None:
        """Judge and record what was set aside. Visits may end in it, and begin again."""
        unsettled, self._unsettled, self._unsettled_bytes = self._unsettled, [], 0
        for visit, reply, sent, answered in unsettled:
            end = self._ledger.answered(visit, reply, sent, answered)
            if end.judgement.outcome is not Outcome.OK or visit.is_at_its_end:
                self._end(visit, end)
            else:
                visit.go_on()
                visit.due = now()
                self._ask(visit)

    def _end(self, visit: Visit, end: End) -> None:
        if self._settling is None:
            self._settling = self._loop.call_later(_SETTLE_SECONDS, self.flush)
        if visit.record is not None and visit.step.journey == WRITE and end.judgement.outcome is Outcome.OK:
            visit.visitor.records.append(visit.record)
            if self._given_names:
                given = {name: visit.extras[name] for name in self._given_names if name in visit.extras}
                visit.visitor.given[visit.record] = given
        visit.origin.in_flight -= 1
        visit.on_end(visit, end)

    # --- connections ----------------------------------------------------------------------------------------------

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
            detail = f"{wire.unsent_because} within {seconds:g} s"
        else:
            detail = f"no whole answer within {seconds:g} s; {wire.received} bytes of it came"
        self.on_broken(wire, "timeout", detail)


def _taken_headers(journeys: Mapping[str, Journey]) -> list[str]:
    """The headers that steps take; all where a function may want any."""
    return [
        take.key if take.source == "header" else ANY_HEADER
        for journey in journeys.values()
        for step in journey.steps
        for take in step.take.values()
        if take.source in ("header", "python")
    ]
