"""What several scenarios share: the loss of an instance under traffic, recorded once for each fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.faults import Fault
from harness.model import History
from harness.scene import Scene

LossOf = Callable[[Fault], History]


@pytest.fixture(scope="session")
def loss_of_an_instance(record_once: Callable[[str, Callable[[Scene], None]], History]) -> LossOf:
    """People log in through one instance and browse; it is lost by this fault, and comes back."""

    def lost_by(fault: Fault) -> History:
        def story(scene: Scene) -> None:
            victim = scene.any_instance()
            scene.visitors.log_in(count=20, via=victim if victim.reachable else None)
            with scene.visitors.browsing(slow_per_second=6) as traffic:
                traffic.run_for(seconds=1, visits=30)
                # The least busy of three is seldom the one with a slow request more than the others: nobody would miss it.
                traffic.run_until_answered_by(victim, times=3, within_seconds=3)
                with scene.cluster.inject(fault, on=victim):
                    traffic.run_for(seconds=4)
                traffic.run_until_answered_by(victim, times=10, within_seconds=15)
                traffic.run_for(seconds=0.5)
            scene.visitors.visit(stream="after")
            scene.look_at_session_store()

        return record_once(f"loss-by-{fault}", story)

    return lost_by
