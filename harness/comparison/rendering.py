"""A comparison as lines for a terminal and as data. Must not: decide anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.comparison.comparing import Comparison, Difference, Outcome
from harness.reporting.text import one_line

__all__ = ["VERSION", "as_lines", "as_plain_data"]

VERSION = 1
_HEADS = {
    "verdict": "verdicts that changed",
    "latency": "latency, from when a request was due",
    "failed": "requests without a proper answer",
    "seconds": "gaps and recovery",
    "machine": "the machine",
}
_IN_ORDER = (Outcome.WORSE, Outcome.BETTER, Outcome.UNCLEAR, Outcome.NO_WORSE, Outcome.THIN)


def as_lines(comparison: Comparison, *, everything: bool = False) -> Iterator[str]:
    """For a terminal. `everything`: also verdicts that are the same, and each thing that was too thin to judge."""
    before, now = comparison.before, comparison.now
    runs = before[0].run if len(before) == 1 else f"{len(before)} runs from {before[0].run} to {before[-1].run}"
    about = now.setup
    yield f" {one_line(runs)} -> {one_line(now.run)}"
    yield one_line(
        f"{about['name']} · {about['platform']} · {about['balancer']} · {about['instances']} instances · "
        f"{about['sessions']} sessions"
    ).join((" ", ""))
    for told in comparison.not_alike:
        yield f" NOT ALIKE: {one_line(told)}"
    for told in comparison.changed:
        yield f" changed: {one_line(told)}"
    for told in comparison.notes:
        yield f" note: {one_line(told)}"
    for kind, head in _HEADS.items():
        shown = [each for each in comparison.differences if each.kind == kind and (everything or _is_news(each))]
        if shown:
            yield ""
            yield f" {head}"
            yield from _table(shown)
        hidden = [each for each in comparison.differences if each.kind == kind and each not in shown]
        same = sum(each.outcome is Outcome.NO_WORSE for each in hidden)
        if hidden:
            yield from ([] if shown else ["", f" {head}"])
            yield from [f"   {same} the same"] if same else []
            yield from [f"   {len(hidden) - same} too thin to judge (--all shows them)"] if len(hidden) > same else []
    yield ""
    yield f" {comparison.headline}"
    yield f" method: {comparison.method}; seed {comparison.seed}"


def _is_news(each: Difference) -> bool:
    if each.kind == "verdict":
        return each.outcome is not Outcome.NO_WORSE
    return each.outcome is not Outcome.THIN or bool(each.a)


def _table(shown: list[Difference]) -> Iterator[str]:
    shown = sorted(shown, key=lambda each: _IN_ORDER.index(each.outcome))
    names = max(len(each.name) for each in shown)
    before = max(len(each.a) for each in shown)
    now = max(len(each.b) for each in shown)
    for each in shown:
        chance = f"  p {each.p_worse:.4f}" if each.outcome is Outcome.WORSE and each.p_worse is not None else ""
        why = f"  {one_line(each.why)}" if each.why and (each.kind == "verdict" or not each.a) else ""
        line = (
            f"   {each.outcome:<8}  {one_line(each.name):<{names}}  {each.a:>{before}} -> {each.b:>{now}}{chance}{why}"
        )
        yield line.rstrip()
    reasons = dict.fromkeys(each.why for each in shown if each.why and each.a and each.kind != "verdict")
    yield from (f"   why: {one_line(why)}" for why in reasons)


def as_plain_data(comparison: Comparison) -> dict[str, Any]:
    """For programs; the form is told in docs/compare.md."""
    return {
        "format": "harness-comparison",
        "version": VERSION,
        "exit_code": comparison.exit_code,
        "headline": comparison.headline,
        "before": [each.run for each in comparison.before],
        "now": comparison.now.run,
        "setup": dict(comparison.now.setup),
        "method": comparison.method,
        "seed": comparison.seed,
        "not_alike": list(comparison.not_alike),
        "changed": list(comparison.changed),
        "notes": list(comparison.notes),
        "differences": [
            {
                "kind": each.kind,
                "name": each.name,
                "before": each.a,
                "now": each.b,
                "outcome": each.outcome,
                "why": each.why or None,
                "p_worse": each.p_worse,
                "p_better": each.p_better,
            }
            for each in comparison.differences
        ],
    }
