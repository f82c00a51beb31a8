"""From declared journeys (plain data, or the setup file's models) to `Journey` objects, with all mistakes at once.

The setup room checks the same file with nicer keys; this is the last door before requests are made
of it, so nothing wrong passes. Must not: guess what a wrong rule may have meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from harness.errors import SetupError
from harness.journeys.own_code import OwnCodeError, function_of
from harness.journeys.steps import METHODS, RULES, Journey, Match, Step
from harness.journeys.taking import TAKES_FROM, Take
from harness.journeys.templates import Template

__all__ = ["PLACEHOLDERS", "compile_journeys", "compile_match"]

PLACEHOLDERS = ("user.email", "user.password", "user.name", "record", "text")
"""What every journey may use, beside the names its steps take from answers."""

_STEP_KEYS = (*METHODS, "form", "json", "files", "headers", "take", *RULES)
_MATCH_KEYS = ("status", "location", "contains", "absent")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = (
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "cookie",
    "accept-encoding",
    "expect",
    "upgrade",
)


def compile_journeys(declared: Mapping[str, Any], *, values: Collection[str] = ()) -> Mapping[str, Journey]:
    """Journeys by name. `values` names further placeholders that whoever runs a journey will give (such as `seconds`).

    A value taken in one journey may be used in any other: it belongs to the visitor from then on.
    Raises SetupError with every mistake, each with its key.
    """
    mistakes: list[str] = []
    journeys: dict[str, Journey] = {}
    for name, journey in declared.items():
        steps = _plain(journey)
        if isinstance(steps, Mapping):
            steps = steps.get("steps")
        if not isinstance(steps, list | tuple) or not steps:
            mistakes.append(f"journey.{name}.steps must be a list of one step or more (got {steps!r})")
            continue
        compiled = [
            _step(_plain(step), f"journey.{name}.steps[{number}]", mistakes) for number, step in enumerate(steps, 1)
        ]
        journeys[name] = Journey(name, tuple(step for step in compiled if step is not None))
    taken = {key for journey in journeys.values() for step in journey.steps for key in step.take}
    known = {*PLACEHOLDERS, *values, *taken}
    for name, journey in journeys.items():
        for number, step in enumerate(journey.steps, 1):
            for used in dict.fromkeys(step.names):
                if used not in known:
                    mistakes.append(
                        f"journey.{name}.steps[{number}]: unknown placeholder {{{used}}}{_nearest(used, known)}"
                    )
    if mistakes:
        raise SetupError("journeys", mistakes)
    return journeys


def compile_match(declared: Mapping[str, Any]) -> Match:
    """What an answer must look like, by itself. Raises SetupError with every mistake."""
    mistakes: list[str] = []
    match = _match(declared, "match", mistakes)
    if mistakes:
        raise SetupError("match", mistakes)
    return match


def _plain(value: Any) -> Any:
    """A pydantic model as the mapping it was declared as; anything else untouched."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", by_alias=True, exclude_none=True) if callable(dump) else value


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {{{near[0]}}}?" if near else ""


def _step(plain: Any, where: str, mistakes: list[str]) -> Step | None:
    if not isinstance(plain, Mapping):
        mistakes.append(f"{where} must be a table (got {plain!r})")
        return None
    before = len(mistakes)
    given = {key: value for key, value in plain.items() if value is not None}
    for key in given:
        if key not in _STEP_KEYS:
            near = difflib.get_close_matches(str(key), _STEP_KEYS, n=1)
            mistakes.append(f"{where}.{key} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
    methods = [method for method in METHODS if method in given]
    if len(methods) != 1:
        mistakes.append(f"{where} must have exactly one of {', '.join(METHODS)} (got {', '.join(methods) or 'none'})")
        return None
    method = methods[0]
    if "form" in given and "json" in given:
        mistakes.append(f"{where} has both form and json: a request has one body")
    path = _path(given[method], f"{where}.{method}", mistakes)
    form = _texts(given["form"], f"{where}.form", mistakes) if "form" in given else None
    json = _json(given["json"], f"{where}.json", mistakes) if "json" in given else None
    if "files" in given and "json" in given:
        mistakes.append(f"{where} has both files and json: a request has one body")
    files = _texts(given["files"], f"{where}.files", mistakes) if "files" in given else None
    headers = _texts(given.get("headers", {}), f"{where}.headers", mistakes)
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            mistakes.append(f"{where}.headers: {name!r} is no header name")
        elif name.lower() in _OURS:
            mistakes.append(f"{where}.headers.{name} is set by the harness and cannot be declared")
    take = _takes(given.get("take", {}), f"{where}.take", mistakes)
    rules = {rule: _match(_plain(given[rule]), f"{where}.{rule}", mistakes) for rule in RULES if rule in given}
    if len(mistakes) > before or path is None:
        return None
    return Step(
        method=method.upper(), path=path, form=form, json=json, files=files, headers=headers, take=take, rules=rules
    )


def _template(text: Any, where: str, mistakes: list[str]) -> Template:
    if isinstance(text, bool | int | float):
        text = str(text).lower() if isinstance(text, bool) else str(text)
    if not isinstance(text, str):
        mistakes.append(f"{where} must be text (got {text!r})")
        return Template.parse("")
    try:
        return Template.parse(text)
    except ValueError as error:
        mistakes.append(f"{where}: {error}")
        return Template.parse("")


def _path(text: Any, where: str, mistakes: list[str]) -> Template | None:
    if not isinstance(text, str) or not text.startswith("/") or text.startswith("//"):
        mistakes.append(f"{where} must be a path that begins with one / (got {text!r})")
        return None
    if "#" in text:
        mistakes.append(f"{where}: the part after # is never sent to a server; leave it out (got {text!r})")
        return None
    path = _template(text, where, mistakes)
    # As a browser does with its address line: anything but plain ASCII is quoted.
    parts = [part if index % 2 else quote(part, safe="/?&=%:@!$'()*+,;~[]-._") for index, part in enumerate(path.parts)]
    return Template(text, tuple(parts))


def _texts(plain: Any, where: str, mistakes: list[str]) -> dict[str, Template]:
    if not isinstance(plain, Mapping):
        mistakes.append(f"{where} must be a table of names and texts (got {plain!r})")
        return {}
    return {str(name): _template(text, f"{where}.{name}", mistakes) for name, text in plain.items()}


def _json(value: Any, where: str, mistakes: list[str]) -> Any:
    if isinstance(value, str):
        return _template(value, where, mistakes)
    if isinstance(value, Mapping):
        return {str(key): _json(item, f"{where}.{key}", mistakes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_json(item, f"{where}[{index}]", mistakes) for index, item in enumerate(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    mistakes.append(f"{where} cannot be written as JSON (got {value!r})")
    return None


def _takes(plain: Any, where: str, mistakes: list[str]) -> dict[str, Take]:
    if not isinstance(plain, Mapping):
        mistakes.append(f"{where} must be a table (got {plain!r})")
        return {}
    takes: dict[str, Take] = {}
    for name, declared in plain.items():
        source = _plain(declared)
        given = {k: v for k, v in source.items() if v is not None} if isinstance(source, Mapping) else {}
        if len(given) != 1 or next(iter(given)) not in TAKES_FROM or not isinstance(next(iter(given.values())), str):
            mistakes.append(f"{where}.{name} must have exactly one of {', '.join(TAKES_FROM)} (got {source!r})")
            continue
        if name in PLACEHOLDERS:
            mistakes.append(f"{where}.{name}: {{{name}}} is the harness's own name; take it under another")
            continue
        ((kind, key),) = given.items()
        if kind == "regex":
            try:
                groups = re.compile(key).groups
            except re.error as error:
                mistakes.append(f"{where}.{name}.regex {key!r} is no pattern: {error}")
                continue
            if groups < 1:
                mistakes.append(f"{where}.{name}.regex {key!r} has no group: put what to take in (brackets)")
                continue
        if kind == "python":
            try:
                function_of(key)
            except OwnCodeError as problem:
                mistakes.append(f"{where}.{name}.python: {problem}")
                continue
        takes[str(name)] = Take(kind, key)
    return takes


def _match(plain: Any, where: str, mistakes: list[str]) -> Match:
    given = {k: v for k, v in plain.items() if v is not None} if isinstance(plain, Mapping) else {}
    if not given:
        mistakes.append(f"{where} must have one of {', '.join(_MATCH_KEYS)} or more: empty it would match any answer")
        return Match()
    for key in given:
        if key not in _MATCH_KEYS:
            near = difflib.get_close_matches(str(key), _MATCH_KEYS, n=1)
            mistakes.append(f"{where}.{key} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
    statuses = given.get("status", ())
    if isinstance(statuses, int):
        statuses = (statuses,)
    if not isinstance(statuses, list | tuple) or not all(_is_status(status) for status in statuses):
        mistakes.append(f"{where}.status must be a status from 100 to 599, or a list of them (got {given['status']!r})")
        statuses = ()
    location = given.get("location")
    if location is not None and not isinstance(location, str):
        mistakes.append(f"{where}.location must be a path, * matches anything (got {location!r})")
        location = None
    texts = {
        key: _template(given[key], f"{where}.{key}", mistakes) if key in given else None
        for key in ("contains", "absent")
    }
    return Match(status=tuple(statuses), location=location, contains=texts["contains"], absent=texts["absent"])


def _is_status(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599
