"""Judges what came back, and writes it down: one operation a request. Also keeps the score for the live view.

Must not: send, or decide what happens next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from harness.clock import now
from harness.journeys import Judgement, Reply, Take, judge
from harness.model import Answer, Outcome
from harness.traffic.people import People, Visitor
from harness.traffic.plans import StepPlan
from harness.traffic.recorder import Recorder, op_head, op_tail, quoted
from harness.traffic.upstream import (
    BALANCER,
    UPSTREAM_HEADER,
    UPSTREAM_RETRIES_HEADER,
    UPSTREAM_STATUS_HEADER,
    read_upstream,
)
from harness.traffic.visits import End, Origin, Visit

__all__ = ["Counts", "Ledger"]

_CACHE_ENTRIES = 4096
_REMEMBERED_BYTES = 16_384
_LONGEST_WORD = 200
"""Characters of what an answer says of its sender: a version, a name."""
_LONGEST_KEY = 1024
"""Characters of a header that is worth remembering what it means."""

_Facts: TypeAlias = tuple[bool, str | None, tuple[str, ...], int, str | None, str | None, Answer]
"""Of a good answer: whether its step was the last, instance, attempts, status, version, name, meaning."""


class Counts(NamedTuple):
    """What the live view shows of the current scenario."""

    requests: int
    failed: int
    longest_gap_seconds: float


class Ledger:
    """See the module. Raises JournalError when the disk is full."""

    def __init__(
        self,
        recorder: Recorder,
        people: People,
        *,
        version_header: str,
        instance_header: str | None,
        identity: Take | None = None,
    ) -> None:
        self._recorder = recorder
        self._people = people
        self._version_header = version_header.lower()
        self._instance_header = None if instance_header is None else instance_header.lower()
        self._identity = identity
        self._names: Mapping[str, str] = {}
        self._pages: dict[tuple[StepPlan, Visitor], tuple[int, bytes, Judgement]] = {}
        """The last good page of each visitor at each step."""
        self._good: dict[_Facts, tuple[str, End]] = {}
        self._whos: dict[tuple[str, str | None, str | None, int], tuple[str | None, tuple[str, ...]]] = {}
        self.begin_scenario()

    def begin_scenario(self) -> None:
        """Begin a new score."""
        self._requests = 0
        self._failed = 0
        self._origins: list[Origin] = []

    def watch(self, origin: Origin) -> None:
        """Count this one's gaps in the score."""
        self._origins.append(origin)

    def rename(self, names: Mapping[str, str]) -> None:
        """Which address is whose in the balancer's header."""
        self._names = dict(names)
        self._whos.clear()

    def counts(self) -> Counts:
        moment = now()
        gaps = [
            max(origin.longest_gap_seconds, origin.gap_until(moment) if origin.is_open else 0.0)
            for origin in self._origins
        ]
        return Counts(self._requests, self._failed, max(gaps, default=0.0))

    def answered(self, visit: Visit, reply: Reply, sent: float | None, answered: float) -> End:
        """A whole answer: judge it, keep what the step takes, write it down."""
        step = visit.step.step
        instance, attempts = self._who(visit.via, reply)
        judgement = self._meaning(visit, reply, from_balancer=instance is None and visit.via == BALANCER)
        is_ok = judgement.outcome is Outcome.OK
        if is_ok and step.take:
            judgement = _take(visit, reply) or judgement
            is_ok = judgement.outcome is Outcome.OK
        version, named = self._told_by(reply)
        if is_ok:
            self._count_success(visit.origin, answered)
            facts = (visit.step.is_last, instance, attempts, reply.status, version, named, judgement.answer)
            tail, end = self._good.get(facts) or self._remember(facts, judgement)
        else:
            judgement = _redacted(judgement, visit)
            tail = op_tail(judgement, True, instance, attempts, reply.status, version, named)
            end = End(judgement, reply.status, instance)
            if judgement.answer is Answer.LOGGED_OUT:
                self._count_success(visit.origin, answered)
            else:
                self._failed += 1
        self._write(visit, sent, answered, tail)
        return end

    def _meaning(self, visit: Visit, reply: Reply, *, from_balancer: bool) -> Judgement:
        """Judge an answer. The same page for the same visitor is not judged twice: most pages are the same again."""
        page = (visit.step, visit.visitor)
        seen = self._pages.get(page)
        if seen is not None and seen[1] == reply.body and seen[0] == reply.status and "location" not in reply.headers:
            return seen[2]
        judgement = judge(
            visit.step.step,
            reply,
            visit.values,
            asked=visit.path,
            somebody_else=self._people.names_somebody_else(reply.body, visit.visitor),
            from_balancer=from_balancer,
        )
        if (
            judgement.outcome is Outcome.OK
            and visit.step.is_judged_by_page
            and "location" not in reply.headers
            and len(reply.body) <= _REMEMBERED_BYTES
        ):
            if len(self._pages) >= _CACHE_ENTRIES:
                self._pages.clear()
            self._pages[page] = (reply.status, reply.body, judgement)
        return judgement

    def _remember(self, facts: _Facts, judgement: Judgement) -> tuple[str, End]:
        """What follows from a good answer's facts, which are few: rendered once."""
        if len(self._good) >= _CACHE_ENTRIES:
            self._good.clear()
        is_last, instance, attempts, status, version, named, _ = facts
        tail = op_tail(judgement, is_last, instance, attempts, status, version, named)
        known = tail, End(judgement, status, instance)
        self._good[facts] = known
        return known

    def broken(
        self, visit: Visit, error: str, detail: str, *, sent: float | None = None, head: Reply | None = None
    ) -> End:
        """No whole answer. It surely had no effect only when no byte of the request was sent."""
        outcome = Outcome.FAILED if sent is None else Outcome.UNKNOWN
        judgement = _redacted(Judgement(Answer.FAILED, outcome, error, detail), visit)
        instance, attempts = (None, ()) if head is None else self._who(visit.via, head)
        status = None if head is None else head.status
        version, named = (None, None) if head is None else self._told_by(head)
        self._failed += 1
        tail = op_tail(judgement, True, instance, attempts, status, version, named)
        self._write(visit, sent, None, tail)
        return End(judgement, status, instance)

    def _write(self, visit: Visit, sent: float | None, answered: float | None, tail: str) -> None:
        step, origin = visit.step, visit.origin
        place = (step, visit.via, visit.connection)
        head = origin.heads.get(place)
        if head is None:
            head = origin.heads[place] = op_head(
                scenario=origin.scenario,
                stream=origin.stream,
                kind=step.journey,
                step=step.index,
                method=step.step.method,
                path=None if step.fixed is None else step.fixed.path,
                via=visit.via,
                connection=visit.connection,
            )
        if step.fixed is None:
            head = f'{head}"path":{quoted(step.told_path(visit.path, visit.values))},'
        if visit.record is not None and step.carries_record:
            head = f'{head}"record":{quoted(visit.record)},'
        self._requests += 1
        if visit.request_id:
            self._recorder.write(
                f'{{"t":"asked","scenario":{quoted(origin.scenario)},"id":{quoted(visit.request_id)},'
                f'"visitor":"{visit.visitor.known_as}","due":{visit.due:.6f}}}\n'
            )
            visit.request_id = ""
        self._recorder.write(
            f'{head}"visitor":"{visit.visitor.known_as}","due":{visit.due:.6f},'
            f'"sent":{"null" if sent is None else f"{sent:.6f}"},'
            f'"answered":{"null" if answered is None else f"{answered:.6f}"},{tail}'
        )

    def _count_success(self, origin: Origin, answered: float) -> None:
        gap = origin.gap_until(answered)
        if gap > origin.longest_gap_seconds:
            origin.longest_gap_seconds = gap
        # The first step of one visit may be settled before the last one of another that was answered earlier.
        origin.last_success = answered if origin.last_success is None else max(origin.last_success, answered)

    def _told_by(self, reply: Reply) -> tuple[str | None, str | None]:
        """What an answer says of its sender: version and name."""
        header = self._instance_header
        if header is not None:
            named: str | None = reply.headers.get(header, "")
        else:
            # A page without a marker says nothing, where a header that is missing says that nobody answered.
            named = None if self._identity is None else self._identity.from_reply(reply)
        if named is not None:
            named = named[:_LONGEST_WORD]
        version = reply.headers.get(self._version_header)
        if version is not None:
            version = version[:_LONGEST_WORD]
        return version, None if named is None else self._names.get(named, named)

    def _who(self, via: str, reply: Reply) -> tuple[str | None, tuple[str, ...]]:
        """Who made this answer, and whom the balancer asked before.

        An instance that was asked directly is believed to be the one that answers at its address.
        """
        if via != BALANCER:
            return via, ()
        upstream = reply.headers.get(UPSTREAM_HEADER)
        if upstream is None:
            # A balancer of somebody's own does not say. Then the application's word is all there is.
            return self._told_by(reply)[1] or None, ()
        upstream_status = reply.headers.get(UPSTREAM_STATUS_HEADER)
        retries = reply.headers.get(UPSTREAM_RETRIES_HEADER)
        key = (upstream, upstream_status, retries, reply.status)
        known = self._whos.get(key)
        if known is None:
            known = read_upstream(upstream, upstream_status, reply.status, names=self._names, retries=retries)
            if len(upstream) + len(upstream_status or "") + len(retries or "") <= _LONGEST_KEY:
                if len(self._whos) >= _CACHE_ENTRIES:
                    self._whos.clear()
                self._whos[key] = known
        return known


def _take(visit: Visit, reply: Reply) -> Judgement | None:
    """Keep what the step takes. A judgement of its own when it is not there: the page is not the one declared."""
    step = visit.step.step
    for name, take in step.take.items():
        if take.source == "python":
            value, problem = take.look(reply, values=visit.values, cookies=visit.visitor.jar.cookies)
        else:
            value, problem = take.look(reply)
        if value is None:
            outcome = Outcome.FAILED if step.method == "GET" else Outcome.UNKNOWN
            return Judgement(Answer.FAILED, outcome, "wrong-body", f"nothing to take as {{{name}}}: {problem}")
        visit.take(name, value)
    return None


def _redacted(judgement: Judgement, visit: Visit) -> Judgement:
    """Pages of failed logins like to repeat what was typed."""
    detail = visit.visitor.without_secrets(judgement.detail)
    return judgement if detail == judgement.detail else replace(judgement, detail=detail)
