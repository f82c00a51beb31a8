"""What the reference application keeps for all its instances: its pages, on dictionaries, and the files of a form."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from reference_app.known_bad_shared import SHARED_SWITCHES
from reference_app.shared import LIMIT, TABLES, Shared
from reference_app.shared_pages import _file
from reference_app.site import Site
from tests.test_reference_app import Answer, Browser, open_site


class Kept(Shared):
    """What the pages use of it, in dictionaries."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, bytes]] = {}
        self.orders: dict[tuple[int, str], int] = {}
        self.numbers = 0
        self.counts: Counter[object] = Counter()
        self.text = ""

    async def keep_file(self, person_id: int, content: bytes) -> str:
        self.files["f1"] = (person_id, content)
        return "f1"

    async def find_file(self, file_id: str, person_id: int) -> bytes | None:
        owner, content = self.files.get(file_id, (None, None))
        return content if owner == person_id else None

    async def order(self, person_id: int, item: str, *, key: str | None) -> tuple[int, bool]:
        self.numbers += 1
        if key is None:
            return self.numbers, True
        number = self.orders.setdefault((person_id, key), self.numbers)
        return number, number == self.numbers

    async def raise_tally(self, name: str) -> int:
        self.counts[name] += 1
        return self.counts[name]

    async def is_allowed(self, person_id: int) -> bool:
        self.counts[person_id] += 1
        return self.counts[person_id] <= LIMIT

    async def change_notice(self, text: str) -> None:
        self.text = text

    async def notice(self) -> str:
        return self.text


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Somebody who is logged in."""
    with asyncio.Runner() as runner:
        site = open_site(runner)
        site.shared = Kept()
        someone = Browser(site, runner)
        someone.register()
        someone.log_in()
        yield someone
        runner.run(site.close())


def post(browser: Browser, path: str, *, key: str = "", **fields: str) -> Answer:
    headers = {"x_csrf_token": browser.get("/dashboard").csrf} | ({"idempotency_key": key} if key else {})
    return browser.post(path, fields, **headers)


def test_an_order_with_a_key_is_made_once(browser: Browser) -> None:
    """A new one is 201; the same key is 200 with the same number; without a key each is a new one."""
    first = post(browser, "/orders", item="a book", key="k1")
    again = post(browser, "/orders", item="a book", key="k1")
    assert (first.status, again.status) == (201, 200)
    assert first.text == again.text == '{"number":1}'
    assert post(browser, "/orders", item="a book").text == '{"number":3}'
    assert post(browser, "/orders", item="").status == 400
    assert post(browser, "/orders", item="a", key="no key").status == 400


def test_a_tally_counts_and_a_limit_limits(browser: Browser) -> None:
    """One more each time; so many invitations and then 429 with the time to wait."""
    assert [post(browser, "/tallies/likes").text for _ in range(2)] == ['{"total":1}', '{"total":2}']
    assert [post(browser, "/invitations").status for _ in range(LIMIT + 1)] == [202] * LIMIT + [429]
    assert post(browser, "/invitations").headers["retry-after"] == "60"


def test_a_notice_is_seen(browser: Browser) -> None:
    """What was written last; nothing at first. Nobody without a session is told."""
    assert browser.get("/notice").text == ""
    assert post(browser, "/notice", text="closed on Monday").status == 200
    assert browser.get("/notice").text == "closed on Monday"
    browser.cookie = None
    assert browser.get("/notice").went_to == (303, "/login?next=%2Fnotice")
    assert browser.get("/files/f1").went_to == (303, "/login?next=%2Ffiles%2Ff1")


@pytest.mark.parametrize("path", ["/orders", "/files", "/tallies/x", "/invitations", "/notice"])
def test_a_forged_post_is_refused(browser: Browser, path: str) -> None:
    """Each of them changes something, so each wants the token of the session."""
    assert browser.post(path, {"item": "x", "text": "x"}).status == 403


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nmine\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("content_type", "body", "content"),
    [
        ("multipart/form-data; boundary=b", FORM, b"hello"),
        ("multipart/form-data; boundary=other", FORM, b""),
        ("application/x-www-form-urlencoded", b"file=hello", b""),
        ("multipart/form-data; boundary=b", b"", b""),
        ("", b"hello", b""),
    ],
)
def test_a_file_is_found_in_its_form(content_type: str, body: bytes, content: bytes) -> None:
    """The first part with a file name; anything else is no file."""
    assert _file(content_type, body) == content


def test_every_switch_replaces_something() -> None:
    """Each is a site of its own with its sentence; the tables of the good application are whole."""
    assert all(issubclass(site, Site) and sentence.endswith(".") for sentence, site in SHARED_SWITCHES.values())
    assert TABLES.count("CREATE") == TABLES.count("IF NOT EXISTS") > 4
