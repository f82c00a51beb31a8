"""A person's own compose project on a real engine: judged as it is, and nothing of the run left."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from end_to_end import CHECKOUT, Ended, Harness, on_the_engine

from harness.compose import find_tool
from harness.errors import BadInput
from harness.images import BUILT
from harness.setup import read_environment
from harness.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

Check = Callable[[], None]
Env = Mapping[str, str]
FIXTURES = CHECKOUT / "fixtures/compose"
APP = "harness/reference-app:latest"


@pytest.fixture
def env(engine: Any) -> dict[str, str]:
    """What fills in the variables of the projects: images that are there, and a port that is free."""
    try:
        find_tool(read_environment().everything)
    except BadInput as problem:
        pytest.skip(f"this needs docker compose: {problem}")
    if not any(APP in image.tags for image in engine.client.images.list()):
        pytest.skip(f"this needs the image {APP}: run `harness images build`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    built = {"POSTGRES_IMAGE": "postgres", "REDIS_IMAGE": "redis", "NGINX_IMAGE": "nginx"}
    is_built = engine.environment["HARNESS_IMAGES"] == "built"
    images = {name: BUILT[kind].tag for name, kind in built.items()} if is_built else {}
    return {**images, "HTTP_PORT": str(port)}


def verdicts(ended: Ended) -> dict[str, dict[str, Any]]:
    """By promise."""
    return {each["id"]: each for each in json.loads(ended.out)["promises"]}


def only(*promises: str) -> list[str]:
    return [word for promise in promises for word in ("--only", promise)]


def cause(verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    """The likeliest one."""
    found: Mapping[str, Any] = next(each for finding in verdict["findings"] for each in finding["causes"])
    return found


# -- what is judged ---------------------------------------------------------------------------------------------------


@pytest.mark.judged
def test_the_guide_s_project(harness: Harness, engine: Any, env: Env, nothing_left: Check) -> None:
    """It gets a verdict as written: a login holds on every instance, and a hung one costs seconds. No file is changed."""
    file = FIXTURES / "guide/docker-compose.yml"
    before = file.read_bytes()
    promises = only(
        "instances.*", "session.every-instance", "distribution.complete", "distribution.share", "failover.hang"
    )
    ended = harness.verify("--compose", str(file), *promises, "--json", env=dict(env))
    assert ended.code == 1, ended
    found = verdicts(ended)
    hang = found.pop("failover.hang")
    assert {name: each["status"] for name, each in found.items()} == dict.fromkeys(found, "pass")
    assert hang["status"] == "fail"
    assert cause(hang)["id"] == "read-timeout-too-long"
    assert "proxy_read_timeout" in cause(hang)["remedy"]
    assert file.read_bytes() == before
    assert on_the_engine(engine.client, harness.pids) == []


@pytest.mark.judged
def test_the_tuned_project(harness: Harness, engine: Any, env: Env, nothing_left: Check) -> None:
    """Its twin keeps what the guide's breaks, also through a deploy by `docker compose up`."""
    file = FIXTURES / "tuned/docker-compose.yml"
    promises = only("failover.hang", "failover.new-address", "rollout.rolling")
    ended = harness.verify("--compose", str(file), *promises, "--json", env=dict(env))
    found = verdicts(ended)
    assert {name: each["status"] for name, each in found.items()} == dict.fromkeys(found, "pass"), ended
    assert ended.code == 0
    assert "fixed addresses" in json.loads(ended.out)["left_out"]["failover.new-address"]
    assert on_the_engine(engine.client, harness.pids) == []


@pytest.fixture
def scaled(tmp_path: Path, env: Env) -> Path:
    """One service that runs as often as one says, behind an nginx that says nothing of whom it asked."""
    project = tmp_path / "scaled"
    project.mkdir()
    text = (FIXTURES / "tuned/nginx.conf").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "X-Harness" not in line and "server app" not in line]
    at = next(number for number, line in enumerate(lines) if "least_conn" in line)
    lines.insert(at + 1, "server web:8000 max_fails=1 fail_timeout=1s;")
    (project / "nginx.conf").write_text("\n".join(lines), encoding="utf-8")
    app = {
        "DATABASE_URL": "postgres://shop:secret@db:5432/shop",
        "REDIS_URL": "redis://cache:6379",
        "SECRET_KEY": "the-same-text-for-all-of-them",
        "PASSWORD_COST": "8",
    }
    database = {"POSTGRES_DB": "shop", "POSTGRES_USER": "shop", "POSTGRES_PASSWORD": "secret"}
    services = {
        "web": {"image": APP, "environment": app, "depends_on": ["db", "cache"]},
        "proxy": {
            "image": env.get("NGINX_IMAGE", "nginx:alpine"),
            "ports": ["127.0.0.1::80"],
            "volumes": ["./nginx.conf:/etc/nginx/nginx.conf:ro"],
            "depends_on": ["web"],
        },
        "db": {"image": env.get("POSTGRES_IMAGE", "postgres:17"), "environment": database},
        "cache": {"image": env.get("REDIS_IMAGE", "redis:8")},
    }
    file = project / "docker-compose.yml"
    file.write_text(json.dumps({"services": services}), encoding="utf-8")
    return file


@pytest.mark.judged
def test_a_service_that_is_scaled(harness: Harness, engine: Any, env: Env, scaled: Path, nothing_left: Check) -> None:
    """Each of its containers is an instance; the application names itself, and compose replaces all of them together."""
    promises = only(
        "instances.agree", "session.survives-restart", "distribution.complete", "failover.kill", "rollout.rolling"
    )
    ended = harness.verify("--compose", str(scaled), "--scale", "web=3", *promises, "--json", env=dict(env))
    found = verdicts(ended)
    assert {name: each["status"] for name, each in found.items()} == {
        "instances.agree": "pass",
        "session.survives-restart": "pass",
        "distribution.complete": "pass",
        "failover.kill": "inconclusive",
        "rollout.rolling": "fail",
    }, ended
    assert "have the balancer send X-Harness-Upstream" in found["failover.kill"]["measured"]
    causes = {each["id"] for finding in found["rollout.rolling"]["findings"] for each in finding["causes"]}
    assert "all-at-once" in causes
    assert on_the_engine(engine.client, harness.pids) == []


# -- what runs already ------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path, env: Env, engine: Any) -> Iterator[str]:
    """The guide's project, started by its owner."""
    name = f"owner-{tmp_path.name.replace('_', '-')}"[:40].rstrip("-")
    tool = find_tool({**read_environment().everything, **env})
    words = ("-f", str(FIXTURES / "guide/docker-compose.yml"), "-p", name)
    said = tool.run(*words, "up", "--detach")
    try:
        assert said.code == 0, said
        yield name
    finally:
        tool.run(*words, "down", "--volumes", "--timeout", "1")


def states(engine: Any, project: str) -> dict[str, str]:
    containers = engine.client.containers.list(all=True, filters={"label": f"com.docker.compose.project={project}"})
    return {each.id: each.status for each in containers}


def test_a_project_that_runs(harness: Harness, engine: Any, env: Env, running: str, nothing_left: Check) -> None:
    """It is judged and left as it was: the same containers, all of them running."""
    before = states(engine, running)
    ended = harness.verify(
        "--attach", running, *only("instances.*", "session.survives-restart", "rollout.*"), "--json", env=dict(env)
    )
    found = verdicts(ended)
    assert {name: each["status"] for name, each in found.items()} == dict.fromkeys(found, "pass"), ended
    assert "somebody's own" in json.loads(ended.out)["left_out"]["rollout.rolling"]
    assert states(engine, running) == before == dict.fromkeys(before, "running")


def test_a_project_that_runs_is_given_back(harness: Harness, engine: Any, env: Env, running: str) -> None:
    """Also when the harness is killed while an instance is frozen."""
    before = states(engine, running)
    run = harness.start("verify", "--attach", running, *only("failover.hang"), env=dict(env))
    frozen_then_killed(run, lambda: "paused" in states(engine, running).values())
    wait_until(
        lambda: states(engine, running) == before,
        within_seconds=20,
        because="the project should be as it was",
    )


def frozen_then_killed(run: subprocess.Popen[str], is_frozen: Callable[[], bool]) -> None:
    wait_until(
        lambda: run.poll() is not None or is_frozen(), within_seconds=100, because="an instance should be frozen"
    )
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL


def test_no_project_of_that_name(harness: Harness, env: Env, nothing_left: Check) -> None:
    """What lists those that run."""
    refused(
        harness.verify("--attach", "nobodys", env=dict(env)), "no compose project named nobodys", "docker compose ls"
    )


# -- what is left -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["a first container", "an instance is frozen"])
def test_sigkill(harness: Harness, engine: Any, env: Env, moment: str) -> None:
    """The project of a run goes with it, also what compose was about to make."""
    file = FIXTURES / "guide/docker-compose.yml"
    run = harness.start("verify", "--compose", str(file), *only("failover.hang"), env=dict(env))

    def is_there() -> bool:
        things = on_the_engine(engine.client, [run.pid])
        if moment == "a first container":
            return any(each.startswith("container") for each in things)
        wanted = {"label": f"harness.pid={run.pid}", "status": "paused"}
        return bool(engine.client.containers.list(filters=wanted))

    frozen_then_killed(run, is_there)
    wait_until(
        lambda: on_the_engine(engine.client, harness.pids) == [],
        within_seconds=20,
        because="nothing of the run should be left",
    )


# -- what cannot be judged --------------------------------------------------------------------------------------------


def refused(ended: Ended, *words: str) -> None:
    """Exit code 2 and one message that holds these words."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err


def project(folder: Path, change: Callable[[dict[str, Any]], None], env: Env) -> str:
    """A small one, changed."""
    image = env.get("NGINX_IMAGE", "nginx:alpine")
    services: dict[str, Any] = {
        "app1": {"image": APP, "environment": {"PORT": "8080"}},
        "app2": {"image": APP, "environment": {"PORT": "8080"}},
        "nginx": {"image": image, "ports": [f"127.0.0.1:{env['HTTP_PORT']}:80"], "depends_on": ["app1", "app2"]},
    }
    change(services)
    file = folder / "docker-compose.yml"
    file.write_text(json.dumps({"services": services}), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["nginx"].update(depends="x"), ["is no compose project", "depends"]),
        (lambda s: s.pop("nginx"), ["no balancer was found", '[compose] balancer = "..."']),
        (lambda s: (s.pop("app2"), s["nginx"].update(depends_on=["app1"])), ["one instance only", "--scale app1=3"]),
        (lambda s: s.update(lb={**s["nginx"]}), ["lb", "nginx", "could each be the balancer"]),
        (lambda s: s["nginx"].update(image="harness/never:made"), ["harness/never:made", "nginx"]),
        (lambda s: s["app1"].update(image="shop:1"), ["could each be", '["app1", "app2"]']),
    ],
    ids=["an error", "no balancer", "one instance", "two balancers", "no such image", "two applications"],
)
def test_a_project_that_cannot_be_judged(
    harness: Harness, engine: Any, env: Env, change: Callable[[Any], Any], words: list[str], nothing_left: Check
) -> None:
    """One message that says what is wrong and what to do, and nothing is left on the engine."""
    setup = str(CHECKOUT / "fixtures/setups/reference.toml")
    ended = harness.verify("--compose", project(harness.folder, change, env), "--setup", setup, env=dict(env))
    refused(ended, *words)
    assert on_the_engine(engine.client, harness.pids) == []


def test_a_build_that_fails(harness: Harness, engine: Any, env: Env, nothing_left: Check) -> None:
    """What failed in it, and what shows all of it."""

    def change(services: dict[str, Any]) -> None:
        for name in ("app1", "app2"):
            services[name] = {"build": "./app", "environment": {"PORT": "8080"}}

    (harness.folder / "app").mkdir()
    (harness.folder / "app/Dockerfile").write_text(f"FROM {APP}\nRUN exit 3\n", encoding="utf-8")
    setup = str(CHECKOUT / "fixtures/setups/reference.toml")
    ended = harness.verify("--compose", project(harness.folder, change, env), "--setup", setup, env=dict(env))
    refused(ended, "app1, app2 cannot be built", "exit code: 3", "docker compose build")
    assert on_the_engine(engine.client, harness.pids) == []


def test_a_name_that_is_taken(harness: Harness, engine: Any, env: Env, nothing_left: Check) -> None:
    """A fixed container_name of a container that is there: which, and how to mend it."""
    name = f"fixed-{env['HTTP_PORT']}"
    theirs = engine.client.containers.create(APP, name=name)
    try:
        file = project(harness.folder, lambda s: s["nginx"].update(container_name=name), env)
        refused(harness.verify("--compose", file, env=dict(env)), name, "is there already", "docker rm -f")
    finally:
        theirs.remove(force=True)
    assert on_the_engine(engine.client, harness.pids) == []


def test_a_port_that_is_taken(harness: Harness, engine: Any, env: Env, nothing_left: Check) -> None:
    """Who has it."""
    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        theirs.bind(("127.0.0.1", int(env["HTTP_PORT"])))
        theirs.listen()
        file = project(harness.folder, lambda _: None, env)
        refused(harness.verify("--compose", file, env=dict(env)), f"nginx publishes {env['HTTP_PORT']}", "is taken by")
    assert on_the_engine(engine.client, harness.pids) == []


def test_an_application_nobody_knows(harness: Harness, env: Env, nothing_left: Check) -> None:
    """Without a setup file nobody can say how people use it; one that lies beside the compose file is taken."""
    file = project(harness.folder, lambda s: [s[name].update(image="shop:1") for name in ("app1", "app2")], env)
    refused(
        harness.verify("--compose", file, env=dict(env)), "an application of its own (app1, image shop:1)", "--setup"
    )
    shutil.copy(FIXTURES / "guide/harness.toml", harness.folder / "harness.toml")
    refused(harness.verify("--compose", file, env=dict(env)), "shop:1")
