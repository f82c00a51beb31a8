"""What a setup file becomes: values, defaults, overrides, placeholders; and that any file gets words or a setup."""

from __future__ import annotations

import math
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import BadInput, HarnessError, SetupError
from harness.setup import App, Balancer, Setup, expand, load_setup, parse_override, parse_setup, placeholders_in
from harness.setup.messages import has_inside, inside

SETUPS = Path(__file__).parent.parent / "fixtures" / "setups"
REFERENCE = SETUPS / "reference.toml"


# -- the setups that are shipped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(SETUPS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_setup_is_right_and_named_as_its_file(file: Path) -> None:
    """Each shipped setup loads, names itself as its file is named, and points editors to the schema."""
    assert load_setup(file).name == file.stem
    first_line = file.read_text(encoding="utf-8").splitlines()[0]
    assert (
        file.parent / first_line.removeprefix("#:schema ")
    ).resolve() == SETUPS.parent.parent / "docs/setup.schema.json"


def test_the_postgres_setup_differs_only_in_where_sessions_are() -> None:
    """Redis or Postgres sessions is the one difference, so that a difference in verdicts has one reason."""
    redis, postgres = load_setup(REFERENCE), load_setup(SETUPS / "reference-postgres.toml")
    assert postgres.redis is None
    assert redis.redis is not None
    moved = {"name": redis.name, "redis": {}, "sessions.store": "redis", "app.env.REDIS_URL": "{redis.url}"}
    assert load_setup(SETUPS / "reference-postgres.toml", overrides=moved).model_dump() == redis.model_dump()


@pytest.mark.parametrize(
    ("secure", "plain"), [("reference-tls", "reference-postgres"), ("reference-haproxy-tls", "reference-haproxy")]
)
def test_the_setups_with_tls_are_those_without(secure: str, plain: str) -> None:
    """They differ by the table and the name, and in nothing that any other promise could depend on."""
    setup = load_setup(SETUPS / f"{secure}.toml", overrides={"name": plain})
    assert setup.balancer.tls is not None
    assert (setup.balancer.tls.redirect, setup.balancer.tls.versions) == (308, ("1.2", "1.3"))
    bare = setup.model_copy(update={"balancer": setup.balancer.model_copy(update={"tls": None})})
    assert bare.model_dump() == load_setup(SETUPS / f"{plain}.toml").model_dump()


def test_a_page_that_shows_all_that_somebody_wrote_is_a_read() -> None:
    """It is told by what the page must hold, and no id is needed to ask for it."""
    steps = [{"get": "/notes", "expect": {"status": 200, "contains": "{text}"}}]
    assert load_setup(REFERENCE, overrides={"journey.read.steps": steps}).journey["read"].steps[0].get == "/notes"


def test_tls_of_haproxy_is_as_bare_as_in_the_guide() -> None:
    """It has no security headers there and tells the application nothing; nginx has and does."""
    kinds = {kind: Balancer.model_validate({"kind": kind, "tls": {}}).tls for kind in ("nginx", "haproxy")}
    assert {kind: (tls.security_headers, tls.forward) for kind, tls in kinds.items() if tls is not None} == {
        "nginx": ("always", ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto")),
        "haproxy": ("none", ()),
    }


def test_the_guide_setup_has_the_balancer_of_the_guide() -> None:
    """The defaults of [balancer] are the guide's, and the guide's setup spells them out."""
    assert load_setup(SETUPS / "guide.toml").balancer == Balancer()


# -- values and defaults ----------------------------------------------------------------------------------------------


def test_each_balancer_has_the_defaults_of_the_guide_for_it() -> None:
    """The guide gives other times to HAProxy, and leaves connections to instances open there."""
    nginx, haproxy = Balancer(), Balancer(kind="haproxy")
    assert (nginx.connect_timeout_seconds, nginx.read_timeout_seconds, nginx.keepalive) == (60.0, 60.0, 0)
    assert (haproxy.connect_timeout_seconds, haproxy.read_timeout_seconds, haproxy.keepalive) == (5.0, 50.0, -1)
    # HAProxy's own, which the guide leaves as they are.
    assert (haproxy.check_interval_seconds, haproxy.fall, haproxy.rise) == (2.0, 3, 2)
    assert (haproxy.retries, haproxy.redispatch, haproxy.retry_on) == (3, 0, ("conn-failure",))
    assert (nginx.checks, haproxy.checks) == (False, True)
    assert (nginx.keepalive_seconds, haproxy.keepalive_seconds) == (60.0, 5.0)
    assert Balancer(kind="haproxy", keepalive=0, read_timeout_seconds=2).read_timeout_seconds == 2


def test_a_setup_cannot_be_changed_once_it_is_read() -> None:
    """What was checked stays as it was checked."""
    setup = load_setup(REFERENCE)
    with pytest.raises(ValidationError):
        setup.app.instances = 1  # type: ignore[misc]


def test_a_setup_knows_its_instances_and_where_it_was_read(tmp_path: Path) -> None:
    """Names, pool, entry page and folder follow from what is declared."""
    setup = load_setup(REFERENCE, overrides={"app.instances": 2, "app.directory": "{run}/x"})
    assert setup.app.names == ("app-1", "app-2")
    assert setup.pool == ("app-1", "app-2")
    assert setup.entry_page == "/login"
    assert setup.app.ready_path == "/ready"
    assert setup.file == REFERENCE
    assert setup.directory({"run": "r1"}) == REFERENCE.parent / "r1" / "x"
    assert setup.directory({"run": str(tmp_path)}) == tmp_path / "x"
    assert load_setup(REFERENCE, overrides={"balancer.pool": ["app-2"]}).pool == ("app-2",)


def test_the_environment_of_an_instance_is_laid_in_three_layers() -> None:
    """All instances, then the new version, then the single instance."""
    setup = load_setup(
        REFERENCE,
        overrides={
            "app.env": {"PORT": "{port}", "A": "all", "B": "all", "C": "all"},
            "rollout.env": {"B": "new", "C": "new"},
            "rollout.command": ["./new"],
            "app.instance_env.app-2.C": "own",
        },
    )
    assert setup.env_of("app-1") == {"PORT": "{port}", "A": "all", "B": "all", "C": "all"}
    assert setup.env_of("app-1", new_version=True) == {"PORT": "{port}", "A": "all", "B": "new", "C": "new"}
    assert setup.env_of("app-2", new_version=True) == {"PORT": "{port}", "A": "all", "B": "new", "C": "own"}
    assert setup.command(new_version=True) == ("./new",)
    assert setup.command() == ("{python}", "-m", "reference_app")


def test_a_name_is_taken_from_the_file_when_none_is_given(tmp_path: Path) -> None:
    """`shop.toml` is the setup `shop`; a plain harness.toml is named after its folder."""
    content = REFERENCE.read_text(encoding="utf-8").replace('name = "reference"\n', "")
    for path, name in {"my shöp!.toml": "my sh-p-", "shop/harness.toml": "shop", "...toml": "setup"}.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
        assert load_setup(file).name == name


def test_a_lone_status_is_a_list_of_one_and_no_version_path_is_none() -> None:
    """What the file may say in two ways is one thing to who reads the setup."""
    setup = load_setup(REFERENCE, overrides={"journey.login.steps.2.recognised.status": [200, 206], "app.version": ""})
    assert setup.journey["login"].steps[2].rules()["recognised"].status == (200, 206)
    assert setup.journey["whoami"].steps[0].rules()["recognised"].status == (200,)
    assert setup.app.version is None


# -- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("app.instances=4", "app.instances", 4),
        (" app.instances = 4 ", "app.instances", 4),
        ("traffic.rate=2.5", "traffic.rate", 2.5),
        ("postgres.durable=true", "postgres.durable", True),
        ("app.stop_signal=SIGINT", "app.stop_signal", "SIGINT"),
        ('app.env.A="8080"', "app.env.A", "8080"),
        ("app.env.A=postgres://a?b=c", "app.env.A", "postgres://a?b=c"),
        ("app.env.A={postgres.url}", "app.env.A", "{postgres.url}"),
        ("app.env.A=", "app.env.A", ""),
        ("app.env.A=1\nb = 2", "app.env.A", "1\nb = 2"),
        ("balancer.next_upstream=[]", "balancer.next_upstream", []),
        ('rollout.env={ A = "1" }', "rollout.env", {"A": "1"}),
        ('promises.waived."failover.*"=because', 'promises.waived."failover.*"', "because"),
        ("app.env.'a=b'=1", "app.env.'a=b'", 1),
    ],
)
def test_an_override_is_taken_apart(text: str, key: str, value: object) -> None:
    """A key with dots and a value of TOML; what is no TOML is text."""
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app.instances", 'a value is set by key=value (got "app.instances"): write --set app.instances=4'),
        ("=4", 'a value is set by key=value (got "=4"): write --set app.instances=4'),
        ("a b=4", 'a value is set by key=value (got "a b=4"): write --set app.instances=4'),
        ("app..x=4", 'a value is set by key=value (got "app..x=4"): write --set app.instances=4'),
        ('"\\d"=4', 'a value is set by key=value (got "\\"\\\\d\\"=4"): write --set app.instances=4'),
        ("app.command=[1", "the value of app.command is not complete (got [1): unclosed array"),
        ('name="x', 'the value of name is not complete (got "x): unterminated string'),
    ],
)
def test_an_override_that_is_none_is_refused(text: str, message: str) -> None:
    """Neither half a list nor a key without a value is guessed at."""
    with pytest.raises(BadInput) as refused:
        parse_override(text)
    assert str(refused.value) == message


def test_overrides_reach_anything_in_a_file() -> None:
    """Tables, new tables, places in lists; None takes a key out. The data given is left as it was."""
    data = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))
    before = deepcopy(data)
    setup = parse_setup(
        data,
        source="x",
        overrides={
            "app.instances": 4,
            "app.instance_env.app-4.A": "1",
            "journey.login.steps.0.get": "/signin",
            "journey.counter": None,
            'promises.waived."failover.*"': "because",
        },
    )
    assert setup.app.instance_env == {"app-4": {"A": "1"}}
    assert setup.entry_page == "/signin"
    assert "counter" not in setup.journey
    assert setup.promises.waived == {"failover.*": "because"}
    assert data == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("app..x", '"app..x" is no key: write names with dots between, as app.instances'),
        ("a = 1 #", '"a = 1 #" is no key: write names with dots between, as app.instances'),
        ("app.health.x", 'app.health.x cannot be set: app.health is no table (got "/health")'),
        ("journey.login.steps.7.get", 'journey.login.steps has no place "7": it has 3, counted from 0'),
        ("journey.login.steps.x", 'journey.login.steps has no place "x": it has 3, counted from 0'),
        ("app.instnces", "app.instnces is not a known key: did you mean app.instances?"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(key: str, message: str) -> None:
    """An override gets the same words as a key in the file."""
    with pytest.raises(SetupError) as refused:
        load_setup(REFERENCE, overrides={"app.health": "/health", key: "1"})
    assert refused.value.mistakes == (message,)


# -- placeholders -----------------------------------------------------------------------------------------------------


def test_placeholders_are_filled_in_once() -> None:
    """Doubled braces are single ones, and a value with braces in it is put in as it is."""
    assert expand("{host}:{port}/{{x}}{{{port}}}", {"host": "{port}", "port": "80"}) == "{port}:80/{x}{80}"
    assert expand("plain", {}) == "plain"
    assert placeholders_in("{a.b}{{c}}{d}{a.b}") == ("a.b", "d")


def test_a_placeholder_without_a_value_is_an_error_of_ours() -> None:
    """The file was checked against the names there are, so a missing value is no fault of the setup."""
    with pytest.raises(HarnessError, match=r"no value was given for the placeholder \{port\} in '\{port\}'") as refused:
        expand("{port}", {})
    assert not isinstance(refused.value, BadInput)


# -- anything at all --------------------------------------------------------------------------------------------------

_JARGON = ("Input", "input", "valid ", "_type", "pydantic", "NoneType", "<class", "extra_forbidden", "cannot be used")
_KEYS = ["get", "status", "a b", "steps", "json", "PORT"]
_VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.text(max_size=8),
        st.dates(),
        st.datetimes(),
        st.sampled_from(["{port}", "{", "/", "app-1", "app-9", "{text}", "off", "redis"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for key, inner in inside for each in _places(inner, (*place, key)))]


_DATA: dict[str, Any] = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))
_PLACES = [place for place in _places(_DATA) if place]
_NEW = [("app", "image"), ("app", "instance_env"), ("balancer", "pool"), ("rollout", "command"), ("promises",), ("x",)]


# No database: a test leaves nothing behind, and what once failed is written down as a test of its own.
@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from([*_PLACES, *_NEW]), _VALUES), min_size=1, max_size=3))
def test_any_wrong_value_anywhere_gets_words(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    """Whatever stands wherever: a setup, or mistakes in our words, each of one line."""
    data: Any = deepcopy(_DATA)
    for (*above, last), value in changes:
        holder = data
        for part in above:
            holder = inside(holder, part) if has_inside(holder, part) else None
        if isinstance(holder, dict) or has_inside(holder, last):
            holder[last] = value
    setup, mistakes = _read(data)
    assert (setup is None) == bool(mistakes)
    for mistake in mistakes:
        # What was seen is the person's own.
        ours = mistake.split("(got ")[0] + mistake.rsplit("): ")[-1]
        assert not any(word in ours for word in _JARGON), mistake
        assert "\n" not in mistake
    if setup is not None:
        assert all(math.isfinite(number) for number in (setup.traffic.rate, setup.app.ready_within_seconds))


def _read(data: Any) -> tuple[Setup | None, tuple[str, ...]]:
    try:
        return parse_setup(data, source="x"), ()
    except SetupError as refused:
        return None, refused.mistakes


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({}, (0, 143)),
        ({"stop_signal": "SIGINT"}, (0, 130)),
        ({"stop_exit_codes": 0}, (0,)),
        ({"stop_signal": "SIGQUIT", "stop_exit_codes": [0, 3]}, (0, 3)),
    ],
)
def test_what_a_good_end_is(given: dict[str, Any], codes: tuple[int, ...]) -> None:
    """0, or ended by the very signal it was sent; or whatever the file says, and nothing else."""
    assert App.model_validate(given).good_exit_codes == codes


@pytest.mark.parametrize("wrong", [[], 256, [-9], True])
def test_what_no_exit_code_is(wrong: object) -> None:
    """A process ends with 0 to 255; one that a signal ended has 128 and its number."""
    with pytest.raises(ValidationError):
        App.model_validate({"stop_exit_codes": wrong})
