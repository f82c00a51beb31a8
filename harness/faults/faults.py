"""Kill, stop, hang, cut off, starve and move a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from harness import platforms
from harness.errors import NodeError
from harness.platforms import Elsewhere, Hangable, Killable, MemoryBound, Node, Relocatable, Stoppable
from harness.waiting import wait_until

__all__ = ["CutOff", "Fault", "Hang", "Kill", "NewAddress", "OutOfMemory", "Stop"]


class Fault(Protocol):
    """Yields, once the node is proven broken, how that was observed. Heals on exit; the node may still be starting."""

    def applied_to(self, node: Node) -> AbstractContextManager[str]: ...


def _proof(node: Node, ours: str) -> str:
    """How it was seen: by our own eyes, or by those of who knows the node."""
    return node.proof if isinstance(node, Elsewhere) else ours


def _came_back(node: Node) -> bool:
    """Whether somebody else has started it again already."""
    return isinstance(node, Elsewhere) and node.back_since is not None


@dataclass(frozen=True)
class Kill:
    """End a node without warning, as a crash or the OOM killer would; it is started again on exit."""

    def __str__(self) -> str:
        return "kill"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, Killable):
            raise NodeError(f"{node.name} cannot be killed on this platform")
        try:
            node.kill()
            if node.is_running() and not _came_back(node):
                raise NodeError(f"{node.name} was killed and still runs")
            yield _proof(node, f"the process is gone (exit code {node.exit_code})")
        finally:
            if not node.is_running():
                node.start()


@dataclass(frozen=True)
class Stop:
    """Tell a node to end, as a deploy or a scale-in would, and wait for it; it is started again on exit."""

    def __str__(self) -> str:
        return "stop"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, Stoppable):
            raise NodeError(f"{node.name} cannot be stopped on this platform")
        try:
            code = node.stop()
            yield _proof(node, f"the process ended with exit code {code}")
        finally:
            if not node.is_running():
                node.start()


@dataclass(frozen=True)
class Hang:
    """Freeze a node: its sockets stay open and nothing is answered, as in a long pause or a deadlock."""

    def __str__(self) -> str:
        return "hang"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, Hangable):
            raise NodeError(f"{node.name} cannot be frozen on this platform")
        try:
            node.hang()
            wait_until(node.is_hung, within_seconds=5, because=f"{node.name} should be frozen")
            yield _proof(node, "every thread of the process is stopped")
        finally:
            node.resume()


@dataclass(frozen=True)
class CutOff:
    """Take a node off the network while it runs; who connects hears nothing, as behind a pulled plug or a firewall
    that drops, or is refused at once, as behind one that rejects. It is reconnected on exit."""

    answer: Literal["silence", "refusal"] = "silence"

    def __str__(self) -> str:
        return f"cut-off-{self.answer}"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, platforms.CutOff):
            raise NodeError(f"{node.name} cannot be cut off on this platform")
        try:
            node.cut_off(answer=self.answer)
            wait_until(node.is_cut_off, within_seconds=5, because=f"{node.name} should be cut off")
            if not node.is_running():
                raise NodeError(f"{node.name} should only lose its network, and ended (exit code {node.exit_code})")
            hears = "hears nothing" if self.answer == "silence" else "is refused"
            yield f"it runs and is off the network: who connects {hears}"
        finally:
            node.reconnect()


@dataclass(frozen=True)
class OutOfMemory:
    """Have the kernel end a node because it used up its memory, as a leak does; it is started again on exit."""

    def __str__(self) -> str:
        return "out-of-memory"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, MemoryBound):
            raise NodeError(f"{node.name} cannot run out of memory on this platform")
        try:
            node.exhaust_memory()
            if node.is_running():
                raise NodeError(f"{node.name} was to run out of memory and still runs")
            yield f"the kernel ended it for want of memory (exit code {node.exit_code})"
        finally:
            if not node.is_running():
                node.start()


@dataclass(frozen=True)
class NewAddress:
    """Replace a node: it ends and comes back under another address, and it tells nobody.

    It comes back by itself, while the fault lasts; leaving only sees to it that it runs.
    """

    def __str__(self) -> str:
        return "new-address"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if not isinstance(node, Relocatable):
            raise NodeError(f"{node.name} cannot be given another address on this platform")
        try:
            address = node.relocate()
            if not node.is_running():
                raise NodeError(f"{node.name} was moved to {address} and does not run there")
            yield f"it was ended, and started anew under {address}"
        finally:
            if not node.is_running():
                node.start()
