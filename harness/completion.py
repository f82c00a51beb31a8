"""Completion of the command line in a shell, as a script that the shell reads. Must not: know what a command does.

The script is made from the parser by shtab, so that it knows every command and option. What shtab cannot know is which
values an option takes where the parser leaves that open: promise ids, mutants, items of the checklist and files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import shtab

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh", "fish")
_TOML = shtab.glob("*.toml")
_YAML = shtab.glob("*.yml", "*.yaml")


def completion_script(
    parser: argparse.ArgumentParser,
    shell: str,
    *,
    promises: Sequence[str],
    mutants: Sequence[str],
    items: Sequence[str],
) -> str:
    """The script for one of SHELLS. `items`: those of the guide's checklist."""
    # By command and destination; an empty command stands for all.
    takes: dict[tuple[str, str], object] = {
        ("verify", "only"): _words("promises", promises),
        ("shrink", "only"): _words("promises", promises),
        ("mutants", "only"): _words("mutants", mutants),
        ("checklist", "sign"): _words("items", items),
        ("checklist", "withdraw"): _words("items", items),
        ("", "setup"): _TOML,
        ("", "setup_file"): _TOML,
        ("", "checklist"): _TOML,
        ("", "signoffs"): _TOML,
        ("", "compose"): _YAML,
        ("", "baseline"): shtab.FILE,
        ("", "run"): shtab.DIRECTORY,
        ("", "runs"): shtab.DIRECTORY,
        ("", "report"): shtab.DIRECTORY,
    }
    for command, action in _actions(parser):
        found = takes.get((command, action.dest), takes.get(("", action.dest)))
        if found is not None:
            action.complete = found  # type: ignore[attr-defined]  # this is how shtab is told
    return str(shtab.complete(parser, shell))


def _words(name: str, words: Sequence[str]) -> dict[str, object]:
    """One of these words, in the form of each shell."""
    listed = " ".join(words)
    function = f"_harness_{name}"
    return {
        "bash": function,
        "zsh": f"({listed})",
        "fish": listed,
        "preamble": {"bash": f'{function}() {{ compgen -W "{listed}" -- "$1"; }}'},
    }


def _actions(parser: argparse.ArgumentParser, command: str = "") -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _actions(below, name)
        else:
            yield command, action
