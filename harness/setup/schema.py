"""The JSON schema of setup files, for editors: completion, and a wavy line below what is wrong.

Made from the models, so that it cannot say anything else. Must not: be what a file is judged by; `load_setup`
says more, and better.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from harness.setup.models import JOURNEYS, METHODS, REQUIRED_JOURNEYS, Setup, Take

__all__ = ["schema_text", "setup_schema", "write_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OBJECT: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def setup_schema() -> dict[str, JsonValue]:
    """The schema as plain data, in JSON Schema draft 2020-12."""
    schema = _OBJECT.validate_python(_tidied(Setup.model_json_schema(by_alias=True)))
    definitions = _table(schema, "$defs")
    _table(definitions, "Step")["oneOf"] = [{"required": [method]} for method in METHODS]
    _table(definitions, "Take")["oneOf"] = [{"required": [kind]} for kind in Take.KINDS]
    _table(definitions, "Match")["minProperties"] = 1
    _table(definitions, "Journey")["required"] = ["steps"]
    _table(_table(_table(definitions, "Journey"), "properties"), "steps")["minItems"] = 1
    # What it is called when it does not say is found out from the file's name.
    _table(_table(schema, "properties"), "name").pop("default")
    schema["required"] = ["journey"]
    # Beside a project of one's own nobody has to say how an instance is run.
    ways: JsonValue = [{"required": ["command"]}, {"required": ["image"]}]
    schema["anyOf"] = [{"required": ["compose"]}, {"required": ["app"], "properties": {"app": {"anyOf": ways}}}]
    journey = _table(_table(schema, "properties"), "journey")
    journey["required"] = [name for name in REQUIRED_JOURNEYS if name != "register"]
    registers: JsonValue = {"properties": {"journey": {"required": ["register"]}}}
    schema["allOf"] = [{"anyOf": [{"required": ["users"]}, registers]}]
    journey["properties"] = {
        name: {"$ref": "#/$defs/Journey", "description": f"{purpose[:1].upper()}{purpose[1:]}."}
        for name, purpose in JOURNEYS.items()
    }
    journey["additionalProperties"] = False
    return {"$schema": _DIALECT, "title": "A setup file of the harness", **schema}


def schema_text() -> str:
    """The schema as it is written to disk."""
    return json.dumps(setup_schema(), indent=2) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to a file; its folder must exist. Raises OSError."""
    path.write_text(schema_text(), encoding="utf-8")


def _tidied(value: object) -> object:
    """Without titles that repeat the key, and without null: TOML has none."""
    if isinstance(value, list):
        return [_tidied(each) for each in value]
    if not isinstance(value, dict):
        return value
    tidy = {
        name: {key: _tidied(each) for key, each in inside.items()}
        if name in ("properties", "$defs") and isinstance(inside, dict)
        else _tidied(inside)
        for name, inside in value.items()
        if not (name == "title" and isinstance(inside, str)) and not (name == "default" and inside is None)
    }
    choices = tidy.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        others = [each for each in choices if each != {"type": "null"}]
        if len(others) == 1 and isinstance(others[0], dict):
            del tidy["anyOf"]
            # What is said of this key goes before what is said of its type in general.
            tidy = {**others[0], **tidy}
        else:
            tidy["anyOf"] = others
    return tidy


def _table(holder: dict[str, JsonValue], name: str) -> dict[str, JsonValue]:
    inside = holder[name]
    assert isinstance(inside, dict), f"{name} of the schema is a table"
    return inside
