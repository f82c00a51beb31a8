"""Waits return at once when something is so, say what they waited for when it is not, and scale by one factor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import clock, waiting
from harness.errors import WaitTimeout
from harness.waiting import patience, set_patience, wait_until


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.naps: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.seconds += seconds


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(clock, "now", fake.now)
    monkeypatch.setattr(clock, "sleep", fake.sleep)
    # tenacity stamps its attempts with the monotonic clock itself.
    monkeypatch.setattr("time.monotonic", fake.now)
    return fake


@pytest.fixture(autouse=True)
def _usual_patience() -> Iterator[None]:
    yield
    set_patience(1.0)


def test_what_is_so_already_is_not_waited_for(fake_time: FakeTime) -> None:
    """The condition is asked before any pause."""
    wait_until(lambda: True, within_seconds=0, because="it is so")
    assert fake_time.naps == []


def test_it_is_asked_every_few_milliseconds_until_it_is_so(fake_time: FakeTime) -> None:
    """A node that becomes ready is noticed within one interval."""
    wait_until(lambda: fake_time.seconds >= 1000.02, within_seconds=5, because="ready", every_seconds=0.005)
    assert fake_time.seconds == pytest.approx(1000.02, abs=0.0051)


def test_a_timeout_says_what_should_have_been_so(fake_time: FakeTime) -> None:
    """The message is the reason, the bound, and what was seen last if that says more than no."""
    with pytest.raises(WaitTimeout, match=r"^app-1 should be gone: still not so after 2\.0 s$"):
        wait_until(lambda: False, within_seconds=2, because="app-1 should be gone")
    with pytest.raises(WaitTimeout, match=r"no workers: still not so after 2\.0 s; last seen: \[\]$"):
        wait_until(list, within_seconds=2, because="no workers")


def test_the_last_look_is_at_the_bound_and_not_after_it(fake_time: FakeTime) -> None:
    """An interval longer than what is left is cut to it."""
    with pytest.raises(WaitTimeout):
        wait_until(lambda: False, within_seconds=1, because="never", every_seconds=0.7)
    assert fake_time.naps == pytest.approx([0.7, 0.3])


def test_patience_scales_every_wait(fake_time: FakeTime) -> None:
    """One factor for slow machines."""
    set_patience(3)
    assert patience() == 3
    with pytest.raises(WaitTimeout, match=r"after 6\.0 s"):
        wait_until(lambda: False, within_seconds=2, because="never", every_seconds=0.5)
    assert fake_time.seconds == pytest.approx(1006)


@pytest.mark.parametrize("factor", [0, -1, float("inf"), float("nan")])
def test_an_impossible_patience_is_refused(factor: float) -> None:
    """Zero would turn every wait into a failure."""
    with pytest.raises(ValueError, match="above 0"):
        set_patience(factor)


def test_what_a_condition_raises_is_passed_on(fake_time: FakeTime) -> None:
    """A broken condition is a bug to see, not a reason to try again."""
    asked = []

    def broken() -> bool:
        asked.append(1)
        raise KeyError("port")

    with pytest.raises(KeyError, match="port"):
        wait_until(broken, within_seconds=5, because="never")
    assert asked == [1]


def test_the_module_names_what_it_offers() -> None:
    """The curated names exist."""
    assert all(hasattr(waiting, name) for name in waiting.__all__)
