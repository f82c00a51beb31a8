"""What a single value of a setup file must be, with the sentence for whoever wrote another, and its JSON schema.

Each is used as metadata of a type: `Annotated[int, AtLeast(2, because="failover needs a survivor")]`.
Must not: look at two values at once; that is `rules`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import LiteralString, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = ["Above", "AtLeast", "Between", "Constraint", "Distinct", "Like", "NotEmpty", "OneOrMore", "listed", "refuse"]


def refuse(must: str, remedy: str) -> NoReturn:
    """Refuse a value inside a validator: `must` follows the key, `remedy` what was seen."""
    # The braces of pydantic's own message templates are not wanted: everything goes through the context.
    template: LiteralString = "{must}"
    raise PydanticCustomError("setup", template, {"must": must, "remedy": remedy})


@dataclass(frozen=True)
class Constraint:
    """A check after pydantic's own, with what it adds to the JSON schema."""

    def check(self, value: object) -> None:
        """Raise PydanticCustomError of type `setup`, with the words `must` and `remedy`, for a wrong value."""
        raise NotImplementedError

    def schema(self) -> dict[str, object]:
        return {}

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: object) -> object:
            self.check(value)
            return value

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), **self.schema()}


@dataclass(frozen=True)
class AtLeast(Constraint):
    """A number that is `minimum` or more."""

    minimum: int
    because: str = field(kw_only=True)

    def check(self, value: object) -> None:
        if isinstance(value, int | float) and value < self.minimum:
            refuse(f"must be {self.minimum:,} or more", self.because)

    def schema(self) -> dict[str, object]:
        return {"minimum": self.minimum}


@dataclass(frozen=True)
class Above(Constraint):
    """A number above `bound`."""

    bound: int
    because: str = field(kw_only=True)

    def check(self, value: object) -> None:
        if isinstance(value, int | float) and value <= self.bound:
            refuse(f"must be more than {self.bound:,}", self.because)

    def schema(self) -> dict[str, object]:
        return {"exclusiveMinimum": self.bound}


@dataclass(frozen=True)
class Between(Constraint):
    """A number from `minimum` to `maximum`, both allowed."""

    minimum: int
    maximum: int
    because: str = field(kw_only=True)
    """Said of numbers above; of those below too, unless `because_below` is given."""
    because_below: str | None = field(default=None, kw_only=True)

    def check(self, value: object) -> None:
        if not isinstance(value, int | float):
            return
        if value < self.minimum and self.because_below is not None:
            refuse(f"must be {self.minimum:,} or more", self.because_below)
        if not self.minimum <= value <= self.maximum:
            refuse(f"must be from {self.minimum} to {self.maximum}", self.because)

    def schema(self) -> dict[str, object]:
        return {"minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Like(Constraint):
    """Text that fits a regular expression from its first character to its last."""

    pattern: str
    must: str = field(kw_only=True)
    because: str = field(kw_only=True)

    def check(self, value: object) -> None:
        if isinstance(value, str) and not re.fullmatch(self.pattern, value):
            refuse(self.must, self.because)

    def schema(self) -> dict[str, object]:
        return {"pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True)
class NotEmpty(Constraint):
    """Text with something in it."""

    because: str = field(kw_only=True)

    def check(self, value: object) -> None:
        if isinstance(value, str) and not value.strip():
            refuse("must not be empty", self.because)

    def schema(self) -> dict[str, object]:
        return {"minLength": 1}


@dataclass(frozen=True)
class OneOrMore(Constraint):
    """A list or table with something in it."""

    because: str = field(kw_only=True)

    def check(self, value: object) -> None:
        if isinstance(value, Sequence) and not value:
            refuse("must not be empty", self.because)

    def schema(self) -> dict[str, object]:
        return {"minItems": 1}


@dataclass(frozen=True)
class Distinct(Constraint):
    """A list that holds nothing twice."""

    def check(self, value: object) -> None:
        if isinstance(value, Sequence):
            twice = next((item for place, item in enumerate(value) if item in value[:place]), None)
            if twice is not None:
                refuse("must name each only once", f"leave out the second {twice}")

    def schema(self) -> dict[str, object]:
        return {"uniqueItems": True}


def listed(*, lone: Callable[[object], bool] = lambda _: False) -> Callable[[object], object]:
    """A BeforeValidator for tuples: lists become tuples, and so does a value alone where `lone` accepts it."""

    def as_tuple(value: object) -> object:
        if isinstance(value, list):
            return tuple(value)
        return (value,) if lone(value) else value

    return as_tuple
