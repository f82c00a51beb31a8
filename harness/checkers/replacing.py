"""What is left in use while a new version comes, and what a switch from one set of instances to another costs.

Must not: judge what the replacement of single instances costs people (`rollout` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, failure_times, listed, milliseconds, plural, rounded
from harness.checkers.failover import timeout_of
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import (
    SLOW,
    error_classes,
    gap_within,
    late_ones,
    probe_interval,
    through_balancer,
    touching,
    was_in_flight,
    who_is_not_told,
)
from harness.checkers.rollout import away_from_use
from harness.checkers.sessions import NoSessionLost
from harness.checkers.statistics import zero_failures_in_words
from harness.model import Connection, History, Operation, RolloutStep, Status, Verdict

__all__ = ["CapacityIsKept", "SwitchCostsNothing"]


# -- what is left --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CapacityIsKept:
    """At no moment of a rollout are fewer instances in use than the setup says that its load needs.

    Judged by the steps alone, whatever the load of the moment happens to bear: an instance is out of use from its drain (or
    stop) until it is enabled again (or ready, where no balancer is told).

    Expects: rollout steps as for `RolloutCostsNothing`; `at_least` in the setup (not given: all instances but one).

    Evidence: `instances`, `at_least`, `fewest` (in use at the worst moment), `fewest_seconds` (for how long, in all), `away`
    [those that were out of use then], `replaced` [names], `not_replaced` [names], `rollout`, `batch`, `guards`.
    """

    def check(self, history: History) -> Verdict:
        begins = [step.at for step in history.rollout if step.step == "begin"]
        ends = [step.at for step in history.rollout if step.step == "end"]
        if not begins:
            return Verdict.inconclusive("no rollout was carried out", guards=["no rollout was carried out"])
        away = away_from_use(history.rollout)
        every = history.instances
        given = history.setup.get("at_least")
        at_least = int(given) if given is not None else len(every) - 1
        fewest, seconds, names = _worst(every, away)
        not_replaced = [name for name in every if name not in away]
        guards = []
        if not ends:
            guards.append("the rollout did not come to its end")
        if not_replaced:
            guards.append(f"{listed(not_replaced)} was not replaced")
        if len(every) < 2:
            guards.append("there is no second instance")
        evidence = {
            "instances": len(every),
            "at_least": at_least,
            "fewest": fewest,
            "fewest_seconds": rounded(seconds),
            "away": names,
            "replaced": list(away),
            "not_replaced": not_replaced,
            "rollout": history.setup.get("rollout"),
            "batch": history.setup.get("batch"),
            "guards": guards,
        }
        if fewest < at_least:
            return Verdict.fail(
                f"{fewest} of {plural(len(every), 'instance')} were in use for {milliseconds(seconds)}, while {listed(names)} "
                f"were replaced ({at_least} are needed)",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{fewest} of {plural(len(every), 'instance')} or more were in use at any moment ({at_least} are needed)",
            **evidence,
        )


def _worst(every: Sequence[str], away: dict[str, tuple[float, float]]) -> tuple[int, float, list[str]]:
    """How few were in use at the worst moment, for how long in all, and who was away when that was first so."""
    moments = sorted({moment for span in away.values() for moment in span})
    fewest, seconds, names = len(every), 0.0, list[str]()
    for begin, end in pairwise(moments):
        out = [name for name, (left, back) in away.items() if left <= begin and end <= back]
        if len(every) - len(out) < fewest:
            fewest, seconds, names = len(every) - len(out), 0.0, out
        if len(every) - len(out) == fewest:
            seconds += end - begin
    return fewest, seconds, names


# -- the switch ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Switch:
    """One switch, from its order until the set that was left had nothing any more."""

    to: str
    ordered: float
    switched: float


def _switches(steps: Sequence[RolloutStep]) -> list[_Switch]:
    found: list[_Switch] = []
    ordered: RolloutStep | None = None
    for step in sorted(steps, key=lambda step: step.at):
        if step.step == "switch":
            ordered = step
        elif step.step == "switched" and ordered is not None:
            found.append(_Switch(ordered.detail, ordered.at, step.at))
            ordered = None
    return found


@dataclass(frozen=True)
class SwitchCostsNothing:
    """A switch to a second set of instances, and one back, costs nobody a request or a session; afterwards only the set that
    was switched to answers.

    Judged by what people got through the balancer, in all streams, from the first step to the end of the traffic, with what was
    in flight then.

    Expects: steps `begin` and `end` for the way there and for the way back, and between them `switch` and `switched`, whose
    detail is `green` and then `blue`; operations that carry a version; those in the stream `slow` must have been in flight at each
    switch; logins and visits as for `NoSessionLost(after="rollout")`.

    Evidence (seconds count from the first `begin`): `requests`, `failed`, `errors`, `broken` ["failed-requests", "longest-gap",
    "old-side-answers", "session-lost"], `cut` (slow ones that were in flight at a switch and failed), `slow_in_flight` {side that
    was switched to: how many}, `failed_by_phase` {"before", "to green", "on green", "to blue", "on blue"},
    `unreachable` (nobody was there to be asked: http-502, balancer-503), `versions` {"before": [..], "green": [..], "blue": [..]},
    `late_answers` {side: answers of another version after the switch}, `longest_gap_seconds`, `switch_seconds` {side: seconds},
    `ready_before_switch` {side: whether all of it had said so}, `removed_early` (sides removed with their switch),
    `first_failure_seconds`, `last_failure_seconds`, `sessions`, `sessions_status`, `late`, `late_share`, `proves`, `guards`, `examples`.
    """

    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_connection_kind: int = bounds.EACH_CONNECTION_KIND
    each_phase: int = bounds.EACH_PHASE
    in_flight: int = bounds.IN_FLIGHT_AT_STOP
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        begins = [step.at for step in history.rollout if step.step == "begin"]
        switches = _switches(history.rollout)
        if not begins or not switches:
            nothing = "nobody was switched from one set of instances to another"
            return Verdict.inconclusive(nothing, guards=[nothing])
        return _Seen(self, history, begins[0], switches).verdict()


class _Seen:
    """Everything measured around a switch there and back."""

    def __init__(self, rule: SwitchCostsNothing, history: History, begin: float, switches: list[_Switch]) -> None:
        self._rule, self._history, self._begin, self._switches = rule, history, begin, switches
        operations = through_balancer(history)
        last = max([op.answered if op.answered is not None else op.due for op in operations], default=begin)
        judged = touching(operations, start=begin, end=last + 1.0, timeout_seconds=timeout_of(history))
        self._judged = judged
        self._late = late_ones(judged, after_seconds=rule.late_after_seconds)
        self._requests = [op for op in judged if op.error != "unsent"]
        self._failed = [op for op in self._requests if not op.available]
        self._before = [op for op in operations if op.available and op.due < begin]
        quick = [op for op in operations if op.stream != SLOW]
        self._gap = gap_within(
            quick,
            begin=begin,
            end=max([op.due for op in quick], default=begin),
            interval_seconds=probe_interval(history, quick),
        )
        self._sessions = NoSessionLost(after="rollout").check(history)
        self._held = {
            each.to: [op for op in operations if op.stream == SLOW and was_in_flight(op, at=each.ordered)]
            for each in switches
        }
        self._versions = self._told()

    def _after(self, switch: _Switch) -> list[Operation]:
        """What was asked for when one switch was over, and answered (or failed) before the next was ordered; no slow ones, which
        say little. Who is answered later may have been so by either."""
        later = [each.ordered for each in self._switches if each.ordered > switch.switched]
        end = min(later, default=float("inf"))
        return [
            op
            for op in self._requests
            if switch.switched <= op.due
            and (op.due if op.answered is None else op.answered) < end
            and op.stream != SLOW
        ]

    def _told(self) -> dict[str, list[str]]:
        phases = {"before": self._before} | {each.to: self._after(each) for each in self._switches}
        return {name: sorted({op.version for op in of if op.available and op.version}) for name, of in phases.items()}

    def _late_answers(self) -> dict[str, int]:
        """Of those asked for after a switch, answers in a version of before it that the way there should have ended."""
        old = set(self._versions["before"])
        new = set(self._versions.get("green", ())) - old
        wrong = {"green": old if new else set[str](), "blue": new}
        return {
            each.to: sum(op.available and op.version in wrong.get(each.to, ()) for op in self._after(each))
            for each in self._switches
        }

    def _phase(self, op: Operation) -> str:
        told = "before"
        for each in self._switches:
            if op.due >= each.switched:
                told = f"on {each.to}"
            elif op.due >= each.ordered or was_in_flight(op, at=each.ordered):
                return f"to {each.to}"
        return told

    def _all_ready(self, switch: _Switch) -> bool:
        """Whether all that had to be started for it had said that they were ready when it was ordered."""
        started = {step.node for step in self._history.rollout if step.step == "start" and step.at <= switch.ordered}
        ready = {step.node for step in self._history.rollout if step.step == "ready" and step.at <= switch.ordered}
        return started <= ready

    def _removed_early(self) -> list[str]:
        """The sides that were told to end before the traffic they had was over: with their switch."""
        slack = self._rule.late_after_seconds
        stops = [step.at for step in self._history.rollout if step.step == "stop"]
        other = {"green": "blue", "blue": "green"}
        return [
            other.get(each.to, each.to)
            for each in self._switches
            if any(each.ordered <= at <= each.switched + slack for at in stops)
            and any(not op.available for op in self._held[each.to])
        ]

    def _breaches(self) -> dict[str, str]:
        broken: dict[str, str] = {}
        cut = sum(not op.available for held in self._held.values() for op in held)
        starved = len(self._late) > self._rule.late_share * len(self._judged)
        waiting = all(op.error in ("timeout", "unsent") for op in self._failed)
        if self._failed and not (starved and waiting):
            classes = ", ".join(f"{name} {count}" for name, count in error_classes(self._failed).items())
            told = f"{len(self._failed)} of {plural(len(self._requests), 'request')} failed ({classes})"
            broken["failed-requests"] = f"{told}, {cut} of them in flight at a switch" if cut else told
        if self._gap.seconds > self._rule.longest_gap_seconds and not starved:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(self._gap.seconds)}"
        if late := {side: count for side, count in self._late_answers().items() if count}:
            told = listed(f"{count} after the switch to {side}" for side, count in late.items())
            broken["old-side-answers"] = f"the set that was left still answered: {told}"
        if self._sessions.status is Status.FAIL:
            broken["session-lost"] = self._sessions.measured
        return broken

    def _guards(self) -> list[str]:
        rule, guards = self._rule, []
        if len(self._late) > rule.late_share * len(self._judged):
            guards.append(late_in_words(self._late, self._judged, rule.late_after_seconds))
        if (untold := who_is_not_told(self._requests)) is not None:
            guards.append(untold)
        if [each.to for each in self._switches] != ["green", "blue"]:
            guards.append("it was not switched there and back")
        if sum(step.step == "end" for step in self._history.rollout) < len(self._switches):
            guards.append("the rollout did not come to its end")
        phases = {"before the switch": self._before} | {f"on {each.to}": self._after(each) for each in self._switches}
        for name, of in phases.items():
            if len(of) < rule.each_phase:
                guards.append(f"only {plural(len(of), 'request')} {name} ({rule.each_phase} are needed)")
        for each in self._switches:
            if len(self._held[each.to]) < rule.in_flight:
                guards.append(
                    f"only {plural(len(self._held[each.to]), 'slow request')} in flight at the switch to {each.to} "
                    f"({rule.in_flight} are needed)"
                )
        for kind in Connection:
            count = sum(op.connection is kind for op in self._requests)
            if count < rule.each_connection_kind:
                guards.append(
                    f"only {plural(count, 'request')} on {kind.value} connections ({rule.each_connection_kind} are needed)"
                )
        if not self._versions["before"] or not self._versions.get("green"):
            guards.append("no answer tells its version: name a header that does (app.version_header)")
        elif set(self._versions["green"]) <= set(self._versions["before"]):
            guards.append("both sets tell the same version: no switch could be seen")
        return guards

    def verdict(self) -> Verdict:
        broken, guards = self._breaches(), self._guards()
        evidence = self._evidence() | {"broken": list(broken), "guards": guards}
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        times = listed(f"to {each.to} in {milliseconds(each.switched - each.ordered)}" for each in self._switches)
        held = sum(len(each) for each in self._held.values())
        return Verdict.passed(
            f"switched {times}: {plural(len(self._requests), 'request')}, 0 failed, {held} in flight at the switches finished, "
            f"longest gap {milliseconds(self._gap.seconds)}",
            **evidence,
        )

    def _evidence(self) -> dict[str, Any]:
        phases = ["before", *(f"{word} {each.to}" for each in self._switches for word in ("to", "on"))]
        told = [self._phase(op) for op in self._failed]
        return {
            "requests": len(self._requests),
            "failed": len(self._failed),
            "errors": error_classes(self._failed),
            "cut": sum(not op.available for held in self._held.values() for op in held),
            "slow_in_flight": {side: len(held) for side, held in self._held.items()},
            "failed_by_phase": {phase: told.count(phase) for phase in phases},
            "unreachable": sum(op.error in ("http-502", "balancer-503", "refused") for op in self._failed),
            "versions": self._versions,
            "late_answers": self._late_answers(),
            "longest_gap_seconds": rounded(self._gap.seconds),
            "switch_seconds": {each.to: rounded(each.switched - each.ordered) for each in self._switches},
            "ready_before_switch": {each.to: self._all_ready(each) for each in self._switches},
            "removed_early": self._removed_early(),
            **failure_times(self._failed, since=self._begin),
            "sessions": dict(self._sessions.evidence),
            "sessions_status": self._sessions.status.value,
            **late_as_evidence(self._late, self._judged),
            "proves": zero_failures_in_words(len(self._requests)) if not self._failed else "",
            "examples": examples(self._failed, since=self._begin),
        }
