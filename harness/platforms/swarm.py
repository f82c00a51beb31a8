"""Replicas kept by Docker Swarm, on an overlay network of the run that single containers can join as well.

An engine that is in a swarm is used as it is, and never made to leave it. One that is in none makes a swarm of its own
for the run, on loopback; it bears the labels of the run, so that whoever puts the run away ends the swarm with it.

Swarm is told to balance by names alone (`dnsrr`): its virtual addresses need support in the kernel that not every
machine has, and with them nobody outside could tell who answered. Must not: pull an image, touch a service or a
network that does not carry the run's labels, or know what a replica is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from harness import engine
from harness.errors import BadInput, HarnessError, NodeError, WaitTimeout
from harness.platforms.docker import DockerPlatform
from harness.platforms.replica import HealthCheck, Outcome, Replica, ReplicatedSpec, Update
from harness.setup import Swarm
from harness.waiting import wait_until

__all__ = ["SwarmPlatform", "SwarmService", "why_no_manager"]

_NANOSECONDS = 1_000_000_000
_LOOPBACK = "127.0.0.1"
_LISTEN = f"{_LOOPBACK}:2377"
"""Else it would listen on every address of this machine."""
_JOINS = 3
_JOIN_SECONDS = 10.0
_NETWORK_SECONDS = 10.0
_VERSION_LABEL = "harness.version"
_GONE_WITHIN_SECONDS = 30.0
_KILLED_WITHIN_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.05
_HEALTH_SECONDS = 10.0
"""For one health check: a machine that is busy for a moment must not have its replicas killed for it."""
_ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
_UNWANTED = frozenset({"shutdown", "remove"})
_LOG_LINES = 500
"""Of each container."""
_LINE_LENGTH = 300
_IN_ONE_ALREADY = (406, 503)
"""What an engine says that is to make a swarm and is in one; older ones 406."""

_OUTCOMES: Mapping[str, Outcome] = {
    "completed": Outcome.COMPLETED,
    "rollback_completed": Outcome.ROLLED_BACK,
    "paused": Outcome.PAUSED,
    "rollback_paused": Outcome.PAUSED,
}
"""The word of an update's state is what counts: the order to update itself succeeds although it is rolled back."""


class SwarmPlatform(DockerPlatform):
    """Runs single nodes as containers beside services, all on one overlay network."""

    def _make_network(self) -> IPv4Network:
        network = self._make_overlay()
        # Swarm gives it one in its own time.
        wait_until(
            lambda: bool(self._subnets_of(network)),
            within_seconds=_NETWORK_SECONDS,
            because="the network of the run should have a subnet",
        )
        return IPv4Network(self._subnets_of(network)[0])

    def _make_overlay(self) -> str:
        for tries_left in range(_JOINS - 1, -1, -1):
            self._join()
            try:
                with engine.explained("a network for the run cannot be made", kind=HarnessError):
                    made = self.client.api.create_network(
                        self.network, driver="overlay", attachable=True, labels=self.labels, check_duplicate=True
                    )
                return str(made["Id"])
            except HarnessError:
                # Another run made the swarm, and ended it in this moment: from the first network on it would not.
                if not tries_left or self._swarm()["LocalNodeState"] != "inactive":
                    raise
        raise AssertionError("the last try returns or raises")

    def _subnets_of(self, network: str) -> list[str]:
        with engine.explained("the network of the run cannot be looked at", kind=HarnessError):
            config = self.client.api.inspect_network(network)["IPAM"]["Config"]
        return [each["Subnet"] for each in config or []]

    def _join(self) -> None:
        """Make a swarm if the engine is in none."""
        swarm = self._swarm()
        if swarm["LocalNodeState"] == "inactive":
            # Another run may have made one in this moment: as well.
            with engine.explained(
                f"the engine at {self.address} cannot make a swarm", kind=BadInput, passing=_IN_ONE_ALREADY
            ):
                self.client.api.init_swarm(
                    advertise_addr=_LOOPBACK,
                    listen_addr=_LISTEN,
                    swarm_spec=self.client.api.create_swarm_spec(labels=dict(self.labels)),
                )
            swarm = self._swarm()
        problem = why_no_manager(swarm, at=str(self.address))
        if problem is not None:
            raise BadInput(problem)

    def _swarm(self) -> dict[str, Any]:
        """What the engine says of its swarm, as soon as it is none that somebody else is just making."""
        with suppress(WaitTimeout):
            wait_until(
                lambda: self._seen()["LocalNodeState"] != "pending",
                within_seconds=_JOIN_SECONDS,
                every_seconds=_LOOK_EVERY_SECONDS,
                because="the swarm that is being made should be there",
            )
        return self._seen()

    def _seen(self) -> dict[str, Any]:
        with engine.explained("the engine cannot be asked about its swarm"):
            found: dict[str, Any] = self.client.api.info()["Swarm"]
        return found

    @property
    def node_id(self) -> str:
        """Of the engine, among the nodes of its swarm."""
        return str(self._swarm()["NodeID"])

    def checks_health(self, image: str) -> bool:
        """Whether an image brings a health check of its own."""
        with engine.explained(f"the image {image} cannot be looked at"):
            api: Any = self.client.api  # typed in parts only
            config: Mapping[str, Any] = api.inspect_image(image).get("Config") or {}
        test = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        return bool(test[0] != "NONE")

    def machines(self) -> Mapping[str, str]:
        """The nodes of the swarm by id, each with the name of its machine."""
        with engine.explained("the nodes of the swarm cannot be listed"):
            return {each["ID"]: each["Description"]["Hostname"] for each in self.client.api.nodes()}


def why_no_manager(swarm: Mapping[str, Any], *, at: str) -> str | None:
    """Why no service can be made by the engine whose swarm this is, and what to do; None when one can, or could once
    the engine has made a swarm."""
    if swarm["LocalNodeState"] == "inactive":
        return None
    if swarm["LocalNodeState"] != "active":
        return (
            f"the engine at {at} is in a swarm that does not work (state {swarm['LocalNodeState']}"
            f"{', ' + swarm['Error'] if swarm.get('Error') else ''}): unlock or mend it, or leave it (docker swarm "
            "leave --force)"
        )
    if not swarm["ControlAvailable"]:
        managers = ", ".join(each["Addr"] for each in swarm.get("RemoteManagers") or [])
        return (
            f"the engine at {at} is a worker of its swarm, and services are made by managers: run the harness on the "
            f"machine of a manager ({managers or 'docker node ls there lists them'}), or promote this one"
        )
    return None


class SwarmService:
    """One service, and the tasks that are its replicas."""

    def __init__(self, platform: SwarmPlatform, *, name: str, settings: Swarm, log: Path) -> None:
        """`name`: on the run's network. `log`: where everything its replicas said is kept when it is removed."""
        self.name = name
        self.log_path = log
        self._platform = platform
        # Typed in parts only, and in some of them wrongly.
        self._api: Any = platform.client.api
        self._settings = settings
        self._called = f"{platform.network}-{name}"
        self._id: str | None = None
        self._here = platform.node_id
        self._machines: Mapping[str, str] = {}
        self._forced = 0

    # -- orders -----------------------------------------------------------------------------------------------

    def start(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        """Make the service.

        Raises:
            NodeError: the engine does not take it.
        """
        with engine.explained(f"the service {self.name} cannot be made"):
            self._id = self._api.create_service(**self._told(spec, replicas=replicas))["ID"]

    def scale(self, replicas: int) -> None:
        """Want so many from now on. Raises NodeError."""
        self._change(lambda told: told["Mode"].update(Replicated={"Replicas": replicas}))

    def update(self, spec: ReplicatedSpec) -> None:
        """Replace every replica by this version, in the order and with the patience the setup names. Raises NodeError."""
        self._order(self._told(spec, replicas=self._wanted()))

    def replace_at_once(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        """Have so many of this version as soon as possible: all at once, whatever becomes of them. Raises NodeError."""
        # Also who is missing: what was told not to restart anybody would take their end for the end of their work.
        self._forced += 1
        told = self._told(spec, replicas=replicas)
        told["update_config"] = _update_config("start-first", 0, 0.0, "continue", 0.1)
        self._order(told)

    def kill(self, replica: Replica) -> str:
        """Kill the container of a replica, behind Swarm's back.

        Raises:
            NodeError: it runs on another machine, or did not end.
        """
        if not replica.is_here:
            raise NodeError(
                f"{replica.name} runs on {replica.node}, and only containers of the engine at {self._platform.address} "
                "can be killed"
            )
        if replica.container is None:
            raise NodeError(f"{replica.name} has no container yet, so that none can be killed")
        container = replica.container
        with engine.explained(f"{replica.name} cannot be killed"):
            self._api.kill(container, "SIGKILL")
        try:
            wait_until(
                lambda: not self._runs(container),
                within_seconds=_KILLED_WITHIN_SECONDS,
                every_seconds=0.01,
                because=f"{replica.name} was killed, so its container should have ended",
            )
        except WaitTimeout as problem:
            raise NodeError(str(problem)) from None
        return "the container has ended (exit code 137)"

    def remove(self) -> None:
        """Keep the log, remove the service, and return when none of its containers is left on this engine.

        Raises:
            NodeError: the engine does not, or some container stays.
        """
        if self._id is None:
            return
        with suppress(NodeError):
            self._collect_log()
        with engine.explained(f"the service {self.name} cannot be removed", passing=(404,)):
            self._api.remove_service(self._id)
        self._id = None
        # Swarm would give each its time to finish what it has; nobody waits for an answer any more.
        for container in self._containers():
            with engine.explained(f"a container of {self.name} cannot be removed", passing=(404, 409)):
                self._api.remove_container(container, force=True, v=True)
        try:
            wait_until(
                lambda: not self._containers(),
                within_seconds=_GONE_WITHIN_SECONDS,
                every_seconds=_LOOK_EVERY_SECONDS,
                because=f"the service {self.name} was removed, so its containers should be gone",
            )
        except WaitTimeout as problem:
            raise NodeError(str(problem)) from None

    # -- what is seen -----------------------------------------------------------------------------------------

    def replicas(self) -> tuple[Replica, ...]:
        """The tasks of the service, those that ended not long ago included. Raises NodeError."""
        with engine.explained(f"the replicas of {self.name} cannot be listed"):
            tasks: list[dict[str, Any]] = self._api.tasks(filters={"service": self._called})
        if any(task.get("NodeID") and task["NodeID"] not in self._machines for task in tasks):
            self._machines = self._platform.machines()
        return tuple(self._replica(task) for task in sorted(tasks, key=_made))

    def last_update(self) -> Update:
        """What became of the last update. Raises NodeError."""
        status = self._inspected().get("UpdateStatus") or {}
        outcome = _OUTCOMES.get(status.get("State", ""), Outcome.UNFINISHED)
        return Update(outcome, str(status.get("Message", "")))

    def last_log_lines(self, count: int = 10) -> list[str]:
        """What the latest of the replicas wrote last. They may hold secrets: redact before showing."""
        if self._id is None:
            return []
        try:
            lines = list(self._said(tail=count))
        except NodeError:
            return []
        return [line[:_LINE_LENGTH] for line in lines[-count:]]

    def _replica(self, task: Mapping[str, Any]) -> Replica:
        status, spec = task["Status"], task["Spec"]["ContainerSpec"]
        state, desired = status["State"], task["DesiredState"]
        addresses = [
            address.partition("/")[0]
            for each in task.get("NetworksAttachments") or []
            if each["Network"]["Spec"]["Name"] == self._platform.network
            for address in each.get("Addresses") or []
        ]
        node = task.get("NodeID", "")
        return Replica(
            id=task["ID"],
            name=f"{self.name}-{task.get('Slot', 0)}",
            version=(spec.get("Labels") or {}).get(_VERSION_LABEL, ""),
            state=state,
            alive=state not in _ENDED,
            # With a health check a task counts as running only when that has passed.
            healthy=state == "running" and desired == "running",
            wanted=desired not in _UNWANTED,
            address=addresses[0] if addresses else None,
            container=(status.get("ContainerStatus") or {}).get("ContainerID") or None,
            node=self._machines.get(node, node or "no machine yet"),
            is_here=node == self._here,
            message=str(status.get("Err", "")),
        )

    def _listed(self) -> list[dict[str, Any]]:
        with engine.explained(f"the containers of {self.name} cannot be listed"):
            label = f"com.docker.swarm.service.name={self._called}"
            found: list[dict[str, Any]] = self._api.containers(all=True, filters={"label": label})
        return sorted(found, key=lambda each: each["Created"])

    def _containers(self) -> list[str]:
        return [each["Id"] for each in self._listed()]

    def _runs(self, container: str) -> bool:
        state: dict[str, Any] = {}
        with engine.explained("a container cannot be looked at", passing=(404,)):
            state = self._api.inspect_container(container)["State"]
        return bool(state.get("Running"))

    def _collect_log(self) -> None:
        with self.log_path.open("a", encoding="utf-8") as log:
            log.writelines(f"{line}\n" for line in self._said(tail=_LOG_LINES))

    def _said(self, *, tail: int) -> Iterator[str]:
        """The last lines of each container on this engine, with the name of its replica before each.

        Not asked of the service: an engine that gathers the words of several containers may never say that these were
        all. What replicas on other machines said stays there.
        """
        for each in self._listed():
            with engine.explained(f"what {self.name} said cannot be read", passing=(404, 409)):
                text = self._api.logs(each["Id"], stdout=True, stderr=True, timestamps=True, tail=tail)
                slot = each["Labels"].get("com.docker.swarm.task.name", "").removeprefix(f"{self._called}.")
                for line in text.decode("utf-8", "replace").splitlines():
                    yield f"{self.name}-{slot.partition('.')[0]} {line}"

    # -- as Swarm wants to be told ----------------------------------------------------------------------------

    def _inspected(self) -> dict[str, Any]:
        if self._id is None:
            raise NodeError(f"the service {self.name} was not made")
        with engine.explained(f"the service {self.name} cannot be looked at"):
            found: dict[str, Any] = self._api.inspect_service(self._id)
        return found

    def _wanted(self) -> int:
        return int(self._inspected()["Spec"]["Mode"]["Replicated"]["Replicas"])

    def _order(self, told: dict[str, Any]) -> None:
        now = self._inspected()
        with engine.explained(f"the service {self.name} cannot be changed"):
            self._api.update_service(now["ID"], version=now["Version"]["Index"], fetch_current_spec=False, **told)

    def _change(self, change: Any) -> None:
        """Another detail of the same version: nobody is replaced for it."""
        spec = self._inspected()["Spec"]
        change(spec)
        self._order(
            {
                "task_template": spec["TaskTemplate"],
                "name": spec["Name"],
                "labels": spec["Labels"],
                "mode": spec["Mode"],
                "update_config": spec.get("UpdateConfig"),
                "rollback_config": spec.get("RollbackConfig"),
                "endpoint_spec": spec.get("EndpointSpec"),
            }
        )

    def _told(self, spec: ReplicatedSpec, *, replicas: int) -> dict[str, Any]:
        """The service in the words of the engine's interface (POST /services/create)."""
        settings = self._settings
        container: dict[str, Any] = {
            "Image": spec.image,
            # On the containers as well: these are what is left when a swarm is gone.
            "Labels": {
                **self._platform.labels,
                engine.NODE_LABEL: self.name,
                _VERSION_LABEL: spec.version,
            },
            "Env": [f"{name}={value}" for name, value in spec.env.items()],
            "StopGracePeriod": _nanoseconds(spec.stop_within_seconds),
        }
        if spec.command is not None:
            # `Args` is what an image calls its command; `Command` would replace its entrypoint.
            container["Args"] = list(spec.command)
        if spec.stop_signal is not None:
            container["StopSignal"] = spec.stop_signal
        container["Healthcheck"] = _health_config(spec.health)
        return {
            "task_template": {
                "ContainerSpec": container,
                "RestartPolicy": {
                    "Condition": settings.restart,
                    "Delay": _nanoseconds(settings.restart_delay_seconds),
                    "MaxAttempts": 0,
                },
                "Networks": [{"Target": self._platform.network, "Aliases": [spec.name]}],
                "ForceUpdate": self._forced,
            },
            "name": self._called,
            "labels": dict(self._platform.labels),
            "mode": {"Replicated": {"Replicas": replicas}},
            "update_config": _update_config(
                settings.order,
                settings.parallelism,
                settings.delay_seconds,
                settings.failure_action,
                settings.monitor_seconds,
            ),
            # The way back is not watched for long: what it goes back to has run before.
            "rollback_config": _update_config(settings.order, settings.parallelism, 0.0, "pause", 1.0),
            "endpoint_spec": {"Mode": "dnsrr"},
        }


def _health_config(health: HealthCheck) -> dict[str, Any]:
    if health.command == ():
        return {"Test": ["NONE"]}
    interval = _nanoseconds(health.interval_seconds)
    return {
        # Without a test of its own a check takes that of the image, at this pace.
        **({"Test": ["CMD", *health.command]} if health.command is not None else {}),
        "Interval": interval,
        "Timeout": max(interval, _nanoseconds(_HEALTH_SECONDS)),
        "StartPeriod": _nanoseconds(health.start_seconds),
        "Retries": health.retries,
    }


def _update_config(order: str, parallelism: int, delay: float, failure_action: str, monitor: float) -> dict[str, Any]:
    return {
        "Order": order,
        "Parallelism": parallelism,
        "Delay": _nanoseconds(delay),
        "FailureAction": failure_action,
        "Monitor": _nanoseconds(monitor),
        "MaxFailureRatio": 0,
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


def _made(task: Mapping[str, Any]) -> str:
    return str(task["CreatedAt"])
