"""Runs held against each other: each verdict and each measure, and what may be said of it. Must not: do I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import Any

from harness.comparison.figures import OWN_DELAY, Blocks, Counts, Figures
from harness.comparison.method import Grace, Pair, holm, predicted, quantile, quantile_pairs, share_pair
from harness.errors import BadInput

__all__ = ["ALPHA", "RUNS_TO_KNOW_NOISE", "Comparison", "Difference", "Outcome", "compare"]

ALPHA = 0.05
"""With what chance at most anything is called worse, of all that is compared, when nothing is."""
RUNS_TO_KNOW_NOISE = 3
"""From how many runs on how runs differ among themselves can be told, and is."""
_BLOCKS = 10
"""With fewer blocks on a side a bootstrap of them says nothing."""
_BEYOND = 20
"""How many values must lie beyond a quantile for it to be one."""
# What a person would not notice, and identical runs on a quiet machine do. In milliseconds.
_GRACES: Mapping[float, Grace] = {
    0.5: Grace(share=0.25, plus=2.0),
    0.95: Grace(share=0.25, plus=5.0),
    0.99: Grace(share=0.25, plus=10.0),
}
_DELAY_GRACE = Grace(share=0.25, plus=1.0)
_SINGLE_GRACE = Grace(share=0.25, plus=0.1)
_GAP_GRACE = Grace(share=0.25, plus=0.02)
_KEPT, _BROKEN, _WAIVED = "pass", "fail", "waived"


class Outcome(StrEnum):
    """What may be said of one thing that was compared."""

    WORSE = "worse"
    BETTER = "better"
    NO_WORSE = "no worse"
    """Shown to be no worse, within the grace; for verdicts, the same."""
    UNCLEAR = "unclear"
    """Neither a difference nor its absence could be shown."""
    THIN = "thin"
    """Too little was measured, on one side at least, to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that was compared."""

    kind: str
    """`verdict`, `latency`, `failed`, `seconds` or `machine`."""
    name: str
    a: str
    b: str
    outcome: Outcome
    why: str = ""
    """Why it is thin or unclear; empty where the numbers say it."""
    p_worse: float | None = None
    p_better: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that was compared."""

    before: tuple[Figures, ...]
    """One run, or those of a baseline."""
    now: Figures
    differences: tuple[Difference, ...]
    seed: int
    method: str
    """How noise was told from change, in one sentence."""
    not_alike: tuple[str, ...] = ()
    """In what the setups differ: then this compares setups, not runs of one."""
    changed: tuple[str, ...] = ()
    """What of the setup's own settings is another now."""
    notes: tuple[str, ...] = field(default=())

    def of(self, *outcomes: Outcome) -> tuple[Difference, ...]:
        """The differences with these outcomes, in order."""
        return tuple(each for each in self.differences if each.outcome in outcomes)

    @property
    def exit_code(self) -> int:
        """0: nothing is worse. 1: something is, beyond noise. 3: too little was measured to say."""
        if self.of(Outcome.WORSE):
            return 1
        judged = [each for each in self.differences if each.outcome is not Outcome.THIN]
        measured = [each for each in judged if each.kind not in ("verdict", "machine")]
        lost = [each for each in self.differences if each.kind == "verdict" and each.outcome is Outcome.THIN]
        return 0 if measured and not lost else 3

    @property
    def headline(self) -> str:
        """The whole in one sentence."""
        worse, better = self.of(Outcome.WORSE), self.of(Outcome.BETTER)
        if worse:
            return f"{len(worse)} of {len(self.differences)} got worse beyond noise, {len(better)} better"
        if self.exit_code == 3:
            return f"nothing is seen to be worse, but too little was measured to say; {len(better)} better"
        alike = len(self.of(Outcome.NO_WORSE))
        return (
            f"nothing got worse beyond noise: {alike} no worse, {len(better)} better, "
            f"{len(self.of(Outcome.UNCLEAR))} unclear, {len(self.of(Outcome.THIN))} too thin to judge"
        )


def compare(before: Sequence[Figures], now: Figures, *, seed: int, across: bool = False) -> Comparison:
    """Hold a run against one before it, or against several.

    `seed` decides what the bootstrap draws: the same runs and seed give the same answer. `across`: compare setups that
    are not alike as well.

    Raises BadInput: the setups are not alike and `across` is not said.
    """
    not_alike = tuple(_not_alike(before, now))
    if not_alike and not across:
        raise BadInput(
            f"these are runs of setups that are not alike ({'; '.join(not_alike)}), so a difference would tell of that: "
            "choose runs of one setup, or compare them all the same with --across"
        )
    several = len(before) >= RUNS_TO_KNOW_NOISE
    machine = _machine(before, now, seed=seed)
    measures = [
        *_latencies(before, now, seed=seed, several=several),
        *_failures(before, now, seed=seed),
        *_singles(before, now, several=several),
    ]
    if machine.outcome is not Outcome.NO_WORSE and not several:
        # What the two runs know of noise is each their own: a busier machine would look like a slower setup.
        measures = [
            replace(each, outcome=Outcome.THIN, why=machine.why, p_worse=None, p_better=None)
            if each.kind == "latency" and each.outcome is not Outcome.THIN
            else each
            for each in measures
        ]
    return Comparison(
        before=tuple(before),
        now=now,
        differences=(*_verdicts(before, now), *_decided(measures), machine),
        seed=seed,
        method=_method(len(before)),
        not_alike=not_alike,
        changed=tuple(_changed(before[-1].facts, now.facts)),
        notes=tuple(_notes(before, now)),
    )


def _method(runs: int) -> str:
    if runs >= RUNS_TO_KNOW_NOISE:
        return (
            f"each value is held against what {runs} runs before it let expect (prediction interval, Student's t); "
            f"failed requests by a permutation of blocks of a second; Holm over all, alpha {ALPHA}"
        )
    return (
        "latencies by a bootstrap of blocks of a second, failed requests by a permutation of these; Holm over all, alpha "
        f"{ALPHA}. That knows the noise within a run, not between runs: a baseline of {RUNS_TO_KNOW_NOISE} or more does"
    )


# -- are they alike? --------------------------------------------------------------------------------------------------


def _not_alike(before: Sequence[Figures], now: Figures) -> Iterator[str]:
    for key in now.setup:
        values = list(dict.fromkeys(str(each.setup.get(key)) for each in (*before, now)))
        if len(values) > 1:
            yield f"{key}: {' and '.join(values)}"


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            yield f"{key}: {before.get(key)} before, {now.get(key)} now"


def _notes(before: Sequence[Figures], now: Figures) -> Iterator[str]:
    versions = list(dict.fromkeys(each.harness for each in (*before, now)))
    if len(versions) > 1:
        yield f"judged by different versions of the harness: {', '.join(versions)}"
    if any(each.run == now.run for each in before):
        yield f"the run {now.run} is compared with itself"


# -- verdicts ---------------------------------------------------------------------------------------------------------


def _verdicts(before: Sequence[Figures], now: Figures) -> Iterator[Difference]:
    for promise in dict.fromkeys(promise for each in (*before, now) for promise in each.verdicts):
        words = list(dict.fromkeys(each.verdicts.get(promise, "not judged") for each in before))
        word = now.verdicts.get(promise, "not judged")
        outcome, why = _of_words(words, word)
        yield Difference(kind="verdict", name=promise, a=" or ".join(words), b=word, outcome=outcome, why=why)


def _of_words(before: Sequence[str], now: str) -> tuple[Outcome, str]:
    if before == [now]:
        return Outcome.NO_WORSE, ""
    if _WAIVED in (*before, now):
        return Outcome.UNCLEAR, "the setup waives it in one of them"
    if len(before) > 1:
        return Outcome.UNCLEAR, "the runs before did not agree"
    if (before[0], now) == (_KEPT, _BROKEN):
        return Outcome.WORSE, ""
    if (before[0], now) == (_BROKEN, _KEPT):
        return Outcome.BETTER, ""
    if before[0] == _KEPT:
        return Outcome.THIN, "it was kept, and nobody knows whether it still is"
    if now == _BROKEN:
        return Outcome.UNCLEAR, "it is broken, and nobody knows whether it was"
    return Outcome.UNCLEAR, "it was not judged in both"


# -- measures ---------------------------------------------------------------------------------------------------------


def _shared(sides: Sequence[Mapping[str, Any]]) -> list[str]:
    """What all sides have, in the order of the first."""
    return [name for name in sides[0] if all(name in side for side in sides[1:])]


def _pooled(of: Blocks | Counts, scenarios: Sequence[str]) -> list[Any]:
    return [block for scenario in scenarios for block in of[scenario]]


def _latencies(before: Sequence[Figures], now: Figures, *, seed: int, several: bool) -> Iterator[Difference]:
    sides = [each.latencies for each in (*before, now)]
    for name in _shared(sides):
        scenarios = _shared([side[name] for side in sides])
        pools = [_pooled(side[name], scenarios) for side in sides]
        graces = {q: grace for q, grace in _GRACES.items() if not _thin(pools, q)}
        if several:
            pairs = {
                q: predicted([quantile(pool, q) for pool in pools[:-1]], quantile(pools[-1], q), grace)
                for q, grace in graces.items()
            }
        elif graces:
            first = [block for pool in pools[:-1] for block in pool]
            random = Random(f"{seed}/latency/{name}")  # noqa: S311 - must repeat with the seed
            pairs = quantile_pairs(first, pools[-1], graces, random=random)
        else:
            pairs = {}
        for q in _GRACES:
            label = f"p{q * 100:.0f}, {name}"
            if q in pairs:
                yield _measured("latency", label, pairs[q], _milliseconds)
            else:
                yield Difference(kind="latency", name=label, a="", b="", outcome=Outcome.THIN, why=_thin(pools, q))


def _thin(pools: Sequence[list[Any]], q: float) -> str:
    """Why this quantile is not compared; empty when it is."""
    blocks = min(map(len, pools))
    values = min(sum(map(len, pool)) for pool in pools)
    if blocks < _BLOCKS:
        return f"{blocks} s of it on one side, {_BLOCKS} are needed"
    needed = round(_BEYOND / (1.0 - q))
    return f"{values} requests on one side, {needed} are needed" if values < needed else ""


def _failures(before: Sequence[Figures], now: Figures, *, seed: int) -> Iterator[Difference]:
    sides = [each.failures for each in (*before, now)]
    for name in _shared(sides):
        scenarios = _shared([side[name] for side in sides])
        pools = [_pooled(side[name], scenarios) for side in sides]
        first = [block for pool in pools[:-1] for block in pool]
        last = pools[-1]
        if min(len(first), len(last)) < _BLOCKS:
            why = f"{min(len(first), len(last))} s of it on one side, {_BLOCKS} are needed"
            yield Difference(kind="failed", name=name, a="", b="", outcome=Outcome.THIN, why=why)
            continue
        pair = share_pair(first, last, random=Random(f"{seed}/failed/{name}"))  # noqa: S311 - must repeat with the seed
        yield replace(_measured("failed", name, pair, str), a=_share_in_words(first), b=_share_in_words(last))


def _share_in_words(blocks: Sequence[tuple[int, int]]) -> str:
    failed, total = (sum(column) for column in zip(*blocks, strict=True))
    return f"{failed:,} of {total:,}"


def _singles(before: Sequence[Figures], now: Figures, *, several: bool) -> Iterator[Difference]:
    sides = [each.singles for each in (*before, now)]
    for name in _shared(sides):
        grace = _GAP_GRACE if name.startswith("longest gap") else _SINGLE_GRACE
        if several:
            yield _measured(
                "seconds", name, predicted([side[name] for side in sides[:-1]], now.singles[name], grace), _s
            )
        else:
            why = f"one value in a run: a baseline of {RUNS_TO_KNOW_NOISE} runs or more tells noise from change"
            a = " and ".join(_s(side[name]) for side in sides[:-1])
            yield Difference(kind="seconds", name=name, a=a, b=_s(now.singles[name]), outcome=Outcome.THIN, why=why)


def _machine(before: Sequence[Figures], now: Figures, *, seed: int) -> Difference:
    """Whether the harness itself was served alike: a setup on another machine has no part in that."""
    sides = [each.delays for each in (*before, now)]
    pools = [_pooled(side, _shared(sides)) for side in sides]
    label = f"p95, {OWN_DELAY}"
    why = _thin(pools, 0.95)
    if why:
        return Difference(kind="machine", name=label, a="", b="", outcome=Outcome.THIN, why=f"{label}: {why}")
    first = [block for pool in pools[:-1] for block in pool]
    random = Random(f"{seed}/machine")  # noqa: S311 - must repeat with the seed
    pair = quantile_pairs(first, pools[-1], {0.95: _DELAY_GRACE}, random=random)[0.95]
    a, b = _milliseconds(pair.a), _milliseconds(pair.b)
    is_alike = max(pair.p_no_worse, pair.p_no_better) <= ALPHA
    return Difference(
        kind="machine",
        name=label,
        a=a,
        b=b,
        outcome=Outcome.NO_WORSE if is_alike else Outcome.UNCLEAR,
        why="" if is_alike else f"the machine was not shown to be as free in both runs ({label}: {a} and {b})",
    )


def _measured(kind: str, name: str, pair: Pair, words: Any) -> Difference:
    return Difference(
        kind=kind,
        name=name,
        a=words(pair.a),
        b=words(pair.b),
        outcome=Outcome.NO_WORSE if pair.p_no_worse <= ALPHA else Outcome.UNCLEAR,
        p_worse=pair.p_worse,
        p_better=pair.p_better,
    )


def _decided(measures: Sequence[Difference]) -> list[Difference]:
    """With what Holm leaves of what looked worse, and of what looked better: two families, each with its own alpha."""
    decided = list(measures)
    for outcome, p_of in ((Outcome.BETTER, "p_better"), (Outcome.WORSE, "p_worse")):
        asked = [place for place, each in enumerate(decided) if getattr(each, p_of) is not None]
        found = holm([getattr(decided[place], p_of) for place in asked], alpha=ALPHA)
        for place, is_so in zip(asked, found, strict=True):
            if is_so:
                decided[place] = replace(decided[place], outcome=outcome)
    return decided


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _s(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
