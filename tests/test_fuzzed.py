"""Files and values that nobody would write: each has an end that was foreseen, a setup or one message, and never another."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_runs import stored

from harness.compose import find_roles, parse_project, read_haproxy, read_nginx
from harness.errors import BadInput, HarnessError, JournalError, SetupError
from harness.journeys import MissingValueError, compile_journeys
from harness.model import Connection
from harness.rejudging import rejudge
from harness.reporting import write_page
from harness.setup import load_setup, schema_text
from harness.setup.models import Compose
from harness.traffic import read_journal
from harness.traffic.people import People
from harness.traffic.plans import plan_journeys
from harness.traffic.wire import Target

CHECKOUT = Path(__file__).parents[1]
SETUPS = {path.name: path.read_bytes() for path in sorted((CHECKOUT / "fixtures/setups").glob("*.toml"))}
# The same examples each time: what fails here failed before it was changed, and nothing is left behind.
fuzzed = settings(max_examples=150, deadline=None, database=None, derandomize=True)

EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [
                    b"",
                    b"\n",
                    b'"',
                    b"'",
                    b"[",
                    b"]",
                    b"{",
                    b"}",
                    b"=",
                    b"#",
                    b"\x00",
                    b"\xff",
                    b"true",
                    b"-1",
                    b"1e999",
                    b"9" * 30,
                    b"{port}",
                    b"{{",
                    b"[[journey.x.steps]]\n",
                    b"nan",
                    b"1979-05-27",
                    b".",
                    b"\\u0000",
                    b"../../x",
                ]
            ),
        ),
    ),
    min_size=1,
    max_size=5,
)


def edited(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """With so many bytes replaced at each of these places."""
    for place, count, new in edits:
        at = place % (len(text) + 1)
        text = text[:at] + new + text[at + count :]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("fuzzed")


@fuzzed
@given(st.sampled_from(sorted(SETUPS)), EDITS)
def test_a_setup_file_is_read_or_refused(folder: Path, name: str, edits: list[tuple[int, int, bytes]]) -> None:
    """Changed anywhere, in the middle of a word or of a letter."""
    file = folder / "setup.toml"
    file.write_bytes(edited(SETUPS[name], edits))
    try:
        load_setup(file)
    except BadInput as refused:
        told = str(refused)
    else:
        return
    assert told.strip()


_SCHEMA_KEYS = sorted({word for word in schema_text().split('"') if word.replace("_", "").isalpha()})
_TOML = st.recursive(
    st.one_of(
        st.booleans().map(lambda value: str(value).lower()),
        st.integers(-(10**20), 10**20).map(str),
        st.sampled_from(
            ["nan", "inf", "1e400", '"{port}"', '"/"', '"x"', '""', '"{{"', '"{"', "07:32:00", '"\\u0007"']
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(_SCHEMA_KEYS), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=8,
)


@fuzzed
@given(st.dictionaries(st.sampled_from(_SCHEMA_KEYS), _TOML, max_size=6))
def test_a_setup_of_any_keys_is_read_or_refused(folder: Path, keys: dict[str, str]) -> None:
    """Keys that there are, in places where they are not, with values of any kind."""
    file = folder / "setup.toml"
    file.write_text("\n".join(f"{key} = {value}" for key, value in keys.items()), encoding="utf-8")
    with pytest.raises(BadInput, match=r"."):
        load_setup(file)


# -- journeys ------------------------------------------------------------------------------------------------------------

_ANY = st.text(max_size=12) | st.sampled_from(
    ["{a}", "{user.email}", "{", "}}", "/x", "//x", "/{a}/{a}", "/x?y={a}#z", "é"]
)
_STEP = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("get", "post", "put", "delete"), _ANY | st.none() | st.integers()),
        "form": st.dictionaries(_ANY, _ANY, max_size=2) | _ANY,
        "json": st.recursive(
            _ANY | st.integers() | st.none() | st.floats(),
            lambda inner: st.lists(inner) | st.dictionaries(_ANY, inner),
            max_leaves=4,
        ),
        "files": st.dictionaries(_ANY, _ANY, max_size=2),
        "headers": st.dictionaries(_ANY | st.sampled_from(["X-A", "Host", "Cookie"]), _ANY, max_size=2),
        "take": st.dictionaries(
            st.sampled_from(["a", "user.email", "x y"]),
            st.dictionaries(
                st.sampled_from(["field", "header", "cookie", "json", "regex"]),
                _ANY
                | st.sampled_from(
                    ["(x)", "(", "a{99999999999}", "(?P<x", "(" * 200, "(" * 200 + ")" * 200, "(?i", "(a)\\2"]
                ),
                max_size=2,
            ),
            max_size=2,
        ),
        "expect": st.fixed_dictionaries(
            {},
            optional={
                "status": st.integers() | st.lists(st.integers()),
                "location": _ANY,
                "contains": _ANY,
                "absent": _ANY,
            },
        ),
    },
)


@fuzzed
@given(st.dictionaries(st.text(max_size=4), st.fixed_dictionaries({"steps": st.lists(_STEP, max_size=3)}), max_size=3))
def test_a_journey_compiles_or_is_refused(journeys: dict[str, Any]) -> None:
    """And what compiles is declared as what compiles to it again: it reaches the traffic process that way."""
    try:
        compiled = compile_journeys(journeys)
    except SetupError:
        return
    again = compile_journeys({name: journey.declared() for name, journey in compiled.items()})
    assert again == compiled


class Asked:
    """A request, as a server of its own reads it."""

    def __init__(self, request: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.whole = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(request)
        self.method = self.parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


_HOSTILE = st.text(max_size=30) | st.sampled_from(
    [
        "x\r\nX-Evil: yes",
        "x\n\nGET /evil HTTP/1.1",
        "//evil.example/x",
        "http://evil.example/",
        "../../evil",
        "x HTTP/1.1\r\nHost: evil\r\n\r\n",
        "\x00",
        "%0d%0aX-Evil: yes",
        "?x=1#y",
        "\u010d\u010aX-Evil: yes",
        "\x85X-Evil: yes",
    ]
)
_JOURNEY = compile_journeys(
    {
        "x": {
            "steps": [
                {"get": "/"},
                {"get": "/{a}", "take": {"a": {"header": "x"}}},
                {"get": "/p/{a}/q?r={a}&s=1"},
                {"post": "/f", "form": {"a": "{a}", "{{b}}": "{a}"}, "headers": {"X-A": "v {a}"}},
                {"put": "/j", "json": {"a": ["{a}", {"b": "{a}"}]}},
                {"post": "/m", "form": {"n": "{a}"}, "files": {"f": "{a}"}},
                {"delete": "/d", "headers": {"X-A": "{a}"}},
            ]
        }
    }
)
_PLAN = plan_journeys(_JOURNEY, {})["x"]
_TARGET = Target(2, ("127.0.0.1", 80), "ours:80")


@fuzzed
@given(_HOSTILE, _HOSTILE)
def test_no_value_becomes_more_than_a_value(value: str, cookie: str) -> None:
    """One request, to whom it was meant for, with the headers it was to have; or it is not sent."""
    (visitor,) = People(1).arrive(1)
    visitor.jar.take([f"s={cookie}; Path=/", f"{cookie}=t"])
    for step in _PLAN.steps:
        if step.fixed is not None:
            path, request = step.fixed.path, step.same_for_all(step.fixed, visitor, _TARGET, Connection.FRESH)
        else:
            try:
                path, request = step.filled(visitor, {"a": value}, _TARGET, Connection.FRESH)
            except MissingValueError:
                assert step.step.headers
                continue
        asked = Asked(request)
        names = [name for name, _ in asked.headers]
        assert asked.whole == 1
        assert asked.method.decode() == step.step.method
        assert asked.url.decode() == path
        assert dict(asked.headers)[b"host"] == b"ours:80"
        allowed = {
            b"host",
            b"user-agent",
            b"accept",
            b"accept-encoding",
            b"connection",
            b"content-length",
            b"content-type",
        }
        assert set(names) - allowed <= {b"cookie", b"x-a"}
        assert len(names) == len(set(names))
        # What is between the slashes of the setup is one part of a path still.
        assert path.partition("?")[0].count("/") == step.step.path.text.partition("?")[0].count("/")
        if step.index == 1:
            assert unquote_to_bytes(path[1:]) == value.encode("utf-8", "replace")
        assert not urlsplit(f"http://ours{path}").netloc.endswith("evil.example")


# -- other files -----------------------------------------------------------------------------------------------------------

NGINX_TEXT = (
    b"worker_processes 2;\nhttp { upstream app { least_conn; zone x 64k; server app:8000 max_fails=3 fail_timeout=30s resolve; }\n"
    b'server { location / { proxy_pass http://app; proxy_next_upstream error timeout; proxy_read_timeout 1m; add_header X "a;b"; } } }\n'
)
HAPROXY_TEXT = (
    b"global\n  nbthread 2\ndefaults\n  timeout connect 5s\n  timeout server 30s\nbackend app\n  balance leastconn\n"
    b"  option httpchk GET /health\n  server-template app 3 app:8000 check resolvers docker\n  server a app:8000 check\n"
)


@fuzzed
@given(EDITS)
def test_a_configuration_of_a_balancer_is_read(edits: list[tuple[int, int, bytes]]) -> None:
    """As far as it can be understood: what is wrong with it is for the balancer to say."""
    for text, read in ((NGINX_TEXT, read_nginx), (HAPROXY_TEXT, read_haproxy)):
        assert isinstance(read(edited(text, edits).decode("utf-8", "replace"), names=("app",)), dict)


@fuzzed
@given(EDITS)
def test_a_journal_is_read_or_refused(folder: Path, edits: list[tuple[int, int, bytes]]) -> None:
    """Changed anywhere: what a run says that was changed afterwards is one message."""
    run = folder / "run"
    if not run.exists():
        run.mkdir()
        stored(run)
    whole = (run / "history.jsonl").read_bytes()
    broken = folder / "broken.jsonl"
    broken.write_bytes(edited(whole, edits))
    with suppress(JournalError):
        read_journal(broken)


@fuzzed
@given(EDITS, st.booleans())
def test_a_stored_run_is_judged_again_or_refused(folder: Path, edits: list[tuple[int, int, bytes]], both: bool) -> None:
    """Its verdicts as well as its record."""
    run = folder / "again"
    if not run.exists():
        run.mkdir()
        stored(run)
    kept = {name: (run / name).read_bytes() for name in ("verdicts.json", "history.jsonl")}
    try:
        (run / "verdicts.json").write_bytes(edited(kept["verdicts.json"], edits))
        if both:
            (run / "history.jsonl").write_bytes(edited(kept["history.jsonl"], edits))
        for act in (rejudge, write_page):
            with suppress(HarnessError):
                act(run)
    finally:
        for name, content in kept.items():
            (run / name).write_bytes(content)


@fuzzed
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["image", "build", "ports", "target", "published", "environment", "volumes", "networks", "deploy"]
                )
                | st.text(max_size=3),
                inner,
                max_size=3,
            )
        ),
        max_leaves=10,
    )
)
def test_a_project_of_services_that_declare_little_has_roles_or_is_refused(told: Any) -> None:
    """What `docker compose config` would print is checked by it; of that, everything may be missing."""
    services = {"web": {"image": str(told)[:10]}, "nginx": {"image": "nginx", "ports": [{"target": 80}]}}
    if isinstance(told, dict):
        services |= {str(name): {} for name in told}
    with suppress(BadInput):
        find_roles(parse_project({"services": services}), Compose())


def test_the_texts_changed_here_can_be_read_as_they_are() -> None:
    """Else nothing was changed but what was refused anyway."""
    assert read_nginx(NGINX_TEXT.decode(), names=("app",))["algorithm"] == "least_conn"
    assert read_haproxy(HAPROXY_TEXT.decode(), names=("app",))["algorithm"]
    assert all(tomllib.loads(text.decode()) for text in SETUPS.values())
