"""What looking after the balancer costs people: a reload under traffic, an instance that is taken out and put back there, its
own death."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, failure_times, listed, milliseconds, plural, rounded
from harness.checkers.failover import timeout_of
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import (
    SLOW,
    InFlight,
    by_connection,
    ended,
    error_class,
    error_classes,
    first_choice,
    gap_within,
    is_write,
    late_ones,
    percentile,
    probe_interval,
    through_balancer,
    time_to_recover,
    touching,
    was_in_flight,
    was_sent,
    who_is_not_told,
)
from harness.checkers.statistics import zero_failures_in_words
from harness.model import Answer, FaultWindow, History, Operation, RolloutStep, Verdict

__all__ = [
    "DOWNLOAD",
    "BalancerComesBack",
    "DownloadsAreFinished",
    "DrainedIsLeftAlone",
    "LateJoinerIsNotFlooded",
    "ReloadCostsNothing",
]

DOWNLOAD = "download"
"""The stream of answers that come bit by bit."""
_RELOAD = "reload"
_OF_WAITING = ("timeout", "unsent")
"""What a rig that was late can have made itself."""


def _reload_of(history: History) -> FaultWindow | None:
    """The last reload of the balancer that was ordered."""
    return next((fault for fault in reversed(history.faults) if fault.fault == _RELOAD), None)


def _thin(operations: Sequence[Operation], *, when: str, needed: int) -> list[str]:
    """Each kind of connection that was used too seldom: they break apart."""
    return [
        f"only {plural(count, 'request')} on {kind} connections {when} ({needed} are needed)"
        for kind, count in by_connection(operations).items()
        if count < needed
    ]


def _is_own_answer(op: Operation) -> bool:
    """Whether an instance answered, whatever it said: a gateway's own words (502, 504) come from none."""
    return op.instance is not None and op.status is not None


def _classes(failed: Sequence[Operation]) -> str:
    return ", ".join(f"{name} {count}" for name, count in error_classes(failed).items())


@dataclass(frozen=True)
class ReloadCostsNothing:
    """The balancer is reloaded under traffic, and nobody notices.

    Judged is what was under way when the reload was ordered, and all that was due from then on. The stream `download` is
    for `DownloadsAreFinished`. A late rig proves only failures it cannot have made itself.

    Expects: a fault window named `reload` on the balancer; open-loop operations through it before and after, on fresh and
    on kept connections, some of them under way at the order.

    Evidence (seconds count from the order): `requests`, `failed`, `errors`, `broken` ["failed-requests", "longest-gap"],
    `failed_by_connection` and `requests_by_connection` {"fresh", "reused"}, `failed_by_method` {"idempotent", "write"},
    `in_flight` (under way at the order), `longest_gap_seconds`, `first_failure_seconds`, `last_failure_seconds`,
    `reload_seconds` (until it had taken effect), `proof`, `before` (requests), `failed_before`, `refused_by_instances` (errors
    that instances answered themselves, which are not judged), `late`, `late_share`, `proves`, `guards`, `examples`.
    """

    longest_gap_seconds: float = bounds.GAP_SECONDS
    each_connection_kind: int = bounds.EACH_CONNECTION_KIND
    in_flight: int = bounds.IN_FLIGHT_AT_RELOAD
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        window = _reload_of(history)
        if window is None:
            return Verdict.inconclusive("the balancer was not reloaded", guards=["the balancer was not reloaded"])
        order = window.injected
        operations = [op for op in through_balancer(history) if op.stream != DOWNLOAD]
        end = max([op.answered if op.answered is not None else op.due for op in operations], default=order) + 1.0
        judged = touching(operations, start=order, end=end, timeout_seconds=timeout_of(history))
        requests = [op for op in judged if was_sent(op)]
        # What an instance answers is its own: no reload makes it.
        refused = [op for op in requests if not op.available and _is_own_answer(op)]
        failed = [op for op in requests if not op.available and not _is_own_answer(op)]
        touched = {id(op) for op in judged}
        before = [op for op in operations if op.due < order and id(op) not in touched and was_sent(op)]
        failed_before = [op for op in before if not op.available and not _is_own_answer(op)]
        quick = [op for op in operations if op.stream != SLOW]
        gap = gap_within(
            quick,
            begin=order,
            end=max([op.due for op in quick], default=order),
            interval_seconds=probe_interval(history, quick),
        )
        under_way = sum(was_in_flight(op, at=order) and op.due <= order - bounds.SETTLED_SECONDS for op in requests)
        late = late_ones(operations, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(operations)
        guards = self._guards(window, before, failed_before, requests, under_way)
        if was_late:
            guards.insert(0, late_in_words(late, operations, self.late_after_seconds))
        broken: dict[str, str] = {}
        if failed and not (was_late and all(error_class(op) in _OF_WAITING for op in failed)):
            broken["failed-requests"] = (
                f"{len(failed)} of {plural(len(requests), 'request')} failed when the balancer was reloaded "
                f"({_classes(failed)})"
            )
        if gap.seconds > self.longest_gap_seconds and not was_late:
            broken["longest-gap"] = (
                f"nobody was answered for {milliseconds(gap.seconds)} when the balancer was reloaded"
            )
        as_before = bool(failed_before) and len(failed) * len(before) <= 2 * len(failed_before) * len(requests)
        if window.effective is None or as_before:
            broken = {}
        evidence: dict[str, Any] = {
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
            "in_flight": under_way,
            "longest_gap_seconds": rounded(gap.seconds),
            **failure_times(failed, since=order),
            "reload_seconds": rounded(None if window.effective is None else window.effective - order),
            "proof": window.proof,
            "before": len(before),
            "failed_before": len(failed_before),
            "refused_by_instances": len(refused),
            **late_as_evidence(late, operations),
            "proves": "" if failed else zero_failures_in_words(len(requests)),
            "guards": guards,
            "examples": examples(failed, since=order),
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(len(requests), 'request')} around a reload: 0 failed, {under_way} of them under way at the order, "
            f"longest gap {milliseconds(gap.seconds)}",
            **evidence,
        )

    def _guards(
        self,
        window: FaultWindow,
        before: Sequence[Operation],
        failed_before: Sequence[Operation],
        requests: Sequence[Operation],
        under_way: int,
    ) -> list[str]:
        guards = []
        if window.effective is None:
            guards.append("the reload was ordered, and had no effect")
        if failed_before:
            guards.append(f"{plural(len(failed_before), 'request')} had failed before the reload")
        guards += _thin(
            [op for op in before if op.available], when="before the reload", needed=self.each_connection_kind
        )
        if window.effective is not None:
            after = [op for op in requests if op.due >= window.effective]
            guards += _thin(after, when="after the reload", needed=self.each_connection_kind)
        if under_way < self.in_flight:
            guards.append(
                f"{plural(under_way, 'request')} under way when the reload was ordered ({self.in_flight} are needed): send "
                "slow requests too (app.slow)"
            )
        return guards


@dataclass(frozen=True)
class DownloadsAreFinished:
    """Downloads that were under way when the balancer was reloaded come to their end.

    Expects: a fault window named `reload`; operations in the stream `download`, each of which takes longer than a reload.

    Evidence: `under_way` (at the order), `cut` (of them), `errors`, `longest_seconds` (the longest that was finished, since the
    order), `first_cut_seconds` (when the first was due, since the order), `began_after` and `failed_after` (downloads begun
    after it), `proof`, `late`, `late_share`, `broken` (where it is not kept) ["cut"], `guards`, `examples`.
    """

    under_way: int = bounds.IN_FLIGHT_AT_RELOAD
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        window = _reload_of(history)
        if window is None or window.effective is None:
            why = "the balancer was not reloaded" if window is None else "the reload was ordered, and had no effect"
            return Verdict.inconclusive(why, guards=[why])
        order, effect = window.injected, window.effective
        operations = through_balancer(history)
        downloads = [op for op in operations if op.stream == DOWNLOAD]
        # Under way until it had taken effect: what ended before was no business of the old processes.
        those = [
            op
            for op in downloads
            if op.sent is not None
            and op.sent <= order - bounds.SETTLED_SECONDS
            and (op.answered > effect if op.answered is not None else not _ended_before(op, order, history))
        ]
        cut = [op for op in those if not op.available]
        after = [op for op in downloads if op.due >= effect]
        late = late_ones(operations, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(operations)
        guards = []
        if was_late:
            guards.append(late_in_words(late, operations, self.late_after_seconds))
        if len(those) < self.under_way:
            guards.append(
                f"{plural(len(those), 'download')} under way when the balancer was reloaded ({self.under_way} are needed)"
            )
        finished = [op.answered - order for op in those if op.available and op.answered is not None]
        evidence: dict[str, Any] = {
            "under_way": len(those),
            "cut": len(cut),
            "errors": error_classes(cut),
            "longest_seconds": rounded(max(finished, default=None)),
            "first_cut_seconds": rounded(min((op.due - order for op in cut), default=None)),
            "began_after": len(after),
            "failed_after": sum(not op.available for op in after),
            "proof": window.proof,
            **late_as_evidence(late, operations),
            "guards": guards,
            "examples": examples(cut, since=order),
        }
        if cut and not (was_late and all(error_class(op) in _OF_WAITING for op in cut)):
            return Verdict.fail(
                f"{len(cut)} of {plural(len(those), 'download')} under way were cut when the balancer was reloaded "
                f"({_classes(cut)})",
                **evidence,
                broken=["cut"],
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(those)} of {plural(len(those), 'download')} under way came to their end, the last "
            f"{milliseconds(max(finished, default=0.0))} after the reload was ordered",
            **evidence,
        )


@dataclass(frozen=True)
class BalancerComesBack:
    """When the balancer dies and is started again, people are served again, by every instance, and are still logged in.

    Expects: one fault window on a node that is no instance; open-loop operations through the balancer before, meanwhile and
    afterwards, by people who are logged in.

    Evidence (seconds count from its death): `node`, `recover_seconds` (None: not seen), `started_seconds` (until it was started
    again), `ready_seconds` (until it answered, asked directly; None: never), `watched_seconds`, `meanwhile` and `failed` (requests),
    `errors`, `answered_by` {instance: answers since people were served again}, `silent` [instances], `logged_out` (people),
    `broken` ["not-served", "silent-instance", "session-lost"], `proof`, `late`, `late_share`, `guards`, `examples`.
    """

    within_seconds: float = bounds.BALANCER_SECONDS
    asked_before: int = bounds.ASKED_BEFORE
    each_phase: int = bounds.EACH_PHASE
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        window = next((fault for fault in history.faults if fault.node not in history.instances), None)
        if window is None or window.effective is None:
            why = "the balancer was not killed" if window is None else "the balancer was to be killed, and lived on"
            return Verdict.inconclusive(why, guards=[why])
        death = window.injected
        operations = sorted(through_balancer(history), key=lambda op: op.due)
        before = [op for op in operations if op.due < death and op.available]
        since = [op for op in operations if op.due >= death]
        failed = [op for op in since if not op.available]
        recovered = time_to_recover(since, since=death, successes=self.each_phase)
        served = [op for op in since if op.available and recovered is not None and op.due - death >= recovered]
        answered = {name: sum(op.instance == name for op in served) for name in history.setup.get("pool") or ()}
        known = self._known(before)
        logged_out = known & {op.visitor for op in served if op.answer is Answer.LOGGED_OUT}
        watched = max((op.due for op in since), default=death) - death
        late = late_ones(operations, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(operations)
        guards = []
        if was_late:
            guards.append(late_in_words(late, operations, self.late_after_seconds))
        if len(before) < self.each_phase:
            guards.append(f"only {plural(len(before), 'answer')} before its death ({self.each_phase} are needed)")
        if recovered is None and watched <= self.within_seconds:
            guards.append(f"it was watched for {watched:.1f} s only ({self.within_seconds:.0f} s are allowed)")
        broken: dict[str, str] = {}
        # However late requests were: that long nobody was there who could have answered them.
        was_away = window.healing - window.effective > self.within_seconds
        if recovered is None and watched > self.within_seconds and (was_away or not was_late):
            broken["not-served"] = (
                f"nobody was served for {watched:.1f} s after the death of {window.node} ({self.within_seconds:.0f} s are allowed)"
            )
        elif recovered is not None and recovered > self.within_seconds and (was_away or not was_late):
            broken["not-served"] = (
                f"people were served again {recovered:.1f} s after the death of {window.node} ({self.within_seconds:.0f} s are allowed)"
            )
        # With fewer answers one instance may be left out by chance; where nobody tells who answers, nothing is known.
        enough = len(served) >= self.each_phase * max(1, len(answered))
        silent = [name for name, count in answered.items() if not count] if enough and any(answered.values()) else []
        if recovered is not None and not enough:
            guards.append(
                f"only {plural(len(served), 'answer')} since people were served again ({self.each_phase} for each instance are needed)"
            )
        if silent:
            broken["silent-instance"] = f"{listed(silent)} answered nobody after {window.node} was back"
        if logged_out:
            broken["session-lost"] = (
                f"{len(logged_out)} of {plural(len(known), 'person')} were logged out by the death of {window.node}"
            )
        evidence: dict[str, Any] = {
            "node": window.node,
            "recover_seconds": rounded(recovered),
            "started_seconds": rounded(window.healing - death),
            "ready_seconds": rounded(None if window.healed is None else window.healed - death),
            "watched_seconds": rounded(watched),
            "meanwhile": sum(op.due < window.healing for op in since),
            "failed": len(failed),
            "errors": error_classes(failed),
            "answered_by": answered,
            "silent": silent,
            "logged_out": len(logged_out),
            "broken": list(broken),
            "proof": window.proof,
            **late_as_evidence(late, operations),
            "guards": guards,
            "examples": examples(failed, since=death),
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards or recovered is None:
            return Verdict.inconclusive(guards[0] if guards else "it was not watched for long enough", **evidence)
        return Verdict.passed(
            f"people were served again {milliseconds(recovered)} after the death of {window.node}, {len(failed)} of "
            f"{plural(len(since), 'request')} had failed",
            **evidence,
        )

    def _known(self, before: Sequence[Operation]) -> set[str]:
        """Who was recognised each time they were asked, and often enough that no instance was spared. Nobody, where people were
        logged out before the balancer died already: then who is known is chance, and so is who is not any more."""
        if any(op.answer is Answer.LOGGED_OUT for op in before):
            return set()
        asked = Counter(op.visitor for op in before if op.answer is Answer.RECOGNISED)
        return {visitor for visitor, count in asked.items() if count >= self.asked_before}


def _ended_before(op: Operation, moment: float, history: History) -> bool:
    """Whether a download without an end of its own was surely over by then: its visitor waits no longer than so."""
    return op.due + timeout_of(history) < moment


@dataclass(frozen=True)
class DrainedIsLeftAlone:
    """An instance that is taken out at the balancer gets nothing more, and what it had is finished.

    From when the balancer said that it was done, or from `within_seconds` after the order, whichever is earlier, nothing
    that was sent may have been tried there. What was under way there at the order has to be answered, and nobody's request
    fails until it is put back.

    Expects: the steps `drain`, `drained`, `enable` and `enabled` of one instance, without a rollout around them; open-loop
    operations through the balancer before, meanwhile and afterwards, on fresh and on kept connections.

    Evidence (seconds count from the order): `node`, `drain_seconds`, `given` (requests that were sent meanwhile and tried
    there), `given_by_visitor` (how many people these were), `last_given_seconds`, `meanwhile` (requests), `under_way` (there,
    at the order), `cut` (of these), `failed`, `errors`, `broken` ["given", "cut", "failed-requests"], `before` (answers of the
    instance), `after` (its answers since it was put back), `late`, `late_share`, `guards`, `examples`.
    """

    within_seconds: float = bounds.DRAINED_SECONDS
    before: int = bounds.REJOIN_ANSWERS
    each_connection_kind: int = bounds.EACH_CONNECTION_KIND
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        steps = {step.step: step for step in reversed(history.rollout) if step.node}
        if "drain" not in steps or "enable" not in steps or any(step.step == "begin" for step in history.rollout):
            return Verdict.inconclusive("nobody was taken out", guards=["nobody was taken out"])
        node, order, back = steps["drain"].node, steps["drain"].at, steps["enable"].at
        done = _done(steps, within_seconds=self.within_seconds)
        operations = [op for op in through_balancer(history) if was_sent(op)]
        meanwhile = [op for op in operations if op.sent is not None and done <= op.sent < back]
        given = [op for op in meanwhile if node in op.attempts or op.instance == node]
        there = [op for op in operations if _was_there(op, node, order, timeout_seconds=timeout_of(history))]
        under_way = [op for op in there if op.available]
        cut = [op for op in there if not op.available]
        failed = [op for op in operations if order <= op.due < back and not op.available]
        before = sum(op.instance == node and op.available and op.due < order for op in operations)
        after = sum(op.instance == node and op.available and op.due >= back for op in operations)
        failed_before = sum(not op.available and op.due < order and op not in cut for op in operations)
        every = through_balancer(history)
        late = late_ones(every, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(every)
        guards = [late_in_words(late, every, self.late_after_seconds)] if was_late else []
        if (unseen := who_is_not_told(operations)) is not None:
            guards.append(unseen)
        if failed_before:
            guards.append(f"{plural(failed_before, 'request')} had failed before {node} was taken out")
        if before < self.before:
            guards.append(f"{node} had answered {before} times before it was taken out ({self.before} are needed)")
        if not under_way and not cut:
            guards.append(f"nothing was under way at {node} when it was taken out: send slow requests too (app.slow)")
        guards += _thin(meanwhile, when=f"while {node} was out", needed=self.each_connection_kind)
        broken: dict[str, str] = {}
        if given:
            broken["given"] = (
                f"{len(given)} of {plural(len(meanwhile), 'request')} were given to {node} after it was taken out"
            )
        of_waiting = was_late and all(error_class(op) in _OF_WAITING for op in (*cut, *failed))
        if cut and not of_waiting and not failed_before:
            broken["cut"] = (
                f"{len(cut)} of {len(cut) + len(under_way)} under way at {node} failed when it was taken out"
            )
        if failed and not of_waiting and not failed_before:
            broken["failed-requests"] = (
                f"{plural(len(failed), 'request')} failed while {node} was out ({_classes(failed)})"
            )
        evidence: dict[str, Any] = {
            "node": node,
            "drain_seconds": rounded(steps["drained"].at - order) if "drained" in steps else None,
            "given": len(given),
            "given_by_visitor": len({op.visitor for op in given}),
            "last_given_seconds": rounded(max((op.due for op in given), default=order) - order) if given else None,
            "meanwhile": len(meanwhile),
            "under_way": len(under_way) + len(cut),
            "cut": len(cut),
            "failed": len(failed),
            "errors": error_classes([*cut, *(op for op in failed if op not in cut)]),
            "broken": list(broken),
            "before": before,
            "after": after,
            **late_as_evidence(late, every),
            "guards": guards,
            "examples": examples([*given, *cut, *failed], since=order),
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"0 of {plural(len(meanwhile), 'request')} were given to {node} while it was out, {len(under_way)} of "
            f"{len(under_way)} under way there were finished",
            **evidence,
        )


def _done(steps: dict[str, RolloutStep], *, within_seconds: float) -> float:
    """From when the instance has to be left alone."""
    latest = steps["drain"].at + within_seconds
    return min(latest, steps["drained"].at) if "drained" in steps else latest


def _was_there(op: Operation, node: str, moment: float, *, timeout_seconds: float) -> bool:
    """Whether it was surely under way at this instance then. Of a failed one of which nothing is told it is not known."""
    there = op.instance == node or (op.attempts[-1:] == (node,)) or (not op.available and node in op.attempts)
    settled = op.sent is not None and op.sent <= moment - bounds.SETTLED_SECONDS
    return there and settled and ended(op, timeout_seconds=timeout_seconds) > moment


@dataclass(frozen=True)
class LateJoinerIsNotFlooded:
    """An instance that joins the others late is not given more than it can bear at once.

    At each moment at which it is given a request, in the first `window_seconds` after it said that it was ready, what it has in flight
    is held against its fair share of all that is: by `setup["capacity"]`, where instances are not alike.

    Expects: one fault window or more, the last of an instance that was stopped and started again; open-loop operations through
    the balancer from before it to when the instance has answered again.

    Evidence: `node`, `choices` (of all, in the window), `chosen` (the joiner's), `fair_share`, `flooded` (moments at which it had too much),
    `most_in_flight` (of the joiner), `most_allowed` (at that moment), `median_seconds` and `others_median_seconds` (answers to what was
    asked in the window, but for slow requests), `victim_before` (answers), `late`, `late_share`, `guards`.
    """

    window_seconds: float = bounds.JOIN_SECONDS
    times_fair: float = bounds.FLOOD_TIMES
    slack: float = bounds.FLOOD_SLACK
    moments: int = bounds.FLOOD_MOMENTS
    answers: int = bounds.REJOIN_ANSWERS
    each_phase: int = bounds.EACH_PHASE
    sight_seconds: float = bounds.SIGHT_SECONDS
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        fault = history.faults[-1] if history.faults else None
        if fault is None or fault.healed is None or fault.node not in history.instances:
            why = "nobody joined late" if fault is None or fault.healed is not None else f"{fault.node} never came back"
            return Verdict.inconclusive(why, guards=[why])
        node, ready, end = fault.node, fault.healed, fault.healed + self.window_seconds
        operations = [op for op in through_balancer(history) if was_sent(op)]
        given = [
            op for op in operations if op.sent is not None and ready <= op.sent < end and first_choice(op) is not None
        ]
        joined = sorted(op.sent for op in given if op.sent is not None and first_choice(op) == node)
        names = history.instances
        in_flight = InFlight(operations, instances=names, sight_seconds=self.sight_seconds)
        share = _fair_share(history, node)
        flooded, most, most_allowed = 0, 0, 0.0
        for surely, possibly in in_flight.seen(joined):
            own = max(0, surely[names.index(node)])
            allowed = self.times_fair * share * sum(possibly) + self.slack
            flooded += own > allowed
            if own > most:
                most, most_allowed = own, allowed
        every = through_balancer(history)
        late = late_ones(every, after_seconds=self.late_after_seconds)
        quick = [op for op in given if op.available and op.stream != SLOW and op.answered is not None]
        before = sum(op.instance == node and op.available and op.due < fault.injected for op in operations)
        guards = []
        if len(late) > self.late_share * len(every):
            guards.append(late_in_words(late, every, self.late_after_seconds))
        if fault.effective is None:
            guards.append(f"{fault.fault} on {node} had no effect")
        if (unseen := who_is_not_told(operations)) is not None:
            guards.append(unseen)
        if len(given) < self.each_phase or len(joined) < self.answers:
            guards.append(
                f"{node} was given {len(joined)} of {plural(len(given), 'request')} in the first {self.window_seconds:.0f} s "
                f"({self.answers} of {self.each_phase} are needed)"
            )
        evidence: dict[str, Any] = {
            "node": node,
            "choices": len(given),
            "chosen": len(joined),
            "fair_share": round(share, 4),
            "flooded": flooded,
            "most_in_flight": most,
            "most_allowed": rounded(most_allowed),
            "median_seconds": rounded(percentile([op.latency or 0.0 for op in quick if op.instance == node], 0.5)),
            "others_median_seconds": rounded(
                percentile([op.latency or 0.0 for op in quick if op.instance != node], 0.5)
            ),
            "victim_before": before,
            **late_as_evidence(late, every),
            "guards": guards,
        }
        if flooded >= self.moments and not guards:
            return Verdict.fail(
                f"{node} was given more at {flooded} of {len(joined)} moments after it had joined: it had {most} requests in flight "
                f"(allowed {most_allowed:.1f})",
                **evidence,
                broken=["flooded"],
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{node} was given {len(joined)} of {plural(len(given), 'request')} in the first {self.window_seconds:.0f} s after it was "
            f"ready, and had {most} in flight at most",
            **evidence,
        )


def _fair_share(history: History, node: str) -> float:
    """Its part of all that the instances can do together."""
    declared = history.setup.get("capacity") or {}
    return float(declared.get(node, 1)) / sum(float(declared.get(name, 1)) for name in history.instances)
