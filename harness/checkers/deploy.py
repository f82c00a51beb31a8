"""What a deploy costs people, seen from outside alone: nobody tells what was replaced, when, or who answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, failure_times, milliseconds, plural, rounded
from harness.checkers.failover import timeout_of
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import (
    by_connection,
    error_class,
    error_classes,
    gap_within,
    is_write,
    late_ones,
    percentile,
    probe_interval,
    through_balancer,
    touching,
)
from harness.checkers.statistics import zero_failures_in_words
from harness.model import History, Look, Operation, Verdict

__all__ = ["COMMAND", "DeployCostsNothing"]

COMMAND = "command"
"""The look that tells how the command of the deploy ended: its value has `code` (None: it had to be ended) and `seconds`."""
_OF_WAITING = ("timeout", "unsent")
"""What a rig that was late can have made itself."""


@dataclass(frozen=True)
class DeployCostsNothing:
    """From the start of a deploy to the end of the traffic no request fails, and nobody waits long.

    Expects: rollout steps `begin` and `end` without a node; one look named `command`; open-loop operations before, meanwhile and
    afterwards, on fresh and on kept connections.

    Evidence (seconds count from `begin`): `before`, `during`, `after` (requests), `failed_before`, `requests` (judged), `failed`,
    `errors`, `broken` ["failed-requests", "longest-gap"], `failed_by_connection` and `requests_by_connection` {"fresh", "reused"},
    `failed_by_method` {"idempotent", "write"}, `versions_before` and `versions_after` {version: answers},
    `new_version_after_seconds` (the first answer of a version that nobody gave before; None: none was), `longest_gap_seconds`,
    `gap_begins_seconds`, `first_failure_seconds`, `last_failure_seconds`, `slowest_seconds`, `p99_seconds`, `seconds` (of the command),
    `code` (of the command), `proves`, `late`, `late_share`, `guards`, `examples`.
    """

    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_phase: int = bounds.EACH_PHASE
    each_connection_kind: int = bounds.EACH_CONNECTION_KIND
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        begin = next((step.at for step in history.rollout if step.step == "begin"), None)
        if begin is None:
            return Verdict.inconclusive("nothing was deployed", guards=["nothing was deployed"])
        end = next((step.at for step in history.rollout if step.step == "end"), None)
        command = next(history.looks_at(COMMAND), None)
        operations = through_balancer(history)
        last = max([op.answered if op.answered is not None else op.due for op in operations], default=begin)
        judged = touching(
            operations, start=begin, end=max(last, end or begin) + 1.0, timeout_seconds=timeout_of(history)
        )
        touched = {id(op) for op in judged}
        before = [op for op in operations if op.due < begin and id(op) not in touched and op.error != "unsent"]
        requests = [op for op in judged if op.error != "unsent"]
        after = [op for op in requests if end is not None and op.due >= end]
        failed = [op for op in requests if not op.available]
        failed_before = [op for op in before if not op.available]
        gap = gap_within(
            operations,
            begin=begin,
            end=max([op.due for op in operations], default=begin),
            interval_seconds=probe_interval(history, operations),
        )
        late = late_ones(judged, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(judged)
        guards = [] if not was_late else [late_in_words(late, judged, self.late_after_seconds)]
        guards += self._guards(command, end, before, failed_before, requests, after)
        broken: dict[str, str] = {}
        if failed and not (was_late and all(error_class(op) in _OF_WAITING for op in failed)):
            told = ", ".join(f"{name} {count}" for name, count in error_classes(failed).items())
            broken["failed-requests"] = f"{len(failed)} of {plural(len(requests), 'request')} failed ({told})"
        if gap.seconds > self.longest_gap_seconds and not was_late:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(gap.seconds)}"
        # What failed as often before is not the deploy's doing.
        if failed_before and len(failed) * len(before) <= 2 * len(failed_before) * len(requests):
            broken = {}
        latencies = sorted(op.answered - op.due for op in requests if op.answered is not None and op.available)
        versions_before, versions_after = _versions(before), _versions(after)
        new = [op for op in requests if op.version is not None and op.version not in versions_before]
        first_new = min((op.due for op in new), default=None) if versions_before else None
        evidence: dict[str, Any] = {
            "before": len(before),
            "during": len(requests) - len(after),
            "after": len(after),
            "failed_before": len(failed_before),
            "requests": len(requests),
            "failed": len(failed),
            "errors": error_classes(failed),
            "broken": list(broken),
            "failed_by_connection": by_connection(failed),
            "requests_by_connection": by_connection(requests),
            "failed_by_method": {
                "idempotent": sum(not is_write(op) for op in failed),
                "write": sum(is_write(op) for op in failed),
            },
            "versions_before": versions_before,
            "versions_after": versions_after,
            "new_version_after_seconds": rounded(None if first_new is None else first_new - begin),
            "longest_gap_seconds": rounded(gap.seconds),
            "gap_begins_seconds": rounded(gap.begin - begin) if gap.seconds else None,
            **failure_times(failed, since=begin),
            "slowest_seconds": rounded(max(latencies, default=None)),
            "p99_seconds": rounded(percentile(latencies, 0.99)),
            "seconds": rounded(None if end is None else end - begin),
            "code": None if command is None else command.value.get("code"),
            "proves": "" if failed else zero_failures_in_words(len(requests)),
            **late_as_evidence(late, judged),
            "guards": guards,
            "examples": examples(failed, since=begin),
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(len(requests), 'request')}, 0 failed, longest gap {milliseconds(gap.seconds)}, "
            f"{_in_words(versions_before, versions_after)}",
            **evidence,
        )

    def _guards(
        self,
        command: Look | None,
        end: float | None,
        before: Sequence[Operation],
        failed_before: Sequence[Operation],
        requests: Sequence[Operation],
        after: Sequence[Operation],
    ) -> list[str]:
        guards = []
        if command is None or end is None:
            guards.append("the command did not come to its end")
        elif (code := command.value.get("code")) is None:
            guards.append(f"the command had to be ended after {command.value['seconds']:.0f} s")
        elif code:
            guards.append(f"the command ended with exit code {code}: what it did, and what not, nobody knows")
        if failed_before:
            guards.append(f"{plural(len(failed_before), 'request')} had failed before the command was begun")
        if len(before) - len(failed_before) < self.each_phase:
            guards.append(
                f"only {plural(len(before) - len(failed_before), 'answer')} before the command ({self.each_phase} are needed)"
            )
        for kind, count in by_connection(requests).items():
            if count < self.each_connection_kind:
                guards.append(
                    f"only {plural(count, 'request')} on {kind} connections ({self.each_connection_kind} are needed)"
                )
        if len(after) < self.each_phase:
            guards.append(f"only {plural(len(after), 'request')} after the command ({self.each_phase} are needed)")
        return guards


def _versions(operations: Sequence[Operation]) -> dict[str, int]:
    return dict(Counter(op.version for op in operations if op.version is not None).most_common())


def _in_words(before: dict[str, int], after: dict[str, int]) -> str:
    if not before and not after:
        return "no version is told"
    old, new = (", ".join(sorted(versions)) or "none" for versions in (before, after))
    return f"version {old} before and after" if old == new else f"version {old} before, {new} after"
