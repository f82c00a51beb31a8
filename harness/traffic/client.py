"""The harness's hand on the traffic process: starts it, gives it orders, ends it.

Synchronous, and safe for many threads: a scenario waits for its batch while the live view asks for progress. Must not:
measure anything itself, or go on after the process has ended.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import harness
from harness.answers import netloc
from harness.errors import NothingTested, TrafficError
from harness.journeys import Journey, Take
from harness.model import Answer, Connection, Outcome
from harness.traffic.people import Person
from harness.traffic.upstream import BALANCER

__all__ = ["CookieSeen", "Progress", "Result", "Stream", "StreamSummary", "Task", "Traffic"]

_ORDER_SECONDS = 30.0
_END_SECONDS = 5.0
_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Task:
    """One journey that one visitor is to go through now."""

    visitor: str
    journey: str
    via: str = BALANCER
    """`balancer`, or the name of an instance to ask directly."""
    connection: Connection = Connection.FRESH
    stream: str = "tasks"
    """The name its operations carry."""
    record: str | None = None
    """For journeys that name a record. None: a new one for `write`, the visitor's last acknowledged one otherwise."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Further placeholders, such as `seconds`."""
    then_via: Sequence[str] = ()
    """Where the steps after the first are asked; the last of these stands for all that follow. Empty: as the first."""
    first_steps: int | None = None
    """So many steps from its beginning, and no more. None: all."""
    give_up_after_seconds: float | None = None
    """How long after its last request was sent the visitor leaves, answered or not. None: they wait."""


@dataclass(frozen=True, slots=True)
class CookieSeen:
    """A cookie that a visitor holds. Its value is not told."""

    name: str
    mark: str
    """The same for the same value, and nothing else of it."""
    attributes: Mapping[str, str]
    """Those it was last set with, by lower-case name; one without a value, such as HttpOnly, has an empty text."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a task ended: by its last request."""

    answer: Answer
    outcome: Outcome
    record: str | None
    error: str | None = None
    detail: str = ""
    status: int | None = None
    instance: str | None = None
    taken: Mapping[str, str] = field(default_factory=dict)
    """What its steps took from their answers, by name."""


REGISTER = "register"
_REGISTERED = Result(Answer.DONE, Outcome.OK, None)


@dataclass(frozen=True, slots=True)
class Stream:
    """Traffic at a steady rate, open loop: arrivals do not wait for answers."""

    name: str
    rate: float
    """Arrivals per second. A gap is seen to within one over this many seconds."""
    visitors: Sequence[str]
    journeys: Mapping[str, float] = field(default_factory=lambda: {"whoami": 0.8, "write": 0.1, "read": 0.1})
    """Shares; they need not add up to one."""
    via: str = BALANCER
    connections: Mapping[str, float] = field(default_factory=lambda: {"fresh": 0.5, "reused": 0.5})
    values: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    """For one request, connecting included. None: the run's."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What a stream did, and whether the rig kept up with it."""

    planned: int
    """Arrivals that were due."""
    sent: int
    """Those of them that the rig began; a connection that was refused counts, one never tried does not."""
    late: float
    """The share of those planned that the rig turned to more than 100 ms after they were due."""
    in_flight_waited: int
    """Visits that were under way when the stream was stopped, and were waited for."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The current scenario so far, for the live view. At most 0.2 seconds old."""

    requests: int
    failed: int
    """Without a proper answer; being logged out is one."""
    longest_gap_ms: float
    """By `harness.model.longest_gap`, each stream for itself."""


class Traffic:
    """The traffic of one run. `start` it, give orders, `close` it; or use it as a context manager.

    Every method raises TrafficError, with the last words of the process, when that has ended on its own.
    """

    def __init__(
        self,
        *,
        journal: Path,
        journeys: Mapping[str, Journey],
        targets: Mapping[str, tuple[str, int]],
        names: Mapping[str, str],
        timeout_seconds: float,
        seed: int,
        headers: Mapping[str, str] | None = None,
        version_header: str | None = None,
        instance_header: str | None = None,
        secure: Mapping[str, Path] | None = None,
        most_per_second: float | None = None,
        request_ids: str | None = None,
        people: Sequence[Person] = (),
        identity: Take | None = None,
    ) -> None:
        """`targets`: host and port by name (`balancer`, `app-1` …); `names`: the instance behind each `host:port` that
        the balancer may name in `X-Harness-Upstream`. `timeout_seconds` is for one request, connecting included.
        `headers` go with every request; `version_header` (X-App-Version) holds the version of who answers,
        `instance_header` its name, or `identity` says where else that is. `secure`: the targets that speak TLS, with the
        certificate of the authority that must have signed for their host. `most_per_second`: so many requests of tasks are sent
        a second at most, whoever gives them; streams have rates of their own. `people`: those who are given, and never register;
        nobody: they are made, and register. `request_ids`: how the ids begin that requests to the balancer carry as
        X-Request-Id, each written down as `asked`; None: they carry none.
        """
        self._settings = {
            "journal": str(journal.absolute()),
            "journeys": {name: journey.declared() for name, journey in journeys.items()},
            "values": sorted({used for journey in journeys.values() for step in journey.steps for used in step.names}),
            "timeout_seconds": timeout_seconds,
            "seed": seed,
            "headers": dict(headers or {}),
            "version_header": version_header or "X-App-Version",
            "instance_header": instance_header,
            "identity": None if identity is None else [identity.source, identity.key],
            "secure": {via: str(authority) for via, authority in (secure or {}).items()},
            "most_per_second": most_per_second,
            "request_ids": request_ids,
            "people": [{"email": each.email, "password": each.password, "name": each.name} for each in people],
        }
        self._given = self._free = len(people)
        self._secure = frozenset(secure or ())
        self._journeys = journeys
        self._targets = dict(targets)
        self._names = dict(names)
        self._timeout_seconds = timeout_seconds
        self._visitors: set[str] = set()
        self._streams: dict[str, Stream] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._awaited: dict[int, Future[dict[str, Any]]] = {}
        self._orders = 0
        self._has_ended = False
        """The process closed its side, or we ours."""
        self._was_told = False
        """Somebody heard that it ended on its own."""
        self._progress = Progress(0, 0, 0.0)

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process. Returns at once; the first order waits until it is up. Raises TrafficError."""
        if self._process is not None:
            raise TrafficError("the traffic process was started twice")
        ours, theirs = socket.socketpair()
        self._control = ours
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.traffic.process", str(theirs.fileno())],
                # Where this package is, `-m` finds the same one.
                cwd=Path(harness.__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                pass_fds=[theirs.fileno()],
                # Ctrl-C goes to the whole group of the terminal: the harness decides when traffic ends.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self._words.close()
            raise TrafficError(f"the traffic process cannot be started: {error}") from error
        finally:
            theirs.close()
        self._reader = threading.Thread(target=self._read, name="traffic-answers", daemon=True)
        self._reader.start()
        self._send({**self._settings, "targets": self._resolved_targets(), "names": self._names})

    @property
    def pid(self) -> int:
        """Of the process, which leads a session and group of its own."""
        if self._process is None:
            raise TrafficError("the traffic process was not started")
        return self._process.pid

    def close(self) -> None:
        """End the process and wait until it is gone; what is in flight is dropped. Twice is fine.

        Raises TrafficError when it had ended on its own and nobody was told yet, or had to be killed.
        """
        process = self._process
        if process is None or self._words.closed:
            return
        with suppress(OSError):  # it may be gone already
            self._control.shutdown(socket.SHUT_WR)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        self._control.close()
        try:
            if process.returncode != 0 and not self._was_told:
                raise self._gone()
        finally:
            self._words.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- orders ---------------------------------------------------------------------------------------------------

    def retarget(self, targets: Mapping[str, tuple[str, int]], names: Mapping[str, str]) -> None:
        """Connect elsewhere from now on. Connections kept to a target that moved are closed."""
        self._targets = dict(targets)
        self._names = dict(names)
        self._order("retarget", targets=self._resolved_targets(), names=self._names)

    def begin_scenario(self, scenario: str) -> None:
        """Operations of tasks and streams begun from now on carry this name. Kept connections are closed."""
        self._order("begin_scenario", scenario=scenario)
        self._progress = Progress(0, 0, 0.0)
        self._free = self._given

    def at_most(self, count: int) -> int:
        """So many people, or as many as are given and have not been here in this scenario."""
        return min(count, self._free) if self._given else count

    def new_visitors(self, count: int, *, strangers: bool = False) -> list[str]:
        """People nobody has seen in this scenario, each with an empty cookie jar: with credentials that follow from the seed, or
        those of somebody who is given. `strangers`: they never log in, and need no account.

        Raises:
            NothingTested: people are given, and not so many are left.
        """
        if self._given and not strangers:
            if count > self._free:
                before = f" after {self._given - self._free} before" if self._free < self._given else ""
                raise NothingTested(
                    f"this needs {count} people{before}, and {self._given} are given: name more of them in users"
                )
            self._free -= count
        visitors: list[str] = self._order("new_visitors", count=count, strangers=strangers)["visitors"]
        self._visitors.update(visitors)
        return visitors

    def copy_visitors(self, visitors: Sequence[str], *, cookies: bool = True, without: str | None = None) -> list[str]:
        """Another browser of each of these people, holding their cookies and taken values as they are now, or none.

        With cookies it is what somebody has who kept (or stole) a cookie: a log-out in the one browser must end it.
        `without`: the name of a cookie that is not copied.
        """
        self._check_visitors(visitors)
        copies: list[str] = self._order("copy_visitors", visitors=list(visitors), cookies=cookies, without=without)[
            "visitors"
        ]
        self._visitors.update(copies)
        return copies

    def place_visitors(self, addresses: Mapping[str, str]) -> None:
        """From now on each of these visitors comes from this address of the machine, on connections of their own."""
        self._check_visitors(list(addresses))
        self._order("place_visitors", addresses=dict(addresses))

    def cookies(self, visitors: Sequence[str]) -> list[tuple[CookieSeen, ...]]:
        """What each of these visitors holds now."""
        self._check_visitors(visitors)
        told = self._order("cookies", visitors=list(visitors))["cookies"]
        return [
            tuple(CookieSeen(name, mark, attributes) for name, (mark, attributes) in cookies.items())
            for cookies in told
        ]

    def perform(
        self, tasks: Sequence[Task], *, concurrency: int = 8, timeout_seconds: float | None = None
    ) -> list[Result]:
        """Go through all tasks, each visitor's in order, this many visitors at a time. Returns when all have ended.

        The operations are on disk then. `timeout_seconds` is for one request; None: the run's. A journey ends at its
        first step that is not ok. Nothing raises for what a setup answers: see the results. Who is given is registered
        already: that is not asked for, and counts as done.
        """
        if self._given:
            asked = [task for task in tasks if task.journey != REGISTER]
            results = iter(self._performed(asked, concurrency=concurrency, timeout_seconds=timeout_seconds))
            return [next(results) if task.journey != REGISTER else _REGISTERED for task in tasks]
        return self._performed(tasks, concurrency=concurrency, timeout_seconds=timeout_seconds)

    def _performed(self, tasks: Sequence[Task], *, concurrency: int, timeout_seconds: float | None) -> list[Result]:
        if concurrency < 1:
            raise TrafficError(f"concurrency must be 1 or more (got {concurrency})")
        self._check_visitors([task.visitor for task in tasks])
        for task in tasks:
            for via in (task.via, *task.then_via):
                self._check(task.journey, via)
        longest = sum(len(self._journeys[task.journey].steps) for task in tasks)
        told = self._order(
            "perform",
            within_seconds=_ORDER_SECONDS + longest * (timeout_seconds or self._timeout_seconds),
            tasks=[
                [
                    task.visitor,
                    task.journey,
                    task.via,
                    task.connection,
                    task.stream,
                    task.record,
                    dict(task.values),
                    list(task.then_via),
                    task.first_steps,
                    task.give_up_after_seconds,
                ]
                for task in tasks
            ],
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
        )
        return [
            Result(Answer(answer), Outcome(outcome), record, error, detail, status, instance, taken)
            for answer, outcome, error, detail, status, instance, record, taken in told["results"]
        ]

    def start_stream(self, stream: Stream) -> None:
        """Begin to send. The first arrival is due within some milliseconds."""
        if stream.name in self._streams:
            raise TrafficError(f"a stream named {stream.name!r} is running already")
        if stream.rate <= 0:
            raise TrafficError(f"the rate of stream {stream.name!r} must be above 0 (got {stream.rate})")
        for what, shares in (("journeys", stream.journeys), ("connections", stream.connections)):
            if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
                raise TrafficError(f"the {what} of stream {stream.name!r} must be shares above 0 (got {dict(shares)})")
        if not stream.visitors:
            raise TrafficError(f"stream {stream.name!r} has no visitors")
        self._check_visitors(stream.visitors)
        for journey in stream.journeys:
            self._check(journey, stream.via)
        self._order(
            "start_stream",
            name=stream.name,
            rate=stream.rate,
            journeys=dict(stream.journeys),
            visitors=list(stream.visitors),
            via=stream.via,
            connections={Connection(kind): share for kind, share in stream.connections.items()},
            values=dict(stream.values),
            timeout_seconds=stream.timeout_seconds,
        )
        self._streams[stream.name] = stream

    def stop_stream(self, name: str) -> StreamSummary:
        """No arrivals from now on; returns when what was in flight has ended, each request within its timeout.

        Its operations and its pace are on disk then.
        """
        if name not in self._streams:
            raise TrafficError(f"no stream named {name!r} is running")
        stream = self._streams.pop(name)
        steps = max(len(journey.steps) for journey in self._journeys.values())
        told = self._order(
            "stop_stream",
            within_seconds=_ORDER_SECONDS + steps * (stream.timeout_seconds or self._timeout_seconds),
            name=name,
        )
        planned, sent, late, waited_for = told["counts"]
        return StreamSummary(planned, sent, late / planned if planned else 0.0, waited_for)

    def flush(self) -> None:
        """Every operation that is finished is on disk on return."""
        self._order("flush")

    def progress(self) -> Progress:
        """The current scenario so far. Asks nobody, waits for nothing."""
        return self._progress

    # --- the control socket ---------------------------------------------------------------------------------------

    def _resolved_targets(self) -> dict[str, tuple[int, Any, str, str | None]]:
        return {
            via: (family, address, header, self._targets[via][0] if via in self._secure else None)
            for via, (family, address, header) in _resolved(self._targets, secure=self._secure).items()
        }

    def _check_visitors(self, visitors: Sequence[str]) -> None:
        unknown = [visitor for visitor in visitors if visitor not in self._visitors]
        if unknown:
            raise TrafficError(f"no such visitors in this run: {', '.join(unknown[:5])}")

    def _check(self, journey: str, via: str) -> None:
        if journey not in self._journeys:
            raise TrafficError(f"no journey is named {journey!r}; there are {', '.join(self._journeys)}")
        if via not in self._targets:
            raise TrafficError(f"no target is named {via!r}; there are {', '.join(self._targets)}")

    def _order(self, do: str, *, within_seconds: float = _ORDER_SECONDS, **facts: Any) -> dict[str, Any]:
        """Give one order and wait for its answer."""
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._process is None:
                raise TrafficError("the traffic process was not started")
            if self._has_ended:
                raise self._gone()
            self._orders += 1
            number = self._orders
            self._awaited[number] = answer
        self._send({"id": number, "do": do, **facts})
        try:
            return answer.result(within_seconds)
        except TimeoutError as error:
            raise TrafficError(f"the traffic process did not answer {do} within {within_seconds:g} s") from error
        finally:
            with self._lock:
                self._awaited.pop(number, None)

    def _send(self, facts: Mapping[str, Any]) -> None:
        # A process that is gone is told by its reader, with its last words; a broken pipe would only say that it is.
        with suppress(OSError):
            self._control.sendall(json.dumps(facts, separators=(",", ":")).encode() + b"\n")

    def _read(self) -> None:
        """The thread that takes answers until the process ends."""
        with suppress(OSError), self._control.makefile("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                told = json.loads(line)
                if "progress" in told:
                    requests, failed, gap_seconds = told["progress"]
                    self._progress = Progress(requests, failed, gap_seconds * 1000)
                with self._lock:
                    answer = self._awaited.get(told.get("id", 0))
                if answer is not None:
                    answer.set_result(told)
        with self._lock:
            self._has_ended = True
            awaited = list(self._awaited.values())
        for answer in awaited:
            if not answer.done():
                answer.set_exception(self._gone())

    def _gone(self) -> TrafficError:
        """What to raise once the process has ended: its code and its last words."""
        assert self._process is not None
        self._was_told = True
        if self._words.closed:
            return TrafficError("the traffic process was closed")
        try:
            code: int | None = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        self._words.seek(0)
        words = self._words.read().decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        return TrafficError(f"the traffic process ended with code {code}: " + ("\n".join(words) or "it said nothing"))


def _resolved(targets: Mapping[str, tuple[str, int]], *, secure: Collection[str]) -> dict[str, tuple[int, Any, str]]:
    """Addresses that need no look-up: the traffic process never waits for a name server. With each how it is called in Host."""
    resolved = {}
    for via, (host, port) in targets.items():
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise TrafficError(f"the target {via} has no address: {host}: {error}") from error
        resolved[via] = (int(family), address, netloc(host, port, usual=443 if via in secure else 80))
    return resolved
