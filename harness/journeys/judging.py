"""What an answer meant to the person who asked, by the rules of the step. Pure.

The rules are tried in this order and the first that holds decides: another visitor's page,
`recognised`, `logged_out`, `refused`, `overloaded`, `expect`. A step without any rule expects a
status below 400. When none holds, the answer was not expected, and the outcome is only `failed`
("surely had no effect") where the answer says so:

    answer that was not expected            GET      POST, PUT, DELETE
    4xx                                     failed   failed
    501, 503 with Retry-After               failed   failed
    502, 504                                unknown  unknown    a gateway lost the answer of whom it asked
    500, 503 without Retry-After, other 5xx failed   unknown    it may have failed after its work was done
    1xx, 2xx, 3xx, or the wrong body        failed   unknown    it did something, but not what was declared

An answer that a declared `logged_out`, `refused` or `overloaded` recognises is `failed`: there the
setup itself says that nothing was done. Must not: follow redirects, know connections or clocks.
"""

from __future__ import annotations

import fnmatch
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urljoin, urlsplit

from harness.journeys.reply import Reply
from harness.journeys.steps import Match, Step
from harness.journeys.templates import MissingValueError, Template
from harness.model import Answer, Outcome

__all__ = ["Judgement", "judge", "matches", "unexpected_outcome"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The meaning of one answer. `error` is None exactly when the outcome is ok."""

    answer: Answer
    outcome: Outcome
    error: str | None = None
    detail: str = ""


_GOOD = {
    "recognised": Judgement(Answer.RECOGNISED, Outcome.OK),
    "expect": Judgement(Answer.DONE, Outcome.OK),
}
_DECLARED = {"logged_out": Answer.LOGGED_OUT, "refused": Answer.REFUSED, "overloaded": Answer.OVERLOADED}
_DETAIL_CHARACTERS = 200


def judge(
    step: Step,
    reply: Reply,
    values: Mapping[str, str],
    *,
    asked: str = "/",
    somebody_else: bool = False,
    from_balancer: bool = False,
) -> Judgement:
    """What `reply` to `step` means for the visitor whose placeholders are `values`.

    `asked` is the path of the request, for relative redirects; `somebody_else` says that the page names
    another visitor; `from_balancer` that no instance made this answer, so a 503 is no word of the application.
    """
    if somebody_else:
        return Judgement(Answer.SOMEBODY_ELSE, Outcome.FAILED, "wrong-user", _first_words(reply))
    rules = step.rules
    if not rules and reply.status < 400:
        return _GOOD["expect"]
    for name, rule in rules.items():
        if not _holds(rule, reply, values, asked):
            continue
        if name in _GOOD:
            return _GOOD[name]
        error = "logged-out" if name == "logged_out" else f"http-{reply.status}"
        return Judgement(_DECLARED[name], Outcome.FAILED, error, _first_words(reply))
    return _unexpected(step, reply, values, asked, from_balancer)


def matches(rule: Match, reply: Reply, *, asked: str) -> bool:
    """Whether an answer to nobody in particular is as the rule says."""
    return _holds(rule, reply, {}, asked)


def unexpected_outcome(method: str, status: int, *, retry_after: bool) -> Outcome:
    """The outcome of a status nobody declared, by the table above."""
    if status in (502, 504):
        return Outcome.UNKNOWN
    if method == "GET" or 400 <= status < 500 or status == 501 or (status == 503 and retry_after):
        return Outcome.FAILED
    return Outcome.UNKNOWN


def _unexpected(step: Step, reply: Reply, values: Mapping[str, str], asked: str, from_balancer: bool) -> Judgement:
    status = reply.status
    outcome = unexpected_outcome(step.method, status, retry_after=reply.header("retry-after") is not None)
    detail = _first_words(reply)
    location = reply.header("location")
    if location is not None:
        detail = f"sent to {location[:_DETAIL_CHARACTERS]}"
    error = f"http-{status}"
    wanted = [rules for name in ("recognised", "expect") if (rules := step.rules.get(name)) is not None]
    for rule in wanted:
        if status < 400 and _status_holds(rule, status) and _location_holds(rule, reply, asked):
            error = "wrong-body"
            detail = f"{_missing(rule, reply, values)}: {_first_words(reply)}"
            break
    if status == 503 and from_balancer:
        error = f"balancer-{status}"
    if status == 429 or (status == 503 and not from_balancer):
        return Judgement(Answer.OVERLOADED, outcome, error, detail)
    if 400 <= status < 500:
        return Judgement(Answer.REFUSED, outcome, error, detail)
    return Judgement(Answer.FAILED, outcome, error, detail)


def _holds(rule: Match, reply: Reply, values: Mapping[str, str], asked: str) -> bool:
    return (
        _status_holds(rule, reply.status)
        and (rule.location is None or _location_holds(rule, reply, asked))
        and (rule.contains is None or _is_in(rule.contains, reply, values))
        and (rule.absent is None or not _is_in(rule.absent, reply, values))
    )


def _status_holds(rule: Match, status: int) -> bool:
    return not rule.status or status in rule.status


def _location_holds(rule: Match, reply: Reply, asked: str) -> bool:
    """The glob is held against the path, and against path and query, of where the visitor is sent."""
    if rule.location is None:
        return True
    location = reply.header("location")
    if location is None:
        return False
    try:
        target = urlsplit(urljoin(asked, location))
    except ValueError:  # such as an address with a lone bracket
        return False
    path = target.path or "/"
    candidates = (path, f"{path}?{target.query}") if target.query else (path,)
    return any(_glob(rule.location).match(candidate) for candidate in candidates)


@cache
def _glob(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob))


def _is_in(text: Template, reply: Reply, values: Mapping[str, str]) -> bool:
    """Whether the page carries the text, as it is or written in HTML. A text without a value is in no page."""
    try:
        needle = text.render(values)
    except MissingValueError:
        return False
    if needle.encode() in reply.body:
        return True
    return b"&" in reply.body and needle in html.unescape(reply.body.decode("utf-8", "replace"))


def _missing(rule: Match, reply: Reply, values: Mapping[str, str]) -> str:
    if rule.contains is not None and not _is_in(rule.contains, reply, values):
        return f"the page lacks {rule.contains.text}"
    if rule.absent is not None:
        return f"the page carries {rule.absent.text}"
    return "not the page declared"


def _first_words(reply: Reply) -> str:
    return " ".join(reply.body[: 4 * _DETAIL_CHARACTERS].decode("utf-8", "replace").split())[:_DETAIL_CHARACTERS]
