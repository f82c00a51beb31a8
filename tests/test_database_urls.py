"""The forms in which frameworks want a database, as docs/setup-file.md gives them: each can be made, and says the same."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from harness.services import PostgresContainer, RedisContainer
from harness.setup import Postgres, expand, parse_setup

PAGE = (Path(__file__).parents[1] / "docs" / "setup-file.md").read_text(encoding="utf-8")
SECTION = PAGE.split("Each framework wants the same database")[1].split("### In journeys")[0]
FORMS = re.findall(r"^\| (?!for |---)(.+?) \| `(.+)` \|$", SECTION, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """As a real run has them, but for the random parts."""
    postgres = PostgresContainer(Postgres(), image="postgres:18", port=1)
    redis = RedisContainer(image="valkey:8", port=2)
    return {**postgres.values(), **redis.values()}


def test_the_page_has_forms() -> None:
    assert len(FORMS) == 13


@pytest.mark.parametrize(("who", "form"), FORMS)
def test_a_form_can_be_made_by_a_setup(who: str, form: str, values: dict[str, str]) -> None:
    """It has no mistake in a setup file, and every part is where its reader looks for it."""
    setup = parse_setup(
        {
            "app": {"command": ["./x", "{port}"], "env": {"DATABASE": form}},
            "postgres": {},
            "redis": {},
            "journey": {
                "register": {"steps": [{"post": "/r", "expect": {"status": 200}}]},
                "login": {"steps": [{"post": "/l", "expect": {"status": 200}}]},
                "whoami": {
                    "steps": [{"get": "/m", "recognised": {"contains": "{user.email}"}, "logged_out": {"status": 401}}]
                },
            },
        },
        source="a.toml",
    )
    made = expand(setup.app.env["DATABASE"], values)
    assert "{" not in made
    read = read_redis(made) if "Redis" in who or "redis" in who else read_postgres(made)
    wanted = "redis" if "Redis" in who or "redis" in who else "postgres"
    assert read == {part: values[f"{wanted}.{part}"] for part in read}
    assert {"host", "port", "password"} <= set(read)


def read_postgres(made: str) -> dict[str, str]:
    """Taken apart as the readers of each form take it apart."""
    names = {"dbname": "database", "Host": "host", "Port": "port", "Username": "user", "Password": "password"}
    if made.startswith("jdbc:"):
        parts = urlsplit(made.removeprefix("jdbc:"))
        asked = parse_qs(parts.query)
        found: dict[str, Any] = {
            "host": parts.hostname,
            "port": str(parts.port),
            "database": parts.path[1:],
            **{name: value[0] for name, value in asked.items()},
        }
        return found
    if ";" in made:
        pairs = dict(pair.split("=", 1) for pair in made.split(";"))
        return {names.get(name, name.lower()): value for name, value in pairs.items()}
    if "://" in made and not made.startswith(("postgres://", "postgresql://")):
        made = "postgresql://" + made.partition("://")[2]
    told = conninfo_to_dict(made.replace("?schema=public", ""))
    return {names.get(name, name): str(value) for name, value in told.items() if name != "sslmode"}


def read_redis(made: str) -> dict[str, str]:
    if "," in made:
        address, _, password = made.partition(",password=")
        host, _, port = address.partition(":")
        return {"host": host, "port": port, "password": password}
    parts = urlsplit(made)
    assert parts.path in ("", "/1", "/0")
    return {"host": str(parts.hostname), "port": str(parts.port), "password": str(parts.password)}


def test_passwords_need_no_quotes_anywhere(values: dict[str, str]) -> None:
    """In none of these forms, and in no shell."""
    plain = set(string.ascii_letters + string.digits + "-_")
    for _ in range(50):
        made = PostgresContainer(Postgres(), image="postgres:18", port=1).values()["postgres.password"]
        assert set(made) <= plain
        assert set(RedisContainer(image="valkey:8", port=2).values()["redis.password"]) <= plain
    assert set(values["postgres.password"]) <= plain
