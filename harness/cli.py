"""The command line: reads arguments, opens the door, and turns what came of it into an exit code.

    0 every promise is kept      1 a promise is broken         2 bad input, or something is missing
    3 nothing broken was seen, but not everything was tested   4 the harness itself failed
    130 and 143: interrupted (Ctrl-C) and told to stop (SIGTERM); nothing is left behind

Must not: hold any logic that another door would need as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from random import SystemRandom
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from harness import __version__
from harness.errors import BadInput, HarnessError, JournalError, SetupError

if TYPE_CHECKING:  # imported when they are needed: `harness --help` waits for nothing
    from harness.door import Wishes
    from harness.load.results import LoadResult
    from harness.load.running import Ground
    from harness.load.settings import LoadSettings
    from harness.reporting import RunResult

__all__ = ["main"]

GUIDE = "fixtures/checklists/guide.toml"
_EXIT_CODES = """\
exit codes: 0 pass, 1 a promise is broken, 2 bad input or missing prerequisite, 3 inconclusive,
4 the harness itself failed, 130 interrupted, 143 told to stop"""


class _Told(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C is: whatever was started is stopped on the way out."""


class _Signals:
    """Ends what runs on SIGINT and SIGTERM, and knows that it did.

    What is raised in the middle of an import may come out as an error of whoever was importing: Python makes a
    RuntimeError of whatever happens while a class gets its descriptors, and extensions make an ImportError.
    """

    _codes: Mapping[int, tuple[int, str]] = {
        signal.SIGTERM: (143, "told to stop"),
        signal.SIGINT: (130, "interrupted"),
    }

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in self._codes:
            # Also where a shell that started us in the background has it ignored: every node would ignore it as well.
            self._previous[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._received = number
        raise _Told if number == signal.SIGTERM else KeyboardInterrupt

    def received(self, problem: BaseException) -> int | None:
        """The exit code, which is told, when this came of a signal; None when it did not."""
        number = self._received
        if isinstance(problem, KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(problem, _Told) else signal.SIGINT
        if number is None:
            return None
        code, word = self._codes[number]
        print(f"harness: {word}; everything that was started is stopped", file=sys.stderr)
        return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; never raises for anything a person can cause."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if "command" not in arguments:
        parser.print_help(sys.stderr)
        return 2
    signals = _Signals()
    try:
        with signals:
            return _flushed(arguments.command(arguments))
    except SystemExit:
        raise
    except BaseException as problem:
        # What could not be stopped on the way out is told first.
        code = _explained(problem)
        if code is None:
            code = signals.received(problem)
        if code is None:
            raise
        return code


def _explained(problem: BaseException) -> int | None:
    """Say what went wrong, and return the exit code; None for what nobody foresaw."""
    if isinstance(problem, SetupError):
        count = len(problem.mistakes)
        print(f"harness: {problem.source}: {count} mistake{'s' if count != 1 else ''}", file=sys.stderr)
        for mistake in problem.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        return 2
    if isinstance(problem, BadInput):
        print(f"harness: {problem}", file=sys.stderr)
        return 2
    if isinstance(problem, HarnessError):
        print(f"harness: the harness failed, this says nothing about the setup: {problem}", file=sys.stderr)
        return 4
    if isinstance(problem, BrokenPipeError):
        # Whoever read our output went away (a pager, `head`): nothing is left to say. What is still in the buffer goes
        # nowhere, or Python would try it once more at its end, complain, and choose an exit code of its own.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return None


def _flushed(code: int) -> int:
    """That whoever read our output went away is noticed here, not when Python ends."""
    sys.stdout.flush()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Proves or disproves that a distributed web setup keeps its promises to users.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    verify = commands.add_parser(
        "verify", help="boot a setup, judge its promises, write the report", epilog=_EXIT_CODES
    )
    _add_setup(verify, what="judge")
    verify.add_argument(
        "--only", action="append", default=[], metavar="ID", help="only promises that match; repeatable"
    )
    verify.add_argument("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    verify.add_argument(
        "--repeat",
        type=int,
        metavar="K",
        help="verify K times: how often was each promise broken? With --seed on one schedule, else on K of them",
    )
    verify.add_argument("--ends-with-stdin", action="store_true", help=argparse.SUPPRESS)
    _add_output(verify)
    verify.set_defaults(command=_verify)

    up = commands.add_parser("up", help="boot a setup and keep it running; its addresses are told")
    _add_setup(up, what="run")
    up.add_argument("--ends-with-stdin", action="store_true", help="end when standard input does, for scripts")
    up.add_argument("--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where logs are kept")
    up.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")
    up.set_defaults(command=_up)

    load = commands.add_parser(
        "load", help="people who log in, browse and write, by Locust; results in the run's folder"
    )
    _add_setup(load, what="load")
    load.add_argument("--host", metavar="URL", help="load this site, which runs already, and boot nothing")
    load.add_argument("--users", type=int, default=20, metavar="N", help="so many people (default: 20)")
    load.add_argument(
        "--wait",
        default="1-5",
        metavar="MIN-MAX",
        help="seconds a person pauses between two things they do; 0 for none (default: 1-5)",
    )
    load.add_argument(
        "--fail-above",
        default="1%",
        metavar="PERCENT",
        help="exit code 1 when a larger share of requests failed (default: 1%%)",
    )
    _add_load(load, run_time="30s", run_time_help="how long people come, such as 30s, 5m, 1h (default: 30s)")
    load.set_defaults(command=_load)

    capacity = commands.add_parser("capacity", help="throughput at 1, 2, 3 ... instances: the knee, and what saturates")
    _add_setup_file(capacity)
    capacity.add_argument(
        "--platform", choices=("auto", "native", "docker"), default="auto", help="where the nodes run"
    )
    capacity.add_argument(
        "--instances", default="1,2,3", metavar="N,N...", help="numbers of instances to measure (default: 1,2,3)"
    )
    capacity.add_argument(
        "--users", type=int, metavar="N", help="so many people, who never pause (default: eight for each instance)"
    )
    _add_load(
        capacity,
        run_time="15s",
        run_time_help="how long each number is measured, twice (default: 15s, a fifth of it warm-up)",
    )
    capacity.set_defaults(command=_capacity)

    rejudge = commands.add_parser("rejudge", help="judge a stored run again, without any cluster")
    rejudge.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as reports/latest")
    rejudge.add_argument("--json", action="store_true", help="print verdicts.json instead of text")
    _add_color(rejudge)
    rejudge.set_defaults(command=_rejudge)

    shrink = commands.add_parser(
        "shrink",
        help="make a failing run smaller for as long as it still fails, by verifying with less",
        epilog="exit codes: 0 nothing more can be left out, 2 bad input, 3 a bound ended it before that was known",
    )
    shrink.add_argument("run", type=Path, metavar="RUN", help="the folder of a run that failed, such as reports/latest")
    shrink.add_argument("--only", metavar="ID", help="the promise that is to go on failing (default: the first broken)")
    shrink.add_argument(
        "--within", type=float, default=600.0, metavar="SECONDS", help="begin no try after that (default: 600)"
    )
    shrink.add_argument("--tries", type=int, default=50, metavar="N", help="verify at most N times (default: 50)")
    shrink.add_argument("--ends-with-stdin", action="store_true", help=argparse.SUPPRESS)
    shrink.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where results are written"
    )
    shrink.add_argument("--json", action="store_true", help="print JSON instead of text")
    _add_color(shrink)
    shrink.set_defaults(command=_shrink)

    report = commands.add_parser("report", help="make the report of a stored run again, without any cluster")
    report.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as reports/latest")
    report.set_defaults(command=_report)

    promises = commands.add_parser("promises", help="list what can be judged")
    _add_listing(promises, markdown="print docs/promises.md")
    promises.set_defaults(command=_promises)

    mutants = commands.add_parser(
        "mutants", help="break the reference setup on purpose: is each fault caught and named?"
    )
    mutants.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only mutants that match, or all but !NAME; repeatable",
    )
    mutants.add_argument(
        "--platform",
        choices=("native", "docker", "swarm"),
        default="native",
        help="where the nodes run (default: native)",
    )
    mutants.add_argument(
        "--twins", type=int, default=1, metavar="K", help="verify each healthy twin K times (default: 1)"
    )
    mutants.add_argument("--shard", metavar="I/N", help="only the I-th of N parts, for machines side by side")
    mutants.add_argument("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    mutants.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where runs are written"
    )
    _add_listing(mutants, markdown="run nothing, print docs/mutants.md")
    mutants.set_defaults(command=_mutants)

    images = commands.add_parser("images", help="build, list or remove the container images that need no registry")
    images.add_argument("action", choices=("build", "list", "remove"))
    images.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="only these, such as postgres (default: all, and machine once it is there)",
    )
    images.add_argument("--json", action="store_true", help="print JSON instead of text")
    images.set_defaults(command=_images)

    initial = commands.add_parser(
        "init", help="write a first setup file, from a compose file, a Dockerfile, a project or a site that runs"
    )
    initial.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="of your application (default: this one)"
    )
    initial.add_argument("--host", metavar="URL", help="a site that runs: its pages are looked at, and nothing is sent")
    initial.add_argument(
        "--ca", type=Path, metavar="FILE", help="the authority that signed for it (default: this machine's)"
    )
    initial.add_argument("--output", type=Path, metavar="FILE", help="what to write (default: harness.toml in FOLDER)")
    initial.set_defaults(command=_initial)

    _add_journey(commands)
    _add_watch(commands)
    _add_checklist(commands)
    _add_comparison(commands)

    doctor = commands.add_parser(
        "doctor",
        help="what this machine has for each platform; of a setup, each part up to the first that does not work",
        epilog="exit codes: 0 nothing is missing, 2 something is",
    )
    _add_setup(doctor, what="look at")
    doctor.add_argument("--seed", type=int, metavar="N", help="of a setup: the same person as in an earlier look")
    doctor.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="of a setup: where logs are kept"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")
    doctor.set_defaults(command=_doctor)

    schema = commands.add_parser("schema", help="print the JSON schema of setup files, for editors")
    schema.set_defaults(command=_schema)

    completion = commands.add_parser("completion", help="print what makes a shell complete commands, options and ids")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(command=_completion)

    clean = commands.add_parser("clean", help="end and remove what runs that died left behind")
    clean.set_defaults(command=_clean)
    return parser


def _add_journey(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    journey = commands.add_parser(
        "journey",
        help="what people do by the setup file; with --try gone through once, each request and answer shown",
        epilog="exit codes: 0 every step went as declared, 1 one did not, 2 bad input",
    )
    _add_setup(journey, what="try")
    journey.add_argument("--try", action="store_true", dest="tried", help="go through them once, as one new person")
    journey.add_argument(
        "--host", metavar="URL", help="with --try: ask this site, which runs already, and boot nothing"
    )
    journey.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="with --host: the authority that signed for it (default: this machine's)",
    )
    journey.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this journey, and the log-in it needs; repeatable"
    )
    journey.add_argument("--seed", type=int, metavar="N", help="the same person as in an earlier try")
    journey.add_argument("--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where logs are kept")
    journey.add_argument("--json", action="store_true", help="print JSON instead of text")
    journey.set_defaults(command=_journey)


def _add_watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    watch = commands.add_parser(
        "watch",
        help="ask a site that runs already, from outside, while a command deploys to it: what did it cost people?",
        epilog=f"{_EXIT_CODES}\nWhat the command prints goes to standard error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument("url", metavar="URL", help="the site, such as https://staging.example.org")
    watch.add_argument("argv", nargs="+", metavar="COMMAND", help="what deploys, behind `--`; no shell reads it")
    watch.add_argument(
        "--journey", type=Path, metavar="FILE", help="a setup file whose journeys say how people use the site"
    )
    watch.add_argument(
        "--rate", type=float, default=20.0, metavar="N", help="requests per second, up to 200 (default: 20)"
    )
    watch.add_argument(
        "--before", default="3s", metavar="TIME", help="how long to watch before the command (default: 3s)"
    )
    watch.add_argument("--after", default="5s", metavar="TIME", help="and after it (default: 5s)")
    watch.add_argument("--within", default="30m", metavar="TIME", help="end the command after that (default: 30m)")
    watch.add_argument(
        "--ca", type=Path, metavar="FILE", help="the authority that signed for the site (default: this machine's)"
    )
    watch.add_argument("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    watch.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where results are written"
    )
    watch.add_argument("--json", action="store_true", help="print verdicts.json and nothing else")
    _add_color(watch)
    watch.set_defaults(command=_watch)


def _add_checklist(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    checklist = commands.add_parser(
        "checklist",
        help="what of a checklist is proven by a run, contradicted, signed, or open",
        epilog="exit codes: 0 all is verified or signed, 1 something is contradicted or open, 2 bad input",
    )
    checklist.add_argument("--run", type=Path, metavar="RUN", help="the folder of a run (default: reports/latest)")
    checklist.add_argument("--checklist", type=Path, metavar="FILE", help="the checklist (default: the guide's)")
    checklist.add_argument(
        "--signoffs",
        type=Path,
        default=Path("checklist-signed.toml"),
        metavar="FILE",
        help="the file of sign-offs (default: checklist-signed.toml)",
    )
    checklist.add_argument("--sign", action="append", default=[], metavar="ITEM", help="sign this item; repeatable")
    checklist.add_argument("--who", metavar="NAME", help="with --sign: who signs")
    checklist.add_argument("--evidence", metavar="WHERE", help="with --sign: where others can see it")
    checklist.add_argument("--when", metavar="DAY", help="with --sign: the day it was looked at (default: today)")
    checklist.add_argument(
        "--withdraw",
        action="append",
        default=[],
        metavar="ITEM",
        help="take the sign-off of this item back; repeatable",
    )
    checklist.add_argument("--list", action="store_true", help="list the sign-offs")
    how = checklist.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="print what is not done only")
    how.add_argument("--json", action="store_true", help="print JSON instead of text")
    checklist.set_defaults(command=_checklist)


def _add_comparison(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    comparison = commands.add_parser(
        "compare",
        help="what got better or worse between runs of one setup, beyond noise",
        epilog="exit codes: 0 nothing is worse, 1 something is, beyond noise, 2 bad input, 3 too little was measured to say",
    )
    comparison.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the runs before, and last the one to hold against them"
    )
    comparison.add_argument(
        "--baseline", type=Path, metavar="FILE", help="the runs before, as `harness baseline` kept them"
    )
    comparison.add_argument("--across", action="store_true", help="compare setups that are not alike as well")
    comparison.add_argument("--all", action="store_true", help="also what is the same or too thin to judge")
    comparison.add_argument("--seed", type=int, default=1, metavar="N", help="what the bootstrap draws (default: 1)")
    comparison.add_argument("--json", action="store_true", help="print JSON instead of text")
    comparison.set_defaults(command=_compare)

    baseline = commands.add_parser("baseline", help="print the figures of runs as a file to compare later ones with")
    baseline.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run; three or more are best"
    )
    baseline.set_defaults(command=_baseline)


def _add_setup(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Which setup, where, and how it is changed: what every command takes that boots one."""
    _add_setup_file(parser)
    parser.add_argument(
        "--compose",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=f"{what} this compose project; repeatable",
    )
    parser.add_argument(
        "--scale", action="append", default=[], metavar="SERVICE=N", help="run a service of it N times; repeatable"
    )
    parser.add_argument("--attach", metavar="PROJECT", help=f"{what} a compose project that runs already, as it is")
    parser.add_argument("--instances", type=int, metavar="N", help="run this many instances, whatever the file says")
    parser.add_argument(
        "--platform",
        choices=("auto", "native", "docker", "swarm", "compose", "remote"),
        default="auto",
        help="where the nodes run",
    )
    parser.add_argument(
        "--yes-i-own",
        metavar="HOST",
        help="of a site that runs already ([remote]): its instances may be stopped, killed and replaced; its host, once more",
    )


def _add_setup_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("setup", nargs="?", type=Path, metavar="SETUP", help="the setup file (default: the reference)")
    parser.add_argument("--setup", type=Path, dest="setup_file", metavar="FILE", help="the setup file, as SETUP")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change one key"
    )


def _add_load(parser: argparse.ArgumentParser, *, run_time: str, run_time_help: str) -> None:
    parser.add_argument("--spawn-rate", type=float, metavar="N", help="so many more people come each second")
    parser.add_argument("--run-time", default=run_time, metavar="TIME", help=run_time_help)
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="let a master and N workers make the load (default: one process)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="people choose to do the same as in an earlier run")
    parser.add_argument("--ends-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where results are written"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="print the end only")
    how.add_argument("--json", action="store_true", help="print load.json and nothing else")


def _add_listing(parser: argparse.ArgumentParser, *, markdown: str) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--markdown", action="store_true", help=markdown)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where results are written"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="print the end only")
    how.add_argument("--json", action="store_true", help="print verdicts.json and nothing else")
    _add_color(parser)


def _add_color(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--color", action="store_const", const=True, dest="color", help="colours, also where this is no terminal"
    )
    how.add_argument(
        "--no-color", action="store_const", const=False, dest="color", help="no colours, as with NO_COLOR set"
    )


def _verify(arguments: argparse.Namespace) -> int:
    from harness import assets
    from harness.door import Door
    from harness.pytest_plugin import run_scenarios
    from harness.reporting import choose_view

    wishes = replace(
        _wishes(arguments),
        seed=arguments.seed,
        only=tuple(arguments.only),
        shown_in_ci=not arguments.ends_with_stdin,
    )
    if arguments.ends_with_stdin:
        _watch_stdin(_told_by_ourselves)
    if arguments.repeat is not None:
        from harness.repetition import run_repeated

        return run_repeated(
            wishes,
            times=arguments.repeat,
            stream=sys.stdout,
            quiet=arguments.quiet,
            json_only=arguments.json,
            color=arguments.color,
        )
    with choose_view(sys.stdout, quiet=arguments.quiet, json=arguments.json, color=arguments.color) as view:
        door = Door.for_wishes(wishes, view)
        try:
            return door.run(lambda: run_scenarios(assets.path("scenarios"), door))
        finally:
            for warning in door.warnings:
                print(f"harness: warning: {warning}", file=sys.stderr)


def _one_setup(arguments: argparse.Namespace) -> Path | None:
    """The setup file, which can be named in two ways. Raises BadInput: in both."""
    setup: Path | None = arguments.setup
    named: Path | None = arguments.setup_file
    if setup is not None and named is not None:
        raise BadInput(f"the setup file is named twice ({setup} and --setup {named}): leave one out")
    return setup if setup is not None else named


def _wishes(arguments: argparse.Namespace) -> Wishes:
    """Of a command that boots a setup. Raises BadInput: the setup is named twice."""
    from harness.door import Wishes

    return Wishes(
        setup=_one_setup(arguments),
        platform=arguments.platform,
        compose=tuple(arguments.compose),
        scale=tuple(arguments.scale),
        attach=arguments.attach,
        instances=arguments.instances,
        reports=arguments.report,
        overrides=tuple(arguments.overrides),
        owns=arguments.yes_i_own,
        confirm=_typed if sys.stdin is not None and sys.stdin.isatty() else None,
    )


def _typed(question: str) -> str:
    """What a person at a terminal answers; nothing where they end their input."""
    print(question, end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _watch_stdin(when_over: Callable[[], None]) -> None:
    """Whoever started us holds the other end of our input; when that is gone, so are they."""
    ours = os.dup(sys.stdin.fileno())  # whatever is done to standard input later, this one stays

    def watch() -> None:
        while os.read(ours, 4096):
            pass
        when_over()

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def _told_by_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _up(arguments: argparse.Namespace) -> int:
    from harness.door import read_wishes
    from harness.reporting import choose_view
    from harness.standing import standing
    from harness.upkeep import keep, told, told_in_lines

    wishes = _wishes(arguments)
    setup, choice, environment = read_wishes(wishes)
    over = threading.Event()
    if arguments.ends_with_stdin:
        _watch_stdin(over.set)
    with ExitStack() as stack:
        with choose_view(sys.stdout, quiet=arguments.json) as view:
            stands = stack.enter_context(
                standing(
                    setup=setup,
                    choice=choice,
                    environment=environment,
                    seed=_seed(None),
                    reports=wishes.reports,
                    view=view,
                )
            )
            facts = told(stands, words=replace(wishes, platform="auto", instances=None, scale=()).words())
            for line in told_in_lines(facts):
                view.line(line)
        if arguments.json:
            print(json.dumps(facts), flush=True)
        keep(stands, is_over=over.is_set, say=lambda line: print(f"harness: {line}", file=sys.stderr, flush=True))
    return 0


def _load(arguments: argparse.Namespace) -> int:
    from harness.load.running import run_load
    from harness.load.settings import LoadSettings, pause_of, percent_of, seconds_of, url_of

    settings = LoadSettings(
        users=arguments.users,
        spawn_rate=arguments.spawn_rate if arguments.spawn_rate is not None else max(1.0, round(arguments.users / 5)),
        run_seconds=seconds_of(arguments.run_time, option="--run-time"),
        workers=arguments.workers,
        wait=pause_of(arguments.wait),
        seed=_seed(arguments.seed),
        fail_above=percent_of(arguments.fail_above),
    )
    host = url_of(arguments.host) if arguments.host is not None else None
    wishes = _wishes(arguments)
    if host is not None and (wishes.instances is not None or wishes.platform != "auto" or wishes.scale):
        raise BadInput(
            "--host loads what runs already, so that --instances, --platform and --scale have no say: leave them out"
        )
    words = ["harness", "load", *wishes.words(), *(["--host", host] if host is not None else [])]
    words += ["--wait", settings.wait_text, "--fail-above", arguments.fail_above]
    return _loaded(
        arguments, settings, wishes, words, boots=host is None, run=lambda ground: run_load(ground, settings, host=host)
    )


def _capacity(arguments: argparse.Namespace) -> int:
    from harness.door import Wishes
    from harness.load.running import measure_capacity
    from harness.load.settings import LoadSettings, levels_of, seconds_of

    levels = levels_of(arguments.instances)
    users = arguments.users if arguments.users is not None else 8 * max(levels)
    settings = LoadSettings(
        users=users,
        spawn_rate=arguments.spawn_rate if arguments.spawn_rate is not None else max(1.0, round(users / 3)),
        run_seconds=seconds_of(arguments.run_time, option="--run-time"),
        workers=arguments.workers,
        wait=(0.0, 0.0),
        seed=_seed(arguments.seed),
    )
    wishes = Wishes(
        setup=_one_setup(arguments),
        platform=arguments.platform,
        instances=max(levels),
        reports=arguments.report,
        overrides=tuple(arguments.overrides),
    )
    words = ["harness", "capacity", *replace(wishes, instances=None).words(), "--instances", arguments.instances]
    return _loaded(
        arguments,
        settings,
        wishes,
        words,
        boots=True,
        run=lambda ground: measure_capacity(ground, settings, levels=levels),
    )


def _loaded(
    arguments: argparse.Namespace,
    settings: LoadSettings,
    wishes: Wishes,
    words: list[str],
    *,
    boots: bool,
    run: Callable[[Ground], tuple[LoadResult, Path]],
) -> int:
    """What load and capacity have in common: the ground they stand on, and how their end is shown."""
    from harness.door import read_setup, read_wishes
    from harness.layouts import Choice
    from harness.load.results import to_json
    from harness.load.running import Ground
    from harness.load.words import lines
    from harness.reporting import choose_view, shown_path

    words += ["--users", str(settings.users), "--spawn-rate", f"{settings.spawn_rate:g}"]
    words += ["--run-time", arguments.run_time, "--workers", str(settings.workers), "--seed", str(settings.seed)]
    if boots:
        setup, choice, environment = read_wishes(wishes)
        if setup.remote is not None:
            raise BadInput(
                f"{setup.remote.balancer} is a site that runs already, and load knows no bound: name it once more, with "
                f"harness load --host {setup.remote.balancer}, if it is yours to load"
            )
    else:
        (setup, environment), choice = read_setup(wishes), Choice("running")
    if arguments.ends_with_stdin:
        _watch_stdin(_told_by_ourselves)
    with choose_view(sys.stdout, quiet=arguments.quiet or arguments.json) as view:
        result, folder = run(
            Ground(
                setup=setup,
                choice=choice,
                environment=environment,
                reports=wishes.reports,
                view=view,
                command=shlex.join(words),
            )
        )
    if arguments.json:
        print(to_json(result), end="")
    else:
        print(*lines(result, page=shown_path(folder / "load.html")), sep="\n")
    return result.exit_code


def _initial(arguments: argparse.Namespace) -> int:
    from harness.initial import look_around, setup_text
    from harness.reporting import write_text
    from harness.trying import context_for
    from harness.watching import site_of

    output: Path = arguments.output or arguments.folder / "harness.toml"
    if output.exists():
        raise BadInput(
            f"{output} is there already, and what you wrote is not overwritten: name another file with --output"
        )
    site = None
    if arguments.host is not None:
        at = site_of(arguments.host, takes_path=False)
        site = (str(at), at.host, at.port, context_for(at.scheme, arguments.ca))
    here = look_around(arguments.folder, site=site)
    folder = os.path.relpath(arguments.folder, output.parent)
    write_text(output, setup_text(here, file=str(output), folder=folder))
    for line in here.seen_lines:
        print(f" saw    {line}")
    print(f" wrote  {output}: what is marked CHECK is guessed")
    host = f" --host {here.site}" if here.site else ""
    print(f" next   harness journey {output} --try{host}")
    return 0


def _journey(arguments: argparse.Namespace) -> int:
    from harness.door import read_setup, read_wishes
    from harness.reporting import choose_view
    from harness.setup import secrets_in
    from harness.standing import standing
    from harness.trying import chosen, context_for, declared_lines, journeys_of, where_to_try
    from harness.visitors import people_of
    from harness.watching import site_of

    wishes = _wishes(arguments)
    if arguments.host is not None:
        # Nobody runs an instance here: a file that says nothing but how people use the site will do.
        wishes = replace(wishes, overrides=(*wishes.overrides, "app.image=nothing"))
    if not arguments.tried or arguments.host is not None:
        setup, _ = read_setup(wishes)
    else:
        setup, choice, environment = read_wishes(wishes)
    journeys = journeys_of(setup)
    names = chosen(tuple(journeys), arguments.only)
    if not arguments.tried:
        if arguments.json:
            print(json.dumps({name: journeys[name].declared() for name in names}, indent=2))
        else:
            print(*declared_lines(journeys, names), sep="\n")
        return 0
    seed = _seed(arguments.seed)
    how = {
        "journeys": journeys,
        "names": names,
        "timeout_seconds": setup.traffic.timeout_seconds,
        "seed": seed,
        "secrets": secrets_in(setup),
        "headers": setup.traffic.headers,
        "people": people_of(setup),
    }
    if arguments.host is not None:
        site = site_of(arguments.host, takes_path=False)
        context = context_for(site.scheme, arguments.ca)
        return _show_tried(arguments, host=site.host, port=site.port, context=context, **how)
    with ExitStack() as stack:
        with choose_view(sys.stdout, quiet=arguments.json) as view:
            stands = stack.enter_context(
                standing(
                    setup=setup,
                    choice=choice,
                    environment=environment,
                    seed=seed,
                    reports=wishes.reports,
                    view=view,
                )
            )
        host, port, context = where_to_try(stands.cluster)
        return _show_tried(arguments, host=host, port=port, context=context, **how)


def _show_tried(arguments: argparse.Namespace, **how: Any) -> int:
    from harness.trying import as_lines, as_plain_data, try_journeys

    names, journeys = how.pop("names"), how.pop("journeys")
    tried = []
    for step in try_journeys(journeys, names, **how):
        tried.append(step)
        if not arguments.json:
            print(*as_lines(step), sep="\n", flush=True)
    if arguments.json:
        print(json.dumps(as_plain_data(tried), indent=2))
    return 0 if all(step.ok for step in tried) else 1


def _watch(arguments: argparse.Namespace) -> int:
    from harness.door import Wishes, read_setup
    from harness.load.settings import seconds_of
    from harness.reporting import choose_view
    from harness.setup import read_environment
    from harness.watching import MOST_PER_SECOND, Watch, site_of, watch

    if not 1 <= arguments.rate <= MOST_PER_SECOND:
        raise BadInput(
            f"--rate is a number of requests per second from 1 to {MOST_PER_SECOND:g} (got {arguments.rate:g}): this asks whether "
            "people are served, it is no load test"
        )
    setup, environment = None, read_environment()
    if arguments.journey is not None:
        # A file that says nothing but how people use the site will do: nobody runs an instance here.
        setup, environment = read_setup(Wishes(setup=arguments.journey, overrides=("app.image=nothing",)))
    seed = _seed(arguments.seed)
    words = ["harness", "watch", arguments.url]
    if arguments.journey is not None:
        words += ["--journey", str(arguments.journey)]
    words += ["--rate", f"{arguments.rate:g}", "--before", arguments.before, "--after", arguments.after]
    words += ["--within", arguments.within, *(["--ca", str(arguments.ca)] if arguments.ca is not None else [])]
    wanted = Watch(
        site=site_of(arguments.url, takes_path=setup is None),
        argv=tuple(arguments.argv),
        setup=setup,
        rate=arguments.rate,
        before_seconds=seconds_of(arguments.before, option="--before"),
        after_seconds=seconds_of(arguments.after, option="--after"),
        within_seconds=seconds_of(arguments.within, option="--within"),
        authority=arguments.ca,
        seed=seed,
        reports=arguments.report,
        command=shlex.join([*words, "--seed", str(seed), "--", *arguments.argv]),
    )
    with choose_view(sys.stdout, json=arguments.json, color=arguments.color) as view:
        result = watch(
            wanted, environment=environment, say=lambda line: print(f"harness: {line}", file=sys.stderr, flush=True)
        )
        view.end(result)
    return result.exit_code


def _seed(wished: int | None) -> int:
    return wished if wished is not None else SystemRandom().randrange(1, 100_000)


def _rejudge(arguments: argparse.Namespace) -> int:
    from harness.rejudging import rejudge
    from harness.reporting import choose_view

    with choose_view(sys.stdout, quiet=True, json=arguments.json, color=arguments.color) as view:
        result = rejudge(arguments.run)
        view.end(result)
    return result.exit_code


def _shrink(arguments: argparse.Namespace) -> int:
    from harness.shrinking import run_shrink

    result = _stored(arguments.run)
    if arguments.ends_with_stdin:
        _watch_stdin(_told_by_ourselves)
    return run_shrink(
        result,
        _wishes_of(result),
        promise=arguments.only,
        within_seconds=arguments.within,
        tries=arguments.tries,
        reports=arguments.report,
        stream=sys.stdout,
        json_only=arguments.json,
        color=arguments.color,
    )


def _wishes_of(result: RunResult) -> Wishes:
    """What was asked for when this run was made. Raises BadInput: it was made by something else, or another version."""
    words = shlex.split(result.command)
    problem = f"{result.run_id} cannot be repeated: it was made by {result.command!r}"
    if words[:2] != ["harness", "verify"]:
        raise BadInput(problem)
    try:
        return _wishes(_parser().parse_args(words[1:]))
    except SystemExit as end:
        raise BadInput(problem) from end


def _report(arguments: argparse.Namespace) -> int:
    from harness.errors import JournalError
    from harness.reporting import write_page

    try:
        print(write_page(arguments.run))
    except JournalError as problem:
        raise BadInput(f"no report can be made of {arguments.run}: {problem}") from problem
    return 0


def _promises(arguments: argparse.Namespace) -> int:
    from harness.promises import CATALOGUE, as_markdown

    if arguments.markdown:
        print(as_markdown(), end="")
        return 0
    if arguments.json:
        print(json.dumps([asdict(promise) for promise in CATALOGUE.values()], indent=2))
        return 0
    for promise in CATALOGUE.values():
        print(f"{promise.id}\n  {promise.sentence}")
        print(f"  measured   {promise.measured}\n  bound      {promise.bound}\n  broken by  {promise.broken_by}")
        print(f"  remedy     {promise.remedy}\n  guide      {promise.guide}\n")
    return 0


def _mutants(arguments: argparse.Namespace) -> int:
    from harness.mutants import as_markdown, load_mutants, run_mutants

    if arguments.markdown:
        print(as_markdown(load_mutants(arguments.only)), end="")
        return 0
    return run_mutants(
        only=tuple(arguments.only),
        platform=arguments.platform,
        twins_each=arguments.twins,
        shard=arguments.shard,
        seed=arguments.seed,
        reports=arguments.report,
        as_json=arguments.json,
        to=sys.stdout,
    )


def _images(arguments: argparse.Namespace) -> int:
    from harness import images
    from harness.engine import address
    from harness.setup import read_environment

    where = address(read_environment())
    images.check_names(arguments.names)
    if arguments.action == "build":
        images.build(arguments.names, where=where, on_progress=lambda line: print(line, file=sys.stderr, flush=True))
    if arguments.action == "remove":
        images.remove(arguments.names, where=where)
    found = images.survey(arguments.names, where=where)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return 0
    for each in found:
        size = f"{each.size_bytes / 1e6:4.0f} MB" if each.size_bytes else ""
        print(f"{each.tag:<30} {each.state:<10} {size}".rstrip())
    return 0


def _checklist(arguments: argparse.Namespace) -> int:
    from harness import assets, clock
    from harness.checklist import (
        as_lines,
        as_plain_data,
        hold_against,
        sign,
        sign_off_lines,
        withdraw,
        write_beside,
        write_sign_offs,
    )
    from harness.promises import CATALOGUE
    from harness.setup import load_checklist, load_sign_offs

    today = clock.wall().date()
    path = arguments.checklist or assets.path(GUIDE)
    checklist = load_checklist(path, known_promises=tuple(CATALOGUE))
    sign_offs = before = load_sign_offs(arguments.signoffs)
    if arguments.sign:
        if arguments.who is None or arguments.evidence is None:
            raise BadInput("--sign needs --who NAME and --evidence WHERE: a sign-off says who looked, and at what")
        sign_offs = sign(
            sign_offs,
            arguments.sign,
            checklist=checklist,
            who=arguments.who,
            evidence=arguments.evidence,
            when=_day(arguments.when) if arguments.when is not None else today,
            today=today,
        )
    elif arguments.who is not None or arguments.evidence is not None or arguments.when is not None:
        raise BadInput("--who, --evidence and --when belong to --sign ITEM, and no item is named")
    sign_offs = withdraw(sign_offs, arguments.withdraw)
    # Read before anything is written: bad input leaves nothing behind.
    only_signs = bool(arguments.sign or arguments.withdraw or arguments.list) and arguments.run is None
    run = None if only_signs else _run_of(arguments.run)
    result = hold_against(checklist, run=run, sign_offs=sign_offs, on=today)
    if sign_offs != before:
        write_sign_offs(sign_offs, arguments.signoffs)
        for name in [*arguments.sign, *arguments.withdraw]:
            print(f"{name}: {'signed' if name in sign_offs.signed else 'withdrawn'}", file=sys.stderr)
    if arguments.list:
        if not arguments.json:
            print(*sign_off_lines(sign_offs, result), sep="\n")
        elif only_signs:
            signed = {name: {**each.model_dump(mode="json")} for name, each in sign_offs.signed.items()}
            print(json.dumps(signed, indent=2, ensure_ascii=False))
    if only_signs:
        return 0
    written = write_beside(result) if run is not None else ()
    if arguments.json:
        print(json.dumps(as_plain_data(result), indent=2))
        return result.exit_code
    print(*as_lines(result, width=shutil.get_terminal_size().columns, quiet=arguments.quiet), sep="\n")
    for file in written:
        print(f" {file}")
    return result.exit_code


def _compare(arguments: argparse.Namespace) -> int:
    from harness.comparison import as_lines, as_plain_data, compare, figures_of, read_baseline

    *folders, last = arguments.runs
    before = list(read_baseline(arguments.baseline)) if arguments.baseline is not None else []
    if not folders and not before:
        raise BadInput("two runs are compared, and one is named: name the one before it, or give --baseline FILE")
    before += [figures_of(folder) for folder in folders]
    comparison = compare(before, figures_of(last), seed=arguments.seed, across=arguments.across)
    if arguments.json:
        print(json.dumps(as_plain_data(comparison), indent=2))
    else:
        print(*as_lines(comparison, everything=arguments.all), sep="\n")
    return comparison.exit_code


def _baseline(arguments: argparse.Namespace) -> int:
    from harness.comparison import baseline_text, figures_of

    print(baseline_text([figures_of(folder) for folder in arguments.runs]), end="")
    return 0


def _run_of(folder: Path | None) -> RunResult | None:
    """The run that was named, else the last one, else none. Raises BadInput: it cannot be read."""
    last = Path("reports/latest")
    if folder is None and not last.exists():
        return None
    return _stored(folder or last)


def _stored(folder: Path) -> RunResult:
    """The run in this folder. Raises BadInput: it cannot be read."""
    from harness.reporting import read_results

    try:
        return read_results(folder)
    except JournalError as problem:
        raise BadInput(f"{folder} is not the folder of a run: {problem}") from problem


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--when must be a day (got {text!r}): write it as 2026-11-30") from None


def _doctor(arguments: argparse.Namespace) -> int:
    from harness import assets
    from harness.doctor import as_lines, as_plain_data, examine
    from harness.door import REFERENCE
    from harness.setup import load_setup, read_environment

    if _one_setup(arguments) is not None or arguments.compose or arguments.attach is not None:
        return _check_up(arguments)
    report = examine(load_setup(assets.path(REFERENCE)), read_environment())
    if arguments.json:
        print(json.dumps(as_plain_data(report), indent=2))
    else:
        print(*as_lines(report, width=shutil.get_terminal_size().columns), sep="\n")
    return report.exit_code


def _check_up(arguments: argparse.Namespace) -> int:
    from harness import assets
    from harness.checkup import check_up
    from harness.door import Door, read_wishes
    from harness.pytest_plugin import run_scenarios
    from harness.reporting import QuietView

    wishes = _wishes(arguments)
    setup, choice, environment = read_wishes(wishes)
    parts = []
    for part in check_up(
        setup, choice, environment, seed=_seed(arguments.seed), reports=wishes.reports, view=QuietView(sys.stdout)
    ):
        parts.append(part)
        if not arguments.json:
            print(f" {'ok    ' if part.ok else 'NOT OK'}  {part.what:<9} {part.told}", flush=True)
            for line in part.details:
                print(f"                   {line}")
            if part.remedy:
                print(f"         remedy    {part.remedy}", flush=True)
    ok = all(part.ok for part in parts)
    planned: list[str] = []
    left_out: dict[str, str] = {}
    if ok:
        door = Door.for_wishes(wishes, QuietView(sys.stdout))
        run_scenarios(assets.path("scenarios"), door, collect_only=True)
        planned, left_out = list(door.planned), dict(door.left_out)
    if arguments.json:
        print(
            json.dumps(
                {"ok": ok, "parts": [asdict(part) for part in parts], "planned": planned, "left_out": left_out},
                indent=2,
            )
        )
    elif ok:
        print(f" ok      promises  {len(planned)} can be judged: harness verify {shlex.join(wishes.words())}".rstrip())
        reasons: dict[str, list[str]] = {}
        for promise, why in left_out.items():
            reasons.setdefault(why, []).append(promise)
        for why, promises in reasons.items():
            print(f"                   not {', '.join(promises)}: {why}")
    return 0 if ok else 2


def _schema(_arguments: argparse.Namespace) -> int:
    from harness.setup import setup_schema

    print(json.dumps(setup_schema(), indent=2))
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    from harness import assets
    from harness.completion import completion_script
    from harness.mutants import load_mutants
    from harness.promises import CATALOGUE
    from harness.setup import load_checklist

    guide = load_checklist(assets.path(GUIDE), known_promises=tuple(CATALOGUE))
    script = completion_script(
        _parser(),
        arguments.shell,
        promises=tuple(CATALOGUE),
        mutants=[mutant.id for mutant in load_mutants(())],
        items=tuple(guide.items),
    )
    print(script)
    return 0


def _clean(_arguments: argparse.Namespace) -> int:
    from harness import engine
    from harness.setup import read_environment
    from harness.workspace import sweep

    url = None
    with suppress(BadInput):  # no engine that a run could have used
        url = engine.address(read_environment()).url
    removed = sweep(engine_url=url)
    for line in removed:
        print(line)
    print(f"{len(removed)} dead run{'s' if len(removed) != 1 else ''} cleaned up" if removed else "nothing to clean up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
