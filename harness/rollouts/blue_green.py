"""Two sets of instances, of which the balancer sends to one: a rollout, and its way back, are a switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from harness.rollouts.rollouts import Drain, Gate

__all__ = ["BlueGreen", "Side", "Sides"]

Side = Literal["blue", "green"]
"""The set that was there first, and the one of the new version."""


class Sides(Protocol):
    """What a switch needs of the place it happens in. Each verb writes its own steps into the history."""

    def start(self, side: Side) -> None:
        """Start all of a set that do not run, and return at once."""

    def wait_ready(self, side: Side) -> None:
        """Return when each of a set says that it is ready."""

    def switch(self, side: Side, *, checked: bool, drain: bool) -> None:
        """The balancer sends to this set alone. `checked`: not before its own checks are good, where it has any; `drain`: return
        only when the other one has answered what it had."""

    def stop(self, side: Side) -> None:
        """Return when all of a set have ended, each after its stop signal."""

    def remove(self, side: Side) -> None:
        """End all of a set at once, as `docker rm -f` does."""


@dataclass(frozen=True)
class BlueGreen:
    """The new version is started beside the old one; when all of it is ready the balancer sends there.

    The set that was left stays, so that the way back is another switch; it is ended when the balancer has come back. Without a
    gate the switch does not wait until the other set is ready. Without a drain the set that was left is removed at once, with
    what it has, and the way back has to start it again.
    """

    drain: Drain = "balancer-first"
    gate: Gate = "ready"

    def __str__(self) -> str:
        words = ["blue-green", "removed at once" if self.drain == "none" else "drained"]
        return ", ".join([*words, "not gated"] if self.gate == "none" else words)

    def carry_out(self, sides: Sides) -> None:
        """To the new version."""
        self._to("green", sides, leaving="blue")

    def take_back(self, sides: Sides) -> None:
        """To the version of before; the new one is ended."""
        self._to("blue", sides, leaving="green")
        if self.drain != "none":
            sides.stop("green")

    def _to(self, side: Side, sides: Sides, *, leaving: Side) -> None:
        sides.start(side)
        if self.gate == "ready":
            sides.wait_ready(side)
        sides.switch(side, checked=self.gate == "ready", drain=self.drain != "none")
        if self.drain == "none":
            sides.remove(leaving)
        sides.wait_ready(side)  # over when it is there, however blindly it was done
