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
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from harness import __version__
from harness.errors import BadInput, HarnessError, SetupError

__all__ = ["main"]

_EXIT_CODES = """\
exit codes: 0 pass, 1 a promise is broken, 2 bad input or missing prerequisite, 3 inconclusive,
4 the harness itself failed, 130 interrupted, 143 told to stop"""


class _Told(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C is: whatever was started is stopped on the way out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; never raises for anything a person can cause."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if "command" not in arguments:
        parser.print_help(sys.stderr)
        return 2
    previous = signal.signal(signal.SIGTERM, _told_to_stop)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell: an ignored signal would be ignored by every node as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except SetupError as problem:
        count = len(problem.mistakes)
        print(f"harness: {problem.source}: {count} mistake{'s' if count != 1 else ''}", file=sys.stderr)
        for mistake in problem.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        return 2
    except BadInput as problem:
        print(f"harness: {problem}", file=sys.stderr)
        return 2
    except HarnessError as problem:
        print(f"harness: the harness failed, this says nothing about the setup: {problem}", file=sys.stderr)
        return 4
    except _Told:
        print("harness: told to stop; everything that was started is stopped", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("harness: interrupted; everything that was started is stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output went away (a pager, `head`): nothing is left to say.
        sys.stderr.close()
        return 141
    finally:
        signal.signal(signal.SIGTERM, previous)


def _told_to_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Told


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
    verify.add_argument("setup", nargs="?", type=Path, metavar="SETUP", help="the setup file (default: the reference)")
    verify.add_argument("--instances", type=int, metavar="N", help="run this many instances, whatever the file says")
    verify.add_argument("--platform", choices=("auto", "native"), default="auto", help="where the nodes run")
    verify.add_argument(
        "--only", action="append", default=[], metavar="ID", help="only promises that match; repeatable"
    )
    verify.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change one key"
    )
    verify.add_argument("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    verify.add_argument("--ends-with-stdin", action="store_true", help=argparse.SUPPRESS)
    _add_output(verify)
    verify.set_defaults(command=_verify)

    rejudge = commands.add_parser("rejudge", help="judge a stored run again, without any cluster")
    rejudge.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as reports/latest")
    rejudge.add_argument("--json", action="store_true", help="print verdicts.json instead of text")
    rejudge.set_defaults(command=_rejudge)

    promises = commands.add_parser("promises", help="list what can be judged")
    _add_listing(promises, markdown="print docs/promises.md")
    promises.set_defaults(command=_promises)

    mutants = commands.add_parser(
        "mutants", help="break the reference setup on purpose: is each fault caught and named?"
    )
    mutants.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only mutants that match; repeatable"
    )
    mutants.add_argument("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    mutants.add_argument(
        "--report", type=Path, default=Path("reports"), metavar="FOLDER", help="where runs are written"
    )
    _add_listing(mutants, markdown="run nothing, print docs/mutants.md")
    mutants.set_defaults(command=_mutants)

    schema = commands.add_parser("schema", help="print the JSON schema of setup files, for editors")
    schema.set_defaults(command=_schema)

    clean = commands.add_parser("clean", help="end and remove what runs that died left behind")
    clean.set_defaults(command=_clean)
    return parser


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


def _verify(arguments: argparse.Namespace) -> int:
    from harness import assets
    from harness.door import Door, Wishes
    from harness.pytest_plugin import run_scenarios
    from harness.reporting import choose_view

    wishes = Wishes(
        setup=arguments.setup,
        instances=arguments.instances,
        seed=arguments.seed,
        reports=arguments.report,
        only=tuple(arguments.only),
        overrides=tuple(arguments.overrides),
    )
    if arguments.ends_with_stdin:
        ours = os.dup(sys.stdin.fileno())  # whatever is done to standard input later, this one stays
        threading.Thread(target=_end_with, args=(ours,), name="stdin", daemon=True).start()
    with choose_view(sys.stdout, quiet=arguments.quiet, json=arguments.json) as view:
        door = Door.for_wishes(wishes, view)
        return door.run(lambda: run_scenarios(assets.path("scenarios"), door))


def _end_with(stdin: int) -> None:
    """Whoever started us holds the other end of our input; when that is gone, so are they."""
    while os.read(stdin, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _rejudge(arguments: argparse.Namespace) -> int:
    from harness.rejudging import rejudge
    from harness.reporting import choose_view

    with choose_view(sys.stdout, quiet=True, json=arguments.json) as view:
        result = rejudge(arguments.run)
        view.end(result)
    return result.exit_code


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
        only=tuple(arguments.only), seed=arguments.seed, reports=arguments.report, as_json=arguments.json, to=sys.stdout
    )


def _schema(_arguments: argparse.Namespace) -> int:
    from harness.setup import setup_schema

    print(json.dumps(setup_schema(), indent=2))
    return 0


def _clean(_arguments: argparse.Namespace) -> int:
    from harness.workspace import sweep

    removed = sweep()
    for line in removed:
        print(line)
    print(f"{len(removed)} dead run{'s' if len(removed) != 1 else ''} cleaned up" if removed else "nothing to clean up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
