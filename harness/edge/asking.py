"""One question to a balancer by a socket of our own: a request, a handshake, or a request in HTTP/2.

Each is asked once, on a connection of its own. Must not: believe a certificate that the run's authority did not sign,
except where a handshake is all that is asked for.
"""

from __future__ import annotations

import socket
import ssl
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from harness import answers

__all__ = ["VERSIONS", "Handshake", "Reply", "ask", "can_offer", "shake_hands", "speak_http2"]

PATIENCE_SECONDS = 5.0

VERSIONS: Mapping[str, ssl.TLSVersion] = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

# RFC 9113: the preface of a client, then its settings, which may be empty.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GO_AWAY = 0x0, 0x1, 0x3, 0x4, 0x7
_END_STREAM, _END_HEADERS = 0x1, 0x4
_FRAMES_AT_MOST = 20
_FRAME_HEAD_BYTES = 9
_FRAME_LIMIT = 16_384
"""Nobody may send a longer one to whoever did not ask for it (RFC 9113, 4.2)."""
# RFC 7541, appendix A: the answers whose status has a place of its own, by the first byte of their header block.
_STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or what came instead of one."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name; several of one name are joined by commas."""
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What came of an offer."""

    version: str | None
    """What was agreed on, such as `TLSv1.3`; None: nothing."""
    protocol: str | None = None
    """What was agreed on to be spoken (ALPN)."""
    refusal: str = ""
    """In which words the other side, or its silence, said no."""
    error: str = ""
    """Why it could not even be asked."""


def ask(
    method: str,
    path: str,
    *,
    at: tuple[str, int],
    authority: Path | None,
    headers: Mapping[str, str],
    source: str = "",
) -> Reply:
    """One request; redirects are not followed. `authority`: TLS is spoken, and who answers must be signed for by it.
    `source`: the address of this machine to come from; empty for any. Never raises for what the other side does.
    """
    try:
        answer = answers.ask(
            method,
            path,
            at=at,
            within_seconds=PATIENCE_SECONDS,
            context=None if authority is None else ssl.create_default_context(cafile=authority),
            headers=headers,
            source=source,
        )
    except (OSError, HTTPException) as problem:
        return Reply(None, error=f"{type(problem).__name__}: {problem}")
    return Reply(answer.status, answer.headers, answer.body)


def shake_hands(
    at: tuple[str, int], *, version: str | None = None, protocols: tuple[str, ...] = (), authority: Path | None = None
) -> Handshake:
    """Offer this version alone (None: whatever a client of today offers) and these protocols, and see what comes of it.

    With `authority` the certificate must be signed by it; without, any will do: it is not what is asked.
    """
    try:
        connection = socket.create_connection(at, timeout=PATIENCE_SECONDS)
    except OSError as problem:
        return Handshake(None, error=f"not connected: {problem}")
    with connection:
        try:
            with _client(version, protocols, authority).wrap_socket(connection, server_hostname=at[0]) as secured:
                return Handshake(secured.version(), secured.selected_alpn_protocol())
        except TimeoutError:
            return Handshake(None, error=f"no answer to the handshake within {PATIENCE_SECONDS:g} s")
        except OSError as problem:  # an alert, a reset, an end: all of them say no
            return Handshake(None, refusal=_in_words(problem))


def can_offer(version: str, *, certificate: Path) -> bool:
    """Whether the TLS of this machine can speak this version at all, by a handshake with itself in memory.

    Else its being refused would say nothing of the other side. `certificate`: any, with its key.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server_context.minimum_version = server_context.maximum_version = VERSIONS[version]
    server_context.set_ciphers("ALL:@SECLEVEL=0")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _client(version, (), None).wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return not waiting


def speak_http2(at: tuple[str, int], path: str, *, authority: Path) -> Reply:
    """One GET in HTTP/2, by the shortest conversation there is: preface, settings, one request, until its answer begins.

    The status is told where it is one of the common ones; else 0: some answer. Never raises for what the other side does.
    """
    try:
        with (
            socket.create_connection(at, timeout=PATIENCE_SECONDS) as connection,
            _client(None, ("h2",), authority).wrap_socket(connection, server_hostname=at[0]) as secured,
        ):
            if secured.selected_alpn_protocol() != "h2":
                return Reply(None, error="h2 was not agreed on")
            block = b"\x82\x87" + _literal(4, path.encode()) + _literal(1, answers.netloc(*at).encode())
            secured.sendall(_PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, block))
            limit = _FRAMES_AT_MOST * (_FRAME_HEAD_BYTES + _FRAME_LIMIT)
            with answers.bounded_reader(secured, within_seconds=PATIENCE_SECONDS, most_bytes=limit) as incoming:
                for _ in range(_FRAMES_AT_MOST):
                    head = incoming.read(_FRAME_HEAD_BYTES)
                    if len(head) < _FRAME_HEAD_BYTES:
                        return Reply(None, error="ended without an answer")
                    length, kind = int.from_bytes(head[:3], "big"), head[3]
                    stream = int.from_bytes(head[5:], "big")
                    if length > _FRAME_LIMIT:
                        return Reply(None, error=f"a frame of {length} bytes, more than was allowed")
                    payload = incoming.read(length)
                    if kind == _HEADERS and stream == 1 and payload:
                        return Reply(_STATUSES.get(payload[0], 0))
                    if kind in (_RESET, _GO_AWAY):
                        return Reply(None, error=f"refused with error {int.from_bytes(payload[-4:], 'big')}")
    except answers.BrokenAnswerError as problem:
        return Reply(None, error=str(problem))
    except OSError as problem:
        return Reply(None, error=_in_words(problem))
    return Reply(None, error="no answer among its frames")


def _client(version: str | None, protocols: tuple[str, ...], authority: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if version is not None:
        # Python warns of the old versions, and OpenSSL offers none of what they need unless it is told to.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = VERSIONS[version]
        if version in ("1.0", "1.1"):
            context.set_ciphers("ALL:@SECLEVEL=0")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: int, value: bytes) -> bytes:
    """A header of the static table with a value of its own, not indexed (RFC 7541, 6.2.2), of 126 bytes at most."""
    return bytes([name, min(len(value), 126)]) + value[:126]


def _in_words(problem: OSError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"the certificate is not to be believed: {problem.verify_message}"
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return problem.reason.replace("_", " ").lower()
    return f"{type(problem).__name__}: {problem.strerror or problem}"
