"""Where the harness keeps what outlives or crosses runs: records and port leases, and its cache.

Must not: hold results (the person says where these go) or anything of one run.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
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


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of this user for what may be kept between runs; made when needed.

    HARNESS_CACHE, else the user's cache folder (XDG_CACHE_HOME, ~/.cache), else, where that cannot be written, a
    folder in `runtime_dir()`.
    """
    variables = os.environ if environ is None else environ
    own, shared = variables.get("HARNESS_CACHE", ""), variables.get("XDG_CACHE_HOME", "")
    try:
        # The XDG specification: a relative path is to be ignored.
        base = Path(shared) if Path(shared).is_absolute() else Path("~/.cache").expanduser()
        cache = Path(own).expanduser().absolute() if own else base / "harness"
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(cache, os.W_OK | os.X_OK):
            return cache
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written: common for service users
        pass
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
