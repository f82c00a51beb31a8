"""What the values of a setup must be to each other, such as a placeholder `{postgres.url}` and a table `[postgres]`.

Each rule is a generator of mistakes over a setup whose single values are right. Must not: check a single value
(that is `constraints`) or stop at the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from pydantic import JsonValue

from harness.setup.messages import Key, Mistake, key_path, nearest, seen
from harness.setup.models import (
    HOOKS,
    JOURNEYS,
    METHODS,
    RECORD_JOURNEYS,
    REQUIRED_JOURNEYS,
    App,
    Balancer,
    Identity,
    Journey,
    Match,
    Remote,
    RemoteInstance,
    Setup,
    Step,
    Take,
    User,
)
from harness.setup.placeholders import (
    JOURNEY_PLACEHOLDERS,
    NODE_PLACEHOLDERS,
    is_placeholder_name,
    placeholder_mistakes,
    placeholders_in,
)

__all__ = ["mistakes_between", "nameless"]

_ENV_NAME = re.compile(r"[^=\0\s]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FUNCTION = re.compile(r"[^:\0]+\.py:[A-Za-z_][A-Za-z0-9_]*")
_TAKEN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HEADERS_OF_THE_TRAFFIC = (
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "cookie",
    "accept-encoding",
    "expect",
    "upgrade",
)
_HEADERS_OF_A_BODY = ("content-type", "content-encoding")
_HEADERS_OF_THE_BALANCER = "x-harness-"
# What may stand in a header without a doubt how it is sent: visible ASCII, and blanks within.
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_OF_A_RECORD = ("record", "text")
_RECORD_IN_WORDS = f"{', '.join(RECORD_JOURNEYS[:-1])} and {RECORD_JOURNEYS[-1]}"
# What is got back or seen must have been put there by another journey of the same setup.
_PAIRS = {
    "read": ("write", "finds nothing that was not written before"),
    "recall": ("remember", "finds nothing that was not put there before"),
    "download": ("upload", "finds nothing that was not handed in before"),
    "see": ("change", "shows nothing that was changed before"),
}
# What these give must be taken, under this name, or nobody could tell two of them apart.
_MUST_TAKE = {"number": "number", "once": "effect", "tally": "total"}

# An example of each journey that must be there, for whoever has none.
_EXAMPLES = {
    "register": 'steps = [{ post = "/register", form = { email = "{user.email}", password = "{user.password}" }, '
    "expect = { status = 303 } }]",
    "login": 'steps = [{ post = "/login", form = { email = "{user.email}", password = "{user.password}" }, '
    'expect = { status = 303, location = "/dashboard" } }]',
    "whoami": 'steps = [{ get = "/dashboard", recognised = { status = 200, contains = "{user.email}" }, '
    'logged_out = { status = 303, location = "/login*" } }]',
}


def mistakes_between(setup: Setup, *, known_promises: Collection[str] | None) -> Iterator[Mistake]:
    """Every mistake in how the values of a setup go together. `known_promises`: their ids, None to let any pass."""
    yield from _how_it_is_started(setup)
    yield from _node_texts(setup)
    yield from _instances_named(setup)
    yield from _balancer(setup.balancer)
    yield from _healthy(setup.app.healthy)
    yield from _identity(setup.app)
    yield from _told_by_log(setup)
    yield from _trouble(setup.app.trouble or ())
    yield from _timed_path("slow", setup.app.slow)
    yield from _timed_path("download", setup.app.download)
    yield from _websocket(setup)
    yield from _session_store(setup)
    yield from _compose(setup)
    yield from _remote(setup)
    yield from _headers_always(setup.traffic.headers)
    if setup.users is not None:
        yield from nameless(("users", "given"), setup.users.given)
    yield from _journeys(setup.journey, registers=setup.users is None)
    yield from _waived(setup.promises.waived, known_promises)


# -- the application ------------------------------------------------------------------------------------------------


def _how_it_is_started(setup: Setup) -> Iterator[Mistake]:
    app = setup.app
    if app.command is None and app.image is None and setup.compose is None and setup.remote is None:
        yield Mistake(
            ("app", "command"),
            'is missing: say how one instance is started, such as command = ["./server", "--listen", "{host}:{port}"], '
            "or give app.image",
            about=(("app", "image"),),
        )
    commands: list[tuple[Key, Sequence[str] | None]] = [
        (("app", "command"), app.command),
        (("app", "image_command"), app.image_command),
        (("rollout", "command"), setup.rollout.command),
        (("app", "migrate"), app.migrate),
        (("rollout", "migrate"), setup.rollout.migrate),
    ]
    for key, command in commands:
        if command is not None and not (command and command[0].strip()):
            yield Mistake(key, f'must begin with a program (got {seen(command)}): write {key[-1]} = ["./server"]')
    if app.migrate is not None and app.start_after == "nothing":
        yield Mistake(
            ("app", "migrate"),
            f'needs app.start_after = "dependencies" (got {seen(list(app.migrate))}): the database has to be ready for it, and '
            "no instance may come before",
            about=(("app", "start_after"),),
        )
    if app.command is None and app.image is not None and setup.rollout.command is not None:
        yield Mistake(
            ("rollout", "command"),
            f"needs app.command (got app.image = {seen(app.image)}): an image brings its own command",
            about=(("app", "command"), ("app", "image")),
        )
    for key, given in ((("app", "image_command"), app.image_command), (("rollout", "image"), setup.rollout.image)):
        if given is not None and app.image is None:
            yield Mistake(
                key, f"needs app.image (got {seen(given)}): say which image an instance is", about=(("app", "image"),)
            )
    yield from _told_its_port(setup)


def _told_its_port(setup: Setup) -> Iterator[Mistake]:
    """An instance that is not told its port cannot listen on it: the port is another in each run."""
    if not setup.app.command:
        return
    for new_version in (False, True):
        command = setup.command(new_version=new_version) or ()
        for name in setup.app.names:
            texts = (*command, *setup.env_of(name, new_version=new_version).values())
            if not any("port" in placeholders_in(text) for text in texts):
                which = "app.command" if not new_version else "rollout.command"
                yield Mistake(
                    ("rollout", "command") if new_version and setup.rollout.command else ("app", "command"),
                    f"does not tell {name} its port (got {seen(command)}): put {{port}} into {which} or app.env, "
                    'such as env = { PORT = "{port}" }',
                    about=(("app", "env"), ("app", "instance_env"), ("rollout", "env")),
                )
                return


def _node_texts(setup: Setup) -> Iterator[Mistake]:
    """Placeholders in what starts the application, and names in its environment."""
    app, rollout = setup.app, setup.rollout
    environments: list[tuple[Key, Mapping[str, str]]] = [
        (("app", "env"), app.env),
        *((("app", "instance_env", name), env) for name, env in app.instance_env.items()),
        (("rollout", "env"), rollout.env),
        (("rollout", "bad_env"), rollout.bad_env),
    ]
    texts: list[tuple[Key, str]] = [(("app", "directory"), app.directory)]
    commands: list[tuple[Key, Sequence[str]]] = [
        (("app", "command"), app.command or ()),
        (("app", "image_command"), app.image_command or ()),
        (("swarm", "health"), setup.swarm.health or ()),
        (("rollout", "command"), rollout.command or ()),
        (("app", "migrate"), app.migrate or ()),
        (("rollout", "migrate"), rollout.migrate or ()),
    ]
    for key, command in commands:
        texts += [((*key, place), text) for place, text in enumerate(command)]
    for key, env in environments:
        for name, value in env.items():
            texts.append(((*key, name), value))
            if not _ENV_NAME.fullmatch(name):
                yield Mistake(
                    (*key, name), f'is no name for a variable (got {seen(name)}): it has no space and no "=" in it'
                )
    for key, text in texts:
        if "\0" in text:
            yield Mistake(key, f"holds a zero byte (got {seen(text)}): no program can be given one; take it out")
        for says in placeholder_mistakes(text, NODE_PLACEHOLDERS):
            yield Mistake(key, says)
        for service, table in (("postgres", setup.postgres), ("redis", setup.redis)):
            used = next((name for name in placeholders_in(text) if name.startswith(f"{service}.")), None)
            if used in NODE_PLACEHOLDERS and table is None:
                yield Mistake(
                    key,
                    f"uses {{{used}}}, and the setup has no {service}: add a table [{service}], it may be empty",
                    about=((service,),),
                )


def _instances_named(setup: Setup) -> Iterator[Mistake]:
    names = setup.app.names
    named: list[tuple[Key, str]] = [(("app", "instance_env", name), name) for name in setup.app.instance_env]
    named += [(("app", "capacity", name), name) for name in setup.app.capacity]
    named += [(("balancer", "weights", name), name) for name in setup.balancer.weights]
    named += [(("balancer", "pool", place), name) for place, name in enumerate(setup.balancer.pool or ())]
    for key, name in named:
        if name not in names:
            yield Mistake(
                key,
                f"names no instance (got {seen(name)}): with app.instances = {setup.app.instances} they are "
                f"{names[0]} to {names[-1]}",
                about=(("app", "instances"),),
            )


def _balancer(balancer: Balancer) -> Iterator[Mistake]:
    """A key that its kind does not have would be said and not done."""
    for kind, keys in Balancer.ONLY.items():
        for key in keys:
            if kind != balancer.kind and key in balancer.model_fields_set:
                given = seen(_plain_value(getattr(balancer, key)))
                yield Mistake(
                    ("balancer", key),
                    f"has no meaning for {balancer.kind} (got {given}): {_INSTEAD[key]}",
                    about=(("balancer", "kind"),),
                )
    if balancer.kind == "nginx" and balancer.keepalive < 0:
        yield Mistake(
            ("balancer", "keepalive"),
            f"must be 0 or more for nginx (got {seen(balancer.keepalive)}): nginx wants a number, such as 16",
            about=(("balancer", "kind"),),
        )
    yield from _tls(balancer)


_TLS_VERSIONS = ("1.0", "1.1", "1.2", "1.3")


def _tls(balancer: Balancer) -> Iterator[Mistake]:
    """One place for each port; and no version left out between two others, which no client could ask for."""
    if balancer.tls is None:
        return
    if balancer.tls.port is not None and balancer.tls.port == balancer.port:
        yield Mistake(
            ("balancer", "tls", "port"),
            f"is the same as balancer.port (got {balancer.tls.port}): http and https each need a port of their own",
            about=(("balancer", "port"),),
        )
    places = sorted(_TLS_VERSIONS.index(version) for version in balancer.tls.versions)
    if places[-1] - places[0] >= len(places):
        whole = list(_TLS_VERSIONS[places[0] : places[-1] + 1])
        yield Mistake(
            ("balancer", "tls", "versions"),
            f"has a hole (got {seen(list(balancer.tls.versions))}): TLS is agreed on from a lowest to a highest version; "
            f"write versions = {seen(whole)}",
        )


_INSTEAD = {
    "max_fails": "HAProxy asks the instances itself, write check_interval_seconds and fall",
    "fail_timeout_seconds": "HAProxy uses an instance again when rise checks were good, write check_interval_seconds and rise",
    "next_upstream": "HAProxy has retry_on, retries and redispatch",
    "send_timeout_seconds": "HAProxy has one timeout for both directions, write read_timeout_seconds",
    "cache_seconds": "HAProxy keeps no page that the application does not allow to be kept, leave it out",
    "check_path": "the open-source nginx has no health checks, leave it out",
    "check_interval_seconds": "the open-source nginx has no health checks, write max_fails and fail_timeout_seconds",
    "check_timeout_seconds": "the open-source nginx has no health checks, leave it out",
    "fall": "the open-source nginx has no health checks, write max_fails",
    "rise": "the open-source nginx has no health checks, write fail_timeout_seconds",
    "retries": "nginx tries every other instance once, write next_upstream",
    "redispatch": "nginx always tries another instance, write next_upstream",
    "retry_on": "nginx has next_upstream",
    "retry_writes": "write non_idempotent in next_upstream",
    "sticky_cookie": "the guide has it for HAProxy only, leave it out",
    "sticky_when_down": "the guide has such cookies for HAProxy only, leave it out",
    "drain_by": "nginx binds nobody by a cookie, so that there is one way to take an instance out, leave it out",
}
"""What to write for the other kind."""


def _plain_value(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _healthy(match: Match | None) -> Iterator[Mistake]:
    """What the harness itself asks, nobody in particular asks: there is nothing to fill in."""
    if match is None:
        return
    if match == Match():
        yield Mistake(
            ("app", "healthy"),
            "must say something of the answer (got {}): with nothing it is true of every answer; write healthy = { status = 200 }",
            about=(("app", "healthy"),),
        )
    for part, text in (("contains", match.contains), ("absent", match.absent)):
        if text is None:
            continue
        key: Key = ("app", "healthy", part)
        used = placeholders_in(text)
        yield from (Mistake(key, says) for says in placeholder_mistakes(text, used))
        for name in used:
            yield Mistake(
                key, f"uses {{{name}}}, and nobody in particular asks: leave it out, or double braces that stand there"
            )


def _trouble(patterns: Sequence[str]) -> Iterator[Mistake]:
    for place, pattern in enumerate(patterns):
        key: Key = ("app", "trouble", place)
        try:
            matches_all = re.compile(pattern).search("") is not None
        except re.error as error:
            yield Mistake(
                key,
                f"is no regular expression (got {seen(pattern)}; {error}): put a backslash before a character that stands for itself",
            )
        else:
            if matches_all:
                yield Mistake(
                    key, f"is found in every line (got {seen(pattern)}): say what only a line about trouble holds"
                )


def _identity(app: App) -> Iterator[Mistake]:
    if app.identity is None:
        return
    key: Key = ("app", "identity")
    given = app.identity.given()
    if len(given) != 1:
        yield Mistake(
            key,
            f"must have exactly one of {', '.join(Identity.KINDS)} (got {' and '.join(given) or 'none'}): write identity = "
            '{ json = "served_by" }',
            about=tuple((*key, kind) for kind in Identity.KINDS),
        )
    elif app.instance_header is not None:
        yield Mistake(
            key,
            f"stands beside app.instance_header (got {seen(dict(given))}): one of them says who answered, keep that",
            about=(("app", "instance_header"),),
        )
    if app.identity.regex is not None:
        yield from _regex((*key, "regex"), app.identity.regex)


def _told_by_log(setup: Setup) -> Iterator[Mistake]:
    """A log that is somebody else's, from which a request and whom it was given to can be read."""
    log = setup.app.identity.log if setup.app.identity is not None else None
    key: Key = ("app", "identity", "log")
    remote = setup.remote
    if remote is not None and remote.log is not None:
        yield from (Mistake(("remote", "log"), says) for word in remote.log for says in placeholder_mistakes(word, ()))
    if log is None:
        if remote is not None and remote.log is not None:
            yield Mistake(
                ("remote", "log"), f"needs app.identity.log (got {seen(remote.log)}): say how a line of it is read"
            )
        return
    try:
        groups = set(re.compile(log).groupindex)
    except re.error as error:
        yield Mistake(
            key,
            f"is no regular expression (got {seen(log)}; {error}): put a backslash before a character that stands for itself",
        )
        return
    if not {"request", "upstream"} <= groups:
        yield Mistake(
            key,
            f"must have the groups request and upstream (got {seen(log)}): write (?P<request>\\S+) where the id stands",
        )
    if setup.compose is None and remote is None:
        yield Mistake(
            key,
            f"is for a balancer that is not the harness's (got {seen(log)}): its own tells who answered, leave it out",
        )
    if remote is not None and remote.log is None:
        yield Mistake(
            ("remote", "log"),
            'is missing: app.identity.log needs a hook that prints the log, such as log = ["ssh", "lb", "cat", "access.log"]',
        )


def _regex(key: Key, text: str) -> Iterator[Mistake]:
    """A regular expression whose first group is what is wanted."""
    try:
        groups = re.compile(text).groups
    except re.error as error:
        yield Mistake(
            key,
            f"is no regular expression (got {seen(text)}; {error}): put a backslash before a character that stands for itself",
        )
    else:
        if groups == 0:
            yield Mistake(key, f"has no group (got {seen(text)}): put what to take into ( and )")


def _timed_path(key: str, path: str | None) -> Iterator[Mistake]:
    """A path that is told how long to take."""
    if path is None:
        return
    yield from (Mistake(("app", key), says) for says in placeholder_mistakes(path, ["seconds"]))
    if "seconds" not in placeholders_in(path):
        yield Mistake(
            ("app", key),
            f'must hold {{seconds}} (got {seen(path)}): write {key} = "/{key}?seconds={{seconds}}", or leave it out',
        )


def _websocket(setup: Setup) -> Iterator[Mistake]:
    websocket = setup.app.websocket
    if websocket is None:
        return
    key: Key = ("app", "websocket", "message")
    yield from (Mistake(key, says) for says in placeholder_mistakes(websocket.message, ["text"]))
    if "text" not in placeholders_in(websocket.message):
        yield Mistake(
            key, f'must hold {{text}} (got {seen(websocket.message)}): nobody could be told by it; write "{{text}}"'
        )


def _session_store(setup: Setup) -> Iterator[Mistake]:
    store = setup.sessions.store
    if setup.compose is not None or setup.remote is not None:
        return  # it is one of the project's own, or somewhere else
    missing = (store == "redis" and setup.redis is None) or (store == "postgres" and setup.postgres is None)
    if missing:
        yield Mistake(
            ("sessions", "store"),
            f"needs a table [{store}] (got {seen(store)}): add [{store}], it may be empty, or name another store",
            about=((store,),),
        )


def _compose(setup: Setup) -> Iterator[Mistake]:
    """Either a file to start, or a project that runs."""
    if setup.compose is None:
        return
    if not setup.compose.file and setup.compose.project is None:
        yield Mistake(
            ("compose", "file"),
            'is missing: name the compose file, such as file = "docker-compose.yml", or a project that runs',
        )
    for key, command in ((("app", "migrate"), setup.app.migrate), (("rollout", "migrate"), setup.rollout.migrate)):
        if command is not None:
            yield Mistake(
                key,
                f"has no place beside [compose] (got {seen(list(command))}): the project's own files say what runs first, such as "
                "a service that ends, with depends_on and condition: service_completed_successfully",
                about=(("compose",),),
            )


_OF_AN_INSTANCE = ("instance", "index", "host", "port")
_UNDONE_BY = {"stop": "start", "pause": "resume", "revert": "deploy"}
"""Which hook needs which other one."""


def _remote(setup: Setup) -> Iterator[Mistake]:
    """What is done can be undone, and what is said of an instance is known of it."""
    remote = setup.remote
    if remote is None:
        return
    if setup.compose is not None:
        yield Mistake(
            ("remote",),
            "cannot be beside [compose]: a site is judged where it is, or as a project",
            about=(("compose",),),
        )
    if remote.http is not None and not (remote.balancer.startswith("https:") and remote.http.startswith("http:")):
        yield Mistake(
            ("remote", "http"),
            f"must be an http address beside an https one in remote.balancer (got {seen(remote.http)}): leave it out",
            about=(("remote", "balancer"),),
        )
    if remote.authority is not None and not remote.balancer.startswith("https:"):
        yield Mistake(
            ("remote", "authority"),
            f"needs an https address in remote.balancer (got {seen(remote.balancer)}): leave it out",
            about=(("remote", "balancer"),),
        )
    if len(remote.instances) == 1:
        yield Mistake(
            ("remote", "instances"), "must name two instances or more (got 1), or none: failover needs a survivor"
        )
    for name, instance in remote.instances.items():
        if re.fullmatch(_INSTANCE_NAME, name) is None:
            yield Mistake(
                ("remote", "instances", name),
                "must be named by 1 to 60 letters, digits, dots, dashes, underscores or @, beginning with a letter or digit: "
                "hooks are given the name",
            )
        yield from _hooks_of(remote, name, instance)
    if not remote.instances:
        for hook in HOOKS:
            if getattr(remote, hook) is not None:
                yield Mistake(
                    ("remote", hook),
                    "needs an instance to be run for: name them, such as [remote.instances] web-1 = {}",
                    about=(("remote", "instances"),),
                )


_INSTANCE_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}"


def _hooks_of(remote: Remote, name: str, instance: RemoteInstance) -> Iterator[Mistake]:
    known = _OF_AN_INSTANCE if instance.address is not None else _OF_AN_INSTANCE[:2]
    given = {hook: words for hook in HOOKS if (words := remote.hook(hook, name)) is not None}

    def key_of(hook: str, *, own: bool) -> Key:
        return ("remote", "instances", name, hook) if own else ("remote", hook)

    for hook, words in given.items():
        key = key_of(hook, own=getattr(instance, hook) is not None)
        if not words[0].strip():
            yield Mistake(
                key, f'must begin with a program (got {seen(words)}): write {hook} = ["./{hook}", "{{instance}}"]'
            )
        for word in words:
            yield from (Mistake(key, says) for says in placeholder_mistakes(word, known))
    wanted = {other: hook for hook, other in _UNDONE_BY.items() if hook in given}
    if "kill" in given and not remote.restarts:
        wanted.setdefault("start", "kill")
    for other, hook in wanted.items():
        if other not in given:
            own = getattr(instance, hook) is not None
            yield Mistake(
                key_of(other, own=own), f"is missing: {key_path(key_of(hook, own=own))} cannot be undone without it"
            )


# -- journeys -------------------------------------------------------------------------------------------------------


def _journeys(journeys: Mapping[str, Journey], *, registers: bool) -> Iterator[Mistake]:
    meant: set[str] = set()
    for name in journeys:
        if name not in JOURNEYS:
            near = nearest(name, [each for each in JOURNEYS if each not in journeys])
            meant.update([near] if near else [])
            hint = f"did you mean {key_path(('journey', near))}?" if near else f"known here are {', '.join(JOURNEYS)}"
            yield Mistake(("journey", name), f"is not a known journey: {hint}")
    for name, purpose in REQUIRED_JOURNEYS.items():
        if name == "register" and not registers:
            if name in journeys:
                yield Mistake(
                    ("journey", name),
                    "stands beside users: people who are given have an account already and never register; leave one of the "
                    "two out",
                    about=(("users",),),
                )
        elif name not in journeys and name not in meant:
            yield Mistake(
                ("journey", name),
                f"is missing: say {purpose}, such as [journey.{name}] {_EXAMPLES[name]}",
                about=(("users",),) if name == "register" else (),
            )
    for name, (other, why) in _PAIRS.items():
        if name in journeys and other not in journeys and other not in meant:
            yield Mistake(("journey", other), f"is missing: journey.{name} {why}")
    for name, journey in journeys.items():
        key: Key = ("journey", name, "steps")
        if not journey.steps:
            yield Mistake(key, 'must have one step or more (got []): write steps = [{ get = "/login" }]')
        for place, step in enumerate(journey.steps):
            yield from _step((*key, place), step)
        if journey.steps and name in JOURNEYS:
            yield from _what_it_must_tell(name, (*key, len(journey.steps) - 1), journey)
        yield from _journey_placeholders(name, journeys, key)


def _step(key: Key, step: Step) -> Iterator[Mistake]:
    methods = tuple(step.asked())
    if len(methods) != 1:
        yield Mistake(
            key,
            f"must have exactly one of {', '.join(METHODS)} (got {' and '.join(methods) or 'none'}): "
            + ("make a step of each" if methods else 'write { get = "/login" }'),
            about=tuple((*key, method) for method in METHODS),
        )
    if step.form is not None and step.json_body is not None:
        yield Mistake(
            (*key, "json"), f"stands beside a form (got {seen(step.json_body)}): keep one, a request has one body"
        )
    for name, body in (("form", step.form), ("json", step.json_body)):
        if body is not None and step.get is not None:
            yield Mistake((*key, name), f"has no place in a get (got {seen(body)}): write post instead of get")
    if step.files is not None and (step.json_body is not None or not step.files):
        yield Mistake(
            (*key, "files"),
            f"must name a file or more, and no json beside them (got {seen(step.files)}): write files = "
            '{ file = "{text}" }, and other fields into form',
            about=((*key, "json"),),
        )
    elif step.files is not None and step.get is not None:
        yield Mistake((*key, "files"), f"has no place in a get (got {seen(step.files)}): write post instead of get")
    for header, value in step.headers.items():
        yield from _header((*key, "headers", header), header, value)
    for name, take in step.take.items():
        yield from _take((*key, "take", name), name, take)
    for name, match in step.rules().items():
        if match == Match():
            yield Mistake(
                (*key, name),
                "must say something of the answer (got {}): with nothing it is true of every answer; write "
                f"{name} = {{ status = 200 }}",
                about=((*key, name),),
            )
    if step.recognised is not None and step.recognised == step.logged_out != Match():
        yield Mistake(
            (*key, "logged_out"),
            f"is the same as recognised (got {seen(_plain(step.recognised))}): say by what the two answers differ",
        )


def _header(key: Key, header: str, value: str) -> Iterator[Mistake]:
    if not _HEADER_NAME.fullmatch(header):
        yield Mistake(key, f"is no name for a header (got {seen(header)}): use letters, digits and dashes")
    elif header.lower() in _HEADERS_OF_THE_TRAFFIC:
        yield Mistake(key, f"is set by the harness (got {seen(value)}): leave it out")
    if re.search(r"[\r\n\0]", value):
        yield Mistake(key, f"has more than one line (got {seen(value)}): a header is one line")


def nameless(key: Key, people: Sequence[User]) -> Iterator[Mistake]:
    """Who is given without anything to log in by."""
    for place, each in enumerate(people):
        if not each.email.strip():
            yield Mistake(
                (*key, place, "email"), 'is missing: say what they log in by, such as email = "ada@example.com"'
            )


def _headers_always(headers: Mapping[str, str]) -> Iterator[Mistake]:
    """What goes with every request: whoever asks, and whatever is asked, it must fit."""
    met: dict[str, str] = {}
    for header, value in headers.items():
        key: Key = ("traffic", "headers", header)
        name = header.lower()
        if name == "host":
            yield Mistake(
                key,
                f"is the address that is asked (got {seen(value)}): have the application accept 127.0.0.1 and localhost, such "
                "as by ALLOWED_HOSTS in app.env",
            )
        elif wrong := list(_header(key, header, value)):
            yield from wrong
        elif name in _HEADERS_OF_A_BODY:
            yield Mistake(
                key, f"says what a body is (got {seen(value)}): write it into headers of the step that sends one"
            )
        elif name.startswith(_HEADERS_OF_THE_BALANCER):
            yield Mistake(key, f"is a name of the harness's own (got {seen(header)}): take another name")
        elif not _HEADER_VALUE.fullmatch(value):
            yield Mistake(
                key,
                f"must be plain text, without blanks around it (got {seen(value)}): servers do not agree on how anything "
                "else is read",
            )
        elif name in met:
            yield Mistake(key, f"is the same header as {met[name]} (got {seen(value)}): keep one")
        met.setdefault(name, header)


def _take(key: Key, name: str, take: Take) -> Iterator[Mistake]:
    if not _TAKEN_NAME.fullmatch(name):
        yield Mistake(key, f"is no name for a value (got {seen(name)}): use letters, digits, dashes and underscores")
    elif name in JOURNEY_PLACEHOLDERS or name == "seconds":
        yield Mistake(key, f"is a name of the harness's own (got {seen(name)}): take it under another name")
    given = take.given()
    if len(given) != 1:
        yield Mistake(
            key,
            f"must have exactly one of {', '.join(Take.KINDS)} (got {' and '.join(given) or 'none'}): "
            f'write {name} = {{ field = "csrf_token" }}',
            about=tuple((*key, kind) for kind in Take.KINDS),
        )
    for kind, text in given.items():
        if not text:
            yield Mistake((*key, kind), 'must not be empty (got ""): name what to take')
    if take.python and not _FUNCTION.fullmatch(take.python):
        yield Mistake(
            (*key, "python"),
            f'must name a file and a function in it (got {seen(take.python)}): write python = "totp.py:code"',
        )
    if take.regex:
        yield from _regex((*key, "regex"), take.regex)


def _what_it_must_tell(name: str, key: Key, journey: Journey) -> Iterator[Mistake]:
    """The last step of a journey decides what it came to: it must say what success looks like."""
    last = journey.steps[-1]
    if name == "whoami":
        yield from _who_is_recognised(key, last)
    elif last.expect is None and not (name == "login" and last.recognised is not None):
        yield Mistake(
            (*key, "expect"),
            f"is missing: say how the answer shows that {_SUCCESS[name]}, such as expect = {_EXPECTED[name]}",
        )
    if name in _PAIRS and last.expect is not None and not _names_record(last.expect.contains or ""):
        yield Mistake(
            (*key, "expect", "contains"),
            f"must hold {{text}} (got {seen(last.expect.contains or '')}): a page without what was written is no proof "
            'that it was kept; write contains = "{text}"',
            about=((*key, "expect"),) if last.expect == Match() else (),
        )
    if name in _PUT_RECORD:
        sent = [text for step in journey.steps for _, text in _sent_texts((), step)]
        if not any(_names_record(text) for text in sent):
            yield Mistake(
                ("journey", name, "steps"),
                f"must say which record it is about (got no {{record}} and no {{text}}): {_PUT_RECORD[name]}",
                about=(("journey", name, "steps"),),
            )
    if name in _MUST_TAKE and _MUST_TAKE[name] not in last.take:
        wanted = _MUST_TAKE[name]
        yield Mistake(
            (*key, "take"),
            f"must take {wanted} (got {seen(sorted(last.take))}): it is what is compared, such as take = "
            f'{{ {wanted} = {{ json = "id" }} }}',
        )
    if name == "limited" and last.refused is None and last.overloaded is None:
        yield Mistake(
            (*key, "overloaded"),
            "is missing: say how the answer shows that it was done too often, such as overloaded = { status = 429 }",
        )


_PUT_RECORD = {
    "write": "put {record} into the form or path",
    "remember": "put {record} into the form or path",
    "upload": 'put {text} into the file, such as files = { file = "{text}" }',
    "once": 'put {record} where the key is sent, such as headers = { Idempotency-Key = "{record}" }',
    "change": "put {text} into the form",
}
"""Journeys that must name a record, and where."""


_SUCCESS = {
    "register": "the account exists",
    "login": "the person is logged in",
    "write": "the record was kept",
    "read": "it is the record that was written",
    "counter": "the number was raised",
    "logout": "the person is logged out",
    "remember": "it was kept",
    "recall": "it is what was put there",
    "detour": "it is the page that was wanted",
    "upload": "the file was kept",
    "download": "it is the file that was handed in",
    "number": "a number was given",
    "once": "it was done",
    "tally": "the number was raised",
    "limited": "it was allowed",
    "change": "the setting was changed",
    "see": "it is the setting",
}
_EXPECTED = {
    "register": "{ status = 303 }",
    "login": '{ status = 303, location = "/dashboard" }',
    "write": "{ status = 201 }",
    "read": '{ status = 200, contains = "{text}" }',
    "counter": "{ status = 200 }",
    "logout": '{ status = 303, location = "/login*" }',
    "remember": "{ status = 201 }",
    "recall": '{ status = 200, contains = "{text}" }',
    "detour": '{ status = 200, contains = "{user.email}" }',
    "upload": "{ status = 201 }",
    "download": '{ status = 200, contains = "{text}" }',
    "number": "{ status = 201 }",
    "once": "{ status = [200, 201] }",
    "tally": "{ status = 200 }",
    "limited": "{ status = 200 }",
    "change": "{ status = 200 }",
    "see": '{ status = 200, contains = "{text}" }',
}


def _who_is_recognised(key: Key, step: Step) -> Iterator[Mistake]:
    if step.recognised is None:
        yield Mistake(
            (*key, "recognised"),
            "is missing: say how the page shows who is logged in, such as "
            'recognised = { status = 200, contains = "{user.email}" }',
        )
    elif step.recognised != Match() and not placeholders_in(step.recognised.contains or ""):
        contains = step.recognised.contains
        yield Mistake(
            (*key, "recognised", "contains"),
            f"must name the person (got {seen(contains or '')}): a page that does not could be anybody's; "
            'write contains = "{user.email}", and ask for a page that shows it',
        )
    if step.logged_out is None:
        yield Mistake(
            (*key, "logged_out"),
            "is missing: say what a person who is not logged in gets, such as "
            'logged_out = { status = 303, location = "/login*" }',
        )


def _names_record(text: str) -> bool:
    return any(name in _OF_A_RECORD for name in placeholders_in(text))


def _journey_placeholders(name: str, journeys: Mapping[str, Journey], key: Key) -> Iterator[Mistake]:
    """A step may use what the harness gives, and what was surely taken before: earlier in the same journey, or in
    journeys that every visitor has gone through before this one."""
    earlier = {"register": [], "login": ["register"], "detour": ["register"]}
    earlier |= {reader: ["register", "login", writer] for reader, (writer, _) in _PAIRS.items()}
    before = [other for other in earlier.get(name, ["register", "login"]) if other in journeys]
    # Where a value is looked for, by the key of the table: what is wrong there is told there.
    tables: list[Key] = [
        ("journey", other, "steps", place, "take")
        for other in {*before, name}
        for place in range(len(journeys[other].steps))
    ]
    taken = {each for other in before for step in journeys[other].steps for each in step.take}
    takers = {each: other for other, journey in journeys.items() for step in journey.steps for each in step.take}
    for place, step in enumerate(journeys[name].steps):
        for text_key, text in _sent_texts((*key, place), step):
            yield from _uses(text_key, text, name, taken, takers, tables)
        # What is said about an answer may use what was taken from that very answer.
        taken |= set(step.take)
        for text_key, text in _match_texts((*key, place), step):
            yield from _uses(text_key, text, name, taken, takers, tables)


def _uses(
    key: Key, text: str, journey: str, taken: Collection[str], takers: Mapping[str, str], tables: Sequence[Key]
) -> Iterator[Mistake]:
    used = [name for name in placeholders_in(text) if is_placeholder_name(name)]
    # Braces that stand wrong, first; which names are known is told below, in words that fit a journey.
    yield from (Mistake(key, says) for says in placeholder_mistakes(text, used))
    for name in used:
        if name in _OF_A_RECORD and journey not in RECORD_JOURNEYS:
            yield Mistake(key, f"uses {{{name}}}, which only the journeys {_RECORD_IN_WORDS} have: leave it out")
        if name in JOURNEY_PLACEHOLDERS or name in taken:
            continue
        if name in takers and takers[name] != journey:
            says = f"uses {{{name}}}, which only journey.{takers[name]} takes, and that may come later: take it in "
            says += "an earlier step" if journey in ("register", "login") else "journey.login or in an earlier step"
        elif name in takers:
            says = f"uses {{{name}}}, which no step before this one takes: take it in an earlier step"
        elif near := nearest(name, [*JOURNEY_PLACEHOLDERS, *taken]):
            says = f"uses {{{name}}}, which no earlier step takes: did you mean {{{near}}}?"
        else:
            says = f"uses {{{name}}}, which no earlier step takes: write there take = {{ {name} = {{ field = "
            says += f'"{name}" }} }}'
        yield Mistake(key, says, about=tuple((*table, name) for table in tables))


def _sent_texts(key: Key, step: Step) -> Iterator[tuple[Key, str]]:
    for method, path in step.asked().items():
        yield (*key, method), path
    for name, value in (step.form or {}).items():
        yield (*key, "form", name), value
    for name, value in (step.files or {}).items():
        yield (*key, "files", name), value
    yield from _json_texts((*key, "json"), step.json_body)
    for name, value in step.headers.items():
        yield (*key, "headers", name), value


def _match_texts(key: Key, step: Step) -> Iterator[tuple[Key, str]]:
    for name, match in step.rules().items():
        for part, text in (("contains", match.contains), ("absent", match.absent)):
            if text is not None:
                yield (*key, name, part), text


def _json_texts(key: Key, value: JsonValue) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _json_texts((*key, name), each)
    elif isinstance(value, Sequence):
        for place, each in enumerate(value):
            yield from _json_texts((*key, place), each)


def _plain(match: Match) -> Mapping[str, object]:
    return {name: value for name, value in match.model_dump().items() if value not in (None, ())}


# -- promises -------------------------------------------------------------------------------------------------------


def _waived(waived: Mapping[str, str], known_promises: Collection[str] | None) -> Iterator[Mistake]:
    for pattern, reason in waived.items():
        key: Key = ("promises", "waived", pattern)
        if not reason.strip():
            yield Mistake(
                key, f"must have a reason (got {seen(reason)}): write why this setup does not make the promise"
            )
        if known_promises is not None and not any(fnmatchcase(promise, pattern) for promise in known_promises):
            near = nearest(pattern, known_promises)
            hint = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known_promises))}"
            yield Mistake(key, f"is no promise: {hint}")
