"""Signing items and taking that back. Must not: decide whether a sign-off counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from pathlib import Path

from harness.errors import BadInput
from harness.reporting.files import write_text
from harness.setup import Checklist, SignOff, SignOffs, sign_offs_text
from harness.setup.messages import nearest

__all__ = ["sign", "withdraw", "write_sign_offs"]


def sign(
    sign_offs: SignOffs,
    names: Sequence[str],
    *,
    checklist: Checklist,
    who: str,
    evidence: str,
    when: date,
    today: date,
) -> SignOffs:
    """These items signed, in place of what was signed of them before.

    Raises:
        BadInput: no such item, nobody who signs, no evidence, more than one line of it, or a day that is yet to come.
    """
    for word, given in {"--who": who, "--evidence": evidence}.items():
        if not given.strip() or not given.isprintable():
            raise BadInput(f"{word} must be one line of text (got {given!r}): a sign-off says who looked, and at what")
    if when > today + timedelta(days=1):  # somewhere it is tomorrow already
        raise BadInput(f"--when must not be after today (got {when}): sign what you have seen")
    items = checklist.items
    _known(names, items, what="item of this checklist", hint="`harness checklist` lists all")
    new = {
        name: SignOff(who=who.strip(), when=when, evidence=evidence.strip(), words=items[name].words) for name in names
    }
    return SignOffs(signed={**sign_offs.signed, **new})


def withdraw(sign_offs: SignOffs, names: Sequence[str]) -> SignOffs:
    """Without the sign-offs of these items. Raises BadInput: one that nobody has signed."""
    _known(names, sign_offs.signed, what="item that somebody signed", hint="`harness checklist --list` lists them")
    return SignOffs(signed={name: each for name, each in sign_offs.signed.items() if name not in names})


def write_sign_offs(sign_offs: SignOffs, path: Path) -> None:
    """Keep them. Raises MissingPrerequisite: the file cannot be written."""
    write_text(path, sign_offs_text(sign_offs), remedy="make room there, or name another file with --signoffs")


def _known(names: Sequence[str], known: Collection[str], *, what: str, hint: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        near = nearest(unknown[0], known)
        raise BadInput(f"{', '.join(unknown)} is no {what}: {f'did you mean {near}?' if near else hint}")
