"""Postgres: the pool, the tables, people and their notes.

Every use of a connection has a bound on its whole time, waiting for the pool included. Must not: let an error of
psycopg out; callers see `UnavailableError`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from reference_app.errors import StartError, UnavailableError

__all__ = ["Database", "NoteWritten", "Person"]

logger = logging.getLogger(__name__)

Connection = AsyncConnection[TupleRow]

# Three instances with this pool, and the same again during a rollout, stay below Postgres' usual 100.
_POOL_SIZE = 8
_ANSWER_SECONDS = 2.0
_IDLE_SECONDS = 1.0
_START_SECONDS = 30.0
_CONNECT_SECONDS = 2
# Any number will do, as long as all instances use the same.
_SCHEMA_LOCK = 7_302_518

_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (
    id TEXT PRIMARY KEY,
    person_id BIGINT NOT NULL REFERENCES people (id),
    text TEXT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS sessions (
    token TEXT PRIMARY KEY,
    data JSONB NOT NULL,
    expiry TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry);
"""

_IDENTITY = """
SELECT s.system_identifier, d.oid, current_schema()
FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class Person:
    id: int
    email: str
    password: str
    """As hashed by `Passwords`."""


class NoteWritten(Enum):
    NEW = "new"
    SAME = "the very same note was there already"
    TAKEN = "the id belongs to another note"


class Database:
    """A pool of connections in autocommit mode, and the statements of the application."""

    def __init__(self, url: str, *, more_tables: str = "") -> None:
        """`more_tables`: made after those of this module."""
        self._url = url
        self._schema = _SCHEMA + more_tables
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=_POOL_SIZE,
            open=False,
            check=_look_alive,
            # Give up soon: the next request tries again at once, instead of waiting for a long back-off to end.
            reconnect_timeout=1,
            kwargs={"autocommit": True, "connect_timeout": _CONNECT_SECONDS},
        )
        self._last_used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self.identity = "unknown"
        """Which database this is, however it was reached. Known once open."""

    def apart(self) -> Database:
        """The same database, by connections of its own: nobody who waits for a page is to stand behind what is done in the
        background and hangs."""
        return Database(self._url)

    async def connect(self) -> None:
        """Open the pool alone: the database is known to be there, and has its tables."""
        await self._pool.open()

    async def open(self) -> None:
        """Wait until the database answers, make what tables are missing, open the pool. Raises StartError."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _START_SECONDS
        pause = 0.02
        told = False
        while True:
            try:
                await self._prepare()
                break
            except psycopg.OperationalError as error:
                if loop.time() > give_up_at:
                    raise StartError(f"the database did not answer within {_START_SECONDS:g} s: {error}") from error
                if not told:
                    logger.info("waiting for the database: %s", error)
                    told = True
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        await self.connect()

    async def close(self) -> None:
        await self._pool.close(timeout=1)

    async def _prepare(self) -> None:
        async with await AsyncConnection.connect(self._url, connect_timeout=_CONNECT_SECONDS) as connection:
            await self._make_tables(connection)
            cursor = await connection.execute(_IDENTITY)
            row = await cursor.fetchone()
            assert row is not None
            self.identity = "postgres:{}/{}/{}".format(*row)

    async def _make_tables(self, connection: Connection) -> None:
        # IF NOT EXISTS alone is not safe when several instances start on an empty database at once.
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        await connection.execute(self._schema)

    @asynccontextmanager
    async def connection(self, *, within_seconds: float = _ANSWER_SECONDS) -> AsyncIterator[Connection]:
        """A connection for at most this long, the wait for it included. Raises UnavailableError."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + within_seconds
        try:
            async with self._fresh_connection(give_up_at) as connection:
                # Cancelling the statement would ask the server, and wait for the very server that does not answer.
                cutting = loop.call_at(give_up_at, _cut, connection)
                try:
                    yield connection
                finally:
                    cutting.cancel()
        except psycopg.OperationalError as error:
            late = loop.time() >= give_up_at
            seen = f"no answer within {within_seconds:g} s" if late else str(error).partition("\n")[0]
            raise UnavailableError(f"database: {seen}") from error

    @asynccontextmanager
    async def _fresh_connection(self, give_up_at: float) -> AsyncIterator[Connection]:
        """One that was used a moment ago, or is new.

        While it is idle a connection can die without our hearing of it: when the network was gone, the database gave
        up, and its word for that was lost. The statement that finds out would be somebody's request.
        """
        loop = asyncio.get_running_loop()
        while True:
            async with self._pool.connection(timeout=give_up_at - loop.time()) as connection:
                used = self._last_used.setdefault(connection, loop.time())
                if loop.time() - used > _IDLE_SECONDS:
                    await connection.close()  # the pool makes another one instead
                    continue
                try:
                    yield connection
                finally:
                    self._last_used[connection] = loop.time()
                return

    async def notifications(self, channel: str) -> AsyncIterator[str | None]:
        """What is told on a channel from now on, on a connection of its own; first None, as soon as it is listened to.

        Raises UnavailableError when the connection ends.
        """
        try:
            async with await AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS
            ) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                yield None
                async for notification in connection.notifies():
                    yield notification.payload
        except psycopg.OperationalError as error:
            raise UnavailableError(f"database: {str(error).partition(chr(10))[0]}") from error

    async def ping(self, *, within_seconds: float) -> None:
        """Return if the database answers. Raises UnavailableError."""
        async with self.connection(within_seconds=within_seconds) as connection:
            await connection.execute("SELECT 1")

    async def add_person(self, email: str, password: str) -> bool:
        """False if there is one with this email."""
        async with self.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO people (email, password) VALUES (%s, %s) ON CONFLICT (email) DO NOTHING", (email, password)
            )
            return cursor.rowcount == 1

    async def find_person(self, email: str) -> Person | None:
        async with self.connection() as connection:
            cursor = await connection.execute("SELECT id, email, password FROM people WHERE email = %s", (email,))
            row = await cursor.fetchone()
            return Person(*row) if row else None

    async def add_note(self, note_id: str, person_id: int, text: str) -> NoteWritten:
        """Safe to repeat: a client that got no answer sends the same note again."""
        async with self.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO notes (id, person_id, text) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING",
                (note_id, person_id, text),
            )
            if cursor.rowcount == 1:
                return NoteWritten.NEW
            cursor = await connection.execute(
                "SELECT 1 FROM notes WHERE id = %s AND person_id = %s AND text = %s", (note_id, person_id, text)
            )
            return NoteWritten.SAME if await cursor.fetchone() else NoteWritten.TAKEN

    async def find_note(self, note_id: str, person_id: int) -> str | None:
        async with self.connection() as connection:
            cursor = await connection.execute(
                "SELECT text FROM notes WHERE id = %s AND person_id = %s", (note_id, person_id)
            )
            row = await cursor.fetchone()
            return str(row[0]) if row else None


async def _look_alive(connection: Connection) -> None:
    """Refuse an idle connection whose server has gone: its socket has something to read. Costs no round trip."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await connection.close()
        raise psycopg.OperationalError("the server closed the connection while it was idle")


def _cut(connection: Connection) -> None:
    """End the wait for a server that does not answer: the statement fails as if the server had gone."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
