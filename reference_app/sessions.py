"""Session stores: redis, postgres, memory. All do the same; only what several instances see differs.

A session is found by its token and is over when nobody used it for `session_seconds`. Everything in it is a field of its
own that the store changes, and the counter one that it raises, so that two requests at once never lose a change. Must not:
know of cookies or requests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from reference_app.database import Database
from reference_app.errors import UnavailableError
from reference_app.security import new_token
from reference_app.settings import Settings

__all__ = ["MemorySessions", "PostgresSessions", "RedisSessions", "Session", "Sessions", "make_sessions"]

_POOL_SIZE = 16
_ANSWER_SECONDS = 1.0
_IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Session:
    """Who is logged in."""

    person_id: int
    email: str


class Sessions(Protocol):
    """What each store does. Everything but `close` may raise UnavailableError."""

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        """Keep a new session; the token to find it by, which is a new one unless it is given."""

    async def find(self, token: str) -> Session | None:
        """The session, its life renewed; None if there is none (any more)."""

    async def count(self, token: str) -> int | None:
        """Raise the session's counter by one and return it; None if there is no session."""

    async def keep(self, token: str, name: str, text: str) -> bool:
        """Keep a text in the session under this name, beside everything else in it; False if there is no session."""

    async def kept(self, token: str, name: str) -> str | None:
        """The text of this name; None if there is none, or no session."""

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
    """One hash per session: `data` is the session as JSON, `count` its counter, `kept:<name>` a text."""

    # A bare HINCRBY or HSET would bring a session that has just ended back to life, without an owner.
    _COUNT = """
        if redis.call('EXISTS', KEYS[1]) == 0 then return false end
        redis.call('EXPIRE', KEYS[1], ARGV[1])
        return redis.call('HINCRBY', KEYS[1], 'count', 1)
    """
    _KEEP = """
        if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        redis.call('EXPIRE', KEYS[1], ARGV[1])
        redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
        return 1
    """

    def __init__(self, url: str, session_seconds: int) -> None:
        # Not at the top: an instance that does not use redis should not pay for the import.
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.connection import AbstractConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.maint_notifications import MaintNotificationsConfig

        class FreshConnectionPool(BlockingConnectionPool):
            """Its connections were used a moment ago, or are new: what died while it was idle is not met by a request."""

            async def release(self, connection: AbstractConnection) -> None:
                last_used[connection] = asyncio.get_running_loop().time()
                await super().release(connection)

            async def ensure_connection(self, connection: AbstractConnection) -> None:
                if asyncio.get_running_loop().time() - last_used.get(connection, 0.0) > _IDLE_SECONDS:
                    await connection.disconnect()
                await super().ensure_connection(connection)

        last_used: WeakKeyDictionary[AbstractConnection, float] = WeakKeyDictionary()
        pool = FreshConnectionPool.from_url(
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
        self._keep = self._client.register_script(self._KEEP)
        self._seconds = session_seconds
        self._number = pool.connection_kwargs.get("db") or 0

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        token = token or new_token()
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

    async def keep(self, token: str, name: str, text: str) -> bool:
        async with self._answering():
            return bool(await self._keep(keys=[self._key(token)], args=[self._seconds, f"kept:{name}", text]))

    async def kept(self, token: str, name: str) -> str | None:
        async with self._answering():
            text = await self._client.hget(self._key(token), f"kept:{name}")
        return None if text is None else str(text)

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

    _KEEP = """
        UPDATE sessions SET
            data = data || jsonb_build_object(%s::text, %s::text), expiry = now() + make_interval(secs => %s)
        WHERE token = %s AND expiry > now()
    """
    _KEPT = "SELECT data ->> %s FROM sessions WHERE token = %s AND expiry > now()"

    def __init__(self, database: Database, session_seconds: int) -> None:
        self._database = database
        self._seconds = session_seconds

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        token = token or new_token()
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

    async def keep(self, token: str, name: str, text: str) -> bool:
        async with self._database.connection() as connection:
            cursor = await connection.execute(self._KEEP, (f"kept:{name}", text, self._seconds, token))
            return cursor.rowcount == 1

    async def kept(self, token: str, name: str) -> str | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(self._KEPT, (f"kept:{name}", token))).fetchone()
        return row[0] if row else None

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
        self._texts: dict[str, dict[str, str]] = {}
        self._identity = f"memory:{new_token()}"

    async def begin(self, session: Session, *, token: str | None = None) -> str:
        now = time.monotonic()
        for over in [over for over, (_, expiry) in self._kept.items() if expiry < now]:
            await self.end(over)
        token = token or new_token()
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

    async def keep(self, token: str, name: str, text: str) -> bool:
        if await self.find(token) is None:
            return False
        self._texts.setdefault(token, {})[name] = text
        return True

    async def kept(self, token: str, name: str) -> str | None:
        return self._texts.get(token, {}).get(name)

    async def end(self, token: str) -> None:
        self._kept.pop(token, None)
        self._counts.pop(token, None)
        self._texts.pop(token, None)

    async def ping(self, *, within_seconds: float) -> None:
        """It is always there."""

    async def identity(self) -> str:
        return self._identity

    async def close(self) -> None:
        """Nothing to close."""
