"""The journal of a run on disk: `history.jsonl`, one JSON record a line, version 1.

The first line is `{"t":"journal","version":1,"run":...}`. Every later one has a `t` and its `scenario`:

    scenario    seed, instances, setup, unix_less_clock: what was begun
    op          one `Operation` (written by the traffic process)
    pace        one `Pace`; also the shares of journeys and connections it drew from
    fault       one `FaultWindow`
    rollout     one `RolloutStep`
    look        one `Look`
    judge       what was judged, in the judging room's own words, kept as it is
    asked       the id that a request carried for the balancer's log (written by the traffic process)
    told        who answered by that log, by the id

Two processes append to one file: the file is opened for appending, and each write is of whole lines. A last line
without its end was cut by a kill and is left out; any other damage is a JournalError. Must not: judge, or mend.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter, itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from pydantic_core import from_json

from harness.errors import JournalError
from harness.model import Answer, Connection, FaultWindow, History, Look, Operation, Outcome, Pace, RolloutStep
from harness.traffic.upstream import BALANCER

__all__ = [
    "PRIVATE",
    "VERSION",
    "Journal",
    "StoredRun",
    "StoredScenario",
    "fact_record",
    "read_history",
    "read_journal",
    "uncollected",
    "untold",
]

VERSION = 1

PRIVATE = 0o600
"""Whose it is alone reads a journal while it is written: what applications said is in it as they said it. When the run is over it is
written once more, for everybody, without secrets."""

_READ_BYTES = 1 << 20
"""Read at once: a long journal in pieces of the usual size takes twice as long to cut into lines."""

Fact = Operation | Pace | FaultWindow | RolloutStep | Look

_KINDS: Mapping[type, str] = {
    Operation: "op",
    Pace: "pace",
    FaultWindow: "fault",
    RolloutStep: "rollout",
    Look: "look",
}
# Readers of journals must not fall over a record of a kind that a later version adds beside these.
_READ = {*_KINDS.values(), "scenario", "judge", "asked", "told"}


def fact_record(scenario: str, fact: Fact) -> dict[str, Any]:
    """The record of one fact, as `Journal.append` takes it and `read_history` reads it back."""
    return {"t": _KINDS[type(fact)], "scenario": scenario, **asdict(fact)}


def to_line(record: Mapping[str, Any]) -> bytes:
    """One record as one line. `t` and `scenario` come first: readers skip by them. Raises ValueError for NaN."""
    ordered = {key: record[key] for key in ("t", "scenario") if key in record} | dict(record)
    return json.dumps(ordered, separators=(",", ":"), allow_nan=False).encode() + b"\n"


class Journal:
    """The harness's own pen. Safe for many threads, and beside the traffic process on the same file."""

    def __init__(self, path: Path, *, run: str) -> None:
        """Begins the journal, or goes on with one of this run. Raises JournalError when it cannot be written."""
        self.path = path
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
            is_new = os.fstat(self._file).st_size == 0
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be opened: {error.strerror}") from error
        self._closed = False
        if is_new:
            self.append({"t": "journal", "version": VERSION, "run": run})

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record. Raises JournalError when the disk takes no more."""
        line = to_line(record)
        with self._lock:
            if self._closed:
                raise JournalError(f"the journal {self.path} is closed")
            write_whole(self._file, line, self.path)

    def append_fact(self, scenario: str, fact: Fact) -> None:
        self.append(fact_record(scenario, fact))

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write_whole(file: int, lines: bytes, path: Path) -> None:
    """Append whole lines in one write. Raises JournalError for a write that failed or was cut short."""
    try:
        written = os.write(file, lines)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be written: {error.strerror}") from error
    if written != len(lines):
        raise JournalError(f"the journal {path} took {written} of {len(lines)} bytes: is the disk full?")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScenario:
    """One scenario as it was recorded."""

    history: History
    judged: tuple[Mapping[str, Any], ...] = ()
    """The `judge` records, untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A whole journal. Scenarios are in the order in which they began."""

    run: str
    scenarios: Mapping[str, StoredScenario]


def read_history(path: Path, scenario: str) -> History:
    """What was recorded of one scenario. The records of others are passed over unread.

    Raises JournalError: no such file, no such scenario, another version, or damage.
    """
    mark = f'"scenario":{json.dumps(scenario)}'.encode()
    parts = _Parts()
    others: list[Operation] = []
    took = _OperationReader(lambda name: parts.operations if name == scenario else others)
    with uncollected():
        for number, line in _lines(path):
            if number == 1:
                _version(path, line)
            elif mark in line:
                if took(line):
                    continue
                record = _record(path, number, line)
                if record.get("scenario") == scenario:
                    parts.add(path, number, record)
            elif not (line.startswith(b'{"t":"') and line.endswith(b"}\n")):
                raise _damaged(path, number, "no whole record")
    if parts.begun is None:
        raise JournalError(f"{path} holds no scenario {scenario!r}")
    return parts.stored().history


def untold(path: Path, scenario: str) -> int:
    """How many requests of a scenario carried an id and are not in what the balancer's log told. Raises JournalError."""
    mark = f'"scenario":{json.dumps(scenario)}'.encode()
    parts = _Parts()
    for number, line in _lines(path):
        if line.startswith((b'{"t":"asked"', b'{"t":"told"')) and mark in line:
            parts.add(path, number, _record(path, number, line))
    return sum(each not in parts.told for each in parts.asked.values() if each)


def read_journal(path: Path) -> StoredRun:
    """Everything in a journal. Raises JournalError: no such file, another version, or damage."""
    scenarios: dict[str, _Parts] = {}
    took = _OperationReader(lambda name: scenarios.setdefault(name, _Parts()).operations)
    run = ""
    with uncollected():
        for number, line in _lines(path):
            if number == 1:
                run = _version(path, line)
                continue
            if took(line):
                continue
            record = _record(path, number, line)
            if record["t"] not in _READ:
                continue
            name = record.get("scenario")
            if not isinstance(name, str):
                raise _damaged(path, number, "it names no scenario")
            scenarios.setdefault(name, _Parts()).add(path, number, record)
    for name, parts in scenarios.items():
        if parts.begun is None:
            raise JournalError(f"{path}: the scenario {name!r} has records but never began")
    return StoredRun(run=run, scenarios={name: parts.stored() for name, parts in scenarios.items()})


@contextmanager
def uncollected() -> Iterator[None]:
    """While a long history is gathered or judged, nothing of it can be garbage: it is not looked through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their ends; the last one only if it has one."""
    try:
        with path.open("rb", buffering=_READ_BYTES) as file:
            empty = True
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                empty = False
                yield number, line
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error.strerror}") from error
    if empty:
        raise JournalError(f"{path} is empty: no journal was begun there")


def _damaged(path: Path, number: int, what: str) -> JournalError:
    return JournalError(f"{path} is damaged in line {number}: {what}")


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        # Four times as fast, and texts that repeat are kept once. It is stricter: what it refuses is asked of the other.
        record = from_json(line)
    except ValueError:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise _damaged(path, number, f"no JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("t"), str):
        raise _damaged(path, number, "a record must be an object with a text `t`")
    return record


def _version(path: Path, line: bytes) -> str:
    record = _record(path, 1, line)
    if record["t"] != "journal":
        raise _damaged(path, 1, f"a journal must begin with its version (got a record {record['t']!r})")
    if record.get("version") != VERSION:
        raise JournalError(
            f"{path} is a journal of version {record.get('version')!r}; this harness reads version {VERSION}"
        )
    return str(record.get("run", ""))


_F = TypeVar("_F", Operation, Pace, FaultWindow, RolloutStep, Look)


class _Parts:
    """What is gathered of one scenario while lines go by."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] | None = None
        self.operations: list[Operation] = []
        self.paces: list[Pace] = []
        self.faults: list[FaultWindow] = []
        self.rollout: list[RolloutStep] = []
        self.looks: list[Look] = []
        self.judged: list[Mapping[str, Any]] = []
        self.asked: dict[tuple[str, float], str] = {}
        """By visitor and when it was due: the id a request carried; empty where two of them cannot be told apart."""
        self.told: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        """By that id: who answered by the balancer's log, and whom it had asked."""

    def add(self, path: Path, number: int, record: dict[str, Any]) -> None:
        kind = record["t"]
        try:
            if kind == "op":
                self.operations.append(
                    _operation(_shared(record), _own(record), record.get("record"), _answered(record))
                )
            elif kind == "pace":
                self.paces.append(_fact(Pace, record))
            elif kind == "fault":
                self.faults.append(_fact(FaultWindow, record))
            elif kind == "rollout":
                self.rollout.append(_fact(RolloutStep, record))
            elif kind == "look":
                self.looks.append(_fact(Look, record))
            elif kind == "judge":
                self.judged.append(record)
            elif kind == "asked":
                key = (record["visitor"], record["due"])
                self.asked[key] = "" if key in self.asked else record["id"]
            elif kind == "told":
                self.told |= {number: (who, tuple(tried)) for number, (who, tried) in record["by"].items()}
            elif kind == "scenario":
                self.begun = {
                    "scenario": record["scenario"],
                    "seed": int(record["seed"]),
                    "instances": tuple(record["instances"]),
                    "setup": dict(record.get("setup") or {}),
                    "unix_less_clock": record.get("unix_less_clock"),
                }
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, number, f"no proper {kind!r} record ({type(error).__name__}: {error})") from error

    def _witnessed(self) -> list[Operation]:
        """The operations, with who answered by the balancer's log where that tells it."""
        if not self.told:
            return self.operations
        witnessed = []
        for op in self.operations:
            told = self.told.get(self.asked.get((op.visitor, op.due), "")) if op.via == BALANCER else None
            witnessed.append(op if told is None else replace(op, instance=told[0], attempts=told[1]))
        return witnessed

    def stored(self) -> StoredScenario:
        assert self.begun is not None
        history = History(
            **self.begun,
            operations=tuple(sorted(self._witnessed(), key=attrgetter("due"))),
            faults=tuple(self.faults),
            rollout=tuple(self.rollout),
            looks=tuple(self.looks),
            paces=tuple(self.paces),
        )
        return StoredScenario(history=history, judged=tuple(self.judged))


def _fact(kind: type[_F], record: Mapping[str, Any]) -> _F:
    """Keys that are no field are left out: a record may say more than the model keeps."""
    return kind(**{field.name: record[field.name] for field in fields(kind) if field.name in record})


_CONNECTIONS = {each.value: each for each in Connection}
_OUTCOMES = {each.value: each for each in Outcome}
_ANSWERS = {each.value: each for each in Answer}


_Shared = tuple[str, str, int, str, str, Connection]
_Own = tuple[str, str, float, float | None, float | None]
_Answered = tuple[
    bool, str | None, tuple[str, ...], int | None, Outcome, Answer, str | None, str, str | None, str | None
]


def _shared(record: Mapping[str, Any]) -> _Shared:
    """What all requests of one step of one stream have in common. Raises KeyError or TypeError, as those below do."""
    connection = _CONNECTIONS[record["connection"]]
    return (record["stream"], record["kind"], record["step"], record["method"], record["via"], connection)


_own = cast("Callable[[Mapping[str, Any]], _Own]", itemgetter("path", "visitor", "due", "sent", "answered"))
"""What is this one's alone, but for the id of a record."""


def _answered(record: Mapping[str, Any]) -> _Answered:
    """What its answer was: nearly always one of a few."""
    return (
        record["final"],
        record["instance"],
        tuple(record["attempts"]),
        record["status"],
        _OUTCOMES[record["outcome"]],
        _ANSWERS[record["answer"]],
        record.get("error"),
        record.get("detail", ""),
        record.get("version"),
        record.get("named"),
    )


class _Draft:
    """An operation that is being filled in from its record, and becomes one when it is.

    A frozen class sets its fields one by one by name, which takes longer than reading them did; a journal may hold a
    million. This twin has the same slots, so that it can become the other; a test holds what comes of it
    to what the constructor makes.
    """

    __slots__ = tuple(field.name for field in fields(Operation))

    def __init__(self, shared: _Shared, own: _Own, record: str | None, answered: _Answered) -> None:
        self.stream, self.kind, self.step, self.method, self.via, self.connection = shared
        self.path, self.visitor, self.due, self.sent, self.answered = own
        self.record = record
        (
            self.final,
            self.instance,
            self.attempts,
            self.status,
            self.outcome,
            self.answer,
            self.error,
            self.detail,
            self.version,
            self.named,
        ) = answered
        self.__class__ = Operation  # type: ignore[assignment]


_operation = cast("Callable[[_Shared, _Own, str | None, _Answered], Operation]", _Draft)
"""What a draft is by the time anybody sees it."""

_MOST_KNOWN = 4096
"""Beginnings, and ends, that are remembered. Where more differ, forgetting them all costs less than telling which repeat."""
_OWN_KEYS = 5
_OPTIONAL = frozenset({"record", "error", "detail", "version", "named"})


class _OperationReader:
    """Reads the lines that the traffic process writes, which are nearly all of a journal.

    In such a line what all requests of a step have in common stands first, then, from its path on, what is this request's
    own, then, from `final` on, what its answer was (`recorder.op_head`, `recorder.op_tail`). First and last are the same
    a thousand times over, and are parsed once. `,"path":` is a key wherever it stands in JSON, for a quote within a text is
    escaped; that each of the three is an object of its own shows that it stands at the top. Whoever ordered a line in
    another way, or damaged it, has it read whole.
    """

    def __init__(self, operations_of: Callable[[str], list[Operation]]) -> None:
        """`operations_of` names the list to which a scenario's operations are added."""
        self._operations_of = operations_of
        self._beginnings: dict[bytes, tuple[list[Operation], _Shared]] = {}
        self._ends: dict[bytes, _Answered] = {}

    def __call__(self, line: bytes) -> bool:
        """Whether it was such a line; then its operation has been added."""
        middle = line.find(b',"path":')
        end = line.find(b',"final":', middle)
        first, last = line[:middle], line[end + 1 :]
        try:
            own = from_json(b"{" + line[middle + 1 : end] + b"}")
            record = None if len(own) == _OWN_KEYS else own["record"]
            if len(own) > _OWN_KEYS + 1:
                return False  # some key has its place elsewhere
            answered = self._ends.get(last) or self._end(last)
            operations, shared = self._beginnings.get(first) or self._begin(first)
            operations.append(_operation(shared, _own(own), record, answered))
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def _begin(self, first: bytes) -> tuple[list[Operation], _Shared]:
        record = from_json(first + b"}")
        if record["t"] != "op" or not isinstance(record["scenario"], str) or not _OPTIONAL.isdisjoint(record):
            raise ValueError
        if len(self._beginnings) >= _MOST_KNOWN:
            self._beginnings.clear()
        shared = _shared(record)
        known = self._beginnings[first] = (self._operations_of(record["scenario"]), shared)
        return known

    def _end(self, last: bytes) -> _Answered:
        record = from_json(b"{" + last)
        if "record" in record:
            raise ValueError
        if len(self._ends) >= _MOST_KNOWN:
            self._ends.clear()
        known = self._ends[last] = _answered(record)
        return known
