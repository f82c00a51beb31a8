"""Are requests answered while an instance is lost, and is it used again when it is back?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import RequestsSurviveLoss, VictimRejoins
from harness.faults import Fault, Hang, Kill, Stop
from harness.model import History
from harness.pytest_plugin import Judge

LossOf = Callable[[Fault], History]


@pytest.mark.promise("failover.kill")
def test_requests_survive_a_kill(loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance dies without warning, requests go on being answered."""
    judge(RequestsSurviveLoss.by_kill(), of=loss_of_an_instance(Kill()))


@pytest.mark.promise("failover.stop")
def test_requests_survive_a_stop(loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance is stopped, requests go on being answered."""
    judge(RequestsSurviveLoss.by_stop(), of=loss_of_an_instance(Stop()))


@pytest.mark.promise("failover.hang")
def test_requests_survive_a_hang(loss_of_an_instance: LossOf, judge: Judge) -> None:
    """When an instance stops answering but keeps its connections, requests go on being answered."""
    judge(RequestsSurviveLoss.by_hang(), of=loss_of_an_instance(Hang()))


@pytest.mark.promise("failover.rejoin")
@pytest.mark.parametrize("fault", [Kill(), Stop(), Hang()], ids=str)
def test_the_lost_instance_is_used_again(fault: Fault, loss_of_an_instance: LossOf, judge: Judge) -> None:
    """An instance that has returned is used again, and only when it can answer."""
    judge(VictimRejoins(), of=loss_of_an_instance(fault))
