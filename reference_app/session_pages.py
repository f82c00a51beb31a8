"""The pages about what a session keeps: a basket, and the way back to the page that somebody wanted before logging in.

Must not: keep anything between two requests; the session's store does, or the browser.
"""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from reference_app.pages import basket_page
from reference_app.sessions import Session
from reference_app.visit import Visit, see, signed_in

__all__ = ["basket", "basket_item", "fill_basket", "wanted_page"]

_ITEM_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_ITEM_LENGTH = range(1, 201)
_LOCAL_PATH = re.compile(r"/(?![/\\])[^\0-\x1f]{0,199}", re.ASCII)


def wanted_page(request: Request) -> str | None:
    """The page of ours somebody wanted before they were sent to log in; None if there is none, or it is not ours."""
    wanted = request.query_params.get("next", "")
    return wanted if _LOCAL_PATH.fullmatch(wanted) else None


@signed_in
async def basket(visit: Visit, session: Session) -> Response:
    notice = await visit.site.take_notice(visit.token)
    return HTMLResponse(basket_page(csrf=visit.csrf, email=session.email, notice=notice))


@signed_in
async def fill_basket(visit: Visit, _session: Session) -> Response:
    form = await visit.form()
    item, text = form.get("id", ""), form.get("text", "")
    if not _ITEM_ID.fullmatch(item) or len(text) not in _ITEM_LENGTH or "\0" in text:
        raise HTTPException(400, "An item has an id of 1 to 64 letters, digits, - or _ and 1 to 200 characters.")
    if not await visit.site.sessions.keep(visit.token, f"item:{item}", text):
        return see("/login")
    return JSONResponse({"id": item}, 201, headers={"Location": f"/basket/{item}"})


@signed_in
async def basket_item(visit: Visit, _session: Session) -> Response:
    item = visit.request.path_params["id"]
    text = await visit.site.sessions.kept(visit.token, f"item:{item}") if _ITEM_ID.fullmatch(item) else None
    if text is None:
        raise HTTPException(404, "Nothing of that name is in your basket.")
    return PlainTextResponse(text)
