"""A run's folders and record: unique, private, gone afterwards; logs without secrets; dead runs swept, living ones not."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import folders, processes, workspace
from harness.errors import BadInput, HarnessError, MissingPrerequisite
from harness.waiting import wait_until
from harness.workspace import Workspace, sweep
from tests.native_nodes import HARNESS_PATH, PYTHON, running_with

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def make(tmp_path: Path, *, seed: int = 41907) -> Workspace:
    return Workspace.create(reports=tmp_path / "reports", name="test", seed=seed, runtime=tmp_path)


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    with make(tmp_path) as made:
        yield made


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs").iterdir())


# -- folders ---------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_its_time_and_seed(space: Workspace) -> None:
    """The seed in the name is what repeats the run."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{4}-41907", space.run_id)
    assert space.results.name == space.run_id
    assert space.results.is_dir()


def test_runs_that_begin_at_once_with_one_seed_differ(tmp_path: Path) -> None:
    """Also when several begin in the same moment, in the same or in another folder for reports."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make(tmp_path), range(4)))
    elsewhere = Workspace.create(reports=tmp_path / "elsewhere", name="test", seed=41907, runtime=tmp_path)
    try:
        assert len({each.run_id for each in (*made, elsewhere)}) == 5
        assert len({each.scratch for each in (*made, elsewhere)}) == 5
        assert len(list((tmp_path / "reports").iterdir())) == 4
        assert any(each.run_id.endswith("-41907-2") for each in made)
    finally:
        for each in (*made, elsewhere):
            each.close()
    assert records(tmp_path) == []


def test_the_private_folder_is_private_and_short(space: Workspace) -> None:
    """Nobody else may look into it; as root, a node with another user may pass through it. Sockets fit into its path."""
    mode = stat.S_IMODE(space.scratch.stat().st_mode)
    assert mode == (0o711 if os.geteuid() == 0 else 0o700)
    assert stat.S_IMODE(space.logs.stat().st_mode) == 0o700
    assert space.temp.is_dir()
    if space.scratch.parent == Path("/dev/shm"):
        assert len(str(space.scratch)) <= 24


def test_nothing_is_left_but_results(tmp_path: Path) -> None:
    """At the end the private folder, the record and the reaper are gone; the results stay and are the latest."""
    with make(tmp_path) as space:
        assert len(records(tmp_path)) == 1
        (space.results / "verdicts.json").write_text("{}")
        (space.scratch / "secret").write_text("password")
        forbidden = space.scratch / "forbidden"
        forbidden.mkdir()
        (forbidden / "file").write_text("")
        forbidden.chmod(0o500)
        reaper = space._reaper
    assert not space.scratch.exists()
    assert records(tmp_path) == []
    assert reaper is not None
    assert reaper.returncode == 0
    assert (tmp_path / "reports" / "latest" / "verdicts.json").read_text() == "{}"
    space.close()


def test_a_run_without_results_leaves_no_folder(tmp_path: Path) -> None:
    """Bad input leaves nothing behind, and does not become the latest run."""
    with make(tmp_path) as space:
        pass
    assert not space.results.exists()
    assert not (tmp_path / "reports" / "latest").is_symlink()


def test_the_latest_run_is_replaced_in_one_step(tmp_path: Path) -> None:
    """It points to a name, so the folder of reports can be moved."""
    for seed in (1, 2):
        with make(tmp_path, seed=seed) as space:
            (space.results / "x").write_text("")
    latest = tmp_path / "reports" / "latest"
    assert latest.readlink() == Path(space.results.name)
    assert sorted(each.name for each in (tmp_path / "reports").iterdir() if each.name.startswith(".")) == []


def test_what_somebody_named_latest_is_left(tmp_path: Path) -> None:
    """Only a link is replaced."""
    (tmp_path / "reports" / "latest").mkdir(parents=True)
    with make(tmp_path) as space:
        (space.results / "x").write_text("")
    assert not (tmp_path / "reports" / "latest").is_symlink()


def test_a_forked_child_does_not_end_the_run_of_its_parent(space: Workspace) -> None:
    """It holds a copy of the object, not the run."""
    child = os.fork()
    if child == 0:
        space.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert space.scratch.is_dir()


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_results_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """A full disk is told before anything is started, and nothing is left behind."""

    def fails(results: Path) -> None:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(workspace, "_try_writing", fails)
    remedy = "make it writable for you" if problem == errno.EROFS else "make room"
    with pytest.raises(BadInput, match=rf"cannot be written \({os.strerror(problem)}\): {remedy}, or name another"):
        make(tmp_path)
    assert list((tmp_path / "reports").iterdir()) == []
    assert records(tmp_path) == []


def test_reports_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    """A file of that name, or one on the way."""
    (tmp_path / "reports").write_text("")
    with pytest.raises(BadInput, match="should be a folder and is a file"):
        make(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be written \(Not a directory\)"):
        Workspace.create(reports=tmp_path / "reports" / "below", name="x", seed=1, runtime=tmp_path)


def test_a_machine_without_room_is_told_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory means the temporary folder, and a full one of those is a missing prerequisite."""
    monkeypatch.setattr(workspace, "_free_bytes", lambda place: 400 << 20)
    with make(tmp_path) as space:
        assert space.scratch.parent != Path("/dev/shm")
    monkeypatch.setattr(workspace, "_free_bytes", lambda place: 5 << 20)
    with pytest.raises(MissingPrerequisite, match=r"a run needs 100 MiB .* has 5 MiB free"):
        make(tmp_path)


def test_what_is_kept_for_all_runs_is_private(tmp_path: Path) -> None:
    """A folder that others may read is closed; one that is no folder is refused."""
    opened = tmp_path / "opened"
    opened.mkdir(mode=0o755)
    assert stat.S_IMODE(folders.private_folder(opened).stat().st_mode) == 0o700
    (tmp_path / "file").write_text("")
    for wrong in ("file", "nowhere/below"):
        with pytest.raises(BadInput, match=r"cannot be used|should be a folder"):
            folders.private_folder(tmp_path / wrong)
    (tmp_path / "link").symlink_to(opened)
    with pytest.raises(BadInput, match="should be a folder"):
        folders.private_folder(tmp_path / "link")
    assert folders.runtime_dir().name == f"harness-{os.geteuid()}"


@root_only
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever was first in the shared temporary folder does not get to read our records."""
    (tmp_path / "runs").mkdir()
    os.chown(tmp_path / "runs", 4242, 4242)
    with pytest.raises(BadInput, match=r"should be a folder of uid 0 \(it belongs to uid 4242\): remove it"):
        make(tmp_path)


def test_the_cache_is_the_users(tmp_path: Path) -> None:
    """As told, else, where there is none or it cannot be made, beside the records."""
    assert folders.cache_dir(tmp_path / "own" / "cache") == tmp_path / "own" / "cache"
    assert (tmp_path / "own" / "cache").is_dir()
    (tmp_path / "file").write_text("")
    for wanted in (tmp_path / "file" / "cache", tmp_path / "file", None):
        assert folders.cache_dir(wanted) == folders.runtime_dir() / "cache"


def test_what_is_kept_between_runs_is_where_it_was_told(tmp_path: Path) -> None:
    """And stays when the run is over."""
    with Workspace.create(
        reports=tmp_path / "reports", name="x", seed=1, cache=tmp_path / "cache", runtime=tmp_path
    ) as space:
        assert space.cache == tmp_path / "cache"
    assert (tmp_path / "cache").is_dir()


# -- logs ------------------------------------------------------------------------------------------------------


def test_logs_are_brought_to_the_results_by_who_knows_the_secrets(space: Workspace) -> None:
    """Folders are kept, links are not followed, and nothing is copied in another way."""
    (space.logs / "app-1.log").write_text("password s3cret\n")
    (space.logs / "nginx").mkdir()
    (space.logs / "nginx" / "access.log").write_bytes(b"\xff\xfe binary s3cret\n")
    (space.logs / "link.log").symlink_to("/etc/passwd")
    copies = space.collect_logs(hiding)
    target = space.results / "logs"
    assert copies == [target / "app-1.log", target / "nginx" / "access.log"]
    assert [copy.read_bytes() for copy in copies] == [b"password [hidden]\n", b"\xff\xfe binary [hidden]\n"]
    assert sorted(each.name for each in target.rglob("*")) == ["access.log", "app-1.log", "nginx"]


def test_a_long_log_is_cut_in_its_middle(space: Workspace) -> None:
    """Its beginning and its end tell most; what is missing is said. No secret is cut in two: lines are whole."""
    lines = [f"{number} s3cret\n" for number in range(1_000, 2_000)]
    (space.logs / "app-1.log").write_text("".join(lines))
    for limit_bytes in range(1_000, 1_050):
        (copy,) = space.collect_logs(hiding, limit_bytes=limit_bytes)
        first, said, last = copy.read_text().partition("[... ")
        left_out, _, last = (said + last).removeprefix("[... ").partition(" bytes left out by the harness ...]\n")
        kept = (first + last).replace("[hidden]", "s3cret").splitlines(keepends=True)
        begin = first.count("\n")
        assert kept == lines[:begin] + lines[begin - len(kept) :]
        assert int(left_out) == sum(map(len, lines)) - sum(map(len, kept))
        assert limit_bytes - 40 < sum(map(len, kept)) <= limit_bytes
    assert not list(space.scratch.glob("*.log"))


def test_of_a_log_without_lines_nothing_is_kept_when_it_is_too_long(space: Workspace) -> None:
    """What lies on a cut could be half a secret."""
    (space.logs / "app-1.log").write_text("s3cret" * 1_000)
    (copy,) = space.collect_logs(hiding, limit_bytes=1_000)
    assert copy.read_text() == "[... 6000 bytes left out by the harness ...]\n"


def test_a_full_disk_is_told_when_logs_are_copied(space: Workspace) -> None:
    """One message, not a traceback."""

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (space.logs / "app-1.log").write_text("text")
    with pytest.raises(BadInput, match=r"logs cannot be written .* make room"):
        space.collect_logs(full)


def hiding(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes().replace(b"s3cret", b"[hidden]"))


# -- leases and dead runs --------------------------------------------------------------------------------------

DIES_WITH_A_NODE = """
import os, signal, subprocess, sys
from pathlib import Path
from harness.workspace import Workspace
runtime = Path(sys.argv[1])
space = Workspace.create(reports=runtime / "reports", name="dies", seed=7, runtime=runtime)
node = subprocess.Popen(
    [sys.executable, "-S", "-c", "import signal; print(1, flush=True); signal.pause()", sys.argv[2]],
    stdout=subprocess.PIPE, start_new_session=True,
)
node.stdout.readline()
space.lease("app-1", node.pid)
(space.results / "history.jsonl").write_text("one\\n")
print(space.run_id, space.scratch, space._reaper.pid, flush=True)
if sys.argv[3] == "without-reaper":
    space._reaper.kill()
    space._reaper.wait()
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def begin_harness(tmp_path: Path, word: str, *, reaper: str) -> tuple[subprocess.Popen[str], str, Path, int]:
    """A harness with one node, waiting to be told to die."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_WITH_A_NODE, str(tmp_path), word, reaper],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": HARNESS_PATH, "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        text=True,
    )
    assert process.stdout is not None
    run, scratch, pid = process.stdout.readline().split()
    return process, run, Path(scratch), int(pid)


def test_what_a_dead_run_left_is_swept(tmp_path: Path) -> None:
    """When harness and reaper were both killed, the next run ends the nodes and removes the folder, and says so."""
    word = f"swept-{os.getpid()}"
    harness, run, scratch, _ = begin_harness(tmp_path, word, reaper="without-reaper")
    assert sweep(runtime=tmp_path) == [], "a living run is not touched, with or without a reaper"
    assert len(running_with(word)) == 2
    harness.communicate("die\n")
    assert len(running_with(word)) == 1
    (said,) = sweep(runtime=tmp_path)
    assert said == f"run {run}, whose harness (pid {harness.pid}) is gone: ended app-1; removed its folder"
    assert running_with(word) == set()
    assert not scratch.exists()
    assert (tmp_path / "reports" / run / "history.jsonl").read_text() == "one\n", "results are never removed"
    assert sweep(runtime=tmp_path) == []


def test_sweeping_while_a_reaper_works_does_no_harm(tmp_path: Path) -> None:
    """The reaper is waited for; both at once, from several threads, end with nothing left and no error."""
    word = f"raced-{os.getpid()}"
    harness, _, scratch, _ = begin_harness(tmp_path, word, reaper="with-reaper")
    assert harness.stdin is not None
    harness.stdin.write("die\n")
    harness.stdin.flush()
    with ThreadPoolExecutor(4) as pool:
        harness.wait()
        list(pool.map(lambda _: sweep(runtime=tmp_path), range(4)))
    assert records(tmp_path) == []
    assert running_with(word) == set()
    assert not scratch.exists()
    harness.communicate()


def test_living_runs_are_not_swept(space: Workspace, tmp_path: Path) -> None:
    """Not even by themselves."""
    node = subprocess.Popen([*PYTHON, "import signal; signal.pause()"], start_new_session=True)
    space.lease("app-1", node.pid)
    assert sweep(runtime=tmp_path) == []
    assert node.poll() is None
    node.kill()
    node.wait()


def test_a_lease_is_written_down_and_returned(space: Workspace, tmp_path: Path) -> None:
    """With the start of the process, because ids are used again."""
    node = subprocess.Popen([*PYTHON, "import signal; signal.pause()"], start_new_session=True)
    space.lease("app-1", node.pid)
    seen = processes.look(node.pid)
    assert seen is not None
    (record,) = records(tmp_path)
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert lines[0]["t"] == "run"
    assert lines[0]["pid"] == os.getpid()
    assert lines[1] == {"t": "lease", "name": "app-1", "pid": node.pid, "started": seen.started}
    node.kill()
    node.wait()
    space.returned(node.pid)
    space.returned(node.pid)
    assert [json.loads(line)["t"] for line in record.read_text().splitlines()] == ["run", "lease", "returned"]
    space.lease("app-2", node.pid)
    assert len(record.read_text().splitlines()) == 3, "who is gone and collected needs no lease"


def test_a_lease_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A node that nobody would find must not run on."""
    space = make(tmp_path)
    space.close()
    with pytest.raises(HarnessError, match="cannot be written"):
        space.lease("app-1", os.getpid())


def test_a_run_ends_what_is_left_of_it(tmp_path: Path) -> None:
    """A node that was forgotten is ended with the run."""
    with make(tmp_path) as space:
        node = subprocess.Popen([*PYTHON, "import signal; signal.pause()"], start_new_session=True)
        space.lease("app-1", node.pid)
    assert node.wait(10) == -signal.SIGKILL


def test_a_record_of_an_earlier_boot_has_only_a_folder(tmp_path: Path) -> None:
    """Its process ids mean nothing any more: nobody is ended for them."""
    node = subprocess.Popen([*PYTHON, "import signal; signal.pause()"], start_new_session=True)
    seen = processes.look(node.pid)
    assert seen is not None
    scratch = tmp_path / "hv-0000"
    scratch.mkdir()
    write_record(tmp_path, scratch=scratch, boot="another", leases=[("app-1", node.pid, seen.started)])
    (said,) = sweep(runtime=tmp_path)
    assert "no process was left; removed its folder" in said
    assert not scratch.exists()
    assert node.poll() is None
    node.kill()
    node.wait()


def test_a_folder_that_is_not_a_runs_is_left(tmp_path: Path) -> None:
    """A record that was tampered with does not remove somebody's files; the record stays, and it is said."""
    precious = tmp_path / "precious"
    precious.mkdir()
    write_record(tmp_path, scratch=precious)
    (said,) = sweep(runtime=tmp_path)
    assert "does not look like the private folder of a run and was left" in said
    assert precious.is_dir()
    link = tmp_path / "hv-link"
    link.symlink_to(precious)
    write_record(tmp_path, scratch=link)
    (said,) = sweep(runtime=tmp_path)
    assert "was left" in said
    assert precious.is_dir()


def test_a_record_without_its_first_line_is_left_for_a_while(tmp_path: Path) -> None:
    """It may belong to a run that begins this moment; an old one is removed."""
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o700)
    path = runs / "2026-01-01-0000-1.jsonl"
    path.write_text('{"t": "run", "cut off')
    assert sweep(runtime=tmp_path) == []
    assert path.exists()
    os.utime(path, (1, 1))
    assert sweep(runtime=tmp_path) == []
    assert not path.exists()


def test_a_damaged_line_does_not_hide_the_others(tmp_path: Path) -> None:
    """Of a record that was cut by a full disk the rest is used."""
    node = subprocess.Popen([*PYTHON, "import signal; signal.pause()"], start_new_session=True)
    seen = processes.look(node.pid)
    assert seen is not None
    path = write_record(tmp_path, scratch=tmp_path / "hv-none", leases=[("app-1", node.pid, seen.started)])
    path.write_text(path.read_text().replace('{"t": "lease"', 'garbage\n{"t": "lease"') + '{"t": "lea')
    (said,) = sweep(runtime=tmp_path)
    assert "ended app-1" in said
    assert node.wait(10) == -signal.SIGKILL


def write_record(
    tmp_path: Path, *, scratch: Path, boot: str | None = None, leases: list[tuple[str, int, int]] | None = None
) -> Path:
    """The record of a run whose harness is gone."""
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o700, exist_ok=True)
    ended = subprocess.Popen([*PYTHON, ""])
    ended.wait()
    lines: list[dict[str, object]] = [
        {
            "t": "run",
            "version": 1,
            "run": "2026-01-01-0000-1",
            "name": "x",
            "pid": ended.pid,
            "started": 1,
            "boot": processes.boot_id() if boot is None else boot,
            "began": 0.0,
            "scratch": str(scratch),
            "results": str(tmp_path / "reports" / "none"),
        }
    ]
    lines += [{"t": "lease", "name": name, "pid": pid, "started": start} for name, pid, start in leases or []]
    path = runs / "2026-01-01-0000-1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_two_sweeps_wait_for_nothing_when_there_is_nothing(tmp_path: Path) -> None:
    """At each start it costs next to nothing."""
    assert sweep(runtime=tmp_path) == []
    wait_until(lambda: sweep(runtime=tmp_path) == [], within_seconds=1, because="nothing is there")
