"""What the instances of an application keep together, used through each of them and at the same time: files, numbers, keys
of requests, names, limits, settings.

Everybody logs in through the very instance they then ask, so that what is seen says nothing of sessions. Must not: conclude
anything from an answer; what was told is written down for the checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from random import Random

from harness import clock
from harness.checkers import bounds
from harness.cluster import Cluster
from harness.errors import HarnessError, WaitTimeout
from harness.layouts import Instance
from harness.listening import Listener
from harness.model import Look, Outcome
from harness.setup import expand
from harness.traffic import Result, Task
from harness.visitors import BALANCER, Visitors, new_record
from harness.waiting import wait_until

__all__ = ["Shared"]

_LOOK_EVERY_SECONDS = 0.1
_GIVE_UP_SECONDS = 2.5
"""Above the time in which an application notices that its database does not answer, and a balancer that an instance does not."""
_ONE_MORE_LOOK_SECONDS = 0.5
"""Beyond a bound, so that the last look surely lies behind it."""


class Shared:
    """One scenario's use of what is shared. Instances are asked directly, each by its name."""

    def __init__(self, *, cluster: Cluster, visitors: Visitors, random: Random) -> None:
        self._cluster = cluster
        self._visitors = visitors
        self._random = random

    # -- things -----------------------------------------------------------------------------------------------

    def hand_files_in_and_get_them_back(self) -> None:
        """One person for each instance hands a file in there, and gets it back through every instance."""
        names = self._cluster.names
        tasks: list[Task] = []
        for person, home in zip(self._visitors.newcomers(len(names)), names, strict=True):
            record = new_record(self._random)
            tasks += [*_arrive(person, home), Task(person, "upload", home, stream="files", record=record)]
            for reader in names:
                tasks.append(Task(person, "login", reader, stream="files"))
                tasks.append(Task(person, "download", reader, stream="files", record=record))
        self._visitors.perform(tasks)

    def draw_numbers(self, *, people_each: int, times: int) -> None:
        """So many people on each instance are each given a number so often, all at the same time."""
        homes = [name for name in self._cluster.names for _ in range(people_each)]
        people = self._visitors.newcomers(len(homes))
        self._visitors.perform([task for pair in zip(people, homes, strict=True) for task in _arrive(*pair)])
        draws = [
            Task(person, "number", home, stream="numbers")
            for person, home in zip(people, homes, strict=True)
            for _ in range(times)
        ]
        self._tell("number", "number", draws, self._visitors.perform(draws))

    def do_once(self, *, keys: int) -> None:
        """One key is used through every instance one after the other, then so many through all at the same time."""
        names = self._cluster.names
        person = self._visitors.newcomers(1)[0]
        key = new_record(self._random)
        tasks = [Task(person, "register", names[0], stream="once")]
        for name in names:
            tasks.append(Task(person, "login", name, stream="once"))
            tasks.append(Task(person, "once", name, stream="in-turn", record=key))
        self._tell("once", "effect", tasks, self._visitors.perform(tasks))
        browsers = self._visitors.other_browsers(person, len(names))
        self._visitors.perform([Task(who, "login", at, stream="once") for who, at in zip(browsers, names, strict=True)])
        for _ in range(keys):
            key = new_record(self._random)
            tasks = [
                Task(who, "once", at, stream="at-once", record=key) for who, at in zip(browsers, names, strict=True)
            ]
            self._tell("once", "effect", tasks, self._visitors.perform(tasks))

    def raise_tally(self, *, people_each: int, times: int) -> None:
        """A number that all share is raised once, then by many at the same time through every instance, then once more."""
        homes = [name for name in self._cluster.names for _ in range(people_each)]
        people = self._visitors.newcomers(len(homes))
        self._visitors.perform([task for pair in zip(people, homes, strict=True) for task in _arrive(*pair)])
        record = new_record(self._random)

        def raised(stream: str, who: Sequence[str], count: int) -> None:
            tasks = [
                Task(person, "tally", home, stream=stream, record=record)
                for person, home in zip(who, homes, strict=False)
                for _ in range(count)
            ]
            self._tell("tally", "total", tasks, self._visitors.perform(tasks))

        raised("first", people[:1], 1)
        raised("together", people, times)
        raised("last", people[:1], 1)

    # -- rules ------------------------------------------------------------------------------------------------

    def register_same_names(self, *, names: int) -> None:
        """One person registers twice, one after the other; then so many names are each registered through all instances
        at the same time."""
        where = self._cluster.names
        known = self._visitors.newcomers(1)[0]
        again = self._visitors.other_browsers(known, 1)[0]
        self._visitors.perform([Task(known, "register", where[0], stream="first")])
        self._visitors.perform([Task(again, "register", where[0], stream="again")])
        for person in self._visitors.newcomers(names):
            browsers = [person, *self._visitors.other_browsers(person, len(where) - 1)]
            self._visitors.perform(
                [Task(who, "register", at, stream="same-name") for who, at in zip(browsers, where, strict=True)]
            )

    def use_up_limits(self, *, people: int) -> None:
        """One person after the other does what is limited, through every instance at the same time, and more often at each
        than the limit of all."""
        names, rate_limit = self._cluster.names, self._cluster.setup.app.rate_limit
        if rate_limit is None:
            raise HarnessError("only a setup with app.rate_limit has a limit to use up")
        crowds = []
        for person in self._visitors.newcomers(people):
            browsers = [person, *self._visitors.other_browsers(person, len(names) - 1)]
            self._visitors.perform([Task(person, "register", names[0], stream="limits")])
            pairs = tuple(zip(browsers, names, strict=True))
            self._visitors.perform([Task(who, "login", at, stream="limits") for who, at in pairs])
            crowds.append(pairs)
        for pairs in crowds:
            self._visitors.perform(
                [Task(who, "limited", at, stream="limits") for who, at in pairs for _ in range(rate_limit.limit + 2)]
            )

    def change_setting(self) -> None:
        """A setting is changed through one instance, and looked at through every one until all show it, or the bound has
        passed; then it is changed again, through another."""
        names = self._cluster.names
        person = self._visitors.newcomers(1)[0]
        browsers = [person, *self._visitors.other_browsers(person, len(names) - 1)]
        self._visitors.perform([Task(person, "register", names[0], stream="setting")])
        self._visitors.perform(
            [Task(who, "login", at, stream="setting") for who, at in zip(browsers, names, strict=True)]
        )
        for place in (0, -1):
            record = new_record(self._random)
            change = Task(browsers[place], "change", names[place], stream="setting", record=record)
            self._visitors.perform([change])
            looks = [
                Task(who, "see", at, stream="setting", record=record) for who, at in zip(browsers, names, strict=True)
            ]
            self._until(
                partial(self._all_done, looks),
                within_seconds=bounds.SETTING_SECONDS + _ONE_MORE_LOOK_SECONDS,
                because="every instance should show what was changed",
            )

    # -- jobs -------------------------------------------------------------------------------------------------

    def who_ran_last(self) -> Instance:
        """The instance that ran the latest job, where that can be told; else any."""
        self.watch_jobs(runs=1)
        looks = [look for look in self._visitors.history.looks_at("jobs") if look.value.get("runs")]
        last = looks[-1].value["runs"][0].get("by") if looks else None
        return next(
            (each for each in self._cluster.instances if each.name == last),
            self._random.choice(self._cluster.instances),
        )

    def watch_jobs(self, *, runs: int, besides: Instance | None = None) -> None:
        """Look at what was run until so many more have been, by others than `besides`, or the bound has passed."""
        jobs = self._cluster.setup.app.jobs
        if jobs is None:
            raise HarnessError("only a setup with app.jobs tells of its jobs")
        asked = next(each for each in self._cluster.instances if each is not besides)
        path = jobs.runs

        def dues() -> set[str]:
            told = self._cluster.look("jobs", asked, path).value.get("runs")
            each = [run for run in told if isinstance(run, Mapping)] if isinstance(told, list) else []
            return {str(run.get("due")) for run in each if besides is None or run.get("by") != besides.name}

        known = dues()
        self._until(
            lambda: len(dues() - known) >= runs,
            within_seconds=bounds.JOBS_RESUME_SECONDS + (runs + 1) * jobs.every_seconds,
            because="jobs should be run",
        )

    # -- talk -------------------------------------------------------------------------------------------------

    def say_to_everybody(self) -> None:
        """Two people are connected to each instance; one of the two says something, and everybody should hear it.

        Raises:
            NothingTested: somebody could not be connected.
        """
        websocket = self._cluster.setup.app.websocket
        if websocket is None:
            raise HarnessError("only a setup with app.websocket has something to hear")
        headers = self._cluster.setup.traffic.headers
        instances = self._cluster.instances
        words = {each.name: f"said {new_record(self._random)}" for each in instances}
        with ExitStack() as stack:
            speakers, listeners = (
                {
                    each.name: stack.enter_context(Listener(each.target, websocket.path, headers=headers))
                    for each in instances
                }
                for _ in range(2)
            )
            for name, speaker in speakers.items():
                speaker.say(expand(websocket.message, {"text": words[name]}))
            self._until(
                lambda: all(each.has_heard(text) for each in listeners.values() for text in words.values()),
                within_seconds=bounds.HEARD_SECONDS,
                because="everybody should hear what was said",
            )
            for said_via, text in words.items():
                for name, listener in listeners.items():
                    value = {"said_via": said_via, "heard": listener.has_heard(text)}
                    self._cluster.record(Look(what="heard", node=name, at=clock.now(), status=None, value=value))

    # -- connections that are idle ----------------------------------------------------------------------------

    def keep_connections_idle(self) -> None:
        """Ask each instance once on a connection that is then kept, as a balancer does, and see when it is ended."""
        seconds = self._cluster.setup.balancer.keepalive_seconds
        watched = min(seconds + bounds.IDLE_MARGIN_SECONDS, bounds.IDLE_WATCHED_SECONDS)
        self._cluster.look_at_idle_connections(watched_seconds=watched)

    # -- without what they need -------------------------------------------------------------------------------

    def people_who_need_the_database(self) -> tuple[str, ...]:
        """One for each instance, who has registered there."""
        names = self._cluster.names
        people = self._visitors.newcomers(len(names))
        self._visitors.perform([task for pair in zip(people, names, strict=True) for task in _arrive(*pair)])
        return tuple(people)

    def look_at_readiness(self, *, wanted: bool) -> None:
        """Ask every instance whether it is ready, until all say what is wanted or the bound has passed."""
        path = self._cluster.setup.app.ready
        if path is None:
            raise HarnessError("only a setup with app.ready says when it is ready")

        def all_say_so() -> bool:
            looks = self._cluster.look_at_all("ready", path)
            return all(look.well is wanted for look in looks)

        self._until(
            all_say_so,
            within_seconds=bounds.READY_SECONDS + _ONE_MORE_LOOK_SECONDS,
            because=f"every instance should say {'ready' if wanted else 'that it is not ready'}",
        )

    def use_the_database(self, people: Sequence[str], *, until_it_works: bool = False) -> None:
        """Each writes, or logs in where there is no journey for that, through their own instance."""
        journey = "write" if "write" in self._cluster.setup.journey else "login"
        tasks = [
            Task(person, journey, home, stream="needs-database")
            for person, home in zip(people, self._cluster.names, strict=True)
        ]
        if until_it_works:
            self._until(
                partial(self._all_done, tasks),
                within_seconds=bounds.REJOIN_SECONDS,
                because="what needs the database should work again",
            )
        else:
            self._visitors.perform(tasks)

    # -- what the balancer makes of them ----------------------------------------------------------------------

    def look_at_balancer_view(self, *, dead: Instance | None = None) -> None:
        """Ask every instance how it is, and the balancer what it thinks of each, until that is true or the bound has passed."""

        def is_true() -> bool:
            looks = self._cluster.look_at_balancer_view()
            return bool(looks) and all(look.value["up"] is (dead is None or look.node != dead.name) for look in looks)

        self._until(
            is_true,
            within_seconds=bounds.VIEW_SECONDS + _ONE_MORE_LOOK_SECONDS,
            because="the balancer should know how every instance is",
        )

    def numbers_of_their_own(self, *, people_each: int, browsers_each: int) -> Mapping[str, str]:
        """So many people on each instance, who have logged in there, each in so many browsers; each browser with the name of a
        number that nobody else raises."""
        homes = [name for name in self._cluster.names for _ in range(people_each)]
        people = self._visitors.newcomers(len(homes))
        self._visitors.perform([task for pair in zip(people, homes, strict=True) for task in _arrive(*pair)])
        browsers = self._visitors.copies_of(people * browsers_each)
        return {browser: new_record(self._random) for browser in browsers}

    def raise_once(self, numbers: Mapping[str, str]) -> None:
        """Each browser raises its own number once, through the balancer, all at the same time: so many that also who goes by what
        is in flight gives some to an instance that does not answer."""
        tasks = [Task(who, "tally", BALANCER, stream="sent-once", record=number) for who, number in numbers.items()]
        self._tell("tally", "total", tasks, self._visitors.perform(tasks))

    def count_raises(self, numbers: Mapping[str, str]) -> None:
        """Each browser raises its own number twice more, through an instance, one time after the other: that tells how often it had
        been raised before, also by what was still under way the first time."""
        names = self._cluster.names
        for _ in range(2):
            tasks = [
                Task(who, "tally", names[place % len(names)], stream="counted", record=number)
                for place, (who, number) in enumerate(numbers.items())
            ]
            self._tell("tally", "total", tasks, self._visitors.perform(tasks))

    def read_in_vain(self, people: Sequence[str], *, browsers_each: int) -> None:
        """Each reads what they wrote last, through the balancer, in so many browsers at the same time; nobody waits for longer
        than a moment. With nothing to read, nobody asks."""
        if not self._can_read:
            return
        tasks = [
            Task(who, "read", BALANCER, stream="burst", give_up_after_seconds=_GIVE_UP_SECONDS)
            for who in self._visitors.copies_of(list(people) * browsers_each)
        ]
        self._visitors.perform(tasks)

    def read_until_it_works(self, people: Sequence[str]) -> None:
        """The same again and again, until everybody can read or the bound has passed."""
        if not self._can_read:
            return
        tasks = [Task(who, "read", BALANCER, stream="after-burst") for who in people]
        self._until(
            partial(self._all_done, tasks),
            within_seconds=bounds.BURST_SECONDS + _ONE_MORE_LOOK_SECONDS,
            because="people should be served again",
        )

    @property
    def _can_read(self) -> bool:
        return {"write", "read"} <= set(self._cluster.setup.journey)

    # -- how --------------------------------------------------------------------------------------------------

    def _all_done(self, tasks: Sequence[Task]) -> bool:
        return all(each.outcome is Outcome.OK for each in self._visitors.perform(tasks))

    def _until(self, condition: Callable[[], bool], *, within_seconds: float, because: str) -> None:
        """That it never came true is for a checker to say."""
        with suppress(WaitTimeout):
            wait_until(condition, within_seconds=within_seconds, every_seconds=_LOOK_EVERY_SECONDS, because=because)

    def _tell(self, what: str, taken: str, tasks: Sequence[Task], results: Sequence[Result]) -> None:
        """Write down what was taken from the answers to this journey."""
        for task, result in zip(tasks, results, strict=True):
            if task.journey == what:
                value = {
                    "stream": task.stream,
                    "record": task.record,
                    "outcome": result.outcome.value,
                    "told": result.taken.get(taken) if result.outcome is Outcome.OK else None,
                }
                self._cluster.record(
                    Look(
                        what=what,
                        node=task.via,
                        at=clock.now(),
                        status=result.status,
                        value=value,
                        error=result.error or "",
                    )
                )


def _arrive(person: str, at: str) -> list[Task]:
    """A new person registers and logs in through one instance."""
    return [Task(person, "register", at, stream="arrive"), Task(person, "login", at, stream="arrive")]
