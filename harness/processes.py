"""Facts about the processes of this machine: who runs, who belongs to whom, and signals that cannot hit a stranger.

On Linux read from /proc; elsewhere from `ps`, which knows less (no environment, no working directory). A process
is named by its id and its start, because ids are used again. Must not: import anything but the standard library
(the reaper starts from here), or decide what is to be ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Process",
    "ancestors",
    "boot_id",
    "cpu_of_everybody",
    "cpu_seconds",
    "environment_of",
    "family",
    "is_frozen",
    "look",
    "machine_cpu",
    "owner_of",
    "program_of",
    "send",
    "snapshot",
    "titles_below",
    "tree",
    "waited_seconds",
    "working_directory_of",
]

_PROC = Path("/proc")
_ENDED = frozenset("ZXx")
_STOPPED = frozenset("Tt")
_MUCH = 1 << 20


class Process(NamedTuple):
    """One process as it was when looked at."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    """One letter, as in ps: R, S, D, T (stopped), Z (ended and not yet collected) …"""
    has_terminal: bool
    started: int
    """Clock ticks since boot on Linux, seconds since the epoch elsewhere: for comparing on one machine only."""

    @property
    def is_alive(self) -> bool:
        return self.state not in _ENDED

    @property
    def is_stopped(self) -> bool:
        return self.state in _STOPPED


def look(pid: int) -> Process | None:
    """This process now; None when there is none."""
    if not _has_proc():
        return _by_ps(("-p", str(pid))).get(pid)
    return _by_proc(pid)


def snapshot() -> dict[int, Process]:
    """Every process that can be seen, by id."""
    if not _has_proc():
        return _by_ps(("-ax",))
    with os.scandir(_PROC) as entries:
        seen = [_by_proc(int(entry.name)) for entry in entries if entry.name.isdecimal()]
    return {process.pid: process for process in seen if process is not None}


def family(
    leaders: Iterable[int], everyone: Mapping[int, Process], *, members: Iterable[int] = ()
) -> dict[int, Process]:
    """The living among these members, the groups and sessions of these leaders, and all descendants of those.

    A descendant counts wherever it moved to, as long as all between it and a member are there.
    """
    heads, wanted = set(leaders), set(members)
    found = {
        process.pid
        for process in everyone.values()
        if process.group in heads or process.session in heads or process.pid in heads or process.pid in wanted
    }
    children: dict[int, list[int]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process.pid)
    pending = list(found)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return {pid: everyone[pid] for pid in found if everyone[pid].is_alive}


def ancestors(pid: int, everyone: Mapping[int, Process]) -> set[int]:
    """This process and whoever started it, up to the first of all."""
    found: set[int] = set()
    while pid in everyone and pid not in found:
        found.add(pid)
        pid = everyone[pid].parent
    return found


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; false when it is gone, even if its id is in use again.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return False
        except OSError:  # a kernel without it: the look below is nearly as good
            handle = -1
        if handle >= 0:
            try:
                # Looked at after it was opened: what the handle holds cannot be replaced any more.
                if not _is_same(process, look(process.pid)):
                    return False
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                return False
            finally:
                os.close(handle)
            return True
    if not _is_same(process, look(process.pid)):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def environment_of(pid: int) -> Mapping[str, str]:
    """The environment a process was started with; empty when it may not be read or has been overwritten."""
    data = _read(_PROC / str(pid) / "environ", _MUCH)
    pairs = (entry.partition("=") for entry in data.decode("utf-8", "replace").split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def working_directory_of(pid: int) -> Path:
    """The folder a process is in, also when that was removed; the relative path "." when it may not be read."""
    try:
        return Path(str((_PROC / str(pid) / "cwd").readlink()).removesuffix(" (deleted)"))
    except OSError:
        return Path()


def is_frozen(pid: int) -> bool:
    """Whether every thread of a process is stopped; of the process as a whole where threads cannot be seen."""
    try:
        with os.scandir(_PROC / str(pid) / "task") as threads:
            states = [_by_proc(pid, thread=int(thread.name)) for thread in threads]
    except OSError:
        now = look(pid)
        return now is not None and now.is_stopped
    # A thread that ended in between is none that runs.
    return bool(states) and all(state is None or state.is_stopped or not state.is_alive for state in states)


def owner_of(pid: int) -> int | None:
    """The user a process runs as; None when that cannot be seen."""
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def program_of(pid: int) -> str:
    """The short name of the program a process runs, as ps shows it; empty when it cannot be read."""
    return _read(_PROC / str(pid) / "comm", 64).decode("utf-8", "replace").strip()


def titles_below(pid: int) -> dict[int, str]:
    """The processes this one started itself, each with its command line or the title it gave itself.

    Empty text for one that has just ended. Read straight from the kernel: asked often while a server is reloaded.
    """
    # Gone with the process, and absent from kernels built without it: then `ps` has the answer.
    with suppress(FileNotFoundError, ProcessLookupError):
        children = (_PROC / f"{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return {int(child): _title_of(int(child)) for child in children}
    rows = (line.split(None, 2) for line in _ask_ps(["-ax", "-o", "pid=,ppid=,command="]).splitlines())
    return {int(row[0]): row[2] for row in rows if len(row) == 3 and int(row[1]) == pid}


def _title_of(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def boot_id() -> str:
    """Names this boot of the machine, so that an id written before a reboot is not taken for a process of today."""
    return _read(_PROC / "sys/kernel/random/boot_id", 64).decode("ascii", "replace").strip()


def _is_same(process: Process, now: Process | None) -> bool:
    return now is not None and now.started == process.started and now.is_alive


def _has_proc() -> bool:
    return (_PROC / "self/stat").exists()


def _by_proc(pid: int, *, thread: int | None = None) -> Process | None:
    folder = _PROC / str(pid)
    data = _read((folder if thread is None else folder / "task" / str(thread)) / "stat", 4096)
    # The name of the program is in parentheses and may itself hold spaces and parentheses.
    fields = data[data.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return Process(
        pid=pid,
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        has_terminal=fields[4] != b"0",
        started=int(fields[19]),
    )


def _ask_ps(options: Sequence[str]) -> str:
    """What `ps` prints; nothing where there is none."""
    import subprocess  # costs as much as all the rest, and is not needed on Linux

    try:
        answer = subprocess.run(
            ["ps", *options],  # noqa: S607 - where `ps` is differs between systems
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return ""
    return answer.stdout


def _by_ps(which: tuple[str, ...]) -> dict[int, Process]:
    found: dict[int, Process] = {}
    for line in _ask_ps([*which, "-o", "pid=,ppid=,pgid=,stat=,tty=,lstart="]).splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6:
            continue
        try:
            started = int(time.mktime(time.strptime(fields[5].strip(), "%a %b %d %H:%M:%S %Y")))
            pid, parent, group = (int(field) for field in fields[:3])
        except ValueError:
            continue
        # ps knows sessions by an address only where this is used; the group is what our nodes lead as well.
        found[pid] = Process(
            pid=pid,
            parent=parent,
            group=group,
            session=group,
            state=fields[3][:1],
            has_terminal=not fields[4].startswith("?"),
            started=started,
        )
    return found


def _read(path: Path, size: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, size)
    except OSError:  # ended between opening and reading
        return b""
    finally:
        os.close(handle)


def tree(pid: int) -> list[int]:
    """This process and all below it, without looking at every process of the machine: asked every second.

    It alone where the kernel does not tell of children.
    """
    found = [pid]
    for each in found:
        for thread in _threads(each):
            children = _read(_PROC / str(each) / "task" / thread / "children", _MUCH)
            found.extend(int(child) for child in children.split())
    return found


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(_PROC / str(pid) / "task")  # noqa: PTH208 - names are all that is wanted
    except OSError:  # gone
        return []


def cpu_seconds(pids: Iterable[int]) -> float | None:
    """The processor time these processes have used, with that of children they have collected; those gone count as none.

    In seconds, to a hundredth. None where it cannot be seen (elsewhere than on Linux).
    """
    if not _has_proc():
        return None
    return sum(seconds for _, seconds in map(_used, pids))


def cpu_of_everybody() -> dict[tuple[int, int], float] | None:
    """The same of every process that can be seen: in seconds, by id and start, since ids are used again."""
    if not _has_proc():
        return None
    pids = (int(name) for name in os.listdir(_PROC) if name.isdecimal())  # noqa: PTH208 - names are all that is wanted
    return {(pid, started): seconds for pid, (started, seconds) in ((pid, _used(pid)) for pid in pids)}


def _used(pid: int) -> tuple[int, float]:
    """When it was started, and the processor time it has used since; zeros where it is gone."""
    data = _read(_PROC / str(pid) / "stat", 4096)
    fields = data[data.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return 0, 0.0
    # utime, stime, cutime, cstime of proc(5).
    return int(fields[19]), sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pids: Iterable[int]) -> dict[int, float] | None:
    """How long each thread of these processes stood ready and was given no core, since it began; those gone are left out.

    In seconds, by thread id. None where no thread of them is seen to tell: elsewhere than on Linux, or by a kernel without
    statistics of its scheduler. Source: the second field of /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats).
    """
    found: dict[int, float] = {}
    for pid in pids:
        for thread in _threads(pid):
            fields = _read(_PROC / str(pid) / "task" / thread / "schedstat", 128).split()
            if len(fields) == 3:
                found[int(thread)] = int(fields[1]) / 1e9
    return found or None


def machine_cpu() -> tuple[float, float] | None:
    """The processor time of this machine since its boot: busy, and all there was. In seconds, of all cores together.

    None where it cannot be seen.
    """
    first = _read(_PROC / "stat", 4096).partition(b"\n")[0].split()
    if first[:1] != [b"cpu"]:
        return None
    # Guests are counted with those who run them; waiting for a disk is not being busy.
    user, nice, system, idle, waiting, *interrupts = (int(field) for field in first[1:9])
    busy = user + nice + system + sum(interrupts)
    tick = os.sysconf("SC_CLK_TCK")
    return busy / tick, (busy + idle + waiting) / tick
