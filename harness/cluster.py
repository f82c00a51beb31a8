"""A setup that is running: boots its nodes in parallel, breaks and heals them, rolls out, and writes all this down.

Must not: send measured traffic (that is `traffic`) or judge (that is `checkers`). What it asks a node itself
are single looks, outside anything that is measured.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests

from harness import assets, clock
from harness.errors import BadInput, HarnessError, NodeError, WaitTimeout
from harness.faults import Fault
from harness.model import FaultWindow, Look, RolloutStep
from harness.platforms import NodeSpec
from harness.platforms.native import NativeNode, NativePlatform
from harness.ports import PortLeases
from harness.rollouts import Rollout, rollout_for
from harness.services import NginxService, PostgresService, RedisService, binaries, instance_spec
from harness.setup import Environment, Setup
from harness.waiting import wait_until
from harness.workspace import Workspace

__all__ = ["Cluster", "Instance", "Recorder", "boot"]

_LOOK_TIMEOUT_SECONDS = 5.0
NAMED = "named"
"""The key of a look under which stands who the answer says it is from, where the setup names a header for that."""
_BACK_WITHIN_SECONDS = 30.0
_UNREADY_WITHIN_SECONDS = 10.0
_NOTHING_SAID = Environment()

_Result = TypeVar("_Result")

Recorder = Callable[[FaultWindow | RolloutStep | Look], None]
"""Where the cluster writes down what it did and saw; the caller knows which scenario it belongs to."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One node that runs the application."""

    name: str
    node: NativeNode
    host: str
    port: int
    spec: NodeSpec
    next_spec: NodeSpec
    """How the new version of a rollout is run."""

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(eq=False)
class Cluster:
    """The nodes of one setup and what can be done to them."""

    setup: Setup
    instances: tuple[Instance, ...]
    nginx: NginxService
    nginx_node: NativeNode
    postgres: PostgresService | None
    redis: RedisService | None
    stores: tuple[NativeNode, ...]
    secrets: tuple[str, ...]
    """Every secret of this run, to be kept out of whatever is written."""
    recorder: Recorder | None = None
    up_seconds: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)
    """Where time went, by what was waited for, in seconds."""
    _given_up: bool = False
    tampered: bool = False
    """Something was broken or replaced since the last return to the known good state."""

    # -- looking ----------------------------------------------------------------------------------------------

    def instance(self, name: str) -> Instance:
        return next(instance for instance in self.instances if instance.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(instance.name for instance in self.instances)

    @property
    def pool(self) -> tuple[str, ...]:
        """The instances the balancer was told of."""
        return self.setup.pool

    def pooled(self) -> tuple[Instance, ...]:
        return tuple(instance for instance in self.instances if instance.name in self.pool)

    def look(self, what: str, instance: Instance, path: str) -> Look:
        """Ask one instance directly, once, and write down what it said. A failed look is a look, not an error."""
        began = clock.now()
        status: int | None = None
        value: Mapping[str, Any] = {}
        error = ""
        try:
            answer = _ask(instance, path)
            status = answer.status_code
            value = _facts_of(answer)
            if self.setup.app.instance_header is not None:
                value = {**value, NAMED: answer.headers.get(self.setup.app.instance_header, "")}
        except requests.RequestException as problem:
            error = type(problem).__name__
        look = Look(
            what=what,
            node=instance.name,
            at=began,
            status=status,
            value=value,
            seconds=clock.now() - began,
            error=error,
        )
        self.record(look)
        return look

    def look_at_all(self, what: str, path: str) -> tuple[Look, ...]:
        return tuple(self.look(what, instance, path) for instance in self.instances)

    def count_sessions(self) -> int | None:
        """How many sessions the shared store holds; None where the harness cannot tell."""
        if self.setup.sessions.store == "redis" and self.redis is not None:
            return self.redis.key_count()
        if self.setup.sessions.store == "postgres" and self.postgres is not None:
            # Where they lie is the application's own affair; many use the table of the founding guide.
            with suppress(NodeError):
                return self.postgres.row_count("sessions")
        return None

    def record(self, event: FaultWindow | RolloutStep | Look) -> None:
        if self.recorder is not None:
            self.recorder(event)

    # -- breaking ---------------------------------------------------------------------------------------------

    @contextmanager
    def inject(self, fault: Fault, *, on: Instance) -> Iterator[None]:
        """Break one node for the length of the block; it is ready again, asked directly, when the block is left.

        Raises:
            NodeNeverReady: the node did not come back. Its window is in the history all the same.
        """
        on.node.wait_ready()
        self.tampered = True
        injected = clock.now()
        effective: float | None = None
        proof = ""
        healing: float | None = None
        healed: float | None = None
        try:
            with fault.applied_to(on.node) as proof:
                effective = clock.now()
                try:
                    yield
                finally:
                    healing = clock.now()
            on.node.wait_ready()
            healed = clock.now()
            self._spent("recovery of instances", healed - healing)
        finally:
            self.record(
                FaultWindow(
                    fault=str(fault),
                    node=on.name,
                    injected=injected,
                    effective=effective,
                    healing=healing if healing is not None else clock.now(),
                    healed=healed,
                    proof=proof,
                )
            )

    def restart_all(self) -> None:
        """Stop every instance, then start every instance, as after a power cut or a reboot of the machine."""
        self.tampered = True
        injected = clock.now()
        codes = self._on_all(lambda instance: instance.node.stop())
        effective = clock.now()
        self._on_all(lambda instance: instance.node.start())
        self._on_all(lambda instance: instance.node.wait_ready())
        healed = clock.now()
        self._spent("recovery of instances", healed - injected)
        for instance, code in zip(self.instances, codes, strict=True):
            self.record(
                FaultWindow(
                    fault="restart",
                    node=instance.name,
                    injected=injected,
                    effective=effective,
                    healing=effective,
                    healed=healed,
                    proof=f"the process ended with exit code {code}",
                )
            )
        self._wait_answering()

    def roll_out(self, rollout: Rollout | None = None) -> None:
        """Replace every instance by the new version, as the setup (or `rollout`) says."""
        chosen = rollout or rollout_for(self.setup.rollout.kind, self.setup.rollout.drain)
        self.tampered = True
        self.record(RolloutStep(step="begin", node="", at=clock.now(), detail=str(chosen)))
        chosen.carry_out(_RolloutSite(self))
        self.record(RolloutStep(step="end", node="", at=clock.now()))

    def return_to_known_good(self) -> None:
        """Every instance runs the first version and answers, and the balancer remembers no failure."""
        if not self.tampered:
            return
        began = clock.now()

        def mend(instance: Instance) -> None:
            node = instance.node
            node.resume()
            if node.is_running() and node.spec is not instance.spec:
                node.stop()
            if not node.is_running():
                node.start(instance.spec)
            node.wait_ready()

        self._on_all(mend)
        self._wait_answering()
        # A reload gives the balancer a clean slate: failures counted against an instance go with the old workers.
        self.nginx.reset(self.nginx_node)
        self.tampered = False
        self._spent("return to known good", clock.now() - began)

    def _wait_answering(self) -> None:
        """Ready is the application's word; between scenarios a real page must be served as well."""
        page = self.setup.entry_page

        def answers(instance: Instance) -> bool:
            try:
                return _ask(instance, page).status_code < 500
            except requests.RequestException:
                return False

        self._on_all(
            lambda instance: wait_until(
                lambda: answers(instance),
                within_seconds=_BACK_WITHIN_SECONDS,
                every_seconds=0.02,
                because=f"{instance} should serve {page} again",
            )
        )

    # -- life -------------------------------------------------------------------------------------------------

    def start(self, on_ready: Callable[[str, float], None]) -> None:
        """Start every node, as parallel as the setup allows, and return when all are ready.

        Raises:
            NodeNeverReady: one did not become ready; what was started is stopped by `stop`.
        """
        began = clock.now()
        app = self.setup.app

        def up(node: NativeNode) -> None:
            if self._given_up:
                return
            node.start()
            node.wait_ready()
            on_ready(node.name, node.start_seconds)

        def database() -> None:
            if self.postgres is not None:
                self.postgres.prepare()
                node = self.stores[0]
                node.start()
                node.wait_ready()
                self.postgres.after_ready()
                on_ready(node.name, node.start_seconds)

        def cache() -> None:
            if self.redis is not None:
                self.redis.prepare()
                up(self.stores[-1])

        def balancer() -> None:
            self.nginx.prepare()
            up(self.nginx_node)

        def one_after_the_other() -> None:
            for instance in self.instances:
                up(instance.node)

        pool = ThreadPoolExecutor(len(self.instances) + 3, "boot")
        try:
            stores = [pool.submit(database), pool.submit(cache)]
            # Started alongside, never asked before the instances are up: refused connections would mark them down.
            rest = [pool.submit(balancer)]
            if app.start_after == "dependencies":
                _first_failure(stores)
            if app.first_start == "serial":
                rest.append(pool.submit(one_after_the_other))
            else:
                rest.extend(pool.submit(up, instance.node) for instance in self.instances)
            _first_failure([*stores, *rest])
        except BaseException:
            # Whoever still waits for a node in another thread must see it end, or leaving would take its patience.
            self._given_up = True
            for node in self._nodes():
                if node.is_running():
                    node.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        self.up_seconds = clock.now() - began
        # An instance that says ready too early is for a scenario to find, not to trip over in the first one.
        self._wait_answering()

    def stop(self) -> None:
        """Stop instances, then the balancer, then the stores; everything is tried, and failures are raised together."""
        problems: list[Exception] = []

        def end(node: NativeNode) -> None:
            try:
                node.resume()
                if node.is_running():
                    node.stop()
            except HarnessError as problem:
                problems.append(problem)

        for group in ([instance.node for instance in self.instances], [self.nginx_node], self.stores):
            if group:
                with ThreadPoolExecutor(len(group), "stop") as pool:
                    list(pool.map(end, group))
        if problems:
            raise ExceptionGroup("some nodes could not be stopped", problems)

    def _nodes(self) -> tuple[NativeNode, ...]:
        return (*self.stores, self.nginx_node, *(instance.node for instance in self.instances))

    def _on_all(self, act: Callable[[Instance], _Result]) -> list[_Result]:
        with ThreadPoolExecutor(len(self.instances), "instances") as pool:
            return list(pool.map(act, self.instances))

    def _spent(self, what: str, seconds: float) -> None:
        self.waits[what] = self.waits.get(what, 0.0) + seconds


class _RolloutSite:
    """A cluster, with the verbs a rollout needs, each written down with its time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: set[str] = set()

    def names(self) -> Sequence[str]:
        return self._cluster.names

    def drain(self, name: str) -> None:
        self._note("drain", name)
        began = clock.now()
        drained = self._cluster.nginx.drain(name, self._cluster.nginx_node)
        self._cluster._spent("drains", clock.now() - began)
        self._note("drained", name, detail="" if drained.old_workers_gone else "old workers still have connections")

    def tell_to_stop(self, name: str) -> None:
        self._note("stop", name)
        self._told.add(name)
        node = self._cluster.instance(name).node
        node.signal(node.spec.stop_signal)

    def wait_unready(self, name: str) -> None:
        node = self._cluster.instance(name).node
        wait_until(
            lambda: not node.is_running() or not node.is_ready(),
            within_seconds=_UNREADY_WITHIN_SECONDS,
            because=f"{name} was told to stop, so its ready path should say no",
        )
        self._note("unready", name)

    def stop(self, name: str) -> None:
        node = self._cluster.instance(name).node
        if name in self._told:
            # A second signal tells many servers to drop what they have.
            with suppress(WaitTimeout):
                wait_until(
                    lambda: not node.is_running(),
                    within_seconds=node.spec.stop_within_seconds,
                    because=f"{name} was told to stop and should have ended",
                )
        else:
            self._note("stop", name)
        code = node.stop() if node.is_running() else node.exit_code
        self._note("stopped", name, detail=f"exit code {code}")

    def start_new(self, name: str) -> None:
        instance = self._cluster.instance(name)
        version = self._cluster.setup.rollout.env.get("APP_VERSION", "new")
        self._note("start", name, version=version)
        instance.node.start(instance.next_spec)
        instance.node.wait_ready()
        self._note("ready", name, version=version)

    def enable(self, name: str) -> None:
        self._note("enable", name)
        self._cluster.nginx.enable(name, self._cluster.nginx_node)
        self._note("enabled", name)

    def _note(self, step: str, name: str, *, version: str = "", detail: str = "") -> None:
        self._cluster.record(RolloutStep(step=step, node=name, at=clock.now(), version=version, detail=detail))


def _first_failure(futures: Sequence[Future[None]]) -> None:
    """Return when all are done, or raise as soon as one has failed."""
    for future in as_completed(futures):
        future.result()


def _ask(instance: Instance, path: str) -> requests.Response:
    """One request to an instance itself, redirects not followed. Raises requests.RequestException."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment must not answer for the instance
        return session.get(
            f"http://{instance.address}{path}",
            timeout=_LOOK_TIMEOUT_SECONDS,
            allow_redirects=False,
            headers={"Connection": "close"},
        )


def _facts_of(answer: requests.Response) -> Mapping[str, Any]:
    """What an answer says of its sender: its JSON object if it is one, else nothing."""
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def boot(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment = _NOTHING_SAID,
    hide: Callable[[Sequence[str]], None],
    on_ready: Callable[[str, float], None],
) -> Iterator[Cluster]:
    """A running cluster of this setup, stopped when the block is left, whatever happened in it.

    Args:
        setup: what to run.
        workspace: the folders of the run, and where its processes are leased.
        environment: the programs the person chose, and what is passed on to nodes.
        hide: told every secret of this run, before any node is started.
        on_ready: told of each node that is ready, with the seconds it took.

    Raises:
        BadInput: the setup cannot be run here; nothing is left running.
    """
    with ExitStack() as stack:
        ports = PortLeases()
        stack.callback(ports.release_all)
        cluster = _laid_out(setup, workspace=workspace, environment=environment, ports=ports)
        hide(cluster.secrets)
        stack.callback(cluster.stop)
        cluster.start(on_ready)
        yield cluster


def _laid_out(setup: Setup, *, workspace: Workspace, environment: Environment, ports: PortLeases) -> Cluster:
    """Every node with its place, port, secrets and spec; nothing is started."""
    platform = NativePlatform(workspace, passed_on=environment.passed_on)
    balancer_port = ports.take() if setup.balancer.port is None else _named_port(ports, setup.balancer.port)
    addresses = {name: ("127.0.0.1", ports.take()) for name in setup.app.names}
    postgres = redis = None
    stores: list[NativeNode] = []
    if setup.postgres is not None:
        program = binaries.find(f"postgres-{setup.postgres.version}", environment=environment)
        postgres = PostgresService(setup.postgres, program=program, workspace=workspace, port=ports.take())
        stores.append(platform.add(postgres.spec))
    if setup.redis is not None:
        program = binaries.find("redis", environment=environment)
        redis = RedisService(setup.redis, program=program, workspace=workspace, port=ports.take())
        stores.append(platform.add(redis.spec))
    nginx = NginxService(
        setup.balancer,
        program=binaries.find("nginx", environment=environment),
        workspace=workspace,
        port=balancer_port,
        upstreams=addresses,
    )
    secret = secrets.token_urlsafe(32)
    values = {
        "secret": secret,
        "sessions.store": setup.sessions.store,
        "python": sys.executable,
        "reference_app": str(assets.path("reference_app").parent),
        "run": workspace.run_id,
        **nginx.values(),
        **(postgres.values() if postgres is not None else {}),
        **(redis.values() if redis is not None else {}),
    }
    instances = []
    for name, (host, port) in addresses.items():
        spec = instance_spec(setup, name=name, port=port, values=values, host=host)
        next_spec = instance_spec(setup, name=name, port=port, values=values, host=host, new_version=True)
        platform.check(spec, what="app.command")
        platform.check(next_spec, what="rollout.command")
        node = platform.add(spec)
        instances.append(Instance(name, node, host, port, spec, next_spec))
    return Cluster(
        setup=setup,
        instances=tuple(instances),
        nginx=nginx,
        nginx_node=platform.add(nginx.spec),
        postgres=postgres,
        redis=redis,
        stores=tuple(stores),
        secrets=(secret, *(postgres.secrets if postgres else ()), *(redis.secrets if redis else ())),
    )


def _named_port(ports: PortLeases, port: int) -> int:
    try:
        return ports.take_exact(port)
    except BadInput as problem:
        raise BadInput(f"balancer.port is {port}: {problem}") from None
