"""What is done at regular times, once for all instances: here nothing but to write down that it was done.

Each time is claimed in the database, by whoever comes first; so no instance leads, and the loss of one costs nothing. Its
small methods are the seams that `known_bad_shared` replaces. Must not: run anything that was not claimed.
"""

from __future__ import annotations

import asyncio
import logging

from reference_app.database import Database
from reference_app.errors import UnavailableError

__all__ = ["TABLES", "Jobs"]

logger = logging.getLogger(__name__)

_SHOWN = 100
_KEPT = 1000

TABLES = """
CREATE TABLE IF NOT EXISTS job_claims (due BIGINT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS job_runs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    due BIGINT NOT NULL,
    instance TEXT NOT NULL
);
"""


class Jobs:
    """Runs while the event loop does, until it is closed. With 0 seconds it never runs."""

    # Which time it is says the database: its clock is everybody's.
    _NOW = """
        SELECT floor(epoch / %(every)s::numeric)::bigint, (%(every)s::numeric - mod(epoch, %(every)s::numeric))::float8
        FROM (SELECT extract(epoch FROM clock_timestamp()) AS epoch) AS now
    """
    _CLAIM = "INSERT INTO job_claims (due) VALUES (%s) ON CONFLICT DO NOTHING"

    def __init__(self, database: Database, *, instance: str, every_seconds: float) -> None:
        self.database = database
        self.own = database.apart()
        self.instance = instance
        self.every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.every_seconds:
            self._task = asyncio.create_task(self._go_on())
            self._task.add_done_callback(_tell_if_broken)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.own.close()

    async def _go_on(self) -> None:
        await self.own.connect()
        while True:
            pause = self.every_seconds
            try:
                due, pause = await self._now()
                if await self.claim(due):
                    await self.run(due)
            except UnavailableError as error:
                logger.warning("no job was run: %s", error)
            await asyncio.sleep(pause)

    async def _now(self) -> tuple[int, float]:
        """Which time it is now, and for how many seconds more."""
        async with self.own.connection() as connection:
            row = await (await connection.execute(self._NOW, {"every": self.every_seconds})).fetchone()
        assert row is not None
        return int(row[0]), float(row[1])

    async def claim(self, due: int) -> bool:
        """Whether it is this instance that runs it."""
        async with self.own.connection() as connection:
            return (await connection.execute(self._CLAIM, (due,))).rowcount == 1

    async def run(self, due: int) -> None:
        async with self.own.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO job_runs (due, instance) VALUES (%s, %s)", (due, self.instance))
            for table in ("job_claims", "job_runs"):
                await connection.execute(f"DELETE FROM {table} WHERE due < %s", (due - _KEPT,))  # noqa: S608 - our own two

    async def latest(self) -> list[dict[str, object]]:
        """What was run, the newest first."""
        async with self.database.connection() as connection:
            cursor = await connection.execute("SELECT due, instance FROM job_runs ORDER BY id DESC LIMIT %s", (_SHOWN,))
            rows = await cursor.fetchall()
        return [{"due": due, "by": instance} for due, instance in rows]


def _tell_if_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (problem := task.exception()) is not None:
        logger.critical("no more jobs are run here", exc_info=problem)
