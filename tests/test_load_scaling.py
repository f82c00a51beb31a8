"""The curve: intervals, the knee and what saturates, by tables."""

from __future__ import annotations

from math import comb
from random import Random
from statistics import median

import pytest

from harness.load.scaling import Interval, Level, Usage, find_knee, median_interval, saturation
from harness.load.seconds import Counted, Seconds, percentile_of


def level(instances: int, middle: float, *, spread: float = 0.02, failed: int = 0, **usage: object) -> Level:
    told = {"cores": 8, "machine": 0.5, **usage}
    return Level(
        instances=instances,
        names=tuple(f"app-{number}" for number in range(1, instances + 1)),
        throughput=Interval(middle, middle * (1 - spread), middle * (1 + spread), 0.95),
        windows=(middle,) * 6,
        rounds=(middle, middle),
        p50_ms=10,
        p95_ms=20,
        requests=1000,
        failed=failed,
        usage=Usage(**told),  # type: ignore[arg-type]
    )


# -- medians ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "low", "high", "confidence"),
    [
        (1, 1, 1, 0.0),
        (5, 1, 5, 0.9375),
        (6, 1, 6, 1 - 2 / 64),
        (12, 3, 10, 1 - 2 * (1 + 12 + 66) / 4096),
        (20, 6, 15, 1 - 2 * sum(comb(20, k) for k in range(6)) / 2**20),
    ],
)
def test_the_interval_is_made_of_order_statistics(count: int, low: int, high: int, confidence: float) -> None:
    """The ranks of the tables (Conover, table A3): 3 and 10 of twelve, 6 and 15 of twenty."""
    found = median_interval([float(value) for value in range(count, 0, -1)])
    assert (found.middle, found.low, found.high) == (median(range(1, count + 1)), low, high)
    assert found.confidence == pytest.approx(confidence)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """Of a thousand samples of a skewed distribution, within chance."""
    random = Random(1)
    hits = 0
    for _ in range(1000):
        found = median_interval([random.expovariate(1.0) for _ in range(12)])
        hits += found.low <= 0.6931 <= found.high
    assert 0.95 <= hits / 1000 <= 0.98


def test_nothing_has_no_median() -> None:
    """Said, not guessed."""
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


# -- the knee -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "knee", "sure", "told"),
    [
        ({1: 100, 2: 200, 3: 300}, None, True, "none up to 3 instances"),
        ({1: 100, 2: 190, 3: 200}, 2, True, "after 2 instances: one more instance adds 10%"),
        ({1: 100, 2: 101, 3: 102}, 1, True, "after 1 instance"),
        ({1: 100, 2: 60, 3: 50}, 1, True, "adds -40%"),
        ({1: 100, 2: 147}, 1, False, "a knee there is likely"),
        ({1: 100, 2: 153}, None, False, "a knee there is possible"),
        ({2: 200, 4: 390, 8: 420}, 4, True, "each of 4 more instances adds 8%"),
        ({3: 300}, None, False, "one level is no curve"),
        ({1: 0, 2: 10}, None, False, "nothing was answered well"),
    ],
)
def test_the_knee(curve: dict[int, float], knee: int | None, sure: bool, told: str) -> None:
    """The last level after which one more adds less than half of what the first carries, if that is beyond noise."""
    found = find_knee([level(count, middle) for count, middle in reversed(curve.items())])
    assert (found.instances, found.sure) == (knee, sure)
    assert told in found.sentence


def test_noise_makes_no_knee() -> None:
    """What is surely flat in quiet is not known when the intervals are wide."""
    assert find_knee([level(1, 100, spread=0.3), level(2, 120, spread=0.3)]).sure is False


# -- what saturates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "what"),
    [
        ({"generator": 0.95, "machine": 1.0}, "load-generator"),
        ({"machine": 1.0, "nodes": {"app-1": 1.0, "nginx": 0.2}, "generator_cores": 0.5}, "elsewhere"),
        ({"machine": 0.95, "nodes": {"app-1": 5.0, "nginx": 0.6}, "generator_cores": 1.5}, "machine"),
        ({"nodes": {"app-1": 0.97, "nginx": 1.0}, "generator_cores": 0.9}, "instances"),
        ({"nodes": {"app-1": 0.4, "nginx": 1.9, "redis": 0.1}, "generator_cores": 0.9}, "balancer"),
        ({"nodes": {"app-1": 0.4, "nginx": 0.2, "redis": 0.95}, "generator_cores": 0.9}, "store"),
        (
            {"nodes": {"app-1": 0.4, "nginx": 0.2, "postgres": 7.5}, "machine": 0.85, "generator_cores": 0.1},
            "nothing-seen",
        ),
        ({"machine": None, "nodes": {"app-1": 0.4}}, "nothing-seen"),
        ({"machine": None}, "nothing-seen"),
    ],
)
def test_what_saturates(usage: dict[str, object], what: str) -> None:
    """The first that holds, the generator before everything: then the curve is its own."""
    stores = ["postgres", "redis"]
    if what == "nothing-seen" and "postgres" in dict(usage.get("nodes", {})):  # type: ignore[call-overload]
        stores = ["redis"]
    found = saturation(level(1, 100, **usage), balancer="nginx", stores=stores, balancer_cores=2)
    assert found.what == what
    assert found.tells_of_the_application == (what not in ("load-generator", "elsewhere"))
    assert found.sentence


def test_failures_and_complaints_come_before_processors() -> None:
    """Beyond what is carried, throughput says little; a limit of connections is no matter of speed."""
    busy = {"machine": 1.0}
    failing = saturation(level(1, 100, failed=20, **busy), balancer="nginx", stores=[], balancer_cores=2)
    assert failing.what == "failures"
    from dataclasses import replace

    limited = replace(level(1, 100, **busy), complaints=("nginx: worker_connections are not enough (balancer)",))
    found = saturation(limited, balancer="nginx", stores=[], balancer_cores=2)
    assert found.what == "connections"
    assert "worker_connections" in found.sentence


# -- seconds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "share", "expected"),
    [({}, 0.5, None), ({5: 1}, 0.5, 5), ({1: 50, 2: 50}, 0.5, 1), ({1: 49, 2: 51}, 0.5, 2), ({1: 99, 9: 1}, 0.99, 1)],
)
def test_percentiles(milliseconds: dict[int, int], share: float, expected: int | None) -> None:
    """By nearest rank."""
    assert percentile_of(milliseconds, share) == expected


def test_seconds_of_several_processes_are_added() -> None:
    """Counts are sums; people and the busiest process are the largest."""
    one, other = Seconds(), Seconds()
    one.at(100).add(12.4, good=True)
    one.at(100).add(1234.0, good=False)
    one.at(100).busiest = 0.4
    other.at(100).add(12.0, good=True)
    other.at(101).users = 7
    one.add_plain(other.take())
    assert other.items() == []
    assert Seconds.from_plain(one.plain()).items() == [
        (100, Counted(2, 1, {12: 2, 1200: 1}, 0, 0.4)),
        (101, Counted(0, 0, {}, 7, 0.0)),
    ]
    assert [each.good for each in one.between(99, 102)] == [0, 2, 0]
