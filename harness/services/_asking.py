"""One short HTTP question to a node, for readiness.

Must not: be used for anything that is measured; that is `traffic`.
"""

from __future__ import annotations

from http.client import HTTPException

from harness.answers import ask

__all__ = ["ASK_TIMEOUT_SECONDS", "answers_well"]

ASK_TIMEOUT_SECONDS = 1.0
"""Patience with a node that accepts and says nothing. A node that is not there refuses at once."""


def answers_well(host: str, port: int, path: str, *, called: str | None = None) -> bool:
    """Whether a GET of `path` is answered with 2xx. `called` is sent as Host. Never raises for a refusal."""
    try:
        answer = ask(
            "GET",
            path,
            at=(host, port),
            within_seconds=ASK_TIMEOUT_SECONDS,
            headers={"Host": called or f"{host}:{port}"},
            reads_body=False,
        )
    except (OSError, HTTPException):
        return False
    return 200 <= answer.status < 300
