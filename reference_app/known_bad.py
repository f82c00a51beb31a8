"""Faults people really ship, each behind a switch (KNOWN_BAD=name,name), so that a harness can prove it finds them.

Beside `known_bad_sessions`, `known_bad_shared`, `known_bad_stops` and `known_bad_versions` the only module that is wrong on
purpose; it replaces parts of the good application and never the other way round.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TypeVar, cast

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from reference_app.errors import SettingsError
from reference_app.known_bad_sessions import SITES
from reference_app.known_bad_shared import SHARED_SWITCHES
from reference_app.known_bad_stops import STOPPING_SERVERS, STOPPING_SITES
from reference_app.known_bad_versions import VERSION_SITES
from reference_app.security import Signer, new_token
from reference_app.server import GracefulServer, Parts
from reference_app.site import Site

__all__ = ["SWITCHES", "Switch", "describe", "spoil"]

T = TypeVar("T")


@dataclass(frozen=True)
class Switch:
    """One fault: what is wrong, in a sentence, and how to make it so."""

    sentence: str
    spoil: Callable[[Parts], Parts]


def spoil(parts: Parts) -> Parts:
    """The parts with all faults of the settings put in. Raises SettingsError for a switch that does not exist."""
    for name in parts.settings.known_bad:
        if name not in SWITCHES:
            nearest = get_close_matches(name, SWITCHES, n=1, cutoff=0.0)[0]
            raise SettingsError(f"KNOWN_BAD has no switch {name!r}; the nearest is {nearest!r} (--switches lists all)")
        parts = SWITCHES[name].spoil(parts)
    return parts


def describe() -> str:
    """All switches, a line each."""
    width = max(map(len, SWITCHES))
    return "".join(f"{name:{width}}  {switch.sentence}\n" for name, switch in SWITCHES.items())


def _on_top(top: type[T], base: type[T]) -> type[T]:
    """`base` with the methods of `top` over its own: several switches can be on at once."""
    return cast(type[T], type(top.__name__, (top, base), {}))


def _with_site(site: type[Site]) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts, site=_on_top(site, parts.site))


def _with_server(server: type[GracefulServer]) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts, server=_on_top(server, parts.server))


def _session_in_memory(parts: Parts) -> Parts:
    return replace(parts, settings=replace(parts.settings, session_store="memory"))


def _secret_per_instance(parts: Parts) -> Parts:
    settings = parts.settings
    own = Signer(settings.secret_key).derived(settings.instance)
    return replace(parts, settings=replace(settings, secret_key=own))


class _SecretAtBoot(Site):
    """The newest secret is the one for all, so that only a restart shows what is wrong, not a second instance."""

    _CACHED_SECONDS = 0.05
    _TABLE = "CREATE TABLE IF NOT EXISTS secret_at_boot (one BOOLEAN PRIMARY KEY, secret TEXT NOT NULL)"
    _PUBLISH = """
        INSERT INTO secret_at_boot (one, secret) VALUES (true, %s)
        ON CONFLICT (one) DO UPDATE SET secret = excluded.secret
    """
    _fetched_at = float("-inf")

    async def open(self) -> None:
        await super().open()
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (23,))
            await connection.execute(self._TABLE)
            await connection.execute(self._PUBLISH, (new_token(),))

    async def signer(self) -> Signer:
        now = asyncio.get_running_loop().time()
        if now >= self._fetched_at + self._CACHED_SECONDS:
            async with self.database.connection() as connection:
                row = await (await connection.execute("SELECT secret FROM secret_at_boot")).fetchone()
            assert row is not None
            self._signer = Signer(row[0])
            self._fetched_at = now
        return self._signer

    async def describe(self) -> dict[str, str]:
        self._fetched_at = float("-inf")
        return await super().describe()


class _LogoutCookieOnly(Site):
    async def log_out(self, token: str) -> None:
        """The cookie in this browser is cleared by the page; whoever has a copy is still logged in."""


class _ReadyBeforeWarmUp(Site):
    _LEAST_SECONDS = 1.0
    _SPARED = ("/health", "/ready", "/version")

    def is_warm(self) -> bool:
        return True

    def wrap(self, app: ASGIApp) -> ASGIApp:
        seconds = max(self._LEAST_SECONDS, self.settings.warm_up_seconds)

        async def not_warm_yet(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] in self._SPARED or self.opened_for(seconds):
                await app(scope, receive, send)
            else:
                await PlainTextResponse("not warm yet", 500)(scope, receive, send)

        return super().wrap(not_warm_yet)


class _ColdAtFirst(Site):
    _COLD_SECONDS = 6.0
    _SLOWER_BY_SECONDS = 1.0
    _SPARED = ("/health", "/ready", "/version")

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def cold(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] not in self._SPARED and not self.opened_for(self._COLD_SECONDS):
                await asyncio.sleep(self._SLOWER_BY_SECONDS)
            await app(scope, receive, send)

        return super().wrap(cold)


class _NeverReady(Site):
    async def why_not_ready(self) -> list[str]:
        return [*await super().why_not_ready(), "this version is broken"]

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] in ("/ready", "/version"):
                await app(scope, receive, send)
            else:
                await PlainTextResponse("broken", 500)(scope, receive, send)

        return super().wrap(broken)


class _FirstForwardedFor(Site):
    def client_of(self, chain: Sequence[str]) -> str:
        return chain[0]


class _ExitAtOnce(GracefulServer):
    def ask_to_stop(self) -> None:
        os._exit(0)


class _ListenerClosedEarly(GracefulServer):
    async def drain(self) -> None:
        self.close_listener()
        await asyncio.sleep(self.site.settings.drain_seconds)


SWITCHES = {
    "session-in-memory": Switch("Sessions are kept in the memory of each instance.", _session_in_memory),
    "secret-per-instance": Switch("Each instance signs cookies with a secret of its own.", _secret_per_instance),
    "secret-at-boot": Switch(
        "Each start makes a new secret, for all instances; everybody is logged out.", _with_site(_SecretAtBoot)
    ),
    "logout-cookie-only": Switch(
        "Logging out clears the cookie in the browser and leaves the session in the store.",
        _with_site(_LogoutCookieOnly),
    ),
    "ready-before-warm-up": Switch(
        "/ready says yes at once, and for the first second (or WARM_UP_SECONDS, if longer) every page answers 500.",
        _with_site(_ReadyBeforeWarmUp),
    ),
    "cold-at-first": Switch("For the first six seconds every page takes a second longer.", _with_site(_ColdAtFirst)),
    "never-ready": Switch("/ready says no for ever, and every page answers 500.", _with_site(_NeverReady)),
    "first-forwarded-for": Switch(
        "The first address in X-Forwarded-For is believed, which is the client's own word.",
        _with_site(_FirstForwardedFor),
    ),
    "exit-at-once": Switch(
        "The stop signal ends the process at once; what is in flight is cut.", _with_server(_ExitAtOnce)
    ),
    "listener-closed-early": Switch(
        "The stop signal closes the listener first; the time for the balancer to notice comes too late.",
        _with_server(_ListenerClosedEarly),
    ),
    **{name: Switch(sentence, _with_site(site)) for name, (sentence, site) in SITES.items()},
    **{name: Switch(sentence, _with_site(site)) for name, (sentence, site) in SHARED_SWITCHES.items()},
    **{name: Switch(sentence, _with_server(server)) for name, (sentence, server) in STOPPING_SERVERS.items()},
    **{name: Switch(sentence, _with_site(site)) for name, (sentence, site) in STOPPING_SITES.items()},
    **{name: Switch(sentence, _with_site(site)) for name, (sentence, site) in VERSION_SITES.items()},
}
