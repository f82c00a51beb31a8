"""What the loss of one instance costs those who use the others, and whether it is used again afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from harness.checkers import bounds
from harness.checkers.bounds import LossBounds
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
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import (
    SLOW,
    error_class,
    error_classes,
    gap_within,
    is_write,
    late_ones,
    may_have_tried,
    percentile,
    probe_interval,
    through_balancer,
    time_to_recover,
    touching,
    tries_are_not_told,
    was_sent,
    who_answered,
    who_is_not_told,
)
from harness.checkers.statistics import wilson_interval, zero_failures_in_words
from harness.model import Connection, FaultWindow, History, Operation, Verdict

__all__ = ["NobodyElseAnswers", "RequestsSurviveLoss", "VictimRejoins", "timeout_of"]

_DEFAULT_TIMEOUT_SECONDS = 5.0
_FRESH = Connection.FRESH  # the lookup in the enumeration costs more than the comparison
_TAIL_SECONDS = 0.5
"""How long the window must go on after the longest time a bound allows, for a breach of it to be seen."""
_KINDS = {
    "kill": ("kill", "out-of-memory"),
    "stop": ("stop",),
    "hang": ("hang",),
    "partition": ("cut-off-silence", "cut-off-refusal"),
    "new-address": ("new-address",),
}
"""The kinds of faults that each loss may be."""
_ANNOUNCED = ("stop", "new-address")
"""The instance is told, and can see to it that nothing of it is at stake when it is lost."""
_ANSWERS_LATER = ("hang", "cut-off-silence", "cut-off-refusal")
"""What waits for it is answered, or is over, only when it is healed or a timeout ends."""


def timeout_of(history: History) -> float:
    """How long a visitor waits for an answer, in seconds."""
    return float(history.setup.get("timeout_seconds", _DEFAULT_TIMEOUT_SECONDS))


@dataclass(frozen=True)
class RequestsSurviveLoss:
    """Requests go on being answered while one instance is lost: killed, stopped, hung, cut off or moved.

    The fault is `history.faults[0]`; its kind chooses the bounds, and has to fit `fault` where that is given. Failures
    count from the order to break the node until it is ready again, and those that were in flight at that order count
    with them; what the returning victim itself answers badly is for `VictimRejoins`. Detection is judged between the
    proven effect and the begin of healing: the earliest moment after which fewer than `victim_share` of the requests
    (or one probe per second and balancer worker) were tried at the victim. An instance that moves to a new address comes
    back by itself: it counts as lost until it is ready, and detection is not judged, for it is told by its name only and
    may be tried at the new address already.

    Expects: open-loop operations through the balancer before, during and after; `setup["balancer_workers"]`,
    `setup["timeout_seconds"]`. A stream named `slow` counts for failures, neither for gaps nor for the slowest answer.

    A balancer can try another instance until an answer begins to reach the visitor. An idempotent request whose answer
    was cut in the middle (`truncated`) by an unannounced fault, and that was due before its effect, was beyond saving:
    it counts with the writes. A stop is announced: then such an answer has to be finished.

    Fails on a failed idempotent request; failed writes that were due too late or are too many; too long a gap,
    detection or answer. A late rig proves only failures it cannot have caused itself. Inconclusive: a fault without
    effect, too few requests in a phase, a victim that answered nothing before, failures before the fault as frequent as
    after it, a loss that met nothing which could be saved, a window too short to see a breach, a late rig. Where a balancer
    that is somebody else's (`setup["is_closed"]`) does not say whom it tried, the requests must have been so many that
    some would surely have been for the victim. Who is brought back by somebody else (`by_itself`) is away for as long
    as that takes.

    Evidence (seconds count from the effect):
    - `fault`, `victim`, `requests` (judged), `failed`, `errors`, `broken` [bounds: "failed-requests", "failed-writes",
      "longest-gap", "detection", "slowest-answer"], `failure_interval` (95 %), `proves` (the rule of three in words);
    - `failed_by_method` {"idempotent", "write"}, `failed_by_connection` and `requests_by_connection` {"fresh",
      "reused"}, `failed_by_phase` {"breaking", "lost", "healing"}, `failed_attempts` {"app-1": n, "app-1 app-2": n,
      "(unknown)": n} (what the balancer had tried for those that failed);
    - `tried_at_victim`, `tried_share`, `tried_late` (after the detection bound), `detect_seconds` (None: not within the
      window), `window_seconds`, `retried` (answered after a second try), `met` (those tried at the victim that could be
      saved);
    - `writes_allowed`, `writes_too_late` (writes and answers that had begun), `answers_cut` (of the latter);
    - `longest_gap_seconds`, `gap_begins_seconds`, `slowest_seconds`, `p50_seconds`, `p99_seconds`, `recover_seconds`
      (None: not seen), `first_failure_seconds`, `last_failure_seconds`;
    - `before`, `after` (requests), `failed_before`, `victim_before` (answers of the victim), `late`, `late_share` (of all);
    - `guards`, `examples`.
    """

    fault: Literal["kill", "stop", "hang", "partition", "new-address"] | None = None
    kill: LossBounds = bounds.KILL
    """Also of one that ran out of memory, or came back under a new address."""
    stop: LossBounds = bounds.STOP
    hang: LossBounds = bounds.HANG
    silence: LossBounds = bounds.SILENCE
    refusal: LossBounds = bounds.REFUSAL
    victim_share: float = bounds.VICTIM_SHARE
    probes_per_second_and_worker: float = bounds.PROBES_PER_SECOND_AND_WORKER
    each_phase: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    @classmethod
    def by_kill(cls) -> Self:
        """Of an instance that dies without warning, or for want of memory."""
        return cls(fault="kill")

    @classmethod
    def by_stop(cls) -> Self:
        """Of an instance that is told to stop."""
        return cls(fault="stop")

    @classmethod
    def by_hang(cls) -> Self:
        """Of an instance that is frozen."""
        return cls(fault="hang")

    @classmethod
    def by_partition(cls) -> Self:
        """Of an instance that is cut off from the network."""
        return cls(fault="partition")

    @classmethod
    def by_new_address(cls) -> Self:
        """Of an instance that ends and comes back under a new address."""
        return cls(fault="new-address")

    def check(self, history: History) -> Verdict:
        if not history.faults:
            return Verdict.inconclusive("no fault was injected", guards=["no fault was injected"])
        fault = history.faults[0]
        if self.fault is not None and kind_of(fault) not in _KINDS[self.fault]:
            other = f"the fault was {fault.fault}, not {self.fault}"
            return Verdict.inconclusive(other, guards=[other])
        limits = {
            "kill": self.kill,
            "out-of-memory": self.kill,
            "new-address": self.kill,
            "stop": self.stop,
            "hang": self.hang,
            "cut-off-silence": self.silence,
            "cut-off-refusal": self.refusal,
        }.get(kind_of(fault))
        if limits is None:
            unknown = f"the fault {fault.fault} is not the loss of an instance"
            return Verdict.inconclusive(unknown, guards=[unknown])
        loss = _Loss(self, history, fault, limits)
        guards = loss.guards()
        breaches = loss.breaches()
        # A stalled rig makes gaps, waits and client time-outs of its own; a status or a reset it cannot make.
        if loss.rig_was_late:
            breaches = {name: told for name, told in breaches.items() if name in ("failed-requests", "failed-writes")}
            if not any(error_class(op) not in ("timeout", "unsent") for op in loss.failed):
                breaches = {}
        if fault.effective is None or loss.failed_as_before:
            breaches = {}
        evidence = loss.evidence() | {"broken": list(breaches), "guards": guards}
        if breaches:
            return Verdict.fail("; ".join(breaches.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(loss.in_words(), **evidence)


class _Loss:
    """Everything measured around one fault."""

    def __init__(self, rule: RequestsSurviveLoss, history: History, fault: FaultWindow, limits: LossBounds) -> None:
        self._rule, self._fault, self._limits = rule, fault, limits
        self._effect = fault.effective if fault.effective is not None else fault.injected
        self._moves = kind_of(fault) == "new-address"
        self._workers = max(1, int(history.setup.get("balancer_workers", 1)))
        operations = through_balancer(history)
        self._is_closed = bool(history.setup.get("is_closed")) and tries_are_not_told(operations) is not None
        end = fault.healed if fault.healed is not None else max([op.due for op in operations], default=0.0) + 1.0
        timeout = timeout_of(history)
        self._late = late_ones(operations, after_seconds=rule.late_after_seconds)
        self._all = operations
        judged = touching(operations, start=fault.injected, end=end, timeout_seconds=timeout)
        touched = {id(op) for op in judged}
        due_before = [op for op in operations if op.due < fault.injected]
        self._before = [op for op in due_before if id(op) not in touched]
        self._after = [op for op in operations if op.due >= end]
        self.requests = [op for op in judged if op.error != "unsent"]
        self.failed = [op for op in self.requests if not op.available and not answered_on_return(op, fault)]
        # Whoever moves is gone from some moment after the order until it is ready.
        gone, self._over = (fault.injected, end) if self._moves else (self._effect, fault.healing)
        self._lost = [op for op in self.requests if gone <= op.due < self._over]
        self._tried = [op for op in self._lost if _tried_at(op, fault.node)]
        # Slow requests under way go on being answered while nobody new is: they would hide a gap.
        quick = [op for op in operations if op.stream != SLOW]
        self._gap = gap_within(quick, begin=fault.injected, end=end, interval_seconds=probe_interval(history, quick))
        self._latencies = sorted(
            op.answered - op.due for op in judged if op.answered is not None and op.available and op.stream != SLOW
        )
        self._window = max(0.0, self._over - gone)
        self._detected = None if self._moves else self._detection()
        self._recovered = time_to_recover(operations, since=self._effect, successes=bounds.RECOVERED_AFTER)

    # -- judged -----------------------------------------------------------------------------------------------

    @property
    def rig_was_late(self) -> bool:
        return len(self._late) > self._rule.late_share * len(self._all)

    @property
    def failed_as_before(self) -> bool:
        """Whether requests failed about as often before the fault: then these failures are not the loss's."""
        failed = self._failed_before
        if not failed or not self.failed:
            return False
        return len(self.failed) / len(self.requests) <= 2.0 * len(failed) / len(self._before)

    @cached_property
    def _failed_before(self) -> list[Operation]:
        return [op for op in self._before if was_sent(op) and not op.available]

    def _detection(self) -> float | None:
        """Seconds from the effect to the earliest moment after which the victim was all but left alone.

        None: there is no such moment with enough requests left to say so. 0 when it was never tried more than that.
        """
        lost = sorted(self._lost, key=lambda op: op.due)
        tried = {id(op) for op in self._tried}
        share, healing = self._rule.victim_share, self._fault.healing
        probes_per_second = self._rule.probes_per_second_and_worker * self._workers
        tried_after, at = 0, None
        for index in range(len(lost) - 1, -1, -1):
            tried_after += id(lost[index]) in tried
            left = len(lost) - index
            # The moment is just after the request before this one.
            since = lost[index - 1].due if index else self._effect
            allowed = max(share * left, probes_per_second * (healing - since))
            if left >= bounds.DETECT_BY_REQUESTS and tried_after <= allowed:
                at = since - self._effect
        return at

    def _is_beyond_saving(self, op: Operation) -> bool:
        """Whether no balancer could have tried it elsewhere: a write, or an answer that had begun when it struck."""
        had_begun = error_class(op) == "truncated" and op.due <= self._effect and _tried_at(op, self._fault.node)
        return is_write(op) or (had_begun and kind_of(self._fault) != "stop")

    @cached_property
    def _writes_allowed(self) -> int:
        deadline = self._effect + self._limits.detect_within_seconds
        due = sum(is_write(op) and op.due <= deadline for op in self.requests)
        return max(self._limits.failed_writes, int(self._limits.failed_writes_share * due))

    @cached_property
    def _late_writes(self) -> list[Operation]:
        """Failed writes that were due when the balancer had to know."""
        deadline = self._effect + self._limits.detect_within_seconds
        return [op for op in self.failed if is_write(op) and op.due > deadline]

    def breaches(self) -> dict[str, str]:
        """Which bounds were broken, each with what was seen."""
        limits, lost = self._limits, done_to(self._fault)
        broken: dict[str, str] = {}
        writes = [op for op in self.failed if self._is_beyond_saving(op)]
        if len(writes) < len(self.failed):
            broken["failed-requests"] = (
                f"{len(self.failed)} of {plural(len(self.requests), 'request')} failed when {lost} "
                f"({_classes(self.failed)})"
            )
        elif self._late_writes or len(writes) > self._writes_allowed:
            broken["failed-writes"] = (
                f"{plural(len(writes), 'request')} in flight failed when {lost} ({_classes(writes)}; {self._writes_allowed} "
                f"allowed), {len(self._late_writes)} of them later than {limits.detect_within_seconds:.1f} s after it"
            )
        if self._gap.seconds > limits.longest_gap_seconds:
            broken["longest-gap"] = f"nobody was answered for {milliseconds(self._gap.seconds)} when {lost}"
        if self._detection_was_late:
            seen = self._detected if self._detected is not None else self._window
            more = "" if self._detected is not None else "still "
            broken["detection"] = (
                f"{self._fault.node} was {more}tried {milliseconds(seen)} after {lost} "
                f"({len(self._tried)} of {plural(len(self._lost), 'request')}; "
                f"allowed {limits.detect_within_seconds:.1f} s)"
            )
        if (slowest := max(self._latencies, default=0.0)) > limits.slowest_seconds:
            broken["slowest-answer"] = (
                f"the slowest answer took {milliseconds(slowest)} when {lost} (allowed {limits.slowest_seconds:.1f} s)"
            )
        return broken

    @property
    def _detection_was_late(self) -> bool:
        within = self._limits.detect_within_seconds
        if self._moves:
            return False
        if self._detected is not None:
            return self._detected > within
        return self._window > within and len(self._lost) >= bounds.DETECT_BY_REQUESTS

    def guards(self) -> list[str]:
        """Why nothing was really tested, most important first."""
        fault, rule = self._fault, self._rule
        guards = []
        if fault.effective is None:
            guards.append(f"{fault.fault} on {fault.node} had no effect")
        if self.rig_was_late:
            guards.append(late_in_words(self._late, self._all, rule.late_after_seconds))
        for unseen in (who_is_not_told(self._all), None if self._is_closed else tries_are_not_told(self._all)):
            if unseen is not None:
                guards.append(unseen)
        if self._failed_before and (self.failed_as_before or not self.failed):
            guards.append(f"{plural(len(self._failed_before), 'request')} had failed before {done_to(fault)}")
        phases = {"before": self._before, "while it was lost": self._lost, "after it was back": self._after}
        for name, held in phases.items():
            if len(held) < rule.each_phase:
                guards.append(
                    f"only {plural(len(held), 'request')} {name} ({rule.each_phase} are needed): raise --rate"
                )
        if not self._victim_before:
            guards.append(f"{fault.node} had answered nothing before {done_to(fault)}: nobody could miss it")
        if self._is_closed:
            if self._missed_by_chance > bounds.UNMET_BY_CHANCE:
                guards.append(
                    f"{plural(len(self._lost), 'request')} while {fault.node} was lost may all have been for others by chance "
                    f"({self._missed_by_chance:.0%}): raise --rate, or remote.most_per_second"
                )
        elif kind_of(fault) not in _ANNOUNCED and not self._met:
            guards.append(
                f"nothing that could be saved was at {fault.node} when or after it was lost: "
                "send slow requests too (app.slow)"
            )
        needed = self._needed_window
        if self._window < needed:
            guards.append(f"{fault.node} was lost for {self._window:.1f} s only ({needed:.1f} s are needed)")
        if self._detected is None and not self._moves and not self._fault.by_itself:
            guards.append(f"the window ended before {fault.node} was left alone")
        if fault.healed is None:
            guards.append(f"{fault.node} never came back")
        return guards

    @property
    def _needed_window(self) -> float:
        """A breach must have had the time to show: healing a hung instance answers what still waits for it.

        One that moves, or is brought back by somebody else, is away for as long as that takes.
        """
        if self._moves or self._fault.by_itself:
            return 0.0
        longest = self._limits.detect_within_seconds
        if kind_of(self._fault) in _ANSWERS_LATER:
            longest = max(longest, self._limits.slowest_seconds)
        return longest + _TAIL_SECONDS

    @cached_property
    def _met(self) -> int:
        """Requests that were tried at the victim and could be saved: answered by another, or idempotent and failed.

        A failed write proves nothing, for nobody may try it again; and one that a hung victim answered when it went on
        says nothing of the balancer.
        """
        return sum(
            op.due < self._over
            and op.instance != self._fault.node
            and may_have_tried(op, self._fault.node)
            and (op.available or not is_write(op))
            for op in self.requests
        )

    @property
    def _missed_by_chance(self) -> float:
        """How likely it is that none of the requests would have been the victim's, had nobody noticed its loss: each was with
        the share it had of the answers before. What tells a test from none where the balancer does not say whom it tried.
        """
        answered = sum(op.available for op in self._before)
        share = self._victim_before / answered if answered else 0.0
        return float((1.0 - share) ** len(self._lost))

    @cached_property
    def _victim_before(self) -> int:
        return sum(op.instance == self._fault.node and op.available for op in self._before)

    # -- told -------------------------------------------------------------------------------------------------

    def in_words(self) -> str:
        failed = f"{len(self.failed)} failed" + (f" (in flight, {self._writes_allowed} allowed)" if self.failed else "")
        slowest = milliseconds(max(self._latencies, default=0.0))
        knew = f", left alone after {milliseconds(self._detected)}" if self._detected else ""
        if self._is_closed:
            knew = ", whom the balancer tried is not told"
        return (
            f"{plural(len(self.requests), 'request')} when {done_to(self._fault)}: {failed}, longest gap "
            f"{milliseconds(self._gap.seconds)}, slowest {slowest}{knew}"
        )

    def evidence(self) -> dict[str, Any]:
        fault, effect = self._fault, self._effect
        bound = effect + self._limits.detect_within_seconds
        fresh = [op for op in self.requests if op.connection is _FRESH]
        return {
            "fault": fault.fault,
            "victim": fault.node,
            "requests": len(self.requests),
            "failed": len(self.failed),
            "errors": error_classes(self.failed),
            "failed_by_method": {
                "idempotent": sum(not is_write(op) for op in self.failed),
                "write": sum(is_write(op) for op in self.failed),
            },
            "requests_by_connection": {"fresh": len(fresh), "reused": len(self.requests) - len(fresh)},
            "failed_by_connection": {
                kind.value: sum(op.connection is kind for op in self.failed) for kind in Connection
            },
            "failed_by_phase": {
                "breaking": sum(op.due < effect for op in self.failed),
                "lost": sum(effect <= op.due < self._over for op in self.failed),
                "healing": sum(op.due >= self._over for op in self.failed),
            },
            "failed_attempts": dict(Counter(" ".join(op.attempts) or "(unknown)" for op in self.failed)),
            "tried_at_victim": len(self._tried),
            "tried_share": round(len(self._tried) / len(self._lost), 4) if self._lost else None,
            "tried_late": sum(op.due > bound for op in self._tried),
            "met": self._met,
            "retried": sum(len(op.attempts) > 1 and op.available for op in self.requests),
            "writes_allowed": self._writes_allowed,
            "answers_cut": sum(self._is_beyond_saving(op) and not is_write(op) for op in self.failed),
            "writes_too_late": len(self._late_writes),
            "detect_seconds": rounded(self._detected),
            "window_seconds": rounded(self._window),
            "longest_gap_seconds": rounded(self._gap.seconds),
            "gap_begins_seconds": rounded(self._gap.begin - effect) if self._gap.seconds else None,
            "slowest_seconds": rounded(max(self._latencies, default=None)),
            "p50_seconds": rounded(percentile(self._latencies, 0.50)),
            "p99_seconds": rounded(percentile(self._latencies, 0.99)),
            "recover_seconds": rounded(self._recovered),
            **failure_times(self.failed, since=effect),
            "failed_before": len(self._failed_before),
            "before": len(self._before),
            "after": len(self._after),
            "victim_before": self._victim_before,
            **late_as_evidence(self._late, self._all),
            "failure_interval": [round(share, 4) for share in wilson_interval(len(self.failed), len(self.requests))],
            "proves": zero_failures_in_words(len(self.requests)) if not self.failed else "",
            "examples": examples(self.failed, since=effect),
        }


def answered_on_return(op: Operation, fault: FaultWindow) -> bool:
    """Whether the victim itself answered it, after its healing had begun: it was used again, ready or not."""
    return op.due >= fault.healing and op.instance == fault.node


def _tried_at(op: Operation, node: str) -> bool:
    """Whether the balancer tried it there, or may have: with one instance lost, nothing else makes it try again."""
    return op.instance == node or may_have_tried(op, node)


def _classes(failed: Sequence[Operation]) -> str:
    return ", ".join(f"{name} {count}" for name, count in error_classes(failed).items())


@dataclass(frozen=True)
class VictimRejoins:
    """An instance that has returned is used again, and only when it can answer: no request fails from then on.

    Failures count from the moment it says that it is ready; before that, since the begin of healing, only those that
    it answered itself: it was used again too early. All others belong to the loss (`RequestsSurviveLoss`). Who answered
    follows from the application's own word where that names an instance, else from the balancer's: an address may be
    another's by now.

    Expects: operations through the balancer from before the fault until the victim has answered again; the last fault
    window of the history. Inconclusive when the traffic stopped before the time was up.

    Evidence (seconds count from ready):
    - `fault`, `victim`, `rejoin_seconds` (None: not seen), `answers` (of the victim), `victim_before`,
      `tried_at_victim`, `by_instance` {name: answers}, `watched_seconds` (how long traffic went on);
    - `requests`, `failed`, `failed_before` (before the fault: what fails as often then is inconclusive), `failed_before_ready` (of them, answered by the victim while it was not yet ready),
      `errors`, `failed_by_method`, `failed_attempts` (as in RequestsSurviveLoss),
      `first_failure_seconds`, `last_failure_seconds`, `proves`, `late`, `late_share` (of those since ready);
    - `broken` where it is not kept ["failed-requests" or "not-rejoined"], `guards`, `examples`.
    """

    within_seconds: float = bounds.REJOIN_SECONDS
    answers: int = bounds.REJOIN_ANSWERS
    each_phase: int = bounds.EACH_PHASE

    def check(self, history: History) -> Verdict:
        if not history.faults:
            return Verdict.inconclusive("no fault was injected", guards=["no fault was injected"])
        fault = history.faults[-1]
        if fault.healed is None:
            never = f"{fault.node} never came back"
            return Verdict.inconclusive(never, guards=[never], fault=fault.fault, victim=fault.node)
        ready = fault.healed
        operations = list(filter(was_sent, through_balancer(history)))
        since = [op for op in operations if op.due >= ready]
        early = [op for op in operations if op.due < ready and answered_on_return(op, fault)]
        failed = [op for op in [*early, *since] if not op.available]
        of_victim = [
            op
            for op in since
            if who_answered(op, history.instances) == fault.node and op.available and op.answered is not None
        ]
        first = min((op.answered for op in of_victim if op.answered is not None), default=None)
        rejoined = None if first is None else max(0.0, first - ready)
        watched = max([op.due for op in since], default=ready) - ready
        victim_before = sum(
            who_answered(op, history.instances) == fault.node and op.available and op.due < fault.injected
            for op in operations
        )
        before = [op for op in operations if op.answered is not None and op.answered < fault.injected]
        failed_before = sum(not op.available for op in before)
        # What fails as often all the time is nobody's return.
        as_before = bool(failed and failed_before) and len(failed) * len(before) <= 2 * failed_before * len(
            [*early, *since]
        )
        guards = self._guards(fault, victim_before, len(since), watched, len(of_victim))
        if as_before:
            guards.insert(0, f"{plural(failed_before, 'request')} had failed before {done_to(fault)}")
        if (unseen := who_is_not_told(operations)) is not None:
            guards.insert(0, unseen)
        evidence: dict[str, Any] = {
            "fault": fault.fault,
            "victim": fault.node,
            "rejoin_seconds": rounded(rejoined),
            "answers": len(of_victim),
            "requests": len(since),
            "failed": len(failed),
            "failed_before": failed_before,
            "failed_before_ready": sum(not op.available for op in early),
            "errors": error_classes(failed),
            "failed_by_method": {
                "idempotent": sum(not is_write(op) for op in failed),
                "write": sum(is_write(op) for op in failed),
            },
            "failed_attempts": dict(Counter(" ".join(op.attempts) or "(unknown)" for op in failed)),
            **failure_times(failed, since=ready),
            "watched_seconds": rounded(watched),
            "by_instance": dict(
                Counter(
                    who for op in since if op.available and (who := who_answered(op, history.instances)) is not None
                )
            ),
            "tried_at_victim": sum(fault.node in op.attempts for op in since),
            "victim_before": victim_before,
            "proves": zero_failures_in_words(len(since)) if not failed else "",
            **late_as_evidence(late_ones(since, after_seconds=bounds.LATE_AFTER_SECONDS), since),
            "guards": guards,
            "examples": examples(failed, since=ready),
        }
        if failed and not as_before:
            judged = plural(len(early) + len(since), "request")
            told = f"{len(failed)} of {judged} failed after {fault.node} had returned ({_classes(failed)})"
            return Verdict.fail(told, **evidence, broken=["failed-requests"])
        if victim_before and watched >= self.within_seconds and (rejoined is None or len(of_victim) < self.answers):
            return Verdict.fail(
                f"{fault.node} answered {len(of_victim)} of {plural(len(since), 'request')} in the {watched:.1f} s "
                f"after it was ready again ({self.answers} within {self.within_seconds:.0f} s are promised)",
                **evidence,
                broken=["not-rejoined"],
            )
        if rejoined is not None and rejoined > self.within_seconds:
            return Verdict.fail(
                f"{fault.node} was used again {rejoined:.1f} s after it was ready "
                f"(allowed {self.within_seconds:.0f} s)",
                **evidence,
                broken=["not-rejoined"],
            )
        if guards or rejoined is None:
            return Verdict.inconclusive(guards[0] if guards else f"{fault.node} was not seen again", **evidence)
        return Verdict.passed(
            f"{fault.node} answered again after {milliseconds(rejoined)}, {plural(len(of_victim), 'answer')}, "
            f"0 of {plural(len(since), 'request')} failed",
            **evidence,
        )

    def _guards(self, fault: FaultWindow, before: int, requests: int, watched: float, answers: int) -> list[str]:
        guards = []
        if fault.effective is None:
            guards.append(f"{fault.fault} on {fault.node} had no effect")
        if not before:
            guards.append(f"{fault.node} had answered nothing before {done_to(fault)}")
        if requests < self.each_phase:
            guards.append(
                f"only {plural(requests, 'request')} after {fault.node} was ready ({self.each_phase} are needed)"
            )
        if answers < self.answers:
            guards.append(
                f"{fault.node} answered {answers} times before the traffic stopped, {watched:.1f} s after it was ready"
            )
        return guards


@dataclass(frozen=True)
class NobodyElseAnswers:
    """While an instance is away and after its return only instances of the setup answer, whoever has its old address.

    An answer is a stranger's when the balancer had it from an address that is no instance's; when it names itself, in
    the application's own header, as somebody who is no instance; or when it names nobody although every answer before
    the fault did. A proper answer and a refusal count alike: either was somebody else's to give.

    Expects: operations through the balancer before and after the first fault window. Inconclusive where the answers
    before the fault name somebody who is no instance already: then the header is not what the setup says.

    Evidence: `fault`, `victim`, `answers` (since the order, but for those of the balancer itself), `before` (answers),
    `strangers` {name or address, or "(unnamed)": answers}, `witness` ("application": its own header, "balancer":
    only the addresses the balancer tells), `guards`, `examples` (of strangers' answers).
    """

    each_phase: int = bounds.EACH_PHASE

    def check(self, history: History) -> Verdict:
        if not history.faults:
            return Verdict.inconclusive("no fault was injected", guards=["no fault was injected"])
        fault = history.faults[0]
        known = history.instances
        answers = [
            op
            for op in history.operations
            if op.via == "balancer" and op.answered is not None and op.instance is not None
        ]
        before = [op for op in answers if op.due < fault.injected]
        after = [op for op in answers if op.due >= fault.injected]
        named_before = {op.named for op in before}
        # Where every answer has a name, one without is somebody else's.
        always = named_before <= set(known) and bool(before)
        strange: dict[str, list[Operation]] = {}
        for op in after:
            who = op.instance if op.instance not in known else op.named
            if who == "" and always:
                who = "(unnamed)"
            if who and who not in known:
                strange.setdefault(who, []).append(op)
        misnamed = sorted({name for name in named_before if name} - set(known))
        guards = self._guards(fault, len(before), len(after), misnamed)
        every = [op for operations in strange.values() for op in operations]
        evidence: dict[str, Any] = {
            "fault": fault.fault,
            "victim": fault.node,
            "answers": len(after),
            "before": len(before),
            "strangers": {who: len(operations) for who, operations in strange.items()},
            "witness": "application" if any(named_before) else "balancer",
            "guards": guards,
            "examples": examples(every, since=fault.injected),
        }
        if every and not misnamed and fault.effective is not None:
            told = f"{plural(len(every), 'answer')} by {listed(strange)} when {done_to(fault)}"
            return Verdict.fail(f"{told}: no instance of the setup", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        word = "the application's own word" if any(named_before) else "the addresses the balancer tells"
        return Verdict.passed(f"all {plural(len(after), 'answer')} by instances of the setup, by {word}", **evidence)

    def _guards(self, fault: FaultWindow, before: int, after: int, misnamed: Sequence[str]) -> list[str]:
        guards = []
        if fault.effective is None:
            guards.append(f"{fault.fault} on {fault.node} had no effect")
        if misnamed:
            guards.append(
                f"before {done_to(fault)} already answers named {listed(misnamed)}, no instance: "
                "app.instance_header (or app.identity) must hold {instance}"
            )
        for when, count in (("before", before), ("since", after)):
            if count < self.each_phase:
                guards.append(f"only {plural(count, 'answer')} {when} {done_to(fault)} ({self.each_phase} are needed)")
        return guards
