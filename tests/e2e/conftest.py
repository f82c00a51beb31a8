"""The harness as a person meets it: the command line, real servers, and what is left behind. Slow; run apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from end_to_end import Harness, folders_left, nodes_running


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


@pytest.fixture
def nothing_left(harness: Harness) -> Iterator[Callable[[], None]]:
    """Checks, when called and at the end, that no process and no folder of a run is left."""

    def check() -> None:
        assert nodes_running() == {}
        assert folders_left() == []

    check()
    yield check
    check()
