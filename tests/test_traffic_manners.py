"""What a task can be told beside its journey: to go from instance to instance, to stop half-way, to leave before the answer,
and to bring back what it took; and what is told of cookies.
"""

from __future__ import annotations

import pytest
from scripted_server import ScriptedServer, Talk, serving
from test_traffic import Rig

from harness.errors import TrafficError
from harness.model import Outcome
from harness.traffic import Task

JOURNEYS = {
    "form": {
        "steps": [
            {"get": "/form", "take": {"token": {"field": "token"}}},
            {"post": "/form", "form": {"token": "{token}"}, "take": {"count": {"json": "count"}}},
            {"get": "/after"},
        ]
    },
    "ask": {"steps": [{"get": "/ask"}]},
}


def form(talk: Talk) -> None:
    if talk.seen.method == "GET":
        cookies = "Set-Cookie: sid=secret; Path=/; HttpOnly; SameSite=Lax\r\nSet-Cookie: theme=dark\r\n"
        talk.answer(b'<input name="token" value="t1">', headers=cookies)
    else:
        talk.answer(b'{"count": 7}')


def never(talk: Talk) -> None:
    talk.wait_until_released()


@pytest.fixture
def two(tmp_path):
    """Two instances, each a server of its own; the balancer is the first of them."""
    with serving(form=form, ask=never) as first, serving(form=form, ask=never) as second:
        targets = {"balancer": first.address, "app-1": first.address, "app-2": second.address}
        with Rig(tmp_path, first, JOURNEYS, targets=targets) as rig:
            yield rig, first, second


def asked(server: ScriptedServer) -> list[tuple[str, str]]:
    return [(seen.method, seen.path) for seen in server.seen]


def test_a_journey_goes_from_instance_to_instance(two):
    """The first step where the task says, each later one at the next place, the last of them for all that follow."""
    rig, first, second = two
    rig.traffic.perform([Task(rig.visitor(), "form", "app-1", then_via=("app-2",))])
    assert asked(first) == [("GET", "/form")]
    assert asked(second) == [("POST", "/form"), ("GET", "/after")]
    assert [op.via for op in rig.operations()] == ["app-1", "app-2", "app-2"]


def test_a_place_that_is_none_is_refused_before_anything_is_sent(two):
    """As everywhere: a misspelt instance would look like one that is down."""
    rig, first, _ = two
    with pytest.raises(TrafficError, match="no target is named 'app-9'"):
        rig.traffic.perform([Task(rig.visitor(), "form", then_via=("app-9",))])
    assert first.seen == []


def test_a_journey_can_end_half_way(two):
    """It is recorded as what it was: not its last step."""
    rig, first, _ = two
    (result,) = rig.traffic.perform([Task(rig.visitor(), "form", first_steps=1)])
    assert result.outcome is Outcome.OK
    assert asked(first) == [("GET", "/form")]
    assert [(op.step, op.final) for op in rig.operations()] == [(0, False)]


def test_a_result_tells_what_was_taken_on_the_way(two):
    """And nothing of what the visitor took before."""
    rig, _, _ = two
    visitor = rig.visitor()
    whole, half = rig.traffic.perform([Task(visitor, "form"), Task(visitor, "form", first_steps=1)])
    assert whole.taken == {"token": "t1", "count": "7"}
    assert half.taken == {"token": "t1"}


def test_a_visitor_who_leaves_is_not_answered(two):
    """The request was sent and its effect is unknown; the server sees the connection end."""
    rig, first, _ = two
    (result,) = rig.traffic.perform([Task(rig.visitor(), "ask", give_up_after_seconds=0.0)])
    assert (result.outcome, result.error) == (Outcome.UNKNOWN, "given-up")
    (op,) = rig.operations()
    assert op.sent is not None
    assert op.answered is None
    assert "after it was sent" in op.detail
    first.released.set()


def test_who_would_leave_later_is_answered_before(two):
    """An answer that came in time is one; nothing is closed afterwards."""
    rig, _, _ = two
    (result,) = rig.traffic.perform([Task(rig.visitor(), "form", give_up_after_seconds=30.0)])
    assert result.outcome is Outcome.OK


def test_cookies_are_told_without_their_values(two):
    """Their names, what guards them, and a mark by which one value is told from another."""
    rig, _, _ = two
    mine, other = rig.traffic.new_visitors(2)
    rig.traffic.perform([Task(mine, "form", first_steps=1)])
    held, nothing = rig.traffic.cookies([mine, other])
    assert nothing == ()
    assert [(cookie.name, dict(cookie.attributes)) for cookie in held] == [
        ("sid", {"path": "/", "httponly": "", "samesite": "Lax"}),
        ("theme", {}),
    ]
    assert all("secret" not in cookie.mark and cookie.mark for cookie in held)
    assert held[0].mark != held[1].mark


def test_a_copy_can_lack_one_cookie(two):
    """Which of them makes a session is seen by what somebody is without it."""
    rig, first, _ = two
    visitor = rig.visitor()
    rig.traffic.perform([Task(visitor, "form", first_steps=1)])
    (copy,) = rig.traffic.copy_visitors([visitor], without="sid")
    rig.traffic.perform([Task(copy, "form", first_steps=1)])
    assert first.requests("/form")[-1].headers["cookie"] == "theme=dark"
