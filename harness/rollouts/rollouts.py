"""Rolling, and all at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["AllAtOnce", "Drain", "Rolling", "Rollout", "Site", "rollout_for"]

Drain = Literal["balancer-first", "on-unready", "none"]


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
    """

    drain: Drain = "balancer-first"

    def __str__(self) -> str:
        return f"rolling, drained {self.drain}" if self.drain != "none" else "rolling, not drained"

    def carry_out(self, site: Site) -> None:
        for name in site.names():
            if self.drain == "balancer-first":
                site.drain(name)
            elif self.drain == "on-unready":
                site.tell_to_stop(name)
                site.wait_unready(name)
                site.drain(name)
            site.stop(name)
            site.start_new(name)
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


def rollout_for(kind: Literal["rolling", "all-at-once"], drain: Drain) -> Rollout:
    """The rollout a setup asks for."""
    return AllAtOnce() if kind == "all-at-once" else Rolling(drain)
