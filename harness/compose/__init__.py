"""A person's own compose project: what its file says, and which of its services is what.

Must not: start anything, change a file of the project, or guess where two services fit one role.
"""

from __future__ import annotations

from harness.compose.haproxy import read_haproxy
from harness.compose.nginx import read_nginx
from harness.compose.override import override_for
from harness.compose.project import Mount, Network, Project, Published, Service, parse_project
from harness.compose.roles import Place, Roles, find_roles
from harness.compose.tool import Tool, find_tool

__all__ = [
    "Mount",
    "Network",
    "Place",
    "Project",
    "Published",
    "Roles",
    "Service",
    "Tool",
    "find_roles",
    "find_tool",
    "override_for",
    "parse_project",
    "read_haproxy",
    "read_nginx",
]
