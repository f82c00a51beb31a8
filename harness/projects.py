"""What kind of project a folder holds, by the files its framework has: Django, Flask, FastAPI, Node, Go, a Procfile; and so how one
instance of it is likely to be started, and which variables it reads.

A guess from a few small files, for a person to look at. Must not: run or import anything of the project.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Project", "project_in", "variables_read"]

_MOST_BYTES = 1 << 18
_REQUIREMENTS = ("requirements.txt", "pyproject.toml", "Pipfile", "setup.py", "setup.cfg")
_MODULES = ("wsgi.py", "asgi.py", "app.py", "main.py", "application.py", "server.py")
_SCRIPTS = ("server.js", "app.js", "index.js", "main.js")
_FLASK = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:flask\.)?Flask\(", re.MULTILINE)
_FASTAPI = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?(?:FastAPI|Starlette)\(", re.MULTILINE)
_FLASK_FACTORY = re.compile(r"^def (create_app|make_app)\(", re.MULTILINE)
_WEB = re.compile(r"^web:[ \t]*(\S.*)$", re.MULTILINE)
_GO_MODULE = re.compile(r"^module[ \t]+(\S+)", re.MULTILINE)
_SOURCES = (".py", ".js", ".cjs", ".mjs", ".ts", ".go", ".rb", ".php", ".ex", ".exs")
_NOT_ITS_OWN = ("node_modules", "vendor", "venv", "env", "tests", "test", "dist", "build", "__pycache__")
_MOST_FILES = 300
_READS = re.compile(
    r"""(?:os\.environ\s*\[|os\.environ\.get\(|os\.getenv\(|os\.Getenv\(|os\.LookupEnv\(|process\.env\[|\bENV\[|\bENV\.fetch\("""
    r"""|System\.get_env\(|System\.fetch_env!\(|\bgetenv\(|\benv\()\s*["']([A-Z][A-Z0-9_]{1,60})["']"""
    r"""|["']([A-Z][A-Z0-9_]{1,60})["']\s+in\s+os\.environ\b|\bprocess\.env\.([A-Z][A-Z0-9_]{1,60})\b"""
)
_PORT = re.compile(r"\$\{?PORT\b(?::-\d+)?\}?")


@dataclass(frozen=True, kw_only=True)
class Project:
    """What was recognised."""

    told: str
    """By what, in a few words."""
    command: tuple[str, ...]
    """Of one instance, with placeholders of a setup file."""
    doubt: str
    """What to look at."""
    sessions: str = ""
    """Where its framework keeps sessions by default, as `sessions.store` calls it; empty where it has no default."""
    why_sessions: str = ""
    migrate: str = ""
    """What brings an empty database up to date, as a person types it."""


def project_in(folder: Path) -> Project | None:
    """The project in this folder. None: nothing known is there."""
    kinds: tuple[Callable[[Path], Project | None], ...] = (_django, _procfile, _python, _node, _go)
    return next((found for kind in kinds if (found := kind(folder)) is not None), None)


def variables_read(folder: Path) -> tuple[str, ...]:
    """The variables of the environment that the sources in a folder read, in the order in which they are met."""
    found: dict[str, None] = {}
    for file in _sources(folder):
        for names in _READS.findall(_text(file)):
            found |= dict.fromkeys(name for name in names if name)
    return tuple(found)


def _sources(folder: Path) -> Iterator[Path]:
    count = 0
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_ITS_OWN)
        for name in sorted(files):
            if name.endswith(_SOURCES):
                yield Path(at) / name
                count += 1
                if count == _MOST_FILES:
                    return


def _text(file: Path) -> str:
    """The first of a file; nothing where there is none."""
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _programs(folder: Path) -> str:
    """Where the programs of the project's own environment are, as a command begins with it."""
    return next((f"{name}/bin/" for name in (".venv", "venv", "env") if (folder / name / "bin").is_dir()), "")


def _django(folder: Path) -> Project | None:
    if "DJANGO_SETTINGS_MODULE" not in _text(folder / "manage.py"):
        return None
    package = next((file.parent.name for file in sorted(folder.glob("*/wsgi.py"))), "mysite")
    programs = _programs(folder)
    return Project(
        told=f"manage.py: Django, {package}.wsgi",
        command=(f"{programs}gunicorn", "--bind", "{host}:{port}", f"{package}.wsgi"),
        doubt="how you start it; ALLOWED_HOSTS must have 127.0.0.1, and settings be read from the environment",
        sessions="postgres",
        why_sessions="Django's default, where its database is Postgres",
        migrate=f"{programs}python manage.py migrate",
    )


def _procfile(folder: Path) -> Project | None:
    """Of those that put their platform's words into a file; what needs a shell is left to its author."""
    web = _WEB.search(_text(folder / "Procfile"))
    if web is None:
        return None
    line = web[1].strip()
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    if re.search(r"[;&|<>`]|\$\(", line) or re.match(r"\w+=", line):
        return None
    command = tuple(_PORT.sub("{port}", re.sub(r"[{}]", "", word) if "$" not in word else word) for word in words)
    if any("$" in word for word in command):
        return None
    return Project(
        told="Procfile: web",
        command=command,
        doubt="listens on loopback, such as --bind {host}:{port}",
    )


def _python(folder: Path) -> Project | None:
    if not any((folder / name).is_file() for name in _REQUIREMENTS):
        return None
    programs = _programs(folder)
    for file in _python_files(folder):
        text = _text(file)
        name = _module(folder, file)
        if found := _FASTAPI.search(text):
            return Project(
                told=f"{file.relative_to(folder)}: {found[1]}, an ASGI application",
                command=(f"{programs}uvicorn", f"{name}:{found[1]}", "--host", "{host}", "--port", "{port}"),
                doubt="how you start it",
            )
        factory = _FLASK_FACTORY.search(text) if "flask" in text.lower() else None
        made = _FLASK.search(text)
        if made or factory:
            target = f"{name}:{made[1]}" if made else f"{name}:{factory[1]}()" if factory else ""
            return Project(
                told=f"{file.relative_to(folder)}: Flask",
                command=(f"{programs}gunicorn", "--bind", "{host}:{port}", target),
                doubt="how you start it",
                sessions="other",
                why_sessions="Flask's default: the whole session is in its cookie",
            )
    return None


def _python_files(folder: Path) -> Iterator[Path]:
    for name in _MODULES:
        yield from (file for file in (folder / name, folder / "src" / name) if file.is_file())
    yield from sorted(folder.glob("*/__init__.py"))[:20]


def _module(folder: Path, file: Path) -> str:
    return (
        file.parent.name
        if file.name == "__init__.py"
        else file.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
    )


def _node(folder: Path) -> Project | None:
    try:
        package = json.loads(_text(folder / "package.json"))
        scripts, main = package.get("scripts", {}), package.get("main", "")
        start = str(scripts.get("start", ""))
        needs = dict(package.get("dependencies", {}))
    except (ValueError, AttributeError, TypeError):
        return None
    words = start.split()
    if len(words) >= 2 and words[0] == "node" and not re.search(r"[;&|<>`$\"'{}]", start):
        command = tuple(words)
    else:
        script = next(
            (name for name in (str(main), *_SCRIPTS) if name.endswith(".js") and (folder / name).is_file()), ""
        )
        command = ("node", script) if script else ("npm", "start")
    in_memory = "express-session" in needs and not any(name.startswith(("connect-", "@quixo3")) for name in needs)
    return Project(
        told=f"package.json: Node{', Express' if 'express' in needs else ''}",
        command=command,
        # npm is a parent that hands signals on late or never: the harness stops what it started.
        doubt="how you start it, best without npm in between; it must listen on PORT",
        sessions="memory" if in_memory else "",
        why_sessions="express-session's default: in the memory of each process",
    )


def _go(folder: Path) -> Project | None:
    module = _GO_MODULE.search(_text(folder / "go.mod"))
    if module is None:
        return None
    name = re.sub(r"/v\d+$", "", module[1]).rpartition("/")[2]
    return Project(
        told=f"go.mod: {module[1]}",
        command=(f"./{name}",),
        doubt=f"what `go build -o {name} .` makes; it must listen on {{host}}:{{port}}",
    )
