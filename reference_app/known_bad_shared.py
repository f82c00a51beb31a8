"""Faults in what instances keep together: each instance has its own, or two at the same time undo each other.

Wrong on purpose, as `known_bad` is, whose list these are part of; nothing else knows of them.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_app.database import Connection, Database
from reference_app.jobs import Jobs
from reference_app.live import Live
from reference_app.security import new_token
from reference_app.shared import LIMIT, Shared
from reference_app.site import Site

__all__ = ["SHARED_SWITCHES"]

_A_MOMENT_SECONDS = 0.05
"""As long as a password of the usual cost takes to be hashed, between a look and the write that follows it."""
_MIGRATION_SECONDS = 0.5
"""As long as a few migrations take."""


class _FilesOnDisk(Shared):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._folder = Path(tempfile.mkdtemp(prefix="files-"))

    async def keep_file(self, person_id: int, content: bytes) -> str:
        file_id = new_token()
        (self._folder / f"{person_id}-{file_id}").write_bytes(content)
        return file_id

    async def find_file(self, file_id: str, person_id: int) -> bytes | None:
        path = self._folder / f"{person_id}-{Path(file_id).name}"
        return path.read_bytes() if path.is_file() else None


class _CounterPerInstance(Shared):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._numbers = count(1)

    async def next_number(self) -> int:
        return next(self._numbers)


class _LimiterInMemory(Shared):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._counts: Counter[int] = Counter()

    async def is_allowed(self, person_id: int) -> bool:
        self._counts[person_id] += 1
        return self._counts[person_id] <= LIMIT


class _KeysInMemory(Shared):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._orders: dict[tuple[int, str], asyncio.Task[tuple[int, bool]]] = {}

    async def order(self, person_id: int, item: str, *, key: str | None) -> tuple[int, bool]:
        if key is None:
            return await super().order(person_id, item, key=None)
        known = (person_id, key)
        is_new = known not in self._orders
        if is_new:
            self._orders[known] = asyncio.create_task(super().order(person_id, item, key=None))
        number, _ = await self._orders[known]
        return number, is_new


class _ReadModifyWrite(Shared):
    _WRITE = """
        INSERT INTO tallies (name, total) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET total = excluded.total
    """

    async def raise_tally(self, name: str) -> int:
        async with self.database.connection() as connection:
            row = await (await connection.execute("SELECT total FROM tallies WHERE name = %s", (name,))).fetchone()
            total = (int(row[0]) if row else 0) + 1
            await asyncio.sleep(_A_MOMENT_SECONDS)
            await connection.execute(self._WRITE, (name, total))
        return total


class _NoticeCached(Shared):
    _known: str | None = None

    async def notice(self) -> str:
        if self._known is None:
            self._known = await super().notice()
        return self._known

    async def change_notice(self, text: str) -> None:
        await super().change_notice(text)
        self._known = text


class _CronOnEach(Jobs):
    async def claim(self, due: int) -> bool:
        del due
        return True


class _LeaderForEver(Jobs):
    _LEAD = "INSERT INTO job_leader (one, holder) VALUES (true, %s) ON CONFLICT DO NOTHING"

    def __init__(self, database: Database, *, instance: str, every_seconds: float) -> None:
        super().__init__(database, instance=instance, every_seconds=every_seconds)
        self._me = new_token()

    async def claim(self, due: int) -> bool:
        del due
        async with self.own.connection() as connection:
            await connection.execute(self._LEAD, (self._me,))
            row = await (await connection.execute("SELECT holder FROM job_leader")).fetchone()
        return row is not None and row[0] == self._me


class _CheckThenInsert(Database):
    async def add_person(self, email: str, password: str) -> bool:
        if await self.find_person(email) is not None:
            return False
        await asyncio.sleep(_A_MOMENT_SECONDS)
        async with self.connection() as connection:
            await connection.execute("INSERT INTO people (email, password) VALUES (%s, %s)", (email, password))
        return True

    async def open(self) -> None:
        await super().open()
        async with self.connection() as connection:
            await connection.execute("ALTER TABLE people DROP CONSTRAINT IF EXISTS people_email_key")


def _with_shared(kind: type[Shared]) -> type[Site]:
    class _Spoilt(Site):
        def make_shared(self) -> Shared:
            return kind(self.database)

    return _Spoilt


def _with_jobs(kind: type[Jobs]) -> type[Site]:
    class _Spoilt(Site):
        TABLES = Site.TABLES + "CREATE TABLE IF NOT EXISTS job_leader (one BOOLEAN PRIMARY KEY, holder TEXT NOT NULL);"

        def make_jobs(self) -> Jobs:
            settings = self.settings
            return kind(self.database, instance=settings.instance, every_seconds=settings.job_seconds)

    return _Spoilt


class _BroadcastInProcess(Live):
    async def say(self, text: str) -> None:
        self.tell_here(text)


class _HeardHereOnly(Site):
    def make_live(self) -> Live:
        return _BroadcastInProcess(self.database)


class _MigrationsRaced(Database):
    async def _make_tables(self, connection: Connection) -> None:
        cursor = await connection.execute("SELECT to_regclass('people')")
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            await asyncio.sleep(_MIGRATION_SECONDS)
            await connection.execute(self._schema.replace(" IF NOT EXISTS", ""))


class _MigratesUnlocked(Site):
    def make_database(self) -> Database:
        return _MigrationsRaced(self.settings.database_url, more_tables=self.TABLES)


class _ReadyAlways(Site):
    async def why_not_ready(self) -> list[str]:
        return []


class _ErrorsWith200(Site):
    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def well_told(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_as_success(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] == 503 and scope["path"] != "/ready":
                    message["status"] = 200
                await send(message)

            await app(scope, receive, send_as_success)

        return super().wrap(well_told)


class _NamesNotUnique(Site):
    def make_database(self) -> Database:
        return _CheckThenInsert(self.settings.database_url, more_tables=self.TABLES)


SHARED_SWITCHES: Mapping[str, tuple[str, type[Site]]] = {
    "files-on-disk": (
        "Files lie in a folder of the instance that took them.",
        _with_shared(_FilesOnDisk),
    ),
    "counter-per-instance": (
        "Each instance counts the numbers of orders by itself.",
        _with_shared(_CounterPerInstance),
    ),
    "limiter-in-memory": (
        "Each instance counts for itself how often a person sent invitations.",
        _with_shared(_LimiterInMemory),
    ),
    "keys-in-memory": (
        "Each instance remembers for itself which Idempotency-Keys it has seen.",
        _with_shared(_KeysInMemory),
    ),
    "check-then-insert": (
        "Whether an email is registered is looked up first, and no constraint holds what is written a moment later.",
        _NamesNotUnique,
    ),
    "read-modify-write": (
        "A tally is read, raised, and written back a moment later.",
        _with_shared(_ReadModifyWrite),
    ),
    "notice-cached": (
        "Each instance reads the notice once, and again only when it is changed there.",
        _with_shared(_NoticeCached),
    ),
    "cron-on-each": ("Each instance runs every job.", _with_jobs(_CronOnEach)),
    "leader-for-ever": (
        "The first instance to come leads and runs the jobs; nobody takes its place when it is gone.",
        _with_jobs(_LeaderForEver),
    ),
    "migrations-unlocked": (
        "Each instance makes the tables at its start if they are not there, without a lock.",
        _MigratesUnlocked,
    ),
    "broadcast-in-process": (
        "What one person says is heard by those who are connected to the same instance.",
        _HeardHereOnly,
    ),
    "ready-always": ("/ready says yes whatever is away.", _ReadyAlways),
    "errors-with-200": ("An error page is sent with status 200.", _ErrorsWith200),
}
