"""Which nodes a setup comes to on each platform, one module per platform.

Must not: start anything, or judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Protocol

from harness.layouts import compose, docker, native, remote, swarm
from harness.layouts.choice import ABILITIES, Choice, choose, missing, undeclared
from harness.layouts.compose import adapt
from harness.layouts.parts import BalancerService, Database, Instance, Layout, Replicated, RunnableNode, Store
from harness.layouts.remote import adopt
from harness.ports import PortLeases
from harness.setup import Environment, Setup
from harness.workspace import Workspace

__all__ = [
    "ABILITIES",
    "BalancerService",
    "Choice",
    "Database",
    "Instance",
    "Layout",
    "Replicated",
    "RunnableNode",
    "Store",
    "adapt",
    "adopt",
    "choose",
    "lay_out",
    "missing",
    "undeclared",
]


class _LayOut(Protocol):
    def __call__(
        self,
        setup: Setup,
        *,
        workspace: Workspace,
        environment: Environment,
        ports: PortLeases,
        stack: ExitStack,
        say: Callable[[str], None],
    ) -> Layout: ...


_PLATFORMS: Mapping[str, _LayOut] = {
    "compose": compose.lay_out,
    "docker": docker.lay_out,
    "native": native.lay_out,
    "remote": remote.lay_out,
    "swarm": swarm.lay_out,
}


def lay_out(
    setup: Setup,
    *,
    platform: str,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """Every node of the setup on this platform.

    What must be undone at the end is put on the stack; `say` is told what takes long, such as an image that is pulled.

    Raises:
        BadInput: the setup cannot be run there.
    """
    chosen = _PLATFORMS[platform]
    return chosen(setup, workspace=workspace, environment=environment, ports=ports, stack=stack, say=say)
