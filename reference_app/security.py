"""Signatures and passwords. Must not: keep anything, or know of requests."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Passwords", "Signer", "new_token"]

# RFC 7914 recommends r = 8; N is the setting PASSWORD_COST.
_BLOCK_SIZE = 8
_HASHING_THREADS = 2


def new_token() -> str:
    """A session id nobody can guess: 192 random bits."""
    return secrets.token_urlsafe(24)


class Signer:
    """Everything made with the one secret that all instances share (HMAC-SHA256, one purpose per key)."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, token: str) -> str:
        """The value of the session cookie."""
        return f"{token}.{self._mac('cookie', token)}"

    def unsign(self, cookie: str) -> str | None:
        """The token inside a cookie, or None if it was not signed with this secret."""
        token, _, signature = cookie.rpartition(".")
        return token if token and self._same(signature, self._mac("cookie", token)) else None

    def seal(self, text: str) -> str:
        """Something to be kept by the browser, and believed when it comes back."""
        return f"{text}.{self._mac('seal', text)}"

    def unseal(self, sealed: str) -> str | None:
        """What was sealed, or None if it was not with this secret."""
        text, _, signature = sealed.rpartition(".")
        return text if self._same(signature, self._mac("seal", text)) else None

    def csrf(self, token: str) -> str:
        """What a form of this session must carry. Nothing is kept: every instance can check it."""
        return self._mac("csrf", token)

    def is_csrf(self, given: str, token: str) -> bool:
        return self._same(given, self.csrf(token))

    def fingerprint(self) -> str:
        """The same on all instances with the same secret; says nothing else about it."""
        return self._mac("fingerprint", "")[:16]

    def derived(self, name: str) -> str:
        """Another secret that only who knows this one can make."""
        return self._mac("derived", name)

    def _mac(self, purpose: str, value: str) -> str:
        digest = hmac.digest(self._secret, f"{purpose}:{value}".encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    @staticmethod
    def _same(one: str, other: str) -> bool:
        return hmac.compare_digest(one.encode(), other.encode())


class Passwords:
    """scrypt, computed in threads of its own: a log-in must not hold up the event loop."""

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="scrypt")

    async def hash(self, password: str) -> str:
        """Salted, with the cost inside, so that the setting can be raised without losing anybody."""
        salt = secrets.token_bytes(16)
        key = await self._scrypt(password, salt, self._cost)
        return f"scrypt${self._cost}${urlsafe_b64encode(salt).decode()}${urlsafe_b64encode(key).decode()}"

    async def verify(self, password: str, stored: str | None) -> bool:
        """None, for a person who does not exist, takes as long as a wrong password."""
        if stored is None:
            await self._scrypt(password, b"nobody", self._cost)
            return False
        _, cost, salt, key = stored.split("$")
        found = await self._scrypt(password, urlsafe_b64decode(salt), int(cost))
        return hmac.compare_digest(found, urlsafe_b64decode(key))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _scrypt(self, password: str, salt: bytes, cost: int) -> bytes:
        def compute() -> bytes:
            n = 1 << cost
            # OpenSSL needs 128 * r * N bytes and a little; its own limit is 32 MiB.
            memory = 128 * _BLOCK_SIZE * (n + 64)
            return hashlib.scrypt(password.encode(), salt=salt, n=n, r=_BLOCK_SIZE, p=1, maxmem=memory)

        return await asyncio.get_running_loop().run_in_executor(self._threads, compute)
