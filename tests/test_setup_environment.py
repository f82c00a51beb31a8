"""The environment of the harness is read once, and a wrong variable is told like a wrong key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import waiting
from harness.door import Door, Wishes
from harness.errors import SetupError
from harness.setup import Environment, environment, read_environment

ROOT = Path(__file__).parent.parent
KNOWN = {
    "HARNESS_CACHE",
    "HARNESS_PATIENCE",
    "HARNESS_NGINX",
    "HARNESS_HAPROXY",
    "HARNESS_POSTGRES",
    "HARNESS_REDIS",
    "HARNESS_IMAGES",
}
DOCKERS = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"}


def test_an_empty_environment_has_defaults() -> None:
    """Nothing has to be set; the cache is the user's."""
    assert read_environment({"HOME": "/home/ann"}) == Environment(
        cache=Path("/home/ann/.cache/harness"),
        docker_config=Path("/home/ann/.docker"),
        passed_on={"HOME": "/home/ann"},
    )


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


def test_without_a_home_there_is_no_cache_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a user of no name: the harness then keeps things in a place of its own."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert read_environment({}) == Environment()


def test_every_variable_is_read(tmp_path: Path) -> None:
    """Programs, patience, and what nodes get."""
    for program in ("nginx", "haproxy", "valkey", "postgres", "initdb"):
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o755)
    read = read_environment(
        {
            "HARNESS_CACHE": str(tmp_path),
            "HARNESS_PATIENCE": "2.5",
            "HARNESS_NGINX": str(tmp_path / "nginx"),
            "HARNESS_HAPROXY": str(tmp_path / "haproxy"),
            "HARNESS_POSTGRES": str(tmp_path),
            "HARNESS_REDIS": str(tmp_path / "valkey"),
            "HARNESS_IMAGES": "built",
            "DOCKER_HOST": "unix:///run/docker.sock",
            "DOCKER_CONTEXT": "colima",
            "DOCKER_CONFIG": str(tmp_path / "docker"),
            "PATH": "/usr/bin",
            "LANG": "",
            "AWS_SECRET_ACCESS_KEY": "s3cret",
        }
    )
    assert read == Environment(
        cache=tmp_path,
        patience=2.5,
        nginx=tmp_path / "nginx",
        haproxy=tmp_path / "haproxy",
        postgres=tmp_path,
        redis=tmp_path / "valkey",
        images="built",
        docker_host="unix:///run/docker.sock",
        docker_context="colima",
        docker_config=tmp_path / "docker",
        passed_on={"PATH": "/usr/bin"},
    )


def test_every_variable_is_documented_and_no_other() -> None:
    """The page on the setup file ends with them; NO_COLOR is read by who writes to the terminal."""
    page = (ROOT / "docs" / "setup-file.md").read_text(encoding="utf-8")
    section = page.split("## The environment of the harness")[1]
    rows = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert set(rows) == KNOWN | DOCKERS | {"GITHUB_STEP_SUMMARY", "NO_COLOR"}
    source = Path(environment.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'"(HARNESS_\w+)"', source)) == KNOWN


def test_nobody_else_reads_the_environment() -> None:
    """What is read in two places is documented in one of them."""
    readers = [
        path.name
        for path in (ROOT / "harness").rglob("*.py")
        if re.search(r"\bos\.(environb?|getenvb?)\b|\bimport environ\b", path.read_text(encoding="utf-8"))
    ]
    assert readers == ["environment.py"]


def test_the_door_refuses_a_wrong_variable_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that only a later step would use."""
    monkeypatch.setenv("HARNESS_REDIS", "/nope/redis")
    with pytest.raises(SetupError, match="HARNESS_REDIS must be a program"):
        Door.for_wishes(Wishes(reports=tmp_path / "reports"))
    assert list(tmp_path.iterdir()) == []


def test_the_door_sets_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all waits for infrastructure, in this process."""
    monkeypatch.setattr(waiting, "_patience", 1.0)
    monkeypatch.setenv("HARNESS_PATIENCE", "2.5")
    Door.for_wishes(Wishes(reports=tmp_path / "reports"))
    assert waiting.patience() == 2.5


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
                "HARNESS_IMAGES": "mine",
            }
        )
    assert [mistake.split(" (got ")[0] for mistake in refused.value.mistakes] == [
        "HARNESS_CACHE must be a folder",
        "HARNESS_PATIENCE must be a number above 0",
        "HARNESS_NGINX must be a program",
        "HARNESS_POSTGRES must be the folder that holds postgres and initdb",
        "HARNESS_REDIS must be a program",
        "HARNESS_IMAGES must be official or built",
    ]
    assert "no such file" in refused.value.mistakes[2]
    assert "not executable" in refused.value.mistakes[4]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "two"])
def test_patience_is_a_number_above_zero(value: str) -> None:
    """A factor that is no number would make waits endless or nothing."""
    with pytest.raises(SetupError, match=r'HARNESS_PATIENCE must be a number above 0 \(got ".*"\): 2 doubles'):
        read_environment({"HOME": "/h", "HARNESS_PATIENCE": value})
