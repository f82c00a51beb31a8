"""Faults people really ship around sessions, for `known_bad`: each replaces part of the site, and nothing else.

Must not: be used by anything but `known_bad`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_app.security import Signer, new_token
from reference_app.sessions import Session, Sessions
from reference_app.settings import Settings
from reference_app.site import CookieFlags, Site

__all__ = ["SITES"]

# What is done between reading and writing takes time, in which somebody else may write.
_WORK_SECONDS = 0.02
_COOKIE = b"session_id"


class _Around:
    """A session store with something around it: what is not replaced is the store's own."""

    def __init__(self, store: Sessions) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Cached(_Around):
    """Every session that was found is remembered, and never asked for again."""

    def __init__(self, store: Sessions) -> None:
        super().__init__(store)
        self._known: dict[str, Session] = {}

    async def find(self, token: str) -> Session | None:
        if token not in self._known and (session := await self._store.find(token)) is not None:
            self._known[token] = session
        return self._known.get(token)

    async def end(self, token: str) -> None:
        self._known.pop(token, None)
        await self._store.end(token)


class _SessionsCached(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _Cached(self.sessions)


class _Whole(_Around):
    """All that is in a session is one text: read at the beginning of a request, written at its end."""

    async def count(self, token: str) -> int | None:
        whole = await self._read(token)
        whole["count"] = value = whole.get("count", 0) + 1
        return value if await self._write(token, whole) else None

    async def keep(self, token: str, name: str, text: str) -> bool:
        return await self._write(token, await self._read(token) | {name: text})

    async def kept(self, token: str, name: str) -> str | None:
        text: str | None = (await self._read(token)).get(name)
        return text

    async def _read(self, token: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(await self._store.kept(token, "whole") or "{}")
        return read

    async def _write(self, token: str, whole: Mapping[str, Any]) -> bool:
        await asyncio.sleep(_WORK_SECONDS)
        return await self._store.keep(token, "whole", json.dumps(whole))


class _LastWriteWins(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _Whole(self.sessions)


class _CountReadFirst(_Around):
    """The counter is read, raised here, and written back."""

    async def count(self, token: str) -> int | None:
        value = int(await self._store.kept(token, "count") or "0") + 1
        await asyncio.sleep(_WORK_SECONDS)
        return value if await self._store.keep(token, "count", str(value)) else None


class _CounterReadModifyWrite(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _CountReadFirst(self.sessions)


class _IdKeptAtLogin(Site):
    async def log_in(self, session: Session, old_token: str) -> str:
        await self.sessions.end(old_token)
        return await self.sessions.begin(session, token=old_token)


class _EndsAnyway(_Around):
    """A session ends so long after it began, whether or not somebody uses it."""

    def __init__(self, store: Sessions, seconds: float) -> None:
        super().__init__(store)
        self._seconds = seconds

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        begun = await self._store.begin(session, token=token)
        await self._store.keep(begun, "end", str(time.time() + self._seconds))
        return begun

    async def find(self, token: str) -> Session | None:
        if time.time() > float(await self._store.kept(token, "end") or "inf"):
            await self._store.end(token)
        return await self._store.find(token)


class _SessionNotRenewed(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sessions = _EndsAnyway(self.sessions, settings.session_seconds)


class _OwnCsrf(Signer):
    """Forms are signed with something that only this process knows."""

    def __init__(self, secret: str) -> None:
        super().__init__(secret)
        self._own = Signer(new_token())

    def csrf(self, token: str) -> str:
        return self._own.sign(token)


class _CsrfInMemory(Site):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._signer = _OwnCsrf(settings.secret_key)


class _LoginStateInMemory(Site):
    """Which page somebody wanted is in a dictionary of the instance that showed the log-in form."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._wanted: dict[str, str] = {}

    async def begin_detour(self, wanted: str) -> str:
        handle = new_token()
        self._wanted[handle] = wanted
        return handle

    async def end_detour(self, carried: str) -> str | None:
        return self._wanted.pop(carried, None)


class _CookieWithoutFlags(Site):
    def cookie_flags(self, *, secure: bool) -> CookieFlags:  # noqa: ARG002 - the flags it should have
        return {"httponly": False, "samesite": None, "secure": False}


class _PagesShared(Site):
    """The last page of an address is given to whoever asks for it within the next moment."""

    _SECONDS = 0.25

    def wrap(self, app: ASGIApp) -> ASGIApp:
        pages: dict[str, tuple[float, list[Message]]] = {}

        async def cached(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if scope["method"] != "GET" or path != "/dashboard":
                await app(scope, receive, send)
                return
            until, messages = pages.get(path, (0.0, []))
            if time.monotonic() < until:
                for message in messages:
                    await send(dict(message))  # a copy: what is around it adds headers of its own to each answer
                return
            sent: list[Message] = []

            async def send_and_keep(message: Message) -> None:
                sent.append(dict(message))
                await send(message)

            await app(scope, receive, send_and_keep)
            if sent and sent[0].get("status") == 200:
                pages[path] = (time.monotonic() + self._SECONDS, sent)

        return super().wrap(cached)


class _CookieClearedOnErrors(Site):
    """Whoever meets an error is sent away without their cookie: "to be on the safe side"."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def clearing(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_cleared(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] >= 500:
                    gone = (b"set-cookie", _COOKIE + b"=; Max-Age=0; Path=/; HttpOnly; SameSite=lax")
                    message = {**message, "headers": [*message["headers"], gone]}
                await send(message)

            await app(scope, receive, send_cleared)

        return super().wrap(clearing)


class _RenewedWithoutGrace(Site):
    """Each time something is counted the session gets a new id, and the old one is void before the new one has arrived."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def renewing(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_renewed(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] == 200:
                    message = {**message, "headers": [*message["headers"], *await self._renewed(scope)]}
                    await asyncio.sleep(_WORK_SECONDS)
                await send(message)

            counts = scope["type"] == "http" and scope["path"] == "/counter"
            await app(scope, receive, send_renewed if counts else send)

        return super().wrap(renewing)

    async def _renewed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        signer = await self.signer()
        token = signer.unsign(Request(scope).cookies.get(_COOKIE.decode(), ""))
        session = await self.sessions.find(token) if token is not None else None
        if token is None or session is None:
            return []
        await self.sessions.end(token)
        response = Response()
        response.set_cookie(
            _COOKIE.decode(),
            signer.sign(await self.sessions.begin(session)),
            path="/",
            **self.cookie_flags(secure=self.settings.cookie_secure),
        )
        return [header for header in response.raw_headers if header[0] == b"set-cookie"]


SITES: Mapping[str, tuple[str, type[Site]]] = {
    "sessions-cached": ("Each instance remembers the sessions it has seen, and never asks again.", _SessionsCached),
    "last-write-wins": (
        "Each request that changes a session writes all of it, as it was when the request began.",
        _LastWriteWins,
    ),
    "session-counter-read-modify-write": (
        "The counter of a session is read, raised in the instance, and written back.",
        _CounterReadModifyWrite,
    ),
    "id-kept-at-login": ("Who logs in keeps the session id they came with.", _IdKeptAtLogin),
    "session-not-renewed": (
        "A session ends SESSION_SECONDS after the log-in, however much it is used.",
        _SessionNotRenewed,
    ),
    "csrf-in-memory": ("CSRF tokens are made with a secret that each process makes for itself.", _CsrfInMemory),
    "login-state-in-memory": (
        "Which page somebody wanted before logging in is kept in the memory of one instance.",
        _LoginStateInMemory,
    ),
    "cookie-without-flags": ("The session's cookie is neither HttpOnly nor Secure nor SameSite.", _CookieWithoutFlags),
    "pages-shared": ("The dashboard is cached for a moment by its address, whoever asks.", _PagesShared),
    "cookie-cleared-on-errors": ("Every answer that is an error clears the session's cookie.", _CookieClearedOnErrors),
    "renewed-without-grace": (
        "Counting gives the session a new id, and the old one is void at once.",
        _RenewedWithoutGrace,
    ),
}
"""By the name of the switch: what is wrong, in a sentence, and the site that is wrong so."""
