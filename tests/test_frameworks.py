"""The applications of the frameworks: each setup file is right, and the page that judges them is of these very files."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.initial import look_around
from harness.setup import load_setup

CHECKOUT = Path(__file__).parents[1]
FRAMEWORKS = CHECKOUT / "fixtures/frameworks"
SETUPS = sorted(FRAMEWORKS.glob("*/*.toml"))
PAGE = CHECKOUT / "docs/frameworks.md"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the page."""
    spec = importlib.util.spec_from_file_location("frameworks", CHECKOUT / "benchmarks/frameworks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "frameworks", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", SETUPS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_setup_file_is_right(file: Path) -> None:
    """It can be read, is completed by editors, and starts its application in its own folder."""
    setup = load_setup(file)
    text = file.read_text(encoding="utf-8")
    schema = text.splitlines()[0].removeprefix("#:schema ")
    assert (file.parent / schema).resolve() == CHECKOUT / "docs/setup.schema.json"
    assert setup.name.startswith(file.parent.name)
    assert setup.app.instances == 3
    assert setup.app.migrate is not None
    assert {"register", "login", "whoami", "write", "read", "logout"} <= set(setup.journey)


def test_each_setup_file_is_judged(made: ModuleType) -> None:
    """None lies there that no page tells of, and each framework's first one is its own default."""
    judged = {(each.folder, variant) for each in made.FRAMEWORKS for variant in each.variants}
    assert judged == {(file.parent.name, file.name) for file in SETUPS}
    assert {next(iter(each.variants)) for each in made.FRAMEWORKS} == {"harness.toml"}


def test_variants_differ_in_their_sessions_alone(made: ModuleType) -> None:
    """So that what differs between their verdicts has one reason."""
    for framework in made.FRAMEWORKS:
        first, *others = [load_setup(FRAMEWORKS / framework.folder / variant) for variant in framework.variants]
        for other in others:
            env = {**other.app.env, **first.app.env}
            assert set(env) - set(first.app.env) <= {"SESSIONS_IN", "REDIS_URL"}
            alike = {"name": first.name, "redis": first.redis, "sessions": first.sessions}
            alike["app"] = other.app.model_copy(update={"env": first.app.env})
            assert other.model_copy(update=alike).model_dump() == first.model_dump()


@pytest.mark.parametrize("folder", sorted({file.parent for file in SETUPS}), ids=lambda folder: folder.name)
def test_harness_init_knows_each_of_them(folder: Path) -> None:
    """By its framework's files; what its sources read is what the setup file gives them."""
    here = look_around(folder, site=None)
    assert here.project is not None
    given = load_setup(folder / "harness.toml").app.env
    assert set(here.variables) - {"APP_VERSION", "REDIS_URL", "SESSIONS_IN"} == set(given) - {"NODE_ENV"}


def test_packages_are_pinned() -> None:
    """Without a version a page is of no version; a lock file would name where packages came from."""
    for file in FRAMEWORKS.glob("*/requirements.txt"):
        assert all("==" in line for line in file.read_text(encoding="utf-8").split())
    package = json.loads((FRAMEWORKS / "express/package.json").read_text(encoding="utf-8"))
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    assert not list(FRAMEWORKS.glob("*/*lock*"))


def test_the_page_is_of_these_setup_files(made: ModuleType) -> None:
    """What is shown there is what lies here."""
    page = PAGE.read_text(encoding="utf-8")
    for framework in made.FRAMEWORKS:
        first, *others = framework.variants
        text = (FRAMEWORKS / framework.folder / first).read_text(encoding="utf-8")
        assert text.rstrip() in page, "make it again: make frameworks"
        for other in others:
            assert "\n".join(made.difference(text, FRAMEWORKS / framework.folder / other)) in page


def run(**statuses: str) -> dict[str, Any]:
    cause = {"id": "c", "sentence": "it is so", "confidence": "certain", "remedy": "mend <it> | now"}
    promises = [
        {"id": name, "status": status, "measured": f"{name} was seen", "findings": [{"causes": [cause]}]}
        for name, status in statuses.items()
    ]
    return {"counts": {"pass": 1, "fail": 1}, "promises": promises, "left_out": {"x": "no key", "y": "no key"}}


def test_what_is_told_of_runs(made: ModuleType) -> None:
    """Every promise once; a failure that variants share is told once, with the reason why it is true."""
    django = next(each for each in made.FRAMEWORKS if each.folder == "django")
    first, second, third = django.variants
    runs = {
        first: run(kept="pass", broken="fail"),
        second: run(kept="pass", broken="fail"),
        third: run(kept="pass", broken="pass"),
    }
    text = made.section(django, runs)
    assert "1 of 2 promises in each of them: `kept`." in text
    assert "| `broken` | **fail** | **fail** | pass |" in text
    assert text.count("broken was seen") == 1
    assert "- remedy: mend &lt;it> \\| now" in text
    assert list(made.left_out([runs])) == ["- `x`, `y`: no key"]


def test_a_tool_that_is_missing_is_told_and_the_others_go_on(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with what brings it; nothing is prepared."""
    monkeypatch.setattr(made.shutil, "which", lambda tool: None)
    go = next(each for each in made.FRAMEWORKS if each.folder == "go")
    assert made.judged(go, tmp_path / "go", tmp_path) == {}
    assert capsys.readouterr().err == (
        "Go is left out: this machine has no go (apt-get install golang-go golang-github-lib-pq-dev)\n"
    )
    assert list(tmp_path.iterdir()) == []
    assert "not judged on the machine that made this page" in made.page({"go": {}})
