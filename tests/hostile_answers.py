"""Answers that no honest server gives, one script each: whoever asks has to live with all of them, within bounds."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from scripted_server import Script, Talk

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b"x" * 65_536
BOMB = gzip.compress(b"\0" * 20_000_000)
"""Twenty megabytes in some thousand bytes."""
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x08\x7f\x9b31m\u202e"


def for_ever(begin: bytes, again: bytes) -> Script:
    """The beginning, then the rest as fast as it is taken, without an end."""

    def script(talk: Talk) -> None:
        talk.send(begin)
        while not talk.server.released.is_set():
            talk.send(again)

    return script


def drop_by_drop(begin: bytes, again: bytes) -> Script:
    """A byte at a time: each comes soon enough, all of them never."""

    def script(talk: Talk) -> None:
        talk.send(begin)
        while not talk.server.released.is_set():
            for byte in again:
                talk.send(bytes([byte]))
                if talk.server.released.wait(0.01):
                    return

    return script


def whole(answer: bytes) -> Script:
    def script(talk: Talk) -> None:
        talk.send(answer)
        talk.close()

    return script


def answered(body: bytes = b"ok", *, status: str = "200 OK", headers: bytes = b"") -> Script:
    length = b"Content-Length: %d\r\n" % len(body)
    return whole(f"HTTP/1.1 {status}\r\n".encode() + headers + length + b"Connection: close\r\n\r\n" + body)


def back_to_itself(talk: Talk) -> None:
    host, port = talk.server.address
    talk.answer(status="302 Found", headers=f"Location: http://{host}:{port}{talk.seen.path}\r\n")


ENDLESS: dict[str, Script] = {
    "body of unsaid length": for_ever(OK + b"\r\n", BLOCK),
    "body of a petabyte": for_ever(OK + b"Content-Length: 1000000000000000\r\n\r\n", BLOCK),
    "chunks": for_ever(CHUNKED, b"10000\r\n" + BLOCK + b"\r\n"),
    "chunks of two bytes": for_ever(CHUNKED, b"2\r\nxx\r\n" * 8192),
    "a chunk of an exabyte": for_ever(CHUNKED + b"fffffffffffffff\r\n", BLOCK),
    "a chunk of minus one": for_ever(CHUNKED + b"-1\r\n", BLOCK),
    "a chunk of minus five": for_ever(CHUNKED + b"-5\r\n", BLOCK),
    "an extension of a chunk": for_ever(CHUNKED + b"5;", BLOCK),
    "a trailer": for_ever(CHUNKED + b"2\r\nok\r\n0\r\nX: ", BLOCK),
    "trailers": for_ever(CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Trailer: x\r\n" * 5000),
    "a header": for_ever(OK + b"X-Flood: ", BLOCK),
    "headers": for_ever(OK, b"X-Flood: x\r\n" * 5000),
    "a status line": for_ever(b"HTTP/1.1 200 ", BLOCK),
    "early hints": for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 500),
    "continue": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    "drops of a head": drop_by_drop(OK, b"X: y\r\n"),
    "drops of a body": drop_by_drop(OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "drops of chunks": drop_by_drop(CHUNKED, b"1\r\nx\r\n"),
    "drops of early hints": drop_by_drop(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "drops of trailers": drop_by_drop(CHUNKED + b"0\r\n", b"X: y\r\n"),
}
"""No end of it ever comes."""

BROKEN: dict[str, Script] = {
    "a hundred thousand headers": whole(OK + b"X-Flood: x\r\n" * 100_000 + b"\r\n"),
    "a body without a head": whole(b"hello, world"),
    "bytes that are no text": whole(b"\x00\xff\xfe\r\n" * 500),
    "lengths that contradict each other": whole(OK + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nwhole"),
    "a length that is none": whole(OK + b"Content-Length: -7\r\n\r\nwhole"),
    "a status that is none": whole(b"HTTP/1.1 99999 Odd\r\n\r\n"),
    "a version that is none": whole(b"HTTP/9.7.3 200 OK\r\n\r\n"),
    "nothing": whole(b""),
}
"""Over, and no answer."""

ODD: dict[str, Script] = {
    "a redirect to itself": back_to_itself,
    "a redirect to nowhere": answered(status="302 Found", headers=b"Location: http://[::1\r\n"),
    "a redirect of other letters": answered(status="302 Found", headers=b"Location: /\xff\xfe?\xc3\x28\r\n"),
    "headers of other letters": answered(
        headers=b"X-\xc3: \xff\xfe\r\nSet-Cookie: s=\xff\xfe\r\nContent-Type: \xff\r\n"
    ),
    "a body of other letters": answered(b"\xff\xfe\xc3\x28\xed\xa0\x80" * 100),
    "a length and chunks": whole(
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"
    ),
    "a bomb": answered(BOMB, headers=b"Content-Encoding: gzip\r\n"),
    "a header on two lines": answered(headers=b"Set-Cookie: s=a\r\n b: c\r\nLocation: /a\r\n /b\r\n"),
    "a carriage return": answered(headers=b"Set-Cookie: s=a\rX-Evil: yes\r\nLocation: /\rb\r\n"),
    "what moves a cursor": answered(
        ESCAPES.encode() * 50,
        headers=b"Location: /\x1b[2J\r\nSet-Cookie: \x1b[2J=\x1b]0;x\x07\r\nX-Instance: \x1b[31m\r\n",
    ),
    "fifty cookies": answered(headers=b"".join(b"Set-Cookie: c%d=%s\r\n" % (n, b"x" * 1000) for n in range(50))),
    "a cookie of somebody else": answered(headers=b"Set-Cookie: s=theirs; Domain=example.com; Path=/elsewhere\r\n"),
    "lists in lists": answered(b"[" * 200_000, headers=b"Content-Type: application/json\r\n"),
    "objects in objects": answered(
        b'{"version":' * 900 + b"1" + b"}" * 900, headers=b"Content-Type: application/json\r\n"
    ),
    "numbers that are none": answered(
        b'{"version": NaN, "a": 1e999, "b": -Infinity}', headers=b"Content-Type: application/json\r\n"
    ),
    "a number of a thousand digits": answered(
        b'{"version": ' + b"9" * 1000 + b"}", headers=b"Content-Type: application/json\r\n"
    ),
    "half a pair": answered(b'{"version": "\\ud800", "\\udfff": 1}', headers=b"Content-Type: application/json\r\n"),
    "a page of nothing but beginnings": answered(b"<![<!<!--<form <input type=hidden " * 20_000),
    "names of nothing": answered(b'<form method=post action="//["><input type=password name=p></form><img src="//[">'),
}
"""Whole, and as odd as an answer can be."""

EVERY: dict[str, Script] = {**ENDLESS, **BROKEN, **ODD}

Place = Callable[[tuple[str, int], str], object]
"""Something of the harness that asks there."""
