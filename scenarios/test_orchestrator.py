"""Does whoever keeps the replicas running do so, without costing anybody anything?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import (
    BadVersionIsTakenBack,
    LostReplicaIsReplaced,
    NoSessionLost,
    RequestsSurviveLoss,
    RolloutCostsNothing,
    ScalingCostsNothing,
    VictimRejoins,
)
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("orchestrator")


@pytest.fixture(scope="module")
def replaced(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """People log in and browse; one replica is killed, and nobody but its orchestrator does anything about it."""

    def story(scene: Scene) -> None:
        scene.visitors.log_in(count=30)
        with scene.visitors.browsing(slow_per_second=6) as traffic:
            traffic.run_for(seconds=1)
            victim = scene.replicas.lose_one(scene.random)
            traffic.run_until_answered_by(victim, times=10, within_seconds=15)
            traffic.run_for(seconds=0.5)
        scene.visitors.visit(stream="after")
        scene.look_at_session_store()

    return record_once("replica-killed", story)


@pytest.mark.promise("orchestrator.heals")
def test_a_dead_replica_is_replaced(replaced: History, judge: Judge) -> None:
    """A replica that dies is replaced without anybody's help, and the others answer meanwhile."""
    judge(LostReplicaIsReplaced(), of=replaced)


@pytest.mark.promise("failover.kill")
def test_requests_survive_the_death_of_a_replica(replaced: History, judge: Judge) -> None:
    """When an instance dies without warning, requests go on being answered."""
    judge(RequestsSurviveLoss.by_kill(), of=replaced)


@pytest.mark.promise("failover.rejoin")
def test_the_replacement_is_used(replaced: History, judge: Judge) -> None:
    """An instance that has returned is used again, and only when it can answer."""
    judge(VictimRejoins(), of=replaced)


@pytest.mark.promise("session.survives-instance-loss")
def test_sessions_survive_the_death_of_a_replica(replaced: History, judge: Judge) -> None:
    """People who are logged in stay logged in when the instance that served them is lost."""
    judge(NoSessionLost(), of=replaced)


@pytest.mark.promise("orchestrator.scales")
def test_scaling_costs_nobody_anything(scene: Scene, judge: Judge) -> None:
    """Replicas are added and removed under traffic, and nobody loses a request or a session."""
    scene.visitors.log_in(count=20)
    with scene.visitors.browsing(slow_per_second=12) as traffic:
        traffic.run_for(seconds=1)
        for replica in scene.replicas.scale_by(2):
            traffic.run_until_answered_by(replica, times=5, within_seconds=11)
        scene.replicas.scale_back()
        traffic.run_for(seconds=2.5)
    scene.visitors.visit(stream="after")
    scene.look_at_session_store()

    judge(ScalingCostsNothing())


@pytest.mark.promise("rollout.rolling")
def test_an_update_costs_nobody_a_request(scene: Scene, judge: Judge) -> None:
    """A new version reaches every instance and nobody loses a request or a session."""
    scene.visitors.log_in(count=20)
    with scene.visitors.browsing(slow_per_second=12) as traffic:
        traffic.run_for(seconds=2)
        scene.replicas.update()
        traffic.run_for(seconds=1)
    scene.visitors.visit(stream="after")
    scene.look_at_session_store()

    judge(RolloutCostsNothing())


@pytest.mark.promise("rollout.bad-version")
def test_a_bad_version_is_taken_back(scene: Scene, judge: Judge) -> None:
    """A version that never becomes healthy is taken back by itself, and nobody meets it."""
    scene.visitors.log_in(count=20)
    with scene.visitors.browsing() as traffic:
        traffic.run_for(seconds=1)
        scene.replicas.update_to_bad()
        traffic.run_for(seconds=1)
    scene.visitors.visit(stream="after")
    scene.look_at_session_store()

    judge(BadVersionIsTakenBack())
