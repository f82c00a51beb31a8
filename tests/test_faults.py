"""What is broken on purpose is proven broken, and healed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import pytest

from harness.errors import NodeError, WaitTimeout
from harness.faults import Fault, Hang, Kill, Stop
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

    def _end(self, how: str, code: int) -> int:
        self.done.append(how)
        self.running, self.exit_code = self.stubborn, code
        return code

    def stop(self) -> int:
        if self.stubborn:
            self.done.append("stop")
            raise NodeError("app-1 still runs after SIGKILL")
        return self._end("stop", 0)

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


FAULTS: tuple[tuple[Fault, list[str], str], ...] = (
    (Kill(), ["kill", "start"], "the process is gone (exit code -9)"),
    (Stop(), ["stop", "start"], "the process ended with exit code 0"),
    (Hang(), ["hang", "resume"], "every thread of the process is stopped"),
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
        assert node.running == isinstance(fault, Hang)
        assert node.hung == isinstance(fault, Hang)
    assert node.done == done
    assert node.running
    assert not node.hung


@each_fault
def test_a_fault_is_healed_also_when_the_body_raises(fault: Fault, done: list[str], proof: str) -> None:
    """What went wrong in between is passed on, and the node is not left broken."""
    node = Fake()
    with pytest.raises(BodyError), fault.applied_to(node):
        raise BodyError
    assert node.done == done
    assert node.running
    assert not node.hung


@pytest.mark.parametrize(
    ("fault", "raised", "said"),
    [
        (Kill(), NodeError, "app-1 was killed and still runs"),
        (Stop(), NodeError, "app-1 still runs after SIGKILL"),
        (Hang(), WaitTimeout, "app-1 should be frozen"),
    ],
    ids=lambda value: str(value) if isinstance(value, Kill | Stop | Hang) else "",
)
def test_a_fault_without_effect_is_no_fault(fault: Fault, raised: type[Exception], said: str) -> None:
    """Where a node does not break, nothing may be tested: it is told, the body never runs, and the node goes on."""
    node = Fake(stubborn=True)
    with pytest.raises(raised, match=said), fault.applied_to(node):
        raise AssertionError("the body must not run")
    assert "start" not in node.done
    assert not isinstance(fault, Hang) or node.done == ["hang", "resume"]


@pytest.mark.parametrize(("fault", "word"), [(Kill(), "killed"), (Stop(), "stopped"), (Hang(), "frozen")], ids=str)
def test_a_platform_that_cannot_says_so(fault: Fault, word: str) -> None:
    """A node without the one ability a fault asks for is left alone, with a sentence that says what is missing."""
    node = Bare()
    with pytest.raises(NodeError, match=f"app-1 cannot be {word} on this platform"), fault.applied_to(node):
        raise AssertionError("the body must not run")
    assert node.done == []


@each_fault
def test_the_name_of_a_fault_is_one_word(fault: Fault, done: list[str], proof: str) -> None:
    """It is the id of a test, the name in the history, and how checkers choose their bounds."""
    assert str(fault) == type(fault).__name__.lower()
    assert fault == type(fault)()
    assert type(fault).__doc__
