"""The setup file: what is declared in it, read, checked and explained; checklists in the same way; and the environment,
read here once.

`load_setup` gives a frozen `Setup` or raises SetupError with every mistake of the file. Texts in it keep their
placeholders: whoever runs a node fills them in with `expand`. Must not: start anything or look at the machine
beyond the files it is given.
"""

from __future__ import annotations

from harness.setup.checklists import (
    Checklist,
    Item,
    SignOff,
    SignOffs,
    load_checklist,
    load_sign_offs,
    parse_checklist,
    parse_sign_offs,
    sign_offs_text,
)
from harness.setup.environment import Environment, read_environment
from harness.setup.given import know_people
from harness.setup.hidden import secrets_in, secrets_of_variables
from harness.setup.models import (
    HOOKS,
    JOURNEYS,
    App,
    Balancer,
    Compose,
    Identity,
    Images,
    Jobs,
    Journey,
    Match,
    Postgres,
    Promises,
    RateLimit,
    Redis,
    Remote,
    RemoteInstance,
    Rollout,
    Sessions,
    Setup,
    Step,
    Swarm,
    Take,
    Tls,
    Traffic,
    User,
    Users,
    WebSocket,
)
from harness.setup.parser import load_setup, parse_override, parse_setup
from harness.setup.placeholders import JOURNEY_PLACEHOLDERS, NODE_PLACEHOLDERS, expand, placeholders_in
from harness.setup.schema import schema_text, setup_schema, write_schema

__all__ = [
    "HOOKS",
    "JOURNEYS",
    "JOURNEY_PLACEHOLDERS",
    "NODE_PLACEHOLDERS",
    "App",
    "Balancer",
    "Checklist",
    "Compose",
    "Environment",
    "Identity",
    "Images",
    "Item",
    "Jobs",
    "Journey",
    "Match",
    "Postgres",
    "Promises",
    "RateLimit",
    "Redis",
    "Remote",
    "RemoteInstance",
    "Rollout",
    "Sessions",
    "Setup",
    "SignOff",
    "SignOffs",
    "Step",
    "Swarm",
    "Take",
    "Tls",
    "Traffic",
    "User",
    "Users",
    "WebSocket",
    "expand",
    "know_people",
    "load_checklist",
    "load_setup",
    "load_sign_offs",
    "parse_checklist",
    "parse_override",
    "parse_setup",
    "parse_sign_offs",
    "placeholders_in",
    "read_environment",
    "schema_text",
    "secrets_in",
    "secrets_of_variables",
    "setup_schema",
    "sign_offs_text",
    "write_schema",
]
