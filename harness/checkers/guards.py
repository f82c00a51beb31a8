"""Whether a scenario tested anything: enough traffic in each phase, sent on time, and a record that can be believed.

Judged together with the promise itself, so that a thin or late sample can only make a verdict weaker. What contradicts
itself is asked of every record, whatever it is judged by.
Must not: fail. What a guard finds is inconclusive, or a rig-error where the record contradicts itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, milliseconds, plural, rounded
from harness.checkers.measures import late_ones, percentile, was_sent
from harness.model import History, Look, Operation, Pace, Status, Verdict

__all__ = [
    "MADE_BY_WAITING",
    "OF_TIME",
    "STARVED",
    "WAITED",
    "EnoughTraffic",
    "OnTime",
    "contradictions",
    "late_as_evidence",
    "late_in_words",
    "waited_for_cores",
    "weakened",
]

WAITED = "waited-for-cores"
"""The look that tells how long the balancer and each instance stood ready and were given no core in a scenario."""

STARVED = "starved"
"""Under which it stands in the evidence of a checker that nothing could be told for want of cores."""

MADE_BY_WAITING = (
    "timeout",
    "unsent",
    "http-504",
    "http-502",
    "http-503",
    "balancer-503",
    "refused",
    "reset",
    "closed",
    "truncated",
)
"""Classes of failures that waiting alone can make: by itself, or where a balancer, a pool or a health check lost its patience."""

OF_TIME = frozenset(
    {
        "cut",
        "detection",
        "down-though-alive",
        "down-though-back",
        "failed-requests",
        "failed-writes",
        "flooded",
        "longest-gap",
        "not-moved",
        "not-recovered",
        "not-rejoined",
        "slowest-answer",
        "up-though-dead",
    }
)
"""What can be broken for want of processor time alone. Whoever is logged out, or sees somebody else's page, was not kept waiting; and
how long whoever restarts something takes for it is his own choice."""

_CLOCK_GRAIN_SECONDS = 0.001
"""Times are rounded when they are written; what is out of order by less is in order."""
_SCHEDULE_GRAIN_SECONDS = 0.000_01
"""When a request was due is computed, not read from a clock: only the microseconds it is written in separate the two."""


def contradictions(history: History) -> tuple[str, ...]:
    """Why this record cannot be what happened, one sentence each; none where it can.

    An open loop is told from its record: what was due follows from the pace alone, whatever came back. A rig that waited
    for answers has planned less than its pace says, or gives its requests times of their own; a record that was put
    together afterwards, or on a clock that was set meanwhile, has times that no pace leads to, or out of order.
    """
    wrong = len(_contradicting(history.operations))
    told = [f"the times of {plural(wrong, 'request')} contradict each other"] if wrong else []
    dues: dict[str, list[float]] = {pace.stream: [] for pace in history.paces}
    for op in history.operations:
        if op.step == 0 and op.stream in dues:
            dues[op.stream].append(op.due)
    for stream, moments in dues.items():
        paces = [pace for pace in history.paces if pace.stream == stream]
        planned = sum(pace.planned for pace in paces)
        asked = sum(map(_asked_for, paces))
        # One more or less: of a moment at the very border it is not known on which side it was.
        if planned < asked - len(paces):
            told.append(
                f"{planned} requests of {stream} were planned where its pace asks for {asked}: it was no open loop"
            )
        if len(moments) < planned:
            told.append(f"{planned - len(moments)} of {planned} planned requests of {stream} are not in the record")
            continue
        kept = sum(_kept(pace, moments) for pace in paces)
        if kept < planned:
            told.append(f"{planned - kept} of {planned} requests of {stream} were due when none was planned")
    return tuple(told)


def _asked_for(pace: Pace) -> int:
    """How many requests are due in its time at its rate, the first of them at its begin."""
    return max(0, int((pace.end - pace.begin) * pace.rate))


def _kept(pace: Pace, dues: Sequence[float]) -> int:
    """How many were due at a moment at which something was, by the pace: n intervals after its begin."""
    grain = _SCHEDULE_GRAIN_SECONDS * pace.rate
    first, last = -grain, pace.planned - 1 + grain
    begin, rate = pace.begin, pace.rate
    numbers = [(due - begin) * rate for due in dues]
    return sum(first <= number <= last and (number + grain) % 1.0 <= 2 * grain for number in numbers)


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

    Expects: operations; one `Pace` for each open-loop stream, whose planned requests must all be in the record, each due
    when the pace says. A record that contradicts itself (see `contradictions`) is a rig-error.

    Evidence: `late`, `unsent`, `requests`, `late_share`, `slowest_start_seconds`, `p99_start_seconds`,
    `streams` {stream: {"planned", "recorded"}}, `contradictions`, `examples`.
    """

    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        operations = history.operations
        late = late_ones(operations, after_seconds=self.late_after_seconds)
        starts = [op.sent - op.due for op in operations if op.sent is not None]
        recorded = Counter(op.stream for op in operations if op.step == 0)
        streams = {
            stream: {
                "planned": sum(pace.planned for pace in history.paces if pace.stream == stream),
                "recorded": recorded[stream],
            }
            for stream in dict.fromkeys(pace.stream for pace in history.paces)
        }
        wrong = _contradicting(operations)
        evidence = {
            "requests": len(operations),
            **late_as_evidence(late, operations),
            "unsent": sum(not was_sent(op) for op in operations),
            "slowest_start_seconds": rounded(max(starts, default=None)),
            "p99_start_seconds": rounded(percentile(starts, 0.99)),
            "streams": streams,
            "contradictions": len(wrong),
            "examples": examples(wrong or late, since=operations[0].due if operations else 0.0),
        }
        if untrue := contradictions(history):
            return Verdict.rig_error("; ".join(untrue), **evidence)
        if not operations:
            return Verdict.inconclusive("no request was recorded", **evidence)
        if len(late) > self.late_share * len(operations):
            return Verdict.inconclusive(late_in_words(late, operations, self.late_after_seconds), **evidence)
        slowest = milliseconds(max(starts, default=0.0))
        return Verdict.passed(f"{plural(len(operations), 'request')} sent on time, slowest start {slowest}", **evidence)


def late_as_evidence(late: Sequence[Operation], of: Sequence[Operation]) -> dict[str, Any]:
    """How many were late, and which share: what a busy machine is told by."""
    return {"late": len(late), "late_share": round(len(late) / len(of), 4) if of else None}


def late_in_words(late: Sequence[Operation], of: Sequence[Operation], after_seconds: float) -> str:
    """Why the load was not the one that was planned."""
    return (
        f"{len(late)} of {plural(len(of), 'request')} were sent more than {milliseconds(after_seconds)} late or not at "
        "all: this machine was too busy for the rate"
    )


def _contradicting(operations: Sequence[Operation]) -> list[Operation]:
    """Those that were sent before they were due, or answered before they were sent, or without."""
    return [
        op
        for op in operations
        if (op.sent is not None and op.sent < op.due - _CLOCK_GRAIN_SECONDS)
        or (op.answered is not None and (op.sent is None or op.answered < op.sent - _CLOCK_GRAIN_SECONDS))
    ]


@dataclass(frozen=True, slots=True)
class WaitedForCores:
    """Two of those a request goes through, who were given no core for the largest part of a scenario."""

    most: tuple[str, float]
    """Who, and how many seconds of all its threads together."""
    second: tuple[str, float]
    of_seconds: float
    cores: int
    busy_share: float | None
    others_share: float | None

    @property
    def share(self) -> float:
        """Of the second: one alone may be told of a pause of the whole machine, which the kernel takes for its waiting."""
        return self.second[1] / self.of_seconds

    @property
    def by_others(self) -> bool:
        """Whether this machine had no core left, and others than the harness and the setup had them."""
        return (
            self.busy_share is not None
            and self.others_share is not None
            and self.busy_share >= bounds.BUSY_SHARE
            and self.others_share >= bounds.OTHERS_SHARE
        )

    def __str__(self) -> str:
        busy = "" if self.busy_share is None else f", {self.busy_share:.0%} busy"
        others = "" if self.others_share is None else f", {self.others_share:.0%} for others"
        (most, longest), (second, long) = self.most, self.second
        return (
            f"the threads of {most} and {second} stood ready and were given no core for {longest:.1f} and {long:.1f} s in "
            f"{self.of_seconds:.1f} s ({plural(self.cores, 'core')}{busy}{others})"
        )


def waited_for_cores(looks: Iterable[Look]) -> WaitedForCores | None:
    """By the last such look among these. None where nobody could look, or only at one."""
    told = next((look.value for look in reversed([look for look in looks if look.what == WAITED])), None)
    if told is None or len(told["waited_seconds"]) < 2 or not told["seconds"]:
        return None
    by_seconds = sorted(told["waited_seconds"].items(), key=lambda item: float(item[1]), reverse=True)
    most, second = ((str(node), float(seconds)) for node, seconds in by_seconds[:2])
    return WaitedForCores(
        most=most,
        second=second,
        of_seconds=float(told["seconds"]),
        cores=int(told["cores"]),
        busy_share=told["busy_share"],
        others_share=told["others_share"],
    )


def weakened(verdict: Verdict, history: History) -> Verdict:
    """A failure of time alone is none that can be believed where those who serve were given no core for long, because others had
    them.

    Neither a rig that was on time nor a machine whose load is not looked at says so: whoever sends requests needs little and
    is soon given it, whoever answers them waits behind what else runs. Asked of every checker alike: what it found `broken`
    must all be of a kind that waiting makes, and so must be the classes of its `errors`. Everything else stays a failure.

    Evidence, besides what there was: `starved`, in words; the first of `guards`.
    """
    if verdict.status is not Status.FAIL:
        return verdict
    broken, errors = verdict.evidence.get("broken"), verdict.evidence.get("errors", {})
    if not broken or not OF_TIME.issuperset(broken) or not set(errors) <= set(MADE_BY_WAITING):
        return verdict
    waited = waited_for_cores(history.looks)
    if waited is None or waited.share < bounds.WAITED_SHARE or not waited.by_others:
        return verdict
    told = f"this machine was too busy to tell: {waited}"
    evidence = {**verdict.evidence, "guards": [told, *verdict.evidence.get("guards", ())], STARVED: str(waited)}
    return Verdict.inconclusive(f"{told}; {verdict.measured}", **evidence)
