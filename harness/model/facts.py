"""What was done and seen in one scenario, on one monotonic clock. All times are seconds of `clock.now()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "UNNAMED",
    "Answer",
    "ComplaintKind",
    "Connection",
    "FaultWindow",
    "History",
    "Look",
    "Operation",
    "Outcome",
    "Pace",
    "RolloutStep",
]

UNNAMED = "(unnamed)"
"""An attempt at an instance that the balancer counted and did not name."""


class Outcome(StrEnum):
    """Whether a request had its effect. UNKNOWN: it may have had (timeout, reset after sending, 502, 504)."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Answer(StrEnum):
    """What an answer meant to the person who asked."""

    RECOGNISED = "recognised"
    """A page that names this person."""
    SOMEBODY_ELSE = "somebody-else"
    """A page that names another person."""
    LOGGED_OUT = "logged-out"
    """Sent to the login page."""
    DONE = "done"
    """The step's expectation was met, and identity is not what it is about."""
    REFUSED = "refused"
    """The application said no (4xx, a failed login answered with 200)."""
    OVERLOADED = "overloaded"
    """429, or 503 from the application."""
    FAILED = "failed"
    """No answer, a broken one, or an error."""


class Connection(StrEnum):
    """FRESH: opened for this request and closed after it. REUSED: kept alive from an earlier request."""

    FRESH = "fresh"
    REUSED = "reused"


class ComplaintKind(StrEnum):
    """What servers and clients complain of in their logs."""

    DATABASE_FULL = "database-full"
    """The database allows no more connections."""
    POOL_EMPTY = "pool-empty"
    """Every connection of an instance's own pool is in use."""
    DATABASE_AWAY = "database-away"
    """The database is not reached, or lets nobody in."""
    STORE_AWAY = "store-away"
    """The same of the session store."""
    LIMIT = "limit"
    """Any other limit of connections."""


# Looked up a million times where a long run is judged, and the lookup in an enumeration costs more than the rest.
_OK = Outcome.OK
_LOGGED_OUT = Answer.LOGGED_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request of one visitor."""

    stream: str
    """Which part of the scenario sent it, such as `browse` or `slow`."""
    kind: str
    """The journey it belongs to, such as `login` or `whoami`."""
    step: int
    """Its place in the journey, from 0."""
    final: bool
    """Whether it is the last step of its journey (or the one at which the journey ended)."""
    visitor: str
    method: str
    path: str
    via: str
    """`balancer`, or the name of the instance that was asked directly."""
    connection: Connection
    due: float
    sent: float | None
    """None: it was never sent (could not connect, or the rig was too late)."""
    answered: float | None
    """When the body had been read to its end. None: no complete answer."""
    instance: str | None
    """Who answered, by the balancer's word or because it was asked directly. None: nobody, or the balancer itself."""
    attempts: tuple[str, ...]
    """The instances the balancer tried, in order; a retry shows as two. UNNAMED stands for one that it did not name."""
    status: int | None
    outcome: Outcome
    answer: Answer
    error: str | None = None
    """None when ok; otherwise its class: `refused` `reset` `closed` `tls` `timeout` `truncated` `malformed` `unsent` `given-up`
    `http-500` (any status not expected) `balancer-503` (nobody could be reached) `logged-out` `wrong-user` `wrong-body`."""
    detail: str = ""
    """What helps a reader when it is not ok: the first bytes of the body or the system's words."""
    version: str | None = None
    """The version the answer carried."""
    named: str | None = None
    """Who answered by the application's own word; empty where the answer does not say. None: the setup names no header
    for it, or there was no answer."""
    record: str | None = None
    """The client-given id of what was written or read, such as a note's."""

    @property
    def latency(self) -> float | None:
        """Seconds from when it was due (not sent) to the end of its answer."""
        return None if self.answered is None else self.answered - self.due

    @property
    def available(self) -> bool:
        """Whether the person got a proper answer. Being logged out is an answer: session promises judge that."""
        return self.outcome is _OK or self.answer is _LOGGED_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """One fault on one node, from the order to break it to its return."""

    fault: str
    """Such as `kill-sigkill`."""
    node: str
    injected: float
    effective: float | None
    """When it was proven to have taken effect. None: no effect was observed, so nothing was tested."""
    healing: float
    """When healing began."""
    healed: float | None
    """When the node was ready again, asked directly. None: it never was."""
    proof: str = ""
    """How the effect was observed, in words."""
    by_itself: bool = False
    """Whether somebody other than the harness healed it, in a time of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """One step of a rollout on one instance: `drain` `stop` `stopped` `start` `ready` `enable` `enabled` `failed`, or `begin`/`end` for the whole."""

    step: str
    node: str
    at: float
    version: str = ""
    detail: str = ""


WELL = "harness: well"
"""The key of a look under which stands whether the answer is that of somebody who is well, where the setup says how that looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A single sequential look at one node, outside the traffic."""

    what: str
    """Such as `health`, `version`, `session-store`, `note`."""
    node: str
    at: float
    status: int | None
    value: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    @property
    def well(self) -> bool:
        """Whether the answer says that who was asked is well: as the setup says (app.healthy), else by a status below 300."""
        said = self.value.get(WELL)
        if isinstance(said, bool):
            return said
        return not self.error and self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What one open-loop stream set out to send. The schedule follows from these numbers and the seed alone."""

    stream: str
    rate: float
    """Requests per second."""
    begin: float
    end: float
    planned: int
    """How many were due in that time."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that was done and seen in one scenario. Operations are in the order in which they were due."""

    scenario: str
    seed: int
    instances: tuple[str, ...]
    setup: Mapping[str, Any] = field(default_factory=dict)
    """What a checker must know of the setup: `algorithm`, `balancer_workers`, `pool`, `session_store`, `rollout`, `read_timeout_seconds` …"""
    operations: tuple[Operation, ...] = ()
    faults: tuple[FaultWindow, ...] = ()
    rollout: tuple[RolloutStep, ...] = ()
    looks: tuple[Look, ...] = ()
    paces: tuple[Pace, ...] = ()
    unix_less_clock: float | None = None
    """Unix time less `clock.now()` when it was begun, to find in logs what nodes wrote meanwhile. None: not written down."""

    def of_kind(self, *kinds: str) -> Iterator[Operation]:
        """The operations of these journeys, in order."""
        return (op for op in self.operations if op.kind in kinds)

    def looks_at(self, what: str) -> Iterator[Look]:
        return (look for look in self.looks if look.what == what)

    @property
    def healed_at(self) -> float:
        """When the last fault was healed; minus infinity when there was none, plus infinity when one never healed."""
        ends = [fault.healed if fault.healed is not None else float("inf") for fault in self.faults]
        return max(ends, default=float("-inf"))
