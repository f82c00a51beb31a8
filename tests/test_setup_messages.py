"""Every mistake in a setup file is told at once, each with its key, what was seen and what to do."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.errors import SetupError
from harness.setup import load_setup, parse_override, parse_setup

RIGHT = """
[app]
command = ["./server", "--listen", "{host}:{port}"]

[journey.register]
steps = [{ post = "/register", form = { email = "{user.email}" }, expect = { status = 303 } }]

[journey.login]
steps = [
  { get = "/login", take = { csrf = { field = "csrf_token" } } },
  { post = "/login", form = { email = "{user.email}", token = "{csrf}" }, expect = { status = 303 } },
]

[journey.whoami]
steps = [{ get = "/me", recognised = { contains = "{user.email}" }, logged_out = { status = 401 } }]
"""


def mistakes_in(overrides: Mapping[str, object], *, of: str = RIGHT) -> list[str]:
    with pytest.raises(SetupError) as refused:
        parse_setup(
            tomllib.loads(of), source="a.toml", overrides=overrides, known_promises=["failover.kill", "failover.hang"]
        )
    return list(refused.value.mistakes)


def _told() -> Iterator[tuple[str, str]]:
    """The pairs of `setup_mistakes.txt`: a change and the message it gets."""
    lines = (Path(__file__).parent / "setup_mistakes.txt").read_text(encoding="utf-8").splitlines()
    written = [line for line in lines if line and not line.startswith("#")]
    for change, message in zip(written[::2], written[1::2], strict=True):
        yield change, message.removeprefix("  ")


@pytest.mark.parametrize(("change", "message"), tuple(_told()))
def test_one_mistake_is_one_message(change: str, message: str) -> None:
    """A single mistake gives a single message: the one for it, and none for what follows from it."""
    key, value = (change.removeprefix("without "), None) if change.startswith("without ") else parse_override(change)
    assert mistakes_in({key: value}) == [message]


def test_the_base_of_these_tests_is_right() -> None:
    """The setup these tests break has no mistake of its own, and the defaults are the guide's."""
    setup = parse_setup(tomllib.loads(RIGHT), source="a.toml")
    assert setup.app.names == ("app-1", "app-2", "app-3")
    assert (setup.balancer.max_fails, setup.balancer.fail_timeout_seconds) == (3, 30)
    assert setup.app.ready_path == "/health"


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    """Wrong types, unknown keys and values that do not fit each other are told together."""
    mistakes = mistakes_in(
        {
            "app.instnces": 4,
            "app.env.PORT": 8080,
            "app.env.DB": "{postgres.url}",
            "balancer.algorithm": "random",
            "sessions.store": "redis",
            "journey.whoami.steps.0.logged_out": None,
            "promises.waived": {"nope": "because"},
        }
    )
    assert [mistake.split()[0] for mistake in mistakes] == [
        "app.env.PORT",
        "app.instnces",
        "balancer.algorithm",
        "app.env.DB",
        "sessions.store",
        "journey.whoami.steps[0].logged_out",
        "promises.waived.nope",
    ]


def test_a_mistake_hides_only_its_own_shadow() -> None:
    """A misspelled [postgres] is told once, not again at each text that uses the database."""
    assert mistakes_in({"postgress": {}, "app.env.DB": "{postgres.url}", "app.env.C": "{redis.url}"}) == [
        "postgress is not a known key: did you mean postgres?",
        "app.env.C uses {redis.url}, and the setup has no redis: add a table [redis], it may be empty",
    ]


def test_an_empty_file_says_what_must_be_there(tmp_path: Path) -> None:
    """An empty file gets the four things a setup cannot do without."""
    file = tmp_path / "a.toml"
    file.write_text("")
    with pytest.raises(SetupError) as refused:
        load_setup(file)
    assert [mistake.split(" is missing")[0] for mistake in refused.value.mistakes] == [
        "app.command",
        "journey.register",
        "journey.login",
        "journey.whoami",
    ]


def test_the_examples_in_messages_are_right() -> None:
    """Whoever pastes the journeys that messages propose has a setup without mistakes."""
    with pytest.raises(SetupError) as refused:
        parse_setup({}, source="empty")
    proposed = ""
    for mistake in refused.value.mistakes[1:]:
        heading, steps = mistake.split("such as ")[1].split(" steps = ")
        proposed += f"{heading}\nsteps = {steps}\n"
    proposed += '[app]\ncommand = ["./server", "--listen", "{host}:{port}"]\n'
    assert parse_setup(tomllib.loads(proposed), source="proposed").entry_page == "/health"


# -- the file itself ------------------------------------------------------------------------------------------------


SYNTAX = [
    (b"[app\n", "line 1, column 5: expected ']' at the end of a table declaration (got [app)", "see https://toml.io"),
    (b"\n\na = nope\n", "line 3, column 5: invalid value (got a = nope)", 'text needs quotes, such as key = "text"'),
    (
        b"a = 1\na = 2\n",
        "line 2, column 6: cannot overwrite a value (got a = 2)",
        "this key is there already, keep one",
    ),
    (b"a.b = {}\n[a.b]\n", "line 2, column 5: cannot", "this table is there already, put its keys together"),
    (b"[a]\n[a]\n", "line 2, column 3: cannot declare [a] twice (got [a])", "this table is there already, put its"),
    (b'a = "x\n', "line 1, column 7: illegal character '\\n' (got a = \"x)", "close the quotes on the same line"),
    (
        b'a = "C:\\d"\n',
        "line 1, column 10: unescaped '\\' in a string",
        "use single quotes, in which a backslash stands",
    ),
    (b"a = [1,\n", "line 1, column 8: invalid value (got a = [1,)", "the file ends here, complete the value"),
    (b"a b = 1\n", "line 1, column 3: expected '=' after a key in a key/value pair (got a b = 1)", "write key = value"),
    (b'name = "caf\xe9"\n', "line 1 is not UTF-8 text (got the byte 0xe9)", "save the file as UTF-8"),
]


@pytest.mark.parametrize(("content", "problem", "remedy"), SYNTAX)
def test_what_is_no_toml_is_told_with_its_place(tmp_path: Path, content: bytes, problem: str, remedy: str) -> None:
    """A syntax error names line, column, the line itself and a remedy."""
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(SetupError) as refused:
        load_setup(file)
    assert refused.value.source == str(file)
    (mistake,) = refused.value.mistakes
    assert mistake.startswith(problem)
    assert f": {remedy}" in mistake


def test_a_file_nested_without_end_is_refused(tmp_path: Path) -> None:
    """A file that no reader can take apart is told so, not a traceback."""
    file = tmp_path / "a.toml"
    file.write_bytes(b"a = " + b"[" * 5000)
    with pytest.raises(SetupError, match="nested too deeply"):
        load_setup(file)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors on Windows put one before the text."""
    file = tmp_path / "a.toml"
    file.write_bytes(b"\xef\xbb\xbf" + RIGHT.encode())
    assert load_setup(file).name == "a"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The nearest file of the folder is proposed, else those there are."""
    (tmp_path / "reference.toml").write_text("")

    def said_of(path: Path) -> tuple[str, ...]:
        with pytest.raises(SetupError) as refused:
            load_setup(path)
        return refused.value.mistakes

    assert said_of(tmp_path / "refrence.toml") == (f"there is no such file: did you mean {tmp_path}/reference.toml?",)
    assert said_of(tmp_path / "x.toml") == (f"there is no such file: name one of {tmp_path}/reference.toml",)
    assert said_of(tmp_path) == (f"is a folder, not a setup file: name one of {tmp_path}/reference.toml",)
    assert said_of(tmp_path / "no" / "x.toml") == (f"there is no such file: there is no folder {tmp_path}/no either",)
    assert said_of(tmp_path / "reference.toml" / "x") == (
        "there is no such file: a part of its path is a file, not a folder",
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert said_of(empty) == ("is a folder, not a setup file: name a TOML file, such as harness.toml",)
    assert said_of(Path("a\0b")) == ("cannot be read (embedded null byte): check the path and its permissions",)
