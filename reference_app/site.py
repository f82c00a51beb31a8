"""What the handlers of requests work with: database, sessions, secret, passwords, and whether to be ready.

Its small methods are the seams that `known_bad` replaces. Must not: know of HTTP, but for `wrap`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

from starlette.types import ASGIApp

from reference_app.database import Database
from reference_app.errors import UnavailableError
from reference_app.security import Passwords, Signer
from reference_app.sessions import make_sessions
from reference_app.settings import Settings

__all__ = ["Site"]

_READY_SECONDS = 1.0


class Site:
    """Made from the settings, opened before the first request, closed after the last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.sessions = make_sessions(settings, self.database)
        self.passwords = Passwords(settings.password_cost)
        self.draining = False
        """Asked to stop: finishing what is there, wanting nothing new."""
        self.opened_at: float | None = None
        """On the event loop's clock."""
        self._signer = Signer(settings.secret_key)

    async def open(self) -> None:
        """Return when requests can be served. Raises StartError."""
        await self.database.open()
        self.opened_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Nobody is served any more. Safe to call if `open` never finished."""
        self.passwords.close()
        await self.sessions.close()
        await self.database.close()

    async def signer(self) -> Signer:
        """The secret all instances share. Asked for at each request, as it might have to be fetched."""
        return self._signer

    async def log_out(self, token: str) -> None:
        """End the session for every copy of its cookie, not only for the browser that asked."""
        await self.sessions.end(token)

    def is_warm(self) -> bool:
        """Whether the time to warm up is over."""
        return self.opened_for(self.settings.warm_up_seconds)

    def opened_for(self, seconds: float) -> bool:
        return self.opened_at is not None and asyncio.get_running_loop().time() >= self.opened_at + seconds

    async def why_not_ready(self) -> list[str]:
        """Reasons to send nobody here, as sentences; none if ready. Answers within about a second."""
        reasons = []
        if self.draining:
            reasons.append("this instance is shutting down")
        if not self.is_warm():
            reasons.append("this instance is still warming up")
        answers = await asyncio.gather(
            self.database.ping(within_seconds=_READY_SECONDS),
            self.sessions.ping(within_seconds=_READY_SECONDS),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, UnavailableError):
                reasons.append(str(answer))
            elif answer is not None:
                raise answer
        return reasons

    async def describe(self) -> dict[str, str]:
        """What instances of one setup must agree on (but for their names). Gives no secret away."""
        settings = self.settings
        signer = await self.signer()
        matters = {
            "cookie_secure": settings.cookie_secure,
            "password_cost": settings.password_cost,
            "secret": signer.fingerprint(),
            "session_seconds": settings.session_seconds,
            "session_store": settings.session_store,
        }
        try:
            store = await self.sessions.identity()
        except UnavailableError:
            store = f"{settings.session_store}:not reached"
        return {
            "version": settings.app_version,
            "instance": settings.instance,
            "config": hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()[:16],
            "session_store": store,
            "database": self.database.identity,
        }

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Put something around all pages. Nothing, in an application that is well."""
        return app
