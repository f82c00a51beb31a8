"""The JSON schema and the page on the setup file say the same as the models."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.setup import JOURNEY_PLACEHOLDERS, NODE_PLACEHOLDERS, parse_setup, schema_text, setup_schema, write_schema
from harness.setup.messages import as_toml
from harness.setup.models import JOURNEYS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "setup-file.md").read_text(encoding="utf-8")
SCHEMA: dict[str, Any] = dict(setup_schema())

# The heading under which the keys of each table are explained.
HEADINGS = {
    "App": "[app]",
    "Identity": "[app.identity]",
    "Jobs": "[app.jobs]",
    "RateLimit": "[app.rate_limit]",
    "WebSocket": "[app.websocket]",
    "Postgres": "[postgres]",
    "Redis": "[redis]",
    "Sessions": "[sessions]",
    "Balancer": "[balancer]",
    "Tls": "[balancer.tls]",
    "Images": "[images]",
    "Compose": "[compose]",
    "Remote": "[remote]",
    "RemoteInstance": "[remote.instances.<name>]",
    "Rollout": "[rollout]",
    "Swarm": "[swarm]",
    "Traffic": "[traffic]",
    "Promises": "[promises]",
    "Users": "[users]",
    "User": "Somebody who is given",
    "Journey": "[journey.<name>]",
    "Step": "A step",
    "Match": "A match",
    "Take": "A take",
}


def _rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading of the page, by their key."""
    section = re.split(rf"^### `?{re.escape(heading)}`?$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, flags=re.MULTILINE)[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"
    ]
    return {row[0].strip("`| "): row for row in cells[2:]}


def _tables() -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "Top level", SCHEMA["properties"]
    for name, definition in SCHEMA["$defs"].items():
        if name != "JsonValue":
            yield HEADINGS[name], definition.get("properties", {})


def test_the_schema_on_disk_is_the_current_one(tmp_path: Path) -> None:
    """`harness schema` writes what docs/setup.schema.json holds."""
    write_schema(tmp_path / "schema.json")
    written = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert written == schema_text()
    assert (ROOT / "docs" / "setup.schema.json").read_text(encoding="utf-8") == written, (
        "write it anew: python -m harness.cli schema > docs/setup.schema.json"
    )


def test_the_schema_is_one() -> None:
    """It is valid draft 2020-12, knows no null (TOML has none), and describes every key."""
    Draft202012Validator.check_schema(SCHEMA)
    assert '"null"' not in json.dumps(SCHEMA)
    for heading, properties in _tables():
        for key, value in properties.items():
            assert value.get("description") or "$ref" in value, f"{heading} {key}"


@pytest.mark.parametrize("file", sorted((ROOT / "fixtures" / "setups").glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_setup_fits_the_schema(file: Path) -> None:
    """What the parser takes, an editor does not underline."""
    Draft202012Validator(SCHEMA).validate(tomllib.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        {"app": {"command": ["x"], "instances": 1}},
        {"app": {"command": ["x"], "instnces": 3}},
        {"app": {"command": ["x"], "health": "health"}},
        {"app": {}},
        {"balancer": {"next_upstream": ["sometimes"]}},
        {"balancer": {"pool": []}},
        {"journey": {}},
        {"traffic": {"rate": 0}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_parser_refuses(change: dict[str, object]) -> None:
    """The common mistakes show while typing."""
    data = tomllib.loads((ROOT / "fixtures" / "setups" / "reference.toml").read_text(encoding="utf-8"))
    assert not Draft202012Validator(SCHEMA).is_valid({**data, **change})


@pytest.mark.parametrize(
    ("heading", "properties"), list(_tables()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_is_explained_with_its_default(heading: str, properties: Mapping[str, Any]) -> None:
    """Each key has a row with type, default, purpose and example; no row explains a key that is not there."""
    if not properties:
        assert f"### `{heading}`" in PAGE
        return
    rows = _rows(heading)
    assert sorted(rows) == sorted(properties)
    for key, row in rows.items():
        assert len(row) == 5, f"{heading} {key}: {row}"
        assert all(cell.strip("| ") for cell in row), f"{heading} {key}"
        default = properties[key].get("default")
        if isinstance(default, str | int | float | list) and default != []:
            assert row[2] == f"`{as_toml(default)}`", f"{heading} {key}"


def test_every_placeholder_and_every_journey_is_explained() -> None:
    """The page lists exactly what there is, in the same words."""
    listed = dict(re.findall(r"^\| `\{([a-z_.]+)\}` \| (.+) \|$", PAGE, flags=re.MULTILINE))
    assert sorted(listed) == sorted({**NODE_PLACEHOLDERS, **JOURNEY_PLACEHOLDERS})
    for name, meaning in {**NODE_PLACEHOLDERS, **JOURNEY_PLACEHOLDERS}.items():
        assert listed[name].startswith(meaning), name
    for name, purpose in JOURNEYS.items():
        assert re.search(rf"^\| `{name}` \| {purpose}", PAGE, flags=re.MULTILINE), name


def test_the_example_of_the_page_is_right() -> None:
    """Whoever copies the whole example has a setup without mistakes."""
    example = PAGE.split("```toml\n")[1].split("```")[0]
    assert parse_setup(tomllib.loads(example), source="docs").app.instances == 3


def test_the_messages_of_the_page_are_those_that_are_given() -> None:
    """The mistakes shown on the page are among those that are tested, word for word."""
    tested = (ROOT / "tests" / "setup_mistakes.txt").read_text(encoding="utf-8")
    shown = PAGE.partition("## When something is wrong")[2].split("```\n")[1].strip().splitlines()
    assert len(shown) == 4
    for message in shown:
        assert message.split(" ", 1)[1] in tested


def test_who_is_given_need_not_be_registered() -> None:
    """Nor does an editor ask for that."""
    data = tomllib.loads((ROOT / "fixtures" / "setups" / "reference.toml").read_text(encoding="utf-8"))
    del data["journey"]["register"]
    assert not Draft202012Validator(SCHEMA).is_valid(data)
    assert Draft202012Validator(SCHEMA).is_valid({**data, "users": {"given": [{"email": "ada", "password": "s"}]}})
