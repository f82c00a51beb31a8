"""The container engine: where it is, how it is reached, and what a run left on it.

Two ways lead to it. `connect` gives the Docker SDK to whoever runs containers. What puts away is written on the
standard library alone, because the reaper needs it in a process that has nothing else: everything a run makes on an
engine carries the run's labels, and is removed by them.

Must not: be told by the environment (`setup` reads that), import the SDK before it is needed (setups without
containers do not pay for it), pull an image, or touch what does not carry our labels.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import SplitResult, quote, urlsplit

from harness import clock, processes
from harness.errors import BadInput, HarnessError, MissingPrerequisite, NodeError

if TYPE_CHECKING:
    # For whoever is handed one: the SDK itself is met here only.
    from docker import DockerClient as DockerClient

__all__ = [
    "NODE_LABEL",
    "RUN_LABEL",
    "Address",
    "Borrowed",
    "Removed",
    "RunLeft",
    "Seen",
    "address",
    "connect",
    "explained",
    "give_back",
    "labels",
    "look",
    "needs_packages",
    "refuse_if_full",
    "remove_run",
    "runs_left",
]

RUN_LABEL = "harness.run"
"""On everything a run makes on an engine: the run's id."""
NODE_LABEL = "harness.node"
"""On its containers as well: the name of the node."""
_SCRATCH_LABEL = "harness.scratch"
"""The name of the run's private folder: two users may have runs of the same id, on one engine."""
_PID_LABEL = "harness.pid"
_STARTED_LABEL = "harness.started"
_USER_LABEL = "harness.user"
_PLACE_LABEL = "harness.place"
"""The boot and the process namespace in which that pid means something."""

_DEFAULT = "unix:///var/run/docker.sock"
_OLDEST_API = (1, 41)
_OLDEST_ENGINE = "Docker 20.10"
_FULL = "no space left on device"
"""The kernel's words, which reach us inside those of the engine."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_ANSWER_SECONDS = 10.0
_SDK_SECONDS = 60
_CONNECTIONS = 64
"""More than nodes and their watchers ever need at once: beyond it urllib3 complains on standard error."""
_REMOVE_SECONDS = 20.0
_AT_ONCE = 8
_LONGEST_PAUSE_SECONDS = 0.2
_SURELY_OVER_SECONDS = 3600.0


# -- where it is ---------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """Where an engine is."""

    url: str
    """Such as `unix:///var/run/docker.sock`."""
    said_by: str = "the default"
    """Who named it, for messages."""

    def __str__(self) -> str:
        return self.url


class Said(Protocol):
    """What the environment says about the engine: `setup.Environment` has it."""

    @property
    def docker_host(self) -> str | None: ...
    @property
    def docker_context(self) -> str | None: ...
    @property
    def docker_config(self) -> Path | None: ...


def address(said: Said | None = None) -> Address:
    """Where the engine is, found as the docker command finds it: DOCKER_HOST, the context in use, the default socket.

    Raises:
        BadInput: that is no address, its context does not exist, or the engine is on another machine.
    """
    found = _named(said) if said is not None else Address(_DEFAULT)
    url = _parts_of(found.url)
    if url.scheme == "unix" and not url.netloc and url.path.startswith("/"):
        return found
    if url.scheme in ("tcp", "http") and url.hostname in _LOOPBACK:
        return found
    if url.scheme in ("tcp", "http", "https", "ssh") and url.hostname:
        raise BadInput(
            f"the engine at {found.url} ({found.said_by}) is on another machine: its containers publish their ports on "
            "the loopback of that machine, where the harness cannot reach them; run the harness there, or use the "
            "engine of this machine (docker context use default, or unset DOCKER_HOST)"
        )
    raise BadInput(f"{found.url} ({found.said_by}) is no address of an engine: write unix:///path/to/its.sock")


def _parts_of(url: str) -> SplitResult:
    """Without a scheme, docker takes it for a host and a port."""
    return urlsplit(url if "://" in url else f"tcp://{url}")


def _named(said: Said) -> Address:
    if said.docker_host:
        return Address(said.docker_host, "DOCKER_HOST")
    name, said_by = said.docker_context, "DOCKER_CONTEXT"
    if not name and said.docker_config is not None:
        file = said.docker_config / "config.json"
        with suppress(OSError, ValueError):  # without a file that can be read docker uses the default, too
            name, said_by = json.loads(file.read_text("utf-8")).get("currentContext"), f"{file}"
    if not name or name == "default":
        return Address(_DEFAULT)
    if said.docker_config is not None:
        import hashlib  # slow to load

        folder = hashlib.sha256(name.encode()).hexdigest()
        with suppress(OSError, ValueError, KeyError, TypeError):
            meta = json.loads((said.docker_config / "contexts" / "meta" / folder / "meta.json").read_text("utf-8"))
            return Address(meta["Endpoints"]["docker"]["Host"], f"docker's context {name}")
    raise BadInput(
        f"there is no context {name} of docker, which {said_by} names: `docker context ls` lists what there is, "
        "`docker context use default` chooses the engine of this machine"
    )


# -- the SDK -------------------------------------------------------------------------------------------------------


def connect(where: Address | None = None) -> DockerClient:
    """The Docker SDK, connected to a living engine of a version that can be used. Close it when done.

    Raises:
        MissingPrerequisite: no package, no engine, no right to use it, or one that is too old.
    """
    where = where or address()
    with needs_packages():
        from docker import DockerClient
    version = str(_version(where, within_seconds=_ANSWER_SECONDS)["ApiVersion"])
    return DockerClient(base_url=where.url, version=version, timeout=_SDK_SECONDS, max_pool_size=_CONNECTIONS)


@contextmanager
def needs_packages() -> Iterator[None]:
    """Around the import of what only containers need. Raises MissingPrerequisite when it is not installed."""
    try:
        yield
    except ImportError as problem:
        raise MissingPrerequisite(
            f"containers need packages that are not installed ({problem}): pip install 'harness[docker]'",
            command="pip install 'harness[docker]'",
        ) from problem


class Seen(NamedTuple):
    """What a living engine says of itself, in its own words."""

    version: Mapping[str, Any]
    info: Mapping[str, Any]
    images: frozenset[str]
    """The names of the images it has."""


def look(where: Address, *, within_seconds: float) -> Seen:
    """Look at an engine without the SDK, which may not be installed. Nothing is changed.

    Raises:
        MissingPrerequisite: no engine, no right to use it, or one that is too old or too slow.
    """
    version = _version(where, within_seconds=within_seconds)
    engine = _Engine(where.url)
    try:
        _, info = engine.ask("GET", "/info", within_seconds=within_seconds)
        _, images = engine.ask("GET", "/images/json", within_seconds=within_seconds)
        return Seen(version, dict(info), frozenset(name for each in images for name in each["RepoTags"] or ()))
    except (OSError, TypeError, ValueError, KeyError) as problem:
        raise MissingPrerequisite(
            f"the container engine at {where.url} ({where.said_by}) does not say what it has ({problem!r}): restart it",
            command=_RESTART,
        ) from problem


def _version(where: Address, *, within_seconds: float) -> Mapping[str, Any]:
    """What it says of its version, which is the first thing an engine is asked."""
    at = f"{where.url} ({where.said_by})"
    try:
        status, said = _Engine(where.url).ask("GET", "/version", within_seconds=within_seconds)
    except PermissionError as problem:
        remedy, command = _how_to_get_rights(_socket_of(where.url))
        raise MissingPrerequisite(
            f"no right to use the container engine at {at}: {remedy}", command=command
        ) from problem
    except FileNotFoundError as problem:
        raise MissingPrerequisite(
            f"no container engine at {at}: there is no such socket; {_START}", command=_START_IT
        ) from problem
    except ConnectionRefusedError as problem:
        raise MissingPrerequisite(
            f"no container engine at {at}: nobody listens there; {_START}", command=_START_IT
        ) from problem
    except TimeoutError as problem:
        raise MissingPrerequisite(
            f"the container engine at {at} did not answer within {within_seconds:g} s: restart it",
            command=_RESTART,
        ) from problem
    except OSError as problem:
        raise MissingPrerequisite(
            f"the container engine at {at} cannot be used ({problem}); {_START}", command=_START_IT
        ) from problem
    api = said.get("ApiVersion") if isinstance(said, dict) else None
    if status != 200 or not isinstance(api, str):
        raise MissingPrerequisite(
            f"what answers at {at} is no container engine that can be used (status {status}, {str(said)[:120]!r}): "
            "name the socket of one in DOCKER_HOST"
        )
    if tuple(int(part) for part in api.split(".") if part.isdecimal()) < _OLDEST_API:
        raise MissingPrerequisite(
            f"the container engine at {at} is too old (version {said.get('Version', '?')}, API {api}): "
            f"{_OLDEST_ENGINE} (API {'.'.join(map(str, _OLDEST_API))}) or newer is needed"
        )
    return dict(said)


_START_IT = "open -a Docker" if sys.platform == "darwin" else "sudo systemctl start docker"
_RESTART = "docker desktop restart" if sys.platform == "darwin" else "sudo systemctl restart docker"
_START = f"start one ({_START_IT}{'' if sys.platform == 'darwin' else ', or Docker Desktop'}), or name the socket of one that runs in DOCKER_HOST"


def _how_to_get_rights(socket: str) -> tuple[str, str]:
    """In words, and as a command where one will do."""
    group = "docker"
    with suppress(OSError, KeyError, ImportError):
        import grp

        seen = Path(socket).stat()
        group = grp.getgrgid(seen.st_gid).gr_name
        if seen.st_gid == 0 or not seen.st_mode & stat.S_IWGRP:
            what = f"its socket is for uid {seen.st_uid} alone (group {group}, mode {stat.S_IMODE(seen.st_mode):04o})"
            return f"{what}: run the harness as that user, or have the engine give the socket to a group of its own", ""
    join = f"sudo usermod -aG {group} $USER"
    return f"become a member of the group {group} ({join}, then log in again)", join


@contextmanager
def explained(what: str, *, kind: type[HarnessError] = NodeError, passing: Collection[int] = ()) -> Iterator[None]:
    """The one seam where what the SDK raises becomes ours: `what` begins the message ("app-1 cannot be paused").

    Answers with a status in `passing` are no failure: the block is left, and nothing is raised. A full disk of the
    engine is nobody's mistake but the machine's: that is always MissingPrerequisite.
    """
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as problem:
        if problem.status_code not in passing:
            refuse_if_full(what, str(problem.explanation or problem))
            raise kind(f"{what}: {problem.explanation or problem}") from problem
    except (DockerException, OSError) as problem:  # of the SDK's HTTP client, every failure is an OSError
        raise kind(f"{what}: the container engine cannot be asked ({problem})") from problem


def refuse_if_full(what: str, said: str) -> None:
    """Raises MissingPrerequisite when the engine says that its disk is full; `what` begins the message."""
    if _FULL in said.lower():
        raise MissingPrerequisite(
            f"{what}: the disk of the container engine is full ({said.strip()}): `docker system df` shows what takes it, "
            "`docker image prune` and `docker builder prune` remove what nobody uses",
            command="docker system df",
        )


# -- labels --------------------------------------------------------------------------------------------------------


def labels(*, run: str, scratch: Path) -> dict[str, str]:
    """What everything must carry that a run makes on an engine: by this it is found and removed, whatever happens.

    The harness itself is named too, so that somebody else can tell whether it still lives.
    """
    us = processes.look(os.getpid())
    return {
        RUN_LABEL: run,
        _SCRATCH_LABEL: scratch.name,
        _PID_LABEL: str(os.getpid()),
        _STARTED_LABEL: str(us.started if us else 0),
        _USER_LABEL: str(os.geteuid()),
        _PLACE_LABEL: _place(),
    }


def _place() -> str:
    """Where process ids mean the same: on one machine since it booted, and not across containers of it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link of the kernel, to no path
    except OSError:
        namespace = ""
    return f"{processes.boot_id()} {namespace}".strip()


# -- putting away --------------------------------------------------------------------------------------------------


class Removed(NamedTuple):
    """What was done about the things of one run."""

    names: tuple[str, ...]
    """Of the nodes whose containers were removed."""
    problems: tuple[str, ...]
    """What could not be removed, and why."""


class Borrowed(NamedTuple):
    """A container that is somebody's, and that a run only breaks for a while."""

    url: str
    """Of its engine."""
    container: str
    network: str
    """The one it may be taken off."""
    aliases: tuple[str, ...] = ()
    address: str | None = None
    """Its address there, where that can be chosen."""


class RunLeft(NamedTuple):
    """A run that has something on an engine, and whose harness is gone."""

    run: str
    scratch: str
    things: int


class _Thing(NamedTuple):
    """A service, container, network or volume; or the swarm itself."""

    kind: str
    id: str
    name: str
    marks: Mapping[str, str]
    made: float
    """Seconds since the epoch."""
    runs: bool


def remove_run(
    run: str, *, url: str, scratch: str, settle_seconds: float = 0.0, within_seconds: float = _REMOVE_SECONDS
) -> Removed:
    """Remove every service, container, network and volume of a run, at once and by force. What goes wrong is reported.

    A swarm that the run made is left when nobody else uses it. One that was there before bears no mark of the run.

    `settle_seconds`: how long nothing may be there before that is believed. An engine goes on with what it was told
    when the harness that told it is killed, so a container may appear a moment later.
    """
    from concurrent.futures import ThreadPoolExecutor

    engine = _Engine(url)
    names: dict[str, str] = {}
    problems: dict[str, str] = {}
    end = clock.now() + within_seconds
    empty_since: float | None = None
    pause = 0.02
    try:
        with ThreadPoolExecutor(_AT_ONCE, "remove") as pool:
            while True:
                things = [each for each in engine.things(run) if each.marks.get(_SCRATCH_LABEL, scratch) == scratch]
                now = clock.now()
                if things:
                    empty_since = None
                else:
                    empty_since = now if empty_since is None else empty_since
                    if now - empty_since >= settle_seconds:
                        return Removed(tuple(names.values()), ())
                names |= {each.id: each.marks.get(NODE_LABEL, each.name) for each in things if each.kind == _CONTAINER}
                if now > end:
                    return Removed(tuple(names.values()), tuple(problems.get(each.id, str(each)) for each in things))
                # A service would make its containers anew; a network can only go when these have, a volume as well; and
                # a swarm when nothing in it is left.
                last = (_SWARM,) if all(each.kind == _SWARM for each in things) else ()
                for kind in (_SERVICE, _CONTAINER, _NETWORK, _VOLUME, *last):
                    these = [each for each in things if each.kind == kind]
                    for each, said in zip(these, pool.map(engine.remove, these), strict=True):
                        problems[each.id] = f"the {kind} {each.name} could not be removed: {said}"
                clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
    except OSError as problem:
        return Removed(
            tuple(names.values()),
            (f"the container engine at {url} cannot be asked ({problem}), so that containers may be left there",),
        )


def runs_left(url: str) -> list[RunLeft]:
    """Runs that have something on the engine although their harness is gone, of whatever user; none that lives.

    A harness of this machine is looked for by its process. One of another boot, of another user who hides his, or of a
    container with processes of its own, cannot be: its run counts as over when none of its containers runs and all it made is an hour old.

    Raises:
        HarnessError: the engine cannot be asked.
    """
    try:
        things = _Engine(url).things()
    except OSError as problem:
        raise HarnessError(f"the container engine at {url} cannot be asked: {problem}") from problem
    by_run: dict[tuple[str, str], list[_Thing]] = {}
    for each in things:
        by_run.setdefault((each.marks[RUN_LABEL], each.marks.get(_SCRATCH_LABEL, "")), []).append(each)
    return [RunLeft(run, scratch, len(made)) for (run, scratch), made in by_run.items() if not _lives(made)]


def _lives(things: Sequence[_Thing]) -> bool:
    marks = next((each.marks for each in things if _PLACE_LABEL in each.marks), {})
    if marks.get(_PLACE_LABEL) == _place():
        now = processes.look(int(marks[_PID_LABEL]))
        if now is not None:
            return now.is_alive and str(now.started) == marks[_STARTED_LABEL]
        # On some machines nobody sees the processes of others.
        if os.geteuid() in (0, int(marks.get(_USER_LABEL, -1))):
            return False
    youngest = max(each.made for each in things)
    return any(each.runs for each in things) or clock.wall().timestamp() - youngest < _SURELY_OVER_SECONDS


_SERVICE, _CONTAINER, _NETWORK, _VOLUME, _SWARM = "service", "container", "network", "volume", "swarm"
_NAMELESS_NETWORKS = frozenset({"bridge", "host", "none"})
"""Docker's own, on which containers are not found by name."""
_IN_NO_SWARM = (406, 503)
"""What an engine says of services that is in no swarm, or no manager of it."""


def give_back(borrowed: Borrowed, *, start: bool) -> str | None:
    """Let a container go on that a run has frozen or cut off, and `start` it where it was ended. What went wrong, or None."""
    engine = _Engine(borrowed.url)
    path = f"/containers/{borrowed.container}"
    try:
        status, seen = engine.ask("GET", f"{path}/json")
        if status != 200:
            return None  # removed by whoever it belongs to
        name = str(seen["Name"]).removeprefix("/")
        orders: list[tuple[str, Any]] = []
        if seen["State"]["Paused"]:
            orders.append((f"{path}/unpause", None))
        if borrowed.network not in seen["NetworkSettings"]["Networks"]:
            address = {"IPAMConfig": {"IPv4Address": borrowed.address}} if borrowed.address else {}
            endpoint = {"Aliases": list(borrowed.aliases), **address}
            orders.append(
                (
                    f"/networks/{quote(borrowed.network)}/connect",
                    {"Container": borrowed.container, "EndpointConfig": endpoint},
                )
            )
        if start and not seen["State"]["Running"]:
            orders.append((f"{path}/start", None))
        for order, told in orders:
            status, said = engine.ask("POST", order, body=told, within_seconds=_SDK_SECONDS)
            if status >= 400:
                return f"the container {name} could not be given back as it was ({status} {_message(said)})"
    except (OSError, KeyError) as problem:
        return f"the container {borrowed.container[:12]} could not be given back as it was ({problem})"
    return None


class _Engine:
    """The little of the engine's HTTP interface that is needed to put away, without version: it is stable."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(
        self, method: str, path: str, *, body: Any = None, within_seconds: float = _ANSWER_SECONDS
    ) -> tuple[int, Any]:
        """One question on a connection of its own: status, and the answer as JSON, or as text if it is none.

        Raises:
            OSError: it cannot be reached, or did not answer.
        """
        import http.client  # slow to load, and only needed where there are containers
        import socket

        parts = _parts_of(self._url)
        connection = http.client.HTTPConnection(
            parts.hostname or "localhost", parts.port or 2375, timeout=within_seconds
        )
        try:
            if parts.scheme == "unix":
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.settimeout(within_seconds)
                connection.sock.connect(_socket_of(self._url))
            headers = {"Host": "docker", **({"Content-Type": "application/json"} if body is not None else {})}
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
        except http.client.HTTPException as problem:
            raise OSError(f"it does not speak HTTP: {problem!r}") from problem
        finally:
            connection.close()
        try:
            return answer.status, json.loads(said) if said else None
        except ValueError:
            return answer.status, said.decode("utf-8", "replace")

    def things(self, run: str | None = None) -> list[_Thing]:
        """What carries the labels of this run, or of any."""
        label = RUN_LABEL if run is None else f"{RUN_LABEL}={run}"
        wanted = quote(json.dumps({"label": [label]}))
        found = [
            _Thing(
                _CONTAINER,
                each["Id"],
                (each.get("Names") or ["?"])[0].removeprefix("/"),
                each["Labels"],
                float(each["Created"]),
                each["State"] in ("running", "paused", "restarting"),
            )
            for each in self._listed(f"/containers/json?all=1&filters={wanted}")
        ]
        found += [
            _Thing(_NETWORK, each["Id"], each["Name"], each["Labels"], _epoch(each.get("Created")), runs=False)
            for each in self._listed(f"/networks?filters={wanted}")
        ]
        found += [
            _Thing(_VOLUME, each["Name"], each["Name"], each["Labels"], _epoch(each.get("CreatedAt")), runs=False)
            for each in self._listed(f"/volumes?filters={wanted}")
        ]
        found += [
            _Thing(_SERVICE, each["ID"], each["Spec"]["Name"], each["Spec"]["Labels"], _epoch(each["CreatedAt"]), True)
            for each in self._listed(f"/services?filters={wanted}", nothing=_IN_NO_SWARM)
        ]
        # Whatever an engine takes such a filter for: what does not say that it is a run's is nobody's to remove.
        ours = [each for each in found if run in (each.marks.get(RUN_LABEL), None) and RUN_LABEL in each.marks]
        return ours + self._swarm(run)

    def _swarm(self, run: str | None) -> list[_Thing]:
        """The swarm, if this run (or any) made it and nobody else has anything in it.

        One that somebody made who is gone falls to whoever leaves it last.
        """
        status, said = self.ask("GET", "/swarm")
        marks = (said["Spec"].get("Labels") or {}) if status == 200 else {}
        if RUN_LABEL not in marks:
            return []
        swarm = _Thing(_SWARM, said["ID"], "of this engine", marks, _epoch(said["CreatedAt"]), runs=False)
        if run not in (None, marks[RUN_LABEL]):
            if _lives([swarm]):
                return []
            swarm = swarm._replace(marks={RUN_LABEL: run})
        overlays = quote(json.dumps({"driver": ["overlay"]}))
        theirs = [each["Spec"].get("Labels") or {} for each in self._listed("/services", nothing=_IN_NO_SWARM)]
        theirs += [
            each["Labels"] or {} for each in self._listed(f"/networks?filters={overlays}") if not each.get("Ingress")
        ]
        # An engine that leaves a swarm forgets the names of all containers, also on networks the swarm has no part in:
        # whoever runs there would no longer find anybody.
        theirs += [
            each["Labels"] or {}
            for each in self._listed("/containers/json")
            if set(each["NetworkSettings"]["Networks"]) - _NAMELESS_NETWORKS
        ]
        is_used = any(other.get(RUN_LABEL) != swarm.marks[RUN_LABEL] for other in theirs)
        if is_used or len(self._listed("/nodes", nothing=_IN_NO_SWARM)) > 1:
            return []
        return [swarm]

    def _listed(self, path: str, *, nothing: Collection[int] = ()) -> list[dict[str, Any]]:
        """What is there; nothing, where the engine answers with one of these statuses."""
        status, said = self.ask("GET", path)
        if status in nothing:
            return []
        if status != 200:
            raise OSError(f"{path.partition('?')[0]} says {status}: {_message(said)}")
        # Volumes come in an object of their own.
        listed: list[dict[str, Any]] = (said.get("Volumes") if isinstance(said, dict) else said) or []
        return listed

    def remove(self, thing: _Thing) -> str:
        """What the engine said to that, for the case that the thing is still there after it."""
        method, path = {
            _SERVICE: ("DELETE", f"/services/{thing.id}"),
            _CONTAINER: ("DELETE", f"/containers/{thing.id}?force=1&v=1"),
            _NETWORK: ("DELETE", f"/networks/{thing.id}"),
            _VOLUME: ("DELETE", f"/volumes/{quote(thing.id)}?force=1"),
            _SWARM: ("POST", "/swarm/leave?force=1"),
        }[thing.kind]
        status, said = self.ask(method, path, within_seconds=_SDK_SECONDS)
        return f"{status} {_message(said)}".strip()


def _message(said: Any) -> str:
    return str(said.get("message", said)) if isinstance(said, dict) else str(said or "")


def _socket_of(url: str) -> str:
    return url.removeprefix("unix://")


def _epoch(written: str | None) -> float:
    """Of a time as the engine writes it; unreadable counts as now, which is on the safe side."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(written or "").timestamp()
    except ValueError:
        return clock.wall().timestamp()
