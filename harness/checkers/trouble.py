"""Whether instances wrote lines that mean trouble while nothing was done to them.

Must not: know where a log is, or what a pattern means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import listed, plural
from harness.model import History, Look, Verdict

__all__ = ["TROUBLE", "NobodyIsInTrouble"]

TROUBLE = "trouble"
"""The look at what an instance wrote: `since` (when it began to be listened to), `lines` (that it wrote until then), `matched` (of
these), `examples` [{"line", "pattern"}], and `silent` (nothing was ever in its log)."""


@dataclass(frozen=True)
class NobodyIsInTrouble:
    """No instance writes a line that means trouble while people use it, and nothing is done to it.

    Expects: looks named `trouble` at every instance, each with the time it is about; and requests meanwhile. What an instance wrote
    while it was broken itself says nothing: such a look is excused. One whose log holds nothing at all was not listened to.

    Evidence: `matched` {instance: lines}, `lines` (that were looked at), `patterns` {pattern: lines}, `said` [{"instance", "line",
    "pattern"}] (the first few), `excused` [instances], `silent` [instances], `not_listened_to` [instances], `requests`, `guards`.
    """

    requests: int = bounds.EACH_PHASE

    def check(self, history: History) -> Verdict:
        looks = sorted(history.looks_at(TROUBLE), key=lambda look: look.at)
        heard = [look for look in looks if not _is_broken_meanwhile(history, look)]
        bad = [look for look in heard if look.value["matched"]]
        matched = {name: sum(look.value["matched"] for look in _of(bad, name)) for name in _names(bad)}
        said = [{"instance": look.node, **example} for look in bad for example in look.value["examples"]]
        untold = [name for name in history.instances if not _of(heard, name)]
        silent = sorted({look.node for look in heard if look.value["silent"]})
        asked = sum(op.answered is not None for op in history.operations)
        guards = []
        if asked < self.requests:
            guards.append(f"{plural(asked, 'request')} answered meanwhile, {self.requests} are needed")
        if untold:
            guards.append(f"nobody listened to {listed(untold)} while nothing was done to it")
        if silent:
            guards.append(
                f"nothing was ever in the log of {listed(silent)}: let the application write to its standard output or error"
            )
        evidence: dict[str, Any] = {
            "matched": matched,
            "lines": sum(look.value["lines"] for look in heard),
            "patterns": _by_pattern(said),
            "said": said[: bounds.EXAMPLES],
            "excused": _names([look for look in looks if look not in heard]),
            "silent": silent,
            "not_listened_to": untold,
            "requests": asked,
            "guards": guards,
        }
        if matched:
            words = listed(f"{name} {plural(count, 'line')}" for name, count in matched.items())
            return Verdict.fail(f"{words} that mean trouble, such as {said[0]['line']!r}", **evidence)
        if guards:
            return Verdict.inconclusive("; ".join(guards), **evidence)
        return Verdict.passed(
            f"none of {plural(evidence['lines'], 'line')} that {plural(len(history.instances), 'instance')} wrote means trouble, "
            f"{plural(asked, 'request')} meanwhile",
            **evidence,
        )


def _of(looks: Sequence[Look], name: str) -> list[Look]:
    return [look for look in looks if look.node == name]


def _names(looks: Sequence[Look]) -> list[str]:
    return list(dict.fromkeys(look.node for look in looks))


def _by_pattern(said: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in said:
        counts[each["pattern"]] = counts.get(each["pattern"], 0) + 1
    return counts


def _is_broken_meanwhile(history: History, look: Look) -> bool:
    """Whether something was done to it in the time the look is about, from the order to its return."""
    return any(
        fault.node == look.node
        and fault.injected <= look.at
        and (fault.healed if fault.healed is not None else float("inf")) >= look.value["since"]
        for fault in history.faults
    )
