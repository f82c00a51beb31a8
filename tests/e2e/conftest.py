"""The harness as a person meets it: the command line, real servers, and what is left behind. Slow; run apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from end_to_end import Harness, folders_left, nodes_running

from harness.engine import address, connect
from harness.errors import BadInput
from harness.images import BUILT, OFFICIAL
from harness.setup import read_environment

_ON_THE_ENGINE = (
    "test_compose.py",
    "test_docker_nodes.py",
    "test_docker_runs.py",
    "test_images.py",
    "test_swarm.py",
    "test_systemd.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the engine. One such run is not to meet another: it removes what dead ones left, and a swarm is one."""
    for item in items:
        if item.path.name in _ON_THE_ENGINE or "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)


@pytest.fixture
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path, on_engine=request.node.get_closest_marker("engine") is not None)
    yield made
    made.end()


@pytest.fixture
def nothing_left(harness: Harness) -> Iterator[Callable[[], None]]:
    """Checks, when called and at the end, that no process and no folder of a run is left since it began."""
    nodes_before, folders_before = nodes_running(()), folders_left(())

    def check() -> None:
        assert {pid: words for pid, words in nodes_running(harness.pids).items() if pid not in nodes_before} == {}
        assert [folder for folder in folders_left(harness.pids) if folder not in folders_before] == []

    yield check
    check()


@dataclass(frozen=True)
class Engine:
    """A container engine, for looks that the harness has no part in."""

    client: Any
    environment: Mapping[str, str]
    """With which a run finds images that are there."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine of this machine. Skips where there is none, or has no images to run a setup on."""
    try:
        client = connect(address(read_environment()))
    except BadInput as problem:
        pytest.skip(f"this needs a container engine: {problem}")
    with closing(client):
        tags = {tag for image in client.images.list() for tag in image.tags}
        kinds = ("postgres", "redis", "nginx")
        if {OFFICIAL[kind] for kind in kinds} <= tags:
            source = "official"
        elif {BUILT[kind].tag for kind in kinds} <= tags:
            source = "built"
        else:
            pytest.skip("this needs images of Postgres, Redis and nginx: run `harness images build`")
        yield Engine(client, {"HARNESS_IMAGES": source})
