"""How long those who serve stood ready in a scenario and were given no core of this machine: it is no fault of theirs.

Must not: judge, or fail a run because something cannot be seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness import clock, processes
from harness.checkers.guards import WAITED
from harness.model import Look
from harness.platforms import Measurable, Node

__all__ = ["Starvation"]


class _Seen(NamedTuple):
    """Everything until one moment."""

    at: float
    machine: tuple[float, float] | None
    waited: Mapping[str, Mapping[int, float]]
    """By node and thread."""


class Starvation:
    """What those who serve waited for a core since a scenario began."""

    def __init__(self, nodes: Callable[[], Iterable[Node]]) -> None:
        """`nodes`: those there are now."""
        self._nodes = nodes
        self._before = self._seen()

    def begin(self) -> None:
        """What was waited for so far is nobody's business any more."""
        self._before = self._seen()

    def about(self, scenario: str) -> Look | None:
        """What was waited for since then, by node, for whoever judges or looks for a cause. None where nobody can be seen.

        Of threads that have ended meanwhile nothing is known: it is never too much.
        """
        before, now = self._before, self._seen()
        waited = {
            node: sum(seconds - before.waited.get(node, {}).get(thread, 0.0) for thread, seconds in threads.items())
            for node, threads in now.waited.items()
        }
        if not waited:
            return None
        busy = None
        if before.machine is not None and now.machine is not None and now.machine[1] > before.machine[1]:
            busy = (now.machine[0] - before.machine[0]) / (now.machine[1] - before.machine[1])
        value = {
            "scenario": scenario,
            "seconds": round(now.at - before.at, 3),
            "cores": os.cpu_count() or 1,
            "busy_share": None if busy is None else round(busy, 4),
            # An id that is used again stands for a thread that has waited less than the one before.
            "waited_seconds": {node: round(max(0.0, seconds), 3) for node, seconds in sorted(waited.items())},
        }
        return Look(what=WAITED, node="", at=now.at, status=None, value=value)

    def _seen(self) -> _Seen:
        nodes = [node for node in self._nodes() if isinstance(node, Measurable)]
        with ThreadPoolExecutor(max(1, len(nodes)), thread_name_prefix="starvation") as pool:
            told = list(pool.map(lambda node: processes.waited_seconds(node.pids()), nodes))
        waited = {node.name: threads for node, threads in zip(nodes, told, strict=True) if threads is not None}
        return _Seen(clock.now(), processes.machine_cpu(), waited)
