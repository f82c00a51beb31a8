"""What each node is: its program, configuration and readiness. A service describes a node; a platform runs it.

Must not: start a process that outlives the call, or judge anything.
"""

from __future__ import annotations

from harness.services.app import instance_spec
from harness.services.nginx import Drained, NginxService
from harness.services.postgres import PostgresService
from harness.services.redis import RedisService

__all__ = ["Drained", "NginxService", "PostgresService", "RedisService", "instance_spec"]
