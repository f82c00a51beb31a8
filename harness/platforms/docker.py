"""Nodes as containers of the engine on this machine, on a network of their own, published on loopback only.

testcontainers makes the containers; what is done to one afterwards goes to the engine by its own interface, because
testcontainers knows no pause, no disconnect and no second start. Its ways of waiting are not used: they look once a
second, and take the engine's proxy, which accepts before anybody listens, for the server.

Everything that is made carries the labels of the run, so that it is found and removed however the run ends.
Must not: pull an image, use a shell on this machine, or know what a node is for.
"""

from __future__ import annotations

import io
import ipaddress
import itertools
import os
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path, PurePosixPath
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import Any, Literal, Self, cast

from harness import clock, engine, ports, processes
from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady, WaitTimeout
from harness.platforms.node import ContainerSpec, log_in_words
from harness.setup import Environment
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["ContainerNode", "DockerPlatform"]

_LOOPBACK = "127.0.0.1"
_LOOK_EVERY_SECONDS = 0.01
_GONE_WITHIN_SECONDS = 10.0
_CONNECT_SECONDS = 1.0
_LOG_LINES = 10
_LOG_TAIL_BYTES = 16 * 1024
_LINE_LENGTH = 300
_SUBNETS_TRIED = 50
_NOT_RUNNING = (404, 409)
"""What the engine says when a container has ended, or was removed, in this moment."""
_NOT_THERE = (404,)
_IDLE = ("tail", "-f", "/dev/null")
_RESOLVER_OF_THE_ENGINE = "127.0.0.11"
_KILLED_CODE = 128 + SIGKILL

_HEADROOM_BYTES = 32 << 20
_LEAST_MEMORY_BYTES = 6 << 20
# The kernel takes the one with the highest score: the node itself, whose end is the end of its container, and not the
# program that uses up the memory. A shell is all that is needed of the image.
_USE_UP_MEMORY = "echo 1000 > /proc/1/oom_score_adj && a=xxxxxxxxxxxxxxxx && while :; do a=$a$a; done"


class DockerPlatform:
    """Runs nodes as containers. The workspace must outlive it. As a context manager it removes all it made."""

    def __init__(self, workspace: Workspace, *, environment: Environment | None = None) -> None:
        """Connect to the engine and make the run's network.

        Raises:
            BadInput: no engine that can be used, or no room for a network.
        """
        self._where = engine.address(environment)
        self._client = engine.connect(self._where)
        # Its types are known by half.
        self._api: Any = self._client.api
        self._workspace = workspace
        self._nodes: dict[str, ContainerNode] = {}
        self._planning = threading.Lock()
        self._closed = False
        self.labels = engine.labels(run=workspace.run_id, scratch=workspace.scratch)
        """What every thing of this run must carry."""
        self.network = workspace.scratch.name
        """Its name on the engine, unique on the machine; names of nodes are resolved in it."""
        try:
            _settle_testcontainers(self.has_image)
            workspace.uses_engine(self._where.url)
            self.subnet = self._make_network()
        except BaseException:
            self._client.close()
            raise
        # The lower half is planned, the upper half the engine gives away by itself.
        self._addresses = itertools.islice(self.subnet.hosts(), 1, self.subnet.num_addresses // 2 - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every node, keep what it said, and remove all the run has on the engine. All is tried.

        Raises:
            ExceptionGroup: of NodeError, for each thing that could not be done.
        """
        if self._closed:
            return
        self._closed = True
        problems: list[NodeError] = []

        def end(node: ContainerNode) -> None:
            for act in (node.kill, node.collect_log):
                try:
                    act()
                except NodeError as problem:
                    problems.append(problem)

        if self._nodes:
            with ThreadPoolExecutor(len(self._nodes), "end") as pool:
                list(pool.map(end, self.nodes))
        removed = engine.remove_run(self._workspace.run_id, url=self._where.url, scratch=self._workspace.scratch.name)
        problems += [NodeError(problem) for problem in removed.problems]
        self._client.close()
        if problems:
            raise ExceptionGroup("some containers could not be removed", problems)

    # -- what it has ------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[ContainerNode, ...]:
        """In the order they were added."""
        return tuple(self._nodes.values())

    @property
    def client(self) -> engine.DockerClient:
        """The SDK, for whoever needs of the engine what nodes do not. What is made must carry `labels`."""
        return self._client

    @property
    def address(self) -> engine.Address:
        """Where the engine is."""
        return self._where

    def add(self, spec: ContainerSpec, *, moves_to: str | None = None) -> ContainerNode:
        """A node that can be started. Nothing is started yet. `moves_to`: where it goes when it is relocated.

        Raises:
            HarnessError: there is a node of this name.
        """
        if spec.name in self._nodes:
            raise HarnessError(f"there are two nodes named {spec.name}: names must differ")
        node = ContainerNode(spec, platform=self, workspace=self._workspace, moves_to=moves_to)
        self._nodes[spec.name] = node
        return node

    def new_address(self) -> str:
        """An address of the run's network that nobody else is given.

        Raises:
            BadInput: all are given away.
        """
        with self._planning:
            found = next(self._addresses, None)
        if found is None:
            raise BadInput(
                f"the network of a run has no more than {self.subnet.num_addresses // 2 - 2} addresses for its nodes: "
                "use fewer instances (app.instances)"
            )
        return str(found)

    def has_image(self, name: str) -> bool:
        """Whether it is on the engine. Nothing is pulled."""
        return bool(self._inspected_image(name))

    def _inspected_image(self, name: str) -> dict[str, Any]:
        """Empty when there is none of this name, or it is no name."""
        seen: dict[str, Any] = {}
        with engine.explained(f"the image {name} cannot be looked at", passing=(400, 404)):
            seen |= self._api.inspect_image(name)
        return seen

    def image_env(self, name: str) -> Mapping[str, str]:
        """The variables an image sets by itself.

        Raises:
            NodeError: there is no such image.
        """
        image = self._inspected_image(name)
        if not image:
            raise NodeError(f"there is no image {name} on the engine at {self._where}")
        return dict(each.partition("=")[::2] for each in image["Config"].get("Env") or [])

    def ask(self, image: str, *argv: str) -> str:
        """What a program of an image says, run in a container that is gone afterwards.

        Raises:
            NodeError: it cannot be run, or failed.
        """
        with engine.explained(f"{argv[0]} in {image} cannot be asked"):
            said = self._client.containers.run(
                image,
                list(argv[1:]),
                entrypoint=argv[0],
                network_mode="none",
                labels=self.labels,
                remove=True,
                stderr=True,
            )
        return bytes(said).decode(errors="replace")

    def check(self, spec: ContainerSpec, *, what: str = "app.image") -> None:
        """See early that a node's image can be run at all.

        Raises:
            BadInput: it cannot; `what` is named as the key to mend.
        """
        mistake = self.mistake_in_image(spec.image)
        if mistake is not None:
            raise BadInput(f"{what}: {mistake}")

    def mistake_in_image(self, name: str) -> str | None:
        """Why an image cannot be run here, with what was seen and what to do; None when nothing speaks against it."""
        image = self._inspected_image(name)
        if not image:
            return (
                f"there is no image {name} on the engine at {self._where}: docker pull it, build it "
                "(`harness images build` makes those named harness/…), or name another"
            )
        with engine.explained("the engine cannot be asked for its processor"):
            ours = self._api.version()["Arch"]
        theirs = image.get("Architecture") or ours
        if theirs != ours:
            return (
                f"the image {name} is made for {theirs}, and the engine runs {ours}: build it for linux/{ours} "
                f"(docker build --platform linux/{ours}), or name another"
            )
        return None

    def who_publishes(self, port: int) -> str | None:
        """The name of the container that has this port of this machine."""
        with engine.explained(f"who has port {port} cannot be found out"):
            for each in self._api.containers(filters={"publish": str(port)}):
                return str(each["Names"][0]).removeprefix("/")
        return None

    # -- its network ------------------------------------------------------------------------------------------

    def _make_network(self) -> IPv4Network:
        """A bridge with a subnet of its own, because only there addresses can be chosen.

        Which subnets are free is only known by trying: another run may be about to take the same one.
        """
        last: HarnessError | None = None
        for subnet in itertools.islice(self._free_subnets(), _SUBNETS_TRIED):
            try:
                with engine.explained("a network for the run cannot be made", kind=HarnessError):
                    self._api.create_network(
                        self.network,
                        driver="bridge",
                        ipam=_ipam(subnet),
                        options={"com.docker.network.bridge.host_binding_ipv4": _LOOPBACK},
                        labels=self.labels,
                    )
            except HarnessError as problem:
                if "overlap" not in str(problem).lower():
                    raise
                last = problem
            else:
                return subnet
        raise BadInput(
            "a run needs a network of its own, and the engine finds no room for one "
            f"({last or 'every private range is in use'}): remove networks that nobody uses (docker network prune)"
        )

    def _free_subnets(self) -> Iterator[IPv4Network]:
        """Subnets that nobody uses as far as can be seen."""
        known: list[dict[str, Any]] = []
        with engine.explained("the networks of the engine cannot be listed", kind=HarnessError):
            known = self._api.networks()
        taken = [*_routes_of_this_machine(), *_subnets_of(known)]
        return (each for each in _subnets() if not any(each.overlaps(other) for other in taken))


def _subnets() -> Iterator[IPv4Network]:
    """Private ones, because applications tell a balancer from a visitor by that; runs begin at different places."""
    begin = os.getpid() * 61
    for template, first, last in (
        ("10.{}.{}.0/24", 201, 249),
        ("172.{}.{}.0/24", 28, 31),
        ("192.{}.{}.0/24", 168, 168),
    ):
        all_of_it = [template.format(middle, third) for middle in range(first, last + 1) for third in range(256)]
        for number in range(len(all_of_it)):
            yield IPv4Network(all_of_it[(begin + number) % len(all_of_it)])


def _routes_of_this_machine() -> Iterator[IPv4Network]:
    """Where this machine sends packets now (a private network, say): a bridge on top of it would cut that off."""
    try:
        rows = Path("/proc/net/route").read_text("ascii").splitlines()[1:]
    except OSError:
        return
    for row in rows:
        fields = row.split()
        to, mask = (int(fields[at], 16).to_bytes(4, sys.byteorder) for at in (1, 7))
        if any(mask):
            yield IPv4Network((to, str(ipaddress.IPv4Address(mask))), strict=False)


def _subnets_of(networks: list[dict[str, Any]]) -> Iterator[IPv4Network]:
    for each in networks:
        for config in (each.get("IPAM") or {}).get("Config") or []:
            with suppress(ValueError, KeyError):  # of the sixth version
                yield IPv4Network(config["Subnet"])


def _ipam(subnet: IPv4Network) -> Any:
    _, upper_half = subnet.subnets()
    pool = {"Subnet": str(subnet), "IPRange": str(upper_half), "Gateway": str(next(subnet.hosts()))}
    return {"Driver": "default", "Config": [pool]}


_settling = threading.Lock()


def _settle_testcontainers(has_image: Callable[[str], bool]) -> None:
    """What testcontainers reads from the environment and from files of the person at its import, set to what we need.

    Its own reaper, Ryuk, is used beside ours where its image happens to be there: it is never pulled.
    """
    with engine.needs_packages():
        from testcontainers.core.config import ConnectionMode, testcontainers_config
        from testcontainers.core.container import Reaper

    with _settling:
        wants_ryuk = not testcontainers_config.ryuk_disabled
        testcontainers_config.tc_properties = {}
        testcontainers_config.hub_image_name_prefix = ""
        testcontainers_config.tc_host_override = _LOOPBACK
        # Inside a container, or what looks like one, it would give out addresses of the bridge.
        testcontainers_config.connection_mode_override = ConnectionMode.docker_host
        # It would log in to a registry for every container; its setter prints a warning.
        testcontainers_config._docker_auth_config = None
        testcontainers_config.ryuk_disabled = True
        if wants_ryuk and has_image(testcontainers_config.ryuk_image):
            testcontainers_config.ryuk_disabled = False
            try:
                # Here and not by the first container: several start at once, and it would be made several times.
                with engine.explained("Ryuk cannot be started"):
                    Reaper.get_instance()
            except (NodeError, RuntimeError):  # our own reaper is enough
                testcontainers_config.ryuk_disabled = True


class _Incarnation:
    """One life of a container: a thread of its own awaits its end, so that the moment is known without asking."""

    def __init__(self, node: str, wait: Callable[[], Mapping[str, Any]]) -> None:
        self.over = threading.Event()
        self.code: int | None = None
        self.problem: NodeError | None = None
        self._node = node
        self._wait = wait
        threading.Thread(target=self._watch, name=f"watch {node}", daemon=True).start()

    def _watch(self) -> None:
        try:
            with engine.explained(f"the end of {self._node} cannot be awaited"):
                self.code = int(self._wait()["StatusCode"])
        except NodeError as problem:
            self.problem = problem
        finally:
            self.over.set()

    def is_over(self) -> bool:
        """Raises NodeError when that cannot be known any more."""
        if self.problem is not None:
            raise self.problem
        return self.over.is_set()


class ContainerNode:
    """One container, replaced by another one of the same name when its spec or its address changes.

    May be used from several threads.
    """

    def __init__(
        self, spec: ContainerSpec, *, platform: DockerPlatform, workspace: Workspace, moves_to: str | None = None
    ) -> None:
        self._spec = spec
        self._platform = platform
        self._api: Any = platform.client.api
        self._called = f"{platform.network}-{spec.name}"
        self._moves_to = moves_to
        self._changing = threading.RLock()
        self._logging = threading.Lock()
        self._container: str | None = None
        self._life: _Incarnation | None = None
        self._began = 0.0
        self._ready_after: float | None = None
        self._log_taken = 0
        self._log_begins = 0
        """Where in its log file the log of its container begins."""
        self._log_mark = ""
        """When it said its last word before its last start."""
        self._told_to_stop = False
        self._place: str | None = None
        """Its address while it is cut off; None while it has its place on the network."""
        self._stand_in: str | None = None
        self.was_killed = False
        """Whether the last `stop` had to kill it because it did not end in time."""
        self.log_path = workspace.logs / f"{spec.name}.log"
        """Brought up to date before its container is removed, and by `collect_log`: to read a long log takes the engine
        a while, and a node often ends while something is measured."""

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<ContainerNode {self.name}>"

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def spec(self) -> ContainerSpec:
        return self._spec

    @property
    def container(self) -> str | None:
        """The id of its container; None where it has none."""
        return self._container

    @property
    def address(self) -> str | None:
        """Where it is on the run's network; None while it is nowhere."""
        if self._spec.address is not None:
            return self._spec.address
        seen = self._inspected() if self._container is not None else {}
        networks = seen.get("NetworkSettings", {}).get("Networks", {})
        return networks.get(self._platform.network, {}).get("IPAddress") or None

    @property
    def start_seconds(self) -> float:
        """From its last start to its first readiness after it; 0 while it was not ready yet."""
        return self._ready_after or 0.0

    @property
    def exit_code(self) -> int | None:
        """Of its last end, as the engine has it: 128 and the number of the signal that ended it.

        None while it runs or was never started.
        """
        return None if self._life is None else self._life.code

    def is_running(self) -> bool:
        return self._life is not None and not self._life.is_over()

    def is_ready(self) -> bool:
        """One look: it runs, and says that it is ready."""
        return self.is_running() and bool(self._spec.is_ready())

    def is_hung(self) -> bool:
        """Whether the engine says that it is frozen."""
        return self.is_running() and bool(self._inspected()["State"]["Paused"])

    def is_cut_off(self) -> bool:
        """Whether it runs and the engine says that it is not on the run's network."""
        if self._place is None or not self.is_running():
            return False
        return self._platform.network not in self._inspected()["NetworkSettings"]["Networks"]

    def _inspected(self) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        with engine.explained(f"{self.name} cannot be looked at"):
            seen |= self._api.inspect_container(self._known())
        return seen

    def _known(self) -> str:
        if self._container is None:
            raise NodeError(f"{self.name} has no container: it was never started, or could not be")
        return self._container

    # -- logs -------------------------------------------------------------------------------------------------

    def collect_log(self) -> None:
        """Add to its log file what it said since the last time.

        Raises:
            NodeError: the engine does not give it.
        """
        with self._logging:
            if self._container is None:
                return
            said = b""
            with engine.explained(f"the log of {self.name} cannot be had", passing=_NOT_THERE):
                # From its beginning: to ask for what came after a moment loses lines, or has them twice.
                said = self._api.logs(self._container)
            with self._opened_log() as log:
                log.write(said[self._log_taken :])
            self._log_taken = max(self._log_taken, len(said))

    def _opened_log(self) -> io.FileIO:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return open(os.open(self.log_path, flags, 0o600), "wb", buffering=0)  # noqa: PTH123 - of a descriptor

    def last_log_lines(self, count: int = _LOG_LINES) -> list[str]:
        """The last lines it wrote since its last start. They may hold secrets: redact before showing."""
        try:
            lines = [text for stamp, text in self._said_last(count) if stamp > self._log_mark]
        except NodeError:  # its container is gone, or the engine is: what was collected is there all the same
            lines = self._collected_last(count)
        return [line[:_LINE_LENGTH] for line in lines]

    def log_lines(self, count: int) -> list[str]:
        """The last lines of its container, whole; none where it has none. They may hold secrets: redact before showing."""
        with suppress(NodeError):
            return [text for _, text in self._said_last(count)]
        return []

    def _said_last(self, count: int) -> list[tuple[str, str]]:
        """The last lines of its container, each with its time as the engine writes it: they sort as text."""
        if self._container is None:
            return []
        said = b""
        with engine.explained(f"the log of {self.name} cannot be had"):
            said = self._api.logs(self._container, tail=count, timestamps=True)
        lines = said.decode("utf-8", "replace").rstrip().splitlines()
        return [(stamp, text) for stamp, _, text in (line.partition(" ") for line in lines)]

    def _collected_last(self, count: int) -> list[str]:
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_begins, size - _LOG_TAIL_BYTES))
                return log.read().decode("utf-8", "replace").rstrip().splitlines()[-count:]
        except OSError:
            return []

    # -- start ------------------------------------------------------------------------------------------------

    def start(self, spec: ContainerSpec | None = None) -> None:
        """Start it and return at once: the container it had, or a new one when another spec is given.

        Raises:
            NodeError: it runs already, or the spec is of another node.
            NodeNeverReady: there is no such image, its command cannot be run, or its port or address is taken.
        """
        with self._changing:
            if self.is_running():
                raise NodeError(f"{self.name} runs already (container {self._called}): stop it first")
            if spec is not None and spec.name != self.name:
                raise NodeError(f"{self.name} was given the spec of {spec.name}")
            if spec is not None and spec is not self._spec:
                self._remove()
                self._spec = spec
            self.reconnect()
            self._refuse_taken_ports()
            with suppress(NodeError):  # a container that is gone is told by the engine when it is started
                self._log_mark = max((stamp for stamp, _ in self._said_last(1)), default="")
            self._began = clock.now()
            self._ready_after = None
            self._told_to_stop = False
            self._life = None
            if self._container is None:
                self._make()
            else:
                try:
                    with engine.explained(f"{self.name} cannot be started"):
                        self._api.start(self._container)
                except NodeError as problem:
                    raise self._not_started(problem) from problem
            self._watch()

    def _watch(self) -> None:
        """From now on the end of its container is known."""
        container = self._known()
        self._life = _Incarnation(self.name, lambda: self._api.wait(container, timeout=None))

    def _make(self) -> None:
        """Make its container by testcontainers, which also puts its files there before it runs."""
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.exceptions import ContainerStartException

        spec, network = self._spec, self._platform.network
        # testcontainers would pull it.
        if not self._platform.has_image(spec.image):
            mistake = self._platform.mistake_in_image(spec.image)
            raise NodeNeverReady(f"{self.name} cannot be started: {mistake}")
        limit = spec.memory_mib << 20 if spec.memory_mib is not None else None
        maker = DockerContainer(
            spec.image,
            docker_client_kw={
                "environment": {"DOCKER_HOST": self._platform.address.url},
                "version": self._api.api_version,
            },
            env=dict(spec.env),
            name=self._called,
        )
        if spec.command is not None:
            maker.with_command(list(spec.command))
        for inside, outside in {spec.container_port: spec.port, **spec.extra_ports}.items():
            # It takes what the engine takes, and says that it takes less.
            cast(dict[str, Any], maker.ports)[f"{inside}/tcp"] = (spec.host, outside)
        for path in spec.tmpfs:
            maker.with_tmpfs_mount(path)
        for path, content in spec.files.items():
            maker.with_copy_into_container(content, path)
        maker.with_kwargs(
            labels={**self._platform.labels, engine.NODE_LABEL: self.name},
            hostname=self.name,
            # Not by testcontainers' own network, which knows no fixed addresses.
            network=network,
            networking_config={
                network: self._api.create_endpoint_config(aliases=self._aliases, ipv4_address=spec.address)
            },
            # Whatever the engine's default is, and without a limit: logs are complete.
            log_config={"type": "json-file", "config": {}},
            mem_limit=limit,
            memswap_limit=limit,
            stop_signal=spec.stop_signal.name if spec.stop_signal is not None else None,
            # Proxies of the person's docker are not for what runs here.
            use_config_proxy=False,
        )
        try:
            with closing(maker.get_docker_client().client), engine.explained(f"{self.name} cannot be started"):
                maker.start()
        except NodeError as problem:
            raise self._not_started(problem) from problem
        finally:
            # Also when it was made and could not be started, or the person gave up: then it is removed with the rest.
            with suppress(ContainerStartException):
                self._container = maker.get_container_id()
                self._log_taken = 0
                self._log_begins = self.log_path.stat().st_size if self.log_path.exists() else 0

    @property
    def _aliases(self) -> list[str]:
        return [self.name, *self._spec.aliases]

    def wait_ready(self) -> None:
        """Return when it is ready.

        Raises:
            NodeError: it was not started.
            NodeNeverReady: it ended, or was not ready in time. Says what was seen, with the end of its log: redact
                before showing.
        """
        life, spec = self._life, self._spec
        if life is None:
            raise NodeError(f"{self.name} was not started")
        try:
            # An end first: what answers after it is not this node.
            wait_until(
                lambda: life.is_over() or spec.is_ready(),
                within_seconds=spec.ready_within_seconds,
                every_seconds=_LOOK_EVERY_SECONDS,
                because=f"{self.name} should be ready",
            )
        except WaitTimeout:
            raise NodeNeverReady(self._why_not_ready()) from None
        if life.is_over():
            raise NodeNeverReady(self._why_ended(life))
        if self._ready_after is None:
            self._ready_after = clock.now() - self._began

    # -- end --------------------------------------------------------------------------------------------------

    def signal(self, signal: Signals) -> None:
        """Send a signal to the first process of the container. A frozen one is made to go on by the engine.

        Raises:
            NodeError: it does not run.
        """
        self._send(signal.name)

    def _send(self, name: str) -> None:
        if not self.is_running():
            raise NodeError(f"{self.name} does not run, so it cannot be sent {name}")
        if name == self._stop_signal:
            self._told_to_stop = True
        with engine.explained(f"{self.name} cannot be sent {name}"):
            self._api.kill(self._known(), name)

    @property
    def _stop_signal(self) -> str:
        """Its spec's, else its image's, else the engine's."""
        if self._spec.stop_signal is not None:
            return self._spec.stop_signal.name
        written = str(self._inspected()["Config"].get("StopSignal") or SIGTERM.name)
        if written.isdecimal():
            with suppress(ValueError):
                return Signals(int(written)).name
        return written if written.startswith("SIG") else f"SIG{written}"

    def tell_to_stop(self) -> None:
        """Send its stop signal and return at once. Raises NodeError when it does not run."""
        self._send(self._stop_signal if self.is_running() else SIGTERM.name)

    def stop(self) -> int:
        """Ask it to end, wait its patience, then kill it. Returns the exit code.

        Its port is free on return. `was_killed` says whether it had to be killed. It is not asked twice: many
        servers take the second request for "at once".

        Raises:
            NodeError: it was never started, or could not even be killed.
        """
        life = self._life
        if life is None:
            raise NodeError(f"{self.name} was never started, so it cannot be stopped")
        self.was_killed = False
        if not life.is_over():
            if not self._told_to_stop:
                with suppress(NodeError):  # ended in this moment: as wanted
                    self.tell_to_stop()
            self.resume()
            # Not scaled by patience: how long an app may take to end is part of what is judged.
            self.was_killed = not life.over.wait(self._spec.stop_within_seconds)
        if self.was_killed:
            self.kill()
        life.is_over()
        return life.code if life.code is not None else _KILLED_CODE

    def kill(self) -> None:
        """End it without warning; it is gone on return. Does nothing if it never ran.

        Raises:
            NodeError: it could not be killed.
        """
        with self._changing:
            life = self._life
            if life is None or life.is_over():
                return
            with engine.explained(f"{self.name} cannot be killed", passing=_NOT_RUNNING):
                self._api.kill(self._known(), SIGKILL.name)
            if not life.over.wait(_GONE_WITHIN_SECONDS * patience()):
                raise NodeError(f"{self.name} was killed (container {self._called}), and is still there")

    def _remove(self) -> None:
        """End its container for good; nothing happens where it has none."""
        with self._changing:
            self.kill()
            self._remove_stand_in()
            if self._container is None:
                return
            self.collect_log()
            with engine.explained(f"{self.name} cannot be removed", passing=_NOT_THERE):
                self._api.remove_container(self._container, force=True, v=True)
            self._container, self._place = None, None

    # -- freeze -----------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """Freeze all its processes; the engine says that they are on return.

        Raises:
            NodeError: it does not run, or could not be frozen.
        """
        if not self.is_running():
            raise NodeError(f"{self.name} does not run, so it cannot be frozen")
        with engine.explained(f"{self.name} cannot be frozen", passing=_NOT_RUNNING):  # frozen already is as well
            self._api.pause(self._known())
        if not self.is_hung():
            raise NodeError(f"{self.name} cannot be frozen: the engine was told to, and says it is not")

    def resume(self) -> None:
        """Let it go on; does nothing if it is not frozen or does not run.

        Raises:
            NodeError: it stays frozen.
        """
        if not self.is_hung():
            return
        try:
            with engine.explained(f"{self.name} stays frozen"):
                self._api.unpause(self._known())
        except NodeError:
            # By the state and not by the answer: an engine lets a frozen container go on by itself to hand it a signal, and
            # says to who is second that it is not frozen, as a mistake (older ones as one of their own, with 500).
            if self.is_hung():
                raise

    # -- cut off ----------------------------------------------------------------------------------------------

    def cut_off(self, *, answer: Literal["silence", "refusal"]) -> None:
        """Take it off the network while it runs: who connects hears nothing, or is refused at once.

        For a refusal somebody must be there who refuses: a container that listens on nothing gets its address.

        Raises:
            NodeError: it does not run, or cannot be taken off, or nobody can stand in for it.
        """
        with self._changing:
            if not self.is_running():
                raise NodeError(f"{self.name} does not run, so it cannot be cut off")
            self.reconnect()
            place = self.address
            if place is None:
                raise NodeError(f"{self.name} has no address on the run's network, so it cannot be cut off from it")
            if answer == "refusal":
                self._start_stand_in()
            with engine.explained(f"{self.name} cannot be cut off"):
                self._api.disconnect_container_from_network(self._known(), self._platform.network)
            self._place = place
            if self._stand_in is not None:
                with engine.explained(f"nobody can refuse connections in place of {self.name}"):
                    self._api.connect_container_to_network(self._stand_in, self._platform.network, ipv4_address=place)
            if not self.is_cut_off():
                raise NodeError(f"{self.name} cannot be cut off: the engine was told to, and says it is not")

    def reconnect(self) -> None:
        """Give it its place on the network back, under the address it had; does nothing if it has it.

        Raises:
            NodeError: the engine does not, or does not publish its port again.
        """
        with self._changing:
            self._remove_stand_in()
            if self._place is None or self._container is None:
                return
            with engine.explained(f"{self.name} cannot be connected again"):
                self._api.connect_container_to_network(
                    self._container, self._platform.network, aliases=self._aliases, ipv4_address=self._place
                )
            self._place = None
            if self.is_running():
                published = self._inspected()["NetworkSettings"]["Ports"] or {}
                if not published.get(f"{self._spec.container_port}/tcp"):
                    raise NodeError(f"{self.name} is connected again, and the engine does not publish its port again")

    def _start_stand_in(self) -> None:
        """Have a container run that is on no network yet, so that it takes a place there at once: who connects while
        nobody has the address hears nothing, and waits a second before the next attempt.

        Of an image that is surely there: the node's own, or that of another node if it has no program to idle with.
        """
        network = self._platform.network
        problem: NodeError | None = None
        for image in dict.fromkeys((self._spec.image, *(node.spec.image for node in self._platform.nodes))):
            try:
                # By the engine itself: nothing is copied, published or awaited.
                with engine.explained(f"nobody can refuse connections in place of {self.name}"):
                    self._stand_in = self._api.create_container(
                        image,
                        entrypoint=list(_IDLE),
                        name=f"{self._called}-stand-in",
                        labels={**self._platform.labels, engine.NODE_LABEL: f"{self.name}-stand-in"},
                        host_config=self._api.create_host_config(network_mode=network),
                        use_config_proxy=False,
                    )["Id"]
                    self._api.start(self._stand_in)
                    self._api.disconnect_container_from_network(self._stand_in, network)
            except NodeError as seen:
                problem = seen
                self._remove_stand_in()
            else:
                return
        if problem is not None:
            raise problem

    def _remove_stand_in(self) -> None:
        if self._stand_in is not None:
            with engine.explained(f"who stands in for {self.name} cannot be removed", passing=_NOT_THERE):
                self._api.remove_container(self._stand_in, force=True, v=True)
            self._stand_in = None

    # -- another address --------------------------------------------------------------------------------------

    def relocate(self) -> str:
        """End it and start it anew under another address, as a replaced container is. Returns the new address.

        It is told to stop first, as by whoever replaces containers, and `start` is not awaited. Its spec has the new
        address from then on. A second time brings it back to where it was.

        Raises:
            NodeError: as for `stop` and `start`.
        """
        with self._changing:
            new = self._moves_to or self._platform.new_address()
            self._moves_to = self.address
            if self.is_running():
                self.stop()
            self.start(replace(self._spec, address=new))
            return new

    # -- memory -----------------------------------------------------------------------------------------------

    def exhaust_memory(self) -> None:
        """Have the kernel's out-of-memory killer end it, and wait until it is gone.

        It gets a limit a little above what it uses, and a program beside it in the same container uses that up. Its
        limits are as before on return.

        Raises:
            NodeError: it does not run, its memory cannot be limited here, or the kernel ended something else.
        """
        with self._changing:
            life = self._life
            if life is None or life.is_over():
                raise NodeError(f"{self.name} does not run, so it cannot run out of memory")
            what = f"{self.name} cannot be made to run out of memory"
            own = self._spec.memory_mib << 20 if self._spec.memory_mib is not None else None
            said = b""
            try:
                with engine.explained(what):
                    used = int(self._api.stats(self._known(), stream=False, one_shot=True)["memory_stats"]["usage"])
                    limit = max(_LEAST_MEMORY_BYTES, min(used + _HEADROOM_BYTES, own or sys.maxsize))
                    self._api.update_container(self._known(), mem_limit=limit, memswap_limit=limit)
                    made = self._api.exec_create(self._known(), ["sh", "-c", _USE_UP_MEMORY], user="0")
                    said = self._api.exec_start(made["Id"])
                if not life.over.wait(_GONE_WITHIN_SECONDS * patience()):
                    raise NodeError(
                        f"{what}: what used up its memory ended, and it runs ({said.decode('utf-8', 'replace').strip()})"
                    )
            except KeyError:
                raise NodeError(f"{what}: the engine does not count memory (a kernel without memory cgroups)") from None
            finally:
                self._restore_memory(own)
            if not self._inspected()["State"]["OOMKilled"] and life.code != _KILLED_CODE:
                raise NodeError(f"{what}: it ended with exit code {life.code}, and not by the kernel")

    def _restore_memory(self, own: int | None) -> None:
        """The engine knows no way back to "no limit": all there is is the same."""
        with engine.explained(f"{self.name} cannot be given its memory back"):
            limit = own or int(self._platform.client.info()["MemTotal"])
            self._api.update_container(self._known(), mem_limit=limit, memswap_limit=own or -1)

    # -- what is asked of it from inside ----------------------------------------------------------------------

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a program in its container, as the container's user: exit code and what it said.

        Raises:
            NodeError: it cannot be run.
        """
        return self._run(argv)

    def _run(self, argv: Sequence[str], *, user: str = "") -> tuple[int, str]:
        if not self.is_running():
            raise NodeError(f"{self.name} does not run, so {argv[0]} cannot be run in its container")
        said, code = b"", 0
        with engine.explained(f"{self.name}: {argv[0]} cannot be run in its container"):
            made = self._api.exec_create(self._known(), list(argv), user=user)
            said = self._api.exec_start(made["Id"])
            code = int(self._api.exec_inspect(made["Id"])["ExitCode"])
        text = said.decode("utf-8", "replace")
        if code in (126, 127) and "exec failed" in text:
            raise NodeError(f"{self.name}: {argv[0]} cannot be run in its container: {_essence(text)}")
        return code, text

    def cpu_seconds(self) -> float | None:
        """The processor time its container has used since its start; None where the engine does not tell."""
        if not self.is_running():
            return None
        seen: dict[str, Any] = {}
        with engine.explained(f"what {self.name} uses cannot be seen", passing=_NOT_RUNNING):
            seen = self._api.stats(self._known(), stream=False, one_shot=True)
        used = seen.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        return None if used is None else float(used) / 1e9

    def pids(self) -> Sequence[int]:
        """Only where the engine is on this very kernel, and lets us look."""
        with suppress(NodeError, OSError):
            pid = int(self._inspected()["State"]["Pid"])
            if pid and self._known() in Path(f"/proc/{pid}/cgroup").read_text("ascii"):
                return processes.tree(pid)
        return ()

    def read_files(self, folder: str, *, most_bytes: int) -> dict[str, bytes]:
        """The plain files right in a folder of its container, by name; also of one that has ended.

        Raises:
            NodeError: there is no such folder, or more than so many bytes.
        """
        archive = io.BytesIO()
        with engine.explained(f"{folder} of {self.name} cannot be read"):
            chunks, _ = self._api.get_archive(self._known(), folder)
            for chunk in chunks:
                archive.write(chunk)
                if archive.tell() > most_bytes:
                    raise NodeError(f"{folder} of {self.name} holds more than {most_bytes >> 20} MB")
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            return {
                PurePosixPath(entry.name).name: data.read()
                for entry in tar
                if entry.isfile() and (data := tar.extractfile(entry)) is not None
            }

    def processes(self) -> Mapping[int, str]:
        """Its living processes: id on the engine's machine to command line, or the title it gave itself."""
        if not self.is_running():
            return {}
        seen: dict[str, Any] = {}
        with engine.explained(f"the processes of {self.name} cannot be listed", passing=_NOT_RUNNING):
            seen = self._api.top(self._known(), ps_args="-eo pid,args")
        return {int(pid): title for pid, title in seen.get("Processes") or []}

    def write_file(self, path: str, content: bytes) -> None:
        """Put a file into its container under this absolute path, in one step: nobody reads half of it.

        Raises:
            NodeError: it cannot be put there.
        """
        target = PurePosixPath(path)
        runs = self.is_running()
        # Where nobody runs nobody reads, and nothing could be run to rename it.
        place = target.with_name(f".{target.name}.new") if runs else target
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            entry = tarfile.TarInfo(str(place).lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), 0o644, int(clock.wall().timestamp())
            tar.addfile(entry, io.BytesIO(content))
        with engine.explained(f"{self.name}: {path} cannot be written"):
            self._api.put_archive(self._known(), "/", packed.getvalue())
        if runs:
            # As root, because the container's user may not write where its configuration is.
            code, said = self._run(("mv", "-f", str(place), str(target)), user="0")
            if code != 0:
                raise NodeError(f"{self.name}: {path} cannot be written: {said.strip()}")

    # -- words for what went wrong ----------------------------------------------------------------------------

    def _refuse_taken_ports(self) -> None:
        for port in (self._spec.port, *self._spec.extra_ports.values()):
            host = self._spec.host
            try:
                if ports.is_free(host, port):
                    continue
            except OSError as problem:
                raise NodeNeverReady(f"{self.name} cannot have {host}:{port}: {problem}") from problem
            # Without a listener it is only what lingers of old connections, which the engine does not mind.
            if any(each.port == port and each.host in (host, *_ANYWHERE) for each in ports.listeners()):
                raise NodeNeverReady(f"{self.name} cannot be started: {self._holder_of(port)}")

    def _holder_of(self, port: int) -> str:
        container = None
        with suppress(NodeError):  # it is only about the name
            container = self._platform.who_publishes(port)
        pids = ports.who_listens(port)
        if container is not None:
            by = f"the container {container}"
        elif pids:
            by = f"{processes.program_of(pids[0])} (pid {pids[0]})"
        else:
            by = "a process of somebody else"
        return f"port {port} on {self._spec.host} is taken by {by}: end that, or give the node another port"

    def _not_started(self, problem: NodeError) -> NodeNeverReady:
        """What the engine says when it cannot start a container, in our words."""
        said = str(problem)
        spec = self._spec
        if "port is already allocated" in said or "address already in use" in said:
            taken = next((port for port in (spec.port, *spec.extra_ports.values()) if f":{port}" in said), spec.port)
            return NodeNeverReady(f"{self.name} cannot be started: {self._holder_of(taken)}")
        if said.endswith("Address already in use"):
            return NodeNeverReady(
                f"{self.name} cannot be started: another container has its address {spec.address} on the network "
                f"{self._platform.network}: remove that"
            )
        if "OCI runtime" in said:
            return NodeNeverReady(
                f"{self.name} cannot be started: {_essence(said)}; correct its command, or the image {spec.image}"
            )
        return NodeNeverReady(said)

    def _why_ended(self, life: _Incarnation) -> str:
        seconds = clock.now() - self._began
        lines = self.last_log_lines()
        with suppress(NodeError):
            if self._inspected()["State"]["OOMKilled"]:
                limit = f" ({self._spec.memory_mib} MiB)" if self._spec.memory_mib is not None else ""
                return (
                    f"{self.name} ended before it was ready (the kernel killed it after {seconds:.1f} s, because it used "
                    f"more memory than it may{limit}): give it more, or let it use less{log_in_words(lines)}"
                )
        remedy = "correct its command, or what it needs at its start"
        with suppress(NodeError):
            # Said by the kernel as "exec format error", and by what comes of it in other ways.
            remedy = self._platform.mistake_in_image(self._spec.image) or remedy
        return (
            f"{self.name} ended before it was ready (exit code {life.code}, after {seconds:.1f} s): "
            f"{remedy}{log_in_words(lines)}"
        )

    def _why_not_ready(self) -> str:
        spec = self._spec
        limit = f"{spec.ready_within_seconds * patience():g} s"
        return f"{self.name} was not ready within {limit}: {self._what_is_seen()}{log_in_words(self.last_log_lines())}"

    def _what_is_seen(self) -> str:
        spec, wanted = self._spec, self._spec.container_port
        longer = "raise app.ready_within_seconds if it needs longer"
        if self.is_hung():
            return "it is frozen"
        own = self._listeners_inside()
        if own is None:
            return f"it runs: let it listen on port {wanted} of 0.0.0.0, or {longer}"
        here = [each for each in own if each.port == wanted]
        if not own:
            return (
                f"it runs and listens on no port: let it listen on port {wanted} of 0.0.0.0 in its container (app.port), "
                f"or {longer}"
            )
        if not here:
            where = ", ".join(str(each) for each in own)
            return f"it listens on {where} in its container, and not on port {wanted}: correct app.port, or its command"
        if all(ipaddress.ip_address(each.host).is_loopback for each in here):
            return (
                f"it listens on {here[0]} in its container, where only itself reaches it: let it listen on 0.0.0.0 "
                "instead of the loopback"
            )
        if not self.is_cut_off() and not _accepts(spec.host, spec.port):
            return (
                f"it listens on port {wanted} in its container, and nobody accepts on {spec.host}:{spec.port} where the "
                "engine should publish that: is the harness itself in a container, or the engine in another machine? "
                "Run the harness where the engine publishes its ports"
            )
        return (
            f"it listens on port {wanted} in its container, but its readiness check never said yes: correct app.ready "
            f"(app.health), or {longer}"
        )

    def _listeners_inside(self) -> list[ports.Listener] | None:
        """Where it listens, seen from inside its container; None when that cannot be seen."""
        tables = ("/proc/net/tcp", "/proc/net/tcp6")
        text = ""
        try:
            text = self._run(("cat", *tables))[1]
        except NodeError:
            # An image without any program: from outside, where the engine is on this very kernel.
            with suppress(OSError):
                for pid in self.pids()[:1]:
                    text = "".join(Path(f"/proc/{pid}{table[5:]}").read_text("ascii") for table in tables)
        if not text:
            return None
        return [each for each in ports.listeners_in(text) if each.host != _RESOLVER_OF_THE_ENGINE]


_ANYWHERE = ("0.0.0.0", "::")


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _essence(said: str) -> str:
    """Of what the engine says when a program cannot be run, the part for people: `exec: "foo": not found in $PATH`."""
    _, _, tail = said.rpartition("unable to start container process: ")
    return re.sub(r": unknown\s*$", "", tail).strip() or said
