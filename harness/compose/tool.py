"""The compose command of this machine: finds it, runs it, and turns what it says into one message.

Must not: know what a project is for, or leave a process of it behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BadInput, MissingPrerequisite
from harness.waiting import patience

__all__ = ["Tool", "find_tool"]

_OLDEST = (2, 0)
_INSTALL = "sudo apt-get install docker-compose-plugin"
_WAYS = (("docker", "compose"), ("docker-compose",))
_ANSWER_SECONDS = 60.0
_LAST_BREATH_SECONDS = 10.0
_NOISE = re.compile(
    r"^(time=.* level=(warning|info|debug) .*|#\d+ .*|-{3,}| ?> .*|\s*"
    r"|\s*(Container|Network|Volume|Image) .+ (\w+ing|\w+ed|Recreate|Healthy|Error))$"
)
_PREFIXES = (
    "Error response from daemon: ",
    "failed to solve: ",
    "rpc error: code = Unknown desc = ",
    "failed to solve with frontend dockerfile.v0: ",
    "failed to create LLB definition: ",
    "executor failed running ",
)
_UNSET = re.compile(r'The \\?"(\w+)\\?" variable is not set')


@dataclass(frozen=True)
class Said:
    """What one call came to."""

    code: int
    out: str
    err: str

    @property
    def problem(self) -> str:
        """The last thing that was said of what went wrong, without what stands around it."""
        lines = [line.strip() for line in self.err.splitlines() if not _NOISE.match(line)]
        last = lines[-1] if lines else f"it ended with code {self.code} and said nothing"
        for prefix in _PREFIXES:
            last = last.removeprefix(prefix)
        return last if len(last) <= 400 else last[:397] + "..."

    @property
    def unset(self) -> tuple[str, ...]:
        """The variables the file uses and nobody has set: they became empty text."""
        return tuple(dict.fromkeys(_UNSET.findall(self.err)))


@dataclass(frozen=True)
class Tool:
    """The compose command that was found."""

    argv: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(repr=False)
    """The person's own, since the file is filled in from it; and what finds a left process of the run."""

    def config(self, files: Sequence[Path], *, project: str | None = None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What the files come to, and the variables in them that are not set.

        Raises:
            BadInput: they cannot be read as a project; the command's own message.
        """
        said = self.run(*_files(files), *(("-p", project) if project else ()), "config", "--format", "json")
        if said.code != 0:
            named = ", ".join(map(str, files))
            raise BadInput(
                f"{named} is no compose project: {_without(said.problem, files)}; see `docker compose config`"
            )
        try:
            config = json.loads(said.out)
        except ValueError as problem:
            raise BadInput(f"{self} printed no JSON ({problem}): install a newer docker compose") from problem
        return config, said.unset

    def run(self, *words: str, within_seconds: float = _ANSWER_SECONDS, marks: Mapping[str, str] | None = None) -> Said:
        """One call, to its end. `marks`: variables that show whose process it is.

        Raises:
            BadInput: it did not end in time.
        """
        process = subprocess.Popen(
            [*self.argv, "--ansi", "never", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment, **(marks or {})},
            text=True,
            errors="replace",
            # It starts a plugin, and that may start more: they are ended together.
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=within_seconds * patience())
        except subprocess.TimeoutExpired:
            _end(process)
            raise BadInput(
                f"{self} {' '.join(words[-2:])} did not end within {within_seconds:g} s: try it by hand, and set "
                "HARNESS_PATIENCE on a slow machine"
            ) from None
        except BaseException:
            _end(process)
            raise
        return Said(process.returncode, out, err)

    def __str__(self) -> str:
        return " ".join(self.argv)


def _version(tool: Tool, *, within_seconds: float) -> str | None:
    """What it calls itself; None when docker has no such plugin. Raises OSError when there is no such program."""
    said = tool.run("version", "--short", within_seconds=within_seconds)
    return said.out.strip().removeprefix("v") if said.code == 0 else None


def find_tool(environment: Mapping[str, str], *, within_seconds: float = _ANSWER_SECONDS) -> Tool:
    """The compose command of this machine: the plugin of docker, else the program docker-compose.

    Raises:
        MissingPrerequisite: there is none, or it is too old.
        BadInput: it does not say its version in time. It asks the engine before, and that may hang.
    """
    old = ""
    for argv in _WAYS:
        try:
            said = _version(Tool(argv, "", environment), within_seconds=within_seconds)
        except OSError:  # no such program
            continue
        if said is None:
            continue
        numbers = re.search(r"(\d+)\.(\d+)", said)
        if numbers is not None and (int(numbers[1]), int(numbers[2])) >= _OLDEST:
            return Tool(argv, said, environment)
        old = f"{' '.join(argv)} is {said}"
    if old:
        raise MissingPrerequisite(
            f"{old}, which is too old: install docker compose 2 (package docker-compose-plugin)", command=_INSTALL
        )
    raise MissingPrerequisite(
        "there is no docker compose on this machine: install it (package docker-compose-plugin of docker's own "
        "repository, docker-compose of Debian 13, or Docker Desktop)",
        command=_INSTALL,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Ask the whole group to end, as Ctrl-C does, and then do not ask."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_LAST_BREATH_SECONDS)
            return


def _files(files: Sequence[Path]) -> list[str]:
    return [word for file in files for word in ("-f", str(file))]


def _without(problem: str, files: Sequence[Path]) -> str:
    """The message without the paths that are named already."""
    for file in files:
        problem = problem.replace(f"validating {file}: ", "").replace(f"{file}: ", "")
    return problem
