"""The setup: what is declared in a setup file, as frozen models. A value here has been checked on its own.

Built by `load_setup`, which also holds the values against each other (`rules`). Must not: read files or the
environment, know the value of any placeholder, or say how a node is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from signal import Signals
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from harness.setup.constraints import Above, AtLeast, Between, Distinct, Like, NotEmpty, OneOrMore, listed, refuse
from harness.setup.placeholders import expand, placeholders_in

__all__ = [
    "HOOKS",
    "JOURNEYS",
    "METHODS",
    "RECORD_JOURNEYS",
    "REQUIRED_JOURNEYS",
    "App",
    "Balancer",
    "Identity",
    "Images",
    "Jobs",
    "Journey",
    "Match",
    "Postgres",
    "Promises",
    "RateLimit",
    "Redis",
    "Remote",
    "RemoteInstance",
    "Rollout",
    "Sessions",
    "Setup",
    "Step",
    "Swarm",
    "Take",
    "Tls",
    "Traffic",
    "User",
    "Users",
    "WebSocket",
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
    "remember": "how a person puts something into their session, such as an article into a basket",
    "recall": "how a person finds that in their session again",
    "detour": "how a person who asks for a page is sent to log in, and comes to that page",
    "upload": "how a person hands in a file",
    "download": "how a person gets that file back",
    "number": "how a person is given a number that nobody else has, such as an order's",
    "once": "how a person has something done that must be done once, by a key they send along",
    "tally": "how a person raises a number that all people share",
    "limited": "how a person does something that they may do only so often",
    "change": "how a setting that all instances follow is changed",
    "see": "how that setting is seen",
}
"""The journeys the harness knows how to use, and what each is for."""

RECORD_JOURNEYS = ("write", "read", "upload", "download", "once", "tally", "change", "see", "remember", "recall")
"""Those that may name a record, its id and its text."""

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


def _none_is_empty(value: object) -> object:
    if value == "none" or (isinstance(value, list) and "none" in value):
        refuse("must be a list of failures", "an empty list is none, write retry_on = []")
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
ImageName = Annotated[
    str,
    Like(
        r"[a-z0-9][\w.:@/-]*",
        must='must be the name of an image, such as "postgres:17"',
        because="it is given to the container engine as it stands",
    ),
]
ServiceName = Annotated[str, NotEmpty(because="name a service of the compose file")]
SiteUrl = Annotated[
    str,
    Like(
        r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?/?",
        must="must be the address of a site, such as https://staging.example.org",
        because="which pages are asked for is said by the journeys, so leave out path, user and password",
    ),
]
NodeUrl = Annotated[
    str,
    Like(
        r"http://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?/?",
        must="must be an http address, such as http://10.0.0.11:8000",
        because="an instance is asked as the balancer asks it; leave out path, user and password",
    ),
]
Hook = Annotated[
    tuple[str, ...],
    OneOrMore(because="a hook is a program and its arguments, and is not read by a shell"),
    BeforeValidator(listed()),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
Port = Annotated[int, Between(1, 65_535, because="TCP has no other port")]
CookieName = Annotated[
    str, Like(_HEADER_NAME, must="must be the name of a cookie", because='name one cookie, such as "SERVERID"')
]
VariableName = Annotated[
    str,
    Like(
        r"[A-Za-z_][A-Za-z0-9_]*",
        must="must be the name of an environment variable",
        because='name one, such as "SHOP_PASSWORD"; its value has no place in the file',
    ),
]
_OF_A_PERSON = Like(
    r"[^\x00-\x1f\x7f]*", must="must be one line of text", because="leave out line ends and control characters"
)
Texts = Mapping[str, str]
LinePatterns = Annotated[
    tuple[Annotated[str, NotEmpty(because="it would be in every line")], ...],
    OneOrMore(because="no line would mean trouble: leave it out"),
    BeforeValidator(listed()),
]
TextList = Annotated[tuple[str, ...], BeforeValidator(listed())]
LoneOrTextList = Annotated[
    tuple[str, ...],
    BeforeValidator(listed(lone=lambda value: isinstance(value, str))),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Seconds = Annotated[float, Above(0, because=_TIME)]
ExitCodes = Annotated[
    tuple[Annotated[int, Between(0, 255, because="no process ends with another")], ...],
    OneOrMore(because="no end would be well"),
    BeforeValidator(listed(lone=lambda value: isinstance(value, int) and not isinstance(value, bool))),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 255},
                {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
            ]
        }
    ),
]
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
RetryOn = Annotated[
    # HAProxy knows 429 too, but only since 2.9.
    tuple[
        Literal[
            "conn-failure",
            "empty-response",
            "junk-response",
            "response-timeout",
            "401",
            "403",
            "404",
            "408",
            "425",
            "500",
            "501",
            "502",
            "503",
            "504",
            "all-retryable-errors",
        ],
        ...,
    ],
    BeforeValidator(listed()),
    BeforeValidator(_none_is_empty),
    Distinct(),
]
Weights = Mapping[str, Annotated[int, Between(1, 100, because="it counts beside the others, which have 1")]]
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


class Jobs(_Table):
    """What the application does by itself at regular times, and where it tells of it."""

    runs: UrlPath = Field(
        description="A path that answers with a JSON object whose runs is a list of the latest ones, each an object with due "
        "(which time it was for, a number or text) and by (the name of the instance that ran it, {instance}).",
        examples=["/jobs"],
    )
    every_seconds: Seconds = Field(default=60.0, description="The time between two runs.")


class RateLimit(_Table):
    """How often a person may do what journey.limited does."""

    limit: Annotated[int, Between(1, 200, because="each is a request, and there are several times as many")] = Field(
        description="So often in each window.", examples=[10]
    )
    window_seconds: Seconds = Field(default=60.0, description="How long a window is.")


class WebSocket(_Table):
    """Where the application tells everybody at once what one of them has said."""

    path: UrlPath = Field(description="The path of the WebSocket; it asks for no login.", examples=["/live"])
    message: Annotated[str, NotEmpty(because="nothing could be recognised")] = Field(
        default="{text}",
        description="What is sent; {text} stands for a text that everybody who is connected must then receive.",
        examples=['{{"say": "{text}"}}'],
    )


class Identity(_Table):
    """Where an answer of the application says which instance gave it, other than in a header."""

    KINDS: ClassVar[tuple[str, ...]] = ("cookie", "json", "regex", "log")

    cookie: CookieName | None = Field(
        default=None, description="The name of a cookie that each answer sets.", examples=["SERVERID"]
    )
    json_path: str | None = Field(
        default=None,
        alias="json",
        description="The place in a JSON answer: names and places in lists, with dots between.",
        examples=["served_by"],
    )
    regex: str | None = Field(
        default=None,
        description="A regular expression over the page; its first group names the instance.",
        examples=["<!-- served by ([a-z0-9-]+) -->"],
    )
    log: str | None = Field(
        default=None,
        description="A regular expression over a line of the log of a balancer that is not the harness's, with the groups request "
        "(what X-Request-Id held) and upstream (whom it was given to); status and upstream_status where it has them.",
        examples=['id=(?P<request>\\S+) upstream="(?P<upstream>[^"]*)"'],
    )

    def given(self) -> Mapping[str, str]:
        """The kinds that were given with their values. One, in a file without mistakes."""
        every = {"cookie": self.cookie, "json": self.json_path, "regex": self.regex, "log": self.log}
        return {kind: value for kind, value in every.items() if value is not None}


class App(_Table):
    """The application under test and how one instance of it is run."""

    command: TextList | None = Field(
        default=None,
        description="How one instance is started: program and arguments, never through a shell.",
        examples=[["./server", "--listen", "{host}:{port}"]],
    )
    image: Annotated[str, NotEmpty(because="name an image, such as myapp:latest")] | None = Field(
        default=None,
        description="The container image of one instance, for platforms that run containers. Beside a command, the "
        "platform decides which of the two is used.",
        examples=["myapp:latest"],
    )
    image_command: TextList | None = Field(
        default=None,
        description="The command inside the image. Not given: the image's own.",
        examples=[["serve", "--port", "{port}"]],
    )
    port: Annotated[int, Between(1, 65_535, because="there are no others")] = Field(
        default=8000,
        description="Where an instance listens inside its container: {port} there. Natively {port} is any free one.",
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
    capacity: Weights = Field(
        default_factory=dict,
        description="How much work single instances can do beside the others, which count 1: what the balancer's shares are judged "
        "by. Not given: all alike.",
        examples=[{"app-1": 2}],
    )
    health: UrlPath = Field(
        default="/health",
        description="A path that answers below 300, or as app.healthy says, while an instance is alive.",
    )
    healthy: Match | None = Field(
        default=None,
        description="What counts as healthy, and as ready: how the health path and the ready path answer then. Not given: any status "
        "below 300. It holds no placeholders.",
        examples=[{"status": 200, "contains": '"status":"UP"'}],
    )
    ready: UrlPath | None = Field(
        default=None,
        description="A path that answers below 300, or as app.healthy says, while an instance wants traffic. Not given: the health "
        "path.",
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
    download: UrlPath | None = Field(
        default=None,
        description="A path whose answer comes bit by bit over {seconds}, to have downloads under way.",
        examples=["/download?seconds={seconds}"],
    )
    longest_seconds: Annotated[float, Between(0.5, 30, because="it is waited for while an instance stops")] | None = (
        Field(
            default=None,
            description="How long the longest honest request takes, such as an upload or an export; it is made of app.slow.",
            examples=[8],
        )
    )
    overloaded_at: Annotated[int, Between(1, 1_000, because="so many requests are made at once")] | None = Field(
        default=None,
        description="How many requests one instance works on at once before it answers that it is overloaded, with 503 or "
        "429; they are made of app.slow.",
        examples=[128],
    )
    first_start: Literal["parallel", "serial"] = Field(
        default="parallel", description="Whether the instances are started together or one after the other."
    )
    migrate: TextList | None = Field(
        default=None,
        description="What is run once when database and Redis are ready, before the first instance is started: a program and its "
        "arguments, as the command is run; in containers the command in the image.",
        examples=[["./server", "migrate"]],
    )
    migrate_within_seconds: Seconds = Field(
        default=60.0, description="How long app.migrate, and rollout.migrate, may take."
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
    stop_exit_codes: ExitCodes | None = Field(
        default=None,
        description="The exit codes of an instance that stopped well; 128 and the number of a signal for one that ended it. Not "
        "given: 0, and 128 and the number of app.stop_signal.",
        examples=[[0, 143]],
    )
    forwarded: UrlPath | None = Field(
        default=None,
        description="A path that answers with a JSON object of what the application believes of the request: client (the "
        "address it came from) and proto (https or http); peer and real_ip are looked at where they are told.",
        examples=["/forwarded"],
    )
    assets: UrlPath | None = Field(
        default=None,
        description="A page whose stylesheets, scripts and images are asked for as well, by the names it gives them.",
        examples=["/login"],
    )
    instance_header: HeaderName | None = Field(
        default=None,
        description="A response header of the application's own whose value is {instance}: a second witness of "
        "who answered.",
        examples=["X-App-Instance"],
    )
    identity: Identity | None = Field(
        default=None,
        description="Where else an answer says which instance gave it: a cookie it sets, a place in its JSON, or a marker in its page.",
        examples=[{"json": "served_by"}],
    )
    version_header: HeaderName | None = Field(
        default=None,
        description="A response header of the application's own that names its version.",
        examples=["X-App-Version"],
    )
    trouble: LinePatterns | None = Field(
        default=None,
        description="Regular expressions of lines in the log of an instance that mean trouble.",
        examples=[["^panic:", "^Traceback "]],
    )
    jobs: Jobs | None = Field(
        default=None,
        description="What it does by itself at regular times, once for all instances.",
        examples=[{"runs": "/jobs", "every_seconds": 60}],
    )
    rate_limit: RateLimit | None = Field(
        default=None,
        description="How often a person may do what journey.limited does, of all instances together.",
        examples=[{"limit": 10, "window_seconds": 60}],
    )
    websocket: WebSocket | None = Field(
        default=None,
        description="A WebSocket on which everybody hears what one of them says.",
        examples=[{"path": "/live"}],
    )

    events: UrlPath | None = Field(
        default=None,
        description="A path that answers with server-sent events to whoever asks, and goes on for as long as the instance does.",
        examples=["/events"],
    )

    _names: tuple[str, ...] = PrivateAttr(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the instances, in order: `app-1`, `app-2` …, or what they are called where they have names."""
        return self._names or tuple(f"app-{number}" for number in range(1, self.instances + 1))

    def with_names(self, names: tuple[str, ...]) -> Self:
        """The same, run as instances that have these names already."""
        named = self.model_copy(update={"instances": len(names)})
        named._names = names
        return named

    @property
    def good_exit_codes(self) -> tuple[int, ...]:
        """Those of an instance that stopped well; one that a signal ended has 128 and its number."""
        if self.stop_exit_codes is not None:
            return self.stop_exit_codes
        return (0, 128 + Signals[self.stop_signal])

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
    ttl_seconds: Seconds | None = Field(
        default=None,
        description="How long a session lives that nobody uses, as the application is set. Up to 10 are waited for.",
        examples=[3],
    )


class Tls(_Table):
    """How the balancer speaks TLS. The defaults are those of the guide, for the balancer of that kind."""

    HAPROXY_DEFAULTS: ClassVar[Mapping[str, object]] = {"security_headers": "none", "forward": []}
    """Where the guide has other values for HAProxy: none at all."""

    port: Port | None = Field(
        default=None,
        description="The port it answers https on; balancer.port is then the one for http. Not given: any free one.",
        examples=[8443],
    )
    versions: Annotated[
        tuple[Literal["1.0", "1.1", "1.2", "1.3"], ...],
        BeforeValidator(listed()),
        OneOrMore(because="without TLS leave out [balancer.tls]"),
        Distinct(),
    ] = Field(default=("1.2", "1.3"), description="The versions of TLS it speaks, without a hole between them.")
    http2: bool = Field(default=True, description="Whether it speaks HTTP/2 to those who offer it (ALPN).")
    redirect: Literal[0, 301, 302, 307, 308] = Field(
        default=301,
        description="The status with which http is sent to https. After 301 and 302 browsers ask with GET what was posted; "
        "0: http is not redirected but served as well.",
    )
    hsts_seconds: Annotated[int, AtLeast(0, because="0 sends no such header")] = Field(
        default=0,
        description="For how long browsers are told to use https alone (Strict-Transport-Security); 0 is not at all.",
        examples=[31_536_000],
    )
    security_headers: Literal["always", "not-on-errors", "none"] = Field(
        default="always",
        description="Which answers are given X-Frame-Options, X-Content-Type-Options and Strict-Transport-Security: all; "
        "all but errors, as `add_header` without `always` and `http-response set-header` do; or none.",
    )
    forward: Annotated[
        tuple[Literal["X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"], ...],
        BeforeValidator(listed()),
        Distinct(),
    ] = Field(
        default=("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"),
        description="The headers by which it tells the application where a request came from. What is not listed it hands on "
        "as it came.",
    )


class Balancer(_Table):
    """What stands in front of the instances. The defaults are those of the guide, for the balancer of that kind."""

    ONLY: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "nginx": ("max_fails", "fail_timeout_seconds", "next_upstream", "send_timeout_seconds", "cache_seconds"),
        "haproxy": (
            "check_path",
            "check_interval_seconds",
            "check_timeout_seconds",
            "fall",
            "rise",
            "retries",
            "redispatch",
            "retry_on",
            "retry_writes",
            "sticky_cookie",
            "sticky_when_down",
            "drain_by",
        ),
    }
    """The keys that mean something to balancers of one kind alone."""
    HAPROXY_DEFAULTS: ClassVar[Mapping[str, float]] = {
        "connect_timeout_seconds": 5.0,
        "read_timeout_seconds": 50.0,
        "keepalive": -1,
        "keepalive_seconds": 5.0,
    }
    """Of keys that both kinds have, where the guide has other values for HAProxy."""

    kind: Literal["nginx", "haproxy"] = Field(default="nginx", description="Which balancer.")
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
    check_path: UrlPath | None = Field(
        default=None,
        description="The path its health checks ask each instance. Not given: app.health.",
        examples=["/ready"],
    )
    check_interval_seconds: Annotated[float, AtLeast(0, because="0 means that there are no health checks")] = Field(
        default=2.0,
        description="Time between two health checks of an instance, and how long one may take; 0 is no checks.",
    )
    check_timeout_seconds: Seconds | None = Field(
        default=None,
        description="How long the answer to a health check may take. Not given: check_interval_seconds.",
        examples=[1],
    )
    fall: Annotated[int, AtLeast(1, because="an instance is down after one failed check at the earliest")] = Field(
        default=3, description="After how many failed checks in a row an instance is taken out."
    )
    rise: Annotated[int, AtLeast(1, because="an instance is up after one good check at the earliest")] = Field(
        default=2, description="After how many good checks in a row an instance is used again."
    )
    retries: Annotated[int, Between(0, 100, because="each may take another connect timeout; 0 is none")] = Field(
        default=3, description="How often a request is tried again after what retry_on names; 0 is never."
    )
    redispatch: Annotated[int, Between(-100, 100, because="it counts retries")] = Field(
        default=0,
        description="Which retries may go to another instance: 1 is each, 2 every second; -1 is the last one, as with "
        "a bare `option redispatch`; 0 is none: the same instance is tried again.",
    )
    retry_on: RetryOn = Field(
        default=("conn-failure",),
        description="After which failures a request is tried again. An empty list is never.",
    )
    retry_writes: bool = Field(
        default=False,
        description="Whether a POST is sent again after a failure that may have come after its effect.",
    )
    sticky_cookie: CookieName | None = Field(
        default=None,
        description="A cookie that binds a visitor to an instance. Not given: nobody is bound.",
        examples=["SERVERID"],
    )
    sticky_when_down: bool = Field(
        default=False,
        description="Whether a visitor is sent to the instance their cookie names although it is down (`force-persist`).",
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
    cache_seconds: Annotated[int, AtLeast(0, because="0 keeps none")] = Field(
        default=0,
        description="How long it keeps a page and gives it to whoever asks for the same address, whatever the application says "
        "of caching and whoever is logged in; 0 is not at all. Whole seconds.",
    )
    keepalive: Annotated[int, AtLeast(-1, because="-1 means as many as there were, 0 one for each request")] = Field(
        default=0,
        description="Idle connections to instances each worker keeps open; 0 opens one for each request, -1 has no limit.",
    )
    keepalive_seconds: Seconds = Field(
        default=60.0, description="How long an idle connection to an instance is kept open, where any are kept."
    )
    workers: Annotated[int, Between(1, 64, because="each is a process of its own on this machine")] = Field(
        default=2, description="Worker processes. They share one view of who is down and whose turn it is."
    )
    resolve: Literal["at-start", "always", "when-told"] = Field(
        default="at-start",
        description="How it knows where instances are, on platforms that give them addresses: it looks their names up "
        "once, at its start; again and again; or it is given addresses, and the new one when an instance comes back "
        "elsewhere, as docker-gen or consul-template do.",
    )
    weights: Weights = Field(
        default_factory=dict,
        description="How much of the traffic single instances are given beside the others, which count 1. Not given: all alike.",
        examples=[{"app-1": 2}],
    )
    sticky_address: bool = Field(
        default=False,
        description="Whether everybody who comes from one address is sent to the same instance, instead of what the algorithm "
        "says (nginx: ip_hash; HAProxy: balance source).",
    )
    reload: Literal["graceful", "restart"] = Field(
        default="graceful",
        description="How whoever looks after it has it read its configuration again: it hands over to new processes, or it "
        "is stopped and started.",
    )
    reload_patience_seconds: Annotated[int, AtLeast(1, because="both kinds count in whole seconds")] = Field(
        default=30,
        description="How long processes of before a reload may go on with what they have; then it is cut. Whole seconds.",
    )
    restart: Literal["any", "none"] = Field(
        default="any",
        description="Whether whoever keeps it running (systemd's `Restart=`, a container's `restart:`) starts it again when it "
        "dies.",
    )
    restart_delay_seconds: Annotated[float, AtLeast(0, because="0 is at once")] = Field(
        default=0.1, description="How long that waits first. The default is systemd's."
    )
    drain_by: Literal["maint", "drain"] = Field(
        default="maint",
        description="How an instance is taken out: with `maint` nothing is sent there any more, with `drain` whoever is bound to "
        "it by a cookie still is.",
    )
    port: Annotated[int, Between(1, 65_535, because="leave it out for any free port")] | None = Field(
        default=None, description="The port it answers on. Not given: any free one.", examples=[8080]
    )
    pool: Annotated[TextList, OneOrMore(because="leave it out for all instances"), Distinct()] | None = Field(
        default=None,
        description="The instances it sends requests to. Not given: all of them.",
        examples=[["app-1", "app-2"]],
    )

    tls: Tls | None = Field(
        default=None,
        description="TLS at the balancer; an empty table will do. Not given: http alone.",
        examples=[{}],
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, data: object) -> object:
        if isinstance(data, Mapping) and data.get("kind") == "haproxy":
            tls = data.get("tls")
            own = {"tls": {**Tls.HAPROXY_DEFAULTS, **tls}} if isinstance(tls, Mapping) else {}
            return {**cls.HAPROXY_DEFAULTS, **data, **own}
        return data

    @property
    def checks(self) -> bool:
        """Whether it asks the instances itself how they are, or learns of a loss from requests only."""
        return self.kind == "haproxy" and self.check_interval_seconds > 0


class Images(_Table):
    """The container images of everything that is not the application. Only read where containers are run."""

    source: Literal["official", "built"] | None = Field(
        default=None,
        description="Whose images: official ones, pulled when they are missing, or those that `harness images build` "
        "makes. Not given: what HARNESS_IMAGES says, else official.",
        examples=["built"],
    )
    postgres: ImageName | None = Field(
        default=None, description="The image of Postgres, whatever the source.", examples=["postgres:17"]
    )
    redis: ImageName | None = Field(
        default=None, description="The image of the Redis-compatible server.", examples=["valkey/valkey:8"]
    )
    nginx: ImageName | None = Field(
        default=None, description="The image of the balancer nginx.", examples=["nginx:1.28"]
    )
    haproxy: ImageName | None = Field(
        default=None, description="The image of the balancer HAProxy.", examples=["haproxy:3.0"]
    )
    locust: ImageName | None = Field(
        default=None, description="The image of Locust, which makes load.", examples=["locustio/locust:2.47.0"]
    )


class Compose(_Table):
    """A compose project of your own, and what is what in it where the harness cannot see that by itself."""

    file: LoneOrTextList = Field(
        default=(),
        description="The compose file, relative to the folder of the setup file; several are laid over each other.",
        examples=["docker-compose.yml"],
    )
    project: Annotated[str, NotEmpty(because="`docker compose ls` lists those that run")] | None = Field(
        default=None,
        description="A project that runs already: it is judged as it is, and neither made nor removed.",
        examples=["shop"],
    )
    app: Annotated[LoneOrTextList, Distinct()] = Field(
        default=(),
        description="The services that are instances of the application. Not given: found.",
        examples=[["app1", "app2", "app3"]],
    )
    balancer: ServiceName | None = Field(
        default=None, description="The service in front of them. Not given: found.", examples=["nginx"]
    )
    database: ServiceName | None = Field(
        default=None, description="The service that is the database. Not given: found.", examples=["db"]
    )
    session_store: ServiceName | None = Field(
        default=None, description="The service that keeps the sessions. Not given: found.", examples=["redis"]
    )
    port: Port | None = Field(
        default=None,
        description="The port an instance listens on inside its container. Not given: found.",
        examples=[8080],
    )
    balancer_port: Port | None = Field(
        default=None,
        description="The port people use, inside the container of the balancer. Not given: found.",
        examples=[80],
    )
    scale: Mapping[str, Annotated[int, Between(1, 64, because="all of them run on this machine")]] = Field(
        default_factory=dict,
        description="How many containers a service has, whatever its file says.",
        examples=[{"app": 3}],
    )
    build: bool = Field(
        default=False,
        description="Whether images are built anew although they are there, as with `docker compose up --build`.",
    )


class RemoteInstance(_Table):
    """One instance that runs elsewhere: where it can be asked, and what its owner's own commands do to it."""

    address: NodeUrl | None = Field(
        default=None,
        description="Where this instance itself can be asked from here. Not given: it cannot.",
        examples=["http://10.0.0.11:8000"],
    )
    seen_as: Annotated[LoneOrTextList, Distinct()] = Field(
        default=(),
        description="How it is called by whoever tells who answered: app.instance_header, or the balancer's "
        "X-Harness-Upstream. Its own name and its address are known.",
        examples=[["10.0.0.11:8000"]],
    )
    stop: Hook | None = Field(
        default=None, description="In place of remote.stop, for this one.", examples=[["ssh", "web-1", "stop-shop"]]
    )
    start: Hook | None = Field(
        default=None, description="In place of remote.start, for this one.", examples=[["ssh", "web-1", "start-shop"]]
    )
    kill: Hook | None = Field(
        default=None, description="In place of remote.kill, for this one.", examples=[["ssh", "web-1", "kill-shop"]]
    )
    pause: Hook | None = Field(
        default=None, description="In place of remote.pause, for this one.", examples=[["ssh", "web-1", "pause-shop"]]
    )
    resume: Hook | None = Field(
        default=None, description="In place of remote.resume, for this one.", examples=[["ssh", "web-1", "go-on"]]
    )
    deploy: Hook | None = Field(
        default=None, description="In place of remote.deploy, for this one.", examples=[["./deploy", "web-1", "2"]]
    )
    revert: Hook | None = Field(
        default=None, description="In place of remote.revert, for this one.", examples=[["./deploy", "web-1", "1"]]
    )
    ready: Hook | None = Field(
        default=None, description="In place of remote.ready, for this one.", examples=[["ssh", "web-1", "is-ready"]]
    )


class Remote(_Table):
    """A site that runs already, somewhere else: its address, and what its owner lets the harness do to it.

    A hook is a program and its arguments, run on this machine and never read by a shell; `{instance}`, `{index}` (from 0),
    `{host}` and `{port}` in it stand for the instance it is run for.
    """

    balancer: SiteUrl = Field(
        description="Where people reach the application.", examples=["https://staging.example.org"]
    )
    http: SiteUrl | None = Field(
        default=None,
        description="Where it answers http, for an https address. Not given: the same host, port 80.",
        examples=["http://staging.example.org"],
    )
    authority: Annotated[str, NotEmpty(because="name a file")] | None = Field(
        default=None,
        description="The certificate (PEM) of the authority that signed for an https address, relative to the folder of the "
        "setup file. Not given: those this machine believes.",
        examples=["staging-ca.pem"],
    )
    instances: Mapping[str, RemoteInstance] = Field(
        default_factory=dict,
        description="The instances behind it, by name. Not given: they are not known, and only what people see is judged.",
        examples=[{"web-1": {"address": "http://10.0.0.11:8000"}}],
    )
    allow_faults: bool = Field(
        default=False,
        description="Whether hooks may be run. The host has to be named once more when it is judged: typed, or "
        "--yes-i-own HOST.",
    )
    stop: Hook | None = Field(
        default=None,
        description="Stops an instance, and returns when it has stopped.",
        examples=[["ssh", "{instance}", "sudo", "systemctl", "stop", "shop"]],
    )
    start: Hook | None = Field(
        default=None,
        description="Starts an instance that was stopped or killed.",
        examples=[["ssh", "{instance}", "sudo", "systemctl", "start", "shop"]],
    )
    kill: Hook | None = Field(
        default=None,
        description="Ends an instance without warning.",
        examples=[["ssh", "{instance}", "sudo", "systemctl", "kill", "--signal=SIGKILL", "shop"]],
    )
    restarts: bool = Field(
        default=False,
        description="Whether an instance that was killed is started again by whoever looks after it (systemd's Restart=, a "
        "deployment of Kubernetes): then nobody else starts it.",
    )
    pause: Hook | None = Field(
        default=None,
        description="Freezes an instance: its connections stay, and nothing is answered.",
        examples=[["ssh", "{instance}", "sudo", "systemctl", "kill", "--signal=SIGSTOP", "shop"]],
    )
    resume: Hook | None = Field(
        default=None,
        description="Lets a frozen instance go on.",
        examples=[["ssh", "{instance}", "sudo", "systemctl", "kill", "--signal=SIGCONT", "shop"]],
    )
    deploy: Hook | None = Field(
        default=None,
        description="Replaces an instance by the new version, and returns when that was started.",
        examples=[["./deploy", "{instance}", "2"]],
    )
    revert: Hook | None = Field(
        default=None,
        description="Replaces an instance by the version of before. Not given: what was deployed stays.",
        examples=[["./deploy", "{instance}", "1"]],
    )
    ready: Hook | None = Field(
        default=None,
        description="Ends with 0 when an instance wants traffic: for one without an address.",
        examples=[["ssh", "{instance}", "curl", "-fsS", "http://127.0.0.1:8000/ready"]],
    )
    log: Hook | None = Field(
        default=None,
        description="Prints the last lines of the balancer's log, for app.identity.log. Done to nothing, it needs no allow_faults.",
        examples=[["ssh", "lb", "sudo", "tail", "-n", "5000", "/var/log/nginx/access.log"]],
    )
    hook_seconds: Seconds = Field(
        default=60.0, description="How long a hook may take; then it is ended, and counts as failed."
    )
    most_per_second: Annotated[
        float, Between(0.1, 1000, because="a site that is in use must stay usable, and load is another command's task")
    ] = Field(
        default=20.0, description="No more requests per second are sent than this, whatever a scenario would like."
    )

    @property
    def host(self) -> str:
        """Of the address people use, as its owner names it."""
        return urlsplit(self.balancer).hostname or ""

    def hook(self, name: str, instance: str) -> tuple[str, ...] | None:
        """The command for this instance, its placeholders as they are; None where there is none."""
        own: tuple[str, ...] | None = getattr(self.instances[instance], name)
        common: tuple[str, ...] | None = getattr(self, name)
        return own if own is not None else common


HOOKS = ("stop", "start", "kill", "pause", "resume", "deploy", "revert", "ready")
"""What may be done to an instance that runs elsewhere, by the keys of its commands."""


class Take(_Table):
    """Where in an answer a value is found, to be used in later steps."""

    KINDS: ClassVar[tuple[str, ...]] = ("field", "header", "cookie", "json", "regex", "python")

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
    python: str | None = Field(
        default=None,
        description="A function of your own, as file.py:function, relative to the folder of the setup file: it is given the answer and "
        "returns text.",
        examples=["totp.py:code"],
    )

    def given(self) -> Mapping[str, str]:
        """The kinds that were given with their values. One, in a file without mistakes."""
        every = {
            "field": self.field,
            "header": self.header,
            "cookie": self.cookie,
            "json": self.json_path,
            "regex": self.regex,
            "python": self.python,
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
    files: Texts | None = Field(
        default=None,
        description="Files, by the name of their field, each with what is in it; sent with the fields of form, if any, as "
        "a browser sends a file (multipart/form-data).",
        examples=[{"file": "{text}"}],
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


class User(_Table):
    """Somebody who has an account already."""

    email: Annotated[str, _OF_A_PERSON] = Field(
        default="",
        description="What {user.email} stands for: the e-mail address, or whatever they log in by.",
        examples=["ada@example.com"],
    )
    password: Annotated[str, _OF_A_PERSON] = Field(
        default="", repr=False, description="What {user.password} stands for. Not given: as users.password_from says."
    )
    name: Annotated[str, _OF_A_PERSON] = Field(
        default="", description="What {user.name} stands for. Not given: what stands before the @.", examples=["Ada"]
    )


class Users(_Table):
    """The people there are, where nobody is to register."""

    given: Annotated[tuple[User, ...], BeforeValidator(listed())] = Field(
        default=(), description="People.", examples=[[{"email": "ada@example.com", "password": "..."}]]
    )
    file: Annotated[str, NotEmpty(because='name a file, such as "people.csv"')] | None = Field(
        default=None,
        description="A file with people, relative to the folder of the setup file: CSV whose first line is email,password,name, or "
        "TOML with [[users]].",
        examples=["people.csv"],
    )
    password_from: VariableName | None = Field(
        default=None,
        description="The environment variable with the password of everybody who has none of their own.",
        examples=["SHOP_PASSWORD"],
    )


class Journey(_Table):
    """How a person does one thing in this application."""

    steps: Annotated[tuple[Step, ...], BeforeValidator(listed())] = Field(
        default=(), description="The requests, one after the other.", examples=[[{"get": "/login"}]]
    )


class Rollout(_Table):
    """How a new version replaces the old."""

    kind: Literal["rolling", "all-at-once", "blue-green"] = Field(
        default="rolling",
        description="One instance at a time; all of them together; or a second set of them beside the first, to which the "
        "balancer is switched.",
    )
    drain: Literal["balancer-first", "on-unready", "none"] = Field(
        default="balancer-first",
        description="Who knows first that an instance will stop: the balancer; the instance, whose ready path then "
        "says no; or nobody. Of blue-green the set that was left is kept until it has answered all it had, or with none removed "
        "at once.",
    )
    gate: Literal["ready", "none"] = Field(
        default="ready",
        description="Whether the next instance waits until the last one is ready, and a switch until the other set is. none: "
        "only for pause_seconds.",
    )
    pause_seconds: Annotated[float, AtLeast(0, because="nobody waits for less than nothing")] = Field(
        default=0.0,
        description="How long to wait before the next instance, as a script with a sleep does.",
        examples=[10],
    )
    batch: Annotated[int, AtLeast(1, because="nobody is replaced by nobody")] = Field(
        default=1, description="How many instances a rolling rollout replaces at the same time."
    )
    at_least: Annotated[int, AtLeast(1, because="with nobody in use nobody is served")] | None = Field(
        default=None,
        description="How many instances must be in use at any moment of a rollout, for the load there is. Not given: all but one.",
        examples=[3],
    )
    env: Texts = Field(
        default_factory=dict,
        description="Environment variables of the new version, on top of app.env.",
        examples=[{"APP_VERSION": "2"}],
    )
    migrate: TextList | None = Field(
        default=None,
        description="What is run once, with the environment of the new version, before a rollout replaces the first instance.",
        examples=[["./server-2", "migrate"]],
    )
    command: TextList | None = Field(
        default=None,
        description="The command of the new version. Not given: the same command.",
        examples=[["./server-2", "--listen", "{host}:{port}"]],
    )
    image: Annotated[str, NotEmpty(because="name an image, such as myapp:2")] | None = Field(
        default=None, description="The image of the new version. Not given: the same image.", examples=["myapp:2"]
    )
    bad_env: Texts = Field(
        default_factory=dict,
        description="Environment variables with which the application starts and never becomes healthy, on top of "
        "app.env: a bad version, for those who should take it back.",
        examples=[{"APP_VERSION": "bad", "DATABASE_URL": "postgres://nobody@nowhere/none"}],
    )


class Swarm(_Table):
    """How Docker Swarm keeps the replicas of the application. Only read where that is what runs them."""

    health: TextList | None = Field(
        default=None,
        description="The health check: a program and its arguments, run inside each replica; it must end with 0. Not "
        "given: the one of the image. An empty list is none, and a container that runs then counts as healthy.",
        examples=[["curl", "--fail", "http://127.0.0.1:{port}/ready"]],
    )
    health_interval_seconds: Annotated[float, AtLeast(0.1, because="the engine needs a moment for each")] = Field(
        default=2.0, description="The time between two health checks; each starts a program in every replica."
    )
    health_start_seconds: Annotated[float, AtLeast(0, because="0 is no time to start")] = Field(
        default=10.0, description="How long after its start a replica may fail its health check."
    )
    health_retries: Annotated[int, AtLeast(1, because="one failure has to be one")] = Field(
        default=3, description="After how many failed checks in a row a replica counts as unhealthy."
    )
    order: Literal["start-first", "stop-first"] = Field(
        default="start-first", description="Whether an update starts the new replica before it stops the old one."
    )
    parallelism: Annotated[int, AtLeast(0, because="0 is all of them")] = Field(
        default=1, description="How many replicas an update replaces at a time; 0 is all of them."
    )
    delay_seconds: Annotated[float, AtLeast(0, because="0 is no pause")] = Field(
        default=0.0, description="The pause between two replicas of an update."
    )
    monitor_seconds: Annotated[float, AtLeast(0.1, because="0 means something else to Swarm")] = Field(
        default=5.0, description="How long an updated replica is watched before it counts as well."
    )
    failure_action: Literal["rollback", "pause", "continue"] = Field(
        default="rollback", description="What is done about an update of which a replica fails."
    )
    restart: Literal["any", "on-failure", "none"] = Field(
        default="any", description="After which ends a replica is replaced."
    )
    restart_delay_seconds: Annotated[float, AtLeast(0, because="0 is at once")] = Field(
        default=0.5, description="How long Swarm waits before it replaces one; its own default is 5."
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
    headers: Texts = Field(
        default_factory=dict,
        description="Headers that go with every request, of people and of the harness's own questions. They hold no placeholders.",
        examples=[{"X-Forwarded-Proto": "https"}],
    )


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
    images: Images = Field(
        default_factory=Images, description="The container images of everything that is not the application."
    )
    compose: Compose | None = Field(
        default=None,
        description="A compose project of your own to judge, instead of nodes that the harness sets up.",
        examples=[{"file": "docker-compose.yml"}],
    )
    remote: Remote | None = Field(
        default=None,
        description="A site that runs already, somewhere else, instead of nodes that the harness sets up.",
        examples=[{"balancer": "https://staging.example.org"}],
    )
    journey: Mapping[str, Journey] = Field(
        default_factory=dict,
        description="How a person does things in this application, by the name of the thing.",
        examples=[{}],
    )
    users: Users | None = Field(
        default=None,
        description="The people there are, where nobody is to register. Not given: everybody registers.",
        examples=[{"file": "people.csv"}],
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version replaces the old.")
    swarm: Swarm = Field(
        default_factory=Swarm, description="How Docker Swarm keeps the replicas, where that is what runs them."
    )
    traffic: Traffic = Field(default_factory=Traffic, description="How many people come, and how often.")
    promises: Promises = Field(default_factory=Promises, description="What is asked of the setup.")

    _file: Path | None = PrivateAttr(default=None)
    _people: tuple[User, ...] = PrivateAttr(default=())

    @property
    def file(self) -> Path | None:
        """The file it was read from, absolute."""
        return self._file

    @property
    def people(self) -> tuple[User, ...]:
        """Those it gives, once they are known (`know_people`); none where everybody registers."""
        return self._people

    def declared_journeys(self) -> dict[str, dict[str, Any]]:
        """The journeys as plain data, files of functions by their absolute path."""
        base = self._file.parent if self._file is not None else Path().absolute()
        plain = {
            name: journey.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for name, journey in self.journey.items()
        }
        for journey in plain.values():
            for step in journey.get("steps", ()):
                for take in step.get("take", {}).values():
                    if take.get("python") is not None:
                        file, _, function = take["python"].rpartition(":")
                        take["python"] = f"{base / file}:{function}"
        return plain

    @property
    def asks_password(self) -> bool:
        """Whether a journey sends a person's password."""
        return any("{user.password}" in journey.model_dump_json(by_alias=True) for journey in self.journey.values())

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

    def migration(self, *, new_version: bool = False) -> tuple[str, ...] | None:
        """What is run once before the first instance of a version, before its placeholders are filled in; None for nothing."""
        return self.rollout.migrate if new_version else self.app.migrate

    def image(self, *, new_version: bool = False) -> str | None:
        """The image of an instance; None where there is only a command."""
        return (self.rollout.image if new_version else None) or self.app.image

    def env_of(self, instance: str, *, new_version: bool = False) -> Mapping[str, str]:
        """The environment of one instance before its placeholders are filled in: `app.env`, then `rollout.env` for
        the new version, then what this instance alone has."""
        return {
            **self.app.env,
            **(self.rollout.env if new_version else {}),
            **self.app.instance_env.get(instance, {}),
        }

    @property
    def bad_env(self) -> Mapping[str, str]:
        """The environment of every instance of a version that never becomes healthy, its placeholders as they are."""
        return {**self.app.env, **self.rollout.bad_env}

    def directory(self, values: Mapping[str, str]) -> Path:
        """The working directory of the application, absolute, its placeholders filled in. It may not exist."""
        base = self._file.parent if self._file is not None else Path()
        return (base / expand(self.app.directory, values)).absolute()
