"""The routes. Whoever has no session is sent to /login; every POST must carry the CSRF token of its session.

Must not: talk to Postgres or Redis itself, or keep anything between two requests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_app.database import NoteWritten
from reference_app.errors import UnavailableError
from reference_app.pages import dashboard_page, login_page, message_page, register_page
from reference_app.security import Signer, new_token
from reference_app.sessions import Session
from reference_app.site import Site

__all__ = ["create_app"]

_COOKIE = "session_id"
_BODY_BYTES = 64 * 1024
_LONGEST_SLEEP_SECONDS = 30.0
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
            Route("/health", health),
            Route("/ready", ready),
            Route("/slow", slow),
            Route("/version", version),
        ],
        exception_handlers={UnavailableError: unavailable},
    )
    app.state.site = site
    return Envelope(site.wrap(app), site)


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
                if self._site.draining:
                    # The client is to make its next request on a new connection, which goes to another instance.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        await self._app(scope, receive, send_in_envelope)


# Who is it?


@dataclass(frozen=True)
class Visit:
    """One request and the browser it came from. The token is a fresh one if the cookie held none that we signed."""

    request: Request
    site: Site
    signer: Signer
    token: str
    is_new: bool

    @classmethod
    async def of(cls, request: Request) -> Visit:
        site = _site(request)
        signer = await site.signer()
        token = signer.unsign(request.cookies.get(_COOKIE, ""))
        return cls(request, site, signer, token or new_token(), is_new=token is None)

    @property
    def csrf(self) -> str:
        """What the forms of this browser carry."""
        return self.signer.csrf(self.token)

    def sign_in(self, response: Response, token: str) -> Response:
        """Give the browser this token."""
        secure = self.site.settings.cookie_secure
        response.set_cookie(_COOKIE, self.signer.sign(token), path="/", httponly=True, samesite="lax", secure=secure)
        return response

    async def form(self) -> dict[str, str]:
        """The fields of the urlencoded body. Raises HTTPException 413 if it is large, 400 if it is no text."""
        state = self.request.state
        if not hasattr(state, "form"):
            body = b""
            async for chunk in self.request.stream():
                body += chunk
                if len(body) > _BODY_BYTES:
                    raise HTTPException(413, f"At most {_BODY_BYTES} bytes.")
            try:
                state.form = dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
            except ValueError:
                raise HTTPException(400, "The form is not UTF-8 text.") from None
        form: dict[str, str] = state.form
        return form

    async def refuse_forged(self) -> None:
        """Raises HTTPException 403 for a POST that was not made from a page of this very browser."""
        given = self.request.headers.get("x-csrf-token") or (await self.form()).get("csrf_token", "")
        if self.is_new or not self.signer.is_csrf(given, self.token):
            raise HTTPException(403, "This form is not from your session. Load the page again.")


def signed_in(page: Callable[[Visit, Session], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A page only for people with a session, and a POST only from one of our own pages."""

    @wraps(page)
    async def endpoint(request: Request) -> Response:
        visit = await Visit.of(request)
        session = None if visit.is_new else await visit.site.sessions.find(visit.token)
        if session is None:
            return _see("/login")  # the cookie stays as it is: the log-in page replaces one that is not ours
        if request.method == "POST":
            await visit.refuse_forged()
        return await page(visit, session)

    return endpoint


def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def _see(path: str) -> Response:
    return RedirectResponse(path, 303)


# Registering, logging in and out


async def home(_request: Request) -> Response:
    return _see("/dashboard")


async def register_form(request: Request) -> Response:
    return await _credentials_form(request, register_page)


async def login_form(request: Request) -> Response:
    return await _credentials_form(request, login_page)


async def _credentials_form(request: Request, page: Callable[..., str]) -> Response:
    visit = await Visit.of(request)
    response = HTMLResponse(page(csrf=visit.csrf))
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
    return _see("/login")


async def login(request: Request) -> Response:
    visit, email, password = await _credentials(request)
    site = visit.site
    person = await site.database.find_person(email) if _EMAIL.fullmatch(email) else None
    right = await site.passwords.verify(password[: _PASSWORD_LENGTH[-1]], person.password if person else None)
    if person is None or not right:
        return HTMLResponse(login_page(csrf=visit.csrf, email=email, problem="Wrong email or password."), 401)
    # A new token: whoever knew, or planted, the one from before the log-in has nothing.
    token = await site.sessions.begin(Session(person_id=person.id, email=person.email))
    await site.sessions.end(visit.token)
    return visit.sign_in(_see("/dashboard"), token)


@signed_in
async def logout(visit: Visit, _session: Session) -> Response:
    await visit.site.log_out(visit.token)
    response = _see("/login")
    secure = visit.site.settings.cookie_secure
    response.delete_cookie(_COOKIE, path="/", httponly=True, samesite="lax", secure=secure)
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
    return _see("/login") if value is None else JSONResponse({"count": value})


# For those who operate it


async def health(_request: Request) -> Response:
    """Alive: asks nobody else, so that a dependency's trouble does not get this instance killed."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    reasons = await _site(request).why_not_ready()
    return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


async def slow(request: Request) -> Response:
    """An honest slow request, to be in flight while something happens."""
    try:
        seconds = float(request.query_params.get("seconds", "1"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_SLEEP_SECONDS:
        raise HTTPException(400, f"seconds must be a number from 0 to {_LONGEST_SLEEP_SECONDS:g}.")
    await asyncio.sleep(seconds)
    return PlainTextResponse(f"took {seconds:g} s")


async def version(request: Request) -> Response:
    return JSONResponse(await _site(request).describe())


async def unavailable(_request: Request, _error: Exception) -> Response:
    """Says so at once. Sets no cookie: people are still logged in when the dependency is back."""
    page = message_page("Back in a moment", "Something this page needs did not answer. Try again.")
    return HTMLResponse(page, 503, headers={"Retry-After": "1"})
