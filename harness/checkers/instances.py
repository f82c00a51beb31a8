"""Whether every instance is alive and all of them are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkers.evidence import listed, milliseconds, plural, rounded
from harness.model import History, Look, Verdict

__all__ = ["EveryInstanceAnswers", "InstancesAgree"]

_NO_WORD_ON_NOTES = ("failed", "logged-out", "overloaded")
"""Answers that say nothing of whether the note is there."""
_SAME = ("version", "config", "database", "session_store")


def _last_looks(looks: Iterable[Look]) -> dict[str, Look]:
    """The latest look at each node."""
    return {look.node: look for look in sorted(looks, key=lambda look: look.at)}


def _is_mistaken(look: Look) -> bool:
    """Whether the answer says that it comes from another instance, or does not say so though the setup promises it."""
    return "named" in look.value and look.value["named"] != look.node


def _goodness(look: Look) -> tuple[bool, bool, float]:
    return look.well, not _is_mistaken(look), -look.seconds


def _seen(look: Look) -> str:
    """What was seen instead of an answer, in a word or two."""
    if look.well and _is_mistaken(look):
        named = look.value["named"]
        return f"answered by {named}" if named else "the answer does not name its instance"
    return look.error or (f"status {look.status}" if look.status is not None else "no answer")


@dataclass(frozen=True)
class EveryInstanceAnswers:
    """Every instance answers its health check with a 2xx, or as the setup says, asked directly.

    Expects: one look or more named `health` at every instance; each of them must succeed. Where the setup promises a
    header that names the instance, the look's value has it as `named`, and it must be the instance that was asked.

    Evidence: `answered`, `of`, `slowest_seconds`, `by_instance` {name: {"status", "error", "well", "seconds"}} (the worst
    look of each), `not_looked_at` [names].
    """

    def check(self, history: History) -> Verdict:
        worst: dict[str, Look] = {}
        for look in history.looks_at("health"):
            held = worst.get(look.node)
            if held is None or _goodness(held) > _goodness(look):
                worst[look.node] = look
        bad = {name: look for name, look in worst.items() if not look.well or _is_mistaken(look)}
        unseen = [name for name in history.instances if name not in worst]
        slowest = max((look.seconds for look in worst.values()), default=0.0)
        answered = sum(name in worst and name not in bad for name in history.instances)
        evidence = {
            "answered": answered,
            "of": len(history.instances),
            "slowest_seconds": rounded(slowest),
            "by_instance": {
                name: {
                    "status": look.status,
                    "error": look.error,
                    "well": look.well,
                    "seconds": rounded(look.seconds),
                }
                for name, look in worst.items()
            },
            "not_looked_at": unseen,
        }
        told = f"{answered} of {len(history.instances)}"
        if bad:
            return Verdict.fail(f"{told}; {listed(f'{n}: {_seen(look)}' for n, look in bad.items())}", **evidence)
        if unseen or not history.instances:
            return Verdict.inconclusive(f"{told}; never asked: {listed(unseen)}", **evidence)
        return Verdict.passed(f"{told}, slowest {milliseconds(slowest)}", **evidence)


@dataclass(frozen=True)
class InstancesAgree:
    """All instances run the same version and configuration on the same database and session store.

    Expects: a look named `version` at every instance, whose value may hold the keys `version`, `config`, `database` and
    `session_store` (whichever the application tells); and looks named `note` with the value {"written_via", "read_via",
    "ok", and perhaps "answer"} for every ordered pair of instances. An application that tells nothing of itself (no
    `version` look succeeded) is judged by the notes alone.

    Evidence: `compared` [keys], `differing` [keys, or "note"], `groups` {key: {value: [instances]}}, `said_nothing`
    [instances], `notes` {written via: {read via: true, false or null}}, `notes_read`, `notes_of`, `untested_pairs`.
    """

    def check(self, history: History) -> Verdict:
        looks = {
            name: look
            for name, look in _last_looks(history.looks_at("version")).items()
            if name in history.instances and look.well
        }
        compared = [key for key in _SAME if any(key in look.value for look in looks.values())]
        groups = {key: _groups(looks, key) for key in compared}
        silent = [name for name in history.instances if name not in looks] if compared else []

        notes = _notes(history)
        pairs = [(a, b) for a in history.instances for b in history.instances]
        unread = [(a, b) for a, b in pairs if notes.get(a, {}).get(b) is False]
        # Through the same instance a note may be left out: it says nothing about two of them sharing a database.
        untested = [(a, b) for a, b in pairs if a != b and notes.get(a, {}).get(b) is None]
        read = sum(ok is True for row in notes.values() for ok in row.values())

        differing = [key for key in compared if len(groups[key]) > 1] + (["note"] if unread else [])
        evidence: dict[str, Any] = {
            "compared": compared,
            "differing": differing,
            "groups": groups,
            "said_nothing": silent,
            "notes": notes,
            "notes_read": read,
            "notes_of": sum(ok is not None for row in notes.values() for ok in row.values()),
            "untested_pairs": [f"{a} -> {b}" for a, b in untested],
        }
        if differing:
            return Verdict.fail(self._difference(groups, unread, differing), **evidence)
        if len(history.instances) < 2:
            return Verdict.inconclusive("there are not two instances that could disagree", **evidence)
        if not compared and not notes:
            return Verdict.inconclusive("no instance says what it runs, and no note was written", **evidence)
        if silent:
            return Verdict.inconclusive(f"{listed(silent)} did not say what it runs", **evidence)
        if untested:
            return Verdict.inconclusive(
                f"{len(untested)} of {len(pairs)} pairs were never asked for each other's note", **evidence
            )
        agreed = f"{len(history.instances)} instances agree on {listed(compared)}; " if compared else ""
        return Verdict.passed(f"{agreed}{read} of {evidence['notes_of']} notes read", **evidence)

    @staticmethod
    def _difference(
        groups: Mapping[str, Mapping[str, list[str]]], unread: list[tuple[str, str]], differing: list[str]
    ) -> str:
        told = [
            f"{key} differs: " + ", ".join(f"{value} on {listed(names)}" for value, names in groups[key].items())
            for key in differing
            if key in groups
        ]
        if unread:
            first = ", ".join(f"{a} -> {b}" for a, b in unread[:3])
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            told.append(f"{plural(len(unread), 'note')} not found where read ({first}{more})")
        return "; ".join(told)


def _groups(looks: Mapping[str, Look], key: str) -> dict[str, list[str]]:
    """Which instances gave which value; one that leaves out what others tell is a group of its own."""
    groups: dict[str, list[str]] = {}
    for name, look in looks.items():
        groups.setdefault(str(look.value.get(key, "(not told)")), []).append(name)
    return groups


def _notes(history: History) -> dict[str, dict[str, bool | None]]:
    """written via -> read via -> found. None: asked, and not properly answered."""
    notes: dict[str, dict[str, bool | None]] = {}
    for look in history.looks_at("note"):
        row = notes.setdefault(str(look.value.get("written_via")), {})
        unanswered = look.error or look.value.get("answer") in _NO_WORD_ON_NOTES
        found = None if unanswered else bool(look.value.get("ok"))
        reader = str(look.value.get("read_via"))
        # A note that was once not found stays not found, and an unanswered look takes nothing back.
        if row.get(reader) is not False and (found is not None or reader not in row):
            row[reader] = found
    for writer, row in notes.items():
        # What not even its writer finds was never surely written: it says nothing of the others.
        if row.get(writer, True) is not True:
            notes[writer] = dict.fromkeys(row, None)
    return notes
