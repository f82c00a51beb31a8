"""HAProxy itself: what it tells of an answer, and that each verb is in force when it returns. Native, without a run."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from scripted_server import Script, ScriptedServer, Talk

from harness.platforms.native import NativeNode, NativePlatform
from harness.ports import PortLeases
from harness.services import HaproxyService, binaries
from harness.setup import Balancer, Environment
from harness.traffic.upstream import (
    UPSTREAM_HEADER,
    UPSTREAM_RETRIES_HEADER,
    UPSTREAM_STATUS_HEADER,
    read_upstream,
)
from harness.waiting import wait_until
from harness.workspace import Workspace

TUNED: dict[str, Any] = {
    # A check has as long as there is between two: long enough for the servers to answer on a machine that is busy.
    "check_interval_seconds": 0.5,
    "fall": 2,
    "rise": 1,
    "redispatch": 1,
    "retry_on": ("conn-failure", "empty-response", "response-timeout"),
    "connect_timeout_seconds": 0.5,
    "read_timeout_seconds": 0.5,
    "keepalive": 0,
}
ALONE = TUNED | {"check_interval_seconds": 0}
"""Without checks, nobody but the test asks an instance."""


@dataclass
class Answer:
    status: int
    body: bytes
    instance: str | None
    attempts: tuple[str, ...]


@dataclass
class Rig:
    """A running HAProxy in front of three servers of the test's own."""

    service: HaproxyService
    node: NativeNode
    servers: dict[str, ScriptedServer]
    threads: list[Thread] = field(default_factory=list)

    def ask(self, path: str = "/", *, method: str = "GET", on: http.client.HTTPConnection | None = None) -> Answer:
        connection = on or http.client.HTTPConnection(self.service.host, self.service.port, timeout=10)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            body = reply.read()
        finally:
            if on is None:
                connection.close()
        instance, attempts = read_upstream(
            reply.headers[UPSTREAM_HEADER],
            reply.headers[UPSTREAM_STATUS_HEADER],
            reply.status,
            names={name: name for name in self.servers},
            retries=reply.headers[UPSTREAM_RETRIES_HEADER],
        )
        return Answer(reply.status, body, instance, attempts)

    def meanwhile(self, act: Callable[[], Any]) -> Thread:
        thread = Thread(target=act, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def answers(self, count: int) -> Counter[str | None]:
        return Counter(self.ask().instance for _ in range(count))

    def status(self, name: str) -> str:
        return str(self.service.statistics(self.node)[name]["status"])


StartRig = Callable[..., Rig]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[StartRig]:
    """Starts HAProxy with these settings. `scripts` say what each server does, by path."""
    with ExitStack() as stack:
        workspace = stack.enter_context(
            Workspace.create(reports=tmp_path / "reports", name="test", seed=1, runtime=tmp_path)
        )
        platform = stack.enter_context(NativePlatform(workspace))
        leases = stack.enter_context(PortLeases())

        def start(settings: dict[str, Any] = TUNED, **scripts: Script) -> Rig:
            servers = {
                f"app-{number}": stack.enter_context(closing(ScriptedServer({f"/{k}": v for k, v in scripts.items()})))
                for number in (1, 2, 3)
            }
            service = HaproxyService.native(
                Balancer(kind="haproxy", **settings),
                program=binaries.find("haproxy", environment=Environment()),
                workspace=workspace,
                port=leases.take(),
                upstreams={name: server.address for name, server in servers.items()},
                health="/health",
            )
            service.prepare()
            node = platform.add(service.process_spec())
            node.start()
            node.wait_ready()
            return Rig(service, node, servers)

        yield start


def drops(talk: Talk) -> None:
    talk.close()


def waits(talk: Talk) -> None:
    talk.wait_until_released()
    talk.answer(b"at last")


def overloaded(talk: Talk) -> None:
    talk.answer(b"busy", status="503 Service Unavailable")


# -- what an answer tells ---------------------------------------------------------------------------------------------


def test_an_answer_names_its_instance(rig: StartRig) -> None:
    """In turn, as long as nothing is in flight."""
    running = rig()
    assert running.answers(9) == {"app-1": 3, "app-2": 3, "app-3": 3}
    assert {running.ask().attempts for _ in range(3)} == {("app-1",), ("app-2",), ("app-3",)}


def test_readiness_asks_no_instance(rig: StartRig) -> None:
    """One that does not listen yet would be taken for lost."""
    running = rig(ALONE)
    assert running.service.serves()
    assert [server.seen for server in running.servers.values()] == [[], [], []]


def test_an_error_of_the_application_is_its_own(rig: StartRig) -> None:
    """It stands, and is not tried elsewhere."""
    answer = rig(busy=overloaded).ask("/busy")
    assert (answer.status, answer.body, len(answer.attempts)) == (503, b"busy", 1)
    assert answer.instance == answer.attempts[0]


def test_a_request_is_saved_by_another_instance_and_the_first_is_counted(rig: StartRig) -> None:
    """HAProxy does not say which one failed; its statistics do, for all requests together."""
    running = rig(ALONE)
    running.servers["app-1"].close()
    answers = [running.ask() for _ in range(6)]
    assert {answer.status for answer in answers} == {200}
    saved = [answer for answer in answers if len(answer.attempts) == 2]
    assert saved
    assert {(answer.attempts[0], answer.attempts[1] == answer.instance) for answer in saved} == {("(unnamed)", True)}
    counted = running.service.statistics(running.node)
    assert counted["app-1"]["redispatches"] == len(saved)
    assert counted["app-2"]["redispatches"] == counted["app-3"]["redispatches"] == 0


def test_a_post_that_may_have_had_its_effect_is_not_sent_twice(rig: StartRig) -> None:
    """A GET is."""
    running = rig(ALONE, drop=drops)
    answer = running.ask("/drop", method="POST")
    assert (answer.status, answer.instance, len(answer.attempts)) == (502, None, 1)
    assert sum(len(server.requests("/drop")) for server in running.servers.values()) == 1
    answer = running.ask("/drop")
    assert (answer.status, answer.instance, len(answer.attempts)) == (502, None, 4)


def test_without_redispatch_the_same_instance_is_tried_again(rig: StartRig) -> None:
    """As the guide has it: then it is named, each time."""
    running = rig(ALONE | {"redispatch": 0, "retries": 1})
    for server in running.servers.values():
        server.close()
    answer = running.ask()
    assert (answer.status, answer.instance) == (503, None)
    assert answer.attempts in {(name, name) for name in running.servers}


def test_nobody_left_is_said_as_such(rig: StartRig) -> None:
    """No attempt, and no instance."""
    running = rig()
    for name in running.servers:
        running.service.drain(name, running.node)
    answer = running.ask()
    assert (answer.status, answer.instance, answer.attempts) == (503, None, ())


# -- verbs ------------------------------------------------------------------------------------------------------------


def test_a_drain_waits_for_what_is_in_flight(rig: StartRig) -> None:
    """And nobody new is sent there from its first moment."""
    running = rig(ALONE | {"read_timeout_seconds": 10}, slow=waits)
    slow: list[Answer] = []
    running.meanwhile(lambda: slow.append(running.ask("/slow")))
    running.servers["app-1"].wait_for(1, "/slow")
    early = running.service.drain("app-1", running.node, within_seconds=0.05)
    assert not early.old_workers_gone
    assert set(running.answers(4)) == {"app-2", "app-3"}
    running.servers["app-1"].released.set()
    assert running.service.drain("app-1", running.node).old_workers_gone
    running.threads[0].join(10)
    assert [(answer.status, answer.body, answer.instance) for answer in slow] == [(200, b"at last", "app-1")]
    assert running.service.drained == {"app-1"}


def test_enabled_is_in_use(rig: StartRig) -> None:
    """When the verb returns, not some checks later, although it failed all its checks meanwhile."""
    running = rig()
    running.service.drain("app-1", running.node)
    assert running.status("app-1") == "MAINT"
    running.service.enable("app-1", running.node)
    assert "app-1" in running.answers(6)
    assert running.service.drained == frozenset()


def test_a_move_is_in_force_at_once(rig: StartRig) -> None:
    """Under the name it had."""
    running = rig(ALONE)
    running.service.move("app-1", running.servers["app-3"].address, running.node)
    running.answers(6)
    assert [len(server.requests("/")) for server in running.servers.values()] == [0, 2, 4]
    running.service.reset(running.node)
    running.answers(3)
    assert [len(server.requests("/")) for server in running.servers.values()] == [1, 3, 5]


def test_a_weight_is_a_share(rig: StartRig) -> None:
    """In percent; at 0 nothing is sent there. A reset gives it back."""
    running = rig(ALONE | {"algorithm": "round_robin"})
    running.service.set_weight("app-1", 50, running.node)
    shares = running.answers(50)
    assert 8 <= shares["app-1"] <= 12
    running.service.set_weight("app-1", 0, running.node)
    assert "app-1" not in running.answers(10)
    running.service.reset(running.node)
    assert running.answers(9) == {"app-1": 3, "app-2": 3, "app-3": 3}


def test_a_reload_keeps_what_was_changed_and_forgets_what_was_counted(rig: StartRig) -> None:
    """A connection that is kept meanwhile is answered on, and the new process takes over."""
    running = rig(ALONE)
    before = running.service._serving()
    running.service.drain("app-2", running.node)
    kept = http.client.HTTPConnection(running.service.host, running.service.port, timeout=10)
    with closing(kept):
        running.ask(on=kept)
        running.service.reload(running.node)
        # Answered by the old process, which then says that it closes.
        assert running.ask(on=kept).status == 200
    assert running.service._serving() != before
    assert set(running.answers(4)) == {"app-1", "app-3"}
    assert running.service.statistics(running.node)["app-2"]["requests"] == 0


def test_an_instance_that_is_back_gets_its_share_in_the_same_round(rig: StartRig) -> None:
    """Also when all were lost, and whatever the order in which they came back."""
    running = rig(TUNED | {"algorithm": "round_robin"})
    running.answers(9)
    addresses = {name: server.address for name, server in running.servers.items()}
    for name in addresses:
        running.service.drain(name, running.node)
    for name in addresses:
        running.service.enable(name, running.node)
        running.answers(5)
    assert min(running.answers(60)[name] for name in addresses) >= 18


def test_a_lost_instance_is_found_and_a_reset_takes_it_back(rig: StartRig) -> None:
    """By its checks; a reset does not wait for as many good ones as the setup asks for."""
    lost: list[ScriptedServer] = []

    def health(talk: Talk) -> None:
        talk.answer(status="500 No" if any(talk.server is each for each in lost) else "200 OK")

    running = rig(TUNED | {"rise": 100}, health=health)
    assert running.status("app-2").startswith("UP")
    lost.append(running.servers["app-2"])
    wait_until(lambda: running.status("app-2").startswith("DOWN"), within_seconds=10, because="its checks fail")
    assert running.service.statistics(running.node)["app-2"]["times_down"] == 1
    assert set(running.answers(4)) == {"app-1", "app-3"}
    lost.clear()
    running.service.reset(running.node)
    assert "app-2" in running.answers(6)
