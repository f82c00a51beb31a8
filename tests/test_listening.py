"""Listeners hear what is said on a WebSocket; and the reference application tells it to everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.sync.server import ServerConnection, serve

from harness.errors import NothingTested
from harness.listening import EventListener, Listener
from harness.waiting import wait_until
from reference_app.live import Live


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """Tells everybody what one of them says, with a word before it."""
    everybody: list[ServerConnection] = []

    def serve_one(connection: ServerConnection) -> None:
        everybody.append(connection)
        connection.send("welcome")
        for message in connection:
            for each in everybody:
                each.send(f"said: {message!r}")

    with serve(serve_one, "127.0.0.1", 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running.socket.getsockname()
        finally:
            running.shutdown()
            thread.join()


def test_what_is_said_is_heard_by_both() -> None:
    """Within whatever form the application gives it; and nothing is heard that was not said."""
    with server() as at, Listener(at, "/live") as one, Listener(at, "/live") as other:
        for each in (one, other):
            # Who is connected is not yet known to everybody else.
            wait_until(lambda each=each: each.has_heard("welcome"), within_seconds=5, because="it was welcomed")  # type: ignore[misc]
        one.say("good morning")
        for each in (one, other):
            wait_until(lambda each=each: each.has_heard("good morning"), within_seconds=5, because="it was said")  # type: ignore[misc]
            assert not each.has_heard("good night")


def test_who_is_no_websocket_is_told() -> None:
    """Nothing can be tested where nobody answers, which is not the same as a message that was not heard."""
    with server() as at:
        pass
    with pytest.raises(NothingTested, match="nobody could connect to the WebSocket /live"):
        Listener(at, "/live")


@contextmanager
def events(kind: str = "text/event-stream") -> Iterator[tuple[tuple[str, int], threading.Event]]:
    """One answer in chunks, which goes on until it is told to end."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
            over.wait(10)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield ("127.0.0.1", running.server_port), over
        finally:
            over.set()
            running.shutdown()
            thread.join()


def test_the_end_of_events_is_seen() -> None:
    """While they go on there is no end; whoever leaves first has one as well."""
    with events() as (at, over):
        with EventListener(at, "/events") as left:
            assert left.ended_at is None
        assert left.ended_at is not None
        with EventListener(at, "/events") as listener:
            assert listener.ended_at is None
            over.set()
            wait_until(lambda: listener.ended_at is not None, within_seconds=5, because="they should end")
            assert listener.close_code is None


def test_the_end_of_a_websocket_is_seen() -> None:
    """With the reason its other side gave."""
    with server() as at, Listener(at, "/live") as listener:
        wait_until(lambda: listener.has_heard("welcome"), within_seconds=5, because="it was welcomed")
        assert (listener.ended_at, listener.close_code) == (None, None)
        everybody_leaves(listener)
        wait_until(lambda: listener.ended_at is not None, within_seconds=5, because="it should end")
        assert listener.close_code == 1000


def everybody_leaves(listener: Listener) -> None:
    listener._connection.close()


def test_what_is_no_stream_of_events_is_told() -> None:
    """A page is none, and nobody is none."""
    with events("text/html") as (at, _), pytest.raises(NothingTested, match="no server-sent events came from /events"):
        EventListener(at, "/events")
    with pytest.raises(NothingTested, match="no server-sent events"):
        EventListener(at, "/events")


class Wire:
    """What `Live` uses of the database: everybody on the channel hears everything."""

    def __init__(self) -> None:
        self.channels: list[asyncio.Queue[str]] = []

    async def notifications(self, channel: str) -> AsyncIterator[str | None]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        self.channels.append(heard)
        yield None
        while True:
            yield await heard.get()


class Instance(Live):
    async def say(self, text: str) -> None:
        for channel in self.database.channels:  # type: ignore[attr-defined]
            channel.put_nowait(text)


class Browser:
    """The application's side of a connection."""

    def __init__(self, *, says: str = "") -> None:
        self.says = [says] if says else []
        self.heard: list[str] = []
        self.connected = asyncio.Event()
        self.leaves = asyncio.Event()

    async def accept(self) -> None:
        self.connected.set()

    async def receive_text(self) -> str:
        if self.says:
            return self.says.pop()
        await self.leaves.wait()
        raise WebSocketDisconnect

    async def send_text(self, text: str) -> None:
        self.heard.append(text)


async def a_conversation() -> tuple[list[str], list[str]]:
    wire = Wire()
    here, there = Instance(wire), Instance(wire)  # type: ignore[arg-type]
    listening, speaking = Browser(), Browser(says="hello")
    first = asyncio.create_task(there.talk(listening))  # type: ignore[arg-type]
    await listening.connected.wait()
    second = asyncio.create_task(here.talk(speaking))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while not (listening.heard and speaking.heard):
            await asyncio.sleep(0.01)
    listening.leaves.set()
    speaking.leaves.set()
    await asyncio.gather(first, second)
    await asyncio.gather(here.close(), there.close())
    return listening.heard, speaking.heard


def test_people_on_two_instances_hear_each_other() -> None:
    """An instance listens before it lets anybody in; who leaves takes nothing down."""
    assert asyncio.run(a_conversation()) == (["hello"], ["hello"])
