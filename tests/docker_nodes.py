"""Small programs that play nodes in containers, and looks at the engine from outside the harness, for tests of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness import engine, images
from harness.errors import BadInput
from harness.platforms import ContainerSpec
from tests.native_nodes import answers

IMAGE = images.BUILT["python"].tag
INSIDE = 8000

SERVER = """
import os, signal, socket, sys
def stop(*_):
    print("told to stop", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
listener = socket.create_server(("0.0.0.0", 8000))
print("listening", *sys.argv[1:], flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.sendall(b"hello")
    connection.close()
"""


def engine_or_skip() -> Any:
    """The engine's own interface, for looks that the harness has no part in. Skips where there is nothing to look at."""
    try:
        client = engine.connect()
    except BadInput as problem:
        pytest.skip(f"these tests need a container engine: {problem}")
    if not any(IMAGE in each.tags for each in client.images.list()):
        client.close()
        pytest.skip(f"these tests need the image {IMAGE}: run `harness images build`")
    return client


def left_of(client: Any, label: str) -> dict[str, list[str]]:
    """What carries this label, by kind: found without anything the harness uses for it."""
    wanted = {"label": label}
    return {
        kind: names
        for kind, names in {
            "containers": [each.name for each in client.containers.list(all=True, filters=wanted, ignore_removed=True)],
            "networks": [each.name for each in client.networks.list(filters=wanted)],
            "volumes": [each.name for each in client.volumes.list(filters=wanted)],
        }.items()
        if names
    }


def container_spec(
    *,
    port: int,
    name: str = "app-1",
    program: str = SERVER,
    arguments: tuple[str, ...] = (),
    command: tuple[str, ...] | None = None,
    env: Mapping[str, str] | None = None,
    is_ready: Callable[[], bool] | None = None,
    ready_within_seconds: float = 20.0,
    **more: Any,
) -> ContainerSpec:
    """A container that runs one of the programs above, published on a port."""
    return ContainerSpec(
        name=name,
        command=("python3", "-c", program, *arguments) if command is None else command,
        env=env or {},
        port=port,
        is_ready=is_ready or (lambda: answers(port)),
        ready_within_seconds=ready_within_seconds,
        **({"image": IMAGE, "container_port": INSIDE} | more),
    )
