"""Replicas: instances that an orchestrator starts, replaces, adds and removes, and what it can be told to do.

A platform with an orchestrator gives one `Orchestrator`; whoever watches it sees `Replica`s come and go. Must not:
start anything itself, or know one orchestrator from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

__all__ = ["HealthCheck", "Orchestrator", "Outcome", "Replica", "ReplicatedSpec", "Update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the orchestrator finds out whether a replica is healthy."""

    command: tuple[str, ...] | None
    """Run inside; ends with 0 when it is. None: the image's own. Empty: none, and who runs counts as healthy."""
    interval_seconds: float
    start_seconds: float
    """So long after its start it may fail."""
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedSpec:
    """One version of what is replicated: everything an orchestrator needs to run it."""

    name: str
    """Its name on the run's network. A replica is called by it and the number of its slot: `app-1`."""
    version: str
    """What this version is called in the history."""
    image: str
    command: tuple[str, ...] | None = None
    """None: the image's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    container_port: int
    health: HealthCheck
    stop_signal: str | None = None
    stop_within_seconds: float = 10.0
    ready_within_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica as its orchestrator sees it at one moment."""

    id: str
    """Of this incarnation: whoever takes its place has another one."""
    name: str
    """Of its slot: whoever takes its place has the same."""
    version: str
    state: str
    """In the orchestrator's own words."""
    alive: bool
    """Neither ended nor given up."""
    healthy: bool
    """Runs, is wanted, and its health check passes."""
    wanted: bool
    """False: it was told to go, or is about to be."""
    address: str | None
    """On the run's network."""
    container: str | None
    node: str
    """Where it runs, by the name of that machine."""
    is_here: bool
    """Whether that is the machine of the engine the harness speaks to."""
    message: str = ""
    """What went wrong with it, if anything did."""


class Outcome(StrEnum):
    """How an update came to its end."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled back"
    PAUSED = "paused"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Update:
    """What became of an update so far."""

    outcome: Outcome
    message: str = ""


class Orchestrator(Protocol):
    """What keeps the replicas of one application. Verbs return when the order was taken, not when it is carried out."""

    @property
    def name(self) -> str: ...
    def start(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        """Begin to keep so many. Raises NodeError."""

    def remove(self) -> None:
        """Keep none any more, and forget the application; it is gone on return. Nothing happens when it is."""

    def replicas(self) -> tuple[Replica, ...]:
        """Everyone there is, and those who ended not long ago. Raises NodeError."""

    def scale(self, replicas: int) -> None: ...
    def update(self, spec: ReplicatedSpec) -> None:
        """Replace everyone by this version, as it was told to replace."""

    def replace_at_once(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        """Have so many of this version as soon as possible, whatever it was told."""

    def last_update(self) -> Update: ...
    def kill(self, replica: Replica) -> str:
        """End it without warning, behind the orchestrator's back. Returns how that was observed.

        Raises NodeError, also when it runs on another machine than the engine.
        """

    def last_log_lines(self, count: int = 10) -> list[str]:
        """What the replicas wrote last. They may hold secrets: redact before showing."""
