"""Docker Swarm for real: what cannot be run there is told, and nothing is left, not even the swarm."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from docker.errors import APIError
from end_to_end import Harness, on_the_engine

from harness.engine import RUN_LABEL
from harness.waiting import wait_until

Check = Callable[[], None]
pytestmark = pytest.mark.timeout(240)

VERIFY = ("verify", "--platform", "swarm")


def state(client: Any) -> str:
    """Whether the engine is in a swarm."""
    return str(client.info()["Swarm"]["LocalNodeState"])


def made_by(client: Any, pids: list[int]) -> list[str]:
    """What these harnesses have, services too."""
    services: list[str] = []
    if state(client) == "active":
        try:
            services = [
                each.name
                for pid in pids
                for each in client.services.list(filters={"label": f"harness.pid={pid}"})
                if RUN_LABEL in each.attrs["Spec"]["Labels"]
            ]
        except APIError:
            # The reaper may have had the engine leave the swarm since: then there are none.
            if state(client) == "active":
                raise
    return on_the_engine(client, pids) + services


def somebody_is_found_by_name(client: Any) -> bool:
    """Whether a container runs that is in a network with names: then no run makes the engine leave a swarm."""
    networks = (each.attrs["NetworkSettings"]["Networks"] for each in client.containers.list(ignore_removed=True))
    return any(set(each) - {"bridge", "host", "none"} for each in networks)


@pytest.fixture
def as_before(harness: Harness, engine: Any, nothing_left: Check) -> Iterator[None]:
    """The engine is in a swarm at the end if it was in one before, or if somebody else uses it by now."""
    before = state(engine.client)
    yield
    assert made_by(engine.client, harness.pids) == []
    # To leave the swarm is the last thing that is done, by the reaper where the harness was killed.
    wait_until(
        lambda: before == "active" or state(engine.client) == "inactive" or somebody_is_found_by_name(engine.client),
        within_seconds=20,
        because="the engine should have left the swarm of the run",
    )


@contextmanager
def a_swarm(client: Any) -> Iterator[None]:
    """One that somebody made who is not the harness. Ours is left when that is nobody's harm, and else by a later run."""
    made = state(client) == "inactive"
    if made:
        client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    elif RUN_LABEL in (client.swarm.attrs["Spec"].get("Labels") or {}):
        pytest.skip("the engine is in a swarm that a run made, and is to leave")
    try:
        yield
    finally:
        if made and somebody_is_found_by_name(client):
            client.swarm.update(labels={RUN_LABEL: "of a test"})
        elif made:
            client.swarm.leave(force=True)


@pytest.mark.usefixtures("as_before")
def test_a_swarm_that_was_there_is_kept(harness: Harness, engine: Any) -> None:
    """A run uses it and takes everything of its own with it."""
    with a_swarm(engine.client):
        before = engine.client.swarm.id
        ended = harness.verify(*VERIFY[1:], "--only", "distribution.complete", "--quiet", env=dict(engine.environment))
        assert ended.code == 0, ended.out + ended.err
        assert state(engine.client) == "active"
        assert engine.client.swarm.id == before
        assert made_by(engine.client, harness.pids) == []


@pytest.mark.usefixtures("as_before")
def test_nothing_survives_a_kill(harness: Harness, engine: Any) -> None:
    """Service, tasks, network, and the swarm itself if it was made for the run."""
    client = engine.client
    run = harness.start(*VERIFY, "--only", "orchestrator.heals", env=dict(engine.environment))

    def has_a_task() -> bool:
        assert run.poll() is None
        return any(each == "container app" for each in on_the_engine(client, [run.pid]))

    wait_until(has_a_task, within_seconds=100, every_seconds=0.05, because="the run should have a replica")
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    wait_until(
        lambda: made_by(client, [run.pid]) == [],
        within_seconds=60,
        every_seconds=0.2,
        because="everything of the killed run should be removed",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (['app.instance_env.app-1.A="1"'], "app.instance_env names app-1: replicas of one service cannot differ"),
        (["balancer.pool=['app-1']"], "balancer.pool names single instances"),
        (["swarm.health=['ask','{instance}']"], "swarm.health uses {instance} or {index}"),
        (
            ["swarm.health=['false']", "swarm.health_start_seconds=0", "app.ready_within_seconds=6"],
            "the 3 replicas of app",
        ),
    ],
)
@pytest.mark.usefixtures("as_before")
def test_what_a_swarm_cannot_run_is_told(harness: Harness, engine: Any, changes: list[str], said: str) -> None:
    """Exit code 2, one message with what to do, and nothing left."""
    options = [word for change in changes for word in ("--set", change)]
    ended = harness.verify(*VERIFY[1:], *options, "--only", "orchestrator.*", env=dict(engine.environment))
    assert ended.code == 2, ended.out + ended.err
    assert said in ended.err
