"""One answer over HTTP, read within bounds: so many bytes, so many seconds, whoever answers.

For single questions to an application or a balancer. An answer may have no end, come a byte at a time for ever, or say of
itself what is not so: it ends here with an error, and nothing of ours with it. Nothing is inflated, no redirect is followed,
nothing is sent twice. Must not: measure (`traffic` does), or judge.
"""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SocketIO, socket
from typing import Any, cast
from urllib.parse import quote

from harness import clock

__all__ = [
    "BODY_LIMIT",
    "HEAD_LIMIT",
    "PAGE_LIMIT",
    "Answer",
    "BrokenAnswerError",
    "ask",
    "bounded_reader",
    "connection_to",
    "lift_bounds",
    "netloc",
    "object_in",
    "read_page",
]

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a body. A page of an application has some hundred thousand; ten times that many can still be held for each of the
hundreds of requests that are under way at once."""
HEAD_LIMIT = 64 * 1024
"""Bytes of an answer before the end of its head, with whatever comes before it ("continue", "early hints"). Servers and
browsers allow for 8 to 32 KiB."""
PAGE_LIMIT = 256 * 1024
"""Characters of a page that are looked through for forms or for what it names: what reads HTML needs longer for each of them,
the more there are of some that are wrong."""
_OBJECT_LIMIT = 1024 * 1024
"""Bytes of a JSON object that says something of its sender: it is written into the record with each look."""
_DEEPEST = 20
"""So many lists and objects may be in each other there. Who reads the record again must be able to."""
_LARGEST = 2**63
"""No number of a record is larger: what is read back by other programs has 64 bits."""
_UNENCODED = "".join(map(chr, range(0x21, 0x7F)))


def netloc(host: str, port: int, *, usual: int | None = None) -> str:
    """Host and port as in an address and in the header Host: an address of IPv6 in brackets (RFC 3986, 3.2.2), and no port where
    that goes without saying (`usual`; RFC 9110, 7.2), as browsers do."""
    called = f"[{host}]" if ":" in host else host
    return called if port == usual else f"{called}:{port}"


class BrokenAnswerError(HTTPException):
    """What came is no answer, or more than an answer may be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name; several of one name are joined by commas."""
    body: bytes
    set_cookies: tuple[str, ...] = ()


def ask(
    method: str,
    path: str,
    *,
    at: tuple[str, int],
    within_seconds: float,
    context: ssl.SSLContext | None = None,
    headers: Mapping[str, str | bytes] | None = None,
    body: bytes = b"",
    source: str = "",
    reads_body: bool = True,
) -> Answer:
    """One request on a connection of its own, and its answer, whole, within this time from the first byte of it to the last.

    `context`: how TLS is made; None for plain http. `source`: the address of this machine to come from; empty for any.
    Without `reads_body` the head is all that is waited for.

    Raises:
        OSError: nobody answered, or not in time (TimeoutError).
        HTTPException: what came is no whole answer.
    """
    host, port = at
    ends_at = clock.now() + within_seconds
    given: dict[str, str | bytes] = {"User-Agent": "harness", "Accept": "*/*", "Connection": "close", **(headers or {})}
    connection = connection_to(host, port, within_seconds=within_seconds, context=context, source=source)
    try:
        connection.connect()
        left = max(0.001, ends_at - clock.now())
        connection.sock.settimeout(left)
        connection.response_class = partial(_Response, within_seconds=left)  # type: ignore[assignment]
        connection.request(
            method,
            quote(path, safe=_UNENCODED),
            body=body or None,
            headers={name: value.encode() if isinstance(value, str) else value for name, value in given.items()},
        )
        answer = connection.getresponse()
        content = answer.read() if reads_body else b""
    except ValueError as problem:  # a chunk of a negative size, a value that cannot be sent
        raise BrokenAnswerError(f"no HTTP: {problem}") from problem
    finally:
        connection.close()
    return Answer(answer.status, _joined(answer), content, tuple(answer.headers.get_all("Set-Cookie") or ()))


def connection_to(
    host: str, port: int, *, within_seconds: float, context: ssl.SSLContext | None = None, source: str = ""
) -> HTTPConnection:
    """A connection that is not made yet. Whatever is done on it ends after so many seconds, and every answer is read within
    bounds: more of it, or later, raises as a broken one does (OSError or HTTPException)."""
    source_address = (source, 0) if source else None
    connection = (
        HTTPConnection(host, port, timeout=within_seconds, source_address=source_address)
        if context is None
        else HTTPSConnection(host, port, timeout=within_seconds, source_address=source_address, context=context)
    )
    connection.response_class = partial(_Response, within_seconds=within_seconds)  # type: ignore[assignment]
    return connection


def lift_bounds(answer: HTTPResponse) -> None:
    """Let an answer of `connection_to` go on for as long as it likes, such as a stream of events: whoever reads it keeps
    nothing of it, and ends it by its socket."""
    cast("_Response", answer).source.lift()


def bounded_reader(connection: socket, *, within_seconds: float, most_bytes: int) -> io.BufferedReader:
    """What comes over a connection, in another protocol. Reading raises OSError when it is too late (TimeoutError), and
    BrokenAnswerError when it is too much."""
    raw = connection.makefile("rb", buffering=0)
    return _Reader(_Source(raw, connection, within_seconds=within_seconds, most_bytes=most_bytes))


class _Source(io.RawIOBase):
    """What comes over a socket, until there is too much of it or it is too late."""

    def __init__(
        self, raw: SocketIO, connection: socket, *, within_seconds: float, most_bytes: int | None = None
    ) -> None:
        self._raw = raw
        self._connection = connection
        self._seconds = within_seconds
        self._ends_at: float | None = clock.now() + within_seconds
        self._left = HEAD_LIMIT if most_bytes is None else most_bytes
        self._came = 0
        self._in_head = most_bytes is None
        self._what = f"{self._left} bytes" + (" without the end of its head" if most_bytes is None else "")

    def allow_body(self) -> None:
        self._in_head = False
        # One more than allowed is asked for by whoever looks for the end. What frames it counts as well.
        self._left += BODY_LIMIT + 1
        self._what = f"{BODY_LIMIT} bytes of body"

    def lift(self) -> None:
        self._ends_at = None
        self._connection.settimeout(None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ends_at is None:
            return self._raw.readinto(buffer)
        seconds = self._ends_at - clock.now()
        if seconds <= 0:
            raise TimeoutError(f"no whole answer within {self._seconds:g} s")
        if self._left <= 0:
            raise BrokenAnswerError(f"more than {self._what}")
        self._connection.settimeout(seconds)
        count = self._raw.readinto(memoryview(buffer)[: self._left])
        if not count and self._in_head and self._came:
            # The library would take what came for all of it.
            raise BrokenAnswerError(f"ended in its head, after {self._came} bytes")
        self._left -= count or 0
        self._came += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    """Makes no room for what somebody only says that they will send."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > BODY_LIMIT:
            raise BrokenAnswerError(f"more than {BODY_LIMIT} bytes of body")
        return super().read(size)


class _Response(HTTPResponse):
    def __init__(self, connection: socket, *arguments: Any, within_seconds: float, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        raw = self.fp.detach()
        self.source = _Source(cast("SocketIO", raw), connection, within_seconds=within_seconds)
        self.fp = _Reader(self.source)

    def begin(self) -> None:
        super().begin()
        # "Early hints": the answer proper is still to come.
        while self.status < 200 and self.status != 101:
            self.headers = None  # type: ignore[assignment]
            super().begin()
        lengths = set(self.headers.get_all("Content-Length") or ())
        # The library passes over what it does not understand, and would read to the end.
        if len(lengths) > 1 or not all(length.strip().isdecimal() for length in lengths):
            raise BrokenAnswerError(f"a length that is none: {', '.join(sorted(lengths))[:60]}")
        self.source.allow_body()


def _joined(answer: HTTPResponse) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        told[key] = f"{told[key]}, {value}" if key in told else value
    return told


# -- what an answer says ---------------------------------------------------------------------------------------------------


def object_in(body: bytes) -> Mapping[str, Any]:
    """The JSON object that a body is; empty where it is none, or one that no record can hold: larger than a megabyte, deeper
    than twenty levels, with text that is no text, or with numbers that are none."""
    if len(body) > _OBJECT_LIMIT:
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and _can_be_kept(value) else {}


def _can_be_kept(value: object) -> bool:
    level: Sequence[object] = [value]
    for _ in range(_DEEPEST):
        if not level:
            return True
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str):
                if not _is_text(each):
                    return False
            elif isinstance(each, int | float) and not abs(each) < _LARGEST:  # neither is what is no number
                return False
        level = below
    return not level


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair, which JSON can spell and nothing can hold
        return False
    return True


def read_page(parser: HTMLParser, page: str) -> None:
    """Let a parser read a page, as far as it can be read. What is wrong with it is nobody's business here."""
    try:
        parser.feed(page[:PAGE_LIMIT])
    except AssertionError:
        # The standard library's own, of a declaration such as `<![<!`: what came before is known.
        return
