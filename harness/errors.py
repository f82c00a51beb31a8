"""Every exception the harness raises on purpose, and what each one means to the caller.

    HarnessError                    ours or the machine's fault: never a verdict about a setup
    ├── BadInput                    the person can mend it: one clear message, exit code 2
    │   ├── SetupError              the setup file is wrong; holds every mistake found in it
    │   └── MissingPrerequisite     a server, a right or disk space is missing on this machine
    ├── NodeError                   a node did not do what it was told (start, stop, die)
    │   └── NodeNeverReady          a node was started and never became ready, or ended
    ├── WaitTimeout                 something awaited did not happen within its bound
    ├── NothingTested               a scenario could not begin (nobody could log in): inconclusive, nobody's failure
    ├── TrafficError                the traffic process failed: nothing it measured can be trusted
    └── JournalError                a journal on disk cannot be read back

Must not: format reports, know about pytest or about any platform.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadInput",
    "HarnessError",
    "JournalError",
    "MissingPrerequisite",
    "NodeError",
    "NodeNeverReady",
    "NothingTested",
    "SetupError",
    "TrafficError",
    "WaitTimeout",
]


class HarnessError(Exception):
    """The harness or the machine failed. Never a statement about the setup that was judged."""


class BadInput(HarnessError):  # noqa: N818 - reads as what happened
    """Something the person who called us can mend. The message says what is wrong, what was seen and what to do."""


class SetupError(BadInput):
    """A setup file that cannot be used: all of its mistakes at once, one line each."""

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(f"{source}: " + ("; ".join(self.mistakes)))


class MissingPrerequisite(BadInput):
    """A server binary, a right or disk space this machine does not have."""

    def __init__(self, message: str, *, command: str = "") -> None:
        super().__init__(message)
        self.command = command
        """What to type to have it; empty where that is more than one command."""


class NodeError(HarnessError):
    """A node did not do what it was told."""


class NodeNeverReady(NodeError, BadInput):  # noqa: N818 - reads as what happened
    """A node was started and ended, or never answered. Also bad input: its command comes from the setup file."""


class WaitTimeout(HarnessError):  # noqa: N818 - reads as what happened
    """Something that was waited for did not happen within its bound."""


class NothingTested(HarnessError):  # noqa: N818 - reads as what happened
    """A scenario could not begin, such as when nobody could log in. Its promises are inconclusive."""


class TrafficError(HarnessError):
    """The traffic process failed or was not to be reached."""


class JournalError(HarnessError):
    """A journal on disk is missing, cut or of a version this harness does not read."""
