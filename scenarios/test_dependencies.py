"""Do the instances come up with what they need, and say so when it is away?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import BootsTogether, BurstIsForgotten, ErrorsHaveStatus, ReadyIsTruthful
from harness.faults import Stop
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances", "database")


@pytest.fixture(scope="module")
def without_database(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """The database is stopped for a while; every instance is asked whether it is ready, and to do what needs it."""

    def story(scene: Scene) -> None:
        people = scene.shared.people_who_need_the_database()
        scene.shared.use_the_database(people)
        scene.shared.look_at_readiness(wanted=True)
        with scene.cluster.inject(Stop(), on=scene.cluster.database):
            scene.shared.use_the_database(people)
            scene.shared.look_at_readiness(wanted=False)
            scene.shared.read_in_vain(people, browsers_each=4)
        scene.shared.use_the_database(people, until_it_works=True)
        scene.shared.read_until_it_works(people)
        scene.shared.look_at_readiness(wanted=True)

    return record_once("without-database", story)


@pytest.mark.promise("boot.n-way")
@pytest.mark.needs("app.first_start")
def test_all_instances_start_at_once(scene: Scene, judge: Judge) -> None:
    """All instances can start at the same moment, also on an empty database."""
    scene.cluster.start_all_on_empty_database()

    judge(BootsTogether())


@pytest.mark.promise("ready.truthful")
@pytest.mark.needs("app.ready")
def test_ready_is_said_truthfully(without_database: History, judge: Judge) -> None:
    """An instance that cannot serve does not say that it is ready."""
    judge(ReadyIsTruthful(), of=without_database)


@pytest.mark.promise("errors.status")
@pytest.mark.needs("app.ready")
def test_errors_have_a_status(without_database: History, judge: Judge) -> None:
    """What could not be done is not answered as if it had been."""
    judge(ErrorsHaveStatus(), of=without_database)


@pytest.mark.promise("failover.error-burst")
@pytest.mark.needs("app.ready", "journey.write", "journey.read")
def test_a_burst_of_errors_is_forgotten(without_database: History, judge: Judge) -> None:
    """When what all instances need is back, people are served again, however many errors there were meanwhile."""
    judge(BurstIsForgotten(), of=without_database)
