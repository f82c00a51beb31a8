"""What a cluster does around a fault: healthy before, written down whatever comes of it, and ready again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.errors import NodeError, NodeNeverReady, WaitTimeout
from harness.faults import Hang
from harness.layouts import Instance
from harness.model import FaultWindow
from harness.services import Drained
from harness.waiting import set_patience
from tests.test_faults import BodyError, Fake


class Asked(Fake):
    """A node that is asked whether it is ready, and says no for ever where it was left broken."""

    def wait_ready(self) -> None:
        self.done.append("asked")
        if self.hung or not self.running:
            raise NodeNeverReady(f"{self.name} is not ready")


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    set_patience(0.01)
    yield
    set_patience(1.0)


@pytest.fixture
def written() -> list[FaultWindow]:
    return []


@pytest.fixture
def cluster(written: list[FaultWindow]) -> Cluster:
    setup: Any = SimpleNamespace(balancer=SimpleNamespace(resolve="always"))
    return Cluster(setup, SimpleNamespace(replicated=None), recorder=written.append)  # type: ignore[arg-type]


def on(node: Fake) -> Instance:
    return Instance(
        name="app-1",
        node=node,  # type: ignore[arg-type]
        host="127.0.0.1",
        port=1,
        spec=node.spec,
        next_spec=replace(node.spec),
    )


def test_a_fault_is_between_two_states_of_health(cluster: Cluster, written: list[FaultWindow]) -> None:
    """The node is asked before it is broken and after it was healed; the window has all times in order, and the proof."""
    node, moves = Asked(), []
    cluster.moved = lambda: moves.append("moved")
    with cluster.inject(Hang(), on=on(node)):
        assert (node.done, written) == (["asked", "hang"], [])
    assert node.done == ["asked", "hang", "resume", "asked"]
    (window,) = written
    assert (window.fault, window.node, window.proof) == ("hang", "app-1", "every thread of the process is stopped")
    assert window.effective is not None
    assert window.healed is not None
    assert window.injected <= window.effective <= window.healing <= window.healed
    assert (cluster.tampered, moves) == (True, ["moved"])


def test_a_fault_that_did_not_take_is_written_down_as_that(cluster: Cluster, written: list[FaultWindow]) -> None:
    """No effect, no proof: whoever judges it finds that nothing was tested. What was to happen meanwhile does not."""
    with pytest.raises(WaitTimeout), cluster.inject(Hang(), on=on(Asked(stubborn=True))):
        raise AssertionError("the body must not run")
    (window,) = written
    assert (window.effective, window.healed, window.proof) == (None, None, "")


def test_a_node_that_was_ill_before_is_not_broken(cluster: Cluster, written: list[FaultWindow]) -> None:
    """What is found afterwards would be said of the fault."""
    node = Asked()
    node.running = False
    with pytest.raises(NodeNeverReady), cluster.inject(Hang(), on=on(node)):
        raise AssertionError("the body must not run")
    assert (node.done, written) == (["asked"], [])


def test_a_node_that_does_not_come_back_is_written_down_as_that(cluster: Cluster, written: list[FaultWindow]) -> None:
    """A window without an end: a checker says so, and nothing that follows is taken for the time after it."""
    node = Asked()

    class NotHealed(Hang):
        @contextmanager
        def applied_to(self, node: Any) -> Iterator[str]:
            node.hang()
            yield "frozen"

    with pytest.raises(NodeNeverReady), cluster.inject(NotHealed(), on=on(node)):
        pass
    (window,) = written
    assert window.effective is not None
    assert window.healed is None


def test_a_fault_is_written_down_also_when_the_scenario_raises(cluster: Cluster, written: list[FaultWindow]) -> None:
    """And the node is healed, and asked whether it is."""
    node = Asked()
    with pytest.raises(BodyError), cluster.inject(Hang(), on=on(node)):
        raise BodyError
    assert node.done[:3] == ["asked", "hang", "resume"]
    (window,) = written
    assert window.effective is not None


class Balancer:
    """Does what it is told, and remembers it."""

    def __init__(self, *, broken: bool = False) -> None:
        self.told: list[str] = []
        self._broken = broken

    def reload(self, node: Any) -> str:
        self.told.append(f"reload {node.name}")
        if self._broken:
            raise NodeError("it does not obey")
        return "2 new workers serve in place of 2"

    def drain(self, name: str, node: Any) -> Drained:
        self.told.append(f"drain {name}")
        return Drained(old_workers_gone=True, seconds=0.1)

    def enable(self, name: str, node: Any) -> None:
        self.told.append(f"enable {name}")


def behind(balancer: Balancer, written: list[Any]) -> Cluster:
    layout = SimpleNamespace(replicated=None, balancer=balancer, balancer_node=SimpleNamespace(name="nginx"))
    return Cluster(SimpleNamespace(), layout, recorder=written.append)  # type: ignore[arg-type]


def test_a_reload_is_a_window_with_its_proof(written: list[FaultWindow]) -> None:
    """It takes effect when new processes serve, and there is nothing to heal."""
    cluster = behind(Balancer(), written)
    cluster.reload_balancer()
    (window,) = written
    assert (window.fault, window.node, window.proof) == ("reload", "nginx", "2 new workers serve in place of 2")
    assert window.effective is not None
    assert window.injected <= window.effective == window.healed <= window.healing
    assert cluster.tampered


def test_a_reload_that_is_refused_had_no_effect(written: list[FaultWindow]) -> None:
    """It is in the record all the same: whoever judges it finds that nothing was tested."""
    with pytest.raises(NodeError):
        behind(Balancer(broken=True), written).reload_balancer()
    (window,) = written
    assert (window.effective, window.healed, window.proof) == (None, None, "")


def test_whoever_is_taken_out_is_put_back() -> None:
    """Also when the scenario raises; each step is written down in its order."""
    steps: list[Any] = []
    balancer = Balancer()
    cluster = behind(balancer, steps)
    with pytest.raises(BodyError), cluster.taken_out(on(Asked())):
        raise BodyError
    assert balancer.told == ["drain app-1", "enable app-1"]
    assert [(step.step, step.node) for step in steps] == [
        ("drain", "app-1"),
        ("drained", "app-1"),
        ("enable", "app-1"),
        ("enabled", "app-1"),
    ]
    assert cluster.tampered
