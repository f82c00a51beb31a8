"""What a compose project makes of a setup, before anything is started; and its containers given back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import engine
from harness.door import Door, Wishes
from harness.errors import BadInput
from harness.layouts import ABILITIES, Choice, choose
from harness.layouts.compose import Adopted, adapt
from harness.setup import Environment, Setup, parse_setup
from tests.scripted_engine import scripted_engine

JOURNEYS = {
    "register": {"steps": [{"post": "/register", "expect": {"status": 303}}]},
    "login": {"steps": [{"post": "/login", "expect": {"status": 303}}]},
    "whoami": {
        "steps": [
            {
                "get": "/me",
                "recognised": {"status": 200, "contains": "{user.email}"},
                "logged_out": {"status": 303},
            }
        ]
    },
}
NET = {"gojang": {"name": "shop_gojang"}}
APP: dict[str, Any] = {"image": "shop:1", "environment": {"PORT": "8080"}, "networks": {"gojang": None}}
NGINX: dict[str, Any] = {
    "image": "nginx:1",
    "ports": [{"target": 80, "published": "8080", "protocol": "tcp"}],
    "depends_on": {"app1": {}, "app2": {}},
    "networks": {"gojang": None},
}
SHOP: dict[str, Any] = {"services": {"app1": APP, "app2": APP, "nginx": NGINX}, "networks": NET}


class Machine:
    """One with a docker compose that prints what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "docker").write_text(
            f'#!/bin/sh\ncase "$*" in *version*) echo 2.26.1;; *) cat {folder}/config.json; cat {folder}/says >&2;; esac\n'
        )
        (folder / "docker").chmod(0o755)
        (folder / "says").write_text("")
        (folder / "shop.yml").write_text("services: {}\n")

    def says(self, config: Mapping[str, Any]) -> None:
        (self.folder / "config.json").write_text(json.dumps(config))

    @property
    def environment(self) -> Environment:
        return Environment(everything={"PATH": f"{self.folder}:/usr/bin:/bin"})

    def adapted(self, config: Mapping[str, Any], *, knows_journeys: bool = True, **tables: Any) -> Adopted:
        self.says(config)
        return adapt(self.setup(**tables), environment=self.environment, knows_journeys=knows_journeys)

    def setup(self, **tables: Any) -> Setup:
        file = {"file": str(self.folder / "shop.yml")}
        return parse_setup({"compose": file, "journey": JOURNEYS, **tables}, source="test")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_setup_says_what_the_project_does(machine: Machine) -> None:
    """Names, number and balancer are the project's; nobody is drained at a balancer that is not ours."""
    setup = machine.adapted(SHOP, app={"instances": 7}, redis={}, rollout={"drain": "balancer-first"}).setup
    assert setup.app.names == ("app1", "app2")
    assert (setup.app.instances, setup.balancer.kind, setup.rollout.drain, setup.redis) == (2, "nginx", "none", None)
    assert setup.pool == ("app1", "app2")


def test_what_was_taken_for_what_is_told(machine: Machine) -> None:
    """With what stands beside, and what nobody has set."""
    (machine.folder / "says").write_text('time="x" level=warning msg="The \\"SESSION_KEY\\" variable is not set."\n')
    config = {**SHOP, "services": {**SHOP["services"], "mail": {"image": "mailpit"}}}
    adopted = machine.adapted(config)
    assert adopted.notes == (
        "balancer: nginx (image nginx:1, publishes 8080)",
        "app: app1 and app2 (the same image shop:1, nginx depends on it)",
        "beside them: mail",
        "not set, and therefore empty: SESSION_KEY",
    )
    assert adopted.nodes == ("nginx", "app1", "app2")


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({}, {}),
        ({"networks": {"gojang": {"ipam": {"config": [{"subnet": "10.1.0.0/24"}]}}}}, {}),
        (
            {"networks": {"gojang": {"external": True}}},
            {"cut-off": "made without a subnet", "new-address": "made without"},
        ),
    ],
)
def test_what_cannot_be_done_to_a_project(machine: Machine, changes: dict[str, Any], lacks: dict[str, str]) -> None:
    """Each with its reason, and only what the platform could do otherwise."""
    found = machine.adapted({**SHOP, **changes}).lacks
    assert found.keys() == lacks.keys()
    assert all(why in found[need] for need, why in lacks.items())
    assert set(found) <= ABILITIES["compose"]


def test_fixed_addresses_never_change(machine: Machine) -> None:
    """What a file rules out is not judged as if it could happen."""
    fixed = {**APP, "networks": {"gojang": {"ipv4_address": "10.1.0.11"}}}
    services = {**SHOP["services"], "app1": fixed, "app2": fixed}
    assert "fixed addresses" in machine.adapted({**SHOP, "services": services}).lacks["new-address"]


def test_an_application_nobody_knows_needs_a_setup_file(machine: Machine) -> None:
    """The reference application is known by its image; of any other nobody knows how people use it."""
    with pytest.raises(BadInput, match=r"an application of its own \(app1, image shop:1\).*--setup FILE"):
        machine.adapted(SHOP, knows_journeys=False)
    known = {**APP, "image": "harness/reference-app:latest"}
    services = {**SHOP["services"], "app1": known, "app2": known}
    assert machine.adapted({**SHOP, "services": services}, knows_journeys=False).setup.app.names == ("app1", "app2")


def test_data_of_somebody_else_is_not_written(machine: Machine) -> None:
    """An external volume is the one thing that cannot be replaced by an empty one."""
    with pytest.raises(BadInput, match="the volume data is external"):
        machine.adapted({**SHOP, "volumes": {"data": {"external": True}}})


def test_the_balancer_s_mounted_file_is_read(machine: Machine) -> None:
    """Its algorithm is known before anything runs."""
    conf = machine.folder / "nginx.conf"
    conf.write_text("http { upstream u { least_conn; server app1:8080; } }")
    mount = {"type": "bind", "source": str(conf), "target": "/etc/nginx/nginx.conf", "read_only": True}
    services = {**SHOP["services"], "nginx": {**NGINX, "volumes": [mount]}}
    assert machine.adapted({**SHOP, "services": services}).setup.balancer.algorithm == "least_conn"


def test_a_file_that_is_not_there_is_told(machine: Machine) -> None:
    """Before the command is asked anything."""
    setup = parse_setup({"compose": {"file": "nope.yml"}, "journey": JOURNEYS}, source="test")
    with pytest.raises(BadInput, match=r"there is no compose file .*nope\.yml"):
        adapt(setup, environment=machine.environment)


def test_a_compose_project_chooses_its_platform() -> None:
    """Whatever else the setup could be run on."""
    own = parse_setup(
        {"compose": {"file": "x.yml"}, "journey": JOURNEYS, "app": {"command": ["./x", "{port}"]}}, source="t"
    )
    assert choose(own, wished="auto") == Choice("compose")
    other = parse_setup({"journey": JOURNEYS, "app": {"command": ["./x", "{port}"]}}, source="t")
    with pytest.raises(BadInput, match="give --compose"):
        choose(other, wished="compose")


def opened(machine: Machine, monkeypatch: pytest.MonkeyPatch, **wishes: Any) -> Door:
    monkeypatch.setenv("PATH", f"{machine.folder}:/usr/bin:/bin")
    return Door.for_wishes(Wishes(compose=(machine.folder / "shop.yml",), **wishes))


def test_a_setup_file_beside_the_compose_file_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one command is enough; without it, only the reference application is known."""
    machine.says(SHOP)
    with pytest.raises(BadInput, match="say how people use it"):
        opened(machine, monkeypatch)
    lines = [f"[journey.{name}]\nsteps = {_toml(told['steps'])}" for name, told in JOURNEYS.items()]
    (machine.folder / "harness.toml").write_text("\n".join(['name = "mine"', *lines]))
    assert opened(machine, monkeypatch)._setup.name == "mine"


def test_a_scale_is_of_the_project(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--scale app1=3` makes three instances of that service; without a project there is nothing to scale."""
    known = {**APP, "image": "harness/reference-app:latest"}
    machine.says({**SHOP, "services": {**SHOP["services"], "app1": known, "app2": known}})
    door = opened(machine, monkeypatch, scale=("app1=2",))
    assert door._setup.app.names == ("app1-1", "app1-2", "app2")
    assert "--scale app1=2" in door._wishes.command(7)
    with pytest.raises(BadInput, match="a scale is SERVICE=NUMBER"):
        opened(machine, monkeypatch, scale=("app1",))
    with pytest.raises(BadInput, match="none is named"):
        Door.for_wishes(Wishes(scale=("app=3",)))


def _toml(steps: list[dict[str, Any]]) -> str:
    def value(each: Any) -> str:
        if isinstance(each, dict):
            return "{ " + ", ".join(f"{key} = {value(inside)}" for key, inside in each.items()) + " }"
        return json.dumps(each)

    return "[" + ", ".join(value(step) for step in steps) + "]"


# -- given back -------------------------------------------------------------------------------------------------------

BORROWED = {"container": "c1", "network": "shop_net", "aliases": ("app1",), "address": "10.1.0.11"}


@pytest.mark.parametrize(
    ("state", "networks", "start", "done"),
    [
        ({"Paused": False, "Running": True}, ["shop_net"], True, []),
        ({"Paused": True, "Running": True}, ["shop_net"], True, ["/containers/c1/unpause"]),
        ({"Paused": False, "Running": False}, ["shop_net"], True, ["/containers/c1/start"]),
        ({"Paused": False, "Running": False}, ["shop_net"], False, []),
        ({"Paused": False, "Running": True}, [], True, ["/networks/shop_net/connect"]),
    ],
    ids=["as it was", "frozen", "ended", "ended long ago", "cut off"],
)
def test_a_borrowed_container_is_given_back(
    tmp_path: Path, state: dict[str, bool], networks: list[str], start: bool, done: list[str]
) -> None:
    """As it was found, and nothing is done to one that is."""
    with scripted_engine(tmp_path / "e.sock") as played:
        seen = {"Name": "/shop-app1-1", "State": state, "NetworkSettings": {"Networks": dict.fromkeys(networks)}}
        played.answers["GET /containers/c1/json"] = lambda: (200, seen)
        played.answers["POST /"] = lambda: (204, None)
        assert engine.give_back(engine.Borrowed(url=played.url, **BORROWED), start=start) is None  # type: ignore[arg-type]
        assert [each.removeprefix("POST ") for each in played.asked if each.startswith("POST")] == done


def test_what_cannot_be_given_back_is_told(tmp_path: Path) -> None:
    """One that its owner has removed is no problem; one that stays frozen is."""
    with scripted_engine(tmp_path / "e.sock") as played:
        borrowed = engine.Borrowed(url=played.url, **BORROWED)  # type: ignore[arg-type]
        played.answers["GET /containers/c1/json"] = lambda: (404, {"message": "no such container"})
        assert engine.give_back(borrowed, start=True) is None
        seen = {"Name": "/shop-app1-1", "State": {"Paused": True, "Running": True}}
        networks = {"NetworkSettings": {"Networks": {"shop_net": None}}}
        played.answers["GET /containers/c1/json"] = lambda: (200, {**seen, **networks})
        played.answers["POST /"] = lambda: (500, {"message": "cannot unpause"})
        assert "shop-app1-1 could not be given back as it was (500 cannot unpause)" in str(
            engine.give_back(borrowed, start=True)
        )
