"""The pytest door: scenarios are pytest functions, and a cluster is booted once for all of them.

`pytest scenarios --setup FILE` and `harness verify FILE` are the same run; the command line hands in a `Door` of its
own with the view it wants. The only module that imports pytest. It is loaded into every pytest run on the machine
it is installed on, so it imports what is heavy only when a scenario is collected. Must not: touch a run without
scenarios, or decide anything that the other door would need as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.model import Checker, Finding, History, Status

if TYPE_CHECKING:
    from harness.door import Door
    from harness.scene import Scene
    from harness.verification import Story, Verification

__all__ = ["Judge", "run_scenarios"]

_OPENED = "harness-door"
# How a scenario ends that was carried out and judged, or that was not to be.
_VERDICTS = (pytest.fail.Exception, pytest.xfail.Exception, pytest.skip.Exception, pytest.exit.Exception)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "verification of a distributed setup")
    group.addoption("--setup", metavar="FILE", help="the setup file to verify (default: the reference setup)")
    group.addoption("--instances", type=int, metavar="N", help="run this many instances, whatever the file says")
    group.addoption(
        "--platform",
        default="auto",
        choices=("auto", "native", "docker", "swarm", "compose", "remote"),
        help="where the nodes run",
    )
    group.addoption("--compose", action="append", metavar="FILE", help="the compose project to verify")
    group.addoption("--scale", action="append", metavar="SERVICE=N", help="run a service of it N times")
    group.addoption("--attach", metavar="PROJECT", help="a compose project that runs already, as it is")
    group.addoption(
        "--yes-i-own", metavar="HOST", help="the host of a site ([remote]) whose instances may be stopped and killed"
    )
    group.addoption("--seed", type=int, metavar="N", help="repeat the choices of an earlier run")
    group.addoption("--report", metavar="FOLDER", help="where results are written (default: reports)")
    group.addoption("--promise", action="append", metavar="ID", help="only promises that match, such as 'failover.*'")
    group.addoption("--set", action="append", metavar="KEY=VALUE", dest="overrides", help="change one key of the setup")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "promise(id): the promise this scenario judges")
    config.addinivalue_line("markers", "needs(ability, ...): what the platform must be able to do for this scenario")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what was asked for, in the order of the catalogue. Last, so that what `-k` leaves out is not planned."""
    if not any(_promise_of(item) for item in items):
        return
    door = _door(config)
    with _usage_errors():
        kept, left = door.choose([(item, _promise_of(item)) for item in items], needs=_needs_of)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def pytest_runtest_setup(item: pytest.Item) -> None:
    promise = _promise_of(item)
    if promise is not None:
        _door(item.config).running(promise)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A scenario that raised anything but its verdict is a rig error: nothing was judged."""
    report = yield
    promise = _promise_of(item)
    if promise is not None:
        crash = call.excinfo
        if crash is not None and isinstance(crash.value, Exception) and not isinstance(crash.value, _VERDICTS):
            _door(item.config).crashed(promise, item.name, crash.value)
        if call.when == "teardown":
            _door(item.config).done(promise)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    opened: _Opened | None = session.config.pluginmanager.get_plugin(_OPENED)
    if opened is not None:
        opened.door.close()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    opened: _Opened | None = config.pluginmanager.get_plugin(_OPENED)
    if opened is not None and opened.door.result is not None:
        from harness.reporting import closing_lines, promise_lines

        terminalreporter.section("promises")
        for line in (*promise_lines(opened.door.result), "", *closing_lines(opened.door.result)):
            terminalreporter.write_line(line)
        for warning in opened.door.warnings:
            terminalreporter.write_line(f"warning: {warning}")


class Judge:
    """Judges the history of this scenario, or another one, for the promise this scenario is about."""

    def __init__(self, *, promise: str, door: Door, verification: Verification, history: Callable[[], History]) -> None:
        self._promise = promise
        self._door = door
        self._verification = verification
        self._history = history

    def __call__(self, *checkers: Checker, of: History | None = None) -> Finding:
        """Ends the test as failed unless the verdict is pass. Only pass is green."""
        finding = self._verification.judge(self._promise, checkers, of if of is not None else self._history())
        if finding.verdict.status is not Status.PASS:
            words = f"{finding.verdict.status}: {finding.verdict.measured}"
            reason = self._door.waived(self._promise)
            if reason is not None:
                pytest.xfail(f"waived ({reason}): {words}")
            pytest.fail(words, pytrace=False)
        return finding


@pytest.fixture(scope="session")
def verification(request: pytest.FixtureRequest) -> Verification:
    """The running setup, booted when the first scenario needs it."""
    door = _door(request.config)
    with _usage_errors():
        return door.verification()


@pytest.fixture(scope="session")
def record_once(verification: Verification) -> Callable[[str, Story], History]:
    """Record a story the first time it is asked for; afterwards give back the same history."""
    return verification.record_once


@pytest.fixture
def scene(request: pytest.FixtureRequest, verification: Verification) -> Scene:
    """A cluster in its known good state and visitors of its own, recorded under this test's name."""
    return verification.scene(request.node.name.removeprefix("test_"))


@pytest.fixture
def judge(request: pytest.FixtureRequest, verification: Verification) -> Judge:
    """Judges what happened, for the promise in this test's marker."""
    promise = _promise_of(request.node)
    if promise is None:
        raise pytest.UsageError(f"{request.node.nodeid} needs @pytest.mark.promise(...) to judge anything")

    def history() -> History:
        current: Scene = request.getfixturevalue("scene")
        return current.history

    return Judge(promise=promise, door=_door(request.config), verification=verification, history=history)


def run_scenarios(folder: Path, door: Door, *, collect_only: bool = False) -> int:
    """Run the scenarios of a folder with pytest kept silent; what is said is the door's view. Returns pytest's code.

    `collect_only`: nothing is run, and the door knows what would be judged.
    """
    return int(
        pytest.main(
            [
                str(folder),
                "--rootdir",
                str(folder),
                "--config-file",
                str(folder / "pytest.ini"),
                # Plugins of the machine (Locust's, a framework's) have no say in a verdict.
                "--disable-plugin-autoload",
                "-p",
                "pytest_timeout",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:terminal",
                # What is captured would be the view, which writes to the terminal while scenarios run.
                "--capture=no",
                *(["--collect-only"] if collect_only else []),
            ],
            plugins=[sys.modules[__name__], _Registrar(door)],
        )
    )


class _Opened:
    """The door of this run, as a plugin: pytest swallows Ctrl-C, and whoever opened the door must hear of it."""

    def __init__(self, door: Door) -> None:
        self.door = door

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        if isinstance(excinfo.value, KeyboardInterrupt):
            self.door.interrupted(excinfo.value)


class _Registrar:
    def __init__(self, door: Door) -> None:
        self._door = door

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(_Opened(self._door), _OPENED)


def _door(config: pytest.Config) -> Door:
    """The door of this run; one from pytest's own options when nobody handed one in."""
    opened: _Opened | None = config.pluginmanager.get_plugin(_OPENED)
    if opened is None:
        from harness.door import Door, Wishes

        with _usage_errors():
            wishes = Wishes(
                setup=Path(config.getoption("--setup")) if config.getoption("--setup") else None,
                platform=config.getoption("--platform"),
                owns=config.getoption("--yes-i-own"),
                compose=tuple(Path(file) for file in config.getoption("--compose") or ()),
                scale=tuple(config.getoption("--scale") or ()),
                attach=config.getoption("--attach"),
                instances=config.getoption("--instances"),
                seed=config.getoption("--seed"),
                reports=Path(config.getoption("--report") or "reports"),
                only=tuple(config.getoption("--promise") or ()),
                overrides=tuple(config.getoption("overrides") or ()),
            )
            opened = _Opened(Door.for_wishes(wishes))
        config.pluginmanager.register(opened, _OPENED)
    return opened.door


class _usage_errors:  # noqa: N801  # reads as a statement: with _usage_errors():
    """What the harness raises before anything was judged ends the whole run, with its exit code and one message."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        from harness.errors import BadInput, HarnessError

        if isinstance(problem, HarnessError):
            pytest.exit(str(problem), returncode=2 if isinstance(problem, BadInput) else 4)


def _promise_of(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("promise")
    return str(marker.args[0]) if marker is not None and marker.args else None


def _needs_of(item: pytest.Item) -> frozenset[str]:
    return frozenset(str(need) for marker in item.iter_markers("needs") for need in marker.args)
