"""HAProxy as a node: its configuration, its readiness, and its verbs: drain, enable, move, weigh, reload.

The verbs are commands over its runtime socket and need no new process; only `reload` makes one. What they changed is
also what the configuration says from then on, so that a reload or a restart keeps it. The socket is the master's, which
hands commands on to the process that serves now, and knows when a reload is over: between two processes both may answer.
Must not: send requests to an instance, also not through HAProxy.
"""

from __future__ import annotations

import csv
import ipaddress
import os
import resource
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from jinja2 import Environment, StrictUndefined

from harness import assets, clock
from harness.errors import BadInput, NodeError, WaitTimeout
from harness.platforms.node import ContainerSpec, Inspectable, Node, NodeSpec, Stoppable
from harness.services._asking import answers_well
from harness.services._balancing import (
    CLIENT_HEADER,
    DOCKER_DNS,
    NO_HEADERS,
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

__all__ = ["HaproxyService"]

_HOST = "127.0.0.1"
_TEMPLATE = "fixtures/balancers/haproxy.cfg.j2"
_BACKEND = "instances"

_CONFIGURATION = "haproxy.cfg"
_CONTAINER_PORT = 8080
_CONTAINER_ADMIN_PORT = 9999
_CONTAINER_TLS_PORT = 8443
_CERTIFICATE = "balancer.pem"

_GUIDE_CONNECTIONS = 4096
_FILES_BESIDE = 100
"""What HAProxy opens for itself, generously; each connection takes two more, and it refuses to start with too few."""
_LONGEST_SOCKET_PATH = 97
"""As HAProxy counts: the system's 107 bytes, less the ending of a temporary name it takes first."""

_FULL = 100
_EVEN = 1
"""What HAProxy gives each where no weight is said. Not a hundred each, which is as even: a round of its round robin is
as long as all weights together, and an instance that is back waits for the next round (thousands of requests)."""

_ANSWER_SECONDS = 10.0
"""A reload is answered when it is over."""
_SERVE_WITHIN_SECONDS = 10.0
_IN_USE_GRACE_SECONDS = 5.0
"""Beside the checks that have to be good: until an enabled instance must be in use."""

_NUMBERS: Mapping[str, str] = {
    "weight": "weight",
    "scur": "in_flight",
    "stot": "requests",
    "econ": "connection_errors",
    "eresp": "response_errors",
    "wretr": "retries",
    "wredis": "redispatches",
    "hrsp_5xx": "answers_5xx",
    "chkfail": "failed_checks",
    "chkdown": "times_down",
    "downtime": "down_seconds",
    "lastchg": "unchanged_seconds",
}
"""Columns of `show stat`, and what they are called here."""
_WORDS: Mapping[str, str] = {"status": "status", "check_status": "check", "last_chk": "check_said"}


class HaproxyNode(Node, Inspectable, Stoppable, Protocol):
    """What it takes to give a running HAProxy another configuration."""


Admin = Path | tuple[str, int]
"""Where the harness reaches its runtime socket: a unix socket, or a host and port on loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an HAProxy runs, as its configuration and its command need to know it."""

    program: str
    directory: str
    """Holds its configuration."""
    listen: str
    admin_listen: str
    """Its runtime socket in the words of its command line, with the rights on it."""
    admin: Admin
    most_connections: int
    resolver: str = ""
    """Who is asked for the addresses of the instances again and again; empty: they are looked up once."""
    tls_listen: str = ""
    """Where it listens for https; empty without TLS."""
    certificate: str = ""
    """Its key and certificate."""

    def command(self, *more: str) -> tuple[str, ...]:
        """The command line of this HAProxy with its configuration."""
        return (self.program, *more, "-f", f"{self.directory}/{_CONFIGURATION}")

    @property
    def start(self) -> tuple[str, ...]:
        """The command line that runs it: a master in the foreground, which reloads, with its runtime socket."""
        return self.command("-W", "-db", "-S", self.admin_listen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """One instance as HAProxy is told of it."""

    host: str
    port: int
    drained: bool = False
    weight: int = _FULL
    """In percent of a full share."""
    share: int = _EVEN
    """Its full share, beside the others."""


class HaproxyService:
    """One HAProxy in front of the instances of its pool."""

    def __init__(
        self,
        settings: Balancer,
        *,
        place: Place,
        port: int,
        upstreams: Mapping[str, tuple[str, int]],
        health: str,
        check_headers: Mapping[str, str] = NO_HEADERS,
        secure: Secure | None = None,
        standby: Mapping[str, tuple[str, int]] = NO_STANDBY,
    ) -> None:
        """`port`: where the harness reaches it on loopback; `secure`: where it answers https, if it does. `upstreams` are all instances by name, each with the host
        and port the balancer uses; those outside `settings.pool` are never sent a request, and those of `standby` none until
        `switch`. `health` is the path its checks ask where the settings name none, with `check_headers`.

        Raises:
            BadInput: the pool is empty, or names an instance that is not there.
        """
        self.settings = settings
        self.host = _HOST
        self.port = port
        self.secure = secure
        self._place = place
        self._health = health
        self._check_headers = check_headers
        self._known = (*upstreams, *standby)
        self._servers = {
            name: _Server(host=host, port=at, share=settings.weights.get(name, _EVEN), drained=name in standby)
            for name, (host, at) in {**pool_of(settings, upstreams), **standby}.items()
        }
        self._first_servers = dict(self._servers)
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
        health: str,
        check_headers: Mapping[str, str] = NO_HEADERS,
        secure: Secure | None = None,
        standby: Mapping[str, tuple[str, int]] = NO_STANDBY,
    ) -> Self:
        """A process of this machine. `program` is the HAProxy to run.

        Raises:
            BadInput: as the constructor does, and when the folder of the run has too long a name for a unix socket.
        """
        admin = workspace.scratch / "haproxy.sock"
        if len(os.fsencode(admin)) > _LONGEST_SOCKET_PATH:
            raise BadInput(
                f"HAProxy's runtime socket needs a path of {_LONGEST_SOCKET_PATH} bytes or fewer (got {admin}): set "
                "TMPDIR to a folder with a shorter name"
            )
        place = Place(
            program=str(program),
            directory=str(workspace.scratch / "haproxy"),
            listen=f"{_HOST}:{port}",
            admin_listen=f"{admin},mode,600,level,admin",
            admin=admin,
            most_connections=_most_connections(),
            tls_listen=f"{_HOST}:{secure.port}" if secure is not None else "",
            certificate=str(secure.certificate) if secure is not None else "",
        )
        return cls(
            settings,
            place=place,
            port=port,
            upstreams=upstreams,
            health=health,
            check_headers=check_headers,
            secure=secure,
            standby=standby,
        )

    @classmethod
    def in_container(
        cls,
        settings: Balancer,
        *,
        port: int,
        admin_port: int,
        upstreams: Mapping[str, tuple[str, int]],
        health: str,
        resolves: bool,
        check_headers: Mapping[str, str] = NO_HEADERS,
        secure: Secure | None = None,
    ) -> Self:
        """A container of an image that keeps to the official one's ways.

        `admin_port`: where its runtime socket is published on loopback. `resolves`: the hosts of upstreams are names,
        to be looked up again and again. Raises as the constructor does.
        """
        place = Place(
            program="haproxy",
            directory="/usr/local/etc/haproxy",
            listen=f"*:{_CONTAINER_PORT}",
            admin_listen=f"ipv4@*:{_CONTAINER_ADMIN_PORT},level,admin",
            admin=(_HOST, admin_port),
            most_connections=_GUIDE_CONNECTIONS,
            resolver=DOCKER_DNS if resolves else "",
            tls_listen=f"*:{_CONTAINER_TLS_PORT}" if secure is not None else "",
            certificate=f"/usr/local/etc/haproxy/{_CERTIFICATE}" if secure is not None else "",
        )
        return cls(
            settings,
            place=place,
            port=port,
            upstreams=upstreams,
            health=health,
            check_headers=check_headers,
            secure=secure,
        )

    def process_spec(self) -> NodeSpec:
        """How it is run as a process."""
        return NodeSpec(
            name="haproxy",
            argv=self._place.start,
            directory=Path(self._place.directory),
            host=_HOST,
            port=self.port,
            is_ready=self.serves,
        )

    def container_spec(self, image: str) -> ContainerSpec:
        """How it is run as a container, with its configuration in it."""
        assert isinstance(self._place.admin, tuple), "a container's runtime socket is a published port"
        return ContainerSpec(
            name="haproxy",
            image=image,
            command=self._place.start,
            files={f"{self._place.directory}/{_CONFIGURATION}": self._rendered().encode()}
            | ({self._place.certificate: self.secure.certificate.read_bytes()} if self.secure is not None else {}),
            container_port=_CONTAINER_PORT,
            host=_HOST,
            port=self.port,
            extra_ports={_CONTAINER_ADMIN_PORT: self._place.admin[1]}
            | ({_CONTAINER_TLS_PORT: self.secure.port} if self.secure is not None else {}),
            is_ready=self.serves,
        )

    def serves(self) -> bool:
        """Whether it answers, asked for what concerns no instance, and takes commands."""
        return answers_well(self.host, self.port, "/", called=READY_NAME) and self._serving() is not None

    @property
    def url(self) -> str:
        """Where visitors reach the application."""
        if self.secure is not None:
            return f"https://{self.host}:{self.secure.port}"
        return f"http://{self.host}:{self.port}"

    @property
    def drained(self) -> frozenset[str]:
        """The instances that get no new requests because they were drained."""
        return frozenset(name for name, server in self._servers.items() if server.drained)

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that the balancer has the values of."""
        return {"balancer.url": self.url}

    def prepare(self) -> None:
        """Write the configuration it starts with as a process; a container brings it along."""
        directory = Path(self._place.directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / _CONFIGURATION).write_text(self._rendered(), encoding="utf-8")

    # -- verbs ------------------------------------------------------------------------------------------------

    def drain(self, name: str, node: HaproxyNode, *, within_seconds: float = 10.0) -> Drained:
        """Send `name` no new requests, and return when all that were in flight are answered; the answer says whether
        they are. Draining an instance outside the pool does nothing. Raises NodeError when HAProxy does not obey.
        """
        began = clock.now()
        must_know(name, self._known)
        gone = True
        if name in self._servers:
            with self._one_at_a_time:
                self._must_run(node)
                # In maintenance, unless the settings say otherwise: visitors with a cookie would still be sent to a
                # drained one, and its checks, which fail while it is replaced, would keep it out for some time after that.
                self._tell(f"set server {_BACKEND}/{name} state {self.settings.drain_by}")
                self._change(name, node, drained=True)
                gone = self._wait_idle(name, within_seconds=within_seconds)
        return Drained(old_workers_gone=gone, seconds=clock.now() - began)

    def enable(self, name: str, node: HaproxyNode) -> None:
        """Send `name` requests again. Returns when it is in use, or when its checks had the time to be good and were
        not: a broken version is not the balancer's doing. Raises NodeError as `drain` does."""
        must_know(name, self._known)
        if name in self._servers:
            with self._one_at_a_time:
                self._must_run(node)
                self._tell(f"set server {_BACKEND}/{name} state ready")
                self._change(name, node, drained=False)
                self._wait_in_use([name])

    def switch(
        self, names: Collection[str], node: HaproxyNode, *, checked: bool = True, within_seconds: float = 10.0
    ) -> Drained:
        """Send everything to these instances and nothing new to any other. Returns as `drain` does, and raises as it does.

        `checked`: these are in use first, or their checks had the time to be good, so that for a moment all are.
        """
        began = clock.now()
        for name in names:
            must_know(name, self._known)
        with self._one_at_a_time:
            self._must_run(node)
            self._tell(*(f"set server {_BACKEND}/{name} state ready" for name in names))
            if checked:
                self._wait_in_use(names)
            left = [name for name in self._servers if name not in names]
            self._tell(*(f"set server {_BACKEND}/{name} state maint" for name in left))
            self._servers = {name: replace(server, drained=name not in names) for name, server in self._servers.items()}
            self._write(node)
            gone = True
            for name in left:
                gone = self._wait_idle(name, within_seconds=within_seconds) and gone
        return Drained(old_workers_gone=gone, seconds=clock.now() - began)

    def move(self, name: str, address: tuple[str, int], node: HaproxyNode) -> None:
        """Reach `name` at another address (no name) from now on. Raises NodeError as `drain` does."""
        must_know(name, self._known)
        if name in self._servers:
            with self._one_at_a_time:
                self._must_run(node)
                host, port = address
                self._tell(f"set server {_BACKEND}/{name} addr {host} port {port}", says=_is_moved)
                self._change(name, node, host=host, port=port)

    def set_weight(self, name: str, percent: int, node: HaproxyNode) -> None:
        """Give `name` so much of its share, 0 to 100. Raises NodeError as `drain` does."""
        must_know(name, self._known)
        if name in self._servers:
            with self._one_at_a_time:
                self._must_run(node)
                self._servers[name] = replace(self._servers[name], weight=percent)
                self._tell(*self._weights())
                self._write(node)

    def reload(self, node: HaproxyNode) -> str:
        """Hand over to a new process with the same configuration, in the way the settings name, which forgets how the
        instances were and all it had counted. Returns when the new one serves, with what was seen of it. Raises NodeError
        when it does not."""
        with self._one_at_a_time:
            if self.settings.reload == "restart":
                self._must_run(node)
                return restarted(node)
            return self._reload(node)

    def _reload(self, node: HaproxyNode) -> str:
        self._must_run(node)
        self._write(node)
        code, said = node.run(*self._place.command("-c"))
        if code != 0:
            raise NodeError(f"HAProxy refuses its new configuration: {said.strip()}")
        before = self._serving()
        self._ask_master("reload")
        try:
            wait_until(
                lambda: not node.is_running() or self._serving() not in (before, None),
                within_seconds=_SERVE_WITHIN_SECONDS,
                because="a new process of HAProxy should serve after a reload",
            )
        except WaitTimeout as problem:
            raise NodeError(f"HAProxy did not reload: {problem}; see {node.log_path}") from None
        if not node.is_running():
            raise NodeError(f"HAProxy ended while it was told to reload; see {node.log_path}")
        return f"process {self._serving()} serves in place of {before}"

    def reset(self, node: HaproxyNode) -> None:
        """Forget every failure that was seen, with nobody drained but those that stand by, and everybody where they were at
        first, at full weight.

        Returns when every instance is in use, or its checks had the time to be good. Raises NodeError as `drain` does.
        """
        with self._one_at_a_time:
            self._must_run(node)
            was, self._servers = self._servers, dict(self._first_servers)
            if any(replace(was[name], drained=server.drained) != server for name, server in self._servers.items()):
                # A name is only looked up at the start of a process, and a round with other weights is not cut short.
                self._reload(node)
            for name, server in self._servers.items():
                if server.drained:
                    self._tell(f"set server {_BACKEND}/{name} state maint")
                    continue
                self._tell(f"set server {_BACKEND}/{name} state ready")
                if self.settings.checks:
                    # As if its last checks had been good; the next ones still have their say.
                    self._tell(f"set server {_BACKEND}/{name} health up")
            self._write(node)
            self._wait_in_use([name for name, server in self._servers.items() if not server.drained])

    def statistics(self, node: HaproxyNode) -> Mapping[str, Any]:
        """What it counted itself since its process began, by instance. Raises NodeError when it does not answer.

        `status` and `check` (its last) are HAProxy's own words; `redispatches` counts the requests that were tried there
        and then elsewhere, which no single answer tells.
        """
        self._must_run(node)
        return {
            name: {word: row.get(column, "") for column, word in _WORDS.items()}
            | {word: int(row[column]) for column, word in _NUMBERS.items() if row.get(column)}
            for name, row in self._rows().items()
        }

    # -- how --------------------------------------------------------------------------------------------------

    @staticmethod
    def _must_run(node: HaproxyNode) -> None:
        if not node.is_running():
            raise NodeError("HAProxy does not run, so that it cannot be told anything")

    def _change(self, name: str, node: HaproxyNode, **changes: Any) -> None:
        """From here on this is what the file says, and what a reload or a restart would read."""
        self._servers[name] = replace(self._servers[name], **changes)
        self._write(node)

    def _weights(self) -> list[str]:
        return [f"set server {_BACKEND}/{name} weight {weight}" for name, weight in _weights(self._servers).items()]

    def _write(self, node: HaproxyNode) -> None:
        node.write_file(f"{self._place.directory}/{_CONFIGURATION}", self._rendered().encode())

    def _rendered(self) -> str:
        return render(
            self.settings,
            place=self._place,
            servers=self._servers,
            health=self._health,
            check_headers=self._check_headers,
            https=self.url,
        )

    def _tell(self, *commands: str, says: Callable[[str], bool] = lambda answer: not answer) -> None:
        """Give orders. HAProxy answers with nothing when it obeys, but for some."""
        for command in commands:
            answer = self._ask(command).strip()
            if not says(answer):
                raise NodeError(f"HAProxy does not obey ({command}): {answer}")

    def _ask(self, command: str) -> str:
        """Ask the process that serves now."""
        return self._ask_master(f"@1 {command}")

    def _ask_master(self, command: str) -> str:
        admin = self._place.admin
        try:
            with _connected(admin) as connection:
                connection.sendall(f"{command}\n".encode())
                # Else the master waits for another command, and its answer has no end.
                connection.shutdown(socket.SHUT_WR)
                return _read_all(connection)
        except OSError as problem:
            raise NodeError(f"HAProxy does not answer on its runtime socket ({command}): {problem}") from None

    def _rows(self) -> Mapping[str, Mapping[str, str]]:
        """What it says of each instance of its pool, by column."""
        lines = self._ask("show stat").lstrip("# ").splitlines()
        return {
            row["svname"]: row
            for row in csv.DictReader(lines)
            if row["pxname"] == _BACKEND and row["svname"] in self._servers
        }

    def _serving(self) -> str | None:
        """The id of the process that serves now; None while it does not answer."""
        try:
            said = self._ask("show info")
        except NodeError:
            return None
        return next((line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("Pid:")), None)

    def _wait_idle(self, name: str, *, within_seconds: float) -> bool:
        def idle() -> bool:
            row = self._rows()[name]
            return row["scur"] == "0" and row["qcur"] == "0"

        try:
            wait_until(idle, within_seconds=within_seconds, because=f"what {name} has in flight should be answered")
        except WaitTimeout:
            return False
        return True

    def _wait_in_use(self, names: Collection[str]) -> None:
        settings = self.settings
        patience = (settings.rise + 1) * settings.check_interval_seconds + _IN_USE_GRACE_SECONDS
        try:
            wait_until(
                lambda: all(_is_in_use(row) for name, row in self._rows().items() if name in names),
                within_seconds=patience,
                because="what was enabled should be in use",
            )
        except WaitTimeout:
            return


def render(
    settings: Balancer,
    *,
    place: Place,
    servers: Mapping[str, _Server],
    health: str,
    check_headers: Mapping[str, str] = NO_HEADERS,
    https: str = "",
) -> str:
    """The configuration for these settings. `https`: what http is redirected to, where there is TLS."""
    tls = settings.tls if place.tls_listen else None
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders no HTML, and all that goes in was checked by the setup
        keep_trailing_newline=True,
        trim_blocks=False,
    )
    environment.filters["milliseconds"] = milliseconds
    weights = _weights(servers)
    template = environment.from_string(assets.path(_TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        listen=place.listen,
        resolver=place.resolver,
        most_connections=place.most_connections,
        reload_patience_seconds=settings.reload_patience_seconds,
        ready_name=READY_NAME,
        threads=settings.workers,
        algorithm="source"
        if settings.sticky_address
        else {"least_conn": "leastconn", "round_robin": "roundrobin"}[settings.algorithm],
        check=_check(settings),
        check_path=settings.check_path or health,
        check_headers={name: _quoted(value) for name, value in check_headers.items()},
        check_timeout_seconds=settings.check_timeout_seconds if settings.checks else None,
        retries=settings.retries,
        redispatch=settings.redispatch,
        retry_on=list(settings.retry_on),
        # All but a refused connection comes after the request was sent.
        resends=bool(set(settings.retry_on) - {"conn-failure"}),
        retry_writes=settings.retry_writes,
        sticky_cookie=settings.sticky_cookie,
        sticky_when_down=settings.sticky_when_down,
        keepalive=settings.keepalive,
        keepalive_seconds=settings.keepalive_seconds,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
        weigh=_uneven(servers) or any(server.share != _EVEN for server in servers.values()),
        tls=tls,
        tls_listen=place.tls_listen,
        certificate=place.certificate,
        tls_lowest=min(tls.versions) if tls is not None else "",
        tls_highest=max(tls.versions) if tls is not None else "",
        is_old_tls=tls is not None and bool({"1.0", "1.1"} & set(tls.versions)),
        https=https,
        client_header=CLIENT_HEADER,
        servers=[
            {
                "name": name,
                "address": f"{server.host}:{server.port}",
                "weight": weights[name],
                "drained": server.drained,
                "resolved": bool(place.resolver) and not _is_address(server.host),
            }
            for name, server in servers.items()
        ],
    )


def _quoted(value: str) -> str:
    """A text as HAProxy reads it between double quotes, where it would fill in variables and, with %, what it logs."""
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("%", "%%")):
        value = value.replace(sign, written)
    return f'"{value}"'


_GUIDE_CHECK = (2.0, 3, 2)


def _check(settings: Balancer) -> str:
    """The words after a server that have it checked; those that HAProxy takes anyway are left out, as in the guide."""
    if not settings.checks:
        return ""
    if (settings.check_interval_seconds, settings.fall, settings.rise) == _GUIDE_CHECK:
        return "check"
    return f"check inter {milliseconds(settings.check_interval_seconds)} fall {settings.fall} rise {settings.rise}"


def _weights(servers: Mapping[str, _Server]) -> Mapping[str, int]:
    """What HAProxy is told: shares as they are, and in percent of the largest where one has less than its full one."""
    if not _uneven(servers):
        return {name: server.share for name, server in servers.items()}
    largest = max(server.share for server in servers.values())
    return {name: server.weight * server.share // largest for name, server in servers.items()}


def _uneven(servers: Mapping[str, _Server]) -> bool:
    return any(server.weight != _FULL for server in servers.values())


def milliseconds(seconds: float) -> int:
    """HAProxy takes a bare number as milliseconds, and 0 as for ever."""
    return max(1, round(seconds * 1000))


def _is_in_use(row: Mapping[str, str]) -> bool:
    """`UP`, `UP 1/2` (about to fall) and `no check` get requests; `DOWN`, `DOWN 1/2`, `MAINT` and `DRAIN` do not."""
    return row["status"].startswith(("UP", "no check"))


def _is_moved(answer: str) -> bool:
    return "changed from" in answer or "no need to change" in answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connected(admin: Admin) -> socket.socket:
    if isinstance(admin, tuple):
        return socket.create_connection(admin, timeout=_ANSWER_SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(admin))
    except OSError:
        connection.close()
        raise
    return connection


def _read_all(connection: socket.socket) -> str:
    """All until it closes, which it does after one command."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _most_connections() -> int:
    """As many as the guide has, or as many as this account may open files for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return _GUIDE_CONNECTIONS
    return max(1, min(_GUIDE_CONNECTIONS, (most - _FILES_BESIDE) // 2))
