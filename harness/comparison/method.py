"""The statistics of a comparison: pure functions of numbers and a seed. Sources stand beside each.

Latencies that follow each other are alike (a slow second is slow for everybody in it), so that a test for independent
samples alarms far too often. What is drawn anew here are therefore whole blocks of time.
Must not: know what a run is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from statistics import fmean, stdev

__all__ = ["Grace", "Pair", "holm", "predicted", "quantile", "quantile_pairs", "share_pair", "student_sf"]

REPLICATES = 2000
"""Draws of a bootstrap or permutation: the smallest p-value is 1/2001, enough for Holm over a hundred at 0.05."""

Block = Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How much more than the other a value may be before anybody would call it worse: a share of it, and a constant."""

    share: float
    plus: float
    """In the unit of the value."""

    def above(self, value: float) -> float:
        return value * (1.0 + self.share) + self.plus


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One value on each side, and how sure it is that they differ by more than the grace."""

    a: float
    b: float
    p_worse: float
    """Of: b is not more than a and its grace."""
    p_better: float
    """Of: a is not more than b and its grace."""
    p_no_worse: float
    """Of: b is more than a and its grace. Small: b is no worse (one side of TOST, Schuirmann 1987)."""
    p_no_better: float = 1.0
    """Of: a is more than b and its grace. Both small: the two are alike (both sides of TOST)."""


def quantile(blocks: Sequence[Block], q: float) -> float:
    """The smallest value that a share `q` of all does not exceed (type 1 of Hyndman and Fan 1996)."""
    values = sorted(value for block in blocks for value in block)
    return values[max(0, math.ceil(q * len(values)) - 1)]


def quantile_pairs(
    a: Sequence[Block], b: Sequence[Block], graces: Mapping[float, Grace], *, random: Random
) -> dict[float, Pair]:
    """Compare quantiles of two series, each given as blocks of time, by a bootstrap of blocks.

    On each side as many blocks as there are, are drawn with replacement, 2000 times, and the quantile of what was drawn
    is taken. The p-values are the shares of draws on the wrong side of the grace.

    Source: Carlstein 1986, Ann. Stat. 14:1171 (blocks that do not overlap); Efron and Tibshirani, "An Introduction to the
    Bootstrap", 8.5 and ch. 13. The draws are spread around what was seen, for three reasons: with n blocks they vary too
    little by (n - 1)/n; few of them need Student's quantile and not the normal one; and blocks that are still alike when
    they follow each other are worth fewer (see `_alike_as_neighbours`).
    """
    qs = tuple(graces)
    drawn_a, drawn_b = _drawn(a, qs, random), _drawn(b, qs, random)
    found = {}
    for q, of_a, of_b in zip(qs, drawn_a, drawn_b, strict=True):
        grace = graces[q]
        seen_a, seen_b = quantile(a, q), quantile(b, q)
        spread_a, spread_b = _spread(of_a, seen_a, a), _spread(of_b, seen_b, b)
        pairs = list(zip(spread_a, spread_b, strict=True))
        found[q] = Pair(
            a=seen_a,
            b=seen_b,
            p_worse=_share(y <= grace.above(x) for x, y in pairs),
            p_better=_share(x <= grace.above(y) for x, y in pairs),
            p_no_worse=_share(y >= grace.above(x) for x, y in pairs),
            p_no_better=_share(x >= grace.above(y) for x, y in pairs),
        )
    return found


def _drawn(blocks: Sequence[Block], qs: Sequence[float], random: Random) -> list[list[float]]:
    """For each quantile its values in all replicates."""
    ordered = sorted((value, place) for place, block in enumerate(blocks) for value in block)
    values = [value for value, _ in ordered]
    places = [place for _, place in ordered]
    count = len(blocks)
    drawn: list[list[float]] = [[] for _ in qs]
    for _ in range(REPLICATES):
        times = [0] * count
        for _ in range(count):
            times[int(random.random() * count)] += 1
        reached = list(accumulate(map(times.__getitem__, places)))
        total = reached[-1]
        for found, q in zip(drawn, qs, strict=True):
            # An empty draw (only of blocks without a value) says nothing new.
            found.append(values[min(bisect_left(reached, max(1.0, q * total)), len(values) - 1)])
    return drawn


def _spread(drawn: Sequence[float], seen: float, blocks: Sequence[Block]) -> list[float]:
    count = len(blocks)
    rho = _alike_as_neighbours([sum(value > seen for value in block) / len(block) for block in blocks if block])
    wider = math.sqrt(count / (count - 1) * (1.0 + rho) / (1.0 - rho)) * _STUDENT_OVER_NORMAL(count - 1)
    # On the scale of logarithms a time cannot become negative.
    return [seen * (value / seen) ** wider if seen > 0 and value > 0 else value for value in drawn]


def _alike_as_neighbours(values: Sequence[float]) -> float:
    """The correlation of neighbours, 0 to 0.8: n blocks are worth n (1 - rho)/(1 + rho) independent ones.

    Of a quantile the values are the shares of each block above it, which is all that it depends on. A short series shows
    too little of its correlation, which is put back.

    Source: Bence 1995, Ecology 76:628 (effective size); Kendall 1954, Biometrika 41:403 (bias, (1 + 3 rho)/n).
    """
    n = len(values)
    middle = fmean(values)
    whole = sum((value - middle) ** 2 for value in values)
    if n < 5 or whole == 0.0:
        return 0.0
    seen = sum((x - middle) * (y - middle) for x, y in pairwise(values)) / whole
    return min(0.8, max(0.0, (seen + 1.0 / n) / (1.0 - 3.0 / n)))


def _STUDENT_OVER_NORMAL(df: int) -> float:  # noqa: N802 - a constant of its argument
    """How much wider Student's 5 % quantile is than the normal one. Source: Cornish and Fisher 1938, to 1/df^2."""
    z = 1.6448536269514722
    t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    return t / z


def _share(wrong: object) -> float:
    count = sum(wrong)  # type: ignore[call-overload]
    return (int(count) + 1) / (REPLICATES + 1)


def share_pair(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]], *, random: Random) -> Pair:
    """Compare how many of how many failed, each side given as (failed, all) of blocks of time, by permuting blocks.

    Failures come in bursts: requests are not independent, blocks nearly are. When both sides fail alike, any block could
    have been on either side. Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", ch. 3.
    """

    def share(blocks: Sequence[tuple[int, int]]) -> float:
        total = sum(count for _, count in blocks)
        return sum(failed for failed, _ in blocks) / total if total else 0.0

    seen_a, seen_b = share(a), share(b)
    seen = seen_b - seen_a
    if not any(failed for failed, _ in (*a, *b)):
        return Pair(a=0.0, b=0.0, p_worse=1.0, p_better=1.0, p_no_worse=1.0)
    both = [*a, *b]
    as_much = as_little = 0
    for _ in range(REPLICATES):
        random.shuffle(both)
        found = share(both[len(a) :]) - share(both[: len(a)])
        as_much += found >= seen - 1e-12
        as_little += found <= seen + 1e-12
    return Pair(
        a=seen_a,
        b=seen_b,
        p_worse=(as_much + 1) / (REPLICATES + 1),
        p_better=(as_little + 1) / (REPLICATES + 1),
        p_no_worse=1.0,
    )


def predicted(before: Sequence[float], now: float, grace: Grace) -> Pair:
    """Compare one value with those of three or more earlier runs: would a further run be expected to be like this?

    On the scale of logarithms, by the prediction interval for one further value of a normal sample: Student's t with
    k - 1 degrees of freedom, and a standard deviation times the root of 1 + 1/k. This is the only one that knows how
    runs differ among themselves. Source: Hahn and Meeker, "Statistical Intervals", 4.7.

    Raises ValueError: fewer than three earlier values.
    """
    k = len(before)
    if k < 3:
        raise ValueError(f"how runs differ cannot be told from {k} of them: three or more are needed")
    logs = [math.log(max(value, _SMALLEST)) for value in before]
    # Runs that agreed by chance must not make the next one a marvel.
    width = max(stdev(logs), _LEAST_SPREAD) * math.sqrt(1.0 + 1.0 / k)
    middle = fmean(logs)
    usual = math.exp(middle)

    def chance_above(value: float) -> float:
        """That a further run is at this value or above."""
        return student_sf((math.log(max(value, _SMALLEST)) - middle) / width, k - 1)

    without_grace = max((now - grace.plus) / (1.0 + grace.share), _SMALLEST)
    return Pair(
        a=usual,
        b=now,
        p_worse=chance_above(without_grace),
        p_better=1.0 - chance_above(grace.above(now)),
        p_no_worse=1.0 - chance_above(without_grace),
    )


_SMALLEST = 1e-4
_LEAST_SPREAD = 0.05


def student_sf(t: float, df: int) -> float:
    """P(T >= t) for Student's t with a whole number of degrees of freedom, in closed form.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(df))
    cos2 = math.cos(angle) ** 2
    if df % 2:
        term, total = math.cos(angle), 0.0
        for k in range(3, df + 1, 2):
            total += term
            term *= cos2 * (k - 1) / k
        between = 2.0 / math.pi * (angle + (math.sin(angle) * total))
    else:
        term, total = 1.0, 0.0
        for k in range(2, df + 1, 2):
            total += term
            term *= cos2 * (k - 1) / k
        between = math.sin(angle) * total
    return min(1.0, max(0.0, (1.0 - between) / 2.0))


def holm(p_values: Sequence[float], *, alpha: float) -> list[bool]:
    """Which of a family are significant, so that with chance `alpha` at most one of them is so by accident.

    Source: Holm 1979, Scand. J. Stat. 6:65.
    """
    ordered = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [False] * len(p_values)
    for rank, place in enumerate(ordered):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        found[place] = True
    return found
