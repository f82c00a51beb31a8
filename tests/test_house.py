"""The rules of the house, read from the source: who imports whom, who reads clocks, who may do what."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
HARNESS = CHECKOUT / "harness"
SOURCES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HARNESS.rglob("*.py"))}
WHY = (CHECKOUT / "docs/why.md").read_text(encoding="utf-8").partition("# The house")[2]
FLOORS = {
    room: int(floor)
    for floor, rooms in re.findall(r"^\| (\d) \| (.+?) \|", WHY, re.MULTILINE)
    for room in re.findall(r"`(\w+)`", rooms)
}
# What is never installed with the harness, or has its own ways with sockets and clocks.
UNWANTED = {"locust", "gevent", "aiohttp", "httpx", "urllib3", "scipy", "numpy"}


def room_of(path: Path) -> str:
    """The package or module below `harness`."""
    first = path.relative_to(HARNESS).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in the file, also in functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out"
            assert node.module is not None
            yield from (
                [f"harness.{alias.name}" for alias in node.names] if node.module == "harness" else [node.module]
            )


@cache
def neighbours() -> dict[str, set[str]]:
    """For each room the other rooms it imports. `harness.__version__` is no room."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in SOURCES.items():
        room = room_of(path)
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] == "harness" and len(parts) > 1 and parts[1] not in (room, "__version__"):
                found[room].add(parts[1])
    return found


@cache
def packages() -> dict[str, set[str]]:
    """For each package that is not of the standard library, the rooms that import it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in SOURCES.items():
        for name in {name.partition(".")[0] for name in imported(tree)} - set(sys.stdlib_module_names) - {"harness"}:
            found[name].add(room_of(path))
    return found


def test_every_room_is_on_the_plan() -> None:
    """The table in docs/why.md names each room of `harness/` once, and no other."""
    named = [
        room for rooms in re.findall(r"^\| \d \| (.+?) \|", WHY, re.MULTILINE) for room in re.findall(r"`(\w+)`", rooms)
    ]
    assert sorted(named) == sorted({room_of(path) for path in SOURCES} - {"__init__"})


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_what_is_below(room: str) -> None:
    """Or on its own floor: data flows one way, and what is below can be read and tested without what is above."""
    above = {other for other in neighbours()[room] if FLOORS[other] > FLOORS[room]}
    assert not above, f"{room} (floor {FLOORS[room]}) imports {', '.join(sorted(above))} from above"


def test_no_imports_go_round_in_a_circle() -> None:
    """Rooms of one floor may use each other, one after the other."""
    assert list(TopologicalSorter(neighbours()).static_order())


def test_checkers_know_the_model_alone() -> None:
    """So do facts know nobody, and whoever judges knows neither servers nor files."""
    assert neighbours()["checkers"] == {"model"}
    assert not neighbours()["model"]
    assert neighbours()["diagnosis"] == {"checkers", "model"}


def test_each_package_has_one_place() -> None:
    """Foreign code is met at one seam each, as docs/why.md says; pytest in the one module that is a plugin."""
    seams = {
        package: set(re.findall(r"`(\w+)`", rooms))
        for packages, rooms in re.findall(r"^\| (`.+?`) \| (`.+?`) \|", WHY, re.MULTILINE)
        for package in re.findall(r"`(\w+)`", packages)
    }
    assert packages() == seams


def test_nothing_unwanted_is_imported() -> None:
    """No client that sends a request again behind our back, nothing that patches sockets, nothing heavy for a formula."""
    assert not UNWANTED & set(packages())


def test_there_is_one_clock() -> None:
    """`clock` reads time and sleeps; everybody else asks it."""
    offences = []
    for path, tree in SOURCES.items():
        if room_of(path) == "clock":
            continue
        for node in ast.walk(tree):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"time\.(time|sleep|monotonic|perf_counter)(_ns)?|(datetime\.)+(now|utcnow|today)", name):
                offences.append(f"{path.name}:{node.lineno} {name}")  # type: ignore[attr-defined]
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                offences.append(f"{path.name}:{node.lineno} from time import")
    assert not offences


def test_the_environment_is_read_in_one_room() -> None:
    """Whoever needs something of it is handed it."""
    readers = {
        room_of(path)
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
    }
    assert readers == {"setup"}


def test_no_shell() -> None:
    """Processes are started from lists: nothing in a setup file is ever read by a shell."""
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                assert "shell" not in {keyword.arg for keyword in node.keywords}, f"{path.name}:{node.lineno}"
                assert ast.unparse(node.func) not in {"os.system", "os.popen"}, f"{path.name}:{node.lineno}"


def test_nothing_is_swallowed_whole() -> None:
    """Whoever passes over an exception names it."""
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
                assert not (broad and silent), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
                assert not {"Exception", "BaseException"} & set(map(ast.unparse, node.args)), (
                    f"{path.name}:{node.lineno}"
                )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HARNESS)))
def test_a_module_says_what_it_is_for(path: Path) -> None:
    """And what it offers; a room says what it must not do."""
    words = " ".join((ast.get_docstring(SOURCES[path]) or "").split())
    assert words
    assert "__all__" in {
        target.id
        for node in SOURCES[path].body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    is_a_room = path.parent == HARNESS or path.name == "__init__.py"
    assert not is_a_room or path == HARNESS / "__init__.py" or "must not" in words.lower()
