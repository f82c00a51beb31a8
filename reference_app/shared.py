"""What all instances keep together beside people and notes: files, orders, tallies, limits and the notice.

It lies in the database, and whatever must happen once is left to the database to decide. Its small methods are the seams
that `known_bad_shared` replaces. Must not: keep anything in this process, or know of HTTP.
"""

from __future__ import annotations

from reference_app.database import Database
from reference_app.security import new_token

__all__ = ["LIMIT", "LIMIT_SECONDS", "TABLES", "Shared"]

LIMIT = 10
"""So many invitations a person may send in each window."""
LIMIT_SECONDS = 60

TABLES = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    person_id BIGINT NOT NULL REFERENCES people (id),
    content BYTEA NOT NULL
);
CREATE SEQUENCE IF NOT EXISTS order_numbers;
CREATE TABLE IF NOT EXISTS orders (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number BIGINT NOT NULL,
    person_id BIGINT NOT NULL REFERENCES people (id),
    key TEXT,
    item TEXT NOT NULL,
    UNIQUE (person_id, key)
);
CREATE TABLE IF NOT EXISTS tallies (name TEXT PRIMARY KEY, total BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS limits (
    person_id BIGINT NOT NULL REFERENCES people (id),
    period BIGINT NOT NULL,
    count INT NOT NULL,
    PRIMARY KEY (person_id, period)
);
CREATE TABLE IF NOT EXISTS notices (one BOOLEAN PRIMARY KEY, text TEXT NOT NULL);
"""


class Shared:
    """The statements. Each may raise UnavailableError."""

    # Who comes second with the same key waits for the first, and is told the first one's number.
    _ORDER = """
        INSERT INTO orders (number, person_id, key, item) VALUES (%s, %s, %s, %s)
        ON CONFLICT (person_id, key) DO UPDATE SET key = excluded.key RETURNING number, xmax = 0
    """
    _RAISE = """
        INSERT INTO tallies (name, total) VALUES (%s, 1)
        ON CONFLICT (name) DO UPDATE SET total = tallies.total + 1 RETURNING total
    """
    # The database's clock is everybody's. Windows that are over are of no use to anybody.
    _COUNT = """
        WITH over AS (DELETE FROM limits WHERE person_id = %(person)s AND period < floor(extract(epoch FROM now()) / %(seconds)s))
        INSERT INTO limits (person_id, period, count)
        VALUES (%(person)s, floor(extract(epoch FROM now()) / %(seconds)s), 1)
        ON CONFLICT (person_id, period) DO UPDATE SET count = limits.count + 1 RETURNING count
    """
    _CHANGE_NOTICE = """
        INSERT INTO notices (one, text) VALUES (true, %s) ON CONFLICT (one) DO UPDATE SET text = excluded.text
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def keep_file(self, person_id: int, content: bytes) -> str:
        """The id to get it back by."""
        file_id = new_token()
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO files (id, person_id, content) VALUES (%s, %s, %s)", (file_id, person_id, content)
            )
        return file_id

    async def find_file(self, file_id: str, person_id: int) -> bytes | None:
        async with self.database.connection() as connection:
            cursor = await connection.execute(
                "SELECT content FROM files WHERE id = %s AND person_id = %s", (file_id, person_id)
            )
            row = await cursor.fetchone()
        return bytes(row[0]) if row else None

    async def next_number(self) -> int:
        """A number that no other order has. Numbers of orders that were there already are left out."""
        async with self.database.connection() as connection:
            row = await (await connection.execute("SELECT nextval('order_numbers')")).fetchone()
        assert row is not None
        return int(row[0])

    async def order(self, person_id: int, item: str, *, key: str | None) -> tuple[int, bool]:
        """The order's number, and whether it is a new one. With a key that the person has used before it is not."""
        number = await self.next_number()
        async with self.database.connection() as connection:
            row = await (await connection.execute(self._ORDER, (number, person_id, key, item))).fetchone()
        assert row is not None
        return int(row[0]), bool(row[1])

    async def raise_tally(self, name: str) -> int:
        """One more; how many there are now."""
        async with self.database.connection() as connection:
            row = await (await connection.execute(self._RAISE, (name,))).fetchone()
        assert row is not None
        return int(row[0])

    async def is_allowed(self, person_id: int) -> bool:
        """Count one more, and say whether it is within the limit."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(self._COUNT, {"person": person_id, "seconds": LIMIT_SECONDS})
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0]) <= LIMIT

    async def change_notice(self, text: str) -> None:
        async with self.database.connection() as connection:
            await connection.execute(self._CHANGE_NOTICE, (text,))

    async def notice(self) -> str:
        """What everybody is told; empty when there is nothing."""
        async with self.database.connection() as connection:
            row = await (await connection.execute("SELECT text FROM notices")).fetchone()
        return str(row[0]) if row else ""
