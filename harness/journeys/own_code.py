"""Python of a person's own, for what steps cannot say: a code of a second factor, a signed request.

A function is named by its file, `totp.py:code`. The file is read once in each process, and runs with the rights of whoever runs
the harness. Must not: let anything it raises out but as OwnCodeError, or run it before somebody asks.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

__all__ = ["Answered", "OwnCodeError", "call", "carry", "function_of", "source_of"]

_modules: dict[str, ModuleType] = {}
_carried: dict[str, str] = {}
"""Sources by path, where the files themselves are not."""


class OwnCodeError(Exception):
    """It cannot be used; in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a function is given: one answer, and what is known of the person it was for."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    text: str
    """The body."""
    cookies: Mapping[str, str] = field(default_factory=dict)
    """Those the person holds now, this answer's among them."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Everything a step may use, by name: `user.email`, `user.password`, and what was taken so far."""


def carry(sources: Mapping[str, str]) -> None:
    """Know these files by what is in them: they are somewhere else."""
    _carried.update(sources)


def source_of(key: str) -> tuple[str, str]:
    """The path of a function's file, and what is in it. Raises OwnCodeError."""
    path, _, _ = key.rpartition(":")
    if path in _carried:
        return path, _carried[path]
    try:
        return path, Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise OwnCodeError(f"there is no file {path}: it is looked for in the folder of the setup file") from None
    except (OSError, ValueError) as problem:
        raise OwnCodeError(f"{path} cannot be read: {problem}") from None


def function_of(key: str) -> Callable[[Answered], object]:
    """The function, its file run when it is asked for the first time. Raises OwnCodeError."""
    path, source = source_of(key) if key.rpartition(":")[0] not in _modules else (key.rpartition(":")[0], "")
    name = key.rpartition(":")[2]
    module = _modules.get(path)
    if module is None:
        module = _modules[path] = _run(path, source)
    function: Callable[[Answered], object] | None = getattr(module, name, None)
    if not callable(function):
        raise OwnCodeError(f"{path} has no function {name}")
    return function


def _run(path: str, source: str) -> ModuleType:
    module = ModuleType(f"harness_own_code_{len(_modules)}")
    module.__file__ = path
    # So that the line of a mistake is shown, also where the file itself is not.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    # Its dataclasses, and whatever else looks for the module a class is in.
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(Path(path).parent))
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - it is what was asked for
    except (Exception, SystemExit) as problem:
        raise OwnCodeError(f"{path} cannot be run: {_last_line(problem, path)}") from problem
    finally:
        sys.path.remove(str(Path(path).parent))
    return module


def call(key: str, answered: Answered) -> str | None:
    """What a function makes of an answer; None where it finds nothing. Raises OwnCodeError."""
    function = function_of(key)
    path, _, name = key.rpartition(":")
    try:
        value = function(answered)
    except (Exception, SystemExit) as problem:
        raise OwnCodeError(f"{name} raised {_last_line(problem, path)}") from problem
    if value is not None and not isinstance(value, str):
        raise OwnCodeError(f"{name} returned {value!r:.80}: it must return text, or None where there is nothing")
    return value


def _last_line(problem: BaseException, path: str) -> str:
    """What a traceback ends with, and where in the file it was."""
    line = getattr(problem, "lineno", None) if isinstance(problem, SyntaxError) else None
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    words = " ".join(str(problem).split())
    said = f"{type(problem).__name__}: {words}" if words else type(problem).__name__
    return said if line is None else f"{said} (line {line})"
