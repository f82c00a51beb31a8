"""What one scenario works with: a cluster in its known good state, visitors, and single looks. Must not: judge."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random

from harness import clock
from harness.checkers import bounds
from harness.cluster import Cluster
from harness.edge import Edge
from harness.errors import HarnessError
from harness.layouts import Instance
from harness.model import History, Look
from harness.replicas import Replicas
from harness.session_life import SessionLife
from harness.shared import Shared
from harness.stopping import Stopping
from harness.trouble import listening_for_trouble
from harness.versions import Versions
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

    @property
    def replicas(self) -> Replicas:
        """The instances that an orchestrator keeps: for scenarios that need one."""
        replicas = self.cluster.replicas
        if replicas is None:
            raise HarnessError(f"{self.name} is about replicas, and this platform has no orchestrator to keep any")
        self.cluster.tampered = True
        return replicas

    @property
    def edge(self) -> Edge:
        """The balancer as it is seen from outside: for scenarios that need TLS."""
        return Edge(self.cluster)

    @property
    def shared(self) -> Shared:
        """What the instances keep together, used through each of them."""
        return Shared(cluster=self.cluster, visitors=self.visitors, random=self.random)

    @property
    def sessions(self) -> SessionLife:
        """What people do with their sessions in single trials."""
        return SessionLife(cluster=self.cluster, visitors=self.visitors, random=self.random)

    @property
    def stopping(self) -> Stopping:
        """Instances that are watched while they are told to stop."""
        return Stopping(cluster=self.cluster, visitors=self.visitors, random=self.random)

    @property
    def versions(self) -> Versions:
        """The old version and the new one beside each other."""
        return Versions(cluster=self.cluster, visitors=self.visitors, random=self.random)

    def listening_for_trouble(self) -> AbstractContextManager[None]:
        """What instances write in the block is held against app.trouble."""
        return listening_for_trouble(self.cluster)

    @property
    def balancer_away_seconds(self) -> float:
        """How long a balancer that died is away, as the setup says (balancer.restart); but no longer than a verdict needs."""
        balancer = self.cluster.setup.balancer
        longest = bounds.BALANCER_SECONDS + 1.0
        return longest if balancer.restart == "none" else min(balancer.restart_delay_seconds, longest)

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
