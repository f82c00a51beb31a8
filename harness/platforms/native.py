"""Nodes as processes of this machine, each in a session of its own with one log file.

What a node starts itself belongs to it: it is killed and frozen with it, and a node that was stopped or killed is
gone with all of that, so its port is free. The run's record is told of every process, for the reaper.
Must not: use a shell, run code between fork and exec (nodes are started from several threads), or know what a node
is for.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from types import TracebackType
from typing import Self

from harness import clock, ports, processes
from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady, WaitTimeout
from harness.platforms import privileges
from harness.platforms.node import NodeSpec, log_in_words
from harness.platforms.privileges import Unprivileged
from harness.processes import Process
from harness.reaper import SCRATCH_MARK
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["NativeNode", "NativePlatform"]

NODE_MARK = "HARNESS_NODE"
_NOTHING: Mapping[str, str] = {}
_LOOK_EVERY_SECONDS = 0.005
_GONE_WITHIN_SECONDS = 10.0
_FROZEN_WITHIN_SECONDS = 5.0
_RUN_SECONDS = 10.0
_LOG_LINES = 10
_LOG_TAIL_BYTES = 16 * 1024
_LINE_LENGTH = 300
_ANY_ADDRESS = frozenset({"0.0.0.0", "::", "::ffff:0.0.0.0"})


class NativePlatform:
    """Runs nodes as processes. The workspace must outlive it. As a context manager it kills what runs at its end."""

    def __init__(self, workspace: Workspace, *, passed_on: Mapping[str, str] = _NOTHING) -> None:
        """`passed_on`: variables of the person's environment that every node gets; no other reaches a node."""
        self._workspace = workspace
        self._nodes: dict[str, NativeNode] = {}
        self._environment = (
            {"PATH": os.defpath, "LANG": "C.UTF-8"}
            | dict(passed_on)
            # Bytecode is the largest lever on the start of Python nodes: never passed on is the variable that
            # forbids to write it, and it goes to one place that is kept between runs.
            | {"TMPDIR": str(workspace.temp), "PYTHONPYCACHEPREFIX": str(workspace.cache / "pycache")}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every node that runs, and what nodes left that have ended. All are tried.

        Raises:
            ExceptionGroup: of NodeError, for each that could not be killed.
        """
        problems: list[NodeError] = []
        for node in self.nodes:
            try:
                node.kill()
            except NodeError as problem:
                problems.append(problem)
        if problems:
            raise ExceptionGroup("some nodes could not be killed", problems)

    @property
    def nodes(self) -> tuple[NativeNode, ...]:
        """In the order they were added."""
        return tuple(self._nodes.values())

    def add(self, spec: NodeSpec) -> NativeNode:
        """A node that can be started. Nothing is started yet.

        Raises:
            HarnessError: there is a node of this name.
        """
        if spec.name in self._nodes:
            raise HarnessError(f"there are two nodes named {spec.name}: names must differ")
        node = NativeNode(spec, workspace=self._workspace, environment=self._environment)
        self._nodes[spec.name] = node
        return node

    def check(self, spec: NodeSpec, *, what: str = "app.command") -> None:
        """See early that a node's command can be run at all.

        Raises:
            BadInput: it cannot; `what` is named as the key to mend.
        """
        mistake = _mistake_in(spec, self._environment | dict(spec.env))
        if mistake is not None:
            raise BadInput(f"{what}: {mistake}")


class NativeNode:
    """One process and all it starts. May be used from several threads."""

    def __init__(self, spec: NodeSpec, *, workspace: Workspace, environment: Mapping[str, str]) -> None:
        self._spec = spec
        self._workspace = workspace
        self._environment = environment
        self._changing = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_tick = 0
        self._began = 0.0
        self._ready_after: float | None = None
        self._log_begins = 0
        self._told_to_stop = False
        self._frozen = False
        self.was_killed = False
        """Whether the last `stop` had to kill it because it did not end in time."""
        self.leftovers_killed = 0
        """How many processes it had started were still there after the last `stop` when it had ended."""
        self.log_path = workspace.logs / f"{spec.name}.log"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<NativeNode {self.name}>"

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def spec(self) -> NodeSpec:
        return self._spec

    @property
    def pid(self) -> int | None:
        """Of the process that was started last; None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def start_seconds(self) -> float:
        """From its last start to its first readiness after it; 0 while it was not ready yet."""
        return self._ready_after or 0.0

    @property
    def exit_code(self) -> int | None:
        """Of its last end; negative for a signal. None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """One look: it runs, and says that it is ready."""
        return self.is_running() and bool(self._spec.is_ready())

    def is_hung(self) -> bool:
        """Whether every thread of all its processes is stopped."""
        if not self.is_running():
            return False
        family = self._family(thorough=False)
        return bool(family) and all(processes.is_frozen(pid) for pid in family)

    def last_log_lines(self, count: int = _LOG_LINES) -> list[str]:
        """The last lines it wrote since its last start. They may hold secrets: redact before showing."""
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_begins, size - _LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line[:_LINE_LENGTH] for line in text.rstrip().splitlines()[-count:]]

    # -- start ------------------------------------------------------------------------------------------------

    def start(self, spec: NodeSpec | None = None) -> None:
        """Start it, with another spec if one is given, and return at once. Output is added to the same log file.

        Raises:
            NodeError: it runs already, or the spec is of another node.
            NodeNeverReady: its command cannot be run, or somebody else listens on its port.
            MissingPrerequisite: it refuses to run as root and cannot be run otherwise.
        """
        with self._changing:
            if self.is_running():
                raise NodeError(f"{self.name} runs already (pid {self.pid}): stop it first")
            if spec is not None:
                if spec.name != self.name:
                    raise NodeError(f"{self.name} was given the spec of {spec.name}")
                self._spec = spec
            if self._process is not None:
                # It ended by itself: what it started may live on, and hold the port.
                self._end_family({})
            self._refuse_taken_port()
            self._began = clock.now()
            self._ready_after = None
            self._told_to_stop = self._frozen = False
            self._process = self._spawn()
            seen = processes.look(self._process.pid)
            self._started_tick = seen.started if seen else 0
            try:
                self._workspace.lease(self.name, self._process.pid)
            except HarnessError:
                self.kill()
                raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        spec = self._spec
        how = privileges.unprivileged() if spec.refuses_root else Unprivileged()
        environment = dict(self._environment) | dict(spec.env) | dict(self._workspace.marks) | {NODE_MARK: self.name}
        if how.owner is not None:
            environment["HOME"] = str(spec.directory)
            # Only what the harness made itself is given away, never a folder of the person.
            if spec.directory.resolve().is_relative_to(self._workspace.scratch):
                privileges.give_to_unprivileged(spec.directory)
        mistake = _mistake_in(spec, environment)
        if mistake is not None:
            raise NodeNeverReady(f"{self.name} cannot be started: {mistake}")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self.log_path, flags, 0o600)
        self._log_begins = os.fstat(log).st_size
        try:
            return subprocess.Popen(
                [*how.prefix, *spec.argv],
                cwd=spec.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **how.popen_rights(),
            )
        except OSError as problem:
            if spec.refuses_root:
                raise privileges.unstartable(spec.argv[0], directory=spec.directory, problem=problem) from problem
            raise NodeNeverReady(
                f"{self.name} cannot be started: {spec.argv[0]}: {problem.strerror}; correct its command"
            ) from problem
        except ValueError as problem:  # a null byte in an argument or a variable
            raise NodeNeverReady(f"{self.name} cannot be started: {problem}; correct its command or env") from problem
        finally:
            os.close(log)

    def wait_ready(self) -> None:
        """Return when it is ready.

        Raises:
            NodeError: it was not started.
            NodeNeverReady: it ended, was not ready in time, or somebody else answers on its port. Says what was
                seen, with the end of its log: redact before showing.
        """
        process, spec = self._process, self._spec
        if process is None:
            raise NodeError(f"{self.name} was not started")
        try:
            # An end first: what answers after it is not this node.
            wait_until(
                lambda: process.poll() is not None or spec.is_ready(),
                within_seconds=spec.ready_within_seconds,
                every_seconds=_LOOK_EVERY_SECONDS,
                because=f"{self.name} should be ready",
            )
        except WaitTimeout:
            raise NodeNeverReady(self._why_not_ready()) from None
        if process.poll() is not None:
            raise NodeNeverReady(self._why_ended(process))
        if self._ready_after is None:
            stranger = self._stranger_on_port()
            if stranger is not None:
                raise NodeNeverReady(
                    f"{self.name} did not get its port: {stranger}{log_in_words(self.last_log_lines())}"
                )
            self._ready_after = clock.now() - self._began

    # -- end --------------------------------------------------------------------------------------------------

    def signal(self, signal: Signals) -> None:
        """Send a signal to the process itself, not to what it started.

        Raises:
            NodeError: it does not run.
        """
        process = self._process
        if process is None or process.poll() is not None:
            raise NodeError(f"{self.name} does not run, so it cannot be sent {signal.name}")
        if signal == self._spec.stop_signal:
            self._told_to_stop = True
        process.send_signal(signal)

    def tell_to_stop(self) -> None:
        """Send its stop signal and return at once. Raises NodeError when it does not run."""
        self.signal(self._spec.stop_signal)

    def stop(self) -> int:
        """Ask it to end, wait its patience, then kill it and all it started. Returns the exit code.

        Its port is free on return. `was_killed` says whether it had to be killed. It is not asked twice: many
        servers take the second request for "at once". One that had ended before is only cleared up after.

        Raises:
            NodeError: it was never started, or could not even be killed.
        """
        process = self._process
        if process is None:
            raise NodeError(f"{self.name} was never started, so it cannot be stopped")
        self.was_killed = False
        # Before it ends: who started whom is forgotten with it.
        known = self._family()
        if process.poll() is None:
            if not self._told_to_stop:
                with suppress(NodeError):  # ended in this moment: as wanted
                    self.tell_to_stop()
            self.resume()
            # Not scaled by patience: how long an app may take to end is part of what is judged.
            self.was_killed = not _ends_within(process, self._spec.stop_within_seconds)
        self.leftovers_killed = self._end_family(known) - int(self.was_killed)
        return process.wait()

    def kill(self) -> None:
        """End it and all it started without warning; they are gone on return. Does nothing if it never ran.

        Raises:
            NodeError: it could not be killed.
        """
        with self._changing:
            if self._process is not None:
                self._end_family(self._family())
                self._process.wait()

    def _end_family(self, known: Mapping[int, Process]) -> int:
        """Kill all that is left of it until nobody is; returns how many these were."""
        process = self._process
        if process is None:
            return 0
        killed: set[int] = set()
        remembered = dict(known)

        def is_gone() -> bool:
            family = self._family(also=remembered)
            remembered.update(family)
            if process.pid in family:
                # The group at once: nobody in it can start another one meanwhile.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, SIGKILL)
            for each in family.values():
                killed.add(each.pid)
                processes.send(each, SIGKILL)
            return not family

        try:
            wait_until(
                is_gone, within_seconds=_GONE_WITHIN_SECONDS, every_seconds=0.001, because=f"{self.name} should be gone"
            )
        except (WaitTimeout, PermissionError) as problem:
            raise NodeError(f"{self.name} cannot be killed (pid {process.pid}): {problem}") from problem
        process.wait()
        self._workspace.returned(process.pid)
        return len(killed)

    # -- freeze -----------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """Freeze it and all it started; every thread is stopped on return.

        Raises:
            NodeError: it does not run, or could not be frozen.
        """
        if not self.is_running():
            raise NodeError(f"{self.name} does not run, so it cannot be frozen")
        self._frozen = True
        were_frozen = False

        def is_frozen() -> bool:
            # Twice: who is seen to be stopped starts nobody any more, so that the look after that misses nobody who was
            # started just before.
            nonlocal were_frozen
            family = self._family()
            for each in family.values():
                if not each.is_stopped:
                    processes.send(each, SIGSTOP)
            before, were_frozen = were_frozen, bool(family) and all(processes.is_frozen(pid) for pid in family)
            return before and were_frozen

        try:
            wait_until(
                is_frozen,
                within_seconds=_FROZEN_WITHIN_SECONDS,
                every_seconds=0.001,
                because=f"{self.name} should be frozen",
            )
        except (WaitTimeout, PermissionError) as problem:
            raise NodeError(f"{self.name} cannot be frozen (pid {self.pid}): {problem}") from problem

    def resume(self) -> None:
        """Let it go on; does nothing if it is not frozen or does not run.

        Raises:
            NodeError: it stays frozen.
        """
        process = self._process
        if process is None or not (self._frozen or self._leader_is_stopped()):
            return

        def goes_on() -> bool:
            stopped = [each for each in self._family().values() if each.is_stopped]
            for each in stopped:
                processes.send(each, SIGCONT)
            return not stopped

        try:
            wait_until(
                goes_on,
                within_seconds=_FROZEN_WITHIN_SECONDS,
                every_seconds=0.001,
                because=f"{self.name} should go on",
            )
        except (WaitTimeout, PermissionError) as problem:
            raise NodeError(f"{self.name} stays frozen (pid {process.pid}): {problem}") from problem
        self._frozen = False

    def _leader_is_stopped(self) -> bool:
        now = processes.look(self._process.pid) if self._process is not None else None
        return now is not None and now.is_stopped and now.started == self._started_tick

    # -- who belongs to it ------------------------------------------------------------------------------------

    def _family(self, *, also: Mapping[int, Process] | None = None, thorough: bool = True) -> dict[int, Process]:
        """The living processes of this node: its session, all descendants, and of `also` who is still there.

        `thorough`: also those that left the family altogether, by the mark in their environment.
        """
        if self._process is None:
            return {}
        pid = self._process.pid
        everyone = processes.snapshot()
        young = {each.pid: each for each in everyone.values() if each.started >= self._started_tick}
        members = {
            each.pid for each in (also or {}).values() if each.pid in young and young[each.pid].started == each.started
        }
        if thorough:
            members |= {each.pid for each in young.values() if each.is_alive and self._is_marked(each)}
        now = everyone.get(pid)
        # Its id may be used again once it was collected and its group is empty.
        is_ours = now is None or now.started == self._started_tick
        return processes.family([pid] if is_ours else [], young, members=members)

    def _is_marked(self, process: Process) -> bool:
        environment = processes.environment_of(process.pid)
        return environment.get(NODE_MARK) == self.name and environment.get(SCRATCH_MARK) == str(self._workspace.scratch)

    # -- what is asked of it from inside ----------------------------------------------------------------------

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a program in its folder and its environment: exit code and what it said.

        Raises:
            NodeError: it cannot be run, or does not end.
        """
        environment = dict(self._environment) | dict(self._spec.env) | dict(self._workspace.marks)
        try:
            ended = subprocess.run(
                argv,
                cwd=self._spec.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NodeError(f"{self.name}: {argv[0]} did not end within {_RUN_SECONDS:.0f} s") from None
        except OSError as problem:
            raise NodeError(f"{self.name}: {argv[0]} cannot be run: {problem.strerror}") from problem
        return ended.returncode, ended.stdout

    def cpu_seconds(self) -> float | None:
        """The processor time all its processes have used since its start; None where that cannot be seen."""
        return processes.cpu_seconds(self.pids()) if self._process is not None else None

    def pids(self) -> Sequence[int]:
        return processes.tree(self._process.pid) if self._process is not None else ()

    def processes(self) -> Mapping[int, str]:
        """Its process and what that started itself: id to command line, or the title it gave itself."""
        return processes.titles_below(self._process.pid) if self._process is not None else {}

    def write_file(self, path: str, content: bytes) -> None:
        """Put a file into its folder, or under an absolute path, in one step: nobody reads half of it."""
        target = self._spec.directory / path
        new = target.with_name(f"{target.name}.new")
        new.write_bytes(content)
        new.replace(target)

    # -- words for what went wrong ----------------------------------------------------------------------------

    def _refuse_taken_port(self) -> None:
        host, port = self._spec.host, self._spec.port
        try:
            if ports.is_free(host, port):
                return
        except OSError as problem:
            raise NodeNeverReady(f"{self.name} cannot have {host}:{port}: {problem}") from problem
        # Without a listener it is only what lingers of old connections; most servers do not mind.
        if any(each.port == port and _is_at(each, host) for each in ports.listeners()):
            raise NodeNeverReady(
                f"{self.name} cannot be started: {self._holder_of_port(ports.who_listens(port))}; "
                "end that, or give it another port"
            )

    def _stranger_on_port(self) -> str | None:
        """Who else answers on the port of this node, if that is sure: it was there before."""
        there = {each.socket for each in ports.listeners() if each.port == self._spec.port}
        # Nearly always the process itself listens, and all it started need not be looked for.
        if not there or self._process is None or there & ports.sockets_of([self._process.pid]):
            return None
        if there & ports.sockets_of(self._family()):
            return None
        for pid in ports.who_listens(self._spec.port):
            owner = processes.look(pid)
            # A younger one may serve for it in a way we cannot see (a container's port, say).
            if owner is not None and owner.started < self._started_tick:
                return f"{self._holder_of_port((pid,))}; end that, or give the node another port"
        return None

    def _holder_of_port(self, pids: tuple[int, ...]) -> str:
        by = f" by {processes.program_of(pids[0])} (pid {pids[0]})" if pids else " by a process of somebody else"
        return f"port {self._spec.port} on {self._spec.host} is taken{by}"

    def _why_ended(self, process: subprocess.Popen[bytes]) -> str:
        code, seconds = process.returncode, clock.now() - self._began
        how = f"exit code {code}" if code >= 0 else f"by {_name_of_signal(-code)}"
        holders = [pid for pid in ports.who_listens(self._spec.port) if pid not in self._family()]
        if holders:
            remedy = f"{self._holder_of_port(tuple(holders))}, so end that, or give it another port"
        else:
            remedy = "correct its command (app.command), or what it needs at its start"
        return f"{self.name} ended before it was ready ({how}, after {seconds:.1f} s): {remedy}{log_in_words(self.last_log_lines())}"

    def _why_not_ready(self) -> str:
        spec = self._spec
        limit = f"{spec.ready_within_seconds * patience():g} s"
        mine = ports.sockets_of(self._family())
        own = [each for each in ports.listeners() if each.socket in mine]
        if any(each.port == spec.port and _is_at(each, spec.host) for each in own):
            seen = (
                f"it listens on {spec.host}:{spec.port}, but its readiness check never said yes: "
                "correct app.ready (app.health) or app.healthy, or raise app.ready_within_seconds"
            )
        elif own:
            where = ", ".join(str(each) for each in own)
            seen = (
                f"it listens on {where} instead of {spec.host}:{spec.port}: use {{host}} and {{port}} in its "
                "command (app.command)"
            )
        elif ports.listeners() or Path("/proc/net/tcp").exists():
            seen = (
                f"it runs (pid {self.pid}) and listens on no port: let its command (app.command) listen on "
                "{host}:{port}, or raise app.ready_within_seconds if it needs longer"
            )
        else:
            seen = "it runs: let its command (app.command) listen on {host}:{port}, or raise app.ready_within_seconds"
        return f"{self.name} was not ready within {limit}: {seen}{log_in_words(self.last_log_lines())}"


def _is_at(listener: ports.Listener, host: str) -> bool:
    return listener.host in _ANY_ADDRESS or listener.host.removeprefix("::ffff:") == host


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for an end without asking again and again, so that its moment is known exactly."""
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        with suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                # Only if it was not collected before can the handle be nobody else's.
                if process.poll() is None:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(seconds * 1000)
                return process.poll() is not None
            finally:
                os.close(handle)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _mistake_in(spec: NodeSpec, environment: Mapping[str, str]) -> str | None:
    """Why a command cannot be run, with what was seen and what to do; None when nothing speaks against it."""
    if not spec.argv or not spec.argv[0]:
        return "the command is empty: name a program"
    if not spec.directory.is_dir():
        return f"its working folder {spec.directory} does not exist: correct app.directory"
    program, path = spec.argv[0], environment.get("PATH", os.defpath)
    if os.sep not in program:
        if shutil.which(program, path=path) is None:
            return f"there is no program {program!r} (looked in {path}): install it, or name it with its full path"
        return None
    # Relative to the working folder, because the node is there when it is looked for.
    file = spec.directory / program
    try:
        mode = file.stat().st_mode
    except OSError as problem:
        return f"there is no program {file} ({problem.strerror}): build it, or correct its path"
    if not stat.S_ISREG(mode):
        return f"{file} is a folder, not a program: correct its path"
    if not os.access(file, os.X_OK):
        return f"{file} is not executable (mode {stat.S_IMODE(mode):04o}): chmod +x it"
    interpreter = _interpreter_of(file)
    if interpreter is not None and not Path(interpreter).exists():
        return f"{file} wants {interpreter}, which does not exist: correct its first line, or install that"
    return None


def _interpreter_of(file: Path) -> str | None:
    """What a script names in its first line."""
    try:
        with file.open("rb") as opened:
            head = opened.read(256)
    except OSError:  # executable and not readable is allowed
        return None
    if not head.startswith(b"#!"):
        return None
    words = head[2:].split(b"\n", 1)[0].split()
    return os.fsdecode(words[0]) if words else None
