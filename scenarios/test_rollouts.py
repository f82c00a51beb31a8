"""Does a deploy cost anybody a request, and does an instance finish what it has begun?"""

from __future__ import annotations

import pytest

from harness.checkers import InFlightFinishes, RolloutCostsNothing
from harness.faults import Stop
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances")


@pytest.mark.promise("rollout.rolling")
@pytest.mark.needs("new-version")
def test_a_rollout_costs_nobody_a_request(scene: Scene, judge: Judge) -> None:
    """A new version reaches every instance and nobody loses a request or a session."""
    scene.visitors.log_in_on_each(count=7)
    scene.look_at_versions()
    # Every eleventh request beside 100 a second: taken in turn they reach each of two to ten instances.
    with scene.visitors.browsing(slow_per_second=10) as traffic:
        traffic.run_for(seconds=2)
        scene.cluster.roll_out()
        traffic.run_for(seconds=1)
    scene.look_at_versions()
    scene.visitors.visit(stream="after")
    scene.look_at_session_store()

    judge(RolloutCostsNothing())


@pytest.mark.promise("shutdown.inflight")
def test_requests_in_flight_are_finished(scene: Scene, judge: Judge) -> None:
    """Requests in flight are finished when an instance is told to stop."""
    victim = scene.any_instance()
    scene.visitors.arrive(count=10)
    with scene.visitors.slow_requests_at(victim, per_second=10) as traffic:
        traffic.run_for(seconds=1)
        with scene.cluster.inject(Stop(), on=victim):
            pass

    judge(InFlightFinishes())
