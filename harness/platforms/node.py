"""What a node is to the rest of the harness, and the abilities a platform may give it.

A platform turns a `NodeSpec` into something that has these abilities. Abilities are small
protocols, so that a fault asks for exactly what it needs and a platform that cannot do it is
told apart by type. Must not: start anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "ContainerSpec",
    "CutOff",
    "Elsewhere",
    "Hangable",
    "Inspectable",
    "Killable",
    "Measurable",
    "MemoryBound",
    "Node",
    "NodeSpec",
    "Relocatable",
    "Replaceable",
    "Spec",
    "Stoppable",
    "log_in_words",
]


def log_in_words(lines: Sequence[str]) -> str:
    """The end of a node's log, as a message shows it. It may hold secrets: redact before showing."""
    if not lines:
        return "\nIt wrote nothing to its log."
    return "\nThe end of its log:\n" + "\n".join(f"    {line}" for line in lines)


class Spec(Protocol):
    """What every way of running a node has in common."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int:
        """Where the harness itself reaches it, on loopback."""

    @property
    def is_ready(self) -> Callable[[], bool]: ...
    @property
    def ready_within_seconds(self) -> float: ...
    @property
    def stop_signal(self) -> Signals | None: ...
    @property
    def stop_within_seconds(self) -> float: ...


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """How one node is run as a container, and how to tell that it is ready."""

    name: str
    """Unique in the cluster; also its name on the run's network."""
    image: str
    command: tuple[str, ...] | None = None
    """None: the image's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Absolute path in the container to content; there before it starts."""
    container_port: int
    """Where it listens inside."""
    host: str = "127.0.0.1"
    port: int
    """Where `container_port` is published on loopback."""
    extra_ports: Mapping[int, int] = field(default_factory=dict)
    """More ports published on loopback: inside to outside."""
    address: str | None = None
    """Its fixed address on the run's network; None for any."""
    aliases: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    """Paths that are kept in memory."""
    is_ready: Callable[[], bool]
    ready_within_seconds: float = 30.0
    stop_signal: Signals | None = None
    """None: the one the image names."""
    stop_within_seconds: float = 10.0
    memory_mib: int | None = None
    """What it may use; None for no limit."""


class Node(Protocol):
    """One running part."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> Spec: ...
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
    def start(self, spec: Any = None) -> None:
        """Start it, with another spec of its platform if one is given (a new version), and return at once.

        Raises NodeError.
        """

    def wait_ready(self) -> None:
        """Return when it is ready. Raises NodeNeverReady with what was seen and what to do."""

    def signal(self, signal: Signals) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    def tell_to_stop(self) -> None:
        """Send its stop signal and return at once. Raises NodeError when it does not run."""

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


@runtime_checkable
class CutOff(Protocol):
    def cut_off(self, *, answer: Literal["silence", "refusal"]) -> None:
        """Take it off the network while it runs: who connects hears nothing, or is refused at once."""

    def reconnect(self) -> None:
        """Give it its place on the network back, under the address it had; does nothing if it has it."""

    def is_cut_off(self) -> bool: ...


@runtime_checkable
class Relocatable(Protocol):
    @property
    def address(self) -> str | None:
        """Where it is on the run's network; None while it is nowhere."""

    def relocate(self) -> str:
        """End it and start it anew under another address, as a replaced container is. Returns the new address."""


@runtime_checkable
class Replaceable(Protocol):
    def replace(self, spec: Any, *, on_stopped: Callable[[str], None]) -> None:
        """End it and start it with this spec in the one step its platform has for that, and return when it was started.

        Its platform may replace others with it. `on_stopped` is called with the name of each in the moment it is gone.
        """


@runtime_checkable
class Elsewhere(Protocol):
    """Somebody else's, with a life that is not ours to see: what is known of it is told in words."""

    @property
    def proof(self) -> str:
        """How the last thing that was done to it was seen to have taken effect."""

    @property
    def back_since(self) -> float | None:
        """When it was seen to be ready again after a kill, without our help; None while it is away, or where we start it."""


@runtime_checkable
class MemoryBound(Protocol):
    def exhaust_memory(self) -> None:
        """Have the kernel's out-of-memory killer end it, and wait until it is gone."""


@runtime_checkable
class Measurable(Protocol):
    def cpu_seconds(self) -> float | None:
        """The processor time it and all it started have used since its start; None where that cannot be seen."""

    def pids(self) -> Sequence[int]:
        """Its processes and all they started, by the ids this machine knows them by; none where they cannot be seen."""


@runtime_checkable
class Inspectable(Protocol):
    def run(self, *argv: str) -> tuple[int, str]:
        """Run a program where the node runs: exit code and what it said. Raises NodeError when it cannot be run."""

    def processes(self) -> Mapping[int, str]:
        """Its living processes: id to command line (or the title it gave itself)."""

    def write_file(self, path: str, content: bytes) -> None:
        """Put a file where the node finds it under this path."""
