"""nginx as a node: its configuration, its readiness, and its verbs: drain, enable, move, reload.

A verb writes the configuration anew, lets nginx test it, and returns when the workers that read it serve.
Must not: send requests to an instance, also not through nginx: an instance that does not listen yet would be
marked as failed.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import resource
import subprocess
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGHUP

from jinja2 import Environment, StrictUndefined

from harness import assets, clock
from harness.errors import BadInput, HarnessError, NodeError, WaitTimeout
from harness.platforms.node import Node, NodeSpec
from harness.services._asking import answers_well
from harness.setup import Balancer
from harness.waiting import wait_until
from harness.workspace import Workspace

__all__ = ["Drained", "NginxService"]

_HOST = "127.0.0.1"
_TEMPLATE = "fixtures/balancers/nginx.conf.j2"
_READY_NAME = "ready.harness.invalid"
"""A host name nobody can own (RFC 2606): asked for it, nginx answers itself."""

_KEEPALIVE_MIN_TIMEOUT_SINCE = (1, 27, 4)
_KEEPALIVE_BY_DEFAULT_SINCE = (1, 29, 7)

_COMMAND_SECONDS = 10.0
_SERVE_WITHIN_SECONDS = 10.0
_WORKER_CONNECTIONS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What was reached when a drain returned."""

    old_workers_gone: bool
    """True: nothing that began before the drain is in flight. False: an old worker still serves a connection."""
    seconds: float
    """How long the drain took."""


class NginxService:
    """One nginx in front of the instances of its pool."""

    def __init__(
        self,
        settings: Balancer,
        *,
        program: Path,
        workspace: Workspace,
        port: int,
        upstreams: Mapping[str, tuple[str, int]],
    ) -> None:
        """`program` is the nginx to run. `upstreams` are all instances by name; those outside `settings.pool` are
        never sent a request.

        Raises:
            BadInput: the pool is empty, or names an instance that is not there.
        """
        self.settings = settings
        self.host = _HOST
        self.port = port
        self._known = tuple(upstreams)
        self._pool = _pool_of(settings, upstreams)
        self._drained: frozenset[str] = frozenset()
        self._binary = program
        self._directory = workspace.scratch / "nginx"
        self._marks = workspace.marks
        self.access_log = workspace.logs / "nginx-access.log"
        """One JSON object a line: `id at method uri status upstream_addr upstream_status upstream_response_time`."""
        self._one_at_a_time = threading.Lock()
        self.spec = NodeSpec(
            name="nginx",
            argv=self._command("nginx.conf"),
            directory=self._directory,
            host=_HOST,
            port=port,
            is_ready=lambda: answers_well(_HOST, port, "/", called=_READY_NAME),
        )

    @property
    def url(self) -> str:
        """Where visitors reach the application."""
        return f"http://{self.host}:{self.port}"

    @property
    def drained(self) -> frozenset[str]:
        """The instances that get no new requests because they were drained."""
        return self._drained

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that the balancer has the values of."""
        return {"balancer.url": self.url}

    def prepare(self) -> None:
        """Write the configuration it starts with."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path("nginx.conf").write_text(self._rendered(), encoding="utf-8")

    def drain(self, name: str, node: Node, *, within_seconds: float = 10.0) -> Drained:
        """Send `name` no new requests, and return when all that were in flight before are answered.

        Old workers answer what they have and one more request on each connection they keep, so that `name` may see
        requests until they are gone; the answer says whether they are. Draining an instance outside the pool does
        nothing. Raises NodeError when nginx does not take the configuration.
        """
        began = clock.now()
        self._must_know(name)
        gone = True
        if name in self._pool:
            with self._one_at_a_time:
                old = self._apply(node, pool=self._pool, drained=self._drained | {name})
                gone = self._wait_gone(old, within_seconds=within_seconds)
        return Drained(old_workers_gone=gone, seconds=clock.now() - began)

    def enable(self, name: str, node: Node) -> None:
        """Send `name` requests again. Returns when the new workers serve. Raises NodeError as `drain` does."""
        self._must_know(name)
        if name in self._pool:
            with self._one_at_a_time:
                self._apply(node, pool=self._pool, drained=self._drained - {name})

    def move(self, name: str, address: tuple[str, int], node: Node) -> None:
        """Reach `name` at another address from now on. Returns when the new workers serve. Raises as `drain` does."""
        self._must_know(name)
        if name in self._pool:
            with self._one_at_a_time:
                self._apply(node, pool={**self._pool, name: address}, drained=self._drained)

    def reload(self, node: Node) -> None:
        """Read the same configuration again, which forgets every failure that was counted against an instance.

        Returns when the new workers serve. Raises NodeError as `drain` does.
        """
        with self._one_at_a_time:
            self._apply(node, pool=self._pool, drained=self._drained)

    def reset(self, node: Node) -> None:
        """As `reload`, with nobody drained."""
        with self._one_at_a_time:
            self._apply(node, pool=self._pool, drained=frozenset())

    def _must_know(self, name: str) -> None:
        if name not in self._known:
            raise ValueError(f"{name} is no instance of this setup (known: {', '.join(self._known)})")

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _command(self, configuration: str, *more: str) -> tuple[str, ...]:
        # `-e`: until the configuration is read, complaints go where the rest goes, not into a compiled-in folder.
        return (str(self._binary), "-p", f"{self._directory}/", "-c", configuration, "-e", "stderr", *more)

    def _rendered(
        self,
        *,
        pool: Mapping[str, tuple[str, int]] | None = None,
        drained: frozenset[str] | None = None,
    ) -> str:
        return render(
            self.settings,
            host=self.host,
            port=self.port,
            pool=self._pool if pool is None else pool,
            drained=self._drained if drained is None else drained,
            version=_version_of(self._binary),
            access_log=self.access_log,
        )

    def _apply(self, node: Node, *, pool: Mapping[str, tuple[str, int]], drained: frozenset[str]) -> frozenset[int]:
        """Put a configuration in force. Returns the workers of before, some of which may still finish something."""
        if not node.is_running():
            raise NodeError("nginx does not run, so that its configuration cannot be changed")
        new = self._path("nginx.conf.new")
        new.write_text(self._rendered(pool=pool, drained=drained), encoding="utf-8")
        self._test(new.name)
        master = self._master()
        before = frozenset(workers_of(master))
        new.replace(self._path("nginx.conf"))
        # From here on this is what the file says, and what a restart would read.
        self._pool, self._drained = pool, drained
        node.signal(SIGHUP)
        try:
            wait_until(
                lambda: (
                    not node.is_running() or only_new_serve(workers_of(master), before, expected=self.settings.workers)
                ),
                within_seconds=_SERVE_WITHIN_SECONDS,
                because="nginx should serve with new workers after a reload",
            )
        except WaitTimeout as problem:
            raise NodeError(f"nginx did not take its new configuration: {problem}; see {node.log_path}") from None
        if not node.is_running():
            raise NodeError(f"nginx ended while it was told to reload; see {node.log_path}")
        return before

    def _wait_gone(self, old: frozenset[int], *, within_seconds: float) -> bool:
        master = self._master()
        try:
            wait_until(
                lambda: old.isdisjoint(workers_of(master)),
                within_seconds=within_seconds,
                because="the old workers of nginx should end when all they had is answered",
            )
        except WaitTimeout:
            return False
        return True

    def _test(self, configuration: str) -> None:
        try:
            subprocess.run(
                self._command(configuration, "-q", "-t"),
                cwd=self._directory,
                env=dict(self._marks),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMMAND_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as problem:
            raise NodeError(f"nginx refuses its new configuration: {problem.stderr.strip()}") from None
        except subprocess.TimeoutExpired:
            raise NodeError(f"nginx did not test its new configuration within {_COMMAND_SECONDS:.0f} s") from None

    def _master(self) -> int:
        try:
            return int(self._path("nginx.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            raise NodeError("nginx has written no process id, so that its workers cannot be told") from None


def render(
    settings: Balancer,
    *,
    host: str,
    port: int,
    pool: Mapping[str, tuple[str, int]],
    drained: frozenset[str],
    version: tuple[int, ...],
    access_log: Path,
) -> str:
    """The configuration for these settings, as far as an nginx of this version understands them."""
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders no HTML, and all that goes in was checked by the setup
        keep_trailing_newline=True,
        trim_blocks=False,
    )
    environment.filters["nginx_time"] = nginx_time
    template = environment.from_string(assets.path(_TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        host=host,
        port=port,
        servers=[
            {"name": name, "address": f"{address[0]}:{address[1]}", "drained": name in drained}
            for name, address in pool.items()
        ],
        access_log=access_log,
        user=_account() if os.geteuid() == 0 else "",
        ready_name=_READY_NAME,
        workers=settings.workers,
        worker_connections=_WORKER_CONNECTIONS,
        open_files=_open_files(2 * _WORKER_CONNECTIONS),
        algorithm=settings.algorithm,
        max_fails=settings.max_fails,
        fail_timeout_seconds=settings.fail_timeout_seconds,
        next_upstream=settings.next_upstream,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        send_timeout_seconds=settings.send_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
        keepalive=settings.keepalive,
        keepalive_line=settings.keepalive > 0 or version >= _KEEPALIVE_BY_DEFAULT_SINCE,
        keepalive_min_timeout=version >= _KEEPALIVE_MIN_TIMEOUT_SINCE,
    )


def nginx_time(seconds: float) -> str:
    """Seconds in nginx's words, which know no fractions: `60s`, `250ms`. Never 0, which would mean something else."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{max(1, round(seconds * 1000))}ms"


def workers_of(master: int) -> dict[int, str]:
    """The worker processes of a running nginx, each with its title. One that has just begun has none of its own yet.

    A worker takes its title when it is ready to accept, and another when it is told to go, before it stops accepting.
    Not read from the log: the log says what was ordered, not what runs.
    """
    # Gone with the process, and absent from kernels built without it: then `ps` has the answer.
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
        return {int(child): _title_of(int(child)) for child in children}
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,command="],  # noqa: S607 - where `ps` is differs between systems
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_COMMAND_SECONDS,
        check=True,
    ).stdout
    rows = (line.split(None, 2) for line in listed.splitlines())
    return {int(row[0]): row[2] for row in rows if len(row) == 3 and int(row[1]) == master}


def only_new_serve(now: Mapping[int, str], before: Collection[int], *, expected: int) -> bool:
    """Whether `expected` workers serve, and none of those of before."""
    serving = {pid for pid, title in now.items() if "worker process" in title and "shutting down" not in title}
    return len(serving) >= expected and serving.isdisjoint(before)


def _title_of(pid: int) -> str:
    """Its command line; empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _pool_of(settings: Balancer, upstreams: Mapping[str, tuple[str, int]]) -> Mapping[str, tuple[str, int]]:
    names = tuple(upstreams) if settings.pool is None else settings.pool
    strangers = [name for name in names if name not in upstreams]
    if strangers or not names:
        raise BadInput(
            f"balancer.pool must name instances of the setup (got {', '.join(names) or 'none'}): "
            f"known are {', '.join(upstreams)}"
        )
    return {name: upstreams[name] for name in names}


@cache
def _version_of(binary: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as problem:
        raise HarnessError(f"{binary} does not say which version it is: {problem}") from None
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)", said.stderr)
    # An nginx that names itself in another way gets only what all of them understand.
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _account() -> str:
    """The account and group this process runs as, in nginx's order."""
    account = pwd.getpwuid(os.geteuid())
    return f"{account.pw_name} {grp.getgrgid(account.pw_gid).gr_name}"


def _open_files(wanted: int) -> int:
    """As many open files as are wanted, or as many as this account may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most)
