"""The one clock of everything that is judged: it goes forward whatever the wall clock does, and is the same for all processes."""

from __future__ import annotations

import time

import pytest

from harness import clock


def test_it_is_the_machine_s_monotonic_clock() -> None:
    """The same reading as any other process of this machine gets: times of the traffic process and of faults compare."""
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    now = clock.now()
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert before <= now <= after


def test_a_step_of_the_wall_clock_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP sets the date an hour back in the middle of a run: no request was answered before it was sent."""
    real = time.time
    sent = clock.now()
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    answered = clock.now()
    monkeypatch.undo()
    assert 0 <= answered - sent < 3600
