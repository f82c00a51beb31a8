"""Native nodes: how they are started, found ready, frozen and ended with all they started, and what is said when not."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness import ports, processes
from harness.errors import BadInput, HarnessError, MissingPrerequisite, NodeError, NodeNeverReady
from harness.platforms import Hangable, Killable, NodeSpec, Stoppable, privileges
from harness.platforms.native import NativeNode, NativePlatform
from harness.platforms.privileges import Unprivileged, run_as_unprivileged
from harness.ports import PortLeases
from harness.waiting import wait_until
from harness.workspace import Workspace
from tests.native_nodes import PYTHON, SERVER, SERVER_WITH_CHILDREN, answers, node_spec, running_with

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

SAYS_WHAT_IT_SEES = """
import json, os, signal, sys
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(), "uid": os.geteuid(),
    "session": os.getsid(0) == os.getpid(),
}), flush=True)
while True:
    signal.pause()
"""

COUNTS_STOPS = """
import os, signal, socket, sys
port, wanted, code = (int(word) for word in sys.argv[1:4])
seen = []
def stop(*_):
    seen.append(1)
    print("told to stop", len(seen), flush=True)
signal.signal(signal.SIGTERM, stop)
listener = socket.create_server(("127.0.0.1", port))
listener.settimeout(0.01)
while len(seen) < wanted or not wanted:
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        continue
    connection.sendall(b"hello")
    connection.close()
sys.exit(code)
"""

LEAVES_A_CHILD_ON_ITS_PORT = """
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"hello")
        connection.close()
signal.pause()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=1, runtime=tmp_path) as made:
        yield made


@pytest.fixture
def platform(workspace: Workspace) -> Iterator[NativePlatform]:
    with NativePlatform(workspace) as made:
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    with PortLeases() as leases:
        yield leases.take()


@pytest.fixture
def server(platform: NativePlatform, workspace: Workspace, port: int) -> NativeNode:
    node = platform.add(node_spec(port=port, directory=workspace.scratch))
    node.start()
    node.wait_ready()
    return node


def what_it_sees(node: NativeNode) -> dict[str, object]:
    """Start a node that says what it sees, and read it."""
    node.start()
    wait_until(
        lambda: node.log_path.read_text().endswith("\n"), within_seconds=10, because="it should have said what it sees"
    )
    seen: dict[str, object] = json.loads(node.log_path.read_text())
    return seen


def speaker(workspace: Workspace, port: int, env: dict[str, str] | None = None) -> NodeSpec:
    return node_spec(port=port, directory=workspace.scratch, program=SAYS_WHAT_IT_SEES, env=env)


# -- start -----------------------------------------------------------------------------------------------------


def test_a_node_starts_and_is_found_ready(server: NativeNode, port: int) -> None:
    """It answers, its start was measured, and it has the abilities that faults ask for."""
    assert answers(port)
    assert server.is_running()
    assert server.is_ready()
    assert 0 < server.start_seconds < 20
    assert server.exit_code is None
    assert isinstance(server, Stoppable)
    assert isinstance(server, Killable)
    assert isinstance(server, Hangable)


def test_nothing_is_started_by_adding(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """A node that was only added does not run, and can be told to end without harm."""
    node = platform.add(node_spec(port=port, directory=workspace.scratch))
    assert not node.is_running()
    assert not node.is_ready()
    assert not node.is_hung()
    assert node.exit_code is None
    assert node.start_seconds == 0
    node.kill()
    node.resume()
    with pytest.raises(NodeError, match="app-1 was never started"):
        node.stop()
    with pytest.raises(NodeError, match="app-1 was not started"):
        node.wait_ready()
    with pytest.raises(NodeError, match="cannot be sent SIGHUP"):
        node.signal(signal.SIGHUP)
    with pytest.raises(NodeError, match="cannot be frozen"):
        node.hang()


def test_a_node_gets_a_small_clean_environment(
    workspace: Workspace, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the person has in the environment stays there; the run's marks and the spec's own variables are added."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    with NativePlatform(workspace, passed_on={"PATH": "/usr/bin:/bin", "HOME": "/home/somebody"}) as platform:
        node = platform.add(speaker(workspace, port, env={"APP_MODE": "test", "HARNESS_RUN": "not mine"}))
        environment = what_it_sees(node)["env"]
    assert isinstance(environment, dict)
    environment.pop("LC_CTYPE", None)  # Python sets it itself
    assert environment == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/somebody",
        "LANG": "C.UTF-8",
        "TMPDIR": str(workspace.scratch / "tmp"),
        "PYTHONPYCACHEPREFIX": str(workspace.cache / "pycache"),
        "APP_MODE": "test",
        "HARNESS_RUN": workspace.run_id,
        "HARNESS_SCRATCH": str(workspace.scratch),
        "HARNESS_NODE": "app-1",
    }


def test_a_node_leads_a_session_in_its_folder_and_reads_nothing(
    platform: NativePlatform, workspace: Workspace, port: int
) -> None:
    """Ctrl-C in the terminal is not for nodes, and none waits for input."""
    folder = workspace.scratch / "place"
    folder.mkdir()
    node = platform.add(replace(speaker(workspace, port), directory=folder))
    seen = what_it_sees(node)
    assert seen["session"] is True
    assert seen["stdin"] == ""
    assert seen["cwd"] == str(folder)


def test_the_log_goes_on_over_restarts(platform: NativePlatform, workspace: Workspace, server: NativeNode) -> None:
    """One file per node; what is shown of it is of the last start."""
    server.stop()
    server.start()
    server.wait_ready()
    assert server.log_path == workspace.logs / "app-1.log"
    assert server.log_path.read_text().count("listening on") == 2
    assert len(server.last_log_lines()) == 1


def test_a_new_version_is_another_spec(server: NativeNode, workspace: Workspace) -> None:
    """A rollout starts the same node with another command."""
    server.stop()
    newer = replace(server.spec, argv=(*PYTHON, SERVER.replace("hello", "howdy"), str(server.spec.port)))
    server.start(newer)
    assert server.spec is newer
    with pytest.raises(NodeError, match="runs already"):
        server.start()
    server.kill()
    with pytest.raises(NodeError, match="was given the spec of app-9"):
        server.start(replace(newer, name="app-9"))


def test_names_differ(platform: NativePlatform, server: NativeNode) -> None:
    """Two nodes would write to the same log."""
    with pytest.raises(HarnessError, match="two nodes named app-1"):
        platform.add(server.spec)
    assert platform.nodes == (server,)


def test_many_nodes_start_at_once(platform: NativePlatform, workspace: Workspace) -> None:
    """As a cluster boots: from a pool of threads, while another run sweeps."""
    with PortLeases() as leases, ThreadPoolExecutor(8) as pool:
        nodes = [
            platform.add(node_spec(name=f"app-{number}", port=leases.take(), directory=workspace.scratch))
            for number in range(8)
        ]

        def up(node: NativeNode) -> None:
            node.start()
            node.wait_ready()

        list(pool.map(up, nodes))
        assert all(answers(node.spec.port) for node in nodes)
        assert len({node.pid for node in nodes}) == 8
        list(pool.map(lambda node: node.kill(), nodes))
        assert not any(node.is_running() for node in nodes)
        assert all(ports.is_free("127.0.0.1", node.spec.port) for node in nodes)


# -- end -------------------------------------------------------------------------------------------------------


def test_kill_ends_it_and_all_it_started(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """Children in other groups and sessions, and one that left as a daemon does, are gone on return; the port is free."""
    word = f"family-{port}"
    node = platform.add(
        node_spec(port=port, directory=workspace.scratch, program=SERVER_WITH_CHILDREN, arguments=(word,))
    )
    node.start()
    node.wait_ready()
    wait_until(lambda: len(running_with(word)) == 5, within_seconds=10, because="it should have four children")
    node.kill()
    assert running_with(word) == set()
    assert node.exit_code == -signal.SIGKILL
    assert ports.is_free("127.0.0.1", port)
    node.start()
    node.wait_ready()
    assert answers(port)


def test_stop_asks_and_returns_the_exit_code(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """A server that ends by itself is not killed."""
    node = platform.add(node_spec(port=port, directory=workspace.scratch, program=COUNTS_STOPS, arguments=("1", "7")))
    node.start()
    node.wait_ready()
    assert node.stop() == 7
    assert node.exit_code == 7
    assert not node.was_killed
    assert node.leftovers_killed == 0
    assert ports.is_free("127.0.0.1", port)
    assert node.stop() == 7, "one that has ended is not ended again"


def test_stop_does_not_ask_a_second_time(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """A rollout that drains by the signal has asked already; many servers take a second request for "at once"."""
    node = platform.add(node_spec(port=port, directory=workspace.scratch, program=COUNTS_STOPS, arguments=("1", "0")))
    node.start()
    node.wait_ready()
    node.signal(signal.SIGTERM)
    assert node.stop() == 0
    assert node.log_path.read_text().count("told to stop") == 1


def test_stop_kills_what_does_not_end_in_time(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """Its patience is the setup's; that it had to be killed is said."""
    spec = node_spec(
        port=port,
        directory=workspace.scratch,
        program=COUNTS_STOPS,
        arguments=("0", "0"),
        stop_within_seconds=0.1,
    )
    node = platform.add(spec)
    node.start()
    node.wait_ready()
    assert node.stop() == -signal.SIGKILL
    assert node.was_killed
    assert "told to stop 1" in node.log_path.read_text()


def test_stop_ends_what_the_process_leaves(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """Workers that outlive their master are ended too, and counted."""
    word = f"workers-{port}"
    node = platform.add(
        node_spec(port=port, directory=workspace.scratch, program=SERVER_WITH_CHILDREN, arguments=(word,))
    )
    node.start()
    node.wait_ready()
    wait_until(lambda: len(running_with(word)) == 5, within_seconds=10, because="it should have four children")
    assert node.stop() == -signal.SIGTERM
    assert running_with(word) == set()
    assert not node.was_killed
    assert node.leftovers_killed == 4


def test_a_node_that_crashed_starts_again_on_its_port(
    platform: NativePlatform, workspace: Workspace, port: int
) -> None:
    """What it left running on the port is ended first: nobody else could."""
    node = platform.add(node_spec(port=port, directory=workspace.scratch, program=LEAVES_A_CHILD_ON_ITS_PORT))
    node.start()
    node.wait_ready()
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)
    wait_until(lambda: not node.is_running(), within_seconds=5, because="it should have crashed")
    assert node.exit_code == -signal.SIGKILL
    assert answers(port), "its child goes on serving, as nginx workers do"
    node.start()
    node.wait_ready()
    assert node.is_running()


# -- freeze ----------------------------------------------------------------------------------------------------


def test_a_hung_node_keeps_its_socket_and_answers_nothing(server: NativeNode, port: int) -> None:
    """The kernel still accepts for it; after resuming it answers what came meanwhile."""
    server.hang()
    assert server.is_hung()
    assert server.is_running()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"hello?")
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(5)
        assert connection.recv(100) == b"hello"
    assert not server.is_hung()


def test_hang_freezes_children_and_threads(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """A server with workers in groups of their own hangs as a whole."""
    word = f"frozen-{port}"
    threads = (
        "import threading\nfor _ in range(3): threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    program = f"{threads}\n{SERVER_WITH_CHILDREN}"
    node = platform.add(node_spec(port=port, directory=workspace.scratch, program=program, arguments=(word,)))
    node.start()
    node.wait_ready()
    wait_until(lambda: len(running_with(word)) == 5, within_seconds=10, because="it should have four children")
    node.hang()
    assert all(processes.is_frozen(pid) for pid in running_with(word))
    node.resume()
    assert not any(processes.is_frozen(pid) for pid in running_with(word))
    node.resume()
    assert answers(port)


def test_a_hung_node_can_be_stopped(server: NativeNode) -> None:
    """It is asked and let go on, so it can end by itself."""
    server.hang()
    assert server.stop() == -signal.SIGTERM
    assert not server.was_killed


def test_a_hung_node_can_be_killed_and_resumed_after(server: NativeNode) -> None:
    """Healing a fault must not fail because the node has died meanwhile."""
    server.hang()
    server.kill()
    server.resume()
    assert not server.is_hung()
    assert server.exit_code == -signal.SIGKILL


# -- words for what went wrong ---------------------------------------------------------------------------------


def never_ready(
    platform: NativePlatform,
    program: str,
    port: int,
    *words: str,
    seconds: float = 20.0,
    is_ready: Callable[[], bool] | None = None,
) -> str:
    """What is said of a program that does not become ready."""
    spec = node_spec(
        port=port,
        directory=platform.nodes[0].spec.directory,
        name="app-2",
        ready_within_seconds=seconds,
        is_ready=is_ready,
    )
    node = platform.add(replace(spec, argv=(*PYTHON, program, str(port), *words)))
    node.start()
    with pytest.raises(NodeNeverReady) as caught:
        node.wait_ready()
    node.kill()
    return str(caught.value)


@pytest.fixture
def somewhere(platform: NativePlatform, workspace: Workspace) -> NativePlatform:
    """A platform that knows a folder."""
    platform.add(node_spec(port=1, directory=workspace.scratch, name="placeholder"))
    return platform


def test_one_that_ends_at_once_is_told_with_its_log(somewhere: NativePlatform, port: int) -> None:
    """Long before its patience is over, with exit code, remedy and its last ten lines."""
    said = never_ready(
        somewhere,
        "import sys\nfor n in range(30): print('line', n, flush=True)\nsys.exit('no database')",
        port,
        seconds=600,
    )
    assert re.match(r"app-2 ended before it was ready \(exit code 1, after \d+\.\d s\): correct its command", said)
    assert "app.command" in said
    assert "    no database" in said
    assert "line 29" in said
    assert "line 21\n" in said
    assert "line 20\n" not in said


def test_one_that_is_ended_by_a_signal_is_told_so(somewhere: NativePlatform, port: int) -> None:
    """As the OOM killer would end it."""
    said = never_ready(somewhere, "import os; os.kill(os.getpid(), 9)", port)
    assert "ended before it was ready (by SIGKILL" in said
    assert said.endswith("It wrote nothing to its log.")


@linux_only
def test_one_that_listens_elsewhere_is_told_where(somewhere: NativePlatform, port: int) -> None:
    """The usual first mistake with an app of one's own: it keeps its default port."""
    with PortLeases() as leases:
        other = leases.take()
        said = never_ready(somewhere, SERVER.replace("sys.argv[1]", "sys.argv[2]"), port, str(other), seconds=0.5)
    assert f"app-2 was not ready within 0.5 s: it listens on 127.0.0.1:{other} instead of 127.0.0.1:{port}" in said
    assert "use {host} and {port} in its command (app.command)" in said
    assert f"    listening on {other}" in said


@linux_only
def test_one_that_listens_nowhere_is_told_so(somewhere: NativePlatform, port: int) -> None:
    """It runs and does something else."""
    said = never_ready(somewhere, "import signal; print('thinking', flush=True); signal.pause()", port, seconds=0.5)
    assert "listens on no port" in said
    assert "app.ready_within_seconds" in said
    assert "    thinking" in said


@linux_only
def test_one_that_listens_and_says_no_is_told_so(somewhere: NativePlatform, port: int) -> None:
    """The port is right, the readiness check is not."""
    said = never_ready(somewhere, SERVER.replace("hello", "no"), port, seconds=0.5)
    assert f"it listens on 127.0.0.1:{port}, but its readiness check never said yes" in said
    assert "app.ready" in said


@linux_only
def test_a_port_that_is_taken_is_told_before_the_start(
    platform: NativePlatform, workspace: Workspace, port: int
) -> None:
    """With who has it."""
    with socket.create_server(("127.0.0.1", port)):
        node = platform.add(node_spec(port=port, directory=workspace.scratch))
        with pytest.raises(NodeNeverReady, match=rf"port {port} on 127\.0\.0\.1 is taken by \S+ \(pid {os.getpid()}\)"):
            node.start()
        assert not node.is_running()


@linux_only
def test_a_port_taken_in_between_is_told_when_the_node_ends(
    somewhere: NativePlatform, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody was faster than the node: its own message is shown, and whose the port is."""
    monkeypatch.setattr(ports, "is_free", lambda host, port: True)
    with socket.create_server(("127.0.0.1", port)):
        said = never_ready(somewhere, SERVER, port, is_ready=lambda: False)
    assert said.startswith("app-2 ended before it was ready (exit code 1")
    assert f"is taken by {processes.program_of(os.getpid())} (pid {os.getpid()})" in said
    assert "Address already in use" in said


@linux_only
def test_what_a_stranger_answers_is_not_taken_for_ready(
    somewhere: NativePlatform, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts about somebody else's server would be worse than none."""
    monkeypatch.setattr(ports, "is_free", lambda host, port: True)
    with socket.create_server(("127.0.0.1", port)):
        node = somewhere.add(
            node_spec(
                port=port,
                directory=somewhere.nodes[0].spec.directory,
                name="app-2",
                program="import signal; signal.pause()",
                is_ready=lambda: True,
            )
        )
        node.start()
        with pytest.raises(NodeNeverReady, match=f"app-2 did not get its port: port {port} .* is taken by"):
            node.wait_ready()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), r"there is no program 'no-such-program' \(looked in .+\): install it"),
        (("./build/server",), r"there is no program .+/build/server \(No such file or directory\): build it"),
        (("./plain.txt",), r".+/plain\.txt is not executable \(mode 0644\): chmod \+x it"),
        (("./script",), r".+/script wants /no/such/interpreter, which does not exist"),
        (("./folder",), r".+/folder is a folder, not a program"),
        (("",), "the command is empty"),
        ((), "the command is empty"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_early(
    platform: NativePlatform, workspace: Workspace, port: int, command: tuple[str, ...], words: str
) -> None:
    """One message with the key, what was seen and what to do; the same words when it is started all the same."""
    (workspace.scratch / "plain.txt").write_text("text")
    (workspace.scratch / "plain.txt").chmod(0o644)
    (workspace.scratch / "folder").mkdir()
    script = workspace.scratch / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    spec = node_spec(port=port, directory=workspace.scratch, argv=command)
    with pytest.raises(BadInput, match=f"^rollout\\.command: {words}"):
        platform.check(spec, what="rollout.command")
    with pytest.raises(NodeNeverReady, match=f"^app-1 cannot be started: {words}"):
        platform.add(spec).start()


def test_a_folder_that_is_missing_is_refused(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """The working folder is told apart from the command."""
    spec = node_spec(port=port, directory=workspace.scratch / "nowhere")
    with pytest.raises(BadInput, match=r"app\.command: its working folder .+nowhere does not exist"):
        platform.check(spec)


def test_what_the_system_refuses_to_run_is_told(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """Executable by its mode, and not a program all the same."""
    broken = workspace.scratch / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    node = platform.add(node_spec(port=port, directory=workspace.scratch, argv=("./broken",)))
    with pytest.raises(NodeNeverReady, match=r"app-1 cannot be started: \./broken: Exec format error"):
        node.start()
    with pytest.raises(NodeNeverReady, match=r"app-1 cannot be started: .*null"):
        node.start(node_spec(port=port, directory=workspace.scratch, argv=("true", "a\0b")))


def test_a_sound_command_is_not_refused(platform: NativePlatform, workspace: Workspace, port: int) -> None:
    """Found in PATH, with its full path, and relative to the working folder."""
    script = workspace.scratch / "server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    for command in ("sh", "/bin/sh", "./server"):
        platform.check(node_spec(port=port, directory=workspace.scratch, argv=(command,)))


# -- without root's rights -------------------------------------------------------------------------------------

WRITES_ITS_USER = ("/bin/sh", "-c", "id -u > written; cat written; exec sleep 1000")


@root_only
@pytest.mark.parametrize("way", ["namespace", "nobody"])
def test_what_refuses_root_runs_as_somebody_else(
    platform: NativePlatform, workspace: Workspace, port: int, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In its folder it can write; it is stopped and killed like every other node."""
    how = privileges._by_namespace() if way == "namespace" else privileges._by_dropping()
    if how is None:
        pytest.skip("user namespaces are not allowed on this machine")
    monkeypatch.setattr(privileges, "_found", how)
    folder = workspace.scratch / "data"
    folder.mkdir(mode=0o700)
    node = platform.add(node_spec(port=port, directory=folder, argv=WRITES_ITS_USER, refuses_root=True))
    node.start()
    wait_until(lambda: node.last_log_lines(), within_seconds=10, because="it should have said who it is")
    assert int(node.last_log_lines()[0]) > 0
    node.hang()
    assert node.is_hung()
    assert node.stop() == -signal.SIGTERM
    node.start()
    node.kill()
    assert node.exit_code == -signal.SIGKILL


@root_only
def test_what_nobody_cannot_reach_is_told_with_the_folder(
    platform: NativePlatform, workspace: Workspace, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program under root's home cannot be run by somebody else: the message says which folder keeps it out."""
    monkeypatch.setattr(privileges, "_found", privileges._by_dropping())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = workspace.scratch / "data"
    folder.mkdir()
    node = platform.add(node_spec(port=port, directory=folder, argv=(str(program),), refuses_root=True))
    with pytest.raises(MissingPrerequisite, match=r"cannot be reached by uid \d+: .+ \(mode 0700\) keeps it out"):
        node.start()
    with pytest.raises(MissingPrerequisite, match="keeps it out"):
        run_as_unprivileged([str(program)], directory=folder, timeout_seconds=5)


@root_only
def test_no_folder_of_the_person_is_given_away(
    platform: NativePlatform, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is in the run's private folder changes its owner."""
    monkeypatch.setattr(privileges, "_found", Unprivileged(uid=65534, gid=65534))
    own = tmp_path / "project"
    own.mkdir()
    node = platform.add(node_spec(port=port, directory=own, argv=("/bin/sh", "-c", "exit"), refuses_root=True))
    node.start()
    assert own.stat().st_uid == 0


def test_a_short_command_runs_without_the_rights_of_root(tmp_path: Path) -> None:
    """Its code, output and input are handed on; the caller's environment is not."""
    done = run_as_unprivileged(
        ["/bin/sh", "-c", "id -u; cat; env; exit 3"],
        directory=tmp_path,
        timeout_seconds=10,
        input=b"said\n",
        env={"MORE": "1"},
    )
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 3
    assert int(lines[0]) > 0
    assert lines[1] == "said"
    names = {line.partition("=")[0] for line in lines[2:]}
    assert (
        {"PATH", "HOME", "MORE"} <= names <= {"PATH", "HOME", "LANG", "TMPDIR", "MORE", "PWD", "SHLVL", "_", "OLDPWD"}
    )


def test_a_short_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    """initdb starts servers of its own."""
    word = f"slow-{os.getpid()}"
    program = f"import os, signal; os.fork(); print('{word}'); signal.pause()"
    with pytest.raises(NodeError, match=r"did not end within 0\.2 s and was killed"):
        run_as_unprivileged([*PYTHON, program, word], directory=tmp_path, timeout_seconds=0.2)
    assert running_with(word) == set()


def test_a_short_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    """In our words, not those of the way it is run."""
    with pytest.raises(MissingPrerequisite, match="there is no program no-such-initdb"):
        run_as_unprivileged(["no-such-initdb"], directory=tmp_path, timeout_seconds=5)


# -- elsewhere than on Linux -----------------------------------------------------------------------------------


def test_nodes_work_without_proc(
    platform: NativePlatform, workspace: Workspace, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is only ps, as on macOS, less is known and nothing fails."""
    if subprocess.run(["ps", "-p", "1"], capture_output=True, check=False).returncode:
        pytest.skip("no ps here")
    monkeypatch.setattr(processes, "_PROC", Path("/no/proc"))
    monkeypatch.setattr(ports, "listeners", list)
    node = platform.add(node_spec(port=port, directory=workspace.scratch, program=SERVER))
    node.start()
    node.wait_ready()
    node.hang()
    assert node.is_hung()
    node.resume()
    assert node.stop() == -signal.SIGTERM
    assert ports.is_free("127.0.0.1", port)
