"""One short HTTP question to a node, for readiness, and which answer says that an instance is well.

Must not: be used for anything that is measured; that is `traffic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException

from harness.answers import ask, netloc
from harness.journeys import Match, Reply, Take, compile_match, matches
from harness.setup import Setup

__all__ = ["ASK_TIMEOUT_SECONDS", "USUAL", "Manner", "answers_well", "identity_of", "manner_of"]

ASK_TIMEOUT_SECONDS = 1.0
"""Patience with a node that accepts and says nothing. A node that is not there refuses at once."""
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the harness itself asks an instance how it is, and what it takes for a good answer."""

    headers: Mapping[str, str] = field(default_factory=dict)
    healthy: Match | None = None
    """None: any 2xx."""

    def is_well(self, reply: Reply, *, asked: str) -> bool:
        """Whether this is how an instance answers that is well."""
        if self.healthy is None:
            return 200 <= reply.status < 300
        return matches(self.healthy, reply, asked=asked)


USUAL = Manner()


def manner_of(setup: Setup) -> Manner:
    """As the setup says."""
    healthy = setup.app.healthy
    return Manner(
        headers=setup.traffic.headers,
        healthy=None if healthy is None else compile_match(healthy.model_dump(mode="json", exclude_unset=True)),
    )


def identity_of(setup: Setup) -> Take | None:
    """Where an answer of the application says which instance gave it; None where the setup does not know."""
    app = setup.app
    if app.instance_header is not None:
        return Take("header", app.instance_header)
    if app.identity is not None:
        ((kind, key),) = app.identity.given().items()
        return Take(kind, key) if kind != "log" else None
    return None


def answers_well(host: str, port: int, path: str, *, called: str | None = None, manner: Manner = USUAL) -> bool:
    """Whether a GET of `path` is answered as by somebody who is well. `called` is sent as Host. Never raises for a refusal."""
    try:
        answer = ask(
            "GET",
            path,
            at=(host, port),
            within_seconds=ASK_TIMEOUT_SECONDS,
            headers={**manner.headers, "Host": called or netloc(host, port)},
            reads_body=manner.healthy is not None,
        )
    except (OSError, HTTPException):
        return False
    return manner.is_well(Reply(answer.status, answer.headers, answer.body), asked=path)
