"""People who are given: nobody registers, nobody's password is shown, and too few of them are told."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from difflib import SequenceMatcher
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import pytest
from scripted_server import ScriptedServer, Talk
from watched_sites import PYTHON, url, watch

from harness import cli
from harness.errors import NothingTested, SetupError
from harness.journeys import compile_journeys
from harness.layouts.choice import undeclared
from harness.load.bundle import bundle
from harness.load.people import Walker
from harness.load.plans import plan_of, plan_text, read_plan
from harness.model import Answer
from harness.setup import Environment, Setup, know_people, load_setup, parse_setup
from harness.traffic import Journal, Task, Traffic
from harness.traffic.people import People, Person

FILE = """
[app]
image = "nothing"

[users]
given = [{ email = "ada@shop.example", password = "first-secret" }, { email = "grace@shop.example", name = "Amazing Grace" }]
password_from = "SHOP_PASSWORD"

[journey.login]
steps = [{ post = "/login", form = { email = "{user.email}", password = "{user.password}" }, expect = { status = 200 } }]

[journey.whoami]
steps = [{ get = "/me", recognised = { status = 200, contains = "{user.email}" }, logged_out = { status = 303 } }]
"""
SECRETS = {"ada@shop.example": "first-secret", "grace@shop.example": "everybodys-secret"}
ENVIRONMENT = Environment(everything={"SHOP_PASSWORD": "everybodys-secret"})


class Shop:
    """Knows two people, and whoever else comes is refused."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.server = ScriptedServer({"/login": self.login, "/me": self.me})

    def close(self) -> None:
        self.server.close()

    def login(self, talk: Talk) -> None:
        form = {name: value[0] for name, value in parse_qs(talk.seen.body.decode()).items()}
        if SECRETS.get(form["email"]) != form["password"]:
            talk.answer(form["password"].encode(), status="403 Forbidden")
            return
        session = f"sid={len(self.sessions)}"
        self.sessions[session] = form["email"]
        talk.answer(headers=f"Set-Cookie: {session}\r\n")

    def me(self, talk: Talk) -> None:
        who = self.sessions.get(talk.seen.headers.get("cookie", ""))
        if who is None:
            talk.answer(status="303 See Other", headers="Location: /login\r\n")
        else:
            talk.answer(f"hello {who}".encode())


@pytest.fixture
def shop() -> Iterator[Shop]:
    with closing(Shop()) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOP_PASSWORD", "everybodys-secret")
    made = tmp_path / "shop.toml"
    made.write_text(FILE, encoding="utf-8")
    return made


def setup_with(users: Mapping[str, object], folder: Path) -> Setup:
    data = tomllib.loads(FILE)
    data["users"] = users
    setup = parse_setup(data, source="shop.toml")
    setup._file = folder / "shop.toml"
    return setup


def mistakes_in(users: Mapping[str, object], folder: Path) -> str:
    with pytest.raises(SetupError) as refused:
        know_people(setup_with(users, folder), ENVIRONMENT)
    return str(refused.value)


# -- who they are ---------------------------------------------------------------------------------------------------


def test_they_are_written_in_the_setup_file(file: Path) -> None:
    """Each with a password of their own, or everybody's; and a name, or what stands before the @."""
    ada, grace = know_people(load_setup(file), ENVIRONMENT).people
    assert (ada.email, ada.password, ada.name) == ("ada@shop.example", "first-secret", "ada")
    assert (grace.email, grace.password, grace.name) == ("grace@shop.example", "everybodys-secret", "Amazing Grace")
    assert "secret" not in repr((ada, grace))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("people.csv", '# who\nemail,name,password\nada@a.org,"Lovelace, Ada",s1\ngrace@a.org,,\n'),
        (
            "people.toml",
            '[[users]]\nemail = "ada@a.org"\npassword = "s1"\nname = "Lovelace, Ada"\n[[users]]\nemail = "grace@a.org"\n',
        ),
    ],
)
def test_they_are_in_a_file_beside_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = know_people(setup_with({"file": name, "password_from": "SHOP_PASSWORD"}, tmp_path), ENVIRONMENT).people
    assert [(each.email, each.name, each.password) for each in found] == [
        ("ada@a.org", "Lovelace, Ada", "s1"),
        ("grace@a.org", "grace", "everybodys-secret"),
    ]


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ({}, "users names nobody"),
        ({"given": [{"email": ""}]}, "users.given[0].email is missing: say what they log in by"),
        ({"given": [{"email": "ada@a.org"}]}, "users names ada@a.org without a password, which the journeys send"),
        (
            {"given": [{"email": "ada@a.org", "password": "a"}, {"email": "Ada@A.org", "password": "b"}]},
            "users names Ada@A.org twice",
        ),
        ({"file": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"file": "."}, "cannot be read"),
        (
            {"file": "other.csv"},
            'must begin with the names of its columns (got "mail,secret"): write email,password,name',
        ),
        ({"file": "wide.csv"}, "row 2 has 3 fields, and 2 columns are named"),
        ({"file": "gap.csv"}, "users[1].email is missing"),
        ({"file": "typo.toml"}, "users[0].pasword is not a known key"),
        (
            {"given": [{"email": "ada@a.org"}], "password_from": "NO_SUCH_PASSWORD"},
            "users.password_from is NO_SUCH_PASSWORD, and no variable of that name is set: export NO_SUCH_PASSWORD=...",
        ),
    ],
)
def test_what_is_wrong_with_them_is_told_before_anything_starts(
    tmp_path: Path, users: Mapping[str, object], message: str
) -> None:
    (tmp_path / "other.csv").write_text("mail,secret\na,b\n", encoding="utf-8")
    (tmp_path / "wide.csv").write_text("email,password\na,b,c\n", encoding="utf-8")
    (tmp_path / "gap.csv").write_text("email,password\na@a.org,b\n,c\n", encoding="utf-8")
    (tmp_path / "typo.toml").write_text('[[users]]\nemail = "a@a.org"\npasword = "b"\n', encoding="utf-8")
    assert message in mistakes_in(users, tmp_path)


def test_who_sends_no_password_needs_none(tmp_path: Path) -> None:
    """Such as where a link is enough."""
    setup = setup_with({"given": [{"email": "ada"}]}, tmp_path)
    login = setup.journey["login"].steps[0].model_copy(update={"form": {"email": "{user.email}"}})
    journeys = {**setup.journey, "login": setup.journey["login"].model_copy(update={"steps": (login,)})}
    (ada,) = know_people(setup.model_copy(update={"journey": journeys}), ENVIRONMENT).people
    assert (ada.email, ada.name, ada.password) == ("ada", "ada", "")


# -- what they do ---------------------------------------------------------------------------------------------------


@pytest.fixture
def traffic(shop: Shop, tmp_path: Path) -> Iterator[Traffic]:
    setup = parse_setup(tomllib.loads(FILE), source="shop.toml")
    journeys = {name: journey.model_dump(mode="json", by_alias=True) for name, journey in setup.journey.items()}
    journal = tmp_path / "history.jsonl"
    people = [Person(email=email, password=password, name=email) for email, password in SECRETS.items()]
    with (
        Journal(journal, run="r"),
        Traffic(
            journal=journal,
            journeys=compile_journeys(
                {
                    name: {"steps": [{key: value for key, value in step.items() if value} for step in journey["steps"]]}
                    for name, journey in journeys.items()
                }
            ),
            targets={"balancer": shop.server.address},
            names={},
            timeout_seconds=5,
            seed=1,
            people=people,
        ) as made,
    ):
        yield made


def test_they_log_in_and_do_not_register(traffic: Traffic, shop: Shop) -> None:
    """What was to be asked of somebody new counts as done, and is in its place among the results."""
    traffic.begin_scenario("one")
    ada, grace = traffic.new_visitors(2)
    (first, second) = ([Task(each, journey) for journey in ("register", "login", "whoami")] for each in (ada, grace))
    answers = [result.answer for result in traffic.perform([*first, *second])]
    assert answers == [Answer.DONE, Answer.DONE, Answer.RECOGNISED] * 2
    assert not shop.server.requests("/register")


def test_each_is_one_person_in_a_scenario_and_comes_again_in_the_next(traffic: Traffic) -> None:
    """Whoever needs more of them is told how many there are. Strangers need no account."""
    traffic.begin_scenario("one")
    assert traffic.at_most(20) == 2
    traffic.new_visitors(1)
    assert traffic.at_most(20) == 1
    with pytest.raises(
        NothingTested, match="this needs 2 people after 1 before, and 2 are given: name more of them in users"
    ):
        traffic.new_visitors(2)
    assert len(traffic.new_visitors(5, strangers=True)) == 5
    traffic.begin_scenario("two")
    again = traffic.new_visitors(2)
    results = traffic.perform([Task(each, "login") for each in again])
    assert [result.answer for result in results] == [Answer.DONE, Answer.DONE]


def test_a_page_of_somebody_else_is_found() -> None:
    """Also where people know each other: what names them both is their own."""
    people = People(1, [Person(email=email, password="", name="") for email in SECRETS])
    ada, grace = people.arrive(2)
    assert people.names_somebody_else(b"hello Grace@Shop.example!", ada)
    assert not people.names_somebody_else(b"hello grace@shop.example", grace)
    assert not people.names_somebody_else(b"ada@shop.example, shared with grace@shop.example", ada)
    assert not people.names_somebody_else(b"help@shop.example", ada)


def test_what_needs_new_accounts_is_left_out(file: Path) -> None:
    """And says so."""
    setup = load_setup(file)
    assert undeclared({"journey.register"}, setup) == (
        "the setup does not say how a person gets an account: [journey.register] does"
    )


# -- at every door --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_journeys_are_tried_by_the_first_of_them(
    shop: Shop, file: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main(["journey", str(file), "--try", "--host", url(shop.server), *words]) == 0
    told = "".join(capsys.readouterr())
    assert "ada%40shop.example" in told
    assert "secret" not in told


def test_a_deploy_is_watched_by_as_many_as_there_are(shop: Shop, file: Path, tmp_path: Path) -> None:
    """And nothing that is written holds their passwords."""
    assert watch(tmp_path, url(shop.server), "--journey", str(file), "--", *PYTHON, "pass") in (0, 1, 3)
    assert len(shop.server.requests("/login")) == 2
    written = [path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    assert written
    assert not any(secret.encode() in text for text in written for secret in SECRETS.values())


def test_nobody_is_asked_anything_where_the_password_is_missing(
    shop: Shop, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SHOP_PASSWORD")
    assert cli.main(["journey", str(file), "--try", "--host", url(shop.server)]) == 2
    assert "no variable of that name is set" in capsys.readouterr().err
    assert not shop.server.seen


def test_people_of_a_load_run_begin_with_the_log_in(file: Path, tmp_path: Path) -> None:
    """The plan among the results says only where they are found; who plays them is told who they are."""
    setup = know_people(load_setup(file), ENVIRONMENT)
    plan = plan_of(setup)
    kept = tmp_path / "plan.json"
    kept.write_text(plan_text(plan), encoding="utf-8")
    assert "secret" not in kept.read_text(encoding="utf-8")
    assert json.loads(kept.read_text(encoding="utf-8"))["setup"] == str(file)
    assert read_plan(kept) == plan
    assert "everybodys-secret" in bundle(plan)
    walker = Walker(plan, People(1, plan.people, first=1), Random(7))
    (question,) = walker.next()
    assert (question.name, question.body) == (
        "login /login",
        b"email=grace%40shop.example&password=everybodys-secret",
    )


def test_a_password_is_not_like_the_rest_of_a_person() -> None:
    """Who is made up is let register: an application may refuse a password that has too many letters of the address or the name."""
    made = People(7).arrive(300)
    assert len({each.person.password for each in made}) == len(made)
    for each in made:
        secret = each.person.password.lower()
        for known in (each.person.email, each.person.name, each.person.email.partition("@")[0]):
            assert SequenceMatcher(a=secret, b=known.lower()).quick_ratio() < 0.3
        assert (len(secret), any(map(str.isdigit, secret)), secret.isalnum()) == (28, True, False)
        assert not each.person.password.islower()
        assert not each.person.password.isupper()
