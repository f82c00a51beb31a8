"""The docs are held to the code: what can be typed is told, what is told exists, and made pages are current."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from harness import cli, faults, mutants, promises, pytest_plugin
from harness.faults import Fault
from harness.layouts import ABILITIES
from harness.promises import CATALOGUE, NEEDS
from harness.setup import Setup
from harness.setup import environment as environment_module

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "reference_app").glob("*.md")])
TEXTS = {page.relative_to(CHECKOUT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
each_page = pytest.mark.parametrize("page", TEXTS)


def rows(text: str) -> dict[str, str]:
    """The rows of all tables: the first code span of a row, and the row."""
    return {row[1]: row[0] for row in re.finditer(r"^\| `([^`]+)`.*$", text, re.MULTILINE)}


# -- pages that are made ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "command", "made"),
    [
        ("docs/promises.md", ["promises", "--markdown"], promises.as_markdown()),
        ("docs/mutants.md", ["mutants", "--markdown"], mutants.as_markdown(mutants.load_mutants())),
    ],
)
def test_a_made_page_is_current(page: str, command: list[str], made: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it was made from has not changed since; the command it names makes it."""
    assert TEXTS[page] == made, f"make it again: harness {shlex.join(command)} > {page}"
    assert cli.main(command) == 0
    assert capsys.readouterr().out == made
    assert f"`harness {shlex.join(command)} > {page}`" in made


# -- what can be typed ------------------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = cli._parser()
    (subparsers,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {"": parser, **subparsers.choices}


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Those a person is told of."""
    return [
        action.option_strings[-1]
        for action in parser._actions
        if action.option_strings and action.help != argparse.SUPPRESS and action.dest != "help"
    ]


@pytest.mark.parametrize("command", [name for name in commands() if name])
def test_every_command_has_its_row_with_all_options(command: str) -> None:
    """The table in the README tells each command and each of its options, and no option it does not have."""
    (row,) = [row for usage, row in rows(README).items() if usage.split()[:2] == ["harness", command]]
    assert set(re.findall(r"--[a-z][a-z-]*", row)) == set(options(commands()[command]))


@pytest.mark.parametrize("command", [name for name in commands() if name])
def test_choices_that_are_told_are_all_of_them(command: str) -> None:
    """Where the row of a command names what an option can be, `--option` (one, another), it names each choice."""
    (row,) = [row for usage, row in rows(README).items() if usage.split()[:2] == ["harness", command]]
    choices = {
        action.option_strings[-1]: action.choices for action in commands()[command]._actions if action.option_strings
    }
    for option, told in re.findall(r"`(--[a-z-]+)` \(([a-z]+(?:, [a-z]+)+)\)", row):
        assert choices[option] is None or told.split(", ") == list(choices[option])


def test_every_setup_that_is_shipped_is_told() -> None:
    """Whoever looks for an example finds each in docs/setup-file.md."""
    shipped = {path.name for path in (CHECKOUT / "fixtures/setups").glob("*.toml")}
    assert shipped <= set(re.findall(r"`([\w.-]+\.toml)`", TEXTS["docs/setup-file.md"]))


def test_options_of_the_whole_are_told() -> None:
    """`harness --version` is no option of a command."""
    for option in options(commands()[""]):
        assert f"`harness {option}`" in README


def test_every_pytest_option_is_told() -> None:
    """The pytest door takes the same wishes; its row tells each of them, and no other."""
    told: list[str] = []
    group = SimpleNamespace(addoption=lambda name, **_: told.append(name))
    pytest_plugin.pytest_addoption(SimpleNamespace(getgroup=lambda *_: group))  # type: ignore[arg-type]
    (row,) = [row for usage, row in rows(README).items() if usage.startswith("pytest scenarios")]
    assert set(re.findall(r"--[a-z-]+", row)) == set(told)


def examples() -> Iterator[tuple[str, str]]:
    """Every line of a code block, or code span, that calls the harness."""
    for page, text in TEXTS.items():
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()] + re.findall(
            r"`([^`\n]+)`", text
        )
        yield from (
            (page, line) for line in lines if re.match(r"harness [a-z-]", line) and not re.search(r"[<\[]", line)
        )


@pytest.mark.parametrize(("page", "line"), list(examples()), ids=lambda value: value)
def test_every_example_can_be_typed(page: str, line: str) -> None:
    """Whoever copies a command from a page gets no usage error."""
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    if not {"--version", "--help"} & set(words):
        cli._parser().parse_args(words)


def test_every_target_of_make_is_told_and_every_one_that_is_told_exists() -> None:
    """`make something` on a page is in the Makefile; docs/development.md has a row for each target."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    told = {
        target for text in TEXTS.values() for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE)
    }
    assert told <= targets
    assert {f"make {target}" for target in targets} == set(rows(TEXTS["docs/development.md"]))


def test_every_exit_code_is_told() -> None:
    """What the command line can end with is in docs/results.md."""
    returned = {
        node.value.value
        for node in ast.walk(ast.parse(Path(cli.__file__).read_text()))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
    }
    table = TEXTS["docs/results.md"].partition("## Exit codes")[2].partition("##")[0]
    assert returned <= {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(", ")
    }


def test_every_variable_of_the_environment_is_told() -> None:
    """What is read is in docs/setup-file.md, and no page tells of one that nobody reads."""
    read = set(re.findall(r'"(HARNESS_[A-Z_]+)"', Path(environment_module.__file__).read_text()))
    told = {name for text in TEXTS.values() for name in re.findall(r"`(HARNESS_[A-Z_]+)", text)}
    assert read
    assert told == read
    assert read <= set(rows(TEXTS["docs/setup-file.md"]))


# -- faults and rollouts ----------------------------------------------------------------------------------------------


def every_way(fault: Any) -> Iterator[str]:
    """The names of a fault in the history: one for each choice it leaves."""
    (choices,) = [get_args(hint) for hint in get_type_hints(fault).values()] or [()]
    yield from (str(fault(choice)) for choice in choices) if choices else (str(fault()),)


def test_every_fault_is_told() -> None:
    """docs/faults.md has a row for each fault, under the name it has in the history."""
    made = {
        way for name in faults.__all__ if getattr(faults, name) is not Fault for way in every_way(getattr(faults, name))
    }
    assert set(rows(TEXTS["docs/faults.md"].partition("# Rollouts")[0])) == made


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|\n ").split("|")][1:]


def test_what_each_platform_can_do_is_told() -> None:
    """docs/platforms.md has a row for each ability and each fault, and says yes where it can be done, and nowhere else."""
    page = TEXTS["docs/platforms.md"].partition("## What each can do")[2].partition("## Which one")[0]
    head = next(line for line in page.splitlines() if line.startswith("| what a scenario needs"))
    platforms = cells(head)
    assert platforms == list(ABILITIES)
    told = {
        name: {platform for platform, cell in zip(platforms, cells(row), strict=True) if cell == "yes"}
        for name, row in {row[1]: row[0] for row in re.finditer(r"^\| `([^`]+)`.*$", page, re.MULTILINE)}.items()
    }
    # A fault that needs more than an instance is named after what it needs.
    needs = {need: need for need in NEEDS} | {
        fault: next((need for need in NEEDS if fault.startswith(need)), "instances")
        for fault in rows(TEXTS["docs/faults.md"].partition("# Rollouts")[0])
    }
    assert told == {
        name: {platform for platform, abilities in ABILITIES.items() if need in abilities}
        for name, need in needs.items()
    }
    assert set(rows(TEXTS["docs/platforms.md"].partition("## What each can do")[0])) == set(ABILITIES)


def test_every_rollout_is_told() -> None:
    """And one for each kind and each drain that can be written into `[rollout]`."""
    fields = Setup.model_fields["rollout"].annotation.model_fields  # type: ignore[union-attr]
    choices = {choice for key in ("kind", "drain") for choice in get_args(fields[key].annotation)}
    told = rows(TEXTS["docs/faults.md"].partition("# Rollouts")[2])
    assert set(told) - {"rollout.kind", "rollout.drain"} == choices


# -- what is told exists ----------------------------------------------------------------------------------------------


@each_page
def test_links_lead_somewhere(page: str) -> None:
    """No page links to a file, or names a path of this repository, that is not there."""
    here = (CHECKOUT / page).parent
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page])]
    assert [link for link in links if link and "://" not in link and not (here / link).exists()] == []
    named = re.findall(r"`((?:fixtures|docs|tests|scenarios|harness|reference_app|benchmarks)/[\w./-]*)`", TEXTS[page])
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


def anchors(text: str) -> set[str]:
    """What a link to a heading of this page is called, as GitHub calls it."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_to_headings_lead_to_one(page: str) -> None:
    """Also within the page itself."""
    here = (CHECKOUT / page).parent
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]) if "#" in link and "://" not in link]
    dead = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else CHECKOUT / page
        if target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            dead.append(link)
    assert dead == []


def test_every_page_can_be_found_from_the_readme() -> None:
    """One list of all pages, each with what it is for."""
    index = README.partition("## More")[2]
    listed = set(re.findall(r"^- \[([\w./-]+\.md)\]\(\1\): \S", index, re.MULTILINE))
    assert listed == set(TEXTS) - {"README.md", "CHANGELOG.md"}


def keys_of(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


KEYS = {
    section: keys_of(kind)
    for section in ("app", "sessions", "balancer", "images", "rollout", "swarm", "traffic", "promises")
    for kind in (Setup.model_fields[section].annotation,)
    if isinstance(kind, type) and issubclass(kind, BaseModel)
}


def told_texts() -> dict[str, str]:
    """Everything that tells somebody to change a key: pages, the catalogue, the rules of diagnosis."""
    sources = [CHECKOUT / "harness/promises.py", *(CHECKOUT / "harness/diagnosis").glob("*_rules.py")]
    return TEXTS | {path.name: path.read_text(encoding="utf-8") for path in sources}


@pytest.mark.parametrize("source", told_texts())
def test_keys_that_are_told_can_be_written(source: str) -> None:
    """A remedy such as `balancer.max_fails = 1` names a key that a setup file may have."""
    text = re.sub(r"\{[^{}]*\}", "", told_texts()[source])  # placeholders have names of their own
    told = set(re.findall(rf"(?<![\w./-])({'|'.join(KEYS)})\.(?!(?:md|py)\b)([a-z_]+)\b(?![/(-])", text))
    unknown = {f"{section}.{key}" for section, key in told if key not in KEYS[section]}
    assert unknown - set(CATALOGUE) - _MISSPELT == set()


_MISSPELT = {"app.instnces"}
"""Examples of what is told of a mistake."""


@each_page
def test_words_of_the_house(page: str) -> None:
    """An upstream server is an instance; nothing on a page is of one machine only."""
    assert not re.search(r"\bback-?ends?\b", TEXTS[page], re.IGNORECASE)
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/", TEXTS[page])


def test_nothing_here_is_unused() -> None:
    """The tests above have something to hold: an empty search proves nothing."""
    found: dict[str, Any] = {"examples": list(examples()), "keys": KEYS, "pages": TEXTS, "commands": commands()}
    assert {name: len(each) > 3 for name, each in found.items()} == dict.fromkeys(found, True)
