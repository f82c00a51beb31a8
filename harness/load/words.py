"""A load run on the terminal. Must not: print, or decide anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.load.page import milliseconds, used_in_words
from harness.load.results import Curve, LoadResult
from harness.load.seconds import percentile_of
from harness.reporting import without_controls

__all__ = ["lines"]

_FAILURES_SHOWN = 5
_NAME_CHARACTERS = 44


def lines(result: LoadResult, *, page: str) -> Iterator[str]:
    """The end of a run: the table, what failed, what was busy, where to look, and how to repeat."""
    for line in _lines(result, page=page):
        # Names come from files, words for errors from anywhere: none has power over a terminal.
        yield " ".join(without_controls(line).splitlines())


def _lines(result: LoadResult, *, page: str) -> Iterator[str]:
    if result.curve is not None:
        yield from _curve(result.curve)
    else:
        yield from _requests(result)
    yield ""
    for failure in result.failures[:_FAILURES_SHOWN]:
        yield f" {failure.count:>7,} × {failure.error}: {failure.method} {_cut(failure.name)}"
    if len(result.failures) > _FAILURES_SHOWN:
        yield f" and {len(result.failures) - _FAILURES_SHOWN} more ways of failing: load/locust_failures.csv"
    if result.failures:
        yield ""
    if result.curve is None:
        for what, words in used_in_words(result.usage, workers=result.workers):
            yield f" busy  {what}: {words}"
        yield ""
    yield f" {result.headline}"
    yield f" {page}"
    yield f" {result.command}"


def _requests(result: LoadResult) -> Iterator[str]:
    head = ("", "request", "count", "failed", "per second", "median", "95 %", "99 %", "worst")
    seconds = max(result.seconds, 1e-9)
    table = [
        (
            row.method,
            _cut(row.name),
            f"{row.requests:,}",
            f"{row.failed:,}",
            f"{row.requests / seconds:,.1f}",
            *(milliseconds(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.worst_ms)),
        )
        for row in result.rows
    ]
    known = result.all_milliseconds
    percentiles = [percentile_of(known, share) for share in (0.5, 0.95, 0.99)]
    total = (
        "",
        "all",
        f"{result.requests:,}",
        f"{result.failed:,}",
        f"{result.requests / seconds:,.1f}",
        *(milliseconds(value) for value in (*percentiles, max(known, default=None))),
    )
    yield from _table([head, *table, total], left=2)


def _curve(curve: Curve) -> Iterator[str]:
    head = ("instances", "per second", "interval", "median", "95 %", "failed")
    table = [
        (
            f"{level.instances}",
            f"{level.throughput.middle:,.0f}",
            f"{level.throughput.low:,.0f} to {level.throughput.high:,.0f}",
            milliseconds(level.p50_ms),
            milliseconds(level.p95_ms),
            f"{level.failed_share:.1%}",
        )
        for level in curve.levels
    ]
    yield from _table([head, *table], left=0)
    yield ""
    found = [curve.saturations[level.instances] for level in curve.levels]
    if len({each.what for each in found}) == 1:
        yield f" at all of them  {found[-1].sentence}"
    else:
        for level, each in zip(curve.levels, found, strict=True):
            yield f" at {level.instances}  {each.sentence}"
    yield f" knee  {curve.knee.sentence}"
    yield " capacity.scaling is advice about this machine, not a verdict"


def _table(rows: Sequence[Sequence[str]], *, left: int) -> Iterator[str]:
    """Aligned columns, of which the first `left` begin at the left."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f" {'  '.join(cells)}".rstrip()


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
