"""Who answered, by a cookie, a place in JSON or a marker in a page, where no header says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import ScriptedServer, Talk
from test_setup_messages import mistakes_in

from harness.cluster import NAMED, Cluster
from harness.journeys import Take, compile_journeys
from harness.layouts import Instance
from harness.layouts.compose import _introduction
from harness.services import identity_of
from harness.setup import App, Identity, Setup
from harness.traffic import Journal, Task, Traffic, read_history

KINDS = [
    Identity(cookie="node"),
    Identity(json_path="meta.served_by"),
    Identity(regex="served by ([a-z0-9-]+)"),
]


def page(talk: Talk) -> None:
    """Says it in every way there is; its other page in none."""
    body = b'{"meta": {"served_by": "web-7", "note": "served by web-7"}}'
    talk.answer(body, headers="Content-Type: application/json\r\nSet-Cookie: node=web-7; Path=/\r\n")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with closing(ScriptedServer({"/page": page})) as made:
        yield made


def setup_with(identity: Identity) -> Setup:
    return Setup(app=App(command=("x",), identity=identity))


@pytest.mark.parametrize("identity", KINDS, ids=lambda identity: next(iter(identity.given())))
def test_answers_are_told_apart_by_it(server: ScriptedServer, tmp_path: Path, identity: Identity) -> None:
    """By the instance's own name where it is known. An answer without it says nothing, and is not taken for a stranger's."""
    journal = tmp_path / "history.jsonl"
    with (
        Journal(journal, run="r") as written,
        Traffic(
            journal=journal,
            journeys=compile_journeys({name: {"steps": [{"get": f"/{name}"}]} for name in ("page", "other")}),
            targets={"balancer": server.address},
            names={"web-7": "app-2"},
            timeout_seconds=5,
            seed=1,
            identity=identity_of(setup_with(identity)),
        ) as traffic,
    ):
        written.append({"t": "scenario", "scenario": "one", "seed": 1, "instances": ["app-1", "app-2"], "setup": {}})
        traffic.begin_scenario("one")
        (person,) = traffic.new_visitors(1, strangers=True)
        told, untold = traffic.perform([Task(person, "page"), Task(person, "other")])
        traffic.flush()
    assert (told.instance, untold.instance) == ("app-2", None)
    first, second = read_history(journal, "one").operations
    assert (first.named, first.instance, second.named, second.instance) == ("app-2", "app-2", None, None)


@pytest.mark.parametrize("identity", KINDS, ids=lambda identity: next(iter(identity.given())))
def test_single_looks_know_it_as_well(server: ScriptedServer, identity: Identity) -> None:
    """A page that does not carry it is no reason to doubt who answered."""
    host, port = server.address
    instance: Any = Instance("app-1", SimpleNamespace(), host, port, None, None)  # type: ignore[arg-type]
    layout: Any = SimpleNamespace(replicated=None, instances=(instance,), standby=(), whos=lambda: {"web-7": "app-2"})
    cluster = Cluster(setup_with(identity), layout)
    assert cluster.look("health", instance, "/page").value[NAMED] == "app-2"
    assert NAMED not in cluster.look("health", instance, "/other").value


@pytest.mark.parametrize("identity", KINDS, ids=lambda identity: next(iter(identity.given())))
def test_an_instance_of_a_project_introduces_itself_by_it(server: ScriptedServer, identity: Identity) -> None:
    """Whatever it calls itself."""
    host, port = server.address
    take = identity_of(setup_with(identity))
    assert take is not None
    assert _introduction(host, port, "/page", take, headers={}) == "web-7"
    assert _introduction(host, port, "/other", take, headers={}) == ""


def test_a_header_has_its_own_key() -> None:
    setup = Setup(app=App(command=("x",), instance_header="X-Instance"))
    assert identity_of(setup) == Take("header", "X-Instance")
    assert identity_of(Setup(app=App(command=("x",)))) is None


def test_one_witness_is_enough() -> None:
    """Two could contradict each other."""
    assert mistakes_in({"app.instance_header": "X-Instance", "app.identity": {"json": "served_by"}}) == [
        'app.identity stands beside app.instance_header (got { json = "served_by" }): one of them says who answered, keep that'
    ]
