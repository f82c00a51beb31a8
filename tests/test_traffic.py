"""The traffic process against servers that behave, and servers that do not: what is sent, and what is recorded of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripted_server import ScriptedServer, Talk, serving

import harness
from harness.checkers import contradictions
from harness.errors import TrafficError
from harness.journeys import compile_journeys
from harness.model import Answer, Connection, Operation, Outcome
from harness.traffic import Journal, Stream, Task, Traffic, read_history

SCENARIO = "s"
FRESH, REUSED = Connection.FRESH, Connection.REUSED


class Rig:
    """One traffic process with one server as its balancer, and the journal it writes."""

    def __init__(self, folder: Path, server: ScriptedServer, journeys: dict, **changes) -> None:
        self.path = folder / "history.jsonl"
        self.server = server
        self.journal = Journal(self.path, run="test")
        record = {"t": "scenario", "scenario": SCENARIO, "seed": 1, "instances": ["app-1", "app-2"], "setup": {}}
        self.journal.append(record)
        host, port = server.address
        given = {
            "journal": self.path,
            "journeys": compile_journeys(journeys, values=["n"]),
            "targets": {"balancer": (host, port), "app-1": (host, port)},
            "names": {"10.0.0.1:80": "app-1", "10.0.0.2:80": "app-2"},
            "timeout_seconds": 5.0,
            "seed": 1,
        }
        self.traffic = Traffic(**(given | changes))

    def __enter__(self) -> Rig:
        self.traffic.start()
        self.traffic.begin_scenario(SCENARIO)
        return self

    def __exit__(self, *_) -> None:
        self.traffic.close()
        self.journal.close()

    def visitor(self) -> str:
        return self.traffic.new_visitors(1)[0]

    def ask(
        self, journey: str = "get", *, times: int = 1, connection: Connection = FRESH, **changes
    ) -> list[Operation]:
        """Let a new visitor do it so often, one after the other; the operations that came of it."""
        visitor = changes.pop("visitor", None) or self.visitor()
        before = len(self.operations())
        timeout_seconds = changes.pop("timeout_seconds", None)
        tasks = [Task(visitor, journey, connection=connection, **changes)] * times
        self.traffic.perform(tasks, timeout_seconds=timeout_seconds)
        return list(self.operations()[before:])

    def operations(self) -> tuple[Operation, ...]:
        return read_history(self.path, SCENARIO).operations


GET = {"get": {"steps": [{"get": "/x"}]}}


def paths(*names: str) -> dict:
    """A journey of one plain GET for each name."""
    return {name: {"steps": [{"get": f"/{name}"}]} for name in names}


@pytest.fixture
def rig(tmp_path, request):
    """A rig whose server and journeys a test gives as `@pytest.mark.parametrize("rig", [(journeys, scripts)], indirect=True)`."""
    journeys, scripts = getattr(request, "param", (GET, {}))
    with serving(**scripts) as server, Rig(tmp_path, server, journeys) as rig:
        yield rig


class TestConnections:
    def test_a_fresh_one_is_opened_for_the_request_and_closed_after_it(self, rig):
        """It says so to the server, and no two requests share one."""
        operations = rig.ask(times=3)
        assert [op.connection for op in operations] == [FRESH] * 3
        seen = rig.server.requests("/x")
        assert len({request.connection for request in seen}) == 3
        assert {request.headers["connection"] for request in seen} == {"close"}

    def test_a_reused_one_has_carried_a_request_before(self, rig):
        """The request that opens it is recorded as what it is: fresh."""
        operations = rig.ask(times=3, connection=REUSED)
        assert [op.connection for op in operations] == [FRESH, REUSED, REUSED]
        seen = rig.server.requests("/x")
        assert len({request.connection for request in seen}) == 1
        assert all("connection" not in request.headers for request in seen)

    def test_one_that_the_server_ended_while_idle_is_nobody_s_failure(self, rig):
        """It was gone before anything was sent: another is opened, and recorded as fresh."""
        (first,) = rig.ask(connection=REUSED)
        rig.server.end_connections()
        (second,) = rig.ask(connection=REUSED)
        assert [(op.connection, op.outcome) for op in (first, second)] == [(FRESH, Outcome.OK)] * 2

    def test_each_scenario_begins_without_kept_ones(self, rig):
        """What an earlier scenario left open would make its successor start differently."""
        rig.ask(connection=REUSED)
        rig.journal.append({"t": "scenario", "scenario": "t", "seed": 1, "instances": [], "setup": {}})
        rig.traffic.begin_scenario("t")
        rig.traffic.perform([Task(rig.visitor(), "get", connection=REUSED)])
        assert [op.connection for op in read_history(rig.path, "t").operations] == [FRESH]

    def test_whoever_has_an_address_comes_from_there(self, tmp_path):
        """On connections of their own; a kept one is whoever's turn it is to use it."""
        came_from: list[str] = []

        def on_connect(connection: socket.socket) -> bool:
            came_from.append(connection.getpeername()[0])
            return True

        with serving() as server, Rig(tmp_path, server, GET) as rig:
            server.on_connect = on_connect
            placed, other = rig.visitor(), rig.visitor()
            rig.traffic.place_visitors({placed: "127.9.8.7"})
            rig.ask(visitor=placed)
            rig.ask(visitor=other)
            rig.ask(visitor=placed, connection=REUSED)
            assert all(op.outcome is Outcome.OK for op in rig.operations())
        assert came_from == ["127.9.8.7", "127.0.0.1", "127.0.0.1"]

    def test_an_address_that_is_none_of_ours_is_the_rig_s_failure(self, rig):
        """Nobody was asked, and nobody is to blame."""
        visitor = rig.visitor()
        rig.traffic.place_visitors({visitor: "192.0.2.1"})
        (op,) = rig.ask(visitor=visitor)
        assert (op.error, op.sent) == ("unsent", None)

    def test_a_target_that_moves_is_left(self, rig):
        """Kept connections to its old address are closed; requests go to the new one, under its name."""
        rig.ask(connection=REUSED)
        with serving() as other:
            rig.traffic.retarget({"balancer": other.address}, {})
            (op,) = rig.ask(connection=REUSED)
            assert (op.connection, op.outcome, len(other.requests("/x"))) == (FRESH, Outcome.OK, 1)
            host, port = other.address
            assert other.requests("/x")[0].headers["host"] == f"{host}:{port}"


def reset(talk: Talk) -> None:
    talk.reset()


def hold(talk: Talk) -> None:
    talk.wait_until_released()
    talk.answer()


def close(talk: Talk) -> None:
    talk.close()


def close_when_reused(talk: Talk) -> None:
    if len(talk.server.requests("/x")) > 1:
        talk.close()
    else:
        talk.answer()


def say(answer: bytes):
    """A script that says these bytes and ends."""

    def script(talk: Talk) -> None:
        talk.send(answer)
        talk.close()

    return script


class TestNothingIsSentTwice:
    @pytest.mark.parametrize("rig", [(GET, {"x": reset})], indirect=True)
    def test_not_after_a_reset(self, rig):
        """It may have had its effect: unknown."""
        (op,) = rig.ask()
        assert (op.outcome, op.error, op.answer, op.answered) == (Outcome.UNKNOWN, "reset", Answer.FAILED, None)
        assert op.sent is not None
        assert len(rig.server.requests("/x")) == 1

    @pytest.mark.parametrize("rig", [(GET, {"x": close})], indirect=True)
    def test_not_after_a_connection_that_ends_without_an_answer(self, rig):
        """Nor when it is a GET, and harmless."""
        (op,) = rig.ask()
        assert (op.outcome, op.error) == (Outcome.UNKNOWN, "closed")
        assert len(rig.server.requests("/x")) == 1

    @pytest.mark.parametrize("rig", [(GET, {"x": close_when_reused})], indirect=True)
    def test_not_on_another_connection_when_a_reused_one_breaks(self, rig):
        """This is what clients hide that send again by themselves. The record says which kind it was."""
        first, second = rig.ask(times=2, connection=REUSED)
        assert (first.outcome, first.connection) == (Outcome.OK, FRESH)
        assert (second.outcome, second.error, second.connection) == (Outcome.UNKNOWN, "closed", REUSED)
        assert second.detail.startswith("on a reused connection")
        assert len(rig.server.requests("/x")) == 2

    @pytest.mark.parametrize(
        "rig", [(GET, {"x": lambda talk: talk.answer(b"no", status="502 Bad Gateway")})], indirect=True
    )
    def test_not_after_an_error_page(self, rig):
        """A gateway that lost the answer says nothing of the effect."""
        (op,) = rig.ask()
        assert (op.outcome, op.error, op.status, op.detail) == (Outcome.UNKNOWN, "http-502", 502, "no")
        assert len(rig.server.requests("/x")) == 1


class TestWhatIsRecorded:
    def test_a_refused_connection_surely_had_no_effect(self, rig):
        """Nothing was sent, so it failed; and it says why."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
            rig.traffic.retarget({"balancer": unused.getsockname()}, {})
            (op,) = rig.ask()
        assert (op.outcome, op.error, op.sent, op.answered) == (Outcome.FAILED, "refused", None, None)
        assert op.detail == "Connection refused"

    def test_a_connection_that_is_never_made_is_a_timeout_without_effect(self, rig):
        """Nobody took the connection, so nobody got the request: it failed, surely."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
            rig.traffic.retarget({"balancer": full.getsockname()}, {})
            (op,) = rig.ask(timeout_seconds=0.1)
        assert (op.outcome, op.error, op.sent) == (Outcome.FAILED, "timeout", None)
        assert op.detail == "not connected within 0.1 s"

    @pytest.mark.parametrize("rig", [(GET, {"x": Talk.wait_until_released})], indirect=True)
    def test_silence_is_a_timeout_and_unknown(self, rig):
        """The answer may still have been on its way."""
        (op,) = rig.ask(timeout_seconds=0.1)
        assert (op.outcome, op.error, op.detail) == (
            Outcome.UNKNOWN,
            "timeout",
            "no whole answer within 0.1 s; 0 bytes of it came",
        )

    def test_the_times_are_in_order(self, rig):
        """Due, then sent, then answered; on the clock of this machine."""
        (op,) = rig.ask()
        assert op.due <= op.sent <= op.answered

    @pytest.mark.parametrize(
        ("answer", "error", "status"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!", "truncated", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n", "truncated", 200),
            (b"HTTP/1.1 200 OK\r\nContent-", "truncated", None),
            (b"HTTP/1.1 99 Low\r\n\r\n", "malformed", None),
            (b"HTTP/1.1 abc OK\r\n\r\n", "malformed", None),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed", None),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed", None),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed", 200),
            # So long that the limit is passed before the read that brings its end, however the bytes are cut.
            (b"HTTP/1.1 200 OK\r\n" + b"X-Flood: " + b"x" * 200_000 + b"\r\n\r\n", "malformed", None),
            (b"HTTP/1.1 200 OK\r\n" + b"X-Flood: x\r\n" * 200_000 + b"\r\n", "malformed", None),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (5 * 1024 * 1024), "malformed", 200),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "malformed", None),
            (b"\x00\xff\xfe" * 50, "malformed", None),
        ],
        ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else str(value),
    )
    def test_a_broken_answer_is_no_answer(self, shared_rig, answer, error, status):
        """Whatever comes, the process goes on, and the record says what was wrong."""
        shared_rig.server.scripts["/broken"] = say(answer)
        (op,) = shared_rig.ask("broken")
        assert (op.outcome, op.error, op.answered) == (Outcome.UNKNOWN, error, None), op.detail
        assert op.detail
        if status is not None:
            assert op.status == status
        (after,) = shared_rig.ask()
        assert after.outcome is Outcome.OK

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r\n3\r\nole\r\n0\r\nX-Trailer: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nwhole",
            b"HTTP/1.0 200 OK\r\n\r\nwhole",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
        ],
        ids=["length", "chunked", "to the end", "http 1.0", "continue", "early hints"],
    )
    def test_every_way_to_end_a_body_is_understood(self, shared_rig, answer):
        """And the body is read to that end before it is judged."""
        shared_rig.server.scripts["/whole"] = say(answer)
        (op,) = shared_rig.ask("whole")
        assert (op.outcome, op.status) == (Outcome.OK, 200), op

    @pytest.mark.parametrize("rig", [(GET, {"x": say(b"HTTP/1.1 204 No Content\r\n\r\n")})], indirect=True)
    def test_an_answer_without_a_body_is_whole(self, rig):
        """204 has none, whatever its headers say."""
        (op,) = rig.ask()
        assert (op.outcome, op.status) == (Outcome.OK, 204)

    def test_slow_bytes_run_into_the_timeout(self, tmp_path):
        """The bound is on the whole answer, not on each byte."""

        def slowly(talk: Talk) -> None:
            talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not talk.server.released.wait(0.01):
                talk.send(b"x")

        with serving(x=slowly) as server, Rig(tmp_path, server, GET) as rig:
            (op,) = rig.ask(timeout_seconds=0.15)
            assert (op.outcome, op.error, op.status) == (Outcome.UNKNOWN, "timeout", 200)

    def test_who_answered_and_which_version(self, tmp_path):
        """By the balancer's word; asked directly, by whom was asked; the version by its header."""
        headers = "X-Harness-Upstream: 10.0.0.1:80, 10.0.0.2:80\r\nX-Harness-Upstream-Status: 502, 200\r\nX-V: 7\r\n"
        with (
            serving(x=lambda talk: talk.answer(headers=headers)) as server,
            Rig(tmp_path, server, GET, version_header="X-V") as rig,
        ):
            (op,) = rig.ask()
            assert (op.instance, op.attempts, op.version) == ("app-2", ("app-1", "app-2"), "7")
            (op,) = rig.ask(via="app-1")
            assert (op.via, op.instance, op.attempts) == ("app-1", "app-1", ())
            rig.traffic.retarget({"balancer": server.address}, {"10.0.0.2:80": "app-9"})
            (op,) = rig.ask()
            assert (op.instance, op.attempts) == ("app-9", ("10.0.0.1:80", "app-9"))

    def test_where_nobody_says_who_answered_nobody_is_named(self, tmp_path):
        """One of two instances would be right half of the time, and no check on who answered could be believed."""
        names = {"10.0.0.1:80": "app-1"}
        with serving() as server, Rig(tmp_path, server, GET, names=names) as rig:
            (op,) = rig.ask()
            assert (op.outcome, op.instance, op.attempts) == (Outcome.OK, None, ())
            server.scripts["/x"] = reset
            (op,) = rig.ask()
            assert (op.outcome, op.instance, op.attempts) == (Outcome.UNKNOWN, None, ())

    def test_the_application_says_who_it_is(self, tmp_path):
        """A second witness, where the setup names a header: its word is kept, and that it says nothing."""
        said = iter(["X-Me: app-2\r\n", 'X-Me: "q"\r\n', ""])
        with (
            serving(x=lambda talk: talk.answer(headers=next(said))) as server,
            Rig(tmp_path, server, GET, instance_header="X-Me") as rig,
        ):
            assert [rig.ask()[0].named for _ in range(3)] == ["app-2", '"q"', ""]
        with (
            serving(x=lambda talk: talk.answer(headers="X-Me: app-2\r\n")) as server,
            Rig(tmp_path, server, GET) as rig,
        ):
            assert rig.ask()[0].named is None

    def test_a_cut_answer_still_tells_who_gave_it(self, tmp_path):
        """The head came: one can say which instance cut its answer short."""
        answer = b"HTTP/1.1 200 OK\r\nX-Harness-Upstream: 10.0.0.1:80\r\nContent-Length: 9\r\n\r\nabc"
        with serving(x=say(answer)) as server, Rig(tmp_path, server, GET) as rig:
            (op,) = rig.ask()
            assert (op.error, op.instance, op.attempts, op.status) == ("truncated", "app-1", ("app-1",), 200)
            assert op.detail == "ended after 3 of 9 bytes of its body"

    def test_the_headers_of_the_run_go_with_every_request(self, tmp_path):
        """A step's own outrank them; nothing is compressed."""
        journeys = {"get": {"steps": [{"get": "/x", "headers": {"X-A": "step"}}]}}
        headers = {"X-A": "run", "X-B": "run", "User-Agent": "mine"}
        with serving() as server, Rig(tmp_path, server, journeys, headers=headers) as rig:
            rig.ask()
            (seen,) = server.requests("/x")
        assert {name: seen.headers[name] for name in ("x-a", "x-b", "user-agent", "accept-encoding")} == {
            "x-a": "step",
            "x-b": "run",
            "user-agent": "mine",
            "accept-encoding": "identity",
        }


def application(talk: Talk) -> None:
    """Registers nobody, logs anybody in whose form carries the token, and knows people by their cookie."""
    seen = talk.seen
    if seen.method == "GET" and seen.path == "/login":
        return talk.answer(b"<input value='a&amp;b' name=csrf>", headers="Set-Cookie: pre=1\r\n")
    if seen.path == "/login":
        fields = dict(pair.split("=", 1) for pair in seen.body.decode().split("&"))
        if fields.get("csrf") != "a%26b":
            return talk.answer(b"no token", status="403 Forbidden")
        sid = f"Set-Cookie: sid={fields['email'].replace('%40', '@')}; Secure; HttpOnly\r\n"
        return talk.answer(status="303 See Other", headers=f"Location: /me\r\n{sid}Set-Cookie: pre=; Max-Age=0\r\n")
    sid = dict(pair.split("=", 1) for pair in seen.headers.get("cookie", "").split("; ") if pair).get("sid")
    if sid is None:
        return talk.answer(status="303 See Other", headers="Location: /login?next=/me\r\n")
    return talk.answer(f"<p>Hi {sid}</p>".encode())


LOGIN = [
    {"get": "/login", "take": {"csrf": {"field": "csrf"}}},
    {
        "post": "/login",
        "form": {"email": "{user.email}", "password": "{user.password}", "csrf": "{csrf}"},
        "expect": {"status": 303, "location": "/me"},
    },
]
PEOPLE = {
    "login": {"steps": LOGIN},
    "whoami": {
        "steps": [
            {
                "get": "/me",
                "recognised": {"status": 200, "contains": "{user.email}"},
                "logged_out": {"status": 303, "location": "/login*"},
            }
        ]
    },
    "wrong": {"steps": [LOGIN[0], LOGIN[1] | {"form": {"email": "{user.email}", "csrf": "x"}}, {"get": "/me"}]},
    "takeless": {"steps": [{"get": "/me", "take": {"t": {"field": "nowhere"}}}, {"get": "/me"}]},
    "early": {"steps": [{"get": "/me?t={t}"}]},
}
APPLICATION = (PEOPLE, {"login": application, "me": application})


class TestJourneys:
    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_a_visitor_logs_in_and_is_recognised(self, rig):
        """A token taken from a form, a cookie kept verbatim, and the page of the right person."""
        visitor = rig.visitor()
        results = rig.traffic.perform([Task(visitor, "whoami"), Task(visitor, "login"), Task(visitor, "whoami")])
        assert [result.answer for result in results] == [Answer.LOGGED_OUT, Answer.DONE, Answer.RECOGNISED]
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.OK, Outcome.OK]
        operations = rig.operations()
        assert [(op.kind, op.step, op.final, op.method, op.path) for op in operations] == [
            ("whoami", 0, True, "GET", "/me"),
            ("login", 0, False, "GET", "/login"),
            ("login", 1, True, "POST", "/login"),
            ("whoami", 0, True, "GET", "/me"),
        ]
        assert operations[0].error == "logged-out"
        cookies = [seen.headers.get("cookie") for seen in rig.server.seen]
        assert cookies[:3] == [None, None, "pre=1"]
        assert cookies[3].startswith("sid=v")
        assert "pre=" not in cookies[3]

    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_ends_at_the_first_step_that_is_not_ok(self, rig):
        """What would come after it is not sent, and the last operation is marked as the last."""
        operations = rig.ask("wrong")
        assert [(op.step, op.final, op.outcome) for op in operations] == [
            (0, False, Outcome.OK),
            (1, True, Outcome.FAILED),
        ]
        assert (operations[1].answer, operations[1].error) == (Answer.REFUSED, "http-403")

    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_a_page_without_what_is_to_be_taken_is_the_wrong_page(self, rig):
        """The step after it could not be filled in."""
        (op,) = rig.ask("takeless")
        assert (op.final, op.error, op.detail) == (True, "wrong-body", "nothing to take as {t}: no field 'nowhere'")

    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_what_cannot_be_filled_in_is_not_sent(self, rig):
        """It is the rig's failure, and named as that."""
        (op,) = rig.ask("early")
        assert (op.outcome, op.error, op.detail, op.sent) == (Outcome.FAILED, "unsent", "no value for {t}", None)
        assert rig.server.seen == []

    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_a_copied_browser_keeps_the_cookies_it_was_copied_with(self, rig):
        """With cookies it is logged in, without it is not; both are recorded under their owner's name."""
        visitor = rig.visitor()
        rig.traffic.perform([Task(visitor, "login")])
        copies = rig.traffic.copy_visitors([visitor]) + rig.traffic.copy_visitors([visitor], cookies=False)
        results = rig.traffic.perform([Task(copy, "whoami") for copy in copies])
        assert [result.answer for result in results] == [Answer.RECOGNISED, Answer.LOGGED_OUT]
        assert {op.visitor for op in rig.operations()} == {visitor}

    @pytest.mark.parametrize("rig", [APPLICATION], indirect=True)
    def test_the_page_of_somebody_else_is_noticed(self, rig):
        """A cache that gives one visitor's page to another is the worst an answer can be."""
        mine, theirs = rig.traffic.new_visitors(2)
        rig.traffic.perform([Task(mine, "login"), Task(theirs, "login")])
        their_cookie = (
            next(
                seen.headers["cookie"]
                for seen in reversed(rig.server.seen)
                if "sid=" in seen.headers.get("cookie", "sid=")
            )
            if False
            else None
        )
        assert their_cookie is None
        emails = [
            dict(pair.split("=", 1) for pair in seen.body.decode().split("&"))["email"].replace("%40", "@")
            for seen in rig.server.seen
            if seen.method == "POST"
        ]
        rig.server.scripts["/me"] = lambda talk: talk.answer(" and ".join(emails).encode())
        (op,) = rig.ask("whoami", visitor=mine)
        assert (op.answer, op.outcome, op.error) == (Answer.SOMEBODY_ELSE, Outcome.FAILED, "wrong-user")

    def test_a_visitor_s_tasks_go_one_after_the_other_and_visitors_side_by_side(self, tmp_path):
        """Two visitors are under way at once; nobody's second task is begun before the first has ended."""
        both = threading.Barrier(2, timeout=10)

        def meet(talk: Talk) -> None:
            both.wait()
            talk.answer()

        with serving(x=meet) as server, Rig(tmp_path, server, GET) as rig:
            one, other = rig.traffic.new_visitors(2)
            tasks = [Task(one, "get"), Task(one, "get"), Task(other, "get"), Task(other, "get")]
            rig.traffic.perform(tasks, concurrency=2)
            for visitor in (one, other):
                first, second = [op for op in rig.operations() if op.visitor == visitor]
                assert first.answered <= second.sent

    def test_what_is_written_can_be_read_by_its_id(self, tmp_path):
        """A write has an id of its own; a read takes the last one acknowledged, or the one it is given."""
        journeys = {
            "write": {"steps": [{"get": "/form"}, {"post": "/notes", "form": {"id": "{record}", "text": "{text}"}}]},
            "read": {"steps": [{"get": "/notes/{record}", "expect": {"contains": "{text}"}}]},
        }
        notes: dict[str, str] = {}

        def note(talk: Talk) -> None:
            fields = dict(pair.split("=", 1) for pair in talk.seen.body.decode().split("&"))
            notes[fields["id"]] = fields["text"].replace("+", " ")
            server.scripts[f"/notes/{fields['id']}"] = lambda talk: talk.answer(notes[fields["id"]].encode())
            talk.answer(status="201 Created")

        with serving(notes=note) as server, Rig(tmp_path, server, journeys) as rig:
            visitor = rig.visitor()
            tasks = [Task(visitor, "write"), Task(visitor, "write", record="mine"), Task(visitor, "read")]
            results = rig.traffic.perform([*tasks, Task(visitor, "read", record="mine")])
            assert [result.outcome for result in results] == [Outcome.OK] * 4
            first = results[0].record
            assert [result.record for result in results] == [first, "mine", "mine", "mine"]
            assert first not in (None, "mine")
            # The form that was fetched before is no write.
            assert [(op.kind, op.step, op.record) for op in rig.operations()][:2] == [
                ("write", 0, None),
                ("write", 1, first),
            ]

    def test_what_is_written_can_be_read_by_the_id_that_it_was_given(self, tmp_path):
        """Most applications choose ids themselves: an older record is read by its own, not by the one that was given last."""
        journeys = {
            "login": {"steps": [{"get": "/login", "take": {"csrf": {"json": "csrf"}}}]},
            "write": {
                "steps": [
                    {
                        "post": "/notes",
                        "form": {"text": "{text}"},
                        "take": {"id": {"json": "id"}, "csrf": {"json": "id"}},
                    }
                ]
            },
            "read": {"steps": [{"get": "/notes/{id}?{csrf}", "expect": {"contains": "{text}"}}]},
        }

        def note(talk: Talk) -> None:
            number = len(server.requests("/notes"))
            text = talk.seen.body.decode().removeprefix("text=").replace("+", " ").encode()
            server.scripts[f"/notes/{number}"] = lambda talk: talk.answer(text)
            talk.answer(b'{"id": %d}' % number)

        with serving(notes=note) as server, Rig(tmp_path, server, journeys) as rig:
            visitor = rig.visitor()
            writes = [Task(visitor, "write", record=record) for record in ("one", "two")]
            reads = [Task(visitor, "read", record=record) for record in ("one", "two")]
            results = rig.traffic.perform([*writes, *reads])
            assert [result.outcome for result in results] == [Outcome.OK] * 4
            # What other journeys take as well, such as a token, belongs to the person: the latest is the one that is good.
            assert [seen.path for seen in server.seen[2:]] == ["/notes/1?2", "/notes/2?2"]

    def test_values_of_a_task_fill_its_placeholders(self, tmp_path):
        """Such as how long a slow request shall take."""
        with serving() as server, Rig(tmp_path, server, {"slow": {"steps": [{"get": "/slow?n={n}"}]}}) as rig:
            (op,) = rig.ask("slow", values={"n": "2.5"})
            assert op.path == "/slow?n=2.5" == server.seen[0].path

    def test_a_password_that_a_page_repeats_is_not_recorded(self, tmp_path):
        """Journals are shown around."""
        journeys = {"login": {"steps": [{"post": "/x", "form": {"p": "{user.password}"}}]}}

        def repeat(talk: Talk) -> None:
            talk.answer(b"You typed " + talk.seen.body, status="403 Forbidden")

        with serving(x=repeat) as server, Rig(tmp_path, server, journeys) as rig:
            (op,) = rig.ask("login")
            assert op.detail == "You typed p=(password)"
            password = server.seen[0].body.decode().partition("=")[2]
            assert password not in rig.path.read_text()


class TestStreams:
    def test_arrivals_do_not_wait_for_answers(self, tmp_path):
        """Open loop: a server that answers nobody gets every request that was due, and each is recorded."""
        with serving(x=hold) as server, Rig(tmp_path, server, GET) as rig:
            visitors = rig.traffic.new_visitors(2)
            rig.traffic.start_stream(Stream("browse", 200, visitors, {"get": 1}, connections={"fresh": 1, "reused": 1}))
            server.wait_for(20, "/x")
            server.released.set()
            summary = rig.traffic.stop_stream("browse")
            history = read_history(rig.path, SCENARIO)
            (pace,) = history.paces
            assert summary.planned == summary.sent == pace.planned == len(history.operations) >= 20
            assert (pace.stream, pace.rate, pace.seed) == ("browse", 200, 1)
            assert {op.stream for op in history.operations} == {"browse"}
            dues = [op.due for op in history.operations]
            assert dues == pytest.approx([pace.begin + n / 200 for n in range(len(dues))], abs=1e-5)
            assert pace.begin <= dues[-1] <= pace.end

    def test_its_record_is_what_was_planned(self, tmp_path):
        """Held against the pace it can be what happened: nobody was waited for, and no time was made up."""
        with serving(x=hold) as server, Rig(tmp_path, server, GET) as rig:
            rig.traffic.start_stream(Stream("browse", 400, rig.traffic.new_visitors(2), {"get": 1}))
            server.wait_for(10, "/x")
            server.released.set()
            rig.traffic.stop_stream("browse")
            assert contradictions(read_history(rig.path, SCENARIO)) == ()

    def test_reused_connections_rotate_and_are_told_apart(self, tmp_path):
        """The first request on each kept connection is fresh, all later ones are reused, and none is used by two."""
        with serving() as server, Rig(tmp_path, server, GET) as rig:
            visitors = rig.traffic.new_visitors(1)
            rig.traffic.start_stream(Stream("browse", 400, visitors, {"get": 1}, connections={"reused": 1}))
            server.wait_for(40, "/x")
            rig.traffic.stop_stream("browse")
            kinds = [op.connection for op in rig.operations()]
            opened = {seen.connection for seen in server.seen}
            assert kinds[:8] == [FRESH] * 8
            assert kinds.count(FRESH) == len(opened) >= 8
            assert REUSED in kinds

    def test_progress_tells_of_the_current_scenario(self, tmp_path):
        """After a stop it is exact; a new scenario begins at nought."""
        with serving(y=reset) as server, Rig(tmp_path, server, GET | paths("y")) as rig:
            visitor = rig.visitor()
            rig.traffic.perform([Task(visitor, "get"), Task(visitor, "y")])
            progress = rig.traffic.progress()
            assert (progress.requests, progress.failed, progress.longest_gap_ms) == (2, 1, 0.0)
            rig.traffic.start_stream(Stream("browse", 100, [visitor], {"get": 1}))
            server.wait_for(6, "/x")
            summary = rig.traffic.stop_stream("browse")
            assert rig.traffic.progress().requests == 2 + summary.planned
            rig.traffic.begin_scenario("t")
            assert rig.traffic.progress().requests == 0

    def test_flush_brings_what_is_finished_to_disk(self, tmp_path):
        """Also while the stream goes on."""
        with serving() as server, Rig(tmp_path, server, GET) as rig:
            rig.traffic.start_stream(Stream("browse", 200, rig.traffic.new_visitors(1), {"get": 1}))
            server.wait_for(10, "/x")
            rig.traffic.flush()
            assert rig.operations()
            rig.traffic.stop_stream("browse")

    def test_a_stream_may_have_a_timeout_of_its_own(self, tmp_path):
        """Slow requests take longer than the run allows others."""
        with serving(x=Talk.wait_until_released) as server, Rig(tmp_path, server, GET) as rig:
            stream = Stream("slow", 50, rig.traffic.new_visitors(1), {"get": 1}, timeout_seconds=0.05)
            rig.traffic.start_stream(stream)
            server.wait_for(2, "/x")
            rig.traffic.stop_stream("slow")
            assert {op.error for op in rig.operations()} == {"timeout"}
            assert {op.outcome for op in rig.operations()} == {Outcome.UNKNOWN}


class TestTheProcess:
    def test_lives_through_ctrl_c_and_leads_its_own_group(self, rig):
        """Ctrl-C goes to everybody at the terminal; when traffic ends is for the harness to say."""
        pid = rig.traffic.pid
        assert os.getsid(pid) == os.getpgid(pid) == pid
        os.kill(pid, signal.SIGINT)
        (op,) = rig.ask()
        assert op.outcome is Outcome.OK

    def test_is_gone_after_close(self, rig):
        """And closing again is fine; an order after it is refused."""
        pid = rig.traffic.pid
        rig.traffic.close()
        rig.traffic.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(TrafficError, match="was closed"):
            rig.traffic.flush()

    def test_ends_with_its_parent(self, tmp_path):
        """A harness that was killed leaves none behind: the end of the control socket is its end."""
        parent, child = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.traffic.process", str(child.fileno())],
            pass_fds=[child.fileno()],
            cwd=Path(harness.__file__).parents[1],
        )
        child.close()
        parent.close()
        assert process.wait(10) == 0

    def test_its_death_is_told_with_its_last_words(self, rig):
        """To whoever is waiting, and to whoever asks after."""
        os.kill(rig.traffic.pid, signal.SIGKILL)
        with pytest.raises(TrafficError, match="ended with code -9"):
            rig.ask()
        with pytest.raises(TrafficError, match="ended with code -9"):
            rig.traffic.flush()

    def test_a_full_disk_ends_it_with_the_reason(self, tmp_path):
        """What cannot be recorded must not be measured."""
        journal = tmp_path / "full.jsonl"
        journal.symlink_to("/dev/full")
        with (
            serving() as server,
            Rig(tmp_path, server, GET, journal=journal) as rig,
            pytest.raises(TrafficError, match="No space left on device"),
        ):
            rig.traffic.perform([Task(rig.visitor(), "get")])

    def test_a_death_nobody_heard_of_is_told_by_close(self, tmp_path):
        """A run must not end well on traffic that ended badly."""
        with serving() as server:
            rig = Rig(tmp_path, server, GET)
            with rig:
                os.kill(rig.traffic.pid, signal.SIGKILL)
                os.waitid(os.P_PID, rig.traffic.pid, os.WEXITED | os.WNOWAIT)
                with pytest.raises(TrafficError, match="ended with code -9"):
                    rig.traffic.close()

    @pytest.mark.parametrize(
        ("order", "told"),
        [
            (lambda t, v: t.perform([Task("v99", "get")]), "no such visitors in this run: v99"),
            (lambda t, v: t.perform([Task(v, "gte")]), "no journey is named 'gte'; there are get"),
            (lambda t, v: t.perform([Task(v, "get", via="app-9")]), "no target is named 'app-9'"),
            (lambda t, v: t.perform([Task(v, "get")], concurrency=0), "concurrency must be 1 or more"),
            (lambda t, v: t.start_stream(Stream("s", 0, [v], {"get": 1})), "must be above 0"),
            (lambda t, v: t.start_stream(Stream("s", 1, [], {"get": 1})), "has no visitors"),
            (lambda t, v: t.start_stream(Stream("s", 1, [v], {})), "must be shares above 0"),
            (lambda t, v: t.start_stream(Stream("s", 1, [v], {"get": 0})), "must be shares above 0"),
            (lambda t, v: t.stop_stream("s"), "no stream named 's' is running"),
            (lambda t, v: t.start(), "started twice"),
        ],
    )
    def test_a_wrong_order_is_refused_before_it_is_given(self, shared_rig, order, told):
        """The process only ever hears of people, journeys and targets that exist."""
        with pytest.raises(TrafficError, match=told):
            order(shared_rig.traffic, shared_rig.visitor())

    def test_no_tasks_are_done_at_once(self, shared_rig):
        """Nothing to do is no reason to wait."""
        assert shared_rig.traffic.perform([]) == []

    def test_an_order_before_the_start_is_refused(self, tmp_path):
        """With the plain reason."""
        with serving() as server:
            rig = Rig(tmp_path, server, GET)
            with pytest.raises(TrafficError, match="was not started"):
                rig.traffic.flush()
            rig.traffic.close()
            rig.journal.close()

    def test_a_thousand_tasks_that_fail_at_once_are_no_trouble(self, shared_rig):
        """Each ends before it began; none is called from within another."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            shared_rig.traffic.retarget({"balancer": unused.getsockname()}, {})
            visitor = shared_rig.visitor()
            results = shared_rig.traffic.perform([Task(visitor, "get")] * 1500)
            shared_rig.traffic.retarget({"balancer": shared_rig.server.address}, {})
        assert [result.error for result in results] == ["refused"] * 1500


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory):
    whole = {"whole": {"steps": [{"get": "/whole", "expect": {"contains": "whole", "status": 200}}]}}
    journeys = GET | paths("broken") | whole
    with serving() as server, Rig(tmp_path_factory.mktemp("traffic"), server, journeys) as rig:
        yield rig
