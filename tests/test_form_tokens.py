"""Tokens against forged requests as frameworks make them: masked anew on each page, written as HTML, tied to a cookie that a
browser holds back over plain http."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from scripted_server import ScriptedServer, Talk

from harness.journeys import compile_journeys
from harness.model import Answer
from harness.traffic import Journal, Task, Traffic

JOURNEYS = {
    "login": {
        "steps": [
            {"get": "/login", "take": {"csrf": {"field": "csrf"}}},
            {"post": "/login", "form": {"csrf": "{csrf}"}, "expect": {"status": 303}},
        ]
    },
    "upload": {
        "steps": [
            {"get": "/login", "take": {"csrf": {"field": "csrf"}}},
            {
                "post": "/upload",
                "form": {"csrf": "{csrf}"},
                "files": {"file": "{text}"},
                "expect": {"status": 201, "contains": "{text}"},
            },
        ]
    },
}


class Masked:
    """Gives a token on each page that is good once, for the browser that holds the cookie it came with."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}
        self.pages = 0
        self.server = ScriptedServer({"/login": self.login, "/upload": self.upload})

    def close(self) -> None:
        self.server.close()

    def login(self, talk: Talk) -> None:
        if talk.seen.method == "GET":
            self.pages += 1
            token, cookie = f"<\"masked&{self.pages}'>", f"seed={self.pages}"
            self.given[token] = cookie
            page = f"<form><input type='hidden' value=\"{escape(token)}\" name=csrf></form>"
            talk.answer(page.encode(), headers=f"Set-Cookie: {cookie}; Secure; HttpOnly; SameSite=Strict; Path=/\r\n")
        else:
            form = parse_qs(talk.seen.body.decode())
            self.answer(talk, form["csrf"][0], "303 See Other", b"")

    def upload(self, talk: Talk) -> None:
        boundary = talk.seen.headers["content-type"].partition("boundary=")[2].encode()
        fields = [
            part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in talk.seen.body.split(b"--" + boundary)
        ]
        self.answer(talk, fields[1].decode(), "201 Created", fields[2])

    def answer(self, talk: Talk, token: str, status: str, body: bytes) -> None:
        good = self.given.pop(token, None) == talk.seen.headers.get("cookie")
        talk.answer(body, status=status if good else "403 Forbidden")


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    journal = tmp_path / "history.jsonl"
    with (
        closing(Masked()) as masked,
        Journal(journal, run="r"),
        Traffic(
            journal=journal,
            journeys=compile_journeys(JOURNEYS),
            targets={"balancer": masked.server.address},
            names={},
            timeout_seconds=5,
            seed=1,
        ) as made,
    ):
        made.begin_scenario("one")
        yield made


@pytest.mark.parametrize("journey", ["login", "upload"])
def test_each_page_has_its_own_token(traffic: Traffic, journey: str) -> None:
    """Taken from the page that was got just before, with the cookie of that page; in a form and beside a file."""
    people = traffic.new_visitors(3)
    tasks = [Task(person, journey, record=f"r{person}") for person in people for _ in range(2)]
    assert [result.answer for result in traffic.perform(tasks)] == [Answer.DONE] * 6
