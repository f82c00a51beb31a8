"""What a CI service meets: exit codes, the summary of a step, the workflow file, colours and completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import cli
from harness.completion import SHELLS
from harness.errors import HarnessError
from harness.mutants import load_mutants
from harness.promises import CATALOGUE
from harness.reporting import append_summary, from_json, to_markdown
from harness.setup import read_environment
from harness.waiting import wait_until

CHECKOUT = Path(__file__).parents[1]
STORED = Path(__file__).parent / "data" / "verdicts-v1.json"
WORKFLOW = CHECKOUT / "fixtures/ci/github-workflow.yml"
HARNESS = [sys.executable, "-m", "harness.cli"]


# -- exit codes -------------------------------------------------------------------------------------------------------


def stored(folder: Path, *statuses: str) -> Path:
    """A run on disk whose promises came to these, with a journal in which nothing can be judged again."""
    document = json.loads(STORED.read_text())
    told = document["promises"][: len(statuses)]
    for promise, status in zip(told, statuses, strict=True):
        promise.update(waived=None, status=status, planned=1, findings=promise["findings"][:1])
        promise["findings"][0].update(status=status, causes=[])
    document.update(promises=told, waived={}, complete=True)
    (folder / "verdicts.json").write_text(json.dumps(document))
    (folder / "history.jsonl").write_text('{"t":"journal","version":1,"run":"r"}\n')
    return folder


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (("pass", "pass"), 0),
        (("pass", "fail"), 1),
        (("pass", "inconclusive"), 3),
        (("pass", "rig-error"), 4),
        (("fail", "rig-error", "inconclusive"), 1),
        (("rig-error", "inconclusive"), 4),
    ],
)
def test_the_code_of_a_verdict(
    statuses: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0, 1, 3 and 4, and which of them when several apply."""
    assert cli.main(["rejudge", str(stored(tmp_path, *statuses)), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


def test_the_code_of_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    """2, with one message; also for what argparse refuses, and for no command at all."""
    assert cli.main(["verify", "nowhere.toml"]) == 2
    assert capsys.readouterr().err.count("harness: ") == 1
    assert cli.main([]) == 2
    with pytest.raises(SystemExit) as refused:
        cli.main(["verify", "--no-such-option"])
    assert refused.value.code == 2


def test_the_code_of_a_harness_that_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """4, and the message says that it is nobody's setup."""

    def fails(_: Path) -> None:
        raise HarnessError("the engine went away")

    monkeypatch.setattr("harness.rejudging.rejudge", fails)
    assert cli.main(["rejudge", "somewhere"]) == 4
    assert "says nothing about the setup: the engine went away" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_code_of_a_signal(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """130 and 143, with one line, whatever it was doing: here it reads a file that has not ended."""
    pipe = tmp_path / "verdicts.json"
    os.mkfifo(pipe)
    process = subprocess.Popen([*HARNESS, "rejudge", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    try:
        # Opening it for writing succeeds only when somebody reads it: then it is where we want it.
        descriptor: list[int] = []

        def is_reading() -> bool:
            try:
                descriptor.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return False
            return True

        wait_until(is_reading, within_seconds=60, because="the harness should read the verdicts")
        process.send_signal(number)
        # A signal that comes just before it reads is only noticed when the reading is over, so the file ends as well.
        os.close(descriptor[0])
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert told.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_out_as_another_error(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever was importing makes an error of its own of it, which is no reason for another code."""

    class Descriptor:
        def __set_name__(self, _owner: type, _name: str) -> None:
            signal.raise_signal(number)

    def imports(_: Path) -> None:
        type("Imported", (), {"descriptor": Descriptor()})

    monkeypatch.setattr("harness.rejudging.rejudge", imports)
    before = signal.getsignal(number)
    assert cli.main(["rejudge", "somewhere"]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("arguments", [["promises"], ["completion", "bash"]], ids=str)
def test_the_code_when_nobody_reads_any_more(arguments: list[str]) -> None:
    """141, and not a word: the reader has gone, as `head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*HARNESS, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=100, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_every_code_that_is_told_is_tested() -> None:
    """The table in docs/results.md holds those above, and no other."""
    table = (CHECKOUT / "docs/results.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(", ")}
    assert told == {0, 1, 2, 3, 4, 130, 141, 143}


# -- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_of_a_step(tmp_path: Path) -> None:
    """It is appended: others write there as well, and may have left their line open."""
    summary, step = tmp_path / "summary.md", tmp_path / "step.md"
    summary.write_text("### pass\n")
    assert append_summary(summary, to=step) == ""
    assert step.read_text() == "### pass\n"
    step.write_text("somebody else")
    assert append_summary(summary, to=step) == ""
    assert step.read_text() == "somebody else\n### pass\n"


def test_a_step_that_cannot_take_it(tmp_path: Path) -> None:
    """Why, in one line: no folder, no summary, or more than GitHub shows."""
    summary, step = tmp_path / "summary.md", tmp_path / "step.md"
    assert "No such file" in append_summary(summary, to=step)
    summary.write_text("### pass\n")
    assert "nowhere" in append_summary(summary, to=tmp_path / "nowhere" / "step.md")
    step.write_bytes(b"x" * (1 << 20))
    assert "1 MiB" in append_summary(summary, to=step)
    assert step.stat().st_size == 1 << 20


def test_where_the_step_is_comes_from_the_environment(tmp_path: Path) -> None:
    """An empty variable is none."""
    assert read_environment({"GITHUB_STEP_SUMMARY": str(tmp_path / "s")}).step_summary == tmp_path / "s"
    assert read_environment({"GITHUB_STEP_SUMMARY": ""}).step_summary is None
    assert read_environment({}).step_summary is None


def test_a_summary_fits_a_comment() -> None:
    """Whatever was sent: under 60 lines and under what GitHub takes for a comment, and what broke is still named."""
    document = json.loads(STORED.read_text())
    for promise in document["promises"]:
        for finding in promise["findings"]:
            finding.update(status="fail", measured="<@#!>" * 400)
    text = to_markdown(from_json(json.dumps(document), results=Path("reports/r")))
    assert len(text) < 65_536
    assert text.count("\n") < 60
    assert "session.every-instance" in text


# -- the workflow -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}  # `on` is true in YAML 1.1
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert set(job) <= {"runs-on", "timeout-minutes", "permissions", "env", "steps"}
    made: list[dict[str, Any]] = job["steps"]
    return made


def test_the_workflow_is_whole(steps: list[dict[str, Any]]) -> None:
    """A cache, the verdict, the report and a comment; what comes after a red verdict is still done."""
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"name", "uses", "run", "with", "env", "if"}
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    assert {name.partition("@")[0].partition("/")[2] for name in used} >= {"cache", "upload-artifact", "checkout"}
    verdict = next(place for place, step in enumerate(steps) if "harness verify" in step.get("run", ""))
    assert all("!cancelled()" in step.get("if", "") for step in steps[verdict + 1 :])
    assert not any("if" in step or "continue-on-error" in step for step in steps[: verdict + 1])
    assert "gh pr comment" in steps[-1]["run"]
    assert "summary.md" in steps[-1]["run"]


def test_the_commands_of_the_workflow_can_be_typed(steps: list[dict[str, Any]]) -> None:
    """The parser takes each of them, and no text of a pull request gets into a shell."""
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    typed = [shlex.split(line)[1:] for line in lines if line.startswith("harness ")]
    assert {words[0] for words in typed} == {"verify", "compare", "checklist"}
    for words in typed:
        cli._parser().parse_args(words)
    assert not any("${{" in line for line in lines)


# -- colours and completion -------------------------------------------------------------------------------------------


def test_colours_are_asked_for_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None where this is no terminal, unless they are asked for; NO_COLOR gives way to who says it outright."""
    run = str(stored(tmp_path, "fail"))

    def shown(*arguments: str) -> str:
        assert cli.main(["rejudge", run, *arguments]) == 1
        return capsys.readouterr().out

    assert "\x1b[" not in shown()
    assert "\x1b[" in shown("--color")
    assert "\x1b[" not in shown("--no-color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" in shown("--color")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script for each shell, as it is put into a file."""
    folder = tmp_path_factory.mktemp("completion")
    made = {}
    for shell in SHELLS:
        with pytest.MonkeyPatch.context() as patched, (folder / shell).open("w") as file:
            patched.setattr(sys, "stdout", file)
            assert cli.main(["completion", shell]) == 0
        made[shell] = folder / shell
    return made


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["com"], {"compare", "completion"}),
        (["verify", "--no"], {"--no-color"}),
        (["verify", "--platform", "na"], {"native"}),
        (["verify", "--only", "failover."], {each for each in CATALOGUE if each.startswith("failover.")}),
        (["mutants", "--only", "session"], {each.id for each in load_mutants() if each.id.startswith("session")}),
        (["checklist", "--sign", "dont.l"], {"dont.local-files"}),
        (["verify", "fix"], {"fixture.toml"}),
        (["verify", "--setup", "fix"], {"fixture.toml"}),
        (["completion", ""], set(SHELLS)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",  # a set has another order in each process
)
def test_bash_completes(words: list[str], found: set[str], scripts: dict[str, Path], tmp_path: Path) -> None:
    """What bash offers after these words, from the script alone."""
    (tmp_path / "fixture.toml").write_text("")
    (tmp_path / "fixture.txt").write_text("")
    line = f"""
source {shlex.quote(str(scripts["bash"]))}
COMP_WORDS=(harness {" ".join(shlex.quote(word) for word in words)})
COMP_CWORD={len(words)}
$(complete -p harness | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    # The function runs in this shell, not in the one of the substitution: only its name comes from there.
    ended = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert {each.strip() for each in ended.stdout.split()} == found


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_can_read_its_script(shell: str, scripts: dict[str, Path]) -> None:
    """And what it completes with is in it."""
    text = scripts[shell].read_text()
    assert "failover.kill" in text
    assert "no-retry" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here, so that only the words were looked at")
    assert subprocess.run([shell, "-n", str(scripts[shell])], capture_output=True, check=False).stderr == b""
