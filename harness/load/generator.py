"""Locust as processes of this machine, as containers on the setup's network, or as a service of Swarm.

However it is run, it is given the same single file (`bundle`) and leaves the same results in one folder. Its processes
are nodes of the run like any other: leased, logged, and gone with it. Must not: import Locust, or read results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import Protocol

from harness.errors import HarnessError, MissingPrerequisite, NodeError
from harness.load.bundle import bundle
from harness.load.people import Plan
from harness.load.settings import LoadSettings
from harness.platforms import ContainerSpec, HealthCheck, NodeSpec, ReplicatedSpec
from harness.platforms.docker import DockerPlatform
from harness.platforms.native import NativePlatform
from harness.platforms.swarm import SwarmPlatform, SwarmService
from harness.ports import PortLeases
from harness.setup import Swarm
from harness.waiting import patience, wait_until
from harness.workspace import Workspace

__all__ = ["FILES", "Generator", "Progress", "containers", "master_argv", "need_locust", "processes", "worker_argv"]

FILES = (
    "locust_stats.csv",
    "locust_stats_history.csv",
    "locust_failures.csv",
    "locust_exceptions.csv",
    "locust.html",
    "seconds.json",
)
"""What Locust leaves in its folder: its own tables and page, and our count by second."""

_TOLD = "harness-load "
_STARTED_WITHIN_SECONDS = 60.0
_ENDED_WITHIN_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.1
_LOG_LINES = 12
_LOOPBACK = "127.0.0.1"
_INSIDE = "/tmp/harness-load"  # noqa: S108 - a container's own
_FILE_INSIDE = "/harness-load.py"
_MASTER_PORT = 5557
_MASTER = "load-master"
_WORKER = "load-worker"
_MOST_BYTES = 256 << 20
_SPARE_SECONDS = 600.0
"""Beyond this Locust ends by itself, should the harness be unable to end it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    users: int
    requests: int
    failed: int


def need_locust() -> None:
    """Raises MissingPrerequisite: Locust is not installed here. It is looked for, never imported."""
    if find_spec("locust") is None:
        raise MissingPrerequisite(
            "load is made by Locust, which is not installed here: pip install 'harness[load]', or use --platform docker, "
            "which runs its image",
            command="pip install 'harness[load]'",
        )


def master_argv(
    settings: LoadSettings, *, host: str, file: str, folder: str, bind: tuple[str, int] | None
) -> tuple[str, ...]:
    """The arguments of whoever counts: a master told to expect its workers, or one process alone without `bind`."""
    most = int(settings.run_seconds + settings.users / settings.spawn_rate + _SPARE_SECONDS)
    master: tuple[str, ...] = ()
    if bind is not None:
        master = (
            *("--master", "--master-bind-host", bind[0], "--master-bind-port", str(bind[1])),
            *(
                "--expect-workers",
                str(settings.workers),
                "--expect-workers-max-wait",
                str(int(_STARTED_WITHIN_SECONDS)),
            ),
        )
    return (
        *("--locustfile", file, "--headless", "--host", host),
        *("--users", str(settings.users), "--spawn-rate", f"{settings.spawn_rate:g}", "--run-time", f"{most}s"),
        *("--wait", settings.wait_text, "--seed", str(settings.seed), "--seconds-file", f"{folder}/seconds.json"),
        *("--csv", f"{folder}/locust", "--html", f"{folder}/locust.html", "--only-summary"),
        # How many failed is for the harness to judge; whoever is in the middle of something may finish it.
        *("--exit-code-on-error", "0", "--stop-timeout", "2"),
        *master,
    )


def worker_argv(settings: LoadSettings, *, file: str, master: tuple[str, int]) -> tuple[str, ...]:
    """The arguments of one worker. With `-` as its file it is given the master's."""
    return (
        *("--locustfile", file, "--worker", "--master-host", master[0], "--master-port", str(master[1])),
        *("--wait", settings.wait_text, "--seed", str(settings.seed)),
    )


class _LoadNode(Protocol):
    """What is asked of a process or container that makes load."""

    @property
    def name(self) -> str: ...
    @property
    def log_path(self) -> Path: ...
    @property
    def exit_code(self) -> int | None: ...
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> int: ...
    def kill(self) -> None: ...
    def last_log_lines(self, count: int = 10) -> list[str]: ...
    def cpu_seconds(self) -> float | None: ...


class Generator:
    """Locust, as one process or as a master and workers. `stop` must be called, or what it is made of be closed."""

    def __init__(
        self,
        *,
        master: _LoadNode,
        workers: Sequence[_LoadNode],
        fetch: Callable[[], Mapping[str, bytes]],
        service: tuple[SwarmService, Callable[[], None]] | None = None,
    ) -> None:
        """`fetch` reads what the master has left; `service` replaces workers: it, and what starts it."""
        self._master = master
        self._workers = workers
        self._fetch = fetch
        self._service = service
        self._known: Progress | None = None

    def start(self) -> None:
        """Start everything, and return when the first people are there.

        Raises:
            HarnessError: it does not come up.
        """
        self._master.start()
        for worker in self._workers:
            worker.start()
        if self._service is not None:
            self._service[1]()
        wait_until(
            lambda: self.progress() is not None or self._ended() is not None,
            within_seconds=_STARTED_WITHIN_SECONDS,
            every_seconds=_LOOK_EVERY_SECONDS,
            because="Locust should be under way",
        )
        self.check()

    def progress(self) -> Progress | None:
        """What it said last; None while it has not begun."""
        for line in reversed(self._master.last_log_lines(_LOG_LINES)):
            told = line.partition(_TOLD)[2]
            if told and told.endswith("}"):
                plain = json.loads(told)
                if plain["users"] or self._known is not None:
                    self._known = Progress(plain["users"], plain["requests"], plain["failed"])
                break
        return self._known

    def check(self) -> None:
        """Raises HarnessError when a part of it has ended."""
        ended = self._ended()
        if ended is not None:
            raise HarnessError(self._why(ended, f"ended with code {ended.exit_code}"))

    def looks(self) -> Mapping[str, Callable[[], float | None]]:
        """What tells the processor time of each of its parts; nothing where not all of them can be seen."""
        if self._service is not None:
            return {}
        return {node.name: node.cpu_seconds for node in (self._master, *self._workers)}

    def stop(self) -> Mapping[str, bytes]:
        """Have it end and write its results, and return these by name.

        Raises:
            HarnessError: it did not end well, or left no results.
        """
        self.check()
        # As Ctrl-C does: after SIGTERM it writes no page.
        code = self._master.stop()
        for worker in self._workers:
            # Told by the master that it is over; one that was not is told so again.
            self._wait_ended(worker)
            worker.stop()
        if self._service is not None:
            self._service[0].remove()
        if code != 0:
            raise HarnessError(self._why(self._master, f"ended with code {code}"))
        try:
            files = self._fetch()
        except (NodeError, OSError) as problem:
            raise HarnessError(self._why(self._master, f"left no results ({problem})")) from problem
        missing = sorted(set(FILES) - set(files))
        if missing:
            raise HarnessError(self._why(self._master, f"left no {', '.join(missing)}"))
        return {name: files[name] for name in FILES}

    def _wait_ended(self, worker: _LoadNode) -> None:
        wait_until(
            lambda: not worker.is_running() or not self._master.is_running(),
            within_seconds=_ENDED_WITHIN_SECONDS,
            every_seconds=_LOOK_EVERY_SECONDS,
            because=f"{worker.name} should end with its master",
        )

    def _ended(self) -> _LoadNode | None:
        return next((node for node in (self._master, *self._workers) if not node.is_running()), None)

    def _why(self, node: _LoadNode, what: str) -> str:
        said = [line for line in node.last_log_lines(_LOG_LINES) if line.strip() and _TOLD not in line]
        return f"Locust ({node.name}) {what}: {' / '.join(said[-4:]) or 'it said nothing'}"


def processes(
    plan: Plan,
    settings: LoadSettings,
    *,
    host: str,
    workspace: Workspace,
    passed_on: Mapping[str, str],
    ports: PortLeases,
) -> tuple[NativePlatform, Generator]:
    """As processes of this machine. The platform is to be closed at the end.

    Raises:
        MissingPrerequisite: Locust is not installed.
    """
    need_locust()
    folder = workspace.scratch / "load"
    folder.mkdir(mode=0o700)
    file = folder / "harness_load.py"
    file.write_text(bundle(plan), encoding="utf-8")
    platform = NativePlatform(workspace, passed_on=passed_on)
    bind = (_LOOPBACK, ports.take()) if settings.workers else None

    def spec(name: str, port: int, argv: tuple[str, ...]) -> NodeSpec:
        return NodeSpec(
            name=name,
            argv=(sys.executable, "-m", "locust", *argv),
            # Locust reads settings from files of the person's home folder; none of ours may depend on these.
            env={"HOME": str(folder), "PYTHONUNBUFFERED": "1"},
            directory=folder,
            port=port,
            is_ready=lambda: True,
            stop_signal=SIGINT,
            stop_within_seconds=_ENDED_WITHIN_SECONDS * patience(),
        )

    results = str(folder / "results")
    argv = master_argv(settings, host=host, file=str(file), folder=results, bind=bind)
    master = platform.add(spec(_MASTER if bind else "load", bind[1] if bind else ports.take(), argv))
    workers = [
        platform.add(spec(f"{_WORKER}-{number}", ports.take(), worker_argv(settings, file=str(file), master=bind)))
        for number in range(1, settings.workers + 1)
        if bind is not None
    ]

    def fetch() -> Mapping[str, bytes]:
        return {name: (Path(results) / name).read_bytes() for name in FILES if (Path(results) / name).exists()}

    return platform, Generator(master=master, workers=workers, fetch=fetch)


def containers(
    plan: Plan,
    settings: LoadSettings,
    *,
    host: str,
    host_header: str,
    image: str,
    platform: DockerPlatform,
    ports: PortLeases,
) -> Generator:
    """As containers on the network of a setup; on Swarm workers are a service, and spread over its machines.

    Args:
        host: where people go, as that network knows it.
        host_header: what the site is called for them, as it is outside.
        image: that of Locust, which is there.
    """
    content = bundle(replace(plan, host_header=host_header))
    bind = ("0.0.0.0", _MASTER_PORT) if settings.workers else None

    def spec(name: str, argv: tuple[str, ...], files: Mapping[str, bytes]) -> ContainerSpec:
        return ContainerSpec(
            name=name,
            image=image,
            command=argv,
            env={"PYTHONUNBUFFERED": "1"},
            files=files,
            container_port=_MASTER_PORT,
            port=ports.take(),
            is_ready=lambda: True,
            stop_signal=SIGINT,
            stop_within_seconds=_ENDED_WITHIN_SECONDS * patience(),
        )

    argv = master_argv(settings, host=host, file=_FILE_INSIDE, folder=_INSIDE, bind=bind)
    master = platform.add(spec(_MASTER if bind else "load", argv, {_FILE_INSIDE: content.encode()}))
    told = worker_argv(settings, file="-", master=(_MASTER, _MASTER_PORT))
    service = None
    workers = []
    if settings.workers and isinstance(platform, SwarmPlatform):
        service = _service(
            settings, image=image, platform=platform, argv=told, log=master.log_path.with_name(f"{_WORKER}.log")
        )
    elif settings.workers:
        workers = [platform.add(spec(f"{_WORKER}-{number}", told, {})) for number in range(1, settings.workers + 1)]
    return Generator(
        master=master,
        workers=workers,
        fetch=lambda: master.read_files(_INSIDE, most_bytes=_MOST_BYTES),
        service=service,
    )


def _service(
    settings: LoadSettings, *, image: str, platform: SwarmPlatform, argv: tuple[str, ...], log: Path
) -> tuple[SwarmService, Callable[[], None]]:
    made = SwarmService(platform, name=_WORKER, settings=Swarm(), log=log)
    spec = ReplicatedSpec(
        name=_WORKER,
        version="1",
        image=image,
        command=argv,
        container_port=_MASTER_PORT,
        # Who runs counts as healthy: the master knows who is there.
        health=HealthCheck(command=(), interval_seconds=5.0, start_seconds=0.0, retries=3),
        stop_signal="SIGINT",
        stop_within_seconds=1.0,
    )
    return made, lambda: made.start(spec, replicas=settings.workers)
