"""Rules about an instance that is told to stop: why it does not, why nobody knows, or what it keeps.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Must not: call one instance's end
another one's, but where both were told to stop at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "connections_ended_silently",
    "finish_time_too_short",
    "killed_before_longest",
    "listener_closed_with_signal",
    "ready_while_stopping",
    "signal_ignored",
    "stop_ends_badly",
    "stream_never_ended",
]

_DO_9 = "Best Practices: DO 9"
_DEPLOY = "Deployment Strategies: Zero-Downtime Deployment"
_QUICK = 0.5
"""Of its patience: who had ended after that had not used it up."""


def signal_ignored(case: Case) -> Cause | None:
    """An instance had to be killed, although nothing kept it: it went on as if it had not been told."""
    drain = case.evidence("DrainsInOrder")
    told: Mapping[str, Any] = case.evidence("EndsOnItsSignal") or (drain if drain.get("broken") else {})
    without = told or case.evidence("StreamsAreEnded").get("without_streams", {})
    if not without.get("killed"):
        return None
    evidence = [
        f"{without['victim']} was sent {without['signal']} and had to be killed {without['stop_seconds'] or 0.0:.1f} s later",
        f"its exit code was {without['exit_code']}",
    ]
    against = []
    if answered := case.evidence("EndsOnItsSignal").get("answered_after"):
        evidence.append(f"it went on answering: {answered} times after it was told to stop")
    unready = next(
        (n for seen in case.elsewhere("DrainsInOrder") if (n := seen.get("unready_times")) is not None), None
    )
    if unready:
        against.append(f"it said {unready} times that it is not ready: it has heard the signal, and hangs")
    elif unready == 0:
        evidence.append("it never said that it is not ready")
    return Cause(
        id="signal-ignored",
        sentence=f"the stop signal does not reach the application, or the application ignores {without['signal']}",
        confidence=Confidence.LIKELY if against else Confidence.CERTAIN,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy='have app.command start the application itself, with no shell before it (in an image: CMD ["server"], not CMD '
        "server; `exec server` at the end of a script; or an init such as tini), and handle app.stop_signal there",
        guide=_DO_9,
    )


def stop_ends_badly(case: Case) -> Cause | None:
    """It ended by itself and in time, with a code that says that something went wrong."""
    seen = case.evidence("EndsOnItsSignal")
    code = seen.get("exit_code")
    if not seen or seen["killed"] or code is None or code in seen["accepted"]:
        return None
    by_signal = f", by signal {code - 128}" if code > 128 else ""
    return Cause(
        id="stop-ends-badly",
        sentence="the application ends with an error when it is told to stop",
        confidence=Confidence.LIKELY,
        evidence=(
            f"{seen['victim']} ended {seen['stop_seconds']:.1f} s after {seen['signal']} with exit code {code}{by_signal}",
            f"well would be {listed(map(str, seen['accepted']))}",
        ),
        remedy="exit with 0 when everything was finished; where this code means that, name it in app.stop_exit_codes",
        guide=_DO_9,
    )


def ready_while_stopping(case: Case) -> Cause | None:
    """The instance heard the signal, ended, and said ready until its last moment."""
    seen = case.evidence("DrainsInOrder")
    if "still-ready" not in seen.get("broken", ()) or seen.get("killed"):
        return None
    evidence = [f"{seen['victim']} said {seen['ready_after']} times that it is ready after it was told to stop"]
    if seen.get("gone_seconds") is not None:
        evidence.append(f"{seen['gone_seconds'] * 1000:.0f} ms after the order it refused the first connection")
    return Cause(
        id="ready-while-stopping",
        sentence="the ready path goes on saying yes while the instance stops",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="let app.ready answer 503 from the moment app.stop_signal arrives, and close the listener some time after that",
        guide=_DEPLOY,
    )


def listener_closed_with_signal(case: Case) -> Cause | None:
    """Whoever asked was refused before anybody could have heard that the instance goes."""
    seen = case.evidence("DrainsInOrder")
    if "refused-early" not in seen.get("broken", ()) or seen.get("killed"):
        return None
    # Whoever exits at once closes everything, not only the listener.
    exits = any(
        other.get("cut") and other.get("victim") == seen["victim"] for other in case.elsewhere("InFlightFinishes")
    )
    gone = seen.get("gone_seconds")
    evidence = [
        f"{seen['victim']} said {seen['unready_times']} times that it is not ready before it refused connections"
    ]
    if gone is not None:
        evidence.append(f"the first was refused {gone * 1000:.0f} ms after the order ({seen['first_error']})")
    return Cause(
        id="listener-closed-with-signal",
        sentence="an instance refuses connections as soon as it is told to stop",
        confidence=Confidence.POSSIBLE if exits else Confidence.CERTAIN,
        evidence=tuple(evidence),
        against=("it cut what was in flight as well",) if exits else (),
        remedy="on app.stop_signal turn app.ready off first and go on accepting until the balancer has noticed; or see to it that the "
        'balancer knows before (rollout.drain = "balancer-first", a preStop hook that waits), and waive this promise',
        guide=_DEPLOY,
    )


def connections_ended_silently(case: Case) -> Cause | None:
    """Kept connections were ended, and no answer on them had said so."""
    seen = case.evidence("DrainsInOrder")
    kept = seen.get("kept", {})
    if "not-told" not in seen.get("broken", ()) or seen.get("killed"):
        return None
    return Cause(
        id="connections-ended-silently",
        sentence="an instance that stops ends kept connections without Connection: close",
        confidence=Confidence.CERTAIN if not kept["told"] else Confidence.LIKELY,
        evidence=(
            f"{kept['not_told']} of {kept['judged']} kept connections to {seen['victim']} were ended without a word",
            "the request that came next on each of them was not answered",
        ),
        remedy="once app.stop_signal has arrived, send Connection: close with every answer, so that balancers and clients open their "
        "next connection elsewhere",
        guide=_DEPLOY,
    )


def finish_time_too_short(case: Case) -> Cause | None:
    """It ended by itself while it still had work."""
    seen = case.evidence("LongRequestsFinish")
    if not seen.get("cut") or seen["killed"] or seen.get("stop_seconds") is None:
        return None
    short = [other for other in case.elsewhere("InFlightFinishes") if other.get("cut")]
    against = [f"{other['victim']} cut requests of a second as well" for other in short]
    return Cause(
        id="finish-time-too-short",
        sentence="the application gives up on what is in flight sooner than its longest request takes",
        confidence=Confidence.POSSIBLE if against else Confidence.CERTAIN,
        evidence=(
            f"{seen['cut']} of {seen['in_flight']} requests that take {seen['longest_seconds']:g} s were cut",
            f"{seen['victim']} ended by itself {seen['stop_seconds']:.1f} s after the order (exit code {seen['exit_code']})",
            f"it could have taken {seen['patience_seconds']:g} s",
        ),
        against=tuple(against),
        remedy="give what is in flight more time than app.longest_seconds (gunicorn: graceful_timeout; uvicorn: "
        "--timeout-graceful-shutdown; Node: no server.closeAllConnections before it), and app.stop_within_seconds more than that",
        guide=_DO_9,
    )


def killed_before_longest(case: Case) -> Cause | None:
    """It was killed while it worked on its longest request."""
    seen = case.evidence("LongRequestsFinish")
    if not seen.get("cut") or not seen["killed"]:
        return None
    patience = seen.get("patience_seconds") or 0.0
    enough = patience > seen["longest_seconds"]
    return Cause(
        id="killed-before-longest",
        sentence="an instance is killed before its longest request is finished",
        confidence=Confidence.LIKELY if enough else Confidence.CERTAIN,
        evidence=(
            f"{seen['victim']} was killed {seen['stop_seconds'] or patience:.1f} s after it was told to stop",
            f"app.stop_within_seconds is {patience:g}; the longest request takes {seen['longest_seconds']:g} s",
        ),
        against=("that should have been enough",) if enough else (),
        remedy="app.stop_within_seconds above app.longest_seconds and the drain (Docker: stop_grace_period; Kubernetes: "
        "terminationGracePeriodSeconds; systemd: TimeoutStopSec)",
        guide=_DO_9,
    )


def stream_never_ended(case: Case) -> Cause | None:
    """The instance with streams had to be killed, the one without ended by itself."""
    seen = case.evidence("StreamsAreEnded")
    if not seen.get("kept_open"):
        return None
    other: Mapping[str, Any] = seen.get("without_streams", {})
    if other.get("killed"):
        return None
    evidence = [
        f"{seen['kept_open']} of {seen['streams']} streams at {seen['victim']} were open until it was killed",
        f"that was {seen['stop_seconds'] or 0.0:.1f} s after it was told to stop",
        ", ".join(f"{kind}: {count}" for kind, count in seen["kept_open_by_kind"].items()),
    ]
    quick = other.get("stop_seconds") is not None and other["stop_seconds"] < _QUICK * (seen["patience_seconds"] or 0.0)
    if quick:
        evidence.append(
            f"{other['victim']}, which had no stream, ended {other['stop_seconds']:.1f} s after it was told at the same time"
        )
    return Cause(
        id="stream-never-ended",
        sentence="an instance that stops waits for streams that nobody ends",
        confidence=Confidence.CERTAIN if quick else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="on app.stop_signal end every WebSocket (app.websocket) with close code 1001 or 1012, and every answer of server-sent "
        "events (app.events), before the wait for what is in flight",
        guide="Step 3: Configure Load Balancer: WebSocket support",
    )
