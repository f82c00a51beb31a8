"""The traffic process: `python -m harness.traffic.process <descriptor of the control socket>`.

It is told what to do in JSON lines and answers each with one; now and then it tells its progress. It ends when the
control socket ends, so it never outlives the harness. A mistake of its own, or a full disk, ends it at once with the
reason on stderr: what a broken rig measured is worth nothing. Must not: be imported by the harness, or be stopped by
Ctrl-C, which the harness handles.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from asyncio import AbstractEventLoop, StreamWriter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from harness.errors import HarnessError
from harness.journeys import Take, compile_journeys
from harness.model import Connection, Pace
from harness.traffic.engine import Engine
from harness.traffic.journal import fact_record, to_line
from harness.traffic.ledger import Counts
from harness.traffic.people import People, Person
from harness.traffic.recorder import Recorder
from harness.traffic.sources import Batch, BatchEnd, BatchPace, BatchTask, OpenLoop, StreamCounts
from harness.traffic.tls import client_context
from harness.traffic.visits import End
from harness.traffic.wire import Target

__all__ = ["main"]

EXIT_BROKEN = 70
_PROGRESS_SECONDS = 0.2
# Lines of the control socket; a batch of a hundred thousand tasks fits.
_LINE_LIMIT = 64 * 1024 * 1024
_SPARE_DESCRIPTORS = 64

Answer = Callable[..., None]


class Control:
    """Carries out what the harness orders."""

    def __init__(self, loop: AbstractEventLoop, writer: StreamWriter, settings: Mapping[str, Any]) -> None:
        self._loop = loop
        self._writer = writer
        self._seed = int(settings["seed"])
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._recorder = Recorder(Path(settings["journal"]))
        self._people = People(self._seed, [Person(**person) for person in settings["people"]])
        self._engine = Engine(
            loop,
            recorder=self._recorder,
            people=self._people,
            journeys=compile_journeys(settings["journeys"], values=settings["values"]),
            headers=settings["headers"],
            version_header=settings["version_header"],
            instance_header=settings["instance_header"],
            identity=None if settings["identity"] is None else Take(*settings["identity"]),
            seed=self._seed,
            request_ids=settings["request_ids"],
            most_in_flight=_raise_descriptor_limit() - _SPARE_DESCRIPTORS,
            contexts={via: client_context(Path(authority)) for via, authority in settings["secure"].items()},
        )
        self._engine.retarget(_targets(settings["targets"]), settings["names"])
        most = settings["most_per_second"]
        self._pace = None if most is None else BatchPace(float(most))
        self._streams: dict[str, OpenLoop] = {}
        self._told = Counts(0, 0, 0.0)

    def obey(self, order: Mapping[str, Any]) -> None:
        """Carry out one order; its answer may come later."""

        def answer(**facts: Any) -> None:
            self._tell({"id": order["id"], **facts})

        {
            "retarget": self._retarget,
            "begin_scenario": self._begin_scenario,
            "new_visitors": self._new_visitors,
            "copy_visitors": self._copy_visitors,
            "place_visitors": self._place_visitors,
            "cookies": self._cookies,
            "perform": self._perform,
            "start_stream": self._start_stream,
            "stop_stream": self._stop_stream,
            "flush": self._flush,
        }[order["do"]](order, answer)

    def tell_progress(self) -> None:
        """Tell it when it changed, and come back."""
        counts = self._engine.counts()
        if counts != self._told:
            self._told = counts
            self._tell({"progress": counts})
        self._loop.call_later(_PROGRESS_SECONDS, self.tell_progress)

    def close(self) -> None:
        self._engine.close()

    def _tell(self, facts: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(facts, separators=(",", ":")).encode() + b"\n")

    def _retarget(self, order: Mapping[str, Any], answer: Answer) -> None:
        self._engine.retarget(_targets(order["targets"]), order["names"])
        answer()

    def _begin_scenario(self, order: Mapping[str, Any], answer: Answer) -> None:
        self._people.begin_again()
        self._engine.begin_scenario(order["scenario"])
        answer()

    def _new_visitors(self, order: Mapping[str, Any], answer: Answer) -> None:
        answer(visitors=[visitor.id for visitor in self._people.arrive(order["count"], strangers=order["strangers"])])

    def _copy_visitors(self, order: Mapping[str, Any], answer: Answer) -> None:
        originals = [self._people[visitor] for visitor in order["visitors"]]
        copies = self._people.copy(originals, cookies=order["cookies"], without=order["without"])
        answer(visitors=[copy.id for copy in copies])

    def _place_visitors(self, order: Mapping[str, Any], answer: Answer) -> None:
        for visitor, address in order["addresses"].items():
            self._people[visitor].address_from = address
        answer()

    def _cookies(self, order: Mapping[str, Any], answer: Answer) -> None:
        answer(cookies=[self._people[visitor].jar.described() for visitor in order["visitors"]])

    def _perform(self, order: Mapping[str, Any], answer: Answer) -> None:
        def on_done(ends: list[BatchEnd]) -> None:
            self._engine.flush()
            self._told = self._engine.counts()
            answer(results=[_result(*end) for end in ends], progress=self._told)

        Batch(
            self._loop,
            self._engine,
            [
                BatchTask(
                    visitor, journey, via, Connection(connection), stream, record, values, tuple(then_via), *others
                )
                for visitor, journey, via, connection, stream, record, values, then_via, *others in order["tasks"]
            ],
            concurrency=order["concurrency"],
            timeout_seconds=order["timeout_seconds"] or self._timeout_seconds,
            on_done=on_done,
            pace=self._pace,
        )

    def _start_stream(self, order: Mapping[str, Any], answer: Answer) -> None:
        self._streams[order["name"]] = OpenLoop(
            self._loop,
            self._engine,
            name=order["name"],
            rate=order["rate"],
            journeys=order["journeys"],
            visitors=order["visitors"],
            via=order["via"],
            connections={Connection(kind): share for kind, share in order["connections"].items()},
            values=order["values"],
            timeout_seconds=order["timeout_seconds"] or self._timeout_seconds,
            seed=self._seed,
        )
        answer()

    def _stop_stream(self, order: Mapping[str, Any], answer: Answer) -> None:
        stream = self._streams.pop(order["name"])

        def on_stopped(pace: Pace, counts: StreamCounts) -> None:
            self._recorder.write(to_line(fact_record(stream.scenario, pace)).decode())
            self._engine.flush()
            self._told = self._engine.counts()
            answer(counts=counts, progress=self._told)

        stream.stop(on_stopped)

    def _flush(self, _order: Mapping[str, Any], answer: Answer) -> None:
        self._engine.flush()
        answer()


def _targets(plain: Mapping[str, Any]) -> dict[str, Target]:
    return {via: Target(family, tuple(address), host, name) for via, (family, address, host, name) in plain.items()}


def _result(end: End, record: str | None, taken: Mapping[str, str]) -> list[Any]:
    judgement = end.judgement
    return [
        judgement.answer,
        judgement.outcome,
        judgement.error,
        judgement.detail,
        end.status,
        end.instance,
        record,
        taken,
    ]


def _raise_descriptor_limit() -> int:
    """As many connections as this process may have. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _end_broken(error: BaseException | None, words: str) -> NoReturn:
    """Say why, and end without another word: whatever is still in memory must not look like a result."""
    if error is None:
        print(words, file=sys.stderr)  # noqa: T201 - stderr is what the harness reads when we end
    elif isinstance(error, HarnessError):
        print(error, file=sys.stderr)  # noqa: T201
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(EXIT_BROKEN)


def _on_loop_error(_loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    _end_broken(context.get("exception"), str(context.get("message")))


async def _serve(control_socket: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    reader, writer = await asyncio.open_unix_connection(sock=control_socket, limit=_LINE_LIMIT)
    settings = await reader.readline()
    if not settings:
        return
    control = Control(loop, writer, json.loads(settings))
    control.tell_progress()
    # What was made up to here stays for good: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with suppress(ConnectionResetError):  # the harness was killed: the same as the end of its orders
        while order := await reader.readline():
            control.obey(json.loads(order))
    control.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control_socket = socket.socket(fileno=int(sys.argv[1]))
    try:
        uvloop.run(_serve(control_socket))
    except Exception as error:  # noqa: BLE001 - whatever it is, the harness must hear of it
        _end_broken(error, "")


if __name__ == "__main__":
    main()
