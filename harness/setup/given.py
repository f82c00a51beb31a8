"""The people a setup gives: their accounts are there already, and nobody registers.

They are written into the setup file, or beside it, and their password may be in the environment alone. Must not: tell a
password to anybody but whoever asks for the people.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from harness.errors import SetupError
from harness.setup.constraints import listed
from harness.setup.environment import Environment
from harness.setup.messages import seen
from harness.setup.models import Setup, User, _Table
from harness.setup.parser import checked_as, toml_of
from harness.setup.rules import nameless

__all__ = ["know_people"]

_COLUMNS = ("email", "password", "name")
_EXAMPLE = "people.csv"


class _UsersFile(_Table):
    """A file of people in TOML."""

    users: Annotated[tuple[User, ...], BeforeValidator(listed())] = ()


def know_people(setup: Setup, environment: Environment) -> Setup:
    """The same setup, with everybody it gives in `people`, each with a password.

    Raises:
        SetupError: the file of people cannot be used, the variable with the password is not set, somebody is named twice, or
            nobody is.
    """
    users = setup.users
    if users is None:
        return setup
    source = str(setup.file or "users")
    people = list(users.given)
    if users.file is not None:
        people += _read((setup.file.parent if setup.file is not None else Path()) / users.file)
    password = ""
    if users.password_from is not None:
        password = environment.everything.get(users.password_from, "")
        if not password:
            problem = f"users.password_from is {users.password_from}, and no variable of that name is set"
            remedy = f"export {users.password_from}=..., or give each person a password of their own"
            raise SetupError(source, [f"{problem}: {remedy}"])
    found = tuple(
        User(email=each.email, password=each.password or password, name=each.name or each.email.partition("@")[0])
        for each in people
    )
    mistakes = list(_mistakes(found, needs_password=setup.asks_password))
    if mistakes:
        raise SetupError(source, mistakes)
    known = setup.model_copy()
    known._people = found
    return known


def _mistakes(people: Sequence[User], *, needs_password: bool) -> Iterator[str]:
    if not people:
        yield "users names nobody: write given = [{ email = ..., password = ... }], or name a file with people in it"
    met: set[str] = set()
    for each in people:
        if each.email.lower() in met:
            yield f"users names {each.email} twice: two people who are one cannot be told apart, leave one out"
        met.add(each.email.lower())
        if needs_password and not each.password:
            yield (
                f"users names {each.email} without a password, which the journeys send: give it, or name the variable that "
                'holds everybody\'s, such as password_from = "SHOP_PASSWORD"'
            )


def _read(path: Path) -> Sequence[User]:
    """Everybody in a file: TOML with `[[users]]`, or CSV whose first line names its columns. Raises SetupError."""
    if path.suffix == ".toml":
        data: dict[str, object] = toml_of(path, kind="file of people", example=_EXAMPLE)
    else:
        data = {"users": list(_rows(path))}
    return checked_as(
        _UsersFile, data, source=str(path), between=lambda file: nameless(("users",), file.users), mistakes=[]
    ).users


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except FileNotFoundError:
        raise SetupError(
            str(path), ["there is no such file: users.file is looked for in the folder of the setup file"]
        ) from None
    except (OSError, ValueError, csv.Error) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise SetupError(str(path), [f"cannot be read ({reason}): write CSV in UTF-8"]) from None
    head = [re.sub(r"\s", "", name).lower() for name in rows[0]] if rows else []
    if "email" not in head or not set(head) <= set(_COLUMNS):
        raise SetupError(
            str(path),
            [f"must begin with the names of its columns (got {seen(','.join(head))}): write email,password,name"],
        )
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(head):
            raise SetupError(
                str(path),
                [f"row {number} has {len(row)} fields, and {len(head)} columns are named: put quotes around a comma"],
            )
        # A field that is not there is none; an empty one is none either.
        yield {name: value for name, value in zip(head, row, strict=False) if value}
