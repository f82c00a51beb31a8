"""How busy everything is while load runs: the nodes, the machine, the load generator.

Looked at once a second, beside the run. Must not: judge, or fail a run because something cannot be seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

from harness import clock, processes
from harness.errors import NodeError
from harness.load.scaling import Usage
from harness.load.seconds import Seconds

__all__ = ["Sampler"]

_EVERY_SECONDS = 1.0
Look = Callable[[], float | None]
"""The processor time something has used so far, in seconds; None where that cannot be seen."""


class _Sample(NamedTuple):
    at: float
    """Seconds since the epoch, as the counts of the load are."""
    used: Mapping[str, tuple[float, float]]
    """When each was looked at, and what it had used: an engine takes a second to say so."""
    machine: tuple[float, float] | None


class Sampler:
    """Looks at everything once a second, until it is left."""

    def __init__(self, nodes: Mapping[str, Look], *, generator: Mapping[str, Look]) -> None:
        """`generator`: its parts; nothing where not all of them can be seen."""
        self._looks = {**nodes, **generator}
        self._generator = tuple(generator)
        self._samples: list[_Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with ThreadPoolExecutor(max(1, len(self._looks)), "usage") as pool:
            while True:
                self._samples.append(self._sample(pool))
                if self._over.wait(_EVERY_SECONDS):
                    return

    def _sample(self, pool: ThreadPoolExecutor) -> _Sample:
        at, machine = clock.wall().timestamp(), processes.machine_cpu()
        found = zip(self._looks, pool.map(_looked, self._looks.values()), strict=True)
        return _Sample(at, {name: seen for name, seen in found if seen is not None}, machine)

    def between(self, begin: float, end: float, *, seconds: Seconds) -> Usage:
        """What was used from one moment to another; both in seconds since the epoch.

        `seconds`: what the load generator told of itself in that time.
        """
        # From the last look before to the first one after: an engine is slow to tell, and a time may be short.
        before = [sample for sample in self._samples if sample.at <= begin][-1:]
        after = [sample for sample in self._samples if sample.at >= end][:1]
        inside = [*before, *(sample for sample in self._samples if begin < sample.at < end), *after]
        busiest = sorted(counted.busiest for counted in seconds.between(int(begin), int(end)))
        # The median: a second in which people were made to log in is not the rule.
        generator = busiest[len(busiest) // 2] if busiest else 0.0
        cores = os.cpu_count() or 1
        if len(inside) < 2:
            return Usage(cores=cores, generator=generator)
        first, last = inside[0], inside[-1]
        used = {
            name: max(0.0, last.used[name][1] - seen[1]) / max(last.used[name][0] - seen[0], 1e-9)
            for name, seen in first.used.items()
            if name in last.used
        }
        machine = None
        if first.machine is not None and last.machine is not None and last.machine[1] > first.machine[1]:
            machine = (last.machine[0] - first.machine[0]) / (last.machine[1] - first.machine[1])
        parts = [used.pop(name) for name in self._generator if name in used]
        whole = bool(parts) and len(parts) == len(self._generator)
        return Usage(
            cores=cores,
            machine=machine,
            nodes=used,
            generator=generator,
            generator_cores=sum(parts) if whole else None,
        )


def _looked(look: Look) -> tuple[float, float] | None:
    try:
        seconds = look()
    except NodeError:  # it ended in this moment, or the engine is too busy to say
        return None
    return None if seconds is None else (clock.wall().timestamp(), seconds)
