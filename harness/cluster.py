"""A setup that is running: boots its nodes in parallel, breaks and heals them, rolls out, and writes all this down.

Must not: send measured traffic (that is `traffic`) or judge (that is `checkers`). What it asks a node itself
are single looks, outside anything that is measured.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from harness import clock
from harness.answers import Answer, ask, connection_to, object_in
from harness.errors import HarnessError, NodeError, NodeNeverReady, NothingTested, WaitTimeout
from harness.faults import Fault
from harness.journeys import Reply
from harness.layouts import Database, Instance, Layout, RunnableNode, Store, lay_out
from harness.model import WELL, FaultWindow, Look, RolloutStep
from harness.platforms import CutOff, Elsewhere, Relocatable, Replaceable, log_in_words
from harness.ports import PortLeases
from harness.replicas import Replicas
from harness.rollouts import BlueGreen, Rollout, Side, rollout_for
from harness.services import identity_of, manner_of
from harness.setup import Environment, Setup, secrets_in
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["Cluster", "Recorder", "boot"]

_LOOK_TIMEOUT_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 0.02
NAMED = "named"
"""The key of a look under which stands who the answer says it is from, where the setup names a header for that."""
_AT_ONCE_TRIED = 20
_AT_ONCE_SECONDS = 0.25
"""How long each of them takes: long beside what starting so many costs."""
_AT_ONCE_TRIES = 2
"""A busy machine makes some of them late: the better try counts."""
_OF_HEALTH = ("health", "ready")
"""Looks that ask an instance how it is."""
_BACK_WITHIN_SECONDS = 30.0
_FIRST_CLIENT = 20
_UNKNOWN_BREADTH = 6
"""Of a site whose instances are not known: more than most have, so that some things are asked oftener than they need be."""
_UNREADY_WITHIN_SECONDS = 10.0
_FIRST = "old"
"""What the version that everything began with is called, where it does not matter which it is."""
_SWITCHED_WITHIN_SECONDS = 10.0
_NOTHING_SAID = Environment()

_Result = TypeVar("_Result")

Recorder = Callable[[FaultWindow | RolloutStep | Look], None]
"""Where the cluster writes down what it did and saw; the caller knows which scenario it belongs to."""


@dataclass(frozen=True, eq=False)
class BalancerNode:
    """The balancer, as something that can be broken."""

    node: RunnableNode

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(eq=False)
class Cluster:
    """The nodes of one setup and what can be done to them."""

    setup: Setup
    layout: Layout
    recorder: Recorder | None = None
    up_seconds: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)
    """Where time went, by what was waited for, in seconds."""
    _given_up: bool = False
    tampered: bool = False
    """Something was broken or replaced since the last return to the known good state."""
    moved: Callable[[], None] = lambda: None
    """Called when instances may have other addresses than before."""
    first_start: tuple[Look, ...] = ()
    """How the instances came up together, on an empty database, when all was booted."""
    replicas: Replicas | None = None
    """The instances, where an orchestrator keeps them."""
    _at_once: int | None = None
    _at_once_is_known: bool = False

    def __post_init__(self) -> None:
        if self.layout.replicated is not None:
            self.replicas = Replicas(self.layout.replicated, wanted=self.setup.app.instances, record=self.record)

    # -- looking ----------------------------------------------------------------------------------------------

    @property
    def instances(self) -> tuple[Instance, ...]:
        return self.layout.instances

    def instance(self, name: str) -> Instance:
        return next(instance for instance in self.instances if instance.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return self.setup.app.names if self.replicas is not None else tuple(each.name for each in self.instances)

    @property
    def each_can_be_asked(self) -> bool:
        """Whether all instances are known, and can be asked by themselves."""
        return bool(self.instances) and len(self.reachable) == len(self.instances)

    @property
    def breadth(self) -> int:
        """How many instances answer behind the balancer, or may where nobody knows."""
        return len(self.names) or _UNKNOWN_BREADTH

    @property
    def most_per_second(self) -> float | None:
        """How many requests a second the setup bears, where its owner sets a limit."""
        return None if self.setup.remote is None else self.setup.remote.most_per_second

    @property
    def reachable(self) -> tuple[Instance, ...]:
        """Those that can be asked by themselves, and not only through the balancer."""
        return tuple(instance for instance in self.instances if instance.reachable)

    @property
    def database(self) -> Database:
        """The database of the application: for scenarios that need one of the harness's own."""
        if self.layout.database is None:
            raise HarnessError("this setup has no database that the harness may stop or empty")
        return self.layout.database

    @property
    def balancer(self) -> BalancerNode:
        """The balancer: for scenarios that break it."""
        return BalancerNode(self.layout.balancer_node)

    @property
    def nodes(self) -> tuple[RunnableNode, ...]:
        """All that run, or may: stores, balancer, instances and those that stand by."""
        return (*(each.node for each in self.layout.stores), *self.serving)

    @property
    def serving(self) -> tuple[RunnableNode, ...]:
        """Those a request goes through: the balancer, instances, and those that stand by."""
        instances = (*self.instances, *self.layout.standby)
        return (self.layout.balancer_node, *(instance.node for instance in instances))

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
            answer = _ask(instance.target, path, headers=self.setup.traffic.headers)
            status = answer.status
            value = _facts_of(answer)
            if what in _OF_HEALTH and self.setup.app.healthy is not None:
                value = {**value, WELL: manner_of(self.setup).is_well(_reply_of(answer), asked=path)}
            said = self._said_by(answer)
            if said is not None:
                value = {**value, NAMED: self.whos().get(said, said)}
        except (OSError, HTTPException) as problem:
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

    def _said_by(self, answer: Answer) -> str | None:
        """Who an answer says that it is from. A header that is missing says nobody; a page without a marker says nothing."""
        identity = identity_of(self.setup)
        if identity is None:
            return None
        said = identity.from_reply(_reply_of(answer))
        return said or "" if identity.source == "header" else said

    def look_at_all(self, what: str, path: str) -> tuple[Look, ...]:
        """Ask every instance that can be asked by itself."""
        return tuple(self._on_each(self.reachable, lambda instance: self.look(what, instance, path)))

    def page(self, instance: Instance, path: str) -> str:
        """One page, asked of one instance directly. Raises NothingTested: it does not come."""
        try:
            answer = _ask(instance.target, path, headers=self.setup.traffic.headers)
        except (OSError, HTTPException) as problem:
            raise NothingTested(f"{instance.name} did not give {path}: {type(problem).__name__}") from problem
        if answer.status >= 300:
            raise NothingTested(f"{instance.name} answered {path} with {answer.status}")
        return answer.body.decode("utf-8", "replace")

    def works_on_at_once(self) -> int | None:
        """How many slow requests one instance works on at the same time, such as one for each thread of a server that has
        few. Tried once in a run. None: more than anybody here wants, or nobody can say.
        """
        if not self._at_once_is_known:
            self._at_once_is_known = True
            # Where an owner sets a limit, so many at once are not within it.
            if self.setup.app.slow is not None and self.reachable and self.most_per_second is None:
                self._at_once = self._try_at_once(self.reachable[0])
        return self._at_once

    def _try_at_once(self, instance: Instance) -> int | None:
        path = (self.setup.app.slow or "").replace("{seconds}", f"{_AT_ONCE_SECONDS:g}")
        most = 0
        began = clock.now()

        def ask_slowly(_: int) -> float | None:
            return _waited(instance, path, self.setup.traffic.headers)

        for _ in range(_AT_ONCE_TRIES):
            with ThreadPoolExecutor(_AT_ONCE_TRIED, "at-once") as pool:
                waits = [wait for wait in pool.map(ask_slowly, range(_AT_ONCE_TRIED)) if wait]
            # Who had to wait for another's end took as long again.
            most = max(most, sum(wait < min(waits) + _AT_ONCE_SECONDS / 2 for wait in waits))
            if most == _AT_ONCE_TRIED:
                break
        value = {"tried": _AT_ONCE_TRIED, "at_once": most}
        self.record(
            Look(what="at-once", node=instance.name, at=began, status=None, value=value, seconds=clock.now() - began)
        )
        return most if 0 < most < _AT_ONCE_TRIED else None

    def look_at_idle_connections(self, *, watched_seconds: float) -> None:
        """Ask every instance its health path on a connection that is kept, and see whether it ends that within this time."""
        for look in self._on_all(
            lambda instance: _watch_idle(instance, self.setup.app.health, watched_seconds, self.setup.traffic.headers)
        ):
            self.record(look)

    def count_sessions(self) -> int | None:
        """How many sessions the shared store holds; None where the harness cannot tell."""
        return self.layout.count_sessions()

    def balancer_statistics(self) -> Mapping[str, Any]:
        """What the balancer counted itself, by instance; empty where it does not tell, or does not answer any more."""
        with suppress(NodeError):
            return self.layout.balancer.statistics(self.layout.balancer_node)
        return {}

    def look_at_balancer_view(self) -> tuple[Look, ...]:
        """Ask every instance of the pool how it is, and at the same moment the balancer what it thinks of it.

        The balancer's opinion is in the looks named `lb-view`: its own words (`status`, `check`, `said`) and whether it would
        send a request there (`up`). Where it does not tell, there are none.
        """
        self.look_at_all("health", self.setup.app.health)
        seen = self.balancer_statistics()
        looks = tuple(
            Look(
                what="lb-view",
                node=name,
                at=clock.now(),
                status=None,
                value={
                    "status": str(row.get("status", "")),
                    "up": str(row.get("status", "")).startswith("UP"),
                    "check": str(row.get("check", "")),
                    "said": str(row.get("check_said", "")),
                },
            )
            for name, row in seen.items()
        )
        for look in looks:
            self.record(look)
        return looks

    def whos(self) -> Mapping[str, str]:
        """The instance behind each address and name that the balancer or an answer may tell."""
        everybody = (*self.instances, *self.layout.standby)
        known = {seen: instance.name for instance in everybody for seen in instance.seen_as}
        kept = self.replicas.addresses if self.replicas is not None else {}
        return {**known, **kept, **self.layout.whos()}

    def client_addresses(self, count: int) -> tuple[str, ...]:
        """So many addresses of this machine, each of another network of 256, from which the balancer can be asked; none where
        it would not see them (a container is reached through the engine), or the machine has no such addresses."""
        if self.layout.platform != "native":
            return ()
        addresses = tuple(
            f"127.{_FIRST_CLIENT + number}.{number * 37 % 251}.{1 + number * 91 % 251}" for number in range(count)
        )
        try:
            for address in addresses:
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
                    tried.bind((address, 0))
        except OSError:
            return ()
        return addresses

    def record(self, event: FaultWindow | RolloutStep | Look) -> None:
        if self.recorder is not None:
            self.recorder(event)

    # -- breaking ---------------------------------------------------------------------------------------------

    @contextmanager
    def inject(self, fault: Fault, *, on: Instance | Database | BalancerNode) -> Iterator[None]:
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
        by_itself = False
        try:
            with fault.applied_to(on.node) as proof:
                effective = clock.now()
                try:
                    if isinstance(on, Instance):
                        self._tell_of_new_address(on)
                    yield
                finally:
                    healing = clock.now()
            on.node.wait_ready()
            healed = clock.now()
            self._spent("recovery of instances", healed - healing)
            if isinstance(on.node, Elsewhere) and (back := on.node.back_since) is not None:
                healing, healed, by_itself = min(healing, back), min(healed, back), True
            self.moved()
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
                    by_itself=by_itself,
                )
            )

    @contextmanager
    def nobody_in_the_pool(self) -> Iterator[None]:
        """Every instance is taken out at the balancer for the length of the block: what it answers then is its own.

        Raises:
            NodeError: the balancer does not obey.
        """
        self.tampered = True
        layout = self.layout
        try:
            for name in self.pool:
                layout.balancer.drain(name, layout.balancer_node)
            yield
        finally:
            for name in self.pool:
                layout.balancer.enable(name, layout.balancer_node)

    def reload_balancer(self) -> None:
        """Have the balancer read its configuration again, as the setup says (balancer.reload).

        Raises:
            NodeError: it does not obey.
        """
        layout = self.layout
        self.tampered = True
        injected = clock.now()
        effective: float | None = None
        proof = ""
        try:
            proof = layout.balancer.reload(layout.balancer_node)
            effective = clock.now()
        finally:
            self.record(
                FaultWindow(
                    fault="reload",
                    node=layout.balancer_node.name,
                    injected=injected,
                    effective=effective,
                    # There is nothing to heal: it is over when new processes serve.
                    healing=clock.now() if effective is None else effective,
                    healed=effective,
                    proof=proof,
                )
            )

    @contextmanager
    def taken_out(self, instance: Instance) -> Iterator[None]:
        """One instance is taken out at the balancer for the length of the block, and runs on.

        Raises:
            NodeError: the balancer does not obey.
        """
        self.tampered = True
        site = _RolloutSite(self)
        try:
            site.drain(instance.name)
            yield
        finally:
            site.enable(instance.name)

    def _tell_of_new_address(self, instance: Instance) -> None:
        """Where the setup says that the balancer is told, be whoever tells it: as soon as the instance is ready there."""
        node = instance.node
        if self.setup.balancer.resolve != "when-told" or not isinstance(node, Relocatable):
            return
        if node.address is not None and node.spec is not instance.spec:
            node.wait_ready()
            layout = self.layout
            layout.balancer.move(instance.name, (node.address, self.setup.app.port), layout.balancer_node)

    def restart_all(self) -> None:
        """Stop every instance, then start every instance, as after a power cut or a reboot of the machine."""
        self.tampered = True
        injected = clock.now()
        codes = self._on_all(lambda instance: instance.node.stop())
        effective = clock.now()
        self._on_all(lambda instance: instance.node.start())
        self._on_all(lambda instance: instance.node.wait_ready())
        self.moved()
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
                    proof=node.proof
                    if isinstance(node := instance.node, Elsewhere)
                    else f"the process ended with exit code {code}",
                )
            )
        self._wait_answering()

    def start_all_on_empty_database(self) -> None:
        """Stop every instance, empty the database, and start every instance at the same moment, as a first deploy does.

        How each came up is written down, and how each did when the setup was booted. One that ended is then started once
        more by itself.
        """
        self.tampered = True
        self._on_all(lambda instance: instance.node.stop())
        self.database.empty()
        if self.layout.migration is not None:
            self._migrate(self.layout.migration, key="app.migrate")
        began = clock.now()
        self._on_all(lambda instance: instance.node.start())
        looks = self._on_all(self._how_it_came_up)
        for look in (*self.first_start, *looks):
            self.record(look)
        for instance in self.instances:
            if not instance.node.is_running():
                instance.node.start()
                self.record(self._how_it_came_up(instance, what="boot-again"))
        self.moved()
        self._spent("recovery of instances", clock.now() - began)

    def _how_it_came_up(self, instance: Instance, *, what: str = "boot") -> Look:
        """Wait until a started instance is ready, has ended, or has had its time."""
        began = clock.now()
        error = ""
        try:
            instance.node.wait_ready()
        except NodeNeverReady:
            error = "not-ready" if instance.node.is_running() else "ended"
        value = {"exit_code": instance.node.exit_code if error == "ended" else None}
        return Look(
            what=what, node=instance.name, at=began, status=None, value=value, seconds=clock.now() - began, error=error
        )

    def roll_out(self, rollout: Rollout | None = None) -> None:
        """Replace every instance by the new version, as the setup (or `rollout`) says.

        Raises:
            NothingTested: what is to be run before (rollout.migrate) failed.
        """
        self.tampered = True
        self._migrate_next()
        if rollout is None and (switch := self._switch) is not None:
            self.record(RolloutStep(step="begin", node="", at=clock.now(), detail=str(switch)))
            switch.carry_out(_TwoSides(self))
            self.record(RolloutStep(step="end", node="", at=clock.now()))
            return
        chosen = rollout or self._rollout
        self.record(RolloutStep(step="begin", node="", at=clock.now(), detail=str(chosen)))
        chosen.carry_out(_RolloutSite(self))
        self.record(RolloutStep(step="end", node="", at=clock.now()))

    @contextmanager
    def new_version_on(self, instance: Instance) -> Iterator[None]:
        """One instance is replaced by the new version for the length of the block, and taken back to the first one when it is
        left: a rollout that was begun, and given up.

        Raises:
            NodeNeverReady: the new version does not come up, or the old one does not come back.
            NothingTested: what is to be run before (rollout.migrate) failed.
        """
        self.tampered = True
        self._migrate_next()
        site = _RolloutSite(self)
        site.replace(instance.name)
        site.wait_ready(instance.name)
        self.moved()
        try:
            yield
        finally:
            began = clock.now()
            for name in instance.together or (instance.name,):
                site.take_back(name)
            self.moved()
            self._spent("recovery of instances", clock.now() - began)

    def take_back(self) -> None:
        """Go back to the version of before, as the setup says. Raises HarnessError: nobody stands by to go back to."""
        switch = self._switch
        if switch is None:
            raise HarnessError("only a rollout that switches between two sets of instances can be taken back")
        self.record(RolloutStep(step="begin", node="", at=clock.now(), detail=f"{switch}, back"))
        switch.take_back(_TwoSides(self))
        self.record(RolloutStep(step="end", node="", at=clock.now()))

    @property
    def _switch(self) -> BlueGreen | None:
        wanted = self.setup.rollout
        if wanted.kind != "blue-green":
            return None
        return BlueGreen(wanted.drain, wanted.gate)

    @property
    def _rollout(self) -> Rollout:
        """The one the setup asks for, one instance or all."""
        wanted = self.setup.rollout
        if wanted.kind == "blue-green":
            raise HarnessError("this rollout is of two sets of instances, not of one instance after the other")
        return rollout_for(
            wanted.kind, wanted.drain, gate=wanted.gate, pause_seconds=wanted.pause_seconds, batch=wanted.batch
        )

    def return_to_known_good(self) -> None:
        """Every instance runs the first version and answers, and the balancer remembers no failure."""
        if not self.tampered:
            return
        began = clock.now()

        def mend(instance: Instance) -> None:
            node = instance.node
            node.resume()
            if isinstance(node, CutOff):
                node.reconnect()
            if node.is_running() and node.spec is not instance.spec and not isinstance(node, Elsewhere):
                node.stop()
            if isinstance(node, Elsewhere) and node.spec is not instance.spec:
                # Its owner's own way back, which may need it to run.
                node.start(instance.spec)
            if not node.is_running():
                node.start(instance.spec)
            node.wait_ready()

        self._on_all(mend)
        for instance in self.layout.standby:
            instance.node.resume()
            if instance.node.is_running():
                instance.node.stop()
        self.moved()
        if self.replicas is not None:
            self.replicas.reset()
            # Where it looks names up only once, it would find none of them.
            self.layout.balancer.reset(self.layout.balancer_node)
        self._wait_answering()
        # A reload gives the balancer a clean slate: failures counted against an instance go with the old workers.
        self.layout.balancer.reset(self.layout.balancer_node)
        self.tampered = False
        self._spent("return to known good", clock.now() - began)

    def _wait_answering(self) -> None:
        """Ready is the application's word; between scenarios a real page must be served as well."""
        page = self.setup.entry_page
        headers = self.setup.traffic.headers
        secure = self.layout.balancer.secure

        def answers(at: tuple[str, int], authority: Path | None) -> bool:
            try:
                return _ask(at, page, headers=headers, authority=authority).status < 500
            except (OSError, HTTPException):
                return False

        def wait_for(who: str, at: tuple[str, int], authority: Path | None = None) -> None:
            wait_until(
                lambda: answers(at, authority),
                within_seconds=_BACK_WITHIN_SECONDS,
                every_seconds=0.02,
                because=f"{who} should serve {page} again",
            )

        reachable = self.reachable
        self._on_each(reachable, lambda instance: wait_for(str(instance), instance.target))
        if self.replicas is not None or len(reachable) < len(self.instances) or not self.instances:
            # Only the balancer can be asked, and it has to find them first.
            wait_for("the balancer", self.layout.entrance, secure.authority if secure is not None else None)

    # -- life -------------------------------------------------------------------------------------------------

    def start(self, on_ready: Callable[[str, float], None]) -> None:
        """Start every node, as parallel as the setup allows, and return when all are ready.

        Raises:
            NodeNeverReady: one did not become ready; what was started is stopped by `stop`.
        """
        began = clock.now()
        app, layout = self.setup.app, self.layout

        def up(node: RunnableNode) -> None:
            if self._given_up:
                return
            node.start()
            node.wait_ready()
            on_ready(node.name, node.start_seconds)

        ended: dict[Instance, NodeNeverReady] = {}

        def up_together(instance: Instance) -> None:
            try:
                up(instance.node)
            except NodeNeverReady as problem:
                if instance.node.is_running() or self._given_up:
                    raise
                ended[instance] = problem

        def again() -> None:
            """Whoever ended while others came up may have been in their way: a service manager would start it once more."""
            if len(ended) == len(self.instances):
                raise next(iter(ended.values()))
            self.first_start = tuple(
                Look(
                    what="boot",
                    node=instance.name,
                    at=began,
                    status=None,
                    value={"exit_code": instance.node.exit_code if instance in ended else None},
                    error="ended" if instance in ended else "",
                )
                for instance in self.instances
            )
            for instance in ended:
                up(instance.node)

        def store(each: Store) -> None:
            each.prepare()
            each.node.start()
            each.node.wait_ready()
            each.after_ready()
            on_ready(each.node.name, each.node.start_seconds)

        def balancer() -> None:
            layout.prepare_balancer()
            up(layout.balancer_node)

        def one_after_the_other() -> None:
            for instance in self.instances:
                up(instance.node)

        def replicas(kept: Replicas) -> None:
            seconds = kept.start()
            for name in self.names:
                on_ready(name, seconds)

        pool = ThreadPoolExecutor(len(self.instances) + len(layout.stores) + 2, "boot")
        try:
            stores = [pool.submit(store, each) for each in layout.stores]
            # Started alongside, never asked before the instances are up: refused connections would mark them down.
            rest = [] if layout.balancer_waits else [pool.submit(balancer)]
            if app.start_after == "dependencies":
                _first_failure(stores)
            if layout.migration is not None:
                self._migrate(layout.migration, key="app.migrate")
            if app.first_start == "serial":
                rest.append(pool.submit(one_after_the_other))
            else:
                rest.extend(pool.submit(up_together, instance) for instance in self.instances)
            if self.replicas is not None:
                rest.append(pool.submit(replicas, self.replicas))
            _first_failure([*stores, *rest])
            if app.first_start == "parallel" and self.instances:
                again()
            if layout.balancer_waits:
                balancer()
        except BaseException:
            # Whoever still waits for a node in another thread must see it end, or leaving would take its patience.
            self._given_up = True
            if self.replicas is not None:
                self.replicas.give_up()
            for node in (*self.nodes, *self._migrations):
                if node.is_running() and not layout.borrowed:
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

        def end(node: RunnableNode) -> None:
            try:
                node.resume()
                if self.layout.borrowed:
                    _give_back(node)
                elif node.is_running():
                    node.stop()
            except HarnessError as problem:
                problems.append(problem)

        if self.replicas is not None:
            try:
                self.replicas.stop()
            except HarnessError as problem:
                problems.append(problem)
        layout = self.layout
        stores = [each.node for each in layout.stores]
        running = [*self._migrations, *(instance.node for instance in (*self.instances, *layout.standby))]
        for group in (running, [layout.balancer_node], stores):
            if group:
                with ThreadPoolExecutor(len(group), "stop") as pool:
                    list(pool.map(end, group))
        if problems:
            raise ExceptionGroup("some nodes could not be stopped", problems)

    @property
    def _migrations(self) -> tuple[RunnableNode, ...]:
        both = (self.layout.migration, self.layout.next_migration)
        return tuple(node for node in both if node is not None)

    def _migrate(self, node: RunnableNode, *, key: str) -> None:
        """Run what is run once before the first instance of a version, to its end.

        Raises:
            NodeNeverReady: it did not end well, or not in time; with the end of its log.
        """
        began = clock.now()
        limit = self.setup.app.migrate_within_seconds
        node.start()
        try:
            wait_until(
                lambda: not node.is_running() or self._given_up,
                within_seconds=limit,
                because=f"{key} should have ended",
            )
        except WaitTimeout:
            node.kill()
            raise NodeNeverReady(
                f"{key} was still running after {limit * patience():g} s, and was ended: correct it, or raise "
                f"app.migrate_within_seconds{log_in_words(node.last_log_lines())}"
            ) from None
        self._spent("migrations", clock.now() - began)
        if node.exit_code != 0 and not self._given_up:
            raise NodeNeverReady(
                f"{key} ended with exit code {node.exit_code} after {clock.now() - began:.1f} s: correct it, or what it "
                f"needs{log_in_words(node.last_log_lines())}"
            )

    def _migrate_next(self) -> None:
        """Run what is run once before a rollout. Raises NothingTested: it failed, and no instance was replaced."""
        node = self.layout.next_migration
        if node is None:
            return
        try:
            self._migrate(node, key="rollout.migrate")
        except NodeNeverReady as problem:
            raise NothingTested(f"the rollout was not begun: {problem}") from problem

    def _on_all(self, act: Callable[[Instance], _Result]) -> list[_Result]:
        return self._on_each(self.instances, act)

    @staticmethod
    def _on_each(instances: Sequence[Instance], act: Callable[[Instance], _Result]) -> list[_Result]:
        with ThreadPoolExecutor(max(1, len(instances)), "instances") as pool:
            return list(pool.map(act, instances))

    def _spent(self, what: str, seconds: float) -> None:
        self.waits[what] = self.waits.get(what, 0.0) + seconds


class _RolloutSite:
    """A cluster, with the verbs a rollout needs, each written down with its time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: set[str] = set()
        self._replaced: set[str] = set()
        self._ready: set[str] = set()

    def names(self) -> Sequence[str]:
        return self._cluster.names

    def drain(self, name: str) -> None:
        self._note("drain", name)
        began = clock.now()
        drained = self._cluster.layout.balancer.drain(name, self._cluster.layout.balancer_node)
        self._cluster._spent("drains", clock.now() - began)
        self._note("drained", name, detail="" if drained.old_workers_gone else "old workers still have connections")

    def tell_to_stop(self, name: str) -> None:
        self._note("stop", name)
        self._told.add(name)
        node = self._cluster.instance(name).node
        node.tell_to_stop()

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
        self._start(name)
        self.wait_ready(name)

    def _start(self, name: str) -> None:
        instance = self._cluster.instance(name)
        self._note("start", name, version=self._version)
        instance.node.start(instance.next_spec)

    def replace(self, name: str) -> None:
        if name in self._replaced:
            return  # together with another one
        instance = self._cluster.instance(name)
        if not isinstance(instance.node, Replaceable) or name in self._told:
            self._replaced.add(name)
            self.stop(name)
            self._start(name)
            return
        together = instance.together or (name,)
        self._replaced.update(together)
        for each in together:
            self._note("stop", each)
        try:
            instance.node.replace(instance.next_spec, on_stopped=lambda each: self._note("stopped", each))
        except NodeNeverReady as problem:
            self._note("failed", name, detail=str(problem))
            raise
        self._cluster.moved()
        for each in together:
            self._note("start", each, version=self._version)

    def take_back(self, name: str) -> None:
        """Stop it and start it in the version of before, and return when it says that it is ready."""
        instance = self._cluster.instance(name)
        self._note("stop", name)
        node = instance.node
        if isinstance(node, Elsewhere):
            self._note("stopped", name, detail="in the way of its owner")
        else:
            code = node.stop() if node.is_running() else node.exit_code
            self._note("stopped", name, detail=f"exit code {code}")
        self._note("start", name, version=_FIRST)
        node.start(instance.spec)
        instance.node.wait_ready()
        self._note("ready", name, version=_FIRST)

    def wait_ready(self, name: str) -> None:
        if name not in self._ready:
            self._cluster.instance(name).node.wait_ready()
            self._cluster.moved()
            self._is_ready(name)

    def pause(self, name: str, seconds: float) -> None:
        end = clock.now() + seconds
        node = self._cluster.instance(name).node
        while name not in self._ready and clock.now() < end:
            if node.is_ready():
                self._is_ready(name)
            else:
                clock.sleep(_LOOK_EVERY_SECONDS)
        clock.sleep(max(0.0, end - clock.now()))

    def _is_ready(self, name: str) -> None:
        self._ready.add(name)
        self._note("ready", name, version=self._version)

    @property
    def _version(self) -> str:
        return self._cluster.setup.rollout.env.get("APP_VERSION", "new")

    def enable(self, name: str) -> None:
        self._note("enable", name)
        self._cluster.layout.balancer.enable(name, self._cluster.layout.balancer_node)
        self._note("enabled", name)

    def _note(self, step: str, name: str, *, version: str = "", detail: str = "") -> None:
        self._cluster.record(RolloutStep(step=step, node=name, at=clock.now(), version=version, detail=detail))


class _TwoSides:
    """A cluster whose instances have others standing by, with the verbs a switch needs, each written down with its time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ready: set[str] = set()

    def _of(self, side: Side) -> tuple[Instance, ...]:
        layout = self._cluster.layout
        return layout.instances if side == "blue" else layout.standby

    def _each(self, side: Side, act: Callable[[Instance], None]) -> None:
        instances = self._of(side)
        with ThreadPoolExecutor(len(instances), side) as pool:
            list(pool.map(act, instances))

    def start(self, side: Side) -> None:
        for instance in self._of(side):
            if not instance.node.is_running():
                self._note("start", instance.name, version=self._version_of(side))
                instance.node.start(instance.spec)

    def wait_ready(self, side: Side) -> None:
        def ready(instance: Instance) -> None:
            if instance.name not in self._ready:
                instance.node.wait_ready()
                self._ready.add(instance.name)
                self._note("ready", instance.name, version=self._version_of(side))

        self._each(side, ready)

    def switch(self, side: Side, *, checked: bool, drain: bool) -> None:
        layout = self._cluster.layout
        pool = self._cluster.pool
        green = tuple(
            each.name for each, first in zip(layout.standby, layout.instances, strict=True) if first.name in pool
        )
        names, left = (pool, green) if side == "blue" else (green, pool)
        for name in left:
            self._note("drain", name)
        for name in names:
            self._note("enable", name)
        self._note("switch", "", detail=side)
        began = clock.now()
        drained = layout.balancer.switch(
            names, layout.balancer_node, checked=checked, within_seconds=_SWITCHED_WITHIN_SECONDS if drain else 0.0
        )
        self._cluster._spent("drains", clock.now() - began)
        self._note("switched", "", detail=side)
        for name in names:
            self._note("enabled", name)
        for name in left:
            self._note("drained", name, detail="" if drained.old_workers_gone else "it still has something")

    def stop(self, side: Side) -> None:
        self._end(side, lambda node: node.stop())

    def remove(self, side: Side) -> None:
        def kill(node: RunnableNode) -> int | None:
            node.kill()
            return node.exit_code

        self._end(side, kill)

    def _end(self, side: Side, end: Callable[[RunnableNode], int | None]) -> None:
        def one(instance: Instance) -> None:
            self._note("stop", instance.name)
            code = end(instance.node)
            self._ready.discard(instance.name)
            self._note("stopped", instance.name, detail=f"exit code {code}")

        self._each(side, one)

    def _version_of(self, side: Side) -> str:
        env = self._cluster.setup.app.env if side == "blue" else self._cluster.setup.rollout.env
        return env.get("APP_VERSION", "old" if side == "blue" else "new")

    def _note(self, step: str, name: str, *, version: str = "", detail: str = "") -> None:
        self._cluster.record(RolloutStep(step=step, node=name, at=clock.now(), version=version, detail=detail))


def _give_back(node: RunnableNode) -> None:
    """As it was found: running, and on its network."""
    if isinstance(node, CutOff):
        node.reconnect()
    if not node.is_running():
        node.start()


def _first_failure(futures: Sequence[Future[None]]) -> None:
    """Return when all are done, or raise as soon as one has failed."""
    for future in as_completed(futures):
        future.result()


def _ask(at: tuple[str, int], path: str, *, headers: Mapping[str, str], authority: Path | None = None) -> Answer:
    """One request to an instance itself (or to the balancer), redirects not followed. Raises OSError and HTTPException.

    `authority`: TLS is spoken, and this certificate must have signed for who answers.
    """
    return ask(
        "GET",
        path,
        at=at,
        within_seconds=_LOOK_TIMEOUT_SECONDS,
        headers=headers,
        context=None if authority is None else ssl.create_default_context(cafile=authority),
    )


def _waited(instance: Instance, path: str, headers: Mapping[str, str]) -> float | None:
    """How long one request took, in seconds. None: it was not answered as it should be."""
    began = clock.now()
    try:
        answer = _ask(instance.target, path, headers=headers)
    except (OSError, HTTPException):
        return None
    return clock.now() - began if answer.status < 300 else None


def _reply_of(answer: Answer) -> Reply:
    """The same answer, as journeys read it."""
    return Reply(answer.status, answer.headers, answer.body, answer.set_cookies)


def _watch_idle(instance: Instance, path: str, watched_seconds: float, headers: Mapping[str, str]) -> Look:
    """What becomes of a connection that nothing is sent on any more. `ended_seconds`: since the answer; None: it was kept."""
    host, port = instance.target
    connection = connection_to(host, port, within_seconds=_LOOK_TIMEOUT_SECONDS)
    began = answered = clock.now()
    status: int | None = None
    ended: float | None = None
    says_so = False
    error = ""
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        status = answer.status
        wire, says_so = connection.sock, answer.will_close
        answer.read()
        answered = clock.now()
        if not says_so and select.select([wire], [], [], watched_seconds)[0]:
            ended = clock.now() - answered
    except (OSError, HTTPException, ValueError) as problem:
        error = type(problem).__name__
    finally:
        connection.close()
    value = {"ended_seconds": ended, "says_so": says_so, "watched_seconds": clock.now() - answered}
    return Look(
        what="idle", node=instance.name, at=began, status=status, value=value, seconds=answered - began, error=error
    )


def _facts_of(answer: Answer) -> Mapping[str, Any]:
    """What an answer says of its sender: its JSON object if it is one, else nothing."""
    return object_in(answer.body) if "json" in answer.headers.get("content-type", "") else {}


@contextmanager
def boot(
    setup: Setup,
    *,
    platform: str = "native",
    workspace: Workspace,
    environment: Environment = _NOTHING_SAID,
    hide: Callable[[Sequence[str]], None],
    on_ready: Callable[[str, float], None],
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Cluster]:
    """A running cluster of this setup, stopped when the block is left, whatever happened in it.

    Args:
        setup: what to run.
        platform: where its nodes run.
        workspace: the folders of the run, and where its processes are leased.
        environment: the programs the person chose, and what is passed on to nodes.
        hide: told every secret of this run, before any node is started.
        on_ready: told of each node that is ready, with the seconds it took.
        say: told what takes long before that, such as an image that is pulled.

    Raises:
        BadInput: the setup cannot be run here; nothing is left running.
    """
    with ExitStack() as stack:
        hide(secrets_in(setup))
        ports = PortLeases()
        stack.callback(ports.release_all)
        layout = lay_out(
            setup,
            platform=platform,
            workspace=workspace,
            environment=environment,
            ports=ports,
            stack=stack,
            say=say,
        )
        hide(layout.secrets)
        cluster = Cluster(setup, layout)
        stack.callback(cluster.stop)
        cluster.start(on_ready)
        yield cluster
