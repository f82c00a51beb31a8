"""Files that appear whole or not at all. Must not: know what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from harness.errors import MissingPrerequisite

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(
    target: Path, *, remedy: str = "make room there, or choose another folder with --report"
) -> Iterator[IO[bytes]]:
    """A file that takes its place when all of it has been written: a reader never sees half of it.

    `remedy`: what a person can do where it cannot be written.

    Raises:
        MissingPrerequisite: it cannot be written, such as for want of disk space.
    """
    begun: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(prefix=f".{target.name}.", dir=target.parent, delete=False) as file:
            begun = Path(file.name)
            os.fchmod(file.fileno(), 0o644)
            yield file
        begun.replace(target)
    except OSError as problem:
        why = problem.strerror or type(problem).__name__
        raise MissingPrerequisite(f"{target} cannot be written ({why}): {remedy}") from problem
    finally:
        if begun is not None:
            begun.unlink(missing_ok=True)


def write_text(
    target: Path, text: str, *, remedy: str = "make room there, or choose another folder with --report"
) -> None:
    """Replace the file by this text in UTF-8. Raises MissingPrerequisite as `replacing` does."""
    with replacing(target, remedy=remedy) as file:
        file.write(text.encode("utf-8", "replace"))
