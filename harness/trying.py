"""The journeys of a setup, gone through once by one person, with each request, its answer and what was made of it.

For whoever writes them: what a step sends, how the answer was understood, and what may be missing. The meaning is that of a
verification, by the same rules. Must not: judge a promise, send anything twice, or show a password, a cookie or a token.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from harness import answers, clock
from harness.cluster import Cluster
from harness.errors import BadInput
from harness.journeys import Journey, MissingValueError, Reply, Request, Step, compile_journeys, judge
from harness.model import Answer, Outcome
from harness.reporting import Redactor
from harness.reporting.text import without_controls
from harness.setup import JOURNEYS, Setup
from harness.traffic.cookies import CookieJar
from harness.traffic.people import People, Person, text_of, without_secrets

__all__ = [
    "Tried",
    "as_lines",
    "as_plain_data",
    "ask_once",
    "chosen",
    "context_for",
    "declared_lines",
    "journeys_of",
    "slashed",
    "try_journeys",
    "where_to_try",
]

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_SHOWN_CHARACTERS = 300
_SHOWN_COOKIES = 20
_NO_SECRETS = ("user.email", "user.name", "record", "text")
_LAST = ("logout",)
"""What ends a session comes when everything else is done."""
_ON_WISH = ("change", "see", "limited")
"""What changes something for everybody, or may be done only so often, is done when it is named."""
_AFTER = {"read": "write", "recall": "remember", "download": "upload", "see": "change"}
"""Which journey another one needs."""
_NEWCOMER = ("detour",)
"""What begins with somebody who is not logged in."""


class _Site(NamedTuple):
    """Who is asked, and how."""

    host: str
    port: int
    context: ssl.SSLContext | None
    timeout_seconds: float
    headers: Mapping[str, str]
    """They go with every request."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One step, as it went."""

    journey: str
    number: int
    """From 1."""
    of: int
    method: str
    path: str
    sent: str
    """The body, without secrets."""
    status: int | None
    milliseconds: float
    location: str | None
    cookies: Mapping[str, str]
    """Those that were set, by name, with their attributes."""
    meaning: str
    """`recognised`, `logged-out`, `refused`, `overloaded`, `done` or `failed`."""
    ok: bool
    """Whether it was what the step expects."""
    detail: str
    """Why not, in a few words."""
    taken: Mapping[str, int]
    """What was taken, by name: how many characters it has."""
    missing: tuple[str, ...]
    """What was to be taken and is not in the answer."""
    hints: tuple[str, ...]


def journeys_of(setup: Setup) -> Mapping[str, Journey]:
    """All that people do by a setup file."""
    return compile_journeys(setup.declared_journeys())


def where_to_try(cluster: Cluster) -> tuple[str, int, ssl.SSLContext | None]:
    """One instance, asked directly, where that is possible, else the balancer: host, port, and how TLS is made. What another
    instance knows of a person is for promises."""
    if cluster.reachable:
        return (*cluster.reachable[0].target, None)
    secure = cluster.layout.balancer.secure
    return (*cluster.layout.entrance, None if secure is None else context_for("https", secure.authority))


def chosen(known: Sequence[str], only: Sequence[str]) -> tuple[str, ...]:
    """Which journeys are gone through, in order: whoever comes first gives what later ones need.

    Raises:
        BadInput: the setup has none of that name.
    """
    unknown = [name for name in only if name not in known]
    if unknown:
        raise BadInput(f"the setup declares no journey.{unknown[0]}: it has {', '.join(known)}")
    needed = {"register", "login", *(_AFTER[name] for name in only if name in _AFTER)}
    wanted = [
        name
        for name in known
        if (name in only or name in needed if only else name not in _ON_WISH) and name not in _LAST
    ]
    wanted.sort(key=lambda name: list(JOURNEYS).index(name) if name in JOURNEYS else len(JOURNEYS))
    return (*wanted, *(name for name in _LAST if name in known and (not only or name in only)))


def try_journeys(
    journeys: Mapping[str, Journey],
    names: Sequence[str],
    *,
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    timeout_seconds: float,
    seed: int,
    secrets: Sequence[str] = (),
    headers: Mapping[str, str] = NO_HEADERS,
    people: Sequence[Person] = (),
) -> Iterator[Tried]:
    """Go through these journeys as one person, each step on a connection of its own: a new one, or the first of those who are
    given. Ends a journey at its first step that is not as declared. `context`: how TLS is made; None for plain http. `headers` go
    with every request. `secrets`: what else must not be shown."""
    site = _Site(host, port, context, timeout_seconds, headers)
    (visitor,) = People(seed, people).arrive(1)
    redactor = Redactor([visitor.person.password, *secrets])
    jar = CookieJar(now=clock.wall)
    random = Random(f"{seed}/records")  # noqa: S311 - must repeat with the seed
    record = str(UUID(int=random.getrandbits(128), version=4))
    known = {**visitor.values, "record": record, "text": text_of(record)}
    page = ""
    asked = [(name, False) for name in names]
    if "logout" in names and "whoami" in names:
        asked.append(("whoami", True))
    kept = jar
    for name, is_gone in asked:
        steps = journeys[name].steps
        # A newcomer is another browser of the person: its cookies and tokens are its own.
        jar = CookieJar(now=clock.wall) if name in _NEWCOMER else kept
        values = dict(known) if name in _NEWCOMER else known
        for number, step in enumerate(steps, 1):
            tried, reply, fresh = _one(
                step,
                values,
                jar,
                redactor,
                place=(name, number, len(steps)),
                site=site,
                page=page,
            )
            values.update(fresh)
            if is_gone:
                tried = _when_gone(tried)
            yield tried
            if reply is not None:
                page = reply.body.decode("utf-8", "replace")
            if not tried.ok:
                break


def _when_gone(tried: Tried) -> Tried:
    """Who has logged out is to be told so: that is how a lost session is known."""
    if tried.meaning == Answer.LOGGED_OUT:
        return replace(tried, journey="whoami, logged out", ok=True, detail="", missing=(), hints=())
    hint = (
        "after logging out this is to be the answer to somebody who is not logged in: logged_out in journey.whoami says how that "
        'looks, such as logged_out = { status = 303, location = "/login" }'
    )
    return replace(tried, journey="whoami, logged out", ok=False, hints=(hint,))


def _one(
    step: Step,
    values: Mapping[str, str],
    jar: CookieJar,
    redactor: Redactor,
    *,
    place: tuple[str, int, int],
    site: _Site,
    page: str,
) -> tuple[Tried, Reply | None, dict[str, str]]:
    name, number, of = place
    given: dict[str, Any] = {"journey": name, "number": number, "of": of, "method": step.method}
    nothing: dict[str, Any] = {
        "sent": "",
        "status": None,
        "milliseconds": 0.0,
        "location": None,
        "cookies": {},
        "meaning": "failed",
        "ok": False,
        "taken": {},
        "missing": tuple(step.take),
        "hints": (),
    }
    try:
        request = step.request(values)
    except MissingValueError as problem:
        told = f"{problem}: no answer before gave it, so that nothing was sent"
        return Tried(**given, **nothing, path=step.path.text, detail=told), None, {}
    given |= {"path": redactor(request.path)}
    body = redactor(request.body.decode("utf-8", "replace"))
    began = clock.now()
    try:
        reply = _ask(request, jar, site)
    except (OSError, HTTPException) as problem:
        words = str(problem) or type(problem).__name__
        return Tried(**given, **(nothing | {"sent": body}), detail=f"no answer: {words}"), None, {}
    took = (clock.now() - began) * 1000
    jar.take(reply.set_cookies)
    judgement = judge(step, reply, values, asked=request.path)
    taken: dict[str, str] = {}
    problems: dict[str, str] = {}
    for key, take in step.take.items():
        value, why_not = take.look(reply, values={**values, **taken}, cookies=jar.cookies)
        if value is not None:
            taken[key] = value
        elif take.source == "python":
            problems[key] = redactor(why_not)
    # What opens an account is a secret of this person as much as the password.
    redactor.add(*taken.values())
    secrets = {name: value for name, value in {**values, **taken}.items() if name not in _NO_SECRETS} | jar.cookies
    missing = tuple(key for key in step.take if key not in taken)
    ok = judgement.outcome is Outcome.OK and not missing
    tried = Tried(
        **given,
        sent=_short(body),
        status=reply.status,
        milliseconds=round(took, 1),
        location=None
        if (location := reply.header("location")) is None
        else _short(without_secrets(redactor(location), secrets.items())),
        cookies={
            _short(cookie): _short(_attributes(line))
            for line in reply.set_cookies[:_SHOWN_COOKIES]
            for cookie in [line.partition("=")[0].strip()]
        },
        meaning=judgement.answer.value,
        ok=ok,
        detail=_short(without_secrets(redactor(judgement.detail), secrets.items()))
        if judgement.error is not None
        else _in_words(problems),
        taken={key: len(value) for key, value in taken.items()},
        missing=missing,
        hints=tuple(_hints(step, reply, ok=ok, page=page, secure=site.context is not None, asked=request.path)),
    )
    return tried, reply, taken


def _ask(request: Request, jar: CookieJar, site: _Site) -> Reply:
    # A step's own outranks what goes with every request, whatever case it is written in.
    own = {name.lower() for name, _ in request.headers}
    headers: dict[str, str | bytes] = {name: value for name, value in site.headers.items() if name.lower() not in own}
    headers |= dict(request.headers)
    if jar.line:
        # As it came: a cookie has no letters of ours.
        headers["Cookie"] = jar.line.removeprefix(b"Cookie: ").rstrip()
    answer = answers.ask(
        request.method,
        request.path,
        at=(site.host, site.port),
        within_seconds=site.timeout_seconds,
        context=site.context,
        headers=headers,
        body=request.body,
    )
    return Reply(answer.status, answer.headers, answer.body, answer.set_cookies)


def ask_once(
    path: str,
    *,
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    timeout_seconds: float,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Reply | None:
    """One GET by nobody in particular. None: there was no answer."""
    try:
        return _ask(
            Request("GET", path, (), b""),
            CookieJar(now=clock.wall),
            _Site(host, port, context, timeout_seconds, headers),
        )
    except (OSError, HTTPException):
        return None


def slashed(reply: Reply, asked: str) -> bool:
    """Whether somebody who asked for a path is sent to the same one with a slash at its end."""
    try:
        return urlsplit(reply.header("location") or "").path == f"{asked.partition('?')[0]}/"
    except ValueError:
        return False


def _hints(step: Step, reply: Reply, *, ok: bool, page: str, secure: bool, asked: str) -> Iterator[str]:
    """What is known to go wrong in such a place."""
    if not secure and any("secure" in _attributes(line).lower().split("; ") for line in reply.set_cookies):
        yield (
            "a cookie is Secure, and a browser would not send it over plain http; here it is sent all the same. An application "
            'that wants to be told of https: in [traffic], headers = { X-Forwarded-Proto = "https" }'
        )
    if ok:
        return
    if step.method != "GET" and reply.status in (400, 403, 419, 422):
        sent = {*(step.form or {}), *(step.headers or {})}
        fields = _HiddenFields()
        answers.read_page(fields, page)
        hidden = [name for name in fields.names if name not in sent]
        if hidden:
            yield (
                f"the page before has hidden fields that are not sent ({', '.join(dict.fromkeys(hidden))}): get the page in a "
                f'step of its own with take = {{ token = {{ field = "{hidden[0]}" }} }}, and send {{token}}'
            )
        else:
            yield "a token against forged requests may be missing: get the page with the form in a step before, and take it there"
    if reply.status in (429, 503):
        yield (
            "it is told to come later: all people of a run come from this machine, so that a limit for each address meets them "
            "together; raise it in app.env"
        )
    if reply.status in (301, 302, 307, 308) and str(reply.header("location") or "").startswith("https://"):
        yield (
            "it is sent to https: try https://, or tell the application that it is https already: in [traffic], "
            'headers = { X-Forwarded-Proto = "https" }'
        )
    if reply.status in (301, 302, 307, 308) and slashed(reply, asked):
        yield f"it is sent to the same path with a slash at its end: ask for {asked.partition('?')[0]}/"
    if reply.status == 200 and step.method == "POST":
        yield "a form that is shown again with status 200 is how many applications refuse: expect says what a success looks like"


class _HiddenFields(HTMLParser):
    """The names of what a page has its forms send, and nobody sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and (given.get("type") or "").lower() == "hidden" and given.get("name"):
            self.names.append(_short(given["name"] or ""))


def _in_words(problems: Mapping[str, str]) -> str:
    """What a person's own functions did not do."""
    return _short("; ".join(f"{{{key}}}: {problem}" for key, problem in problems.items()))


def _attributes(line: str) -> str:
    return "; ".join(part.strip() for part in line.split(";")[1:])


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN_CHARACTERS else f"{words[:_SHOWN_CHARACTERS]}..."


# -- what a person reads -------------------------------------------------------------------------------------------------


def as_plain_data(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """JSON-ready, a step each."""
    return [asdict(step) for step in tried]


def as_lines(step: Tried) -> list[str]:
    """One step for a terminal."""
    number = f" {step.number}/{step.of}" if step.of > 1 else ""
    lines = [f" {'ok    ' if step.ok else 'NOT OK'}  {step.journey}{number}  {step.method} {step.path}"]
    if step.sent:
        lines.append(f"         sent      {step.sent}")
    if step.status is not None:
        to = f", to {step.location}" if step.location is not None else ""
        lines.append(f"         answered  {step.status} in {step.milliseconds:.0f} ms{to}")
    for name, attributes in step.cookies.items():
        lines.append(f"         cookie    {name}" + (f" ({attributes})" if attributes else ""))
    lines.append(f"         meant     {step.meaning}" + (f": {step.detail}" if step.detail else ""))
    lines += [
        f"         took      {name} ({size} character{'s' if size != 1 else ''})" for name, size in step.taken.items()
    ]
    lines += [
        f"         MISSING   {name}: the answer does not hold it" for name in step.missing if step.status is not None
    ]
    lines += [f"         hint      {hint}" for hint in step.hints]
    # An application may say anything, and has no power over the terminal.
    return [without_controls(line) for line in lines]


def declared_lines(journeys: Mapping[str, Journey], names: Sequence[str]) -> list[str]:
    """What would be asked, a line for each step."""
    return [
        f" {name}{f' {number}/{len(steps)}' if len(steps) > 1 else ''}  {step.method} {step.path.text}"
        for name in names
        for steps in [journeys[name].steps]
        for number, step in enumerate(steps, 1)
    ]


def context_for(scheme: str, authority: Path | None) -> ssl.SSLContext | None:
    """How TLS is made with a site; None for plain http. Raises BadInput: the file holds no certificate."""
    if scheme == "http":
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as problem:
        raise BadInput(
            f"--ca {authority} holds no certificate of an authority ({problem.strerror or problem})"
        ) from None
