"""What is broken on purpose is proven broken, and healed whatever happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import pytest

from harness.errors import NodeError, WaitTimeout
from harness.faults import CutOff, Fault, Hang, Kill, NewAddress, OutOfMemory, Stop
from harness.platforms import NodeSpec
from harness.waiting import set_patience


class BodyError(Exception):
    """What a scenario raises in the middle of a fault."""


class Bare:
    """A node that can only be started: a platform without abilities."""

    name = "app-1"
    log_path = Path("log")
    start_seconds = 0.1

    def __init__(self) -> None:
        self.spec = NodeSpec(name="app-1", argv=("app",), directory=Path(), port=1, is_ready=lambda: True)
        self.exit_code: int | None = None
        self.running = True
        self.done: list[str] = []

    def is_running(self) -> bool:
        return self.running

    def is_ready(self) -> bool:
        return self.running

    def start(self, spec: NodeSpec | None = None) -> None:
        self.done.append("start")
        self.running = True

    def wait_ready(self) -> None: ...

    def signal(self, signal: Signals) -> None: ...


class Fake(Bare):
    """A node with every ability. A stubborn one does what it is told, and it has no effect."""

    def __init__(self, *, stubborn: bool = False) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.hung = False
        self.off = ""

    def _end(self, how: str, code: int) -> int:
        self.done.append(how)
        self.running, self.exit_code = self.stubborn, code
        return code

    def stop(self) -> int:
        if self.stubborn:
            self.done.append("stop")
            raise NodeError("app-1 still runs after SIGKILL")
        return self._end("stop", 0)

    def tell_to_stop(self) -> None:
        self.done.append("tell to stop")

    def kill(self) -> None:
        self._end("kill", -9)

    def hang(self) -> None:
        self.done.append("hang")
        self.hung = not self.stubborn

    def resume(self) -> None:
        self.done.append("resume")
        self.hung = False

    def is_hung(self) -> bool:
        return self.hung

    def cut_off(self, *, answer: str) -> None:
        self.done.append(f"cut off, {answer}")
        self.off = "" if self.stubborn else answer

    def reconnect(self) -> None:
        self.done.append("reconnect")
        self.off = ""

    def is_cut_off(self) -> bool:
        return bool(self.off)

    def exhaust_memory(self) -> None:
        self._end("exhaust memory", 137)

    @property
    def address(self) -> str | None:
        return "172.18.0.9" if "relocate" in self.done else "172.18.0.2"

    def relocate(self) -> str:
        self.done.append("relocate")
        self.running = not self.stubborn
        return "172.18.0.9"


FAULTS: tuple[tuple[Fault, list[str], str], ...] = (
    (Kill(), ["kill", "start"], "the process is gone (exit code -9)"),
    (Stop(), ["stop", "start"], "the process ended with exit code 0"),
    (Hang(), ["hang", "resume"], "every thread of the process is stopped"),
    (CutOff(), ["cut off, silence", "reconnect"], "it runs and is off the network: who connects hears nothing"),
    (CutOff("refusal"), ["cut off, refusal", "reconnect"], "it runs and is off the network: who connects is refused"),
    (OutOfMemory(), ["exhaust memory", "start"], "the kernel ended it for want of memory (exit code 137)"),
    (NewAddress(), ["relocate"], "it was ended, and started anew under 172.18.0.9"),
)
each_fault = pytest.mark.parametrize(("fault", "done", "proof"), FAULTS, ids=[str(fault) for fault, *_ in FAULTS])


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    set_patience(0.01)
    yield
    set_patience(1.0)


@each_fault
def test_a_fault_is_proven_and_healed(fault: Fault, done: list[str], proof: str) -> None:
    """While it lasts the node is broken, and how that was seen is told; afterwards it is as it was."""
    node = Fake()
    with fault.applied_to(node) as told:
        assert told == proof
        assert node.running == isinstance(fault, Hang | CutOff | NewAddress)
        assert node.hung == isinstance(fault, Hang)
        assert node.off == (fault.answer if isinstance(fault, CutOff) else "")
    assert node.done == done
    assert node.running
    assert not node.hung
    assert not node.off


@each_fault
def test_a_fault_is_healed_also_when_the_body_raises(fault: Fault, done: list[str], proof: str) -> None:
    """What went wrong in between is passed on, and the node is not left broken."""
    node = Fake()
    with pytest.raises(BodyError), fault.applied_to(node):
        raise BodyError
    assert node.done == done
    assert node.running
    assert not node.hung
    assert not node.off


@pytest.mark.parametrize(
    ("fault", "raised", "said"),
    [
        (Kill(), NodeError, "app-1 was killed and still runs"),
        (Stop(), NodeError, "app-1 still runs after SIGKILL"),
        (Hang(), WaitTimeout, "app-1 should be frozen"),
        (CutOff(), WaitTimeout, "app-1 should be cut off"),
        (OutOfMemory(), NodeError, "app-1 was to run out of memory and still runs"),
        (NewAddress(), NodeError, "app-1 was moved to 172.18.0.9 and does not run there"),
    ],
)
def test_a_fault_without_effect_is_no_fault(fault: Fault, raised: type[Exception], said: str) -> None:
    """Where a node does not break, nothing may be tested: it is told, the body never runs, and the node goes on."""
    node = Fake(stubborn=True)
    with pytest.raises(raised, match=said), fault.applied_to(node):
        raise AssertionError("the body must not run")
    assert node.running
    assert not isinstance(fault, Hang) or node.done == ["hang", "resume"]
    assert not isinstance(fault, CutOff) or node.done == ["cut off, silence", "reconnect"]
    assert ("start" in node.done) == isinstance(fault, NewAddress)


def test_whoever_is_cut_off_goes_on_running() -> None:
    """A node that ended when its network was taken was not cut off, but killed: that is another promise."""
    node = Fake()
    node.running, node.exit_code = False, 1
    with pytest.raises(NodeError, match=r"should only lose its network, and ended \(exit code 1\)"):
        CutOff().applied_to(node).__enter__()
    assert node.done == ["cut off, silence", "reconnect"]


@pytest.mark.parametrize(
    ("fault", "cannot"),
    [
        (Kill(), "be killed"),
        (Stop(), "be stopped"),
        (Hang(), "be frozen"),
        (CutOff(), "be cut off"),
        (OutOfMemory(), "run out of memory"),
        (NewAddress(), "be given another address"),
    ],
    ids=str,
)
def test_a_platform_that_cannot_says_so(fault: Fault, cannot: str) -> None:
    """A node without the one ability a fault asks for is left alone, with a sentence that says what is missing."""
    node = Bare()
    with pytest.raises(NodeError, match=f"app-1 cannot {cannot} on this platform"), fault.applied_to(node):
        raise AssertionError("the body must not run")
    assert node.done == []


@each_fault
def test_the_name_of_a_fault_is_its_own(fault: Fault, done: list[str], proof: str) -> None:
    """It is the id of a test, the name in the history, and how checkers choose their bounds."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(fault).__name__).lower()
    assert str(fault) == (f"{name}-{fault.answer}" if isinstance(fault, CutOff) else name)
    assert fault == (CutOff(fault.answer) if isinstance(fault, CutOff) else type(fault)())
    assert type(fault).__doc__
