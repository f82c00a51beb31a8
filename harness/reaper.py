"""The end of a run whose harness is gone: ends what it started and removes its private folder.

`Workspace` starts `python -m harness.reaper` beside every run. It waits on a pipe whose other end only the harness
holds: a goodbye means all was put away, a closed pipe without one means the harness was killed. The same clean-up
is used when a run ends well, and by `sweep` for runs that lost their reaper too.

Whose a process is, is found out in five ways, because no one of them is enough: the list of leases, the groups and
sessions these lead, their descendants, the mark in the environment (a process started a moment before its lease
was written, or that made a session of its own), and a working folder inside the run's private folder (servers that
write over their environment). What a run made on a container engine is found there by its labels.

Must not: import anything but the standard library and the lowest floor (it starts beside every run), touch a process
that is not the run's, or remove results.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

from harness import clock, processes
from harness.processes import Process

__all__ = [
    "GOODBYE",
    "RUN_MARK",
    "SCRATCH_MARK",
    "SCRATCH_PREFIX",
    "CleanedUp",
    "Lease",
    "Owed",
    "Record",
    "clean_up",
    "main",
    "read_record",
]

GOODBYE = b"goodbye\n"
RUN_MARK = "HARNESS_RUN"
"""In the environment of what a run starts: its id, unique among the living runs of one user."""
SCRATCH_MARK = "HARNESS_SCRATCH"
"""As well: its private folder, unique on the machine also when two users run the same seed in the same minute."""
SCRATCH_PREFIX = "hv-"

_LOG_LIMIT_BYTES = 256 * 1024
_CLEAN_UP_SECONDS = 10.0
_BETWEEN_LOOKS_SECONDS = 0.02
_LAST_BREATH_SECONDS = 1.0
_PARENT_LOOK_SECONDS = 0.25
_ENGINE_SETTLES_SECONDS = 1.0


class Lease(NamedTuple):
    """One process the run started, which leads a session of its own."""

    name: str
    pid: int
    started: int
    returned: bool = False
    """It and its whole family were seen to be gone: its id means nothing any more."""


class Owed(NamedTuple):
    """What makes good what a run did to a node of somebody else."""

    name: str
    argv: tuple[str, ...]
    within_seconds: float


class Record(NamedTuple):
    """What is written on disk about a run: all one has to know to put it away."""

    path: Path
    run: str
    pid: int
    started: int
    boot: str
    began: float
    """Seconds since the epoch."""
    scratch: Path
    results: Path
    leases: tuple[Lease, ...]
    engines: tuple[str, ...] = ()
    """Where the container engines are that the run used."""
    borrowed: tuple[Mapping[str, Any], ...] = ()
    """Containers of somebody else that the run broke for a while: what `engine.Borrowed` says of each."""
    owed: tuple[Owed, ...] = ()
    """What the run did to nodes of somebody else and has not undone."""
    hooks: tuple[Lease, ...] = ()
    """Commands of somebody else's that were begun, and may be at it yet."""


class CleanedUp(NamedTuple):
    """What a clean-up did."""

    killed: tuple[str, ...]
    """Names of nodes, or of programs where they have none."""
    problems: tuple[str, ...]
    """What could not be ended or removed, and why."""

    def __str__(self) -> str:
        """For example `ended nginx (3 processes), app-1; removed its folder`."""
        counts: dict[str, int] = {}
        for name in self.killed:
            counts[name] = counts.get(name, 0) + 1
        names = (name if count == 1 else f"{name} ({count} processes)" for name, count in counts.items())
        ended = f"ended {', '.join(names)}" if counts else "no process was left"
        return f"{ended}; {'; '.join(self.problems) or 'removed its folder'}"


def read_record(path: Path) -> Record | None:
    """The record at this path; None when there is none, or its first line is not written yet.

    A last line that was cut by a kill is left out.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return None
    facts: list[dict[str, Any]] = []
    for line in lines:
        with suppress(ValueError):
            facts.append(json.loads(line))
    if not facts or facts[0].get("t") != "run":
        return None
    leases: dict[int, Lease] = {}
    engines: list[str] = []
    borrowed: list[Mapping[str, Any]] = []
    owed: dict[tuple[str, str], Owed] = {}
    hooks: list[Lease] = []
    for fact in facts[1:]:
        if fact["t"] == "lease":
            leases[fact["pid"]] = Lease(fact["name"], fact["pid"], fact["started"])
        elif fact["t"] == "returned" and fact["pid"] in leases:
            leases[fact["pid"]] = leases[fact["pid"]]._replace(returned=True)
        elif fact["t"] == "engine":
            engines.append(fact["url"])
        elif fact["t"] == "borrowed":
            borrowed.append({key: value for key, value in fact.items() if key != "t"})
        elif fact["t"] == "owed":
            owed[fact["name"], fact["what"]] = Owed(fact["name"], tuple(fact["argv"]), fact["within_seconds"])
        elif fact["t"] == "hook":
            hooks.append(Lease(fact["name"], fact["pid"], fact["started"]))
        elif fact["t"] == "settled":
            owed.pop((fact["name"], fact["what"]), None)
    head = facts[0]
    return Record(
        path=path,
        run=head["run"],
        pid=head["pid"],
        started=head["started"],
        boot=head["boot"],
        began=head["began"],
        scratch=Path(head["scratch"]),
        results=Path(head["results"]),
        leases=tuple(leases.values()),
        engines=tuple(engines),
        borrowed=tuple(borrowed),
        owed=tuple(owed.values()),
        hooks=tuple(hooks),
    )


def clean_up(
    record: Record,
    *,
    trust_old_groups: bool,
    harness_was_killed: bool = True,
    within_seconds: float = _CLEAN_UP_SECONDS,
) -> CleanedUp:
    """Kill every process of a run and remove its containers; when none is left remove its private folder.

    What goes wrong is reported.

    `trust_old_groups`: whether a group whose leader has ended is still the run's. True right after the harness
    ended; hours later the number may have been given to somebody else's group, and the other ways must do.
    `harness_was_killed`: a container engine may still be at what it was told, so what it has is looked at longer.
    The leases are read again at each turn, because the harness may have written the last one as it died.
    """
    killed: dict[int, str] = {}
    problems: dict[int, str] = {}
    end = clock.now() + within_seconds
    left: Mapping[int, Process] = {}
    # A record of an earlier boot has only a folder left to remove. Two looks must find nobody, because a process
    # between fork and exec shows none of the signs.
    looks_to_go = 2 if record.boot == processes.boot_id() else 0
    pause = 0.001
    while looks_to_go:
        record = read_record(record.path) or record
        left = _belonging(record, trust_old_groups=trust_old_groups)
        if clock.now() > end:
            break
        if left:
            looks_to_go = 2
            for process in left.values():
                name = killed.setdefault(process.pid, _name_of(process, record))
                try:
                    _kill(process, record)
                except PermissionError:
                    problems[process.pid] = f"{name} (pid {process.pid}) runs as another user and could not be ended"
            clock.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            looks_to_go -= 1
            if looks_to_go:
                clock.sleep(_BETWEEN_LOOKS_SECONDS)
    for process in left.values():
        problems.setdefault(process.pid, f"{killed.get(process.pid)} (pid {process.pid}) could not be ended")
    # Who is gone is no problem any more, whatever the first attempt said.
    stuck = [problems[pid] for pid in left]
    _remove_shared_memory({lease.pid for lease in record.leases} | set(killed), since=record.began)
    if not stuck:
        stuck += _remove_scratch(record.scratch)
    with suppress(OSError):  # not empty: then it holds results, and these are never removed
        record.results.rmdir()
    removed: list[str] = []
    for url in record.engines:
        from harness import engine  # most runs have no containers

        settle = _ENGINE_SETTLES_SECONDS if harness_was_killed else 0.0
        done = engine.remove_run(record.run, url=url, scratch=record.scratch.name, settle_seconds=settle)
        removed += done.names
        stuck += done.problems
    if record.borrowed and harness_was_killed:
        from harness import engine

        # Long after, it may be at rest because somebody wants that.
        told = (engine.give_back(engine.Borrowed(**each), start=trust_old_groups) for each in record.borrowed)
        stuck += [problem for problem in told if problem is not None]
    # Long after, it may be at rest because somebody wants that.
    if record.owed and harness_was_killed and trust_old_groups:
        _let_end(record.hooks, within_seconds=max(each.within_seconds for each in record.owed))
        stuck += _settle(record.owed)
    return CleanedUp((*killed.values(), *removed), tuple(stuck))


def _let_end(hooks: Collection[Lease], *, within_seconds: float) -> None:
    """Wait until commands that were begun have ended: half a stop undone is no start. Those that take longer are killed."""
    end = clock.now() + within_seconds
    for each in hooks:
        while (now := processes.look(each.pid)) is not None and now.is_alive and now.started == each.started:
            if clock.now() > end:
                with suppress(ProcessLookupError):
                    os.killpg(each.pid, SIGKILL)
                break
            clock.sleep(_BETWEEN_LOOKS_SECONDS)


def _settle(owed: Collection[Owed]) -> list[str]:
    """Run what makes good what was done to nodes of somebody else, side by side. Returns what went wrong."""
    import subprocess  # only needed where a site of somebody else was broken

    problems: list[str] = []
    running: list[tuple[Owed, subprocess.Popen[bytes]]] = []
    for each in owed:
        try:
            running.append(
                (
                    each,
                    subprocess.Popen(
                        each.argv,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    ),
                )
            )
        except OSError as problem:
            problems.append(f"{each.name} could not be given back as it was ({problem.strerror})")
    for each, process in running:
        try:
            code = process.wait(each.within_seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)
            process.wait()
            problems.append(f"{each.name} could not be given back as it was (no end within {each.within_seconds:g} s)")
        else:
            if code != 0:
                problems.append(f"{each.name} could not be given back as it was (its hook ended with exit code {code})")
    return problems


def _name_of(process: Process, record: Record) -> str:
    names = {lease.pid: lease.name for lease in record.leases}
    return (
        names.get(process.pid)
        or names.get(process.group)
        or names.get(process.session)
        or processes.program_of(process.pid)
    )


def _kill(process: Process, record: Record) -> None:
    """SIGKILL; to the whole group at once if it leads one of ours: no member can fork faster than that."""
    if process.pid == process.group and any(lease.pid == process.pid for lease in record.leases):
        with suppress(ProcessLookupError):
            os.killpg(process.group, SIGKILL)
    else:
        processes.send(process, SIGKILL)


def _belonging(record: Record, *, trust_old_groups: bool) -> dict[int, Process]:
    everyone = processes.snapshot()
    leaders = set()
    for lease in record.leases:
        now = everyone.get(lease.pid)
        # The kernel gives nobody the number of a group that still has members: if the leader is another one now,
        # the group of old is empty.
        if not lease.returned and (trust_old_groups if now is None else now.started == lease.started):
            leaders.add(lease.pid)
    us = processes.ancestors(os.getpid(), everyone) | {record.pid}
    # What is older than its harness was not started by it.
    candidates = {pid: each for pid, each in everyone.items() if each.started >= record.started and pid not in us}
    marked = [pid for pid, each in candidates.items() if each.is_alive and _is_marked(each, record)]
    return processes.family(leaders, candidates, members=marked)


def _is_marked(process: Process, record: Record) -> bool:
    environment = processes.environment_of(process.pid)
    folder = environment.get(SCRATCH_MARK)
    if folder is not None:
        # Ids of runs repeat where two have records of their own; their folders never do.
        return folder == str(record.scratch)
    if environment.get(RUN_MARK) == record.run and processes.owner_of(process.pid) == os.geteuid():
        return True
    # Somebody who looks into a run with a shell is spared: nodes have no terminal.
    return not process.has_terminal and processes.working_directory_of(process.pid).is_relative_to(record.scratch)


def _remove_shared_memory(pids: Collection[int], *, since: float) -> None:
    """Remove System V segments that these processes made and nobody uses: a killed Postgres leaves one."""
    try:
        names, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text("ascii").splitlines())
    except (OSError, ValueError):  # not Linux, or none
        return
    for row in rows:
        segment = dict(zip(names, row, strict=False))
        if int(segment["cpid"]) in pids and segment["nattch"] == "0" and int(segment["ctime"]) >= int(since):
            import ctypes  # rarely needed, and slow to load

            ctypes.CDLL(None).shmctl(int(segment["shmid"]), 0, None)  # 0 is IPC_RMID


def _remove_scratch(scratch: Path) -> list[str]:
    """Remove a run's private folder; returns what kept it. What does not look like one is left alone."""
    try:
        seen = scratch.lstat()
    except OSError:
        return []
    if (
        scratch.is_symlink()
        or not scratch.is_dir()
        or not scratch.name.startswith(SCRATCH_PREFIX)
        or seen.st_uid != os.geteuid()
    ):
        return [f"{scratch} does not look like the private folder of a run and was left"]
    import shutil  # only needed at the very end, and slow to load

    shutil.rmtree(scratch, ignore_errors=True)
    if scratch.exists():
        _allow_writing(scratch)
        try:
            shutil.rmtree(scratch)
        except OSError as problem:
            return [f"{scratch} could not be removed: {problem}"]
    return []


def _allow_writing(folder: Path) -> None:
    """A node may have made folders that it forbade even its own user to write to."""
    with suppress(OSError):
        folder.chmod(0o700)
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                _allow_writing(each)


# -- the process of its own ------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Wait for the end of a harness and put away what it left. Arguments: the record's path, the harness's id."""
    path, harness = Path(arguments[0]), int(arguments[1])
    # Whoever ends everything (a terminal, a supervisor) is not obeyed: we end by ourselves right after the harness.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # over before we were up
        return 0
    # Shared with the harness and kept to our end. `sweep` needs it alone, so it leaves this run to us.
    fcntl.flock(lock, fcntl.LOCK_SH)
    if _said_goodbye(harness):
        return 0
    noticed = clock.now()
    record = read_record(path)
    # Put away by somebody else meanwhile; perhaps there is a new run of the same name.
    if record is None or os.fstat(lock).st_nlink == 0:
        return 0
    done = clean_up(record, trust_old_groups=True)
    if not done.problems:
        path.unlink(missing_ok=True)
    _note(path, f"run {record.run}: harness {harness} is gone; {done}; took {clock.now() - noticed:.3f} s")
    return 0


def _said_goodbye(harness: int) -> bool:
    """Block until the harness says goodbye (true) or is gone (false)."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    watch = -1
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        with suppress(OSError):
            watch = os.pidfd_open(harness)
            poll.register(watch, select.POLLIN)
    heard = b""
    gone_since: float | None = None
    while GOODBYE not in heard:
        # A child that the harness forked without exec may hold the pipe for ever, so the harness itself is watched
        # too. But one that is about to become a node holds it for a moment: to wait means to find it by its marks.
        if gone_since is None and os.getppid() != harness:
            gone_since = clock.now()
            if watch >= 0:
                poll.unregister(watch)
        if gone_since is not None and clock.now() - gone_since > _LAST_BREATH_SECONDS:
            return False
        is_told = watch >= 0 and gone_since is None
        for handle, _ in poll.poll(None if is_told else _PARENT_LOOK_SECONDS * 1000):
            if handle == 0:
                part = os.read(0, 64)
                if not part:
                    return False
                heard += part
    return True


def _note(path: Path, words: str) -> None:
    """One line in a log beside the records, for whoever wonders where a run went."""
    log = path.parent.parent / "reaper.log"
    with suppress(OSError):
        is_long = log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES
        with log.open("w" if is_long else "a", encoding="utf-8") as file:
            file.write(f"{clock.wall():%Y-%m-%d %H:%M:%S} {words}\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
