"""What a node is to the rest of the harness, and the abilities a platform may give it.

A platform turns a `NodeSpec` into something that has these abilities. Abilities are small
protocols, so that a fault asks for exactly what it needs and a platform that cannot do it is
told apart by type. Must not: start anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Protocol, runtime_checkable

__all__ = ["Hangable", "Killable", "Node", "NodeSpec", "Stoppable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """How one node is run: everything a platform needs to start it, and how to tell that it is ready."""

    name: str
    """Unique in the cluster: `postgres`, `redis`, `nginx`, `app-1` …"""
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to a small clean environment, never to the caller's own."""
    directory: Path
    """Its working directory. Must exist when it is started."""
    host: str = "127.0.0.1"
    port: int
    is_ready: Callable[[], bool]
    """Asked again and again until true; false while not ready, never raising for a mere refusal."""
    ready_within_seconds: float = 30.0
    """Scaled by the one factor for infrastructure waits."""
    stop_signal: Signals = SIGTERM
    stop_within_seconds: float = 10.0
    """Patience after the stop signal; then it is killed."""
    refuses_root: bool = False
    """True for servers that will not run as root (Postgres): the platform then drops rights for it."""


class Node(Protocol):
    """One running part."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> NodeSpec: ...
    @property
    def log_path(self) -> Path: ...
    @property
    def start_seconds(self) -> float:
        """From its start to its first readiness."""

    @property
    def exit_code(self) -> int | None:
        """Of its last end; negative for a signal. None while it runs or was never started."""

    def is_running(self) -> bool: ...
    def is_ready(self) -> bool: ...
    def start(self, spec: NodeSpec | None = None) -> None:
        """Start it, with another spec if one is given (a new version), and return at once. Raises NodeError."""

    def wait_ready(self) -> None:
        """Return when it is ready. Raises NodeNeverReady with what was seen and what to do."""

    def signal(self, signal: Signals) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    def stop(self) -> int:
        """Ask it to end with its stop signal, wait its patience, then kill. Returns the exit code."""


@runtime_checkable
class Killable(Protocol):
    def kill(self) -> None:
        """End it and all its children without warning, and wait until they are gone."""


@runtime_checkable
class Hangable(Protocol):
    def hang(self) -> None:
        """Freeze it: it keeps its sockets and answers nothing."""

    def resume(self) -> None: ...
    def is_hung(self) -> bool: ...
