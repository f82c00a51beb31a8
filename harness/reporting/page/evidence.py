"""Evidence of checkers as tables, bars and words. Keys that nobody knows here are still shown. Must not: judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from harness.checkers.evidence import milliseconds
from harness.reporting.text import cut, one_line

__all__ = ["Bar", "Bars", "Cell", "Matrix", "bars_of", "gap_of", "in_words", "matrices_of", "numbers_of", "requests_of"]

_MATRICES = {
    "matrix": ("Where people logged in (rows) and who was asked (columns): recognised of asked", "logged in on"),
    "balancer_matrix": ("The same through the balancer: who answered (columns)", "logged in on"),
    "notes": ("Who wrote (rows) and who was asked for it (columns)", "written on"),
    "lost_matrix": ("Sessions lost: where they began (rows) and who first said so (columns)", "began on"),
}
_TOLD_ELSEWHERE = {*_MATRICES, "examples", "guards", "traceback"}
_TEXT_CHARACTERS = 400
_LIST_LONG = 12
_NORMAL_999 = 3.2905
"""Two-sided 99.9 % of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    count: int
    share: float
    """0 to 1, of all."""
    is_bad: bool


@dataclass(frozen=True, slots=True)
class Bars:
    caption: str
    bars: Sequence[Bar]
    largest: float
    """The share at the right end of the picture."""
    band: tuple[float, float] | None
    """The shares that this algorithm is expected to give; None: it promises nothing about them."""
    words: Sequence[str]
    """What is expected, the sample and the error rates."""


def matrices_of(facts: Mapping[str, Any]) -> Iterator[Matrix]:
    """Every table instance by instance, also those one level down."""
    for key, value in facts.items():
        if key in _MATRICES and _is_table(value):
            yield _matrix(key, value)
        elif isinstance(value, Mapping):
            yield from (_matrix(name, table) for name, table in value.items() if name in _MATRICES and _is_table(table))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(row, Mapping) for row in value.values())


def _matrix(key: str, table: Mapping[str, Mapping[str, Any]]) -> Matrix:
    caption, corner = _MATRICES[key]
    # Names in one order on both sides, so that an instance asked about itself stands on the diagonal.
    names = sorted({*table, *(column for row in table.values() for column in row)}, key=_natural)
    columns = [name for name in names if any(name in row for row in table.values())]
    rows = [(name, [_cell(key, table[name].get(column)) for column in columns]) for name in names if name in table]
    return Matrix(caption, corner, columns, rows)


def _cell(key: str, value: object) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, bool):
        return Cell("read", is_bad=False) if value else Cell("not there", is_bad=True)
    if isinstance(value, Mapping) and "asked" in value:
        asked, recognised = int(value["asked"]), int(value.get("recognised", 0))
        return Cell(f"{recognised} of {asked}", is_bad=recognised < asked)
    if isinstance(value, int):
        return Cell(f"{value:,}", is_bad=key == "lost_matrix" and value > 0)
    return Cell(cut(one_line(str(value)), 60))


def _natural(name: str) -> tuple[Any, ...]:
    """`app-2` before `app-10`; what is in brackets, such as `(nobody)`, last."""
    return (name.startswith("("), [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def bars_of(facts: Mapping[str, Any]) -> Bars | None:
    """How many answers each instance gave, with the band that is expected where the algorithm has one."""
    counts = facts.get("counts", facts.get("by_instance"))
    if not isinstance(counts, Mapping) or not counts or not all(type(count) is int for count in counts.values()):
        return None
    total = sum(counts.values())
    algorithm = str(facts.get("algorithm", ""))
    band = _band(facts, algorithm, total=total, instances=len(counts)) if total else None
    taken = facts.get("taken_above")
    bars = [
        Bar(
            name=name,
            count=count,
            share=count / total if total else 0.0,
            is_bad=not count or (band is not None and not band[0] - 1e-9 <= count / total <= band[1] + 1e-9),
        )
        for name, count in sorted(counts.items(), key=lambda item: _natural(item[0]))
    ]
    words = list(_about(facts, algorithm, band, total=total))
    if isinstance(taken, Mapping) and taken:
        words.append("Taken although it was not the least loaded: " + in_words(taken))
    largest = max([bar.share for bar in bars] + ([band[1]] if band else []), default=1.0) or 1.0
    return Bars(f"Answers by instance, {total:,} in all", bars, largest, band, words)


def _band(facts: Mapping[str, Any], algorithm: str, *, total: int, instances: int) -> tuple[float, float] | None:
    fair = 1.0 / instances
    if algorithm.startswith("round") and isinstance(facts.get("allowed"), (int, float)):
        off = (float(facts["allowed"]) + float(facts.get("slack") or 0)) / total
        return max(0.0, fair - off), min(1.0, fair + off)
    if algorithm.startswith("random"):
        # Source: the normal approximation of a binomial share, p ± z sqrt(p (1 - p) / n).
        off = _NORMAL_999 * sqrt(fair * (1 - fair) / total)
        return max(0.0, fair - off), min(1.0, fair + off)
    return None


def _about(facts: Mapping[str, Any], algorithm: str, band: tuple[float, float] | None, *, total: int) -> Iterator[str]:
    if band:
        yield f"Expected of {algorithm.replace('_', ' ')}: {band[0] * total:.0f} to {band[1] * total:.0f} each."
    elif algorithm.startswith("least"):
        yield (
            f"{algorithm} promises nothing about counts: it goes where least is in flight. So its choices are judged: "
            f"{facts.get('against', 0)} of {facts.get('choices', 0)} went to an instance that had 2 or more above the least"
            f" ({_percent(facts.get('share'))}; up to {_percent(facts.get('tolerated'))} is tolerated)."
        )
    if facts.get("needed") is not None:
        sample = facts.get("choices", facts.get("fresh"))
        sample = sum(sample.values()) if isinstance(sample, Mapping) else sample
        yield f"Sample: {sample if sample is not None else total} of at least {facts['needed']} that are needed."
    if facts.get("alpha") is not None:
        yield f"A setup that keeps this is accused in {_percent(facts['alpha'])} of runs."
    if facts.get("power") is not None:
        wrong = f" (wrong from {_percent(facts['wrong_from'])})" if facts.get("wrong_from") is not None else ""
        yield f"One that breaks it{wrong} is found in {_percent(facts['power'])} of runs."
    chance = facts.get("chance")
    if isinstance(chance, float):
        yield f"Were load spread evenly, an instance would be left out by chance with a probability of {chance:.1g}."


def _percent(share: object) -> str:
    return f"{float(share) * 100:.3g} %" if isinstance(share, (int, float)) else "–"


def gap_of(evidence: Mapping[str, Any]) -> tuple[float, float] | None:
    """When the longest gap began, and how long it was, in seconds from what the history counts from."""
    for facts in evidence.values():
        if isinstance(facts, Mapping):
            begins, length = facts.get("gap_begins_seconds"), facts.get("longest_gap_seconds")
            if isinstance(begins, (int, float)) and isinstance(length, (int, float)) and length > 0:
                return float(begins), float(length)
    return None


def requests_of(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The requests that checkers keep as examples."""
    return [
        each
        for facts in evidence.values()
        if isinstance(facts, Mapping)
        for each in facts.get("examples") or ()
        if isinstance(each, Mapping) and "path" in each
    ]


def numbers_of(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything else, as (key in words, value in words)."""
    for facts in evidence.values():
        if not isinstance(facts, Mapping):
            continue
        for key, value in facts.items():
            if key in _TOLD_ELSEWHERE or value in (None, "", [], {}):
                continue
            yield _named(key), in_words(value, key=key)


def _named(key: str) -> str:
    return key.removesuffix("_seconds").replace("_", " ")


def in_words(value: object, *, key: str = "") -> str:
    """A value of evidence as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and key.endswith("seconds"):
        return milliseconds(value) if abs(value) < 100 else f"{value:.0f} s"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        parts = [
            f"{one_line(str(name))} {in_words(part, key=str(name))}"
            for name, part in value.items()
            if name not in _TOLD_ELSEWHERE
        ]
        nested = any(isinstance(part, Mapping) for part in value.values())
        return cut((" · " if nested else ", ").join(parts), _TEXT_CHARACTERS)
    if isinstance(value, (list, tuple)):
        shown = ", ".join(in_words(part) for part in value[:_LIST_LONG])
        return cut(
            shown + (f" and {len(value) - _LIST_LONG} more" if len(value) > _LIST_LONG else ""), _TEXT_CHARACTERS
        )
    return cut(one_line(str(value)), _TEXT_CHARACTERS)
