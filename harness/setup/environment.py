"""What the environment of the harness says, read once and handed on: nobody else reads it.

Must not: be read at import, or passed to the nodes of a setup: they get a small clean environment of their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SetupError
from harness.setup.messages import seen

__all__ = ["Environment", "read_environment"]

_YES_NO = {"": False, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables the harness knows, checked."""

    cache: Path
    """The folder for what is kept between runs. It may not exist yet. HARNESS_CACHE, else the user's cache folder."""
    patience: float = 1.0
    """HARNESS_PATIENCE: the factor of all waits for infrastructure. It changes no bound of a promise."""
    nginx: Path | None = None
    """HARNESS_NGINX: the nginx to run instead of the one found."""
    postgres: Path | None = None
    """HARNESS_POSTGRES: the folder that holds the programs postgres and initdb."""
    redis: Path | None = None
    """HARNESS_REDIS: the Redis-compatible server to run instead of the one found."""
    no_color: bool = False
    """NO_COLOR is set to anything: see https://no-color.org."""
    ci: bool = False
    """CI is set: nobody watches."""


def read_environment(environ: Mapping[str, str] | None = None) -> Environment:
    """Read and check the variables; from the process when none are given. An empty variable counts as not set.

    Raises:
        SetupError: every variable that cannot be used, with what was seen and what to do.
    """
    variables = os.environ if environ is None else environ
    mistakes: list[str] = []
    environment = Environment(
        cache=_cache(variables, mistakes),
        patience=_patience(variables, mistakes),
        nginx=_program("HARNESS_NGINX", variables, mistakes),
        postgres=_folder_of("HARNESS_POSTGRES", ("postgres", "initdb"), variables, mistakes),
        redis=_program("HARNESS_REDIS", variables, mistakes),
        no_color=bool(variables.get("NO_COLOR")),
        ci=_YES_NO.get(variables.get("CI", "").lower(), True),
    )
    if mistakes:
        raise SetupError("environment", mistakes)
    return environment


def _cache(variables: Mapping[str, str], mistakes: list[str]) -> Path:
    own = variables.get("HARNESS_CACHE")
    if own:
        folder = Path(own).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            mistakes.append(f"HARNESS_CACHE must be a folder (got {seen(own)}): name one, it is made when needed")
        return folder
    shared = variables.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(shared) if Path(shared).is_absolute() else _home(variables) / ".cache"
    return base / "harness"


def _home(variables: Mapping[str, str]) -> Path:
    given = variables.get("HOME", "")
    return Path(given) if Path(given).is_absolute() else Path.home()


def _patience(variables: Mapping[str, str], mistakes: list[str]) -> float:
    written = variables.get("HARNESS_PATIENCE")
    if not written:
        return 1.0
    try:
        factor = float(written)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        mistakes.append(
            f"HARNESS_PATIENCE must be a number above 0 (got {seen(written)}): 2 doubles all waits for infrastructure"
        )
        return 1.0
    return factor


def _program(name: str, variables: Mapping[str, str], mistakes: list[str]) -> Path | None:
    written = variables.get(name)
    if not written:
        return None
    program = Path(written).expanduser().absolute()
    if not program.is_file():
        mistakes.append(f"{name} must be a program (got {seen(written)}, no such file): give its path, or unset {name}")
    elif not os.access(program, os.X_OK):
        mistakes.append(f"{name} must be a program (got {seen(written)}, not executable): chmod +x it, or unset {name}")
    return program


def _folder_of(name: str, programs: tuple[str, ...], variables: Mapping[str, str], mistakes: list[str]) -> Path | None:
    written = variables.get(name)
    if not written:
        return None
    folder = Path(written).expanduser().absolute()
    missing = [each for each in programs if not (folder / each).is_file()]
    if missing:
        mistakes.append(
            f"{name} must be the folder that holds {' and '.join(programs)} (got {seen(written)}, without "
            f"{' and '.join(missing)}): name the folder of the programs, often called bin, or unset {name}"
        )
    return folder
