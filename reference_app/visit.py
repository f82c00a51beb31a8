"""Who a request comes from: the browser behind its cookie, and whether somebody is logged in there.

Must not: keep anything between two requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from urllib.parse import parse_qsl, quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from reference_app.forwarding import believed_scheme
from reference_app.security import Signer, new_token
from reference_app.sessions import Session
from reference_app.site import Site

__all__ = ["COOKIE", "Visit", "scheme_of", "see", "signed_in", "site_of"]

COOKIE = "session_id"
_BODY_BYTES = 64 * 1024
_AFTER_LOGIN = "/dashboard"


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
        site = site_of(request)
        signer = await site.signer()
        token = signer.unsign(request.cookies.get(COOKIE, ""))
        return cls(request, site, signer, token or new_token(), is_new=token is None)

    @property
    def csrf(self) -> str:
        """What the forms of this browser carry."""
        return self.signer.csrf(self.token)

    def sign_in(self, response: Response, token: str) -> Response:
        """Give the browser this token."""
        value = self.signer.sign(token)
        response.set_cookie(COOKIE, value, path="/", **self.site.cookie_flags(secure=self.is_secure))
        return response

    @property
    def is_secure(self) -> bool:
        """Whether the cookie is for https alone: a browser that came over it is not to show it in clear later."""
        return self.site.settings.cookie_secure or scheme_of(self.request) == "https"

    async def form(self) -> dict[str, str]:
        """The fields of the urlencoded body. Raises HTTPException 413 if it is large, 400 if it is no text."""
        state = self.request.state
        if not hasattr(state, "form"):
            try:
                state.form = dict(parse_qsl((await self.body()).decode(), keep_blank_values=True, errors="strict"))
            except ValueError:
                raise HTTPException(400, "The form is not UTF-8 text.") from None
        form: dict[str, str] = state.form
        return form

    async def body(self) -> bytes:
        """What was sent. Raises HTTPException 413 if it is large."""
        state = self.request.state
        if not hasattr(state, "body"):
            body = b""
            async for chunk in self.request.stream():
                body += chunk
                if len(body) > _BODY_BYTES:
                    raise HTTPException(413, f"At most {_BODY_BYTES} bytes.")
            state.body = body
        sent: bytes = state.body
        return sent

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
            # The cookie stays as it is: the log-in page replaces one that is not ours.
            return see("/login" if request.method == "POST" else way_to_login(request.url.path))
        if request.method == "POST":
            await visit.refuse_forged()
        return await page(visit, session)

    return endpoint


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def scheme_of(request: Request) -> str:
    """How the browser speaks to the setup, as far as it can be believed."""
    said = request.headers.getlist("x-forwarded-proto")
    return believed_scheme(said, scheme=request.url.scheme, hops=site_of(request).settings.proxy_hops)


def see(path: str) -> Response:
    return RedirectResponse(path, 303)


def way_to_login(wanted: str) -> str:
    """Where somebody is sent to log in, so that they come back to the page they wanted."""
    return "/login" if wanted == _AFTER_LOGIN else f"/login?next={quote(wanted, safe='')}"
