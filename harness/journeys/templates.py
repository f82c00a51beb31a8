"""Text with `{placeholders}`: taken apart once, filled in for each request.

A placeholder is a name of letters, digits, dots, dashes and underscores; `{{` and `}}` stand for
literal braces. Must not: know which names exist (compiling does) or where values come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["MissingValueError", "Template"]

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_.-]*)\}|[{}]")


class MissingValueError(LookupError):
    """A placeholder has no value for this visitor yet, such as a token of a login that has not happened."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no value for {{{name}}}")


def _as_is(value: str) -> str:
    return value


@dataclass(frozen=True, slots=True)
class Template:
    """One text. `parts` alternates literal, name, literal, name, … and always begins and ends with a literal."""

    text: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ValueError for a brace that neither opens nor closes a placeholder."""
        parts = [""]
        end = 0
        for token in _TOKEN.finditer(text):
            parts[-1] += text[end : token.start()]
            end = token.end()
            if token.group(1) is not None:
                parts += [token.group(1), ""]
            elif len(token.group()) == 2:
                parts[-1] += token.group()[0]
            else:
                raise ValueError(
                    f"a lone {token.group()!r} at character {token.start() + 1}: write {token.group() * 2!r}"
                )
        parts[-1] += text[end:]
        return cls(text, tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in it, in order."""
        return self.parts[1::2]

    def render(self, values: Mapping[str, str], quote: Callable[[str], str] = _as_is) -> str:
        """The text with every placeholder replaced by `quote(value)`. Raises MissingValueError."""
        if len(self.parts) == 1:
            return self.parts[0]
        rendered = list(self.parts)
        for index in range(1, len(rendered), 2):
            name = rendered[index]
            if name not in values:
                raise MissingValueError(name)
            rendered[index] = quote(values[name])
        return "".join(rendered)
