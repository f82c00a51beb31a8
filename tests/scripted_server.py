"""A small server whose every misbehaviour is scripted: what a path answers is a function on the raw socket.

It runs in a thread of the test's own process, speaks just enough HTTP, and keeps what it saw.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PATIENCE_SECONDS = 10.0


@dataclass
class Seen:
    """One request as it came over the wire."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Talk:
    """One connection, in the hands of a script."""

    socket: socket.socket
    seen: Seen
    server: ScriptedServer
    ended: bool = False
    says_goodbye: bool = True
    """Over TLS: whether it tells that it ends the connection, as it must."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, body: bytes = b"ok", *, status: str = "200 OK", headers: str = "") -> None:
        close = "Connection: close\r\n" if self.seen.headers.get("connection") == "close" else ""
        head = f"HTTP/1.1 {status}\r\n{headers}{close}Content-Length: {len(body)}\r\n\r\n"
        self.send(head.encode("latin-1") + body)

    def reset(self) -> None:
        """End the connection with a reset instead of a farewell, once the script returns."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ended = True

    def close(self) -> None:
        """End the connection, once the script returns."""
        self.ended = True

    def cut(self) -> None:
        """As `close`, without a goodbye: what somebody on the way could do as well."""
        self.ended, self.says_goodbye = True, False

    def wait_until_released(self) -> None:
        """Say nothing until the test says so, or the other side ends the connection."""
        self.server.released.wait(PATIENCE_SECONDS)


Script = Callable[[Talk], None]


def plainly(talk: Talk) -> None:
    talk.answer()


@dataclass
class ScriptedServer:
    """Answers each path by its script; any other path plainly."""

    scripts: dict[str, Script] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    context: ssl.SSLContext | None = None
    """Speaks TLS with it."""
    on_connect: Callable[[socket.socket], bool] = lambda _: True
    """Asked before anything is said; False ends the connection there."""
    handshakes: list[bool] = field(default_factory=list)
    """Of each handshake, whether it went on with an earlier session."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def requests(self, path: str) -> list[Seen]:
        """What came for this path, with or without a query."""
        return [seen for seen in list(self.seen) if seen.path.partition("?")[0] == path]

    def wait_for(self, count: int, path: str) -> None:
        """Return when so many requests came for a path."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests(path)) >= count, PATIENCE_SECONDS)

    def end_connections(self) -> None:
        """Close every open connection from this side."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.end_connections()
        for thread in (self._accepting, *self._threads):
            thread.join(PATIENCE_SECONDS)
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, len(self._connections)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if not self.on_connect(connection):
                return
            if self.context is not None:
                connection = stack.enter_context(self.context.wrap_socket(connection, server_side=True))
                self._connections[number - 1] = connection
                self.handshakes.append(connection.session_reused or False)
            incoming = stack.enter_context(connection.makefile("rb"))
            while (request := _read_request(incoming, number)) is not None:
                with self._changed:
                    self.seen.append(request)
                    self._changed.notify_all()
                script = self.scripts.get(request.path.partition("?")[0], plainly)
                talk = Talk(connection, request, self)
                script(talk)
                if talk.ended or request.headers.get("connection") == "close":
                    if isinstance(connection, ssl.SSLSocket) and talk.says_goodbye:
                        connection.unwrap()
                    return


def _read_request(incoming, number: int) -> Seen | None:
    first = incoming.readline()
    if not first:
        return None
    method, path, _ = first.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := incoming.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = incoming.read(int(headers.get("content-length", 0)))
    return Seen(number, method, path, headers, body)


@contextlib.contextmanager
def serving(
    *,
    tls: ssl.SSLContext | None = None,
    on_connect: Callable[[socket.socket], bool] = lambda _: True,
    **scripts: Script,
) -> Iterator[ScriptedServer]:
    """A server with a script for each `/name`."""
    server = ScriptedServer(
        {f"/{name}": script for name, script in scripts.items()}, context=tls, on_connect=on_connect
    )
    try:
        yield server
    finally:
        server.close()
