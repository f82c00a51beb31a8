"""How long nobody got a proper answer: one definition, for the live view, the checkers and the benchmark alike.

Must not: decide how long is too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from harness.model.facts import Operation

__all__ = ["Gap", "longest_gap"]


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without a proper answer, between the moments at which one was complete."""

    seconds: float
    begin: float
    end: float


def longest_gap(
    operations: Iterable[Operation],
    *,
    interval_seconds: float,
    begin: float | None = None,
    end: float | None = None,
) -> Gap:
    """The longest gap that an evenly spaced stream saw, in seconds.

    The span between two consecutive proper answers (`Operation.available`), each taken at the moment its body
    was complete, less one probe interval: that much passes between two answers of a healthy setup. `begin` and
    `end` (of the stream's pace) close the first and the last span, so that a setup which never answers again has
    a gap to the end.

    Source: for a silence of D seconds that begins at t and probes every i seconds, the last answer before it is
    complete in (t - i, t], and the first one after it in [t + D, t + D + i) where probes in the silence are lost, or
    at t + D where they were held and answered late. The span is therefore in [D, D + 2i); less i it is within one
    probe interval of D. The time an answer takes moves both ends alike; only its change adds to the error.
    """
    moments = sorted(op.answered for op in operations if op.answered is not None and op.available)
    if begin is not None:
        moments.insert(0, min(begin, moments[0]) if moments else begin)
    if end is not None:
        moments.append(max(end, moments[-1]) if moments else end)
    spans = [later - earlier - interval_seconds for earlier, later in pairwise(moments)]
    seconds = max(spans, default=0.0)
    if seconds <= 0.0:
        return Gap(0.0, 0.0, 0.0)
    first = spans.index(seconds)
    return Gap(seconds, moments[first], moments[first + 1])
