"""Whether what several requests change in one session at the same time is all there afterwards.

A change that was not acknowledged may have happened or not; one that was acknowledged must be there. Who is answered as
logged out says nothing of changes: that is another promise. Must not: judge anything but changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, plural
from harness.model import Answer, History, Look, Operation, Outcome, Verdict

__all__ = ["ChangesSurvive", "StepsAreCounted"]


@dataclass(frozen=True)
class StepsAreCounted:
    """A counter in a session that is raised through several instances at the same time has counted every step once.

    Expects: looks named `counted` {"visitor", "stage", "outcome", "answer", "count"} at the instance that was asked: one in
    stage `first` and one in stage `last` for each visitor, many in stage `together`; and the operations `counter` of the
    stream `together`, which show what overlapped. The last count must be the first one and one for each acknowledged step
    since, its own included; steps whose outcome is unknown may count. No count may be told twice.

    Source: a counter as Jepsen judges it, final = acknowledged + (0 to unknown).

    Evidence: `people` (fully tested), `steps` (acknowledged), `unknown`, `lost`, `repeated`, `extra`: steps;
    `by_visitor` {name: {"first", "last", "steps", "unknown", "lost", "repeated", "extra"}}, `overlapping` steps,
    `instances` {name: steps}, `logged_out`: answers; `guards`.
    """

    steps: int = bounds.STEPS_TOGETHER
    overlapping: int = bounds.STEPS_OVERLAPPING

    def check(self, history: History) -> Verdict:
        looks: defaultdict[str, list[Look]] = defaultdict(list)
        for look in history.looks_at("counted"):
            looks[str(look.value.get("visitor"))].append(look)
        trials = {visitor: trial for visitor, told in looks.items() if (trial := _counted(told)) is not None}
        together = [look for told in looks.values() for look in told if look.value.get("stage") == "together"]
        instances = Counter(look.node for look in together if look.value.get("outcome") == Outcome.OK)
        overlapping = len(_overlapping(op for op in history.of_kind("counter") if op.stream == "together"))
        totals = {key: sum(trial[key] for trial in trials.values()) for key in ("steps", "unknown", *_WRONG)}
        guards = []
        if not trials:
            guards.append("no counter was read before and after it was raised")
        if totals["steps"] < self.steps:
            guards.append(f"only {plural(totals['steps'], 'step')} were acknowledged ({self.steps} are needed)")
        if len(instances) < 2:
            guards.append("no two instances raised the counter of one session")
        if overlapping < self.overlapping:
            guards.append(f"only {overlapping} steps overlapped with another ({self.overlapping} are needed)")
        evidence: dict[str, Any] = {
            "people": len(trials),
            **totals,
            "by_visitor": trials,
            "overlapping": overlapping,
            "instances": dict(instances),
            "logged_out": sum(look.value.get("answer") == Answer.LOGGED_OUT for look in together),
            "guards": guards,
        }
        told = f"{plural(totals['steps'], 'step')} in {plural(len(trials), 'session')}"
        wrong = [f"{totals[key]} {key}" for key in _WRONG if totals[key]]
        if wrong:
            return Verdict.fail(f"{told}: {', '.join(wrong)}", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{told} through {plural(len(instances), 'instance')}: every one counted once", **evidence
        )


_WRONG = ("lost", "repeated", "extra")


def _counted(looks: Sequence[Look]) -> dict[str, int] | None:
    """What became of one session's steps; None where its counter was not told before and after."""
    ends = {
        stage: [look for look in looks if look.value.get("stage") == stage] for stage in ("first", "together", "last")
    }
    counts = {stage: [_number(look) for look in told] for stage, told in ends.items()}
    first, last = counts["first"][:1], counts["last"][:1]
    if not first or not last or first[0] is None or last[0] is None:
        return None
    steps = sum(look.value.get("outcome") == Outcome.OK for look in ends["together"])
    unknown = sum(look.value.get("outcome") == Outcome.UNKNOWN for look in ends["together"])
    told = Counter(count for count in (*first, *counts["together"], *last) if count is not None)
    least = first[0] + steps + 1
    return {
        "first": first[0],
        "last": last[0],
        "steps": steps,
        "unknown": unknown,
        "lost": max(0, least - last[0]),
        "repeated": sum(times - 1 for times in told.values()),
        "extra": max(0, last[0] - least - unknown),
    }


def _number(look: Look) -> int | None:
    text = str(look.value.get("count"))
    return int(text) if text.removeprefix("-").isdecimal() else None


@dataclass(frozen=True)
class ChangesSurvive:
    """Of two things that are put into one session at the same time both are there afterwards.

    Expects: operations `remember` of the stream `together`, two or more of each visitor at the same time through different
    instances, each with a record; and `recall` of the stream `afterwards`, one for each record that was acknowledged.

    Evidence: `people`, `changes` (acknowledged), `together`: those of them that overlapped with another of the same session
    through another instance; `found`, `lost`, `lost_together`, `logged_out`, `unread`: changes; `guards`, `examples`.
    """

    together: int = bounds.CHANGES_TOGETHER

    def check(self, history: History) -> Verdict:
        changes = [
            op
            for op in history.of_kind("remember")
            if op.stream == "together" and op.final and op.outcome is Outcome.OK and op.record is not None
        ]
        overlapping = {op.record for op in _overlapping(changes)}
        read = {op.record: op for op in history.of_kind("recall") if op.stream == "afterwards" and op.final}
        found = [op for op in changes if op.record in read and read[op.record].outcome is Outcome.OK]
        lost = [op for op in changes if op.record in read and _is_missing(read[op.record])]
        logged_out = [op for op in changes if op.record in read and read[op.record].answer is Answer.LOGGED_OUT]
        tested = [op for op in (*found, *lost) if op.record in overlapping]
        guards = []
        if not changes:
            guards.append("nothing was put into any session")
        elif len(tested) < self.together:
            guards.append(
                f"only {plural(len(tested), 'change')} at the same time as another of the same session were acknowledged "
                f"and looked for ({self.together} are needed)"
            )
        evidence = {
            "people": len({op.visitor for op in changes}),
            "changes": len(changes),
            "together": len(tested),
            "found": len(found),
            "lost": len(lost),
            "lost_together": sum(op.record in overlapping for op in lost),
            "logged_out": len(logged_out),
            "unread": len(changes) - len(found) - len(lost) - len(logged_out),
            "guards": guards,
            "examples": examples(
                (read[op.record] for op in lost), since=history.operations[0].due if history.operations else 0.0
            ),
        }
        told = f"{len(found)} of {plural(len(found) + len(lost), 'change')} found again"
        if lost:
            return Verdict.fail(f"{told}: {len(lost)} acknowledged and lost", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(f"{told}, {len(tested)} made at the same time as another", **evidence)


def _is_missing(op: Operation) -> bool:
    """Whether the application properly said that it is not there: anything else says nothing."""
    if op.answered is None or op.status is None or op.answer not in (Answer.FAILED, Answer.REFUSED):
        return False
    return op.status < 500


def _overlapping(operations: Iterable[Operation]) -> list[Operation]:
    """Those that were under way at the same time as another of the same visitor through another instance."""
    by_visitor: defaultdict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        if op.outcome is Outcome.OK:
            by_visitor[op.visitor].append(op)
    return [op for own in by_visitor.values() for op in own if any(_overlap(op, other) for other in own)]


def _overlap(op: Operation, other: Operation) -> bool:
    if op.sent is None or op.answered is None or other.sent is None or other.answered is None or op.via == other.via:
        return False
    return op.sent < other.answered and other.sent < op.answered
