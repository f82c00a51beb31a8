"""Mistakes in a setup file, in words for the person who wrote it.

Each names the key, says what it must be, what was seen, and what to do: `app.instances must be 2 or more (got 1):
failover needs a survivor`. The models are checked by pydantic; none of its own sentences reach a reader.
Must not: decide what is a mistake.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from difflib import get_close_matches
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

__all__ = [
    "Key",
    "Mistake",
    "as_toml",
    "has_inside",
    "inside",
    "key_path",
    "mistake_from",
    "nearest",
    "seen",
    "spelled",
]

Key = tuple[str | int, ...]
"""Where in the file: names of tables and keys, and places in lists from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SEEN_AT_MOST = 60
_EXAMPLE_STEP = '{ get = "/login" }'  # the steps of journeys are the only tables in a list


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a setup file."""

    key: Key
    says: str
    """The sentence after the key path, without it."""
    about: tuple[Key, ...] = ()
    """Other keys it speaks of. Where one of them, or something in it, is mistaken itself, this is only its shadow."""

    def __str__(self) -> str:
        return f"{key_path(self.key)} {self.says}" if self.key else self.says


def key_path(key: Key) -> str:
    """A key as it is written in TOML, with places in lists in brackets: `journey.login.steps[0].form.email`."""
    path = ""
    for part in key:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + spelled(part)
    return path


def spelled(name: str) -> str:
    """One name as a TOML key: bare where TOML allows it, else quoted."""
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def has_inside(holder: object, part: str | int) -> bool:
    """Whether a table has this key, or a list this place."""
    if isinstance(holder, Mapping):
        return part in holder
    return isinstance(holder, list) and isinstance(part, int) and 0 <= part < len(holder)


def inside(holder: object, part: str | int) -> object:
    """What a table has at a key, or a list at a place. Raises KeyError where there is nothing."""
    if isinstance(holder, Mapping) and part in holder:
        found: object = holder[part]
        return found
    if isinstance(holder, list) and isinstance(part, int) and 0 <= part < len(holder):
        return holder[part]
    raise KeyError(part)


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was most likely meant, None when none is near."""
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def as_toml(value: object) -> str:
    """A value as it is written in a TOML file, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            inside = ", ".join(f"{spelled(str(name))} = {as_toml(each)}" for name, each in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return "[" + ", ".join(as_toml(each) for each in value) + "]"
        case _:
            return str(value)


def seen(value: object) -> str:
    """A value as it is quoted in a message: as in the file, cut where it is long."""
    return cut(as_toml(value))


def cut(text: str) -> str:
    """A text short enough for a message."""
    return text if len(text) <= _SEEN_AT_MOST else text[: _SEEN_AT_MOST - 1] + "…"


def mistake_from(error: ErrorDetails, *, data: Mapping[str, object], model: type[BaseModel]) -> Mistake:
    """What pydantic found, in our words. `data` is what was validated as `model`."""
    key = _place_in(data, error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(key, model)
    if kind == "missing":
        example = _example(model, key)
        return Mistake(key, "is missing" + (f": write {key[-1]} = {example}" if example else ""))
    value = error["input"]
    context = error.get("ctx", {})
    if kind == "setup":  # raised by our own constraints, which bring their own words
        return Mistake(key, f"{error['msg']} (got {seen(value)}): {context['remedy']}")
    return Mistake(key, _wrong_type(kind, key, value, error, _example(model, key)))


def _place_in(data: object, location: Sequence[str | int]) -> Key:
    """A pydantic location as a key of the file: without the names pydantic adds for alternatives and lone values."""
    key: list[str | int] = []
    for place, part in enumerate(location):
        if has_inside(data, part):
            data = inside(data, part)
        elif not (place == len(location) - 1 and isinstance(part, str) and isinstance(data, Mapping)):
            continue
        key.append(part)
    return tuple(key)


def _wrong_type(kind: str, key: Key, value: object, error: ErrorDetails, example: str | None) -> str:
    name = spelled(str(key[-1])) if key and isinstance(key[-1], str) else None
    got = f"(got {seen(value)})"

    def write(text: str) -> str:
        return f"write {name} = {text}" if name else f"write {text}"

    match kind:
        case "string_type":
            if isinstance(value, Mapping | list):
                return f"must be text in quotes {got}: {write(example or as_toml('...'))}"
            return f"must be text in quotes {got}: {write(as_toml(as_toml(value)))}"
        case "int_type" | "int_from_float":
            return f"must be a whole number {got}: {write(_as_number(value) or example or '1')}"
        case "float_type" | "finite_number":
            return f"must be a number {got}: {write(_as_number(value) or example or '1')}"
        case "bool_type":
            return f"must be true or false {got}: {write('true')} or false, without quotes"
        case "date_type" | "date_from_datetime_inexact":
            return f"must be a day {got}: {write(example or '2026-11-30')}, without quotes"
        case "tuple_type":
            return f"must be a list {got}: {write(_as_list(value, example))}"
        case "literal_error":
            return f"{_one_of(error, value)}"
        case "model_type" | "dict_type" | "mapping_type" | "is_instance_of":
            if name is None:
                return f"must be a table {got}: write {_EXAMPLE_STEP}"
            if any(isinstance(part, int) for part in key):  # below a list, tables have no heading of their own
                return f"must be a table {got}: {write(example or '{}')}"
            return f"must be a table {got}: write [{key_path(key)}] and its keys below it"
        case "invalid-json-value":
            return f"must be text, a number, true, false, a list or a table {got}: {write(as_toml(as_toml(value)))}"
        case _:
            # Nothing we know of ends here; a reader is still told where, what was seen and what was found.
            return f"cannot be used {got}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _one_of(error: ErrorDetails, value: object) -> str:
    found = re.findall(r"'([^']*)'|(\d+)", str(error.get("ctx", {}).get("expected", "")))
    # What stands there without quotes is a number.
    choices = {number or text: number or as_toml(text) for text, number in found}
    words = list(choices.values())
    listed = " or ".join([", ".join(words[:-1]), words[-1]]).removeprefix(" or ")
    near = str(value) if str(value) in choices else nearest(str(value), choices)
    remedy = f"did you mean {choices[near]}?" if near is not None else "choose one of these"
    return f"must be {listed} (got {seen(value)}): {remedy}"


def _as_number(value: object) -> str | None:
    """A number that was put in quotes, or given a fraction of nothing, without them."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    if isinstance(value, bool) or number != number or number in (float("inf"), float("-inf")):
        return None
    return str(int(number)) if number == int(number) else None


def _as_list(value: object, example: str | None) -> str:
    if not isinstance(value, str):
        return example or "[]"
    try:
        words = shlex.split(value)
    except ValueError:
        words = [value]
    return as_toml(words)


def _example(model: type[BaseModel], key: Key) -> str | None:
    """What a right value looks like: the field's example, else its default; for what a table holds, the first of the
    table's example."""
    field = _field_at(model, key)
    if field is None:
        table = _field_at(model, key[:-1])
        example = table.examples[0] if table is not None and table.examples else None
        return as_toml(next(iter(example.values()))) if isinstance(example, Mapping) and example else None
    if field.examples:
        return as_toml(field.examples[0])
    default = field.get_default(call_default_factory=False)
    return None if default is None else as_toml(default)


def _unknown_key(key: Key, model: type[BaseModel]) -> Mistake:
    parent, name = key[:-1], str(key[-1])
    table = _model_at(model, parent)
    known = _keys_of(table) if table is not None else []
    near = nearest(name, known)
    meant: tuple[Key, ...] = ((*parent, near),) if near is not None else tuple(_elsewhere(name, model, known_at=parent))
    if meant:
        says = f"is not a known key: did you mean {key_path(meant[0])}?"
    elif known:
        says = f"is not a known key: known here are {', '.join(known)}"
    else:
        says = f"is not a known key: {key_path(parent)} has none, leave it out"
    return Mistake(key, says, about=meant[:1])


def _elsewhere(name: str, model: type[BaseModel], *, known_at: Key) -> Iterator[Key]:
    """Where a key of exactly this name does belong, among the tables that a setup has once."""
    for key, table in [((), model), *_tables(model)]:
        if key != known_at and name in _keys_of(table):
            yield (*key, name)


def _tables(model: type[BaseModel]) -> Iterator[tuple[Key, type[BaseModel]]]:
    for name, field in _fields(model).items():
        table = _model_in(field.annotation)
        if table is not None:
            yield (name,), table


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _keys_of(model: type[BaseModel]) -> list[str]:
    return list(_fields(model))


def _model_at(model: type[BaseModel], key: Key) -> type[BaseModel] | None:
    """The model that describes the table at `key`; None where a table is free in its keys, or there is none."""
    table: type[BaseModel] | None = model
    rest = list(key)
    while rest and table is not None:
        field = _fields(table).get(str(rest.pop(0)))
        if field is None:
            return None
        table = _model_in(field.annotation)
        if table is None and rest:
            # A table or list of tables: the next part of the key chooses among them.
            rest.pop(0)
            table = _model_among(field.annotation)
    return table


def _field_at(model: type[BaseModel], key: Key) -> FieldInfo | None:
    if not key:
        return None
    table = _model_at(model, key[:-1])
    return _fields(table).get(str(key[-1])) if table is not None else None


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model an annotation is, alone or optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next((model for each in get_args(annotation) if (model := _model_in(each)) is not None), None)
    return None


def _model_among(annotation: object) -> type[BaseModel] | None:
    """The model of the values of a mapping, or of the items of a tuple."""
    return next((model for each in get_args(annotation) if (model := _model_in(each)) is not None), None)
