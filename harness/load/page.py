"""`load.html`: a load run for people, as a page of the report. Must not: measure or decide anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.load.charts import by_second, curve_picture
from harness.load.results import Curve, LoadResult
from harness.load.scaling import ENOUGH, Usage
from harness.load.seconds import Counted, percentile_of
from harness.reporting import without_controls
from harness.reporting.page import Link, Markup, document, read_part, render

__all__ = ["milliseconds", "to_page", "used_in_words"]

_MOST_ROWS = 120
"""Of the table by second; longer runs have several seconds in a row."""
_WORST_FIRST = 20


def to_page(result: LoadResult, *, links: Sequence[Link] = ()) -> str:
    """The whole page."""
    body = render(
        "load.html",
        result=result,
        facts=_facts(result),
        rows=[_row(result, row) for row in result.rows],
        all_of_it=_all(result),
        failures=result.failures[:_WORST_FIRST],
        more_failures=max(0, len(result.failures) - _WORST_FIRST),
        pictures=_pictures(result) if result.counted.items() else (),
        seconds=_seconds(result),
        curve=_curve(result.curve) if result.curve is not None else None,
    )
    # Nothing that is text is an instruction to whatever shows the page, controls of the direction of text included.
    return document(
        title=f"Load: {result.headline}",
        body=Markup(without_controls(body)),
        here="load.html",
        links=links,
        run=result.run_id,
        styles=[read_part("load.css")],
    )


def milliseconds(value: float | None) -> str:
    """Such as `12 ms`, `1.2 s`, or a dash of nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value < 995 else f"{value / 1000:,.1f} s"


def used_in_words(usage: Usage, *, workers: int) -> list[tuple[str, str]]:
    """How busy everything was: what, and how busy in words. What could not be seen is left out."""
    told = []
    process = "busiest worker" if workers else "its process"
    told.append(("load generator", f"{process} {usage.generator:.0%} of a core"))
    if usage.machine is not None:
        told.append(("this machine", f"{usage.machine:.0%} of {usage.cores} cores"))
    if usage.nodes:
        told.append(("nodes", ", ".join(f"{name} {used:.2f}" for name, used in usage.nodes.items()) + " cores"))
    return told


def _facts(result: LoadResult) -> list[tuple[str, str]]:
    where = (
        f"{result.setup}, on {result.platform}"
        if result.platform != "running"
        else f"{result.setup}, which ran already"
    )
    facts = [
        ("what", where),
        ("where", result.host),
        ("who", result.settings),
        ("when", f"{result.started}, for {result.seconds:.0f} s"),
        *(("busy: " + what, told) for what, told in used_in_words(result.usage, workers=result.workers)),
    ]
    if result.usage.generator >= 0.9 and result.curve is None:
        facts.append(
            ("mind", "the load generator was busy to its limit: latencies are partly its own. Give it more --workers")
        )
    return facts


def _row(result: LoadResult, row: Any) -> dict[str, Any]:
    return {
        "method": row.method,
        "name": row.name,
        "requests": f"{row.requests:,}",
        "failed": f"{row.failed:,}",
        "bad": row.failed > 0,
        "per_second": f"{row.requests / max(result.seconds, 1e-9):,.1f}",
        "latencies": [milliseconds(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.worst_ms)],
    }


def _all(result: LoadResult) -> dict[str, Any]:
    known = result.all_milliseconds
    latencies = [percentile_of(known, share) for share in (0.5, 0.95, 0.99)]
    return {
        "requests": f"{result.requests:,}",
        "failed": f"{result.failed:,}",
        "bad": result.failed > 0,
        "per_second": f"{result.requests / max(result.seconds, 1e-9):,.1f}",
        "latencies": [milliseconds(value) for value in (*latencies, max(known, default=None))],
    }


def _pictures(result: LoadResult) -> list[tuple[str, str, Markup]]:
    # The last second was cut off by the end.
    items = [(second - result.begin, counted) for second, counted in result.counted.items()][:-1]
    if not items:
        return []
    last = items[-1][0]
    good = [(float(at), float(counted.good)) for at, counted in items]
    bad = [(float(at), float(counted.failed)) for at, counted in items]
    latency = {
        name: [
            (float(at), float(value))
            for at, counted in items
            if (value := percentile_of(counted.milliseconds, share)) is not None
        ]
        for name, share in (("p95", 0.95), ("p50", 0.5))
    }
    return [
        (
            "Answers per second",
            "Good answers as a line" + (", failed ones as red bars" if result.failed else "") + ".",
            by_second(
                [("good", good)], bad=bad, last=last, unit="per second", told="Answers in each second of the run"
            ),
        ),
        (
            "Latency",
            "Of the answers of each second: half were faster than the lower line, 95 % faster than the upper one.",
            by_second(list(latency.items()), last=last, unit="ms", told="Latency in each second of the run"),
        ),
    ]


def _seconds(result: LoadResult) -> list[list[str]]:
    """The pictures as a table."""
    items = result.counted.items()
    each = max(1, -(-len(items) // _MOST_ROWS))
    rows = []
    for start in range(0, len(items), each):
        several = items[start : start + each]
        total = Counted()
        for _, counted in several:
            total.merge(counted)
        first = several[0][0] - result.begin
        rows.append(
            [
                f"{first}" if each == 1 else f"{first} to {first + each - 1}",
                f"{total.users:,}",
                f"{total.good:,}",
                f"{total.failed:,}",
                milliseconds(percentile_of(total.milliseconds, 0.5)),
                milliseconds(percentile_of(total.milliseconds, 0.95)),
            ]
        )
    return rows


def _curve(curve: Curve) -> dict[str, Any]:
    levels = []
    for level in curve.levels:
        spread = level.throughput
        levels.append(
            {
                "instances": level.instances,
                "throughput": f"{spread.middle:,.0f}",
                "interval": f"{spread.low:,.0f} to {spread.high:,.0f}",
                "visits": ", ".join(f"{each:,.0f}" for each in level.rounds),
                "p50": milliseconds(level.p50_ms),
                "p95": milliseconds(level.p95_ms),
                "failed": f"{level.failed:,} of {level.requests:,}",
                "saturates": curve.saturations[level.instances].sentence,
            }
        )
    confidence = min(level.throughput.confidence for level in curve.levels)
    windows = min(len(level.windows) for level in curve.levels)
    return {
        "levels": levels,
        "picture": curve_picture(curve),
        "knee": curve.knee.sentence,
        "nothing": not curve.tells_of_the_application,
        "method": (
            f"Everybody asks without a pause, so that as many requests are under way as there are people. Each number of "
            f"instances is visited twice, in opposite order; the first {curve.warm_up_seconds:g} s of a visit are not counted. "
            f"Throughput is the median of {windows} windows of {curve.window_seconds} s or more, with its distribution-free "
            f"interval ({confidence:.0%}). The knee is the last level after which one more instance adds less than "
            f"{ENOUGH:.0%} of what the first carries."
        ),
    }
