"""A first setup file for an application, from what is there: a compose file, a Dockerfile, the files of a framework, a site that
runs.

What is seen is written down, what is guessed is marked, and the file can be read as it stands. Must not: send anything but GET, or
overwrite what somebody wrote.
"""

from __future__ import annotations

import json
import re
import shlex
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from harness.answers import object_in, read_page
from harness.errors import BadInput
from harness.journeys import PLACEHOLDERS, Reply
from harness.projects import Project, project_in, variables_read
from harness.reporting.text import cut, one_line
from harness.trying import ask_once, slashed

__all__ = ["Form", "Here", "forms_in", "look_around", "setup_text"]

_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_HEALTH = ("/health", "/healthz", "/health/", "/up", "/ping", "/status", "/livez")
_READY = ("/ready", "/readyz", "/readiness", "/health/ready")
_VERSION = ("/version", "/about", "/info")
_LOGIN = ("/login", "/login/", "/signin", "/sign-in", "/accounts/login/", "/users/sign_in", "/auth/login")
_REGISTER = ("/register", "/register/", "/signup", "/sign-up", "/accounts/signup/", "/users/sign_up", "/auth/register")
_OWN_PAGES = ("/dashboard", "/account", "/accounts/profile/", "/profile", "/me", "/home", "/")
_NAMING_HEADERS = ("x-app-instance", "x-instance", "x-instance-id", "x-served-by", "x-hostname", "x-backend-server")
_EXPOSE = re.compile(r"^\s*EXPOSE\s+(\d+)", re.IGNORECASE | re.MULTILINE)
_ASKS_HEALTH = re.compile(r"HEALTHCHECK\b(?:[^\n]*\\\n)*[^\n]*?https?://[^/\s\"']+(/[^\s\"'|;,\]]*)", re.IGNORECASE)
_Ask = Callable[[str], Reply | None]
_MOST_FORMS = 50
_MOST_FIELDS = 100
_LINE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a form."""

    name: str
    kind: str
    """Its type, such as `text` or `hidden`."""
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form with a password in it: it logs in, or registers."""

    page: str
    """Where it was seen."""
    action: str
    """Where it is sent."""
    fields: tuple[Field, ...]


@dataclass(kw_only=True)
class Here:
    """What was found."""

    name: str
    compose: str = ""
    dockerfile: str = ""
    port: int | None = None
    """What its image exposes."""
    project: Project | None = None
    variables: tuple[str, ...] = ()
    """Of the environment, those that its sources read."""
    site: str = ""
    health: str = ""
    ready: str = ""
    version: str = ""
    """Where it tells its version."""
    header: str = ""
    """By which an answer names its instance."""
    login: Form | None = None
    register: Form | None = None
    own_page: str = ""
    """A page that sends strangers to log in ..."""
    sends_to: str = ""
    """... there."""
    sends_with: int = 303
    seen: list[str] = field(default_factory=list)
    """What was looked at and found, a line each."""

    @property
    def seen_lines(self) -> list[str]:
        """The same for a terminal and a comment: a page may say anything, and has no power over either."""
        return [cut(one_line(line), _LINE_CHARACTERS) for line in self.seen]


class _Forms(HTMLParser):
    """All forms of a page with their fields; what is wrong with the page is nobody's business."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[tuple[str, str, list[Field]]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and len(self.forms) < _MOST_FORMS:
            self.forms.append((given.get("action", ""), given.get("method", "get").lower(), []))
            self._open = True
        elif tag in ("input", "select", "textarea", "button") and self._open and given.get("name"):
            fields = self.forms[-1][2]
            kind = given.get("type", "submit" if tag == "button" else "text").lower()
            if len(fields) < _MOST_FIELDS:
                fields.append(Field(name=given["name"], kind=kind, value=given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False


def forms_in(page: str, *, at: str) -> tuple[Form, ...]:
    """The forms of a page that are posted to its own site and ask for a password."""
    parser = _Forms()
    read_page(parser, page)
    found = []
    for action, method, fields in parser.forms:
        if method != "post" or not any(each.kind == "password" for each in fields):
            continue
        try:
            target = urlsplit(urljoin(f"http://site{at}", action))
        except ValueError:
            continue
        if target.netloc != "site":
            continue  # another site's
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        found.append(Form(page=at, action=path, fields=tuple(fields)))
    return tuple(found)


def look_around(
    folder: Path, *, site: tuple[str, str, int, ssl.SSLContext | None] | None, timeout_seconds: float = 5.0
) -> Here:
    """What is in a folder, and what a site that runs (as it is written, host, port, TLS) tells to strangers.

    Raises:
        BadInput: there is nothing to begin with, or nobody answers there.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder: name the one of your application")
    here = Here(name=re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "shop")
    _files(here, folder)
    if site is not None:
        _site(here, *site, timeout_seconds=timeout_seconds)
    if not here.compose and not here.dockerfile and here.project is None and site is None:
        raise BadInput(
            f"there is no compose file, no Dockerfile, and no project of a known framework in {folder}: name another folder, or a "
            "site that runs with --host URL"
        )
    return here


def _files(here: Here, folder: Path) -> None:
    here.compose = next((name for name in _COMPOSE_FILES if (folder / name).is_file()), "")
    if here.compose:
        here.seen.append(f"{here.compose}: a compose project")
    dockerfile = folder / "Dockerfile"
    if dockerfile.is_file():
        text = dockerfile.read_text(encoding="utf-8", errors="replace")
        here.dockerfile = "Dockerfile"
        exposed = _EXPOSE.search(text)
        here.port = int(exposed[1]) if exposed and 0 < int(exposed[1]) < 65_536 else None
        asked = _ASKS_HEALTH.search(text)
        here.health = asked[1] if asked else ""
        here.seen.append(
            "Dockerfile: "
            + (f"port {here.port}" if here.port else "no EXPOSE")
            + (f", health path {here.health}" if here.health else "")
        )
    here.project = project_in(folder) if not here.compose else None
    if here.project is not None:
        here.seen.append(here.project.told)
        here.variables = variables_read(folder)


def _site(
    here: Here, written: str, host: str, port: int, context: ssl.SSLContext | None, *, timeout_seconds: float
) -> None:
    def ask(path: str) -> Reply | None:
        return ask_once(path, host=host, port=port, context=context, timeout_seconds=timeout_seconds)

    front = ask("/")
    if front is None:
        raise BadInput(f"nobody answers at {written}: start the site first, or leave --host out")
    here.site = written
    here.header = next((name for name in _NAMING_HEADERS if front.header(name)), "")
    if here.header:
        here.seen.append(f"{written}: {here.header} names the instance")
    here.health = here.health or _first(ask, _HEALTH)
    here.ready = _first(ask, _READY)
    here.version = next((at for path in _VERSION for at, reply in [_asked(ask, path)] if _tells_version(reply)), "")
    for what, path in (("health", here.health), ("readiness", here.ready), ("version", here.version)):
        if path:
            here.seen.append(f"{written}{path}: {what}")
    here.login = _form(ask, _LOGIN)
    here.register = _form(ask, _REGISTER)
    for form in (here.login, here.register):
        if form is not None:
            here.seen.append(f"{written}{form.page}: a form with {', '.join(each.name for each in form.fields)}")
    login = here.login.page if here.login is not None else "login"
    for page in _OWN_PAGES:
        path, reply = _asked(ask, page)
        to = (reply.header("location") or "") if reply is not None else ""
        if reply is not None and 300 <= reply.status < 400 and login.strip("/") in to:
            here.own_page, here.sends_with = path, reply.status
            here.sends_to = _path_of(to)
            here.seen.append(f"{written}{path}: sends strangers to {here.sends_to} ({reply.status})")
            break


def _path_of(location: str) -> str:
    try:
        return urlsplit(location).path or "/"
    except ValueError:  # such as an address with a lone bracket
        return "/"


def _first(ask: _Ask, paths: Sequence[str]) -> str:
    """The first of these that is answered with 2xx."""
    asked = (_asked(ask, path) for path in paths)
    return next((path for path, reply in asked if reply is not None and 200 <= reply.status < 300), "")


def _asked(ask: _Ask, path: str) -> tuple[str, Reply | None]:
    """The answer, and the path it is of: many frameworks send everybody to the same one with a slash at its end."""
    reply = ask(path)
    if reply is not None and 300 <= reply.status < 400 and slashed(reply, path):
        return f"{path}/", ask(f"{path}/")
    return path, reply


def _tells_version(reply: Reply | None) -> bool:
    return reply is not None and reply.status == 200 and "version" in object_in(reply.body)


def _form(ask: _Ask, paths: Sequence[str]) -> Form | None:
    for each in paths:
        path, reply = _asked(ask, each)
        if reply is not None and reply.status == 200:
            forms = forms_in(reply.body.decode("utf-8", "replace"), at=path)
            if forms:
                return forms[0]
    return None


# -- what is written -----------------------------------------------------------------------------------------------------

_CHECK = "# CHECK:"
_GUESSED_LOGIN = Form(
    page="/login",
    action="/login",
    fields=(Field(name="email", kind="email"), Field(name="password", kind="password")),
)
_GUESSED_REGISTER = Form(page="/register", action="/register", fields=_GUESSED_LOGIN.fields)


def setup_text(here: Here, *, file: str, folder: str = ".") -> str:
    """The setup file, TOML. `file`: what it will be called; `folder`: the project's, as seen from there."""
    return "\n".join([*_head(here, file), *_what_runs(here, folder), *_people(here), ""])


def _head(here: Here, file: str) -> Iterator[str]:
    yield "# Written by `harness init`. What it saw:"
    yield from (f"#   {line}" for line in here.seen_lines)
    yield f"# What is marked {_CHECK.removeprefix('# ').rstrip(':')} is guessed. What every key means: docs/setup-file.md"
    try_it = f"harness journey {file} --try" + (f" --host {here.site}" if here.site else "")
    yield f"# Next: {try_it}, then harness doctor {file}, then harness verify {file}"
    yield f"name = {_quoted(here.name)}"
    yield ""


def _what_runs(here: Here, folder: str) -> Iterator[str]:
    if here.compose:
        yield "[compose]"
        yield f"file = {_quoted((Path(folder) / here.compose).as_posix())}"
        yield '# app = ["web"]      # only what is not found by itself: harness verify says what it took for what'
        yield ""
    yield "[app]"
    if not here.compose:
        yield from _how_it_starts(here)
        if folder != ".":
            yield f"directory = {_quoted(folder)}"
    health = here.health or "/health"
    yield f"health = {_quoted(health)}" + ("" if here.health else f"  {_CHECK} answers 200 while an instance is alive")
    if here.ready:
        yield f"ready = {_quoted(here.ready)}"
    else:
        yield '# ready = "/ready"   # answers 200 while an instance wants traffic, 503 while it starts or stops'
    if here.version:
        yield f"version = {_quoted(here.version)}"
    elif here.site:
        yield f'version = ""  {_CHECK} none was seen; a path that answers {{"version": ...}}, so that a new one can be told from the old'
    else:
        yield '# version = "/version"   # answers {"version": ...}, so that a new one can be told from the old; "" where there is none'
    if here.header:
        yield f"instance_header = {_quoted(here.header.title())}"
    else:
        yield '# instance_header = "X-Instance"   # where an answer names its instance'
    if not here.compose:
        yield ""
        yield "[app.env]"
        variables = list(_variables(here))
        yield from variables
        yield ""
        yield "[postgres]"
        yield ""
        has_redis = any("{redis." in line for line in variables)
        if has_redis:
            yield "[redis]"
            yield ""
        yield "[sessions]"
        store, why = "redis" if has_redis else "other", "redis, postgres, memory or other"
        if here.project is not None and here.project.sessions:
            store, why = here.project.sessions, f"{here.project.why_sessions}; or {why}"
        yield f"store = {_quoted(store)}  {_CHECK} {why}"
        yield ""
        yield "[rollout]"
        yield f'env = {{ APP_VERSION = "2" }}  {_CHECK} what app.version tells differs by it: a new version that can be told from the old'
    yield ""


_TOLD_BY: tuple[tuple[str, str], ...] = (
    (r"(.*_)?DATABASE_URL|DB_URL|POSTGRES_URL|DATABASE_URI|DB_DSN|DATABASE_DSN", "{postgres.url}"),
    (r"PGHOST|(DB|DATABASE|POSTGRES|PG)_HOST", "{postgres.host}"),
    (r"PGPORT|(DB|DATABASE|POSTGRES|PG)_PORT", "{postgres.port}"),
    (r"PGUSER|(DB|DATABASE|POSTGRES|PG)_USER(NAME)?", "{postgres.user}"),
    (r"PGPASSWORD|(DB|DATABASE|POSTGRES|PG)_PASS(WORD)?", "{postgres.password}"),
    (r"PGDATABASE|(DB|DATABASE|POSTGRES|PG)_(NAME|DB|DATABASE)", "{postgres.database}"),
    (r"(.*_)?REDIS_(URL|URI|DSN)", "{redis.url}"),
    (r"REDIS_HOST", "{redis.host}"),
    (r"REDIS_PORT", "{redis.port}"),
    (r"REDIS_PASS(WORD)?", "{redis.password}"),
    (r"(.*_)?SECRET(_KEY)?(_BASE)?", "{secret}"),
    (r"(HTTP_|APP_|SERVER_)?PORT", "{port}"),
    (r"(HTTP_|APP_|SERVER_)?HOST", "{host}"),
    (r"LISTEN(_ADDR(ESS)?)?|(HTTP_|BIND_|SERVER_)?ADDR(ESS)?|BIND", "{host}:{port}"),
)
"""What a variable of such a name is usually given."""


def _variables(here: Here) -> Iterator[str]:
    known = {
        name: value
        for name in here.variables
        if (value := next((value for names, value in _TOLD_BY if re.fullmatch(names, name)), None)) is not None
    }
    if here.project is not None and known:
        if not any("{port}" in text for text in (*here.project.command, *known.values())):
            yield f'PORT = "{{port}}"  {_CHECK} how your application is told its port'
        yield f"{_CHECK} what its sources read; by the names of the variables"
        yield from (f"{name} = {_quoted(value)}" for name, value in known.items())
        yield from (f'# {name} = ""' for name in here.variables if name not in known)
        return
    yield f'PORT = "{{port}}"  {_CHECK} how your application is told its port'
    yield 'DATABASE_URL = "{postgres.url}"'
    yield 'REDIS_URL = "{redis.url}"'
    yield 'SECRET_KEY = "{secret}"  # the same for all instances'


def _how_it_starts(here: Here) -> Iterator[str]:
    image = f"image = {_quoted(f'{here.name}:latest')}"
    made = f"what `docker build -t {here.name} .` makes of it"
    if here.project is None:
        yield f"{image}  {_CHECK} {made}"
        yield '# command = ["./server", "--listen", "{host}:{port}"]  # instead, to run it without containers'
    else:
        command = here.project.command
        if here.project.migrate:
            yield "# The database is empty at first: this is run once, before the first instance."
            yield f"migrate = {json.dumps(shlex.split(here.project.migrate))}"
        yield f"command = {json.dumps(list(command))}  {_CHECK} {here.project.doubt}"
        yield f"{image}  # where containers are run: {made}" if here.dockerfile else f"# {image}  # in containers"
    if here.port:
        yield f"port = {here.port}"


def _people(here: Here) -> Iterator[str]:
    yield "# How people use it. One journey a table, its steps in order."
    yield from _posts("register", here.register, _GUESSED_REGISTER, "the account exists")
    # Who registers with a name beside an address logs in by the name, where the field is called the same.
    filled = _filled(here.register, {}) if here.register is not None else {}
    by_name = frozenset(name for name, value in filled.items() if value == "{user.name}")
    yield from _posts("login", here.login, _GUESSED_LOGIN, "the person is logged in", by_name=by_name)
    own, to = here.own_page or "/dashboard", here.sends_to or "/login"
    mark = "" if here.own_page else f"  {_CHECK} a page that names the person, and where strangers are sent from it"
    yield "[journey.whoami]"
    yield f"steps = [{mark}"
    yield (
        f'  {{ get = {_quoted(own)}, recognised = {{ status = 200, contains = "{{user.email}}" }}, '
        f"logged_out = {{ status = {here.sends_with}, location = {_quoted(to + '*')} }} }},"
    )
    yield "]"


def _posts(
    journey: str, form: Form | None, guessed: Form, success: str, *, by_name: frozenset[str] = frozenset()
) -> Iterator[str]:
    mark = "" if form is not None else f"  {_CHECK} no such form was seen"
    form = form or guessed
    names = _value_names([each.name for each in form.fields if each.kind == "hidden"])
    yield f"[journey.{journey}]"
    yield f"steps = [{mark}"
    if names:
        takes = ", ".join(f"{value} = {{ field = {_quoted(name)} }}" for name, value in names.items())
        yield f"  {{ get = {_quoted(form.page)}, take = {{ {takes} }} }},"
    filled = ", ".join(
        f"{_key(name)} = {_quoted(value)}" for name, value in _filled(form, names, by_name=by_name).items()
    )
    yield f"  {{ post = {_quoted(form.action)}, form = {{ {filled} }}, expect = {{ status = [201, 302, 303] }} }},  {_CHECK} the answer when {success}"
    yield "]"
    yield ""


def _filled(form: Form, taken: Mapping[str, str], *, by_name: frozenset[str] = frozenset()) -> dict[str, str]:
    """What a person writes into each field. `by_name`: the fields that are known to ask for a name, and not for an address."""
    has_mail = any(each.kind == "email" or "mail" in each.name.lower() for each in form.fields)
    values: dict[str, str] = {}
    for each in form.fields:
        name = each.name.lower()
        if each.name in taken:
            values[each.name] = f"{{{taken[each.name]}}}"
        elif each.kind == "password":
            values[each.name] = "{user.password}"
        elif each.kind == "email" or "mail" in name:
            values[each.name] = "{user.email}"
        elif each.kind in ("checkbox", "radio"):
            values[each.name] = _literal(each.value or "on")
        elif each.kind in ("submit", "button", "image", "reset", "file"):
            continue
        else:
            values[each.name] = (
                "{user.email}"
                if not has_mail and each.name not in by_name and re.search(r"user|login|name", name)
                else "{user.name}"
            )
    return values


def _literal(text: str) -> str:
    """A text in which nothing is a placeholder."""
    return re.sub(r"[{}]", "", text)


def _value_names(fields: Sequence[str]) -> dict[str, str]:
    """What is taken of each of these fields, by a name of its own."""
    names: dict[str, str] = {}
    for each in dict.fromkeys(fields):
        plain = re.sub(r"[^a-z0-9]+", "_", each.lower()).strip("_")
        # Some names are the harness's own.
        base = (
            plain
            if re.match("[a-z]", plain) and plain not in (*PLACEHOLDERS, "seconds")
            else f"field_{plain}".rstrip("_")
        )
        number = 1
        name = base
        while name in names.values():
            number += 1
            name = f"{base}_{number}"
        names[each] = name
    return names


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """As a basic string of TOML: JSON's are, but for what lies beyond the basic plane, which is left as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
