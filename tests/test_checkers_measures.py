"""What is counted and measured, on histories small enough to count by hand."""

from __future__ import annotations

from random import Random

import pytest

from harness.checkers.evidence import done_to, example, listed, milliseconds, plural, rounded
from harness.checkers.measures import (
    InFlight,
    ended,
    error_classes,
    first_choice,
    gap_within,
    is_late,
    is_write,
    may_have_tried,
    mean_in_flight,
    percentile,
    probe_interval,
    time_to_recover,
    touching,
    was_in_flight,
)
from harness.model import UNNAMED, Answer, Operation, Outcome
from tests.checker_histories import APPS, failed, fault, history, op, pace, traffic, whoami


@pytest.mark.parametrize("silence", [0.2, 0.5, 2.0])
@pytest.mark.parametrize("held", [True, False], ids=["answered late", "never answered"])
def test_a_silence_is_measured_to_within_one_probe(silence: float, held: bool) -> None:
    """A server silent for exactly so long: the gap is within one probe interval of the truth, at any phase."""
    for phase in (0.0, 0.003, 0.0099):
        begin = 3.0 + phase
        made = []
        for probe in traffic(0, 8, rate=100):
            if not begin <= probe.due < begin + silence:
                made.append(probe)
            elif held:
                made.append(op(probe.due, answered=begin + silence + 0.01))
            else:
                made.append(failed(probe.due, error="timeout"))
        gap = gap_within(made, begin=1.0, end=7.0, interval_seconds=0.01)
        assert gap.seconds == pytest.approx(silence, abs=0.01)
        assert gap.begin == pytest.approx(begin, abs=0.025)


def test_a_gap_is_cut_at_the_window() -> None:
    """A setup that never answers again has a gap to the end of the window, and no longer."""
    made = [*traffic(0, 2), *(failed(2 + i / 100) for i in range(600))]
    assert gap_within(made, begin=1.0, end=4.0, interval_seconds=0.01).seconds == pytest.approx(2.0, abs=0.02)


def test_a_pause_of_the_traffic_is_no_gap() -> None:
    """Where nobody asked nobody can tell whether there would have been an answer."""
    made = [*traffic(0, 2), *traffic(4, 6)]
    assert gap_within(made, begin=1.0, end=9.0, interval_seconds=0.01).seconds < 0.02
    assert gap_within([], begin=1.0, end=9.0, interval_seconds=0.01).seconds == 0.0
    assert gap_within(made, begin=5.0, end=5.0, interval_seconds=0.01).seconds == 0.0
    assert gap_within(made, begin=1.0, end=9.0, interval_seconds=0.0).seconds < 0.02


def test_small_gaps_are_told() -> None:
    """One request lost at 100 per second: ten milliseconds more than usual, and said so."""
    made = [failed(o.due) if o.due == 1.0 else o for o in traffic(0, 2)]
    assert gap_within(made, begin=0.5, end=1.5, interval_seconds=0.01).seconds == pytest.approx(0.01)


def test_being_logged_out_is_an_answer() -> None:
    """Availability and sessions are judged apart."""
    made = [whoami("v", i / 100, answer=Answer.LOGGED_OUT) for i in range(200)]
    assert gap_within(made, begin=0.0, end=2.0, interval_seconds=0.01).seconds < 0.02


def test_probe_interval_is_that_of_the_densest_stream_concerned() -> None:
    """A stream that is not looked at does not make the eyes sharper."""
    record = history(
        traffic(0, 1),
        paces=[
            pace("browse", rate=50, begin=0, end=1, planned=50),
            pace("slow", rate=8, begin=0, end=1, planned=8),
            pace("other", rate=500, begin=0, end=1, planned=500),
        ],
    )
    assert probe_interval(record, record.operations) == pytest.approx(0.02)
    assert probe_interval(record, []) == 0.0


def test_percentiles_are_nearest_rank() -> None:
    """The smallest value that at least so many do not exceed; None where there is nothing."""
    values = [5, 1, 4, 2, 3]
    assert [percentile(values, share) for share in (0.0, 0.2, 0.5, 0.99, 1.0)] == [1, 1, 3, 5, 5]
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("method", "write"),
    [("GET", False), ("HEAD", False), ("PUT", False), ("DELETE", False), ("POST", True), ("patch", True)],
)
def test_writes_are_what_nobody_may_send_twice(method: str, write: bool) -> None:
    """PUT and DELETE are idempotent (RFC 9110): a balancer may try them again."""
    assert is_write(op(method=method)) is write


def test_late_is_sent_late_or_not_at_all() -> None:
    """A refused connection was never sent either, but that is the setup's doing."""
    assert not is_late(op(1.0, sent=1.2), after_seconds=0.25)
    assert is_late(op(1.0, sent=1.3), after_seconds=0.25)
    assert is_late(failed(1.0, error="unsent", sent=None), after_seconds=0.25)
    assert not is_late(failed(1.0, error="refused", sent=None), after_seconds=0.25)


def test_what_was_in_flight_at_a_fault_counts_with_it() -> None:
    """By its end where that is known; a timeout lasted as long as timeouts do; other failures a second."""
    old, under_way = op(0.2, latency=0.3), op(0.9, latency=0.3)
    timed_out = failed(-3.0, error="timeout", sent=-3.0)
    reset, old_reset = failed(0.5, error="reset"), failed(-0.5, error="reset")
    due_later = op(2.5)
    everything = [old, under_way, timed_out, reset, old_reset, due_later]
    assert touching(everything, start=1.0, end=2.0, timeout_seconds=5.0) == [under_way, timed_out, reset]
    assert ended(timed_out, timeout_seconds=5.0) == 2.0


def test_in_flight_is_from_sent_to_answered() -> None:
    """What has no answer counts as unfinished; what was not sent is nowhere."""
    assert was_in_flight(op(1.0, latency=1.0), at=1.5)
    assert not was_in_flight(op(1.0, latency=1.0), at=2.5)
    assert not was_in_flight(op(2.0), at=1.5)
    assert was_in_flight(failed(1.0, error="reset"), at=1.5)
    assert not was_in_flight(failed(1.0, error="unsent", sent=None), at=1.5)


def test_mean_in_flight_is_the_sum_of_overlaps() -> None:
    """Two requests of one second in a window of two: one on average. Borders cut."""
    made = [op(0.0, latency=1.0), op(0.5, latency=1.0), op(-5.0, latency=1.0)]
    assert mean_in_flight(made, start=0.0, end=2.0) == pytest.approx(1.0)
    assert mean_in_flight(made, start=1.0, end=1.0) == 0.0


def test_in_flight_bounds_bracket_the_truth() -> None:
    """What begins or ends within sight of the moment is left out of one count and taken into the other."""
    made = [
        op(0.0, latency=2.0),
        op(0.998, latency=1.0),
        op(1.0, latency=1.0),
        op(0.0, latency=1.002),
        op(0.0, latency=2.0, instance="app-2"),
    ]
    seen = InFlight(made, instances=("app-1", "app-2", "app-3"), sight_seconds=0.005)
    assert seen.surely("app-1", 1.0) == 1
    assert seen.now("app-1", 1.0) == 3
    assert seen.possibly("app-1", 1.0) == 4
    assert (seen.surely("app-2", 1.0), seen.possibly("app-3", 1.0)) == (1, 0)


def test_recovery_is_the_first_of_many_successes() -> None:
    """Not the first lucky one; and not seen unless enough follow."""
    made = [failed(1.0), op(1.1), failed(1.2), *(op(1.3 + i / 10) for i in range(10))]
    assert time_to_recover(made, since=1.0, successes=10) == pytest.approx(0.308)
    assert time_to_recover(made, since=1.0, successes=11) is None
    assert time_to_recover(made[3:], since=1.0, successes=10) == 0.0


def test_small_words() -> None:
    """Units, plurals and lists as people write them; infinity is nothing that JSON can say."""
    assert (milliseconds(0.0124), milliseconds(1.25)) == ("12 ms", "1.2 s")
    assert (plural(1, "request"), plural(1204, "request"), plural(2, "person")) == (
        "1 request",
        "1,204 requests",
        "2 people",
    )
    assert (listed([]), listed(["a"]), listed("abc")) == ("none", "a", "a, b and c")
    assert (rounded(1.23456), rounded(float("inf")), rounded(None)) == (1.2346, None, None)
    assert done_to(fault("kill-sigkill")) == "app-1 was killed"
    assert done_to(fault("flood")) == "the fault flood on app-1"


def test_examples_and_classes_tell_what_failed() -> None:
    """One request as a small dict, times against the fault; classes by how often."""
    bad = failed(3.0, error="http-502", detail="no live upstreams")
    shown = example(bad, since=2.5)
    assert (shown["due_seconds"], shown["error"], shown["attempts"]) == (0.5, "http-502", ["app-1"])
    nameless = op(outcome=Outcome.FAILED, answer=Answer.REFUSED, error=None)
    assert error_classes([bad, nameless, bad]) == {"http-502": 2, "refused": 1}
    assert first_choice(bad) == "app-1"
    assert first_choice(op(attempts=(), instance="app-2")) == "app-2"
    assert first_choice(op(attempts=(UNNAMED, "app-2"), instance="app-2")) is None


@pytest.mark.parametrize(
    ("operation", "may"),
    [
        (op(attempts=("app-1", "app-2")), True),
        (op(attempts=("app-2",), instance="app-2"), False),
        (op(attempts=(UNNAMED, "app-2"), instance="app-2"), True),
        (op(attempts=(), instance="app-2"), False),
        (failed(attempts=()), True),
        (failed(attempts=(), error="unsent"), False),
    ],
)
def test_where_a_request_may_have_been(operation: Operation, may: bool) -> None:
    """At whoever is named; and where nobody says, only what could not be saved or was saved by a second try."""
    assert may_have_tried(operation, "app-1") is may


def test_what_is_in_flight_at_many_moments_is_what_it_is_at_each() -> None:
    """The short way gives what asking instance by instance and moment by moment gives."""
    random = Random(7)
    made = [op(random.random(), instance=random.choice(APPS), latency=random.random() / 20) for _ in range(300)]
    held = InFlight(made, instances=APPS, sight_seconds=0.004)
    moments = [random.random() for _ in range(200)] + [each.due for each in made]
    assert held.in_all(moments) == [sum(held.now(name, at) for name in APPS) for at in moments]
    for at, (surely, possibly) in zip(moments, held.seen(moments), strict=True):
        assert [max(0, count) for count in surely] == [held.surely(name, at) for name in APPS]
        assert list(possibly) == [held.possibly(name, at) for name in APPS]
