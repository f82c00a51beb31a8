"""The people of one scenario: they log in, are looked up, browse under load and log out.

A thin, synchronous face of the traffic process: every request is sent and recorded there. Must not:
conclude anything from an answer beyond whether to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from random import Random
from uuid import UUID

from harness import clock
from harness.checkers.measures import who_answered
from harness.cluster import Cluster
from harness.errors import NothingTested, WaitTimeout
from harness.journeys import likely_reason
from harness.layouts import Instance
from harness.model import Answer, History, Look, Outcome
from harness.setup import Setup
from harness.traffic import CookieSeen, Result, Stream, Task, Traffic
from harness.traffic.people import Person
from harness.waiting import wait_until

__all__ = [
    "BALANCER",
    "BROWSE",
    "LONG_DOWNLOAD",
    "SLOW",
    "Browsing",
    "Visitor",
    "Visitors",
    "new_record",
    "passwords_of",
    "people_of",
    "why_nobody",
]

BALANCER = "balancer"
BROWSE: Mapping[str, float] = {"whoami": 0.7, "write": 0.15, "read": 0.15}
"""How much of what people do under load, by journey, as far as the setup declares it."""
_BOTH_CONNECTIONS = {"fresh": 0.5, "reused": 0.5}
_LOOK_EVERY_SECONDS = 0.25
_SHORT_WAIT_SECONDS = 0.05
_IN_FLIGHT_PER_INSTANCE = 3.0
_SHARE_OF_AT_ONCE = 2 / 3
"""How much of what an instance works on at once slow requests may take up: the rest is for everybody else, who must not wait
for them. A server with a few threads is to be judged, and not to be filled up."""
SLOW = "slow"
"""The journey that the harness makes of the setup's slow path."""
LONG_DOWNLOAD = "long-download"
"""The journey that the harness makes of the setup's path for downloads."""


def new_record(random: Random) -> str:
    """An id that nothing else has, of the seed's."""
    return str(UUID(int=random.getrandbits(128), version=4))


def people_of(setup: Setup) -> tuple[Person, ...]:
    """Those the setup gives."""
    return tuple(Person(email=each.email, password=each.password, name=each.name) for each in setup.people)


def passwords_of(setup: Setup | None) -> tuple[str, ...]:
    """Theirs, to be kept out of whatever is written."""
    return () if setup is None else tuple(dict.fromkeys(each.password for each in setup.people if each.password))


def why_nobody(registered: Sequence[Result], logged_in: Sequence[Result]) -> str:
    """Why nobody could log in, by the last answers: what it was, and what it is likely to mean."""
    could_not = registered and all(result.outcome is not Outcome.OK for result in registered)
    journey, last = ("register", registered[-1]) if could_not else ("login", logged_in[-1])
    reason = likely_reason(status=last.status, error=last.error, detail=last.detail)
    told = f"last answer to journey.{journey}: {last.answer}, {last.status or last.error}"
    return f"{told}; {reason}" if reason else told


@dataclass(frozen=True)
class Visitor:
    """One simulated person and where they logged in."""

    id: str
    home: str


class Visitors:
    """The people of one scenario, over the traffic of a run."""

    def __init__(self, *, cluster: Cluster, traffic: Traffic, read: Callable[[], History]) -> None:
        self._cluster = cluster
        self._traffic = traffic
        self._read = read
        self._people: list[Visitor] = []

    @property
    def history(self) -> History:
        """All that was done and seen in this scenario until now."""
        self._traffic.flush()
        return self._read()

    # -- one after the other ----------------------------------------------------------------------------------

    def log_in(self, *, count: int, via: Instance | None = None) -> tuple[Visitor, ...]:
        """Register `count` new people and log each in through one instance, or through the balancer. Where people are given, as
        many of them as have not been here, who are registered already.

        Raises:
            NothingTested: not one of them could log in: nothing that needs people can be judged.
        """
        where = via.name if via is not None else BALANCER
        people = [Visitor(name, where) for name in self._traffic.new_visitors(self._traffic.at_most(count) or 1)]
        stored_before = self._cluster.count_sessions()
        registered = self._perform(
            [Task(visitor=person.id, journey="register", via=where, stream="arrive") for person in people]
        )
        results = self._perform(
            [Task(visitor=person.id, journey="login", via=where, stream="arrive") for person in people]
        )
        acknowledged = sum(result.answer in (Answer.DONE, Answer.RECOGNISED) for result in results)
        self._cluster.record(
            Look(
                what="sessions-stored",
                node=where,
                at=clock.now(),
                status=None,
                value={"before": stored_before, "after": self._cluster.count_sessions(), "logins": acknowledged},
            )
        )
        if not acknowledged:
            raise NothingTested(
                f"none of {len(people)} people could log in through {where} ({why_nobody(registered, results)}): `harness journey --try` "
                "shows each request and answer"
            )
        self._people.extend(people)
        return tuple(people)

    def log_in_on_each(self, *, count: int) -> tuple[Visitor, ...]:
        """`count` new people on every instance, asked directly; through the balancer where these cannot be. Of people who are
        given, the same number on each."""
        instances = self._cluster.instances
        if not self._cluster.each_can_be_asked:
            return self.log_in(count=self._traffic.at_most(count * self._cluster.breadth))
        each = max(1, self._traffic.at_most(count * len(instances)) // len(instances))
        return tuple(person for instance in instances for person in self.log_in(count=each, via=instance))

    def ask_everywhere(self, *, stream: str, times: int = 1, who: Sequence[Visitor] | None = None) -> None:
        """Everybody is looked up on every instance directly."""
        self._perform(
            [
                Task(visitor=person.id, journey="whoami", via=instance.name, stream=stream)
                for _ in range(times)
                for instance in self._cluster.instances
                for person in (self._people if who is None else who)
            ]
        )

    def visit(self, *, stream: str, times: int = 1) -> None:
        """Everybody is looked up through the balancer, each time on another connection."""
        self._perform(
            [
                Task(visitor=person.id, journey="whoami", via=BALANCER, stream=stream)
                for _ in range(times)
                for person in self._people
            ]
        )

    def copy_cookies(self) -> tuple[Visitor, ...]:
        """Somebody else holds a copy of everybody's cookies as they are now; recorded under the owner's name."""
        copies = self._traffic.copy_visitors([person.id for person in self._people])
        return tuple(Visitor(copy, person.home) for copy, person in zip(copies, self._people, strict=True))

    def log_out(self) -> None:
        """Everybody logs out through the instance they logged in on."""
        before = self._cluster.count_sessions()
        tasks = [Task(visitor=person.id, journey="logout", via=person.home, stream="leave") for person in self._people]
        done = sum(result.outcome is Outcome.OK for result in self._perform(tasks))
        after = self._cluster.count_sessions()
        value = {"before": before, "after": after, "logouts": done}
        self._cluster.record(Look(what="sessions-at-logout", node="", at=clock.now(), status=None, value=value))

    def arrive(self, *, count: int, apart: bool = False) -> None:
        """`count` people who never log in. `apart`: each comes from an address of their own, where the machine has so many and
        the balancer would see them."""
        names = self._traffic.new_visitors(count, strangers=True)
        self._people.extend(Visitor(name, BALANCER) for name in names)
        if apart and (addresses := self._cluster.client_addresses(count)):
            came_from = dict(zip(names, addresses, strict=True))
            self._traffic.place_visitors(came_from)
            self._cluster.record(Look(what="came-from", node="", at=clock.now(), status=None, value=came_from))

    def write_and_read_everywhere(self) -> None:
        """One person writes a record through each instance, and reads each back through every instance.

        Their login goes through the instance that is asked, so that this says something of the database alone.
        """
        if not {"write", "read"} <= set(self._cluster.setup.journey):
            return
        names = self._cluster.names
        person = self._traffic.new_visitors(1)[0]
        records = {name: f"{person}-{name}" for name in names}

        def task(journey: str, via: str, record: str | None = None) -> Task:
            return Task(visitor=person, journey=journey, via=via, stream="records", record=record)

        self._perform([task("register", names[0])])
        for writer in names:
            self._perform([task("login", writer), task("write", writer, records[writer])])
        for reader in names:
            answers = self._perform(
                [task("login", reader), *(task("read", reader, records[writer]) for writer in names)]
            )
            for writer, answer in zip(names, answers[1:], strict=True):
                found = answer.outcome is Outcome.OK
                # Only a proper "there is no such record" says that it is not there.
                problem = "" if found or answer.answer is Answer.REFUSED else str(answer.error or answer.answer)
                value = {"written_via": writer, "read_via": reader, "ok": found}
                self._cluster.record(
                    Look(what="note", node=reader, at=clock.now(), status=answer.status, value=value, error=problem)
                )

    def _perform(self, tasks: Sequence[Task]) -> list[Result]:
        return self._traffic.perform(tasks)

    # -- for what several people do at the same time ----------------------------------------------------------

    def newcomers(self, count: int) -> list[str]:
        """`count` people who have done nothing yet, by their names for `perform`."""
        return self._traffic.new_visitors(count)

    def other_browsers(self, of: str, count: int) -> list[str]:
        """`count` more browsers of one person, with no cookies yet; recorded under the person's name."""
        return self._traffic.copy_visitors([of] * count, cookies=False)

    def copies_of(self, people: Sequence[str], *, without: str | None = None) -> list[str]:
        """Another browser of each, holding the same cookies as they are now (but for one); recorded under the owner's name."""
        return self._traffic.copy_visitors(people, without=without)

    def cookies_of(self, people: Sequence[str]) -> list[tuple[CookieSeen, ...]]:
        """The cookies each holds now, without their values."""
        return self._traffic.cookies(people)

    def perform(self, tasks: Sequence[Task]) -> list[Result]:
        """Each visitor's tasks one after the other, and all visitors at the same time."""
        return self._traffic.perform(tasks, concurrency=max(1, len({task.visitor for task in tasks})))

    # -- under load -------------------------------------------------------------------------------------------

    @contextmanager
    def browsing(self, *, slow_per_second: float | None = None, slow_seconds: float = 1.0) -> Iterator[Browsing]:
        """Everybody browses through the balancer, open loop, until the block is left: half of the requests on
        connections of their own, half on kept ones.

        Args:
            slow_per_second: also so many requests per second that each take a while to be answered.
            slow_seconds: how long these take.
        """
        streams = [self._stream("browse", rate=self._cluster.setup.traffic.rate, journeys=self._browsing_journeys())]
        if slow_per_second is not None and self._has_slow:
            streams.append(self._slow("slow", rate=slow_per_second, via=BALANCER, seconds=slow_seconds))
        with self._running(*streams) as browsing:
            yield browsing

    @contextmanager
    def downloading(self, *, per_second: float, seconds_each: float) -> Iterator[Browsing]:
        """So many downloads per second are begun through the balancer, each of which takes so long; the block is left when all
        have ended. Without a path for them nothing is downloaded."""
        streams = []
        if self._cluster.setup.app.download is not None:
            streams.append(
                Stream(
                    name="download",
                    rate=per_second,
                    journeys={LONG_DOWNLOAD: 1.0},
                    visitors=[person.id for person in self._people],
                    connections={"fresh": 1.0},
                    values={"seconds": f"{seconds_each:g}"},
                )
            )
        with self._running(*streams) as browsing:
            yield browsing

    @contextmanager
    def overlapping_requests(self) -> Iterator[Browsing]:
        """Requests through the balancer that overlap, each on a connection of its own: food for its algorithm.

        Where the setup names a slow path, that is asked for short waits, so that several are always in flight.
        """
        each = _IN_FLIGHT_PER_INSTANCE * self._cluster.breadth
        if self._has_slow:
            stream = self._slow("spread", rate=each / _SHORT_WAIT_SECONDS, via=BALANCER, seconds=_SHORT_WAIT_SECONDS)
        else:
            stream = self._stream("spread", rate=self._cluster.setup.traffic.rate, journeys={"whoami": 1.0})
        with self._running(stream) as browsing:
            yield browsing

    @contextmanager
    def slow_requests_at(self, instance: Instance, *, per_second: float) -> Iterator[Browsing]:
        """So many requests per second, to one instance directly, that each take a second to be answered."""
        streams = [self._slow("slow", rate=per_second, via=instance.name, seconds=1.0)] if self._has_slow else []
        with self._running(*streams) as browsing:
            yield browsing

    @contextmanager
    def longest_requests_at(self, instance: Instance, *, per_second: float) -> Iterator[Browsing]:
        """So many requests per second by nobody in particular, to one instance directly, that each take as long as the
        longest honest one; none where the setup does not say how long that is."""
        app = self._cluster.setup.app
        streams = []
        if app.longest_seconds is not None and self._has_slow:
            stream = self._slow("long", rate=per_second, via=instance.name, seconds=app.longest_seconds)
            # Whether it was cut is the instance's doing, never our impatience.
            patience = app.longest_seconds + self._cluster.setup.traffic.timeout_seconds
            streams.append(
                replace(stream, visitors=self._traffic.new_visitors(1, strangers=True), timeout_seconds=patience)
            )
        with self._running(*streams) as browsing:
            yield browsing

    @contextmanager
    def flood(self, instance: Instance, *, per_second: float, seconds_each: float) -> Iterator[Browsing]:
        """So many requests per second by nobody in particular, to one instance directly, each answered after a while."""
        stranger = self._traffic.new_visitors(1, strangers=True)
        with self._running(
            Stream(
                name="flood",
                rate=per_second,
                journeys={SLOW: 1.0},
                visitors=stranger,
                via=instance.name,
                connections={"fresh": 1.0},
                values={"seconds": f"{seconds_each:g}"},
            )
        ) as browsing:
            yield browsing

    @property
    def _has_slow(self) -> bool:
        return self._cluster.setup.app.slow is not None

    def _browsing_journeys(self) -> Mapping[str, float]:
        """What the setup has of looking, writing and reading; who only looks does only that."""
        known = self._cluster.setup.journey
        return {journey: share for journey, share in BROWSE.items() if journey in known}

    def _stream(self, name: str, *, rate: float, journeys: Mapping[str, float]) -> Stream:
        return Stream(
            name=name,
            rate=rate,
            journeys=journeys,
            visitors=[person.id for person in self._people],
            connections=_BOTH_CONNECTIONS,
        )

    def _slow(self, name: str, *, rate: float, via: str, seconds: float) -> Stream:
        """As many as were asked for, or as many as its instances can work on beside everything else, with one of them away."""
        at_once = self._cluster.works_on_at_once()
        if at_once is not None:
            instances = 1 if via != BALANCER else max(1, len(self._cluster.pool) - 1)
            rate = min(rate, _SHARE_OF_AT_ONCE * at_once * instances / seconds)
        return Stream(
            name=name,
            rate=rate,
            journeys={SLOW: 1.0},
            visitors=[person.id for person in self._people],
            via=via,
            connections={"fresh": 1.0},
            values={"seconds": f"{seconds:g}"},
        )

    def _within_bounds(self, streams: Sequence[Stream]) -> Sequence[Stream]:
        """The same, slowed down where a site is not to be sent so much: whoever asks for less than its share gets that, and
        the others share what is left (max-min fairness: of few slow requests none is given up for many quick ones)."""
        most = self._cluster.most_per_second
        if most is None:
            return streams
        left, given = most, {}
        by_need = sorted(streams, key=lambda stream: stream.rate * self._requests_each(stream.journeys))
        for place, stream in enumerate(by_need):
            each = self._requests_each(stream.journeys)
            share = min(stream.rate * each, left / (len(by_need) - place))
            left -= share
            given[stream.name] = replace(stream, rate=share / each)
        return [given[stream.name] for stream in streams]

    def _requests_each(self, journeys: Mapping[str, float]) -> float:
        """How many requests a visit is, on average."""
        known = self._cluster.setup.journey
        steps = {name: len(known[name].steps) if name in known else 1 for name in journeys}
        return sum(share * steps[name] for name, share in journeys.items()) / sum(journeys.values())

    @contextmanager
    def _running(self, *streams: Stream) -> Iterator[Browsing]:
        with ExitStack() as stack:
            bounded = self._within_bounds(streams)
            for stream in bounded:
                self._traffic.start_stream(stream)
                stack.callback(self._traffic.stop_stream, stream.name)
            yield Browsing(lambda: self.history, rate=sum(stream.rate for stream in bounded))


class Browsing:
    """Traffic that is under way."""

    def __init__(self, history: Callable[[], History], *, rate: float) -> None:
        """`rate`: visits per second that are begun, of all streams."""
        self._history = history
        self._rate = rate

    def run_for(self, *, seconds: float, visits: int = 0) -> None:
        """Let it go on for a while, and for as long as so many visits take to be begun at the rate there is."""
        clock.sleep(max(seconds, visits / self._rate) if self._rate else seconds)

    def run_until_answered_by(self, instance: Instance | str, *, times: int, within_seconds: float) -> None:
        """Let it go on until the instance has answered so often through the balancer, or the bound has passed.

        That it never answered is for a checker to say, from the history.
        """
        since = clock.now()

        def answered() -> bool:
            history = self._history()
            asked = (op for op in history.operations if op.via == BALANCER and op.due >= since)
            return sum(op.available and who_answered(op, history.instances) == str(instance) for op in asked) >= times

        with suppress(WaitTimeout):
            wait_until(
                answered,
                within_seconds=within_seconds,
                every_seconds=_LOOK_EVERY_SECONDS,
                because=f"{instance} should answer through the balancer again",
            )
