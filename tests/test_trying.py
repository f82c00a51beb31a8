"""The journeys gone through once: each request, its answer and its meaning are shown, secrets are not, and what may be missing is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from scripted_server import Script, ScriptedServer, Talk

from harness import cli
from harness.trying import chosen

SHOP = """
[[journey.register.steps]]
post = "/register"
form = { email = "{user.email}", password = "{user.password}" }
expect = { status = 201 }
[[journey.login.steps]]
get = "/login"
take = { token = { field = "_token" } }
[[journey.login.steps]]
post = "/login"
form = { email = "{user.email}", password = "{user.password}", _token = "{token}" }
expect = { status = 303, location = "/me" }
[[journey.whoami.steps]]
get = "/me"
recognised = { status = 200, contains = "{user.email}" }
logged_out = { status = 303, location = "/login" }
[[journey.logout.steps]]
post = "/logout"
expect = { status = 303 }
"""
TOKEN = "abcdefgh0123456789"


class Shop:
    """A small shop: registers, gives a token, logs in with it, knows who is there."""

    def __init__(self, **changed: Script) -> None:
        self.people: dict[str, str] = {}
        self.password = ""
        scripts: dict[str, Script] = {
            "/register": lambda talk: talk.answer(status="201 Created"),
            "/login": self.login,
            "/me": self.me,
            "/logout": self.logout,
        }
        self.server = ScriptedServer(scripts | {f"/{name}": script for name, script in changed.items()})

    def close(self) -> None:
        self.server.close()

    def login(self, talk: Talk) -> None:
        if talk.seen.method == "GET":
            talk.answer(f'<input type="hidden" name="_token" value="{TOKEN}">'.encode())
            return
        form = parse_qs(talk.seen.body.decode())
        self.password = form["password"][0]
        if form.get("_token") != [TOKEN]:
            talk.answer(b"forbidden", status="403 Forbidden")
            return
        self.people["sid=s3cr3tcookie"] = form["email"][0]
        talk.answer(
            status="303 See Other", headers="Location: /me\r\nSet-Cookie: sid=s3cr3tcookie; HttpOnly; Secure\r\n"
        )

    def me(self, talk: Talk) -> None:
        who = self.people.get(talk.seen.headers.get("cookie", ""))
        if who is None:
            talk.answer(status="303 See Other", headers="Location: /login\r\n")
        else:
            talk.answer(f"hello {who}".encode())

    def logout(self, talk: Talk) -> None:
        self.people.clear()
        talk.answer(status="303 See Other", headers="Location: /\r\n")


Try = Callable[..., int]


@pytest.fixture
def tried(tmp_path: Path) -> Try:
    def run(shop: Shop, *words: str, setup: str = SHOP) -> int:
        file = tmp_path / "shop.toml"
        file.write_text(setup, encoding="utf-8")
        host, port = shop.server.address
        with closing(shop):
            return cli.main(["journey", str(file), "--try", "--host", f"http://{host}:{port}", *words])

    return run


def test_all_goes_as_declared(tried: Try, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step is shown with what it sent, what came, what it meant and what was taken; and who has logged out is asked once more."""
    shop = Shop()
    assert tried(shop) == 0
    out = capsys.readouterr().out
    assert [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith(" ok")] == [
        "register  POST /register",
        "login 1/2  GET /login",
        "login 2/2  POST /login",
        "whoami  GET /me",
        "logout  POST /logout",
        "whoami, logged out  GET /me",
    ]
    assert "took      token (18 characters)" in out
    assert "answered  303" in out
    assert "cookie    sid (HttpOnly; Secure)" in out
    assert "a cookie is Secure" in out
    assert "meant     recognised" in out


def test_no_secret_is_shown(tried: Try, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the password nor the token nor the cookie's value, in text or in JSON."""
    for words in ([], ["--json"]):
        shop = Shop()
        assert tried(shop, *words) == 0
        out = "".join(capsys.readouterr())
        assert shop.password
        for secret in (shop.password, TOKEN, "s3cr3tcookie"):
            assert secret not in out
        assert "[redacted]" in out


@pytest.mark.parametrize(
    ("changed", "setup", "told"),
    [
        # A token that is not sent is told by the page's own hidden field.
        (
            {},
            SHOP.replace(', _token = "{token}"', "").replace('take = { token = { field = "_token" } }', ""),
            "the page before has hidden fields that are not sent (_token)",
        ),
        ({}, SHOP.replace('field = "_token"', 'field = "csrf"'), "MISSING   token: the answer does not hold it"),
        (
            {"register": lambda talk: talk.answer(status="429 Too Many Requests")},
            SHOP,
            "a limit for each address meets them together",
        ),
        (
            {"me": lambda talk: talk.answer(status="301 Moved Permanently", headers="Location: https://shop/me\r\n")},
            SHOP,
            "it is sent to https",
        ),
        (
            {"me": lambda talk: talk.answer(status="301 Moved Permanently", headers="Location: /me/\r\n")},
            SHOP,
            "it is sent to the same path with a slash at its end: ask for /me/",
        ),
        (
            {"register": lambda talk: talk.answer(b"this address is taken")},
            SHOP,
            "a form that is shown again with status 200 is how many applications refuse",
        ),
        ({"register": lambda talk: talk.reset()}, SHOP, "no answer: "),
        (
            {"logout": lambda talk: talk.answer(status="303 See Other")},
            SHOP,
            "logged_out in journey.whoami says how that looks",
        ),
        (
            {"register": lambda talk: talk.answer(b"nothing is forged here", status="403 Forbidden")},
            SHOP,
            "a token against forged requests may be missing",
        ),
    ],
)
def test_what_may_be_missing_is_told(
    tried: Try, capsys: pytest.CaptureFixture[str], changed: dict[str, Script], setup: str, told: str
) -> None:
    """By what is known to go wrong in such a place. Exit code 1."""
    assert tried(Shop(**changed), setup=setup) == 1
    out = capsys.readouterr().out
    assert "NOT OK" in out
    assert told in out


def test_a_value_that_nobody_gave_is_not_sent(tried: Try, capsys: pytest.CaptureFixture[str]) -> None:
    """The step is shown with the name of what it lacks."""
    later = SHOP.replace('field = "_token"', 'field = "csrf"').replace(
        'post = "/logout"', 'post = "/logout"\nform = { _token = "{token}" }'
    )
    shop = Shop()
    assert tried(shop, setup=later) == 1
    assert "no value for {token}: no answer before gave it, so that nothing was sent" in capsys.readouterr().out
    assert not shop.server.requests("/logout")


def test_hostile_answers_are_lived_with(tried: Try, capsys: pytest.CaptureFixture[str]) -> None:
    """A header without an end, bytes that are no text, what would move the cursor: told in a line, and no more."""
    hostile = Shop(register=lambda talk: talk.send(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n"))
    assert tried(hostile) == 1
    assert tried(Shop(register=lambda talk: talk.answer(b"\xff\x1b[2J\x00" * 1000, status="500 No"))) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) < 600


def test_it_is_listed_without_being_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be asked, in order; as JSON as it was declared."""
    file = tmp_path / "shop.toml"
    file.write_text('[app]\nimage = "shop"\n' + SHOP, encoding="utf-8")
    assert cli.main(["journey", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        " register  POST /register",
        " login 1/2  GET /login",
        " login 2/2  POST /login",
    ]
    assert cli.main(["journey", str(file), "--json", "--only", "whoami"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["register", "login", "whoami"]
    assert cli.main(["journey", str(file), "--only", "wohami"]) == 2
    assert "declares no journey.wohami: it has register, login, whoami, logout" in capsys.readouterr().err


def test_which_are_gone_through() -> None:
    """In the order in which each has what it needs; what changes something for everybody when it is named."""
    known = ("logout", "see", "change", "read", "write", "whoami", "login", "register", "limited")
    assert chosen(known, ()) == ("register", "login", "whoami", "write", "read", "logout")
    assert chosen(known, ("see",)) == ("register", "login", "change", "see")
    assert chosen(known, ("read", "logout")) == ("register", "login", "write", "read", "logout")
