"""Nodes that are containers of a compose project: made and replaced by the compose command, broken as any container is.

The person's files are not changed. For one run a file is laid over them, and the project has a name of the run's, so that it
never meets another one of theirs. All that is made carries the labels of the run, and is removed by them.
Must not: pull, build or start anything but by the compose command, or remove what it did not make.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

from harness import clock, engine
from harness.compose import Project, Roles, Tool, override_for
from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady, WaitTimeout
from harness.platforms.docker import ContainerNode, DockerPlatform
from harness.platforms.node import ContainerSpec
from harness.setup import Environment
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["AttachedPlatform", "ComposeNode", "ComposePlatform", "Wanted", "running_project"]

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
_FILES_LABEL = "com.docker.compose.project.config_files"
_ONE_OFF_LABEL = "com.docker.compose.oneoff"

_LOOPBACK = "127.0.0.1"
_UP_SECONDS = 600.0
"""Images may have to be pulled and built."""
_SUBNETS_TRIED = 20
_COMES_BACK_EVERY_SECONDS = 0.05
_RESTARTING = ("always", "unless-stopped", "on-failure")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is brought up, and how."""

    project: Project
    roles: Roles
    tool: Tool
    build: bool
    scale: Mapping[str, int]
    new_env: Mapping[str, str]
    """Variables of the new version, on top of the services' own."""
    attached: str | None = None
    """The name of the project where it runs already."""


def running_project(name: str, *, environment: Environment) -> tuple[tuple[Path, ...], Mapping[str, int]]:
    """The files a project that runs was started from, and how many containers each of its services has.

    Raises:
        BadInput: no engine, or no project of this name runs on it.
    """
    client = engine.connect(engine.address(environment))
    api: Any = client.api
    found: list[dict[str, Any]] = []
    try:
        with engine.explained(f"the project {name} cannot be looked for", kind=BadInput):
            labels = [f"{PROJECT_LABEL}={name}", f"{_ONE_OFF_LABEL}=False"]
            found = api.containers(filters={"label": labels})
    finally:
        client.close()
    if not found:
        raise BadInput(f"no compose project named {name} runs here: `docker compose ls` lists those that do")
    written = str(found[0]["Labels"].get(_FILES_LABEL) or "")
    counts: dict[str, int] = {}
    for each in found:
        service = each["Labels"][SERVICE_LABEL]
        counts[service] = counts.get(service, 0) + 1
    return tuple(Path(file) for file in written.split(",") if file), counts


class ComposePlatform(DockerPlatform):
    """One project of a run, and its containers as nodes. As a context manager it removes all it made."""

    def __init__(self, workspace: Workspace, *, environment: Environment, wanted: Wanted) -> None:
        self.wanted = wanted
        self.project = wanted.attached or f"harness-{workspace.run_id}"
        self._replacing = threading.Lock()
        self._new: dict[str, bool] = {}
        """Services that run the new version."""
        self._override = workspace.scratch / "compose-override.json"
        self._logs = workspace.logs
        self._ports: Mapping[str, int] = {}
        self._app_port: int | None = None
        self._pool: tuple[str, str] | None = None
        super().__init__(workspace, environment=environment)
        self._marks = workspace.marks

    # -- its network ------------------------------------------------------------------------------------------

    def _make_network(self) -> IPv4Network:
        """Only chosen: compose makes it. A subnet of our own, because only there addresses can be chosen."""
        key = self._shared_network()
        network = self.wanted.project.networks[key]
        self.network = network.name if network.external else f"{self.project}_{key}"
        self._network_key = key
        if network.external:
            with engine.explained(f"the network {network.name} cannot be looked at", kind=BadInput):
                seen = self._api.inspect_network(network.name)
            return IPv4Network(seen["IPAM"]["Config"][0]["Subnet"])
        if network.subnet:
            return IPv4Network(network.subnet)
        self._candidates = itertools.islice(self._free_subnets(), _SUBNETS_TRIED)
        return self._choose_subnet()

    def _choose_subnet(self) -> IPv4Network:
        subnet = next(self._candidates, None)
        if subnet is None:
            raise BadInput(
                "a run needs a network of its own, and the engine finds no room for one: remove networks that nobody "
                "uses (docker network prune)"
            )
        _, upper = subnet.subnets()
        self._pool = (str(subnet), str(upper))
        return subnet

    def _shared_network(self) -> str:
        project, roles = self.wanted.project, self.wanted.roles
        balancer = project.services[roles.balancer]
        for key in balancer.networks:
            if key in project.networks and all(key in project.services[name].networks for name in roles.app):
                return key
        raise BadInput(
            f"the balancer {balancer.name} and {roles.app[0]} share no network of the project ({project}): put both on one "
            "(a service on the network of the machine itself cannot be judged)"
        )

    @property
    def addresses_can_be_chosen(self) -> bool:
        """The engine lets them be only on a network that was made with a subnet of its own."""
        return self._pool is not None or bool(self.wanted.project.networks[self._network_key].subnet)

    # -- the project ------------------------------------------------------------------------------------------

    def up(self, *, app_port: int | None, ports: Mapping[str, int], say: Callable[[str], None]) -> None:
        """Start the whole project.

        Raises:
            BadInput: compose could not, in its own words.
        """
        self._app_port, self._ports = app_port, ports
        self._refuse_taken_names()
        project = self.wanted.project
        nameless = [name for name, each in project.services.items() if each.build is not None and each.image is None]
        builds = list(project.services) if self.wanted.build else nameless
        builds = [name for name in builds if project.services[name].build is not None]
        if builds:
            say(f"building {', '.join(builds)}")
            self._write_override()
            self._compose("build", *builds, what=f"{', '.join(builds)} cannot be built")
        say("docker compose up")
        while True:
            self._write_override()
            try:
                self._compose("up", "--detach", "--quiet-pull", *self._scales(), what=f"{project} cannot be started")
            except BadInput as problem:
                # Somebody took it in this moment; which are free is only known by trying.
                if self._pool is None or "overlap" not in str(problem).lower():
                    raise
                self.subnet = self._choose_subnet()
            else:
                break
        lower, _ = self.subnet.subnets()
        self._addresses = itertools.islice(lower.hosts(), 1, None)

    def bring(self, service: str, *, new: bool) -> None:
        """Have compose replace the containers of one service by those of a version, and adopt them.

        Raises:
            NodeError: compose could not, in its own words.
        """
        self._new[service] = new
        self._write_override()
        build = ["--build"] if self.wanted.build and self.wanted.project.services[service].build is not None else []
        try:
            self._compose(
                "up",
                "--detach",
                "--no-deps",
                *build,
                *self._scales(service),
                service,
                what=f"{service} cannot be replaced",
            )
        except BadInput as problem:
            raise NodeError(str(problem)) from problem

    def _scales(self, service: str | None = None) -> list[str]:
        scale = self.wanted.scale
        return [word for name in scale if service in (None, name) for word in ("--scale", f"{name}={scale[name]}")]

    def _compose(self, *words: str, what: str) -> None:
        project = self.wanted.project
        files = [word for file in (*project.files, self._override) for word in ("-f", str(file))]
        said = self.wanted.tool.run(
            *("--progress", "plain"),
            *("--project-directory", str(project.files[0].parent)),
            *files,
            *("-p", self.project),
            *words,
            within_seconds=_UP_SECONDS,
            marks={**self._marks, "DOCKER_HOST": self.address.url},
        )
        with (self._logs / "compose.log").open("a", encoding="utf-8") as log:
            log.write(f"$ docker compose {' '.join(words)}\n{said.out}{said.err}\n")
        if said.code != 0:
            raise BadInput(f"{what}: {self._about(said.err)}{_with_remedy(said.problem)}")

    def _about(self, err: str) -> str:
        """Which image the trouble is about, where compose names its service only in passing."""
        found = re.search(r"^\s*(\S+) Error ", err, re.MULTILINE)
        service = self.wanted.project.services.get(found[1]) if found is not None else None
        return f"the image {service.image} of {service.name}: " if service is not None and service.image else ""

    def _write_override(self) -> None:
        project, roles = self.wanted.project, self.wanted.roles
        nameless = {
            name: each for name, each in project.services.items() if each.build is not None and each.image is None
        }
        text = override_for(
            project,
            roles,
            name=self.project,
            labels=self.labels,
            node_label=engine.NODE_LABEL,
            app_port=self._app_port,
            ports=self._ports,
            # Kept between runs, so that only what has changed is built.
            images={name: f"harness/compose-{_slug(f'{project.files[0].parent.name}-{name}')}" for name in nameless},
            env={name: self.wanted.new_env for name in roles.app if self._new.get(name)},
            pools={self._network_key: self._pool} if self._pool is not None else {},
        )
        self._override.write_text(text, encoding="utf-8")

    def _refuse_taken_names(self) -> None:
        for service in self.wanted.project.services.values():
            if service.container_name is None:
                continue
            found: list[Any] = []
            with engine.explained(f"{service.container_name} cannot be looked for", kind=HarnessError):
                found = self._api.containers(all=True, filters={"name": f"^/{re.escape(service.container_name)}$"})
            if found:
                raise BadInput(
                    f"{service.name} has the fixed container_name {service.container_name}, and a container of that name is "
                    f"there already ({found[0]['Status']}): remove it (docker rm -f {service.container_name}), or take "
                    "container_name out of the file"
                )

    # -- what it has ------------------------------------------------------------------------------------------

    def image_of(self, service: str) -> str:
        """The name of the image its containers were made of."""
        containers = self.containers(service)
        return str(containers[0]["Image"]) if containers else ""

    def exposed_ports(self, image: str) -> list[int]:
        """The TCP ports that an image says it listens on; none when it is not here."""
        seen: dict[str, Any] = {}
        with engine.explained(f"the image {image} cannot be looked at", passing=(400, 404)):
            seen = self._api.inspect_image(image)
        ports = (seen.get("Config") or {}).get("ExposedPorts") or {}
        return sorted(int(port.partition("/")[0]) for port in ports if port.endswith("/tcp"))

    def published_port(self, service: str, inside: int) -> int:
        """Where a port of a service is on this machine.

        Raises:
            BadInput: nowhere.
        """
        for container in self.containers(service):
            for port in container.get("Ports") or []:
                if port["PrivatePort"] == inside and "PublicPort" in port:
                    return int(port["PublicPort"])
        raise BadInput(f"{service} does not publish its port {inside}, so nobody can reach it: publish it in the file")

    def names_of(self, service: str) -> set[str]:
        """Every name and address under which its containers are found on the project's network."""
        names = {service}
        for container in self.containers(service):
            names.add(container["Names"][0].removeprefix("/"))
            for network in container["NetworkSettings"]["Networks"].values():
                names.update(network.get("Aliases") or [])
                names.add(network.get("IPAddress") or service)
        return names

    # -- its containers ---------------------------------------------------------------------------------------

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Those of one service, by their number."""
        found: list[dict[str, Any]] = []
        labels = [f"{PROJECT_LABEL}={self.project}", f"{SERVICE_LABEL}={service}", f"{_ONE_OFF_LABEL}=False"]
        with engine.explained(f"the containers of {service} cannot be listed"):
            found = self._api.containers(all=True, filters={"label": labels})
        return sorted(found, key=lambda each: int(each["Labels"].get(NUMBER_LABEL, 1)))

    def inspected(self, container: str) -> dict[str, Any]:
        """All the engine knows of it."""
        with engine.explained(f"the container {container[:12]} cannot be looked at"):
            return dict(self._api.inspect_container(container))
        raise AssertionError  # pragma: no cover - `explained` raises

    def adopt(
        self,
        spec: ContainerSpec,
        *,
        service: str,
        number: int,
        next_spec: ContainerSpec | None = None,
        introduced_as: Callable[[], str] = lambda: "",
    ) -> ComposeNode:
        """A container of the project as a node; it runs already, so that its first start is none.

        `introduced_as`: how it calls itself in its answers, asked when it is ready.

        Raises:
            BadInput: there is no such container.
        """
        node = ComposeNode(
            (spec, next_spec or spec),
            platform=self,
            workspace=self._workspace,
            service=service,
            number=number,
            introduced_as=introduced_as,
        )
        node.take()
        self._nodes[spec.name] = node
        return node

    def of(self, service: str) -> list[ComposeNode]:
        """The nodes that are containers of a service."""
        return [node for node in cast("Sequence[ComposeNode]", self.nodes) if node.service == service]


class AttachedPlatform(ComposePlatform):
    """A project that runs already. It is broken and mended, and neither made, replaced nor removed."""

    def _make_network(self) -> IPv4Network:
        key = self._network_key = self._shared_network()
        self.network = self.wanted.project.networks[key].name
        seen: dict[str, Any] = {}
        with engine.explained(f"the network {self.network} cannot be looked at", kind=BadInput):
            seen = self._api.inspect_network(self.network)
        return IPv4Network(seen["IPAM"]["Config"][0]["Subnet"])

    def up(self, *, app_port: int | None, ports: Mapping[str, int], say: Callable[[str], None]) -> None:
        """Nothing: it is."""
        del ports, say
        self._app_port = app_port

    def bring(self, service: str, *, new: bool) -> None:
        del new
        raise NodeError(f"{service} is not replaced by another version: the project {self.project} is somebody's own")

    def adopt(
        self,
        spec: ContainerSpec,
        *,
        service: str,
        number: int,
        next_spec: ContainerSpec | None = None,
        introduced_as: Callable[[], str] = lambda: "",
    ) -> ComposeNode:
        """As for a project of the run; and whoever puts away after it knows that the container is somebody's."""
        node = super().adopt(spec, service=service, number=number, next_spec=next_spec, introduced_as=introduced_as)
        self._workspace.borrows(
            engine.Borrowed(
                url=self.address.url,
                container=node.container or "",
                network=self.network,
                aliases=tuple(node._aliases),
                address=node.address if self.addresses_can_be_chosen else None,
            )
        )
        return node

    def close(self) -> None:
        """Keep what the containers said, and remove what the run itself has made beside them."""
        if self._closed:
            return
        self._closed = True
        for node in self.nodes:
            with suppress(NodeError):  # only about what they said
                node.collect_log()
        removed = engine.remove_run(self._workspace.run_id, url=self._where.url, scratch=self._workspace.scratch.name)
        self._client.close()
        if removed.problems:
            raise ExceptionGroup("some containers could not be removed", [NodeError(each) for each in removed.problems])


class ComposeNode(ContainerNode):
    """One container of a project. It is started again as it was, and replaced by the compose command."""

    def __init__(
        self,
        specs: tuple[ContainerSpec, ContainerSpec],
        *,
        platform: ComposePlatform,
        workspace: Workspace,
        service: str,
        number: int,
        introduced_as: Callable[[], str],
    ) -> None:
        super().__init__(specs[0], platform=platform, workspace=workspace)
        self._compose = platform
        self._specs = specs
        self.service = service
        self.number = number
        self._introduced_as = introduced_as
        self._introduced: dict[str, str] = {}
        """How each of its containers called itself."""
        self._runs_already = True
        self._restarts = False
        self._place_now: tuple[str, int] | None = None
        self._endpoint_aliases: list[str] = []

    # -- whose container it is --------------------------------------------------------------------------------

    def take(self) -> None:
        """Take the container that its service has at this place now.

        Raises:
            BadInput: there is none.
        """
        containers = self._compose.containers(self.service)
        if self.number > len(containers):
            raise BadInput(f"{self.name} has no container: compose made {len(containers)} of {self.service}")
        told = containers[self.number - 1]
        with self._changing:
            self.collect_log()
            self._container = told["Id"]
            self._called = told["Names"][0].removeprefix("/")
            self._log_taken = 0
            self._log_begins = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._began = clock.now()
            self._ready_after = None
            self._told_to_stop = False
            self._place = None
            self._place_now = None
            seen = self._inspected()
            self._restarts = seen["HostConfig"]["RestartPolicy"]["Name"] in _RESTARTING
            ours = seen["NetworkSettings"]["Networks"].get(self._platform.network) or {}
            # The engine adds the short form of its id by itself.
            self._endpoint_aliases = [name for name in ours.get("Aliases") or [] if name != told["Id"][:12]]
            self._watch()

    @property
    def _aliases(self) -> list[str]:
        return self._endpoint_aliases

    def seen_as(self) -> list[str]:
        """How the balancer, or it itself, may name it now: addresses with its port, names, and what it calls itself."""
        if self._container is None:
            return []
        networks = self._inspected()["NetworkSettings"]["Networks"].values()
        places = [f"{each['IPAddress']}:{self._spec.container_port}" for each in networks if each.get("IPAddress")]
        return [*places, self.name, self._called, *self._introduced.values()]

    def place(self) -> tuple[str, int]:
        """Where it is reached from this machine: where it is published, else at its own address, as far as there is a way.

        Containers of one service share a range of ports, so that it may be another one after each start.
        """
        if self._place_now is None and self.is_running():
            seen = self._inspected()["NetworkSettings"]
            inside = self._spec.container_port
            for each in (seen["Ports"] or {}).get(f"{inside}/tcp") or []:
                host = each["HostIp"] if each["HostIp"] not in ("", "0.0.0.0", "::") else _LOOPBACK
                self._place_now = (host, int(each["HostPort"]))
                return self._place_now
            address = (seen["Networks"].get(self._platform.network) or {}).get("IPAddress")
            self._place_now = (address, inside) if address else None
        return self._place_now or (_LOOPBACK, self._spec.port)

    # -- start ------------------------------------------------------------------------------------------------

    def start(self, spec: ContainerSpec | None = None) -> None:
        """Start the container it has, or have compose replace it when another spec is given. The first time it runs already.

        Raises:
            NodeError: it runs already otherwise, or compose could not.
        """
        with self._changing:
            if self._runs_already:
                self._runs_already = False
                return
            if spec is None or spec is self._spec:
                self._place_now = None
                super().start()
                return
            if self.is_running():
                raise NodeError(f"{self.name} runs already (container {self._called}): stop it first")
        self._become(spec)

    def replace(self, spec: ContainerSpec, *, on_stopped: Callable[[str], None]) -> None:
        """Have compose replace it, and all other containers of its service, in its one step.

        Raises:
            NodeError: compose could not.
        """
        nodes = self._compose.of(self.service)
        lives = [(node.name, node._life) for node in nodes]

        def watch(name: str, life: Any) -> None:
            if life is not None:
                life.over.wait(_UP_SECONDS)
                on_stopped(name)

        with ThreadPoolExecutor(len(nodes), "replaced") as pool:
            watching = [pool.submit(watch, name, life) for name, life in lives]
            try:
                self._become(spec)
            except BaseException:
                for node in nodes:
                    node._give_up_watching()
                raise
            for each in watching:
                each.result()

    def reconnect(self) -> None:
        """Give it its place on the network back, under the address it had; does nothing if it has it.

        The engine is let choose, and chooses the same as long as nobody else has come or gone. An address that is asked for
        stays asked for: when all instances are started anew, another one may be given it first, and this one could not start.

        Raises:
            NodeError: the engine does not.
        """
        with self._changing:
            place, self._place = self._place, None
            super().reconnect()  # without a place it only removes who stands in for it
            self._place_now = None
            if place is None or self._container is None:
                return
            container, network = self._container, self._platform.network
            with engine.explained(f"{self.name} cannot be connected again"):
                self._api.connect_container_to_network(container, network, aliases=self._aliases)
                if self._compose.addresses_can_be_chosen and self.is_running() and self.address != place:
                    self._api.disconnect_container_from_network(container, network)
                    self._api.connect_container_to_network(
                        container, network, aliases=self._aliases, ipv4_address=place
                    )

    def _refuse_taken_ports(self) -> None:
        """Nothing: which ports it gets is between its file and the engine, and that says so when one is taken."""

    def _what_is_seen(self) -> str:
        """As for any container; which port is the right one stands in the project, or beside it."""
        return super()._what_is_seen().replace("app.port", "compose.port")

    def _become(self, spec: ContainerSpec) -> None:
        new = self._specs.index(spec)
        with self._compose._replacing:
            nodes = self._compose.of(self.service)
            if all(node._specs.index(node._spec) == new and node._is_there() for node in nodes):
                return  # another container of the service was replaced, and this one with it
            self._compose.bring(self.service, new=bool(new))
            for node in nodes:
                node._spec = node._specs[new]
                node.take()

    def _is_there(self) -> bool:
        return self._container is not None and self.is_running()

    def _give_up_watching(self) -> None:
        if self._life is not None and not self._life.is_over():
            self._life.over.set()

    def wait_ready(self) -> None:
        """Return when it is ready. One that ends and is started again by its restart policy is given the time for that.

        Raises:
            NodeNeverReady: it ended for good, or was not ready in time.
        """
        end = clock.now() + self._spec.ready_within_seconds * patience()
        while True:
            try:
                super().wait_ready()
                break
            except NodeNeverReady:
                if not self._comes_back(until=end):
                    raise
        if self._container is not None and self._container not in self._introduced:
            self._introduced[self._container] = self._introduced_as()

    def _comes_back(self, *, until: float) -> bool:
        """Whether the engine starts it again, as its file says."""
        if self._life is None or not self._life.is_over() or not self._restarts or self._told_to_stop:
            return False
        try:
            wait_until(
                lambda: self._inspected()["State"]["Running"],
                within_seconds=max(0.0, until - clock.now()) / patience(),
                every_seconds=_COMES_BACK_EVERY_SECONDS,
                because=f"{self.name} should be started again by its restart policy",
            )
        except WaitTimeout:
            return False
        self._watch()
        return clock.now() < until

    # -- another address --------------------------------------------------------------------------------------

    def relocate(self) -> str:
        """End it and start it anew under another address, as a replaced container is. Returns the new address.

        Raises:
            NodeError: its network does not let addresses be chosen, and as for `stop` and `start`.
        """
        if not self._compose.addresses_can_be_chosen:
            raise NodeError(f"{self.name} cannot be given another address: its network was made without a subnet")
        with self._changing:
            new = self._platform.new_address()
            if self.is_running():
                self.stop()
            with engine.explained(f"{self.name} cannot be given another address"):
                self._api.disconnect_container_from_network(self._known(), self._platform.network, force=True)
                self._api.connect_container_to_network(
                    self._known(), self._platform.network, aliases=self._aliases, ipv4_address=new
                )
            super().start()
            return new


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


_REMEDIES = (
    (r"exit code: \d+$", "`docker compose build` shows all of it"),
    (r"port is already allocated|address already in use", "end what has that port, or publish another one"),
    (r"container name .* is already in use", "remove that container, or take container_name out of the file"),
    (
        r"no such host|dial tcp|TLS handshake|i/o timeout",
        "there is no way to a registry: load the image (docker load), or name one that is here",
    ),
    (
        r"manifest .* not found|repository does not exist|pull access denied",
        "correct the name of the image, or docker login",
    ),
    (r"overlaps? with", "another network has that subnet: remove it, or choose another one in the file"),
    (r"permission denied", "become a member of the group of the engine's socket"),
)


def _with_remedy(problem: str) -> str:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, problem, re.IGNORECASE):
            return f"{problem.rstrip('.')}: {remedy}"
    return problem
