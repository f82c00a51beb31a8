"""Headers that go with every request: people's, and the harness's own questions. An application that refuses whoever comes
without them is not to be taken for one that is ill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import ScriptedServer, Talk
from test_services_haproxy import haproxy_with, lines_of
from watched_sites import PYTHON, url, watch

from harness import cli
from harness.cluster import Cluster
from harness.layouts import Instance
from harness.listening import EventListener
from harness.load.people import Plan, Walker
from harness.load.plans import plan_of, plan_text, read_plan
from harness.services import haproxy, instance_spec
from harness.services.haproxy import Place, render
from harness.setup import App, Setup, load_setup
from harness.traffic.people import People

WHO = {"/me", "/health"}
FILE = """
[app]
image = "nothing"

[traffic]
headers = { X-Forwarded-Proto = "https", X-Tenant = "ada" }

[journey.register]
steps = [{ post = "/register", form = { email = "{user.email}" }, expect = { status = 200 } }]

[journey.login]
steps = [{ post = "/login", headers = { x-tenant = "grace" }, expect = { status = 200 } }]

[journey.whoami]
steps = [{ get = "/me", recognised = { status = 200, contains = "{user.email}" }, logged_out = { status = 303 } }]
"""


class Strict:
    """Refuses whoever does not say that it is https."""

    def __init__(self) -> None:
        self.email = b""
        names = ("/register", "/login", "/me", "/health", "/events", "/")
        self.server = ScriptedServer(dict.fromkeys(names, self.answer))

    def close(self) -> None:
        self.server.close()

    def answer(self, talk: Talk) -> None:
        seen = talk.seen
        if seen.headers.get("x-forwarded-proto") != "https":
            talk.answer(status="400 Bad Request")
        elif seen.path == "/events":
            talk.answer(headers="Content-Type: text/event-stream\r\n")
        else:
            self.email = seen.body.partition(b"email=")[2].replace(b"%40", b"@") or self.email
            talk.answer(self.email)


@pytest.fixture
def strict() -> Iterator[Strict]:
    with closing(Strict()) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.toml"
    made.write_text(FILE, encoding="utf-8")
    return made


@pytest.fixture
def setup(file: Path) -> Setup:
    return load_setup(file)


def test_an_instance_is_asked_with_them_whether_it_is_ready(strict: Strict, setup: Setup, tmp_path: Path) -> None:
    """Also by its node, which waits for it."""
    host, port = strict.server.address
    app = App(command=("./serve", "{port}"), directory=str(tmp_path))
    spec = instance_spec(setup.model_copy(update={"app": app}), name="app-1", port=port, values={}, host=host)
    assert spec.is_ready()
    without = Setup(app=app)
    assert not instance_spec(without, name="app-1", port=port, values={}, host=host).is_ready()


def test_single_looks_bring_them(strict: Strict, setup: Setup) -> None:
    """Health, versions and pages, a connection that is left idle, and whoever listens to events."""
    host, port = strict.server.address
    instance: Any = Instance("app-1", SimpleNamespace(), host, port, None, None)  # type: ignore[arg-type]
    layout: Any = SimpleNamespace(replicated=None, instances=(instance,), standby=(), whos=dict)
    looks: list[Any] = []
    cluster = Cluster(setup, layout, recorder=looks.append)
    assert cluster.look("health", instance, "/health").status == 200
    assert cluster.page(instance, "/me") == ""
    cluster.look_at_idle_connections(watched_seconds=0.0)
    assert [look.status for look in looks] == [200, 200]
    with EventListener((host, port), "/events", headers=setup.traffic.headers) as listener:
        assert listener.close_code is None
    assert {seen.headers["x-tenant"] for seen in strict.server.seen} == {"ada"}


def test_journeys_are_tried_with_them(strict: Strict, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step's own header comes in the place of one that always goes, in whatever letters it is written."""
    assert cli.main(["journey", str(file), "--try", "--host", url(strict.server)]) == 0
    assert "NOT OK" not in capsys.readouterr().out
    (login,) = strict.server.requests("/login")
    (whoami,) = strict.server.requests("/me")
    assert (login.headers["x-tenant"], whoami.headers["x-tenant"]) == ("grace", "ada")


def test_a_deploy_is_watched_with_them(strict: Strict, file: Path, tmp_path: Path) -> None:
    """By everybody who browses, on every connection: else none of them could have logged in."""
    assert watch(tmp_path, url(strict.server), "--journey", str(file), "--", *PYTHON, "pass") in (0, 1, 3)
    assert strict.server.requests("/me")
    assert {seen.headers.get("x-forwarded-proto") for seen in strict.server.seen} == {"https"}
    assert {seen.headers.get("x-tenant") for seen in strict.server.requests("/login")} == {"grace"}


def test_people_of_a_load_run_bring_them(setup: Setup, tmp_path: Path) -> None:
    """Wherever they are: the plan says so."""
    plan = tmp_path / "plan.json"
    plan.write_text(plan_text(plan_of(setup)), encoding="utf-8")
    walker = Walker(read_plan(plan), People(1), Random(7))
    (question,) = walker.next()
    assert question.headers["X-Forwarded-Proto"] == "https"
    walker.is_registered = True
    (question,) = walker.next()
    assert {name: value for name, value in question.headers.items() if name.lower() == "x-tenant"} == {
        "x-tenant": "grace"
    }


def test_a_plan_of_before_there_were_such_headers_can_be_read(setup: Setup) -> None:
    declared = plan_of(setup).declared()
    del declared["headers"]
    assert Plan.from_declared(declared).headers == {}


def test_the_checks_of_haproxy_bring_them() -> None:
    """Else a balancer that checks would have no instance to send anybody to. Nothing in a value means anything to HAProxy."""
    place = Place(
        program="/opt/haproxy",
        directory="/somewhere",
        listen="127.0.0.1:1",
        admin_listen="/somewhere/admin",
        admin=Path("/somewhere/admin"),
        most_connections=100,
    )
    servers = {"app-1": haproxy._Server(host="127.0.0.1", port=2)}
    headers = {"X-Forwarded-Proto": "https", "X-Odd": '50% "a" $HOME \\'}
    told = lines_of(render(haproxy_with(), place=place, servers=servers, health="/health", check_headers=headers))
    assert 'http-check send hdr X-Forwarded-Proto "https" hdr X-Odd "50%% \\"a\\" \\$HOME \\\\"' in told
