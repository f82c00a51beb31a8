"""From what was counted at 1, 2, 3 … instances to a curve, its knee and what saturates. Pure: advice, never a verdict.

**Throughput** is the number of good answers per second, in windows of a few seconds; of each level the median of its
windows, which one hiccup cannot move, with the distribution-free interval of order statistics (Conover, Practical
Nonparametric Statistics, 3rd ed., 3.2). Windows follow each other and so are not quite independent: the interval is
somewhat too narrow, which is why levels are visited twice, in opposite order.

**The knee** is the last level after which one more instance adds less than half of what the first carries by itself.
The half is a choice, in the spirit of the marginal gain of the Universal Scalability Law (Gunther, Guerrilla Capacity
Planning, 2007, ch. 4 to 6); the law itself has three parameters, and three levels cannot contradict it.

Must not: measure, or know how load is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from statistics import median

__all__ = ["Interval", "Knee", "Level", "Saturation", "Usage", "find_knee", "median_interval", "saturation"]

ENOUGH = 0.5
"""Of what the first instance carries, each further one must add this much, or the curve has its knee before it."""
FULL = 0.9
"""A processor that is busy for this share of the time counts as saturated: scheduling takes the rest."""
ELSEWHERE = 0.25
"""When more than this share of the machine is used by somebody else, what was measured is not the setup's."""
FAILING = 0.01
"""Above this share of failures, throughput is no longer limited by speed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the interval that holds the true one with this confidence."""

    middle: float
    low: float
    high: float
    confidence: float
    """From 0 to 1. What so few values can give at most, where that is less than was asked for."""


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The median of some values, and its distribution-free confidence interval: the k-th lowest and highest value, for
    the largest k with P(Binomial(n, 1/2) < k) <= (1 - confidence) / 2.

    Of fewer than six values not even the extremes reach 95 %; `confidence` then says what they do reach.
    Raises ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, no median")
    ordered, count = sorted(values), len(values)

    def tail(below: int) -> float:
        return float(sum(comb(count, each) for each in range(below)) / 2**count)

    rank = max([1, *(k for k in range(1, count // 2 + 1) if tail(k) <= (1 - confidence) / 2)])
    return Interval(float(median(ordered)), ordered[rank - 1], ordered[count - rank], 1 - 2 * tail(rank))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How busy everything was. Cores are what `cores` of the machine are counted in: 0.5 is half of one."""

    cores: int
    """Of the machine."""
    machine: float | None = None
    """The share of all its cores that was busy, from 0 to 1; None where that cannot be seen."""
    nodes: Mapping[str, float] = field(default_factory=dict)
    """Cores used by each node that can be seen."""
    generator: float = 0.0
    """The share of one core that the busiest process of the load generator used."""
    generator_cores: float | None = None
    """What all of it used together; None where that cannot be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What was measured with so many instances."""

    instances: int
    names: tuple[str, ...]
    """Of those that served."""
    throughput: Interval
    """Good answers per second."""
    windows: tuple[float, ...]
    """Good answers per second in each window, in the order of time."""
    rounds: tuple[float, ...]
    """The median of each visit to this level: they should agree."""
    p50_ms: int | None
    p95_ms: int | None
    requests: int
    failed: int
    usage: Usage
    complaints: tuple[str, ...] = ()
    """Limits of connections that nodes wrote into their logs."""

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Knee:
    """Where the curve bends."""

    instances: int | None
    """More than these pay no more; None: no knee was seen, or it cannot be told."""
    sure: bool
    sentence: str


def find_knee(levels: Sequence[Level]) -> Knee:
    """The knee of a curve, by the rule of this module. Levels in any order."""
    ordered = sorted(levels, key=lambda level: level.instances)
    if len(ordered) < 2:
        return Knee(None, sure=False, sentence="one level is no curve: name two or more numbers of instances")
    first = ordered[0].throughput
    each_carries = first.middle / ordered[0].instances
    if each_carries <= 0:
        return Knee(None, sure=False, sentence="nothing was answered well at the lowest level")
    unsure: Knee | None = None
    for lower, upper in pairwise(ordered):
        more = upper.instances - lower.instances
        gain = (upper.throughput.middle - lower.throughput.middle) / more / each_carries
        least = (upper.throughput.low - lower.throughput.high) / more / each_carries
        most = (upper.throughput.high - lower.throughput.low) / more / each_carries
        what = "one more instance" if more == 1 else f"each of {more} more instances"
        told = f"{what} adds {gain:.0%} ({least:.0%} to {most:.0%}) of what one carries"
        if most < ENOUGH:
            return Knee(lower.instances, sure=True, sentence=f"after {_instances(lower.instances)}: {told}")
        if least < ENOUGH and unsure is None:
            after = "a knee there is possible" if gain >= ENOUGH else "a knee there is likely"
            unsure = Knee(
                lower.instances if gain < ENOUGH else None,
                sure=False,
                sentence=f"after {_instances(lower.instances)} {told}: {after}, measure longer (--run-time) to be sure",
            )
    if unsure is not None:
        return unsure
    top = ordered[-1].instances
    return Knee(
        None, sure=True, sentence=f"none up to {_instances(top)}: each adds more than {ENOUGH:.0%} of the first"
    )


@dataclass(frozen=True, slots=True)
class Saturation:
    """What is at its limit."""

    what: str
    """`load-generator`, `elsewhere`, `failures`, `connections`, `machine`, `balancer`, `store`, `instances`,
    `nothing-seen`."""
    sentence: str

    @property
    def tells_of_the_application(self) -> bool:
        """Whether the throughput is the application's, and not that of who asks, or of who else is on the machine."""
        return self.what not in ("load-generator", "elsewhere")


def saturation(level: Level, *, balancer: str, stores: Iterable[str], balancer_cores: float) -> Saturation:
    """What saturates at one level, the first that holds of: the generator, other programs of the machine, failures,
    limits of connections, the machine as a whole, the instances, the balancer, a store.

    Args:
        balancer: the name of its node.
        stores: the names of databases and session stores.
        balancer_cores: how many cores it can use, one for each of its workers.
    """
    usage = level.usage
    if usage.generator >= FULL:
        return Saturation(
            "load-generator",
            f"the load generator: its busiest process used {usage.generator:.0%} of a core. The curve says nothing about "
            "the application; give it more processes (--workers), on other machines",
        )
    others = _others(usage)
    if others is not None and others > ELSEWHERE * usage.cores:
        return Saturation(
            "elsewhere",
            f"other programs on this machine: they used {others:.1f} of {usage.cores} cores. The curve says nothing about the "
            "application; measure on a machine that has nothing else to do",
        )
    if level.failed_share > FAILING:
        return Saturation(
            "failures",
            f"{level.failed_share:.1%} of {level.requests:,} requests failed: this is beyond what is carried, or broken",
        )
    if level.complaints:
        return Saturation("connections", f"a limit of connections: {'; '.join(level.complaints)}")
    # A process of an instance seldom uses more than a core; whoever has several is found by the machine.
    serving = [usage.nodes[name] for name in level.names if name in usage.nodes]
    apart = _apart(level, usage)
    if usage.machine is not None and usage.machine >= FULL:
        return Saturation("machine", f"the CPU of this machine: {usage.machine:.0%} of {usage.cores} cores busy{apart}")
    if serving and min(serving) >= FULL:
        return Saturation(
            "instances", f"the CPU of the instances: each used {min(serving):.2f} of a core or more{apart}"
        )
    if usage.nodes.get(balancer, 0.0) >= FULL * balancer_cores:
        return Saturation("balancer", f"the CPU of the balancer: {balancer} used {usage.nodes[balancer]:.2f} cores")
    for store in stores:
        # Redis does its work in one thread; Postgres in as many processes as there are cores.
        limit = 1.0 if store == "redis" else float(usage.cores)
        if usage.nodes.get(store, 0.0) >= FULL * limit:
            return Saturation("store", f"the CPU of {store}: {usage.nodes[store]:.2f} cores")
    return Saturation(
        "nothing-seen",
        f"no processor that was looked at{apart}: requests wait for something else (a lock, a pool of connections, the "
        "disk, the network), or more people (--users) would get more",
    )


def _others(usage: Usage) -> float | None:
    """Cores that neither the setup nor the load generator used; None where not all of it could be seen."""
    if usage.machine is None or usage.generator_cores is None or not usage.nodes:
        return None
    return usage.machine * usage.cores - sum(usage.nodes.values()) - usage.generator_cores


def _apart(level: Level, usage: Usage) -> str:
    serving = sum(usage.nodes.get(name, 0.0) for name in level.names)
    parts = [f"instances {serving:.2f}"] if any(name in usage.nodes for name in level.names) else []
    parts += [
        f"{name} {used:.2f}" for name, used in usage.nodes.items() if not name.startswith("app-") and used >= 0.005
    ]
    if usage.generator_cores is not None:
        parts.append(f"load generator {usage.generator_cores:.2f}")
    return f" (cores: {', '.join(parts)})" if parts else ""


def _instances(count: int) -> str:
    return f"{count} instance{'s' if count != 1 else ''}"
