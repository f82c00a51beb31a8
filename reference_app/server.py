"""The server: start, and a stop that nobody notices.

On the first stop signal an instance is not ready any more and asks clients to leave their connections, but goes on
accepting for DRAIN_SECONDS; then it closes the listener and finishes what is in flight. On the second it ends at
once. Must not: know of pages.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from reference_app.app import create_app
from reference_app.errors import StartError
from reference_app.settings import Settings
from reference_app.site import Site

__all__ = ["GracefulServer", "Parts", "run"]

logger = logging.getLogger(__name__)

# A connection accepted just before the listener closed has not sent its request yet.
_LAST_ARRIVALS_SECONDS = 0.05
_CUT_SHORT = 1
_CANNOT_START = 3


class GracefulServer(uvicorn.Server):
    """uvicorn, with a stop of its own."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        settings = site.settings
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http="httptools",
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=settings.keep_alive_seconds,
            )
        )
        self.site = site
        self.cut_short = False
        """True once a request was cut because it took too long to wait for."""
        self._stop_asked = asyncio.Event()

    def ask_to_stop(self) -> None:
        """What a stop signal does."""
        if self._stop_asked.is_set():
            logger.warning("asked to stop again: ending at once")
            os._exit(_CUT_SHORT)
        logger.info("asked to stop: not ready from now on")
        self.site.draining = True
        self._stop_asked.set()

    async def drain(self) -> None:
        """Go on accepting until balancers have noticed, then accept no more."""
        await asyncio.sleep(self.site.settings.drain_seconds)
        self.close_listener()

    def close_listener(self) -> None:
        for server in self.servers:
            server.close()
        logger.info("listener closed, %d connections open", len(self.server_state.connections))

    def end_connection(self, connection: Any) -> None:
        """At once if it is idle or a stream, which is told so; else after its answer."""
        connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`: uvicorn would end with the signal's exit code, as if it had been killed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # what is loaded now stays: not to be gone through with what requests leave
        gc.enable()
        settings = self.site.settings
        logger.info(
            "%s listens on %s:%d, version %s", settings.instance, settings.host, settings.port, settings.app_version
        )

    async def main_loop(self) -> None:
        ticking = asyncio.create_task(super().main_loop())  # keeps the Date header right
        await self._stop_asked.wait()
        await self.drain()
        ticking.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        state, seconds = self.server_state, self.site.settings.finish_seconds
        await asyncio.sleep(_LAST_ARRIVALS_SECONDS)
        for connection in list(state.connections):
            self.end_connection(connection)
        try:
            async with asyncio.timeout(seconds):
                while state.connections or state.tasks:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.cut_short = True
            logger.warning("%d requests took longer than %g s: cut", len(state.tasks), seconds)
        else:
            logger.info("everything in flight is finished")


@dataclass(frozen=True)
class Parts:
    """What an instance is put together from; `known_bad` puts in others."""

    settings: Settings
    site: type[Site] = Site
    server: type[GracefulServer] = GracefulServer


def run(parts: Parts) -> int:
    """Serve until asked to stop. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for talkative in ("psycopg", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(parts))


async def _serve(parts: Parts) -> int:
    if parts.settings.known_bad:
        logger.warning("wrong on purpose: %s", ", ".join(parts.settings.known_bad))
    site = parts.site(parts.settings)
    server = parts.server(create_app(site), site)
    opening = asyncio.create_task(site.open())

    def on_signal() -> None:
        server.ask_to_stop()
        opening.cancel()  # nothing happens if it is open already

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        await opening
        await server.serve()
    except asyncio.CancelledError:
        logger.info("stopped before it had started")
    except StartError as error:
        logger.critical("cannot start: %s", error)
        return _CANNOT_START
    finally:
        await site.close()
    return _CUT_SHORT if server.cut_short else 0
