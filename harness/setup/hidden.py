"""What a person wrote into a setup file or a compose file and must not be repeated: passwords, tokens, keys.

The harness knows its own secrets, since it made them. Those of somebody else it knows by where they stand: in a header that opens
something, in an address, in a variable or a field that is named as what it is. Must not: guess by what a value looks like.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping

from harness.setup.models import Setup, Step

__all__ = ["secrets_in", "secrets_of_variables"]

_NAMED = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|AUTHORIZATION|COOKIE"
    r"|(?:^|_)(?:PASS|PWD)(?:_|$)|(?:API|ACCESS|APP|ENCRYPTION|MASTER|PRIVATE|SESSION|SIGNING)_?KEY"
)
_ABOUT = re.compile(r"_(?:FILE|PATH|URL|URI|HOST|TTL|SECONDS|NAME|HEADER|LENGTH|ALGORITHM|FIELD|PREFIX|REGION)$")
"""Such a name tells of a secret, and holds none: DB_PASSWORD_FILE."""
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s:@]*:([^/?#\s@]+)@", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"(?<!\{)\{(?!\{)")
_SHORTEST_CHARACTERS = 6
_WORD = re.compile(r"[A-Za-z]{1,12}")
"""A word, such as `postgres` or `changeme`: it keeps nothing secret, and without it no report could be read."""


def secrets_in(setup: Setup) -> tuple[str, ...]:
    """What the file itself says; what stands for a placeholder is no part of it."""
    found: list[str] = []
    variables = (setup.app.env, *setup.app.instance_env.values(), setup.rollout.env, setup.rollout.bad_env)
    for each in variables:
        found += secrets_of_variables(each)
    for journey in setup.journey.values():
        for step in journey.steps:
            found += _of_step(step)
    return tuple(dict.fromkeys(found))


def secrets_of_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """Those of an environment, or of the fields of a form."""
    for name, value in variables.items():
        for found in _IN_ADDRESS.finditer(value):
            yield from _kept(found[1])
        if _is_named(name):
            yield from _kept(value)


def _of_step(step: Step) -> Iterator[str]:
    yield from secrets_of_variables(step.form or {})
    yield from secrets_of_variables(_fields_of(step.json_body))
    for name, value in step.headers.items():
        if not _is_named(name):
            continue
        yield from _kept(value)
        scheme, _, token = value.partition(" ")
        yield from _kept(token.strip())
        if scheme.lower() == "basic":
            yield from _kept(_decoded(token).partition(":")[2])


def _fields_of(value: object) -> Mapping[str, str]:
    """The texts of a JSON body by the name they stand under, wherever."""
    fields: dict[str, str] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            fields |= {str(name): text for name, text in each.items() if isinstance(text, str)}
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
    return fields


def _is_named(name: str) -> bool:
    spelt = re.sub(r"[^A-Za-z0-9]+", "_", name).upper()
    return _NAMED.search(spelt) is not None and _ABOUT.search(spelt) is None


def _kept(value: str) -> Iterator[str]:
    text = value.replace("{{", "{").replace("}}", "}")
    if len(text) >= _SHORTEST_CHARACTERS and _PLACEHOLDER.search(value) is None and not _WORD.fullmatch(text):
        yield text


def _decoded(token: str) -> str:
    try:
        return b64decode(token, validate=True).decode("utf-8", "replace")
    except (Error, ValueError):
        return ""
