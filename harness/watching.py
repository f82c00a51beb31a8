"""A site that runs already, watched from outside while a command deploys to it.

Nothing of the site is known but its address, and nobody tells what is replaced, or when. Must not: start, break or stop anything
but that command, or print.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import __version__, clock
from harness.certificates import believed_here
from harness.checkers import COMMAND, DeployCostsNothing, NoSessionLost
from harness.diagnosis import diagnose
from harness.errors import BadInput
from harness.journeys import Journey, compile_journeys
from harness.judging import judge_record, judged
from harness.model import Answer, Checker, Finding, History, Look, RolloutStep
from harness.promises import CATALOGUE
from harness.reporting import RunResult, write_page, write_results
from harness.services import identity_of
from harness.setup import Environment, Setup, secrets_in
from harness.standing import folders
from harness.traffic import Journal, Stream, Task, Traffic, read_history
from harness.trying import context_for, journeys_of
from harness.visitors import BALANCER, BROWSE, passwords_of, people_of, why_nobody
from harness.workspace import Workspace

__all__ = ["MOST_PER_SECOND", "Site", "Watch", "site_of", "watch"]

MOST_PER_SECOND = 200.0
"""More is a load test, and of a site that may be in use."""
_PROMISE = "rollout.rolling"
_SCENARIO = "watched-deploy"
_PAGE = "page"
_CONNECT_SECONDS = 5.0
_END_SECONDS = 10.0
_STANDARD_ERROR = 2
_PEOPLE = 20
_STRANGERS = 4
_BOTH_CONNECTIONS = {"fresh": 0.5, "reused": 0.5}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where it is."""

    scheme: str
    host: str
    port: int
    path: str
    """What is asked for where nobody says how people use it."""

    def __str__(self) -> str:
        usual = {"http": 80, "https": 443}[self.scheme]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What was asked for."""

    site: Site
    argv: tuple[str, ...]
    """The command that deploys; never read by a shell."""
    setup: Setup | None
    """How people use the site; None: nobody logs in, and one page is asked for."""
    rate: float
    """Requests per second."""
    before_seconds: float
    after_seconds: float
    within_seconds: float
    """The command is ended after that."""
    authority: Path | None
    """The certificate of the authority that signed for an https site; None: those this machine believes."""
    seed: int
    reports: Path
    command: str
    """The command line that repeats it."""

    @property
    def shares(self) -> Mapping[str, float]:
        """What people do, by journey."""
        if self.setup is None:
            return {_PAGE: 1.0}
        return {name: share for name, share in BROWSE.items() if name in self.setup.journey}


@dataclass
class _Told:
    """How the command ended."""

    code: int | None = None
    seconds: float = 0.0
    steps: list[RolloutStep] = field(default_factory=list)


def site_of(text: str, *, takes_path: bool) -> Site:
    """The address of a site, such as `https://staging.example.org`. Raises BadInput.

    `takes_path`: whether it may name a page.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # a port that is no number
        usable = False
    # What may be a password is not repeated in a message.
    text = re.sub(r"//[^/?#]*@", "//...@", text)
    if not usable or parts.fragment or parts.username is not None:
        raise BadInput(f"URL is the address of a site, such as https://staging.example.org (got {text})")
    if not takes_path and (parts.path.strip("/") or parts.query):
        raise BadInput(
            f"URL is the address of a site, and which pages are asked for is said by the journeys (got {text}): leave "
            f"{parts.path} out"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Site(scheme=parts.scheme, host=parts.hostname or "", port=port, path=path)


def watch(wanted: Watch, *, environment: Environment, say: Callable[[str], None]) -> RunResult:
    """Ask the site at a steady rate, run the command meanwhile, and judge what it cost the people of the site.

    `say` is told what begins, a line each.

    Raises:
        BadInput: nobody answers there, nobody can log in, or the command is none; it was not run then.
        KeyboardInterrupt: it was interrupted; the command was ended, and what was seen until then is written.
    """
    if shutil.which(wanted.argv[0]) is None:
        raise BadInput(
            f"there is no program {wanted.argv[0]!r} to run: name it as a shell would find it, or by its path"
        )
    _need_somebody(wanted.site)
    secure = _authority(wanted)
    name = str(wanted.site).partition("://")[2]
    with folders(name=name, environment=environment, seed=wanted.seed, reports=wanted.reports) as (workspace, redactor):
        if wanted.setup is not None:
            redactor.add(*secrets_in(wanted.setup))
        redactor.add(*passwords_of(wanted.setup))
        began, started = clock.now(), clock.wall().isoformat(timespec="seconds")
        told = _Told()
        interrupted: KeyboardInterrupt | None = None
        journal_path = workspace.results / "history.jsonl"
        with Journal(journal_path, run=workspace.run_id) as journal:
            journal.append(_scenario(wanted))
            with _traffic(wanted, journal, secure) as traffic:
                traffic.begin_scenario(_SCENARIO)
                people = _arrive(wanted, traffic)
                stream = Stream(
                    name="browse",
                    rate=wanted.rate,
                    journeys=wanted.shares,
                    visitors=people,
                    connections=_BOTH_CONNECTIONS,
                )
                try:
                    with _running(traffic, stream):
                        say(f"watching {wanted.site}: {wanted.rate:g} requests a second")
                        clock.sleep(wanted.before_seconds)
                        say(f"running {' '.join(wanted.argv)}")
                        _run(wanted, told)
                        say(f"it ended {_how(told)}; {wanted.after_seconds:g} s more")
                        clock.sleep(wanted.after_seconds)
                    if wanted.setup is not None:
                        # Whose session was not used since has not been seen to keep it.
                        traffic.perform([Task(visitor=each, journey="whoami", stream="visit") for each in people])
                except KeyboardInterrupt as problem:
                    interrupted = problem
                traffic.flush()
            for step in told.steps:
                journal.append_fact(_SCENARIO, step)
            if told.seconds:
                value = {"code": told.code, "seconds": round(told.seconds, 3)}
                journal.append_fact(_SCENARIO, Look(what=COMMAND, node="", at=clock.now(), status=None, value=value))
            finding = _judge(wanted, journal)
        result = _result(
            wanted,
            finding,
            workspace,
            name=name,
            started=started,
            seconds=clock.now() - began,
            complete=interrupted is None,
        )
        redactor.copy_file(journal_path, journal_path)
        write_results(result, redactor=redactor)
        write_page(result.results, redactor=redactor)
        workspace.publish()
    if interrupted is not None:
        raise interrupted
    return result


# -- the command ---------------------------------------------------------------------------------------------------------


def _run(wanted: Watch, told: _Told) -> None:
    """Run the command to its end. What it prints goes to standard error: standard output is for the verdict."""
    began = clock.now()
    told.steps.append(RolloutStep(step="begin", node="", at=began, detail=wanted.argv[0]))
    try:
        process = subprocess.Popen(list(wanted.argv), stdout=_STANDARD_ERROR)
    except OSError as problem:
        told.steps.clear()
        raise BadInput(f"{wanted.argv[0]} cannot be run: {problem.strerror}") from problem
    try:
        told.code = process.wait(wanted.within_seconds)
    except subprocess.TimeoutExpired:
        told.code = None
    finally:
        _end(process)
        told.seconds = clock.now() - began
    told.steps.append(RolloutStep(step="end", node="", at=clock.now()))


def _end(process: subprocess.Popen[bytes]) -> None:
    """That nothing of ours goes on: Ctrl-C in a terminal told it already."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()


def _how(told: _Told) -> str:
    if told.code is None:
        return f"by our hand, after {told.seconds:.1f} s"
    return f"with exit code {told.code} after {told.seconds:.1f} s"


# -- the people ----------------------------------------------------------------------------------------------------------


def _arrive(wanted: Watch, traffic: Traffic) -> list[str]:
    """The people who will browse, logged in where the site has a log-in. Raises BadInput: none of them can."""
    if wanted.setup is None:
        return traffic.new_visitors(_STRANGERS, strangers=True)
    people = traffic.new_visitors(traffic.at_most(_PEOPLE))
    registered = traffic.perform([Task(visitor=each, journey="register", stream="arrive") for each in people])
    results = traffic.perform([Task(visitor=each, journey="login", stream="arrive") for each in people])
    if not any(each.answer in (Answer.DONE, Answer.RECOGNISED) for each in results):
        raise BadInput(
            f"none of {len(people)} people could log in at {wanted.site} ({why_nobody(registered, results)}), and the command was not "
            f"run: mend its journeys first; `harness journey --try --host {wanted.site}` shows each request and answer"
        )
    return people


def _journeys(wanted: Watch) -> Mapping[str, Journey]:
    if wanted.setup is None:
        return compile_journeys({_PAGE: {"steps": [{"get": wanted.site.path}]}})
    return {
        name: journey for name, journey in journeys_of(wanted.setup).items() if name in ("register", "login", *BROWSE)
    }


@contextmanager
def _traffic(wanted: Watch, journal: Journal, secure: Mapping[str, Path]) -> Iterator[Traffic]:
    setup = wanted.setup
    with Traffic(
        journal=journal.path,
        journeys=_journeys(wanted),
        targets={BALANCER: (wanted.site.host, wanted.site.port)},
        names={},
        timeout_seconds=_timeout(wanted),
        seed=wanted.seed,
        headers=None if setup is None else setup.traffic.headers,
        secure=secure,
        people=() if setup is None else people_of(setup),
        version_header=None if setup is None else setup.app.version_header,
        instance_header=None if setup is None else setup.app.instance_header,
        identity=None if setup is None else identity_of(setup),
    ) as traffic:
        yield traffic


@contextmanager
def _running(traffic: Traffic, stream: Stream) -> Iterator[None]:
    traffic.start_stream(stream)
    try:
        yield
    finally:
        traffic.stop_stream(stream.name)


def _timeout(wanted: Watch) -> float:
    return wanted.setup.traffic.timeout_seconds if wanted.setup is not None else 5.0


def _need_somebody(site: Site) -> None:
    try:
        socket.create_connection((site.host, site.port), timeout=_CONNECT_SECONDS).close()
    except OSError as problem:
        raise BadInput(
            f"nobody answers at {site} ({problem.strerror or type(problem).__name__}), and the command was not run: start the "
            "site first"
        ) from None


def _authority(wanted: Watch) -> Mapping[str, Path]:
    """Whom to believe, for an https site. Raises BadInput: there is no such file."""
    if wanted.site.scheme == "http":
        return {}
    path = wanted.authority or believed_here(instead="name one with --ca FILE")
    context_for(wanted.site.scheme, path)  # the traffic makes its own: here it is told in time that it cannot
    return {BALANCER: path}


# -- what came of it -----------------------------------------------------------------------------------------------------


def _scenario(wanted: Watch) -> dict[str, Any]:
    return {
        "t": "scenario",
        "scenario": _SCENARIO,
        "seed": wanted.seed,
        "instances": [],
        "setup": {"platform": "remote", "timeout_seconds": _timeout(wanted)},
        "unix_less_clock": round(clock.wall().timestamp() - clock.now(), 6),
    }


def _checkers(wanted: Watch) -> Sequence[Checker]:
    checkers: list[Checker] = [DeployCostsNothing()]
    return checkers if wanted.setup is None else [*checkers, NoSessionLost(after="rollout")]


def _judge(wanted: Watch, journal: Journal) -> Finding:
    history: History = read_history(journal.path, _SCENARIO)
    checkers = _checkers(wanted)
    journal.append(judge_record(_PROMISE, checkers, history))
    finding = judged(_PROMISE, checkers, history)
    return diagnose([finding], facts=history.setup, looks=history.looks)[0]


def _result(
    wanted: Watch,
    finding: Finding,
    workspace: Workspace,
    *,
    name: str,
    started: str,
    seconds: float,
    complete: bool,
) -> RunResult:
    return RunResult(
        run_id=workspace.run_id,
        setup=name,
        platform="remote",
        balancer="site",
        instances=0,
        sessions="unknown",
        seed=wanted.seed,
        started=started,
        version=__version__,
        command=wanted.command,
        results=workspace.results,
        findings=(finding,),
        promises=(CATALOGUE[_PROMISE],),
        planned={_PROMISE: 1},
        complete=complete,
        seconds=seconds,
        boot_seconds=0.0,
    )
