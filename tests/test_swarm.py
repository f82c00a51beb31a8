"""Replicas kept by an orchestrator, without one: what Swarm is told, how its answers are read, and what is written down."""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness import engine, replicas
from harness.checkers import bounds
from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady, NothingTested, WaitTimeout
from harness.layouts import Replicated, choose, missing
from harness.model import FaultWindow, Look, RolloutStep
from harness.platforms import HealthCheck, Outcome, Replica, ReplicatedSpec, Update
from harness.platforms.swarm import SwarmPlatform, SwarmService
from harness.promises import why_left_out
from harness.replicas import Replicas
from harness.services import replicated_app
from harness.setup import App, Environment, Rollout, Setup, Swarm, parse_setup
from harness.waiting import wait_until
from harness.workspace import Workspace
from tests.scripted_engine import ScriptedEngine, scripted_engine

# -- an engine that is played --------------------------------------------------------------------------------------

INFO = {"LocalNodeState": "inactive", "NodeID": "", "ControlAvailable": False, "Error": "", "RemoteManagers": None}
MANAGER = INFO | {"LocalNodeState": "active", "NodeID": "here", "ControlAvailable": True}
NETWORK = {"Id": "n1", "IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}]}}


class PlayedSwarm:
    """What an engine says of its swarm; made one when it is told to."""

    def __init__(self, played: ScriptedEngine, swarm: dict[str, Any]) -> None:
        self.swarm = swarm
        self.engine = played
        self.networks = [{"Id": "n1", "IPAM": {"Config": None}}, NETWORK]
        played.answers |= {
            "GET /v1.46/info": lambda: (200, {"Swarm": self.swarm}),
            "POST /v1.46/swarm/init": self.make,
            "POST /v1.46/networks/create": lambda: (201, {"Id": "n1"}),
            "GET /v1.46/networks/n1": lambda: (200, self.networks.pop(0) if len(self.networks) > 1 else NETWORK),
            "GET /v1.46/nodes": lambda: (200, [{"ID": "here", "Description": {"Hostname": "this-one"}}]),
            "GET /v1.46/images/": lambda: (404, {"message": "no such image"}),
            "GET /v1.46/containers/json": lambda: (200, []),
        }

    def make(self) -> tuple[int, Any]:
        self.swarm = MANAGER
        return 200, '"here"'

    def sent(self, begin: str) -> list[Any]:
        """The bodies of what it was asked, of these questions."""
        posts = [asked for asked in self.engine.asked if asked.startswith("POST")]
        return [body for asked, body in zip(posts, self.engine.sent, strict=False) if asked.startswith(begin)]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as made:
        yield made


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedSwarm]:
    with scripted_engine(tmp_path / "engine.sock") as made:
        yield PlayedSwarm(made, dict(INFO))


def platform_on(played: PlayedSwarm, workspace: Workspace) -> SwarmPlatform:
    return SwarmPlatform(workspace, environment=Environment(docker_host=played.engine.url))


def test_a_swarm_is_made_where_there_is_none(played: PlayedSwarm, workspace: Workspace) -> None:
    """On loopback, with the labels of the run, so that whoever puts the run away ends it; and an overlay network."""
    with platform_on(played, workspace) as platform:
        [told] = played.sent("POST /v1.46/swarm/init")
        assert (told["AdvertiseAddr"], told["ListenAddr"]) == ("127.0.0.1", "127.0.0.1:2377")
        assert told["Spec"]["Labels"] == platform.labels
        [network] = played.sent("POST /v1.46/networks/create")
        assert (network["Driver"], network["Attachable"], network["Labels"]) == ("overlay", True, platform.labels)
        assert str(platform.subnet) == "10.0.1.0/24"
        assert platform.node_id == "here"
        assert platform.machines() == {"here": "this-one"}


def test_a_swarm_that_is_there_is_used(played: PlayedSwarm, workspace: Workspace) -> None:
    """And not made, and therefore never left."""
    played.swarm = MANAGER
    platform_on(played, workspace).close()
    assert not [asked for asked in played.engine.asked if "/swarm/init" in asked or "/swarm/leave" in asked]


@pytest.mark.parametrize(
    ("config", "checks"),
    [
        (None, False),
        ({"Healthcheck": None}, False),
        ({"Healthcheck": {"Test": ["NONE"]}}, False),
        ({"Healthcheck": {"Test": ["CMD", "ask"]}}, True),
    ],
)
def test_an_image_may_check_its_health_itself(
    played: PlayedSwarm, workspace: Workspace, config: dict[str, Any] | None, checks: bool
) -> None:
    """Where it does not, and the setup does not either, a container that runs counts as healthy."""
    with platform_on(played, workspace) as platform:
        played.engine.answers["GET /v1.46/images/"] = lambda: (200, {"Id": "i", "Config": config})
        assert platform.checks_health("shop:1") is checks


@pytest.mark.parametrize("code", [406, 503])
def test_another_run_may_make_it_in_this_moment(played: PlayedSwarm, workspace: Workspace, code: int) -> None:
    """Then it is used."""

    def too_late() -> tuple[int, Any]:
        played.swarm = MANAGER
        return code, {"message": "This node is already part of a swarm."}

    played.engine.answers["POST /v1.46/swarm/init"] = too_late
    platform_on(played, workspace).close()


def test_a_swarm_that_another_run_is_making_is_awaited(played: PlayedSwarm, workspace: Workspace) -> None:
    """It is pending for a moment, and nothing is wrong with it."""
    states = [MANAGER | {"LocalNodeState": "pending"}] * 3

    def becomes() -> tuple[int, Any]:
        return 200, {"Swarm": states.pop() if states else MANAGER}

    played.engine.answers["GET /v1.46/info"] = becomes
    platform_on(played, workspace).close()
    assert not states
    assert not played.sent("POST /v1.46/swarm/init")


def test_another_run_may_end_it_in_this_moment(played: PlayedSwarm, workspace: Workspace) -> None:
    """Then it is made once more; what fails for another reason is told at once."""
    played.swarm = MANAGER

    def gone() -> tuple[int, Any]:
        played.swarm = dict(INFO)
        played.engine.answers["POST /v1.46/networks/create"] = lambda: (201, {"Id": "n1"})
        return 503, {"message": "This node is not a swarm manager."}

    played.engine.answers["POST /v1.46/networks/create"] = gone
    platform_on(played, workspace).close()
    assert len(played.sent("POST /v1.46/networks/create")) == 2
    played.engine.answers["POST /v1.46/networks/create"] = lambda: (500, {"message": "no more addresses"})
    with pytest.raises(HarnessError, match="a network for the run cannot be made: no more addresses"):
        platform_on(played, workspace)


@pytest.mark.parametrize(
    ("swarm", "said"),
    [
        (MANAGER | {"LocalNodeState": "locked"}, "a swarm that does not work .state locked.*unlock or mend it"),
        (MANAGER | {"LocalNodeState": "error", "Error": "no quorum"}, "state error, no quorum"),
        (
            MANAGER | {"ControlAvailable": False, "RemoteManagers": [{"Addr": "10.1.0.2:2377"}]},
            r"a worker of its swarm.*machine of a manager \(10.1.0.2:2377\)",
        ),
    ],
)
def test_an_engine_that_cannot_make_services_is_told(
    played: PlayedSwarm, workspace: Workspace, swarm: dict[str, Any], said: str
) -> None:
    """With what to do about it."""
    played.swarm = swarm
    with pytest.raises(BadInput, match=said):
        platform_on(played, workspace)


# -- the service ---------------------------------------------------------------------------------------------------

SPEC = ReplicatedSpec(
    name="app",
    version="1",
    image="shop:1",
    env={"PORT": "8000"},
    container_port=8000,
    health=HealthCheck(command=("ask",), interval_seconds=1.0, start_seconds=6.0, retries=3),
)


def task(slot: int = 1, state: str = "running", desired: str = "running", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ID": f"t{slot}",
        "CreatedAt": f"2026-01-01T00:00:0{slot}Z",
        "Slot": slot,
        "NodeID": "here",
        "DesiredState": desired,
        "Status": {"State": state, "ContainerStatus": {"ContainerID": f"c{slot}"}},
        "Spec": {"ContainerSpec": {"Labels": {"harness.version": "1"}}},
        "NetworksAttachments": [
            {"Network": {"Spec": {"Name": "ingress"}}, "Addresses": ["10.255.0.9/16"]},
            {"Network": {"Spec": {"Name": changes.pop("network", "")}}, "Addresses": [f"10.0.1.{slot}/24"]},
        ],
    }
    return made | changes


@pytest.fixture
def service(played: PlayedSwarm, workspace: Workspace) -> Iterator[SwarmService]:
    played.swarm = MANAGER
    played.engine.answers |= {
        "POST /v1.46/services/create": lambda: (201, {"ID": "s1"}),
        "POST /v1.46/services/s1/update": lambda: (200, {}),
        "DELETE /v1.46/services/s1": lambda: (200, None),
    }
    with platform_on(played, workspace) as platform:
        yield SwarmService(platform, name="app", settings=Swarm(), log=workspace.logs / "app.log")


def started(service: SwarmService, played: PlayedSwarm) -> dict[str, Any]:
    """The service, as it was told to the engine, which shows it as it is from now on."""
    service.start(SPEC, replicas=3)
    told: dict[str, Any] = played.sent("POST /v1.46/services/create")[0]
    shown = {"ID": "s1", "Version": {"Index": 7}, "Spec": told}
    played.engine.answers["GET /v1.46/services/s1"] = lambda: (200, shown)
    return told


def test_what_swarm_is_told(service: SwarmService, played: PlayedSwarm) -> None:
    """Everything the setup says, in the words of the engine's interface, in nanoseconds."""
    told = started(service, played)
    template, container = told["TaskTemplate"], told["TaskTemplate"]["ContainerSpec"]
    assert told["Mode"] == {"Replicated": {"Replicas": 3}}
    assert told["EndpointSpec"] == {"Mode": "dnsrr"}
    assert (container["Image"], container["Env"]) == ("shop:1", ["PORT=8000"])
    assert "Args" not in container
    assert container["Healthcheck"] == {
        "Test": ["CMD", "ask"],
        "Interval": 1_000_000_000,
        "Timeout": 10_000_000_000,
        "StartPeriod": 6_000_000_000,
        "Retries": 3,
    }
    assert template["RestartPolicy"] == {"Condition": "any", "Delay": 500_000_000, "MaxAttempts": 0}
    assert template["Networks"][0]["Aliases"] == ["app"]
    update = told["UpdateConfig"]
    assert (update["Order"], update["Parallelism"], update["FailureAction"]) == ("start-first", 1, "rollback")
    # What is left when the engine is asked for what a run has: service and containers alike.
    assert told["Labels"]["harness.run"] == container["Labels"]["harness.run"]
    assert container["Labels"]["harness.version"] == "1"


@pytest.mark.parametrize(
    ("command", "test"), [(None, None), ((), ["NONE"]), (("curl", "-f", "x"), ["CMD", "curl", "-f", "x"])]
)
def test_a_health_check_is_the_images_own_or_none_or_this(
    service: SwarmService, played: PlayedSwarm, command: tuple[str, ...] | None, test: list[str] | None
) -> None:
    """Without a test of its own the pace is told, and the image's test is kept."""
    health = replace(SPEC.health, command=command)
    service.start(replace(SPEC, health=health, command=("serve",), stop_signal="SIGINT"), replicas=3)
    container = played.sent("POST /v1.46/services/create")[0]["TaskTemplate"]["ContainerSpec"]
    assert container["Healthcheck"].get("Test") == test
    assert (container["Args"], container["StopSignal"]) == (["serve"], "SIGINT")


def test_orders_carry_the_version_that_was_read(service: SwarmService, played: PlayedSwarm) -> None:
    """Scaling keeps the rest as it is; an update keeps the number; a reset asks for no patience at all."""
    told = started(service, played)
    service.scale(6)
    service.update(replace(SPEC, version="2"))
    service.replace_at_once(SPEC, replicas=3)
    scaled, updated, reset = played.sent("POST /v1.46/services/s1/update")
    assert scaled["Mode"] == {"Replicated": {"Replicas": 6}}
    assert scaled["TaskTemplate"] == told["TaskTemplate"]
    assert updated["Mode"] == {"Replicated": {"Replicas": 3}}
    assert updated["TaskTemplate"]["ContainerSpec"]["Labels"]["harness.version"] == "2"
    forced = [told["TaskTemplate"]["ForceUpdate"] for told in (scaled, updated, reset)]
    assert forced == [0, 0, 1]
    assert (reset["UpdateConfig"]["Parallelism"], reset["UpdateConfig"]["FailureAction"]) == (0, "continue")
    assert [asked for asked in played.engine.asked if "/update?version=7" in asked]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (None, Outcome.UNFINISHED),
        ("updating", Outcome.UNFINISHED),
        ("rollback_started", Outcome.UNFINISHED),
        ("completed", Outcome.COMPLETED),
        ("rollback_completed", Outcome.ROLLED_BACK),
        ("paused", Outcome.PAUSED),
        ("rollback_paused", Outcome.PAUSED),
    ],
)
def test_what_became_of_an_update(
    service: SwarmService, played: PlayedSwarm, state: str | None, outcome: Outcome
) -> None:
    """The order succeeds whatever becomes of it: its state is what counts."""
    shown = {"ID": "s1", "Version": {"Index": 7}, "Spec": started(service, played)}
    shown |= {"UpdateStatus": {"State": state, "Message": "said"}} if state else {}
    played.engine.answers["GET /v1.46/services/s1"] = lambda: (200, shown)
    assert service.last_update() == Update(outcome, "said" if state else "")


@pytest.mark.parametrize(
    ("state", "desired", "alive", "healthy", "wanted"),
    [
        ("starting", "running", True, False, True),
        ("running", "running", True, True, True),
        ("ready", "ready", True, False, True),
        ("running", "shutdown", True, False, False),
        ("running", "remove", True, False, False),
        ("shutdown", "shutdown", False, False, False),
        ("failed", "shutdown", False, False, False),
        ("rejected", "running", False, False, True),
    ],
)
def test_a_task_is_a_replica(
    service: SwarmService, played: PlayedSwarm, state: str, desired: str, alive: bool, healthy: bool, wanted: bool
) -> None:
    """Running means healthy where there is a health check; who is to go is not healthy any more."""
    network = service._platform.network
    played.engine.answers["GET /v1.46/tasks"] = lambda: (200, [task(2, state, desired, network=network)])
    [seen] = service.replicas()
    assert (seen.name, seen.version, seen.address, seen.container) == ("app-2", "1", "10.0.1.2", "c2")
    assert (seen.node, seen.is_here) == ("this-one", True)
    assert (seen.alive, seen.healthy, seen.wanted) == (alive, healthy, wanted)


def test_a_task_that_is_nowhere_yet(service: SwarmService, played: PlayedSwarm) -> None:
    """It has neither machine, address nor container."""
    bare = task(1, "pending", NodeID="", NetworksAttachments=None, Status={"State": "pending", "Err": "no room"})
    played.engine.answers["GET /v1.46/tasks"] = lambda: (200, [bare])
    [seen] = service.replicas()
    assert (seen.address, seen.container, seen.is_here, seen.message) == (None, None, False, "no room")
    with pytest.raises(NodeError, match="app-1 runs on no machine yet, and only containers of the engine at"):
        service.kill(seen)
    with pytest.raises(NodeError, match="app-1 has no container yet"):
        service.kill(replace(seen, is_here=True))


def test_a_replica_here_is_killed(service: SwarmService, played: PlayedSwarm) -> None:
    """And seen to have ended."""
    running = [True, True, False]
    played.engine.answers["POST /v1.46/containers/c1/kill"] = lambda: (204, None)
    played.engine.answers["GET /v1.46/containers/c1/json"] = lambda: (200, {"State": {"Running": running.pop(0)}})
    assert "137" in service.kill(healthy(1, container="c1"))
    assert not running


def test_a_service_that_was_not_made_has_nothing(service: SwarmService) -> None:
    """Neither state nor words; removing it is nothing."""
    service.remove()
    assert service.last_log_lines() == []
    with pytest.raises(NodeError, match="the service app was not made"):
        service.scale(3)


def test_a_service_is_removed_with_its_containers(service: SwarmService, played: PlayedSwarm) -> None:
    """Without waiting for what they would still finish; its log is kept."""
    started(service, played)
    name = f"{service._platform.network}-app"
    labels = {"com.docker.swarm.task.name": f"{name}.2.x"}
    left = [{"Id": "c1", "Created": 1, "Labels": labels}]
    played.engine.answers["GET /v1.46/containers/json"] = lambda: (200, list(left))
    played.engine.answers["GET /v1.46/containers/c1/json"] = lambda: (200, {"Config": {"Tty": True}})
    played.engine.answers["GET /v1.46/containers/c1/logs"] = lambda: (200, "09:00 listening\n09:01 bye\n")

    def removed() -> tuple[int, Any]:
        left.clear()
        return 204, None

    played.engine.answers["DELETE /v1.46/containers/c1"] = removed
    assert service.last_log_lines(1) == ["app-2 09:01 bye"]
    service.remove()
    assert not left
    assert service.log_path.read_text() == "app-2 09:00 listening\napp-2 09:01 bye\n"
    assert any(asked.startswith("DELETE /v1.46/services/s1") for asked in played.engine.asked)


# -- what is left of a run -----------------------------------------------------------------------------------------


def swarm_of(**marks: str) -> dict[str, Any]:
    labels = {f"harness.{key}": value for key, value in marks.items()}
    return {"ID": "w1", "CreatedAt": "1970-01-01T00:00:00.1Z", "Spec": {"Labels": labels}}


def service_of(**marks: str) -> dict[str, Any]:
    labels = {f"harness.{key}": value for key, value in marks.items()}
    return {"ID": "s1", "CreatedAt": "1970-01-01T00:00:00.1Z", "Spec": {"Name": "hv-1-app", "Labels": labels}}


class LeftSwarm:
    """What a killed run left of a swarm: it goes when it is told to."""

    def __init__(self, played: PlayedSwarm, *, made_by: str, services: list[dict[str, Any]]) -> None:
        self.swarm: dict[str, Any] | None = swarm_of(run=made_by, scratch=f"hv-{made_by}")
        self.services = services
        self.nodes = 1
        self.order: list[str] = []
        answers = played.engine.answers
        # The longer of two beginnings first: whichever comes first answers.
        answers['GET /networks?filters={"driver"'] = lambda: (200, [{"Labels": None, "Ingress": True}])
        answers["GET /services?filters"] = lambda: self.listed("r1")
        answers["GET /services"] = lambda: self.listed(None)
        answers["DELETE /services/s1"] = self.remove_service
        answers["GET /swarm"] = lambda: (200, self.swarm) if self.swarm else (503, {"message": "no swarm"})
        answers["GET /nodes"] = lambda: (200, [{}] * self.nodes)
        answers["POST /swarm/leave"] = self.leave

    def listed(self, run: str | None) -> tuple[int, Any]:
        if self.swarm is None:
            return 503, {"message": "This node is not a swarm manager."}
        return 200, [each for each in self.services if run in (None, each["Spec"]["Labels"].get("harness.run"))]

    def remove_service(self) -> tuple[int, Any]:
        self.services = []
        self.order.append("service")
        return 200, None

    def leave(self) -> tuple[int, Any]:
        self.swarm = None
        self.order.append("swarm")
        return 200, None


def removed(played: PlayedSwarm, run: str) -> engine.Removed:
    return engine.remove_run(run, url=played.engine.url, scratch=f"hv-{run}", within_seconds=1.0)


def test_a_service_goes_before_its_containers_and_the_swarm_last(played: PlayedSwarm) -> None:
    """It would make its containers anew; and what is in a swarm is not to be found any more when that is left."""
    left = LeftSwarm(played, made_by="r1", services=[service_of(run="r1")])
    played.engine.has("containers", "c1", run="r1", scratch="hv-r1", node="app")
    assert removed(played, "r1").problems == ()
    assert left.order == ["service", "swarm"]
    deleted = [asked for asked in played.engine.asked if asked.startswith(("DELETE", "POST"))]
    assert [asked.split("?")[0] for asked in deleted] == [
        "DELETE /services/s1",
        "DELETE /containers/c1",
        "POST /swarm/leave",
    ]


@pytest.mark.parametrize(
    ("made_by", "services", "nodes", "ours"),
    [
        ("r1", [], 1, True),
        ("r1", [service_of(run="r2")], 1, False),
        ("r1", [service_of()], 1, False),
        ("r1", [], 2, False),
        # Somebody made it who is gone (of another boot, an hour ago): it falls to us.
        ("gone", [], 1, True),
        ("gone", [service_of(run="r2")], 1, False),
    ],
)
def test_a_swarm_is_left_by_whoever_made_it_unless_somebody_uses_it(
    played: PlayedSwarm, made_by: str, services: list[dict[str, Any]], nodes: int, ours: bool
) -> None:
    """A service that is not ours, or another machine in it: then it stays, and nothing is wrong."""
    left = LeftSwarm(played, made_by=made_by, services=services)
    left.nodes = nodes
    assert removed(played, "r1") == ((), ())
    assert (left.swarm is None) is ours


@pytest.mark.parametrize(("network", "stays"), [("shop_default", True), ("bridge", False)])
def test_a_swarm_is_not_left_while_somebody_is_found_by_name(played: PlayedSwarm, network: str, stays: bool) -> None:
    """An engine that leaves a swarm forgets the names on every network, also on those of other people's containers."""
    left = LeftSwarm(played, made_by="r1", services=[])
    played.engine.has("containers", "theirs", running=True, network=network)
    assert removed(played, "r1") == ((), ())
    assert (left.swarm is not None) is stays


def test_a_swarm_of_a_run_that_lives_is_not_ours(played: PlayedSwarm, workspace: Workspace) -> None:
    """Whoever made it leaves it; nor is one left that no run made."""
    left = LeftSwarm(played, made_by="r1", services=[])
    assert left.swarm is not None
    left.swarm["Spec"]["Labels"] = engine.labels(run="other", scratch=workspace.scratch)
    removed(played, "r1")
    assert left.swarm is not None
    left.swarm["Spec"]["Labels"] = {}
    removed(played, "r1")
    assert left.swarm is not None


def test_a_run_is_left_as_long_as_its_swarm_is(played: PlayedSwarm) -> None:
    """The next run, or `harness clean`, finds it."""
    LeftSwarm(played, made_by="r1", services=[])
    assert engine.runs_left(played.engine.url) == [engine.RunLeft("r1", "hv-r1", 1)]


# -- what a setup comes to -----------------------------------------------------------------------------------------

TEXT = """
[app]
image = "shop:1"
image_command = ["serve", "--port", "{port}"]
env = { PORT = "{port}", HOST = "{host}", NAME = "{instance}/{index}", TEMPLATE = "a {{{{ b" }
[rollout]
image = "shop:2"
env = { APP_VERSION = "2" }
bad_env = { APP_VERSION = "bad" }
[swarm]
health = ["ask", "{port}"]
[journey.register]
steps = [{ post = "/register", expect = { status = 303 } }]
[journey.login]
steps = [{ post = "/login", expect = { status = 303 } }]
[journey.whoami]
steps = [{ get = "/", recognised = { status = 200, contains = "{user.email}" }, logged_out = { status = 303 } }]
"""


def setup_with(**app: Any) -> Setup:
    setup = parse_setup(tomllib.loads(TEXT), source="shop.toml")
    return setup.model_copy(update={"app": setup.app.model_copy(update=app)})


def test_replicas_differ_by_their_slot_alone() -> None:
    """Swarm fills in the number of each; what only looks like one of its templates is told as it is."""
    spec = replicated_app(setup_with(), values={}, which="first")
    assert spec.env == {
        "PORT": "8000",
        "HOST": "0.0.0.0",
        "NAME": "app-{{.Task.Slot}}/{{.Task.Slot}}",
        "TEMPLATE": 'a {{"{{"}} b',
    }
    assert (spec.name, spec.image, spec.version) == ("app", "shop:1", "old")
    assert (spec.command, spec.health.command) == (("serve", "--port", "8000"), ("ask", "8000"))


def test_versions_differ_by_image_and_environment() -> None:
    """The next one has the image of the rollout; the bad one the first image, with what makes it bad."""
    specs = {which: replicated_app(setup_with(), values={}, which=which) for which in ("first", "next", "bad")}
    assert [spec.image for spec in specs.values()] == ["shop:1", "shop:2", "shop:1"]
    assert [spec.version for spec in specs.values()] == ["old", "2", "bad"]
    assert [spec.env.get("APP_VERSION") for spec in specs.values()] == [None, "2", "bad"]


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ({"image": None, "command": ("x",)}, "app.image is not given: a swarm runs images"),
        (
            {"instance_env": {"app-1": {"A": "1"}}},
            "app.instance_env names app-1: replicas of one service cannot differ",
        ),
        ({"image_command": ("serve", "{index}")}, r"app.image_command uses \{instance\} or \{index\}"),
    ],
)
def test_what_cannot_be_said_of_all_replicas_together(app: dict[str, Any], said: str) -> None:
    """Is told before anything is started, with what to do."""
    with pytest.raises(BadInput, match=said):
        replicated_app(setup_with(**app), values={}, which="first")


def test_what_a_swarm_can_do() -> None:
    """It has an orchestrator, and nobody can ask or break a single instance; everywhere else it is the other way round."""
    assert missing(["orchestrator"], "swarm") is None
    assert missing(["instances"], "swarm") == "instances"
    assert missing(["orchestrator"], "docker") == "orchestrator"
    assert "--platform swarm does" in why_left_out("orchestrator", "native")
    with pytest.raises(BadInput, match=r"the swarm platform runs app\.image, and the setup has app.command alone"):
        choose(Setup(app=App(command=("./server",))), wished="swarm")


# -- an orchestrator that is played --------------------------------------------------------------------------------


def healthy(slot: int, version: str = "1", *, life: int = 0, **changes: Any) -> Replica:
    given: dict[str, Any] = {
        "id": f"{slot}.{version}.{life}",
        "name": f"app-{slot}",
        "version": version,
        "state": "running",
        "alive": True,
        "healthy": True,
        "wanted": True,
        "address": f"10.0.1.{slot + 10 * life}",
        "container": "c",
        "node": "this-one",
        "is_here": True,
    }
    return Replica(**(given | changes))


@dataclass
class Played:
    """Does what it is told when it is looked at, one step at a look, so that every step is seen."""

    name: str = "app"
    now: list[Replica] = field(default_factory=list)
    coming: list[list[Replica]] = field(default_factory=list)
    """What it will be at the next looks."""
    outcome: Update = field(default_factory=lambda: Update(Outcome.UNFINISHED))
    told: list[str] = field(default_factory=list)
    then: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What an order leads to."""
    broken: HarnessError | None = None
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def _obey(self, order: str) -> None:
        with self._looking:
            self.told.append(order)
            if order in self.then:
                self.then[order]()

    def start(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        self._obey(f"start {spec.version} {replicas}")

    def remove(self) -> None:
        self._obey("remove")

    def replicas(self) -> tuple[Replica, ...]:
        if self.broken is not None:
            raise self.broken
        with self._looking:
            if self.coming:
                self.now = self.coming.pop(0)
            return tuple(self.now)

    def scale(self, replicas: int) -> None:
        self._obey(f"scale {replicas}")

    def update(self, spec: ReplicatedSpec) -> None:
        self._obey(f"update {spec.version}")

    def replace_at_once(self, spec: ReplicatedSpec, *, replicas: int) -> None:
        self._obey(f"reset {spec.version} {replicas}")

    def last_update(self) -> Update:
        return Update(Outcome.UNFINISHED) if self.coming else self.outcome

    def kill(self, replica: Replica) -> str:
        self._obey(f"kill {replica.name}")
        return "it has ended"

    def last_log_lines(self, count: int = 10) -> list[str]:
        return ["cannot start: no database"][:count]


THREE = [healthy(1), healthy(2), healthy(3)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here takes long, and what never happens need not be waited for as long as people would."""
    monkeypatch.setattr(replicas, "_LOOK_EVERY_SECONDS", 0.005)
    monkeypatch.setattr(replicas, "_GONE_WITHIN_SECONDS", 0.5)
    for bound in ("HEAL_SECONDS", "SCALE_SECONDS", "TAKEN_BACK_SECONDS"):
        monkeypatch.setattr(bounds, bound, 0.8)
    monkeypatch.setattr(replicas, "_BEYOND_THE_BOUND_SECONDS", 0.0)
    monkeypatch.setattr(replicas, "_UPDATE_WITHIN_SECONDS", 0.5)


class Kept:
    """Three replicas that are watched, and what was written down of them."""

    def __init__(self, orchestrator: Played, *, bad: ReplicatedSpec | None = None) -> None:
        self.orchestrator = orchestrator
        self.events: list[FaultWindow | RolloutStep | Look] = []
        first = replace(SPEC, ready_within_seconds=0.5)
        self.replicas = Replicas(
            Replicated(orchestrator=orchestrator, first=first, next=replace(first, version="2"), bad=bad),
            wanted=3,
            record=self.events.append,
        )

    @property
    def steps(self) -> list[str]:
        told = [event for event in self.events if isinstance(event, RolloutStep)]
        return [f"{step.step} {step.node or step.detail}".strip() for step in told]

    def looks(self, what: str) -> list[Any]:
        return [event.value for event in self.events if isinstance(event, Look) and event.what == what]

    @property
    def window(self) -> FaultWindow:
        [window] = [event for event in self.events if isinstance(event, FaultWindow)]
        return window


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept(Played(now=list(THREE)), bad=replace(SPEC, version="bad"))
    made.replicas.start()
    yield made
    made.replicas.stop()
    assert made.orchestrator.told[-1] == "remove"


def test_a_start_takes_until_all_are_healthy() -> None:
    """And nothing of it is written down: it belongs to no scenario."""
    starting = [replace(each, healthy=False) for each in THREE]
    made = Kept(Played(coming=[[], starting, THREE]))
    assert made.replicas.start() > 0
    assert made.orchestrator.told == ["start 1 3"]
    assert made.events == []
    made.replicas.stop()


def test_who_is_never_healthy_is_told_with_its_last_words() -> None:
    """In time when they end again and again; else when the time is up."""
    failed = [healthy(1, life=life, alive=False, healthy=False, message="exit 2") for life in range(3)]
    made = Kept(Played(now=failed))
    with pytest.raises(
        NodeNeverReady, match=r"end again and again: app-1 on this-one: exit 2(.|\n)*no database"
    ) as told:
        made.replicas.start()
    assert "swarm.health" in str(told.value)
    made.replicas.stop()
    made = Kept(Played(now=[replace(each, healthy=False, state="starting") for each in THREE]))
    with pytest.raises(NodeNeverReady, match=r"were not healthy in time .now: app-1 starting"):
        made.replicas.start()
    made.replicas.stop()


def test_whoever_gives_up_is_not_kept_waiting() -> None:
    """When something else of the setup failed, the replicas are not waited for."""
    made = Kept(Played())
    made.replicas.give_up()
    with pytest.raises(NodeNeverReady):
        made.replicas.start()
    made.replicas.stop()


def test_one_is_killed_and_replaced(kept: Kept) -> None:
    """The window ends when as many as are wanted are healthy without it; how few there were is written down."""
    gone = [replace(THREE[1], alive=False, healthy=False, state="failed")]
    rest = [THREE[0], THREE[2]]
    new = healthy(2, life=1)

    def killed() -> None:
        kept.orchestrator.coming = [rest + gone, [*rest, *gone, replace(new, healthy=False)], [*rest, *gone, new]]

    kept.orchestrator.then["kill app-2"] = killed
    seed = next(seed for seed in range(99) if Random(seed).choice(THREE).name == "app-2")
    assert kept.replicas.lose_one(Random(seed)) == "app-2"
    window = kept.window
    assert (window.fault, window.node, window.proof) == ("kill", "app-2", "it has ended")
    assert window.effective is not None
    assert window.healed is not None
    assert window.injected <= window.effective <= window.healed == window.healing
    assert [look["healthy"] for look in kept.looks("replicas")][-2:] == [
        ["app-1", "app-3"],
        ["app-1", "app-2", "app-3"],
    ]
    assert kept.steps == ["stopped app-2", "start app-2", "ready app-2"]


def test_one_is_killed_and_nobody_replaces_it(kept: Kept) -> None:
    """The window says that it never ended, and until when that was waited for."""
    kept.orchestrator.then["kill app-1"] = lambda: kept.orchestrator.coming.append(THREE[1:])
    seed = next(seed for seed in range(99) if Random(seed).choice(THREE).name == "app-1")
    kept.replicas.lose_one(Random(seed))
    assert kept.window.healed is None
    assert kept.window.healing - kept.window.injected >= 0.8


def test_only_who_is_here_can_be_killed() -> None:
    """Of several machines, that of the engine; where none is, nothing was tested."""
    away = [replace(each, is_here=False, node="other") for each in THREE]
    made = Kept(Played(now=away))
    made.replicas.start()
    with pytest.raises(NothingTested, match=r"every replica runs on another machine \(other\)"):
        made.replicas.lose_one(Random(1))
    assert made.events == []
    made.replicas.stop()


@pytest.mark.parametrize("is_seen_ended", [True, False])
def test_more_and_fewer(kept: Kept, is_seen_ended: bool) -> None:
    """Each step of each replica is written down, and whether the number was reached; also of one that an orchestrator
    forgets before anybody saw it ended."""
    more = [healthy(slot) for slot in (4, 5, 6)]

    def grown() -> None:
        kept.orchestrator.coming = [[*THREE, *(replace(each, healthy=False) for each in more)], [*THREE, *more]]

    def shrunk() -> None:
        leaving = [replace(each, healthy=False, wanted=False) for each in more]
        ended = [THREE + [replace(each, alive=False) for each in leaving]] if is_seen_ended else []
        kept.orchestrator.coming = [THREE + leaving, *ended, THREE]

    kept.orchestrator.then |= {"scale 6": grown, "scale 3": shrunk}
    assert kept.replicas.scale_by(2) == ("app-4", "app-5", "app-6")
    kept.replicas.scale_back()
    names = ("app-4", "app-5", "app-6")
    assert kept.steps == [
        "begin 3 to 6 replicas",
        *(f"start {name}" for name in names),
        *(f"ready {name}" for name in names),
        "end",
        "begin 6 to 3 replicas",
        *(f"stop {name}" for name in names),
        *(f"stopped {name}" for name in names),
        "end",
    ]
    assert kept.looks("scale") == [
        {"from": 3, "to": 6, "reached": True},
        {"from": 6, "to": 3, "reached": True},
    ]


def test_a_number_that_is_never_reached(kept: Kept) -> None:
    """Is given up after the bound, and that is what is written down."""
    assert kept.replicas.scale_by(2) == ()
    assert kept.looks("scale") == [{"from": 3, "to": 6, "reached": False}]


def test_an_update(kept: Kept) -> None:
    """It is over when it is completed and those it replaced are gone; old and new of one name are told apart."""
    new = [healthy(slot, "2", life=1) for slot in (1, 2, 3)]
    old = [replace(each, healthy=False, wanted=False) for each in THREE]

    def updated() -> None:
        kept.orchestrator.coming = [[*THREE, replace(new[0], healthy=False)], [*THREE, new[0]], old + new, new]
        kept.orchestrator.outcome = Update(Outcome.COMPLETED, "update completed")

    kept.orchestrator.then["update 2"] = updated
    kept.replicas.update()
    assert kept.steps[:3] == ["begin by the orchestrator", "start app-1", "ready app-1"]
    assert kept.steps[-1] == "end"
    assert {step for step in kept.steps if step.startswith("stop ")} == {f"stop app-{n}" for n in (1, 2, 3)}
    assert kept.looks("update") == [{"outcome": "completed", "message": "update completed"}]
    versions = {event.version for event in kept.events if isinstance(event, RolloutStep) and event.step == "ready"}
    assert versions == {"2"}


@pytest.mark.parametrize("outcome", [Outcome.ROLLED_BACK, Outcome.PAUSED, Outcome.UNFINISHED])
def test_a_bad_version(kept: Kept, outcome: Outcome) -> None:
    """What became of it is written down in words that a checker knows, also when nothing did."""
    kept.orchestrator.outcome = Update(outcome, "task failed")
    kept.replicas.update_to_bad()
    begin = next(event for event in kept.events if isinstance(event, RolloutStep))
    assert (begin.step, begin.version) == ("begin", "bad")
    assert kept.looks("update") == [{"outcome": outcome.value, "message": "task failed"}]


def test_without_a_bad_version_nothing_is_tested() -> None:
    """And it is said how one is named."""
    made = Kept(Played(now=list(THREE)))
    made.replicas.start()
    with pytest.raises(NothingTested, match=r"rollout\.bad_env is not given"):
        made.replicas.update_to_bad()
    made.replicas.stop()


def test_nothing_is_written_down_between_scenarios(kept: Kept) -> None:
    """What an orchestrator does when nobody asks it to belongs to no scenario."""
    kept.orchestrator.coming = [THREE[:2], THREE]
    wait_until(lambda: not kept.orchestrator.coming, within_seconds=5, because="both should have been seen")
    assert kept.events == []


def test_a_reset_brings_the_first_version_back(kept: Kept) -> None:
    """Nothing is done where it is as it was at first; what stays otherwise is told."""
    kept.replicas.reset()
    assert kept.orchestrator.told == ["start 1 3"]
    # One that leaves is enough to begin anew, and those who were there then are none of those who come.
    leaving = replace(healthy(1, "bad"), healthy=False, wanted=False)
    kept.orchestrator.coming = [[*THREE, leaving]]
    wait_until(lambda: leaving in kept.replicas._now, within_seconds=5, because="it should be known")
    anew = [healthy(slot, life=5) for slot in (1, 2, 3)]
    kept.orchestrator.then["reset 1 3"] = lambda: kept.orchestrator.coming.extend(
        [list(THREE), THREE + [replace(each, healthy=False) for each in anew], anew]
    )
    kept.replicas.reset()
    assert kept.replicas._now == tuple(anew)
    second = [healthy(slot, "2", life=1) for slot in (1, 2, 3)]
    kept.orchestrator.coming = [second]
    wait_until(lambda: not kept.orchestrator.coming, within_seconds=5, because="it should have been seen")
    # Old ones of the first version that are still there, or the first of those that come, are not the end of it.
    third = [healthy(slot, life=2) for slot in (1, 2, 3)]
    coming = [replace(each, healthy=False) for each in third]
    kept.orchestrator.then["reset 1 3"] = lambda: kept.orchestrator.coming.extend(
        [list(THREE), THREE + coming, [*THREE[:2], third[2], *coming[:2]], third]
    )
    wait_until(lambda: kept.replicas._now == tuple(second), within_seconds=5, because="it should be known")
    kept.replicas.reset()
    assert kept.orchestrator.told[-1] == "reset 1 3"
    assert kept.replicas._now == tuple(third)
    kept.orchestrator.then.clear()
    kept.orchestrator.coming = [second]
    wait_until(lambda: kept.replicas._now == tuple(second), within_seconds=5, because="it should be known")
    with pytest.raises(WaitTimeout, match="3 replicas of the first version should be healthy"):
        kept.replicas.reset()


def test_whose_address_is_whose(kept: Kept) -> None:
    """Told at once and whenever somebody has a new one; who is gone stays known, and the latest owner has an address."""
    told: list[dict[str, str]] = []
    kept.replicas.listen(lambda names: told.append(dict(names)))
    assert kept.replicas.addresses == told[0]
    assert told[-1] == {"10.0.1.1:8000": "app-1", "10.0.1.2:8000": "app-2", "10.0.1.3:8000": "app-3"}
    kept.orchestrator.coming = [[*THREE[:2], healthy(3, life=1)], [*THREE[:2], replace(healthy(3), name="app-9")]]
    wait_until(lambda: told[-1].get("10.0.1.3:8000") == "app-9", within_seconds=5, because="it should be told")
    assert told[-1]["10.0.1.13:8000"] == "app-3"
    kept.replicas.listen(None)
    count = len(told)
    kept.orchestrator.coming = [[*THREE[:2], healthy(3, life=2)]]
    wait_until(lambda: not kept.orchestrator.coming, within_seconds=5, because="it should have been seen")
    assert len(told) == count


def test_an_engine_that_fails_is_told_by_what_is_done_next(kept: Kept) -> None:
    """Never kept to itself: what nobody watched cannot be judged."""
    kept.orchestrator.broken = NodeError("the replicas cannot be listed")
    wait_until(lambda: kept.replicas._problem is not None, within_seconds=5, because="it should have been met")
    with pytest.raises(NodeError, match="cannot be listed"):
        kept.replicas.scale_by(2)
    with pytest.raises(NodeError, match="cannot be listed"):
        kept.replicas.reset()


def test_the_words_of_a_rollout_are_those_of_the_table() -> None:
    """The defaults of the table are what keeps the promises."""
    assert Swarm().order == "start-first"
    assert Swarm().failure_action == "rollback"
    assert Rollout().bad_env == {}
