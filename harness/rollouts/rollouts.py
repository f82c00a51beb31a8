"""Rolling, and all at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["AllAtOnce", "Drain", "Gate", "Rolling", "Rollout", "Site", "rollout_for"]

Drain = Literal["balancer-first", "on-unready", "none"]
Gate = Literal["ready", "none"]


class Site(Protocol):
    """What a rollout needs of the place it happens in. Each verb writes its own step into the history."""

    def names(self) -> Sequence[str]:
        """The instances, in order."""

    def drain(self, name: str) -> None:
        """The balancer sends it nothing new, and what it was sent is finished."""

    def tell_to_stop(self, name: str) -> None:
        """Send the stop signal and return at once."""

    def wait_unready(self, name: str) -> None:
        """Return when its ready path says no, or it is gone."""

    def stop(self, name: str) -> None:
        """Return when it has ended. It is sent the stop signal unless it was told before, and killed when it does not end."""

    def start_new(self, name: str) -> None:
        """Start it in the new version and return when it says that it is ready."""

    def replace(self, name: str) -> None:
        """Stop it and start it in the new version, in one step where the platform does that. Return at once then."""

    def wait_ready(self, name: str) -> None:
        """Return when it says that it is ready."""

    def pause(self, name: str, seconds: float) -> None:
        """Let so much time pass. That it becomes ready meanwhile is written down."""

    def enable(self, name: str) -> None:
        """The balancer sends to it again."""


class Rollout(Protocol):
    def carry_out(self, site: Site) -> None: ...


@dataclass(frozen=True)
class Rolling:
    """One instance at a time, the next only when the last says that it is ready.

    `balancer-first`: the balancer stops sending to it, then it is told to stop. `on-unready`: it is told to stop,
    and the balancer follows when its ready path says no, as an orchestrator does. `none`: it is simply stopped
    and the balancer has to find out by itself, as in the founding guide.

    `batch`: so many at a time instead, each for itself.

    Before the next instance `pause_seconds` pass, as in a script with a sleep. Without a gate that is all that is waited
    for: whether the last one is ready is not asked.
    """

    drain: Drain = "balancer-first"
    gate: Gate = "ready"
    pause_seconds: float = 0.0
    batch: int = 1

    def __str__(self) -> str:
        words = ["rolling"]
        if self.batch > 1:
            words.append(f"{self.batch} at a time")
        words.append(f"drained {self.drain}" if self.drain != "none" else "not drained")
        if self.gate == "none":
            words.append("not gated")
        if self.pause_seconds:
            words.append(f"{self.pause_seconds:g} s between two")
        return ", ".join(words)

    def carry_out(self, site: Site) -> None:
        names = site.names()
        for first in range(0, len(names), self.batch):
            together = names[first : first + self.batch]
            with ThreadPoolExecutor(len(together), "rollout") as pool:
                list(pool.map(lambda name: self._replace(name, site), together))
            if self.pause_seconds and together[-1] != names[-1]:
                site.pause(together[-1], self.pause_seconds)
        for name in names:
            site.wait_ready(name)  # a rollout is over when the new version is everywhere, however blindly it was done

    def _replace(self, name: str, site: Site) -> None:
        if self.drain == "balancer-first":
            site.drain(name)
        elif self.drain == "on-unready":
            site.tell_to_stop(name)
            site.wait_unready(name)
            site.drain(name)
        site.replace(name)
        if self.gate == "ready":
            site.wait_ready(name)
        if self.drain != "none":
            site.enable(name)


@dataclass(frozen=True)
class AllAtOnce:
    """Every instance is stopped, then every instance is started in the new version."""

    def __str__(self) -> str:
        return "all at once"

    def carry_out(self, site: Site) -> None:
        names = site.names()
        with ThreadPoolExecutor(len(names), "rollout") as pool:
            list(pool.map(site.stop, names))
            list(pool.map(site.start_new, names))


def rollout_for(
    kind: Literal["rolling", "all-at-once"],
    drain: Drain,
    *,
    gate: Gate = "ready",
    pause_seconds: float = 0.0,
    batch: int = 1,
) -> Rollout:
    """The rollout a setup asks for."""
    return AllAtOnce() if kind == "all-at-once" else Rolling(drain, gate, pause_seconds, batch)
