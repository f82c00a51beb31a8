"""People connected to a WebSocket, who hear what is said on it; or to server-sent events, who only see them end.

The one place that knows of a WebSocket library. Must not: judge what was heard, or say anything twice.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPException
from types import TracebackType
from typing import Self

from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from harness import clock
from harness.answers import connection_to, lift_bounds, netloc
from harness.errors import NothingTested

__all__ = ["EventListener", "Listener"]

_CONNECT_SECONDS = 5.0
_MOST_HEARD = 16 * 1024 * 1024
"""Characters: what a few people say to each other is some thousand. Who says more is not listened to any longer."""
_NO_WORD = 1006
"""What the library says where the other side said nothing."""


class Listener:
    """One connection, from its first to its last word. Everything that comes is kept, up to a bound."""

    def __init__(self, at: tuple[str, int], path: str, *, headers: Mapping[str, str] | None = None) -> None:
        """Connect, with these headers. Raises NothingTested: nobody answers there as a WebSocket does."""
        self._stack = ExitStack()
        wire: socket.socket | None = None
        try:
            wire = socket.create_connection(at, timeout=_CONNECT_SECONDS)
            self._connection: ClientConnection = self._stack.enter_context(
                connect(
                    f"ws://{netloc(*at)}{path}",
                    # With a socket of ours it follows no redirect: that would be somebody else's answer.
                    sock=wire,
                    open_timeout=_CONNECT_SECONDS,
                    close_timeout=1.0,
                    # A proxy of the environment must not stand between, and nothing is said that a scenario did not say.
                    proxy=None,
                    compression=None,
                    ping_interval=None,
                    additional_headers=headers,
                )
            )
        except (OSError, WebSocketException, ValueError) as problem:
            if wire is not None:
                wire.close()
            raise NothingTested(
                f"nobody could connect to the WebSocket {path} at {netloc(*at)}: {problem}"
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
        left = _MOST_HEARD
        try:
            for message in self._connection:
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                # An empty one is kept as well, and so counts.
                left -= len(text) + 1
                if left < 0:
                    self._connection.close(CloseCode.MESSAGE_TOO_BIG)
                    return
                self._heard.append(text)
        except (OSError, WebSocketException):
            return  # nothing more will be heard, which is what is judged
        finally:
            self.ended_at = clock.now()


class EventListener:
    """One answer of server-sent events, from its head to its end."""

    close_code: int | None = None
    """It has none: the end of the answer is all there is."""

    def __init__(self, at: tuple[str, int], path: str, *, headers: Mapping[str, str] | None = None) -> None:
        """Ask for it, with these headers. Raises NothingTested: nobody answers there with events."""
        self._connection = connection_to(*at, within_seconds=_CONNECT_SECONDS)
        self.ended_at: float | None = None
        """When the answer was over, on the clock of the history; None while it is not."""
        try:
            self._connection.request("GET", path, headers={**(headers or {}), "Accept": "text/event-stream"})
            # Its end closes it, and then nobody else can.
            self._wire = self._connection.sock
            self._answer = self._connection.getresponse()
        except (OSError, HTTPException) as problem:
            self._connection.close()
            raise NothingTested(f"no server-sent events came from {path} at {netloc(*at)}: {problem}") from problem
        kind = self._answer.headers.get_content_type()
        if self._answer.status >= 300 or kind != "text/event-stream":
            self._connection.close()
            raise NothingTested(
                f"no server-sent events came from {path} at {netloc(*at)}: status {self._answer.status}, {kind}"
            )
        lift_bounds(self._answer)
        self._reader = threading.Thread(target=self._listen, name="event-listener", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # it has ended
            self._wire.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def _listen(self) -> None:
        try:
            while self._answer.read1(65_536):
                continue  # what is told is of no interest here
        except (OSError, HTTPException, ValueError):
            return  # cut: an end as well
        finally:
            self.ended_at = clock.now()
