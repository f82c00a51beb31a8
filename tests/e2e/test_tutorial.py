"""The tutorial, done as it is written: its files, its commands, its answers."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from end_to_end import CHECKOUT, Harness

TUTORIAL = (CHECKOUT / "docs/tutorial.md").read_text(encoding="utf-8")
CAME_WITH_THE_HARNESS = {"psycopg", "redis"}
"""What `harness[native]` brings and the application uses."""


def steps(page: str) -> Iterator[tuple[str, str]]:
    """In the order of the page: ("file name", its text), and ("$", a block of commands and answers)."""
    blocks = r"^`(?P<name>[\w.]+)`:\n\n```\w+\n(?P<text>.*?)^```$|^```console\n(?P<console>.*?)^```$"
    for block in re.finditer(blocks, page, re.MULTILINE | re.DOTALL):
        yield (block["name"], block["text"]) if block["name"] else ("$", block["console"])


def commands(console: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines it is said to answer."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, *answer = part.splitlines()
        yield command, answer


def form(line: str) -> str:
    """What is left of a line when numbers, durations, folders and widths are not looked at."""
    line = re.sub(r"reports/\S+", "reports/R", line)
    line = re.sub(r"\d+ min(?: \d+ s)?|\d+(?:\.\d+)? m?s\b", "0 s", line)
    return " ".join(re.sub(r"\d[\d.,]*", "0", line).split())


def seen_in_order(told: list[str], said: str) -> list[str]:
    """The lines of the page that were not said, each after the one before. `…` stands for any lines."""
    left = iter([form(line) for line in said.splitlines()])
    return [line for line in told if line.strip() not in ("", "…") and form(line) not in left]


@pytest.mark.judged
@pytest.mark.timeout(280)  # two runs of a setup; on a busy machine a boot alone may take a minute
def test_the_tutorial_is_true(harness: Harness, nothing_left: Callable[[], None], tmp_path: Path) -> None:
    """From an empty folder to the red verdict and its cure, as somebody who types along would see it."""
    folder, code, ran = tmp_path / "shop", 0, 0
    folder.mkdir()
    harness.folder = folder
    for kind, text in steps(TUTORIAL):
        if kind != "$":
            (folder / kind).write_text(text, encoding="utf-8")
            continue
        for command, told in commands(text):
            program, *arguments = shlex.split(command)
            if program == "pip":
                assert not told
                continue
            if program == "echo":
                assert (arguments, told) == (["$?"], [str(code)])
                continue
            assert program == "harness"
            ended = harness(*arguments)
            code, ran = ended.code, ran + 1
            assert seen_in_order(told, ended.out) == [], ended.out + ended.err
    assert ran >= 3
    assert code == 0


def test_the_tutorial_needs_nothing_but_the_harness() -> None:
    """Whoever installed what its first line says can type along."""
    files = {name: text for name, text in steps(TUTORIAL) if name != "$"}
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for name, text in files.items()
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    own = {name.removesuffix(".py") for name in files}
    others = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - own
    assert others <= CAME_WITH_THE_HARNESS
    assert "harness.toml" in files


def test_an_answer_that_is_not_given_is_noticed() -> None:
    """The comparison above can fail: another verdict, an order that is wrong, a line that is not there."""
    said = " fail  a.b  3 of 9 pairs\n\n 1 fail in 2 min 3 s (boot 103)\n"
    assert seen_in_order([" fail a.b 4 of 8 pairs", "…", " 1 fail in 9 s (boot 1)"], said) == []
    assert seen_in_order([" pass a.b 3 of 9 pairs"], said) != []
    assert seen_in_order([" 1 fail in 9 s (boot 1)", " fail a.b 3 of 9 pairs"], said) != []
