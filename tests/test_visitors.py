"""How many slow requests there are: never more than the instances of a setup can work on beside everything else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.model import History
from harness.traffic import Stream
from harness.visitors import Visitors


def slow_streams(*, at_once: int | None, instances: int) -> list[Stream]:
    """What is sent while people browse, and to one instance directly, each asking for ten a second that take one second."""
    begun: list[Stream] = []
    traffic: Any = SimpleNamespace(start_stream=begun.append, stop_stream=lambda _: None)
    names = tuple(f"app-{number + 1}" for number in range(instances))
    cluster: Any = SimpleNamespace(
        setup=SimpleNamespace(
            app=SimpleNamespace(slow="/slow?seconds={seconds}"),
            journey={"whoami": None},
            traffic=SimpleNamespace(rate=100),
        ),
        pool=names,
        works_on_at_once=lambda: at_once,
        most_per_second=None,
    )
    visitors = Visitors(cluster=cluster, traffic=traffic, read=lambda: History.__new__(History))
    with visitors.browsing(slow_per_second=10), visitors.slow_requests_at(SimpleNamespace(name="app-1"), per_second=10):  # type: ignore[arg-type]
        pass
    return [stream for stream in begun if stream.name == "slow"]


@pytest.mark.parametrize(
    ("at_once", "instances", "rates"),
    [
        (None, 3, (10, 10)),
        (100, 3, (10, 10)),
        (6, 3, (8, 4)),
        (1, 2, (2 / 3, 2 / 3)),
    ],
    ids=["unknown", "plenty", "a few threads", "one"],
)
def test_slow_requests_leave_room(at_once: int | None, instances: int, rates: tuple[float, float]) -> None:
    """Two thirds of what can be worked on, with one instance away: who fills up a server learns nothing of its setup."""
    assert [stream.rate for stream in slow_streams(at_once=at_once, instances=instances)] == pytest.approx(rates)
