"""When the harness is gone, by whatever end, nothing of its run survives; and nobody else's processes are touched."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from harness import clock, processes, reaper
from harness.reaper import GOODBYE, RUN_MARK, SCRATCH_MARK, CleanedUp, Lease, Record, clean_up, read_record
from harness.waiting import wait_until
from harness.workspace import Workspace, sweep
from tests.native_nodes import HARNESS_PATH, PYTHON, ROOT, running_with

linux_only = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="marks are only read with /proc")
PAUSES = "import signal; print(1, flush=True); signal.pause()"


@pytest.fixture
def word(request: pytest.FixtureRequest) -> Iterator[str]:
    """In the command of every process of a test, which are all gone after it."""
    chosen = f"reaped-{os.getpid()}-{abs(hash(request.node.name))}"
    yield chosen
    left = running_with(chosen)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Of a run of this test, whose harness is somebody who has ended."""
    ended = subprocess.Popen([*PYTHON, ""])
    ended.wait()
    us = processes.look(os.getpid())
    assert us is not None
    scratch = tmp_path / "hv-test"
    scratch.mkdir()
    return Record(
        path=tmp_path / "none.jsonl",
        run="2026-01-01-0000-1",
        pid=ended.pid,
        started=us.started,
        boot=processes.boot_id(),
        began=clock.wall().timestamp(),
        scratch=scratch,
        results=tmp_path / "results",
        leases=(),
    )


def start(
    program: str, word: str, *, env: dict[str, str] | None = None, cwd: Path | None = None, session: bool = True
) -> subprocess.Popen[bytes]:
    """A process that says one line when it is up."""
    process = subprocess.Popen(
        [*PYTHON, program, word], stdout=subprocess.PIPE, env=env or {}, cwd=cwd, start_new_session=session
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    return process


def lease_of(process: subprocess.Popen[bytes], name: str = "app-1") -> Lease:
    seen = processes.look(process.pid)
    assert seen is not None
    return Lease(name, process.pid, seen.started)


# -- whose a process is ----------------------------------------------------------------------------------------


def test_what_was_leased_is_killed_and_named(record: Record, word: str) -> None:
    """The private folder goes with it."""
    node = start(PAUSES, word)
    done = clean_up(record._replace(leases=(lease_of(node),)), trust_old_groups=True)
    assert done == (("app-1",), ())
    assert node.wait(10) == -signal.SIGKILL
    assert not record.scratch.exists()


def test_the_group_of_a_leader_that_has_ended_is_killed(record: Record, word: str) -> None:
    """As nginx's workers when their master was killed; but only right after the harness ended."""
    leader = start("import os, signal; os.fork() or (print(1, flush=True), signal.pause())", word)
    lease = lease_of(leader)
    leader.kill()
    leader.wait()
    if running_with(word):  # the child was already there: the usual case
        clean_up(record._replace(leases=(lease,)), trust_old_groups=False)
        assert running_with(word), "hours later a group of this number may be somebody else's"
    done = clean_up(record._replace(leases=(lease,), scratch=record.scratch), trust_old_groups=True)
    assert running_with(word) == set()
    assert done.problems == ()


def test_an_id_that_is_in_use_again_is_spared(record: Record, word: str) -> None:
    """A process is its id and its start."""
    stranger = start(PAUSES, word)
    lease = lease_of(stranger)
    done = clean_up(record._replace(leases=(lease._replace(started=lease.started - 1),)), trust_old_groups=True)
    assert done == ((), ())
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_lease_that_was_returned_means_nothing(record: Record, word: str) -> None:
    """The harness saw it and all it started gone."""
    stranger = start(PAUSES, word)
    done = clean_up(record._replace(leases=(lease_of(stranger)._replace(returned=True),)), trust_old_groups=True)
    assert done == ((), ())
    stranger.kill()
    stranger.wait()


@linux_only
@pytest.mark.parametrize("mark", [SCRATCH_MARK, RUN_MARK])
def test_what_carries_the_mark_of_the_run_is_killed(record: Record, word: str, mark: str) -> None:
    """Without any lease: the harness may have been killed before it could write it."""
    value = str(record.scratch) if mark == SCRATCH_MARK else record.run
    node = start(PAUSES, word, env={mark: value})
    other = start(PAUSES, word, env={mark: value + "-2"})
    done = clean_up(record, trust_old_groups=False)
    assert len(done.killed) == 1
    assert node.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


@linux_only
def test_a_run_of_the_same_id_in_another_folder_is_spared(record: Record, word: str) -> None:
    """Ids repeat where two runs have records in different places; their folders never do."""
    other = start(PAUSES, word, env={SCRATCH_MARK: f"{record.scratch}-2", RUN_MARK: record.run})
    assert clean_up(record, trust_old_groups=False).killed == ()
    assert other.poll() is None
    other.kill()
    other.wait()


@linux_only
def test_what_works_in_the_private_folder_is_killed(record: Record, word: str) -> None:
    """Servers that write over their environment are found by where they are, and their children by them."""
    place = record.scratch / "data"
    place.mkdir()
    program = "import os, signal; pid = os.fork(); pid or (os.setsid(), os.chdir('/')); pid and print(1, flush=True); signal.pause()"
    node = start(program, word, cwd=place)
    clean_up(record, trust_old_groups=False)
    assert node.wait(10) == -signal.SIGKILL
    assert running_with(word) == set()
    assert not record.scratch.exists()


@linux_only
def test_a_person_who_looks_into_the_private_folder_is_spared(record: Record, word: str) -> None:
    """A shell in a terminal, in the folder of a run, is not a node."""
    controller, terminal = pty.openpty()
    takes_terminal = (
        "import fcntl, os, signal, sys, termios\n"
        f"fcntl.ioctl({terminal}, termios.TIOCSCTTY, 0)\n"
        "print(1, flush=True)\nsignal.pause()"
    )
    person = subprocess.Popen(
        [*PYTHON, takes_terminal, word],
        stdout=subprocess.PIPE,
        cwd=record.scratch,
        start_new_session=True,
        pass_fds=[terminal],
    )
    assert person.stdout is not None
    person.stdout.readline()
    person.stdout.close()
    clean_up(record, trust_old_groups=True)
    assert person.poll() is None
    person.kill()
    person.wait()
    os.close(controller)
    os.close(terminal)


def test_those_who_clean_up_are_never_killed(record: Record) -> None:
    """A harness inside a node of another run carries that run's mark and must not end itself, nor who started it."""
    us = processes.look(os.getpid())
    assert us is not None
    marked = record._replace(started=0, leases=(Lease("us", os.getpid(), us.started),))
    assert clean_up(marked, trust_old_groups=True).killed == ()


def test_those_that_are_stopped_or_deaf_are_killed_too(record: Record, word: str) -> None:
    """SIGKILL needs nobody's consent, and no waking up."""
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    node = start(deaf, word)
    os.kill(node.pid, signal.SIGSTOP)
    clean_up(record._replace(leases=(lease_of(node),)), trust_old_groups=True)
    assert node.wait(10) == -signal.SIGKILL


def test_one_that_starts_others_without_end_is_ended(record: Record, word: str) -> None:
    """Those it starts meanwhile are found in the next round."""
    breeder = (
        "import os, time\nprint(1, flush=True)\n"
        "for _ in range(200):\n"
        "    if os.fork() == 0: os.setsid(); os.fork() and os._exit(0); time.sleep(60)\n"
        "    time.sleep(0.001)\n"
    )
    node = start(breeder, word, env={SCRATCH_MARK: str(record.scratch)})
    done = clean_up(record._replace(leases=(lease_of(node),)), trust_old_groups=True)
    assert done.problems == ()
    assert node.wait(10) == -signal.SIGKILL
    assert running_with(word) == set()


@linux_only
def test_shared_memory_of_a_killed_server_is_removed(record: Record, word: str) -> None:
    """What Postgres leaves when it is killed, and nothing of anybody else."""
    if not Path("/proc/sysvipc/shm").exists():
        pytest.skip("no System V shared memory here")
    makes = "import ctypes, signal; print(ctypes.CDLL(None).shmget(0, 64, 0o1600), flush=True); signal.pause()"
    node = subprocess.Popen([*PYTHON, makes, word], stdout=subprocess.PIPE, start_new_session=True)
    other = subprocess.Popen([*PYTHON, makes, word], stdout=subprocess.PIPE, start_new_session=True)
    segments = []
    for process in (node, other):
        assert process.stdout is not None
        segments.append(process.stdout.readline().decode().strip())
        process.stdout.close()
    clean_up(record._replace(leases=(lease_of(node),)), trust_old_groups=True)
    node.wait(10)
    left = {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}
    assert segments[0] not in left
    assert segments[1] in left
    rest = record._replace(leases=(lease_of(other),))
    clean_up(rest, trust_old_groups=True)
    other.wait(10)
    assert segments[1] not in {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


def test_without_proc_leases_and_ps_must_do(record: Record, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: no marks can be read, and nothing fails."""
    if shutil.which("ps") is None:
        pytest.skip("no ps here")
    monkeypatch.setattr(processes, "_PROC", Path("/no/proc"))
    node = start("import os, signal; os.fork() and print(1, flush=True); signal.pause()", word)
    seen = record._replace(started=0, boot=processes.boot_id(), leases=(lease_of(node),))
    done = clean_up(seen, trust_old_groups=True)
    assert done.killed[:1] == ("app-1",)
    assert done.problems == ()
    assert node.wait(10) == -signal.SIGKILL


def test_what_cannot_be_ended_is_reported(record: Record, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder stays, so that the next sweep knows where to look."""
    node = start(PAUSES, word)

    def forbidden(*_: object) -> bool:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", forbidden)
    monkeypatch.setattr(processes, "send", forbidden)
    done = clean_up(record._replace(leases=(lease_of(node),)), trust_old_groups=True, within_seconds=0.5)
    assert done.problems == (f"app-1 (pid {node.pid}) runs as another user and could not be ended",)
    assert record.scratch.is_dir()
    node.kill()
    node.wait()


# -- the process of its own ------------------------------------------------------------------------------------


def begin_reaper(record: Record, *, harness: int, is_over: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """A reaper and the end of the pipe that the harness holds."""
    head = {"t": "run", **{key: value for key, value in record._asdict().items() if key not in ("path", "leases")}}
    lines = [head, *({"t": "lease", **lease._asdict()} for lease in record.leases)]
    if not is_over:
        record.path.write_text("".join(json.dumps(line, default=str) + "\n" for line in lines))
    mouth, pipe = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.reaper", str(record.path), str(harness)],
        stdin=mouth,
        env={"PYTHONPATH": HARNESS_PATH},
        start_new_session=True,
    )
    os.close(mouth)
    return process, pipe


def test_after_a_goodbye_it_touches_nothing(record: Record, word: str, tmp_path: Path) -> None:
    """The harness has put away everything itself."""
    node = start(PAUSES, word)
    (tmp_path / "runs").mkdir()
    kept = record._replace(path=tmp_path / "runs" / "one.jsonl", leases=(lease_of(node),))
    process, pipe = begin_reaper(kept, harness=os.getpid())
    os.write(pipe, GOODBYE[:3])
    os.write(pipe, GOODBYE[3:])
    assert process.wait(10) == 0
    os.close(pipe)
    assert node.poll() is None
    assert record.scratch.is_dir()
    node.kill()
    node.wait()


def test_without_a_goodbye_it_ends_the_run_and_notes_it(record: Record, word: str, tmp_path: Path) -> None:
    """A closed pipe is a harness that was killed; signals for everybody are not obeyed meanwhile."""
    node = start(PAUSES, word)
    (tmp_path / "runs").mkdir()
    kept = record._replace(path=tmp_path / "runs" / "one.jsonl", leases=(lease_of(node),))
    process, pipe = begin_reaper(kept, harness=os.getpid())
    wait_until(
        lambda: (
            "SigIgn" in (status := Path(f"/proc/{process.pid}/status").read_text())
            and int(status.split("SigIgn:")[1].split()[0], 16) & 0x4003 == 0x4003
            if Path("/proc/self/status").exists()
            else True
        ),
        within_seconds=10,
        because="the reaper should ignore what is sent to all",
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    os.close(pipe)
    assert process.wait(10) == 0
    assert node.wait(10) == -signal.SIGKILL
    assert not record.scratch.exists()
    assert not kept.path.exists()
    noted = (tmp_path / "reaper.log").read_text()
    assert f"run {record.run}: harness {os.getpid()} is gone; ended app-1; removed its folder; took" in noted


def test_what_was_done_is_said_in_one_line() -> None:
    """A node with many processes is one node."""
    done = CleanedUp(("nginx", "app-1", "nginx"), ())
    assert str(done) == "ended nginx (2 processes), app-1; removed its folder"
    assert str(CleanedUp((), ("it is stuck",))) == "no process was left; it is stuck"


def test_its_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    """It begins again when it is long."""
    log = tmp_path / "reaper.log"
    log.write_text("x" * 300_000)
    reaper._note(tmp_path / "runs" / "one.jsonl", "words")
    assert len(log.read_text()) < 100


def test_a_record_that_is_gone_needs_no_reaper(record: Record) -> None:
    """A very short run is over before its reaper is up."""
    process, pipe = begin_reaper(record, harness=os.getpid(), is_over=True)
    assert process.wait(10) == 0
    os.close(pipe)
    assert read_record(record.path) is None
    assert record.scratch.is_dir()


# -- a harness that is killed ----------------------------------------------------------------------------------

FORKS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from harness.workspace import Workspace
folder = Path(sys.argv[1])
space = Workspace.create(reports=folder / "reports", name="x", seed=1, runtime=folder)
if sys.argv[2] == "forks" and os.fork() == 0:
    signal.pause()
print(space.scratch, os.getpid(), flush=True)
signal.pause()
"""


def begin_harness(folder: Path, how: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS_AND_DIES, str(folder), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": HARNESS_PATH, "HOME": str(folder), "PATH": os.environ["PATH"]},
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    scratch, _ = process.stdout.readline().split()
    return process, Path(scratch)


def is_put_away(folder: Path, scratch: Path) -> bool:
    return not scratch.exists() and list((folder / "runs").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_no_end_of_the_harness_leaves_anything(tmp_path: Path, number: signal.Signals) -> None:
    """Sent to its whole group, as a terminal and most supervisors do."""
    harness, scratch = begin_harness(tmp_path, "plainly")
    os.killpg(harness.pid, number)
    harness.communicate(timeout=60)
    wait_until(lambda: is_put_away(tmp_path, scratch), within_seconds=10, because="the run should be put away")


def test_who_reads_our_output_to_its_end_does_not_wait_for_the_reaper(tmp_path: Path) -> None:
    """The reaper holds neither standard output nor standard error of the harness."""
    harness, scratch = begin_harness(tmp_path, "plainly")
    wait_until(lambda: len(children_of(harness.pid)) == 1, within_seconds=10, because="the reaper should be there")
    (reapers,) = children_of(harness.pid)
    os.kill(reapers, signal.SIGSTOP)
    harness.kill()
    out, errors = harness.communicate(timeout=60)
    assert (out, errors) == ("", "")
    os.kill(reapers, signal.SIGCONT)
    wait_until(lambda: is_put_away(tmp_path, scratch), within_seconds=10, because="the run should be put away")


@linux_only
def test_a_child_that_holds_the_pipe_does_not_hide_the_end(tmp_path: Path) -> None:
    """A harness that was forked without exec leaves a copy of the pipe open; its own end is noticed all the same."""
    harness, scratch = begin_harness(tmp_path, "forks")
    (child,) = (pid for pid in children_of(harness.pid) if processes.program_of(pid) and is_fork_of(harness.pid, pid))
    harness.kill()
    harness.wait()
    wait_until(lambda: is_put_away(tmp_path, scratch), within_seconds=10, because="the run should be put away")
    os.kill(child, signal.SIGKILL)
    harness.communicate()


def children_of(pid: int) -> list[int]:
    return [each.pid for each in processes.snapshot().values() if each.parent == pid and each.is_alive]


def is_fork_of(parent: int, child: int) -> bool:
    return Path(f"/proc/{child}/cmdline").read_bytes() == Path(f"/proc/{parent}/cmdline").read_bytes()


@linux_only
def test_a_harness_killed_at_any_moment_leaves_nothing(tmp_path: Path, word: str) -> None:
    """Ten times, while it boots, breaks and ends nodes that try hard to get away."""
    random = Random(20261123)
    slowest = 0.0
    reached = set()
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        (folder / "memory").mkdir(parents=True)
        harness = subprocess.Popen(
            [sys.executable, "-m", "tests.harness_like", str(folder), word],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={"PYTHONPATH": HARNESS_PATH, "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        )
        # The first ones while it boots, the others while it works: after so many of its acts, and a little more.
        assert harness.stdout is not None
        acts = [harness.stdout.readline() for _ in range(random.randrange(1, 8) if attempt >= 4 else 0)]
        with pytest.raises(subprocess.TimeoutExpired):
            harness.wait(random.uniform(0.1, 0.4) if attempt < 4 else random.uniform(0.0, 0.1))
        harness.kill()
        out, _ = harness.communicate(timeout=60)
        killed_at = clock.now()
        reached.update(b"".join([*acts, out]).decode().split())

        def nothing_is_left(memory: Path = folder / "memory") -> bool:
            return not running_with(word) and list(memory.iterdir()) == []

        wait_until(
            nothing_is_left, within_seconds=10, because=f"nothing of {folder} should be left", every_seconds=0.01
        )
        slowest = max(slowest, clock.now() - killed_at)
        runs = folder / "runs"
        # One that was killed before it had started anything has left its record at most.
        sweep(runtime=folder)
        wait_until(
            lambda runs=runs: not runs.exists() or all(each.stat().st_size == 0 for each in runs.iterdir()),  # type: ignore[misc]
            within_seconds=10,
            because="no record should be left",
        )
    assert {"start", "hang", "kill"} <= reached, "the harness came far enough for this to mean something"
    print(f"slowest: {slowest:.3f} s")
    assert slowest < 5


def test_a_run_in_this_process_is_not_reaped(tmp_path: Path) -> None:
    """The reaper only acts when the harness is gone."""
    with Workspace.create(reports=tmp_path / "reports", name="x", seed=1, runtime=tmp_path) as space:
        assert space._reaper is not None
        assert space.scratch.is_dir()
    assert space._reaper.returncode == 0
