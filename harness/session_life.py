"""What people do with their sessions in single trials: change them at the same time, carry them from instance to instance,
have them stolen, leave them alone, give up in the middle, and meet an instance that is overloaded.

Everything is sent and recorded by the traffic process. Roles are told by streams, such as `before`, `copy` and `after`; what
a copied browser asks carries its owner's name. Must not: conclude anything from an answer; checkers do, from the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from random import Random
from typing import Any

from harness import clock
from harness.cluster import Cluster
from harness.errors import HarnessError
from harness.layouts import Instance
from harness.model import Answer, Look, Outcome
from harness.traffic import CookieSeen, Task
from harness.visitors import BALANCER, Visitor, Visitors, new_record

__all__ = ["SessionLife"]

_CHANGES = ("counter", "remember", "write")
"""Journeys that change something, for whoever gives up while it is done."""
_GIVE_UP_AFTER_SECONDS = (0.0, 0.002, 0.005, 0.01, 0.015)
"""From a moment at which hardly anybody has read the request, to one at which most answers are on their way."""
_SETTLE_SECONDS = 0.25
"""What was given up may still be worked on; what is asked meanwhile would say nothing of how it ends."""
_USES_PER_LIFE = 4
_LIVES_USED = 1.75
_SLOW_SECONDS = 1.5
_FLOODED_WITHIN_SECONDS = 0.5
_OVERLOADED_BY = 1.5
_ASKED_IN_OVERLOAD = 2


class SessionLife:
    """One scenario's sessions."""

    def __init__(self, *, cluster: Cluster, visitors: Visitors, random: Random) -> None:
        self._cluster = cluster
        self._visitors = visitors
        self._random = random

    # -- one session, changed by several requests at the same time ---------------------------------------------

    def count_together(self, *, people: int, each: int) -> None:
        """Everybody's counter is raised once, then `each` times by two browsers at each instance, all at the same time,
        then once more."""
        names = self._cluster.names
        crowd = self._visitors.log_in(count=people, via=self._cluster.instances[0])
        alone = [(person.id, Task(person.id, "counter", names[0], stream="alone")) for person in crowd]
        together = [
            (person.id, Task(browser, "counter", name, stream="together"))
            for person in crowd
            for browser, name in zip(self._copies(person, 2 * len(names)), cycle(names), strict=False)
            for _ in range(each)
        ]
        for stage, tasks in (("first", alone), ("together", together), ("last", alone)):
            self._count(stage, tasks)

    def _count(self, stage: str, tasks: Sequence[tuple[str, Task]]) -> None:
        results = self._visitors.perform([task for _, task in tasks])
        for (owner, task), result in zip(tasks, results, strict=True):
            value = {
                "visitor": owner,
                "stage": stage,
                "outcome": result.outcome.value,
                "answer": result.answer.value,
                "count": result.taken.get("count") if result.outcome is Outcome.OK else None,
            }
            self._note("counted", task.via, value)

    def remember_together(self, *, people: int, rounds: int) -> None:
        """Again and again everybody puts two things into their session at the same time, through two instances; at the end
        each of them is looked for."""
        names = self._cluster.names
        crowd = self._visitors.log_in(count=people, via=self._cluster.instances[0])
        browsers = [(person, self._copies(person, 2)) for person in crowd]
        kept: list[Task] = []
        for _ in range(rounds):
            tasks = [
                Task(browser, "remember", name, stream="together", record=new_record(self._random))
                for _, pair in browsers
                for browser, name in zip(pair, self._random.sample(names, 2), strict=True)
            ]
            done = zip(tasks, self._visitors.perform(tasks), strict=True)
            kept += [task for task, result in done if result.outcome is Outcome.OK]
        owners = {browser: person for person, pair in browsers for browser in pair}
        self._visitors.perform(
            [
                Task(
                    owners[task.visitor].id,
                    "recall",
                    owners[task.visitor].home,
                    stream="afterwards",
                    record=task.record,
                )
                for task in kept
            ]
        )

    # -- an id in the wrong hands ------------------------------------------------------------------------------

    def know_ids_before_login(self, *, people: int) -> None:
        """Somebody else holds a copy of everybody's cookies from before they log in, and shows it to every instance
        afterwards."""
        homes = dict(zip(self._visitors.newcomers(people), cycle(self._cluster.names), strict=False))
        self._visitors.perform([Task(person, "register", home, stream="arrive") for person, home in homes.items()])
        form = self._step_with_password("login")
        if form:
            self._visitors.perform(
                [Task(person, "login", home, stream="form", first_steps=form) for person, home in homes.items()]
            )
        before = self._visitors.cookies_of(list(homes))
        copies = self._visitors.copies_of(list(homes))
        self._visitors.perform([Task(person, "login", home, stream="arrive") for person, home in homes.items()])
        for person, held, holds in zip(homes, before, self._visitors.cookies_of(list(homes)), strict=True):
            known = {(cookie.name, cookie.mark) for cookie in held}
            kept = sorted(cookie.name for cookie in holds if (cookie.name, cookie.mark) in known)
            value = {"visitor": person, "held": sorted(cookie.name for cookie in held), "kept": kept}
            self._note("cookies-at-login", homes[person], value)
        self._visitors.perform([Task(person, "whoami", home, stream="owner") for person, home in homes.items()])
        self._visitors.perform(
            [Task(copy, "whoami", name, stream="planted") for copy in copies for name in self._cluster.names]
        )

    def replay_after_logout(self, *, people: int) -> None:
        """Everybody's cookie is copied; they log out; the copy is shown to the balancer, also after they have logged in
        again."""
        crowd = self._visitors.log_in(count=people)
        self._visitors.visit(stream="before", times=3 * self._cluster.breadth)
        copies = self._visitors.copy_cookies()
        self._visitors.log_out()
        self._replay(copies, stream="replay")
        again = [
            Task(person.id, journey, BALANCER, stream="again") for person in crowd for journey in ("login", "whoami")
        ]
        self._visitors.perform(again)
        self._replay(copies, stream="replay-again")

    def _replay(self, copies: Sequence[Visitor], *, stream: str) -> None:
        times = 2 * self._cluster.breadth
        self._visitors.perform(
            [Task(copy.id, "whoami", BALANCER, stream=stream) for copy in copies for _ in range(times)]
        )

    # -- from one instance to another --------------------------------------------------------------------------

    def carry_tokens(self) -> None:
        """For each ordered pair of instances somebody takes a token from the one, and writes through the other with it."""
        steps = len(self._cluster.setup.journey["write"].steps)
        tasks: list[Task] = []
        for person, (giver, taker) in self._pairs():
            tasks += [Task(person, journey, giver, stream="arrive") for journey in ("register", "login")]
            route = (*(giver,) * (steps - 1), taker)
            tasks.append(
                Task(
                    person, "write", route[0], stream=_from(giver), record=new_record(self._random), then_via=route[1:]
                )
            )
        self._visitors.perform(tasks)

    def log_in_across(self) -> None:
        """For each ordered pair of instances somebody gets the log-in form from the one and posts it to the other; what
        comes after that is asked of a third one, where there is one. So does whoever wanted a page, where the setup says how."""
        names = self._cluster.names
        tasks: list[Task] = []
        for journey in ("login", "detour"):
            if journey not in self._cluster.setup.journey:
                continue
            form = self._step_with_password(journey)
            for person, (giver, taker) in self._pairs():
                third = giver if giver == taker else names[(names.index(taker) + 1) % len(names)]
                route = (*(giver,) * form, taker, third)
                tasks.append(Task(person, "register", giver, stream="arrive"))
                tasks.append(Task(person, journey, route[0], stream=_from(giver), then_via=route[1:]))
        self._visitors.perform(tasks)

    def _pairs(self) -> list[tuple[str, tuple[str, str]]]:
        """A newcomer for each ordered pair of instances, those of one instance with itself included."""
        pairs = [(giver, taker) for giver in self._cluster.names for taker in self._cluster.names]
        return list(zip(self._visitors.newcomers(len(pairs)), pairs, strict=True))

    # -- the cookie --------------------------------------------------------------------------------------------

    def look_at_cookies(self, *, people: int) -> None:
        """Everybody logs in through the balancer, and their cookies are looked at; some are looked up without one of them,
        which shows the ones that make the session."""
        crowd = self._visitors.log_in(count=people)
        held = self._visitors.cookies_of([person.id for person in crowd])
        for person, cookies in zip(crowd, held, strict=True):
            for cookie in cookies:
                self._note("cookie", "", {"visitor": person.id, "name": cookie.name, **_flags(cookie)})
        names = list(dict.fromkeys(cookie.name for cookies in held for cookie in cookies))
        for name in names:
            value = self._looked_up_without(name, crowd, [BALANCER])
            known = value["with"].count(Answer.RECOGNISED.value)
            if 2 * known < len(value["with"]) and self._cluster.reachable:
                # Where each is known by one instance only, chance alone leads there.
                value = self._looked_up_without(name, crowd, [each.name for each in self._cluster.reachable])
            self._note("cookie-needed", "", value)

    def _looked_up_without(self, name: str, crowd: Sequence[Visitor], where: Sequence[str]) -> Mapping[str, Any]:
        """What everybody is answered with all of their cookies, and without this one."""
        answers = {
            stream: sorted(
                result.answer.value
                for result in self._visitors.perform(
                    [
                        Task(copy, "whoami", via, stream=stream)
                        for via in where
                        for copy in self._visitors.copies_of([person.id for person in crowd], without=without)
                    ]
                )
            )
            for stream, without in (("with", None), ("without", name))
        }
        return {"name": name, **answers}

    # -- time --------------------------------------------------------------------------------------------------

    def use_and_leave_alone(self, *, each: int) -> None:
        """On each instance some people go on using their session for longer than it lives, and others leave it alone for as
        long; these are then looked up on another instance."""
        seconds = self._cluster.setup.sessions.ttl_seconds
        if seconds is None:
            raise HarnessError("only a setup with sessions.ttl_seconds says how long a session lives")
        names = self._cluster.names
        idle = self._visitors.log_in_on_each(count=each)
        used = self._visitors.log_in_on_each(count=each)
        for _ in range(round(_LIVES_USED * _USES_PER_LIFE)):
            clock.sleep(seconds / _USES_PER_LIFE)
            self._visitors.perform([Task(person.id, "whoami", person.home, stream="used") for person in used])
        self._visitors.perform(
            [
                Task(person.id, "whoami", names[(names.index(person.home) + 1) % len(names)], stream="idle")
                for person in idle
            ]
        )

    # -- trouble -----------------------------------------------------------------------------------------------

    def give_up(self, *, each: int) -> None:
        """People on each instance ask for pages and change things, and leave before they are answered."""
        journeys = [name for name in ("whoami", *_CHANGES) if name in self._cluster.setup.journey]
        self._wait_patiently(journeys[1:])
        crowd = self._visitors.log_in_on_each(count=each)
        ids = [person.id for person in crowd]
        self._visitors.ask_everywhere(stream="before", who=crowd)
        # Each gives up one kind of request only, so that it is known which of them cost a session.
        self._visitors.perform(
            [
                self._of_a_record(Task(who, journey, BALANCER, stream="given-up", give_up_after_seconds=seconds))
                for who, journey in zip(ids, cycle(journeys), strict=False)
                for seconds in _GIVE_UP_AFTER_SECONDS
            ]
        )
        clock.sleep(_SETTLE_SECONDS)
        self._visitors.ask_everywhere(stream="after", who=crowd)

    def _wait_patiently(self, journeys: Sequence[str]) -> None:
        """Some others do the same and wait for the answer: whether it changes their cookies is seen."""
        for journey in journeys:
            ids = [person.id for person in self._visitors.log_in(count=2)]
            before = self._visitors.cookies_of(ids)
            self._visitors.perform([self._of_a_record(Task(who, journey, BALANCER, stream="patient")) for who in ids])
            renewed = sum(held != holds for held, holds in zip(before, self._visitors.cookies_of(ids), strict=True))
            self._note("cookies-renewed", "", {"journey": journey, "renewed": renewed, "of": len(ids)})

    def overload(self, victim: Instance, *, people: int) -> None:
        """One instance is given more slow requests than it works on at once; people ask it meanwhile, and afterwards."""
        limit = self._cluster.setup.app.overloaded_at
        if limit is None:
            raise HarnessError("only a setup with app.overloaded_at says when an instance is overloaded")
        crowd = self._visitors.log_in(count=people, via=victim)
        asks = [Task(person.id, "whoami", victim.name, stream="before") for person in crowd]
        self._visitors.perform(asks)
        rate = limit * _OVERLOADED_BY / _FLOODED_WITHIN_SECONDS
        with self._visitors.flood(victim, per_second=rate, seconds_each=_SLOW_SECONDS) as traffic:
            traffic.run_for(seconds=_FLOODED_WITHIN_SECONDS)
            for _ in range(_ASKED_IN_OVERLOAD):
                self._visitors.perform([_in_stream(task, "overload") for task in asks])
        self._visitors.perform([_in_stream(task, "after") for task in asks])

    # -- how ---------------------------------------------------------------------------------------------------

    def _copies(self, person: Visitor, count: int) -> list[str]:
        return self._visitors.copies_of([person.id] * count)

    def _of_a_record(self, task: Task) -> Task:
        """The same task, with a record of its own where its journey needs one that nobody wrote before."""
        if task.journey != "remember":
            return task
        return Task(
            task.visitor,
            task.journey,
            task.via,
            stream=task.stream,
            record=new_record(self._random),
            give_up_after_seconds=task.give_up_after_seconds,
        )

    def _step_with_password(self, journey: str) -> int:
        """The place of the step that sends the password; 0 where none does, such as one that only follows links."""
        steps = self._cluster.setup.journey[journey].steps
        sends = [place for place, step in enumerate(steps) if "{user.password}" in step.model_dump_json(by_alias=True)]
        return sends[0] if sends else 0

    def _note(self, what: str, node: str, value: Mapping[str, Any]) -> None:
        self._cluster.record(Look(what=what, node=node, at=clock.now(), status=None, value=dict(value)))


def _from(giver: str) -> str:
    """The stream of what began on this instance."""
    return f"from-{giver}"


def _in_stream(task: Task, stream: str) -> Task:
    return Task(task.visitor, task.journey, task.via, stream=stream)


def _flags(cookie: CookieSeen) -> Mapping[str, Any]:
    return {
        "http_only": "httponly" in cookie.attributes,
        "secure": "secure" in cookie.attributes,
        "same_site": cookie.attributes.get("samesite", "").lower(),
    }
