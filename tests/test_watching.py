"""What cannot be watched is told, before the command is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scripted_server import ScriptedServer
from watched_sites import LOGIN, PYTHON, url, watch

from harness.watching import site_of


@pytest.fixture
def site() -> Iterator[ScriptedServer]:
    with closing(ScriptedServer()) as server:
        yield server


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "no-such-program"], "there is no program 'no-such-program' to run"),
        (["--rate", "1000", "--", "true"], "--rate is a number of requests per second from 1 to 200 (got 1000)"),
        (["--within", "soon", "--", "true"], "--within is a length such as 30s"),
        (["--journey", "nowhere.toml", "--", "true"], "nowhere.toml"),
    ],
)
def test_what_cannot_be_is_told(
    site: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """Before anything is asked, and nothing is left behind."""
    assert watch(tmp_path, url(site), *words) == 2
    assert message in capsys.readouterr().err
    assert not site.seen
    assert not (tmp_path / "reports").exists()


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is not run then."""
    with closing(ScriptedServer()) as gone:
        address = url(gone)
    flag = tmp_path / "ran"
    assert watch(tmp_path, address, "--", *PYTHON, f"open({str(flag)!r}, 'w')") == 2
    assert "nobody answers at" in capsys.readouterr().err
    assert not flag.exists()


def test_nobody_can_log_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is it where nobody would be there to be disturbed."""
    setup = tmp_path / "shop.toml"
    setup.write_text(LOGIN, encoding="utf-8")
    flag = tmp_path / "ran"
    with closing(ScriptedServer({"/login": lambda talk: talk.answer(status="403 Forbidden")})) as site:
        words = ["--journey", str(setup), "--", *PYTHON, f"open({str(flag)!r}, 'w')"]
        assert watch(tmp_path, url(site), *words) == 2
    assert "none of 20 people could log in" in capsys.readouterr().err
    assert not flag.exists()


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("https://staging.example.org", "https://staging.example.org"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://example.org:443", "https://example.org"),
    ],
)
def test_the_address_of_a_site(text: str, site: str) -> None:
    assert str(site_of(text, takes_path=False)) == site


@pytest.mark.parametrize(
    "text",
    ["example.org", "ftp://example.org", "http://", "http://example.org:x", "http://me:pw@example.org", "https://a/b"],
)
def test_what_is_no_address_of_a_site(text: str) -> None:
    """Nobody's password is taken, nor a page where journeys say which are asked for."""
    from harness.errors import BadInput

    with pytest.raises(BadInput, match="the address of a site"):
        site_of(text, takes_path=False)
