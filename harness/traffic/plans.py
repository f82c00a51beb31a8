"""Journeys made ready to be asked: what of each request and each journal line is the same every time is rendered once.

Must not: send, judge or record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from harness.journeys import Journey, MissingValueError, Request, Step
from harness.model import Connection
from harness.traffic.people import Visitor
from harness.traffic.wire import Target

__all__ = ["JourneyPlan", "StepPlan", "plan_journeys"]

_ACCOUNT = {"user.email", "user.password", "user.name"}
_OURS = {"User-Agent": "harness-traffic", "Accept": "*/*"}


@dataclass(slots=True, eq=False)
class StepPlan:
    """One step of a journey. Compared by identity, so that it is a cheap key."""

    journey: str
    index: int
    step: Step
    is_last: bool
    headers: Mapping[str, str]
    """Of every request of the run."""
    fixed: Request | None = None
    """The request, where it is the same every time."""
    secret_names: frozenset[str] = frozenset()
    """What its path names that may open an account: a password, or what was taken from an answer."""
    carries_record: bool = False
    """Whether this very request writes or reads the record, as opposed to fetching the form before it."""
    is_judged_by_page: bool = False
    """Whether the same page for the same visitor means the same again: nothing is taken, no rule names a record."""
    rendered: dict[tuple[str, Connection], tuple[bytes, bytes]] = field(default_factory=dict)
    """Of a fixed request: what stands before and after the cookies, by target and kind of connection."""

    def filled(
        self, visitor: Visitor, values: Mapping[str, str], target: Target, wish: Connection
    ) -> tuple[str, bytes]:
        """The path and the whole request as bytes, for a step with placeholders. Raises MissingValueError."""
        request = self.step.request(values)
        head, rest = self._bytes(request, target, wish)
        return request.path, head + visitor.jar.line + rest

    def told_path(self, path: str, values: Mapping[str, str]) -> str:
        """The path as it may be written down: what may open an account stands there by its name."""
        if not self.secret_names:
            return path
        template = self.step.path
        shown = {
            name: f"{{{name}}}" if name in self.secret_names else quote(values[name], safe="")
            for name in template.names
            if name in self.secret_names or name in values
        }
        try:
            return template.render(shown)
        except MissingValueError:  # it was not sent either
            return template.text

    def same_for_all(self, request: Request, visitor: Visitor, target: Target, wish: Connection) -> bytes:
        """The whole request as bytes, for a step without placeholders: all but the cookies is rendered once."""
        place = (target.host_header, wish)
        known = self.rendered.get(place)
        if known is None:
            known = self.rendered[place] = self._bytes(request, target, wish)
        return known[0] + visitor.jar.line + known[1]

    def _bytes(self, request: Request, target: Target, wish: Connection) -> tuple[bytes, bytes]:
        """What stands before the cookies, and what stands after them. A step's header outranks the run's, that ours."""
        headers = {"host": ("Host", target.host_header)}
        for name, value in (*_OURS.items(), *self.headers.items(), *request.headers):
            headers[name.lower()] = (name, value)
        # Not asked for: what is compressed cannot be searched as it comes.
        headers["accept-encoding"] = ("Accept-Encoding", "identity")
        if request.body or request.method in ("POST", "PUT"):
            headers["content-length"] = ("Content-Length", str(len(request.body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.values())
        head = f"{request.method} {request.path} HTTP/1.1\r\n{lines}".encode("utf-8", "replace")
        rest = b"Connection: close\r\n\r\n" if wish is Connection.FRESH else b"\r\n"
        return head, rest + request.body


@dataclass(slots=True, eq=False)
class JourneyPlan:
    """One journey."""

    journey: Journey
    steps: tuple[StepPlan, ...]
    needs_record: bool
    """Whether a step names a record or its text."""


def plan_journeys(journeys: Mapping[str, Journey], headers: Mapping[str, str]) -> dict[str, JourneyPlan]:
    """The plans by journey. `headers` go with every request."""
    taken = {name for journey in journeys.values() for step in journey.steps for name in step.take}
    secret = frozenset({*taken, "user.password"})
    return {name: _plan(journey, headers, secret) for name, journey in journeys.items()}


def _plan(journey: Journey, headers: Mapping[str, str], secret: frozenset[str]) -> JourneyPlan:
    last = len(journey.steps) - 1
    steps = tuple(
        StepPlan(
            journey.name,
            index,
            step,
            index == last,
            headers,
            fixed=None if step.request_names else step.request({}),
            secret_names=secret.intersection(step.path.names),
            carries_record="record" in step.names or "text" in step.names,
            is_judged_by_page=not step.take and _ACCOUNT.issuperset(step.rule_names),
        )
        for index, step in enumerate(journey.steps)
    )
    return JourneyPlan(journey, steps, needs_record=any(step.carries_record for step in steps))
