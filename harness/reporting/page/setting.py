"""The setup as a small picture: who asks whom, and where it hurt. Must not: judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.model import UNNAMED, Operation, Outcome
from harness.reporting.run import RunResult
from harness.reporting.text import cut, one_line

__all__ = ["BALANCER", "Box", "Drawing", "draw_setup", "trouble_by_node"]

BALANCER = "(balancer)"
"""Stands for the balancer where trouble is counted: a request that no instance is known to have had."""

_ROW = 44
_BOX_WIDTH, _BOX_HEIGHT = 128, 36
_COLUMNS = (0, 100, 270, 440)
_SHOWN = 6
_STORES = ("postgres", "redis", "valkey", "sql", "db", "database", "cache", "maria")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    x: int
    y: int
    width: int
    height: int
    name: str
    told: str
    is_bad: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    width: int
    height: int
    boxes: Sequence[Box]
    lines: Sequence[tuple[int, int, int, int]]
    words: str
    """The same for who cannot see it."""


def trouble_by_node(operations: Sequence[Operation]) -> Counter[tuple[str, str]]:
    """How many requests went wrong at whom, and how: {(node or BALANCER, error): count}."""
    counted: Counter[tuple[str, str]] = Counter()
    for op in operations:
        if op.outcome is not Outcome.OK:
            named = [name for name in op.attempts if name != UNNAMED]
            node = op.instance or (named[-1] if named else op.via if op.via != "balancer" else BALANCER)
            counted[node, op.error or op.outcome.value] += 1
    return counted


def draw_setup(result: RunResult, *, instances: Sequence[str], trouble: Mapping[tuple[str, str], int]) -> Drawing:
    """Visitors, the balancer, the instances, what they keep things in. `trouble`: of the promises that failed."""
    by_node: dict[str, Counter[str]] = {}
    for (node, error), count in trouble.items():
        by_node.setdefault(node, Counter())[error] += count
    hurt = [name for name in instances if name in by_node]
    shown = [name for name in instances if name in {*hurt[:_SHOWN], *instances[: max(0, _SHOWN - len(hurt))]}]
    rest = len(instances) - len(shown)
    stores = [name for name in result.node_seconds if name not in instances and any(part in name for part in _STORES)]
    rows = len(shown) + (rest > 0)
    height = max(rows, len(stores), 1) * _ROW
    balancer, _, algorithm = result.balancer.partition(" ")

    def box(column: int, place: float, name: str, told: str, *, bad: bool = False, width: int = _BOX_WIDTH) -> Box:
        return Box(
            x=_COLUMNS[column],
            y=round(place * _ROW + (_ROW - _BOX_HEIGHT) / 2),
            width=width,
            height=_BOX_HEIGHT,
            name=cut(one_line(name), 17),
            told=cut(one_line(told), 22),
            is_bad=bad,
        )

    middle = (height / _ROW - 1) / 2
    people = box(0, middle, "visitors", "", width=76)
    front = box(1, middle, balancer, _told(by_node.get(BALANCER), algorithm), bad=BALANCER in by_node)
    top = (height / _ROW - rows) / 2
    inside = "sessions inside" if result.sessions == "memory" else ""
    nodes = [
        box(2, top + place, name, _told(by_node.get(name), inside), bad=name in by_node)
        for place, name in enumerate(shown)
    ]
    more = [box(2, top + len(shown), f"and {rest} more", inside)] if rest else []
    top = (height / _ROW - len(stores)) / 2
    kept = [box(3, top + place, name, _kept_in(name, result.sessions)) for place, name in enumerate(stores)]
    lines = [_line(people, front), *(_line(front, node) for node in [*nodes, *more])]
    lines += [_line(node, store) for node in [*nodes, *more] for store in kept]
    told = [f"{box.name} ({box.told})" if box.told else box.name for box in [front, *nodes, *more, *kept]]
    return Drawing(
        width=_COLUMNS[3 if kept else 2] + _BOX_WIDTH + 2,
        height=height,
        boxes=[people, front, *nodes, *more, *kept],
        lines=lines,
        words=f"Visitors ask {told[0]}, which asks {', '.join(told[1 : 1 + len(nodes) + len(more)])}"
        + (f"; these use {', '.join(told[1 + len(nodes) + len(more) :])}." if kept else "."),
    )


def _told(trouble: Counter[str] | None, otherwise: str) -> str:
    if not trouble:
        return otherwise
    error, count = trouble.most_common(1)[0]
    return f"{count:,} {error}" + (" …" if len(trouble) > 1 else "")


def _kept_in(name: str, sessions: str) -> str:
    holds_sessions = sessions in name or (sessions == "redis" and "valkey" in name)
    is_cache = any(part in name for part in ("redis", "valkey", "cache"))
    words = ["sessions"] if holds_sessions else ["no sessions"] if is_cache else []
    return ", ".join(words if is_cache else ["data", *words])


def _line(left: Box, right: Box) -> tuple[int, int, int, int]:
    return left.x + left.width, left.y + left.height // 2, right.x, right.y + right.height // 2
