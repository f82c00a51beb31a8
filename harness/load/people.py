"""One simulated person of a load run: what they ask next, and what the answers meant.

The same journeys and the same judgement as in a verification; what sends is somebody else's (Locust, in a process of
its own). This module and what it imports need nothing but the standard library, so that they can be sent to a machine
that has Locust alone. Must not: send anything, or know Locust.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self
from uuid import uuid4

from harness.journeys import (
    Journey,
    Judgement,
    MissingValueError,
    Reply,
    Step,
    carry,
    compile_journeys,
    judge,
    source_of,
)
from harness.model import Answer, Outcome
from harness.traffic.people import People, Person, Visitor, given_with_a_record, text_of

__all__ = ["Plan", "Question", "Walker"]

_REGISTER, _LOGIN, _WRITE, _READ = "register", "login", "write", "read"
_AGENT = "harness-load"
_RECORD_NAMES = frozenset({"record", "text"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the people of a load run do, and how often."""

    journeys: Mapping[str, Journey]
    shares: Mapping[str, float]
    """How much of what people do once they are logged in, by journey."""
    timeout_seconds: float
    """How long somebody waits for a complete answer."""
    host_header: str = ""
    """What people take the site to be called; empty: as the address they are sent to."""
    authority: str = ""
    """The certificate (PEM) that must have signed for the site where it answers https; empty: certificates are not checked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """They go with every request."""
    people: tuple[Person, ...] = ()
    """Those who are given, and log in without having registered; nobody: new ones register."""
    setup: str = ""
    """The setup file in which they are found, where they are not told."""

    def declared(self) -> dict[str, Any]:
        """Plain JSON-ready data; no secret is in it, and so of people who are given only where they are found."""
        return {
            "journeys": {name: journey.declared() for name, journey in self.journeys.items()},
            "shares": dict(self.shares),
            "timeout_seconds": self.timeout_seconds,
            "host_header": self.host_header,
            "authority": self.authority,
            "headers": dict(self.headers),
            "setup": self.setup if self.people else "",
        }

    def declared_whole(self) -> dict[str, Any]:
        """The same, with who is given, their passwords, and what is in files of a person's own: for a machine that has none of it."""
        people = [{"email": each.email, "password": each.password, "name": each.name} for each in self.people]
        takes = [
            take
            for journey in self.journeys.values()
            for step in journey.steps
            for take in step.take.values()
            if take.source == "python"
        ]
        sources = dict(source_of(take.key) for take in takes)
        return {**self.declared(), "setup": "", "people": people, "sources": sources}

    @classmethod
    def from_declared(cls, plain: Mapping[str, Any]) -> Self:
        """Raises SetupError when a journey cannot be used."""
        carry(plain.get("sources", {}))
        return cls(
            journeys=compile_journeys(plain["journeys"]),
            shares=dict(plain["shares"]),
            timeout_seconds=float(plain["timeout_seconds"]),
            host_header=str(plain["host_header"]),
            authority=str(plain.get("authority", "")),  # plans that were written before there was TLS have none
            headers=dict(plain.get("headers", {})),
            people=tuple(Person(**person) for person in plain.get("people", ())),
            setup=str(plain.get("setup", "")),
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """One request, to be asked and then told how it went: by `answered` or by `broke`, exactly once."""

    name: str
    """Under which it is counted: the journey, its step where there are several, and the path as it is declared."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    problem: str = ""
    """Why it cannot be asked at all; empty when it can."""
    _walker: Walker
    _step: Step
    _values: dict[str, str]
    judgement: Judgement | None = None

    def answered(self, reply: Reply) -> Judgement:
        """What the answer means, cookies and values kept for what comes next."""
        judgement = self._walker.judge(self._step, reply, self._values, asked=self.path)
        self.judgement = judgement
        return judgement


@dataclass(eq=False)
class Walker:
    """A person who registers, logs in and then browses; whoever is logged out logs in again."""

    plan: Plan
    people: People
    random: Random
    is_registered: bool = False
    is_logged_in: bool = False
    failed: bool = False
    """Whether the last thing they did went wrong."""
    _visitor: Visitor = field(init=False)

    def __post_init__(self) -> None:
        (self._visitor,) = self.people.arrive(1)
        self.is_registered = self.is_registered or bool(self.plan.people)

    def next(self) -> Iterator[Question]:
        """The requests of the next thing this person does. An answer that was not good ends it."""
        if not self.is_registered:
            name = _REGISTER
        elif not self.is_logged_in:
            name = _LOGIN
        else:
            shares = self.plan.shares
            name = self.random.choices(list(shares), weights=list(shares.values()))[0]
        if name == _READ and not self._visitor.records:
            # Who has nothing to read yet writes instead.
            name = _WRITE if _WRITE in self.plan.journeys else next(iter(self.plan.shares))
        yield from self._walk(self.plan.journeys[name])

    def judge(self, step: Step, reply: Reply, values: dict[str, str], *, asked: str) -> Judgement:
        visitor = self._visitor
        visitor.jar.take(reply.set_cookies)
        problems: list[str] = []
        for name, take in step.take.items():
            value, problem = take.look(reply, values={**visitor.values, **values}, cookies=visitor.jar.cookies)
            if value is not None:
                values[name] = visitor.values[name] = value
            elif take.source == "python":
                problems.append(f"{{{name}}}: {problem}")
        judgement = judge(
            step,
            reply,
            {**visitor.values, **values},
            asked=asked,
            somebody_else=self.people.names_somebody_else(reply.body, visitor),
        )
        if problems and judgement.outcome is Outcome.OK:
            return Judgement(Answer.FAILED, Outcome.FAILED, "wrong-body", "; ".join(problems))
        return judgement

    def _walk(self, journey: Journey) -> Iterator[Question]:
        visitor, values = self._visitor, dict[str, str]()
        record = self._record_for(journey)
        if record is not None:
            values |= {"record": record, "text": text_of(record), **visitor.given.get(record, {})}
        good = True
        for number, step in enumerate(journey.steps, 1):
            question = self._question(journey, number, step, values)
            yield question
            judgement = question.judgement
            if judgement is not None and judgement.answer is Answer.LOGGED_OUT:
                self.is_logged_in = False
            if judgement is None or judgement.outcome is not Outcome.OK:
                good = False
                break
        self.failed = not good
        if journey.name == _REGISTER:
            self.is_registered = good
        elif journey.name == _LOGIN:
            self.is_logged_in = good
        elif question.problem:
            # A value that a login would have brought.
            self.is_logged_in = False
        elif good and journey.name == _WRITE and record is not None:
            visitor.records.append(record)
            names = given_with_a_record(self.plan.journeys)
            visitor.given[record] = {name: values[name] for name in names if name in values}

    def _record_for(self, journey: Journey) -> str | None:
        if not any(_RECORD_NAMES.intersection(step.names) for step in journey.steps):
            return None
        if journey.name == _WRITE or not self._visitor.records:
            # Not of the seed: another run with the same one may have been here before.
            return str(uuid4())
        return self.random.choice(self._visitor.records)

    def _question(self, journey: Journey, number: int, step: Step, values: dict[str, str]) -> Question:
        which = f"{journey.name} {number}" if len(journey.steps) > 1 else journey.name
        visitor, path, body, problem = self._visitor, step.path.text, b"", ""
        headers = {"User-Agent": _AGENT, **self.plan.headers}
        try:
            request = step.request({**visitor.values, **values})
        except MissingValueError as missing:
            problem = str(missing)
        else:
            path, body = request.path, request.body
            # A step's own outranks what goes with every request, whatever case it is written in.
            own = {header.lower() for header, _ in request.headers}
            headers = {header: value for header, value in headers.items() if header.lower() not in own}
            headers |= dict(request.headers)
            if self.plan.host_header:
                headers["Host"] = self.plan.host_header
            if visitor.jar.cookies:
                headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in visitor.jar.cookies.items())
        return Question(
            name=f"{which} {step.path.text}",
            method=step.method,
            path=path,
            headers=headers,
            body=body,
            problem=problem,
            _walker=self,
            _step=step,
            _values=values,
        )
