"""Session stores: redis, postgres, memory. All do the same; only what several instances see differs.

A session is found by its token and is over when nobody used it for `session_seconds`. The counter is a field of
its own that the store raises, so that two requests at once never lose one. Must not: know of cookies or requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

from reference_app.database import Database
from reference_app.errors import UnavailableError
from reference_app.security import new_token
from reference_app.settings import Settings

__all__ = ["MemorySessions", "PostgresSessions", "RedisSessions", "Session", "Sessions", "make_sessions"]

_POOL_SIZE = 16
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class Session:
    """Who is logged in."""

    person_id: int
    email: str


class Sessions(Protocol):
    """What each store does. Everything but `close` may raise UnavailableError."""

    async def begin(self, session: Session) -> str:
        """Keep a new session; the token to find it by."""

    async def find(self, token: str) -> Session | None:
        """The session, its life renewed; None if there is none (any more)."""

    async def count(self, token: str) -> int | None:
        """Raise the session's counter by one and return it; None if there is no session."""

    async def end(self, token: str) -> None:
        """There is no such session from now on, for anybody."""

    async def ping(self, *, within_seconds: float) -> None:
        """Return if the store answers."""

    async def identity(self) -> str:
        """Which store this is, however it was reached."""

    async def close(self) -> None: ...


def make_sessions(settings: Settings, database: Database) -> Sessions:
    """The store the settings name."""
    match settings.session_store:
        case "redis":
            return RedisSessions(settings.redis_url, settings.session_seconds)
        case "postgres":
            return PostgresSessions(database, settings.session_seconds)
        case _:
            return MemorySessions(settings.session_seconds)


class RedisSessions:
    """One hash per session: `data` is the session as JSON, `count` its counter."""

    # A bare HINCRBY would bring a session that has just ended back to life, as a counter without an owner.
    _COUNT = """
        if redis.call('EXISTS', KEYS[1]) == 0 then return false end
        redis.call('EXPIRE', KEYS[1], ARGV[1])
        return redis.call('HINCRBY', KEYS[1], 'count', 1)
    """

    def __init__(self, url: str, session_seconds: int) -> None:
        # Not at the top: an instance that does not use redis should not pay for the import.
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.maint_notifications import MaintNotificationsConfig

        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_POOL_SIZE,
            timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            # Never again on its own: the counter would be raised twice. What goes stale while idle is seen before
            # use, but only with the notifications off: with them, anything to read passes for one, even the end.
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            decode_responses=True,
        )
        self._client = Redis.from_pool(pool)
        self._error = RedisError
        self._count = self._client.register_script(self._COUNT)
        self._seconds = session_seconds
        self._number = pool.connection_kwargs.get("db") or 0

    async def begin(self, session: Session) -> str:
        token = new_token()
        async with self._answering(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key(token), "data", json.dumps(asdict(session)))
            pipeline.expire(self._key(token), self._seconds)
            await pipeline.execute()
        return token

    async def find(self, token: str) -> Session | None:
        async with self._answering(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.hget(self._key(token), "data")
            pipeline.expire(self._key(token), self._seconds)
            data, _ = await pipeline.execute()
        return Session(**json.loads(data)) if data else None

    async def count(self, token: str) -> int | None:
        async with self._answering():
            value: int | None = await self._count(keys=[self._key(token)], args=[self._seconds])
        return value

    async def end(self, token: str) -> None:
        async with self._answering():
            await self._client.delete(self._key(token))

    async def ping(self, *, within_seconds: float) -> None:  # noqa: ARG002 - the client has its own, as short
        async with self._answering():
            await self._client.ping()

    async def identity(self) -> str:
        async with self._answering():
            about = await self._client.info("server")
        return f"redis:{about['run_id']}/{self._number}"

    async def close(self) -> None:
        await self._client.aclose()

    @staticmethod
    def _key(token: str) -> str:
        return f"session:{token}"

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except self._error as error:
            raise UnavailableError(f"redis: {error}") from error


class PostgresSessions:
    """The table `sessions (token, data, expiry)`; its data is JSON, so that the database can raise the counter."""

    _BEGIN = """
        WITH over AS (
            DELETE FROM sessions WHERE token IN (
                SELECT token FROM sessions WHERE expiry < now() LIMIT 100 FOR UPDATE SKIP LOCKED
            )
        )
        INSERT INTO sessions (token, data, expiry) VALUES (%s, %s::jsonb, now() + make_interval(secs => %s))
    """
    _FIND = """
        UPDATE sessions SET expiry = now() + make_interval(secs => %s)
        WHERE token = %s AND expiry > now() RETURNING data
    """
    _COUNT = """
        UPDATE sessions SET
            data = jsonb_set(data, '{count}', to_jsonb(coalesce((data ->> 'count')::int, 0) + 1)),
            expiry = now() + make_interval(secs => %s)
        WHERE token = %s AND expiry > now() RETURNING (data ->> 'count')::int
    """

    def __init__(self, database: Database, session_seconds: int) -> None:
        self._database = database
        self._seconds = session_seconds

    async def begin(self, session: Session) -> str:
        token = new_token()
        async with self._database.connection() as connection:
            await connection.execute(self._BEGIN, (token, json.dumps(asdict(session)), self._seconds))
        return token

    async def find(self, token: str) -> Session | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(self._FIND, (self._seconds, token))).fetchone()
        return Session(person_id=row[0]["person_id"], email=row[0]["email"]) if row else None

    async def count(self, token: str) -> int | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(self._COUNT, (self._seconds, token))).fetchone()
        return int(row[0]) if row else None

    async def end(self, token: str) -> None:
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM sessions WHERE token = %s", (token,))

    async def ping(self, *, within_seconds: float) -> None:
        """Nothing to ask: the database is asked anyway."""

    async def identity(self) -> str:
        return self._database.identity

    async def close(self) -> None:
        """The pool is the database's."""


class MemorySessions:
    """A dictionary. For one instance only: no other instance sees it, and a restart forgets everybody."""

    def __init__(self, session_seconds: int) -> None:
        self._seconds = session_seconds
        self._kept: dict[str, tuple[Session, float]] = {}
        self._counts: dict[str, int] = {}
        self._identity = f"memory:{new_token()}"

    async def begin(self, session: Session) -> str:
        now = time.monotonic()
        for token in [token for token, (_, expiry) in self._kept.items() if expiry < now]:
            await self.end(token)
        token = new_token()
        self._kept[token] = (session, now + self._seconds)
        return token

    async def find(self, token: str) -> Session | None:
        now = time.monotonic()
        session, expiry = self._kept.get(token, (None, 0.0))
        if session is None or expiry < now:
            return None
        self._kept[token] = (session, now + self._seconds)
        return session

    async def count(self, token: str) -> int | None:
        if await self.find(token) is None:
            return None
        self._counts[token] = self._counts.get(token, 0) + 1
        return self._counts[token]

    async def end(self, token: str) -> None:
        self._kept.pop(token, None)
        self._counts.pop(token, None)

    async def ping(self, *, within_seconds: float) -> None:
        """It is always there."""

    async def identity(self) -> str:
        return self._identity

    async def close(self) -> None:
        """Nothing to close."""
