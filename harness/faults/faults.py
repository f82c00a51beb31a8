"""Kill, stop and hang a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from harness.errors import NodeError
from harness.platforms import Hangable, Killable, Node, Stoppable
from harness.waiting import wait_until

__all__ = ["Fault", "Hang", "Kill", "Stop"]


class Fault(Protocol):
    """Yields, once the node is proven broken, how that was observed. Heals on exit; the node may still be starting."""

    def applied_to(self, node: Node) -> AbstractContextManager[str]: ...


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
            if node.is_running():
                raise NodeError(f"{node.name} was killed and still runs")
            yield f"the process is gone (exit code {node.exit_code})"
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
            yield f"the process ended with exit code {code}"
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
            yield "every thread of the process is stopped"
        finally:
            node.resume()
