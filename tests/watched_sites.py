"""What tests of watched deploys have in common: how people log in at their sites, and the command with short times."""

from __future__ import annotations

import sys
from pathlib import Path

from scripted_server import ScriptedServer

from harness import cli

FAST = ["--before", "1s", "--after", "1s", "--rate", "50"]
PYTHON = [sys.executable, "-S", "-c"]
LOGIN = """
[[journey.register.steps]]
post = "/register"
form = { email = "{user.email}", password = "{user.password}" }
expect = { status = 200 }
[[journey.login.steps]]
post = "/login"
form = { email = "{user.email}", password = "{user.password}" }
expect = { status = 200 }
[[journey.whoami.steps]]
get = "/me"
recognised = { status = 200, contains = "{user.email}" }
logged_out = { status = 303, location = "/login" }
"""


def url(site: ScriptedServer, path: str = "") -> str:
    host, port = site.address
    return f"http://{host}:{port}{path}"


def watch(tmp_path: Path, *words: str) -> int:
    return cli.main(["watch", *FAST, "--report", str(tmp_path / "reports"), *words])
