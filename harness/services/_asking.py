"""One short HTTP question to a node, for readiness.

Must not: be used for anything that is measured; that is `traffic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

__all__ = ["ASK_TIMEOUT_SECONDS", "answers_well"]

ASK_TIMEOUT_SECONDS = 1.0
"""Patience with a node that accepts and says nothing. A node that is not there refuses at once."""
_NO_HEADERS: Mapping[str, str] = {}


def answers_well(
    host: str, port: int, path: str, *, called: str | None = None, headers: Mapping[str, str] = _NO_HEADERS
) -> bool:
    """Whether a GET of `path` is answered with 2xx. `called` is sent as Host, `headers` beside it. Never raises for a refusal."""
    connection = HTTPConnection(host, port, timeout=ASK_TIMEOUT_SECONDS)
    own = {"Host": called or f"{host}:{port}", "Connection": "close"}
    try:
        connection.request("GET", path, headers={**headers, **own})
        status = connection.getresponse().status
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return 200 <= status < 300
