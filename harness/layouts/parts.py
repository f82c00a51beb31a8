"""What a setup comes to on any platform: its nodes, where they are, and what stands behind each.

Must not: start or stop anything (the cluster does), or know one platform from another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.answers import netloc
from harness.certificates import make_certificates
from harness.errors import BadInput, NodeError
from harness.platforms import Hangable, Killable, Node, Orchestrator, ReplicatedSpec, Spec, Stoppable
from harness.platforms.docker import DockerPlatform
from harness.ports import PortLeases
from harness.services import Drained, Secure
from harness.services.postgres import PostgresAccess
from harness.services.redis import RedisAccess
from harness.setup import Setup
from harness.workspace import Workspace

__all__ = [
    "BalancerService",
    "Database",
    "Instance",
    "Layout",
    "Replicated",
    "RunnableNode",
    "SomebodysBalancer",
    "Store",
    "named_port",
    "secured",
    "session_counter",
]


class RunnableNode(Node, Stoppable, Killable, Hangable, Protocol):
    """A node that can be had back in its known good state, which is what a cluster needs of each."""

    def last_log_lines(self, count: int = 10) -> list[str]:
        """The last lines it wrote since its last start. They may hold secrets: redact before showing."""


class BalancerService(Protocol):
    """The balancer's verbs. Each returns when it is in force."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int:
        """With `host`: where it answers http."""

    @property
    def secure(self) -> Secure | None:
        """Where it answers https: then that is where visitors reach the application."""

    def drain(self, name: str, node: Any, *, within_seconds: float = 10.0) -> Drained:
        """Send an instance nothing new, and return when what it had is answered."""

    def enable(self, name: str, node: Any) -> None:
        """Send to an instance again."""

    def switch(
        self, names: Collection[str], node: Any, *, checked: bool = True, within_seconds: float = 10.0
    ) -> Drained:
        """Send everything to these instances from now on, and return when what the others had is answered. `checked`: not
        before its own checks of them are good, where it has any."""

    def move(self, name: str, address: tuple[str, int], node: Any) -> None:
        """Reach an instance at another address from now on."""

    def reload(self, node: Any) -> str:
        """Read its configuration again, in the way the setup names. Returns what was seen of it."""

    def reset(self, node: Any) -> None:
        """Forget every failure that was counted, with nobody drained and everybody where they were at first."""

    def statistics(self, node: Any) -> Mapping[str, Any]:
        """What it counted itself, by instance, as plain data; empty where it does not tell."""


class SomebodysBalancer:
    """A balancer that is somebody else's: it is asked, and nobody drains, switches or reloads at it."""

    def __init__(self, host: str, port: int, *, secure: Secure | None) -> None:
        self.host = host
        self.port = port
        self.secure = secure

    def drain(self, name: str, node: Any, *, within_seconds: float = 0.0) -> Drained:
        del within_seconds
        raise NodeError(f"{name} cannot be drained at {node.name}: its configuration is not ours to change")

    def enable(self, name: str, node: Any) -> None:
        """Nothing: nobody was drained."""

    def switch(
        self, names: Collection[str], node: Any, *, checked: bool = True, within_seconds: float = 10.0
    ) -> Drained:
        del checked, within_seconds
        raise NodeError(
            f"{node.name} cannot be switched to {', '.join(names)}: its configuration is not ours to change"
        )

    def move(self, name: str, address: tuple[str, int], node: Any) -> None:
        raise NodeError(
            f"{node.name} cannot be told that {name} is at {address[0]}: its configuration is not ours to change"
        )

    def reload(self, node: Any) -> str:
        raise NodeError(f"{node.name} is not ours to reload under traffic: its owner knows how that is done")

    def statistics(self, node: Any) -> Mapping[str, Any]:
        """Nothing: where it tells, if it does, is its own affair."""
        del node
        return {}


@dataclass(frozen=True, eq=False)
class Instance:
    """One node that runs the application."""

    name: str
    node: RunnableNode
    host: str
    port: int
    """With `host`: where the harness reaches it directly."""
    spec: Spec
    next_spec: Spec
    """How the new version of a rollout is run."""
    seen_as: tuple[str, ...] = ()
    """How the balancer may name it in its answers: every `address:port` it has or may be given, or a name."""
    place: Callable[[], tuple[str, int]] | None = None
    """Where it is now, in place of `host` and `port`, where that can change."""
    together: tuple[str, ...] = ()
    """The instances the platform replaces in one step with it, itself among them; empty for it alone."""
    reachable: bool = True
    """Whether it can be asked by itself, and not only through the balancer."""

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> tuple[str, int]:
        """Where the harness reaches it directly, now."""
        return self.place() if self.place is not None else (self.host, self.port)

    @property
    def address(self) -> str:
        return netloc(*self.target)


@dataclass(frozen=True, eq=False)
class Store:
    """A database or session store."""

    node: RunnableNode
    prepare: Callable[[], None] = lambda: None
    """Called before it is started."""
    after_ready: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True, eq=False, kw_only=True)
class Database(Store):
    """The database of the application, where it is the harness's own."""

    empty: Callable[[], None]
    """Leave nothing of the application in it. Only while nobody is connected."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Replicated:
    """What an orchestrator is to keep running, one version after the other."""

    orchestrator: Orchestrator
    first: ReplicatedSpec
    next: ReplicatedSpec
    bad: ReplicatedSpec | None = None
    """One that never becomes healthy; None where the setup names none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """Every node of a setup with its place, port, secrets and spec; nothing is started."""

    platform: str
    instances: tuple[Instance, ...]
    """Those that can be reached one by one; none where an orchestrator keeps them."""
    standby: tuple[Instance, ...] = ()
    """A second set, one for each instance, of the new version: for a rollout that switches from one set to the other."""
    replicated: Replicated | None = None
    """The instances, where not the harness itself keeps them running."""
    migration: RunnableNode | None = None
    """What is run once before the first instance is started; None: nothing."""
    next_migration: RunnableNode | None = None
    """What is run once before a rollout; None: nothing."""
    balancer: BalancerService
    balancer_node: RunnableNode
    prepare_balancer: Callable[[], None] = lambda: None
    """Called before it is started."""
    stores: tuple[Store, ...] = ()
    database: Database | None = None
    """The one of the stores that is the database; None where it is not the harness's to stop or to empty."""
    count_sessions: Callable[[], int | None]
    """How many sessions the shared store holds; None where the harness cannot tell."""
    beside: DockerPlatform | None = None
    """Where more containers can be put, on the same network; None where the setup has no network of its own."""
    secrets: tuple[str, ...] = ()
    """Every secret of this run, to be kept out of whatever is written."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What checkers must know of the platform beside the setup."""
    balancer_log: Callable[[], Iterable[str]] | None = None
    """The last lines of the balancer's log, where it is somebody else's and can be read."""
    borrowed: bool = False
    """Whether all of it is somebody else's and runs already: then it is left as it was found, and never stopped."""
    whos: Callable[[], Mapping[str, str]] = dict
    """The instance behind each address and name now, where these can change while it runs."""
    balancer_waits: bool = False
    """Whether the balancer can only be started when every instance is there, because it looks their names up once."""

    @property
    def entrance(self) -> tuple[str, int]:
        """Host and port of the balancer where visitors reach the application."""
        secure = self.balancer.secure
        return self.balancer.host, self.balancer.port if secure is None else secure.port


def named_port(ports: PortLeases, port: int | None, *, key: str = "balancer.port") -> int:
    """The port the setup names for its balancer, or any free one. Raises BadInput when it is taken."""
    if port is None:
        return ports.take()
    try:
        return ports.take_exact(port)
    except BadInput as problem:
        raise BadInput(f"{key} is {port}: {problem}") from None


def secured(setup: Setup, *, workspace: Workspace, ports: PortLeases) -> Secure | None:
    """Where the balancer answers https, with certificates of this run alone; None without TLS. Raises BadInput."""
    tls = setup.balancer.tls
    if tls is None:
        return None
    port = named_port(ports, tls.port, key="balancer.tls.port")
    # By its own name it is known to what stands beside it on a network of containers.
    made = make_certificates(workspace.scratch / "tls", "127.0.0.1", "localhost", setup.balancer.kind)
    return Secure(port=port, authority=made.authority, certificate=made.balancer)


def session_counter(
    setup: Setup, *, postgres: PostgresAccess | None, redis: RedisAccess | None
) -> Callable[[], int | None]:
    """What counts the sessions in the store the setup names; it answers None where the harness cannot tell."""

    def count() -> int | None:
        if setup.sessions.store == "redis" and redis is not None:
            return redis.key_count()
        if setup.sessions.store == "postgres" and postgres is not None:
            # Where they lie is the application's own affair; many use the table of the founding guide.
            with suppress(NodeError):
                return postgres.row_count("sessions")
        return None

    return count
