"""The environment of the harness is read once, and a wrong variable is told like a wrong key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SetupError
from harness.setup import Environment, read_environment


def test_an_empty_environment_has_defaults() -> None:
    """Nothing has to be set; the cache is the user's."""
    assert read_environment({"HOME": "/home/ann"}) == Environment(cache=Path("/home/ann/.cache/harness"))


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/harness"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "x"}, "/h/.cache/harness"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "HARNESS_CACHE": "/own"}, "/own"),
        ({"HOME": "/h", "HARNESS_CACHE": ""}, "/h/.cache/harness"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], cache: str) -> None:
    """Our own variable, then the desktop's, then the home folder; relative paths of the desktop's are ignored."""
    assert read_environment(variables).cache == Path(cache)


def test_every_variable_is_read(tmp_path: Path) -> None:
    """Programs, patience and what is known of the terminal."""
    for program in ("nginx", "valkey", "postgres", "initdb"):
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o755)
    read = read_environment(
        {
            "HARNESS_CACHE": str(tmp_path),
            "HARNESS_PATIENCE": "2.5",
            "HARNESS_NGINX": str(tmp_path / "nginx"),
            "HARNESS_POSTGRES": str(tmp_path),
            "HARNESS_REDIS": str(tmp_path / "valkey"),
            "NO_COLOR": "1",
            "CI": "true",
        }
    )
    assert read == Environment(
        cache=tmp_path,
        patience=2.5,
        nginx=tmp_path / "nginx",
        postgres=tmp_path,
        redis=tmp_path / "valkey",
        no_color=True,
        ci=True,
    )


@pytest.mark.parametrize(("value", "ci"), [("", False), ("0", False), ("FALSE", False), ("1", True), ("drone", True)])
def test_ci_is_on_unless_it_says_no(value: str, ci: bool) -> None:
    """Services set CI to true, to 1, or to their name."""
    assert read_environment({"HOME": "/h", "CI": value}).ci is ci


def test_all_wrong_variables_are_told_at_once(tmp_path: Path) -> None:
    """Each with its name, what was seen and what to do."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SetupError) as refused:
        read_environment(
            {
                "HARNESS_CACHE": str(file),
                "HARNESS_PATIENCE": "0",
                "HARNESS_NGINX": "/nope/nginx",
                "HARNESS_REDIS": str(file),
                "HARNESS_POSTGRES": str(tmp_path),
            }
        )
    assert [mistake.split(" (got ")[0] for mistake in refused.value.mistakes] == [
        "HARNESS_CACHE must be a folder",
        "HARNESS_PATIENCE must be a number above 0",
        "HARNESS_NGINX must be a program",
        "HARNESS_POSTGRES must be the folder that holds postgres and initdb",
        "HARNESS_REDIS must be a program",
    ]
    assert "no such file" in refused.value.mistakes[2]
    assert "not executable" in refused.value.mistakes[4]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "two"])
def test_patience_is_a_number_above_zero(value: str) -> None:
    """A factor that is no number would make waits endless or nothing."""
    with pytest.raises(SetupError, match=r'HARNESS_PATIENCE must be a number above 0 \(got ".*"\): 2 doubles'):
        read_environment({"HOME": "/h", "HARNESS_PATIENCE": value})
