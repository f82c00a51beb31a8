"""A small harness for the test that kills it: its nodes are containers, broken and healed for ever.

It says the name of its private folder, then what it has just done.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import workspace
from harness.platforms.docker import ContainerNode, DockerPlatform
from harness.ports import PortLeases
from harness.workspace import Workspace
from tests.docker_nodes import container_spec


def main(folder: Path) -> None:
    """Run until killed."""
    # Its private folder goes where the test can see that it is gone.
    (folder / "memory").mkdir(exist_ok=True)
    workspace._IN_MEMORY = folder / "memory"
    with (
        Workspace.create(reports=folder / "reports", name="containers-like", seed=os.getpid(), runtime=folder) as space,
        PortLeases() as leases,
    ):
        print(space.scratch.name, flush=True)
        with DockerPlatform(space) as platform:
            print("network", flush=True)
            nodes = [
                platform.add(
                    container_spec(name=f"app-{number}", port=leases.take(), address=platform.new_address()),
                    moves_to=platform.new_address(),
                )
                for number in range(1, 4)
            ]
            acts: tuple[tuple[str, Callable[[ContainerNode], object]], ...] = (
                ("start", ContainerNode.start),
                ("cut", lambda node: node.cut_off(answer="refusal")),
                ("hang", ContainerNode.hang),
                ("resume", ContainerNode.resume),
                ("relocate", ContainerNode.relocate),
                ("memory", ContainerNode.exhaust_memory),
                ("start", ContainerNode.start),
                ("kill", ContainerNode.kill),
            )
            with ThreadPoolExecutor(len(nodes)) as pool:
                while True:
                    for name, act in acts:
                        list(pool.map(act, nodes))
                        print(name, flush=True)
