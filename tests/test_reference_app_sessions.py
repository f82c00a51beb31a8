"""The reference app's sessions in full: the basket, the way back to the page that was wanted, the limit; and what is wrong
with each of them when a switch says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from reference_app import known_bad
from reference_app.overload import Limiter
from reference_app.server import Parts
from reference_app.sessions import MemorySessions, Session
from reference_app.site import Site
from tests.test_reference_app import EMAIL, PASSWORD, Browser, open_site, settings


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def wrong(runner: asyncio.Runner, switch: str, **changes: Any) -> Site:
    """A site with this one fault."""
    given = settings(known_bad=(switch,), **changes)
    return open_site(runner, known_bad.spoil(Parts(given)).site, **changes)


def person_of(site: Site, runner: asyncio.Runner) -> Browser:
    browser = Browser(site, runner)
    browser.register()
    browser.log_in()
    return browser


def put(browser: Browser, item: str, text: str) -> int:
    return browser.post("/basket", {"id": item, "text": text, "csrf_token": browser.get("/dashboard").csrf}).status


def test_a_basket_keeps_what_is_put_in_for_its_owner(runner: asyncio.Runner) -> None:
    """Two things are both there; what is not there, and what cannot be kept, is said to be so."""
    ann = person_of(open_site(runner), runner)
    assert [put(ann, "a", "one"), put(ann, "b", "two"), put(ann, "a b", "no id"), put(ann, "c", "")] == [
        201,
        201,
        400,
        400,
    ]
    assert [ann.get("/basket/a").text, ann.get("/basket/b").text, ann.get("/basket/c").status] == ["one", "two", 404]
    assert Browser(ann.site, runner).get("/basket").went_to == (303, "/login?next=%2Fbasket")


def wanted(browser: Browser) -> dict[str, str]:
    """The log-in form of somebody who wanted their basket, filled in."""
    page = browser.get("/login?next=/basket")
    detour = page.text.partition('name="detour" value="')[2].partition('"')[0]
    return {"csrf_token": page.csrf, "detour": detour, "email": EMAIL, "password": PASSWORD}


def test_whoever_wanted_a_page_comes_to_it_and_is_told_once(runner: asyncio.Runner) -> None:
    site = open_site(runner)
    browser = Browser(site, runner)
    browser.register()
    assert browser.post("/login", wanted(browser)).went_to == (303, "/basket")
    told = "Here is the page you wanted"
    assert [told in browser.get("/basket").text for _ in range(2)] == [True, False]


@pytest.mark.parametrize("path", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", ""])
def test_nobody_is_led_elsewhere(runner: asyncio.Runner, path: str) -> None:
    """Only a page of ours is kept, and a form that says another is not ours."""
    browser = Browser(open_site(runner), runner)
    browser.register()
    assert "detour" not in browser.get(f"/login?next={path}").text
    forged = wanted(browser) | {"detour": "//elsewhere.example.signature"}
    assert browser.post("/login", forged).status == 400


def test_a_limit_turns_away_what_is_too_much_and_nobody_who_operates_it(runner: asyncio.Runner) -> None:
    """One at a time: the second is told so, with when to come again; health is answered all the same."""
    statuses: dict[str, list[int]] = {}

    async def check() -> None:
        release = asyncio.Event()

        async def page(_scope: Any, _receive: Any, send: Any) -> None:
            await release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        limiter = Limiter(page, most_in_flight=1)

        async def ask(path: str) -> None:
            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.setdefault(path, []).append(message["status"])

            await limiter({"type": "http", "path": path, "method": "GET", "headers": []}, None, send)  # type: ignore[arg-type]

        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask("/a"))
            await asyncio.sleep(0)
            await ask("/b")
            ready = group.create_task(ask("/ready"))
            await asyncio.sleep(0)
            assert not first.done()
            assert not ready.done()
            release.set()

    runner.run(check())
    assert statuses == {"/b": [503], "/a": [200], "/ready": [200]}


def test_what_is_kept_dies_with_its_session() -> None:
    """And nothing is kept where there is none."""

    async def check() -> None:
        store = MemorySessions(60)
        assert not await store.keep("nobody", "a", "1")
        token = await store.begin(Session(1, EMAIL), token="given")
        assert token == "given"
        assert await store.keep(token, "a", "1")
        assert await store.kept(token, "a") == "1"
        await store.end(token)
        assert await store.kept(token, "a") is None

    asyncio.run(check())


# What the switches do wrong; that the good parts do better is shown here and in `test_reference_app`.


def test_sessions_cached_knows_somebody_who_has_logged_out_elsewhere(runner: asyncio.Runner) -> None:
    ann = person_of(wrong(runner, "sessions-cached"), runner)
    ann.get("/dashboard")
    token = ann.runner.run(ann.site.signer()).unsign(ann.cookie or "")
    runner.run(ann.site.sessions._store.end(token))  # type: ignore[attr-defined]
    assert ann.get("/dashboard").status == 200


@pytest.mark.parametrize(
    ("switch", "count", "both_kept"),
    [("last-write-wins", 1, False), ("session-counter-read-modify-write", 1, True), (None, 2, True)],
)
def test_what_two_requests_change_at_once(
    runner: asyncio.Runner, switch: str | None, count: int, both_kept: bool
) -> None:
    """One of two steps, and of two things, is lost where all is written back."""
    site = wrong(runner, switch) if switch else open_site(runner)

    async def both() -> tuple[int, list[str | None]]:
        store = site.sessions
        token = await store.begin(Session(1, EMAIL))
        counts = await asyncio.gather(store.count(token), store.count(token))
        await asyncio.gather(store.keep(token, "a", "1"), store.keep(token, "b", "2"))
        return max(value or 0 for value in counts), [await store.kept(token, name) for name in ("a", "b")]

    highest, kept = runner.run(both())
    assert highest == count
    assert (None not in kept) is both_kept


@pytest.mark.parametrize(("switch", "status"), [("id-kept-at-login", 200), (None, 303)])
def test_an_id_from_before_the_login(runner: asyncio.Runner, switch: str | None, status: int) -> None:
    site = wrong(runner, switch) if switch else open_site(runner)
    browser = Browser(site, runner)
    browser.register()
    thief = Browser(site, runner, cookie=browser.cookie)
    browser.log_in()
    assert (browser.get("/dashboard").status, thief.get("/dashboard").status) == (200, status)


def test_session_not_renewed_ends_a_session_that_is_in_use(runner: asyncio.Runner) -> None:
    """Its end is set at the log-in, and using it moves nothing."""
    ann = person_of(wrong(runner, "session-not-renewed"), runner)
    token = runner.run(ann.site.signer()).unsign(ann.cookie or "")
    assert ann.get("/dashboard").status == 200
    runner.run(ann.site.sessions.keep(token or "", "end", "0"))
    assert ann.get("/dashboard").went_to == (303, "/login")


def test_csrf_in_memory_refuses_the_forms_of_another_process(runner: asyncio.Runner) -> None:
    one, other = wrong(runner, "csrf-in-memory"), wrong(runner, "csrf-in-memory")
    signers = runner.run(one.signer()), runner.run(other.signer())
    form = signers[0].csrf("token")
    assert [signer.is_csrf(form, "token") for signer in signers] == [True, False]
    assert signers[1].unsign(signers[0].sign("token")) == "token"


def test_login_state_in_memory_is_the_instance_s_own(runner: asyncio.Runner) -> None:
    one, other = wrong(runner, "login-state-in-memory"), wrong(runner, "login-state-in-memory")
    carried = runner.run(one.begin_detour("/basket"))
    assert runner.run(other.end_detour(carried)) is None
    assert runner.run(one.end_detour(carried)) == "/basket"


def test_cookie_without_flags_has_none(runner: asyncio.Runner) -> None:
    site = wrong(runner, "cookie-without-flags", cookie_secure=True)
    cookie = Browser(site, runner).get("/login").headers["set-cookie"].lower()
    assert not {"httponly", "secure", "samesite"} & {part.strip().partition("=")[0] for part in cookie.split(";")}


def test_pages_shared_gives_one_person_the_page_of_another(runner: asyncio.Runner) -> None:
    site = wrong(runner, "pages-shared")
    site._SECONDS = 60.0  # type: ignore[attr-defined]
    ann = person_of(site, runner)
    bob = Browser(site, runner)
    bob.app = ann.app
    bob.register("bob@example.org")
    bob.log_in("bob@example.org")
    ann.get("/dashboard")
    pages = [bob.get("/dashboard") for _ in range(3)]
    assert not any("bob@example.org" in page.text for page in pages)
    assert len({str(page.headers) for page in pages}) == 1


@pytest.mark.parametrize(("switch", "status"), [("cookie-cleared-on-errors", 303), (None, 200)])
def test_an_error_and_the_cookie(runner: asyncio.Runner, switch: str | None, status: int) -> None:
    site = wrong(runner, switch) if switch else open_site(runner)
    ann = person_of(site, runner)
    site.database.is_down = True  # type: ignore[attr-defined]
    assert ann.post("/notes", {"id": "n", "text": "t", "csrf_token": ann.get("/dashboard").csrf}).status == 503
    site.database.is_down = False  # type: ignore[attr-defined]
    assert ann.get("/dashboard").status == status


def test_renewed_without_grace_voids_the_cookie_that_was_sent(runner: asyncio.Runner) -> None:
    """Who gets the answer goes on with a new cookie; who does not has an old one, which is nobody's."""
    ann = person_of(wrong(runner, "renewed-without-grace"), runner)
    gave_up = Browser(ann.site, runner, cookie=ann.cookie)
    assert ann.post("/counter", {"csrf_token": ann.get("/dashboard").csrf}).status == 200
    assert ann.get("/dashboard").status == 200
    assert gave_up.get("/dashboard").went_to == (303, "/login")
