"""A load run and a capacity run as a whole: what is loaded, by whom, for how long, and what is written.

Must not: print but through a view, or judge a promise.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from urllib.parse import urlsplit

from harness import __version__, clock, engine, images
from harness.cluster import Cluster
from harness.complaints import Complaints
from harness.errors import BadInput, HarnessError
from harness.layouts import Choice, RunnableNode
from harness.load.generator import Generator, containers, need_locust, processes
from harness.load.page import to_page
from harness.load.people import Plan
from harness.load.plans import plan_of
from harness.load.results import Curve, LoadResult, read_failures, read_requests, to_json
from harness.load.scaling import Level, Usage, find_knee, median_interval, saturation
from harness.load.seconds import Counted, Seconds, percentile_of
from harness.load.settings import LoadSettings
from harness.load.usage import Sampler
from harness.model import ComplaintKind
from harness.platforms import Measurable
from harness.ports import PortLeases
from harness.reporting import Redactor, View, shown_path, write_text
from harness.reporting.page import links_in
from harness.setup import Environment, Setup, secrets_in
from harness.standing import Standing, folders, standing
from harness.visitors import passwords_of
from harness.waiting import wait_until
from harness.workspace import Workspace

__all__ = ["Ground", "measure_capacity", "run_load"]

_LOOK_EVERY_SECONDS = 0.25
_CONNECT_SECONDS = 5.0
_ARRIVED_WITHIN_SECONDS = 60.0
_WINDOW_SECONDS = 2
_WARM_UP_SHARE = 0.2
_LEAST_WARM_UP_SECONDS = 1.0
_WITH_CONTAINERS = ("docker", "swarm")
_CAN_DRAIN = ("native", "docker")
_ROUNDS = 2
_LIMITS = (ComplaintKind.DATABASE_FULL, ComplaintKind.POOL_EMPTY, ComplaintKind.LIMIT)
"""Complaints that say what a curve is bounded by."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a run stands on, whatever it does."""

    setup: Setup
    choice: Choice
    environment: Environment
    reports: Path
    view: View
    command: str
    """The command line that repeats it."""


@dataclass(kw_only=True)
class _Loaded:
    """A generator at work, with what it is aimed at."""

    ground: Ground
    settings: LoadSettings
    plan: Plan
    workspace: Workspace
    redactor: Redactor
    host: str
    generator: Generator
    sampler: Sampler
    cluster: Cluster | None
    started: str = field(default_factory=lambda: clock.wall().isoformat(timespec="seconds"))
    begin: float = 0.0
    end: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)

    def run_until(self, moment: float, *, note: str = "") -> None:
        """Let it go on until a moment of our clock. Raises HarnessError when a part of the generator ends."""
        while (left := moment - clock.now()) > 0:
            self.generator.check()
            self.tell(note)
            clock.sleep(min(left, _LOOK_EVERY_SECONDS))

    def tell(self, note: str) -> None:
        progress = self.generator.progress()
        if progress is not None:
            people = "1 person" if progress.users == 1 else f"{progress.users:,} people"
            parts = [note] if note else []
            parts += [people, f"{progress.requests:,} requests", f"{progress.failed:,} failed"]
            self.ground.view.progress(" · ".join(parts))

    def finish(self) -> Seconds:
        """End it and keep what it left. Returns what was counted by second."""
        self.end = clock.wall().timestamp()
        self.ground.view.progress("Locust writes its results")
        self.files = self.generator.stop()
        return Seconds.from_plain(_json(self.files["seconds.json"]))

    def conclude(self, counted: Seconds, *, curve: Curve | None = None) -> LoadResult:
        """Write every result, and return it."""
        setup = self.ground.setup
        # The second in which the last answers came is not whole.
        inside = Seconds.from_plain(row for row in counted.plain() if int(self.begin) <= row[0] <= self.end)
        result = LoadResult(
            run_id=self.workspace.run_id,
            setup=setup.name,
            platform=self.ground.choice.platform if self.cluster is not None else "running",
            host=self.host,
            started=self.started,
            version=__version__,
            command=self.ground.command,
            settings=self.settings.in_words() + (" for each visit" if curve is not None else ""),
            users=self.settings.users,
            workers=self.settings.workers,
            seconds=self.end - self.begin,
            rows=read_requests(_text(self.files["locust_stats.csv"])),
            failures=read_failures(_text(self.files["locust_failures.csv"])),
            fail_above=self.settings.fail_above,
            usage=self.sampler.between(self.begin, self.end, seconds=counted),
            counted=inside,
            begin=int(self.begin),
            curve=curve,
        )
        folder = self.workspace.results / "load"
        for name, content in self.files.items():
            write_text(folder / name, self.redactor(_text(content)))
        write_text(folder / "load.json", self.redactor(to_json(result)))
        page = to_page(result, links=links_in(self.workspace.results, here="load.html"))
        write_text(self.workspace.results / "load.html", self.redactor(page))
        self.workspace.publish()
        return result


def run_load(ground: Ground, settings: LoadSettings, *, host: str | None) -> tuple[LoadResult, Path]:
    """Load a site that runs, or boot a setup and load that. Returns what came of it and the folder it is in.

    Raises:
        BadInput: nobody answers there, the setup cannot be run, or Locust is missing; nothing is left running.
        HarnessError: Locust failed.
        KeyboardInterrupt: it was interrupted; what came of it until then is written.
    """
    with _loaded(ground, settings, host=host) as loaded:
        interrupted: KeyboardInterrupt | None = None
        try:
            loaded.run_until(clock.now() + settings.run_seconds)
        except KeyboardInterrupt as problem:
            interrupted = problem
        result = loaded.conclude(loaded.finish())
        if interrupted is not None:
            ground.view.line(f"until then: {result.headline} {shown_path(loaded.workspace.results / 'load.html')}")
            raise interrupted
        if not result.requests:
            raise HarnessError("Locust ran and asked nothing: see logs in the folder of the run")
        return result, loaded.workspace.results


def measure_capacity(ground: Ground, settings: LoadSettings, *, levels: Sequence[int]) -> tuple[LoadResult, Path]:
    """Measure throughput with each of these numbers of instances in the balancer, each visited twice.

    The setup has as many instances as the highest level; those that are not to serve are drained, and cost nothing.
    `settings.run_seconds` is the length of one visit.

    Raises as `run_load`; BadInput also where instances cannot be taken out of the balancer.
    """
    if ground.choice.platform not in _CAN_DRAIN:
        raise BadInput(
            f"a curve needs instances that can be taken out of the balancer one by one, which the platform "
            f"{ground.choice.platform} has not: use --platform native or docker"
        )
    with _loaded(ground, settings, host=None) as loaded:
        cluster = loaded.cluster
        assert cluster is not None, "a setup was booted"
        _wait_arrived(loaded)
        complaints = Complaints(_nodes(cluster))
        drained: set[str] = set()
        visits = [
            _visit(
                loaded,
                cluster,
                level,
                number=number,
                of=_ROUNDS * len(levels),
                complaints=complaints,
                drained=drained,
            )
            for number, level in enumerate([*levels, *reversed(levels)], 1)
        ]
        counted = loaded.finish()
        curve = _curve(visits, counted, loaded=loaded, cluster=cluster)
        return loaded.conclude(counted, curve=curve), loaded.workspace.results


# -- what is loaded, and by whom ----------------------------------------------------------------------------------------


@contextmanager
def _loaded(ground: Ground, settings: LoadSettings, *, host: str | None) -> Iterator[_Loaded]:
    """A generator under way, ended when the block is left."""
    plan = plan_of(ground.setup)
    in_containers = host is None and ground.choice.platform in _WITH_CONTAINERS
    if not in_containers:
        need_locust()
    if host is not None:
        _need_somebody(host)
    with ExitStack() as stack:
        stands: Standing | None = None
        if host is None:
            stands = stack.enter_context(
                standing(
                    setup=ground.setup,
                    choice=ground.choice,
                    environment=ground.environment,
                    seed=settings.seed,
                    reports=ground.reports,
                    view=ground.view,
                )
            )
            workspace, redactor, host = stands.workspace, stands.redactor, stands.url
            plan = replace(plan, authority=stands.authority)
        else:
            workspace, redactor = stack.enter_context(
                folders(
                    name=ground.setup.name, environment=ground.environment, seed=settings.seed, reports=ground.reports
                )
            )
            redactor.add(*secrets_in(ground.setup))
        cluster = stands.cluster if stands is not None else None
        ports = stack.enter_context(PortLeases())
        if plan.people:
            redactor.add(*passwords_of(ground.setup))
        ground.view.line(f"{settings.in_words()} → {host}")
        if 0 < len(plan.people) < settings.users:
            ground.view.line(f"{settings.users} browsers of the {len(plan.people)} people who are given")
        generator = _generator(
            ground, settings, plan, cluster, host=host, workspace=workspace, ports=ports, stack=stack
        )
        ground.view.progress("Locust starts")
        generator.start()
        sampler = stack.enter_context(Sampler(_looks(cluster), generator=generator.looks()))
        yield _Loaded(
            ground=ground,
            settings=settings,
            plan=plan,
            workspace=workspace,
            redactor=redactor,
            host=host,
            generator=generator,
            sampler=sampler,
            cluster=cluster,
            begin=clock.wall().timestamp(),
        )


def _generator(
    ground: Ground,
    settings: LoadSettings,
    plan: Plan,
    cluster: Cluster | None,
    *,
    host: str,
    workspace: Workspace,
    ports: PortLeases,
    stack: ExitStack,
) -> Generator:
    beside = cluster.layout.beside if cluster is not None else None
    if cluster is None or beside is None:
        platform, made = processes(
            plan, settings, host=host, workspace=workspace, passed_on=ground.environment.passed_on, ports=ports
        )
        stack.enter_context(platform)
        return made
    image = images.resolve("locust", ground.setup.images, default=ground.environment.images)
    images.ensure(
        image,
        key="images.locust",
        where=engine.address(ground.environment),
        on_progress=ground.view.preparing,
    )
    balancer = cluster.layout.balancer_node
    outside = urlsplit(host)
    inside = port_inside(balancer.spec, outside.port)
    if inside is None:
        raise HarnessError(f"{balancer.name} is no container, so that none beside it can reach it")
    return containers(
        plan,
        settings,
        host=f"{outside.scheme}://{balancer.name}:{inside}",
        host_header=outside.netloc,
        image=image,
        platform=beside,
        ports=ports,
    )


def port_inside(spec: object, outside: int | None) -> int | None:
    """The port at which a container listens for what is published as this one; None when it is no container."""
    published = {port: inside for inside, port in getattr(spec, "extra_ports", {}).items()}
    return published.get(outside, getattr(spec, "container_port", None)) if outside is not None else None


def _need_somebody(host: str) -> None:
    """Raises BadInput: nobody listens there."""
    parts = urlsplit(host)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError as problem:
        raise BadInput(
            f"nobody answers at {host} ({problem.strerror or type(problem).__name__}): start the site, or leave --host out "
            "and the setup is booted for the length of the run"
        ) from None


def _looks(cluster: Cluster | None) -> dict[str, Callable[[], float | None]]:
    if cluster is None:
        return {}
    return {node.name: node.cpu_seconds for node in _nodes(cluster) if isinstance(node, Measurable)}


def _nodes(cluster: Cluster) -> list[RunnableNode]:
    stores = [store.node for store in cluster.layout.stores]
    return [*(each.node for each in cluster.instances), cluster.layout.balancer_node, *stores]


# -- a curve -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Visit:
    """One time that so many instances served."""

    instances: int
    names: tuple[str, ...]
    begin: int
    """The first whole second that counts, since the epoch."""
    windows: int
    complaints: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.begin + self.windows * _WINDOW_SECONDS


def _wait_arrived(loaded: _Loaded) -> None:
    """Until everybody is there, registered and logged in."""
    settings, plan = loaded.settings, loaded.plan
    each = sum(len(plan.journeys[name].steps) for name in ("register", "login") if name in plan.journeys)

    def arrived() -> bool:
        loaded.generator.check()
        loaded.tell("people arrive")
        progress = loaded.generator.progress()
        return progress is not None and progress.users >= settings.users and progress.requests >= each * settings.users

    wait_until(
        arrived,
        within_seconds=_ARRIVED_WITHIN_SECONDS + settings.users / settings.spawn_rate,
        every_seconds=_LOOK_EVERY_SECONDS,
        because=f"{settings.users} people should have registered and logged in",
    )


def _visit(
    loaded: _Loaded,
    cluster: Cluster,
    level: int,
    *,
    number: int,
    of: int,
    complaints: Complaints,
    drained: set[str],
) -> _Visit:
    """Let so many serve, and nobody else. `drained`: who does not serve now; kept up to date."""
    instances = cluster.pooled()
    serving = instances[:level]
    balancer, node = cluster.layout.balancer, cluster.layout.balancer_node
    many = f"{level} instance{'s' if level != 1 else ''}"
    loaded.tell(f"{number} of {of}: {many}")
    # Only who is not as they should be: each change makes the balancer read its configuration anew.
    for each in serving:
        if each.name in drained:
            balancer.enable(each.name, node)
    for each in instances[level:]:
        if each.name not in drained:
            balancer.drain(each.name, node)
    drained.clear()
    drained.update(each.name for each in instances[level:])
    complaints.pass_over()
    warm_up = warm_up_seconds(loaded.settings.run_seconds)
    begin = math.ceil(clock.wall().timestamp() + warm_up)
    windows = max(1, int((loaded.settings.run_seconds - warm_up) / _WINDOW_SECONDS))
    # To the second: what is counted is counted by whole seconds of the wall clock.
    end = begin + windows * _WINDOW_SECONDS
    loaded.run_until(clock.now() + (end - clock.wall().timestamp()), note=f"{number} of {of}: {many}")
    return _Visit(
        instances=level,
        names=tuple(each.name for each in serving),
        begin=begin,
        windows=windows,
        complaints=tuple(f"{name}: {each.words}" for name, each in complaints.new() if each.kind in _LIMITS),
    )


def warm_up_seconds(visit_seconds: float) -> float:
    """How much of a visit is not counted: connections, caches and the pace of the people have to settle."""
    return max(_LEAST_WARM_UP_SECONDS, _WARM_UP_SHARE * visit_seconds)


def _curve(visits: Sequence[_Visit], counted: Seconds, *, loaded: _Loaded, cluster: Cluster) -> Curve:
    levels = []
    for count in sorted({visit.instances for visit in visits}):
        there = [visit for visit in visits if visit.instances == count]
        by_visit = [_windows(visit, counted) for visit in there]
        total = Counted()
        for visit in there:
            for second in counted.between(visit.begin, visit.end):
                total.merge(second)
        windows = tuple(each for window in by_visit for each in window)
        levels.append(
            Level(
                instances=count,
                names=there[0].names,
                throughput=median_interval(windows),
                windows=windows,
                rounds=tuple(median_interval(each).middle for each in by_visit),
                p50_ms=percentile_of(total.milliseconds, 0.5),
                p95_ms=percentile_of(total.milliseconds, 0.95),
                requests=total.good + total.failed,
                failed=total.failed,
                usage=_mean([loaded.sampler.between(visit.begin, visit.end, seconds=counted) for visit in there]),
                complaints=tuple(dict.fromkeys(each for visit in there for each in visit.complaints)),
            )
        )
    setup = loaded.ground.setup
    # One process of HAProxy uses as many threads as there are cores; nginx as many workers as it is told.
    workers = float(setup.balancer.workers) if setup.balancer.kind == "nginx" else float(levels[0].usage.cores)
    saturations = {
        level.instances: saturation(
            level,
            balancer=cluster.layout.balancer_node.name,
            stores=[store.node.name for store in cluster.layout.stores],
            balancer_cores=min(workers, float(level.usage.cores)),
        )
        for level in levels
    }
    return Curve(
        levels=tuple(levels),
        window_seconds=_WINDOW_SECONDS,
        warm_up_seconds=warm_up_seconds(loaded.settings.run_seconds),
        knee=find_knee(levels),
        saturations=saturations,
    )


def _windows(visit: _Visit, counted: Seconds) -> list[float]:
    starts = range(visit.begin, visit.end, _WINDOW_SECONDS)
    return [
        sum(second.good for second in counted.between(start, start + _WINDOW_SECONDS)) / _WINDOW_SECONDS
        for start in starts
    ]


def _mean(usages: Sequence[Usage]) -> Usage:
    machines = [usage.machine for usage in usages if usage.machine is not None]
    generators = [usage.generator_cores for usage in usages if usage.generator_cores is not None]
    names = dict.fromkeys(name for usage in usages for name in usage.nodes)
    return replace(
        usages[0],
        machine=fmean(machines) if machines else None,
        nodes={name: fmean(usage.nodes.get(name, 0.0) for usage in usages) for name in names},
        generator=max(usage.generator for usage in usages),
        generator_cores=fmean(generators) if generators else None,
    )


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _json(content: bytes) -> list[list[object]]:
    rows: list[list[object]] = json.loads(content)
    return rows
