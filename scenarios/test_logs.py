"""Do instances write of trouble while nothing is done to them?"""

from __future__ import annotations

import pytest

from harness.checkers import NobodyIsInTrouble
from harness.faults import Kill
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances", "app.trouble")


@pytest.mark.promise("logs.no-trouble")
def test_no_instance_writes_of_trouble(scene: Scene, judge: Judge) -> None:
    """No instance writes a line that means trouble while people use it and nothing is done to it."""
    with scene.listening_for_trouble():
        scene.visitors.log_in(count=20)
        with scene.visitors.browsing() as traffic:
            traffic.run_for(seconds=2)
    with scene.listening_for_trouble(), scene.visitors.browsing() as traffic:
        with scene.cluster.inject(Kill(), on=scene.any_instance()):
            traffic.run_for(seconds=2)
        traffic.run_for(seconds=1)

    judge(NobodyIsInTrouble())
