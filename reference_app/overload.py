"""How an instance answers when it has more to do than it can: at once, with 503 and when to come again.

Whoever is turned away is still logged in: no cookie is touched, and nobody is sent to the log-in page. Must not: look at
what is asked, but for the paths of those who operate it, who must see an instance that is busy as one that is alive.
"""

from __future__ import annotations

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from reference_app.pages import message_page

__all__ = ["Limiter"]

_ALWAYS_SERVED = ("/health", "/ready", "/version")


class Limiter:
    """At most so many requests are worked on at once; the rest is turned away."""

    def __init__(self, app: ASGIApp, *, most_in_flight: int) -> None:
        self._app = app
        self._most = most_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_SERVED:
            await self._app(scope, receive, send)
        elif self._in_flight >= self._most:
            page = message_page("Too busy", "There is more to do than this page can do now. Try again in a moment.")
            await HTMLResponse(page, 503, headers={"Retry-After": "1"})(scope, receive, send)
        else:
            self._in_flight += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_flight -= 1
