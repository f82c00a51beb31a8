"""The container engine: where it is found, what is said when it cannot be used, and how what a run left is removed."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness import clock, engine, processes
from harness.engine import Address, RunLeft
from harness.errors import BadInput, HarnessError, MissingPrerequisite, NodeError
from harness.setup import Environment
from harness.workspace import Workspace, sweep
from tests.scripted_engine import VERSION, ScriptedEngine, scripted_engine

DEFAULT = "unix:///var/run/docker.sock"


@pytest.fixture
def played(tmp_path: Path) -> Iterator[ScriptedEngine]:
    with scripted_engine(tmp_path / "engine.sock") as made:
        yield made


# -- where it is -----------------------------------------------------------------------------------------------


def with_context(folder: Path, name: str, host: str, *, current: str | None = None) -> Path:
    """A folder as docker keeps its contexts."""
    place = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    place.mkdir(parents=True)
    (place / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if current is not None:
        (folder / "config.json").write_text(json.dumps({"currentContext": current}))
    return folder


def test_without_a_word_it_is_where_docker_puts_it(tmp_path: Path) -> None:
    """Also with a configuration that says nothing about it, or cannot be read."""
    assert engine.address() == Address(DEFAULT, "the default")
    assert engine.address(Environment()).url == DEFAULT
    assert engine.address(Environment(docker_config=tmp_path)).url == DEFAULT
    for text in ("{}", "not json", '{"currentContext": "default"}'):
        (tmp_path / "config.json").write_text(text)
        assert engine.address(Environment(docker_config=tmp_path)).url == DEFAULT
    assert engine.address(Environment(docker_context="default", docker_config=tmp_path)).url == DEFAULT


def test_it_is_found_as_docker_finds_it(tmp_path: Path) -> None:
    """The variable that names it comes first, then the one that names a context, then the context in use."""
    folder = with_context(tmp_path, "used", "unix:///used.sock", current="used")
    with_context(tmp_path, "wanted", "unix:///wanted.sock")
    assert engine.address(Environment(docker_config=folder)).url == "unix:///used.sock"
    chosen = engine.address(Environment(docker_config=folder, docker_context="wanted"))
    assert chosen == Address("unix:///wanted.sock", "docker's context wanted")
    named = Environment(docker_config=folder, docker_context="wanted", docker_host="unix:///named.sock")
    assert engine.address(named) == Address("unix:///named.sock", "DOCKER_HOST")
    assert str(engine.address(named)) == "unix:///named.sock"


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "localhost:2375", "tcp://[::1]:2375"])
def test_one_that_is_reached_over_loopback_is_ours(host: str) -> None:
    """As in a container beside it, with the same network."""
    assert engine.address(Environment(docker_host=host)).url == host


@pytest.mark.parametrize(
    "host", ["ssh://me@build", "tcp://10.0.0.7:2375", "docker:2375", "https://build:2376", "tcp://docker:2376"]
)
def test_one_on_another_machine_is_refused(host: str) -> None:
    """With the reason: what it publishes cannot be reached."""
    with pytest.raises(BadInput, match=r"\(DOCKER_HOST\) is on another machine: .* loopback of that machine"):
        engine.address(Environment(docker_host=host))


@pytest.mark.parametrize("host", ["unix://relative.sock", "/var/run/docker.sock", "npipe:////./pipe/docker", "fd://"])
def test_what_is_no_address_is_told(host: str) -> None:
    """And how one is written."""
    with pytest.raises(BadInput, match="is no address of an engine: write unix:///path"):
        engine.address(Environment(docker_host=host))


def test_a_context_that_does_not_exist_is_told(tmp_path: Path) -> None:
    """With who names it, as `docker` does."""
    with pytest.raises(BadInput, match="no context gone of docker, which DOCKER_CONTEXT names"):
        engine.address(Environment(docker_context="gone", docker_config=tmp_path))
    with pytest.raises(BadInput, match="no context gone of docker"):
        engine.address(Environment(docker_context="gone"))
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    with pytest.raises(BadInput, match=rf"which {tmp_path}/config\.json names: `docker context ls`"):
        engine.address(Environment(docker_config=tmp_path))


# -- connecting ------------------------------------------------------------------------------------------------


def at(url: str) -> Address:
    return Address(url, "DOCKER_HOST")


def test_an_engine_is_connected_to(played: ScriptedEngine) -> None:
    """In the version of the interface that it speaks itself."""
    with closing(engine.connect(at(played.url))) as client:
        assert client.api.api_version == VERSION["ApiVersion"]
    assert played.asked == ["GET /version"]


def refused(url: str) -> str:
    with pytest.raises(MissingPrerequisite) as caught:
        engine.connect(at(url))
    return str(caught.value)


def test_a_missing_package_is_told(played: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "docker", None)
    assert "pip install 'harness[docker]'" in refused(played.url)


def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No socket, or one that nobody listens on any more: what was tried, and how one is started."""
    missing = f"unix://{tmp_path}/none.sock"
    assert f"no container engine at {missing} (DOCKER_HOST): there is no such socket" in refused(missing)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    said = refused(f"unix://{tmp_path}/left.sock")
    assert "nobody listens there" in said
    assert "systemctl start docker" in said


def test_a_missing_right_is_told(played: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do for it."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(engine._Engine, "ask", denied)
    assert f"no right to use the container engine at {played.url} (DOCKER_HOST)" in refused(played.url)
    # As where there is no such file, or it cannot be looked at.
    assert "become a member of the group docker (sudo usermod -aG docker $USER" in refused("unix:///none.sock")


def test_a_missing_right_is_told_as_the_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told to join a group that has no right either, or the group of root."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(engine._Engine, "ask", denied)
    place = tmp_path / "engine.sock"
    place.touch(mode=0o600)
    place.chmod(0o600)
    said = refused(f"unix://{place}")
    assert f"for uid {os.geteuid()} alone" in said
    assert "mode 0600" in said
    assert "usermod" not in said


def test_a_full_disk_of_the_engine_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was about to be done, it is the machine that is in the way; with the command that shows what takes room."""
    from docker.errors import APIError

    full = APIError("500", explanation="write /var/lib/docker/tmp/x: No space left on device")
    with (
        pytest.raises(
            MissingPrerequisite, match="app-1 cannot be started: the disk of the container engine is full"
        ) as it,
        engine.explained("app-1 cannot be started"),
    ):
        raise full
    assert "docker system df" in str(it.value)
    assert it.value.command == "docker system df"


def test_an_engine_that_does_not_answer_is_told(played: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever."""
    release = threading.Event()

    def hang() -> tuple[int, object]:
        release.wait(10)
        return 200, VERSION

    played.answers["GET /version"] = hang
    monkeypatch.setattr(engine, "_ANSWER_SECONDS", 0.1)
    try:
        assert "did not answer within" in refused(played.url)
    finally:
        release.set()


def test_an_engine_that_is_too_old_is_told(played: ScriptedEngine) -> None:
    """What was seen, and what is needed."""
    played.answers["GET /version"] = lambda: (200, {"Version": "19.03.15", "ApiVersion": "1.40"})
    said = refused(played.url)
    assert "too old (version 19.03.15, API 1.40)" in said
    assert "Docker 20.10 (API 1.41) or newer" in said


@pytest.mark.parametrize(
    "answer",
    [(200, "hello"), (400, "Client sent an HTTP request to an HTTPS server."), (200, {}), (500, {"message": "broken"})],
)
def test_what_is_no_engine_is_told(played: ScriptedEngine, answer: tuple[int, object]) -> None:
    """A web server, or one that wants TLS."""
    played.answers["GET /version"] = lambda: answer
    assert "is no container engine that can be used" in refused(played.url)


def test_what_speaks_no_http_is_told(tmp_path: Path) -> None:
    """As a database would."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"-ERR unknown\r\n")
            connection.close()

        threading.Thread(target=speak, daemon=True).start()
        assert "does not speak HTTP" in refused(f"tcp://127.0.0.1:{listener.getsockname()[1]}")


def test_the_sdk_is_not_loaded_before_it_is_needed() -> None:
    """Setups without containers do not pay for it."""
    code = "import sys, harness.engine, harness.workspace, harness.platforms.docker; sys.exit(len({'docker', 'testcontainers', 'http.client'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_testcontainers_is_loaded_without_a_warning() -> None:
    """Warnings are errors in our tests, and perhaps in those of whoever uses us."""
    code = "import harness.platforms.docker as d; d._settle_testcontainers(lambda name: False)"
    code += "; from testcontainers.core.container import DockerContainer"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_the_sdk_raises_becomes_ours(played: ScriptedEngine) -> None:
    """The engine's own words, and whoever passes over an answer names its status."""
    with closing(engine.connect(at(played.url))) as client:
        played.answers["GET /v1.46/containers/x/json"] = lambda: (404, {"message": "No such container: x"})
        words = r"^app-1 cannot be looked at: No such container: x$"
        with pytest.raises(NodeError, match=words), engine.explained("app-1 cannot be looked at"):
            client.api.inspect_container("x")
        with engine.explained("app-1 cannot be looked at", passing=(404,)):
            client.api.inspect_container("x")
        with pytest.raises(BadInput, match="No such container"), engine.explained("app-1", kind=BadInput):
            client.api.inspect_container("x")
    with closing(engine.connect(at(played.url))) as client:
        played.answers["GET /v1.46/info"] = lambda: 1 / 0  # type: ignore[dict-item, return-value]
        with pytest.raises(NodeError, match="the container engine cannot be asked"), engine.explained("x"):
            client.info()


# -- labels ----------------------------------------------------------------------------------------------------


def test_labels_name_the_run_and_who_made_it(tmp_path: Path) -> None:
    """So that it is found by whoever puts away, and told from a run that lives."""
    labels = engine.labels(run="2026-11-23-1412-7", scratch=tmp_path / "hv-1234")
    us = processes.look(os.getpid())
    assert us is not None
    assert labels["harness.run"] == "2026-11-23-1412-7"
    assert labels["harness.scratch"] == "hv-1234"
    assert (labels["harness.pid"], labels["harness.started"]) == (str(us.pid), str(us.started))
    assert labels["harness.place"].startswith(processes.boot_id())


# -- putting away ----------------------------------------------------------------------------------------------


def test_all_of_a_run_is_removed_and_nothing_else(played: ScriptedEngine) -> None:
    """Containers with their volumes first, then networks; another user's run of the same id is left alone."""
    for kind, name in (("networks", "net"), ("containers", "c1"), ("containers", "c2"), ("volumes", "data")):
        played.has(kind, name, run="r", scratch="hv-1", node=f"app-{name}")
    played.has("containers", "unmarked", run="r", running=True)
    played.has("containers", "theirs", run="r", scratch="hv-2")
    played.has("networks", "other", run="r2", scratch="hv-1")
    done = engine.remove_run("r", url=played.url, scratch="hv-1")
    assert sorted(done.names) == ["app-c1", "app-c2", "unmarked"]
    assert done.problems == ()
    assert played.names() == ["theirs", "other"]
    deleted = [asked.removeprefix("DELETE ") for asked in played.asked if asked.startswith("DELETE")]
    assert sorted(deleted[:3]) == [f"/containers/{name}?force=1&v=1" for name in ("c1", "c2", "unmarked")]
    assert deleted[3:] == ["/networks/net", "/volumes/data?force=1"]


def test_what_is_busy_is_tried_again(played: ScriptedEngine) -> None:
    """A network is free a moment after its last container went."""
    played.has("networks", "net", run="r", scratch="hv-1")
    refusals = iter([(403, {"message": "network has active endpoints"})] * 3)

    def busy() -> tuple[int, object]:
        answer = next(refusals, None)
        if answer is None:
            del played.answers["DELETE"]
            return played.answer("DELETE", "/networks/net")
        return answer

    played.answers["DELETE"] = busy
    assert engine.remove_run("r", url=played.url, scratch="hv-1") == engine.Removed((), ())
    assert played.names() == []


def test_what_cannot_be_removed_is_reported(played: ScriptedEngine) -> None:
    """With what the engine says, after a while."""
    played.has("networks", "net", run="r", scratch="hv-1")
    played.answers["DELETE"] = lambda: (403, {"message": "network has active endpoints"})
    done = engine.remove_run("r", url=played.url, scratch="hv-1", within_seconds=0.1)
    assert done.problems == ("the network net could not be removed: 403 network has active endpoints",)


def test_what_appears_late_is_removed_too(played: ScriptedEngine) -> None:
    """An engine goes on with what a harness told it before it was killed."""
    looks = 0

    def looked() -> tuple[int, object]:
        nonlocal looks
        looks += 1
        if looks == 3:
            played.has("containers", "late", run="r", scratch="hv-1", node="app-1")
        scripted = played.answers.pop("GET /volumes")
        try:
            return played.answer("GET", '/volumes?filters={"label":["harness.run=r"]}')
        finally:
            played.answers["GET /volumes"] = scripted

    played.answers["GET /volumes"] = looked
    began = clock.now()
    assert engine.remove_run("r", url=played.url, scratch="hv-1", settle_seconds=0.3).names == ("app-1",)
    assert clock.now() - began >= 0.3
    assert played.names() == []


def test_an_engine_that_is_gone_is_a_problem_and_no_crash(tmp_path: Path, played: ScriptedEngine) -> None:
    """Whoever puts away has more to do."""
    done = engine.remove_run("r", url=f"unix://{tmp_path}/none.sock", scratch="hv-1")
    [problem] = done.problems
    assert "containers may be left there" in problem
    played.answers["GET /networks"] = lambda: (500, {"message": "broken"})
    [problem] = engine.remove_run("r", url=played.url, scratch="hv-1").problems
    assert "/networks says 500: broken" in problem


def test_runs_are_told_from_those_that_live(
    played: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process of the harness; where it cannot be looked for, by what runs and how old it is."""
    ours = engine.labels(run="ours", scratch=Path("hv-1"))
    marks = {key.removeprefix("harness."): value for key, value in ours.items()}
    now = clock.wall().timestamp()
    played.has("containers", "c1", **marks)
    played.has("containers", "c2", running=True, **marks | {"run": "dead", "started": "1"})
    played.has("networks", "n2", **marks | {"run": "dead", "started": "1"})
    elsewhere = marks | {"place": "another boot", "scratch": "hv-3"}
    played.has("containers", "c3", running=True, **elsewhere | {"run": "far-and-alive"})
    played.has("containers", "c4", created=now - 60, **elsewhere | {"run": "far-and-young"})
    played.has("containers", "c5", created=now - 7200, **elsewhere | {"run": "far-and-over"})
    played.has("containers", "c6", created=now - 7200, run="by-hand")
    # A process that is not to be seen may be hidden, where it is not ours.
    nobody = marks | {"pid": "4194305", "scratch": "hv-7"}
    played.has("containers", "c7", running=True, **nobody | {"run": "gone", "user": str(os.geteuid())})
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    played.has("containers", "c8", running=True, **nobody | {"run": "hidden", "user": "4711"})
    played.has("containers", "c9", running=True, **nobody | {"run": "gone-too", "user": "12345"})
    assert {each.run for each in engine.runs_left(played.url)} & {"gone", "hidden", "gone-too"} == {"gone-too"}
    monkeypatch.undo()
    for name in ("c7", "c8", "c9"):
        played.answer("DELETE", f"/containers/{name}")
    left = engine.runs_left(played.url)
    assert left == [RunLeft("dead", "hv-1", 2), RunLeft("far-and-over", "hv-3", 1), RunLeft("by-hand", "", 1)]
    with pytest.raises(HarnessError, match="cannot be asked"):
        engine.runs_left(f"unix://{tmp_path}/none.sock")


# -- with the record of a run ----------------------------------------------------------------------------------


def test_a_run_that_ends_removes_what_it_has_on_an_engine(played: ScriptedEngine, tmp_path: Path) -> None:
    """What its platform did not, and only where it said that it uses one."""
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as space:
        played.has("containers", "c1", run=space.run_id, scratch=space.scratch.name, node="app-1")
    assert played.asked == []
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid() + 1, runtime=tmp_path) as space:
        space.uses_engine(played.url)
        space.uses_engine(played.url)
        played.has("containers", "c2", run=space.run_id, scratch=space.scratch.name, node="app-1")
    assert played.names() == ["c1"]


def test_an_engine_that_cannot_be_asked_keeps_the_record(tmp_path: Path) -> None:
    """So that whoever comes next tries again."""
    sock = tmp_path / "engine.sock"
    space = Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path)
    space.uses_engine(f"unix://{sock}")
    with pytest.raises(HarnessError, match="containers may be left there"):
        space.close()
    assert not space.scratch.exists()
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_what_is_left_on_an_engine_is_swept(played: ScriptedEngine, tmp_path: Path) -> None:
    """Also where the record of its run is lost; an engine that is not there has nothing."""
    marks = {key.removeprefix("harness."): value for key, value in engine.labels(run="r", scratch=Path("hv-1")).items()}
    played.has("containers", "c1", **marks | {"started": "1", "node": "app-1"})
    [said] = sweep(runtime=tmp_path, engine_url=played.url)
    assert said == "run r, whose harness is gone and whose record is lost: removed app-1"
    played.has("networks", "n1", **marks | {"started": "1"})
    [said] = sweep(runtime=tmp_path, engine_url=played.url)
    assert said.endswith("removed its networks and volumes")
    assert played.names() == []
    assert sweep(runtime=tmp_path, engine_url=played.url) == []
    assert sweep(runtime=tmp_path, engine_url=f"unix://{tmp_path}/none.sock") == []
    assert sweep(runtime=tmp_path) == []
