"""How truly a gap is measured: a server goes silent for exactly 200, 500 and 2,000 ms, and the record tells how long.

The server runs in a process of its own and notes, on the same monotonic clock, when its silence began and ended. It
either holds the requests of that time and answers them at its end, as a process that is stopped and goes on would, or
it resets them, as one that is killed and started again. The traffic knows nothing of it. The bound is one probe interval.

Beside it, through the very same silence, go visitors of a closed loop, as most load tools have them: each waits for its
answer, then a little, then asks again. Whoever waits does not ask, so that an outage of seconds is a few slow requests
among thousands. Prints a section of docs/performance.md; asserts nothing.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import is_quick, of, say, table

from harness import clock
from harness.checkers.measures import percentile
from harness.journeys import compile_journeys
from harness.model import longest_gap
from harness.traffic import Journal, Stream, Traffic, read_history

RATE = 100.0
SILENCES_SECONDS = (0.2, 0.5, 2.0)
AROUND_SECONDS = 0.6
CLOSED_AROUND_SECONDS = 4.0
VISITORS = 4
SLOW_SECONDS = 0.1


class Silence:
    """Whether the server is silent, and what it owes."""

    def __init__(self) -> None:
        self.mode: str | None = None
        self.held: list[Any] = []
        self.truth: dict[str, float] = {}

    def begin(self, mode: str, seconds: float) -> None:
        self.mode = mode
        self.truth = {"begin": clock.now()}
        asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        self.mode = None
        self.truth["end"] = clock.now()
        for transport in self.held:
            answer(transport, b"late")
        self.held.clear()


SILENCE = Silence()


def answer(transport: Any, body: bytes) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Server(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1].decode()
        if path.startswith("/silence/"):
            mode, seconds = path.split("/")[2:]
            SILENCE.begin(mode, float(seconds))
            answer(self.transport, b"")
        elif path == "/truth":
            answer(self.transport, json.dumps(SILENCE.truth).encode())
        elif SILENCE.mode == "held":
            SILENCE.held.append(self.transport)
        elif SILENCE.mode == "reset":
            self.transport.abort()
        else:
            answer(self.transport, b"here")


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def measure(port: int, mode: str, seconds: float, *, around: float = AROUND_SECONDS) -> tuple[float, float, list[Any]]:
    """How long it was silent, how long the record says, and what was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        with (
            Journal(path, run="benchmark") as journal,
            Traffic(
                journal=path,
                journeys=compile_journeys({"whoami": {"steps": [{"get": "/", "expect": {"status": 200}}]}}),
                targets={"balancer": ("127.0.0.1", port)},
                names={},
                timeout_seconds=5,
                seed=1,
            ) as traffic,
        ):
            journal.append({"t": "scenario", "scenario": "gap", "seed": 1, "instances": [], "setup": {}})
            traffic.begin_scenario("gap")
            traffic.start_stream(Stream("probe", RATE, traffic.new_visitors(4), {"whoami": 1}))
            clock.sleep(around)
            urlopen(f"http://127.0.0.1:{port}/silence/{mode}/{seconds}").read()
            clock.sleep(seconds + around)
            truth = json.loads(urlopen(f"http://127.0.0.1:{port}/truth").read())
            traffic.stop_stream("probe")
        history = read_history(path, "gap")
    gap = longest_gap(history.operations, interval_seconds=1 / RATE)
    return truth["end"] - truth["begin"], gap.seconds, list(history.operations)


class ClosedLoop(threading.Thread):
    """One visitor who asks, waits for the answer, waits a little, and asks again: 25 a second while all is well."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self._over = port, threading.Event()
        self.latencies: list[float] = []
        self.failed = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        while not self._over.wait(VISITORS / RATE):
            sent = clock.now()
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
            self.latencies.append(clock.now() - sent)
        connection.close()

    def end(self) -> None:
        self._over.set()
        self.join()


def both_loops(port: int, mode: str, seconds: float) -> list[list[str]]:
    """The same silence, as an open and as a closed loop tell it."""
    closed = [ClosedLoop(port) for _ in range(VISITORS)]
    for each in closed:
        each.start()
    true, measured, operations = measure(port, mode, seconds, around=CLOSED_AROUND_SECONDS)
    for each in closed:
        each.end()
    waits = [(op.answered - op.due) if op.answered is not None and op.available else None for op in operations]
    answered = [wait for wait in waits if wait is not None]
    closed_waits = [wait for each in closed for wait in each.latencies]
    silence = f"{true * 1000:,.0f} ms, requests {'held' if mode == 'held' else 'reset'}"
    return [
        [
            silence,
            "open",
            f"{len(operations):,}",
            f"{sum(not op.available for op in operations) / len(operations):.1%}",
            f"{sum(wait > SLOW_SECONDS for wait in answered) / len(operations):.1%}",
            f"{(percentile(answered, 0.99) or 0.0) * 1000:,.0f} ms",
            f"{measured * 1000:,.0f} ms",
        ],
        [
            silence,
            "closed",
            f"{len(closed_waits):,}",
            f"{sum(each.failed for each in closed) / len(closed_waits):.1%}",
            f"{sum(wait > SLOW_SECONDS for wait in closed_waits) / len(closed_waits):.1%}",
            f"{(percentile(closed_waits, 0.99) or 0.0) * 1000:,.0f} ms",
            "not told",
        ],
    ]


def main() -> None:
    quick = is_quick(str(__doc__))
    rounds = 1 if quick else 3
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        rows, kept = [], []
        for mode in ("held", "reset"):
            for seconds in SILENCES_SECONDS[: 2 if quick else None]:
                seen = [measure(port, mode, seconds)[:2] for _ in range(rounds)]
                errors = [(measured - true) * 1000 for true, measured in seen]
                kept += [abs(error) <= 1000 / RATE for error in errors]
                say(f"gaps: {mode} for {seconds:g} s: off by {of(errors, '+.1f')} ms")
                rows.append(
                    [
                        f"{seconds * 1000:,.0f} ms, requests {mode}",
                        of([m * 1000 for _, m in seen], ".1f"),
                        of(errors, "+.1f"),
                    ]
                )
        loops = [row for mode in ("held", "reset") for row in both_loops(port, mode, 0.5 if quick else 2.0)]
    finally:
        server.stdin.close()
        server.wait()
    print("## Fidelity of gaps\n")
    print(
        f"A server goes silent and notes for how long; the traffic, {RATE:g} probes a second, knows nothing of it. {sum(kept)} of {len(kept)} "
        f"measurements are within one probe interval ({1000 / RATE:g} ms) of the truth.\n"
    )
    print(table(["silence", "measured, ms", "off by, ms"], rows))
    print(
        f"\nThe same silence at the same time, told by an open loop (a request every {1000 / RATE:g} ms, whoever waits) and by a closed one "
        f"({VISITORS} visitors who wait for their answer, about {RATE:g} requests a second together while all is well). Slow is more than "
        f"{SLOW_SECONDS * 1000:g} ms.\n"
    )
    print(table(["silence", "loop", "requests", "failed", "slow", "99 % within", "longest gap"], loops))
    print(
        "\nWhoever waits does not ask: where requests are held, a closed loop sees an outage as one slow request for each "
        "visitor, and the 99th percentile does not move. Where they are reset at once, it asks on, and sees failures as the open loop does."
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
    else:
        main()
