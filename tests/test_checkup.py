"""A setup looked at part by part: each part fails with its remedy, and nothing behind it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import Script, ScriptedServer, Talk

from harness import checkup
from harness.checkup import Part, check_up
from harness.doctor import Platform, Report
from harness.errors import NodeNeverReady
from harness.layouts import Choice
from harness.model import Look
from harness.reporting import QuietView
from harness.setup import Environment, Identity, Setup, load_setup
from harness.traffic.upstream import UPSTREAM_HEADER

SETUP = """
name = "shop"
[app]
image = "shop"
health = "/up"
[[journey.register.steps]]
post = "/register"
expect = { status = 201 }
form = { email = "{user.email}", password = "{user.password}" }
[[journey.login.steps]]
post = "/login"
form = { email = "{user.email}", password = "{user.password}" }
expect = { status = 200 }
[[journey.whoami.steps]]
get = "/me?who={user.email}"
recognised = { status = 200, contains = "{user.email}" }
logged_out = { status = 303, location = "/login" }
"""


@dataclass
class Site:
    """What stands behind the fakes: three instances that are one server, and a balancer that tells who answers."""

    instance: ScriptedServer
    balancer: ScriptedServer
    health: dict[str, int]

    def stands(self) -> Any:
        names = ("app-1", "app-2", "app-3")
        instances = [SimpleNamespace(name=name, target=self.instance.address) for name in names]
        cluster = SimpleNamespace(
            setup=SimpleNamespace(app=SimpleNamespace(identity=None)),  # no log of a balancer's is read
            up_seconds=1.0,
            instances=instances,
            reachable=instances,
            replicas=None,
            names=names,
            breadth=len(names),
            layout=SimpleNamespace(
                entrance=self.balancer.address, balancer=SimpleNamespace(secure=None), balancer_log=None
            ),
            whos=lambda: {f"10.0.0.{number}:80": name for number, name in enumerate(names, 1)},
            look_at_all=lambda what, path: [
                Look(what=what, node=name, at=0.0, status=self.health.get(name, 200)) for name in names
            ],
        )
        return SimpleNamespace(cluster=cluster, workspace=SimpleNamespace(run_id="r"))


def me(talk: Talk) -> None:
    talk.answer(talk.seen.path.partition("=")[2].replace("%40", "@").encode())


def told_by(*addresses: str) -> Script:
    """Answers whose header names these addresses in turn."""
    count = iter(range(10**6))

    def answer(talk: Talk) -> None:
        address = addresses[next(count) % len(addresses)]
        talk.answer(headers=f"{UPSTREAM_HEADER}: {address}\r\n" if address else "")

    return answer


Look_at = Callable[..., list[Part]]


@pytest.fixture
def look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look_at]:
    with ExitStack() as stack:

        def run(
            *,
            usable: bool = True,
            starts: Exception | None = None,
            health: dict[str, int] | None = None,
            register: Script | None = None,
            balancer: Script | None = None,
            **app: Any,
        ) -> list[Part]:
            file = tmp_path / "shop.toml"
            file.write_text(SETUP, encoding="utf-8")
            setup: Setup = load_setup(file)
            setup = setup.model_copy(update={"app": setup.app.model_copy(update=app)})
            made = register or (lambda talk: talk.answer(status="201 Created"))
            instance = stack.enter_context(closing(ScriptedServer({"/register": made, "/me": me})))
            told = balancer or told_by("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
            front = stack.enter_context(closing(ScriptedServer({"/up": told})))
            site = Site(instance, front, health or {})

            @contextmanager
            def standing(**_: object) -> Iterator[Any]:
                if starts is not None:
                    raise starts
                yield site.stands()

            platform = Platform(name="docker", usable=usable, why_not="no engine answers", remedy="start one")
            report = Report(harness="1", auto="docker", why_auto="", platforms=(platform,), machine=())
            monkeypatch.setattr(checkup, "standing", standing)
            monkeypatch.setattr(checkup, "examine", lambda *_: report)
            return list(check_up(setup, Choice("docker"), Environment(), seed=1, reports=tmp_path, view=QuietView()))

        yield run


def test_all_is_well(look_at: Look_at) -> None:
    """Each part in the order in which it needs the one before."""
    parts = look_at()
    assert [(part.what, part.ok) for part in parts] == [
        (what, True) for what in ("machine", "starts", "healthy", "journeys", "identity")
    ]
    assert parts[-1].told == "the balancer tells who answered: app-1 8, app-2 8, app-3 8"
    assert parts[-2].told == "3 journeys with 3 steps go as declared: register, login, whoami"


@pytest.mark.parametrize(
    ("wrong", "what", "told", "remedy"),
    [
        ({"usable": False}, "machine", "docker cannot be used: no engine answers", "start one"),
        ({"starts": NodeNeverReady("app-1 ended: correct its command")}, "starts", "app-1 ended", ""),
        ({"health": {"app-2": 404}}, "healthy", "/up is not answered with 2xx (app-2: status 404)", "app.health is"),
        (
            {"register": lambda talk: talk.answer(status="500 No")},
            "journeys",
            "journey.register did not go as declared",
            "harness journey --try",
        ),
        ({"balancer": told_by("")}, "identity", "nobody tells which instance answered", "app.instance_header"),
        (
            {"balancer": told_by(""), "instance_header": "X-Host"},
            "identity",
            "X-Host does not tell instances apart: (nothing) 24",
            "have each instance name itself there",
        ),
        ({"balancer": lambda talk: talk.reset()}, "identity", "the balancer did not answer /up", "see the log"),
    ],
)
def test_the_first_that_does_not_work(
    look_at: Look_at, wrong: dict[str, Any], what: str, told: str, remedy: str
) -> None:
    """It is the last that is looked at, with what was seen and what to do."""
    last = look_at(**wrong)[-1]
    assert (last.what, last.ok) == (what, False)
    assert told in last.told
    assert remedy in last.remedy


def test_an_application_that_names_its_instances(look_at: Look_at) -> None:
    """Where the balancer tells nothing, its own header will do."""
    names = iter("abc" * 100)
    last = look_at(balancer=lambda talk: talk.answer(headers=f"X-Host: {next(names)}\r\n"), instance_header="X-Host")[
        -1
    ]
    assert (last.ok, last.told) == (True, "X-Host tells who answered: a 8, b 8, c 8")


def test_an_application_that_names_its_instances_in_its_pages(look_at: Look_at) -> None:
    """A marker is looked for in a page that anybody may ask for."""
    names = iter("abc" * 100)
    last = look_at(
        balancer=lambda talk: talk.answer(f"<!-- by {next(names)} -->".encode()), identity=Identity(regex="by ([a-z])")
    )[-1]
    assert (last.what, last.ok) == ("identity", True)
    assert last.told == "app.identity (regex by ([a-z])) tells who answered: a 8, b 8, c 8"
