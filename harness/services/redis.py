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

from harness.answers import BrokenAnswerError, bounded_reader
from harness.errors import NodeError
from harness.platforms.node import ContainerSpec, NodeSpec
from harness.services._asking import ASK_TIMEOUT_SECONDS
from harness.setup import Redis
from harness.workspace import Workspace

__all__ = ["RedisContainer", "RedisService"]

_HOST = "127.0.0.1"
_CONTAINER_PORT = 6379
_MOST_BYTES = 65_536
"""Of an answer: it is asked for a number and a word."""
_CONTAINER_FILE = "/usr/local/etc/redis/redis.conf"

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


class RedisAccess:
    """One Redis-compatible server with a password of this run's own, as the harness and the application reach it."""

    def __init__(self, *, port: int, inside: tuple[str, int] | None = None) -> None:
        """`port`: where the harness reaches it on loopback. `inside`: where the application does, if elsewhere."""
        self.host = _HOST
        self.port = port
        self._inside = inside or (self.host, port)
        self._password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """With the password: for the application, never for a report."""
        host, port = self._inside
        return f"redis://:{self._password}@{host}:{port}/0"

    @property
    def secrets(self) -> Sequence[str]:
        """What must be kept out of everything that is written."""
        return (self._password,)

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that this server has the values of."""
        host, port = self._inside
        return {
            "redis.url": self.url,
            "redis.host": host,
            "redis.port": str(port),
            "redis.password": self._password,
        }

    def key_count(self) -> int:
        """How many keys it holds. Raises NodeError when it does not answer."""
        count = self._ask("DBSIZE")
        if not isinstance(count, int):
            raise NodeError(f"redis answered {count!r} when asked how many keys it holds")
        return count

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return self._ask("PING") == b"PONG"
        except NodeError:
            return False

    def _ask(self, *words: str) -> Reply:
        try:
            with socket.create_connection((self.host, self.port), timeout=ASK_TIMEOUT_SECONDS) as connection:
                connection.sendall(_request("AUTH", self._password) + _request(*words))
                with bounded_reader(connection, within_seconds=ASK_TIMEOUT_SECONDS, most_bytes=_MOST_BYTES) as answers:
                    _read_reply(answers)
                    return _read_reply(answers)
        except (OSError, ValueError, BrokenAnswerError) as problem:
            raise NodeError(f"redis at {self.host}:{self.port} did not answer {words[0]}: {problem}") from problem


class RedisContainer(RedisAccess):
    """A Redis of an image that keeps to the official one's ways, under the name `redis` on its network."""

    def __init__(self, *, image: str, port: int) -> None:
        super().__init__(port=port, inside=("redis", _CONTAINER_PORT))
        text = _CONFIGURATION.format(
            host="0.0.0.0",
            port=_CONTAINER_PORT,
            password=self._password,
            directory='"/tmp"',
        )
        self.spec = ContainerSpec(
            name="redis",
            image=image,
            # In a file: arguments are seen by everybody on a machine.
            command=("redis-server", _CONTAINER_FILE),
            files={_CONTAINER_FILE: text.encode()},
            tmpfs=("/data",),  # the image keeps it in a volume
            container_port=_CONTAINER_PORT,
            port=port,
            is_ready=self.answers,
        )


class RedisService(RedisAccess):
    """A Redis-compatible server as a process."""

    def __init__(self, settings: Redis, *, program: Path, workspace: Workspace, port: int) -> None:
        # The table is empty so far; taken so that a setting added to it has one way in.
        super().__init__(port=port)
        self.settings = settings
        self._directory = workspace.scratch / "redis"
        self.spec = NodeSpec(
            name="redis",
            argv=(str(program), str(self._configuration)),
            directory=self._directory,
            host=_HOST,
            port=port,
            is_ready=self.answers,
        )

    def prepare(self) -> None:
        """Write its configuration, readable by its owner only: arguments are seen by everybody on a machine."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = _CONFIGURATION.format(
            host=self.host, port=self.port, password=self._password, directory=_quoted(self._directory)
        )
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(text, encoding="utf-8")

    @property
    def _configuration(self) -> Path:
        return self._directory / "redis.conf"


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
