"""How long those who serve were given no core: by the kernel's own word, of the scenario alone, and only where it can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from harness import processes
from harness.starvation import Starvation
from harness.waiting import wait_until

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread waited for a core")

SPINS = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


THREADS = """
import threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(flush=True)
time.sleep(60)
"""


class Node:
    """As much of one as is asked."""

    def __init__(self, name: str, *pids: int) -> None:
        self.name = name
        self.own = pids

    def pids(self) -> Sequence[int]:
        return self.own

    def cpu_seconds(self) -> float | None:
        return None


@pytest.fixture
def two_on_one_core() -> Iterator[tuple[int, int]]:
    """Two processes that want the same core all the time: each is kept waiting by the other."""
    core = min(os.sched_getaffinity(0))
    with ExitStack() as stack:
        made = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", SPINS, str(core)], stdout=subprocess.PIPE))
            for _ in range(2)
        ]
        for each in made:
            stack.callback(each.kill)
            assert each.stdout is not None
            each.stdout.readline()
        first, second = made
        yield first.pid, second.pid


def seen(serving: list[Node], *others: Node) -> Starvation:
    every: list[Any] = [*others, *serving]
    return Starvation(serving=lambda: every[len(others) :], nodes=lambda: every)


def waits(pid: int) -> float:
    return sum((processes.waited_seconds([pid]) or {}).values())


@linux
def test_whoever_is_kept_waiting_is_seen_to_wait(two_on_one_core: tuple[int, int]) -> None:
    """In the words of a look: by node, since the scenario began."""
    first, second = two_on_one_core
    wait_until(lambda: waits(first) > 0.05, within_seconds=30, because="both want one core")
    starvation = seen([Node("app-1", first), Node("nginx", os.getpid()), Node("app-9")])
    before = waits(first)
    starvation.begin()
    begun = waits(first)
    wait_until(lambda: waits(first) > begun + 0.1, within_seconds=30, because=f"{second} wants its core too")
    look = starvation.about("kill")
    after = waits(first)
    assert look is not None
    assert (look.what, look.value["scenario"], look.value["cores"]) == ("waited-for-cores", "kill", os.cpu_count())
    assert sorted(look.value["waited_seconds"]) == ["app-1", "nginx"], "of app-9 nobody can tell"
    assert 0.1 <= look.value["waited_seconds"]["app-1"] <= after - before + 0.001
    assert look.value["waited_seconds"]["app-1"] <= look.value["seconds"] + 0.05
    assert 0 < look.value["busy_share"] <= 1
    assert 0 <= look.value["others_share"] <= look.value["busy_share"]


@linux
def test_every_thread_is_asked() -> None:
    """Also of a server that has many; those of a process that is gone are left out."""
    with subprocess.Popen(
        [sys.executable, "-c", THREADS],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert len(processes.waited_seconds([process.pid]) or ()) == 4
        finally:
            process.kill()
    assert processes.waited_seconds([process.pid]) is None


def test_where_nobody_can_be_seen_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node of this machine, or a kernel that does not tell: a verdict is then not weakened by it."""
    assert seen([]).about("kill") is None
    assert seen([Node("app-1")]).about("kill") is None
    monkeypatch.setattr(processes, "waited_seconds", lambda pids: None)
    assert seen([Node("app-1", os.getpid())]).about("kill") is None


def test_a_thread_that_began_meanwhile_and_one_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has waited since then only; of the other nothing is known any more."""
    told = iter([{1: 5.0, 2: 7.0}, {1: 5.5, 3: 0.25}])
    monkeypatch.setattr(processes, "waited_seconds", lambda pids: next(told))
    look = seen([Node("app-1", 1)]).about("kill")
    assert look is not None
    assert look.value["waited_seconds"] == {"app-1": 0.75}


MINE = (os.getpid(), 1)


@pytest.mark.parametrize(
    ("used", "shares"),
    [
        ([{(50, 1): 2.0, MINE: 1.0}, {(50, 1): 8.0, MINE: 4.0}], (0.9, 0.6)),
        # What began meanwhile has used all it has used meanwhile; an id that is used again is another's.
        ([{(50, 1): 2.0}, {(50, 2): 3.0, (51, 2): 1.0}], (0.9, 0.4)),
        # Of who has ended nothing is known; the harness, the nodes and those in containers are no others.
        ([{(50, 1): 2.0, (9, 1): 0.0}, {(7, 1): 1.0, (8, 1): 1.0, (9, 1): 1.0, MINE: 9.0}], (0.9, 0.0)),
        # The first of all collects whoever nobody else does.
        ([{(1, 1): 0.0}, {(1, 1): 60.0}], (0.9, 0.0)),
        # Who collects a child is told all it ever used.
        ([{(50, 1): 0.0}, {(50, 1): 60.0}], (0.9, 0.9)),
    ],
)
def test_who_had_the_cores(
    monkeypatch: pytest.MonkeyPatch, used: list[Any], shares: tuple[float | None, float | None]
) -> None:
    """Others than the harness, the nodes of this machine, and those in containers."""
    told_machine, told_used = iter([(10.0, 100.0), (19.0, 110.0)]), iter(used)
    monkeypatch.setattr(processes, "machine_cpu", lambda: next(told_machine))
    monkeypatch.setattr(processes, "cpu_of_everybody", lambda: next(told_used))
    monkeypatch.setattr(processes, "tree", lambda pid: [pid, 7])
    monkeypatch.setattr(processes, "waited_seconds", lambda pids: {1: 0.0})
    look = seen([Node("app-1", 7, 8)], Node("postgres", 9)).about("kill")
    assert look is not None
    assert (look.value["busy_share"], look.value["others_share"]) == shares
    assert list(look.value["waited_seconds"]) == ["app-1"]


@pytest.mark.parametrize("machine", [[None, None], [(1.0, 9.0), (1.0, 9.0)]])
def test_a_machine_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, machine: list[Any]) -> None:
    """Who waited is told, and not who had the cores: nothing is excused by it."""
    told = iter(machine)
    monkeypatch.setattr(processes, "machine_cpu", lambda: next(told))
    monkeypatch.setattr(processes, "waited_seconds", lambda pids: {1: 0.0})
    look = seen([Node("app-1", os.getpid())]).about("kill")
    assert look is not None
    assert (look.value["busy_share"], look.value["others_share"]) == (None, None)


@linux
def test_everybody_is_seen() -> None:
    """By id and start, as `look` tells them."""
    mine = processes.look(os.getpid())
    everybody = processes.cpu_of_everybody()
    assert mine is not None
    assert everybody is not None
    assert everybody[mine.pid, mine.started] > 0
    assert len(everybody) > 1
