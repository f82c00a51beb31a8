"""People connected to a WebSocket, who hear what is said on it.

The one place that knows of a WebSocket library. Must not: judge what was heard, or say anything twice.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from harness import clock
from harness.errors import NothingTested

__all__ = ["Listener"]

_CONNECT_SECONDS = 5.0
_NO_WORD = 1006
"""What the library says where the other side said nothing."""


class Listener:
    """One connection, from its first to its last word. Everything that comes is kept."""

    def __init__(self, at: tuple[str, int], path: str) -> None:
        """Connect. Raises NothingTested: nobody answers there as a WebSocket does."""
        host, port = at
        self._stack = ExitStack()
        try:
            self._connection: ClientConnection = self._stack.enter_context(
                connect(
                    f"ws://{host}:{port}{path}",
                    open_timeout=_CONNECT_SECONDS,
                    close_timeout=1.0,
                    # A proxy of the environment must not stand between, and nothing is said that a scenario did not say.
                    proxy=None,
                    compression=None,
                    ping_interval=None,
                )
            )
        except (OSError, WebSocketException) as problem:
            raise NothingTested(
                f"nobody could connect to the WebSocket {path} at {host}:{port}: {problem}"
            ) from problem
        self._heard: list[str] = []
        self.ended_at: float | None = None
        """When the connection was over, on the clock of the history; None while it is not."""
        self._reader = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._reader.start()

    def say(self, words: str) -> None:
        """Send a message. Raises NothingTested: the connection has ended."""
        try:
            self._connection.send(words)
        except (OSError, WebSocketException) as problem:
            raise NothingTested(f"a WebSocket ended before anything was said: {problem}") from problem

    def has_heard(self, words: str) -> bool:
        """Whether a message came that holds these words."""
        return any(words in message for message in list(self._heard))

    @property
    def close_code(self) -> int | None:
        """What the other side gave as the reason when it was over (RFC 6455, 7.4); None for no word of farewell."""
        code = self._connection.close_code
        return None if code in (None, _NO_WORD) else code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self._reader.join()

    def _listen(self) -> None:
        try:
            for message in self._connection:
                self._heard.append(message if isinstance(message, str) else message.decode("utf-8", "replace"))
        except (OSError, WebSocketException):
            return  # nothing more will be heard, which is what is judged
        finally:
            self.ended_at = clock.now()
