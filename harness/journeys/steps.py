"""Journeys as frozen data: what is asked in each step, what is taken from the answer and what the answer means.

They are made by `compile_journeys`, never by hand. `declared()` gives back plain data that compiles
to an equal journey: that is how they reach the traffic process. Must not: send anything or judge.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from harness.journeys.taking import Take
from harness.journeys.templates import MissingValueError, Template

__all__ = ["METHODS", "RULES", "Journey", "Match", "Request", "Step"]

_SAYS_WHO = "authorization"
METHODS = ("get", "post", "put", "delete")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
RULES = ("recognised", "logged_out", "refused", "overloaded", "expect")
"""The rules of a step, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request with every placeholder filled in. `headers` are those of the step alone."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What an answer must look like; everything that is given must hold."""

    status: tuple[int, ...] = ()
    """Any of these. Empty: any status."""
    location: str | None = None
    """A glob over the path of the Location header."""
    contains: Template | None = None
    absent: Template | None = None

    def declared(self) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        if self.status:
            plain["status"] = list(self.status)
        if self.location is not None:
            plain["location"] = self.location
        if self.contains is not None:
            plain["contains"] = self.contains.text
        if self.absent is not None:
            plain["absent"] = self.absent.text
        return plain

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for text in (self.contains, self.absent) if text is not None for name in text.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request and the meaning of its answer."""

    method: str
    """In capitals, as it is sent."""
    path: Template
    form: Mapping[str, Template] | None = None
    json: Any = None
    """Plain JSON whose texts are templates. None: no JSON body."""
    files: Mapping[str, Template] | None = None
    """What is in each file, by the name of its field. None: no file is sent."""
    headers: Mapping[str, Template]
    take: Mapping[str, Take]
    rules: Mapping[str, Match]
    """By name, in the order of RULES. Empty: any status below 400 will do."""

    @property
    def request_names(self) -> tuple[str, ...]:
        """The placeholders that must have a value before it can be sent."""
        texts = [self.path, *(self.form or {}).values(), *(self.files or {}).values()]
        texts += [*self.headers.values(), *_texts_of(self.json)]
        return tuple(name for text in texts for name in text.names)

    @property
    def names(self) -> tuple[str, ...]:
        """All its placeholders, those of its rules included."""
        return self.request_names + self.rule_names

    @property
    def rule_names(self) -> tuple[str, ...]:
        return tuple(name for rule in self.rules.values() for name in rule.names)

    def request(self, values: Mapping[str, str]) -> Request:
        """The request for these values. Raises MissingValueError; also when a header's value would break the header.

        `Authorization` is left out as long as the person has nothing to put into it.
        """
        headers: list[tuple[str, str]] = []
        body = b""
        if self.files is not None:
            kind, body = _multipart(
                [(name, text.render(values)) for name, text in (self.form or {}).items()],
                [(name, text.render(values)) for name, text in self.files.items()],
            )
            headers.append(("Content-Type", kind))
        elif self.form is not None:
            pairs = (f"{quote_plus(name)}={quote_plus(text.render(values))}" for name, text in self.form.items())
            body = "&".join(pairs).encode()
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        elif self.json is not None:
            body = json.dumps(_filled(self.json, values)).encode()
            headers.append(("Content-Type", "application/json"))
        for name, text in self.headers.items():
            if name.lower() == _SAYS_WHO and any(used not in values for used in text.names):
                continue  # who has not logged in has no token, and is nobody: that is not a mistake
            value = text.render(values)
            if _CONTROLS.search(value) is not None:
                raise MissingValueError(f"{name}: a value with a line break or a control character in it")
            headers.append((name, value))
        return Request(self.method, self.path.render(values, _quoted), tuple(headers), body)

    def declared(self) -> dict[str, Any]:
        plain: dict[str, Any] = {self.method.lower(): self.path.text}
        if self.form is not None:
            plain["form"] = {name: text.text for name, text in self.form.items()}
        if self.json is not None:
            plain["json"] = _declared_json(self.json)
        if self.files is not None:
            plain["files"] = {name: text.text for name, text in self.files.items()}
        if self.headers:
            plain["headers"] = {name: text.text for name, text in self.headers.items()}
        if self.take:
            plain["take"] = {name: {take.source: take.key} for name, take in self.take.items()}
        for name, rule in self.rules.items():
            plain[name] = rule.declared()
        return plain


@dataclass(frozen=True, slots=True)
class Journey:
    """How a person does one thing in this application."""

    name: str
    steps: tuple[Step, ...]

    def declared(self) -> dict[str, Any]:
        """Plain JSON-ready data that compiles to an equal journey."""
        return {"steps": [step.declared() for step in self.steps]}


def _quoted(value: str) -> str:
    return quote(value, safe="")


def _multipart(fields: Sequence[tuple[str, str]], files: Sequence[tuple[str, str]]) -> tuple[str, bytes]:
    """The content type and the body of a form with files (RFC 7578). The same for the same content.

    No content holds a digest of itself, so that the boundary stands nowhere else.
    """
    boundary = hashlib.blake2b(repr((fields, files)).encode(), digest_size=16).hexdigest()
    parts = [f'Content-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}' for name, value in fields]
    parts += [
        f'Content-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(name)}.txt"\r\n'
        f"Content-Type: text/plain; charset=utf-8\r\n\r\n{value}"
        for name, value in files
    ]
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    return f"multipart/form-data; boundary={boundary}", body.encode()


def _texts_of(value: Any) -> list[Template]:
    if isinstance(value, Template):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts_of(item)]
    if isinstance(value, tuple):
        return [text for item in value for text in _texts_of(item)]
    return []


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, Template):
        return value.render(values)
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_filled(item, values) for item in value]
    return value


def _declared_json(value: Any) -> Any:
    if isinstance(value, Template):
        return value.text
    if isinstance(value, Mapping):
        return {key: _declared_json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_declared_json(item) for item in value]
    return value
