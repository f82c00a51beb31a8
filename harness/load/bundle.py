"""One file that is the whole load: the Locust file, the plan, and what they need of the harness.

Locust sends a file of its own accord from the master to workers that ask for it (`-f -`), so that a worker needs
nothing but Locust: in a container of the official image, in a service of Swarm, on another machine. It holds the passwords of
people who are given, and is gone with the run. Must not: carry another secret, or a module that needs a package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness import assets
from harness.load.people import Plan
from harness.load.plans import plan_text

__all__ = ["bundle", "carried"]

_WHOLE = (
    "harness.clock",
    "harness.errors",
    "harness.load.people",
    "harness.load.seconds",
    "harness.traffic.cookies",
    "harness.traffic.people",
)
_PACKAGES = ("harness.journeys", "harness.model")
_EMPTY = ("harness", "harness.load", "harness.traffic")
"""Packages of which only some modules are carried: their own first words would ask for the rest."""
_LOCUSTFILE = "scenarios/load/locustfile.py"

_LOADER = '''"""Made by `harness load`: scenarios/load/locustfile.py with what it needs of the harness, in one file."""

import importlib.abc
import importlib.util
import json
import sys

SOURCES = json.loads({sources!r})


class Carried(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules in this file. Before all others: an installed harness may be another version."""

    def find_spec(self, name, path=None, target=None):
        if name not in SOURCES:
            return None
        is_package = any(other.startswith(name + ".") for other in SOURCES)
        return importlib.util.spec_from_loader(name, self, origin=name, is_package=is_package)

    def exec_module(self, module):
        name = module.__spec__.name
        exec(compile(SOURCES[name], "<" + name + ">", "exec", dont_inherit=True), module.__dict__)


sys.meta_path.insert(0, Carried())

from carried_locustfile import Person  # noqa: E402, F401
'''


def carried(plan: Plan) -> Mapping[str, str]:
    """Every module that is carried, by name."""
    folder = Path(__file__).resolve().parents[2]
    sources = dict.fromkeys(_EMPTY, "")
    for name in _WHOLE:
        sources[name] = (folder / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    for name in _PACKAGES:
        for path in sorted((folder / name.replace(".", "/")).glob("*.py")):
            module = name if path.name == "__init__.py" else f"{name}.{path.stem}"
            sources[module] = path.read_text(encoding="utf-8")
    sources["harness.load.bundled"] = f"PLAN = {plan_text(plan, whole=True)!r}\n"
    sources["carried_locustfile"] = assets.path(_LOCUSTFILE).read_text(encoding="utf-8")
    return sources


def bundle(plan: Plan) -> str:
    """The file, as Python."""
    return _LOADER.format(sources=json.dumps(carried(plan)))
