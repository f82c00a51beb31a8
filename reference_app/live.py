"""What one person says, heard by everybody who is connected, to whichever instance.

It goes through the database (LISTEN and NOTIFY), which tells every instance. An instance listens from the first connection on.
`known_bad_shared` replaces `say`. Must not: keep what was said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect

from reference_app.database import Database
from reference_app.errors import UnavailableError

__all__ = ["Live"]

logger = logging.getLogger(__name__)

_CHANNEL = "live"
_MOST_CHARACTERS = 1000
_LISTENING_WITHIN_SECONDS = 2.0
_AGAIN_AFTER_SECONDS = 0.2


class Live:
    """The people who are connected to this instance."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ears: set[asyncio.Queue[str]] = set()
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def talk(self, websocket: WebSocket) -> None:
        """Serve one connection until either side ends it."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        with self._ear() as heard:
            async with asyncio.timeout(_LISTENING_WITHIN_SECONDS):
                await self._listening.wait()
            await websocket.accept()
            telling = asyncio.create_task(_tell(websocket, heard))
            try:
                while True:
                    await self.say((await websocket.receive_text())[:_MOST_CHARACTERS])
            except WebSocketDisconnect:
                pass  # who leaves says nothing more
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def say(self, text: str) -> None:
        """Tell everybody, on every instance. Raises UnavailableError."""
        async with self.database.connection() as connection:
            await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, text))

    def tell_here(self, text: str) -> None:
        """Tell those who are connected to this instance."""
        for ear in self._ears:
            ear.put_nowait(text)

    @contextmanager
    def _ear(self) -> Iterator[asyncio.Queue[str]]:
        ear: asyncio.Queue[str] = asyncio.Queue()
        self._ears.add(ear)
        try:
            yield ear
        finally:
            self._ears.discard(ear)

    async def _listen(self) -> None:
        while True:
            try:
                async for text in self.database.notifications(_CHANNEL):
                    self._listening.set()
                    if text is not None:
                        self.tell_here(text)
            except UnavailableError as error:
                logger.warning("nobody is heard: %s", error)
            self._listening.clear()
            await asyncio.sleep(_AGAIN_AFTER_SECONDS)


async def _tell(websocket: WebSocket, heard: asyncio.Queue[str]) -> None:
    while True:
        await websocket.send_text(await heard.get())
