"""A connection with TLS on it: the same exchange, encrypted between the socket and whoever sends and reads.

The bytes are encrypted and decrypted in memory and sent by our own hand, so that it is still known exactly whether a
byte of the request has left; what a handshake sends is none. Every connection makes a full handshake: sessions are not
resumed, because a fresh connection stands for a visitor who was never here. Must not: retry, or take an end that could be
an attacker's for the end of an answer.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.clock import now
from harness.traffic.poller import Poller
from harness.traffic.wire import READ_BYTES, KnownHeads, Listener, Target, WantedHeaders, Wire

__all__ = ["TlsWire", "client_context"]


def client_context(authority: Path) -> ssl.SSLContext:
    """What a connection is made with: TLS 1.2 or newer, and nobody is believed but whom this authority signed for.

    Offers HTTP/1.1 alone, since that is what is spoken. Raises OSError (ssl.SSLError is one) for a file that is none.
    """
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsWire(Wire):
    """As its base, over TLS. A broken handshake is of the class `tls`, or what broke the connection under it; it has
    surely had no effect."""

    __slots__ = (
        "_connected",
        "_context",
        "_ended",
        "_goodbye",
        "_incoming",
        "_outgoing",
        "_pending",
        "_shaken",
        "_tls",
        "_until_request",
    )

    def __init__(
        self,
        poller: Poller,
        listener: Listener,
        wanted: WantedHeaders,
        heads: KnownHeads,
        context: ssl.SSLContext,
        *,
        via: str,
        is_kept: bool,
    ) -> None:
        super().__init__(poller, listener, wanted, heads, via=via, is_kept=is_kept)
        self._context = context
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: Any = None
        self._pending = b""
        """What is encrypted and not yet sent."""
        self._until_request = 0
        """How much of that belongs to no request."""
        self._connected = False
        """Whether anything was sent at all."""
        self._shaken = False
        """Whether the handshake is over."""
        self._ended = False
        """Whether nothing more can come."""
        self._goodbye = False
        """Whether the other side said that it ends the connection."""

    def open(self, target: Target, *, source: str = "") -> None:
        """Begin to connect. Raises OSError when the system refuses at once."""
        super().open(target, source=source)
        self._tls = self._context.wrap_bio(
            self._incoming, self._outgoing, server_side=False, server_hostname=target.server_name
        )

    def close(self) -> None:
        super().close()
        self._tls = None

    @property
    def unsent_because(self) -> str:
        return "no handshake of TLS" if self._connected else super().unsent_because

    # --- sending ------------------------------------------------------------------------------------------------

    def on_writable(self) -> None:
        if self._pending or self._unsent:
            self._write()

    def _write(self) -> None:
        """Shake hands as far as it goes; when that is over, encrypt the request; send what there is."""
        try:
            if not self._shaken:
                self._shake()
            if self._shaken and self._unsent:
                self._pending += self._outgoing.read()
                self._until_request = len(self._pending)
                self._tls.write(self._unsent)
                self._unsent = b""
        except ssl.SSLError as error:
            self._break_by_tls(error)
            return
        self._pending += self._outgoing.read()
        self._flush()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._shaken = True

    def _flush(self) -> None:
        assert self._socket is not None
        if not self._pending:
            self._await(writable=False)
            return
        moment = now()
        try:
            count = self._socket.send(self._pending)
        except OSError as error:
            if self.is_not_yet(error):
                self._await(writable=True)
            else:
                self._break_by(error)
            return
        self._connected = True
        self._pending = self._pending[count:]
        if self._shaken and self.sent is None and self.exchange is not None and count > self._until_request:
            self.sent = moment
        self._until_request = max(0, self._until_request - count)
        self._await(writable=bool(self._pending))

    # --- reading ------------------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        if self._socket is None:
            return  # closed earlier in the same turn of the loop
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as error:
            if not self.is_not_yet(error):
                self._break_by(error)
            return
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        if not self._shaken:
            self._write()
            if self._tls is None or not self._shaken:
                return
        self._decrypt()

    def _decrypt(self) -> None:
        """Hand on what came, all of it in one piece: an answer that comes whole is judged in one go."""
        parts: list[bytes] = []
        fault: ssl.SSLError | None = None
        try:
            while part := self._tls.read(READ_BYTES):
                parts.append(part)
            self._goodbye = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            fault = error
        # Known before an answer is handed on: one that came with its end is not to be followed by another request.
        self._ended = self._goodbye or fault is not None
        if self.exchange is None:
            # What is no data and no end, such as a ticket for another session, is nothing to an idle connection.
            if parts or self._ended:
                self._listener.on_idle_lost(self)
            return
        if parts:
            exchange = self.exchange
            self._take(b"".join(parts))
            if self._socket is None or self.exchange is not exchange:
                return  # it is answered, or broken
        if self._goodbye or isinstance(fault, ssl.SSLEOFError):
            self._on_end()
        elif fault is not None:
            self._break_by_tls(fault)

    def _may_end_here(self) -> bool:
        """Only where the other side said so: anybody can cut a connection."""
        return self._goodbye

    def _stays_open(self) -> bool:
        return super()._stays_open() and not self._pending and not self._ended

    # --- what breaks --------------------------------------------------------------------------------------------

    def _break_by_tls(self, error: ssl.SSLError) -> None:
        if self.exchange is None:
            self._listener.on_idle_lost(self)
            return
        if isinstance(error, ssl.SSLEOFError):
            self._listener.on_broken(self, "closed", "ended by the other side during the handshake of TLS")
            return
        # The other side is told why, as far as that can be done without waiting.
        alert = self._outgoing.read()
        if alert and self._socket is not None:
            with suppress(OSError):
                self._socket.send(self._pending + alert)
        self._listener.on_broken(self, "tls", _words(error))


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not to be believed: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
