"""The pen of the traffic process: operations become lines, and lines reach the disk in batches, off the hot path.

Lines are put together by hand from parts that are rendered once, since `json.dumps` of a whole record would cost as
much as the request itself. `read_history` reads them back; a test holds the two together. Must not: decide what an
operation meant.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.errors import JournalError
from harness.journeys import Judgement
from harness.model import Connection, Outcome
from harness.traffic.journal import PRIVATE, write_whole

__all__ = ["Recorder", "op_head", "op_tail", "quoted"]

# A batch is written when it is this large, or when its owner's clock says so.
_BATCH_BYTES = 65_536


def quoted(text: str) -> str:
    return json.dumps(text)


def op_head(
    *,
    scenario: str,
    stream: str,
    kind: str,
    step: int,
    method: str,
    path: str | None,
    via: str,
    connection: Connection,
) -> str:
    """The part of a line that all operations of one step of one stream share. The path only if it is always the same."""
    head = (
        f'{{"t":"op","scenario":{quoted(scenario)},"stream":{quoted(stream)},"kind":{quoted(kind)},"step":{step},'
        f'"method":{quoted(method)},"via":{quoted(via)},"connection":"{connection}",'
    )
    return head if path is None else f'{head}"path":{quoted(path)},'


def op_tail(
    judgement: Judgement,
    final: bool,
    instance: str | None,
    attempts: tuple[str, ...],
    status: int | None,
    version: str | None,
    named: str | None,
) -> str:
    """The part of a line that follows from what the answer was, with the end of the line."""
    tail = (
        f'"final":{"true" if final else "false"},"instance":{quoted_or_null(instance)},'
        f'"attempts":{json.dumps(attempts)},"status":{"null" if status is None else status},'
        f'"version":{quoted_or_null(version)},"outcome":"{judgement.outcome}","answer":"{judgement.answer}"'
    )
    if named is not None:
        tail += f',"named":{quoted(named)}'
    if judgement.outcome is not Outcome.OK:
        tail += f',"error":{quoted_or_null(judgement.error)},"detail":{quoted(judgement.detail)}'
    return tail + "}\n"


def quoted_or_null(text: str | None) -> str:
    return "null" if text is None else json.dumps(text)


class Recorder:
    """Appends whole lines to the journal. Raises JournalError when the disk takes no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._size = 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be opened: {error.strerror}") from error

    def write(self, line: str) -> None:
        """Keep one line, with its end, for the next batch."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand all lines to the system."""
        if self._lines:
            batch = "".join(self._lines).encode()
            self._lines.clear()
            self._size = 0
            write_whole(self._file, batch, self._path)

    def close(self) -> None:
        self.flush()
        os.close(self._file)
