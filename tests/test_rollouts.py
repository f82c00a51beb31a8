"""A rollout does what a deploy script does: these steps, in this order, whatever the place it happens in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import get_args

import pytest

from harness.errors import NodeNeverReady
from harness.rollouts import AllAtOnce, BlueGreen, Rolling, Rollout, Side, rollout_for
from harness.rollouts.rollouts import Drain, Gate
from harness.setup import Setup

NAMES = ("app-1", "app-2", "app-3")


class Place:
    """Remembers which verbs were called. Some must meet: they return when all instances are at it."""

    def __init__(self, *, names: Sequence[str] = NAMES, broken: str = "", meet: bool = False) -> None:
        self._names = names
        self._broken = broken
        self._meet = threading.Barrier(len(names)) if meet else None
        self.done: list[str] = []

    def names(self) -> Sequence[str]:
        return self._names

    def _do(self, verb: str, name: str) -> None:
        self.done.append(f"{verb} {name}")
        if self._meet is not None:
            self._meet.wait(timeout=5)

    def drain(self, name: str) -> None:
        self._do("drain", name)

    def tell_to_stop(self, name: str) -> None:
        self._do("tell", name)

    def wait_unready(self, name: str) -> None:
        self._do("unready", name)

    def stop(self, name: str) -> None:
        self._do("stop", name)

    def start_new(self, name: str) -> None:
        self._do("start", name)
        if name == self._broken:
            raise NodeNeverReady(f"{name} never became ready")

    def replace(self, name: str) -> None:
        self.stop(name)
        self._do("start", name)

    def wait_ready(self, name: str) -> None:
        self.done.append(f"ready {name}")
        if name == self._broken:
            raise NodeNeverReady(f"{name} never became ready")

    def pause(self, name: str, seconds: float) -> None:
        self.done.append(f"pause {name} {seconds:g}")

    def enable(self, name: str) -> None:
        self._do("enable", name)


@pytest.mark.parametrize(
    ("drain", "verbs"),
    [
        ("balancer-first", ["drain", "stop", "start", "ready", "enable"]),
        ("on-unready", ["tell", "unready", "drain", "stop", "start", "ready", "enable"]),
        ("none", ["stop", "start", "ready"]),
    ],
)
def test_one_instance_after_the_other(drain: Drain, verbs: list[str]) -> None:
    """Each instance goes through all its steps, the next one only after that; who is told first is what drains differ in."""
    place = Place()
    rollout_for("rolling", drain).carry_out(place)
    steps = [f"{verb} {name}" for name in NAMES for verb in verbs]
    assert place.done == [*steps, *(f"ready {name}" for name in NAMES)]


def test_a_script_with_a_sleep() -> None:
    """As in the founding guide: nobody asks whether the last instance is ready, and the next comes after a pause."""
    place = Place()
    rollout_for("rolling", "none", gate="none", pause_seconds=10).carry_out(place)
    between = ["stop app-1", "start app-1", "pause app-1 10", "stop app-2", "start app-2", "pause app-2 10"]
    assert place.done == [*between, "stop app-3", "start app-3", *(f"ready {name}" for name in NAMES)]


def test_a_pause_comes_after_the_gate() -> None:
    """Ready first, then the pause; none after the last."""
    place = Place(names=("app-1", "app-2"))
    rollout_for("rolling", "none", pause_seconds=2.5).carry_out(place)
    assert [step for step in place.done if step[:5] in ("ready", "pause")] == [
        *["ready app-1", "pause app-1 2.5", "ready app-2"],
        *["ready app-1", "ready app-2"],
    ]


def test_all_at_once_stops_all_before_it_starts_any() -> None:
    """All instances are stopped at the same time, then all are started at the same time; nobody tells the balancer."""
    place = Place(meet=True)
    rollout_for("all-at-once", "balancer-first").carry_out(place)
    assert sorted(place.done[:3]) == [f"stop {name}" for name in NAMES]
    assert sorted(place.done[3:]) == [f"start {name}" for name in NAMES]


@pytest.mark.parametrize("drain", get_args(Drain))
def test_a_rollout_ends_with_the_first_new_instance_that_fails(drain: Drain) -> None:
    """The others keep the old version, and what never became ready is never given traffic."""
    place = Place(broken="app-2")
    with pytest.raises(NodeNeverReady, match="app-2"):
        Rolling(drain).carry_out(place)
    assert place.done[-1] == "ready app-2"
    assert not [step for step in place.done if "app-3" in step]


def test_an_instance_that_fails_all_at_once_is_told() -> None:
    """Nothing is swallowed because it happened beside others."""
    with pytest.raises(NodeNeverReady, match="app-3"):
        AllAtOnce().carry_out(Place(broken="app-3"))


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        (Rolling(), "rolling, drained balancer-first"),
        (Rolling("on-unready"), "rolling, drained on-unready"),
        (Rolling("none"), "rolling, not drained"),
        (Rolling("none", "none", 10), "rolling, not drained, not gated, 10 s between two"),
        (AllAtOnce(), "all at once"),
    ],
)
def test_a_rollout_says_what_it_is(rollout: Rollout, words: str) -> None:
    """These are the words at its begin in the history."""
    assert str(rollout) == words


class TwoSides:
    """Remembers which verbs were called."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self, side: Side) -> None:
        self.done.append(f"start {side}")

    def wait_ready(self, side: Side) -> None:
        self.done.append(f"ready {side}")

    def switch(self, side: Side, *, checked: bool, drain: bool) -> None:
        self.done.append(f"{'' if checked else 'blindly '}switch {side}{' and drain' if drain else ''}")

    def stop(self, side: Side) -> None:
        self.done.append(f"stop {side}")

    def remove(self, side: Side) -> None:
        self.done.append(f"remove {side}")


@pytest.mark.parametrize(
    ("rollout", "there", "back", "words"),
    [
        (
            BlueGreen(),
            ["start green", "ready green", "switch green and drain", "ready green"],
            ["start blue", "ready blue", "switch blue and drain", "ready blue", "stop green"],
            "blue-green, drained",
        ),
        (
            BlueGreen(gate="none"),
            ["start green", "blindly switch green and drain", "ready green"],
            ["start blue", "blindly switch blue and drain", "ready blue", "stop green"],
            "blue-green, drained, not gated",
        ),
        (
            BlueGreen(drain="none"),
            ["start green", "ready green", "switch green", "remove blue", "ready green"],
            ["start blue", "ready blue", "switch blue", "remove green", "ready blue"],
            "blue-green, removed at once",
        ),
    ],
)
def test_a_switch_there_and_back(rollout: BlueGreen, there: list[str], back: list[str], words: str) -> None:
    """The set that was left stays for the way back, unless it was removed with the switch."""
    sides = TwoSides()
    rollout.carry_out(sides)
    assert sides.done == there
    sides.done.clear()
    rollout.take_back(sides)
    assert sides.done == back
    assert str(rollout) == words


def test_two_at_a_time() -> None:
    """Each of them goes through all its steps; the next two come when both are done."""
    place = Place(names=("app-1", "app-2", "app-3"))
    rollout_for("rolling", "none", batch=2).carry_out(place)
    first = place.done[:6]
    assert sorted(first) == sorted(
        f"{verb} {name}" for name in ("app-1", "app-2") for verb in ("stop", "start", "ready")
    )
    assert place.done[6:9] == ["stop app-3", "start app-3", "ready app-3"]
    assert str(Rolling(batch=2)) == "rolling, 2 at a time, drained balancer-first"


def test_the_setup_file_offers_every_rollout_and_no_other() -> None:
    """What can be written in `[rollout]` is what there is here."""
    field = type(Setup.model_fields["rollout"].get_default(call_default_factory=True)).model_fields
    assert set(get_args(field["drain"].annotation)) == set(get_args(Drain))
    assert set(get_args(field["gate"].annotation)) == set(get_args(Gate))
    assert set(get_args(field["kind"].annotation)) == {"rolling", "all-at-once", "blue-green"}
