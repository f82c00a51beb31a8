"""Each image of ours keeps what people rely on of the official one. Needs a container engine."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness import assets, clock, engine, images
from harness.errors import BadInput, MissingPrerequisite
from harness.images import BUILT
from harness.setup import read_environment
from harness.waiting import wait_until

# The first build of all images takes most of a minute, on a busy machine longer.
pytestmark = pytest.mark.timeout(300)

LABEL = "harness.test"
NGINX_CONF = b"""
events {}
http {
    resolver 127.0.0.11;
    keepalive_min_timeout 5s;
    upstream later {
        zone later 64k;
        server later.invalid:8000 resolve;
    }
    server { listen 80; location / { return 200 "first"; } }
}
"""
HAPROXY_CFG = b"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend in
    bind :8080
    http-request return status 200 content-type text/plain lf-string "by %[env(GREETING)]"
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """An engine that has all images of ours."""
    where = engine.address(read_environment())
    try:
        client = engine.connect(where)
    except MissingPrerequisite as problem:
        pytest.skip(f"no container engine answers: {problem}")
    images.build(where=where)
    with closing(client):
        yield client


class Container:
    """One that was started from an image of ours, its only port published on loopback."""

    def __init__(self, inner: Any, port: int) -> None:
        self.inner = inner
        self._port = port

    @property
    def port(self) -> int:
        self.inner.reload()
        return int(self.inner.ports[f"{self._port}/tcp"][0]["HostPort"])

    @property
    def log(self) -> str:
        text: str = self.inner.logs().decode()
        return text

    def says(self, *words: str, within_seconds: float = 30) -> None:
        wait_until(
            lambda: all(word in self.log for word in words), within_seconds=within_seconds, because=f"it says {words}"
        )

    def run(self, *argv: str) -> str:
        code, said = self.inner.exec_run(list(argv))
        assert code == 0, said
        text: str = said.decode()
        return text.strip()

    def stop(self) -> tuple[int, float]:
        """Exit code and seconds of a stop by the image's own signal."""
        began = clock.now()
        self.inner.stop(timeout=15)
        return self.inner.wait()["StatusCode"], clock.now() - began


Start = Callable[..., Container]


@pytest.fixture
def start(client: Any) -> Iterator[Start]:
    """Starts containers; all of them are gone at the end."""
    started: list[Any] = []

    def start(
        name: str,
        *command: str,
        port: int = 80,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        **more: Any,
    ) -> Container:
        inner = client.containers.create(
            BUILT[name].tag,
            list(command) or None,
            environment=dict(env or {}),
            ports={f"{port}/tcp": ("127.0.0.1", None)},
            labels={LABEL: "images"},
            **more,
        )
        started.append(inner)
        if files:
            inner.put_archive("/", packed(files))
        inner.start()
        return Container(inner, port)

    try:
        yield start
    finally:
        for each in started:
            each.remove(force=True, v=True)


def packed(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(content), 0o755 if name.endswith("run.sh") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def answer(container: Container, path: str = "/") -> str:
    """What it says on its port; empty while nothing answers."""
    with suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{container.port}{path}", timeout=5).text
    return ""


def test_nothing_is_built_twice(client: Any) -> None:
    """Looking whether everything is current takes a moment, so that every run may do it."""
    where = engine.address(read_environment())
    began = clock.now()
    assert images.build(where=where) == []
    assert clock.now() - began < 1.0
    assert {each.state for each in images.survey(where=where)} == {"built"}
    assert images.is_built("nginx", where=where)


# -- Postgres ---------------------------------------------------------------------------------------------------------


def test_postgres_is_made_as_the_environment_and_the_init_folder_say(start: Start) -> None:
    """User, password from a file, database, arguments; every kind of init file, in the order of their names."""
    container = start(
        "postgres",
        *("postgres", "-c", "max_connections=33"),
        port=5432,
        env={
            "POSTGRES_USER": "ann",
            "POSTGRES_PASSWORD_FILE": "/run/secret",
            "POSTGRES_DB": "shop",
            "POSTGRES_INITDB_ARGS": "--data-checksums --locale='C.UTF-8'",
        },
        files={
            "/run/secret": b"s3 cret'\n",
            "/docker-entrypoint-initdb.d/1.sql": b"CREATE TABLE done (by text);",
            "/docker-entrypoint-initdb.d/2.sql.gz": gzip.compress(b"INSERT INTO done VALUES ('sql.gz');"),
            "/docker-entrypoint-initdb.d/3-run.sh": b"#!/bin/bash\nset -e\n"
            b'psql -U "$POSTGRES_USER" "$POSTGRES_DB" -c "INSERT INTO done VALUES (\'run\')"\n',
            "/docker-entrypoint-initdb.d/4-source.sh": b"docker_process_sql <<<\"INSERT INTO done VALUES ('sourced')\"\n",
            "/docker-entrypoint-initdb.d/README": b"nothing to run",
        },
    )
    container.says("PostgreSQL init process complete", 'listening on IPv4 address "0.0.0.0", port 5432')
    initialising = container.log.partition("PostgreSQL init process complete")[0]
    assert "listening on Unix socket" in initialising
    assert "listening on IPv4" not in initialising  # nobody outside takes the temporary server for the real one
    assert "ignoring /docker-entrypoint-initdb.d/README" in initialising
    wait_until(
        lambda: container.log.count("ready to accept") == 2, within_seconds=10, because="the real server is ready"
    )
    with connect(container, user="ann", password="s3 cret'", dbname="shop") as connection:
        assert rows(connection, "SELECT by FROM done") == ["sql.gz", "run", "sourced"]
        assert rows(connection, "SHOW max_connections") == ["33"]
        assert rows(connection, "SHOW data_checksums") == ["on"]
        assert rows(connection, COLLATION) == ["C.UTF-8"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(container, user="ann", password="another", dbname="shop")
    assert container.run("sh", "-c", "stat -c %U /proc/1 $PGDATA") == "postgres\npostgres"
    code, seconds = container.stop()
    assert (code, seconds < 5) == (0, True)
    container.inner.start()
    container.says("Skipping initialization")


COLLATION = "SELECT datcollate FROM pg_database WHERE datname = current_database()"


def connect(container: Container, **who: str) -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=container.port, connect_timeout=5, autocommit=True, **who)


def rows(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query.encode())]


def test_postgres_without_a_password(start: Start) -> None:
    """Refused with what to do, unless everybody is to be trusted; options alone are the server's."""
    refused = start("postgres", port=5432)
    assert refused.inner.wait(timeout=30)["StatusCode"] == 1
    assert "You must specify POSTGRES_PASSWORD" in refused.log
    both = start("postgres", port=5432, env={"POSTGRES_PASSWORD": "x", "POSTGRES_PASSWORD_FILE": "/y"})
    assert both.inner.wait(timeout=30)["StatusCode"] == 1
    assert "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are set" in both.log
    trusting = start(
        "postgres",
        *("-c", "fsync=off"),
        port=5432,
        env={"POSTGRES_HOST_AUTH_METHOD": "trust"},
        tmpfs={"/var/lib/postgresql/data": ""},
    )
    trusting.says("init process complete", "0.0.0.0", "ready to accept")
    wait_until(
        lambda: trusting.log.count("ready to accept") == 2, within_seconds=30, because="the real server is ready"
    )
    with connect(trusting, user="postgres") as connection:
        assert rows(connection, "SHOW fsync") == ["off"]
        assert rows(connection, COLLATION) == ["en_US.utf8"]


def test_a_failing_init_file_ends_postgres(start: Start) -> None:
    """As with the official image: a half-made database must not be served."""
    container = start(
        "postgres",
        port=5432,
        env={"POSTGRES_PASSWORD": "x"},
        files={"/docker-entrypoint-initdb.d/1.sql": b"SELECT * FROM nowhere;"},
    )
    assert container.inner.wait(timeout=30)["StatusCode"] != 0
    assert 'relation "nowhere" does not exist' in container.log


# -- Redis ------------------------------------------------------------------------------------------------------------


def test_redis_is_reached_from_others(start: Start) -> None:
    """Without protected mode, as redis and not as root, with its data in /data."""
    plain = start("redis", port=6379)
    guarded = start("redis", "redis-server", "--requirepass", "s3cret", "--appendonly", "yes", port=6379)
    by_file = start(
        "redis", "/usr/local/etc/redis.conf", port=6379, files={"/usr/local/etc/redis.conf": b"maxmemory 7mb\n"}
    )
    for container in (plain, guarded, by_file):
        container.says("Ready to accept connections")
    assert database(plain).set("key", "value")
    with pytest.raises(redis.AuthenticationError):
        database(guarded).ping()
    assert database(guarded, "s3cret").ping()
    assert database(by_file).config_get("maxmemory") == {"maxmemory": str(7 << 20)}
    assert guarded.run("sh", "-c", "stat -c %U /proc/1; ls /data") == "redis\nappendonlydir"
    code, seconds = plain.stop()
    assert (code, seconds < 5) == (0, True)
    plain.inner.start()
    wait_until(lambda: plain.log.count("Ready to accept") == 2, within_seconds=20, because="it starts again")
    assert database(plain).get("key") == "value"


def database(container: Container, password: str | None = None) -> Any:
    never_again = Retry(NoBackoff(), 0)
    return redis.Redis(port=container.port, password=password, decode_responses=True, retry=never_again)


# -- the balancers ----------------------------------------------------------------------------------------------------


def test_nginx_serves_what_it_is_given(start: Start) -> None:
    """The configuration at its usual place, with what our template needs; logs where `docker logs` finds them."""
    container = start("nginx", files={"/etc/nginx/nginx.conf": NGINX_CONF})
    wait_until(lambda: answer(container) == "first", within_seconds=20, because="nginx answers")
    container.says('"GET / HTTP/1.1" 200')
    container.inner.put_archive("/", packed({"/etc/nginx/nginx.conf": NGINX_CONF.replace(b"first", b"second")}))
    container.run("nginx", "-t")
    container.run("nginx", "-s", "reload")
    wait_until(lambda: answer(container) == "second", within_seconds=20, because="nginx has read the new one")
    code, seconds = container.stop()
    assert (code, seconds < 5) == (0, True)


def test_nginx_has_a_site_of_its_own(start: Start) -> None:
    """Without any configuration; files are served by the user nginx, as the types they have."""
    container = start("nginx", files={"/usr/share/nginx/html/a.css": b"p {}", "/etc/nginx/conf.d/2.conf": b"# more\n"})
    wait_until(lambda: "nginx" in answer(container), within_seconds=20, because="nginx answers")
    seen = requests.get(f"http://127.0.0.1:{container.port}/a.css", timeout=5)
    assert (seen.text, seen.headers["content-type"]) == ("p {}", "text/css")
    assert "nginx" in container.run("sh", "-c", "stat -c %U /proc/[0-9]*").splitlines()


def test_nginx_says_what_is_wrong_with_its_configuration(start: Start) -> None:
    """And ends."""
    container = start("nginx", files={"/etc/nginx/nginx.conf": b"nonsense;"})
    assert container.inner.wait(timeout=30)["StatusCode"] == 1
    assert 'unknown directive "nonsense"' in container.log


def test_haproxy_serves_what_it_is_given(start: Start) -> None:
    """The configuration at its usual place, a master with workers, not as root."""
    container = start(
        "haproxy",
        port=8080,
        env={"GREETING": "haproxy"},
        files={"/usr/local/etc/haproxy/haproxy.cfg": HAPROXY_CFG},
    )
    wait_until(lambda: answer(container) == "by haproxy", within_seconds=20, because="HAProxy answers")
    assert "-W\n-db\n-f" in container.run("sh", "-c", "tr '\\0' '\\n' </proc/1/cmdline; stat -c %U /proc/1")
    assert container.run("id", "-un") == "haproxy"
    code, seconds = container.stop()
    assert (code, seconds < 5) == (0, True)


# -- Python and the application ---------------------------------------------------------------------------------------


def test_python_is_where_it_is_expected(client: Any) -> None:
    """`python`, `python3` and `pip`, and pip may install for everybody."""
    script = "import sys, sysconfig, ssl; print(sys.version_info[:2], sysconfig.get_path('purelib'))"
    said = client.containers.run(
        BUILT["python"].tag,
        ["sh", "-c", f'python3 --version && pip --version && exec python -c "{script}"'],
        remove=True,
        labels={LABEL: "images"},
    ).decode()
    assert "Python 3.13" in said
    assert "(python 3.13)" in said
    assert "(3, 13) /usr/local/lib/python3.13/site-packages" in said


@pytest.fixture
def network(client: Any) -> Iterator[str]:
    """Between containers of one test."""
    made = client.networks.create("harness-test-images", labels={LABEL: "images"})
    try:
        yield made.name
    finally:
        made.remove()


def test_the_reference_application_answers_and_stops(network: str, start: Start) -> None:
    """On a database beside it: healthy, ready, not as root, and stopped by its signal without being killed."""
    database = start(
        "postgres",
        port=5432,
        env={"POSTGRES_PASSWORD": "x"},
        network=network,
        tmpfs={"/var/lib/postgresql/data": ""},
    )
    env = {
        "DATABASE_URL": f"postgres://postgres:x@{address_of(database)}/postgres",
        "SECRET_KEY": "not-so-secret-here",
        "SESSION_STORE": "postgres",
    }
    app = start("reference-app", port=8000, env=env, network=network)
    wait_until(lambda: "ready" in answer(app, "/ready"), within_seconds=40, because="the application answers")
    assert json.loads(answer(app, "/ready"))["ready"] is True
    assert answer(app, "/health")
    assert app.run("id", "-un") == "app"
    code, seconds = app.stop()
    assert (code, seconds < 5) == (0, True)


def address_of(container: Container) -> str:
    container.inner.reload()
    [network] = container.inner.attrs["NetworkSettings"]["Networks"].values()
    address: str = network["IPAddress"]
    return address


# -- building ---------------------------------------------------------------------------------------------------------


def test_an_image_is_made_anew_when_its_files_change(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is not kept; nothing without our label is touched; what was removed is gone."""
    tiny = images.BuiltImage("tiny", "harness-test/tiny:1", "tiny")
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY a.txt /\n")
    (tmp_path / "a.txt").write_text("one")
    find = assets.path
    monkeypatch.setattr(assets, "path", lambda relative: tmp_path if relative == "tiny" else find(relative))
    monkeypatch.setattr(images, "BUILT", {"base": BUILT["base"], "tiny": tiny})
    where = engine.address(read_environment())
    said: list[str] = []
    try:
        assert images.build(["tiny"], where=where, on_progress=said.append) == ["tiny"]
        assert [line.partition(" in ")[0] for line in said] == [f"{tiny.tag}: building", f"{tiny.tag}: built"]
        first = client.images.get(tiny.tag).id
        assert images.build(["tiny"], where=where) == []
        (tmp_path / "a.txt").write_text("two")
        assert not images.is_built("tiny", where=where)
        assert images.build(["tiny"], where=where) == ["tiny"]
        assert client.images.get(tiny.tag).id != first
        assert client.images.list(filters={"dangling": True, "label": f"{images.LABEL}=tiny"}) == []
    finally:
        assert images.remove(["tiny"], where=where) == [tiny.tag]
    assert images.survey(["tiny"], where=where)[0].state == "missing"
    assert images.is_built("base", where=where)


def test_an_image_that_nobody_has(client: Any) -> None:
    """What the engine said, and what to do."""
    with pytest.raises(BadInput, match=r"the image registry\.invalid/shop:1 .* cannot be pulled \(the engine says: "):
        images.ensure("registry.invalid/shop:1", where=engine.address(read_environment()))
