"""Do people stay logged in, and do they stay logged out?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import LogoutHoldsEverywhere, NoSessionLost, SessionOnEveryInstance, SessionsSurviveRestart
from harness.faults import CutOff, Fault, Hang, Kill, Stop
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene

FAULTS = [
    pytest.param(fault, marks=pytest.mark.needs(need))
    for fault, need in ((Kill(), "kill"), (Stop(), "stop"), (Hang(), "hang"))
]
PARTITIONS = [
    pytest.param(fault, marks=pytest.mark.needs("cut-off")) for fault in (CutOff("silence"), CutOff("refusal"))
]


@pytest.mark.promise("session.every-instance")
@pytest.mark.needs("visits")
def test_a_login_is_recognised_by_every_instance(scene: Scene, judge: Judge) -> None:
    """Whoever logs in on one instance is recognised by every other."""
    if scene.cluster.each_can_be_asked:
        scene.visitors.log_in_on_each(count=20)
        scene.visitors.ask_everywhere(stream="matrix")
        scene.visitors.visit(stream="visits", times=3)
    else:
        scene.visitors.log_in(count=20)
        scene.visitors.visit(stream="visits", times=2 * scene.cluster.breadth)

    judge(SessionOnEveryInstance())


@pytest.mark.promise("session.survives-instance-loss")
@pytest.mark.parametrize("fault", [*FAULTS, *PARTITIONS], ids=str)
def test_sessions_survive_the_loss_of_an_instance(
    fault: Fault, loss_of_an_instance: Callable[[Fault], History], judge: Judge
) -> None:
    """People who are logged in stay logged in when the instance that served them is lost."""
    judge(NoSessionLost(), of=loss_of_an_instance(fault))


@pytest.mark.promise("session.survives-restart")
@pytest.mark.needs("instances", "stop")
def test_sessions_survive_a_restart(scene: Scene, judge: Judge) -> None:
    """People stay logged in when every instance is restarted."""
    scene.visitors.log_in_on_each(count=3)
    scene.visitors.ask_everywhere(stream="before")

    scene.cluster.restart_all()

    scene.visitors.ask_everywhere(stream="after")
    scene.look_at_session_store()
    judge(SessionsSurviveRestart())


@pytest.mark.promise("session.logout-everywhere")
@pytest.mark.needs("instances")
def test_a_logout_holds_on_every_instance(scene: Scene, judge: Judge) -> None:
    """Whoever logs out is logged out on every instance, also for a copy of the cookie."""
    scene.visitors.log_in_on_each(count=3)
    scene.visitors.ask_everywhere(stream="before")
    copies = scene.visitors.copy_cookies()

    scene.visitors.log_out()

    scene.visitors.ask_everywhere(stream="replay", who=copies)
    judge(LogoutHoldsEverywhere())
