"""Do the instances keep together what belongs to all of them?"""

from __future__ import annotations

import pytest

from harness.checkers import (
    EverybodyHears,
    FilesAreEverywhere,
    IdleConnectionsAreKept,
    JobsGoOn,
    JobsRunOnce,
    KeyActsOnce,
    LimitIsShared,
    NamesAreUnique,
    NumbersAreUnique,
    TallyLosesNothing,
)
from harness.faults import Kill
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("instances")


@pytest.mark.promise("files.cross-instance")
@pytest.mark.needs("journey.upload", "journey.download")
def test_a_file_is_had_from_every_instance(scene: Scene, judge: Judge) -> None:
    """A file that was handed in through one instance can be had from every other."""
    scene.shared.hand_files_in_and_get_them_back()

    judge(FilesAreEverywhere())


@pytest.mark.promise("ids.unique")
@pytest.mark.needs("journey.number")
def test_no_number_is_given_twice(scene: Scene, judge: Judge) -> None:
    """A number that was given to one person is given to nobody else, whichever instance gives it."""
    scene.shared.draw_numbers(people_each=4, times=5)

    judge(NumbersAreUnique())


@pytest.mark.promise("ratelimit.shared")
@pytest.mark.needs("journey.limited", "app.rate_limit")
def test_a_limit_is_shared(scene: Scene, judge: Judge) -> None:
    """A limit holds for all instances together."""
    scene.shared.use_up_limits(people=2)

    judge(LimitIsShared())


@pytest.mark.promise("post.idempotency-key")
@pytest.mark.needs("journey.once")
def test_a_key_has_one_effect(scene: Scene, judge: Judge) -> None:
    """A request that is sent again with the same key has one effect, whichever instance it reaches."""
    scene.shared.do_once(keys=6)

    judge(KeyActsOnce())


@pytest.mark.promise("consistency.unique")
@pytest.mark.needs("journey.register")
def test_a_name_is_given_once(scene: Scene, judge: Judge) -> None:
    """Of two people who ask for the same name at the same moment, one gets it."""
    scene.shared.register_same_names(names=12)

    judge(NamesAreUnique())


@pytest.mark.promise("consistency.counter")
@pytest.mark.needs("journey.tally")
def test_no_increment_is_lost(scene: Scene, judge: Judge) -> None:
    """A number that many raise at the same time counts every one of them."""
    scene.shared.raise_tally(people_each=4, times=5)

    judge(TallyLosesNothing())


@pytest.mark.promise("jobs.once")
@pytest.mark.needs("app.jobs")
def test_a_job_is_done_once(scene: Scene, judge: Judge) -> None:
    """What is to be done at regular times is done once, and not once by each instance."""
    scene.shared.watch_jobs(runs=5)

    judge(JobsRunOnce())


@pytest.mark.promise("jobs.failover")
@pytest.mark.needs("kill", "app.jobs")
def test_another_instance_does_the_jobs(scene: Scene, judge: Judge) -> None:
    """When the instance that did the regular jobs is lost, another one does them."""
    victim = scene.shared.who_ran_last()
    with scene.cluster.inject(Kill(), on=victim):
        scene.shared.watch_jobs(runs=1, besides=victim)

    judge(JobsGoOn())


@pytest.mark.promise("ws.fanout")
@pytest.mark.needs("app.websocket")
def test_everybody_hears_what_is_said(scene: Scene, judge: Judge) -> None:
    """What one person says is heard by everybody who is connected, whichever instance they are connected to."""
    scene.shared.say_to_everybody()

    judge(EverybodyHears())


@pytest.mark.promise("keepalive.idle-race")
@pytest.mark.needs("balancer.keepalive")
def test_idle_connections_are_kept(scene: Scene, judge: Judge) -> None:
    """No request is sent on a connection that the instance is about to end."""
    scene.shared.keep_connections_idle()

    judge(IdleConnectionsAreKept())
