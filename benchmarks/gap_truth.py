"""How truly a gap is measured: a server goes silent for exactly 200, 500 and 2,000 ms, and the record tells how long.

The server runs in a process of its own and notes, on the same monotonic clock, when its silence began and ended. It
either holds the requests of that time and answers them at its end, as a process that is stopped and goes on would, or
it resets them, as one that is killed and started again. The traffic knows nothing of it. Prints truth and measurement;
the bound is one probe interval.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import clock
from harness.journeys import compile_journeys
from harness.model import longest_gap
from harness.traffic import Journal, Stream, Traffic, read_history

RATE = 100.0
SILENCES_SECONDS = (0.2, 0.5, 2.0)
AROUND_SECONDS = 0.6


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


def measure(port: int, mode: str, seconds: float) -> bool:
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
            clock.sleep(AROUND_SECONDS)
            urlopen(f"http://127.0.0.1:{port}/silence/{mode}/{seconds}").read()
            clock.sleep(seconds + AROUND_SECONDS)
            truth = json.loads(urlopen(f"http://127.0.0.1:{port}/truth").read())
            traffic.stop_stream("probe")
        history = read_history(path, "gap")
    gap = longest_gap(history.operations, interval_seconds=1 / RATE)
    true_seconds = truth["end"] - truth["begin"]
    error = gap.seconds - true_seconds
    kept = bool(abs(error) <= 1 / RATE)
    print(
        f"{mode:6} {true_seconds * 1000:9.1f} {gap.seconds * 1000:9.1f} {error * 1000:+8.1f}   "
        f"{'within' if kept else 'OUTSIDE'} one interval of {1000 / RATE:g} ms"
    )
    return kept


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        print(f"{'':6} {'true ms':>9} {'measured':>9} {'error':>8}")
        kept = [measure(port, mode, seconds) for mode in ("held", "reset") for seconds in SILENCES_SECONDS]
        print(f"\n{sum(kept)} of {len(kept)} within one probe interval")
    finally:
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
    else:
        main()
