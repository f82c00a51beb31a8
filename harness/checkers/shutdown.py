"""How an instance goes when it is told to: whether by itself, after it has said so, and with all it had finished.

All are judged by the record of one moment: one instance is told to stop while it is watched and has short work, another one
while it has its longest work and its streams. Must not: judge the balancer, which is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
from harness.checkers.measures import error_classes, was_in_flight
from harness.model import FaultWindow, History, Look, Verdict

__all__ = ["DrainsInOrder", "EndsOnItsSignal", "LongRequestsFinish", "StreamsAreEnded"]

LONG = "long"
"""The stream of requests that each take as long as the longest honest one."""
_KILLED = 128 + 9
_ENOUGH_WAITED = 0.9
"""Of its patience: who was killed after that was killed for want of an end."""


# -- what is known of one end ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    """How one instance ended after it was told to."""

    node: str
    told: float
    gone: float | None
    code: int | None
    """128 and the number of a signal, where one ended it."""
    accepted: tuple[int, ...]
    patience: float | None
    signal: str

    @property
    def seconds(self) -> float | None:
        return None if self.gone is None else self.gone - self.told

    @property
    def was_killed(self) -> bool:
        """For want of an end: somebody else's SIGKILL comes sooner."""
        late = self.seconds is None or (self.patience is not None and self.seconds >= _ENOUGH_WAITED * self.patience)
        return self.code == _KILLED and late

    def as_evidence(self) -> dict[str, Any]:
        return {
            "victim": self.node,
            "signal": self.signal,
            "exit_code": self.code,
            "accepted": list(self.accepted),
            "killed": self.was_killed,
            "stop_seconds": rounded(self.seconds),
            "patience_seconds": self.patience,
        }


def _ends(history: History) -> dict[str, _End]:
    """By instance, each that was told to stop and whose end was looked at."""
    stops = {fault.node: fault for fault in reversed(history.faults) if kind_of(fault) == "stop"}
    return {
        look.node: _end_of(stops[look.node], look.value, told=_told_at(history, stops[look.node]))
        for look in history.looks_at("exit")
        if look.node in stops
    }


def _told_at(history: History, stop: FaultWindow) -> float:
    """When the signal was on its way. Who gave the order may have looked about before."""
    return next((look.at for look in history.looks_at("told") if look.node == stop.node), stop.injected)


def _end_of(stop: FaultWindow, value: Mapping[str, Any], *, told: float) -> _End:
    code = value.get("exit_code")
    return _End(
        node=stop.node,
        told=told,
        gone=stop.effective,
        code=None if code is None else int(code) if int(code) >= 0 else 128 - int(code),
        accepted=tuple(int(each) for each in value.get("accepted", ())),
        patience=value.get("patience_seconds"),
        signal=str(value.get("signal", "")),
    )


def _watched(history: History) -> str | None:
    """The instance that had nothing to do that takes long: the one that was watched."""
    return next((look.node for look in history.looks_at("drain-page")), None)


def _loaded(history: History, ends: Mapping[str, _End]) -> str | None:
    """The one that had the longest work and the streams."""
    return next((node for node in ends if node != _watched(history)), None)


def _in_words(code: int | None) -> str:
    if code is None:
        return "an exit code nobody saw"
    return f"exit code {code}" + (f" (signal {code - 128})" if code > 128 else "")


# -- the signal ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EndsOnItsSignal:
    """An instance that is told to stop ends by itself, within its patience, and says with its exit code that all is well.

    Expects: a fault window of the kind `stop` on the instance that is watched (see `DrainsInOrder`); at it a look named `told`,
    when its signal was sent (else it is the begin of the window), and one named `exit`, whose value holds `exit_code` (negative for a signal), `accepted` [codes that are well], `patience_seconds`, `signal`.

    Evidence: `victim`, `signal`, `exit_code` (128 and its number for a signal), `accepted`, `killed` (for want of an end),
    `stop_seconds`, `patience_seconds`, `answered_after` (requests it still answered after it was told).
    """

    def check(self, history: History) -> Verdict:
        end = _ends(history).get(_watched(history) or "")
        if end is None:
            return Verdict.inconclusive("no instance was told to stop and watched until its end")
        answered = sum(
            look.at >= end.told and look.status is not None
            for what in ("drain-ready", "drain-page", "drain-kept")
            for look in history.looks_at(what)
        )
        evidence = end.as_evidence() | {"answered_after": answered}
        if end.was_killed:
            return Verdict.fail(
                f"{end.node} had to be killed {milliseconds(end.seconds or end.patience or 0.0)} after {end.signal}",
                **evidence,
            )
        if end.seconds is None or end.code is None:
            return Verdict.inconclusive(f"{end.node} was told to stop and was not seen to end", **evidence)
        if end.code not in end.accepted:
            return Verdict.fail(
                f"{end.node} ended {milliseconds(end.seconds)} after {end.signal} with {_in_words(end.code)}; "
                f"{listed(map(str, end.accepted))} would be well",
                **evidence,
            )
        return Verdict.passed(
            f"{end.node} ended {milliseconds(end.seconds)} after {end.signal} with {_in_words(end.code)}", **evidence
        )


# -- the drain -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DrainsInOrder:
    """After its stop signal an instance first says that it is not ready, and goes on serving; whoever keeps a connection to
    it is told to leave that before it is ended.

    Judged by what followed what, never by how long it took: before it refuses anybody it must have said `told_times` times
    that it is not ready, and every page asked for before the last of these must have come. Of a kept connection the last
    answer must have said that it will be closed, if it was asked after the instance had first said that it is not ready;
    another one had no occasion to.

    Expects: a fault window of the kind `stop` on one instance; looks at it, asked directly and often, from before it was told
    until it was gone: `drain-ready` (its ready path) and `drain-page` (a page), each on a connection of its own, and
    `drain-kept` (a page), whose value holds `connection` (its number) and `closes` (whether the answer said so). A look
    without a status was not answered; then `error` says how that went.

    Evidence (seconds count from the order): that of `EndsOnItsSignal`, but for its last; `broken` ["still-ready",
    "refused-early", "not-told"], `unready_seconds`,
    `gone_seconds` (first refused), `ready_after` (times it said ready after the order), `unready_times`, `pages_failed`,
    `first_error`, `kept` {"judged", "told", "not_told", "without_occasion"}, `keeps_connections`, `stalled_seconds` (the longest
    time in which the rig did not ask), `drain`, `guards`.
    """

    told_times: int = bounds.DRAIN_TOLD_TIMES
    asked_before: int = bounds.DRAIN_ASKED
    kept: int = bounds.DRAIN_KEPT
    stalled_seconds: float = bounds.DRAIN_STALLED_SECONDS

    def check(self, history: History) -> Verdict:
        node = _watched(history)
        stop = next((fault for fault in history.faults if fault.node == node and kind_of(fault) == "stop"), None)
        if node is None or stop is None:
            return Verdict.inconclusive("no instance was told to stop and watched", guards=["nobody was watched"])
        return _Drain(self, history, stop).verdict()


class _Drain:
    def __init__(self, rule: DrainsInOrder, history: History, stop: FaultWindow) -> None:
        self._rule, self._stop, self._history = rule, stop, history
        self._told = _told_at(history, stop)
        self._polls = _of(history, "drain-ready", stop.node)
        self._pages = _of(history, "drain-page", stop.node)
        self._kept = _of(history, "drain-kept", stop.node)
        after = [look for look in self._polls if look.at >= self._told]
        self._gone = next((look.at for look in after if look.status is None), None)
        self._unready = [look for look in after if look.status is not None and not look.well]
        self._ready = [look for look in after if look.well]
        self._first_no = self._unready[0].at if self._unready else None
        upto = self._gone if self._gone is not None else max([look.at for look in after], default=self._told)
        asked = [look for look in self._polls if look.at <= upto]
        # One that is asked slowly because it answers slowly is asked seldom all the same.
        dues = [self._told, *(look.at for look in asked if look.at >= self._told), upto]
        self._stalled = max((later - earlier for earlier, later in pairwise(dues)), default=0.0)

    def verdict(self) -> Verdict:
        rule, node = self._rule, self._stop.node
        pages = self._pages_failed()
        judged, told, silent = self._kept_judged()
        broken: dict[str, str] = {}
        starved = self._stalled > rule.stalled_seconds
        if not self._unready and len(self._ready) >= rule.told_times and not starved:
            times = plural(len(self._ready), "time")
            broken["still-ready"] = f"{node} went on saying that it is ready ({times}) until it was gone"
        elif len(self._unready) < rule.told_times and not starved:
            said = plural(len(self._unready), "time")
            broken["refused-early"] = f"{node} refused connections after it had said {said} that it is not ready"
        elif pages:
            broken["refused-early"] = f"{node} did not serve {plural(len(pages), 'page')} while it still had to"
        if silent:
            broken["not-told"] = (
                f"{len(silent)} of {plural(len(judged), 'kept connection')} to {node} were ended without a word"
            )
        guards = self._guards(judged, starved=starved)
        end = _ends(self._history).get(node)
        evidence = (end.as_evidence() if end is not None else {}) | {
            "victim": node,
            "broken": list(broken),
            "unready_seconds": self._since(self._first_no),
            "gone_seconds": self._since(self._gone),
            "ready_after": len(self._ready),
            "unready_times": len(self._unready),
            "pages_failed": len(pages),
            "first_error": next((look.error for look in (*pages, *self._polls) if look.status is None), ""),
            "kept": {
                "judged": len(judged),
                "told": len(told),
                "not_told": len(silent),
                "without_occasion": len(self._connections()) - len(judged),
            },
            "keeps_connections": self._keeps(),
            "stalled_seconds": rounded(self._stalled),
            "drain": self._history.setup.get("drain"),
            "guards": guards,
        }
        if guards and self._before() < rule.asked_before:
            # Who never said that it was ready has nothing to take back.
            return Verdict.inconclusive(guards[0], **evidence)
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(self._passed(told), **evidence)

    def _passed(self, told: Sequence[int]) -> str:
        words = f"{self._stop.node} said that it is not ready {self._ms(self._first_no)} after it was told to stop"
        words += f", and served until {self._ms(self._gone)}"
        return f"{words}; {plural(len(told), 'kept connection')} told to leave" if self._keeps() else words

    def _ms(self, at: float | None) -> str:
        return milliseconds(at - self._told) if at is not None else "its end"

    def _since(self, at: float | None) -> float | None:
        return None if at is None else rounded(at - self._told)

    def _before(self) -> int:
        """How often it said that it was ready before it was told to stop."""
        return sum(look.at < self._told and look.well for look in self._polls)

    def _pages_failed(self) -> list[Look]:
        """Those that did not come although the instance had not yet said often enough that it leaves."""
        if len(self._unready) < self._rule.told_times:
            return []
        until = self._unready[self._rule.told_times - 1].at
        return [
            look
            for look in self._pages
            if self._told <= look.at < until and (look.status is None or look.status >= 500)
        ]

    def _connections(self) -> dict[int, list[Look]]:
        """What was asked on each kept connection, in order."""
        found: dict[int, list[Look]] = {}
        for look in self._kept:
            found.setdefault(int(look.value.get("connection", 0)), []).append(look)
        return found

    def _keeps(self) -> bool:
        """Whether it keeps connections at all: one that ends each with its answer has nobody to tell."""
        early = [look for look in self._kept if look.at < self._told and look.status is not None]
        return any(not look.value.get("closes") for look in early)

    def _kept_judged(self) -> tuple[list[int], list[int], list[int]]:
        """The connections that ended and had the occasion to be told; of these the ones that were, and the others."""
        judged, told, silent = [], [], []
        for number, looks in self._connections().items():
            answers = [look for look in looks if look.status is not None]
            if any(look.value.get("closes") and look.at >= self._told for look in answers):
                judged.append(number)
                told.append(number)
            elif looks[-1].status is None and self._had_occasion(answers):
                judged.append(number)
                silent.append(number)
        return judged, told, silent

    def _had_occasion(self, answers: Sequence[Look]) -> bool:
        """Whether its last answer was to a question asked when the instance already knew that it leaves."""
        return bool(answers) and self._first_no is not None and answers[-1].at > self._first_no

    def _guards(self, judged: Sequence[int], *, starved: bool) -> list[str]:
        rule, node, guards = self._rule, self._stop.node, []
        if self._before() < rule.asked_before:
            guards.append(
                f"{node} said only {plural(self._before(), 'time')} that it was ready before it was told to stop"
            )
        if self._stop.effective is None:
            guards.append(f"{node} was told to stop and was not seen to end")
        if starved and len(self._unready) < rule.told_times:
            guards.append(
                f"nobody asked {node} for {milliseconds(self._stalled)} while it stopped: this machine was too busy"
            )
        if not self._pages:
            guards.append(f"no page was asked of {node}")
        if self._keeps() and len(judged) < rule.kept:
            guards.append(f"only {plural(len(judged), 'kept connection')} could be judged ({rule.kept} are needed)")
        return guards


def _of(history: History, what: str, node: str) -> list[Look]:
    return sorted((look for look in history.looks_at(what) if look.node == node), key=lambda look: look.at)


# -- long work -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LongRequestsFinish:
    """The longest honest request is finished also when it began just before its instance was told to stop.

    Expects: operations of the stream `long` sent to one instance directly (`via` its name), each as long as the longest
    honest request; a fault window of the kind `stop` on it; a look named `exit` at it, as for `EndsOnItsSignal`. Judged are
    those that were in flight at the order and were not answered within half of that time before it.

    Evidence (seconds count from the order): `victim`, `in_flight`, `cut`, `errors`, `longest_seconds` (of an honest request),
    `longest_wait_seconds` (to the last answer), `cut_seconds` (when the first was seen to be cut), `killed`, `exit_code`,
    `stop_seconds`, `patience_seconds`, `guards`, `examples`.
    """

    in_flight: int = bounds.IN_FLIGHT_AT_STOP
    settled_seconds: float = bounds.SETTLED_SECONDS

    def check(self, history: History) -> Verdict:
        ends = _ends(history)
        node = _loaded(history, ends)
        end = ends.get(node or "")
        operations = [op for op in history.operations if op.stream == LONG and op.via == node]
        longest = float(history.setup.get("longest_seconds") or 0.0)
        if end is None or not operations or not longest:
            return Verdict.inconclusive(
                "no instance was told to stop while it had its longest work", guards=["no work"]
            )
        last = end.told - self.settled_seconds
        held = [
            op
            for op in operations
            if was_in_flight(op, at=end.told) and op.sent is not None and last - longest / 2 <= op.sent <= last
        ]
        cut = [op for op in held if not op.available]
        waits = [op.answered - end.told for op in held if op.available and op.answered is not None]
        guards = []
        if end.seconds is None:
            guards.append(f"{end.node} was told to stop and was not seen to end")
        if len(held) < self.in_flight:
            guards.append(
                f"only {plural(len(held), 'long request')} in flight on {end.node} when it was told to stop "
                f"({self.in_flight} are needed)"
            )
        if not cut and waits and max(waits) < longest / 3:
            guards.append(
                f"the last long request was answered {milliseconds(max(waits))} after the order: they were not long"
            )
        evidence = end.as_evidence() | {
            "in_flight": len(held),
            "cut": len(cut),
            "errors": error_classes(cut),
            "longest_seconds": longest,
            "longest_wait_seconds": rounded(max(waits, default=None)),
            **failure_times(cut, since=end.told),
            "guards": guards,
            "examples": examples(cut, since=end.told),
        }
        if cut:
            classes = ", ".join(f"{name} {count}" for name, count in error_classes(cut).items())
            return Verdict.fail(
                f"{len(cut)} of {plural(len(held), 'request')} that take {longest:g} s were cut when {end.node} was stopped "
                f"({classes})",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(held)} of {plural(len(held), 'request')} that take {longest:g} s finished, the last "
            f"{milliseconds(max(waits))} after {end.node} was told to stop",
            **evidence,
        )


# -- streams -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamsAreEnded:
    """Streams that nobody ends do not keep an instance from stopping: it ends them itself.

    Expects: looks named `stream` at one instance, one for each connection that was open when it was told to stop, whose value
    holds `kind` ("websocket" or "events"), `ended_at` (on the clock of the history; None: nobody saw it end) and `code` (the close
    code; None for none); a look
    named `exit` at it, as for `EndsOnItsSignal`, and at another one that had no stream.

    Evidence (seconds count from the order): `victim`, `streams`, `kept_open` (those that were open until it was killed),
    `kept_open_by_kind` {kind: how many},
    `ended_seconds` (the last that ended before), `codes` {close code or "none": how many}, `killed`, `exit_code`, `stop_seconds`,
    `patience_seconds`, `without_streams` {the same of the instance without: "victim", "killed", "exit_code", "stop_seconds"}, `guards`.
    """

    streams: int = bounds.STREAMS_AT_STOP

    def check(self, history: History) -> Verdict:
        ends = _ends(history)
        looks = list(history.looks_at("stream"))
        end = ends.get(looks[0].node) if looks else None
        if end is None:
            return Verdict.inconclusive("no instance was told to stop while it had streams", guards=["no streams"])
        ended = [look.value.get("ended_at") for look in looks]
        patience = end.patience if end.patience is not None else end.seconds
        # A connection ends with its process: what ended in that moment was open until then.
        limit = end.told + _ENOUGH_WAITED * patience if end.was_killed and patience is not None else float("inf")
        open_till = [at for at in ended if at is None or at >= limit]
        kinds = dict.fromkeys(str(look.value.get("kind", "websocket")) for look in looks)
        kept_open = dict.fromkeys(kinds, 0)
        for look, at in zip(looks, ended, strict=True):
            kept_open[str(look.value.get("kind", "websocket"))] += end.was_killed and (at is None or at >= limit)
        before = [at - end.told for at in ended if at is not None and at < limit]
        codes: dict[str, int] = {}
        for look in looks:
            code = look.value.get("code")
            codes[str(code) if code is not None else "none"] = (
                codes.get(str(code) if code is not None else "none", 0) + 1
            )
        guards = []
        if end.seconds is None:
            guards.append(f"{end.node} was told to stop and was not seen to end")
        if len(looks) < self.streams:
            guards.append(f"only {plural(len(looks), 'stream')} at {end.node} ({self.streams} are needed)")
        if min(before, default=0.0) < 0.0:
            guards.append(f"a stream ended before {end.node} was told to stop")
        if end.was_killed and not open_till:
            guards.append(f"{end.node} had to be killed, and not for its streams: they had ended")
        if not end.was_killed and open_till:
            guards.append(f"{plural(len(open_till), 'stream')} was not seen to end, although {end.node} did")
        other = next((each for node, each in ends.items() if node != end.node), None)
        evidence = end.as_evidence() | {
            "streams": len(looks),
            "kept_open": len(open_till) if end.was_killed else 0,
            "kept_open_by_kind": kept_open,
            "ended_seconds": rounded(max(before, default=None)),
            "codes": codes,
            "without_streams": {} if other is None else other.as_evidence(),
            "guards": guards,
        }
        if end.was_killed and open_till and len(looks) >= self.streams:
            return Verdict.fail(
                f"{end.node} had to be killed {milliseconds(end.seconds or 0.0)} after {end.signal}, with "
                f"{plural(len(open_till), 'stream')} of {len(looks)} still open",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{end.node} ended {plural(len(looks), 'stream')} within {milliseconds(max(before))} of {end.signal}, and itself "
            f"within {milliseconds(end.seconds or 0.0)}",
            **evidence,
        )
