"""Nodes as containers on a real engine: every ability, every message, and that nothing is left of them."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import engine, images
from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady
from harness.platforms import (
    CutOff,
    Hangable,
    Inspectable,
    Killable,
    MemoryBound,
    Relocatable,
    Stoppable,
    docker,
)
from harness.platforms.docker import ContainerNode, DockerPlatform
from harness.ports import PortLeases
from harness.waiting import wait_until
from harness.workspace import Workspace, sweep
from tests.docker_nodes import IMAGE, INSIDE, container_spec, engine_or_skip, left_of
from tests.native_nodes import HARNESS_PATH, ROOT, answers

pytestmark = pytest.mark.timeout(300)

IGNORES_STOP = """
import signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("0.0.0.0", 8000))
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""

COUNTS_STOPS = """
import signal, socket, sys
seen = []
def stop(*_):
    seen.append(1)
    print("told to stop", len(seen), flush=True)
signal.signal(signal.SIGTERM, stop)
listener = socket.create_server(("0.0.0.0", 8000))
listener.settimeout(0.02)
ticks = 0
while not seen or ticks < 20:
    ticks += bool(seen)
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        continue
    connection.sendall(b"hello")
    connection.close()
sys.exit(len(seen))
"""

LISTENS = """
import signal, socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening elsewhere", flush=True)
signal.pause()
"""

REWRITES_AND_READS = """
import re, signal
whole = re.compile(rb"(.)\\1*")
while True:
    try:
        content = open("/etc/settings/all.conf", "rb").read()
    except FileNotFoundError:
        print("missing", flush=True)
        raise
    if not (content and whole.fullmatch(content) and len(content) == 300000):
        print("half a file", flush=True)
        raise SystemExit(1)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with closing(engine_or_skip()) as made:
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as made:
        yield made


@pytest.fixture
def platform(client: Any, workspace: Workspace) -> Iterator[DockerPlatform]:
    label = f"harness.scratch={workspace.scratch.name}"
    with DockerPlatform(workspace) as made:
        yield made
    assert left_of(client, label) == {}


@pytest.fixture
def leases() -> Iterator[PortLeases]:
    with PortLeases() as made:
        yield made


@pytest.fixture
def port(leases: PortLeases) -> int:
    return leases.take()


@pytest.fixture
def server(platform: DockerPlatform, port: int) -> ContainerNode:
    node = platform.add(container_spec(port=port, address=platform.new_address()))
    node.start()
    node.wait_ready()
    return node


def seen_from_inside(node: ContainerNode, address: str, *, within_seconds: float = 1.0) -> str:
    """How a connect from another container to this address ends."""
    code = (
        "import socket\n"
        "try:\n"
        f"    with socket.create_connection(({address!r}, {INSIDE}), timeout={within_seconds}) as made:\n"
        "        made.sendall(b'hello?')\n"
        "        print(made.recv(100).decode())\n"
        "except TimeoutError: print('silence')\n"
        "except OSError as problem: print(type(problem).__name__)\n"
    )
    ended, said = node.run("python3", "-c", code)
    assert ended == 0, said
    return said.strip()


# -- start -----------------------------------------------------------------------------------------------------


def test_a_node_starts_and_is_found_ready(server: ContainerNode, port: int, workspace: Workspace) -> None:
    """It answers on loopback, its start was measured, and it has every ability that faults ask for."""
    assert answers(port)
    assert server.is_running()
    assert server.is_ready()
    assert 0 < server.start_seconds < 20
    assert server.exit_code is None
    for ability in (Stoppable, Killable, Hangable, CutOff, Relocatable, MemoryBound, Inspectable):
        assert isinstance(server, ability)
    assert server.last_log_lines() == ["listening"]
    assert server.log_path == workspace.logs / "app-1.log"


def test_only_loopback_is_published(server: ContainerNode, client: Any, port: int) -> None:
    """On no address that another machine reaches."""
    ports = client.containers.get(server.container).attrs["NetworkSettings"]["Ports"]
    assert ports == {f"{INSIDE}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}


def test_nothing_is_started_by_adding(platform: DockerPlatform, client: Any, workspace: Workspace, port: int) -> None:
    """A node that was only added has no container, and can be told to end without harm."""
    node = platform.add(container_spec(port=port))
    assert "containers" not in left_of(client, f"harness.run={workspace.run_id}")
    assert not node.is_running()
    assert not node.is_ready()
    assert not node.is_hung()
    assert not node.is_cut_off()
    assert node.exit_code is None
    assert node.start_seconds == 0
    assert node.last_log_lines() == []
    assert node.processes() == {}
    node.kill()
    node.resume()
    node.reconnect()
    with pytest.raises(NodeError, match="app-1 was never started"):
        node.stop()
    with pytest.raises(NodeError, match="app-1 was not started"):
        node.wait_ready()
    with pytest.raises(NodeError, match="cannot be sent SIGHUP"):
        node.signal(signal.SIGHUP)
    with pytest.raises(NodeError, match="cannot be sent"):
        node.tell_to_stop()
    with pytest.raises(NodeError, match="cannot be frozen"):
        node.hang()
    with pytest.raises(NodeError, match="cannot be cut off"):
        node.cut_off(answer="silence")
    with pytest.raises(NodeError, match="cannot run out of memory"):
        node.exhaust_memory()
    with pytest.raises(NodeError, match="does not run"):
        node.run("true")
    with pytest.raises(NodeError, match="has no container"):
        node.write_file("/etc/x", b"")
    with pytest.raises(HarnessError, match="two nodes named app-1"):
        platform.add(container_spec(port=port))


def test_a_container_gets_what_its_spec_says(
    platform: DockerPlatform, client: Any, workspace: Workspace, leases: PortLeases
) -> None:
    """Files, environment, name, memory and a place in memory; labels by which it is found."""
    port, other = leases.take(), leases.take()
    node = platform.add(
        container_spec(
            port=port,
            env={"COLOUR": "blue"},
            files={"/etc/settings/one.conf": b"first", "/two.conf": b"second"},
            tmpfs=("/fast",),
            extra_ports={9000: other},
            address=platform.new_address(),
            aliases=("also",),
            memory_mib=64,
            stop_signal=signal.SIGINT,
        )
    )
    node.start()
    node.wait_ready()
    code, said = node.run("sh", "-c", "cat /etc/settings/one.conf /two.conf; echo; echo $COLOUR; hostname; df /fast")
    assert code == 0
    assert said.splitlines()[:3] == ["firstsecond", "blue", "app-1"]
    assert "tmpfs" in said
    seen = client.containers.get(node.container)
    assert seen.labels["harness.run"] == workspace.run_id
    assert seen.labels["harness.node"] == "app-1"
    assert seen.labels["org.testcontainers"] == "true"
    assert seen.attrs["HostConfig"]["Memory"] == 64 << 20
    assert seen.attrs["Config"]["StopSignal"] == "SIGINT"
    assert seen.attrs["NetworkSettings"]["Ports"]["9000/tcp"][0] == {"HostIp": "127.0.0.1", "HostPort": str(other)}
    [network] = seen.attrs["NetworkSettings"]["Networks"].values()
    assert network["IPAddress"] == node.address
    assert {"app-1", "also"} <= set(network["Aliases"])


def test_a_node_without_a_fixed_address_gets_one_that_nobody_plans(platform: DockerPlatform, port: int) -> None:
    """The engine gives away the upper half of the subnet, the harness the lower."""
    node = platform.add(container_spec(port=port))
    assert node.address is None
    node.start()
    assert node.address is not None
    planned = [platform.new_address() for _ in range(126)]
    assert len(set(planned)) == 126
    assert node.address not in planned
    with pytest.raises(BadInput, match="no more than 126 addresses"):
        platform.new_address()


def test_nodes_find_each_other_by_name(platform: DockerPlatform, server: ContainerNode, leases: PortLeases) -> None:
    """On the run's network, by their names and their aliases."""
    other = platform.add(container_spec(port=leases.take(), name="app-2", aliases=("second",)))
    other.start()
    other.wait_ready()
    assert seen_from_inside(server, "app-2") == "hello"
    assert seen_from_inside(server, "second") == "hello"
    assert server.address is not None
    assert seen_from_inside(other, server.address) == "hello"


def test_several_nodes_start_at_once(platform: DockerPlatform, leases: PortLeases) -> None:
    """As a cluster starts them, each in a thread."""
    nodes = [platform.add(container_spec(port=leases.take(), name=f"app-{number}")) for number in range(6)]

    def up(node: ContainerNode) -> None:
        node.start()
        node.wait_ready()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(up, nodes))
    assert all(node.is_ready() for node in nodes)


def test_a_node_that_ended_is_the_same_when_started_again(server: ContainerNode) -> None:
    """Its container, with its files; its log goes on, and its last lines are those since."""
    first = server.container
    server.write_file("/etc/mark", b"still here")
    server.stop()
    server.start()
    server.wait_ready()
    assert server.container == first
    assert server.run("cat", "/etc/mark") == (0, "still here")
    assert server.last_log_lines() == ["listening"]
    server.collect_log()
    server.collect_log()
    assert server.log_path.read_text().splitlines() == ["listening", "told to stop", "listening"]
    with pytest.raises(NodeError, match="runs already"):
        server.start()


def test_another_spec_makes_another_container(platform: DockerPlatform, client: Any, server: ContainerNode) -> None:
    """A new version: under the same name and address, with the log of both."""
    first, address = server.container, server.address
    server.stop()
    server.start(replace(server.spec, command=(*(server.spec.command or ()), "the", "second")))
    server.wait_ready()
    assert server.container != first
    assert server.address == address
    assert server.last_log_lines() == ["listening the second"]
    server.collect_log()
    assert server.log_path.read_text().splitlines() == ["listening", "told to stop", "listening the second"]
    assert len(client.containers.list(all=True, filters={"name": f"{platform.network}-app-1"})) == 1
    server.kill()
    with pytest.raises(NodeError, match="spec of app-2"):
        server.start(container_spec(port=1, name="app-2"))


# -- words for what goes wrong ---------------------------------------------------------------------------------


def refused(node: ContainerNode) -> str:
    """What is said of a node that does not become ready."""

    def up() -> None:
        node.start()
        node.wait_ready()

    with pytest.raises(NodeNeverReady) as caught:
        up()
    return str(caught.value)


def test_an_image_that_is_not_there(platform: DockerPlatform, client: Any, workspace: Workspace, port: int) -> None:
    """It is not pulled; what can be done is said."""
    node = platform.add(container_spec(port=port, image="nowhere/nothing:1"))
    said = refused(node)
    assert "there is no image nowhere/nothing:1" in said
    assert "docker pull" in said
    assert "containers" not in left_of(client, f"harness.run={workspace.run_id}")
    with pytest.raises(BadInput, match=r"app\.image: there is no image nowhere/nothing:1"):
        platform.check(node.spec)
    with pytest.raises(NodeError, match="there is no image"):
        platform.image_env("nowhere/nothing:1")


def test_a_command_that_does_not_exist(platform: DockerPlatform, client: Any, port: int) -> None:
    """The engine's long sentence is cut to what helps, and the container that was made for it can be mended."""
    node = platform.add(container_spec(port=port, command=("no-such-program",)))
    said = refused(node)
    assert 'exec: "no-such-program": executable file not found in $PATH' in said
    assert "correct its command" in said
    assert "OCI" not in said
    assert not node.is_running()
    node.start(container_spec(port=port))
    node.wait_ready()


def test_a_node_that_ends_at_once(platform: DockerPlatform, port: int) -> None:
    """Exit code and the end of its log."""
    node = platform.add(container_spec(port=port, program="import sys; print('no licence found'); sys.exit(7)"))
    said = refused(node)
    assert "app-1 ended before it was ready (exit code 7, after " in said
    assert "    no licence found" in said
    assert node.exit_code == 7


def test_a_node_that_uses_too_much_memory_at_its_start(platform: DockerPlatform, port: int) -> None:
    """Told from a crash."""
    node = platform.add(container_spec(port=port, program="import time; a = b'x' * (200 << 20)", memory_mib=32))
    said = refused(node)
    assert "used more memory than it may (32 MiB)" in said


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        (
            LISTENS,
            ("0.0.0.0", "9999"),
            ("it listens on 0.0.0.0:9999 in its container, and not on port 8000", "app.port"),
        ),
        (LISTENS, ("127.0.0.1", "8000"), ("where only itself reaches it", "0.0.0.0")),
        (LISTENS, ("0.0.0.0", "8000"), ("its readiness check never said yes", "app.ready")),
        ("import signal; signal.pause()", (), ("listens on no port", "app.port", "wrote nothing to its log")),
    ],
)
def test_a_node_that_never_becomes_ready(
    platform: DockerPlatform, port: int, program: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Where it listens is seen from inside its container."""
    node = platform.add(
        container_spec(port=port, program=program, arguments=arguments, is_ready=bool, ready_within_seconds=1)
    )
    said = refused(node)
    assert "app-1 was not ready within 1 s: " in said
    for word in words:
        assert word in said


def test_a_port_that_a_process_has(platform: DockerPlatform, leases: PortLeases) -> None:
    """Who has it is named."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        node = platform.add(container_spec(port=holder.getsockname()[1]))
        said = refused(node)
    assert f"is taken by {Path(sys.executable).name}" in said
    assert f"(pid {os.getpid()})" in said
    node.start()
    node.wait_ready()


def test_a_port_that_another_container_has(platform: DockerPlatform, server: ContainerNode, port: int) -> None:
    """Which one is named, also when the engine is the first to see it."""
    node = platform.add(container_spec(port=port, name="app-2"))
    assert f"port {port} on 127.0.0.1 is taken by the container {platform.network}-app-1" in refused(node)


def test_a_port_that_is_taken_in_the_last_moment(
    platform: DockerPlatform, server: ContainerNode, port: int, leases: PortLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the engine's own words, and nothing stays that could not be started."""
    with monkeypatch.context() as blind:
        blind.setattr(docker.ports, "is_free", lambda *_: True)
        node = platform.add(container_spec(port=port, name="app-2"))
        assert f"is taken by the container {platform.network}-app-1" in refused(node)
    assert not node.is_running()
    node.start(container_spec(port=leases.take(), name="app-2"))


def test_an_address_that_another_container_has(
    platform: DockerPlatform, server: ContainerNode, leases: PortLeases
) -> None:
    """As after a relocation to where somebody is."""
    node = platform.add(container_spec(port=leases.take(), name="app-2", address=server.address))
    assert f"another container has its address {server.address}" in refused(node)


# -- end -------------------------------------------------------------------------------------------------------


def test_a_node_is_stopped_by_its_signal(server: ContainerNode, port: int) -> None:
    """Its own exit code comes back, its port is free, and its last words are kept."""
    assert server.stop() == 3
    assert not server.was_killed
    assert server.exit_code == 3
    assert not server.is_running()
    assert not answers(port)
    assert server.last_log_lines()[-1] == "told to stop"
    assert server.stop() == 3


def test_a_node_that_does_not_stop_is_killed(platform: DockerPlatform, port: int) -> None:
    """After its patience, and that is said."""
    node = platform.add(container_spec(port=port, program=IGNORES_STOP, stop_within_seconds=0.5))
    node.start()
    node.wait_ready()
    assert node.stop() == 137
    assert node.was_killed
    node.start()
    assert node.was_killed
    node.wait_ready()


def test_a_node_is_asked_to_stop_once(platform: DockerPlatform, port: int) -> None:
    """Whoever was told to stop before is not told again by `stop`."""
    node = platform.add(container_spec(port=port, program=COUNTS_STOPS))
    node.start()
    node.wait_ready()
    node.tell_to_stop()
    assert node.is_running()
    assert node.stop() == 1
    assert not node.was_killed


def test_the_stop_signal_of_the_image_is_used(platform: DockerPlatform, client: Any, port: int) -> None:
    """Where the spec names none; in whatever way the image writes it."""
    dockerfile = io.BytesIO(f"FROM {IMAGE}\nSTOPSIGNAL 12\n".encode())
    image, _ = client.images.build(fileobj=dockerfile, tag="harness-test-stop-signal:1", rm=True)
    try:
        program = "import signal, sys, time; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(8)); print('up', flush=True); time.sleep(99)"
        node = platform.add(container_spec(port=port, image="harness-test-stop-signal:1", program=program))
        node.start()
        wait_until(lambda: node.last_log_lines() == ["up"], within_seconds=10, because="it should be up")
        node.signal(signal.SIGUSR2)
        assert node.stop() == 8
        node.start()
        wait_until(lambda: node.last_log_lines() == ["up"], within_seconds=10, because="it should be up")
        assert node.stop() == 8
        node.kill()
        node._remove()
    finally:
        client.images.remove(image.id, force=True)


def test_a_node_is_killed_without_warning(server: ContainerNode, port: int) -> None:
    """Gone on return, with the code of a kill; a second time nothing happens."""
    server.kill()
    assert server.exit_code == 137
    assert not server.is_running()
    assert server.last_log_lines() == ["listening"]
    server.kill()
    server.start()
    server.wait_ready()


def test_a_node_that_ends_by_itself_is_noticed(server: ContainerNode) -> None:
    """Without anybody asking the engine."""
    server.signal(signal.SIGKILL)
    wait_until(lambda: not server.is_running(), within_seconds=5, because="it should be seen to have ended")
    assert server.exit_code == 137
    with pytest.raises(NodeError, match="cannot be sent SIGTERM"):
        server.signal(signal.SIGTERM)


# -- freeze ----------------------------------------------------------------------------------------------------


def test_a_frozen_node_keeps_its_port_and_answers_nothing(server: ContainerNode, port: int) -> None:
    """Until it goes on; twice is once."""
    server.hang()
    server.hang()
    assert server.is_hung()
    assert server.is_running()
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"hello?")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(100)
    server.resume()
    server.resume()
    assert not server.is_hung()
    assert answers(port)


@pytest.mark.parametrize("end", [ContainerNode.stop, ContainerNode.kill])
def test_a_frozen_node_can_be_ended(server: ContainerNode, end: Callable[[ContainerNode], object]) -> None:
    """And started again, awake."""
    server.hang()
    end(server)
    assert not server.is_running()
    assert not server.is_hung()
    server.start()
    server.wait_ready()
    assert not server.is_hung()


# -- cut off ---------------------------------------------------------------------------------------------------


@pytest.fixture
def neighbour(platform: DockerPlatform, leases: PortLeases) -> ContainerNode:
    node = platform.add(container_spec(port=leases.take(), name="neighbour"))
    node.start()
    node.wait_ready()
    return node


@pytest.mark.parametrize(("answer", "seen"), [("silence", "silence"), ("refusal", "ConnectionRefusedError")])
def test_a_node_is_cut_off_while_it_runs(
    server: ContainerNode, neighbour: ContainerNode, port: int, answer: Any, seen: str
) -> None:
    """Its neighbours hear nothing, or are refused at once; reconnected, all is as before, its published port too."""
    address = server.address
    assert address is not None
    server.cut_off(answer=answer)
    assert server.is_cut_off()
    assert server.is_running()
    assert seen_from_inside(neighbour, address) == seen
    assert not answers(port)
    server.reconnect()
    assert not server.is_cut_off()
    assert server.address == address
    wait_until(
        lambda: seen_from_inside(neighbour, address) == "hello", within_seconds=5, because="it should be reached again"
    )
    assert seen_from_inside(neighbour, "app-1") == "hello"
    assert answers(port)
    server.reconnect()


def test_one_way_to_be_cut_off_follows_another(server: ContainerNode, neighbour: ContainerNode, client: Any) -> None:
    """Who refuses for it goes when it is to be silent."""
    assert server.address is not None
    for answer, seen in (("refusal", "ConnectionRefusedError"), ("silence", "silence")):
        server.cut_off(answer=answer)  # type: ignore[arg-type]
        assert seen_from_inside(neighbour, server.address) == seen
    server.reconnect()
    assert not client.containers.list(all=True, filters={"label": "harness.node=app-1-stand-in"})


@pytest.mark.parametrize("end", [ContainerNode.stop, ContainerNode.kill])
@pytest.mark.parametrize("answer", ["silence", "refusal"])
def test_a_node_that_ends_while_it_is_cut_off_comes_back_whole(
    server: ContainerNode, port: int, end: Callable[[ContainerNode], object], answer: Any
) -> None:
    """A start gives it its place back."""
    address = server.address
    server.cut_off(answer=answer)
    end(server)
    assert not server.is_cut_off()
    server.start()
    server.wait_ready()
    assert not server.is_cut_off()
    assert server.address == address
    assert answers(port)


def test_a_node_without_a_fixed_address_keeps_the_one_it_had(
    platform: DockerPlatform, neighbour: ContainerNode
) -> None:
    """Its neighbours may have looked it up before."""
    address = neighbour.address
    neighbour.cut_off(answer="silence")
    neighbour.reconnect()
    assert neighbour.address == address


# -- another address -------------------------------------------------------------------------------------------


def test_a_node_moves_to_another_address_and_back(platform: DockerPlatform, port: int) -> None:
    """As a replaced container: a new one, reached by the harness where it was."""
    first, second = platform.new_address(), platform.new_address()
    node = platform.add(container_spec(port=port, address=first), moves_to=second)
    original = node.spec
    node.start()
    node.wait_ready()
    before = node.container
    assert node.relocate() == second
    node.wait_ready()
    assert node.container != before
    assert node.address == second
    assert node._inspected()["NetworkSettings"]["Networks"][platform.network]["IPAddress"] == second
    assert answers(port)
    node.collect_log()
    assert node.log_path.read_text().splitlines() == ["listening", "told to stop", "listening"]
    assert node.relocate() == first
    node.wait_ready()
    node.relocate()
    node.kill()
    node.start(original)
    node.wait_ready()
    assert node.address == first


def test_a_node_without_a_planned_move_gets_a_new_address(platform: DockerPlatform, server: ContainerNode) -> None:
    """One that nobody else has."""
    before = server.address
    server.cut_off(answer="refusal")
    after = server.relocate()
    server.wait_ready()
    assert after != before
    assert server.address == after


# -- memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_mib", [None, 64])
def test_a_node_runs_out_of_memory(platform: DockerPlatform, client: Any, port: int, memory_mib: int | None) -> None:
    """The kernel ends it, the engine says so, and it starts again with the limits it had."""
    node = platform.add(container_spec(port=port, memory_mib=memory_mib))
    node.start()
    node.wait_ready()
    for _ in range(2):
        node.exhaust_memory()
        assert not node.is_running()
        assert node.exit_code == 137
        assert client.containers.get(node.container).attrs["State"]["OOMKilled"]
        node.start()
        node.wait_ready()
    code, said = node.run("python3", "-c", "a = b'x' * (200 << 20); print(len(a))")
    assert (code, said.strip()) == ((0, str(200 << 20)) if memory_mib is None else (137, ""))


# -- what is asked of it from inside ---------------------------------------------------------------------------


def test_programs_are_run_inside(server: ContainerNode) -> None:
    """Exit code and all that was said; a program that is not there is no exit code."""
    code, said = server.run("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (code, sorted(said.split())) == (5, ["err", "out"])
    with pytest.raises(NodeError, match='exec: "no-such-program": executable file not found'):
        server.run("no-such-program")
    server.hang()
    with pytest.raises(NodeError, match="paused"):
        server.run("true")


def test_its_processes_are_listed(server: ContainerNode) -> None:
    """With their command lines."""
    [title] = server.processes().values()
    assert title.startswith("python3 -c")
    server.stop()
    assert server.processes() == {}


def test_nobody_reads_half_a_file(platform: DockerPlatform, port: int) -> None:
    """A file is replaced in one step while it is read again and again."""
    old, new = b"a" * 300_000, b"b" * 300_000
    node = platform.add(
        container_spec(port=port, program=REWRITES_AND_READS, files={"/etc/settings/all.conf": old}, is_ready=bool)
    )
    node.start()
    for content in (new, old) * 3:
        node.write_file("/etc/settings/all.conf", content)
        assert node.is_running(), node.last_log_lines()
    # Looked at from outside: what a program says that an engine runs for a moment, it may lose.
    assert node.read_files("/etc/settings", most_bytes=1 << 20) == {"all.conf": old}
    node.kill()
    node.write_file("/etc/settings/all.conf", b"c" * 300_000)
    node.start()
    assert node.read_files("/etc/settings", most_bytes=1 << 20) == {"all.conf": b"c" * 300_000}
    with pytest.raises(NodeError, match="/proc/nothing/x cannot be written"):
        node.write_file("/proc/nothing/x", b"")


# -- all of it -------------------------------------------------------------------------------------------------


def test_closing_removes_everything_and_keeps_the_logs(client: Any, workspace: Workspace, leases: PortLeases) -> None:
    """In whatever state nodes are; a second time nothing happens."""
    platform = DockerPlatform(workspace)
    nodes = [platform.add(container_spec(port=leases.take(), name=f"app-{number}")) for number in range(5)]
    for node in nodes[:4]:
        node.start()
    for node in nodes[:4]:
        node.wait_ready()
    nodes[0].hang()
    nodes[1].cut_off(answer="refusal")
    nodes[2].kill()
    client.volumes.create(f"{platform.network}-data", labels=platform.labels)
    platform.close()
    assert left_of(client, f"harness.run={workspace.run_id}") == {}
    assert [node.is_running() for node in nodes] == [False] * 5
    assert [node.last_log_lines() for node in nodes] == [["listening"]] * 4 + [[]]
    platform.close()


def test_a_container_that_somebody_else_removed(server: ContainerNode, client: Any) -> None:
    """It has ended; it cannot be had back, and that is said."""
    client.containers.get(server.container).remove(force=True)
    wait_until(lambda: not server.is_running(), within_seconds=5, because="it should be seen to be gone")
    server.kill()
    with pytest.raises(NodeNeverReady, match="No such container"):
        server.start()


def test_two_runs_at_once_share_nothing(client: Any, tmp_path: Path) -> None:
    """The same ids, the same names of nodes, made in the same moment: networks, addresses and ports differ."""
    barrier = threading.Barrier(4)

    def play(number: int) -> tuple[str, str]:
        runtime = tmp_path / str(number)
        runtime.mkdir(mode=0o700)
        with (
            Workspace.create(reports=runtime / "reports", name="test", seed=os.getpid(), runtime=runtime) as space,
            PortLeases() as leases,
        ):
            barrier.wait()
            with DockerPlatform(space) as platform:
                node = platform.add(container_spec(port=leases.take(), address=platform.new_address()))
                node.start()
                node.wait_ready()
                assert node.is_ready()
                assert node.address is not None
                barrier.wait()
                # Whoever ends first takes nothing of the others with it.
                if number % 2:
                    platform.close()
                barrier.wait()
                assert number % 2 or node.is_ready()
                return space.run_id, node.address

    with ThreadPoolExecutor(4) as pool:
        played = list(pool.map(play, range(4)))
    ids, addresses = zip(*played, strict=True)
    assert len(set(addresses)) == 4
    assert len(set(ids)) < 4, "two users' runs may have the same id"
    for run in set(ids):
        assert left_of(client, f"harness.run={run}") == {}


# -- the harness is killed -------------------------------------------------------------------------------------

PLAYS = """
import sys
from pathlib import Path
from tests.containers_like import main
main(Path(sys.argv[1]))
"""


@pytest.fixture
def playing(client: Any, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a harness of its own, with nodes that are broken and healed for ever."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            made = subprocess.Popen(
                [sys.executable, "-c", PLAYS, str(tmp_path)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": HARNESS_PATH},
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

            def end() -> None:
                made.kill()
                made.wait()
                assert made.stdout is not None
                made.stdout.close()

            stack.callback(end)
            return made

        yield start


def scratch_of(playing: subprocess.Popen[str]) -> str:
    """The first thing it says: the label of all it makes."""
    assert playing.stdout is not None
    return f"harness.scratch={playing.stdout.readline().strip()}"


@pytest.mark.parametrize("after", ["nothing", "network", "start", "cut", "relocate", "memory"])
def test_a_killed_harness_leaves_nothing(
    client: Any, playing: Callable[[], subprocess.Popen[str]], after: str, tmp_path: Path
) -> None:
    """Its reaper removes containers, stand-ins and the network, whatever the engine was just told."""
    harness = playing()
    label = scratch_of(harness)
    assert harness.stdout is not None
    if after != "nothing":
        for line in harness.stdout:
            if line.strip() == after:
                break
    os.killpg(harness.pid, signal.SIGKILL)
    harness.wait()
    records = tmp_path / "runs"
    wait_until(lambda: not list(records.glob("*.jsonl")), within_seconds=30, because="its record should be gone")
    assert left_of(client, label) == {}
    assert sweep(runtime=tmp_path) == []


@pytest.mark.parametrize("record", ["kept", "lost"])
def test_the_next_run_removes_what_was_left(
    client: Any, playing: Callable[[], subprocess.Popen[str]], tmp_path: Path, record: str
) -> None:
    """Where the reaper was killed as well: by its record, or by what its containers say of who made them."""
    harness = playing()
    label = scratch_of(harness)
    assert harness.stdout is not None
    for line in harness.stdout:
        if line.strip() == "start":
            break
    # It lives: nobody touches it, not even somebody who does not know its record.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    url = engine.address().url
    sweep(runtime=elsewhere, engine_url=url)
    assert left_of(client, label)
    [reaper] = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and f"harness.reaper\0{tmp_path}".encode() in _command_of(path)
    ]
    os.kill(reaper, signal.SIGKILL)
    os.killpg(harness.pid, signal.SIGKILL)
    harness.wait()
    if record == "lost":
        for each in (tmp_path / "runs").glob("*.jsonl"):
            each.unlink()
    said = sweep(runtime=tmp_path, engine_url=url)
    assert any("app-1" in sentence for sentence in said), said
    # What the engine was still at when the harness was killed is there a moment later at most.
    wait_until(
        lambda: sweep(runtime=tmp_path, engine_url=url) == [] and not left_of(client, label),
        within_seconds=20,
        because="nothing should be left",
    )


def _command_of(process: Path) -> bytes:
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def test_an_image_of_ours_knows_its_variables(platform: DockerPlatform) -> None:
    """As whoever configures what runs in it asks."""
    assert platform.has_image(images.BUILT["python"].tag)
    assert "PATH" in platform.image_env(IMAGE)
