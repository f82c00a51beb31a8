"""Does a deploy cost anybody a request, and does an instance finish what it has begun?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import (
    AssetsAreEverywhere,
    CapacityIsKept,
    DrainsInOrder,
    EndsOnItsSignal,
    InFlightFinishes,
    LongRequestsFinish,
    RolloutCostsNothing,
    SessionsCrossVersions,
    StreamsAreEnded,
    SwitchCostsNothing,
)
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene


@pytest.fixture(scope="module")
def rolled_out(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """People are logged in on each instance and browse, while every instance is replaced by the new version."""

    def story(scene: Scene) -> None:
        scene.visitors.log_in_on_each(count=7)
        scene.look_at_versions()
        # Every eleventh request beside 100 a second: taken in turn they reach each of two to ten instances.
        with scene.visitors.browsing(slow_per_second=10) as traffic:
            traffic.run_for(seconds=2, visits=30)
            scene.cluster.roll_out()
            traffic.run_for(seconds=1, visits=30)
        scene.look_at_versions()
        scene.visitors.visit(stream="after")
        scene.look_at_session_store()

    return record_once("rolled-out", story)


@pytest.mark.promise("rollout.rolling")
@pytest.mark.needs("new-version", "rollout.in-place")
def test_a_rollout_costs_nobody_a_request(rolled_out: History, judge: Judge) -> None:
    """A new version reaches every instance and nobody loses a request or a session."""
    judge(RolloutCostsNothing(), of=rolled_out)


@pytest.mark.promise("rollout.capacity")
@pytest.mark.needs("new-version", "rollout.in-place")
def test_a_rollout_leaves_enough_in_use(rolled_out: History, judge: Judge) -> None:
    """While a new version comes there are always as many instances in use as the load needs."""
    judge(CapacityIsKept(), of=rolled_out)


@pytest.fixture(scope="module")
def two_versions(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """One instance runs the new version for a while, beside the others, and is taken back."""

    def story(scene: Scene) -> None:
        new = scene.any_instance()
        people = scene.versions.people_beside(new, count=4)
        with scene.cluster.new_version_on(new):
            scene.look_at_versions()
            newcomers = scene.versions.cross(people, new=new)
            if scene.cluster.setup.app.assets is not None:
                scene.versions.ask_for_assets()
        scene.versions.look_up_again([*people, *newcomers], at=new)

    return record_once("two-versions", story)


@pytest.mark.promise("rollout.session-format")
@pytest.mark.needs("instances", "new-version", "take-back")
def test_both_versions_understand_sessions(two_versions: History, judge: Judge) -> None:
    """Sessions of the old version and of the new one are understood by both, so that no rollout, and none that is taken back, logs anybody out."""
    judge(SessionsCrossVersions(), of=two_versions)


@pytest.mark.promise("rollout.assets")
@pytest.mark.needs("instances", "new-version", "take-back", "app.assets")
def test_pages_of_both_versions_are_whole(two_versions: History, judge: Judge) -> None:
    """While two versions are there, a page of either finds its stylesheets, scripts and images on every instance."""
    judge(AssetsAreEverywhere(), of=two_versions)


@pytest.mark.promise("rollout.bluegreen")
@pytest.mark.needs("new-version", "rollout.blue-green")
def test_a_switch_costs_nobody_a_request(scene: Scene, judge: Judge) -> None:
    """A switch to a second set of instances, and back again, costs nobody a request or a session."""
    scene.visitors.log_in(count=20)
    with scene.visitors.browsing(slow_per_second=10) as traffic:
        traffic.run_for(seconds=1.5)
        scene.cluster.roll_out()
        traffic.run_for(seconds=1.5)
        scene.cluster.take_back()
        traffic.run_for(seconds=1)
    scene.visitors.visit(stream="after")
    scene.look_at_session_store()

    judge(SwitchCostsNothing())


@pytest.fixture(scope="module")
def told_to_stop(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """Two instances are told to stop: one has short requests and is watched, the other its longest ones, and streams."""

    def story(scene: Scene) -> None:
        scene.visitors.arrive(count=10)
        watched, loaded = scene.stopping.two_instances()
        scene.stopping.stop_both(watched, loaded, after_seconds=1)

    return record_once("told-to-stop", story)


@pytest.mark.promise("shutdown.inflight")
@pytest.mark.needs("signals")
def test_requests_in_flight_are_finished(told_to_stop: History, judge: Judge) -> None:
    """Requests in flight are finished when an instance is told to stop."""
    judge(InFlightFinishes(), of=told_to_stop)


@pytest.mark.promise("shutdown.signal")
@pytest.mark.needs("signals")
def test_an_instance_ends_on_its_signal(told_to_stop: History, judge: Judge) -> None:
    """An instance that is told to stop ends by itself, and says that all is well."""
    judge(EndsOnItsSignal(), of=told_to_stop)


@pytest.mark.promise("shutdown.drain")
@pytest.mark.needs("signals", "app.ready")
def test_an_instance_says_that_it_goes(told_to_stop: History, judge: Judge) -> None:
    """An instance that is told to stop says so first, and sends nobody away who could not know."""
    judge(DrainsInOrder(), of=told_to_stop)


@pytest.mark.promise("shutdown.long-request")
@pytest.mark.needs("signals", "app.slow", "app.longest_seconds")
def test_the_longest_request_is_finished(told_to_stop: History, judge: Judge) -> None:
    """Also the longest request is finished when its instance is told to stop."""
    judge(LongRequestsFinish(), of=told_to_stop)


@pytest.mark.promise("shutdown.streams")
@pytest.mark.needs("signals", "app.streams")
def test_streams_keep_nobody_from_stopping(told_to_stop: History, judge: Judge) -> None:
    """Streams that nobody ends do not keep an instance from stopping."""
    judge(StreamsAreEnded(), of=told_to_stop)
