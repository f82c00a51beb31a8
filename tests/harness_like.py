"""A small harness for the test that kills it: it starts nodes of the difficult kinds, and breaks and heals them for ever.

Arguments: a folder for everything, and a word that all its nodes carry in their commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import workspace
from harness.platforms.native import NativeNode, NativePlatform
from harness.ports import PortLeases
from harness.workspace import Workspace
from tests.native_nodes import SERVER_WITH_CHILDREN, node_spec

FORGETS_WHO_IT_IS = """
import os, signal, sys
# Its environment is gone, as of a server that writes over it, and it has a session of its own.
if len(sys.argv) == 3:
    if os.fork() == 0:
        os.setsid()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"], {})
while True:
    signal.pause()
"""

IGNORES_EVERYTHING = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
while True:
    signal.pause()
"""


def main(folder: Path, word: str) -> None:
    """Run until killed."""
    # Its private folder goes where the test can see that it is gone.
    workspace._IN_MEMORY = folder / "memory"
    with (
        Workspace.create(reports=folder / "reports", name="harness-like", seed=1, runtime=folder) as space,
        PortLeases() as leases,
        NativePlatform(space) as platform,
    ):
        programs = (SERVER_WITH_CHILDREN, FORGETS_WHO_IT_IS, IGNORES_EVERYTHING, SERVER_WITH_CHILDREN)
        nodes = []
        for number, program in enumerate(programs):
            place = space.scratch / f"node-{number}"
            place.mkdir()
            nodes.append(
                platform.add(
                    node_spec(
                        name=f"app-{number}",
                        port=leases.take(),
                        directory=place,
                        program=program,
                        arguments=(word,),
                        stop_within_seconds=0.01,
                    )
                )
            )
        acts: tuple[Callable[[NativeNode], object], ...] = (
            NativeNode.start,
            NativeNode.hang,
            NativeNode.resume,
            NativeNode.kill,
            NativeNode.start,
            NativeNode.stop,
        )
        with ThreadPoolExecutor(4) as pool:
            while True:
                for act in acts:
                    list(pool.map(act, nodes))
                    print(act.__name__, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
