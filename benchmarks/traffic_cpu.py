"""What one request costs the traffic process in CPU time, recording included, beside other ways to send one.

All drivers ask the same server for the same page (1 KiB, named after the visitor's cookie), which runs in a process of
its own. The traffic process and the bare loop send at 2,000 requests a second, `requests` as fast as it can. The CPU
time is user and system time of the sending process alone, of its steady part. Most of it is the price of waking up with
cold caches: the bare loop is shown sending millisecond by millisecond too, which costs it twice as much as sending in the
groups that the traffic process sends in at this rate. Prints a table with ratios; asserts nothing: what a microsecond
is depends on the machine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httptools
import requests
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import clock
from harness.journeys import compile_journeys
from harness.traffic import Journal, Stream, Task, Traffic, read_history
from harness.traffic.schedule import GROUPS_PER_SECOND

RATE = 2_000
SECONDS = 4.0
JOURNEYS = {
    "login": {"steps": [{"get": "/login?as={user.email}"}]},
    "whoami": {
        "steps": [
            {
                "get": "/dashboard",
                "recognised": {"status": 200, "contains": "{user.email}"},
                "logged_out": {"status": 303, "location": "/login*"},
            }
        ]
    },
    "news": {"steps": [{"get": "/news", "recognised": {"status": 200, "contains": "{user.email}"}}]},
}


class Page(asyncio.Protocol):
    """Answers a request with a page that names whoever the cookie names."""

    count = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        close = b"Connection: close" in data
        who = data.partition(b"Cookie: sid=")[2].partition(b"\r\n")[0]
        cookie = novelty = b""
        if data.startswith(b"GET /news"):
            Page.count += 1
            novelty = b"X-Request-Id: %d\r\n" % Page.count
            who += b", visit %d" % Page.count
        if data.startswith(b"GET /login?as="):
            who = data[14:].partition(b" ")[0].replace(b"%40", b"@")
            cookie = b"Set-Cookie: sid=" + who + b"; Path=/; HttpOnly; Secure\r\n"
        body = b"<html><body><p>Signed in as " + who + b"</p>" + b"<p>words &amp; more words</p>\n" * 32
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 18:00:00 GMT\r\n"
            b"Content-Type: text/html; charset=utf-8\r\nX-App-Version: 1\r\nX-Harness-Upstream: 127.0.0.1:20001\r\n"
            b"X-Harness-Upstream-Status: 200\r\nCache-Control: no-store\r\n"
            + cookie
            + novelty
            + (b"Connection: close\r\n" if close else b"")
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        if close:
            self.transport.close()


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Page, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class BareConnection(asyncio.Protocol):
    """The least a client can do: a transport and a parser, nothing checked, nothing kept."""

    idle: list[BareConnection]
    answered = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.idle.append(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        BareConnection.answered += 1
        self.idle.append(self)


async def send_bare(port: int, every_seconds: float) -> float:
    """CPU microseconds for each request of the bare loop, woken so often to send what is due."""
    loop = asyncio.get_running_loop()
    BareConnection.idle = []
    BareConnection.answered = 0
    for _ in range(64):
        await loop.create_connection(BareConnection, "127.0.0.1", port)
    request = b"GET /dashboard HTTP/1.1\r\nHost: x\r\nCookie: sid=v0123456789abcdef@example.org\r\n\r\n"
    begin, sent = clock.now(), 0
    done = loop.create_future()
    before = own_cpu_seconds()

    def tick() -> None:
        nonlocal sent
        moment = clock.now()
        while begin + sent / RATE <= moment and BareConnection.idle:
            BareConnection.idle.pop().transport.write(request)
            sent += 1
        if moment < begin + SECONDS:
            loop.call_later(every_seconds, tick)
        else:
            done.set_result(None)

    tick()
    await done
    return (own_cpu_seconds() - before) / BareConnection.answered * 1e6


def own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds_of(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def ours(port: int, kind: str, rate: float, journey: str = "whoami") -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        with (
            Journal(path, run="benchmark") as journal,
            Traffic(
                journal=path,
                journeys=compile_journeys(JOURNEYS),
                targets={"balancer": ("127.0.0.1", port)},
                names={"127.0.0.1:20001": "app-1"},
                timeout_seconds=5,
                seed=1,
            ) as traffic,
        ):
            journal.append({"t": "scenario", "scenario": kind, "seed": 1, "instances": ["app-1"], "setup": {}})
            traffic.begin_scenario(kind)
            visitors = traffic.new_visitors(20)
            traffic.perform([Task(visitor, "login") for visitor in visitors])
            traffic.start_stream(Stream("steady", rate, visitors, {journey: 1}, connections={kind: 1}))
            clock.sleep(0.3)
            before, begin = cpu_seconds_of(traffic.pid), clock.now()
            clock.sleep(SECONDS)
            spent, seconds = cpu_seconds_of(traffic.pid) - before, clock.now() - begin
            summary = traffic.stop_stream("steady")
        operations = list(read_history(path, kind).of_kind(journey))
        wrong = [op for op in operations if not op.available or op.answer != "recognised"]
        lags = sorted(op.sent - op.due for op in operations if op.sent is not None)
        each = spent / (seconds * rate) * 1e6
        print(
            f"{f'traffic process, {kind}, {journey}, {rate:g}/s':42} {each:8.1f}   "
            f"sent {summary.sent} of {summary.planned}, {summary.late:.1%} late, {len(wrong)} not recognised, "
            f"sent after due: median {lags[len(lags) // 2] * 1000:.2f} ms, 99 % {lags[len(lags) * 99 // 100] * 1000:.2f} ms"
        )
        return each


def main() -> None:
    print(f"{'':42} {'us CPU':>8}   per request")
    with server() as port:
        reused = ours(port, "reused", RATE)
        news = ours(port, "reused", RATE, "news")
        fresh = ours(port, "fresh", RATE / 2)
        bare = uvloop.run(send_bare(port, 1 / GROUPS_PER_SECOND))
        print(
            f"{f'bare httptools on uvloop, reused, {RATE:g}/s':42} {bare:8.1f}   in the same groups, nothing recorded"
        )
        singly = uvloop.run(send_bare(port, 0.001))
        print(
            f"{f'bare httptools on uvloop, reused, {RATE:g}/s':42} {singly:8.1f}   every millisecond, nothing recorded"
        )
        session, before, count = requests.Session(), own_cpu_seconds(), 500
        for _ in range(count):
            session.get(f"http://127.0.0.1:{port}/dashboard", timeout=5)
        slow = (own_cpu_seconds() - before) / count * 1e6
        print(f"{'requests, one session, one after another':42} {slow:8.1f}   {count} answered, nothing recorded")
    print(
        f"\nreused: {reused / bare:.1f} times the bare loop, {slow / reused:.0f} times cheaper than requests; "
        f"bound 40 us: {'kept' if reused <= 40 else 'NOT kept on this machine, now'}\n"
        f"news, where every head and body differs, so that none is known: {news / reused:.1f} times that\n"
        f"fresh: {fresh / reused:.1f} times reused (a socket, a handshake and a close each)"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
    else:
        main()
