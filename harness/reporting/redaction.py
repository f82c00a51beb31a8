"""Keeps secrets out of everything that is written or shown. Must not: know what it is that is written."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from math import isfinite
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast
from urllib.parse import quote, quote_plus

from harness.reporting.files import replacing
from harness.reporting.text import without_controls

__all__ = ["REDACTED", "Redactor", "redact"]

REDACTED = "[redacted]"
# Blanking a shorter one would blank half of every report, and it keeps nothing secret.
_SHORTEST_CHARACTERS = 4
_PIECE_CHARACTERS = 1 << 20
_T = TypeVar("_T")


class Redactor:
    """Replaces the secrets of a run by `[redacted]`, as they are and as they travel in URLs, forms, JSON, HTML and XML.

    Secrets become known while a run boots: one redactor is handed to everything, and told of them by `add`. Safe for
    many threads. Those shorter than four characters are left alone.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Keep these out as well, from now on. Of one with several lines, such as a key, each line is kept out."""
        parts = {part for secret in secrets for part in (secret, *secret.splitlines())}
        forms = {form for part in parts if len(part) >= _SHORTEST_CHARACTERS for form in _forms(part)}
        with self._lock:
            self._forms |= forms
            if self._forms:
                # The longest first: one secret may be the beginning of another.
                ordered = sorted(self._forms, key=lambda form: (-len(form), form))
                self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def __call__(self, text: str) -> str:
        pattern = self._pattern
        return pattern.sub(REDACTED, text) if pattern is not None else text

    def everything(self, value: _T) -> _T:
        """A copy of a dataclass, mapping or sequence in which every text is free of secrets and control characters.

        What JSON has no word for becomes text; a number that is not finite becomes None.
        """
        return cast("_T", self._clean(value))

    def _clean(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, Enum, PurePath)):
            return value
        if isinstance(value, float):
            return value if isfinite(value) else None
        if isinstance(value, str):
            # Twice: controls may be part of a secret, and a secret may be interrupted by controls.
            return self(without_controls(self(value)))
        if is_dataclass(value) and not isinstance(value, type):
            changed = {field.name: self._clean(getattr(value, field.name)) for field in fields(value)}
            return replace(value, **changed)
        if isinstance(value, Mapping):
            return {self._clean(str(key)): self._clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self._clean(item) for item in value)
        if isinstance(value, (set, frozenset)):
            return sorted((self._clean(item) for item in value), key=str)
        return self._clean(str(value))

    def copy_file(self, source: Path, target: Path) -> None:
        """Write what `source` says to `target`, without secrets. They may be the same file: it is replaced when done.

        Works in pieces: a log of any size fits into memory, also one without a single end of line.

        Raises:
            MissingPrerequisite: the target cannot be written, such as for want of disk space.
            FileNotFoundError: there is no such source.
        """
        with self._lock:
            longest, pattern = max(map(len, self._forms), default=1), self._pattern
        with (
            source.open(encoding="utf-8", errors="surrogateescape", newline="") as reader,
            replacing(target) as file,
        ):
            held = ""
            while piece := reader.read(_PIECE_CHARACTERS):
                text = held + piece
                settled = _settled(text, pattern, longest=longest)
                file.write(self(text[:settled]).encode("utf-8", "surrogateescape"))
                held = text[settled:]
            file.write(self(held).encode("utf-8", "surrogateescape"))


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, in all forms a `Redactor` knows."""
    return Redactor(secrets)(text)


def _settled(text: str, pattern: re.Pattern[str] | None, *, longest: int) -> int:
    """How much of a text can be cleaned before what follows it is known: a secret may begin in the rest."""
    settled = max(0, len(text) - longest + 1)
    whole = 0
    for found in pattern.finditer(text) if pattern is not None else ():
        # What begins before is seen to its end, so that the longest of two that begin alike has been found.
        if found.start() >= settled:
            break
        whole = found.end()
    return max(settled, whole)


def _forms(secret: str) -> set[str]:
    # Lone surrogates cannot be percent-encoded; they cannot be in an environment or a URL either.
    in_utf8 = secret.encode("utf-8", "replace")
    in_urls = {quote(in_utf8, safe=""), quote(in_utf8, safe="/"), quote(in_utf8, safe="/:@"), quote_plus(in_utf8)}
    in_urls |= {re.sub("%[0-9A-F]{2}", lambda code: code.group().lower(), form) for form in in_urls}
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    in_pages = {html.escape(secret, quote=False), html.escape(secret), html.escape(secret).replace("&#x27;", "&#39;")}
    return {secret} | in_urls | in_json | in_pages
