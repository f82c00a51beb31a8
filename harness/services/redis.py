"""A Redis-compatible server as a node: its configuration, its readiness, and what may be asked of it.

Spoken to in its own protocol over a plain socket: a look at start must not import a client library.
Must not: start it; that is a platform's work.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from harness.errors import NodeError
from harness.platforms.node import NodeSpec
from harness.services._asking import ASK_TIMEOUT_SECONDS
from harness.setup import Redis
from harness.workspace import Workspace

__all__ = ["RedisService"]

_HOST = "127.0.0.1"

_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir {directory}
daemonize no
# What is judged is the web tier: nothing is written to disk, and nothing is left by a kill.
save ""
appendonly no
# How often it looks whether it was told to stop. 10, the default, takes up to 0.1 s; 100 costs 0.5 % of a core.
hz 100
"""

Reply = bytes | int | None


class RedisService:
    """One Redis-compatible server with a password of this run's own."""

    def __init__(self, settings: Redis, *, program: Path, workspace: Workspace, port: int) -> None:
        # The table is empty so far; taken so that a setting added to it has one way in.
        self.settings = settings
        self.host = _HOST
        self.port = port
        self._password = secrets.token_urlsafe(24)
        self._directory = workspace.scratch / "redis"
        self.spec = NodeSpec(
            name="redis",
            argv=(str(program), str(self._configuration)),
            directory=self._directory,
            host=_HOST,
            port=port,
            is_ready=self._is_ready,
        )

    @property
    def url(self) -> str:
        """With the password: for the application, never for a report."""
        return f"redis://:{self._password}@{self.host}:{self.port}/0"

    @property
    def secrets(self) -> Sequence[str]:
        """What must be kept out of everything that is written."""
        return (self._password,)

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that this server has the values of."""
        return {
            "redis.url": self.url,
            "redis.host": self.host,
            "redis.port": str(self.port),
            "redis.password": self._password,
        }

    def prepare(self) -> None:
        """Write its configuration, readable by its owner only: arguments are seen by everybody on a machine."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = _CONFIGURATION.format(
            host=self.host, port=self.port, password=self._password, directory=_quoted(self._directory)
        )
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(text, encoding="utf-8")

    def key_count(self) -> int:
        """How many keys it holds. Raises NodeError when it does not answer."""
        count = self._ask("DBSIZE")
        if not isinstance(count, int):
            raise NodeError(f"redis answered {count!r} when asked how many keys it holds")
        return count

    @property
    def _configuration(self) -> Path:
        return self._directory / "redis.conf"

    def _is_ready(self) -> bool:
        try:
            return self._ask("PING") == b"PONG"
        except NodeError:
            return False

    def _ask(self, *words: str) -> Reply:
        try:
            with socket.create_connection((self.host, self.port), timeout=ASK_TIMEOUT_SECONDS) as connection:
                connection.sendall(_request("AUTH", self._password) + _request(*words))
                with connection.makefile("rb") as answers:
                    _read_reply(answers)
                    return _read_reply(answers)
        except (OSError, ValueError) as problem:
            raise NodeError(f"redis at {self.host}:{self.port} did not answer {words[0]}: {problem}") from problem


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _request(*words: str) -> bytes:
    """A command in the protocol of Redis: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _read_reply(stream: BinaryIO) -> Reply:
    """One simple reply. Raises ValueError for an error, for a list, and for a stream that ends."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ValueError("it closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        length = int(rest)
        if length < 0:
            return None
        data = stream.read(length + 2)
        if len(data) < length + 2:
            raise ValueError("it closed the connection")
        return data[:-2]
    raise ValueError(rest.decode(errors="replace"))
