"""Does load spread over the instances?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import EveryInstanceGetsTraffic, LateJoinerIsNotFlooded, SharesFitTheAlgorithm
from harness.faults import Fault, Stop
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene


@pytest.fixture(scope="module")
def spread(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """Enough requests, from many addresses, each on its own connection and several at a time, to tell a fair balancer from an
    unfair one."""

    def story(scene: Scene) -> None:
        scene.visitors.arrive(count=30, apart=True)
        with scene.visitors.overlapping_requests() as traffic:
            traffic.run_for(seconds=3)

    return record_once("spread", story)


@pytest.mark.promise("distribution.complete")
@pytest.mark.needs("names")
def test_every_instance_gets_traffic(spread: History, judge: Judge) -> None:
    """Every instance gets traffic, and nobody else answers."""
    judge(EveryInstanceGetsTraffic(), of=spread)


@pytest.mark.promise("distribution.share")
@pytest.mark.needs("names")
def test_shares_fit_the_algorithm(spread: History, judge: Judge) -> None:
    """Load is spread as the balancer's algorithm promises."""
    judge(SharesFitTheAlgorithm(), of=spread)


@pytest.mark.promise("distribution.late-joiner")
@pytest.mark.needs("stop")
def test_a_late_joiner_is_not_flooded(loss_of_an_instance: Callable[[Fault], History], judge: Judge) -> None:
    """An instance that joins the others late is not given more at once than it can bear."""
    judge(LateJoinerIsNotFlooded(), of=loss_of_an_instance(Stop()))
