"""The reference app's pages, on a dictionary for a database and the memory store: no server, no socket."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import reference_app
from reference_app import known_bad
from reference_app.app import create_app
from reference_app.assets import Assets
from reference_app.database import NoteWritten, Person
from reference_app.errors import UnavailableError
from reference_app.server import Parts
from reference_app.sessions import Session
from reference_app.settings import Settings
from reference_app.site import Site

EMAIL = 'ann"<b>@example.org'
PASSWORD = "correct horse"


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "port": 1,
        "database_url": "postgres://nowhere",
        "secret_key": "s" * 32,
        "session_store": "memory",
        "instance": "app-1",
        "password_cost": 4,
    }
    return Settings(**{**values, **changes})


class Tables:
    """What the handlers use of the database, in dictionaries."""

    identity = "postgres:test"

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.notes: dict[str, tuple[int, str]] = {}
        self.is_down = False

    def _answer(self) -> None:
        if self.is_down:
            raise UnavailableError("database: down")

    async def open(self) -> None:
        self._answer()

    async def close(self) -> None:
        pass

    async def ping(self, *, within_seconds: float) -> None:
        self._answer()

    async def add_person(self, email: str, password: str) -> bool:
        self._answer()
        if email in self.people:
            return False
        self.people[email] = Person(len(self.people) + 1, email, password)
        return True

    async def find_person(self, email: str) -> Person | None:
        self._answer()
        return self.people.get(email)

    async def add_note(self, note_id: str, person_id: int, text: str) -> NoteWritten:
        self._answer()
        if note_id not in self.notes:
            self.notes[note_id] = (person_id, text)
            return NoteWritten.NEW
        return NoteWritten.SAME if self.notes[note_id] == (person_id, text) else NoteWritten.TAKEN

    async def find_note(self, note_id: str, person_id: int) -> str | None:
        self._answer()
        owner, text = self.notes.get(note_id, (None, None))
        return text if owner == person_id else None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.text)
        assert found, self.text
        return found[1]

    @property
    def went_to(self) -> tuple[int, str | None]:
        return self.status, self.headers.get("location")


@dataclass
class Browser:
    """Calls the application as a server would; keeps the session cookie as a browser would."""

    site: Site
    runner: asyncio.Runner
    cookie: str | None = None
    app: Any = field(init=False)

    def __post_init__(self) -> None:
        self.app = create_app(self.site)

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, form: dict[str, str] | bytes = b"", **headers: str) -> Answer:
        body = form if isinstance(form, bytes) else urlencode(form).encode()
        return self.request("POST", path, body, headers)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        return self.runner.run(self._request(method, path, body, headers or {}))

    async def _request(self, method: str, target: str, body: bytes, extra: dict[str, str]) -> Answer:
        path, _, query = target.partition("?")
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in extra.items()]
        if self.cookie is not None:
            headers.append((b"cookie", f"session_id={self.cookie}".encode()))
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        scope |= {"scheme": "http", "client": ("10.0.0.9", 1), "server": ("127.0.0.1", 80)}
        sent: list[dict[str, Any]] = []
        asked: list[str] = []

        async def receive() -> dict[str, Any]:
            if asked:  # whoever asks again waits for the client to leave, and this one stays
                await asyncio.Event().wait()
            asked.append(path)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        if "set-cookie" in got:
            self.cookie = SimpleCookie(got["set-cookie"])["session_id"].value or None
        return Answer(sent[0]["status"], got, b"".join(message["body"] for message in sent[1:]).decode())

    def register(self, email: str = EMAIL, password: str = PASSWORD) -> Answer:
        form = {"csrf_token": self.get("/register").csrf, "email": email, "password": password}
        return self.post("/register", form)

    def log_in(self, email: str = EMAIL, password: str = PASSWORD) -> Answer:
        form = {"csrf_token": self.get("/login").csrf, "email": email, "password": password}
        return self.post("/login", form)


class Published(Assets):
    """Those of every build, in a dictionary."""

    def __init__(self, own: Assets) -> None:
        self.stylesheet, self.content = own.stylesheet, own.content
        self.every: dict[str, str] = {"site-of-another-build.css": "p {}"}

    async def publish(self) -> None:
        self.every[self.stylesheet] = self.content

    async def find(self, name: str) -> str | None:
        return self.every.get(name)


def open_site(runner: asyncio.Runner, site_type: type[Site] = Site, **changes: Any) -> Site:
    site = site_type(settings(**changes))
    site.database = Tables()  # type: ignore[assignment]
    site.assets = Published(site.assets)
    runner.run(site.open())
    return site


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def site(runner: asyncio.Runner) -> Iterator[Site]:
    site = open_site(runner)
    yield site
    runner.run(site.close())


@pytest.fixture
def browser(site: Site, runner: asyncio.Runner) -> Browser:
    return Browser(site, runner)


@pytest.fixture
def ann(browser: Browser) -> Browser:
    browser.register()
    assert browser.log_in().went_to == (303, "/dashboard")
    return browser


def test_a_person_registers_logs_in_and_is_named_on_the_dashboard(browser: Browser) -> None:
    assert browser.register().went_to == (303, "/login")
    assert browser.get("/dashboard").went_to == (303, "/login")

    assert browser.log_in().went_to == (303, "/dashboard")

    page = browser.get("/dashboard")
    assert page.status == 200
    assert "ann&quot;&lt;b&gt;@example.org" in page.text
    assert "<b>" not in page.text


def test_the_session_cookie_is_for_this_site_and_no_script(browser: Browser) -> None:
    browser.register()
    flags = browser.log_in().headers["set-cookie"].partition("; ")[2].split("; ")
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=lax"]


def test_the_cookie_is_secure_if_set_so(runner: asyncio.Runner) -> None:
    browser = Browser(open_site(runner, cookie_secure=True), runner)
    assert "Secure" in browser.get("/login").headers["set-cookie"]


@pytest.mark.parametrize(
    ("email", "password", "status"),
    [
        ("ann", PASSWORD, 400),
        ("ann@example.org\0", PASSWORD, 400),
        ("ann@example.org", "short", 400),
        ("ann@example.org", "x" * 201, 400),
        ("Ann@Example.org ", PASSWORD, 303),
    ],
)
def test_registering_needs_an_address_and_a_password(browser: Browser, email: str, password: str, status: int) -> None:
    assert browser.register(email, password).status == status


def test_an_email_is_registered_once(browser: Browser) -> None:
    browser.register()
    assert browser.register().status == 409


def test_a_wrong_password_and_an_unknown_person_get_the_same_answer_with_the_form(browser: Browser) -> None:
    browser.register()
    wrong, unknown = browser.log_in(password="battery staple"), browser.log_in(email="bob@example.org")
    assert wrong.status == unknown.status == 401
    assert wrong.csrf == unknown.csrf == browser.get("/login").csrf


def test_the_session_id_is_a_new_one_at_login_and_the_old_session_is_gone(ann: Browser) -> None:
    before = ann.cookie
    ann.log_in()
    assert ann.cookie != before

    ann.cookie = before
    assert ann.get("/dashboard").went_to == (303, "/login")


@pytest.mark.parametrize("path", ["/register", "/login", "/logout", "/notes", "/counter"])
@pytest.mark.parametrize("token", ["", "forged", "ümlaut"])
def test_every_post_without_its_csrf_token_is_refused(ann: Browser, path: str, token: str) -> None:
    form = {"csrf_token": token, "email": EMAIL, "password": PASSWORD, "id": "n", "text": "t"}
    assert ann.post(path, form).status == 403
    assert ann.get("/dashboard").status == 200


def test_a_csrf_token_of_another_session_is_refused(ann: Browser) -> None:
    theirs = Browser(ann.site, ann.runner).get("/login").csrf
    assert ann.post("/counter", {"csrf_token": theirs}).status == 403


def test_logging_out_ends_the_session_for_a_copy_of_the_cookie_too(ann: Browser) -> None:
    copy = ann.cookie
    assert ann.post("/logout", {"csrf_token": ann.get("/dashboard").csrf}).went_to == (303, "/login")
    assert ann.cookie is None

    ann.cookie = copy
    assert ann.get("/dashboard").went_to == (303, "/login")


def test_a_cookie_signed_with_another_secret_is_nobody_and_is_replaced_at_the_login_page(
    ann: Browser, runner: asyncio.Runner
) -> None:
    other = Browser(open_site(runner, secret_key="t" * 32), runner, cookie=ann.cookie)
    other.site.sessions = ann.site.sessions
    answer = other.get("/dashboard")
    assert answer.went_to == (303, "/login")
    assert "set-cookie" not in answer.headers

    other.get("/login")
    assert other.cookie != ann.cookie


def test_a_session_nobody_used_for_long_is_over(runner: asyncio.Runner) -> None:
    browser = Browser(open_site(runner, session_seconds=-1), runner)
    browser.register()
    browser.log_in()
    assert browser.get("/dashboard").went_to == (303, "/login")


def test_a_note_is_written_once_and_writing_it_again_is_no_error(ann: Browser) -> None:
    csrf = ann.get("/dashboard").csrf
    note = {"id": "n-1", "text": "grüße", "csrf_token": csrf}
    first = ann.post("/notes", note)
    assert (first.status, first.headers["location"]) == (201, "/notes/n-1")
    assert ann.post("/notes", note).status == 200
    assert ann.post("/notes", {**note, "text": "other"}).status == 409
    assert ann.get("/notes/n-1").text == "grüße"


def test_the_csrf_token_may_come_as_a_header(ann: Browser) -> None:
    answer = ann.post("/notes", {"id": "n", "text": "t"}, x_csrf_token=ann.get("/dashboard").csrf)
    assert answer.status == 201


def test_notes_are_read_by_their_owner_only(ann: Browser) -> None:
    ann.post("/notes", {"id": "n", "text": "t", "csrf_token": ann.get("/dashboard").csrf})
    bob = Browser(ann.site, ann.runner)
    assert bob.get("/notes/n").went_to == (303, "/login?next=%2Fnotes%2Fn")

    bob.register("bob@example.org")
    bob.log_in("bob@example.org")
    assert bob.get("/notes/n").status == 404
    assert bob.post("/notes", {"id": "n", "text": "t", "csrf_token": bob.get("/dashboard").csrf}).status == 409


@pytest.mark.parametrize(
    ("note_id", "text"), [("", "t"), ("a/b", "t"), ("x" * 65, "t"), ("n", ""), ("n", "\0"), ("n", "x" * 4001)]
)
def test_a_note_that_cannot_be_kept_is_refused(ann: Browser, note_id: str, text: str) -> None:
    form = {"id": note_id, "text": text, "csrf_token": ann.get("/dashboard").csrf}
    assert ann.post("/notes", form).status == 400


def test_a_form_that_is_too_large_or_no_text_is_refused(ann: Browser) -> None:
    assert ann.post("/login", b"x" * 70_000).status == 413
    assert ann.post("/login", b"\xff=1").status == 400


def test_the_counter_is_the_sessions_own(ann: Browser) -> None:
    def count() -> str:
        return ann.post("/counter", {"csrf_token": ann.get("/dashboard").csrf}).text

    assert [count(), count()] == ['{"count":1}', '{"count":2}']
    ann.log_in()
    assert count() == '{"count":1}'


def test_health_answers_without_its_dependencies_and_ready_does_not(browser: Browser) -> None:
    assert browser.get("/ready").text == '{"ready":true,"reasons":[]}'

    browser.site.database.is_down = True  # type: ignore[attr-defined]
    assert browser.get("/health").status == 200
    ready = browser.get("/ready")
    assert (ready.status, ready.text) == (503, '{"ready":false,"reasons":["database: down"]}')


def test_a_dependency_that_is_down_costs_a_503_and_nobody_their_cookie(ann: Browser) -> None:
    ann.site.database.is_down = True  # type: ignore[attr-defined]
    answer = ann.get("/notes/n")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in answer.headers


def test_an_instance_is_not_ready_while_it_warms_up(runner: asyncio.Runner) -> None:
    site = open_site(runner, warm_up_seconds=100)
    browser = Browser(site, runner)
    assert browser.get("/ready").text == '{"ready":false,"reasons":["this instance is still warming up"]}'

    assert site.opened_at is not None
    site.opened_at -= 100
    assert browser.get("/ready").status == 200


def test_while_draining_it_serves_is_not_ready_and_asks_clients_to_leave(ann: Browser) -> None:
    assert "connection" not in ann.get("/dashboard").headers
    ann.site.draining = True
    assert ann.get("/ready").status == 503
    page = ann.get("/dashboard")
    assert (page.status, page.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("path", ["/health", "/login", "/dashboard", "/no-such-page", "/slow?seconds=-1"])
def test_every_answer_says_which_instance_and_version_gave_it(runner: asyncio.Runner, path: str) -> None:
    answer = Browser(open_site(runner, app_version="7", instance="app-2"), runner).get(path)
    assert (answer.headers["x-app-version"], answer.headers["x-app-instance"]) == ("7", "app-2")


@pytest.mark.parametrize(("seconds", "status"), [("0", 200), ("-1", 400), ("30.1", 400), ("nan", 400), ("x", 400)])
def test_slow_takes_no_more_than_it_may(browser: Browser, seconds: str, status: int) -> None:
    assert browser.get(f"/slow?seconds={seconds}").status == status
    assert browser.get(f"/download?seconds={seconds}").status == status


def test_a_download_comes_whole(browser: Browser) -> None:
    """Its length is told beforehand, so that whoever gets less knows."""
    answer = browser.get("/download?seconds=0.2")
    assert int(answer.headers["content-length"]) == len(answer.text) > 0


def test_version_shows_what_instances_agree_on_and_no_secret(runner: asyncio.Runner) -> None:
    def described(**changes: Any) -> dict[str, str]:
        return runner.run(open_site(runner, **changes).describe())

    first, second = described(), described(instance="app-2", drain_seconds=9.0)
    assert first["config"] == second["config"]
    assert first["database"] == "postgres:test"
    assert first["session_store"] != second["session_store"]  # the memory of two processes
    assert first["config"] != described(secret_key="t" * 32)["config"]
    assert first["config"] != described(session_seconds=5)["config"]
    assert "s" * 32 not in str(first)


def test_the_application_knows_nothing_of_the_harness() -> None:
    folder = Path(next(iter(reference_app.__path__)))
    imported = {
        name.partition(".")[0]
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "reference_app" in imported
    assert "harness" not in imported


HONEST = {"x_forwarded_for": "6.6.6.6, 10.0.0.7", "x_forwarded_proto": "https", "x_real_ip": "10.0.0.7"}


def believed(browser: Browser, **headers: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(browser.request("GET", "/forwarded", headers=headers).text)
    return told


def test_the_balancer_in_front_is_believed_and_nobody_else(runner: asyncio.Runner) -> None:
    """The last address is its word; what stands before it is the client's own."""
    told = believed(Browser(open_site(runner, proxy_hops=1), runner), **HONEST)
    assert (told["client"], told["proto"], told["real_ip"]) == ("10.0.0.7", "https", "10.0.0.7")
    assert told["headers"]["x-forwarded-for"] == ["6.6.6.6, 10.0.0.7"]


def test_without_a_balancer_of_ours_nothing_is_believed(browser: Browser) -> None:
    """Anybody can write such headers."""
    told = believed(browser, **HONEST)
    assert (told["client"], told["proto"]) == (told["peer"], "http")


def test_the_first_address_can_be_believed_on_purpose(runner: asyncio.Runner) -> None:
    """The switch changes that and nothing else."""
    parts = known_bad.spoil(Parts(settings(known_bad=("first-forwarded-for",), proxy_hops=1)))
    told = believed(Browser(open_site(runner, parts.site, proxy_hops=1), runner), **HONEST)
    assert (told["client"], told["proto"]) == ("6.6.6.6", "https")
    told = believed(Browser(open_site(runner, parts.site, proxy_hops=1), runner), x_forwarded_for="10.0.0.7")
    assert told["client"] == "10.0.0.7"


@pytest.mark.parametrize(("hops", "proto", "secure"), [(1, "https", True), (1, "http", False), (0, "https", False)])
def test_cookies_of_who_came_over_https_are_for_https_alone(
    runner: asyncio.Runner, hops: int, proto: str, secure: bool
) -> None:
    """As far as the balancer can be believed."""
    browser = Browser(open_site(runner, proxy_hops=hops), runner)
    answer = browser.request("GET", "/login", headers={"x_forwarded_proto": proto})
    assert ("Secure" in answer.headers["set-cookie"]) is secure


def test_a_page_names_a_stylesheet_that_every_build_has(site: Site, browser: Browser) -> None:
    """Its name says what is in it; one of another build is had as well, and one that never was is not."""
    page = browser.get("/login").text
    assert f'href="/assets/{site.assets.stylesheet}"' in page
    assert browser.get(f"/assets/{site.assets.stylesheet}").text == site.assets.content
    assert browser.get("/assets/site-of-another-build.css").status == 200
    assert browser.get("/assets/site-of-no-build.css").status == 404


def test_who_is_to_stop_says_so_with_every_answer(runner: asyncio.Runner) -> None:
    """Not ready, and please leave; the switches take one of them away each."""
    for switch, status, told in (
        (None, 503, True),
        ("ready-while-stopping", 200, True),
        ("leavers-not-told", 503, False),
    ):
        parts = known_bad.spoil(Parts(settings(known_bad=(switch,) if switch else ())))
        site = open_site(runner, parts.site)
        assert "connection" not in Browser(site, runner).get("/health").headers
        site.draining = True
        answer = Browser(site, runner).get("/ready")
        assert (answer.status, answer.headers.get("connection") == "close") == (status, told)


@pytest.mark.parametrize(("switch", "reads_old"), [("session-format-new", False), ("session-format-upgraded", True)])
def test_another_form_of_sessions(runner: asyncio.Runner, switch: str, reads_old: bool) -> None:
    """The version of before finds nothing of what the new one has kept or turned over."""
    old = open_site(runner)
    new = open_site(runner, known_bad.spoil(Parts(settings(known_bad=(switch,)))).site)
    new.sessions._store = old.sessions  # type: ignore[attr-defined]
    session = Session(person_id=1, email=EMAIL)
    begun = runner.run(new.sessions.begin(session))
    assert runner.run(new.sessions.find(begun)) == session
    assert runner.run(old.sessions.find(begun)) is None
    before = runner.run(old.sessions.begin(session))
    assert (runner.run(new.sessions.find(before)) == session) is reads_old
    assert (runner.run(old.sessions.find(before)) is None) is reads_old
