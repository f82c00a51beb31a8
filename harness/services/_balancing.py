"""What every balancer's service has in common.

Must not: know one balancer from another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from harness.errors import BadInput
from harness.platforms.node import Node, Stoppable
from harness.setup import Balancer

__all__ = [
    "CLIENT_HEADER",
    "DOCKER_DNS",
    "NO_HEADERS",
    "NO_STANDBY",
    "READY_NAME",
    "Drained",
    "Secure",
    "must_know",
    "pool_of",
    "restarted",
]

READY_NAME = "ready.harness.invalid"
"""A host name nobody can own (RFC 2606): asked for it, the balancer answers itself."""

DOCKER_DNS = "127.0.0.11"
"""Docker's own name server, at the same address in every container of a network."""


NO_STANDBY: Mapping[str, tuple[str, int]] = MappingProxyType({})
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""Nobody waits to be switched to."""

CLIENT_HEADER = "X-Harness-Client"
"""The address a request came from, as the balancer sees it: what an application behind it can know at best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secure:
    """Where a balancer answers https, and who vouches for it."""

    port: int
    authority: Path
    """The certificate a client has to trust."""
    certificate: Path
    """The balancer's own, with its key; of a balancer that is not the harness's any that is of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What was reached when a drain returned."""

    old_workers_gone: bool
    """True: nothing that began before the drain is in flight. False: an old worker still serves a connection."""
    seconds: float
    """How long the drain took."""


def pool_of(settings: Balancer, upstreams: Mapping[str, tuple[str, int]]) -> Mapping[str, tuple[str, int]]:
    """The instances that are sent requests. Raises BadInput when there is none, or one of another setup."""
    names = tuple(upstreams) if settings.pool is None else settings.pool
    strangers = [name for name in names if name not in upstreams]
    if strangers or not names:
        raise BadInput(
            f"balancer.pool must name instances of the setup (got {', '.join(names) or 'none'}): "
            f"known are {', '.join(upstreams)}"
        )
    return {name: upstreams[name] for name in names}


def must_know(name: str, known: Collection[str]) -> None:
    """Raise ValueError for an instance that is none: a mistake of the caller."""
    if name not in known:
        raise ValueError(f"{name} is no instance of this setup (known: {', '.join(known)})")


class _Restartable(Node, Stoppable, Protocol):
    """A node that is stopped and started."""


def restarted(node: _Restartable) -> str:
    """Stop a balancer and start it again. Returns when it answers, with what was seen of it.

    Raises NodeNeverReady when it does not come back.
    """
    code = node.stop()
    node.start()
    node.wait_ready()
    return f"it ended with exit code {code}, and was started anew"
