"""One TCP connection and the one exchange that may be on it.

A plain non-blocking socket, so that it is known exactly whether a byte was sent and how it broke: that is the whole
difference between `failed` and `unknown`. Must not: retry, reconnect, judge, or know journeys.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import httptools

from harness.answers import BODY_LIMIT, HEAD_LIMIT
from harness.clock import now
from harness.journeys import Reply
from harness.traffic.poller import Poller

__all__ = [
    "BODY_LIMIT",
    "HEAD_LIMIT",
    "READ_BYTES",
    "KnownHeads",
    "Listener",
    "Target",
    "WantedHeaders",
    "Wire",
    "error_class",
]

# Under the allocator's threshold for mapping fresh memory: a larger buffer costs a page fault per read.
READ_BYTES = 65_536
"""What is read at once."""
_RIG_ERRORS = frozenset({errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# A hostile server may send new header names for ever.
_SPELLINGS = 4096
_LONGEST_SPELLING = 64
_KNOWN_HEADS = 1024
_LONGEST_KNOWN_HEAD = 8192
_MOST_PIECES = 256
"""Of a body that are kept as they come: a million of two bytes each would take up far more than what they hold."""
_FRAMING_LIMIT = HEAD_LIMIT
"""Bytes in a row that frame a chunked body (extensions, trailers) and hold none of it; more is `malformed`."""
_IP_BIND_ADDRESS_NO_PORT = 24
"""The number Linux has for it; Python has no name for it before 3.12."""
_ESTABLISHED = 1
_NOT_YET = frozenset({errno.EAGAIN, errno.ENOTCONN})


class Target(NamedTuple):
    """Where to connect: an address that needs no look-up."""

    family: int
    address: tuple[Any, ...]
    host_header: str
    server_name: str | None = None
    """Whom its certificate must name; None: no TLS is spoken there."""


class Listener(Protocol):
    """Who is told what became of an exchange. Called once for each."""

    def on_reply(self, wire: Wire, reply: Reply) -> None: ...
    def on_broken(self, wire: Wire, error: str, detail: str) -> None: ...
    def on_idle_lost(self, wire: Wire) -> None:
        """A connection without an exchange was ended by the other side."""


ANY_HEADER = "*"
"""In place of a name: every header is worth keeping."""


class WantedHeaders(dict[bytes, str | None]):
    """The headers worth keeping, by their name as it comes over the wire; None for those that are not.

    Learns the spellings it meets: no name is folded twice.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._wanted = {name.lower() for name in ("content-length", "transfer-encoding", "set-cookie", *names)}

    def __missing__(self, name: bytes) -> str | None:
        if len(self) >= _SPELLINGS:
            self.clear()
        folded = name.decode("latin-1").lower()
        wanted = folded if folded in self._wanted or ANY_HEADER in self._wanted else None
        if len(name) <= _LONGEST_SPELLING:
            self[name] = wanted
        return wanted


class Head(NamedTuple):
    """What the head of an answer says, once it is parsed."""

    status: int
    headers: Mapping[str, str]
    set_cookies: tuple[str, ...]
    body_bytes: int
    keeps_open: bool


class KnownHeads(dict[bytes, Head]):
    """Heads that were parsed before, by their bytes: most answers of a server differ in nothing but their body.

    Only answers that came in one piece, and whose length their head tells: the same bytes mean the same again.
    """

    def remember(self, answer: bytes, head: Head) -> None:
        if len(self) >= _KNOWN_HEADS:
            self.clear()
        end = answer.find(b"\r\n\r\n") + 4
        if end > _LONGEST_KNOWN_HEAD:
            return
        # Not where something came before or after, such as an early hint.
        if end + head.body_bytes == len(answer):
            self[answer[:end]] = head


def error_class(error: OSError, *, connecting: bool) -> str:
    """The class of an operation that the system broke with this error."""
    if error.errno in _RIG_ERRORS:
        return "unsent"
    if error.errno == errno.ETIMEDOUT:
        return "timeout"
    if connecting and error.errno not in (errno.ECONNRESET, errno.EPIPE):
        return "refused"
    return "reset"


class Wire:
    """Opened once, used for one exchange after another, closed once."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_descriptor",
        "_excess",
        "_framing",
        "_headers",
        "_heads",
        "_in_head",
        "_keeps_open",
        "_listener",
        "_parser",
        "_poller",
        "_received",
        "_set_cookies",
        "_size",
        "_socket",
        "_unsent",
        "_wanted",
        "_watched",
        "_wire_fault",
        "_writing",
        "exchange",
        "is_kept",
        "is_reusable",
        "sent",
        "served",
        "status",
        "target",
        "via",
    )

    # Of the answer that is being read; set anew for each exchange.
    status: int | None
    _headers: dict[str, str]
    _set_cookies: list[str] | tuple[()]
    _chunks: list[bytes | bytearray]
    _wire_fault: str | None
    _complete: bool
    _keeps_open: bool

    def __init__(
        self,
        poller: Poller,
        listener: Listener,
        wanted: WantedHeaders,
        heads: KnownHeads,
        *,
        via: str,
        is_kept: bool,
    ) -> None:
        self._poller = poller
        self._listener = listener
        self._wanted = wanted
        self._heads = heads
        self._socket: socket.socket | None = None
        self._parser: Any = None
        self._unsent = b""
        self._watched = False
        self._writing = False
        self.target: Target | None = None
        self.via = via
        """The name of its target."""
        self.is_kept = is_kept
        """Whether its opener means to use it again."""
        self.exchange: Any = None
        """Whatever the listener put on it with `send`. None: idle."""
        self.sent: float | None = None
        """When the first byte of the current request was handed to the system."""
        self.served = 0
        """Exchanges completed on it."""
        self.is_reusable = False
        """Whether both sides left it open after the last exchange."""
        self._forget_answer()

    def open(self, target: Target, *, source: str = "") -> None:
        """Begin to connect, from this address of the machine where one is given. Raises OSError when the system refuses at
        once."""
        self.target = target
        self._socket = connection = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._descriptor = connection.fileno()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            # The port is chosen when the other end is known: thousands of connections may share one.
            connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            try:
                connection.bind((source, 0))
            except OSError:
                self.close()
                raise
        failure = connection.connect_ex(target.address)
        if failure not in (0, errno.EINPROGRESS):
            self.close()
            raise OSError(failure, os.strerror(failure))
        self._parser = httptools.HttpResponseParser(self)

    def is_still_open(self) -> bool:
        """Whether the other side has not ended it, as far as the system knows by now."""
        assert self._socket is not None
        # The first byte of TCP_INFO is the state: one system call, and no exception where all is well.
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def send(self, exchange: Any, request: bytes) -> None:
        """Put an exchange on the wire. The listener may be called before this returns."""
        self.exchange = exchange
        self.sent = None
        self._received = 0
        self._in_head = True
        self._unsent = request
        self._write()

    def close(self) -> None:
        """Close it; nobody is told. Twice is fine."""
        connection = self._socket
        if connection is None:
            return
        self._socket = None
        self._parser = None  # it holds our callbacks: a ring that only the collector would free
        self.exchange = None
        self._poller.forget(self._descriptor)
        connection.close()

    @property
    def unsent_because(self) -> str:
        """What a request that was not sent yet is waiting for, in words."""
        return "not connected"

    @staticmethod
    def is_not_yet(error: OSError) -> bool:
        """Whether the system will do it later: it is not connected yet, or a buffer is full or empty."""
        return error.errno in _NOT_YET

    @property
    def received(self) -> int:
        """Bytes of the current answer so far."""
        return self._received

    def head(self) -> Reply | None:
        """What is known of an answer that did not arrive whole: its status and headers, when those did."""
        if self.status is None or self._in_head:
            return None
        return Reply(self.status, self._headers, b"", tuple(self._set_cookies))

    # --- the socket ---------------------------------------------------------------------------------------------

    def on_writable(self) -> None:
        if self._unsent:
            self._write()

    def _write(self) -> None:
        assert self._socket is not None
        moment = now()
        try:
            count = self._socket.send(self._unsent)
        except OSError as error:
            if self.is_not_yet(error):
                self._await(writable=True)
            else:
                self._break_by(error)
            return
        if self.sent is None:
            self.sent = moment
        if count == len(self._unsent):
            self._unsent = b""
            if not self._watched or self._writing:
                self._await(writable=False)
        else:
            self._unsent = self._unsent[count:]
            self._await(writable=True)

    def _await(self, *, writable: bool) -> None:
        if not self._watched or self._writing != writable:
            self._watched, self._writing = True, writable
            self._poller.watch(self._descriptor, self, for_writing=writable)

    def on_readable(self) -> None:
        if self._socket is None or self.sent is None:
            return  # closed earlier in the same turn of the loop, or not connected yet
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break_by(error)
            return
        if self.exchange is None:
            self._listener.on_idle_lost(self)
        elif not data:
            self._on_end()
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """What came of the answer to the current exchange."""
        if not self._received:
            end = data.find(b"\r\n\r\n") + 4
            head = self._heads.get(data[:end])
            if head is not None and end + head.body_bytes == len(data):
                self._complete_with(head, data[end:])
            else:
                self._forget_answer()
                self._received = len(data)
                self._parse(data)
        else:
            self._received += len(data)
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        was_in_head, size = self._in_head, self._size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a mistake of ours in a callback: never a fact about the server
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # What follows a whole answer cannot spoil it, only the connection.
            self._excess = True
            if self._wire_fault is None:
                is_upgrade = isinstance(error, httptools.HttpParserUpgrade)
                self._wire_fault = "it changes the protocol, unasked" if is_upgrade else f"no HTTP: {error}"
        if self._complete:
            head, body = self._answer(keeps_open=self._keeps_open and not self._excess)
            if self._received == len(data) and not self._is_chunked():
                self._heads.remember(data, head)
            self._complete_with(head, body)
        elif self._wire_fault is not None:
            self._listener.on_broken(self, "malformed", self._wire_fault)
        elif self._in_head and self._received >= HEAD_LIMIT:
            self._listener.on_broken(self, "malformed", f"more than {HEAD_LIMIT} bytes without the end of its head")
        elif self._size > size:
            self._framing = 0
        elif not was_in_head:
            self._framing += len(data)
            if self._framing > _FRAMING_LIMIT:
                self._listener.on_broken(
                    self, "malformed", f"more than {_FRAMING_LIMIT} bytes between those of its body"
                )

    def _on_end(self) -> None:
        if not self._received:
            self._listener.on_broken(self, "closed", "ended by the other side without an answer")
        elif self._in_head:
            self._listener.on_broken(self, "truncated", f"ended in its head, after {self._received} bytes")
        elif "content-length" not in self._headers and not self._is_chunked() and self._may_end_here():
            self._complete_with(*self._answer(keeps_open=False))
        else:
            expected = self._headers.get("content-length")
            whole = f" of {expected}" if expected is not None else ""
            self._listener.on_broken(self, "truncated", f"ended after {self._size}{whole} bytes of its body")

    def _stays_open(self) -> bool:
        """Whether the whole request had left when its answer was complete."""
        return not self._unsent

    def _may_end_here(self) -> bool:
        """Whether the end of the connection can be taken for the end of an answer of unsaid length."""
        return True

    def _break_by(self, error: OSError) -> None:
        if self.exchange is None:
            self._listener.on_idle_lost(self)
            return
        words = error.strerror or str(error)
        kind = error_class(error, connecting=self.sent is None and not self.served)
        after = f" after {self._received} bytes of the answer" if self._received else ""
        self._listener.on_broken(self, kind, words + after)

    # --- the answer ---------------------------------------------------------------------------------------------

    def _forget_answer(self) -> None:
        self.status = None
        self._headers = {}
        self._set_cookies = ()
        self._chunks = []
        self._size = 0
        self._framing = 0
        self._received = 0
        self._in_head = True
        self._complete = False
        self._keeps_open = False
        self._excess = False
        self._wire_fault = None

    def _is_chunked(self) -> bool:
        return "chunked" in self._headers.get("transfer-encoding", "").lower()

    def _answer(self, *, keeps_open: bool) -> tuple[Head, bytes]:
        assert self.status is not None
        chunks = self._chunks
        body = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
        return Head(self.status, self._headers, tuple(self._set_cookies), len(body), keeps_open), body

    def _complete_with(self, head: Head, body: bytes) -> None:
        self.served += 1
        self.is_reusable = head.keeps_open and self._stays_open()
        self._listener.on_reply(self, Reply(head.status, head.headers, body, head.set_cookies))

    # Called by the parser, which reports what they raise as its own error: they must not raise.

    def on_message_begin(self) -> None:
        if self._complete:
            self._excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        key = self._wanted[name]
        if key is None or not self._in_head:  # a header after the head is a trailer of a chunked body
            return
        if key == "set-cookie":
            # Most answers set none.
            set_cookies = self._set_cookies or []
            set_cookies.append(value.decode("latin-1"))
            self._set_cookies = set_cookies
        else:
            self._headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self._complete:
            self._in_head = False
            self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._size += len(body)
        if self._size > BODY_LIMIT:
            self._wire_fault = f"more than {BODY_LIMIT} bytes of body"
            self._chunks.clear()
        elif len(self._chunks) < _MOST_PIECES:
            self._chunks.append(body)
        else:
            last = self._chunks[-1]
            if isinstance(last, bytes):
                last = self._chunks[-1] = bytearray(last)
            last += body

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self.status is not None and self.status < 200:
            received = self._received
            self._forget_answer()  # "continue", "early hints": the answer proper is still to come
            self._received = received
            return
        self._complete = True
        self._keeps_open = self._parser.should_keep_alive()
