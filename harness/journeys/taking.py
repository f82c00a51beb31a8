"""How a value is taken out of an answer for a later step: a form field, a header, a cookie, JSON, a pattern, or whatever a
function of a person's own makes of it.

Must not: raise for any answer, however broken; a value that is not there is None.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from harness.journeys.own_code import Answered, OwnCodeError, call
from harness.journeys.reply import Reply
from harness.journeys.searching import SEARCH_SECONDS, search

__all__ = ["TAKES_FROM", "Take", "Taken"]

TAKES_FROM = ("field", "header", "cookie", "json", "regex", "python")
_NOTHING: Mapping[str, str] = {}

# This much of a page is searched, for at most so many tags of this length: no hostile page may keep the one
# traffic process busy.
_SEARCHED_BYTES = 262_144
# Nor is a longer value taken: it would be sent with every request that names it.
_LONGEST_TAKEN = _SEARCHED_BYTES
_SEARCHED_TAGS = 1_000
_INPUT = re.compile(r"<input\b", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"((?:[^>\"']|\"[^\"]{0,4096}\"|'[^']{0,4096}'){0,4096}+)>")
_ATTRIBUTE = re.compile(r"([^\s=/>\"']+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")


class Taken(NamedTuple):
    """What came of it."""

    value: str | None
    problem: str = ""
    """Why there is none, in a few words."""


@dataclass(frozen=True, slots=True)
class Take:
    """Where one value comes from."""

    source: str
    """One of TAKES_FROM."""
    key: str
    """The name of the field, header or cookie, the dotted path in the JSON, the pattern whose group 1 is taken, or a function as
    `file.py:function`."""

    def look(
        self, reply: Reply, *, values: Mapping[str, str] = _NOTHING, cookies: Mapping[str, str] = _NOTHING
    ) -> Taken:
        """The value, or why there is none. `values` and `cookies`: what the person has by now, for a function."""
        if self.source == "python":
            text = reply.body.decode("utf-8", "replace")
            answered = Answered(
                status=reply.status, headers=reply.headers, text=text, cookies=dict(cookies), values=dict(values)
            )
            try:
                value = call(self.key, answered)
            except OwnCodeError as problem:
                return Taken(None, str(problem))
        else:
            value = self.from_reply(reply)
        return Taken(value, "" if value is not None else f"no {self.source} {self.key!r}")

    def from_reply(self, reply: Reply) -> str | None:
        """The value, or None when the answer itself does not hold it, or not within the bounds above."""
        value = self._value(reply)
        return None if value is None or len(value) > _LONGEST_TAKEN else value

    @property
    def sought(self) -> str:
        """Where it was looked for, for whoever is told that it was not there."""
        if self.source == "regex":
            return f"{self.source} {self.key!r} (searched for {SEARCH_SECONDS:g} s at most, in {_SEARCHED_BYTES} bytes)"
        return f"{self.source} {self.key!r}"

    def _value(self, reply: Reply) -> str | None:
        if self.source == "header":
            return reply.header(self.key)
        if self.source == "cookie":
            return _cookie(reply.set_cookies, self.key)
        if self.source == "json":
            return _json_value(reply.body, self.key)
        page = reply.body[:_SEARCHED_BYTES].decode("utf-8", "replace")
        if self.source == "field":
            return _form_field(page, self.key)
        found = search(_pattern(self.key), page)
        return found.group(1) if found else None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _form_field(page: str, name: str) -> str | None:
    for start in islice(_INPUT.finditer(page), _SEARCHED_TAGS):
        tag = _ATTRIBUTES.match(page, start.end())
        if tag is None:
            continue
        attributes: dict[str, str] = {}
        for found in _ATTRIBUTE.finditer(tag.group(1)):
            value = next((group for group in found.groups()[1:] if group is not None), "")
            attributes.setdefault(found.group(1).lower(), html.unescape(value))
        if attributes.get("name") == name:
            return attributes.get("value", "")
    return None


def _cookie(set_cookies: Sequence[str], name: str) -> str | None:
    for line in set_cookies:
        pair = line.partition(";")[0]
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            return value.strip()
    return None


def _json_value(body: bytes, path: str) -> str | None:
    """The value at a dotted path; a number in it is an index where a list is found. Only text, numbers and booleans."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for key in path.split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON can spell halves of pairs, which nothing can be sent with.
        return value.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, int | float) else None
