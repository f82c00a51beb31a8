"""Ports: never shared between runs, given back however a run ends, and refused with the name of who has them."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from harness import ports
from harness.errors import BadInput, MissingPrerequisite
from harness.ports import PortLeases
from harness.waiting import wait_until
from tests.native_nodes import HARNESS_PATH

linux_only = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="who listens is only known with /proc")

HOLDER = """
import sys
from pathlib import Path
from harness.ports import PortLeases
leases = PortLeases(runtime=Path(sys.argv[1]))
print(*[leases.take() for _ in range(3)], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir()
    return folder


def start_holder(runtime: Path) -> tuple[subprocess.Popen[str], set[int]]:
    """Another run with three ports."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(runtime)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": HARNESS_PATH},
        text=True,
    )
    assert process.stdout is not None
    return process, {int(word) for word in process.stdout.readline().split()}


def test_two_runs_never_get_the_same_port(runtime: Path) -> None:
    """Each port is given to one run only, from whichever thread it asks."""
    one, other = PortLeases(runtime=runtime), PortLeases(runtime=runtime)
    with one, other, ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda leases: leases.take(), [one, other] * 20))
        assert len(set(taken)) == 40


def test_another_process_cannot_take_a_leased_port(runtime: Path) -> None:
    """The lease holds between processes, and ends with the process, killed or not."""
    holder, held = start_holder(runtime)
    assert len(held) == 3
    port = min(held)
    with PortLeases(runtime=runtime) as leases:
        with pytest.raises(BadInput, match=f"port {port} is taken by another run of the harness"):
            leases.take_exact(port)
        holder.kill()
        holder.communicate()
        assert leases.take_exact(port) == port


def test_a_port_is_below_those_the_system_picks(runtime: Path) -> None:
    """A connection of traffic must never sit on the port of a node that is restarting."""
    with PortLeases(runtime=runtime) as leases:
        port = leases.take()
    picked_from = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert 20_000 <= port <= 32_767
    if picked_from.exists() and int(picked_from.read_text().split()[0]) >= 21_000:
        assert port < int(picked_from.read_text().split()[0])


def test_a_port_somebody_listens_on_is_not_given(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that know nothing of leases are seen by trying."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(ports, "_ports_to_give", lambda: range(port, port + 1))
        with (
            PortLeases(runtime=runtime) as leases,
            pytest.raises(MissingPrerequisite, match=f"no port from {port} to {port} is free"),
        ):
            leases.take()


@linux_only
def test_a_named_port_that_is_taken_is_refused_with_who_has_it(runtime: Path) -> None:
    """The message says which program to end."""
    with socket.create_server(("127.0.0.1", 0)) as server, PortLeases(runtime=runtime) as leases:
        port = server.getsockname()[1]
        with pytest.raises(BadInput, match=rf"port {port} on 127\.0\.0\.1 is taken by \S+ \(pid {os.getpid()}\)"):
            leases.take_exact(port)
        server.close()
        assert leases.take_exact(port) == port


def test_a_named_port_may_be_taken_again_by_the_same_run(runtime: Path) -> None:
    """A run that already has it is not told that somebody else does."""
    with PortLeases(runtime=runtime) as leases:
        port = leases.take()
        assert leases.take_exact(port) == port


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_an_impossible_port_is_refused(runtime: Path, port: int) -> None:
    """Numbers that are no ports get a message, not a traceback."""
    with PortLeases(runtime=runtime) as leases, pytest.raises(BadInput, match=f"port {port} .* cannot be used"):
        leases.take_exact(port)


def test_a_released_port_can_be_taken_by_another_run(runtime: Path) -> None:
    """Locks are given back, and their files are not left to pile up."""
    with PortLeases(runtime=runtime) as one, PortLeases(runtime=runtime) as other:
        port = one.take()
        one.release(port)
        one.release(port)
        assert other.take_exact(port) == port
    assert list((runtime / "ports").iterdir()) == []


def test_runs_that_take_and_release_at_once_do_not_meet(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the moment in which a lock's file is removed, two runs do not both get it."""
    monkeypatch.setattr(ports, "_ports_to_give", lambda: range(20_500, 20_503))
    in_use: set[int] = set()

    def busy(number: int) -> int:
        collisions = 0
        with PortLeases(runtime=runtime) as leases:
            for _ in range(150):
                try:
                    port = leases.take()
                except MissingPrerequisite:
                    continue
                collisions += port in in_use
                in_use.add(port)
                in_use.discard(port)
                leases.release(port)
        return collisions

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(busy, range(6))) == 0


@linux_only
def test_who_listens_is_known() -> None:
    """A listener is found with its address, and its process by the socket's number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [each for each in ports.listeners() if each.port == port]
        assert str(found) == f"127.0.0.1:{port}"
        assert found.socket in ports.sockets_of([os.getpid()])
        assert ports.who_listens(port) == (os.getpid(),)
    wait_until(lambda: not ports.who_listens(port), within_seconds=5, because="the closed port should be nobody's")


@linux_only
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_listeners_are_read_as_well() -> None:
    """An application on the wrong address family is told so."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert [str(each) for each in ports.listeners() if each.port == port] == [f"[::1]:{port}"]


@linux_only
def test_the_kernel_and_the_tables_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel cannot be asked, its tables are read."""
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0)):
        mine = ports.sockets_of([os.getpid()])
        asked = {each for each in ports.listeners() if each.socket in mine}

        def refuses(family: socket.AddressFamily) -> NoReturn:
            raise OSError(errno.ENOSYS, "no netlink here")

        monkeypatch.setattr(ports, "_asked_of_the_kernel", refuses)
        read = {each for each in ports.listeners() if each.socket in mine}
    assert len(asked) == 2
    assert asked == read
