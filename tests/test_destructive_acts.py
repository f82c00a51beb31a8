"""What the harness ends, removes or cuts off is its own: each place that can is known, with what guards it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import engine, reaper
from harness.reaper import SCRATCH_PREFIX
from harness.services import postgres
from harness.workspace import Workspace
from tests.scripted_engine import ScriptedEngine, scripted_engine

CHECKOUT = Path(__file__).parents[1]
ACTS = {
    *("rmtree", "rmdir", "unlink", "shmctl", "kill", "killpg", "terminate", "send_signal", "pause"),
    *("remove_container", "remove_image", "remove_network", "remove_volume", "remove_service", "leave_swarm"),
    "disconnect_container_from_network",
}
"""How processes, files, containers and connections end."""


def test_every_place_that_destroys_is_told_with_its_guard() -> None:
    """docs/safety.md has a row for each module; one that begins to destroy something needs one."""
    found = set()
    for path in (CHECKOUT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ACTS:
                found.add(str(path.relative_to(CHECKOUT / "harness")))
    text = (CHECKOUT / "docs/safety.md").read_text(encoding="utf-8").partition("## What it ends and removes")[2]
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    told = {module for row in rows for module in re.findall(r"`([\w/]+\.py)`", row.rpartition(" | ")[2])}
    assert told == found


@pytest.fixture
def played(tmp_path: Path) -> Iterator[ScriptedEngine]:
    with scripted_engine(tmp_path / "engine.sock") as made:
        yield made


@pytest.mark.parametrize("kind", ["containers", "networks", "volumes"])
def test_what_bears_no_label_of_a_run_is_left(played: ScriptedEngine, kind: str) -> None:
    """Also by an engine that does not know how to look for labels, and tells of everything it has."""
    listed = {
        "containers": [
            {"Id": "theirs", "Names": ["/theirs"], "Labels": {"app": "shop"}, "Created": 0, "State": "running"}
        ],
        "networks": [{"Id": "theirs", "Name": "theirs", "Labels": {}, "Created": "1970-01-01T00:00:00Z"}],
        "volumes": {"Volumes": [{"Name": "theirs", "Labels": {}, "CreatedAt": "1970-01-01T00:00:00Z"}]},
    }[kind]
    played.answers[f"GET /v1.46/{kind}"] = lambda: (200, listed)
    played.answers[f"GET /{kind}"] = lambda: (200, listed)
    engine.remove_run("r", url=played.url, scratch="hv-1")
    assert any(f"/{kind}" in asked for asked in played.asked)
    assert not [asked for asked in played.asked if asked.startswith(("DELETE", "POST"))]


def test_what_a_run_folder_links_to_is_left(tmp_path: Path) -> None:
    """Neither removed nor made writable, wherever the link stands."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub" / "kept").write_text("kept", encoding="utf-8")
    (outside / "sub").chmod(0o555)
    scratch = tmp_path / f"{SCRATCH_PREFIX}1234"
    (scratch / "deep" / "locked").mkdir(parents=True)
    (scratch / "link").symlink_to(outside)
    (scratch / "deep" / "locked" / "link").symlink_to(outside / "sub")
    (scratch / "deep" / "file").symlink_to(outside / "sub" / "kept")
    (scratch / "deep" / "locked").chmod(0o500)
    assert reaper._remove_scratch(scratch) == []
    assert not scratch.exists()
    assert (outside / "sub" / "kept").read_text(encoding="utf-8") == "kept"
    assert (outside / "sub").stat().st_mode & 0o777 == 0o555


def test_a_link_in_the_place_of_a_run_folder_is_left(tmp_path: Path) -> None:
    """With what it points to; and so is a folder of any other name."""
    (tmp_path / "home").mkdir()
    link = tmp_path / f"{SCRATCH_PREFIX}1234"
    link.symlink_to(tmp_path / "home")
    assert "does not look like" in reaper._remove_scratch(link)[0]
    assert "does not look like" in reaper._remove_scratch(tmp_path / "home")[0]
    assert link.is_symlink()
    assert (tmp_path / "home").is_dir()


def test_results_are_put_beside_what_lies_there(tmp_path: Path) -> None:
    """A folder of somebody's own files, given as --report, keeps all of them, also those that look like a run's."""
    reports = tmp_path / "documents"
    (reports / "2025-01-01-0000-1").mkdir(parents=True)
    mine = [reports / "thesis.md", reports / "2025-01-01-0000-1" / "history.jsonl", reports / "index.html"]
    for file in mine:
        file.write_text("mine", encoding="utf-8")
    with Workspace.create(reports=reports, name="x", seed=1, runtime=tmp_path) as space:
        (space.results / "verdicts.json").write_text("{}", encoding="utf-8")
        space.publish()
    with Workspace.create(reports=reports, name="x", seed=1, runtime=tmp_path):
        pass
    assert [file.read_text(encoding="utf-8") for file in mine] == ["mine"] * 3


def test_a_cache_where_somebody_has_files_keeps_them(tmp_path: Path) -> None:
    """HARNESS_CACHE may be any folder: of the folders in it only those are forgotten that are named as ours are."""
    kept = tmp_path / "postgres"
    theirs = [kept / name for name in ("14", "data", "new-project", "18-0123456789abcdef")]
    ours = [kept / f"18-{number:016x}" for number in range(5)]
    for number, folder in enumerate((*theirs, *ours, kept / "harness-half-made-x")):
        folder.mkdir(parents=True)
        if folder in ours:
            (folder / "listing.json").write_text("{}", encoding="utf-8")
        os.utime(folder, (number, number))
    cache = postgres._Cache(tmp_path, version="18", installation=Path(__file__))
    cache._forget_others()
    assert sorted(kept.iterdir()) == sorted([*theirs, *ours[-3:]])
