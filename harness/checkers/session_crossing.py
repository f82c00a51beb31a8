"""Whether what one instance gave is accepted by another: tokens of forms, and what a log-in leaves to be gone on with.

A person who is taken for nobody elsewhere says nothing of tokens: that is another promise. Must not: judge that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers.evidence import examples
from harness.model import Answer, History, Operation, Outcome, Verdict

__all__ = ["LoginCrossesInstances", "TokenIsAcceptedElsewhere"]

_FROM = "from-"
_SAYS_NOTHING = (Answer.LOGGED_OUT, Answer.OVERLOADED)
_OF_A_BALANCER = (502, 503, 504)
_ACCEPTED, _REFUSED, _UNTESTED = "accepted", "refused", "untested"


@dataclass(frozen=True)
class TokenIsAcceptedElsewhere:
    """What is posted to one instance with a token that another gave is accepted.

    Expects: for each ordered pair of instances, those of one with itself included, a `write` in the stream `from-<giver>`
    whose last step is sent to the taker. A pair counts when its giver accepts its own token and its taker its own.

    Evidence: `matrix` {giver: {taker: "accepted", "refused" or "untested"}}, `pairs_of`, `accepted`, `refused`, `untested`:
    pairs of two; `statuses` {status: refusals}, `guards`, `examples`.
    """

    def check(self, history: History) -> Verdict:
        return _judged(history, ("write",), what="tokens accepted by the other instance", missing="")


@dataclass(frozen=True)
class LoginCrossesInstances:
    """A log-in form that one instance gave can be posted to another, and what comes after it asked of a third.

    Expects: for each ordered pair of instances, those of one with itself included, a `login` in the stream `from-<giver>`
    whose form came from the giver and was posted to the taker, and whose later steps were asked of a third; the same for the
    journey `detour`, where the setup has it: somebody wants a page, is sent to log in, and comes to that page. A pair counts
    when giver and taker can do it alone.

    Evidence: `matrix` {giver: {taker: …}}, the worst of all journeys, `pairs_of`, `accepted`, `refused`, `untested`: pairs of
    two, for each journey; `by_journey` {journey: {"accepted", "refused", "untested"}}, `statuses`, `guards`, `examples`.
    """

    def check(self, history: History) -> Verdict:
        has_detour = any(history.of_kind("detour"))
        missing = "" if has_detour else " (no way back to the page that was wanted: journey.detour is not given)"
        kinds = ("login", "detour") if has_detour else ("login",)
        return _judged(history, kinds, what="log-ins crossed from one instance to another", missing=missing)


def _judged(history: History, kinds: Sequence[str], *, what: str, missing: str) -> Verdict:
    """The verdict on every pair of two instances, in each of these journeys."""
    ends = {kind: _ends(history, kind) for kind in kinds}
    words = {kind: _words(cells, history.instances) for kind, cells in ends.items()}
    pairs = [(giver, taker) for giver in history.instances for taker in history.instances if giver != taker]
    matrix: dict[str, dict[str, str]] = {}
    for giver, taker in pairs:
        seen = {words[kind][giver, taker] for kind in kinds}
        matrix.setdefault(giver, {})[taker] = next(word for word in (_REFUSED, _UNTESTED, _ACCEPTED) if word in seen)
    refused = [ends[kind][pair] for kind in kinds for pair in pairs if words[kind][pair] == _REFUSED]
    counts = Counter(words[kind][pair] for kind in kinds for pair in pairs)
    of = len(pairs) * len(kinds)
    guards = []
    if counts[_UNTESTED] or not pairs:
        guards.append(f"{counts[_UNTESTED]} of {of} pairs of instances could not be tested")
    evidence: dict[str, Any] = {
        "matrix": matrix,
        "pairs_of": of,
        _ACCEPTED: counts[_ACCEPTED],
        _REFUSED: counts[_REFUSED],
        _UNTESTED: counts[_UNTESTED],
        "by_journey": {
            kind: {word: sum(words[kind][pair] == word for pair in pairs) for word in (_ACCEPTED, _REFUSED, _UNTESTED)}
            for kind in kinds
        },
        "statuses": dict(Counter(str(op.status) for op in refused)),
        "guards": guards,
        "examples": examples(refused, since=history.operations[0].due if history.operations else 0.0),
    }
    told = f"{counts[_ACCEPTED]} of {of} {what}"
    if refused:
        statuses = ", ".join(f"{status} {count} times" for status, count in evidence["statuses"].items())
        return Verdict.fail(f"{told}: {counts[_REFUSED]} refused ({statuses})", **evidence)
    if guards:
        return Verdict.inconclusive(guards[0], **evidence)
    return Verdict.passed(told + missing, **evidence)


def _ends(history: History, kind: str) -> dict[tuple[str, str], Operation]:
    """How each such journey ended, by who gave and who was given. Who could not even register is nobody to log in."""
    registered = {op.visitor: op.outcome for op in sorted(history.of_kind("register"), key=lambda op: op.step)}
    strangers = {person for person, outcome in registered.items() if outcome is not Outcome.OK}
    journeys: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
    for op in history.of_kind(kind):
        if op.stream.startswith(_FROM) and op.visitor not in strangers:
            journeys[op.stream.removeprefix(_FROM), op.visitor].append(op)
    ends = {}
    for (giver, _), steps in journeys.items():
        steps.sort(key=lambda op: op.step)
        # Who never left the giver was given to nobody else: that is the pair of the giver with itself.
        taker = next((op.via for op in steps if op.via != giver), giver)
        ends[giver, taker] = steps[-1]
    return ends


def _words(ends: Mapping[tuple[str, str], Operation], instances: Sequence[str]) -> dict[tuple[str, str], str]:
    """What became of each pair. Where one of the two cannot even do it alone, nothing was tested."""
    alone = {name for name in instances if _word(ends.get((name, name))) == _ACCEPTED}
    return {
        (giver, taker): _word(ends.get((giver, taker))) if {giver, taker} <= alone else _UNTESTED
        for giver in instances
        for taker in instances
    }


def _word(op: Operation | None) -> str:
    if op is None or op.answered is None or op.answer in _SAYS_NOTHING or op.status in _OF_A_BALANCER:
        return _UNTESTED
    return _ACCEPTED if op.outcome is Outcome.OK else _REFUSED
