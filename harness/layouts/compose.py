"""A person's own compose project: what the setup then says, and its containers as nodes.

Must not: change a file of the project, or tell its balancer anything but to read its own configuration again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from signal import Signals
from typing import Any

from harness import assets
from harness.answers import ask
from harness.compose import Place, Project, Roles, Tool, find_roles, find_tool, parse_project, read_haproxy, read_nginx
from harness.errors import BadInput, NodeError, WaitTimeout
from harness.journeys import Reply, Take
from harness.layouts.parts import Instance, Layout, SomebodysBalancer, Store
from harness.platforms.compose import AttachedPlatform, ComposeNode, ComposePlatform, Wanted, running_project
from harness.platforms.node import ContainerSpec
from harness.ports import PortLeases
from harness.services import answers_well, identity_of, manner_of
from harness.services.nginx import workers_among
from harness.setup import Environment, Setup, expand, secrets_of_variables
from harness.waiting import wait_until
from harness.workspace import Workspace

__all__ = ["Adopted", "adapt", "lay_out"]

_HOST = "127.0.0.1"
_REFERENCE_IMAGE = "reference-app"
_HAPROXY_FILE = "/usr/local/etc/haproxy/haproxy.cfg"
_ANSWER_SECONDS = 2.0
_MOST_BYTES = 1 << 18
_RELOADED_WITHIN_SECONDS = 10.0
_CONTIGUOUS_TRIED = 50
_LOG_LINES = 5000
"""More than come between two looks at the balancer's log."""
_DATABASE_KINDS = re.compile(r"postgres|postgis|pgvector|timescale")


@dataclass(frozen=True)
class Adopted:
    """A setup, with what its compose project says put into it."""

    setup: Setup
    project: Project
    roles: Roles

    @property
    def lacks(self) -> Mapping[str, str]:
        """What cannot be done to this project, and why."""
        lacks: dict[str, str] = {}
        services = [self.project.services[name] for name in (self.roles.balancer, *self.roles.app)]
        shared = [name for name in services[0].networks if all(name in each.networks for each in services)]
        networks = [self.project.networks[name] for name in shared[:1] if name in self.project.networks]
        attached = self.setup.compose is not None and self.setup.compose.project is not None
        if any(each.addresses for each in services[1:]):
            lacks["new-address"] = "its file gives the instances fixed addresses, so that they never have others"
        if attached:
            lacks["new-version"] = "it runs already and is somebody's own, so that nothing of it is replaced"
            lacks.setdefault("new-address", lacks["new-version"])
        if any(not each.subnet and (each.external or attached) for each in networks):
            why = "its network was made without a subnet of its own, so that nobody can be given an address there"
            lacks |= {"cut-off": why, "new-address": lacks.get("new-address", why)}
        return lacks

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes, in the order in which to show them."""
        stores = [name for name in (self.roles.database, self.roles.session_store) if name is not None]
        return (*stores, self.roles.balancer, *self.setup.app.names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for what, and why; one line each."""
        lines = [f"{role}: {why}" for role, why in self.roles.reasons.items()]
        if self.roles.others:
            lines.append(f"beside them: {', '.join(self.roles.others)}")
        if self.project.unset:
            lines.append(f"not set, and therefore empty: {', '.join(self.project.unset)}")
        return tuple(lines)


def adapt(setup: Setup, *, environment: Environment, knows_journeys: bool = True) -> Adopted:
    """Read the compose project of a setup, find out what is what, and say the setup accordingly. Nothing is started.

    `knows_journeys`: whether the setup says how people use this application, and not only the reference application.

    Raises:
        BadInput: no compose command, a file that is none, or a project of which it is not clear what is what.
    """
    project, roles, _ = _read(setup, environment)
    if not knows_journeys and not _runs_reference_app(project, roles):
        service = project.services[roles.app[0]]
        what = f"build {service.build}" if service.build is not None else f"image {service.image}"
        raise BadInput(
            f"{project} runs an application of its own ({roles.app[0]}, {what}): say how people use it with --setup FILE; "
            "its [journey] tables say how somebody registers, logs in and is recognised (docs/setup-file.md)"
        )
    names = tuple(place.name for place in roles.instances)
    known = _mounted_configuration(project, roles)
    app = setup.app.with_names(names)
    balancer = setup.balancer.model_copy(
        update={
            "kind": roles.balancer_kind,
            "algorithm": known.get("algorithm", "as its own configuration says"),
            "restart": "any" if project.services[roles.balancer].restarts else "none",
        }
    )
    rollout = setup.rollout.model_copy(update={"drain": "none", "batch": 1})
    changed = {"app": app, "balancer": balancer, "rollout": rollout, "postgres": None, "redis": None}
    return Adopted(setup.model_copy(update=changed), project, roles)


def _read(setup: Setup, environment: Environment) -> tuple[Project, Roles, Tool]:
    wishes = setup.compose
    assert wishes is not None, "only a setup with a compose project is read for one"
    tool = find_tool(environment.everything)
    base = setup.file.parent if setup.file is not None else Path()
    files = tuple((base / file).absolute() for file in wishes.file)
    if wishes.project is not None:
        started_from, counts = running_project(wishes.project, environment=environment)
        files = files or started_from
        wishes = wishes.model_copy(update={"scale": counts})
        if not files:
            raise BadInput(
                f"the project {wishes.project} does not say what it was started from: name its file with --compose"
            )
    for file in files:
        if not file.is_file():
            raise BadInput(f"there is no compose file {file}: name one, such as --compose docker-compose.yml")
    config, unset = tool.config(files, project=wishes.project)
    project = parse_project(config, files=files, unset=unset)
    if wishes.project is None:
        _refuse_others_data(project)
    return project, find_roles(project, wishes), tool


def _refuse_others_data(project: Project) -> None:
    """What a run writes must not be in anybody's way."""
    external = [name for name, is_external in project.volumes.items() if is_external]
    if external:
        raise BadInput(
            f"{project}: the volume {external[0]} is external, so that a run would write into data of somebody else: judge a "
            "file without `external: true`"
        )


def _runs_reference_app(project: Project, roles: Roles) -> bool:
    service = project.services[roles.app[0]]
    built_from = Path(service.build) if service.build is not None else None
    return service.image_word == _REFERENCE_IMAGE or built_from == assets.path("reference_app")


def _mounted_configuration(project: Project, roles: Roles) -> Mapping[str, Any]:
    """What the balancer's mounted files say, as far as they can be read before anything runs."""
    texts = []
    for mount in project.services[roles.balancer].mounts:
        source = Path(mount.source)
        if mount.kind == "bind" and roles.balancer_kind == "nginx":
            with suppress(OSError, UnicodeDecodeError):
                files = sorted(source.glob("*.conf")) if source.is_dir() else [source]
                texts += [file.read_text(encoding="utf-8") for file in files]
    return read_nginx("\n".join(texts), names=roles.app)


# -- the nodes -------------------------------------------------------------------------------------------------------


def lay_out(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """The containers of the project, which compose starts here and now. All of it goes with the stack.

    Raises:
        BadInput: no engine, or a project that compose cannot start.
    """
    wishes = setup.compose
    assert wishes is not None, "only a setup with a compose project is laid out as one"
    project, roles, tool = _read(setup, environment)
    new_env = {key: expand(value, {"run": workspace.run_id}) for key, value in setup.rollout.env.items()}
    attached = wishes.project is not None
    if not attached:
        _refuse_taken_ports(project, ports)
    published = _published_ports(roles, ports)
    wanted = Wanted(
        project=project,
        roles=roles,
        tool=tool,
        build=wishes.build,
        scale=dict(wishes.scale),
        new_env=new_env,
        attached=wishes.project,
    )
    kind = AttachedPlatform if attached else ComposePlatform
    platform = stack.enter_context(kind(workspace, environment=environment, wanted=wanted))
    app_port = roles.app_port or _exposed(platform, project, roles)
    platform.up(app_port=app_port, ports=published, say=say)
    together = {name: tuple(place.name for place in roles.instances if place.service == name) for name in roles.app}
    instances = tuple(
        _instance(setup, place, platform=platform, port=published[place.name], app_port=app_port, together=together)
        for place in roles.instances
    )
    balancer, balancer_node = _balancer(platform, roles, instances)
    stores = {role: _store(platform, name) for role, name in _stores(roles).items()}

    def whos() -> Mapping[str, str]:
        return {label: each.name for each in instances for label in _node(each).seen_as()}

    return Layout(
        platform="compose",
        instances=instances,
        balancer=balancer,
        balancer_node=balancer_node,
        stores=tuple(Store(node) for node in stores.values()),
        count_sessions=_session_counter(setup, platform, roles, stores),
        secrets=tuple(
            secret for service in project.services.values() for secret in secrets_of_variables(service.environment)
        ),
        whos=whos,
        facts=_facts(platform, roles, balancer_node),
        balancer_log=lambda: balancer_node.log_lines(_LOG_LINES),
        borrowed=attached,
        # It is asked for the first time when every instance is ready: before, it would learn that they are not.
        balancer_waits=True,
    )


def _node(instance: Instance) -> ComposeNode:
    node = instance.node
    assert isinstance(node, ComposeNode)
    return node


def _instance(
    setup: Setup,
    place: Place,
    *,
    platform: ComposePlatform,
    port: int,
    app_port: int,
    together: Mapping[str, tuple[str, ...]],
) -> Instance:
    app, manner = setup.app, manner_of(setup)
    attached = platform.wanted.attached is not None
    made: list[ComposeNode] = []

    def where() -> tuple[str, int]:
        return made[0].place()

    first, second = (
        ContainerSpec(
            name=place.name,
            image=platform.image_of(place.service),
            env=env,
            container_port=app_port,
            port=port,
            is_ready=lambda: answers_well(*where(), app.ready_path, manner=manner),
            ready_within_seconds=app.ready_within_seconds,
            # The project says itself how it is stopped, unless the setup does.
            stop_signal=Signals[app.stop_signal] if "stop_signal" in app.model_fields_set else None,
            stop_within_seconds=app.stop_within_seconds,
        )
        for env in ({}, platform.wanted.new_env)
    )

    def introduced_as() -> str:
        """How it calls itself where the setup says that it does: in its health path, or a page anybody may ask for."""
        identity = identity_of(setup)
        if identity is None:
            return ""
        pages = dict.fromkeys((app.health, setup.entry_page))
        names = (_introduction(*where(), page, identity, headers=setup.traffic.headers) for page in pages)
        return next((name for name in names if name), "")

    node = platform.adopt(
        first, service=place.service, number=place.number, next_spec=second, introduced_as=introduced_as
    )
    made.append(node)
    group = together[place.service]
    if attached:
        _refuse_unreachable(node)
    return Instance(
        place.name,
        node,
        _HOST,
        port,
        first,
        second,
        place=where,
        together=group if len(group) > 1 else (),
    )


def _refuse_unreachable(node: ComposeNode) -> None:
    host, port = node.place()
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return  # it may be about to listen; there is a way to it
    except OSError as problem:
        raise BadInput(
            f"{node.name} cannot be reached from here ({host}:{port}: {problem}), and each instance has to be asked by itself: "
            f'publish its port, such as ports: ["127.0.0.1::{node.spec.container_port}"], or let the harness start the '
            "project (--compose)"
        ) from problem


def _introduction(host: str, port: int, path: str, identity: Take, *, headers: Mapping[str, str]) -> str:
    """How an instance calls itself in this answer; empty when it does not."""
    try:
        answer = ask("GET", path, at=(host, port), within_seconds=_ANSWER_SECONDS, headers=headers)
    except (OSError, HTTPException):
        return ""
    return identity.from_reply(Reply(answer.status, answer.headers, answer.body, answer.set_cookies)) or ""


def _store(platform: ComposePlatform, service: str) -> ComposeNode:
    spec = ContainerSpec(
        name=service, image=platform.image_of(service), container_port=0, port=0, is_ready=lambda: True
    )
    return platform.adopt(spec, service=service, number=1)


def _stores(roles: Roles) -> Mapping[str, str]:
    found = {"database": roles.database, "session store": roles.session_store}
    return {role: name for role, name in found.items() if name is not None}


def _session_counter(
    setup: Setup, platform: ComposePlatform, roles: Roles, stores: Mapping[str, ComposeNode]
) -> Callable[[], int | None]:
    """What counts the sessions, by the programs that the images of servers bring along; None where it cannot be told."""
    project = platform.wanted.project
    redis, database = stores.get("session store"), stores.get("database")

    def in_redis(node: ComposeNode) -> int | None:
        for program in ("redis-cli", "valkey-cli"):
            with suppress(NodeError):
                code, said = node.run(program, "DBSIZE")
                number = said.rpartition(" ")[2].strip()
                if code == 0 and number.isdecimal():
                    return int(number)
        return None

    def in_postgres(node: ComposeNode, service: str) -> int | None:
        env = project.services[service].environment
        user = env.get("POSTGRES_USER", "postgres")
        with suppress(NodeError):
            code, said = node.run(
                *("psql", "-U", user, "-d", env.get("POSTGRES_DB", user), "-tAc", "select count(*) from sessions")
            )
            if code == 0 and said.strip().isdecimal():
                return int(said)
        return None

    def count() -> int | None:
        if setup.sessions.store == "redis" and redis is not None:
            return in_redis(redis)
        name = roles.database
        if setup.sessions.store == "postgres" and database is not None and name is not None:
            is_postgres = _DATABASE_KINDS.search(project.services[name].image_word) is not None
            return in_postgres(database, name) if is_postgres else None
        return None

    return count


# -- the balancer ----------------------------------------------------------------------------------------------------


class _OwnBalancer(SomebodysBalancer):
    """A balancer that is somebody else's, and can be had to forget what it counted."""

    def __init__(self, kind: str, port: int) -> None:
        # Its certificates, if it has any, are not ours to believe in.
        super().__init__(_HOST, port, secure=None)
        self._kind = kind

    def reset(self, node: ComposeNode) -> None:
        """Its own reload where that forgets what was counted (nginx), else a restart of its container.

        Raises:
            NodeError: it does not take its own configuration again.
        """
        if self._kind != "nginx":
            node.stop()
            node.start()
            node.wait_ready()
            return
        before = frozenset(workers_among(node.processes()))
        code, said = node.run("nginx", "-s", "reload")
        if code != 0:
            raise NodeError(f"{node.name} was told to read its configuration again and refuses: {said.strip()}")
        try:
            wait_until(
                lambda: bool(set(workers_among(node.processes())) - before),
                within_seconds=_RELOADED_WITHIN_SECONDS,
                because=f"{node.name} should serve with new workers after a reload",
            )
        except WaitTimeout as problem:
            raise NodeError(str(problem)) from None


def _balancer(
    platform: ComposePlatform, roles: Roles, instances: Sequence[Instance]
) -> tuple[_OwnBalancer, ComposeNode]:
    port = platform.published_port(roles.balancer, roles.balancer_port)
    spec = ContainerSpec(
        name=roles.balancer,
        image=platform.image_of(roles.balancer),
        container_port=roles.balancer_port,
        port=port,
        is_ready=lambda: _answers(port),
    )
    if any(each.name == roles.balancer for each in instances):
        raise BadInput(
            f"{roles.balancer} cannot be the balancer and an instance as well: name the services of the application"
        )
    return _OwnBalancer(roles.balancer_kind, port), platform.adopt(spec, service=roles.balancer, number=1)


def _answers(port: int) -> bool:
    """Whether there is any answer at all: what it is is for scenarios to judge."""
    try:
        ask("GET", "/", at=(_HOST, port), within_seconds=_ANSWER_SECONDS, reads_body=False)
    except (OSError, HTTPException):
        return False
    return True


def _facts(platform: ComposePlatform, roles: Roles, node: ComposeNode) -> Mapping[str, Any]:
    """What the balancer says of itself; what it does not say is nobody's to claim."""
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "max_fails",
            "fail_timeout_seconds",
            "next_upstream",
            "read_timeout_seconds",
            "connect_timeout_seconds",
            "resolve",
        )
    )
    facts: dict[str, Any] = {**unknown, "balancer": roles.balancer_kind, "algorithm": "unknown"}
    names = {name for each in roles.app for name in platform.names_of(each)}
    with suppress(NodeError):
        if roles.balancer_kind == "nginx":
            facts |= read_nginx(node.run("nginx", "-T")[1], names=names)
            facts.setdefault("balancer_workers", max(1, len(workers_among(node.processes()))))
        elif roles.balancer_kind == "haproxy":
            mounts = platform.wanted.project.services[roles.balancer].mounts
            own = next((mount.target for mount in mounts if mount.target.endswith(".cfg")), _HAPROXY_FILE)
            facts |= read_haproxy(node.run("cat", own)[1], names=names)
    return facts


# -- ports -----------------------------------------------------------------------------------------------------------


def _refuse_taken_ports(project: Project, ports: PortLeases) -> None:
    """Before anything is started: whoever has them is named. Raises BadInput."""
    for service in project.services.values():
        for each in service.published:
            if each.protocol == "tcp" and each.published.isdecimal():
                try:
                    ports.take_exact(int(each.published))
                except BadInput as problem:
                    # Docker may have rights that we have not.
                    if "only be used by root" not in str(problem):
                        raise BadInput(f"{service.name} publishes {each.published}: {problem}") from None


def _published_ports(roles: Roles, ports: PortLeases) -> Mapping[str, int]:
    """Where the harness asks each instance: those of one service side by side, because they share a range."""
    found: dict[str, int] = {}
    for service in roles.app:
        names = [place.name for place in roles.instances if place.service == service]
        found |= dict(zip(names, _side_by_side(len(names), ports), strict=True))
    return found


def _side_by_side(count: int, ports: PortLeases) -> list[int]:
    for _ in range(_CONTIGUOUS_TRIED):
        row = [ports.take()]
        with suppress(BadInput):
            while len(row) < count:
                row.append(ports.take_exact(row[0] + len(row)))
        if len(row) == count:
            return row
        for port in row:
            ports.release(port)
    raise BadInput(f"no {count} free ports side by side were found: end what uses them (ss -tln lists it)")


def _exposed(platform: ComposePlatform, project: Project, roles: Roles) -> int:
    """The port that the image of an instance exposes. Raises BadInput: not exactly one."""
    service = project.services[roles.app[0]]
    found = platform.exposed_ports(service.image) if service.image is not None else []
    if len(found) == 1:
        return found[0]
    seen = f"its image exposes {', '.join(map(str, found))}" if found else "no PORT in its environment, nothing exposed"
    raise BadInput(
        f"{project}: on which port {service.name} listens inside its container is not clear ({seen}): say it, "
        "[compose] port = 8080"
    )
