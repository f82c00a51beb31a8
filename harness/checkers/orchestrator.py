"""Whether whoever keeps the replicas running does so: replaces a dead one, adds and removes, takes a bad version back.

A replica is an instance that an orchestrator keeps. Its name is that of its slot: the one that takes the place of a
dead or an old one has the same name, and which of the two answered follows from when, and from the version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import (
    examples,
    failure_times,
    kind_of,
    listed,
    milliseconds,
    plural,
    rounded,
)
from harness.checkers.failover import timeout_of
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import (
    SLOW,
    error_class,
    error_classes,
    gap_within,
    late_ones,
    probe_interval,
    through_balancer,
    touching,
    was_in_flight,
    was_sent,
)
from harness.checkers.sessions import NoSessionLost
from harness.checkers.statistics import zero_failures_in_words
from harness.model import FaultWindow, History, Look, Operation, RolloutStep, Status, Verdict

__all__ = ["BadVersionIsTakenBack", "LostReplicaIsReplaced", "ScalingCostsNothing"]

ROLLED_BACK, UNFINISHED = "rolled back", "unfinished"
"""What a look named `update` says of an update that was taken back by itself, and of one nobody saw the end of."""


@dataclass(frozen=True)
class LostReplicaIsReplaced:
    """A replica that died is replaced by the orchestrator alone: as many as are wanted are healthy again, and used.

    Nobody but the orchestrator heals: a window that never ended says that it did not. What the loss costs those who
    ask meanwhile is judged here only as far as it depends on the others: nobody is left without an answer for long.

    Expects: one fault window of the kind `kill`, healed when the wanted number of replicas was healthy again, or not
    healed and `healing` the moment until which that was waited for; looks named `replicas` whose value holds `wanted`
    and `healthy` [names], one whenever that changed; operations through the balancer before, during and after.

    Evidence (seconds count from the effect):
    - `victim`, `wanted`, `fewest` (healthy at the worst moment), `healed_seconds` (None: never), `waited_seconds`;
    - `answers` (of the replacement, once it was healthy), `used_seconds` (until the first, since it was healthy),
      `watched_seconds` (how long traffic went on after that), `victim_before` (answers before the fault);
    - `requests` (in the window), `longest_gap_seconds`, `gap_begins_seconds`, `late`, `proof`;
    - `broken` ["not-replaced", "not-used", "longest-gap"], `guards`.
    """

    within_seconds: float = bounds.HEAL_SECONDS
    used_within_seconds: float = bounds.REJOIN_SECONDS
    answers: int = bounds.REJOIN_ANSWERS
    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_phase: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        kills = [fault for fault in history.faults if kind_of(fault) == "kill"]
        if not kills:
            return Verdict.inconclusive("no replica was killed", guards=["no replica was killed"])
        seen = _Healing(self, history, kills[-1])
        guards, breaches = seen.guards(), seen.breaches()
        evidence = seen.evidence() | {"broken": list(breaches), "guards": guards}
        if breaches:
            return Verdict.fail("; ".join(breaches.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(seen.in_words(), **evidence)


class _Healing:
    """Everything measured around the death of one replica."""

    def __init__(self, rule: LostReplicaIsReplaced, history: History, fault: FaultWindow) -> None:
        self._rule, self._fault = rule, fault
        self._effect = fault.effective if fault.effective is not None else fault.injected
        asked = through_balancer(history)
        sent = [op for op in asked if was_sent(op)]
        self._late = late_ones(asked, after_seconds=rule.late_after_seconds)
        self._asked = len(asked)
        self.healed = None if fault.healed is None else fault.healed - self._effect
        self._waited = (fault.healed if fault.healed is not None else fault.healing) - self._effect
        end = fault.healed if fault.healed is not None else fault.healing
        self._during = [op for op in sent if fault.injected <= op.due < end]
        quick = [op for op in sent if op.stream != SLOW]
        self._gap = gap_within(quick, begin=fault.injected, end=end, interval_seconds=probe_interval(history, quick))
        of_victim = [op for op in sent if op.instance == fault.node and op.available and op.answered is not None]
        self._before = sum(op.due < fault.injected for op in of_victim)
        self._answers = [op for op in of_victim if fault.healed is not None and op.due >= fault.healed]
        first = min((op.answered for op in self._answers if op.answered is not None), default=None)
        self._used = None if first is None or fault.healed is None else max(0.0, first - fault.healed)
        self._watched = max([op.due for op in sent], default=end) - end
        self._asked_after = sum(end <= op.due < end + rule.used_within_seconds for op in sent)
        counts = [look for look in history.looks_at("replicas") if look.at >= fault.injected]
        self._wanted = max([int(look.value.get("wanted", 0)) for look in history.looks_at("replicas")], default=0)
        self._fewest = min([len(look.value.get("healthy", ())) for look in counts], default=None)

    def breaches(self) -> dict[str, str]:
        rule, fault = self._rule, self._fault
        broken: dict[str, str] = {}
        if fault.effective is None:
            return broken
        if self.healed is None and self._waited > rule.within_seconds:
            broken["not-replaced"] = (
                f"{fault.node} was killed and not replaced within {self._waited:.0f} s "
                f"(allowed {rule.within_seconds:.0f} s)"
            )
        elif self.healed is not None and self.healed > rule.within_seconds:
            broken["not-replaced"] = (
                f"{fault.node} was killed and replaced only after {self.healed:.1f} s "
                f"(allowed {rule.within_seconds:.0f} s)"
            )
        if self.healed is not None and self._before:
            watched = self._watched >= rule.used_within_seconds
            in_time = sum(op.due < (fault.healed or 0.0) + rule.used_within_seconds for op in self._answers)
            if watched and self._asked_after >= rule.each_phase * self._wanted and in_time < rule.answers:
                broken["not-used"] = (
                    f"the replacement of {fault.node} answered {plural(len(self._answers), 'request')} in the "
                    f"{self._watched:.1f} s after it was healthy ({rule.answers} within "
                    f"{rule.used_within_seconds:.0f} s are promised)"
                )
        if self._gap.seconds > rule.longest_gap_seconds and not self._rig_was_late:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(self._gap.seconds)} meanwhile"
        return broken

    @property
    def _rig_was_late(self) -> bool:
        return len(self._late) > self._rule.late_share * self._asked

    def guards(self) -> list[str]:
        rule, fault = self._rule, self._fault
        guards = []
        if fault.effective is None:
            guards.append(f"{fault.fault} on {fault.node} had no effect")
        if self._rig_was_late:
            guards.append(f"{len(self._late)} of {plural(self._asked, 'request')} were sent late or not at all")
        if not self._before:
            guards.append(f"{fault.node} had answered nothing before it was killed")
        if self._fewest is None or self._fewest >= self._wanted:
            guards.append(f"nobody saw a replica less after {fault.node} was killed")
        if self.healed is None and self._waited <= rule.within_seconds:
            guards.append(f"the replacement of {fault.node} was waited for {self._waited:.1f} s only")
        if len(self._during) < rule.each_phase:
            guards.append(
                f"only {plural(len(self._during), 'request')} while {fault.node} was lost ({rule.each_phase} are needed)"
            )
        if self.healed is not None and len(self._answers) < rule.answers:
            guards.append(
                f"the replacement of {fault.node} answered {plural(len(self._answers), 'request')} before the traffic "
                f"stopped, {self._watched:.1f} s after it was healthy"
            )
        return guards

    def in_words(self) -> str:
        used = f", used {milliseconds(self._used)} later" if self._used is not None else ""
        return (
            f"{self._wanted} replicas again {milliseconds(self.healed or 0.0)} after {self._fault.node} was killed{used}; "
            f"{plural(len(self._during), 'request')} meanwhile, longest gap {milliseconds(self._gap.seconds)}"
        )

    def evidence(self) -> dict[str, Any]:
        return {
            "victim": self._fault.node,
            "wanted": self._wanted,
            "fewest": self._fewest,
            "healed_seconds": rounded(self.healed),
            "waited_seconds": rounded(self._waited),
            "answers": len(self._answers),
            "used_seconds": rounded(self._used),
            "watched_seconds": rounded(self._watched),
            "victim_before": self._before,
            "requests": len(self._during),
            "longest_gap_seconds": rounded(self._gap.seconds),
            "gap_begins_seconds": rounded(self._gap.begin - self._effect) if self._gap.seconds else None,
            "late": len(self._late),
            "proof": self._fault.proof,
        }


class _Cost:
    """What something that was done on purpose cost those who asked from its begin to the end of the traffic."""

    def __init__(
        self, history: History, *, begin: float, longest_gap: float, late_share: float, late_after: float
    ) -> None:
        self._begin, self._longest_gap, self._late_share, self._late_after = begin, longest_gap, late_share, late_after
        operations = through_balancer(history)
        last = max([op.answered if op.answered is not None else op.due for op in operations], default=begin)
        judged = touching(operations, start=begin, end=last + 1.0, timeout_seconds=timeout_of(history))
        self._judged = judged
        self._late = late_ones(judged, after_seconds=late_after)
        self.requests = [op for op in judged if was_sent(op)]
        self.failed = [op for op in self.requests if not op.available]
        quick = [op for op in operations if op.stream != SLOW]
        self._gap = gap_within(
            quick,
            begin=begin,
            end=max([op.due for op in quick], default=begin),
            interval_seconds=probe_interval(history, quick),
        )
        self._sessions = NoSessionLost(after="rollout").check(history)

    @property
    def _rig_was_late(self) -> bool:
        return len(self._late) > self._late_share * len(self._judged)

    def breaches(self) -> dict[str, str]:
        broken: dict[str, str] = {}
        # A stalled rig makes gaps and time-outs of its own; a status or a reset it cannot make.
        proven = not self._rig_was_late or any(error_class(op) not in ("timeout", "unsent") for op in self.failed)
        if self.failed and proven:
            classes = ", ".join(f"{name} {count}" for name, count in error_classes(self.failed).items())
            broken["failed-requests"] = (
                f"{len(self.failed)} of {plural(len(self.requests), 'request')} failed ({classes})"
            )
        if self._gap.seconds > self._longest_gap and not self._rig_was_late:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(self._gap.seconds)}"
        if self._sessions.status is Status.FAIL:
            broken["session-lost"] = self._sessions.measured
        return broken

    def guards(self) -> list[str]:
        return [late_in_words(self._late, self._judged, self._late_after)] if self._rig_was_late else []

    def in_words(self) -> str:
        return f"{plural(len(self.requests), 'request')}, 0 failed, longest gap {milliseconds(self._gap.seconds)}"

    def evidence(self) -> dict[str, Any]:
        tried: dict[str, int] = {}
        for op in self.failed:
            key = " ".join(op.attempts) or "(unknown)"
            tried[key] = tried.get(key, 0) + 1
        return {
            "requests": len(self.requests),
            "failed": len(self.failed),
            "errors": error_classes(self.failed),
            "failed_attempts": tried,
            "longest_gap_seconds": rounded(self._gap.seconds),
            "gap_begins_seconds": rounded(self._gap.begin - self._begin) if self._gap.seconds else None,
            **failure_times(self.failed, since=self._begin),
            "sessions": dict(self._sessions.evidence),
            "sessions_status": self._sessions.status.value,
            **late_as_evidence(self._late, self._judged),
            "proves": zero_failures_in_words(len(self.requests)) if not self.failed else "",
            "examples": examples(self.failed, since=self._begin),
        }


@dataclass(frozen=True, slots=True)
class _Scaling:
    """One order for another number of replicas, and when that number was there."""

    wanted: int
    before: int
    at: float
    waited: float
    """How long it took, or was waited for in vain."""
    reached: bool

    @property
    def seconds(self) -> float | None:
        return self.waited if self.reached else None

    def __str__(self) -> str:
        return f"{self.before} to {self.wanted}"


@dataclass(frozen=True)
class ScalingCostsNothing:
    """More replicas are there and used soon, fewer cost nobody anything, and who is gone is not asked any more.

    Judged from the first order to the end of the traffic. An added replica has to answer through the balancer; a
    removed one may not be tried by a request that was due `left_alone_seconds` or more after it had ended: a second
    try would hide that from the visitor, and cost time all the same. One whose place another one of the same name took
    is not removed but replaced: an orchestrator may do that, and it is told.

    Expects: looks named `scale` with the value {"from", "to", "reached"} made when the order was carried out (or given
    up), `seconds` long; looks named `replicas`, the first of which tells who was there before; rollout steps `begin`,
    `start`, `ready` and `stop`, `stopped` of single replicas, `end`; operations through the balancer; a stream `slow` of which some are in flight on a removed replica when it is told to stop.

    Evidence (seconds count from the first order):
    - `scalings` [{"from", "to", "seconds"}], `requests`, `failed`, `errors`, `failed_attempts`,
      `failed_by_phase` {"3 to 6": n}, `longest_gap_seconds`, `sessions` (evidence of NoSessionLost), `proves`;
    - `added` {name: {"ready_seconds", "answers", "used_seconds", "watched_seconds"}} (the last two since ready),
      `removed` {name: {"stop_seconds", "slow_in_flight", "tried_after", "last_tried_seconds"}} (the last since gone),
      `replaced` [names: told to go, and their places taken by others];
    - `broken` ["failed-requests", "longest-gap", "session-lost", "not-reached", "not-used", "tried-after-end"],
      `guards`, `examples`.
    """

    within_seconds: float = bounds.SCALE_SECONDS
    used_within_seconds: float = bounds.REJOIN_SECONDS
    answers: int = bounds.REJOIN_ANSWERS
    left_alone_seconds: float = bounds.LEFT_ALONE_SECONDS
    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_phase: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        scalings = _scalings(history)
        if not scalings:
            return Verdict.inconclusive("nothing was scaled", guards=["nothing was scaled"])
        seen = _Scaled(self, history, scalings)
        guards, breaches = seen.guards(), seen.breaches()
        evidence = seen.evidence() | {"broken": list(breaches), "guards": guards}
        if breaches:
            return Verdict.fail("; ".join(breaches.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(seen.in_words(), **evidence)


def _scalings(history: History) -> list[_Scaling]:
    looks = sorted(history.looks_at("scale"), key=lambda look: look.at)
    return [
        _Scaling(
            wanted=int(look.value["to"]),
            before=int(look.value["from"]),
            at=look.at,
            waited=look.seconds,
            reached=bool(look.value.get("reached")),
        )
        for look in looks
        if {"from", "to"} <= set(look.value)
    ]


class _Scaled:
    """Everything measured around some changes of the number of replicas."""

    def __init__(self, rule: ScalingCostsNothing, history: History, scalings: Sequence[_Scaling]) -> None:
        self._rule, self._history, self._scalings = rule, history, scalings
        self._begin = scalings[0].at
        self._cost = _Cost(
            history,
            begin=self._begin,
            longest_gap=rule.longest_gap_seconds,
            late_share=rule.late_share,
            late_after=rule.late_after_seconds,
        )
        self._sent = list(filter(was_sent, through_balancer(history)))
        self._last = max([op.due for op in self._sent], default=self._begin)
        steps: dict[str, list[RolloutStep]] = {}
        for step in sorted(history.rollout, key=lambda step: step.at):
            if step.node and step.at >= self._begin:
                steps.setdefault(step.node, []).append(step)
        self._steps = steps
        at_first = self._at_first()
        told_to_go = {name: at for name in steps if (at := self._when(name, "stop")) is not None}
        # Whoever takes the place of one that ended has its name: only a place that nobody took is empty.
        left = {name: (name in at_first) + self._count(name, "start") - self._count(name, "stopped") for name in steps}
        self._added = {
            name: at
            for name in steps
            if name not in at_first and (at := self._when(name, "ready", last=False)) is not None
        }
        self._replaced = sorted(name for name in told_to_go if left[name] > 0 and self._count(name, "stopped"))
        self._removed = {name: at for name, at in told_to_go.items() if name not in self._replaced}

    def _at_first(self) -> frozenset[str]:
        """Those who were there when the first order was given: who was seen then, or else who did not have to start."""
        looks = [look for look in self._history.looks_at("replicas") if look.at >= self._begin]
        if looks:
            return frozenset(min(looks, key=lambda look: look.at).value.get("healthy", ()))
        return frozenset(name for name, steps in self._steps.items() if steps[0].step not in ("start", "ready"))

    def _count(self, name: str, what: str) -> int:
        return sum(step.step == what for step in self._steps[name])

    def _when(self, name: str, what: str, *, last: bool = True) -> float | None:
        """The last time, or the first, that this became of whoever had this name."""
        times = [step.at for step in self._steps[name] if step.step == what]
        return times[-1 if last else 0] if times else None

    def _ended(self, name: str) -> float | None:
        return self._when(name, "stopped")

    def _present_until(self, name: str) -> float:
        return self._removed.get(name, self._last)

    def _answers(self, name: str) -> list[Operation]:
        since = self._added[name]
        return [op for op in self._sent if op.instance == name and op.available and op.due >= since]

    def _in_time(self, name: str) -> int:
        """Its answers to what was asked as long as it may take to be used."""
        return sum(op.due < self._added[name] + self._rule.used_within_seconds for op in self._answers(name))

    def _used(self, name: str) -> float | None:
        first = min((op.answered for op in self._answers(name) if op.answered is not None), default=None)
        return None if first is None else max(0.0, first - self._added[name])

    def _watched(self, name: str) -> float:
        """How long it was there to be used while there was traffic."""
        return min(self._present_until(name), self._last) - self._added[name]

    def _had_its_chance(self, name: str) -> bool:
        """Whether enough was asked in the time it has, for a fair share of it to be seen."""
        since, within = self._added[name], self._rule.used_within_seconds
        asked = sum(since <= op.due < since + within for op in self._sent)
        most = max(s.wanted for s in self._scalings)
        return self._watched(name) >= within and asked >= self._rule.each_phase * most

    def _tried_after(self, name: str) -> list[Operation]:
        ended = self._ended(name)
        if ended is None:
            return []
        since = ended + self._rule.left_alone_seconds
        return [op for op in self._sent if op.due >= since and (name in op.attempts or op.instance == name)]

    def breaches(self) -> dict[str, str]:
        rule = self._rule
        broken = self._cost.breaches()
        slow = [s for s in self._scalings if s.waited > rule.within_seconds]
        if slow:
            told = ", ".join(f"{s} {'never' if s.seconds is None else f'after {s.seconds:.1f} s'}" for s in slow)
            broken["not-reached"] = (
                f"the wanted number was reached too late: {told} (allowed {rule.within_seconds:.0f} s)"
            )
        unused = [name for name in self._added if self._had_its_chance(name) and self._in_time(name) < rule.answers]
        if unused:
            broken["not-used"] = (
                f"{listed(unused)} answered nothing, or too late: {rule.answers} answers within "
                f"{rule.used_within_seconds:.0f} s of being ready are promised"
            )
        after = {name: len(tried) for name in self._removed if (tried := self._tried_after(name))}
        if after:
            told = ", ".join(f"{name} {plural(count, 'request')}" for name, count in after.items())
            broken["tried-after-end"] = (
                f"replicas that had been removed were asked more than {milliseconds(rule.left_alone_seconds)} after "
                f"they had ended ({told})"
            )
        return broken

    def guards(self) -> list[str]:
        rule = self._rule
        guards = self._cost.guards()
        if not any(s.wanted > s.before for s in self._scalings):
            guards.append("no replica was added")
        if not any(s.wanted < s.before for s in self._scalings):
            guards.append("no replica was removed")
        for s in self._scalings:
            if not s.reached and s.waited <= rule.within_seconds:
                guards.append(f"{s} was waited for {s.waited:.1f} s only")
        grown = sum(max(0, s.wanted - s.before) for s in self._scalings)
        shrunk = sum(max(0, s.before - s.wanted) for s in self._scalings)
        if len(self._added) < grown:
            guards.append(f"only {len(self._added)} of {grown} added replicas were seen to be ready")
        ended = [name for name in self._removed if self._ended(name) is not None]
        if len(ended) < shrunk:
            guards.append(f"only {len(ended)} of {shrunk} removed replicas were seen to end")
        for name, count in self._phases().items():
            if count < rule.each_phase:
                guards.append(f"only {plural(count, 'request')} {name} ({rule.each_phase} are needed)")
        few = [name for name in self._added if len(self._answers(name)) < rule.answers]
        if few:
            guards.append(f"{listed(few)} answered fewer than {rule.answers} requests while anybody watched")
        if self._removed and not any(self._slow_in_flight(name) for name in self._removed):
            guards.append("no slow request was in flight on any removed replica when it was told to stop")
        return guards

    def _phases(self) -> Mapping[str, int]:
        marks = [s.at for s in self._scalings]
        counts = {"before anything was scaled": sum(op.due < marks[0] for op in self._sent)}
        for scaling, until in zip(self._scalings, [*marks[1:], float("inf")], strict=True):
            counts[f"since {scaling}"] = sum(scaling.at <= op.due < until for op in self._sent)
        return counts

    def _slow_in_flight(self, name: str) -> int:
        at = self._removed[name]
        return sum(
            op.stream == SLOW and was_in_flight(op, at=at) and (op.instance == name or name in op.attempts)
            for op in self._sent
        )

    def in_words(self) -> str:
        took = ", ".join(f"{s} in {milliseconds(s.seconds or 0.0)}" for s in self._scalings)
        replaced = f"; {listed(self._replaced)} replaced meanwhile" if self._replaced else ""
        return f"{took}{replaced}; {self._cost.in_words()}"

    def evidence(self) -> dict[str, Any]:
        marks = [*[s.at for s in self._scalings], float("inf")]
        return {
            **self._cost.evidence(),
            "scalings": [{"from": s.before, "to": s.wanted, "seconds": rounded(s.seconds)} for s in self._scalings],
            "failed_by_phase": {
                str(s): sum(s.at <= op.due < until for op in self._cost.failed)
                for s, until in zip(self._scalings, marks[1:], strict=True)
            },
            "added": {
                name: {
                    "ready_seconds": rounded(at - self._begin),
                    "answers": len(self._answers(name)),
                    "used_seconds": rounded(self._used(name)),
                    "watched_seconds": rounded(self._watched(name)),
                }
                for name, at in self._added.items()
            },
            "removed": {
                name: {
                    "stop_seconds": rounded(ended - at) if (ended := self._ended(name)) is not None else None,
                    "slow_in_flight": self._slow_in_flight(name),
                    "tried_after": len(tried := self._tried_after(name)),
                    "last_tried_seconds": rounded(max([op.due for op in tried]) - ended) if tried and ended else None,
                }
                for name, at in self._removed.items()
            },
            "replaced": self._replaced,
        }


@dataclass(frozen=True)
class BadVersionIsTakenBack:
    """A version that never becomes healthy is taken back by itself: nobody meets it, and nobody loses anything.

    Judged from `begin` to the end of the traffic. A version is met when it answers anybody through the balancer.

    Expects: rollout steps `begin` (its `version` the bad one), `start` of single replicas with that version, `end`; a
    look named `update` with the value {"outcome": "rolled back" | "paused" | "completed" | "unfinished", "message"};
    operations through the balancer that carry a version, before and after.

    Evidence (seconds count from `begin`):
    - `bad_version`, `outcome`, `message`, `seconds` (until it was taken back), `tried_on` [names: where it was started],
      `ready_on` [names that took it for healthy], `old_versions` {version: answers before}, `met` {version: answers},
      `versions_after` {version: answers after the end};
    - `requests`, `failed`, `errors`, `failed_attempts`, `longest_gap_seconds`, `sessions`, `proves`, `late`, `late_share`;
    - `broken` ["failed-requests", "longest-gap", "session-lost", "not-taken-back", "too-late", "met-by-visitors"],
      `guards`, `examples`.
    """

    within_seconds: float = bounds.TAKEN_BACK_SECONDS
    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_phase: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        begins = sorted((step for step in history.rollout if step.step == "begin"), key=lambda step: step.at)
        updates = sorted(history.looks_at("update"), key=lambda look: look.at)
        if not begins or not updates:
            return Verdict.inconclusive("no version was rolled out", guards=["no version was rolled out"])
        seen = _TakenBack(self, history, begins[-1].at, begins[-1].version, updates[-1])
        guards, breaches = seen.guards(), seen.breaches()
        evidence = seen.evidence() | {"broken": list(breaches), "guards": guards}
        if breaches:
            return Verdict.fail("; ".join(breaches.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(seen.in_words(), **evidence)


class _TakenBack:
    """Everything measured around one version that must not stay."""

    def __init__(self, rule: BadVersionIsTakenBack, history: History, begin: float, bad: str, update: Look) -> None:
        self._rule, self._begin, self._bad, self._update = rule, begin, bad, update
        self._cost = _Cost(
            history,
            begin=begin,
            longest_gap=rule.longest_gap_seconds,
            late_share=rule.late_share,
            late_after=rule.late_after_seconds,
        )
        ends = [step.at for step in history.rollout if step.step == "end" and step.at >= begin]
        self._end = max(ends, default=None)
        sent = list(filter(was_sent, through_balancer(history)))
        self._before = [op for op in sent if op.due < begin]
        self._after = [op for op in sent if self._end is not None and op.due >= self._end]
        self._during = [op for op in sent if op.due >= begin and (self._end is None or op.due < self._end)]
        self._old = _counted(self._before)
        self._met = _counted([op for op in sent if op.due >= begin and op.version == bad])
        steps = [step for step in history.rollout if step.at >= begin and step.version == bad and step.node]
        self._tried_on = sorted({step.node for step in steps if step.step == "start"})
        self._ready_on = sorted({step.node for step in steps if step.step == "ready"})

    @property
    def _outcome(self) -> str:
        return str(self._update.value.get("outcome", ""))

    @property
    def _seconds(self) -> float | None:
        return None if self._end is None else self._end - self._begin

    @property
    def _cut_short(self) -> bool:
        """Whether nobody waited long enough to say that it was never taken back."""
        return self._outcome == UNFINISHED and (self._seconds or 0.0) <= self._rule.within_seconds

    def breaches(self) -> dict[str, str]:
        rule = self._rule
        broken = self._cost.breaches()
        if self._outcome != ROLLED_BACK and not self._cut_short:
            broken["not-taken-back"] = (
                f"the bad version was not taken back: the update {_OUTCOMES.get(self._outcome, self._outcome)}"
            )
        elif self._outcome == ROLLED_BACK and (self._seconds or 0.0) > rule.within_seconds:
            broken["too-late"] = (
                f"the bad version was taken back only after {self._seconds or 0.0:.0f} s (allowed {rule.within_seconds:.0f} s)"
            )
        if self._met:
            broken["met-by-visitors"] = f"{plural(sum(self._met.values()), 'answer')} came from the bad version"
        return broken

    def guards(self) -> list[str]:
        rule = self._rule
        guards = self._cost.guards()
        if not self._bad:
            guards.append("nobody said what the bad version is called")
        if self._bad in self._old:
            guards.append(f"the version before was called {self._bad} as well: nobody could tell the two apart")
        if not self._old:
            guards.append("no answer told its version: a bad one could not be recognised (app.version_header)")
        if not self._tried_on:
            guards.append("the bad version was never started")
        if self._end is None or self._cut_short:
            guards.append("the update was not watched to its end")
        for count, when in (
            (len(self._before), "before the update"),
            (len(self._during), "during the update"),
            (len(self._after), "after the update"),
        ):
            if count < rule.each_phase:
                guards.append(f"only {plural(count, 'request')} {when} ({rule.each_phase} are needed)")
        if self._cost.evidence()["sessions_status"] == Status.INCONCLUSIVE.value:
            guards.append("it was not seen whether people stay logged in")
        return guards

    def in_words(self) -> str:
        return (
            f"taken back after {self._seconds or 0.0:.1f} s, tried on {listed(self._tried_on)}; {self._cost.in_words()}, "
            "none answered by the bad version"
        )

    def evidence(self) -> dict[str, Any]:
        return {
            **self._cost.evidence(),
            "bad_version": self._bad,
            "outcome": self._outcome,
            "message": str(self._update.value.get("message", "")),
            "seconds": rounded(self._seconds),
            "tried_on": self._tried_on,
            "ready_on": self._ready_on,
            "old_versions": self._old,
            "met": self._met,
            "versions_after": _counted(self._after),
        }


_OUTCOMES = {
    "completed": "was completed with it",
    "paused": "was paused half-way",
    UNFINISHED: "was never finished",
}


def _counted(operations: Sequence[Operation]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in operations:
        if op.version is not None and op.answered is not None:
            counts[op.version] = counts.get(op.version, 0) + 1
    return counts
