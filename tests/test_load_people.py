"""People of a load run: what they ask next, and what the answers mean to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness import assets
from harness.errors import BadInput
from harness.journeys import Reply, compile_journeys
from harness.load.bundle import bundle, carried
from harness.load.people import Plan, Question, Walker
from harness.load.plans import plan_of, plan_text, read_plan
from harness.model import Answer, Outcome
from harness.setup import load_setup
from harness.traffic.people import People, text_of

FORM = b'<input name="csrf_token" value="t1">'


@pytest.fixture
def plan() -> Plan:
    return plan_of(load_setup(assets.path("fixtures/setups/reference.toml")))


@pytest.fixture
def walker(plan: Plan) -> Walker:
    return Walker(plan, People(1), Random(7))


def go(walker: Walker, *replies: Reply | None) -> list[Question]:
    """Ask whatever comes next, with these answers; None is a request that broke."""
    asked = []
    answers = iter(replies)
    for question in walker.next():
        asked.append(question)
        reply = None if question.problem else next(answers)
        if reply is not None:
            question.answered(reply)
    assert not list(answers), "every answer was asked for"
    return asked


def arrive(walker: Walker) -> None:
    """Register and log in."""
    page = walker._visitor.person.email.encode() + FORM
    go(walker, Reply(200, body=FORM), Reply(303, {"location": "/login"}))
    cookie = ("session=s1; Secure; HttpOnly",)
    go(walker, Reply(200, body=FORM), Reply(303, {"location": "/dashboard"}, set_cookies=cookie), Reply(200, body=page))


def test_people_register_and_log_in_first(walker: Walker) -> None:
    """Every request has a name without values in it, so that all people are counted together."""
    first = go(walker, Reply(200, body=FORM), Reply(303, {"location": "/login"}))
    assert [(each.method, each.name) for each in first] == [
        ("GET", "register 1 /register"),
        ("POST", "register 2 /register"),
    ]
    assert b"csrf_token=t1" in first[1].body
    assert walker.is_registered
    assert not walker.is_logged_in
    second = go(walker, Reply(200, body=FORM), Reply(401, body=b"no"))
    assert [each.name for each in second] == ["login 1 /login", "login 2 /login"]
    assert (walker.is_logged_in, walker.failed) == (False, True)


def test_a_secure_cookie_is_sent_over_http(walker: Walker) -> None:
    """As in a verification: a client that holds it back looks like a lost session."""
    arrive(walker)
    assert walker.is_logged_in
    (asked,) = go(walker, Reply(500))
    assert asked.headers["Cookie"] == "session=s1"


def test_who_is_logged_out_logs_in_again(walker: Walker) -> None:
    """A logged-out page is a failure, and the next thing a person does is to log in."""
    arrive(walker)
    (asked,) = go(walker, Reply(303, {"location": "/login?next=/dashboard"}))
    assert asked.judgement is not None
    assert (asked.judgement.answer, asked.judgement.outcome) == (Answer.LOGGED_OUT, Outcome.FAILED)
    assert not walker.is_logged_in
    assert next(iter(walker.next())).name == "login 1 /login"


def test_the_page_of_somebody_else_is_a_failure(plan: Plan) -> None:
    """Status 200 is not enough: it is the body that says whose page it is."""
    people = People(1)
    walker, other = Walker(plan, people, Random(7)), Walker(plan, people, Random(8))
    arrive(walker)
    walker.plan = Plan(journeys=plan.journeys, shares={"whoami": 1.0}, timeout_seconds=5)
    (asked,) = go(walker, Reply(200, body=other._visitor.person.email.encode()))
    assert asked.judgement is not None
    assert asked.judgement.error == "wrong-user"


def test_who_has_written_nothing_writes(plan: Plan, walker: Walker) -> None:
    """And reads only what was acknowledged, with the text that was written."""
    arrive(walker)
    walker.plan = Plan(journeys=plan.journeys, shares={"read": 1.0}, timeout_seconds=5)
    (lost,) = go(walker, None)
    assert lost.name == "write /notes"
    (written,) = go(walker, Reply(201))
    record = next(pair[3:] for pair in written.body.decode().split("&") if pair.startswith("id="))
    (read,) = go(walker, Reply(200, body=text_of(record).encode()))
    assert (read.name, read.path) == ("read /notes/{record}", f"/notes/{record}")
    assert not walker.failed


def test_a_record_is_read_by_the_id_that_it_was_given(walker: Walker) -> None:
    """Of several, each has its own."""
    arrive(walker)
    steps = {
        "write": {"steps": [{"post": "/n", "form": {"text": "{text}"}, "take": {"id": {"json": "id"}}}]},
        "read": {"steps": [{"get": "/n/{id}", "expect": {"contains": "{text}"}}]},
    }
    journeys = compile_journeys(steps)
    texts: dict[str, bytes] = {}
    walker.plan = Plan(journeys=journeys, shares={"write": 1.0}, timeout_seconds=5)
    for number in ("1", "2", "3"):
        (written,) = go(walker, Reply(200, body=f'{{"id": {number}}}'.encode()))
        texts[f"/n/{number}"] = written.body.removeprefix(b"text=").replace(b"+", b" ")
    walker.plan = Plan(journeys=journeys, shares={"read": 1.0}, timeout_seconds=5)
    for _ in range(9):
        for question in walker.next():
            question.answered(Reply(200, body=texts[question.path]))
        assert not walker.failed


def test_what_cannot_be_asked_is_said(plan: Plan) -> None:
    """A value that no answer brought: it counts as a failure, and the person logs in anew."""
    walker = Walker(plan, People(1), Random(7), is_registered=True, is_logged_in=True)
    walker.plan = Plan(journeys=plan.journeys, shares={"write": 1.0}, timeout_seconds=5)
    (asked,) = go(walker)
    assert asked.problem == "no value for {csrf}"
    assert (walker.failed, walker.is_logged_in) == (True, False)


def test_accounts_and_records_are_never_those_of_another_run(plan: Plan) -> None:
    """The same seed does the same things, with other accounts and other records."""
    one, other = Walker(plan, People(1), Random(7)), Walker(plan, People(2), Random(7))
    assert one._visitor.person.email != other._visitor.person.email
    assert one._record_for(plan.journeys["write"]) != other._record_for(plan.journeys["write"])


# -- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_read_back(plan: Plan, tmp_path: Path) -> None:
    """Plain data, without a secret in it."""
    file = tmp_path / "plan.json"
    file.write_text(plan_text(plan))
    assert read_plan(file) == plan
    assert plan.shares == {"whoami": 0.7, "write": 0.15, "read": 0.15}


def test_a_plan_of_a_setup_file_that_only_looks(tmp_path: Path) -> None:
    """What is not declared is not done."""
    setup = load_setup(
        assets.path("fixtures/setups/reference.toml"),
        overrides={"journey.write": None, "journey.read": None},
    )
    assert plan_of(setup).shares == {"whoami": 0.7}


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}'])
def test_a_plan_that_is_none(text: str, tmp_path: Path) -> None:
    """One message."""
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(BadInput):
        read_plan(file)


# -- one file for all ---------------------------------------------------------------------------------------------------


def test_the_bundle_needs_nothing_but_the_standard_library(plan: Plan, tmp_path: Path) -> None:
    """Beside Locust: a Python without any package runs people from it, and takes nothing of an installed harness."""
    loader = bundle(plan).partition("from carried_locustfile")[0]
    program = tmp_path / "program.py"
    program.write_text(
        loader
        + "import json\nfrom random import Random\nfrom harness.load.bundled import PLAN\n"
        + "from harness.load.people import Plan, Walker\nfrom harness.load.seconds import Seconds\n"
        + "from harness.traffic.people import People\nimport harness\n"
        + "walker = Walker(Plan.from_declared(json.loads(PLAN)), People(1), Random(1))\n"
        + "print(next(iter(walker.next())).name, harness.__spec__.origin)\n"
    )
    ended = subprocess.run([sys.executable, "-I", "-S", str(program)], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("register 1 /register harness\n", "")


def test_what_is_carried_asks_for_nothing_else(plan: Plan) -> None:
    """Every module of the harness that a carried one imports is carried, but for what is asked for with a setup file."""
    import ast

    sources = carried(plan)
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
                wanted = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                known = wanted & set(sources) or node.module in ("harness.load.plans",)
                assert known, f"{name} imports {node.module}"
    assert json.loads(
        sources["harness.load.bundled"].partition("= ")[2].strip().strip("'").encode().decode("unicode_escape")
    )


def test_a_question_is_told_by_whom_it_is_for(walker: Walker, plan: Plan) -> None:
    """In containers people know the site by the name it has outside."""
    walker.plan = Plan(journeys=plan.journeys, shares=plan.shares, timeout_seconds=5, host_header="127.0.0.1:8080")
    asked: Any = next(iter(walker.next()))
    assert asked.headers["Host"] == "127.0.0.1:8080"
