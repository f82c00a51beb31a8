"""What the environment of the harness says, read once and handed on: nobody else reads it.

What belongs to libraries is left to them: NO_COLOR and TERM to rich, TMPDIR to Python.
Must not: be read at import, or make a folder or start anything: a wrong variable is told before that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.errors import SetupError
from harness.setup.messages import seen

__all__ = ["Environment", "read_environment"]

_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables the harness knows, checked."""

    cache: Path | None = None
    """HARNESS_CACHE, else the user's cache folder: where to keep what outlives a run. It may not exist yet.

    None: nobody says where this user's files are.
    """
    patience: float = 1.0
    """HARNESS_PATIENCE: the factor of all waits for infrastructure. It changes no bound of a promise."""
    nginx: Path | None = None
    """HARNESS_NGINX: the nginx to run instead of the one found."""
    haproxy: Path | None = None
    """HARNESS_HAPROXY: the HAProxy to run instead of the one found."""
    postgres: Path | None = None
    """HARNESS_POSTGRES: the folder that holds the programs postgres and initdb."""
    redis: Path | None = None
    """HARNESS_REDIS: the Redis-compatible server to run instead of the one found."""
    images: Literal["official", "built"] = "official"
    """HARNESS_IMAGES: whose container images are used where the setup does not say."""
    docker_host: str | None = None
    """DOCKER_HOST: where the container engine is, as docker itself reads it."""
    docker_context: str | None = None
    """DOCKER_CONTEXT: the name of a context of docker, where DOCKER_HOST is not set."""
    docker_config: Path | None = None
    """DOCKER_CONFIG, else ~/.docker: the folder with docker's configuration and contexts. It may not exist."""
    step_summary: Path | None = None
    """GITHUB_STEP_SUMMARY: the file of a step of GitHub Actions that shows Markdown. It may not exist yet."""
    passed_on: Mapping[str, str] = field(default_factory=dict)
    """PATH, HOME, LANG and TZ, as far as they are set: what nodes get of it, and nothing else."""
    everything: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """All of it, for the compose command alone, which fills it into a person's own files."""


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
        haproxy=_program("HARNESS_HAPROXY", variables, mistakes),
        postgres=_folder_of("HARNESS_POSTGRES", ("postgres", "initdb"), variables, mistakes),
        redis=_program("HARNESS_REDIS", variables, mistakes),
        images=_images(variables, mistakes),
        docker_host=variables.get("DOCKER_HOST") or None,
        docker_context=variables.get("DOCKER_CONTEXT") or None,
        docker_config=_docker_config(variables),
        step_summary=_path(variables["GITHUB_STEP_SUMMARY"]) if variables.get("GITHUB_STEP_SUMMARY") else None,
        passed_on={name: variables[name] for name in _PASSED_ON if variables.get(name)},
        everything=dict(variables),
    )
    if mistakes:
        raise SetupError("environment", mistakes)
    return environment


def _cache(variables: Mapping[str, str], mistakes: list[str]) -> Path | None:
    own = variables.get("HARNESS_CACHE")
    if own:
        folder = _path(own)
        if folder.exists() and not folder.is_dir():
            mistakes.append(f"HARNESS_CACHE must be a folder (got {seen(own)}): name one, it is made when needed")
        return folder
    shared = variables.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    if Path(shared).is_absolute():
        return Path(shared) / "harness"
    home = _home(variables)
    return home / ".cache" / "harness" if home is not None else None


def _home(variables: Mapping[str, str]) -> Path | None:
    given = variables.get("HOME", "")
    if Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home()
    except RuntimeError:  # a user without an entry, common in containers
        return None


def _docker_config(variables: Mapping[str, str]) -> Path | None:
    own = variables.get("DOCKER_CONFIG")
    if own:
        return _path(own)
    home = _home(variables)
    return home / ".docker" if home is not None else None


def _path(written: str) -> Path:
    try:
        return Path(written).expanduser().absolute()
    except RuntimeError:  # `~name` of nobody: a folder of that name, then
        return Path(written).absolute()


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


def _images(variables: Mapping[str, str], mistakes: list[str]) -> Literal["official", "built"]:
    written = variables.get("HARNESS_IMAGES")
    if written == "built":
        return "built"
    if written and written != "official":
        mistakes.append(
            f"HARNESS_IMAGES must be official or built (got {seen(written)}): official images are pulled, "
            "built ones are made by `harness images build`"
        )
    return "official"


def _program(name: str, variables: Mapping[str, str], mistakes: list[str]) -> Path | None:
    written = variables.get(name)
    if not written:
        return None
    program = _path(written)
    if not program.is_file():
        mistakes.append(f"{name} must be a program (got {seen(written)}, no such file): give its path, or unset {name}")
    elif not os.access(program, os.X_OK):
        mistakes.append(f"{name} must be a program (got {seen(written)}, not executable): chmod +x it, or unset {name}")
    return program


def _folder_of(name: str, programs: tuple[str, ...], variables: Mapping[str, str], mistakes: list[str]) -> Path | None:
    written = variables.get(name)
    if not written:
        return None
    folder = _path(written)
    missing = [each for each in programs if not (folder / each).is_file()]
    if missing:
        mistakes.append(
            f"{name} must be the folder that holds {' and '.join(programs)} (got {seen(written)}, without "
            f"{' and '.join(missing)}): name the folder of the programs, often called bin, or unset {name}"
        )
    return folder
