"""What opens something stays where it is: not in the record, the results or the terminal, whoever repeats it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from scripted_server import ScriptedServer, Talk, serving
from test_traffic import Rig
from watched_sites import PYTHON, url, watch

from harness import cli
from harness.model import Outcome
from harness.setup import Setup, load_setup, parse_setup, secrets_in, secrets_of_variables
from harness.traffic.people import without_secrets
from harness.watching import site_of

SESSION = "s%3A4fKq0pZr-session-cookie"
CSRF = "csrf-7d1f0c2ab9e4"
BEARER = "eyJhbGciOi.bearer.x-9"
API_KEY = "key-0123456789"
BASIC = "op3n-sesame!"
IN_ADDRESS = "pa55-in-an-address"
DECLARED = "h0bbit-hole-2"

SHOP = f"""
[app]
image = "nothing"
env = {{ DATABASE_URL = "postgres://shop:{IN_ADDRESS}@db/shop", MAIL_PASSWORD = "{DECLARED}" }}
[[journey.register.steps]]
post = "/register"
form = {{ email = "{{user.email}}", password = "{{user.password}}" }}
headers = {{ Authorization = "Bearer {BEARER}", X-Api-Key = "{API_KEY}" }}
expect = {{ status = 200 }}
[[journey.login.steps]]
get = "/login"
take = {{ csrf = {{ field = "csrf" }} }}
[[journey.login.steps]]
post = "/login?token={{csrf}}"
form = {{ email = "{{user.email}}", password = "{{user.password}}", csrf = "{{csrf}}" }}
headers = {{ Authorization = "Basic {b64encode(f"me:{BASIC}".encode()).decode()}" }}
expect = {{ status = 200 }}
[[journey.whoami.steps]]
get = "/me/{{csrf}}"
recognised = {{ status = 200, contains = "{{user.email}}" }}
logged_out = {{ status = 303, location = "/login" }}
"""
OURS = (SESSION, "s:4fKq0pZr-session-cookie", CSRF, BEARER, API_KEY, BASIC, IN_ADDRESS, DECLARED)


class Gossip:
    """A site that lets people in, and then tells everybody whatever it was told."""

    def __init__(self) -> None:
        self.passwords: set[str] = set()
        self.heard: dict[str, str] = {}
        scripts = {"/register": self.register, "/login": self.login}
        self.server = ScriptedServer(scripts)
        self.server.scripts |= {f"/me/{CSRF}": self.gossip}

    def close(self) -> None:
        self.server.close()

    def register(self, talk: Talk) -> None:
        self.passwords.add(parse_qs(talk.seen.body.decode())["password"][0])
        self.heard |= talk.seen.headers
        talk.answer()

    def login(self, talk: Talk) -> None:
        if talk.seen.method == "GET":
            talk.answer(f'<input name="csrf" value="{CSRF}">'.encode())
            return
        self.heard |= talk.seen.headers
        talk.answer(headers=f"Set-Cookie: sid={SESSION}; HttpOnly\r\n")

    def gossip(self, talk: Talk) -> None:
        """A page of an error, such as a framework's own in debugging, in the first words of which all of it stands."""
        password = sorted(self.passwords)[len(self.server.seen) % len(self.passwords)]
        said = (SESSION, CSRF, BEARER, API_KEY, BASIC, IN_ADDRESS, DECLARED, password)
        which = said[len(self.server.seen) % len(said)]
        page = f"{talk.seen.headers.get('cookie')} {which} {quote(which, safe='')} &{which};"
        if len(self.server.seen) % 2:
            talk.answer(page.encode(), status="500 Oops")
        else:
            talk.answer(page.encode(), status="302 Found", headers=f"Location: /error?said={quote(which)}\r\n")


def everything_in(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_silent(texts: dict[str, str], secrets: tuple[str, ...]) -> None:
    for place, text in texts.items():
        for secret in secrets:
            for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
                assert form not in text, f"{form} in {place}: {text[max(0, text.find(form) - 200) :][:400]}"


def test_a_whole_run_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the writers there are: the record, the verdicts, the summary, the page, junit and the terminal."""
    setup = tmp_path / "shop.toml"
    setup.write_text(SHOP, encoding="utf-8")
    with closing(Gossip()) as site:
        code = watch(tmp_path, url(site.server), "--journey", str(setup), "--", *PYTHON, "")
        passwords = tuple(site.passwords)
    out, err = capsys.readouterr()
    texts = everything_in(tmp_path / "reports") | {"out": out, "err": err}
    assert code == 1, err
    names = {Path(name).name for name in texts}
    assert {"history.jsonl", "verdicts.json", "summary.md", "index.html", "junit.xml"} <= names
    assert_silent(texts, (*OURS, *passwords))
    history = next(text for name, text in texts.items() if name.endswith("history.jsonl"))
    assert '"path":"/me/{csrf}"' in history
    assert "(cookie sid)" in history or "[redacted]" in history


def test_a_journey_that_is_tried_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither for people nor for programs."""
    setup = tmp_path / "shop.toml"
    setup.write_text(SHOP, encoding="utf-8")
    for words in ([], ["--json"]):
        with closing(Gossip()) as site:
            assert cli.main(["journey", str(setup), "--try", "--host", url(site.server), *words]) == 1
            assert_silent({"out": "".join(capsys.readouterr())}, (*OURS, *site.passwords))


def test_what_was_taken_is_no_part_of_the_record(tmp_path: Path) -> None:
    """Nor of what a task tells: a token in an address stands there by its name, also where a page is cut in the middle of it."""
    long = "t" * 30 + "0123456789" * 20
    journeys = {
        "in": {"steps": [{"get": "/x", "take": {"token": {"header": "X-Token"}}}, {"get": "/y/{token}?a={user.email}"}]}
    }

    def fail(talk: Talk) -> None:
        talk.answer(f"{'w' * 150} {long}".encode(), status="500 Oops")

    with serving(x=lambda talk: talk.answer(headers=f"X-Token: {long}\r\n")) as server:
        server.scripts[f"/y/{long}"] = fail
        with Rig(tmp_path, server, journeys) as rig:
            ops = rig.ask("in")
            assert [op.outcome for op in ops] == [Outcome.OK, Outcome.FAILED]
            assert re.fullmatch(r"/y/\{token\}\?a=v[0-9a-f]{16}%40example.org", ops[1].path)
            assert ops[1].detail.endswith(" (token)")
            assert long[:20] not in rig.path.read_text(encoding="utf-8")


def test_a_journal_is_private_while_it_is_written(tmp_path: Path) -> None:
    """Only when the run is over is it free of secrets: whoever kills a run leaves no more than that."""
    with serving() as server, Rig(tmp_path, server, {"x": {"steps": [{"get": "/x"}]}}) as rig:
        rig.ask("x")
        assert rig.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("before 0123456789abc after", "before (it) after"),
        ("0123456789ab", "(it)"),
        ("cut 0123456789a", "cut (it)"),
        ("cut 0123456", "cut 0123456"),
        ("0123456789 is another", "0123456789 is another"),
        ("", ""),
    ],
)
def test_what_is_cut_is_known(text: str, told: str) -> None:
    """Eight characters of it or more."""
    assert without_secrets(text, [("it", "0123456789abc"), ("short", "after"), ("other", "")]) == told


@pytest.mark.parametrize(
    ("variables", "secrets"),
    [
        ({"DB_PASSWORD": "hunter22"}, ["hunter22"]),
        ({"PGPASSWORD": "hunter22", "csrf-token": "abc-123"}, ["hunter22", "abc-123"]),
        ({"DATABASE_URL": "postgres://a:hunter22@db/x?sslmode=off"}, ["hunter22"]),
        ({"REDIS_URL": "redis://:hunter22@redis:6379"}, ["hunter22"]),
        ({"SECRET_KEY": "{secret}", "URL": "redis://:{redis.password}@r"}, []),
        ({"SECRET_KEY": "a{{b}}c1"}, ["a{b}c1"]),
        ({"DB_PASSWORD_FILE": "/run/secrets/db", "TOKEN_TTL": "3600000", "TOKEN_URL": "https://a/b1"}, []),
        ({"POSTGRES_PASSWORD": "postgres", "SECRET": "x1"}, []),
        ({"PASSENGER": "hunter22", "MONKEY": "hunter22", "COMPASS": "hunter22"}, []),
        ({"apiKey": "hunter22"}, ["hunter22"]),
    ],
)
def test_variables_that_are_named_as_secrets(variables: dict[str, str], secrets: list[str]) -> None:
    """And passwords in addresses, whatever they are called. What is a word, or tells of a secret, is none."""
    assert list(secrets_of_variables(variables)) == secrets


def test_everything_that_a_setup_file_says(tmp_path: Path) -> None:
    """In variables of all versions, headers, forms and JSON."""
    file = tmp_path / "shop.toml"
    file.write_text(SHOP, encoding="utf-8")
    assert set(OURS) - {SESSION, "s:4fKq0pZr-session-cookie", CSRF} <= set(secrets_in(load_setup(file)))
    step: dict[str, Any] = {
        "post": "/x",
        "json": {"a": [{"password": "one-1one"}]},
        "headers": {"X-Session-Token": "two-2two", "X-Token": "three-3t"},
        "expect": {"status": 200},
    }
    form = {"post": "/x", "form": {"password": "four-4four"}, "expect": {"status": 200}}
    whoami = {"get": "/", "recognised": {"status": 200, "contains": "{user.email}"}, "logged_out": {"status": 303}}
    setup: Setup = parse_setup(
        {
            "app": {"image": "x", "env": {"P": "{port}"}, "instance_env": {"app-1": {"API_TOKEN": "five-5five"}}},
            "rollout": {"env": {"API_TOKEN": "six-6six"}},
            "journey": {"register": {"steps": [step]}, "login": {"steps": [form]}, "whoami": {"steps": [whoami]}},
        },
        source="x",
    )
    assert set(secrets_in(setup)) == {"one-1one", "two-2two", "three-3t", "four-4four", "five-5five", "six-6six"}


def test_a_password_in_an_address_is_not_repeated() -> None:
    """In the message that refuses it."""
    with pytest.raises(Exception, match=r"got http://\.\.\.@example\.org\)") as refused:
        site_of("http://me:hunter22@example.org", takes_path=True)
    assert "hunter22" not in str(refused.value)
