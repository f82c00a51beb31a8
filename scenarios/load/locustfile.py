"""People who register, log in, browse and write, for Locust: the journeys of a setup file, as verification walks them.

    locust -f scenarios/load/locustfile.py --host http://127.0.0.1:8080
    locust -f scenarios/load/locustfile.py --host https://staging.example.org --setup my-setup.toml --headless -u 50

`harness load` runs this file too. It is for load and never for verdicts: Locust waits for answers, so that it slows
down with the application, and its client sends a GET again, unseen, when a kept connection turns out to be closed.
pytest does not collect it, and nothing of the harness imports it: gevent patches sockets.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import gevent
import gevent.ssl
from locust import FastHttpUser, events, runners, stats, task
from locust.env import Environment
from locust.exception import LocustError
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from harness.errors import HarnessError
from harness.journeys import Reply
from harness.load.people import Plan, Question, Walker
from harness.load.seconds import Seconds
from harness.model import Outcome
from harness.traffic.people import People

try:  # sent to a machine that has no setup file
    from harness.load.bundled import PLAN
except ImportError:
    PLAN = None

AFTER_A_FAILURE_SECONDS = 1.0
"""Who was not served looks at the screen for a moment, also where people do not pause otherwise."""
TABLES_SECONDS = 0.1
"""To write them."""
BROKEN = {
    "ConnectionRefusedError": "refused",
    "ConnectionResetError": "reset",
    "BrokenPipeError": "reset",
    "HTTPConnectionClosed": "closed",
    "HTTPParseError": "malformed",
    "SSLError": "tls",
    "SSLCertVerificationError": "tls",
    "Timeout": "timeout",
    "TimeoutError": "timeout",
}
"""What became of a request that was not answered, in the words of docs/results.md."""
TOLD = "harness-load "
"""Begins the line that says how the run is getting on, once a second; who runs Locust by hand never sees one."""

# What a worker has to tell is told once a second, so that a curve of seconds can be drawn while it runs.
runners.WORKER_REPORT_INTERVAL = 1.0


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument(
        "--setup",
        default="",
        metavar="FILE",
        help="the setup file whose journeys are walked (default: the reference setup)",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--wait",
        default="1-5",
        metavar="MIN-MAX",
        help="how many seconds a person pauses between two things they do; 0 for no pause (default: 1-5)",
    )
    parser.add_argument("--seed", default="", metavar="N", help="repeat what people choose to do in an earlier run")
    parser.add_argument(
        "--seconds-file",
        default="",
        metavar="FILE",
        help="write what was counted in each second to this file, and say once a second how the run is getting on",
        include_in_web_ui=False,
    )


class Load:
    """What all people of this process share."""

    plan: Plan
    people: People
    seed: str
    born: int = 0
    wait: tuple[float, float]
    file: str
    writes_tables: bool
    seconds = Seconds()


load = Load()


@events.init.add_listener
def read_journeys(environment: Environment, **_: Any) -> None:
    """Once the options are known: the journeys, and accounts that no other run and no other worker has."""
    options = environment.parsed_options
    try:
        load.plan = Plan.from_declared(json.loads(PLAN)) if PLAN is not None else _plan_of(options.setup)
        load.wait = _pause(options.wait)
    except (HarnessError, ValueError) as problem:
        sys.exit(f"locustfile: {problem}")
    load.file = options.seconds_file
    load.writes_tables = bool(options.csv_prefix)
    # Where there are fewer people than browsers, some have several. Which begins is another in each worker.
    given = load.plan.people
    load.people = People(secrets.randbits(64), given, first=secrets.randbelow(len(given)) if given else 0)
    load.seed = options.seed or secrets.token_hex(4)
    # Locust counts --run-time from when its loop last looked at the clock: before its imports, on a busy machine seconds.
    gevent.get_hub().loop.update_now()
    # A shell may have us ignore it, and then we do.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        gevent.signal_handler(signal.SIGINT, _interrupt)
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(_hear_worker)
    if isinstance(runner, WorkerRunner):
        environment.events.report_to_master.add_listener(_tell_master)
    gevent.spawn(_watch, environment)


def _interrupt() -> None:
    """Ctrl-C, told to Locust's main greenlet and to no other: whichever ran just then would end, such as the one that was
    writing a table."""
    gevent.get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())


def _plan_of(setup: str) -> Plan:
    from harness import assets
    from harness.load.plans import read_plan

    return read_plan(Path(setup) if setup else assets.path("fixtures/setups/reference.toml"))


def _pause(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    pause = float(low), float(high or low)
    if not 0 <= pause[0] <= pause[1] < 3600:
        raise ValueError(f"--wait is a pause in seconds such as 1-5 (got {text})")
    return pause


# -- what is counted --------------------------------------------------------------------------------------------------


@events.request.add_listener
def count(start_time: float, response_time: float, exception: Any, **_: Any) -> None:
    load.seconds.at(int(start_time + response_time / 1000)).add(response_time, good=exception is None)


@events.reset_stats.add_listener
def forget(**_: Any) -> None:
    load.seconds = Seconds()


def _tell_master(data: dict[str, Any], **_: Any) -> None:
    data["harness_seconds"] = load.seconds.take()


def _hear_worker(data: dict[str, Any], **_: Any) -> None:
    load.seconds.add_plain(data.get("harness_seconds", ()))


def _watch(environment: Environment) -> None:
    """Once a second: how busy this process is, and for whom has started us, how it is getting on."""
    runner = environment.runner
    while True:
        wall, cpu = time.time(), time.process_time()
        gevent.sleep(1)
        now = time.time()
        second = load.seconds.at(int(now) - 1)
        second.busiest = max(second.busiest, (time.process_time() - cpu) / (now - wall))
        if isinstance(runner, LocalRunner | MasterRunner):
            second.users = runner.user_count
            if load.file:
                total = runner.stats.total
                told = {"users": runner.user_count, "requests": total.num_requests, "failed": total.num_failures}
                print(TOLD + json.dumps(told), flush=True)  # noqa: T201 - whoever started us reads our output


@events.quit.add_listener
def keep(exit_code: int, **_: Any) -> None:  # noqa: ARG001 - told by name
    """What was counted, for whoever started us."""
    if load.writes_tables:
        # Locust writes its tables once a second, and not at the end: so that the last second is in them as well.
        gevent.sleep(stats.CSV_STATS_INTERVAL_SEC + TABLES_SECONDS)
    if load.file:
        Path(load.file).write_text(json.dumps(load.seconds.plain(), separators=(",", ":")), encoding="utf-8")


# -- people -----------------------------------------------------------------------------------------------------------


class Person(FastHttpUser):
    """Registers, logs in, then browses, writes and reads; whoever is logged out logs in again."""

    def __init__(self, environment: Environment) -> None:
        self.connection_timeout = self.network_timeout = load.plan.timeout_seconds
        if load.plan.authority:
            self.insecure, self.ssl_context_factory = False, _trusting_only_the_plan
        super().__init__(environment)
        # Cookies are the walker's, kept as in a verification: this jar would hold `Secure` ones back over http.
        self.client.client.cookiejar = None
        # The same seed has the same person do the same things, and pause as long; when, is up to the application.
        load.born += 1
        worker = getattr(environment.runner, "worker_index", 0)
        self.choices = Random(f"{load.seed}/{worker}/{load.born}")
        self.walker = Walker(load.plan, load.people, self.choices)

    def wait_time(self) -> float:
        pause = self.choices.uniform(*load.wait)
        return max(pause, AFTER_A_FAILURE_SECONDS) if self.walker.failed else pause

    @task
    def next(self) -> None:
        """Whatever this person does next, one request after the other."""
        for question in self.walker.next():
            if question.problem:
                self.environment.events.request.fire(
                    request_type=question.method,
                    name=question.name,
                    response_time=0,
                    response_length=0,
                    exception=LocustError(f"not asked: {question.problem}"),
                    context={},
                    start_time=time.time(),
                )
            else:
                self._ask(question)

    def _ask(self, question: Question) -> None:
        with self.client.request(
            question.method,
            question.path,
            name=question.name,
            headers={"Accept-Encoding": "identity", **question.headers},
            data=question.body or None,
            allow_redirects=False,
            catch_response=True,
        ) as response:
            if not response.status_code:
                name = type(getattr(response, "error", None)).__name__
                response.failure(BROKEN.get(name, name))
                return
            judgement = question.answered(_reply(response))
            if judgement.outcome is Outcome.OK:
                response.success()
            else:
                # The class of it alone: what an application says may be anything, and is another each time.
                response.failure(judgement.error or str(judgement.answer))


def _trusting_only_the_plan(**_: Any) -> Any:
    """Who answers must be signed for by the setup's own authority, whatever this machine trusts."""
    return gevent.ssl.create_default_context(cadata=load.plan.authority)


def _reply(response: Any) -> Reply:
    """An answer as journeys judge it."""
    headers: dict[str, str] = {}
    cookies: tuple[str, ...] = ()
    for name, value in (response.headers or {}).items():
        if name.lower() == "set-cookie":
            cookies = (*cookies, value)
        else:
            headers.setdefault(name.lower(), value)
    return Reply(response.status_code, headers, response.content or b"", cookies)
