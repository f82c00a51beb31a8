"""Which platform a setup runs on, and what can be done to it there.

Must not: look whether the platform is usable on this machine: whoever runs something there says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from harness.errors import BadInput
from harness.setup import JOURNEYS, Setup

__all__ = ["ABILITIES", "Choice", "choose", "missing", "undeclared"]

_BREAKABLE = frozenset(
    {
        "instances",
        "names",
        "visits",
        "kill",
        "stop",
        "hang",
        "signals",
        "balancer",
        "headers",
        "overload",
        "new-version",
        "take-back",
    }
)
"""What every platform has whose nodes are the harness's own to break."""

ABILITIES: Mapping[str, frozenset[str]] = {
    "native": _BREAKABLE | {"database", "tls", "reload"},
    "docker": _BREAKABLE | {"database", "cut-off", "out-of-memory", "new-address", "tls", "reload"},
    "compose": _BREAKABLE | {"cut-off", "new-address"},
    "swarm": frozenset({"orchestrator", "names", "tls"}),
    "remote": frozenset(
        {"instances", "names", "visits", "kill", "stop", "hang", "new-version", "take-back", "tls", "headers"}
    ),
}
"""What a scenario may need of a platform, by platform. `instances`: each can be asked by itself; `names`: it is known which
there are; `signals`: one can be told to stop, and watched until it has ended; `headers`: all kinds of answers can be had."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A platform, and why it was chosen where nobody named it."""

    platform: str
    why: str = ""
    notes: tuple[str, ...] = ()
    """What a person should know of it before anything is started, one line each."""
    nodes: tuple[str, ...] = ()
    """What its nodes are called, where the setup does not say."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """What it has not although the platform could, with the reason."""


def choose(setup: Setup, *, wished: str) -> Choice:
    """The platform of a run: the one that was asked for, else native unless the setup needs images.

    Raises:
        BadInput: the setup does not say how an instance is run there.
    """
    app = setup.app
    if wished == "compose" and setup.compose is None:
        raise BadInput(
            "the compose platform judges a compose project of your own, and none is named: give --compose "
            "docker-compose.yml, or a table [compose] in the setup file"
        )
    if setup.compose is not None and wished not in ("auto", "compose"):
        raise BadInput(
            f"the setup is a compose project, which brings its own containers (got --platform {wished}): leave --platform "
            "out, or use a setup file without [compose]"
        )
    if wished == "remote" and setup.remote is None:
        raise BadInput(
            "the remote platform judges a site that runs already, and none is named: a table [remote] in the setup file does, "
            'such as [remote] balancer = "https://staging.example.org"'
        )
    if setup.remote is not None:
        if wished not in ("auto", "remote"):
            raise BadInput(
                f"the setup is of a site that runs already (got --platform {wished}): leave --platform out, or use a setup "
                "file without [remote]"
            )
        return Choice("remote")
    if setup.rollout.kind == "blue-green" and (
        wished not in ("auto", "native") or app.command is None or setup.compose is not None
    ):
        raise BadInput(
            "rollout.kind is blue-green, which needs a second set of instances, and only the native platform has one (got "
            f"--platform {wished}): use --platform native with app.command, or another kind"
        )
    if wished == "auto" and setup.compose is not None:
        return Choice("compose")
    if wished == "native" and app.command is None:
        raise BadInput(
            f"the native platform runs app.command, and the setup has app.image alone (got {app.image}): give "
            "app.command as well, or use --platform docker"
        )
    if wished in ("docker", "swarm") and app.image is None:
        raise BadInput(
            f"the {wished} platform runs app.image, and the setup has app.command alone (got {' '.join(app.command or ())}): "
            "give app.image as well, or use --platform native"
        )
    lacks = {} if setup.balancer.tls is not None else {"tls": _NO_TLS}
    lacks |= {} if setup.postgres is not None else {"database": _NO_DATABASE}
    if wished != "auto":
        return Choice(wished, lacks=lacks)
    if app.command is not None:
        instead = "; --platform docker runs its image" if app.image is not None else " for an instance"
        return Choice("native", f"the setup has a command{instead}", lacks=lacks)
    return Choice("docker", f"the setup names an image for an instance ({app.image}) and no command", lacks=lacks)


_NO_DATABASE = "the setup has no database for the harness to run: a table [postgres] gives it"
_NO_TLS = "the setup has no TLS: a table [balancer.tls] gives it"


def missing(needs: Collection[str], platform: str) -> str | None:
    """The first of the needs that a platform does not meet; None when it meets all."""
    of_platform = sorted(need for need in needs if "." not in need)
    return next((need for need in of_platform if need not in ABILITIES[platform]), None)


def undeclared(needs: Collection[str], setup: Setup) -> str | None:
    """Why a scenario cannot be carried out on this setup wherever it runs: the first key that it needs, such as
    `journey.upload` or `app.jobs`, and the setup does not have. None when it has all."""
    for need in sorted(needs):
        section, _, key = need.partition(".")
        if section == "journey" and key not in setup.journey:
            return _no_journey(key)
        if need == "balancer.keepalive" and (_is_its_own(setup) or not setup.balancer.keepalive):
            return "no connection to an instance is kept while it is idle: balancer.keepalive says how many are"
        if need == "balancer.checks" and (_is_its_own(setup) or not setup.balancer.checks):
            return _no_opinion(setup)
        if need == "balancer.sticky_cookie" and setup.balancer.sticky_cookie is None:
            return "nobody is bound to an instance: balancer.sticky_cookie says by which cookie they are (HAProxy)"
        if need == "app.first_start":
            if setup.app.first_start == "serial":
                return 'app.first_start is "serial": the instances are not to be started together'
        elif need == "app.streams":
            if setup.app.websocket is None and setup.app.events is None:
                return "the setup does not say where a stream is that goes on: app.websocket or app.events does"
        elif section == "app" and key and getattr(setup.app, key) is None:
            return f"the setup does not say {_OF_THE_APP[key]}: app.{key} does"
        if section == "rollout" and (setup.rollout.kind == "blue-green") is not (key == "blue-green"):
            return _OTHER_ROLLOUT[key]
        if section == "session" and (why := _OF_SESSIONS[key](setup)):
            return why
    return None


_OF_THE_APP = {
    "jobs": "where the application tells of its regular jobs",
    "rate_limit": "how often a person may do what is limited",
    "ready": "where an instance tells whether it wants traffic",
    "trouble": "which lines of a log mean trouble",
    "websocket": "where people hear of each other at once",
    "overloaded_at": "how many requests an instance works on at once",
    "slow": "which page takes its time",
    "download": "which answer comes bit by bit",
    "assets": "which page names its stylesheets, scripts and images",
    "longest_seconds": "how long the longest honest request takes",
}
"""What a key of the application says, for those that a scenario may need."""

_LONGEST_TTL_SECONDS = 10.0


def _is_its_own(setup: Setup) -> bool:
    """Whether the balancer is somebody else's, so that what the setup says of one does not describe it."""
    return setup.compose is not None or setup.remote is not None


def _no_opinion(setup: Setup) -> str:
    """Why nobody can read what the balancer thinks of the instances."""
    if _is_its_own(setup):
        return "what a balancer of somebody else's thinks of the instances is not the harness's to read"
    if setup.balancer.kind == "nginx":
        return "the open-source nginx has no opinion of the instances that could be read: it learns of a loss from requests alone"
    return "the balancer never asks how the instances are: balancer.check_interval_seconds above 0 has it do so"


def _no_journey(name: str) -> str:
    return f"the setup does not say {JOURNEYS[name]}: [journey.{name}] does"


def _no_token(setup: Setup) -> str:
    journey = setup.journey.get("write")
    if journey is None or not journey.steps:
        return _no_journey("write")
    taken = {name for each in setup.journey.values() for step in each.steps for name in step.take}
    step = journey.steps[-1]
    # Who somebody is, as a token in Authorization says, is no token against forged requests: no page gave it.
    headers = {name: text for name, text in step.headers.items() if name.lower() != "authorization"}
    last = step.model_copy(update={"headers": headers}).model_dump_json(by_alias=True)
    if any(f"{{{name}}}" in last for name in taken):
        return ""
    return "what journey.write sends holds no token that a page gave: a take in journey.login, or in an earlier step, gives it"


def _not_counted(setup: Setup) -> str:
    journey = setup.journey.get("counter")
    if journey is None or not journey.steps:
        return _no_journey("counter")
    if "count" in journey.steps[-1].take:
        return ""
    return 'the setup does not say where the number is: take = { count = { json = "count" } } in journey.counter does'


def _too_long(setup: Setup) -> str:
    seconds = setup.sessions.ttl_seconds
    if seconds is None:
        return (
            "the setup does not say how long a session lives that nobody uses: sessions.ttl_seconds does, beside a short "
            "life in app.env"
        )
    if seconds <= _LONGEST_TTL_SECONDS:
        return ""
    return (
        f"a session lives too long to wait for its end (sessions.ttl_seconds = {seconds:g}): make that, and what app.env "
        f"says of it, {_LONGEST_TTL_SECONDS:g} or less"
    )


_OTHER_ROLLOUT = {
    "blue-green": 'no second set of instances is there to switch to: rollout.kind = "blue-green" has one',
    "in-place": 'rollout.kind is "blue-green": no instance is replaced, and rollout.bluegreen judges the switch',
}
"""What a rollout is not."""

_OF_SESSIONS: Mapping[str, Callable[[Setup], str]] = {
    "count": _not_counted,
    "token": _no_token,
    "short-life": _too_long,
}
"""What a scenario may need to know of sessions, and why a setup does not tell it; empty where it does."""
