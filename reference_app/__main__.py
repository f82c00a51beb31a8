"""The command: `python -m reference_app`, settings from the environment; `--switches` lists the known faults.

Exit code 0 after a stop that cut nothing, 1 if it cut something, 2 for wrong settings, 3 when it could not start.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from reference_app.errors import SettingsError
from reference_app.settings import Settings


def main(arguments: list[str], environ: dict[str, str]) -> int:
    if arguments == ["--switches"]:
        from reference_app import known_bad

        sys.stdout.write(known_bad.describe())
        return 0
    if arguments:
        sys.stderr.write("usage: python -m reference_app [--switches]; settings come from the environment\n")
        return 2
    try:
        settings = Settings.from_environ(environ)
        # Here, and only now: loading the application takes a few hundred milliseconds.
        from reference_app import server

        parts = server.Parts(settings)
        if settings.known_bad:
            from reference_app import known_bad

            parts = known_bad.spoil(parts)
    except SettingsError as error:
        sys.stderr.write(f"reference_app: {error}\n")
        return 2
    return server.run(parts)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # until it serves there is nothing to finish
    # Names are looked up by threads, of which uvloop has four. Without a network each lookup hangs for seconds; when it is
    # back, those that go through at once must not wait for them.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "32")
    # A quarter of the time to load goes into looking for garbage among what is loaded. On again once it serves.
    gc.disable()
    raise SystemExit(main(sys.argv[1:], dict(os.environ)))
