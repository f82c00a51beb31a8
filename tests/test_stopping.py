"""An instance that is told to stop is watched: everything asked of it is sent once, and written down as it ended."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from harness.cluster import Cluster
from harness.layouts import Instance
from harness.model import Look
from harness.stopping import _ToldStop, _Watch
from harness.waiting import wait_until
from tests.test_faults import Fake


@dataclass(eq=False)
class Server:
    """An instance in small: ready until it is told to stop; tells on each answer whether it closes the connection."""

    tells: bool = True
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connections: list[socket.socket] = []
        self.refusing = False

    @property
    def target(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        # Whoever watches may be gone before they were answered.
        with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
            while request := lines.readline():
                head = [line for line in iter(lines.readline, b"\r\n") if line]
                asked_to = any(line.lower().startswith(b"connection: close") for line in head)
                stops = self.stopping.is_set()
                status = b"503 No" if stops and b"/ready" in request else b"200 OK"
                closes = asked_to or (stops and self.tells)
                word = b"Connection: close\r\n" if closes else b""
                connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + word + b"Content-Length: 2\r\n\r\nok")
                if closes:
                    return

    def end(self) -> None:
        """The listener first, then every connection that is still there."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # gone already


@contextmanager
def watched(server: Server) -> Iterator[list[Look]]:
    """Watched from before it is told to stop until it is gone."""
    seen: list[Look] = []
    app = SimpleNamespace(ready="/ready", ready_path="/ready", healthy=None)
    setup = SimpleNamespace(app=app, entry_page="/page", traffic=SimpleNamespace(headers={}))
    cluster = cast("Cluster", SimpleNamespace(setup=setup, record=seen.append))
    instance = cast("Instance", SimpleNamespace(name="app-1", target=server.target))
    accepting = threading.Thread(target=server.accept)
    accepting.start()
    with _Watch(cluster, instance) as watch:
        yield seen
        server.end()
        # Who is not answered any more ends by itself.
        wait_until(lambda: not any(t.is_alive() for t in watch._threads), within_seconds=10, because="all is seen")
    accepting.join()


def asked(seen: list[Look], what: str) -> list[Look]:
    return [look for look in seen if look.what == what]


def wait_for(seen: list[Look], what: str, count: int, **having: Any) -> None:
    def enough() -> bool:
        return (
            sum(all(getattr(look, key) == value for key, value in having.items()) for look in asked(seen, what))
            >= count
        )

    wait_until(enough, within_seconds=10, because=f"{what} should be asked")


def test_what_a_drain_looks_like() -> None:
    """It is asked until it refuses; each kept connection is asked until an answer says that it will be closed."""
    server = Server()
    with watched(server) as seen:
        assert {look.status for look in seen} == {200}
        server.stopping.set()
        wait_for(seen, "drain-ready", 3, status=503)
        wait_for(seen, "drain-kept", 4, value={"connection": 0, "closes": False})
    for what in ("drain-ready", "drain-page"):
        assert asked(seen, what)[-1].status is None
        assert asked(seen, what)[-1].error in ("refused", "reset", "closed")
        assert all(look.status is not None for look in asked(seen, what)[:-1])
    last = {look.value["connection"]: look for look in asked(seen, "drain-kept")}
    assert len(last) == 4
    assert all(look.value["closes"] and look.status == 200 for look in last.values())


def test_kept_connections_that_are_ended_without_a_word() -> None:
    """The request that met the end is written down, and sent nowhere else."""
    server = Server(tells=False)
    with watched(server) as seen:
        server.stopping.set()
        wait_for(seen, "drain-ready", 3, status=503)
    last = {look.value["connection"]: look for look in asked(seen, "drain-kept")}
    assert all(look.status is None and look.error in ("reset", "closed") for look in last.values())
    assert sum(look.status is None for look in asked(seen, "drain-kept")) == 4


def test_the_moment_of_the_signal_is_known() -> None:
    """It is sent, written down, and waited for; it is not sent twice by anybody who has been told so."""
    node = Fake()
    with _ToldStop(lambda: node.done.append("written down")).applied_to(node) as proof:
        assert node.done == ["tell to stop", "written down", "stop"]
        assert proof == "the process ended with exit code 0"
    assert node.done[-1] == "start"
    assert str(_ToldStop(lambda: None)) == "stop"
