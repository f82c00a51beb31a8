"""What a cluster does around a fault: healthy before, written down whatever comes of it, and ready again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.errors import HarnessError, NodeError, NodeNeverReady, WaitTimeout
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


# -- rollouts of a whole set, and of one instance --------------------------------------------------------------------


class Switched:
    """A balancer that remembers whom it was switched to, and for how long it was to wait."""

    def __init__(self) -> None:
        self.done: list[tuple[tuple[str, ...], bool]] = []

    def switch(self, names: Any, node: Any, *, checked: bool, within_seconds: float) -> Any:
        self.done.append((tuple(names), within_seconds > 0))
        return SimpleNamespace(old_workers_gone=True)


def named(name: str, *, runs: bool) -> Instance:
    node = Fake()
    node.running = runs
    return replace(on(node), name=name)


@pytest.fixture
def sides(written: list[Any]) -> Cluster:
    """Two instances that run, and two that stand by; the second one is outside the pool."""
    blue = tuple(named(name, runs=True) for name in ("app-1", "app-2"))
    green = tuple(named(f"{each.name}-green", runs=False) for each in blue)
    layout = SimpleNamespace(
        replicated=None,
        instances=blue,
        standby=green,
        next_migration=None,
        balancer=Switched(),
        balancer_node=None,
        whos=dict,
    )
    rollout = SimpleNamespace(kind="blue-green", drain="balancer-first", gate="ready", env={"APP_VERSION": "2"})
    setup = SimpleNamespace(rollout=rollout, app=SimpleNamespace(env={"APP_VERSION": "1"}), pool=("app-1",))
    return Cluster(setup, layout, recorder=written.append)  # type: ignore[arg-type]


def done_with(cluster: Cluster) -> dict[str, list[str]]:
    return {each.name: each.node.done for each in (*cluster.instances, *cluster.layout.standby)}  # type: ignore[attr-defined]


def test_a_switch_leaves_the_old_set_where_it_is(sides: Cluster, written: list[Any]) -> None:
    """The new set is started and ready, then the balancer is switched, waits, and nobody of the old set is touched."""
    sides.roll_out()
    assert done_with(sides) == {"app-1": [], "app-2": [], "app-1-green": ["start"], "app-2-green": ["start"]}
    assert sides.layout.balancer.done == [(("app-1-green",), True)]  # type: ignore[attr-defined]
    steps = [(step.step, step.node, step.version or step.detail) for step in written]
    assert steps[0] == ("begin", "", "blue-green, drained")
    assert ("ready", "app-1-green", "2") in steps
    assert steps.index(("switch", "", "green")) > steps.index(("ready", "app-2-green", "2"))
    assert steps[-1][0] == "end"
    assert sides.tampered


def test_the_way_back_is_a_switch_and_ends_the_new_set(sides: Cluster, written: list[Any]) -> None:
    """The old set was there all the time."""
    sides.roll_out()
    written.clear()
    sides.take_back()
    assert done_with(sides)["app-1"] == []
    assert done_with(sides)["app-1-green"] == ["start", "stop"]
    assert sides.layout.balancer.done[-1] == (("app-1",), True)  # type: ignore[attr-defined]
    assert (written[0].step, written[0].detail) == ("begin", "blue-green, drained, back")


def test_a_set_that_is_removed_at_once_is_killed(sides: Cluster) -> None:
    """And started again for the way back."""
    sides.setup.rollout.drain = "none"  # type: ignore[misc]
    sides.roll_out()
    assert done_with(sides)["app-1"] == ["kill"]
    assert sides.layout.balancer.done == [(("app-1-green",), False)]  # type: ignore[attr-defined]
    sides.take_back()
    assert done_with(sides)["app-1"] == ["kill", "start"]
    assert done_with(sides)["app-1-green"] == ["start", "kill"]


def test_only_a_switch_can_be_taken_back(sides: Cluster) -> None:
    """One instance after the other has no other set to go back to."""
    sides.setup.rollout.kind = "rolling"  # type: ignore[misc]
    with pytest.raises(HarnessError, match="only a rollout that switches"):
        sides.take_back()


def test_one_instance_runs_the_new_version_for_a_while(sides: Cluster, written: list[Any]) -> None:
    """And is taken back to the old one, whatever happens meanwhile."""

    def given_up() -> None:
        with sides.new_version_on(sides.instances[0]):
            assert done_with(sides)["app-1"] == ["stop", "start"]
            raise BodyError

    with pytest.raises(BodyError):
        given_up()
    assert done_with(sides)["app-1"] == ["stop", "start", "stop", "start"]
    assert done_with(sides)["app-2"] == []
    assert [(step.step, step.version) for step in written if step.step == "start"] == [("start", "2"), ("start", "old")]


def waiting(monkeypatch: pytest.MonkeyPatch, *tries: list[float | None]) -> Cluster:
    """A cluster whose instance lets slow requests wait so long, try by try."""
    waits = iter([wait for each in tries for wait in each])
    monkeypatch.setattr("harness.cluster._waited", lambda *_: next(waits))
    setup: Any = SimpleNamespace(
        app=SimpleNamespace(slow="/slow?seconds={seconds}"), remote=None, traffic=SimpleNamespace(headers={})
    )
    layout: Any = SimpleNamespace(replicated=None, instances=(on(Asked()),))
    return Cluster(setup, layout)


@pytest.mark.parametrize(
    ("tries", "at_once"),
    [
        ([[0.26] * 8 + [0.51] * 8 + [0.76] * 4] * 2, 8),
        ([[0.26] * 7 + [0.51] * 13, [0.26] * 8 + [0.51] * 12], 8),
        ([[0.26] * 20], None),
        ([[0.01] * 20], None),
        ([[0.26] * 19 + [0.6], [0.26] * 20], None),
        ([[0.26] * 2 + [None] * 18] * 2, 2),
        ([[None] * 20] * 2, None),
    ],
    ids=["threads", "the better try counts", "enough", "not slow", "a late one", "most get nothing", "no answer"],
)
def test_how_much_an_instance_works_on_at_once_is_tried(
    monkeypatch: pytest.MonkeyPatch, tries: list[list[float | None]], at_once: int | None
) -> None:
    """Who waits for the end of another's request was not worked on; and it is asked once in a run, whatever came of it."""
    cluster = waiting(monkeypatch, *tries)
    assert [cluster.works_on_at_once(), cluster.works_on_at_once()] == [at_once, at_once]


def test_who_sets_a_limit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty at once are more than the owner of a site allows."""
    cluster = waiting(monkeypatch)
    cluster.setup.remote = SimpleNamespace(most_per_second=50.0)  # type: ignore[assignment]
    assert cluster.works_on_at_once() is None


def test_what_has_no_slow_path_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked, and nothing is known."""
    cluster = waiting(monkeypatch)
    cluster.setup.app.slow = None
    assert cluster.works_on_at_once() is None
