"""Checklists and sign-offs: what a person has to have done before a release, and who says that it is done.

Read and checked in the way of setup files: every mistake of a file at once. Must not: know what a run came to, or decide
whether an item is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from harness.setup.constraints import AtLeast, Distinct, Like, listed
from harness.setup.messages import Key, Mistake, nearest, seen, spelled
from harness.setup.models import _Table
from harness.setup.parser import checked_as, toml_of

__all__ = [
    "Checklist",
    "Group",
    "Item",
    "SignOff",
    "SignOffs",
    "load_checklist",
    "load_sign_offs",
    "parse_checklist",
    "parse_sign_offs",
    "sign_offs_text",
]

_ONE_LINE = Like(
    r"[^\x00-\x1f\x7f]*", must="must be one line of text", because="leave out line ends and control characters"
)
Line = Annotated[str, _ONE_LINE]
PromiseIds = Annotated[tuple[Line, ...], BeforeValidator(listed()), Distinct()]
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


class Item(_Table):
    """One line of a checklist."""

    text: Line = Field(default="", description="What is to be so, as the checklist words it.")
    promises: PromiseIds = Field(
        default=(),
        description="Promises that prove it, with * for anything. All must be kept.",
        examples=[["failover.kill"]],
    )
    sign: Line = Field(
        default="",
        description="What no run can see: what somebody must have looked at before they sign.",
        examples=["an alarm reaches somebody when an instance is down"],
    )
    note: Line = Field(default="", description="What the promises do and do not say of it.")

    @property
    def words(self) -> str:
        """What somebody signs: a sign-off holds for these words and no others."""
        return f"{self.text}: {self.sign}" if self.sign else self.text


class Group(_Table):
    """Items that belong together."""

    title: Line = Field(default="", description="The heading of the group.")
    item: Mapping[str, Item] = Field(default_factory=dict, description="The items, by a short name.")


class Checklist(_Table):
    """A whole checklist. An item is named by its group and its own name: `do.redis`."""

    title: Line = Field(default="", description="The heading of the whole.")
    valid_days: (
        Annotated[int, AtLeast(1, because="leave it out where a sign-off never goes stale by its age")] | None
    ) = Field(
        default=None,
        description="After how many days a sign-off is stale. Left out: its age does not matter.",
        examples=[180],
    )
    group: Mapping[str, Group] = Field(default_factory=dict, description="The groups, by a short name, in order.")

    @property
    def items(self) -> Mapping[str, Item]:
        """Every item by its whole name, in the order of the file."""
        return {f"{name}.{short}": item for name, group in self.group.items() for short, item in group.item.items()}


class SignOff(_Table):
    """Somebody's word that an item is done."""

    who: Line = Field(default="", description="Who signs.", examples=["Ada Lovelace"])
    when: date | None = Field(default=None, description="The day on which they looked.", examples=[date(2026, 11, 30)])
    evidence: Line = Field(
        default="",
        description="Where others can see it: a page, a ticket, a report.",
        examples=["https://wiki.example/runbooks"],
    )
    words: Line = Field(
        default="",
        description="What was signed: the item's words on that day. When they change, the sign-off is stale.",
    )


class SignOffs(_Table):
    """A file of sign-offs, by the name of the item."""

    signed: Mapping[str, SignOff] = Field(default_factory=dict, description="The sign-offs, by the item's name.")


# -- reading --------------------------------------------------------------------------------------------------------


def load_checklist(path: Path, *, known_promises: Collection[str]) -> Checklist:
    """The checklist in a TOML file. Raises SetupError: every mistake in it, with what was seen and what to do."""
    return parse_checklist(
        toml_of(path, kind="checklist", example="checklist.toml"), source=str(path), known_promises=known_promises
    )


def parse_checklist(data: dict[str, object], *, source: str, known_promises: Collection[str]) -> Checklist:
    """The checklist declared in data as `tomllib` gives it, which is used up. Raises SetupError."""
    return checked_as(
        Checklist,
        data,
        source=source,
        between=lambda checklist: _mistakes_of_items(checklist, known_promises),
        mistakes=[],
    )


def load_sign_offs(path: Path) -> SignOffs:
    """The sign-offs in a file; none where there is no such file yet. Raises SetupError."""
    if not path.exists() and path.parent.is_dir():
        return SignOffs()
    return parse_sign_offs(toml_of(path, kind="file of sign-offs", example="checklist-signed.toml"), source=str(path))


def parse_sign_offs(data: dict[str, object], *, source: str) -> SignOffs:
    """The sign-offs declared in data as `tomllib` gives it, which is used up. Raises SetupError."""
    return checked_as(SignOffs, data, source=source, between=_mistakes_of_sign_offs, mistakes=[])


def sign_offs_text(sign_offs: SignOffs) -> str:
    """The file, always in the same form and order, so that a change of one sign-off is a change of its lines only."""
    lines = [_HEAD]
    for name, each in sorted(sign_offs.signed.items()):
        lines += ["", f"[signed.{spelled(name)}]", f"who = {_text(each.who)}"]
        lines += [f"when = {each.when.isoformat()}"] if each.when is not None else []
        lines += [f"evidence = {_text(each.evidence)}", f"words = {_text(each.words)}"]
    return "\n".join(lines) + "\n"


_HEAD = """\
# Who signed which item of the checklist, when, and where the evidence is. Kept by `harness checklist --sign` and
# `--withdraw`, which write the whole file anew: comments of your own do not stay."""


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- mistakes -------------------------------------------------------------------------------------------------------


def _mistakes_of_items(checklist: Checklist, known_promises: Collection[str]) -> Iterator[Mistake]:
    if not checklist.title.strip():
        yield Mistake(("title",), 'is missing: say what the checklist is called, such as title = "Before a release"')
    if not checklist.group:
        yield Mistake(
            ("group",), 'is missing: write [group.release], title = "Before a release", and its items below it'
        )
    for name, group in checklist.group.items():
        here: Key = ("group", name)
        yield from _name_mistake(here, name)
        if not group.title.strip():
            yield Mistake((*here, "title"), f"is missing: say what the group is called, such as title = {_text(name)}")
        if not group.item:
            yield Mistake((*here, "item"), f'is missing: write [group.{spelled(name)}.item.first] and text = "..."')
        for short, item in group.item.items():
            yield from _name_mistake((*here, "item", short), short)
            yield from _mistakes_of_item((*here, "item", short), item, known_promises)


def _name_mistake(key: Key, name: str) -> Iterator[Mistake]:
    if not re.fullmatch(_NAME, name):
        yield Mistake(
            key, "must be named by letters, digits, dashes and underscores alone: what it means belongs in its text"
        )


def _mistakes_of_item(key: Key, item: Item, known_promises: Collection[str]) -> Iterator[Mistake]:
    if not item.text.strip():
        yield Mistake((*key, "text"), 'is missing: say what is to be so, such as text = "Backups can be restored"')
    if not item.promises and not item.sign.strip():
        yield Mistake(
            key,
            'must name what proves it: write promises = ["failover.kill"], or sign = "..." for what a person must look at',
            about=((*key, "promises"), (*key, "sign")),
        )
    for place, pattern in enumerate(item.promises):
        if not any(fnmatchcase(promise, pattern) for promise in known_promises):
            near = nearest(pattern, known_promises)
            hint = f"did you mean {near}?" if near else "`harness promises` lists all"
            yield Mistake((*key, "promises", place), f"is no promise (got {seen(pattern)}): {hint}")


def _mistakes_of_sign_offs(sign_offs: SignOffs) -> Iterator[Mistake]:
    for name, each in sign_offs.signed.items():
        key: Key = ("signed", name)
        if not each.who.strip():
            yield Mistake((*key, "who"), 'is missing: say who signed, such as who = "Ada Lovelace"')
        if each.when is None:
            yield Mistake((*key, "when"), "is missing: say on which day, such as when = 2026-11-30, without quotes")
        if not each.evidence.strip():
            yield Mistake(
                (*key, "evidence"),
                'is missing: say where it can be seen, such as evidence = "https://wiki.example/page"',
            )
        if not each.words.strip():
            yield Mistake((*key, "words"), "is missing: copy the words of the item that was signed")
