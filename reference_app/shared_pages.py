"""The pages about what all instances keep together: files, orders, tallies, invitations and the notice.

Must not: keep anything between two requests.
"""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesParser

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from reference_app.sessions import Session
from reference_app.shared import LIMIT_SECONDS
from reference_app.site import Site
from reference_app.visit import Visit, signed_in, site_of

__all__ = ["ROUTES"]

_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_TEXT_LENGTH = range(1, 4001)


@signed_in
async def keep_file(visit: Visit, session: Session) -> Response:
    content = _file(visit.request.headers.get("content-type", ""), await visit.body())
    if not content:
        raise HTTPException(400, "A form with one file in it, please.")
    file_id = await visit.site.shared.keep_file(session.person_id, content)
    return JSONResponse({"id": file_id}, 201, headers={"Location": f"/files/{file_id}"})


def _file(content_type: str, body: bytes) -> bytes:
    """The first file of a form as a browser sends it (RFC 7578); empty when there is none."""
    form = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace") + body)
    parts = form.get_payload() if form.is_multipart() else []
    for part in parts:
        if isinstance(part, Message) and part.get_filename():
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    return b""


@signed_in
async def get_file(visit: Visit, session: Session) -> Response:
    content = await visit.site.shared.find_file(visit.request.path_params["id"], session.person_id)
    if content is None:
        raise HTTPException(404, "You have no such file.")
    return Response(content, media_type="application/octet-stream")


@signed_in
async def order(visit: Visit, session: Session) -> Response:
    item = _text((await visit.form()).get("item", ""))
    key = visit.request.headers.get("idempotency-key")
    if key is not None and not _NAME.fullmatch(key):
        raise HTTPException(400, "A key has 1 to 64 letters, digits, - or _.")
    number, is_new = await visit.site.shared.order(session.person_id, item, key=key)
    return JSONResponse({"number": number}, 201 if is_new else 200)


@signed_in
async def raise_tally(visit: Visit, _session: Session) -> Response:
    name = visit.request.path_params["name"]
    if not _NAME.fullmatch(name):
        raise HTTPException(404, "There is no such tally.")
    return JSONResponse({"total": await visit.site.shared.raise_tally(name)})


@signed_in
async def invite(visit: Visit, session: Session) -> Response:
    if not await visit.site.shared.is_allowed(session.person_id):
        raise HTTPException(429, "That is enough for a while.", headers={"Retry-After": str(LIMIT_SECONDS)})
    return JSONResponse({"invited": True}, 202)


@signed_in
async def change_notice(visit: Visit, _session: Session) -> Response:
    await visit.site.shared.change_notice(_text((await visit.form()).get("text", "")))
    return PlainTextResponse("changed")


@signed_in
async def notice(visit: Visit, _session: Session) -> Response:
    return PlainTextResponse(await visit.site.shared.notice())


async def job_runs(request: Request) -> Response:
    """For those who operate it: what was run, and by whom."""
    return JSONResponse({"runs": await site_of(request).jobs.latest()})


async def live(websocket: WebSocket) -> None:
    """Everybody who is connected hears what one of them says. Nobody has to log in."""
    site: Site = websocket.app.state.site
    await site.live.talk(websocket)


def _text(text: str) -> str:
    if len(text) not in _TEXT_LENGTH or "\0" in text:
        raise HTTPException(400, "1 to 4000 characters, please.")
    return text


ROUTES = (
    Route("/files", keep_file, methods=["POST"]),
    Route("/files/{id}", get_file),
    Route("/orders", order, methods=["POST"]),
    Route("/tallies/{name}", raise_tally, methods=["POST"]),
    Route("/invitations", invite, methods=["POST"]),
    Route("/notice", change_notice, methods=["POST"]),
    Route("/notice", notice),
    Route("/jobs", job_runs),
    WebSocketRoute("/live", live),
)
