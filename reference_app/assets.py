"""What pages name beside themselves, here one stylesheet: its name holds a mark of what is in it, and so differs between builds.

Each build hands its own to the database when it starts, and every instance gives those of every build: while two versions are
there, a page of the one may ask for its stylesheet from the other. Must not: know of requests.
"""

from __future__ import annotations

import hashlib

from reference_app.database import Database

__all__ = ["TABLES", "Assets"]

TABLES = "CREATE TABLE IF NOT EXISTS assets (name TEXT PRIMARY KEY, content TEXT NOT NULL);"
_STYLE = "/* build {version} */\nbody {{ max-width: 40em; margin: 2em auto; font-family: sans-serif; }}\n"


class Assets:
    """Those of this build, and where those of every build are."""

    def __init__(self, database: Database, *, version: str) -> None:
        self.database = database
        self.content = _STYLE.format(version=version)
        self.stylesheet = f"site-{hashlib.sha256(self.content.encode()).hexdigest()[:12]}.css"
        """The name of the stylesheet of this build."""

    async def publish(self) -> None:
        """Hand them over to all instances. Raises UnavailableError."""
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO assets (name, content) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (self.stylesheet, self.content),
            )

    async def find(self, name: str) -> str | None:
        """What is in the one of this name, of whichever build. Raises UnavailableError."""
        if name == self.stylesheet:
            return self.content
        async with self.database.connection() as connection:
            row = await (await connection.execute("SELECT content FROM assets WHERE name = %s", (name,))).fetchone()
        return str(row[0]) if row else None
