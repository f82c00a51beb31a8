"""Are requests answered while an instance is lost, and is it used again when it is back?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import NobodyElseAnswers, RequestsSurviveLoss, VictimRejoins
from harness.faults import CutOff, Fault, Hang, Kill, NewAddress, OutOfMemory, Stop
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene

LossOf = Callable[[Fault], History]
KILLED, STOPPED, FROZEN = (
    pytest.param(fault, marks=pytest.mark.needs(need))
    for fault, need in ((Kill(), "kill"), (Stop(), "stop"), (Hang(), "hang"))
)
STARVED = pytest.param(OutOfMemory(), marks=pytest.mark.needs("out-of-memory"))
PARTITIONS = [
    pytest.param(fault, marks=pytest.mark.needs("cut-off")) for fault in (CutOff("silence"), CutOff("refusal"))
]


@pytest.mark.promise("failover.kill")
@pytest.mark.parametrize("fault", [KILLED, STARVED], ids=str)
def test_requests_survive_a_kill(fault: Fault, loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance dies without warning, requests go on being answered."""
    judge(RequestsSurviveLoss.by_kill(), of=loss_of_an_instance(fault))


@pytest.mark.promise("failover.stop")
@pytest.mark.needs("stop")
def test_requests_survive_a_stop(loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance is stopped, requests go on being answered."""
    judge(RequestsSurviveLoss.by_stop(), of=loss_of_an_instance(Stop()))


@pytest.mark.promise("failover.hang")
@pytest.mark.needs("hang")
def test_requests_survive_a_hang(loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance stops answering but keeps its connections, requests go on being answered."""
    judge(RequestsSurviveLoss.by_hang(), of=loss_of_an_instance(Hang()))


@pytest.mark.promise("failover.partition")
@pytest.mark.parametrize("fault", PARTITIONS, ids=str)
def test_requests_survive_a_partition(fault: Fault, loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance is cut off from the network, requests go on being answered."""
    judge(RequestsSurviveLoss.by_partition(), of=loss_of_an_instance(fault))


@pytest.mark.promise("failover.new-address")
@pytest.mark.needs("instances", "new-address")
def test_an_instance_is_found_under_a_new_address(scene: Scene, judge: Judge) -> None:
    """An instance that comes back under a new address is used again, and nobody else answers in its place."""
    victim = scene.any_instance()
    scene.visitors.log_in(count=20, via=victim)
    with scene.visitors.browsing(slow_per_second=6) as traffic:
        traffic.run_for(seconds=1)
        with scene.cluster.inject(NewAddress(), on=victim):
            pass  # it comes back by itself
        traffic.run_until_answered_by(victim, times=10, within_seconds=12)
        traffic.run_for(seconds=0.5)

    judge(RequestsSurviveLoss.by_new_address(), VictimRejoins(), NobodyElseAnswers())


@pytest.mark.promise("failover.rejoin")
@pytest.mark.parametrize("fault", [KILLED, STOPPED, FROZEN, *PARTITIONS], ids=str)
def test_the_lost_instance_is_used_again(fault: Fault, loss_of_an_instance: LossOf, judge: Judge) -> None:
    """An instance that has returned is used again, and only when it can answer."""
    judge(VictimRejoins(), of=loss_of_an_instance(fault))
