"""Instances that are told to stop, each watched until it is gone: by people who ask it directly and often, who keep a
connection to it, who have long work there, or a stream.

What is asked are single looks, sent once each and written down as they ended. Must not: conclude anything from one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from random import Random
from typing import Any

from harness import clock
from harness.answers import connection_to
from harness.checkers import bounds
from harness.cluster import Cluster
from harness.errors import WaitTimeout
from harness.faults import Stop
from harness.journeys import Reply
from harness.layouts import Instance
from harness.listening import EventListener, Listener
from harness.model import WELL, Look
from harness.platforms import Node, Stoppable
from harness.services import manner_of
from harness.visitors import Visitors
from harness.waiting import wait_until

__all__ = ["Stopping"]

_LOOK_EVERY_SECONDS = 0.02
_PAGE_EVERY_SECONDS = 0.04
_KEPT_CONNECTIONS = 4
_TIMEOUT_SECONDS = 5.0
_WATCHED_WITHIN_SECONDS = 5.0
_TOLD_WITHIN_SECONDS = 10.0
_STREAM_ENDS_WITHIN_SECONDS = 1.0
_SLOW_PER_SECOND = 10.0
_STREAMS = 3
_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (ConnectionRefusedError, "refused"),
    (RemoteDisconnected, "closed"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (TimeoutError, "timeout"),
)


@dataclass(frozen=True)
class _ToldStop(Stop):
    """A stop of which it is known when the signal was sent: before that the platform may have taken its time."""

    told: Callable[[], None]

    def __str__(self) -> str:
        return "stop"

    @contextmanager
    def applied_to(self, node: Node) -> Iterator[str]:
        if isinstance(node, Stoppable):
            node.tell_to_stop()
            self.told()
        with Stop.applied_to(self, node) as proof:
            yield proof


class Stopping:
    """One scenario's stops."""

    def __init__(self, *, cluster: Cluster, visitors: Visitors, random: Random) -> None:
        self._cluster = cluster
        self._visitors = visitors
        self._random = random
        self._told: set[str] = set()

    def two_instances(self) -> tuple[Instance, Instance]:
        """Two different ones, chosen by the seed."""
        one, other = self._random.sample(self._cluster.instances, 2)
        return one, other

    def stop_both(self, watched: Instance, loaded: Instance, *, after_seconds: float) -> None:
        """Tell both to stop at the same time, when they have had work for a while.

        The one has requests of a second each, and is asked again and again while it goes; the other has the longest requests
        there are, and streams. It is left alone where the setup names neither. No work is given any more once both were told, and
        both are started again.

        Raises:
            NothingTested: nobody could be connected to a stream.
            NodeNeverReady: one did not come back.
        """
        app, headers = self._cluster.setup.app, self._cluster.setup.traffic.headers
        with ExitStack() as stack:
            work = stack.enter_context(ExitStack())
            work.enter_context(self._visitors.longest_requests_at(loaded, per_second=_SLOW_PER_SECOND))
            traffic = work.enter_context(self._visitors.slow_requests_at(watched, per_second=_SLOW_PER_SECOND))
            traffic.run_for(seconds=after_seconds)
            watch = stack.enter_context(_Watch(self._cluster, watched))
            listeners: list[Listener | EventListener] = []
            for _ in range(_STREAMS):
                if app.websocket is not None:
                    listeners.append(stack.enter_context(Listener(loaded.target, app.websocket.path, headers=headers)))
                if app.events is not None:
                    listeners.append(stack.enter_context(EventListener(loaded.target, app.events, headers=headers)))
            stops: list[Callable[[], None]] = [lambda: self._stop(watched, then=watch.end)]
            if listeners or app.longest_seconds is not None:
                stops.append(lambda: self._stop(loaded, then=lambda: self._look_at_streams(loaded, listeners)))
            with ThreadPoolExecutor(len(stops), "stops") as pool:
                ends = [pool.submit(stop) for stop in stops]
                with suppress(WaitTimeout):
                    wait_until(
                        lambda: len(self._told) == len(stops) or any(end.done() for end in ends),
                        within_seconds=_TOLD_WITHIN_SECONDS,
                        because="both should be told to stop",
                    )
                work.close()
                for end in ends:
                    end.result()

    def _stop(self, instance: Instance, *, then: Callable[[], None]) -> None:
        """`then`: done when it has ended, and before it is started again."""
        with self._cluster.inject(_ToldStop(lambda: self._is_told(instance)), on=instance):
            app, node = self._cluster.setup.app, instance.node
            value = {
                "exit_code": node.exit_code,
                "accepted": list(app.good_exit_codes),
                "patience_seconds": node.spec.stop_within_seconds,
                "signal": app.stop_signal,
            }
            self._note("exit", instance, value)
            then()

    def _is_told(self, instance: Instance) -> None:
        self._note("told", instance, {})
        self._told.add(instance.name)

    def _look_at_streams(self, instance: Instance, listeners: Sequence[Listener | EventListener]) -> None:
        for listener in listeners:
            with suppress(WaitTimeout):
                wait_until(
                    lambda listener=listener: listener.ended_at is not None,  # type: ignore[misc]
                    within_seconds=_STREAM_ENDS_WITHIN_SECONDS,
                    because=f"a stream should end with {instance}",
                )
            kind = "websocket" if isinstance(listener, Listener) else "events"
            self._note("stream", instance, {"kind": kind, "ended_at": listener.ended_at, "code": listener.close_code})

    def _note(self, what: str, instance: Instance, value: Mapping[str, Any]) -> None:
        self._cluster.record(Look(what=what, node=instance.name, at=clock.now(), status=None, value=value))


class _Watch:
    """One instance, asked again and again by several at the same time, until `end` or until it answers nobody any more."""

    def __init__(self, cluster: Cluster, instance: Instance) -> None:
        self._cluster = cluster
        self._instance = instance
        self._over = threading.Event()
        self._counted: dict[str, int] = {}
        self._manner = manner_of(cluster.setup)
        app, page = cluster.setup.app, cluster.setup.entry_page
        asks: list[Callable[[], None]] = [
            lambda: self._ask_often("drain-page", page, every_seconds=_PAGE_EVERY_SECONDS)
        ]
        if app.ready is not None:
            asks.append(lambda: self._ask_often("drain-ready", app.ready_path, every_seconds=_LOOK_EVERY_SECONDS))
        for number in range(_KEPT_CONNECTIONS):
            asks.append(lambda number=number: self._keep_asking(number, page))  # type: ignore[misc]
        self._threads = [threading.Thread(target=ask, name=f"watch-{number}") for number, ask in enumerate(asks)]

    def __enter__(self) -> _Watch:
        """Return when everybody has been answered a few times, or had the time to be."""
        for thread in self._threads:
            thread.start()
        with suppress(WaitTimeout):
            wait_until(
                self._is_watched,
                within_seconds=_WATCHED_WITHIN_SECONDS,
                because=f"{self._instance} should answer while nothing has happened yet",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Nobody asks any more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _is_watched(self) -> bool:
        # Who is done already was told to leave with the first answer, or was not answered.
        return all(
            self._counted.get(thread.name, 0) > bounds.DRAIN_ASKED or not thread.is_alive() for thread in self._threads
        )

    def _ask_often(self, what: str, path: str, *, every_seconds: float) -> None:
        """On a connection of its own each time, until the first that is not answered."""
        due = clock.now()
        while not self._over.is_set():
            connection = self._connect()
            status, _ = self._ask(connection, what, path)
            connection.close()
            if status is None:
                return
            due = max(due + every_seconds, clock.now())
            self._over.wait(due - clock.now())

    def _keep_asking(self, number: int, path: str) -> None:
        """On one connection, until an answer says that it will be closed, or it is gone."""
        connection = self._connect()
        # Not all at the same moment.
        self._over.wait(number * _PAGE_EVERY_SECONDS / _KEPT_CONNECTIONS)
        while not self._over.is_set():
            status, closes = self._ask(connection, "drain-kept", path, number=number)
            if status is None or closes:
                break
            self._over.wait(_PAGE_EVERY_SECONDS)
        connection.close()

    def _connect(self) -> HTTPConnection:
        host, port = self._instance.target
        connection = connection_to(host, port, within_seconds=_TIMEOUT_SECONDS)
        # Of its own accord it would open another one in place of one that was closed, and nobody would see it.
        connection.auto_open = 0
        return connection

    def _ask(
        self, connection: HTTPConnection, what: str, path: str, *, number: int | None = None
    ) -> tuple[int | None, bool]:
        """One request, sent once. Its status, and whether the answer says that the connection will be closed."""
        began = clock.now()
        status: int | None = None
        closes = False
        value: dict[str, Any] = {}
        error = ""
        wish = {**self._cluster.setup.traffic.headers, **({"Connection": "close"} if number is None else {})}
        try:
            if connection.sock is None:
                connection.connect()
            connection.request("GET", path, headers=wish)
            answer = connection.getresponse()
            status, closes = answer.status, answer.will_close
            body = answer.read()
            if what == "drain-ready" and self._manner.healthy is not None:
                reply = Reply(status, {name.lower(): text for name, text in answer.getheaders()}, body)
                value = {WELL: self._manner.is_well(reply, asked=path)}
        except (OSError, HTTPException, ValueError) as problem:
            status = None
            error = next((word for kind, word in _ERRORS if isinstance(problem, kind)), type(problem).__name__)
        if number is not None:
            value = {"connection": number, "closes": closes}
        self._cluster.record(
            Look(
                what=what,
                node=self._instance.name,
                at=began,
                status=status,
                value=value,
                seconds=clock.now() - began,
                error=error,
            )
        )
        who = threading.current_thread().name
        self._counted[who] = self._counted.get(who, 0) + 1
        return status, closes
