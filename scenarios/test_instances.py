"""Are all instances up, and are they one application?"""

from __future__ import annotations

import pytest

from harness.checkers import EveryInstanceAnswers, InstancesAgree, SettingsReachEveryInstance
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances")


@pytest.mark.promise("instances.answer")
def test_every_instance_answers(scene: Scene, judge: Judge) -> None:
    """Every instance is alive and answers its health check."""
    scene.look_at_health()

    judge(EveryInstanceAnswers())


@pytest.mark.promise("instances.agree")
def test_instances_agree(scene: Scene, judge: Judge) -> None:
    """Every instance runs the same version and configuration on the same database and session store."""
    scene.look_at_versions()
    scene.visitors.write_and_read_everywhere()

    judge(InstancesAgree())


@pytest.mark.promise("instances.agree")
@pytest.mark.needs("journey.change", "journey.see")
def test_a_change_reaches_every_instance(scene: Scene, judge: Judge) -> None:
    """Every instance runs the same version and configuration on the same database and session store."""
    scene.shared.change_setting()

    judge(SettingsReachEveryInstance())
