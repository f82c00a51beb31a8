"""Postgres as a service: its data directory, its settings, its readiness. No server is started."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, MissingPrerequisite, NodeError
from harness.services import postgres
from harness.services.postgres import DamagedError, PostgresService, Postmaster, copy_listed, write_listing
from harness.setup import Postgres

Made = list[Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What stands for an initialised data directory, with its listing beside it."""
    data = tmp_path / "data"
    (data / "base" / "1").mkdir(parents=True)
    (data / "pg_dynshmem").mkdir()
    (data / "PG_VERSION").write_text("18\n", encoding="utf-8")
    (data / "base" / "1" / "1259").write_bytes(bytes(range(256)) * 64)
    (data / "base" / "1" / "empty").touch()
    write_listing(data, listing=tmp_path / "listing.json")
    return data


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Each data directory that would have been made by initdb, with the cache in a folder of the test."""
    made: Made = []

    def initialise(_program: Path, data: Path, *, version: str, env: object) -> None:
        (data / "base").mkdir(parents=True)
        (data / "PG_VERSION").write_text(version, encoding="utf-8")
        made.append(data)

    monkeypatch.setattr(postgres, "_initialise", initialise)
    monkeypatch.setattr(postgres, "_alter", lambda *_args, **_kwargs: None)
    return made


@pytest.fixture
def new_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PostgresService]:
    """Makes services whose Postgres is said to be there, each in a run of its own."""
    program = tmp_path / "bin" / "postgres"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    monkeypatch.setattr(postgres, "unprivileged", lambda: SimpleNamespace(owner=None))
    runs = iter(range(1, 100))

    def new(**settings: Any) -> PostgresService:
        scratch = tmp_path / f"run-{next(runs)}"
        workspace: Any = SimpleNamespace(scratch=scratch, cache=tmp_path / "cache", marks={"HARNESS_RUN": "test"})
        return PostgresService(Postgres(**settings), program=program, workspace=workspace, port=1)

    return new


def setting(service: PostgresService, name: str) -> str:
    text = (service.spec.directory / "data" / "postgresql.conf").read_text(encoding="utf-8")
    return dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)[name]


# -- the copy ---------------------------------------------------------------------------------------------------


def test_a_copy_is_what_was_listed(data: Path, tmp_path: Path) -> None:
    """Files, empty files and empty folders, readable by their owner only: Postgres refuses a folder others may read."""
    copy_listed(data, tmp_path / "copy", listing=tmp_path / "listing.json")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    assert copied == {"PG_VERSION", "base", "base/1", "base/1/1259", "base/1/empty", "pg_dynshmem"}
    assert (tmp_path / "copy/base/1/1259").read_bytes() == (data / "base/1/1259").read_bytes()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


def remove_a_file(data: Path) -> None:
    (data / "PG_VERSION").unlink()


def cut_a_file(data: Path) -> None:
    os.truncate(data / "base/1/1259", 8192)


def touch_a_file(data: Path) -> None:
    os.utime(data / "base/1/1259")


def remove_a_folder(data: Path) -> None:
    (data / "base/1/1259").unlink()
    (data / "base/1/empty").unlink()
    (data / "base/1").rmdir()


def cut_the_listing(data: Path) -> None:
    os.truncate(data.parent / "listing.json", 20)


def empty_the_listing(data: Path) -> None:
    (data.parent / "listing.json").write_text("[]", encoding="utf-8")


def remove_the_listing(data: Path) -> None:
    (data.parent / "listing.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        remove_a_file,
        cut_a_file,
        touch_a_file,
        remove_a_folder,
        cut_the_listing,
        empty_the_listing,
        remove_the_listing,
    ],
)
def test_damage_is_noticed(damage: Callable[[Path], None], data: Path, tmp_path: Path) -> None:
    """A cache that was cut short or changed is never run on."""
    damage(data)
    with pytest.raises(DamagedError):
        copy_listed(data, tmp_path / "copy", listing=tmp_path / "listing.json")


# -- the cache --------------------------------------------------------------------------------------------------


def test_a_data_directory_is_made_once(made: Made, new_service: Callable[..., PostgresService]) -> None:
    """The second run on a machine copies what the first has made."""
    for _ in range(3):
        service = new_service()
        service.prepare()
        assert (service.spec.directory / "data" / "PG_VERSION").read_text(encoding="utf-8") == "18"
    assert len(made) == 1


def test_each_version_has_its_own(made: Made, new_service: Callable[..., PostgresService]) -> None:
    """A server refuses the data of another version."""
    new_service(version="18").prepare()
    new_service(version="16").prepare()
    assert len(made) == 2


def test_a_new_installation_has_its_own(
    made: Made, new_service: Callable[..., PostgresService], tmp_path: Path
) -> None:
    """A release may lay out its data differently."""
    new_service().prepare()
    (tmp_path / "bin" / "postgres").write_text("#!/bin/sh\n# newer\n", encoding="utf-8")
    new_service().prepare()
    assert len(made) == 2


def test_a_damaged_cache_is_made_again(made: Made, new_service: Callable[..., PostgresService], tmp_path: Path) -> None:
    """Without a word: nobody can mend it better."""
    new_service().prepare()
    (file,) = tmp_path.glob("cache/postgres/18-*/data/PG_VERSION")
    file.write_bytes(b"")
    service = new_service()
    service.prepare()
    assert len(made) == 2
    assert (service.spec.directory / "data" / "PG_VERSION").read_text(encoding="utf-8") == "18"


def test_what_a_killed_run_left_half_made_goes(
    made: Made, new_service: Callable[..., PostgresService], tmp_path: Path
) -> None:
    """Each would take 36 MB for ever."""
    (tmp_path / "cache" / "postgres" / "harness-half-made-abc" / "data").mkdir(parents=True)
    new_service().prepare()
    assert sorted(path.name[:3] for path in tmp_path.glob("cache/postgres/*")) == ["18-", "loc"]


def test_only_the_last_installations_are_kept(
    made: Made, new_service: Callable[..., PostgresService], tmp_path: Path
) -> None:
    """A folder for each virtual environment that ever was would fill the disk."""
    for number in range(5):
        (tmp_path / "bin" / "postgres").write_text("#" * (number + 1), encoding="utf-8")
        new_service().prepare()
    assert len(list(tmp_path.glob("cache/postgres/18-*"))) == 3


def test_a_cache_that_cannot_be_written_costs_time_and_no_run(
    made: Made, new_service: Callable[..., PostgresService], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk under the home folder is no reason not to judge a setup."""

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    for _ in range(2):
        service = new_service()
        service.prepare()
        assert (service.spec.directory / "data" / "PG_VERSION").read_text(encoding="utf-8") == "18"
    assert len(made) == 2
    assert [path.name for path in tmp_path.glob("cache/postgres/*")] == ["lock"]


def test_nothing_secret_stays_in_the_cache(
    made: Made, new_service: Callable[..., PostgresService], tmp_path: Path
) -> None:
    """The passwords of a run go with the run."""
    service = new_service()
    service.prepare()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("cache/**/*") if path.is_file())
    assert not [secret for secret in service.secrets if secret.encode() in kept]


# -- settings and values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durable", "said"), [(False, "off"), (True, "on")])
def test_commits_wait_for_the_disk_only_when_durability_is_judged(
    durable: bool, said: str, made: Made, new_service: Callable[..., PostgresService]
) -> None:
    """All three settings together: one of them alone promises nothing."""
    service = new_service(durable=durable)
    service.prepare()
    assert {setting(service, name) for name in ("fsync", "synchronous_commit", "full_page_writes")} == {said}


def test_listens_on_loopback_with_passwords_only(made: Made, new_service: Callable[..., PostgresService]) -> None:
    """No socket in a shared folder, no address of the machine, no trust."""
    service = new_service(max_connections=42)
    service.prepare()
    assert setting(service, "listen_addresses") == "'127.0.0.1'"
    assert setting(service, "unix_socket_directories") == "''"
    assert setting(service, "max_connections") == "42"
    rules = (service.spec.directory / "data" / "pg_hba.conf").read_text(encoding="utf-8").splitlines()
    assert [rule.split()[3:] for rule in rules if not rule.startswith("#")] == [["127.0.0.0/8", "scram-sha-256"]] * 2


def test_the_values_of_its_placeholders_agree(new_service: Callable[..., PostgresService]) -> None:
    """The URL says the same as its parts."""
    values = new_service().values()
    assert values["postgres.url"] == (
        f"postgres://{values['postgres.user']}:{values['postgres.password']}"
        f"@{values['postgres.host']}:{values['postgres.port']}/{values['postgres.database']}"
    )


def test_the_passwords_are_nowhere_in_the_command(new_service: Callable[..., PostgresService]) -> None:
    """Arguments and environments are seen by others on the machine."""
    service = new_service()
    assert len(set(service.secrets)) == 2
    assert not [each for each in service.secrets if each in " ".join([*service.spec.argv, *service.spec.env.values()])]


def test_a_full_disk_is_said_to_be_full(
    made: Made, new_service: Callable[..., PostgresService], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person can mend that, so that it is no error of ours."""

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(postgres, "copy_listed", full)
    with pytest.raises(MissingPrerequisite, match="the disk is full"):
        new_service().prepare()


@pytest.mark.parametrize(
    ("said", "raised", "words"),
    [
        ("initdb: error: could not write: No space left on device", MissingPrerequisite, "the disk is full"),
        ("initdb: could not look up effective user ID 4242: user does not exist", MissingPrerequisite, "/etc/passwd"),
        ("initdb: error: something else", HarnessError, "exit code 1: initdb: error: something else"),
    ],
)
def test_why_a_data_directory_could_not_be_made_is_said(
    said: str, raised: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the person's words where the person can mend it, in Postgres' own otherwise."""
    ended = SimpleNamespace(returncode=1, stderr=said.encode())
    monkeypatch.setattr(postgres, "run_as_unprivileged", lambda *_args, **_kwargs: ended)
    with pytest.raises(raised, match=words):
        postgres._run(["initdb"], directory=tmp_path, timeout_seconds=1, env={})


def test_a_statement_that_failed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without clients goes on after one, and ends well."""
    said = b'2026-01-01 00:00:00.000 UTC [7] ERROR:  role "app" does not exist\n'
    ended = SimpleNamespace(returncode=0, stderr=said)
    monkeypatch.setattr(postgres, "run_as_unprivileged", lambda *_args, **_kwargs: ended)
    with pytest.raises(HarnessError, match='role "app" does not exist'):
        postgres._alter(tmp_path / "postgres", tmp_path / "data", "ALTER ROLE app", env={})


# -- readiness --------------------------------------------------------------------------------------------------

PID_FILE = """\
{pid}
/somewhere/data
1795460577
18300

127.0.0.1
  2212490        18
ready
"""


def test_a_running_server_says_what_it_is(tmp_path: Path) -> None:
    """Line 1 is its process, 7 its shared memory, 8 its status."""
    (tmp_path / "postmaster.pid").write_text(PID_FILE.format(pid=os.getpid()), encoding="utf-8")
    found = Postmaster.read(tmp_path)
    assert found == Postmaster(pid=os.getpid(), shared_memory_id=18, status="ready")
    assert found.is_alive()


@pytest.mark.parametrize("lines", range(8))
def test_a_file_that_is_being_written_is_not_ready(lines: int, tmp_path: Path) -> None:
    """It is written in several steps while the server starts."""
    text = "".join(PID_FILE.format(pid=1).splitlines(keepends=True)[:lines])
    (tmp_path / "postmaster.pid").write_text(text, encoding="utf-8")
    found = Postmaster.read(tmp_path)
    assert found is None or found.status == ""


def test_no_file_means_no_server(tmp_path: Path) -> None:
    """It is written late, and removed at a clean stop."""
    assert Postmaster.read(tmp_path) is None


def test_the_file_of_a_killed_server_is_not_ready(new_service: Callable[..., PostgresService]) -> None:
    """It still says `ready` until the next server writes its own."""
    service = new_service()
    data = service.spec.directory / "data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(PID_FILE.format(pid=2**22 + 1), encoding="utf-8")
    assert service.spec.is_ready() is False


def test_a_server_that_says_nothing_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs has its port open and its file in place."""
    monkeypatch.setattr(postgres, "ASK_TIMEOUT_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert postgres._speaks_postgres("127.0.0.1", server.getsockname()[1]) is False


def test_a_look_at_a_server_that_is_gone_says_so(new_service: Callable[..., PostgresService]) -> None:
    """With the address, and without the password."""
    service = new_service()
    with pytest.raises(NodeError, match=r"127\.0\.0\.1:1 does not let us in") as raised:
        service.row_count("notes")
    assert not [secret for secret in service.secrets if secret in str(raised.value)]
