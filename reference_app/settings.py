"""The settings, read from the environment and from nowhere else.

Must not: import anything heavy, as a wrong setting is answered before the application is loaded.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from reference_app.errors import SettingsError

__all__ = ["SESSION_STORES", "Settings"]

SESSION_STORES = ("redis", "postgres", "memory")

_SWITCHES = {"0": False, "": False, "1": True}
_HEADER_SAFE = re.compile(r"[\w.:+-]{1,64}", re.ASCII)
_LEAST_SECRET_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One instance's settings, checked."""

    host: str = "127.0.0.1"
    port: int
    database_url: str = field(repr=False)
    redis_url: str = field(default="", repr=False)
    secret_key: str = field(repr=False)
    session_store: str = "redis"
    session_seconds: int = 1800
    """A session nobody used for this long is over."""
    cookie_secure: bool = False
    """Always, also where nobody says that a request came over https."""
    proxy_hops: int = 0
    """How many balancers of our own a request goes through: so much of what it says of its way is believed."""
    app_version: str = "1"
    instance: str
    drain_seconds: float = 0.3
    """From the stop signal until no new connection is accepted: time for a balancer to notice."""
    finish_seconds: float = 30.0
    """From then on, how long what is in flight may take to be finished. Longer than the longest request."""
    warm_up_seconds: float = 0.0
    """How long after its start an instance is not ready yet."""
    most_in_flight: int = 128
    """Requests one instance works on at once; what is more is answered with 503 at once."""
    job_seconds: float = 0.0
    """The time between two runs of what is done at regular times; 0 is never."""
    keep_alive_seconds: int = 75
    """How long an idle connection is kept. Longer than balancers do (nginx: 60 s): were it ended here first, a request might
    be on its way on it."""
    password_cost: int = 14
    """scrypt's N as a power of two. Each step doubles time and memory: 14 takes 16 MiB."""
    known_bad: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check them all. Raises SettingsError, which names every mistake at once."""
        reader = _Reader(environ)
        port = int(reader.number("PORT", None, at_least=1, at_most=65535, whole=True))
        store = reader.one_of("SESSION_STORE", "redis", SESSION_STORES)
        settings = cls(
            host=environ.get("HOST") or cls.host,
            port=port,
            database_url=reader.url("DATABASE_URL", ("postgres://", "postgresql://")),
            redis_url=reader.url("REDIS_URL", ("redis://", "rediss://", "unix://")) if store == "redis" else "",
            secret_key=reader.secret("SECRET_KEY"),
            session_store=store,
            session_seconds=int(reader.number("SESSION_SECONDS", 1800, at_least=1, at_most=10**8, whole=True)),
            cookie_secure=_SWITCHES[reader.one_of("COOKIE_SECURE", "0", tuple(_SWITCHES))],
            proxy_hops=int(reader.number("PROXY_HOPS", 0, at_least=0, at_most=10, whole=True)),
            app_version=reader.header_safe("APP_VERSION", "1"),
            instance=reader.header_safe("INSTANCE", f"{socket.gethostname()}:{port}"),
            drain_seconds=reader.number("DRAIN_SECONDS", 0.3, at_least=0, at_most=60),
            finish_seconds=reader.number("FINISH_SECONDS", 30, at_least=0, at_most=600),
            warm_up_seconds=reader.number("WARM_UP_SECONDS", 0, at_least=0, at_most=600),
            most_in_flight=int(reader.number("MOST_IN_FLIGHT", 128, at_least=1, at_most=10**6, whole=True)),
            job_seconds=reader.number("JOB_SECONDS", 0, at_least=0, at_most=86_400),
            keep_alive_seconds=int(reader.number("KEEP_ALIVE_SECONDS", 75, at_least=1, at_most=3600, whole=True)),
            password_cost=int(reader.number("PASSWORD_COST", 14, at_least=4, at_most=20, whole=True)),
            known_bad=tuple(name for part in environ.get("KNOWN_BAD", "").split(",") if (name := part.strip())),
        )
        if reader.mistakes:
            raise SettingsError("the environment is not complete or not valid:\n  " + "\n  ".join(reader.mistakes))
        return settings


class _Reader:
    """Reads single variables; puts what is wrong on a list and goes on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.mistakes: list[str] = []

    def number(
        self, name: str, default: float | None, *, at_least: float, at_most: float, whole: bool = False
    ) -> float:
        text = self._environ.get(name, "")
        if not text and default is not None:
            return default
        try:
            value: float = int(text) if whole else float(text)
            if at_least <= value <= at_most:
                return value
        except ValueError:
            pass  # told below, with the values that are out of bounds
        kind = "a whole number" if whole else "a number"
        self.mistakes.append(f"{name} must be {kind} from {at_least:g} to {at_most:g} (got {text!r})")
        return at_least

    def one_of(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._environ.get(name) or default
        if value not in choices:
            self.mistakes.append(
                f"{name} must be {' or '.join(choice for choice in choices if choice)} (got {value!r})"
            )
            return default
        return value

    def url(self, name: str, schemes: tuple[str, ...]) -> str:
        value = self._environ.get(name, "")
        if not value.startswith(schemes):
            # The value is not shown: it may hold a password.
            self.mistakes.append(
                f"{name} must begin with {' or '.join(schemes)} ({'it does not' if value else 'not set'})"
            )
        return value

    def secret(self, name: str) -> str:
        value = self._environ.get(name, "")
        if len(value) < _LEAST_SECRET_LENGTH:
            self.mistakes.append(f"{name} must have {_LEAST_SECRET_LENGTH} characters or more (got {len(value)})")
        return value

    def header_safe(self, name: str, default: str) -> str:
        value = self._environ.get(name) or default
        if not _HEADER_SAFE.fullmatch(value):
            self.mistakes.append(f"{name} goes into a header: letters, digits and . : + - _ only (got {value!r})")
        return value
