"""Can the balancer be looked after without anybody's notice, and what does it make of the instances behind it?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.checkers import (
    BalancerComesBack,
    BalancerSeesTheTruth,
    BoundPeopleMove,
    DownloadsAreFinished,
    DrainedIsLeftAlone,
    ReloadCostsNothing,
    SentOnce,
)
from harness.faults import Hang, Kill
from harness.model import History
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances")


@pytest.fixture(scope="module")
def looked_after(record_once: Callable[[str, Callable[[Scene], None]], History]) -> History:
    """People browse; an instance is taken out at the balancer and put back, then they download and the balancer is reloaded."""

    def story(scene: Scene) -> None:
        victim = scene.any_instance()
        scene.visitors.log_in(count=12)
        # Nine under way at each on average: that there is none at one of them is then out of the question, however it is chosen.
        with scene.visitors.browsing(slow_per_second=15 * len(scene.cluster.names), slow_seconds=0.6) as traffic:
            traffic.run_for(seconds=1)
            with scene.cluster.taken_out(victim):
                traffic.run_for(seconds=0.7)
            traffic.run_until_answered_by(victim, times=5, within_seconds=5)
            with scene.visitors.downloading(per_second=10, seconds_each=2.5):
                traffic.run_for(seconds=0.7)
                scene.cluster.reload_balancer()
                traffic.run_for(seconds=0.7)

    return record_once("balancer-looked-after", story)


@pytest.mark.promise("distribution.drained")
@pytest.mark.needs("reload")
def test_a_drained_instance_is_left_alone(looked_after: History, judge: Judge) -> None:
    """An instance that is taken out at the balancer gets nothing more, and what it had is finished."""
    judge(DrainedIsLeftAlone(), of=looked_after)


@pytest.mark.promise("lb.reload")
@pytest.mark.needs("reload")
def test_a_reload_costs_nobody_a_request(looked_after: History, judge: Judge) -> None:
    """The balancer is reloaded under traffic, and nobody notices."""
    judge(ReloadCostsNothing(), of=looked_after)


@pytest.mark.promise("lb.reload-streams")
@pytest.mark.needs("reload", "app.download")
def test_a_reload_cuts_no_download(looked_after: History, judge: Judge) -> None:
    """A download that is under way when the balancer is reloaded comes to its end."""
    judge(DownloadsAreFinished(), of=looked_after)


@pytest.mark.promise("lb.kill")
@pytest.mark.needs("balancer")
def test_people_are_served_when_the_balancer_is_back(scene: Scene, judge: Judge) -> None:
    """When the balancer dies and is started again, people are served again, and are still logged in."""
    scene.visitors.log_in(count=12)
    with scene.visitors.browsing() as traffic:
        traffic.run_for(seconds=1)
        with scene.cluster.inject(Kill(), on=scene.cluster.balancer):
            traffic.run_for(seconds=scene.balancer_away_seconds)
        traffic.run_for(seconds=2)

    judge(BalancerComesBack())


@pytest.mark.promise("health.lb-view")
@pytest.mark.needs("kill", "balancer.checks")
def test_the_balancer_knows_how_instances_are(scene: Scene, judge: Judge) -> None:
    """What the balancer thinks of each instance is true, also when one has died, and when it is back."""
    victim = scene.any_instance()
    scene.shared.look_at_balancer_view()
    with scene.cluster.inject(Kill(), on=victim):
        scene.shared.look_at_balancer_view(dead=victim)
    scene.shared.look_at_balancer_view()

    judge(BalancerSeesTheTruth())


@pytest.mark.promise("post.exactly-once")
@pytest.mark.needs("hang", "journey.tally")
def test_what_is_sent_once_is_done_once(scene: Scene, judge: Judge) -> None:
    """What is sent once has one effect at most, also when the instance that got it stops answering."""
    victim = scene.any_instance()
    numbers = scene.shared.numbers_of_their_own(people_each=4, browsers_each=8)
    with scene.cluster.inject(Hang(), on=victim):
        scene.shared.raise_once(numbers)
    scene.shared.count_raises(numbers)

    judge(SentOnce())


@pytest.mark.promise("affinity.owner-dies")
@pytest.mark.needs("kill", "balancer.sticky_cookie")
def test_bound_people_move(scene: Scene, judge: Judge) -> None:
    """People whom a cookie binds to an instance are served by another when it dies, and are still logged in."""
    victim = scene.any_instance()
    scene.visitors.log_in(count=15)
    with scene.visitors.browsing() as traffic:
        traffic.run_for(seconds=1)
        with scene.cluster.inject(Kill(), on=victim):
            traffic.run_for(seconds=4)

    judge(BoundPeopleMove())
