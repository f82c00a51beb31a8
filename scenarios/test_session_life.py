"""Is a session its owner's alone, everywhere the same, and not easily lost?"""

from __future__ import annotations

import pytest

from harness.checkers import (
    ChangesSurvive,
    CookieIsGuarded,
    GivingUpCostsNothing,
    LifeIsKept,
    LoginCrossesInstances,
    NobodyElsesPage,
    OldIdIsNobody,
    OverloadIsNoLogout,
    ReplayIsRefused,
    StepsAreCounted,
    TokenIsAcceptedElsewhere,
)
from harness.pytest_plugin import Judge
from harness.scene import Scene


@pytest.mark.promise("session.replay-after-logout")
@pytest.mark.needs("journey.logout")
def test_a_cookie_is_worth_nothing_after_the_logout(scene: Scene, judge: Judge) -> None:
    """The cookie of somebody who has logged out is worth nothing to whoever kept a copy."""
    scene.sessions.replay_after_logout(people=6)

    judge(ReplayIsRefused())


@pytest.mark.promise("session.fixation")
@pytest.mark.needs("instances")
def test_a_cookie_from_before_the_login_is_worth_nothing(scene: Scene, judge: Judge) -> None:
    """Whoever knew, or planted, somebody's cookie before they logged in is not logged in with it afterwards."""
    scene.sessions.know_ids_before_login(people=6)

    judge(OldIdIsNobody())


@pytest.mark.promise("session.counter")
@pytest.mark.needs("instances", "session.count")
def test_a_session_counts_every_step(scene: Scene, judge: Judge) -> None:
    """What is counted in a session counts every step once, whichever instances take them."""
    scene.sessions.count_together(people=3, each=4)

    judge(StepsAreCounted())


@pytest.mark.promise("session.concurrent-writes")
@pytest.mark.needs("instances", "journey.remember", "journey.recall")
def test_two_changes_of_a_session_survive(scene: Scene, judge: Judge) -> None:
    """Two things that are put into one session at the same time are both there afterwards."""
    scene.sessions.remember_together(people=6, rounds=5)

    judge(ChangesSurvive())


@pytest.mark.promise("session.ttl")
@pytest.mark.needs("instances", "session.short-life")
def test_a_session_lives_as_long_as_it_is_said_to(scene: Scene, judge: Judge) -> None:
    """A session that is used goes on, and one that nobody uses ends when it is said to, on every instance alike."""
    scene.sessions.use_and_leave_alone(each=2)

    judge(LifeIsKept())


@pytest.mark.promise("session.aborted-request")
@pytest.mark.needs("instances")
def test_leaving_in_the_middle_costs_nobody_their_session(scene: Scene, judge: Judge) -> None:
    """Whoever leaves in the middle of a request is still logged in."""
    scene.sessions.give_up(each=4)

    judge(GivingUpCostsNothing())


@pytest.mark.promise("session.overload")
@pytest.mark.needs("instances", "overload", "app.overloaded_at", "app.slow")
def test_an_overload_logs_nobody_out(scene: Scene, judge: Judge) -> None:
    """Whoever meets an instance that has too much to do is told so, and is still logged in."""
    scene.sessions.overload(scene.any_instance(), people=12)

    judge(OverloadIsNoLogout())


@pytest.mark.promise("csrf.cross-instance")
@pytest.mark.needs("instances", "session.token")
def test_a_form_is_good_for_every_instance(scene: Scene, judge: Judge) -> None:
    """A form that one instance gave can be posted to any other."""
    scene.sessions.carry_tokens()

    judge(TokenIsAcceptedElsewhere())


@pytest.mark.promise("login.cross-instance")
@pytest.mark.needs("instances")
def test_a_login_is_finished_on_another_instance(scene: Scene, judge: Judge) -> None:
    """A log-in that began on one instance can be finished on any other."""
    scene.sessions.log_in_across()

    judge(LoginCrossesInstances())


@pytest.mark.promise("cookie.flags")
def test_the_cookie_of_a_session_is_guarded(scene: Scene, judge: Judge) -> None:
    """The cookie of a session is kept from scripts, from other sites, and over https from being shown in clear."""
    scene.sessions.look_at_cookies(people=9)

    judge(CookieIsGuarded())


@pytest.mark.promise("isolation.identity")
def test_nobody_sees_the_page_of_somebody_else(scene: Scene, judge: Judge) -> None:
    """Nobody is ever shown a page of somebody else."""
    scene.visitors.log_in(count=20)
    with scene.visitors.browsing() as traffic:
        traffic.run_for(seconds=1.5, visits=120)

    judge(NobodyElsesPage())
