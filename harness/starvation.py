"""How long those who serve stood ready in a scenario and were given no core of this machine: it is no fault of theirs.

Must not: judge, or fail a run because something cannot be seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness import clock, processes
from harness.checkers.guards import WAITED
from harness.model import Look
from harness.platforms import Measurable, Node

__all__ = ["Starvation"]


_FIRST = 1
"""The id of whoever is everybody's parent in the end."""


class _Seen(NamedTuple):
    """Everything until one moment."""

    at: float
    machine: tuple[float, float] | None
    used: Mapping[tuple[int, int], float]
    """By every process that can be seen."""
    ours: Set[int]
    waited: Mapping[str, Mapping[int, float]]
    """By node and thread."""


class Starvation:
    """What those who serve waited for a core since a scenario began, and who had the cores."""

    def __init__(self, *, serving: Callable[[], Iterable[Node]], nodes: Callable[[], Iterable[Node]]) -> None:
        """`serving`: whom requests go through, as they are now; `nodes`: all there are."""
        self._serving, self._nodes = serving, nodes
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
        busy, others = _shares(before, now)
        value = {
            "scenario": scenario,
            "seconds": round(now.at - before.at, 3),
            "cores": os.cpu_count() or 1,
            "busy_share": busy,
            "others_share": others,
            # An id that is used again stands for a thread that has waited less than the one before.
            "waited_seconds": {node: round(max(0.0, seconds), 3) for node, seconds in sorted(waited.items())},
        }
        return Look(what=WAITED, node="", at=now.at, status=None, value=value)

    def _seen(self) -> _Seen:
        nodes = [node for node in self._nodes() if isinstance(node, Measurable)]
        with ThreadPoolExecutor(max(1, len(nodes)), thread_name_prefix="starvation") as pool:
            pids = dict(zip((node.name for node in nodes), pool.map(lambda node: node.pids(), nodes), strict=True))
        told = {node.name: processes.waited_seconds(pids.get(node.name, ())) for node in self._serving()}
        return _Seen(
            at=clock.now(),
            machine=processes.machine_cpu(),
            used=processes.cpu_of_everybody() or {},
            # What runs in containers is nobody's child here.
            ours={*processes.tree(os.getpid()), *(pid for each in pids.values() for pid in each)},
            waited={name: threads for name, threads in told.items() if threads is not None},
        )


def _shares(before: _Seen, now: _Seen) -> tuple[float | None, float | None]:
    """How much of the processor time of this machine was used meanwhile, and how much by others than the harness and the setup.

    Others are processes that are seen, and still there: it is never too much. What children had used before is told of a process
    that collects them meanwhile, but that is not more than all that was used; and not of the first of all processes, who collects
    what nobody else does: an engine's containers, too.
    """
    if before.machine is None or now.machine is None or now.machine[1] <= before.machine[1]:
        return None, None
    there_was = now.machine[1] - before.machine[1]
    busy = (now.machine[0] - before.machine[0]) / there_was
    left_out = now.ours | {_FIRST}
    others = sum(
        seconds - before.used.get(process, 0.0) for process, seconds in now.used.items() if process[0] not in left_out
    )
    return round(busy, 4), round(min(busy, others / there_was), 4)
