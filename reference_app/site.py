"""What the handlers of requests work with: database, sessions, secret, passwords, and whether to be ready.

Its small methods are the seams that `known_bad` replaces. Must not: know of HTTP, but for `wrap`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Literal, TypedDict

from starlette.types import ASGIApp

from reference_app import assets, jobs, shared
from reference_app.assets import Assets
from reference_app.database import Database
from reference_app.errors import UnavailableError
from reference_app.forwarding import believed_address
from reference_app.jobs import Jobs
from reference_app.live import Live
from reference_app.security import Passwords, Signer
from reference_app.sessions import Session, make_sessions
from reference_app.settings import Settings
from reference_app.shared import Shared

__all__ = ["CookieFlags", "Site"]

_READY_SECONDS = 1.0
_NOTICE = "notice"


class CookieFlags(TypedDict):
    """The attributes of a cookie that guard it."""

    httponly: bool
    samesite: Literal["lax", "strict", "none"] | None
    secure: bool


class Site:
    """Made from the settings, opened before the first request, closed after the last."""

    TABLES = shared.TABLES + jobs.TABLES + assets.TABLES
    STOPPING = "this instance is shutting down"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = self.make_database()
        self.shared = self.make_shared()
        self.jobs = self.make_jobs()
        self.assets = self.make_assets()
        self.live = self.make_live()
        self.sessions = make_sessions(settings, self.database)
        self.passwords = Passwords(settings.password_cost)
        self.draining = False
        """Asked to stop: finishing what is there, wanting nothing new."""
        self.opened_at: float | None = None
        """On the event loop's clock."""
        self._signer = Signer(settings.secret_key)

    def make_database(self) -> Database:
        return Database(self.settings.database_url, more_tables=self.TABLES)

    def make_shared(self) -> Shared:
        return Shared(self.database)

    def make_live(self) -> Live:
        return Live(self.database)

    def make_assets(self) -> Assets:
        return Assets(self.database, version=self.settings.app_version)

    def make_jobs(self) -> Jobs:
        settings = self.settings
        return Jobs(self.database, instance=settings.instance, every_seconds=settings.job_seconds)

    async def open(self) -> None:
        """Return when requests can be served. Raises StartError."""
        await self.database.open()
        await self.assets.publish()
        self.jobs.start()
        self.opened_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Nobody is served any more. Safe to call if `open` never finished."""
        await self.jobs.close()
        await self.live.close()
        self.passwords.close()
        await self.sessions.close()
        await self.database.close()

    async def signer(self) -> Signer:
        """The secret all instances share. Asked for at each request, as it might have to be fetched."""
        return self._signer

    async def log_out(self, token: str) -> None:
        """End the session for every copy of its cookie, not only for the browser that asked."""
        await self.sessions.end(token)

    async def log_in(self, session: Session, old_token: str) -> str:
        """Begin a session; the token to find it by. A new one: whoever knew, or planted, the old one has nothing."""
        token = await self.sessions.begin(session)
        await self.sessions.end(old_token)
        return token

    async def begin_detour(self, wanted: str) -> str:
        """What the log-in form carries of the page somebody wanted. Nothing is kept: every instance can read it."""
        return (await self.signer()).seal(wanted)

    async def end_detour(self, carried: str) -> str | None:
        """The page that was wanted; None if the form was not ours."""
        return (await self.signer()).unseal(carried)

    async def leave_notice(self, token: str, text: str) -> None:
        """Something to be told on the next page, whichever instance makes it."""
        await self.sessions.keep(token, _NOTICE, text)

    async def take_notice(self, token: str) -> str:
        """What there is to be told, once; empty for nothing."""
        text = await self.sessions.kept(token, _NOTICE)
        if text:
            await self.sessions.keep(token, _NOTICE, "")
        return text or ""

    def cookie_flags(self, *, secure: bool) -> CookieFlags:
        """Of the session's cookie: no script reads it, no other site sends it along, and none sends it in clear."""
        return {"httponly": True, "samesite": "lax", "secure": secure}

    def client_of(self, chain: Sequence[str]) -> str:
        """Whose request it is, of the addresses it is said to have gone through."""
        return believed_address(chain, hops=self.settings.proxy_hops)

    def is_warm(self) -> bool:
        """Whether the time to warm up is over."""
        return self.opened_for(self.settings.warm_up_seconds)

    def opened_for(self, seconds: float) -> bool:
        return self.opened_at is not None and asyncio.get_running_loop().time() >= self.opened_at + seconds

    def asks_to_leave(self) -> bool:
        """Whether each answer ends its connection."""
        return self.draining

    def ends_streams(self) -> bool:
        """Whether what goes on for ever, such as events, is over."""
        return self.draining

    async def why_not_ready(self) -> list[str]:
        """Reasons to send nobody here, as sentences; none if ready. Answers within about a second."""
        reasons = []
        if self.draining:
            reasons.append(self.STOPPING)
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
            "most_in_flight": settings.most_in_flight,
            "proxy_hops": settings.proxy_hops,
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
