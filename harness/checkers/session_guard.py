"""Whether a session is its owner's alone: its id, its cookie, and the pages made of it.

Must not: judge whether anybody stays logged in; that is `sessions`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, listed, plural
from harness.model import Answer, History, Look, Operation, Outcome, Verdict

__all__ = ["CookieIsGuarded", "NobodyElsesPage", "OldIdIsNobody", "ReplayIsRefused"]

_ACCEPTED = (Answer.RECOGNISED, Answer.SOMEBODY_ELSE)
_NOBODY = "(nobody)"


@dataclass(frozen=True)
class OldIdIsNobody:
    """Whoever knows the cookies somebody had before they logged in is nobody afterwards.

    Expects: looks named `cookies-at-login` {"visitor", "held": names before, "kept": those whose value is the same after};
    `whoami` of the owners in the stream `owner`, and with the copied cookies in the stream `planted` to every instance. Where
    no cookie is given before the log-in there is none to know, which keeps the promise.

    Evidence: `people` (fully tested), `accepted` (people), `accepted_by` {instance: answers}, `refused`: answers; `held` and
    `kept` {cookie: people}, `guards`, `examples`.
    """

    people: int = bounds.LOGOUT_VISITORS

    def check(self, history: History) -> Verdict:
        looks = {str(look.value.get("visitor")): look.value for look in history.looks_at("cookies-at-login")}
        owners = {
            op.visitor for op in history.of_kind("whoami") if op.stream == "owner" and op.answer is Answer.RECOGNISED
        }
        planted: defaultdict[str, list[Operation]] = defaultdict(list)
        for op in history.of_kind("whoami"):
            if op.stream == "planted" and op.visitor in owners:
                planted[op.visitor].append(op)
        accepted = [op for own in planted.values() for op in own if op.answer in _ACCEPTED]
        tested = [
            visitor
            for visitor, own in planted.items()
            if visitor in looks
            and {op.via for op in own if op.answer is Answer.LOGGED_OUT} >= set(history.instances)
            and history.instances
        ]
        guards = []
        if len(tested) < self.people and not accepted:
            guards.append(
                f"the cookies of before were shown to every instance for only {plural(len(tested), 'person')} "
                f"({self.people} are needed)"
            )
        evidence = {
            "people": len(tested),
            "accepted": len({op.visitor for op in accepted}),
            "accepted_by": dict(Counter(op.via for op in accepted)),
            "refused": sum(op.answer is Answer.LOGGED_OUT for own in planted.values() for op in own),
            "held": dict(Counter(name for value in looks.values() for name in value["held"])),
            "kept": dict(Counter(name for value in looks.values() for name in value["kept"])),
            "guards": guards,
            "examples": examples(accepted, since=history.operations[0].due if history.operations else 0.0),
        }
        if accepted:
            return Verdict.fail(
                f"for {evidence['accepted']} of {plural(len(planted), 'person')} the cookies from before the log-in are "
                "logged in after it",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        if not evidence["held"]:
            told = f"no cookie is given before the log-in: none to know, {plural(len(tested), 'person')}"
        else:
            told = f"{len(tested)} of {plural(len(tested), 'person')}: the cookies from before the log-in are nobody's"
        return Verdict.passed(told, **evidence)


@dataclass(frozen=True)
class ReplayIsRefused:
    """A cookie of somebody who has logged out is nobody's, also when they have logged in again.

    Expects: people recognised at every visit in the stream `before`, a `logout` of each that was acknowledged, then `whoami` with a copy of
    their cookies in the stream `replay`; a `login` of theirs in the stream `again`, and the copy in `replay-again`.

    Evidence: as LogoutHoldsEverywhere has it, `logouts`, `visitors` (fully tested), `accepted` (visitors), `accepted_by`
    {instance: answers}, `accepted_on_logout_instance`, `accepted_on_others`; `accepted_again`: answers after the owner had
    logged in again; `refused`: answers; `guards`, `examples`.
    """

    visitors: int = bounds.LOGOUT_VISITORS
    refusals: int = bounds.REPLAYS_REFUSED

    def check(self, history: History) -> Verdict:
        before = [op for op in history.of_kind("whoami") if op.stream == "before"]
        known = {op.visitor for op in before} - {op.visitor for op in before if op.answer is not Answer.RECOGNISED}
        outs = {op.visitor: op for op in history.of_kind("logout") if op.final and op.outcome is Outcome.OK}
        anew = {op.visitor for op in history.of_kind("login") if op.stream == "again" and op.final and _is_ok(op)}
        replays = [
            op
            for op in history.of_kind("whoami")
            if op.stream in _REPLAYS
            and op.visitor in outs
            and op.visitor in known
            and op.due >= (outs[op.visitor].answered or op.due)
        ]
        accepted = [op for op in replays if op.answer in _ACCEPTED]
        refused = Counter((op.visitor, op.stream) for op in replays if op.answer is Answer.LOGGED_OUT)
        tested = [
            visitor
            for visitor in outs
            if visitor in known & anew and all(refused[visitor, stream] >= self.refusals for stream in _REPLAYS)
        ]
        at_home = sum(op.instance is not None and op.instance == outs[op.visitor].instance for op in accepted)
        guards = []
        if not outs:
            guards.append("nobody logged out")
        elif len(tested) < self.visitors:
            guards.append(
                f"only {plural(len(tested), 'person')} were known before the logout, and their cookies shown often enough "
                f"after it and after the next log-in ({self.visitors} are needed)"
            )
        evidence = {
            "logouts": len(outs),
            "visitors": len(tested),
            "accepted": len({op.visitor for op in accepted}),
            "accepted_by": dict(Counter(op.instance or _NOBODY for op in accepted)),
            "accepted_on_logout_instance": at_home,
            "accepted_on_others": len(accepted) - at_home,
            "accepted_again": sum(op.stream == "replay-again" for op in accepted),
            "refused": sum(refused.values()),
            "guards": guards,
            "examples": examples(accepted, since=min((op.due for op in outs.values()), default=0.0)),
        }
        if accepted:
            by = listed(sorted({op.instance or _NOBODY for op in accepted}))
            return Verdict.fail(
                f"the cookies of {evidence['accepted']} of {plural(len(outs), 'person')} work after their logout (accepted by "
                f"{by})",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(sum(refused.values()), 'replay')} of the cookies of {plural(len(tested), 'person')} refused",
            **evidence,
        )


_REPLAYS = ("replay", "replay-again")


def _is_ok(op: Operation) -> bool:
    return op.outcome is Outcome.OK


@dataclass(frozen=True)
class CookieIsGuarded:
    """The cookie that makes a session cannot be read by scripts, is not sent along by other sites, and over TLS is never
    shown in clear.

    Expects: looks named `cookie` {"visitor", "name", "http_only", "secure", "same_site"} of everybody who logged in through
    the balancer, and looks named `cookie-needed` {"name", "with": [answers], "without": [answers]}: who is looked up with all
    cookies, and without this one. Only the cookies that make the session are judged: others may have to be read by scripts.

    Evidence: `session_cookies` [names], `cookies` {name: {"people", "http_only", "secure", "same_site": {value: people}}},
    `missing` [attributes], `people`, `tls`, `guards`.
    """

    same_site: tuple[str, ...] = bounds.SAME_SITE

    def check(self, history: History) -> Verdict:
        names = [str(look.value["name"]) for look in history.looks_at("cookie-needed") if _makes_the_session(look)]
        looks = [look for look in history.looks_at("cookie") if look.value.get("name") in names]
        tls = bool(history.setup.get("tls"))
        cookies = {name: _flags([look.value for look in looks if look.value["name"] == name]) for name in names}
        found = [
            (name, attribute, count, flags["people"])
            for name, flags in cookies.items()
            for attribute, count in self._missing(flags, tls=tls)
            if count
        ]
        people = len({look.value["visitor"] for look in looks})
        guards = [] if looks else ["no cookie was seen to make the session"]
        evidence = {
            "session_cookies": names,
            "cookies": cookies,
            "missing": list(dict.fromkeys(attribute for _, attribute, _, _ in found)),
            "people": people,
            "tls": tls,
            "guards": guards,
        }
        if found:
            told = (
                f"{name} has no {attribute} for {count} of {plural(of, 'person')}"
                for name, attribute, count, of in found
            )
            return Verdict.fail("; ".join(told), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        attributes = "HttpOnly, SameSite and Secure" if tls else "HttpOnly and SameSite"
        return Verdict.passed(f"{listed(names)} has {attributes} for {plural(people, 'person')}", **evidence)

    def _missing(self, flags: Mapping[str, Any], *, tls: bool) -> list[tuple[str, int]]:
        people = int(flags["people"])
        same_site = sum(count for value, count in flags["same_site"].items() if value not in self.same_site)
        secure = people - int(flags["secure"]) if tls else 0
        return [("HttpOnly", people - int(flags["http_only"])), ("SameSite", same_site), ("Secure", secure)]


_BY_CHANCE = 0.001
"""How likely it may be that a cookie which makes no session looks as if it did."""


def _makes_the_session(look: Look) -> bool:
    """Whether people are known with it and never without it: and would have been, were they known as often without it."""
    having, without = look.value["with"], look.value["without"]
    if not having or not without or set(without) != {Answer.LOGGED_OUT.value}:
        return False
    known = having.count(Answer.RECOGNISED.value) / len(having)
    return bool((1.0 - known) ** len(without) <= _BY_CHANCE)


def _flags(values: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "people": len(values),
        "http_only": sum(bool(value["http_only"]) for value in values),
        "secure": sum(bool(value["secure"]) for value in values),
        "same_site": dict(Counter(str(value["same_site"]) for value in values)),
    }


@dataclass(frozen=True)
class NobodyElsesPage:
    """Nobody is shown a page of somebody else, whatever is asked at the same time.

    Expects: people who are logged in and browse through the balancer, each body read to its end. A page that names another
    person of the run, and not the one who asked, breaks the promise.

    Evidence: `own`: pages that named who asked; `people` who got one; `somebody_else`: answers, `by` {who answered: such
    answers}, `shown_to`: people; `bodies`: whole answers read; `guards`, `examples`.
    """

    own: int = bounds.OWN_PAGES
    people: int = bounds.SESSIONS

    def check(self, history: History) -> Verdict:
        answered = [op for op in history.operations if op.answered is not None]
        wrong = [op for op in answered if op.answer is Answer.SOMEBODY_ELSE]
        right = [op for op in answered if op.answer is Answer.RECOGNISED]
        people = {op.visitor for op in right}
        guards = []
        if len(right) < self.own:
            guards.append(f"only {plural(len(right), 'page')} named who had asked ({self.own} are needed)")
        if len(people) < self.people:
            guards.append(f"only {plural(len(people), 'person')} saw a page of theirs ({self.people} are needed)")
        evidence = {
            "own": len(right),
            "people": len(people),
            "somebody_else": len(wrong),
            "by": dict(Counter(op.instance or _NOBODY for op in wrong)),
            "shown_to": len({op.visitor for op in wrong}),
            "bodies": len(answered),
            "guards": guards,
            "examples": examples(wrong, since=history.operations[0].due if history.operations else 0.0),
        }
        if wrong:
            return Verdict.fail(
                f"{len(wrong)} of {plural(len(answered), 'page')} were somebody else's, shown to "
                f"{plural(len({op.visitor for op in wrong}), 'person')}",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(len(answered), 'page')} for {plural(len(people), 'person')}: none was somebody else's", **evidence
        )
