"""The setup file: what is declared in it, read, checked and explained; and the environment, read here once.

`load_setup` gives a frozen `Setup` or raises SetupError with every mistake of the file. Texts in it keep their
placeholders: whoever runs a node fills them in with `expand`. Must not: start anything or look at the machine
beyond the files it is given.
"""

from __future__ import annotations

from harness.setup.environment import Environment, read_environment
from harness.setup.models import (
    App,
    Balancer,
    Journey,
    Match,
    Postgres,
    Promises,
    Redis,
    Rollout,
    Sessions,
    Setup,
    Step,
    Take,
    Traffic,
)
from harness.setup.parser import load_setup, parse_override, parse_setup
from harness.setup.placeholders import JOURNEY_PLACEHOLDERS, NODE_PLACEHOLDERS, expand, placeholders_in
from harness.setup.schema import schema_text, setup_schema, write_schema

__all__ = [
    "JOURNEY_PLACEHOLDERS",
    "NODE_PLACEHOLDERS",
    "App",
    "Balancer",
    "Environment",
    "Journey",
    "Match",
    "Postgres",
    "Promises",
    "Redis",
    "Rollout",
    "Sessions",
    "Setup",
    "Step",
    "Take",
    "Traffic",
    "expand",
    "load_setup",
    "parse_override",
    "parse_setup",
    "placeholders_in",
    "read_environment",
    "schema_text",
    "setup_schema",
    "write_schema",
]
