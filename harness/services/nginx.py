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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGHUP
from typing import Any, Protocol, Self

from jinja2 import Environment, StrictUndefined

from harness import assets, clock
from harness.errors import HarnessError, NodeError, WaitTimeout
from harness.platforms.node import ContainerSpec, Inspectable, Node, NodeSpec, Stoppable
from harness.services._asking import answers_well
from harness.services._balancing import (
    CLIENT_HEADER,
    DOCKER_DNS,
    NO_STANDBY,
    READY_NAME,
    Drained,
    Secure,
    must_know,
    pool_of,
    restarted,
)
from harness.setup import Balancer
from harness.waiting import wait_until
from harness.workspace import Workspace

__all__ = ["NginxService"]

_HOST = "127.0.0.1"
_TEMPLATE = "fixtures/balancers/nginx.conf.j2"

_KEEPALIVE_MIN_TIMEOUT_SINCE = (1, 27, 4)
_KEEPALIVE_BY_DEFAULT_SINCE = (1, 29, 7)
_HTTP2_ON_SINCE = (1, 25, 1)

_CONFIGURATION = "nginx.conf"
_CONTAINER_PORT = 80
_CONTAINER_TLS_PORT = 443
_CERTIFICATE = "balancer.pem"

_COMMAND_SECONDS = 10.0
_SERVE_WITHIN_SECONDS = 10.0
_WORKER_CONNECTIONS = 4096


class NginxNode(Node, Inspectable, Stoppable, Protocol):
    """What it takes to give a running nginx another configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an nginx runs, as its configuration and its command need to know it."""

    program: str
    directory: str
    """Holds its configuration and everything it writes."""
    listen: str
    version: tuple[int, ...]
    access_log: str
    """Where it writes one JSON object a line:
    `id at method uri status upstream_addr upstream_status upstream_response_time`."""
    user: str
    """Account and group of its workers; empty for its own choice."""
    open_files: int
    resolver: str = ""
    """Who is asked for the addresses of the instances again and again; empty: they are looked up once."""
    tls_listen: str = ""
    """Where it listens for https; empty without TLS."""
    certificate: str = ""
    """Its key and certificate."""

    def command(self, configuration: str, *more: str) -> tuple[str, ...]:
        """The command line of this nginx with one of the configurations in its folder."""
        # `-e`: until the configuration is read, complaints go where the rest goes, not into a compiled-in folder.
        return (self.program, "-p", f"{self.directory}/", "-c", configuration, "-e", "stderr", *more)


class NginxService:
    """One nginx in front of the instances of its pool."""

    def __init__(
        self,
        settings: Balancer,
        *,
        place: Place,
        port: int,
        upstreams: Mapping[str, tuple[str, int]],
        secure: Secure | None = None,
        standby: Mapping[str, tuple[str, int]] = NO_STANDBY,
    ) -> None:
        """`port`: where the harness reaches it on loopback; `secure`: where it answers https, if it does. `upstreams` are all instances by name, each with the host
        and port the balancer uses; those outside `settings.pool` are never sent a request, and those of `standby` none until
        `switch`.

        Raises:
            BadInput: the pool is empty, or names an instance that is not there.
        """
        self.settings = settings
        self.host = _HOST
        self.port = port
        self.secure = secure
        self._place = place
        self._known = (*upstreams, *standby)
        self._first_pool: Mapping[str, tuple[str, int]] = {**pool_of(settings, upstreams), **standby}
        self._pool: Mapping[str, tuple[str, int]] = self._first_pool
        self._drained = self._standby = frozenset(standby)
        self._one_at_a_time = threading.Lock()

    @classmethod
    def native(
        cls,
        settings: Balancer,
        *,
        program: Path,
        workspace: Workspace,
        port: int,
        upstreams: Mapping[str, tuple[str, int]],
        secure: Secure | None = None,
        standby: Mapping[str, tuple[str, int]] = NO_STANDBY,
    ) -> Self:
        """A process of this machine. `program` is the nginx to run. Raises as the constructor does."""
        place = Place(
            program=str(program),
            directory=str(workspace.scratch / "nginx"),
            listen=f"{_HOST}:{port}",
            version=_version_of(program),
            access_log=str(workspace.logs / "nginx-access.log"),
            user=_account() if os.geteuid() == 0 else "",
            open_files=_open_files(2 * _WORKER_CONNECTIONS),
            tls_listen=f"{_HOST}:{secure.port}" if secure is not None else "",
            certificate=str(secure.certificate) if secure is not None else "",
        )
        return cls(settings, place=place, port=port, upstreams=upstreams, secure=secure, standby=standby)

    @classmethod
    def in_container(
        cls,
        settings: Balancer,
        *,
        version: str,
        port: int,
        upstreams: Mapping[str, tuple[str, int]],
        resolves: bool,
        secure: Secure | None = None,
    ) -> Self:
        """A container of an image that keeps to the official one's ways.

        `version`: as the image names it, or nothing. `resolves`: the hosts of upstreams are names, to be looked up
        again and again. Raises as the constructor does.
        """
        place = Place(
            program="nginx",
            directory="/etc/nginx",
            listen=f"0.0.0.0:{_CONTAINER_PORT}",
            version=_version_in(version),
            access_log="/dev/stdout",
            user="",
            open_files=2 * _WORKER_CONNECTIONS,
            resolver=DOCKER_DNS if resolves else "",
            tls_listen=f"0.0.0.0:{_CONTAINER_TLS_PORT}" if secure is not None else "",
            certificate=f"/etc/nginx/{_CERTIFICATE}" if secure is not None else "",
        )
        return cls(settings, place=place, port=port, upstreams=upstreams, secure=secure)

    def process_spec(self) -> NodeSpec:
        """How it is run as a process."""
        return NodeSpec(
            name="nginx",
            argv=self._place.command(_CONFIGURATION),
            directory=Path(self._place.directory),
            host=_HOST,
            port=self.port,
            is_ready=self.serves,
        )

    def container_spec(self, image: str) -> ContainerSpec:
        """How it is run as a container, with its configuration in it."""
        return ContainerSpec(
            name="nginx",
            image=image,
            command=self._place.command(_CONFIGURATION),
            files={f"{self._place.directory}/{_CONFIGURATION}": self._rendered().encode()}
            | ({self._place.certificate: self.secure.certificate.read_bytes()} if self.secure is not None else {}),
            container_port=_CONTAINER_PORT,
            host=_HOST,
            port=self.port,
            extra_ports={_CONTAINER_TLS_PORT: self.secure.port} if self.secure is not None else {},
            is_ready=self.serves,
        )

    def serves(self) -> bool:
        """Whether it answers, asked for what concerns no instance."""
        return answers_well(self.host, self.port, "/", called=READY_NAME)

    @property
    def url(self) -> str:
        """Where visitors reach the application."""
        if self.secure is not None:
            return f"https://{self.host}:{self.secure.port}"
        return f"http://{self.host}:{self.port}"

    @property
    def drained(self) -> frozenset[str]:
        """The instances that get no new requests because they were drained."""
        return self._drained

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that the balancer has the values of."""
        return {"balancer.url": self.url}

    def prepare(self) -> None:
        """Write the configuration it starts with as a process; a container brings it along."""
        directory = Path(self._place.directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / _CONFIGURATION).write_text(self._rendered(), encoding="utf-8")

    def drain(self, name: str, node: NginxNode, *, within_seconds: float = 10.0) -> Drained:
        """Send `name` no new requests, and return when all that were in flight before are answered.

        Old workers answer what they have and one more request on each connection they keep, so that `name` may see
        requests until they are gone; the answer says whether they are. Draining an instance outside the pool does
        nothing. Raises NodeError when nginx does not take the configuration.
        """
        began = clock.now()
        must_know(name, self._known)
        gone = True
        if name in self._pool:
            with self._one_at_a_time:
                old = self._apply(node, pool=self._pool, drained=self._drained | {name})
                gone = self._wait_gone(node, old, within_seconds=within_seconds)
        return Drained(old_workers_gone=gone, seconds=clock.now() - began)

    def enable(self, name: str, node: NginxNode) -> None:
        """Send `name` requests again. Returns when the new workers serve. Raises NodeError as `drain` does."""
        must_know(name, self._known)
        if name in self._pool:
            with self._one_at_a_time:
                self._apply(node, pool=self._pool, drained=self._drained - {name})

    def switch(
        self, names: Collection[str], node: NginxNode, *, checked: bool = True, within_seconds: float = 10.0
    ) -> Drained:
        """Send everything to these instances and nothing new to any other, in one step. Returns as `drain` does, and raises
        as it does. `checked` makes no difference: it has no checks of its own."""
        del checked
        began = clock.now()
        for name in names:
            must_know(name, self._known)
        with self._one_at_a_time:
            old = self._apply(node, pool=self._pool, drained=frozenset(self._pool) - frozenset(names))
            gone = self._wait_gone(node, old, within_seconds=within_seconds)
        return Drained(old_workers_gone=gone, seconds=clock.now() - began)

    def move(self, name: str, address: tuple[str, int], node: NginxNode) -> None:
        """Reach `name` at another address from now on. Returns when the new workers serve. Raises as `drain` does."""
        must_know(name, self._known)
        if name in self._pool:
            with self._one_at_a_time:
                self._apply(node, pool={**self._pool, name: address}, drained=self._drained)

    def reload(self, node: NginxNode) -> str:
        """Read the same configuration again, in the way the settings name; that forgets every failure that was counted
        against an instance.

        Returns when the new workers serve, with what was seen of it. Raises NodeError as `drain` does.
        """
        with self._one_at_a_time:
            if self.settings.reload == "restart":
                return restarted(node)
            before = self._apply(node, pool=self._pool, drained=self._drained)
            return f"{len(workers_among(node.processes()) - before)} new workers serve in place of {len(before)}"

    def reset(self, node: NginxNode) -> None:
        """As `reload`, with nobody drained but those that stand by, and everybody where they were at first."""
        with self._one_at_a_time:
            self._apply(node, pool=self._first_pool, drained=self._standby)

    def statistics(self, node: NginxNode) -> Mapping[str, Any]:
        """Nothing: the open-source nginx does not tell what it thinks of its upstreams."""
        del node
        return {}

    def _rendered(
        self,
        *,
        pool: Mapping[str, tuple[str, int]] | None = None,
        drained: frozenset[str] | None = None,
    ) -> str:
        return render(
            self.settings,
            place=self._place,
            pool=self._pool if pool is None else pool,
            drained=self._drained if drained is None else drained,
            https=self.url,
        )

    def _apply(
        self, node: NginxNode, *, pool: Mapping[str, tuple[str, int]], drained: frozenset[str]
    ) -> frozenset[int]:
        """Put a configuration in force. Returns the workers of before, some of which may still finish something."""
        if not node.is_running():
            raise NodeError("nginx does not run, so that its configuration cannot be changed")
        text = self._rendered(pool=pool, drained=drained).encode()
        tried = f"{_CONFIGURATION}.tried"
        node.write_file(f"{self._place.directory}/{tried}", text)
        code, said = node.run(*self._place.command(tried, "-q", "-t"))
        if code != 0:
            raise NodeError(f"nginx refuses its new configuration: {said.strip()}")
        before = frozenset(workers_among(node.processes()))
        node.write_file(f"{self._place.directory}/{_CONFIGURATION}", text)
        # From here on this is what the file says, and what a restart would read.
        self._pool, self._drained = pool, drained
        node.signal(SIGHUP)
        try:
            wait_until(
                lambda: (
                    not node.is_running() or only_new_serve(node.processes(), before, expected=self.settings.workers)
                ),
                within_seconds=_SERVE_WITHIN_SECONDS,
                because="nginx should serve with new workers after a reload",
            )
        except WaitTimeout as problem:
            raise NodeError(f"nginx did not take its new configuration: {problem}; see {node.log_path}") from None
        if not node.is_running():
            raise NodeError(f"nginx ended while it was told to reload; see {node.log_path}")
        return before

    def _wait_gone(self, node: NginxNode, old: frozenset[int], *, within_seconds: float) -> bool:
        try:
            wait_until(
                lambda: old.isdisjoint(node.processes()),
                within_seconds=within_seconds,
                because="the old workers of nginx should end when all they had is answered",
            )
        except WaitTimeout:
            return False
        return True


def render(
    settings: Balancer,
    *,
    place: Place,
    pool: Mapping[str, tuple[str, int]],
    drained: frozenset[str],
    https: str = "",
) -> str:
    """The configuration for these settings, as far as an nginx of this place's version understands them.

    `https`: what http is redirected to, where there is TLS.
    """
    tls = settings.tls if place.tls_listen else None
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders no HTML, and all that goes in was checked by the setup
        keep_trailing_newline=True,
        trim_blocks=False,
    )
    environment.filters["nginx_time"] = nginx_time
    template = environment.from_string(assets.path(_TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        listen=place.listen,
        servers=[
            {
                "name": name,
                "address": f"{address[0]}:{address[1]}",
                "drained": name in drained,
                "weight": settings.weights.get(name, 1),
            }
            for name, address in pool.items()
        ],
        access_log=place.access_log,
        user=place.user,
        resolver=place.resolver,
        ready_name=READY_NAME,
        workers=settings.workers,
        worker_connections=_WORKER_CONNECTIONS,
        open_files=place.open_files,
        reload_patience_seconds=settings.reload_patience_seconds,
        algorithm=settings.algorithm,
        sticky_address=settings.sticky_address,
        max_fails=settings.max_fails,
        fail_timeout_seconds=settings.fail_timeout_seconds,
        next_upstream=settings.next_upstream,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        send_timeout_seconds=settings.send_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
        cache_seconds=settings.cache_seconds,
        keepalive=settings.keepalive,
        keepalive_seconds=settings.keepalive_seconds,
        keepalive_line=settings.keepalive > 0 or place.version >= _KEEPALIVE_BY_DEFAULT_SINCE,
        keepalive_min_timeout=place.version >= _KEEPALIVE_MIN_TIMEOUT_SINCE,
        tls=tls,
        tls_listen=place.tls_listen,
        certificate=place.certificate,
        # Their names in nginx, which has a dot for all but the first.
        tls_versions=[f"TLSv{version}" if version != "1.0" else "TLSv1" for version in (tls.versions if tls else ())],
        is_old_tls=tls is not None and bool({"1.0", "1.1"} & set(tls.versions)),
        http2_directive=place.version >= _HTTP2_ON_SINCE,
        https=https,
        client_header=CLIENT_HEADER,
        forward=tls.forward if tls is not None else _ALL_FORWARDED,
        security_headers=tls.security_headers if tls is not None else "always",
    )


_ALL_FORWARDED = ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto")
"""What the guide's nginx tells the application of a request."""


def nginx_time(seconds: float) -> str:
    """Seconds in nginx's words, which know no fractions: `60s`, `250ms`. Never 0, which would mean something else."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{max(1, round(seconds * 1000))}ms"


def workers_among(processes: Mapping[int, str]) -> set[int]:
    """The worker processes, also those that are about to go.

    A worker takes its title when it is ready to accept, and another when it is told to go, before it stops accepting.
    Not read from the log: the log says what was ordered, not what runs.
    """
    return {pid for pid, title in processes.items() if "worker process" in title}


def only_new_serve(now: Mapping[int, str], before: Collection[int], *, expected: int) -> bool:
    """Whether `expected` workers serve, and none of those of before."""
    serving = workers_among({pid: title for pid, title in now.items() if "shutting down" not in title})
    return len(serving) >= expected and serving.isdisjoint(before)


@cache
def _version_of(binary: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as problem:
        raise HarnessError(f"{binary} does not say which version it is: {problem}") from None
    return _version_in(said.stderr.partition("/")[2])


def _version_in(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
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
