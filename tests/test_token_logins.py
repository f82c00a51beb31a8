"""Log-ins that give a token instead of a cookie, and what is said where nobody can log in at all."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from scripted_server import ScriptedServer, Talk
from watched_sites import LOGIN, PYTHON, url, watch

from harness import cli
from harness.checkers import CookieIsGuarded
from harness.journeys import Reply, compile_journeys, likely_reason
from harness.layouts.choice import undeclared
from harness.load.people import Walker
from harness.load.plans import plan_of
from harness.model import Answer, History, Outcome, Status
from harness.setup import load_setup, parse_setup
from harness.traffic import Journal, Result, Task, Traffic
from harness.traffic.people import People
from harness.visitors import why_nobody

FILE = """
[app]
image = "nothing"

[journey.register]
steps = [{ post = "/register", json = { email = "{user.email}" }, expect = { status = 201 } }]

[journey.login]
steps = [{ post = "/login", json = { email = "{user.email}" }, take = { token = { json = "token" } }, expect = { status = 200 } }]

[journey.whoami]
steps = [
  { get = "/me", headers = { Authorization = "Bearer {token}" }, recognised = { status = 200, contains = "{user.email}" }, logged_out = { status = 401 } },
]

[journey.write]
steps = [
  { post = "/notes", headers = { Authorization = "Bearer {token}" }, json = { text = "{text}" }, expect = { status = 201 } },
]

[journey.logout]
steps = [{ post = "/logout", headers = { Authorization = "Bearer {token}" }, expect = { status = 200 } }]
"""


class Tokens:
    """Knows people by their tokens, and sets no cookie."""

    def __init__(self) -> None:
        self.people: dict[str, str] = {}
        self.server = ScriptedServer(
            {
                "/register": lambda talk: talk.answer(status="201 Created"),
                "/login": self.login,
                "/me": self.me,
                "/logout": self.logout,
            }
        )

    def close(self) -> None:
        self.server.close()

    def login(self, talk: Talk) -> None:
        token = f"t{len(self.people)}"
        self.people[token] = json.loads(talk.seen.body)["email"]
        talk.answer(json.dumps({"token": token}).encode())

    def me(self, talk: Talk) -> None:
        who = self.people.get(talk.seen.headers.get("authorization", "").removeprefix("Bearer "))
        if who is None:
            talk.answer(b"{}", status="401 Unauthorized")
        else:
            talk.answer(json.dumps({"email": who}).encode())

    def logout(self, talk: Talk) -> None:
        self.people.pop(talk.seen.headers["authorization"].removeprefix("Bearer "))
        talk.answer()


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    with closing(Tokens()) as made:
        yield made


@pytest.fixture
def traffic(tokens: Tokens, tmp_path: Path) -> Iterator[Traffic]:
    setup = parse_setup(tomllib.loads(FILE), source="a.toml")
    journal = tmp_path / "history.jsonl"
    with (
        Journal(journal, run="r"),
        Traffic(
            journal=journal,
            journeys=compile_journeys(setup.declared_journeys()),
            targets={"balancer": tokens.server.address},
            names={},
            timeout_seconds=5,
            seed=1,
        ) as made,
    ):
        made.begin_scenario("one")
        yield made


def test_people_are_known_by_their_token(traffic: Traffic, tokens: Tokens) -> None:
    """Whoever has none yet sends none, and is nobody: an answer, and no mistake of the rig."""
    (person,) = traffic.new_visitors(1)
    journeys = ["whoami", "register", "login", "whoami"]
    answers = [result.answer for result in traffic.perform([Task(person, journey) for journey in journeys])]
    assert answers == [Answer.LOGGED_OUT, Answer.DONE, Answer.DONE, Answer.RECOGNISED]
    first, last = tokens.server.requests("/me")
    assert ("authorization" in first.headers, last.headers["authorization"]) == (False, "Bearer t0")


def test_a_copy_of_a_browser_has_the_token_as_well(traffic: Traffic) -> None:
    """So that what whoever kept it can do after a log-out is judged as with a cookie."""
    (person,) = traffic.new_visitors(1)
    traffic.perform([Task(person, journey) for journey in ("register", "login")])
    (thief,) = traffic.copy_visitors([person])
    (stranger,) = traffic.copy_visitors([person], cookies=False)
    kept, none = traffic.perform([Task(thief, "whoami"), Task(stranger, "whoami")])
    assert (kept.answer, none.answer) == (Answer.RECOGNISED, Answer.LOGGED_OUT)
    traffic.perform([Task(person, "logout")])
    (replayed,) = traffic.perform([Task(thief, "whoami")])
    assert replayed.answer is Answer.LOGGED_OUT


def test_what_is_about_cookies_is_not_failed_for_want_of_one() -> None:
    """It says that there is none."""
    verdict = CookieIsGuarded().check(History(scenario="s", seed=1, instances=("app-1", "app-2")))
    assert (verdict.status, verdict.measured) == (Status.INCONCLUSIVE, "no cookie was seen to make the session")


def test_a_token_of_the_person_is_none_of_a_form() -> None:
    """What a page gave against forged requests is something else; with one the promise is asked for."""
    data = tomllib.loads(FILE)
    why = undeclared({"session.token"}, parse_setup(data, source="a.toml"))
    assert why is not None
    assert "holds no token that a page gave" in why
    data["journey"]["login"]["steps"][0]["take"]["csrf"] = {"json": "csrf"}
    data["journey"]["write"]["steps"][0]["headers"]["X-CSRF-Token"] = "{csrf}"
    assert undeclared({"session.token"}, parse_setup(data, source="a.toml")) is None


def test_journeys_are_tried_with_tokens(tokens: Tokens, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And who has logged out is told so."""
    file = tmp_path / "a.toml"
    file.write_text(FILE, encoding="utf-8")
    words = ["--only", "whoami", "--only", "logout", "--host", url(tokens.server)]
    assert cli.main(["journey", str(file), "--try", *words]) == 0
    out = capsys.readouterr().out
    assert "took      token (2 characters)" in out
    assert "whoami, logged out  GET /me" in out


def test_a_load_run_sends_them(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(FILE, encoding="utf-8")
    walker = Walker(plan_of(load_setup(file)), People(1), Random(1), is_registered=True)
    next(walker.next()).answered(Reply(200, {}, b'{"token": "t9"}'))
    for question in walker.next():
        question.answered(Reply(200, {}, b'{"token": "t9"}'))
    asked = next(walker.next())
    assert asked.headers["Authorization"] == "Bearer t9"


# -- where nobody can log in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "detail", "told"),
    [
        (429, "http-429", "slow down", "a limit for each address"),
        (301, "http-301", "sent to https://shop.example/login", "X-Forwarded-Proto"),
        (200, "wrong-body", "nothing to take as {csrf}: no field 'csrf_token'", "and a later step sends it"),
        (403, "http-403", "CSRF verification failed", "a token against forged requests may be missing"),
        (400, "http-400", "Bad Host", "[traffic] headers"),
        (401, "http-401", "", "does not take the password"),
        (404, "http-404", "", "there is no such page"),
        (303, "http-303", "sent to /login?error=1", "sent to /login?error=1, and expect names another place"),
        (200, "wrong-body", "the page lacks x", "a form that is shown again"),
        (None, "unsent", "no value for {csrf}", "no value for {csrf}"),
        (None, "refused", "", "nobody listens there"),
        (500, "http-500", "oops", ""),
    ],
)
def test_the_likely_reason_is_named(status: int | None, error: str, detail: str, told: str) -> None:
    reason = likely_reason(status=status, error=error, detail=detail)
    assert told in reason
    assert bool(reason) is bool(told)


def test_whoever_could_not_even_register_is_told_that() -> None:
    """What came after follows from it."""
    refused = Result(Answer.OVERLOADED, Outcome.FAILED, None, "http-429", "", 429)
    unknown = Result(Answer.REFUSED, Outcome.FAILED, None, "http-401", "", 401)
    done = Result(Answer.DONE, Outcome.OK, None, status=201)
    assert why_nobody([refused], [unknown]).startswith(
        "last answer to journey.register: overloaded, 429; it is told to come"
    )
    assert why_nobody([refused, done], [unknown]).startswith(
        "last answer to journey.login: refused, 401; it does not take"
    )


def test_a_deploy_that_nobody_could_see_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup = tmp_path / "shop.toml"
    setup.write_text(LOGIN, encoding="utf-8")
    with closing(ScriptedServer({"/login": lambda talk: talk.answer(status="429 Too Many Requests")})) as site:
        assert watch(tmp_path, url(site), "--journey", str(setup), "--", *PYTHON, "pass") == 2
    assert "a limit for each address" in capsys.readouterr().err
