"""Bad input where containers are run: one clear message, exit code 2, nothing on the engine and nothing on this machine.

Most of it needs no engine: a socket that is not there, or something on it that plays one.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from end_to_end import CHECKOUT, REFERENCE, Ended, Harness, on_the_engine

from tests.fake_engine import fake_engine, version

Check = Callable[[], None]
QUICK = ("--only", "session.every-instance")


def refused(ended: Ended, *words: str) -> None:
    """Exit code 2 and one message that holds these words, and no traceback."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert ended.err.count("harness: ") == 1, ended.err


def without_line(key: str, folder: Path) -> str:
    """The reference setup without one of its lines."""
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(f"{key} =")]
    assert len(kept) == len(lines) - 1
    path = folder / "setup.toml"
    path.write_text("\n".join(kept), encoding="utf-8")
    return str(path)


# -- without an engine ------------------------------------------------------------------------------------------------


def at(path: Path) -> dict[str, str]:
    return {"DOCKER_HOST": f"unix://{path}", "HARNESS_IMAGES": "official"}


@pytest.mark.parametrize(
    ("platform", "promise"), [("docker", "session.every-instance"), ("swarm", "orchestrator.heals")]
)
def test_no_engine(harness: Harness, nothing_left: Check, platform: str, promise: str) -> None:
    """Where it was looked for, who said so, and how one is started."""
    place = harness.folder / "engine.sock"
    ended = harness.verify("--platform", platform, "--only", promise, env=at(place))
    refused(ended, f"no container engine at unix://{place} (DOCKER_HOST)", "no such socket", "start one")


def test_an_engine_that_was_there(harness: Harness, nothing_left: Check) -> None:
    """Its socket is there, and nobody listens."""
    place = harness.folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as was:
        was.bind(str(place))
    refused(harness.verify("--platform", "docker", *QUICK, env=at(place)), "nobody listens there", "start one")


def test_no_right_to_use_the_engine(harness: Harness, nothing_left: Check) -> None:
    """Whose the socket is, and what would give the right."""
    # Root may do everything unless this right is taken from it.
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root is refused nothing here: setpriv, which takes rights away, is not installed")
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    place = harness.folder / "engine.sock"
    with fake_engine(place) as asked:
        place.chmod(0o000)
        process = harness.start_as(prefix, "verify", "--platform", "docker", *QUICK, env=at(place))
        out, err = process.communicate(timeout=60)
    refused(Ended(process.returncode, out, err), f"no right to use the container engine at unix://{place}", "mode 0000")
    assert asked == []


def test_an_engine_that_is_too_old(harness: Harness, nothing_left: Check) -> None:
    """What it is, and what is needed."""
    place = harness.folder / "engine.sock"
    with fake_engine(place, {"version": version("1.24", "1.12.6")}) as asked:
        ended = harness.verify("--platform", "docker", *QUICK, env=at(place))
    refused(ended, "too old (version 1.12.6, API 1.24)", "Docker 20.10 (API 1.41) or newer")
    assert set(asked) == {"GET /version"}


def test_an_engine_whose_disk_is_full(harness: Harness, nothing_left: Check) -> None:
    """What the engine said, and what shows where the room went."""
    place = harness.folder / "engine.sock"
    full = "mkdir /var/lib/docker/overlay2/8a1: no space left on device"
    with fake_engine(place, {"images/create": (500, {"message": full})}):
        ended = harness.verify("--platform", "docker", *QUICK, "--set", "app.image=shop:1", env=at(place))
    refused(ended, "the disk of the container engine is full", full, "docker system df")


@pytest.mark.parametrize("package", ["docker", "testcontainers"])
def test_a_package_for_containers_is_missing(harness: Harness, nothing_left: Check, package: str) -> None:
    """What to install is named."""
    hidden = harness.folder / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\")\n", "utf-8")
    path = os.pathsep.join(filter(None, [str(hidden), os.environ.get("PYTHONPATH")]))
    place = harness.folder / "engine.sock"
    image = {"Id": "sha256:1", "RepoTags": ["shop:1"], "Architecture": "amd64", "Config": {}}
    everything = {f"images/{name}/json": image for name in ("shop:1", "postgres:17", "redis:8.0", "nginx:1.28")}
    with fake_engine(place, everything) as asked:
        ended = harness.verify(
            *("--platform", "docker", *QUICK, "--set", "app.image=shop:1"), env={"PYTHONPATH": path, **at(place)}
        )
    refused(ended, f"No module named '{package}'", "pip install 'harness[docker]'")
    assert not any(each.startswith(("POST", "DELETE")) for each in asked)


def test_no_docker_compose(harness: Harness, nothing_left: Check) -> None:
    """What to install is named."""
    file = CHECKOUT / "fixtures/compose/guide/docker-compose.yml"
    refused(harness.verify("--compose", str(file), env={"PATH": "/nonexistent"}), "no docker compose", "install it")


def test_a_compose_project_elsewhere(harness: Harness, nothing_left: Check) -> None:
    """Its containers are its own: no other platform runs them."""
    file = CHECKOUT / "fixtures/compose/guide/docker-compose.yml"
    ended = harness.verify("--compose", str(file), "--platform", "docker")
    refused(ended, "compose project", "--platform docker", "leave --platform out")


def test_a_promise_that_the_platform_cannot_judge(harness: Harness, nothing_left: Check) -> None:
    """Where nothing else was asked for, there is nothing to boot: why, and which platform would do."""
    refused(harness.verify("--only", "failover.new-address"), "cannot be judged here", "--platform docker")


@pytest.mark.parametrize("platform", ["docker", "swarm"])
def test_a_setup_without_an_image(harness: Harness, nothing_left: Check, platform: str) -> None:
    """Which key is missing, what it has instead, and which platform would do."""
    ended = harness.verify(without_line("image", harness.folder), "--platform", platform)
    refused(ended, "app.image", "app.command alone", "--platform native")


def test_a_setup_without_a_command(harness: Harness, nothing_left: Check) -> None:
    """The same the other way round."""
    ended = harness.verify(without_line("command", harness.folder), "--platform", "native")
    refused(ended, "app.command", "harness/reference-app:latest", "--platform docker")


def test_an_image_alone_is_run_in_a_container(harness: Harness, nothing_left: Check) -> None:
    """Nobody has to say so; why is told before anything is done."""
    ended = harness.verify(without_line("command", harness.folder), env=at(harness.folder / "engine.sock"))
    refused(ended, "no container engine")
    assert "docker: the setup names an image for an instance (harness/reference-app:latest) and no command" in ended.out


# -- with one ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clean_engine(harness: Harness, engine: Any, nothing_left: Check) -> Iterator[Mapping[str, str]]:
    """The environment of a run in containers, which leaves nothing on the engine and on this machine."""
    yield engine.environment
    assert on_the_engine(engine.client, harness.pids) == []


def verify(harness: Harness, environment: Mapping[str, str], *arguments: str) -> Ended:
    return harness.verify("--platform", "docker", *QUICK, *arguments, env=dict(environment))


@pytest.mark.parametrize("key", ["images.redis", "app.image"])
def test_an_image_that_cannot_be_had(harness: Harness, clean_engine: Mapping[str, str], key: str) -> None:
    """The image and its key are named, with what the engine said."""
    ended = verify(harness, clean_engine, "--set", f"{key}=harness-no-such/image:1")
    refused(ended, "harness-no-such/image:1", "the engine says", "docker pull", f"name another image in {key}")


def test_no_name_of_an_image(harness: Harness, clean_engine: Mapping[str, str]) -> None:
    """The key is named."""
    refused(verify(harness, clean_engine, "--set", "app.image=No:::name"), "No:::name", "app.image")


def test_an_image_that_ends_at_once(harness: Harness, clean_engine: Mapping[str, str]) -> None:
    """The node and its exit code are told."""
    ended = verify(harness, clean_engine, "--set", 'app.image_command=["false"]')
    refused(ended, "app-", "ended before it was ready (exit code 1")


def test_a_program_that_the_image_does_not_have(harness: Harness, clean_engine: Mapping[str, str]) -> None:
    """The program is named."""
    ended = verify(harness, clean_engine, "--set", 'app.image_command=["./no-such-server"]')
    refused(ended, "app-", "./no-such-server", "no such file")


def test_an_image_for_another_processor(harness: Harness, clean_engine: Mapping[str, str], engine: Any) -> None:
    """Which it is for, and which it would have to be for."""
    ours = engine.client.api.version()["Arch"]
    other = "arm64" if ours != "arm64" else "amd64"
    name = f"harness-test/other-processor:{os.getpid()}"
    engine.client.images.load(empty_image(name, architecture=other))
    try:
        ended = verify(harness, clean_engine, "--set", f"app.image={name}")
    finally:
        engine.client.images.remove(name)
    refused(ended, "app.image", name, f"made for {other}", f"linux/{ours}")


def empty_image(name: str, *, architecture: str) -> bytes:
    """An image with nothing in it, as `docker save` writes it."""
    config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/nothing"]}}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": []}]
    files = {"config.json": config | {"rootfs": {"type": "layers", "diff_ids": []}}, "manifest.json": manifest}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            entry, data = tarfile.TarInfo(path), json.dumps(content).encode()
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def test_a_port_that_is_taken(harness: Harness, clean_engine: Mapping[str, str]) -> None:
    """The port and its key are named, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        refused(verify(harness, clean_engine, "--set", f"balancer.port={port}"), str(port), "balancer.port")
