"""The parts of the traffic that need no socket: cookies, people, schedules, who answered, streams and the gap."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from harness.journeys import Judgement, compile_journeys
from harness.model import UNNAMED, Answer, Connection, Operation, Outcome, longest_gap
from harness.traffic import sources
from harness.traffic.cookies import CookieJar
from harness.traffic.people import People, text_of
from harness.traffic.plans import plan_journeys
from harness.traffic.schedule import Schedule
from harness.traffic.sources import OpenLoop
from harness.traffic.upstream import read_upstream
from harness.traffic.visits import Origin

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


def jar() -> CookieJar:
    return CookieJar(now=lambda: NOW)


class TestCookies:
    def test_are_sent_back_verbatim_and_everywhere(self):
        """Quotes, equals signs and `Secure` change nothing: the value goes back as it came."""
        cookies = jar()
        cookies.take(['a="x=y"; Secure; HttpOnly; Path=/only/here', "b=; Domain=elsewhere", "c=1%2B|2"])
        assert cookies.line == b'Cookie: a="x=y"; b=; c=1%2B|2\r\n'

    def test_the_last_value_counts(self):
        """A cookie that is set again is replaced, also within one answer."""
        cookies = jar()
        cookies.take(["sid=1", "sid=2"])
        cookies.take(["sid=3"])
        assert cookies.line == b"Cookie: sid=3\r\n"

    @pytest.mark.parametrize(
        ("attributes", "stays"),
        [
            ("Max-Age=0", False),
            ("max-age=-1", False),
            ("Max-Age=60", True),
            ("Max-Age=99999999999999999999", True),
            ("Max-Age=soon", True),
            ("Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
            ("Expires=Thu, 01-Jan-1970 00:00:00 GMT", False),
            ("Expires=Tue, 24 Nov 2026 18:00:00 GMT", True),
            ("Expires=whenever", True),
            ("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
            ("Max-Age=0; Expires=Tue, 24 Nov 2026 18:00:00 GMT", False),
        ],
    )
    def test_go_when_they_are_expired(self, attributes, stays):
        """Max-Age outranks Expires; what cannot be read expires nothing."""
        cookies = jar()
        cookies.take(["sid=1", f"sid=2; {attributes}"])
        assert cookies.line == (b"Cookie: sid=2\r\n" if stays else b"")

    def test_nonsense_sets_nothing(self):
        """A line without a name is no cookie."""
        cookies = jar()
        cookies.take(["", "novalue", "=x", ";;;"])
        assert cookies.line == b""


class TestPeople:
    def test_follow_from_the_seed(self):
        """The same seed brings the same people, another seed others."""
        one, same, other = (People(seed).arrive(3) for seed in (1, 1, 2))
        assert [visitor.person for visitor in one] == [visitor.person for visitor in same]
        assert not {visitor.person.email for visitor in one} & {visitor.person.email for visitor in other}

    @pytest.mark.parametrize(
        ("page", "expected"),
        [
            ("nobody here", False),
            ("Hi {own}", False),
            ("Hi {other}", True),
            ("Hi {own}, not {other}", True),
            ("{other}{own}", True),
            ("write to v0123456789abcdef@example.org or help@example.org", False),
            ("Hi {other_escaped}", True),
            ("Hi {own_escaped}", False),
            ("@example.org", False),
        ],
    )
    def test_a_page_that_names_another_is_noticed(self, page, expected):
        """Only addresses of visitors known here count, however the at sign is written."""
        people = People(1)
        own, other = people.arrive(2)
        names = {"own": own.person.email, "other": other.person.email}
        escaped = {f"{who}_escaped": email.replace("@", "&#64;") for who, email in names.items()}
        assert people.names_somebody_else(page.format(**names, **escaped).encode(), own) is expected

    def test_a_copied_browser_is_the_same_person(self):
        """It holds the cookies of that moment, or none, and its own page is not somebody else's."""
        people = People(1)
        (original,) = people.arrive(1)
        original.jar.take(["sid=1"])
        original.values["token"] = "t"
        with_cookies, without = *people.copy([original], cookies=True), *people.copy([original], cookies=False)
        original.jar.take(["sid=; Max-Age=0"])
        assert (with_cookies.jar.line, without.jar.line) == (b"Cookie: sid=1\r\n", b"")
        assert ("token" in with_cookies.values, "token" in without.values) == (True, False)
        assert not people.names_somebody_else(original.person.email.encode(), with_cookies)

    def test_the_password_does_not_show_in_what_is_printed(self):
        """A traceback shows objects."""
        (visitor,) = People(1).arrive(1)
        assert visitor.person.password not in repr(visitor.person)

    def test_the_text_of_a_record_follows_from_it(self):
        """Whoever reads knows what was written."""
        assert text_of("a") == text_of("a") != text_of("b")


def schedule(**changes) -> Schedule:
    given = {
        "seed": 7,
        "scenario": "s",
        "stream": "browse",
        "begin": 100.0,
        "rate": 100.0,
        "visitors": ["v1", "v2", "v3"],
        "journeys": {"whoami": 8, "write": 1, "read": 1},
        "connections": {Connection.FRESH: 1, Connection.REUSED: 1},
    }
    return Schedule(**(given | changes))


class TestSchedule:
    def test_repeats_with_its_seed_scenario_and_stream(self):
        """Any other of the three gives another one."""
        first, again = ([schedule().draw() for _ in range(1)] for _ in range(2))
        assert first == again
        draws = {
            name: [plan.draw()[1:] for _ in range(50)]
            for name, plan in {
                "same": schedule(),
                "begun later": schedule(begin=500.0),
                "seed": schedule(seed=8),
                "scenario": schedule(scenario="t"),
                "stream": schedule(stream="slow"),
            }.items()
        }
        assert draws["same"] == draws["begun later"]
        assert all(draws[other] != draws["same"] for other in ("seed", "scenario", "stream"))

    def test_is_evenly_spaced_without_drift(self):
        """After a million arrivals the next is due to the microsecond."""
        plan = schedule(rate=300.0)
        dues = [plan.draw()[0] for _ in range(3_001)]
        assert dues[0] == 100.0
        assert dues[3_000] == pytest.approx(110.0, abs=1e-9)
        assert max(later - earlier for earlier, later in pairwise(dues)) < 0.00334

    def test_a_fast_stream_comes_in_evenly_spaced_groups(self):
        """Above 500 a second one group is due every 20 ms, and says so."""
        plan = schedule(rate=2_000.0)
        dues = Counter(round(plan.draw()[0], 6) for _ in range(400))
        assert dues == {round(100.0 + 0.02 * group, 6): 40 for group in range(10)}
        assert (plan.interval_seconds, schedule().interval_seconds) == (0.02, 0.01)

    def test_keeps_the_shares(self):
        """Shares need not add up to one; a share of nought never comes."""
        plan = schedule(
            connections={
                Connection.FRESH: 3,
                Connection.REUSED: 1,
            }
        )
        drawn = [plan.draw() for _ in range(4_000)]
        journeys = Counter(journey for _, _, journey, _ in drawn)
        kinds = Counter(kind for _, _, _, kind in drawn)
        assert 3_050 < journeys["whoami"] < 3_350
        assert 2_850 < kinds[Connection.FRESH] < 3_150
        only = schedule(journeys={"whoami": 0, "write": 1})
        assert {only.draw()[2] for _ in range(200)} == {"write"}


NAMES = {"127.0.0.1:1": "app-1", "127.0.0.1:2": "app-2"}


class TestWhoAnswered:
    @pytest.mark.parametrize(
        ("upstream", "statuses", "status", "expected"),
        [
            ("127.0.0.1:1", "200", 200, ("app-1", ("app-1",))),
            ("127.0.0.1:1", None, 200, ("app-1", ("app-1",))),
            ("127.0.0.1:1, 127.0.0.1:2", "502, 200", 200, ("app-2", ("app-1", "app-2"))),
            ("127.0.0.1:1 : 127.0.0.1:2", "404 : 200", 200, ("app-2", ("app-1", "app-2"))),
            ("127.0.0.1:1, 127.0.0.1:2", "502, 502", 502, (None, ("app-1", "app-2"))),
            ("127.0.0.1:1", "504", 504, (None, ("app-1",))),
            ("127.0.0.1:1", "500", 500, ("app-1", ("app-1",))),
            ("127.0.0.1:1", "200", 413, (None, ("app-1",))),
            ("instances", "502", 502, (None, ())),
            ("127.0.0.1:1, instances", "504, 503", 503, (None, ("app-1",))),
            ("127.0.0.1:9", "200", 200, ("127.0.0.1:9", ("127.0.0.1:9",))),
            ("", "", 404, (None, ())),
        ],
    )
    def test_is_read_from_the_balancer_s_header(self, upstream, statuses, status, expected):
        """Every attempt in order; who answered only when the answer is an attempt's; a stranger by address."""
        assert read_upstream(upstream, statuses, status, names=NAMES) == expected

    @pytest.mark.parametrize(
        ("upstream", "statuses", "retries", "status", "expected"),
        [
            ("app-1", "200", "0", 200, ("app-1", ("app-1",))),
            ("app-1", "503", "0", 503, ("app-1", ("app-1",))),
            # Tried again at the same instance, which the missing plus says.
            ("app-1", "200", "2", 200, ("app-1", ("app-1", "app-1", "app-1"))),
            # Tried elsewhere before; nobody says where.
            ("app-1", "200", "+1", 200, ("app-1", (UNNAMED, "app-1"))),
            ("app-1", "-", "+2", 503, (None, (UNNAMED, UNNAMED, "app-1"))),
            ("app-1", "-", "0", 503, (None, ("app-1",))),
            ("app-1", "-", "0", 504, (None, ("app-1",))),
            ("<NOSRV>", "-", "0", 503, (None, ())),
            ("<NOSRV>", "-", "1", 503, (None, (UNNAMED,))),
            ("app-1", "200", "many", 200, ("app-1", ("app-1",))),
        ],
    )
    def test_is_read_from_the_name_and_the_count_of_haproxy(self, upstream, statuses, retries, status, expected):
        """What it does not tell of earlier attempts is not made up: they are counted, and unnamed."""
        names = {**NAMES, "app-1": "app-1"}
        assert read_upstream(upstream, statuses, status, names=names, retries=retries) == expected


UNSENT = Judgement(Answer.FAILED, Outcome.FAILED, "unsent")


class FakeLoop:
    """Keeps what it is asked to call, and calls it when told."""

    def __init__(self):
        self.calls = []

    def call_later(self, seconds, call):
        self.calls.append((seconds, call))
        return self

    def cancel(self):
        self.calls.clear()


class FakeEngine:
    """Takes visits and does nothing with them until told."""

    def __init__(self):
        self.scenario = "s"
        self.people = People(1)
        journeys = {
            "whoami": {"steps": [{"get": "/"}]},
            "write": {"steps": [{"post": "/{record}"}]},
            "read": {"steps": [{"get": "/{record}"}]},
        }
        self.plans = plan_journeys(compile_journeys(journeys), {})
        self.begun, self.refused, self.records = [], [], 0

    def new_origin(self, stream, *, timeout_seconds, pool_size, interval_seconds):
        return Origin(
            scenario="s",
            stream=stream,
            timeout_seconds=timeout_seconds,
            pool_size=pool_size,
            interval_seconds=interval_seconds,
        )

    def new_record(self):
        self.records += 1
        return f"r{self.records}"

    def begin(self, visit):
        visit.origin.in_flight += 1
        self.begun.append(visit)

    def not_sent(self, visit, why):
        self.refused.append((visit, why))
        visit.on_end(visit, sources.End(UNSENT, None, None))

    def flush(self):
        pass


class TestOpenLoop:
    @pytest.fixture
    def clock(self, monkeypatch):
        moment = [50.0]
        monkeypatch.setattr(sources.clock, "now", lambda: moment[0])
        return moment

    def stream(self, engine, loop, **changes):
        given = {
            "name": "browse",
            "rate": 10.0,
            "journeys": {"whoami": 1},
            "visitors": [engine.people.arrive(1)[0].id],
            "via": "balancer",
            "connections": {Connection.FRESH: 1},
            "values": {},
            "timeout_seconds": 1.0,
            "seed": 1,
        }
        return OpenLoop(loop, engine, **(given | changes))

    def tick(self, loop):
        (_, call), loop.calls = loop.calls[-1], []
        call()

    def test_sends_by_the_clock_whatever_comes_back(self, clock):
        """Not one answer came, and every arrival that was due has been sent, each with its own due time."""
        engine, loop = FakeEngine(), FakeLoop()
        self.stream(engine, loop)
        clock[0] = 50.0 + 0.005 + 0.95
        self.tick(loop)
        assert [round(visit.due - 50.005, 6) for visit in engine.begun] == [round(0.1 * n, 6) for n in range(10)]

    def test_what_was_sent_late_and_what_never_is_told(self, clock):
        """More than 100 ms late counts as late; more than a second late is not sent, and recorded as that."""
        engine, loop = FakeEngine(), FakeLoop()
        stream = self.stream(engine, loop)
        clock[0] = 50.005 + 1.55
        self.tick(loop)
        told = []
        for visit in engine.begun:
            visit.origin.in_flight -= 1
        stream.stop(lambda pace, counts: told.append((pace, counts)))
        ((pace, counts),) = told
        assert (len(engine.begun), len(engine.refused)) == (10, 6)
        assert "late" in engine.refused[0][1]
        assert (counts.planned, counts.sent, counts.late, counts.in_flight_waited) == (16, 10, 15, 0)
        assert (pace.planned, pace.rate, round(pace.begin, 6), round(pace.end, 6)) == (16, 10.0, 50.005, 51.555)

    def test_a_stop_waits_for_what_is_in_flight(self, clock):
        """It is over when the last visit has ended, not before."""
        engine, loop, told = FakeEngine(), FakeLoop(), []
        stream = self.stream(engine, loop)
        clock[0] = 50.005 + 0.15
        self.tick(loop)
        stream.stop(lambda pace, counts: told.append(counts))
        assert not told
        for visit in engine.begun:
            visit.origin.in_flight -= 1
            visit.on_end(visit, sources.End(UNSENT, None, None))
        assert told[0].in_flight_waited == 2

    def test_who_has_nothing_to_read_writes(self, clock):
        """And it is a write in the record too; once something is acknowledged, that is read."""
        engine, loop = FakeEngine(), FakeLoop()
        self.stream(engine, loop, journeys={"read": 1})
        clock[0] = 50.005
        self.tick(loop)
        (visit,) = engine.begun
        assert (visit.plan.journey.name, visit.record) == ("write", "r1")
        visit.visitor.records.append("r1")
        clock[0] = 50.15
        self.tick(loop)
        visit = engine.begun[-1]
        assert (visit.plan.journey.name, visit.record, visit.extras["text"]) == ("read", "r1", text_of("r1"))


GOOD = Operation(
    stream="browse",
    kind="whoami",
    step=0,
    final=True,
    visitor="v1",
    method="GET",
    path="/",
    via="balancer",
    connection=Connection.FRESH,
    due=0.0,
    sent=0.0,
    answered=0.0,
    instance="app-1",
    attempts=("app-1",),
    status=200,
    outcome=Outcome.OK,
    answer=Answer.RECOGNISED,
)


def silence(*, seconds: float, begins: float, interval: float, held: bool, until: float = 6.0) -> list[Operation]:
    """What evenly spaced probes see of a server that says nothing for a while: they are held, or they are lost."""
    operations = []
    for number in range(int(until / interval)):
        due = number * interval
        answered = due + 0.0005
        if begins <= due < begins + seconds or begins <= answered < begins + seconds:
            answered = begins + seconds + 0.0005
            if not held:
                operations.append(
                    replace(GOOD, due=due, sent=due, answered=None, outcome=Outcome.FAILED, answer=Answer.FAILED)
                )
                continue
        operations.append(replace(GOOD, due=due, sent=due, answered=answered))
    return operations


class TestGap:
    @pytest.mark.parametrize("held", [True, False], ids=["held", "lost"])
    @pytest.mark.parametrize("interval", [0.005, 0.01, 0.02])
    @pytest.mark.parametrize("seconds", [0.2, 0.5, 2.0])
    def test_is_within_one_probe_interval_of_the_truth(self, seconds, interval, held):
        """Wherever the silence begins between two probes, and whether probes in it are held or lost."""
        for shift in range(20):
            operations = silence(seconds=seconds, begins=3.0 + shift * interval / 20, interval=interval, held=held)
            gap = longest_gap(operations, interval_seconds=interval)
            assert abs(gap.seconds - seconds) <= interval + 1e-6, (shift, gap)

    def test_of_a_healthy_setup_is_nought(self):
        """One probe interval passes between two answers, and is no gap."""
        operations = [replace(GOOD, due=n / 100, answered=n / 100 + 0.001) for n in range(100)]
        assert longest_gap(operations, interval_seconds=0.01, begin=0.0, end=1.0).seconds < 0.002

    def test_reaches_to_the_end_when_nobody_answers_any_more(self):
        """And from the beginning when nobody did yet."""
        operations = [replace(GOOD, answered=4.0), replace(GOOD, answered=4.01)]
        assert longest_gap(operations, interval_seconds=0.01, begin=0.0, end=5.0).seconds == pytest.approx(3.99)
        assert longest_gap(operations, interval_seconds=0.01, begin=4.0, end=9.0).end == 9.0
        assert longest_gap([], interval_seconds=0.01, begin=0.0, end=2.0).seconds == pytest.approx(1.99)
        assert longest_gap([], interval_seconds=0.01).seconds == 0.0

    def test_failures_do_not_end_it_and_being_logged_out_does(self):
        """A gap is the time without a proper answer; the log-in page is one."""
        failed = replace(GOOD, answered=1.0, outcome=Outcome.UNKNOWN, answer=Answer.FAILED)
        logged_out = replace(GOOD, answered=1.0, outcome=Outcome.FAILED, answer=Answer.LOGGED_OUT)
        ends = [replace(GOOD, answered=0.0), replace(GOOD, answered=2.0)]
        assert longest_gap([*ends, failed], interval_seconds=0.0).seconds == 2.0
        assert longest_gap([*ends, logged_out], interval_seconds=0.0).seconds == 1.0
