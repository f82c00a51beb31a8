"""What counts as healthy, where a status below 300 says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import ScriptedServer

from harness.checkers import EveryInstanceAnswers
from harness.cluster import Cluster
from harness.layouts import Instance
from harness.model import WELL, History, Look, Status
from harness.services import instance_spec, manner_of
from harness.services._asking import answers_well
from harness.setup import App, Match, Setup

UP = Match(status=(200,), contains='"status":"UP"')


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with closing(
        ScriptedServer(
            {
                "/up": lambda talk: talk.answer(b'{"status":"UP"}', headers="Content-Type: application/json\r\n"),
                "/down": lambda talk: talk.answer(b'{"status":"DOWN"}', headers="Content-Type: application/json\r\n"),
                "/login": lambda talk: talk.answer(status="302 Found", headers="Location: /login?next=/\r\n"),
                "/broken": lambda talk: talk.answer(b'"status":"UP"', status="503 Service Unavailable"),
            }
        )
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("healthy", "path", "well"),
    [
        (None, "/down", True),
        (None, "/login", False),
        (UP, "/up", True),
        (UP, "/down", False),
        (UP, "/broken", False),
        (Match(absent="DOWN"), "/up", True),
        (Match(absent="DOWN"), "/down", False),
        (Match(status=(302,), location="/login*"), "/login", True),
        (Match(status=(302,), location="/setup"), "/login", False),
    ],
)
def test_which_answers_are_good(
    server: ScriptedServer, tmp_path: Path, healthy: Match | None, path: str, well: bool
) -> None:
    """When it is waited for, when it is looked at, and by whoever judges that look."""
    host, port = server.address
    setup = Setup(app=App(command=("./serve", "{port}"), directory=str(tmp_path), ready=path, healthy=healthy))
    assert answers_well(host, port, path, manner=manner_of(setup)) is well
    assert instance_spec(setup, name="app-1", port=port, values={}, host=host).is_ready() is well

    instance: Any = Instance("app-1", SimpleNamespace(), host, port, None, None)  # type: ignore[arg-type]
    layout: Any = SimpleNamespace(replicated=None, instances=(instance,), standby=(), whos=dict)
    looks: list[Any] = []
    cluster = Cluster(setup, layout, recorder=looks.append)
    assert cluster.look("health", instance, path).well is well
    verdict = EveryInstanceAnswers().check(History(scenario="s", seed=1, instances=("app-1",), looks=tuple(looks)))
    assert verdict.status is (Status.PASS if well else Status.FAIL)


def test_what_an_instance_says_of_itself_is_not_taken_for_the_setups_word() -> None:
    """Whatever its JSON holds."""
    said = {"healthy": False, "well": False}
    assert Look(what="health", node="app-1", at=0.0, status=200, value=said).well
    assert not Look(what="health", node="app-1", at=0.0, status=200, value={WELL: False}).well
    assert Look(what="health", node="app-1", at=0.0, status=503, value={WELL: True}).well
    assert not Look(what="health", node="app-1", at=0.0, status=None, error="Timeout").well
