"""Whether a scenario tested anything: enough traffic in each phase, sent on time.

Judged together with the promise itself, so that a thin or late sample can only make a verdict weaker.
Must not: fail. What a guard finds is inconclusive, or a rig-error where the record contradicts itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.checkers import bounds
from harness.checkers.evidence import examples, milliseconds, plural, rounded
from harness.checkers.measures import is_late, percentile, was_sent
from harness.model import History, Operation, Verdict

__all__ = ["EnoughTraffic", "OnTime", "late_in_words"]

_CLOCK_GRAIN_SECONDS = 0.001
"""Times are rounded when they are written; what is out of order by less is in order."""


@dataclass(frozen=True)
class EnoughTraffic:
    """There were enough requests before, during and after what was done.

    Expects: operations sent through `via`; the phases are told by the fault windows or, without any, by the `begin` and
    `end` of the rollout; without either everything is one phase. Before the fault answers count (a setup that answered
    nobody cannot lose anything); later, requests do. A fault healed at once has no phase of its own.

    Evidence: `phases` {name: requests}, `each_phase`.
    """

    each_phase: int = bounds.EACH_PHASE
    via: str = "balancer"

    def check(self, history: History) -> Verdict:
        operations = [op for op in history.operations if op.via == self.via and was_sent(op)]
        phases = self._phases(history, operations)
        thin = {name: count for name, count in phases.items() if count < self.each_phase}
        if thin:
            told = ", ".join(f"{count} {name}" for name, count in thin.items())
            return Verdict.inconclusive(
                f"too few requests to judge by: {told} ({self.each_phase} are needed)",
                phases=phases,
                each_phase=self.each_phase,
            )
        measured = "requests: " + ", ".join(f"{count:,} {name}" for name, count in phases.items())
        return Verdict.passed(measured, phases=phases, each_phase=self.each_phase)

    @staticmethod
    def _phases(history: History, operations: Sequence[Operation]) -> dict[str, int]:
        if history.faults:
            begin = min(fault.injected for fault in history.faults)
            end = history.healed_at
            during = {
                f"while {fault.node} was lost": sum(fault.injected <= op.due < fault.healing for op in operations)
                for fault in history.faults
                if fault.effective is not None and fault.healing > fault.effective
            }
        elif history.rollout:
            begin = min(step.at for step in history.rollout)
            end = max(step.at for step in history.rollout)
            during = {"during the rollout": sum(begin <= op.due < end for op in operations)}
        else:
            return {"in all": len(operations)}
        before = sum(op.available and op.due < begin for op in operations)
        return {"before": before, **during, "after": sum(op.due >= end for op in operations)}


@dataclass(frozen=True)
class OnTime:
    """The rig sent what it had planned, when it had planned to.

    Expects: operations; one `Pace` for each open-loop stream, whose planned requests must all be in the record.
    A record whose times contradict each other (answered before sent, sent before due) is a rig-error.

    Evidence: `late`, `unsent`, `requests`, `late_share`, `slowest_start_seconds`, `p99_start_seconds`,
    `streams` {stream: {"planned", "recorded"}}, `contradictions`, `examples`.
    """

    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        operations = history.operations
        late = [op for op in operations if is_late(op, after_seconds=self.late_after_seconds)]
        starts = [op.sent - op.due for op in operations if op.sent is not None]
        recorded = Counter(op.stream for op in operations if op.step == 0)
        streams = {
            stream: {
                "planned": sum(pace.planned for pace in history.paces if pace.stream == stream),
                "recorded": recorded[stream],
            }
            for stream in dict.fromkeys(pace.stream for pace in history.paces)
        }
        wrong = [op for op in operations if _contradicts_itself(op)]
        evidence = {
            "requests": len(operations),
            "late": len(late),
            "unsent": sum(not was_sent(op) for op in operations),
            "late_share": round(len(late) / len(operations), 4) if operations else None,
            "slowest_start_seconds": rounded(max(starts, default=None)),
            "p99_start_seconds": rounded(percentile(starts, 0.99)),
            "streams": streams,
            "contradictions": len(wrong),
            "examples": examples(wrong or late, since=operations[0].due if operations else 0.0),
        }
        if wrong:
            return Verdict.rig_error(f"the times of {plural(len(wrong), 'request')} contradict each other", **evidence)
        if not operations:
            return Verdict.inconclusive("no request was recorded", **evidence)
        missing = {name: s["planned"] - s["recorded"] for name, s in streams.items()}
        for stream, count in missing.items():
            if count > self.late_share * streams[stream]["planned"]:
                return Verdict.inconclusive(
                    f"{count} of {streams[stream]['planned']} planned requests of {stream} are not in the record",
                    **evidence,
                )
        if len(late) > self.late_share * len(operations):
            return Verdict.inconclusive(late_in_words(late, operations, self.late_after_seconds), **evidence)
        slowest = milliseconds(max(starts, default=0.0))
        return Verdict.passed(f"{plural(len(operations), 'request')} sent on time, slowest start {slowest}", **evidence)


def late_in_words(late: Sequence[Operation], of: Sequence[Operation], after_seconds: float) -> str:
    """Why the load was not the one that was planned."""
    return (
        f"{len(late)} of {plural(len(of), 'request')} were sent more than {milliseconds(after_seconds)} late or not at "
        "all: this machine was too busy for the rate"
    )


def _contradicts_itself(op: Operation) -> bool:
    if op.sent is not None and op.sent < op.due - _CLOCK_GRAIN_SECONDS:
        return True
    return op.answered is not None and (op.sent is None or op.answered < op.sent - _CLOCK_GRAIN_SECONDS)
