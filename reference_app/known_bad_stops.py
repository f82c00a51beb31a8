"""Faults in how an instance goes: it does not listen, tells nobody, or keeps what it should end.

Wrong on purpose, as `known_bad` is, whose list these are part of; nothing else knows of them.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from reference_app.server import GracefulServer
from reference_app.site import Site

__all__ = ["STOPPING_SERVERS", "STOPPING_SITES"]


class _SignalIgnored(GracefulServer):
    def ask_to_stop(self) -> None:
        """As behind a shell that is process 1 and hands no signal on."""


class _StreamsKept(GracefulServer):
    def end_connection(self, connection: Any) -> None:
        if not isinstance(connection, WebSocketsSansIOProtocol):
            super().end_connection(connection)


class _ReadyWhileStopping(Site):
    async def why_not_ready(self) -> list[str]:
        return [reason for reason in await super().why_not_ready() if reason != self.STOPPING]


class _EventsKept(Site):
    def ends_streams(self) -> bool:
        return False


class _LeaversNotTold(Site):
    def asks_to_leave(self) -> bool:
        return False


STOPPING_SERVERS: dict[str, tuple[str, type[GracefulServer]]] = {
    "signal-ignored": ("The stop signal is ignored.", _SignalIgnored),
    "streams-kept": ("A WebSocket that nobody leaves is waited for when the instance is to stop.", _StreamsKept),
}

STOPPING_SITES: dict[str, tuple[str, type[Site]]] = {
    "ready-while-stopping": ("/ready goes on saying yes after the stop signal.", _ReadyWhileStopping),
    "events-kept": ("Server-sent events that nobody leaves are waited for when the instance is to stop.", _EventsKept),
    "leavers-not-told": (
        "Kept connections are ended at a stop, and no answer before that says so.",
        _LeaversNotTold,
    ),
}
