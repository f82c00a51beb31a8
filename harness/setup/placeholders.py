"""Placeholders in the texts of a setup file, such as `{port}`: which there are, and how they are filled in.

Two vocabularies: texts that start the application know its node and what stands beside it (`NODE_PLACEHOLDERS`);
texts of journeys know the person, the record and whatever an earlier answer gave (`JOURNEY_PLACEHOLDERS`).
Must not: know any value. Values come from whoever runs the node or walks the journey.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from harness.errors import HarnessError
from harness.setup.messages import nearest, seen

__all__ = [
    "JOURNEY_PLACEHOLDERS",
    "NODE_PLACEHOLDERS",
    "expand",
    "is_placeholder_name",
    "placeholder_mistakes",
    "placeholders_in",
]

NODE_PLACEHOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "host": "the address this instance must listen on",
        "port": "the port this instance must listen on",
        "instance": "the name of this instance, such as `app-2`",
        "index": "the number in that name, from 1",
        "run": "the id of this run",
        "secret": "a random text, the same for every instance of a run",
        "sessions.store": "the value of `sessions.store`",
        "python": "the Python that runs the harness",
        "reference_app": "the folder that holds the package `reference_app`",
        "balancer.url": "where the balancer answers, such as `http://127.0.0.1:20010`",
        "postgres.url": "the database as a URL, with user and password",
        "postgres.host": "its address",
        "postgres.port": "its port",
        "postgres.user": "its user",
        "postgres.password": "the password of that user, random for each run",
        "postgres.database": "the name of the database",
        "redis.url": "the Redis-compatible server as a URL, with password",
        "redis.host": "its address",
        "redis.port": "its port",
        "redis.password": "its password, random for each run",
    }
)
"""For `app.command`, `app.image_command`, `app.env`, `app.directory`, `app.instance_env`, `rollout.env`,
`rollout.command`, `rollout.bad_env` and `swarm.health`."""

JOURNEY_PLACEHOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "user.email": "the visitor's e-mail address, unique in a run",
        "user.password": "the visitor's password",
        "user.name": "the visitor's name, unique in a run",
        "record": "the id of the record that is written or read, given by the harness and unique in a run",
        "text": "the text of that record; a read is told the text that was written",
    }
)
"""For the steps of journeys, beside the names that earlier steps took from answers."""

# A doubled brace stands for itself; a single one must open or close a placeholder.
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{name}` replaced by its value, and `{{` and `}}` by single braces.

    Values are put in as they are: a brace inside a value is no placeholder. Raises HarnessError for a name without
    a value: whoever fills in must know all names of its vocabulary, and the setup file was checked against it.
    """

    def replaced(token: re.Match[str]) -> str:
        name = token.group(1)
        if name is None:
            return token.group(0)[0]
        try:
            return values[name]
        except KeyError:
            raise HarnessError(f"no value was given for the placeholder {{{name}}} in {text!r}") from None

    return _TOKEN.sub(replaced, text)


def placeholders_in(text: str) -> tuple[str, ...]:
    """The names of the placeholders of a text, in order, each once."""
    names = (token.group(1) for token in _TOKEN.finditer(text))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def is_placeholder_name(name: str) -> bool:
    """Whether this could be the name of a placeholder; anything else in braces was meant as text."""
    return _NAME.fullmatch(name) is not None


def placeholder_mistakes(text: str, known: Collection[str]) -> Iterator[str]:
    """What is wrong with the placeholders of a text, each as the end of a sentence that begins with the key."""
    for token in _TOKEN.finditer(text):
        whole, name = token.group(0), token.group(1)
        if whole in ("{", "}"):
            yield f'has a single "{whole}" (got {seen(text)}): write {whole * 2} for a brace that stands for itself'
        elif name is not None and name not in known:
            yield f"uses {whole}, which is no placeholder: {_instead_of(name, known)}"


def _instead_of(name: str, known: Collection[str]) -> str:
    if not is_placeholder_name(name):
        return "write {{ and }} for braces that stand for themselves"
    near = nearest(name, known)
    if near is not None:
        return f"did you mean {{{near}}}?"
    return "known here are " + ", ".join(f"{{{each}}}" for each in sorted(known))
