"""Which cookie makes the session: asked through the balancer, and of each instance where chance alone led there."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from harness.checkers import CookieIsGuarded
from harness.model import Answer, History, Look
from harness.session_life import SessionLife
from harness.traffic import CookieSeen, Task


class People:
    """Nine who logged in through the balancer; with their cookie they are known where `knows` says."""

    def __init__(self, knows: Sequence[str]) -> None:
        self.knows = knows
        self.asked: list[str] = []

    def log_in(self, *, count: int) -> list[Any]:
        return [SimpleNamespace(id=f"v{number}") for number in range(count)]

    def cookies_of(self, who: Sequence[str]) -> list[list[CookieSeen]]:
        return [[CookieSeen(name="id", mark="m", attributes={"httponly": "", "samesite": "Lax"})] for _ in who]

    def copies_of(self, who: Sequence[str], *, without: str | None) -> list[str]:
        return [f"{person} without {without}" for person in who]

    def perform(self, tasks: Sequence[Task]) -> list[Any]:
        self.asked += dict.fromkeys(task.via for task in tasks)
        known = [task.via in self.knows and task.visitor.endswith("None") for task in tasks]
        return [SimpleNamespace(answer=Answer.RECOGNISED if yes else Answer.LOGGED_OUT) for yes in known]


@pytest.mark.parametrize(
    ("knows", "asked", "status"),
    [
        (["balancer"], ["balancer"] * 2, "pass"),
        (["app-2"], [*["balancer"] * 2, *["app-1", "app-2"] * 2], "pass"),
        ([], [*["balancer"] * 2, *["app-1", "app-2"] * 2], "inconclusive"),
    ],
    ids=["known through the balancer", "known by one instance only", "known by nobody"],
)
def test_which_cookie_makes_the_session(knows: list[str], asked: list[str], status: str) -> None:
    """Whoever is known with it and never without it; instances are asked only where the balancer led to none that knew."""
    looks: list[Look] = []
    people: Any = People(knows)
    cluster: Any = SimpleNamespace(
        reachable=[SimpleNamespace(name=name) for name in ("app-1", "app-2")], record=looks.append
    )
    SessionLife(cluster=cluster, visitors=people, random=Random(1)).look_at_cookies(people=9)
    assert people.asked == asked
    history = History(scenario="s", seed=1, instances=("app-1", "app-2"), looks=tuple(looks))
    assert CookieIsGuarded().check(history).status.value == status
