"""From a setup file on disk to a `Setup`, or to all of its mistakes at once.

Must not: look at anything but the file: whether a program or a folder exists is asked by whoever runs it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import BadInput, SetupError
from harness.setup.messages import Key, Mistake, cut, has_inside, inside, key_path, mistake_from, nearest, seen
from harness.setup.models import Setup
from harness.setup.rules import mistakes_between

__all__ = ["checked_as", "load_setup", "parse_override", "parse_setup", "toml_of"]

_Model = TypeVar("_Model", bound=BaseModel)

_QUOTED = r"'([^']*)'"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 ._-]+")
_KEY_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
_DOTTED_KEY = re.compile(rf"{_KEY_PART}(?:\.{_KEY_PART})*")
_OVERRIDE = re.compile(rf"\s*({_DOTTED_KEY.pattern})\s*=\s*(.*)", re.DOTALL)
# Taking wrong values out leaves right ones: a second round is not expected, an endless one must not be possible.
_ROUNDS_AT_MOST = 10


def load_setup(
    path: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    known_promises: Collection[str] | None = None,
) -> Setup:
    """The setup declared in a TOML file.

    Args:
        path: the file.
        overrides: values to put over those of the file, by dotted key: `{"app.instances": 4}`. None as a value
            takes the key out. Places in lists are numbers from 0: `journey.login.steps.0.get`.
        known_promises: ids of all promises, to hold `promises.waived` against; None to let any id pass.

    Raises:
        SetupError: every mistake found, each with its key, what was seen and what to do.
    """
    data = toml_of(path)
    mistakes = _put_over(data, overrides or {})
    data.setdefault("name", _name_from(path))
    setup = _checked(data, source=str(path), known_promises=known_promises, mistakes=mistakes)
    setup._file = path.absolute()
    return setup


def parse_setup(
    data: Mapping[str, object],
    *,
    source: str,
    overrides: Mapping[str, object] | None = None,
    known_promises: Collection[str] | None = None,
) -> Setup:
    """The setup declared in data as `tomllib` gives it. `source` names it in messages. Raises SetupError.

    Paths in it are relative to the working directory.
    """
    own = deepcopy(dict(data))
    mistakes = _put_over(own, overrides or {})
    return _checked(own, source=source, known_promises=known_promises, mistakes=mistakes)


def parse_override(text: str) -> tuple[str, object]:
    """Take `app.instances=4` apart into a dotted key and a value in the syntax of TOML.

    What is no TOML value is text as it stands, so that `app.stop_signal=SIGINT` needs no quotes.
    Raises BadInput for what has no key or a list or text that never ends.
    """
    match = _OVERRIDE.fullmatch(text)
    if match is None or _parts_of(match[1]) is None:
        raise BadInput(f"a value is set by key=value (got {seen(text)}): write --set app.instances=4")
    key, written = match.groups()
    try:
        parsed = tomllib.loads(f"value = {written}")
    except tomllib.TOMLDecodeError as error:
        if written.lstrip()[:1] in ("[", '"', "'"):
            raise BadInput(f"the value of {key} is not complete (got {written}): {_problem(error)}") from None
        return key, written
    if set(parsed) != {"value"}:  # several lines, of which only the first is the value
        return key, written
    return key, parsed["value"]


# -- reading --------------------------------------------------------------------------------------------------------


def toml_of(path: Path, *, kind: str = "setup file", example: str = "harness.toml") -> dict[str, object]:
    """What a TOML file says. `kind` is what messages call it, `example` a name for one. Raises SetupError."""
    source = str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SetupError(source, [f"there is no such file{_meant(path, example)}"]) from None
    except IsADirectoryError:
        raise SetupError(source, [f"is a folder, not a {kind}{_inside(path, example)}"]) from None
    except NotADirectoryError:
        raise SetupError(source, ["there is no such file: a part of its path is a file, not a folder"]) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SetupError(source, [f"cannot be read ({reason}): check the path and its permissions"]) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        byte = f"0x{raw[error.start]:02x}"
        raise SetupError(
            source, [f"line {line} is not UTF-8 text (got the byte {byte}): save the file as UTF-8"]
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(source, [_syntax_mistake(error, text)]) from None
    except RecursionError:
        raise SetupError(
            source, [f"is nested too deeply to be read: a {kind} needs no more than a few levels"]
        ) from None


def _meant(path: Path, example: str) -> str:
    """A hint at the file that was meant: one of a similar name, else any setup nearby."""
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder} either"
    files = sorted(each.name for each in folder.glob("*.toml"))
    near = nearest(path.name, files)
    if near is not None:
        return f": did you mean {folder / near}?"
    return _listing(folder, files, example)


def _inside(path: Path, example: str) -> str:
    return _listing(path, sorted(each.name for each in path.glob("*.toml")), example)


def _listing(folder: Path, files: list[str], example: str) -> str:
    if not files:
        return f": name a TOML file, such as {example}"
    return f": name one of {', '.join(str(folder / name) for name in files[:5])}"


def _syntax_mistake(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Line, column and the line itself, from what the TOML reader says."""
    lines = text.splitlines() or [""]
    place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    # Without a place it is the end of the document.
    line, column = (int(place[1]), int(place[2])) if place is not None else (len(lines), len(lines[-1]) + 1)
    written = lines[line - 1].strip() if line <= len(lines) else ""
    problem = _problem(error)
    remedy = next((remedy for sign, remedy in _SYNTAX_REMEDIES if sign in problem), "see https://toml.io")
    if place is None and "invalid value" in problem:
        remedy = "the file ends here, complete the value"
    return f"line {line}, column {column}: {problem} (got {cut(written) or 'the end of the file'}): {remedy}"


# By what the TOML reader says, in the order in which they are tried.
_SYNTAX_REMEDIES = (
    ("'\\'", "use single quotes, in which a backslash stands for itself"),
    ("'=' after a key", "write key = value"),
    ("cannot overwrite", "this key is there already, keep one"),
    ("cannot declare", "this table is there already, put its keys together"),
    ("cannot mutate", "this table is there already, put its keys together"),
    ("duplicate", "this key is there already, keep one"),
    ("invalid value", 'text needs quotes, such as key = "text"'),
    ("string", "close the quotes on the same line"),
    ("illegal character", "close the quotes on the same line"),
    ("array", "close the list with ]"),
    ("inline table", "close the table with }, on the same line"),
)


def _problem(error: tomllib.TOMLDecodeError) -> str:
    words = re.sub(r"\s*\(at (?:line \d+, column \d+|end of document)\)", "", str(error))
    # Names come as Python writes a tuple of them: ('app', 'env').
    words = re.sub(r"\((?:'[^']*'(?:, |,)?)+\)", _as_heading, words)
    return words[:1].lower() + words[1:]


def _as_heading(names: re.Match[str]) -> str:
    return f"[{'.'.join(re.findall(_QUOTED, names[0]))}]"


def _name_from(path: Path) -> str:
    """What a setup is called that does not say: its file, or the folder of a plain harness.toml."""
    stem = path.absolute().parent.name if path.stem == "harness" else path.stem
    return _NOT_IN_NAMES.sub("-", stem).lstrip(" ._-")[:60] or "setup"


# -- overrides ------------------------------------------------------------------------------------------------------


def _put_over(data: dict[str, object], overrides: Mapping[str, object]) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for dotted, value in overrides.items():
        key = _parts_of(dotted)
        if key is None:
            mistakes.append(Mistake((), f"{seen(dotted)} is no key: write names with dots between, as app.instances"))
            continue
        problem = _put(data, key, deepcopy(value))
        if problem is not None:
            mistakes.append(problem)
    return mistakes


def _parts_of(dotted: str) -> list[str] | None:
    """The names of a dotted key, by TOML's own rules for quotes; None when it is none."""
    if _DOTTED_KEY.fullmatch(dotted) is None:
        return None
    try:
        table: object = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:  # such as an escape in quotes that TOML does not have
        return None
    parts: list[str] = []
    while isinstance(table, dict):
        ((name, table),) = table.items()
        parts.append(name)
    return parts


def _put(data: dict[str, object], names: list[str], value: object) -> Mistake | None:
    """Set one value, making the tables on its way; None as a value takes it out."""
    table: object = data
    key: list[str | int] = []
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if isinstance(table, MutableMapping):
            key.append(name)
            if last and value is None:
                table.pop(name, None)
            elif last:
                table[name] = value
            else:
                table = table.setdefault(name, {})
        elif isinstance(table, list):
            if not (name.isdecimal() and int(name) < len(table)):
                return Mistake(tuple(key), f"has no place {seen(name)}: it has {len(table)}, counted from 0")
            key.append(int(name))
            if last and value is None:
                del table[int(name)]
            elif last:
                table[int(name)] = value
            else:
                table = table[int(name)]
        else:
            whole = key_path((*key, *names[place:]))
            return Mistake((), f"{whole} cannot be set: {key_path(tuple(key))} is no table (got {seen(table)})")
    return None


# -- checking -------------------------------------------------------------------------------------------------------


def _checked(
    data: dict[str, object], *, source: str, known_promises: Collection[str] | None, mistakes: list[Mistake]
) -> Setup:
    """The setup, when neither its values nor what they are to each other is wrong."""
    return checked_as(
        Setup,
        data,
        source=source,
        between=lambda setup: mistakes_between(setup, known_promises=known_promises),
        mistakes=mistakes,
    )


def checked_as(
    model: type[_Model],
    data: dict[str, object],
    *,
    source: str,
    between: Callable[[_Model], Iterable[Mistake]],
    mistakes: list[Mistake],
) -> _Model:
    """What `data` declares as this model; what is wrong in it is taken out of `data` on the way.

    `between` finds the mistakes in how values go together. Raises SetupError with every mistake, those given included.
    """
    whole = deepcopy(data)
    found: _Model | None = None
    taken_out: set[Key] = set()
    for _ in range(_ROUNDS_AT_MOST):
        try:
            found = model.model_validate(data)
            break
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False):
                mistake = mistake_from(error, data=whole, model=model)
                if mistake.key in taken_out:
                    continue  # it is only missing because it was wrong
                # What is left after wrong values were taken out can still be held against each other.
                removed = _take_out(data, mistake.key)
                taken_out.add(mistake.key)
                mistakes.append(replace(mistake, about=(*mistake.about, removed)))
    if found is not None:
        mistakes += [mistake for mistake in between(found) if not _is_shadow(mistake, mistakes)]
    if mistakes:
        raise SetupError(source, list(dict.fromkeys(str(mistake) for mistake in mistakes)))
    assert found is not None, "without mistakes there is something"
    return found


def _take_out(data: object, key: Key) -> Key:
    """Remove one value and say what was removed: of lists the whole, but a step leaves an empty step behind, so that
    no place moves."""
    *above, last = key
    holder = data
    for part in above:
        if not has_inside(holder, part):
            return key
        holder = inside(holder, part)
    if isinstance(holder, MutableMapping):
        holder.pop(last, None)
    elif isinstance(holder, list) and isinstance(last, int):
        if above[-1:] != ["steps"]:
            return _take_out(data, tuple(above))
        if last < len(holder):
            holder[last] = {}
    return key


def _is_shadow(mistake: Mistake, others: Sequence[Mistake]) -> bool:
    """Whether a mistake is only there because a value it speaks of is mistaken itself and was taken out."""
    wrong = [key for other in others for key in (other.key, *other.about) if key]
    return any(
        _is_in(mistake.key, key) or any(_is_in(about, key) or _is_in(key, about) for about in mistake.about)
        for key in wrong
    )


def _is_in(key: Key, table: Key) -> bool:
    return key[: len(table)] == table
