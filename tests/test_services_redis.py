"""The Redis-compatible server as a service: its configuration, its values, its protocol. No server is started."""

from __future__ import annotations

import io
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import NodeError
from harness.services import redis
from harness.services.redis import RedisService
from harness.setup import Redis

PROGRAM = Path("/opt/valkey-server")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def service(tmp_path: Path, free_port: int) -> RedisService:
    workspace: Any = SimpleNamespace(scratch=tmp_path)
    return RedisService(Redis(), program=PROGRAM, workspace=workspace, port=free_port)


def test_the_password_is_in_a_file_of_the_owner_and_nowhere_else(service: RedisService, tmp_path: Path) -> None:
    """Arguments and environments are seen by others on the machine."""
    service.prepare()
    (password,) = service.secrets
    file = tmp_path / "redis" / "redis.conf"
    assert f"requirepass {password}" in file.read_text(encoding="utf-8").splitlines()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert password not in " ".join([*service.spec.argv, *service.spec.env.values()])


def test_listens_on_loopback_only_and_keeps_nothing(service: RedisService, tmp_path: Path) -> None:
    """Nothing can be reached from another machine, and nothing is written to disk."""
    service.prepare()
    lines = (tmp_path / "redis" / "redis.conf").read_text(encoding="utf-8").splitlines()
    assert {"bind 127.0.0.1", f"port {service.port}", 'save ""', "appendonly no"} <= set(lines)


def test_a_folder_with_blanks_is_quoted(tmp_path: Path) -> None:
    """A folder for temporary files may have any name."""
    workspace: Any = SimpleNamespace(scratch=tmp_path / 'my "own" folder')
    RedisService(Redis(), program=PROGRAM, workspace=workspace, port=1).prepare()
    text = (tmp_path / 'my "own" folder' / "redis" / "redis.conf").read_text(encoding="utf-8")
    assert f'dir "{tmp_path}/my \\"own\\" folder/redis"' in text.splitlines()


def test_the_values_of_its_placeholders_agree(service: RedisService) -> None:
    """The URL says the same as its parts."""
    values = service.values()
    assert values["redis.url"] == (
        f"redis://:{values['redis.password']}@{values['redis.host']}:{values['redis.port']}/0"
    )
    assert set(values) == {"redis.url", "redis.host", "redis.port", "redis.password"}


def test_two_runs_have_different_passwords(tmp_path: Path) -> None:
    """A password is random for each run."""
    workspace: Any = SimpleNamespace(scratch=tmp_path)
    first, second = (RedisService(Redis(), program=PROGRAM, workspace=workspace, port=1) for _ in range(2))
    assert first.secrets != second.secrets


def test_not_ready_while_nobody_listens(service: RedisService) -> None:
    """A refusal is an answer, not an error."""
    assert service.spec.is_ready() is False


def test_a_look_at_a_server_that_is_gone_says_so(service: RedisService) -> None:
    """With the address, and without the password."""
    with pytest.raises(NodeError, match=f"127.0.0.1:{service.port} did not answer DBSIZE") as raised:
        service.key_count()
    assert service.secrets[0] not in str(raised.value)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b":42\r\n", 42),
        (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
        (b"$-1\r\n", None),
        (b"$0\r\n\r\n", b""),
    ],
)
def test_replies_are_read(sent: bytes, read: object) -> None:
    """The four kinds of reply our questions have."""
    assert redis._read_reply(io.BytesIO(sent)) == read


@pytest.mark.parametrize("sent", [b"", b"+PON", b"-WRONGPASS no\r\n", b"$5\r\nab", b"HTTP/1.1 400 Bad Request\r\n"])
def test_what_is_no_reply_is_refused(sent: bytes) -> None:
    """Errors, broken replies and other servers all mean that it did not answer."""
    with pytest.raises(ValueError):
        redis._read_reply(io.BytesIO(sent))


def test_a_command_is_written_with_lengths_in_bytes() -> None:
    """A password may hold any character."""
    assert redis._request("AUTH", "é") == b"*2\r\n$4\r\nAUTH\r\n$2\r\n\xc3\xa9\r\n"
