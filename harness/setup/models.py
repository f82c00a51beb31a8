"""The setup: what is declared in a setup file, as frozen models. A value here has been checked on its own.

Built by `load_setup`, which also holds the values against each other (`rules`). Must not: read files or the
environment, know the value of any placeholder, or say how a node is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PrivateAttr, WithJsonSchema

from harness.setup.constraints import Above, AtLeast, Between, Distinct, Like, NotEmpty, OneOrMore, listed, refuse
from harness.setup.placeholders import expand, placeholders_in

__all__ = [
    "JOURNEYS",
    "METHODS",
    "REQUIRED_JOURNEYS",
    "App",
    "Balancer",
    "Journey",
    "Match",
    "Postgres",
    "Promises",
    "Redis",
    "Rollout",
    "Sessions",
    "Setup",
    "Step",
    "Take",
    "Traffic",
]

REQUIRED_JOURNEYS: Mapping[str, str] = {
    "register": "how a person gets an account",
    "login": "how a person logs in",
    "whoami": "how a page shows whether a person is logged in",
}
JOURNEYS: Mapping[str, str] = {
    **REQUIRED_JOURNEYS,
    "write": "how a person keeps a record",
    "read": "how a person finds that record again",
    "counter": "how a person raises a number kept in their session",
    "logout": "how a person logs out",
}
"""The journeys the harness knows how to use, and what each is for."""

METHODS = ("get", "post", "put", "delete")

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_URL_PATH = r"/(?!/)[^#\x00-\x1f\x7f]*"
_TIME = "a time of nothing would give up before anything can happen"


def _no_signal_of_ours(value: object) -> object:
    if value in ("SIGKILL", "SIGSTOP"):
        refuse("must be a signal a program can act on", "the harness kills and freezes instances itself, as a fault")
    return value


def _off_is_empty(value: object) -> object:
    if value == "off" or (isinstance(value, list) and "off" in value):
        refuse("must be a list of failures", "an empty list is off, write next_upstream = []")
    return value


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Name = Annotated[
    str,
    Like(
        r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}",
        must="must be 1 to 60 letters, digits, spaces, dots, dashes or underscores, beginning with a letter or digit",
        because="reports are filed under it",
    ),
]
UrlPath = Annotated[
    str,
    Like(
        _URL_PATH,
        must='must be a path that begins with one "/" and has no "#"',
        because="the harness itself says which node is asked, so leave out scheme, host and fragment",
    ),
]
MaybeUrlPath = Annotated[
    UrlPath | None,
    BeforeValidator(lambda value: None if value == "" else value),
    WithJsonSchema({"type": "string", "pattern": f"^(?:|{_URL_PATH})$"}),
]
HeaderName = Annotated[
    str,
    Like(_HEADER_NAME, must="must be the name of a header", because='name one header, such as "X-App-Instance"'),
]
Texts = Mapping[str, str]
TextList = Annotated[tuple[str, ...], BeforeValidator(listed())]
Seconds = Annotated[float, Above(0, because=_TIME)]
Statuses = Annotated[
    tuple[Annotated[int, Between(100, 599, because="HTTP has no other status")], ...],
    BeforeValidator(listed(lone=_is_status)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}},
            ]
        }
    ),
]
NextUpstream = Annotated[
    tuple[
        Literal[
            "error",
            "timeout",
            "invalid_header",
            "http_500",
            "http_502",
            "http_503",
            "http_504",
            "http_403",
            "http_404",
            "http_429",
            "non_idempotent",
        ],
        ...,
    ],
    BeforeValidator(listed()),
    # Validators given before run after those given later: this one sees what is in the file.
    BeforeValidator(_off_is_empty),
    Distinct(),
]
StopSignal = Annotated[
    Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"],
    BeforeValidator(_no_signal_of_ours),
]


class _Table(BaseModel):
    """A table of the file: frozen, exact in its types, and closed to keys it does not know."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )


class App(_Table):
    """The application under test and how one instance of it is run."""

    command: TextList | None = Field(
        default=None,
        description="How one instance is started: program and arguments, never through a shell.",
        examples=[["./server", "--listen", "{host}:{port}"]],
    )
    image: Annotated[str, NotEmpty(because="name an image, such as myapp:latest")] | None = Field(
        default=None,
        description="The container image of one instance, instead of a command.",
        examples=["myapp:latest"],
    )
    directory: Annotated[str, NotEmpty(because='"." is the folder of the setup file')] = Field(
        default=".", description="The working directory of the command, relative to the folder of the setup file."
    )
    instances: Annotated[
        int,
        Between(
            2,
            64,
            because="all of them run on this machine, beside what they need",
            because_below="failover needs a survivor",
        ),
    ] = Field(default=3, description="How many instances run behind the balancer, named app-1, app-2 and so on.")
    env: Texts = Field(
        default_factory=dict,
        description="Environment variables of every instance. Nothing else of your environment is passed on.",
        examples=[{"PORT": "{port}"}],
    )
    instance_env: Mapping[str, Texts] = Field(
        default_factory=dict,
        description="Environment variables of single instances, by the instance's name, on top of all others.",
        examples=[{"app-1": {"LOG_LEVEL": "debug"}}],
    )
    health: UrlPath = Field(default="/health", description="A path that answers below 300 while an instance is alive.")
    ready: UrlPath | None = Field(
        default=None,
        description="A path that answers below 300 while an instance wants traffic. Not given: the health path.",
        examples=["/ready"],
    )
    version: MaybeUrlPath = Field(
        default="/version",
        description="A path that answers with a JSON object of what all instances must agree on, such as version, "
        "config, database and session_store. Empty text: there is none.",
    )
    slow: UrlPath | None = Field(
        default=None,
        description="A path that takes {seconds} to be answered, to have requests in flight.",
        examples=["/slow?seconds={seconds}"],
    )
    first_start: Literal["parallel", "serial"] = Field(
        default="parallel", description="Whether the instances are started together or one after the other."
    )
    start_after: Literal["dependencies", "nothing"] = Field(
        default="dependencies",
        description="Whether instances start when database and Redis are ready, or at once because they wait "
        "for these themselves.",
    )
    ready_within_seconds: Seconds = Field(
        default=30.0, description="How long an instance may take from start to ready."
    )
    stop_signal: StopSignal = Field(default="SIGTERM", description="The signal that asks an instance to stop.")
    stop_within_seconds: Seconds = Field(
        default=10.0, description="How long an instance may take to stop before it is killed."
    )
    instance_header: HeaderName | None = Field(
        default=None,
        description="A response header of the application's own whose value is {instance}: a second witness of "
        "who answered.",
        examples=["X-App-Instance"],
    )
    version_header: HeaderName | None = Field(
        default=None,
        description="A response header of the application's own that names its version.",
        examples=["X-App-Version"],
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the instances, in order: `app-1`, `app-2` …"""
        return tuple(f"app-{number}" for number in range(1, self.instances + 1))

    @property
    def ready_path(self) -> str:
        """Where to ask whether an instance wants traffic."""
        return self.ready or self.health


class Postgres(_Table):
    """The database. The table may be empty."""

    version: Literal["18", "16"] = Field(
        default="18", description="The major version, where the platform has a choice."
    )
    max_connections: Annotated[
        int, Between(10, 10_000, because="Postgres keeps a few for itself and a process for each of the others")
    ] = Field(default=100, description="How many connections it allows, of all instances together.")
    durable: bool = Field(
        default=False,
        description="Whether a commit waits for the disk. Only where loss at a crash is judged; it is slower.",
    )


class Redis(_Table):
    """The Redis-compatible server. The table may be empty."""


class Sessions(_Table):
    """Where the application keeps its sessions."""

    store: Literal["redis", "postgres", "memory", "other"] = Field(
        default="other",
        description="Where sessions are kept. The harness looks into redis and postgres; other is any place it "
        "cannot look into.",
    )


class Balancer(_Table):
    """What stands in front of the instances. The defaults are those of the guide."""

    kind: Literal["nginx"] = Field(default="nginx", description="Which balancer.")
    algorithm: Literal["least_conn", "round_robin"] = Field(
        default="least_conn", description="How it chooses an instance for a request."
    )
    max_fails: Annotated[int, AtLeast(0, because="0 means that failures are not counted")] = Field(
        default=3,
        description="After how many failures within fail_timeout_seconds an instance is taken out; 0 is never.",
    )
    fail_timeout_seconds: Annotated[int, AtLeast(1, because="nginx counts in whole seconds")] = Field(
        default=30,
        description="How long failures are counted, and how long an instance is then left out. Whole seconds.",
    )
    next_upstream: NextUpstream = Field(
        default=("error", "timeout", "invalid_header", "http_500", "http_502", "http_503"),
        description="After which failures a request is tried on another instance. An empty list is never.",
    )
    connect_timeout_seconds: Seconds = Field(
        default=60.0, description="How long it waits for a connection to an instance."
    )
    send_timeout_seconds: Seconds = Field(
        default=60.0, description="How long it waits between two writes of a request to an instance."
    )
    read_timeout_seconds: Seconds = Field(
        default=60.0, description="How long it waits between two reads of an answer from an instance."
    )
    keepalive: Annotated[int, AtLeast(0, because="0 means a connection for each request")] = Field(
        default=0, description="Idle connections to instances each worker keeps open; 0 opens one for each request."
    )
    workers: Annotated[int, Between(1, 64, because="each is a process of its own on this machine")] = Field(
        default=2, description="Worker processes. They share one view of who is down and whose turn it is."
    )
    port: Annotated[int, Between(1, 65_535, because="leave it out for any free port")] | None = Field(
        default=None, description="The port it answers on. Not given: any free one.", examples=[8080]
    )
    pool: Annotated[TextList, OneOrMore(because="leave it out for all instances"), Distinct()] | None = Field(
        default=None,
        description="The instances it sends requests to. Not given: all of them.",
        examples=[["app-1", "app-2"]],
    )


class Match(_Table):
    """What an answer looks like. Everything that is given must hold."""

    status: Statuses = Field(default=(), description="The status, or a list of which any will do.", examples=[200])
    location: str | None = Field(
        default=None,
        description="Where the answer sends the visitor: path, or path and query, with * for anything.",
        examples=["/login*"],
    )
    contains: Annotated[str, NotEmpty(because="every page contains it")] | None = Field(
        default=None, description="Text the page must hold.", examples=["{user.email}"]
    )
    absent: Annotated[str, NotEmpty(because="every page contains it")] | None = Field(
        default=None, description="Text the page must not hold.", examples=["Wrong password"]
    )


class Take(_Table):
    """Where in an answer a value is found, to be used in later steps."""

    KINDS: ClassVar[tuple[str, ...]] = ("field", "header", "cookie", "json", "regex")

    field: str | None = Field(
        default=None, description="The name of an input of a form in the page.", examples=["csrf_token"]
    )
    header: str | None = Field(default=None, description="The name of a response header.", examples=["X-CSRF-Token"])
    cookie: str | None = Field(
        default=None, description="The name of a cookie the answer sets.", examples=["csrftoken"]
    )
    json_path: str | None = Field(
        default=None,
        alias="json",
        description="The place in a JSON answer: names and places in lists, with dots between.",
        examples=["data.token"],
    )
    regex: str | None = Field(
        default=None,
        description="A regular expression over the page; its first group is taken.",
        examples=['csrf-token" content="([^"]+)"'],
    )

    def given(self) -> Mapping[str, str]:
        """The kinds that were given with their values. One, in a file without mistakes."""
        every = {
            "field": self.field,
            "header": self.header,
            "cookie": self.cookie,
            "json": self.json_path,
            "regex": self.regex,
        }
        return {kind: value for kind, value in every.items() if value is not None}


class Step(_Table):
    """One request of a journey, and what its answers mean."""

    RULES: ClassVar[tuple[str, ...]] = ("recognised", "logged_out", "refused", "overloaded", "expect")
    """In the order in which they are tried."""

    get: UrlPath | None = Field(default=None, description="Ask for this path.", examples=["/login"])
    post: UrlPath | None = Field(default=None, description="Post to this path.", examples=["/login"])
    put: UrlPath | None = Field(default=None, description="Put to this path.", examples=["/notes/{record}"])
    delete: UrlPath | None = Field(default=None, description="Delete this path.", examples=["/session"])
    form: Texts | None = Field(
        default=None, description="The fields of a form, sent as the body.", examples=[{"email": "{user.email}"}]
    )
    json_body: JsonValue = Field(
        default=None, alias="json", description="JSON, sent as the body.", examples=[{"email": "{user.email}"}]
    )
    headers: Texts = Field(
        default_factory=dict,
        description="Headers of this request, beside those every request has.",
        examples=[{"X-CSRF-Token": "{csrf}"}],
    )
    take: Mapping[str, Take] = Field(
        default_factory=dict,
        description="Values to keep from the answer, by the name later steps use them under.",
        examples=[{"csrf": {"field": "csrf_token"}}],
    )
    recognised: Match | None = Field(
        default=None,
        description="The answer knows who is asking.",
        examples=[{"status": 200, "contains": "{user.email}"}],
    )
    logged_out: Match | None = Field(
        default=None,
        description="The answer takes the visitor for nobody.",
        examples=[{"status": 303, "location": "/login*"}],
    )
    refused: Match | None = Field(
        default=None, description="The application said no, and nothing was done.", examples=[{"status": 401}]
    )
    overloaded: Match | None = Field(
        default=None,
        description="The application had too much to do, and nothing was done.",
        examples=[{"status": 503}],
    )
    expect: Match | None = Field(
        default=None, description="The step did what it is for.", examples=[{"status": 303, "location": "/dashboard"}]
    )

    def asked(self) -> Mapping[str, str]:
        """The methods that were given with their paths. One, in a file without mistakes."""
        every = {"get": self.get, "post": self.post, "put": self.put, "delete": self.delete}
        return {method: path for method, path in every.items() if path is not None}

    def rules(self) -> Mapping[str, Match]:
        """What was said about answers, by name, in the order in which it is tried."""
        every = {
            "recognised": self.recognised,
            "logged_out": self.logged_out,
            "refused": self.refused,
            "overloaded": self.overloaded,
            "expect": self.expect,
        }
        return {name: match for name, match in every.items() if match is not None}


class Journey(_Table):
    """How a person does one thing in this application."""

    steps: Annotated[tuple[Step, ...], BeforeValidator(listed())] = Field(
        default=(), description="The requests, one after the other.", examples=[[{"get": "/login"}]]
    )


class Rollout(_Table):
    """How a new version replaces the old."""

    kind: Literal["rolling", "all-at-once"] = Field(
        default="rolling", description="One instance at a time, or all of them together."
    )
    drain: Literal["balancer-first", "on-unready", "none"] = Field(
        default="balancer-first",
        description="Who knows first that an instance will stop: the balancer; the instance, whose ready path then "
        "says no; or nobody.",
    )
    env: Texts = Field(
        default_factory=dict,
        description="Environment variables of the new version, on top of app.env.",
        examples=[{"APP_VERSION": "2"}],
    )
    command: TextList | None = Field(
        default=None,
        description="The command of the new version. Not given: the same command.",
        examples=[["./server-2", "--listen", "{host}:{port}"]],
    )


class Traffic(_Table):
    """How many people come, and how often."""

    rate: Annotated[float, Above(0, because="without requests nothing is tested")] = Field(
        default=100.0, description="Requests per second, sent when they are due, whether or not others were answered."
    )
    visitors: Annotated[int, AtLeast(1, because="somebody has to visit")] = Field(
        default=20, description="How many people browse at once, each with cookies of their own."
    )
    timeout_seconds: Seconds = Field(default=5.0, description="How long a visitor waits for a complete answer.")


class Promises(_Table):
    """What is asked of the setup."""

    waived: Texts = Field(
        default_factory=dict,
        description="Promises this setup does not make: their ids, with * for anything, and the reason.",
        examples=[{"failover.hang": "the guide's read timeout is 60 s"}],
    )

    def why_waived(self, promise: str) -> str:
        """The reason why this promise is not made; empty when it is."""
        return next((why for pattern, why in self.waived.items() if fnmatchcase(promise, pattern)), "")


class Setup(_Table):
    """The declared topology."""

    name: Name = Field(default="setup", description="What reports call it. Not given: the name of the file.")
    app: App = Field(default_factory=App, description="The application and its instances.")
    postgres: Postgres | None = Field(
        default=None, description="A Postgres beside the instances; an empty table will do.", examples=[{}]
    )
    redis: Redis | None = Field(
        default=None,
        description="A Redis-compatible server beside the instances; an empty table will do.",
        examples=[{}],
    )
    sessions: Sessions = Field(default_factory=Sessions, description="Where sessions are kept.")
    balancer: Balancer = Field(default_factory=Balancer, description="What stands in front of the instances.")
    journey: Mapping[str, Journey] = Field(
        default_factory=dict,
        description="How a person does things in this application, by the name of the thing.",
        examples=[{}],
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version replaces the old.")
    traffic: Traffic = Field(default_factory=Traffic, description="How many people come, and how often.")
    promises: Promises = Field(default_factory=Promises, description="What is asked of the setup.")

    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The file it was read from, absolute."""
        return self._file

    @property
    def pool(self) -> tuple[str, ...]:
        """The instances the balancer sends requests to."""
        return self.balancer.pool or self.app.names

    @property
    def entry_page(self) -> str:
        """A page anybody may ask for: the first of the login journey, else the health path."""
        for step in self.journey["login"].steps if "login" in self.journey else ():
            if step.get is not None and not placeholders_in(step.get):
                return step.get
        return self.app.health

    def command(self, *, new_version: bool = False) -> tuple[str, ...] | None:
        """The command of an instance, before its placeholders are filled in; None for an image."""
        if new_version and self.rollout.command is not None:
            return self.rollout.command
        return self.app.command

    def env_of(self, instance: str, *, new_version: bool = False) -> Mapping[str, str]:
        """The environment of one instance before its placeholders are filled in: `app.env`, then `rollout.env` for
        the new version, then what this instance alone has."""
        return {
            **self.app.env,
            **(self.rollout.env if new_version else {}),
            **self.app.instance_env.get(instance, {}),
        }

    def directory(self, values: Mapping[str, str]) -> Path:
        """The working directory of the application, absolute, its placeholders filled in. It may not exist."""
        base = self._file.parent if self._file is not None else Path()
        return (base / expand(self.app.directory, values)).absolute()
