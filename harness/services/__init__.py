"""What each node is: its program, configuration and readiness. A service describes a node; a platform runs it.

Must not: start a process that outlives the call, or judge anything.
"""

from __future__ import annotations

from harness.services._asking import Manner, answers_well, identity_of, manner_of
from harness.services._balancing import CLIENT_HEADER, Drained, Secure
from harness.services.app import (
    REPLICATED,
    instance_container,
    instance_spec,
    migration_container,
    migration_spec,
    replicated_app,
)
from harness.services.haproxy import HaproxyService
from harness.services.nginx import NginxService
from harness.services.postgres import PostgresContainer, PostgresService
from harness.services.redis import RedisContainer, RedisService

__all__ = [
    "CLIENT_HEADER",
    "REPLICATED",
    "Drained",
    "HaproxyService",
    "Manner",
    "NginxService",
    "PostgresContainer",
    "PostgresService",
    "RedisContainer",
    "RedisService",
    "Secure",
    "answers_well",
    "identity_of",
    "instance_container",
    "instance_spec",
    "manner_of",
    "migration_container",
    "migration_spec",
    "replicated_app",
]
