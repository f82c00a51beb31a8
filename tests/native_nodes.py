"""Small programs that play nodes, and looks at this machine from outside the harness, for the tests of processes."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.platforms import NodeSpec

PYTHON = (sys.executable, "-S", "-c")
ROOT = Path(__file__).resolve().parent.parent
HARNESS_PATH = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
"""What a Python that plays a harness needs in PYTHONPATH."""

SERVER = """
import os, signal, socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
print("listening on", port, flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.sendall(b"hello")
    connection.close()
"""

SERVER_WITH_CHILDREN = """
import os, signal, socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
def child(leave):
    if os.fork() == 0:
        leave()
        while True:
            signal.pause()
child(lambda: None)
child(lambda: os.setpgid(0, 0))
child(os.setsid)
def vanish():
    # As a daemon does: its parent is gone, and so are its session and its folder.
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
child(vanish)
print("listening on", port, flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.sendall(b"hello")
    connection.close()
"""


def answers(port: int, *, host: str = "127.0.0.1", within_seconds: float = 5.0) -> bool:
    """Whether one of our servers says hello there."""
    try:
        with socket.create_connection((host, port), timeout=within_seconds) as connection:
            connection.sendall(b"hello?")
            return connection.recv(100) == b"hello"
    except OSError:
        return False


def node_spec(
    *,
    port: int,
    directory: Path,
    program: str = SERVER,
    name: str = "app-1",
    arguments: tuple[str, ...] = (),
    argv: tuple[str, ...] | None = None,
    env: Mapping[str, str] | None = None,
    is_ready: Callable[[], bool] | None = None,
    ready_within_seconds: float = 20.0,
    stop_within_seconds: float = 10.0,
    refuses_root: bool = False,
) -> NodeSpec:
    """A node that runs one of the programs above on a port."""
    return NodeSpec(
        name=name,
        argv=(*PYTHON, program, str(port), *arguments) if argv is None else argv,
        env=env or {},
        directory=directory,
        port=port,
        is_ready=is_ready or (lambda: answers(port)),
        ready_within_seconds=ready_within_seconds,
        stop_within_seconds=stop_within_seconds,
        refuses_root=refuses_root,
    )


def running_with(word: str) -> set[int]:
    """The living processes with this word in their command: found without anything the harness uses for it."""
    return set(_running_with(word))


def _running_with(word: str) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # A process that has ended and was not collected yet has no command line any more.
            if word.encode() in (folder / "cmdline").read_bytes():
                yield int(folder.name)
        except OSError:
            continue
