"""Where the harness keeps what outlives or crosses runs: records and port leases, and its cache.

Must not: hold results (the person says where these go) or anything of one run.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from harness.errors import BadInput

__all__ = ["cache_dir", "private_folder", "runtime_dir"]

_SHARED = Path("/tmp")  # noqa: S108 - the folder inside it is private, and refused when it is not ours


def runtime_dir() -> Path:
    """The folder of this user for records of living runs and leases of ports; made when needed.

    The same whatever TMPDIR or XDG_RUNTIME_DIR say: two runs that do not find each other's leases could take the
    same port, and `harness clean` could miss what a run in another terminal left.

    Raises:
        BadInput: it belongs to somebody else, or cannot be made.
    """
    shared = _SHARED if os.access(_SHARED, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return private_folder(shared / f"harness-{os.geteuid()}")


def cache_dir(wanted: Path | None) -> Path:
    """The folder for what may be kept between runs, made when needed: the one that is wanted, if it can be written.

    Else, as is common for users of services, a folder in `runtime_dir()`. Raises BadInput as that does.
    """
    if wanted is not None:
        with suppress(OSError):
            wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(wanted, os.W_OK | os.X_OK):
                return wanted
    return private_folder(runtime_dir() / "cache")


def private_folder(path: Path) -> Path:
    """Make sure that this folder is there and that only we can look into it.

    Raises:
        BadInput: it belongs to somebody else, is no folder, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        seen = path.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
            raise BadInput(
                f"{path} should be a folder of uid {os.geteuid()} (it belongs to uid {seen.st_uid}): remove it"
            )
        if stat.S_IMODE(seen.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as problem:
        raise BadInput(f"{path} cannot be used ({problem.strerror}): make it writable, or remove it") from problem
    return path
