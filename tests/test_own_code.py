"""Python of a person's own, for what steps cannot say: given an answer it returns text, and what goes wrong in it is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from scripted_server import ScriptedServer, Talk
from watched_sites import url

from harness import cli
from harness.errors import SetupError
from harness.journeys import Reply, compile_journeys
from harness.load.bundle import bundle
from harness.load.people import Walker
from harness.load.plans import plan_of, plan_text, read_plan
from harness.model import Answer, Outcome
from harness.setup import load_setup
from harness.traffic import Journal, Task, Traffic
from harness.traffic.people import People

CODE = '''
import hashlib
from dataclasses import dataclass

@dataclass
class Seed:
    text: str

def code(answer):
    """A one-time code, of a seed that the page shows and of who asks."""
    seed = Seed(answer.text.partition("seed=")[2].strip())
    who = answer.values["user.email"]
    return hashlib.sha256(f"{seed.text}/{who}/{answer.headers['x-round']}/{answer.cookies['form']}".encode()).hexdigest()[:6]

def broken(answer):
    raise ValueError("no such seed\\nat all")

def leaves(answer):
    raise SystemExit(3)

def number(answer):
    return 7

def nothing(answer):
    return None
'''
FILE = """
[app]
image = "nothing"

[journey.register]
steps = [{ post = "/register", form = { email = "{user.email}" }, expect = { status = 200 } }]

[journey.login]
steps = [
  { get = "/login", take = { otp = { python = "own/totp.py:code" } } },
  { post = "/login", form = { email = "{user.email}", otp = "{otp}" }, expect = { status = 200 } },
]

[journey.whoami]
steps = [{ get = "/me", recognised = { status = 200, contains = "{user.email}" }, logged_out = { status = 303 } }]
"""


class Guarded:
    """Lets in whoever sends the code that follows from its page."""

    def __init__(self) -> None:
        self.server = ScriptedServer({"/login": self.login})

    def close(self) -> None:
        self.server.close()

    def login(self, talk: Talk) -> None:
        if talk.seen.method == "GET":
            talk.answer(b"seed=s1\n", headers="X-Round: 4\r\nSet-Cookie: form=f1\r\n")
            return
        import hashlib
        from urllib.parse import parse_qs

        form = {name: value[0] for name, value in parse_qs(talk.seen.body.decode()).items()}
        wanted = hashlib.sha256(f"s1/{form['email']}/4/f1".encode()).hexdigest()[:6]
        talk.answer(status="200 OK" if form["otp"] == wanted else "403 Forbidden")


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with closing(Guarded()) as made:
        yield made


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A setup file with the function it names."""

    def made(function: str = "code", code: str = CODE) -> Path:
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "totp.py").write_text(code, encoding="utf-8")
        file = tmp_path / "shop.toml"
        file.write_text(FILE.replace(":code", f":{function}"), encoding="utf-8")
        return file

    return made


@pytest.fixture
def log_in(guarded: Guarded, tmp_path: Path) -> Callable[[Path], list[object]]:
    """Somebody logs in, by the traffic process."""

    def done(file: Path) -> list[object]:
        journal = tmp_path / "history.jsonl"
        with (
            Journal(journal, run="r"),
            Traffic(
                journal=journal,
                journeys=compile_journeys(load_setup(file).declared_journeys()),
                targets={"balancer": guarded.server.address},
                names={},
                timeout_seconds=5,
                seed=1,
            ) as traffic,
        ):
            traffic.begin_scenario("one")
            (person,) = traffic.new_visitors(1)
            results = traffic.perform([Task(person, "login"), Task(person, "login")])
            return list(results)

    return done


def test_a_function_gives_what_a_later_step_sends(write: Write, log_in: Callable[[Path], list[object]]) -> None:
    """It sees the page, the headers, the cookies and who asks, in the process that makes the traffic."""
    assert [result.answer for result in log_in(write())] == [Answer.DONE, Answer.DONE]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("broken", "nothing to take as {otp}: broken raised ValueError: no such seed at all (line 16)"),
        ("leaves", "nothing to take as {otp}: leaves raised SystemExit: 3 (line 19)"),
        ("number", "nothing to take as {otp}: number returned 7: it must return text, or None where there is nothing"),
        ("nothing", "nothing to take as {otp}: no python"),
    ],
)
def test_what_goes_wrong_in_it_is_a_failed_step_and_no_crash(
    write: Write, log_in: Callable[[Path], list[object]], function: str, told: str
) -> None:
    """The traffic goes on, and the record says what it was."""
    for result in log_in(write(function)):
        assert (result.outcome, result.error) == (Outcome.FAILED, "wrong-body")  # type: ignore[attr-defined]
        assert told in result.detail  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "function", "told"),
    [
        (None, "code", "totp.py: it is looked for in the folder of the setup file"),
        ("def code(answer:\n", "code", "totp.py cannot be run: SyntaxError: "),
        (
            "import nowhere_at_all\n",
            "code",
            "cannot be run: ModuleNotFoundError: No module named 'nowhere_at_all' (line 1)",
        ),
        ("raise SystemExit\n", "code", "cannot be run: SystemExit (line 1)"),
        (CODE, "totp", "totp.py has no function totp"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_asked(
    guarded: Guarded,
    write: Write,
    capsys: pytest.CaptureFixture[str],
    code: str | None,
    function: str,
    told: str,
) -> None:
    file = write(function, code or "")
    if code is None:
        (file.parent / "own" / "totp.py").unlink()
    assert cli.main(["journey", str(file), "--try", "--host", url(guarded.server)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "take.otp.python" in err
    assert not guarded.server.seen


def test_trying_shows_what_was_taken_and_what_was_not(
    guarded: Guarded, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the code itself, which is a secret; of a mistake the last line of its traceback."""
    words = ["--try", "--only", "login", "--host", url(guarded.server)]
    assert cli.main(["journey", str(write()), *words]) == 0
    assert "took      otp (6 characters)" in capsys.readouterr().out
    assert cli.main(["journey", str(write("broken")), *words]) == 1
    out = capsys.readouterr().out
    assert "{otp}: broken raised ValueError: no such seed at all (line 16)" in out
    assert "MISSING   otp" in out


def test_it_works_under_load_where_the_file_is_not(write: Write, tmp_path: Path) -> None:
    """The one file that Locust sends on holds it; the plan among the results does not."""
    file = write()
    plan = plan_of(load_setup(file))
    kept = tmp_path / "plan.json"
    kept.write_text(plan_text(plan), encoding="utf-8")
    assert "sha256" not in kept.read_text(encoding="utf-8")
    assert read_plan(kept) == plan
    whole = bundle(plan)
    (tmp_path / "own" / "totp.py").unlink()
    source = whole.replace("from carried_locustfile import Person", "from harness.load.people import Plan, Walker")
    source += "\nimport json\nfrom random import Random\nfrom harness.journeys import Reply\nfrom harness.load.bundled import PLAN\n"
    source += "from harness.traffic.people import People\n"
    source += "walker = Walker(Plan.from_declared(json.loads(PLAN)), People(1), Random(1), is_registered=True)\n"
    source += "for question in walker.next():\n    print(question.body.decode())\n"
    source += "    question.answered(Reply(200, {'x-round': '4'}, b'seed=s1', ('form=f1',)))\n"
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert "&otp=" in ran.stdout


def test_a_function_that_fails_under_load_is_a_failed_request(write: Write) -> None:
    walker = Walker(plan_of(load_setup(write("broken"))), People(1), Random(1), is_registered=True)
    questions = walker.next()
    judgement = next(questions).answered(Reply(200, {"x-round": "4"}, b"seed=s1"))
    assert (judgement.outcome, judgement.error) == (Outcome.FAILED, "wrong-body")
    assert "no such seed" in judgement.detail


def test_the_last_line_is_told_at_every_door(write: Write) -> None:
    with pytest.raises(SetupError, match="has no function nowhere"):
        plan_of(load_setup(write("nowhere")))
