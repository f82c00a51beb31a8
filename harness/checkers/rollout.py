"""What replacing instances by a new version, or stopping one, costs the people whose requests are under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import (
    done_to,
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
    cut_by_stop,
    error_class,
    error_classes,
    gap_within,
    is_write,
    late_ones,
    percentile,
    probe_interval,
    through_balancer,
    touching,
    was_in_flight,
    who_is_not_told,
)
from harness.checkers.sessions import NoSessionLost
from harness.checkers.statistics import zero_failures_in_words
from harness.model import Connection, History, Look, Operation, RolloutStep, Status, Verdict

__all__ = ["InFlightFinishes", "RolloutCostsNothing", "away_from_use"]


@dataclass(frozen=True, slots=True)
class _Replacement:
    """One instance on its way from the old version to the new one."""

    node: str
    begins: float
    """When it was first touched: drained at the balancer, told to stop, or the new one started beside it."""
    leaves: float
    """When the old one was first touched: drained at the balancer, or told to stop."""
    stops: float
    """When it was first told to stop."""
    stopped: float
    ready: float
    ends: float
    """When the balancer sends to it again, or it is ready where no balancer was told; and the old one is gone."""
    version: str
    overlaps: bool
    """The new one was ready before the old one was touched: at no time was nobody there."""


def _replacements(steps: Sequence[RolloutStep]) -> dict[str, _Replacement]:
    """Each instance that was stopped and became ready again."""
    at: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}
    for step in sorted(steps, key=lambda step: step.at):
        if step.node:
            at.setdefault(step.node, {}).setdefault(step.step, step.at)
            versions[step.node] = step.version or versions.get(step.node, "")
    found = {}
    for node, times in at.items():
        stops = times.get("stop", times.get("stopped"))
        ready = times.get("ready")
        if stops is None or ready is None:
            continue
        leaves = min(stops, times.get("drain", stops))
        overlaps = ready <= leaves
        stopped = times.get("stopped", stops)
        found[node] = _Replacement(
            node=node,
            begins=min(leaves, times.get("start", leaves)),
            leaves=leaves,
            stops=stops,
            stopped=stopped,
            ready=ready,
            ends=max(ready, times.get("enabled", ready), stopped),
            version=versions[node],
            overlaps=overlaps,
        )
    return found


def away_from_use(steps: Sequence[RolloutStep]) -> dict[str, tuple[float, float]]:
    """From when to when each replaced instance was out of use; a span of nothing where the new one was there first."""
    return {node: (r.leaves, r.leaves if r.overlaps else r.ends) for node, r in _replacements(steps).items()}


@dataclass(frozen=True)
class RolloutCostsNothing:
    """The new version reaches every instance; no request fails, none is cut in flight, no session is lost.

    Judged from `begin` to the end of the traffic, with what was in flight at `begin`. All streams through the balancer
    count; those in the stream `slow` must have been in flight on each instance when it was first touched (`drain`, or
    `stop` where nothing is drained), fresh and reused connections must both have been in use while each was replaced.
    Where the new one is ready before the old one is touched, both have the same name.

    Expects: rollout steps `begin`, then for each instance `drain`? `stop` `stopped` `start` `ready` `enabled`?, then
    `end`; looks named `version` at every instance before and after, whose value holds `version` (or operations that
    carry one); logins and visits as for `NoSessionLost(after="rollout")`, whose losses fail this promise too.

    A version counts as new when it differs from the one before; where nothing changed anywhere, nothing was rolled out.

    Evidence (seconds count from `begin`):
    - `requests`, `failed`, `errors`, `broken` ["failed-requests", "longest-gap", "deploy-failed", "old-version", "session-lost"],
      `slow` (requests of that stream), `cut` (those under way at an instance that was being stopped), `proves`;
    - `gave_up` (what whoever deploys said, where they could not; empty);
    - `failed_by_connection` {"fresh", "reused"}, `failed_by_method` {"idempotent", "write"}, `failed_attempts`,
      `failed_by_step` {"app-1 joined" (by a new one), "app-1 draining", "app-1 stopping", "app-1 down",
      "app-1 returning", "between", "after": n};
      `failed_on_new` (given last to an instance of the new version that had said it was ready),
      `failed_on_new_within_seconds` (the latest of them, since it said so), `failed_on_new_after_success` (those given
      to one that had properly answered another request before, so that it was not warming up);
    - `longest_gap_seconds`, `gap_begins_seconds`, `first_failure_seconds`, `last_failure_seconds`, `slowest_seconds`,
      `p99_seconds`, `seconds` (of the rollout);
    - `replaced` {name: {"down_seconds", "slow_in_flight", "fresh", "reused", "version_before", "version_after",
      "promised_version"}}, `not_replaced` [names], `old_versions_after` {version: answers after the end};
    - `min_available`: instances neither drained nor down at the worst moment, by the steps alone;
    - `sessions` (evidence of NoSessionLost), `sessions_status`, `late`, `late_share` (of all judged), `guards`, `examples`.
    """

    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_connection_kind: int = bounds.EACH_CONNECTION_KIND
    after: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        begins = [step.at for step in history.rollout if step.step == "begin"]
        if not begins:
            return Verdict.inconclusive("no rollout was carried out", guards=["no rollout was carried out"])
        seen = _Seen(self, history, begins[0])
        guards = seen.guards()
        breaches = seen.breaches()
        if seen.rig_was_late:
            breaches.pop("longest-gap", None)
            if not any(error_class(op) not in ("timeout", "unsent") for op in seen.failed):
                breaches.pop("failed-requests", None)
        evidence = seen.evidence() | {"broken": list(breaches), "guards": guards}
        if breaches:
            return Verdict.fail("; ".join(breaches.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(seen.in_words(), **evidence)


class _Seen:
    """Everything measured around one rollout."""

    def __init__(self, rule: RolloutCostsNothing, history: History, begin: float) -> None:
        self._rule, self._history, self._begin = rule, history, begin
        self._ends = [step.at for step in history.rollout if step.step == "end"]
        operations = through_balancer(history)
        # The last answer may come long after the last step: what is under way then is judged as well.
        last = max([op.answered if op.answered is not None else op.due for op in operations], default=begin)
        self._end = self._ends[-1] if self._ends else last
        self._timeout = timeout_of(history)
        judged = touching(operations, start=begin, end=max(last, self._end) + 1.0, timeout_seconds=self._timeout)
        self._late = late_ones(judged, after_seconds=rule.late_after_seconds)
        self._judged = judged
        self.requests = [op for op in judged if op.error != "unsent"]
        self.failed = [op for op in self.requests if not op.available]
        self._slow = [op for op in self.requests if op.stream == SLOW]
        self._replaced = _replacements(history.rollout)
        # Slow requests under way go on being answered while nobody new is: they would hide a gap.
        quick = [op for op in operations if op.stream != SLOW]
        self._gap = gap_within(
            quick,
            begin=begin,
            end=max([op.due for op in quick], default=begin),
            interval_seconds=probe_interval(history, quick),
        )
        self._latencies = sorted(
            op.answered - op.due for op in judged if op.answered is not None and op.available and op.stream != SLOW
        )
        self._versions = _versions(history, self._replaced, begin, self._end)
        self._sessions = NoSessionLost(after="rollout").check(history)

    @property
    def rig_was_late(self) -> bool:
        return len(self._late) > self._rule.late_share * len(self._judged)

    @cached_property
    def _cut(self) -> list[Operation]:
        """Slow requests that failed while the instance they were under way at was being stopped."""
        return [
            op
            for op in self.failed
            if op.stream == SLOW
            and any(
                cut_by_stop(op, node=r.node, stops=r.stops, stopped=r.stopped, timeout_seconds=self._timeout)
                for r in self._replaced.values()
            )
        ]

    @property
    def _not_replaced(self) -> list[str]:
        return [name for name in self._history.instances if name not in self._replaced]

    @property
    def _gave_up(self) -> RolloutStep | None:
        """Where whoever deploys said that they could not."""
        return next((step for step in self._history.rollout if step.step == "failed"), None)

    @cached_property
    def _after(self) -> list[Operation]:
        return [op for op in self.requests if op.due >= self._end]

    @cached_property
    def _old_versions_after(self) -> dict[str, int]:
        """Answers after the end in a version that some instance had before and none has now."""
        old = {before for before, _ in self._versions.values() if before is not None}
        old -= {after for _, after in self._versions.values() if after is not None}
        counts: dict[str, int] = {}
        for op in self._after:
            if op.version is not None and op.version in old:
                counts[op.version] = counts.get(op.version, 0) + 1
        return counts

    def breaches(self) -> dict[str, str]:
        broken: dict[str, str] = {}
        if self.failed:
            cut = len(self._cut)
            classes = ", ".join(f"{name} {count}" for name, count in error_classes(self.failed).items())
            told = f"{len(self.failed)} of {plural(len(self.requests), 'request')} failed ({classes})"
            broken["failed-requests"] = f"{told}, {cut} of them cut in flight" if cut else told
        if self._gap.seconds > self._rule.longest_gap_seconds:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(self._gap.seconds)}"
        if self._gave_up:
            broken["deploy-failed"] = f"{self._gave_up.node} was not replaced: {self._gave_up.detail}"
        changed = [name for name, (before, after) in self._versions.items() if after is not None and after != before]
        same = [name for name, (before, after) in self._versions.items() if before is not None and after == before]
        kinds = {after for _, after in self._versions.values() if after is not None}
        if changed and same and self._ends:
            broken["old-version"] = f"{listed(same)} still runs the old version"
        elif changed and len(kinds) > 1 and self._ends:
            broken["old-version"] = f"after the rollout there are {len(kinds)} versions: {listed(sorted(kinds))}"
        elif self._old_versions_after and changed:
            count = sum(self._old_versions_after.values())
            broken["old-version"] = f"{plural(count, 'answer')} after the rollout still came from the old version"
        if self._sessions.status is Status.FAIL:
            broken["session-lost"] = self._sessions.measured
        return broken

    def guards(self) -> list[str]:
        rule = self._rule
        guards = []
        if self.rig_was_late:
            guards.append(late_in_words(self._late, self._judged, rule.late_after_seconds))
        if (untold := who_is_not_told(self.requests)) is not None:
            guards.append(untold)
        if not self._ends:
            guards.append("the rollout did not come to its end")
        if self._not_replaced:
            guards.append(f"{listed(self._not_replaced)} was not replaced")
        if len(self._history.instances) < 2:
            guards.append("there is no second instance to take over")
        for node, replacement in self._replaced.items():
            if not self._slow_in_flight(replacement):
                guards.append(f"no slow request was in flight on {node} when its replacement began")
            for kind, count in self._by_connection[node].items():
                if count < rule.each_connection_kind:
                    guards.append(
                        f"only {plural(count, 'request')} on {kind} connections while {node} was replaced "
                        f"({rule.each_connection_kind} are needed)"
                    )
        if len(self._after) < rule.after:
            guards.append(f"only {plural(len(self._after), 'request')} after the rollout ({rule.after} are needed)")
        unseen = [name for name in self._history.instances if self._versions.get(name, (None, None))[1] is None]
        unknown = [name for name in self._history.instances if self._versions.get(name, (None, None))[0] is None]
        if unseen:
            guards.append(f"{listed(unseen)} did not tell its version after the rollout")
        elif unknown:
            guards.append(f"{listed(unknown)} had not told its version before the rollout")
        elif all(before == after for before, after in self._versions.values()):
            guards.append("every instance tells the same version as before: nothing was rolled out that could be seen")
        return guards

    def _slow_in_flight(self, replacement: _Replacement) -> int:
        at = replacement.leaves
        return sum(
            was_in_flight(op, at=at) and (op.instance == replacement.node or replacement.node in op.attempts)
            for op in self._slow
        )

    @cached_property
    def _by_connection(self) -> dict[str, dict[str, int]]:
        """How many requests on each kind of connection while each instance was replaced."""
        counted: dict[str, dict[str, int]] = {}
        for node, r in self._replaced.items():
            during = [op for op in self.requests if r.begins <= op.due < r.ends and op.stream != SLOW]
            counted[node] = {kind.value: sum(op.connection is kind for op in during) for kind in Connection}
        return counted

    def _min_available(self) -> int:
        """Out of use from its drain (or stop) until it is enabled (or ready): intervals that overlap add up."""
        away = [r for r in self._replaced.values() if not r.overlaps]
        marks = sorted(mark for r in away for mark in ((r.leaves, 1), (r.ends, -1)))
        out = worst = 0
        for _, change in marks:
            out += change
            worst = max(worst, out)
        return len(self._history.instances) - worst

    def _step_of(self, op: Operation) -> str:
        """What was going on when it was due; where several were replaced at once, with the one it was tried at."""
        going_on = [r for r in self._replaced.values() if r.begins <= op.due < r.ends]
        going_on.sort(key=lambda r: r.node not in op.attempts)
        if not going_on:
            return "after" if op.due >= self._end else "between"
        r = going_on[0]
        if op.due < r.leaves:
            return f"{r.node} joined"
        if op.due < r.stops:
            return f"{r.node} draining"
        if op.due < r.stopped:
            return f"{r.node} stopping"
        return f"{r.node} down" if op.due < r.ready else f"{r.node} returning"

    def _on_new(self, op: Operation) -> bool:
        """Whether it was given last to an instance of the new version that had said it was ready."""
        given = self._replaced.get(op.attempts[-1]) if op.attempts else None
        if given is None or op.due < given.ready:
            return False
        # While both are there only the version tells one from the other.
        return not given.overlaps or op.due >= given.stopped or op.version == given.version

    def in_words(self) -> str:
        return (
            f"{len(self._replaced)} of {len(self._history.instances)} replaced, "
            f"{plural(len(self.requests), 'request')}, 0 failed, {plural(len(self._slow), 'slow one')} finished, "
            f"longest gap {milliseconds(self._gap.seconds)}"
        )

    def evidence(self) -> dict[str, Any]:
        on_new = [op for op in self.failed if self._on_new(op)]
        since_ready = [op.due - self._replaced[op.attempts[-1]].ready for op in on_new]
        served: dict[str, float] = {}
        for op in self.requests if on_new else ():
            if op.available and op.answered is not None and self._on_new(op):
                served[op.attempts[-1]] = min(op.answered, served.get(op.attempts[-1], op.answered))
        steps: dict[str, int] = {}
        attempts: dict[str, int] = {}
        for op in self.failed:
            step, tried = self._step_of(op), " ".join(op.attempts) or "(unknown)"
            steps[step] = steps.get(step, 0) + 1
            attempts[tried] = attempts.get(tried, 0) + 1
        return {
            "requests": len(self.requests),
            "failed": len(self.failed),
            "errors": error_classes(self.failed),
            "slow": len(self._slow),
            "cut": len(self._cut),
            "failed_by_connection": {k.value: sum(op.connection is k for op in self.failed) for k in Connection},
            "failed_by_method": {
                "idempotent": sum(not is_write(op) for op in self.failed),
                "write": sum(is_write(op) for op in self.failed),
            },
            "failed_by_step": steps,
            "failed_attempts": attempts,
            "failed_on_new": len(on_new),
            "failed_on_new_within_seconds": rounded(max(since_ready, default=None)),
            "failed_on_new_after_success": sum(op.due > served.get(op.attempts[-1], op.due) for op in on_new),
            "longest_gap_seconds": rounded(self._gap.seconds),
            "gap_begins_seconds": rounded(self._gap.begin - self._begin) if self._gap.seconds else None,
            **failure_times(self.failed, since=self._begin),
            "gave_up": f"{self._gave_up.node}: {self._gave_up.detail}" if self._gave_up else "",
            "slowest_seconds": rounded(max(self._latencies, default=None)),
            "p99_seconds": rounded(percentile(self._latencies, 0.99)),
            "seconds": rounded(self._end - self._begin) if self._ends else None,
            "replaced": {
                node: {
                    "down_seconds": rounded(max(0.0, r.ready - r.stopped)),
                    "slow_in_flight": self._slow_in_flight(r),
                    **self._by_connection[node],
                    "version_before": self._versions.get(node, (None, None))[0],
                    "version_after": self._versions.get(node, (None, None))[1],
                    "promised_version": r.version,
                }
                for node, r in self._replaced.items()
            },
            "not_replaced": self._not_replaced,
            "old_versions_after": self._old_versions_after,
            "min_available": self._min_available(),
            "sessions": dict(self._sessions.evidence),
            "sessions_status": self._sessions.status.value,
            **late_as_evidence(self._late, self._judged),
            "proves": zero_failures_in_words(len(self.requests)) if not self.failed else "",
            "examples": examples(self.failed, since=self._begin),
        }


def _versions(
    history: History, replaced: Mapping[str, _Replacement], begin: float, end: float
) -> dict[str, tuple[str | None, str | None]]:
    """The version each instance told before the rollout and after it; looks first, then what answers carried."""
    told: dict[str, tuple[str | None, str | None]] = {}
    for name in history.instances:
        looks = [look for look in history.looks_at("version") if look.node == name and look.value.get("version")]
        before = _latest([look for look in looks if look.at <= begin])
        after = _latest(
            [look for look in looks if look.at >= end or (name in replaced and look.at >= replaced[name].ready)]
        )
        answers: list[Operation] = []
        if before is None or after is None:
            answers = [
                op for op in history.operations if op.instance == name and op.version and op.answered is not None
            ]
        if before is None:
            before = next((op.version for op in reversed(answers) if op.answered and op.answered <= begin), None)
        if after is None:
            after = next((op.version for op in reversed(answers) if op.due >= end), None)
        told[name] = (before, after)
    return told


def _latest(looks: Sequence[Look]) -> str | None:
    return str(max(looks, key=lambda look: look.at).value["version"]) if looks else None


@dataclass(frozen=True)
class InFlightFinishes:
    """Requests that were in flight on an instance when it was told to stop are answered completely.

    Expects: operations of the stream `slow` sent to the instance directly (`via` its name); a fault window of the kind
    `stop` (or `restart`) on it. In flight: sent `settled_seconds` before the order to stop and not answered by then.

    Evidence (seconds count from the order):
    - `victim`, `in_flight`, `finished`, `cut`, `errors`, `first_failure_seconds`, `last_failure_seconds` (due);
    - `longest_wait_seconds` (to the last answer), `stop_seconds` (until it had ended), `proof`;
    - `unsettled` (sent in the last moment, not judged), `unsettled_failed`, `broken` (where it is not kept) ["cut"], `guards`,
      `examples`.
    """

    in_flight: int = bounds.IN_FLIGHT_AT_STOP
    settled_seconds: float = bounds.SETTLED_SECONDS

    def check(self, history: History) -> Verdict:
        stops = [fault for fault in history.faults if kind_of(fault) in ("stop", "restart")]
        if not stops:
            return Verdict.inconclusive("no instance was told to stop", guards=["no instance was told to stop"])
        asked = {op.via for op in history.operations if op.stream == SLOW}
        # Another one may be told to stop meanwhile, which has other work.
        stop = next((each for each in stops if each.node in asked), stops[0])
        slow = [op for op in history.operations if op.stream == SLOW and op.via == stop.node]
        under_way = [op for op in slow if was_in_flight(op, at=stop.injected)]
        held = [op for op in under_way if op.sent is not None and op.sent <= stop.injected - self.settled_seconds]
        unsettled = [op for op in under_way if op not in held]
        cut = [op for op in held if not op.available]
        waits = [op.answered - stop.injected for op in held if op.available and op.answered is not None]
        guards = []
        if stop.effective is None:
            guards.append(f"{stop.node} was told to stop and was not seen to end")
        if len(held) < self.in_flight:
            guards.append(
                f"only {plural(len(held), 'request')} in flight on {stop.node} when it was told to stop "
                f"({self.in_flight} are needed)"
            )
        evidence = {
            "victim": stop.node,
            "in_flight": len(held),
            "finished": len(held) - len(cut),
            "cut": len(cut),
            "errors": error_classes(cut),
            "longest_wait_seconds": rounded(max(waits, default=None)),
            "stop_seconds": rounded(stop.effective - stop.injected) if stop.effective is not None else None,
            "unsettled": len(unsettled),
            "unsettled_failed": sum(not op.available for op in unsettled),
            "proof": stop.proof,
            **failure_times(cut, since=stop.injected),
            "guards": guards,
            "examples": examples(cut, since=stop.injected),
        }
        if cut:
            classes = ", ".join(f"{name} {count}" for name, count in error_classes(cut).items())
            return Verdict.fail(
                f"{len(cut)} of {plural(len(held), 'request')} in flight were cut when {done_to(stop)} ({classes})",
                **evidence,
                broken=["cut"],
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(held)} of {plural(len(held), 'request')} in flight finished, the last {milliseconds(max(waits))} "
            f"after {stop.node} was told to stop",
            **evidence,
        )
