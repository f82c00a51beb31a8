"""Containers as nodes, without an engine: how a network is chosen, and what is said and done when an engine refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from harness.errors import BadInput, HarnessError, NodeError, NodeNeverReady
from harness.platforms import docker
from harness.platforms.docker import ContainerNode, DockerPlatform
from harness.setup import Environment
from harness.workspace import Workspace
from tests.docker_nodes import container_spec
from tests.scripted_engine import ScriptedEngine, scripted_engine

# -- the network -----------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as made:
        yield made


@pytest.fixture
def played(tmp_path: Path) -> Iterator[ScriptedEngine]:
    with scripted_engine(tmp_path / "engine.sock") as made:
        made.answers |= {
            "GET /v1.46/networks": lambda: (200, [{"Name": "bridge", "IPAM": {"Config": None}}]),
            "GET /v1.46/images/": lambda: (404, {"message": "no such image"}),
            "POST /v1.46/networks/create": lambda: (201, {"Id": "n1"}),
        }
        yield made


def platform_on(played: ScriptedEngine, workspace: Workspace) -> DockerPlatform:
    return DockerPlatform(workspace, environment=Environment(docker_host=played.url))


def test_a_run_has_a_network_of_its_own(played: ScriptedEngine, workspace: Workspace) -> None:
    """With its labels, published on loopback only, and half of its subnet kept for planned addresses."""
    with platform_on(played, workspace) as platform:
        [sent] = played.sent
        assert sent["Name"] == platform.network == workspace.scratch.name
        assert sent["Labels"] == platform.labels
        assert sent["Labels"]["harness.run"] == workspace.run_id
        assert sent["Options"] == {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
        [pool] = sent["IPAM"]["Config"]
        assert IPv4Network(pool["Subnet"]) == platform.subnet
        assert IPv4Network(pool["IPRange"]).subnet_of(platform.subnet)
        first = platform.new_address()
        assert first != pool["Gateway"]
        assert IPv4Network(first) not in {IPv4Network(pool["IPRange"])}


def test_two_runs_at_once_share_nothing(played: ScriptedEngine, workspace: Workspace, tmp_path: Path) -> None:
    """Each has a network and labels of its own: neither reaches the other's nodes, nor removes them."""
    with (
        Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as other,
        platform_on(played, workspace) as one,
        platform_on(played, other) as two,
    ):
        assert one.network != two.network
        assert [each["Name"] for each in played.sent] == [one.network, two.network]
        assert one.labels["harness.run"] != two.labels["harness.run"]


def test_a_subnet_that_somebody_just_took_is_passed_over(played: ScriptedEngine, workspace: Workspace) -> None:
    """Which are free is only known by trying."""
    refusals = [(403, {"message": "Pool overlaps with other one on this address space"})] * 3

    played.answers["POST /v1.46/networks/create"] = lambda: refusals.pop() if refusals else (201, {"Id": "n1"})
    with platform_on(played, workspace) as platform:
        tried = [each["IPAM"]["Config"][0]["Subnet"] for each in played.sent]
        assert len(set(tried)) == 4
        assert str(platform.subnet) == tried[-1]


def test_no_room_for_a_network_is_told(played: ScriptedEngine, workspace: Workspace) -> None:
    """With what the engine says; anything else it says is passed on at once."""
    full = (400, {"message": "invalid pool request: Pool overlaps with other one on this address space"})
    played.answers["POST /v1.46/networks/create"] = lambda: full
    with pytest.raises(BadInput, match=r"finds no room for one \(.*Pool overlaps.*docker network prune"):
        platform_on(played, workspace)
    played.sent.clear()
    played.answers["POST /v1.46/networks/create"] = lambda: (500, {"message": "no iptables"})
    with pytest.raises(HarnessError, match="a network for the run cannot be made: no iptables"):
        platform_on(played, workspace)
    assert len(played.sent) == 1


def test_the_record_knows_the_engine_before_it_has_anything(
    played: ScriptedEngine, workspace: Workspace, tmp_path: Path
) -> None:
    """So that there is no moment in which something could be left."""
    records: list[str] = []

    def made() -> tuple[int, Any]:
        records.extend(path.read_text() for path in (tmp_path / "runs").iterdir())
        return 201, {"Id": "n1"}

    played.answers["POST /v1.46/networks/create"] = made
    platform_on(played, workspace).close()
    assert played.url in records[0]


def test_subnets_are_private_and_begin_at_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs at once seldom try the same one first."""
    first = list(docker._subnets())
    assert all(each.is_private and each.prefixlen == 24 for each in first)
    assert len(set(first)) == len(first) > 10_000
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    second = next(docker._subnets())
    monkeypatch.setattr(os, "getpid", lambda: 4712)
    assert next(docker._subnets()) != second


def test_where_this_machine_sends_packets_is_seen() -> None:
    """Never everywhere: that would leave nothing."""
    if not Path("/proc/net/route").exists():
        pytest.skip("routes are only read from /proc")
    routes = list(docker._routes_of_this_machine())
    assert all(each.prefixlen > 0 for each in routes)


def test_subnets_of_networks_are_read() -> None:
    """Also where the engine tells of none, or of one of the sixth version."""
    networks = [
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}, {"Subnet": "fd00::/64"}, {}]}},
        {"IPAM": {"Config": None}},
        {"IPAM": None},
    ]
    assert list(docker._subnets_of(networks)) == [IPv4Network("10.1.0.0/16")]


# -- testcontainers --------------------------------------------------------------------------------------------


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of testcontainers as a person may have them; put back at the end."""
    from testcontainers.core.config import testcontainers_config

    for name, value in {
        "hub_image_name_prefix": "mirror/",
        "tc_host_override": "elsewhere",
        "connection_mode_override": None,
        "tc_properties": {"tc.host": "tcp://elsewhere:2375"},
        "_docker_auth_config": "{}",
        "_ryuk_disabled": False,
    }.items():
        monkeypatch.setattr(testcontainers_config, name, value)
    return testcontainers_config


def test_what_a_person_set_for_testcontainers_changes_nothing_here(settings: Any) -> None:
    """No other engine, no other image, no registry; its reaper only with an image that is there."""
    docker._settle_testcontainers(lambda _: False)
    assert (settings.hub_image_name_prefix, settings.tc_host_override) == ("", "127.0.0.1")
    assert settings.connection_mode_override.name == "docker_host"
    assert settings.tc_properties_get_tc_host() is None
    assert settings.docker_auth_config is None
    assert settings.ryuk_disabled


@pytest.mark.parametrize("works", [True, False])
def test_ryuk_is_used_where_its_image_is(settings: Any, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """It is started once, before containers are; where it fails, ours is enough."""
    from testcontainers.core import container

    seen: list[bool] = []

    def start() -> None:
        seen.append(settings.ryuk_disabled)
        if not works:
            raise APIError("no", response=SimpleNamespace(status_code=500, reason="", url=""), explanation="no")

    monkeypatch.setattr(container.Reaper, "get_instance", start)
    docker._settle_testcontainers(lambda name: "ryuk" in name)
    assert seen == [False]
    assert settings.ryuk_disabled is not works


def test_a_person_who_wants_no_ryuk_gets_none(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As testcontainers itself reads it."""
    monkeypatch.setattr(settings, "_ryuk_disabled", True)
    docker._settle_testcontainers(lambda _: True)
    assert settings.ryuk_disabled


# -- images ----------------------------------------------------------------------------------------------------


def test_an_image_for_another_processor_is_told(played: ScriptedEngine, workspace: Workspace) -> None:
    """Both are named, and how it is built for this one."""
    image = {"Architecture": "arm64", "Config": {"Env": ["PATH=/bin", "EMPTY=", "A=b=c"]}}
    played.answers = {
        "GET /v1.46/images/app:1/json": lambda: (200, image),
        "GET /v1.46/version": lambda: (200, {"Arch": "amd64"}),
    } | played.answers
    with platform_on(played, workspace) as platform:
        with pytest.raises(BadInput, match=r"app\.image: the image app:1 is made for arm64, and the engine runs amd64"):
            platform.check(container_spec(port=1, image="app:1"))
        assert platform.image_env("app:1") == {"PATH": "/bin", "EMPTY": "", "A": "b=c"}
        image["Architecture"] = "amd64"
        platform.check(container_spec(port=1, image="app:1"))


# -- a node whose engine refuses -------------------------------------------------------------------------------


class Api:
    """The engine's interface as a node sees it: running, and answering as it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.state: dict[str, Any] = {"Paused": False, "OOMKilled": False, "Pid": 0}
        self.networks: dict[str, Any] = {"hv-1": {"IPAddress": "10.1.1.2"}}
        self.published: dict[str, Any] = {"8000/tcp": [{"HostPort": "1"}]}
        self.answers: dict[str, Callable[..., Any]] = {}
        self.ended = threading.Event()
        self.code = 0

    def inspect_container(self, _: str) -> dict[str, Any]:
        return {
            "State": self.state,
            "NetworkSettings": {"Networks": self.networks, "Ports": self.published},
            "Config": {"StopSignal": self.answers.get("stop_signal", lambda: None)()},
        }

    def wait(self, _: str, *, timeout: None) -> dict[str, Any]:
        self.ended.wait()
        if "wait" in self.answers:
            self.answers["wait"]()
        return {"StatusCode": self.code}

    def kill(self, _: str, name: str) -> None:
        self.calls.append(f"kill {name}")
        if name == "SIGKILL":
            self.code = 137
            self.ended.set()

    def exec_create(self, _: str, argv: list[str], *, user: str) -> dict[str, str]:
        self.calls.append(" ".join(argv))
        return {"Id": argv[0]}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **_: Any) -> Any:
            self.calls.append(f"{name} {arguments[0] if arguments else ''}".strip())
            return self.answers.get(name, lambda *_: {"Id": "made", "ExitCode": 0})(*arguments)

        return call


def failing(message: str, status: int = 500) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise APIError("failed", response=SimpleNamespace(status_code=status, reason="", url=""), explanation=message)

    return fail


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.answers |= {"logs": lambda *_: b"", "exec_start": lambda *_: b""}
    yield made
    made.ended.set()


@pytest.fixture
def node(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerNode:
    """One that runs, as far as it can see."""
    (tmp_path / "logs").mkdir()
    platform: Any = SimpleNamespace(
        client=SimpleNamespace(api=api, info=lambda: {"MemTotal": 1 << 30}),
        network="hv-1",
        labels={},
        nodes=(),
        who_publishes=lambda _: None,
        mistake_in_image=lambda _: None,
    )
    workspace: Any = SimpleNamespace(logs=tmp_path / "logs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = ContainerNode(
        container_spec(port=port, stop_within_seconds=0.1, ready_within_seconds=0.05, is_ready=bool),
        platform=platform,
        workspace=workspace,
    )
    platform.nodes = (made,)
    made._container = "c1"
    made.start()
    return made


def test_an_engine_that_is_gone_is_no_verdict(node: ContainerNode, api: Api) -> None:
    """Whether a node runs is then not known, and nobody says that it ended."""
    api.answers["wait"] = failing("engine stopped")
    api.ended.set()
    assert node._life is not None
    node._life.over.wait(5)
    with pytest.raises(NodeError, match="the end of app-1 cannot be awaited: engine stopped"):
        node.is_running()


@pytest.mark.parametrize(
    ("written", "sent"), [(None, "SIGTERM"), ("SIGQUIT", "SIGQUIT"), ("QUIT", "SIGQUIT"), ("3", "SIGQUIT")]
)
def test_the_stop_signal_is_read_in_every_way_it_is_written(
    node: ContainerNode, api: Api, written: str | None, sent: str
) -> None:
    """A name with or without its beginning, or a number; real-time signals have no name of their own here."""
    api.answers["stop_signal"] = lambda: written
    assert node.stop() == 137
    assert node.was_killed
    assert [call for call in api.calls if call.startswith("kill")] == [f"kill {sent}", "kill SIGKILL"]


def test_real_time_signals_are_passed_on(node: ContainerNode, api: Api) -> None:
    """As systemd wants one."""
    api.answers["stop_signal"] = lambda: "SIGRTMIN+3"
    node.tell_to_stop()
    assert api.calls[-1] == "kill SIGRTMIN+3"


def test_a_freeze_without_effect_is_told(node: ContainerNode) -> None:
    """What the engine says it did is not taken for done."""
    with pytest.raises(NodeError, match="the engine was told to, and says it is not"):
        node.hang()


def test_a_freeze_that_is_refused_is_told(node: ContainerNode, api: Api) -> None:
    """As by one without the right cgroups."""
    api.answers["pause"] = failing("cgroup freezer is not there")
    with pytest.raises(NodeError, match="app-1 cannot be frozen: cgroup freezer is not there"):
        node.hang()


def test_a_node_that_is_not_cut_off_is_told(node: ContainerNode) -> None:
    """Told to, and still there."""
    with pytest.raises(NodeError, match="says it is not"):
        node.cut_off(answer="silence")


def test_a_port_that_is_not_published_again_is_told(node: ContainerNode, api: Api) -> None:
    """Else the harness would wait for it in vain."""
    api.answers["disconnect_container_from_network"] = lambda *_: api.networks.clear()
    node.cut_off(answer="silence")
    api.published.clear()
    with pytest.raises(NodeError, match="does not publish its port again"):
        node.reconnect()


def test_another_image_stands_in_where_its_own_cannot(node: ContainerNode, api: Api) -> None:
    """An image may hold one program and no other."""
    other = SimpleNamespace(spec=SimpleNamespace(image="has-tail"))
    node._platform.nodes = (node, other)  # type: ignore[misc, assignment]
    api.answers["disconnect_container_from_network"] = lambda who, _: api.networks.clear() if who == "c1" else None
    api.answers["create_container"] = lambda image, *_: {"Id": image}
    api.answers["start"] = lambda made: failing("no tail")() if made != "has-tail" else None
    node.cut_off(answer="refusal")
    assert node._stand_in == "has-tail"
    assert f"remove_container {node.spec.image}" in api.calls
    api.answers["connect_container_to_network"] = lambda *_: api.networks.update({"hv-1": {"IPAddress": "10.1.1.2"}})
    api.answers["start"] = failing("no tail")
    with pytest.raises(NodeError, match="nobody can refuse connections in place of app-1: no tail"):
        node.cut_off(answer="refusal")
    assert node._stand_in is None
    assert not node.is_cut_off(), "nothing is broken before somebody can refuse"


@pytest.mark.parametrize(
    ("statistics", "said", "code", "words"),
    [
        ({}, b"", 137, "the engine does not count memory"),
        ({"usage": 1000}, b"sh: can't create /proc/1/oom_score_adj", 0, "ended, and it runs (sh: can't create"),
    ],
)
def test_memory_that_cannot_be_exhausted_is_told(
    node: ContainerNode,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    statistics: Mapping[str, int],
    said: bytes,
    code: int,
    words: str,
) -> None:
    """And the node has its limits back."""
    monkeypatch.setattr(docker, "_GONE_WITHIN_SECONDS", 0.05)
    api.answers |= {"stats": lambda *_: {"memory_stats": statistics}, "exec_start": lambda *_: said}
    with pytest.raises(NodeError) as caught:
        node.exhaust_memory()
    assert words in str(caught.value)
    assert api.calls[-1] == "update_container c1"


def test_an_end_by_something_else_is_not_taken_for_want_of_memory(node: ContainerNode, api: Api) -> None:
    """The kernel says 137, and the engine says why."""
    api.answers |= {"stats": lambda *_: {"memory_stats": {"usage": 1}}}
    api.code = 1
    api.ended.set()
    node._life = docker._Incarnation("app-1", lambda: {"StatusCode": api.wait("", timeout=None)["StatusCode"]})
    life = node._life
    life.over.wait(5)
    life.over.clear()
    api.answers["exec_start"] = lambda *_: life.over.set() or b""
    with pytest.raises(NodeError, match="ended with exit code 1, and not by the kernel"):
        node.exhaust_memory()


LISTENS_ON_8000 = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B00007F:A2C1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
"""


def why_not_ready(node: ContainerNode) -> str:
    with pytest.raises(NodeNeverReady) as caught:
        node.wait_ready()
    return str(caught.value)


def test_ports_that_are_published_elsewhere_are_told(node: ContainerNode, api: Api) -> None:
    """The harness in a container of its own, with the socket of the engine outside."""
    api.answers["exec_start"] = lambda *_: LISTENS_ON_8000.encode()
    assert "is the harness itself in a container" in why_not_ready(node)


def test_a_container_that_cannot_be_looked_into_is_told_as_far_as_it_is_seen(node: ContainerNode, api: Api) -> None:
    """An image with no program but its own, on an engine that is not on this kernel."""
    api.answers["exec_start"] = lambda *_: b'OCI runtime exec failed: exec failed: exec: "cat": not found'
    api.answers["exec_inspect"] = lambda *_: {"ExitCode": 126}
    assert "it runs: let it listen on port 8000 of 0.0.0.0" in why_not_ready(node)


def test_a_frozen_node_is_told(node: ContainerNode, api: Api) -> None:
    """Nobody need look further."""
    api.state["Paused"] = True
    assert "was not ready within 0.05 s: it is frozen" in why_not_ready(node)


def test_an_image_for_another_processor_is_told_when_it_ends(node: ContainerNode, api: Api) -> None:
    """The kernel's own words for that are no help."""
    node._platform.mistake_in_image = lambda _: "the image is made for arm64"  # type: ignore[method-assign]
    api.answers["logs"] = lambda *_: b"2026-11-24T15:00:00.000000001Z exec /bin/app: exec format error\n"
    api.code = 1
    api.ended.set()
    said = why_not_ready(node)
    assert re.search(
        r"^app-1 ended before it was ready \(exit code 1, after \S+ s\): the image is made for arm64", said
    )
    assert said.endswith("    exec /bin/app: exec format error")


def test_logs_are_told_as_far_as_they_were_collected(node: ContainerNode, api: Api) -> None:
    """When the engine gives no more."""
    api.answers["logs"] = lambda *_: b"first\n"
    node.collect_log()
    api.answers["logs"] = lambda *_: b"first\nsecond\n"
    node.collect_log()
    assert node.log_path.read_text() == "first\nsecond\n"
    api.answers["logs"] = failing("gone")
    assert node.last_log_lines() == ["first", "second"]
    with pytest.raises(NodeError, match="the log of app-1 cannot be had: gone"):
        node.collect_log()


def test_the_last_lines_are_those_since_the_last_start(node: ContainerNode, api: Api) -> None:
    """The engine has those of before as well."""
    api.answers["logs"] = lambda *_: b"2026-11-24T15:00:00.000000001Z before\n"
    node.kill()
    api.ended.clear()
    node.start()
    assert node.last_log_lines() == []
    api.answers["logs"] = lambda *_: (
        b"2026-11-24T15:00:00.000000001Z before\n2026-11-24T15:00:00.000000002Z after all\n"
    )
    assert node.last_log_lines() == ["after all"]


def test_a_signal_by_name_is_the_stop_signal(node: ContainerNode, api: Api) -> None:
    """Who was sent it is not told again."""
    api.answers["stop_signal"] = lambda: "SIGUSR1"
    node.signal(signal.SIGUSR1)
    node.stop()
    assert [call for call in api.calls if call.startswith("kill")] == ["kill SIGUSR1", "kill SIGKILL"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            'runc create failed: unable to start container process: exec: "foo": not found in $PATH: unknown',
            'exec: "foo": not found in $PATH',
        ),
        ("something else went wrong", "something else went wrong"),
    ],
)
def test_of_what_the_runtime_says_the_essence_is_kept(said: str, words: str) -> None:
    """The rest is about the engine's own parts."""
    assert docker._essence(said) == words
