"""Ports that two runs at once never share, and who listens where.

A port is leased by a lock on a small file in a folder of this user, so the kernel gives it back however the run
ends. Must not: keep a port open (a node has to bind it), or take one from the range in which the system picks
ports for outgoing connections: a connection of traffic could then sit on the port of a node that is restarting.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from harness import processes
from harness.errors import BadInput, MissingPrerequisite
from harness.folders import private_folder, runtime_dir

__all__ = ["Listener", "PortLeases", "is_free", "listeners", "listeners_in", "sockets_of", "who_listens"]

_LOWEST, _HIGHEST = 20_000, 32_767
_FEWEST = 1_000

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_TABLES = ("tcp", "tcp6")
_LISTENING = 10
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_HEAD = struct.Struct("=IHHII")
_MESSAGE_BYTES = 72
_KERNEL_SECONDS = 1.0


class PortLeases:
    """The ports of one run. Use as a context manager; safe to use from several threads."""

    def __init__(self, *, host: str = "127.0.0.1", runtime: Path | None = None) -> None:
        self._host = host
        self._folder = private_folder((runtime or runtime_dir()) / "ports")
        self._held: dict[int, int] = {}
        self._using = threading.Lock()
        self._ports = _ports_to_give()
        # Runs begin at different places, so that they seldom try the same port, and users (who do not see each
        # other's locks) hardly ever.
        self._next = (os.geteuid() * 7919 + os.getpid() * 61) % len(self._ports)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_all()

    def take(self) -> int:
        """A port that is free now, and that no other run of this user will be given until it is released.

        Raises:
            MissingPrerequisite: all are taken.
        """
        with self._using:
            for _ in range(len(self._ports)):
                port = self._ports[self._next]
                self._next = (self._next + 1) % len(self._ports)
                if port not in self._held and self._lock(port):
                    # Strictly free: nothing lingers on it either, for servers that do not set SO_REUSEADDR.
                    if is_free(self._host, port, strictly=True):
                        return port
                    self._release(port)
        raise MissingPrerequisite(
            f"no port from {self._ports.start} to {self._ports.stop - 1} is free on {self._host}: "
            "end what uses them (ss -tln lists it)"
        )

    def take_exact(self, port: int) -> int:
        """This port and no other.

        Raises:
            BadInput: it is taken (by whom, if that can be seen), or may not be used.
        """
        with self._using:
            if port in self._held:
                return port
            if not self._lock(port):
                raise BadInput(f"port {port} is taken by another run of the harness: wait for it, or name another port")
            try:
                if is_free(self._host, port):
                    return port
                taken = f"port {port} on {self._host} is taken{_by(who_listens(port))}: end that, or name another port"
            except PermissionError:
                taken = f"port {port} may only be used by root: name one from 1024 up"
            except (OSError, OverflowError) as problem:
                taken = f"port {port} on {self._host} cannot be used ({problem}): name another port"
            self._release(port)
        raise BadInput(taken)

    def release(self, port: int) -> None:
        """Give one port back; one that is not held is no mistake."""
        with self._using:
            self._release(port)

    def release_all(self) -> None:
        """Give all ports back."""
        with self._using:
            for port in tuple(self._held):
                self._release(port)

    def _lock(self, port: int) -> bool:
        path = self._folder / str(port)
        while True:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as problem:
                raise MissingPrerequisite(
                    f"{self._folder} cannot be written ({problem.strerror}): ports are leased there, make room"
                ) from problem
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            # Whoever had it removed the file before the lock was given back: then this one is nobody's any more.
            if os.fstat(handle).st_nlink:
                self._held[port] = handle
                return True
            os.close(handle)

    def _release(self, port: int) -> None:
        handle = self._held.pop(port, None)
        if handle is not None:
            (self._folder / str(port)).unlink(missing_ok=True)
            os.close(handle)


def is_free(host: str, port: int, *, strictly: bool = False) -> bool:
    """Whether a server could listen there now. `strictly`: also one that does not set SO_REUSEADDR.

    Raises:
        OSError: the address cannot be used at all.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        if not strictly:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                return False
            raise
    return True


# -- who listens where -----------------------------------------------------------------------------------------


class Listener(NamedTuple):
    """A socket that accepts connections."""

    host: str
    port: int
    socket: int
    """The number of the socket in /proc, to tell whose it is."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners() -> list[Listener]:
    """Every listening TCP socket of this machine; none where the system cannot tell."""
    try:
        return [each for family in _FAMILIES for each in _asked_of_the_kernel(family)]
    except OSError:  # not Linux, or a kernel without this
        tables = (Path("/proc/net", name) for name in _TABLES)
        return [each for table in tables if table.exists() for each in listeners_in(table.read_text("ascii"))]


def listeners_in(table: str) -> list[Listener]:
    """Those in the text of /proc/net/tcp or tcp6, or of both: of this machine, or read in a container of it."""
    found = []
    for row in table.splitlines():
        fields = row.split()
        if len(fields) > 9 and fields[0].endswith(":") and int(fields[3], 16) == _LISTENING:
            address, _, port = fields[1].partition(":")
            # Each group of four bytes is printed as one number in the byte order of the machine.
            words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
            order = -1 if sys.byteorder == "little" else 1
            packed = b"".join(word[::order] for word in words)
            family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
            found.append(Listener(socket.inet_ntop(family, packed), int(port, 16), int(fields[9])))
    return found


def sockets_of(pids: Iterable[int]) -> set[int]:
    """The numbers of the sockets these processes have open; of those that may not be looked into, none."""
    return {number for pid in pids for number in _sockets(pid)}


def who_listens(port: int) -> tuple[int, ...]:
    """The processes that listen on this port, as far as they may be seen."""
    wanted = {each.socket for each in listeners() if each.port == port}
    return tuple(pid for pid in processes.snapshot() if not wanted.isdisjoint(_sockets(pid))) if wanted else ()


def _by(pids: tuple[int, ...]) -> str:
    return f" by {processes.program_of(pids[0])} (pid {pids[0]})" if pids else ""


def _sockets(pid: int) -> Iterator[int]:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                target = str(Path(entry.path).readlink())
                if target.startswith("socket:["):
                    yield int(target[len("socket:[") : -1])


def _asked_of_the_kernel(family: socket.AddressFamily) -> Iterator[Listener]:
    """By netlink, only for those that listen: the tables in /proc hold every connection there was a minute ago, and
    after some traffic it takes a tenth of a second to read them.

    The messages are those of sock_diag(7): inet_diag_req_v2 and inet_diag_msg of linux/inet_diag.h.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    question = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _LISTENING)
    head = struct.pack("=IHHII", _HEAD.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_KERNEL_SECONDS)
        kernel.sendall(head + question)
        while True:
            data, at = kernel.recv(1 << 16), 0
            while at < len(data):
                length, kind, _, _, _ = _HEAD.unpack_from(data, at)
                body = data[at + _HEAD.size : at + length]
                if kind == _DONE:
                    return
                if kind == _ERROR or len(body) < _MESSAGE_BYTES:
                    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
                (port,) = struct.unpack_from("!H", body, 4)
                (number,) = struct.unpack_from("=I", body, 68)
                address = body[8 : 8 + (16 if family == socket.AF_INET6 else 4)]
                yield Listener(socket.inet_ntop(family, address), port, number)
                at += (length + 3) & ~3


def _ports_to_give() -> range:
    """From 20,000 to below the range the system picks from; if that leaves few, to 32,767 all the same."""
    try:
        lowest_picked = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        lowest_picked = _HIGHEST + 1
    if lowest_picked - _LOWEST < _FEWEST:
        return range(_LOWEST, _HIGHEST + 1)
    return range(_LOWEST, min(lowest_picked, _HIGHEST + 1))
