"""What one scenario works with: a cluster in its known good state, visitors, and single looks. Must not: judge."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from harness import clock
from harness.cluster import Cluster, Instance
from harness.model import History, Look
from harness.visitors import Visitors

__all__ = ["Scene"]


@dataclass(frozen=True, eq=False)
class Scene:
    """The stage of one scenario. Everything done through it is in its history."""

    name: str
    cluster: Cluster
    visitors: Visitors
    random: Random
    """Seeded by the run and the scenario: the same seed makes the same choices."""

    @property
    def history(self) -> History:
        return self.visitors.history

    def any_instance(self) -> Instance:
        """One instance of the balancer's pool, chosen by the seed."""
        return self.random.choice(self.cluster.pooled())

    def look_at_health(self) -> None:
        """Ask every instance its health path directly."""
        self.cluster.look_at_all("health", self.cluster.setup.app.health)

    def look_at_versions(self) -> None:
        """Ask every instance what it is, where the setup names a path for that."""
        if self.cluster.setup.app.version is not None:
            self.cluster.look_at_all("version", self.cluster.setup.app.version)

    def look_at_session_store(self) -> None:
        """Count the sessions that the shared store still holds, where the harness can look into it."""
        value = {"sessions": self.cluster.count_sessions()}
        self.cluster.record(Look(what="sessions-left", node="", at=clock.now(), status=None, value=value))
