"""What one request costs the traffic process in CPU time, recording included, beside other ways to send one.

All drivers ask the same server for the same page (1 KiB, named after the visitor's cookie), each in a process of its own.
The traffic process and the bare loop send at 2,000 requests a second, whoever answers; the others as fast as they can,
which flatters them: a client that never sleeps does not pay for waking up. The CPU time is user and system time of the
sending process alone, of its steady part. Only the traffic process records what it saw, checks who answered for whom,
and says which request was due when. Prints a section of docs/performance.md; asserts nothing: what a microsecond is
depends on the machine.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httptools
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import is_quick, of, ratios, say, table

from harness import clock
from harness.journeys import compile_journeys
from harness.traffic import Journal, Stream, Task, Traffic, read_history
from harness.traffic.schedule import GROUPS_PER_SECOND

RATE = 2_000
SECONDS = 3.0
COUNT = 1_500
"""Requests of those that send as fast as they can, where they can be counted out."""
BOUND_US = 40
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
        say(
            f"traffic process, {kind}, {journey}, {rate:g}/s: {each:.1f} us; sent {summary.sent} of {summary.planned}, "
            f"{summary.late:.1%} late, {len(wrong)} not recognised, sent after due: median "
            f"{lags[len(lags) // 2] * 1000:.2f} ms, 99 % {lags[len(lags) * 99 // 100] * 1000:.2f} ms"
        )
        return each


# -- the others, each run in a process of its own by `driven` ---------------------------------------------------------


def drive_requests(port: int) -> float:
    """One session, one request after another."""
    import requests

    session = requests.Session()
    session.get(f"http://127.0.0.1:{port}/dashboard", timeout=5)
    before = own_cpu_seconds()
    for _ in range(COUNT):
        session.get(f"http://127.0.0.1:{port}/dashboard", timeout=5)
    return (own_cpu_seconds() - before) / COUNT


def drive_aiohttp(port: int) -> float:
    """One session on uvloop, ten requests at a time."""
    import aiohttp

    async def main() -> float:
        async with aiohttp.ClientSession() as session:

            async def visit(count: int) -> None:
                for _ in range(count):
                    async with session.get(f"http://127.0.0.1:{port}/dashboard") as response:
                        await response.read()

            await asyncio.gather(*(visit(5) for _ in range(10)))
            before = own_cpu_seconds()
            await asyncio.gather(*(visit(COUNT // 10) for _ in range(10)))
            return (own_cpu_seconds() - before) / (COUNT // 10 * 10)

    return uvloop.run(main())


def drive_locust(port: int) -> float:
    """Ten FastHttpUsers without a wait, in Locust's own process. It may never be imported into one of ours."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from locust import FastHttpUser, constant, task
    from locust.env import Environment

    class Visitor(FastHttpUser):
        host = f"http://127.0.0.1:{port}"
        wait_time = constant(0)

        @task
        def dashboard(self) -> None:
            self.client.get("/dashboard")

    environment = Environment(user_classes=[Visitor])
    runner = environment.create_local_runner()
    runner.start(10, spawn_rate=10)
    gevent.sleep(1.5)
    before, had = own_cpu_seconds(), environment.stats.total.num_requests
    gevent.sleep(SECONDS)
    spent, sent = own_cpu_seconds() - before, environment.stats.total.num_requests - had
    runner.quit()
    if environment.stats.total.num_failures or not sent:
        raise SystemExit("Locust's requests failed")
    return spent / sent


DRIVERS = {
    "requests": ("requests, one session", drive_requests),
    "aiohttp": ("aiohttp on uvloop, 10 at a time", drive_aiohttp),
    "locust": ("Locust, 10 FastHttpUsers", drive_locust),
}


def driven(name: str, port: int) -> float:
    """Microseconds of CPU for each request of one of the drivers, told by a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "drive", name, str(port)]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return float(json.loads(told.stdout.splitlines()[-1])) * 1e6


def wrk(port: int) -> float:
    """Microseconds of CPU for each request of wrk: one thread, ten connections."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["wrk", "-t1", "-c10", f"-d{SECONDS:.0f}s", f"http://127.0.0.1:{port}/dashboard"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = re.search(r"(\d+) requests in", told)
    assert found is not None, told
    return spent / int(found[1]) * 1e6


def main() -> None:
    rounds = 1 if is_quick(str(__doc__)) else 5
    here = [name for name in DRIVERS if importlib.util.find_spec(name)]
    spent: dict[str, list[float]] = {}
    with server() as port:
        for number in range(rounds):
            say(f"cpu: round {number + 1} of {rounds}")
            spent.setdefault("ours", []).append(ours(port, "reused", RATE))
            spent.setdefault("bare", []).append(uvloop.run(send_bare(port, 1 / GROUPS_PER_SECOND)))
            for name in here:
                spent.setdefault(name, []).append(driven(name, port))
            if shutil.which("wrk"):
                spent.setdefault("wrk", []).append(wrk(port))
            spent.setdefault("news", []).append(ours(port, "reused", RATE, "news"))
            spent.setdefault("fresh", []).append(ours(port, "fresh", RATE / 2))
    words = {
        "ours": f"the traffic process, reused connections, {RATE:,}/s",
        "news": "the same where every head and body differs, so that none is known",
        "fresh": f"the same on fresh connections, {RATE // 2:,}/s (a socket, a handshake and a close each)",
        "bare": f"a bare parser on uvloop, {RATE:,}/s in the same groups, nothing checked or recorded",
        **{name: told for name, (told, _) in DRIVERS.items()},
        "wrk": "wrk, one thread, 10 connections, nothing checked or recorded",
    }
    print("## CPU for each request\n")
    print(
        f"Of the sending process alone, the same page from the same server, {rounds} round{'s' if rounds > 1 else ''} one after the other; the ratio is to the "
        f"traffic process in the same round. Its bound is {BOUND_US} µs. The others send as fast as they can, and record nothing.\n"
    )
    rows = []
    for name, told in words.items():
        if name in spent:
            rows.append([told, of(spent[name], ".1f"), of(ratios(zip(spent[name], spent["ours"], strict=True)))])
        else:
            rows.append([told, "not measured: it is not installed here", ""])
    print(table(["sender", "µs for each request", "times the traffic process"], rows))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
    elif sys.argv[1:2] == ["drive"]:
        print(json.dumps(DRIVERS[sys.argv[2]][1](int(sys.argv[3]))))
    else:
        main()
