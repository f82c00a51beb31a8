"""Nodes that run somewhere else: asked at their addresses, and broken and mended by their owner's own commands.

A hook is a program and its arguments, run on this machine within a time limit. What a hook does that must not last is
written down before it is done, with the hook that undoes it, so that whoever puts a dead run away can make it good.
Must not: use a shell, do anything to a node for which no hook was given, or take a hook's word where a look can tell.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals
from types import MappingProxyType
from typing import IO

from harness import clock
from harness.errors import NodeError, NodeNeverReady, WaitTimeout
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["RemoteNode", "RemoteSpec", "said", "succeeds"]

_LOOK_EVERY_SECONDS = 0.01
_ASK_EVERY_SECONDS = 0.1
_HOOK_EVERY_SECONDS = 0.5
"""A hook that tells whether a node is ready is a program of its own, often on another machine."""
_CONNECT_SECONDS = 1.0
_EFFECT_WITHIN_SECONDS = 10.0
"""A machine far away may take its time after its hook has ended."""
_BACK_WITHIN_SECONDS = 60.0
_LOG_LINES = 10
_MOST_SAID_BYTES = 16 << 20
_NO_HOOKS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSpec:
    """Where a node is, and how to tell that it is ready."""

    name: str
    host: str
    port: int
    """With `host`: where it can be asked; 0: it cannot."""
    is_ready: Callable[[], bool]
    ready_within_seconds: float = 30.0
    stop_signal: Signals | None = SIGTERM
    stop_within_seconds: float = 10.0
    hooks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_HOOKS)
    """What may be done to it: `stop`, `start`, `kill`, `pause`, `resume`, `deploy`, `revert`."""
    hook_seconds: float = 60.0
    restarts: bool = False
    """Whether it is started again by somebody else when it was killed."""


class RemoteNode:
    """A node that was there before us, and stays when we are gone."""

    def __init__(self, spec: RemoteSpec, *, next_spec: RemoteSpec | None, workspace: Workspace) -> None:
        """`next_spec`: what it is run as after its `deploy`."""
        self._first = self._spec = spec
        self._next = next_spec
        self._workspace = workspace
        self._known = False
        """Whether it was looked at once."""
        self._runs = True
        self._frozen = False
        self._proof = ""
        self._back_since: float | None = None
        self._start_seconds = 0.0
        self._began = clock.now()
        self._watching: threading.Thread | None = None
        self._over = threading.Event()
        self._log_path = workspace.logs / f"{spec.name}.log"

    def __repr__(self) -> str:
        return f"<RemoteNode {self.name}>"

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def spec(self) -> RemoteSpec:
        return self._spec

    @property
    def log_path(self) -> Path:
        """What its hooks said."""
        return self._log_path

    @property
    def start_seconds(self) -> float:
        return self._start_seconds

    @property
    def exit_code(self) -> int | None:
        """Not known: nobody here sees how it ends."""
        return None

    @property
    def proof(self) -> str:
        """How the last thing that was done to it was seen to have taken effect, in words."""
        return self._proof

    @property
    def back_since(self) -> float | None:
        """When it was seen to be ready again after a kill, without our help; None while it is away, or where we start it."""
        return self._back_since

    def is_running(self) -> bool:
        """As far as is known: whether nothing was done to it that it has not come back from."""
        return self._runs

    def is_ready(self) -> bool:
        return self._runs and not self._frozen and self._spec.is_ready()

    def last_log_lines(self, count: int = _LOG_LINES) -> list[str]:
        """The last lines its hooks wrote. They may hold secrets: redact before showing."""
        with suppress(OSError):
            return self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        return []

    # -- its life ---------------------------------------------------------------------------------------------

    def start(self, spec: RemoteSpec | None = None) -> None:
        """The first time nothing: it runs already. Later by its hook; not where it comes back by itself.

        Raises:
            NodeError: the hook fails, or there is none.
        """
        self._began = clock.now()
        if not self._known:
            self._known = True
            return
        if spec is not None and spec is not self._spec:
            self.replace(spec, on_stopped=lambda _: None)
            self._runs = True
            return
        if self._runs:
            return
        if self._watching is not None:
            return  # somebody else starts it, and it is watched until it is there
        self._run("start")
        self._runs = True
        self._workspace.settled(self.name, what="start")

    def wait_ready(self) -> None:
        """Return when it is ready. Raises NodeNeverReady."""
        watching = self._watching
        if watching is not None:
            watching.join()
            self._watching = None
            if not self._runs:
                raise NodeNeverReady(
                    f"{self.name} was killed and did not come back by itself within {_BACK_WITHIN_SECONDS * patience():g} s: "
                    "see what should start it again (systemd: Restart=), or say restarts = false and give a start hook"
                )
        at_hooks = self._spec.port == 0
        try:
            wait_until(
                self.is_ready,
                within_seconds=self._spec.ready_within_seconds * patience(),
                every_seconds=_HOOK_EVERY_SECONDS if at_hooks else _ASK_EVERY_SECONDS,
                because=f"{self.name} should be ready",
            )
        except WaitTimeout:
            where = f" at {self._spec.host}:{self._spec.port}" if not at_hooks else ""
            said = " / ".join(self.last_log_lines(2))
            raise NodeNeverReady(
                f"{self.name} does not say{where} that it is ready, after {self._spec.ready_within_seconds:g} s: start it, or "
                "correct its address and app.ready or app.health" + (f" (its hooks said: {said})" if said else "")
            ) from None
        self._start_seconds = clock.now() - self._began

    def signal(self, signal: Signals) -> None:
        raise NodeError(f"{self.name} runs somewhere else, and cannot be sent {signal.name}")

    def tell_to_stop(self) -> None:
        raise NodeError(
            f"{self.name} runs somewhere else: it is stopped by its hook, which returns when it has stopped"
        )

    def stop(self) -> int:
        """Stop it by its hook. Returns the exit code of that.

        Raises:
            NodeError: the hook fails, or it still accepts connections afterwards.
        """
        self._owe("stop", by="start")
        self._runs = False  # also when the hook fails: it may have done half of it
        self._run("stop")
        self._wait_gone("stop")
        self._back_since = None
        return 0

    def kill(self) -> None:
        """End it by its hook; it is gone on return, or was and is back by itself.

        Raises:
            NodeError: the hook fails, or it was never seen to be gone.
        """
        if not self._runs:
            return
        if not self._spec.restarts:
            self._owe("kill", by="start")
            self._runs = False  # also when the hook fails: it may have done half of it
            self._run("kill")
            self._wait_gone("kill")
            self._back_since = None
            return
        self._back_since = None
        gone = threading.Event()
        self._over.clear()
        watching = threading.Thread(target=self._watch, args=(gone,), name=f"watch-{self.name}", daemon=True)
        if self._spec.port:
            watching.start()  # before it is killed: it may be back within milliseconds
        try:
            self._run("kill")
        except NodeError:
            self._over.set()
            self._runs = self._spec.is_ready()  # it may have done half of it
            raise
        self._watching = watching
        if not self._spec.port:
            self._proof = f"its hook ended well ({self._told('kill')})"
            self._runs = False
            watching.start()
            return
        if not gone.wait(_EFFECT_WITHIN_SECONDS * patience()):
            self._over.set()
            self._watching = None
            raise NodeError(f"{self.name} was killed by its hook, and was never seen to refuse a connection")
        self._proof = f"it accepted no connections any more ({self._told('kill')})"

    def replace(self, spec: RemoteSpec, *, on_stopped: Callable[[str], None]) -> None:
        """Deploy the new version, or the one of before, by its hook, and return when that has ended.

        Without a hook that reverts, what was deployed is what it is run as from now on.

        Raises:
            NodeNeverReady: its owner's deploy fails, which is the setup's own doing.
            NodeError: there is no hook.
        """
        if spec is self._next:
            if "revert" in self._spec.hooks:
                self._owe("deploy", by="revert")
                self._spec = spec
            try:
                self._run("deploy")
            except NodeError as problem:
                raise NodeNeverReady(str(problem)) from problem
        else:
            self._run("revert")
            self._spec = spec
            self._workspace.settled(self.name, what="revert")
        on_stopped(self.name)

    # -- freeze -----------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """Freeze it by its hook. Raises NodeError: the hook fails, or it still answers."""
        self._owe("pause", by="resume")
        self._frozen = True  # also when the hook fails: it may have done half of it
        self._run("pause")
        if self._spec.port:
            _see(
                lambda: not self._spec.is_ready(),
                because=f"{self.name} was frozen by its hook and should answer nothing",
            )
        self._proof = f"it answers nothing any more ({self._told('pause')})"

    def resume(self) -> None:
        """Let it go on; does nothing if it is not frozen. Raises NodeError: the hook fails."""
        if self._frozen:
            self._run("resume")
            self._frozen = False
            self._workspace.settled(self.name, what="resume")

    def is_hung(self) -> bool:
        return self._frozen

    # -- how --------------------------------------------------------------------------------------------------

    def _owe(self, hook: str, *, by: str) -> None:
        undo = self._spec.hooks.get(by)
        if undo is None:
            raise NodeError(f"{self.name} has no {by} hook, so that its {hook} could not be undone")
        self._workspace.owes(self.name, undo, what=by, within_seconds=self._spec.hook_seconds)

    def _told(self, hook: str) -> str:
        return f"by {_shown(self._spec.hooks[hook])}"

    def _run(self, hook: str) -> None:
        """Run a hook to its end. Raises NodeError: there is none, it cannot be run, takes too long, or fails."""
        argv = self._spec.hooks.get(hook)
        if argv is None:
            raise NodeError(f"{self.name} has no {hook} hook: remote.{hook} gives one")
        told = f"the {hook} hook of {self.name} ({_shown(argv)})"
        code = run_hook(
            argv, told=told, log_path=self._log_path, within_seconds=self._spec.hook_seconds, workspace=self._workspace
        )
        if code != 0:
            said = " / ".join(self.last_log_lines(3)) or "nothing"
            raise NodeError(f"{told} ended with exit code {code}, and said: {said}")

    def _wait_gone(self, hook: str) -> None:
        if not self._spec.port:
            self._proof = f"its hook ended well ({self._told(hook)})"
            return
        _see(lambda: not self._accepts(), because=f"after its {hook} hook {self.name} should accept no connections")
        self._proof = f"it accepts no connections any more ({self._told(hook)})"

    def _accepts(self) -> bool:
        """Whether anybody is there. Who forwards a port (docker, `ssh -L`) accepts for nobody as well, and closes at once."""
        try:
            connection = socket.create_connection((self._spec.host, self._spec.port), timeout=_CONNECT_SECONDS)
        except OSError:
            return False
        with connection:
            try:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.recv(1) != b""
            except TimeoutError:
                return True
            except OSError:
                return False

    def _watch(self, gone: threading.Event) -> None:
        """See it go, and see it come back by itself."""
        end = clock.now() + _BACK_WITHIN_SECONDS * patience()
        if self._spec.port:
            while self._accepts():
                if self._over.wait(_LOOK_EVERY_SECONDS) or clock.now() > end:
                    return
            self._runs = False
            gone.set()
        pause = _LOOK_EVERY_SECONDS if self._spec.port else _HOOK_EVERY_SECONDS
        while clock.now() < end and not self._over.wait(pause):
            if self._spec.is_ready():
                self._back_since = clock.now()
                self._runs = True
                return


def _see(condition: Callable[[], bool], *, because: str) -> None:
    """Return when what a hook was to do is seen. Raises NodeError: it is not."""
    try:
        wait_until(
            condition,
            within_seconds=_EFFECT_WITHIN_SECONDS * patience(),
            every_seconds=_LOOK_EVERY_SECONDS,
            because=because,
        )
    except WaitTimeout as problem:
        raise NodeError(str(problem)) from None


def _shown(argv: tuple[str, ...]) -> str:
    """The program alone: what it is given may hold what nobody else should read."""
    return Path(argv[0]).name + (" …" if len(argv) > 1 else "")


def run_hook(argv: tuple[str, ...], *, told: str, log_path: Path, within_seconds: float, workspace: Workspace) -> int:
    """Run a person's own command to its end; what it says goes to the log. Returns its exit code.

    Raises NodeError: as `_run_to_its_end`.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        log.write(f"-- {told}\n".encode())
        log.flush()
        return _run_to_its_end(
            argv,
            told=told,
            to=log,
            within_seconds=within_seconds,
            on_start=lambda pid: workspace.hook_runs(told, pid),
        )


def succeeds(argv: tuple[str, ...], *, within_seconds: float) -> bool:
    """Whether a person's own command ends with 0 in time; what it says is lost. Never raises for what it does."""
    with suppress(NodeError), Path(os.devnull).open("wb") as nowhere:
        return _run_to_its_end(argv, told=_shown(argv), to=nowhere, within_seconds=within_seconds) == 0
    return False


def said(argv: tuple[str, ...], *, within_seconds: float) -> list[str]:
    """The lines that a person's own command prints, the last 16 MiB of them.

    Raises NodeError: as `_run_to_its_end`, or it fails.
    """
    told = f"the hook that prints the balancer's log ({_shown(argv)})"
    with tempfile.TemporaryFile() as output:
        code = _run_to_its_end(argv, told=told, to=output, within_seconds=within_seconds, errors=subprocess.DEVNULL)
        if code != 0:
            raise NodeError(f"{told} ended with exit code {code}")
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _MOST_SAID_BYTES))
        return output.read().decode("utf-8", "replace").splitlines()


def _run_to_its_end(
    argv: tuple[str, ...],
    *,
    told: str,
    to: IO[bytes],
    within_seconds: float,
    errors: int = subprocess.STDOUT,
    on_start: Callable[[int], None] = lambda _: None,
) -> int:
    """Run a person's own command with their environment and no input; what it prints goes to this file. Returns its exit code.

    Raises NodeError: there is no such program, or it takes longer than `within_seconds`: then it, and what it started, was
    ended.
    """
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=to, stderr=errors, start_new_session=True)
    except OSError as problem:
        raise NodeError(f"{told} cannot be run: {problem.strerror}") from problem
    try:
        on_start(process.pid)
        return process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        raise NodeError(f"{told} took longer than {within_seconds:g} s (remote.hook_seconds), and was ended") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
