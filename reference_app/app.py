"""The routes. Whoever has no session is sent to /login; every POST must carry the CSRF token of its session.

Must not: talk to Postgres or Redis itself, or keep anything between two requests.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_app import shared_pages
from reference_app.database import NoteWritten
from reference_app.errors import UnavailableError
from reference_app.forwarding import addresses
from reference_app.overload import Limiter
from reference_app.pages import dashboard_page, login_page, message_page, register_page
from reference_app.session_pages import basket, basket_item, fill_basket, wanted_page
from reference_app.sessions import Session
from reference_app.site import Site
from reference_app.visit import COOKIE, Visit, scheme_of, see, signed_in, site_of

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 30.0
_BIT_SECONDS = 0.1
_BIT = b"0123456789abcdef" * 256
_LOOK_EVERY_SECONDS = 0.1
_EMAIL = re.compile(r"[^@\s\0]{1,100}@[^@\s\0]{1,150}")
_PASSWORD_LENGTH = range(8, 201)
_NOTE_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_NOTE_LENGTH = range(1, 4001)


def create_app(site: Site) -> ASGIApp:
    """The whole application around a site, which must be open before the first request."""
    app = Starlette(
        routes=[
            Route("/", home),
            Route("/register", register_form),
            Route("/register", register, methods=["POST"]),
            Route("/login", login_form),
            Route("/login", login, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
            Route("/dashboard", dashboard),
            Route("/notes", write_note, methods=["POST"]),
            Route("/notes/{id}", read_note),
            Route("/counter", count, methods=["POST"]),
            Route("/basket", basket),
            Route("/basket", fill_basket, methods=["POST"]),
            Route("/basket/{id}", basket_item),
            *shared_pages.ROUTES,
            Route("/assets/{name}", asset),
            Route("/events", events),
            Route("/forwarded", forwarded),
            Route("/health", health),
            Route("/ready", ready),
            Route("/slow", slow),
            Route("/download", download),
            Route("/version", version),
        ],
        exception_handlers={UnavailableError: unavailable},
    )
    app.state.site = site
    limited = Limiter(app, most_in_flight=site.settings.most_in_flight)
    return Envelope(site.wrap(limited), site)


class Envelope:
    """Gives every answer, errors too, the headers that all answers have."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        self._headers = [
            (b"x-app-version", site.settings.app_version.encode()),
            (b"x-app-instance", site.settings.instance.encode()),
            # Every page is somebody's own, or about this instance at this moment.
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_envelope(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
                if self._site.asks_to_leave():
                    # The client is to make its next request on a new connection, which goes to another instance.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        await self._app(scope, receive, send_in_envelope)


# Registering, logging in and out


async def home(_request: Request) -> Response:
    return see("/dashboard")


async def register_form(request: Request) -> Response:
    visit = await Visit.of(request)
    return _to_whoever_comes(visit, register_page(csrf=visit.csrf))


async def login_form(request: Request) -> Response:
    visit = await Visit.of(request)
    wanted = wanted_page(request)
    detour = await visit.site.begin_detour(wanted) if wanted is not None else ""
    return _to_whoever_comes(visit, login_page(csrf=visit.csrf, detour=detour, stylesheet=visit.site.assets.stylesheet))


def _to_whoever_comes(visit: Visit, page: str) -> Response:
    response = HTMLResponse(page)
    return visit.sign_in(response, visit.token) if visit.is_new else response


async def _credentials(request: Request) -> tuple[Visit, str, str]:
    visit = await Visit.of(request)
    await visit.refuse_forged()
    form = await visit.form()
    return visit, form.get("email", "").strip().lower(), form.get("password", "")


async def register(request: Request) -> Response:
    visit, email, password = await _credentials(request)
    site = visit.site
    if not _EMAIL.fullmatch(email) or len(password) not in _PASSWORD_LENGTH:
        problem = (
            f"An email address and a password of {_PASSWORD_LENGTH[0]} to {_PASSWORD_LENGTH[-1]} characters, please."
        )
        return HTMLResponse(register_page(csrf=visit.csrf, email=email, problem=problem), 400)
    if not await site.database.add_person(email, await site.passwords.hash(password)):
        return HTMLResponse(register_page(csrf=visit.csrf, email=email, problem="This email is registered."), 409)
    return see("/login")


async def login(request: Request) -> Response:
    visit, email, password = await _credentials(request)
    site = visit.site
    person = await site.database.find_person(email) if _EMAIL.fullmatch(email) else None
    right = await site.passwords.verify(password[: _PASSWORD_LENGTH[-1]], person.password if person else None)
    if person is None or not right:
        return HTMLResponse(login_page(csrf=visit.csrf, email=email, problem="Wrong email or password."), 401)
    detour = (await visit.form()).get("detour", "")
    wanted = await site.end_detour(detour) if detour else "/dashboard"
    if wanted is None:
        page = message_page("Start again", "We do not know any more which page you wanted. Log in again.")
        return HTMLResponse(page, 400)
    token = await site.log_in(Session(person_id=person.id, email=person.email), visit.token)
    if detour:
        await site.leave_notice(token, "You are logged in. Here is the page you wanted.")
    return visit.sign_in(see(wanted), token)


@signed_in
async def logout(visit: Visit, _session: Session) -> Response:
    await visit.site.log_out(visit.token)
    response = see("/login")
    response.delete_cookie(COOKIE, path="/", **visit.site.cookie_flags(secure=visit.is_secure))
    return response


# What people come for


@signed_in
async def dashboard(visit: Visit, session: Session) -> Response:
    return HTMLResponse(dashboard_page(csrf=visit.csrf, email=session.email))


@signed_in
async def write_note(visit: Visit, session: Session) -> Response:
    form = await visit.form()
    note_id, text = form.get("id", ""), form.get("text", "")
    if not _NOTE_ID.fullmatch(note_id) or len(text) not in _NOTE_LENGTH or "\0" in text:
        raise HTTPException(400, "A note has an id of 1 to 64 letters, digits, - or _ and 1 to 4000 characters.")
    written = await visit.site.database.add_note(note_id, session.person_id, text)
    if written is NoteWritten.TAKEN:
        raise HTTPException(409, "This id belongs to another note.")
    status = 201 if written is NoteWritten.NEW else 200
    return JSONResponse({"id": note_id}, status, headers={"Location": f"/notes/{note_id}"})


@signed_in
async def read_note(visit: Visit, session: Session) -> Response:
    note_id = visit.request.path_params["id"]
    text = await visit.site.database.find_note(note_id, session.person_id) if _NOTE_ID.fullmatch(note_id) else None
    if text is None:
        raise HTTPException(404, "You have no such note.")
    return PlainTextResponse(text)


@signed_in
async def count(visit: Visit, _session: Session) -> Response:
    value = await visit.site.sessions.count(visit.token)
    return see("/login") if value is None else JSONResponse({"count": value})


async def asset(request: Request) -> Response:
    content = await site_of(request).assets.find(request.path_params["name"])
    if content is None:
        raise HTTPException(404, "There is no such file.")
    return PlainTextResponse(content, media_type="text/css")


async def events(request: Request) -> Response:
    """Server-sent events, of which there are none yet. The end tells the browser to come again, to another instance."""
    site = site_of(request)

    async def told() -> AsyncIterator[bytes]:
        yield b"retry: 500\n\n"
        while not site.ends_streams():
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    return StreamingResponse(told(), media_type="text/event-stream")


# For those who operate it


async def forwarded(request: Request) -> Response:
    """What is believed of this very request, and what it came with."""
    peer = request.client.host if request.client else ""
    said = {
        name: request.headers.getlist(name)
        for name in ("x-forwarded-for", "x-forwarded-proto", "x-real-ip", "forwarded")
        if name in request.headers
    }
    return JSONResponse(
        {
            "client": site_of(request).client_of(addresses(said.get("x-forwarded-for", []), peer=peer)),
            "proto": scheme_of(request),
            "peer": peer,
            "real_ip": ", ".join(said.get("x-real-ip", [])) or None,
            "headers": said,
        }
    )


async def health(_request: Request) -> Response:
    """Alive: asks nobody else, so that a dependency's trouble does not get this instance killed."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    reasons = await site_of(request).why_not_ready()
    return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


async def slow(request: Request) -> Response:
    """An honest slow request, to be in flight while something happens."""
    seconds = _seconds(request)
    await asyncio.sleep(seconds)
    return PlainTextResponse(f"took {seconds:g} s")


async def download(request: Request) -> Response:
    """A long answer that comes bit by bit, to be under way while something happens."""
    bits = max(1, round(_seconds(request) / _BIT_SECONDS))

    async def body() -> AsyncIterator[bytes]:
        for _ in range(bits):
            yield _BIT
            await asyncio.sleep(_BIT_SECONDS)

    return StreamingResponse(
        body(), media_type="application/octet-stream", headers={"Content-Length": str(bits * len(_BIT))}
    )


def _seconds(request: Request) -> float:
    """How long it was asked to take."""
    try:
        seconds = float(request.query_params.get("seconds", "1"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_SLEEP_SECONDS:
        raise HTTPException(400, f"seconds must be a number from 0 to {_LONGEST_SLEEP_SECONDS:g}.")
    return seconds


async def version(request: Request) -> Response:
    return JSONResponse(await site_of(request).describe())


async def unavailable(request: Request, error: Exception) -> Response:
    """Says so at once. Sets no cookie: people are still logged in when the dependency is back."""
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    page = message_page("Back in a moment", "Something this page needs did not answer. Try again.")
    return HTMLResponse(page, 503, headers={"Retry-After": "1"})
