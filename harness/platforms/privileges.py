"""How a program that refuses to run as root is run when the harness itself is root.

Two ways, tried in this order: a user namespace, in which root is mapped to an ordinary user (nothing
has to be copied or given away), and, where namespaces are forbidden (a container with the default
seccomp profile), the user `nobody`. When the harness is not root, programs are run as they are; only a user
without an entry in the user database (a container run with a bare number) is mapped to one that has an
entry, because initdb looks its user up.
Must not: change owners or modes of anything outside the folder it is told to give away, add users to
the machine, or read a password.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from harness.errors import MissingPrerequisite, NodeError

__all__ = ["Unprivileged", "give_to_unprivileged", "run_as_unprivileged", "unprivileged", "why_unreachable"]

_NOBODY = 65534
_PROBE_SECONDS = 10.0
_ORDINARY_UIDS_BEGIN = 1000


class _Rights(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprivileged:
    """One way to run a program without the rights of root."""

    prefix: tuple[str, ...] = ()
    """Put before the command; it replaces itself by the command, so the process id stays the same."""
    uid: int | None = None
    """The user to become; None when the rights need no dropping, or the prefix does it."""
    gid: int | None = None

    @property
    def owner(self) -> tuple[int, int] | None:
        """Who must own what the program writes; None when what we own will do."""
        return None if self.uid is None or self.gid is None else (self.uid, self.gid)

    def popen_rights(self) -> _Rights:
        """The keyword arguments for `subprocess.Popen` that drop the rights."""
        return {"user": self.uid, "group": self.gid, "extra_groups": None if self.uid is None else []}


_found: Unprivileged | None = None
_finding = threading.Lock()


def unprivileged() -> Unprivileged:
    """The way to run a program without root's rights on this machine; found out once in a process."""
    global _found
    is_root = os.geteuid() == 0
    if not is_root and _has_entry(os.geteuid()):
        return Unprivileged()
    with _finding:
        if _found is None:
            _found = _by_namespace() or (_by_dropping() if is_root else Unprivileged())
        return _found


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _by_namespace() -> Unprivileged | None:
    """A user namespace, if this machine allows one: tried with a program that does nothing."""
    unshare, nothing = shutil.which("unshare"), shutil.which("true")
    someone = _someone()
    if unshare is None or nothing is None or someone is None:
        return None
    prefix = (unshare, "--user", f"--map-user={someone.pw_uid}", f"--map-group={someone.pw_gid}", "--")
    try:
        tried = subprocess.run(
            [*prefix, nothing], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Unprivileged(prefix=prefix) if tried.returncode == 0 else None


def _someone() -> pwd.struct_passwd | None:
    """A user to be mapped to. initdb looks its user up by number, so one that has an entry; it is given nothing."""
    others = [each for each in pwd.getpwall() if each.pw_uid != 0]
    # People before services, and the lowest first, only so that every run on a machine looks the same.
    return min(others, key=lambda each: (each.pw_uid < _ORDINARY_UIDS_BEGIN, each.pw_uid), default=None)


def _by_dropping() -> Unprivileged:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Unprivileged(uid=_NOBODY, gid=_NOBODY)
    return Unprivileged(uid=nobody.pw_uid, gid=nobody.pw_gid)


def give_to_unprivileged(folder: Path) -> None:
    """Make a folder and all in it belong to whom `unprivileged()` runs programs as; nothing to do in most cases.

    Only for folders the harness made itself: never the person's own. Symbolic links are not followed.
    """
    owner = unprivileged().owner
    if owner is None:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent) / name, *owner, follow_symlinks=False)
    os.chown(folder, *owner, follow_symlinks=False)


def why_unreachable(path: Path, owner: tuple[int, int]) -> str | None:
    """The folder on the way to `path` that this user may not enter (or the file it may not run); None if there is none.

    By mode bits alone: an access list may know better, so this explains a refusal and never causes one.
    """
    uid, gid = owner
    for each in (*reversed(path.resolve().parents), path.resolve()):
        try:
            seen = each.stat()
        except OSError as problem:
            return f"{each}: {problem.strerror}"
        needed = stat.S_IXUSR if seen.st_uid == uid else stat.S_IXGRP if seen.st_gid == gid else stat.S_IXOTH
        if not seen.st_mode & needed:
            return f"{each} (mode {stat.S_IMODE(seen.st_mode):04o})"
    return None


def run_as_unprivileged(
    argv: Sequence[str],
    *,
    directory: Path,
    timeout_seconds: float,
    input: bytes | None = None,  # noqa: A002 - named as in subprocess.run, whose result it returns
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end without root's rights, in `directory`, and return its code and output.

    `directory` is made to belong to whom the command runs as where that is another user, so it must be a folder of
    the harness (in a run's scratch folder, which such a user can reach, and not in the cache, which it cannot).
    The command gets a small clean environment plus `env`. Its exit code is not judged here.

    Raises:
        MissingPrerequisite: the command does not exist, or the user it must run as cannot reach it.
        NodeError: it took longer than `timeout_seconds`; it was killed with all its children.
    """
    if shutil.which(argv[0]) is None:
        # The prefix would fail in its own words.
        raise MissingPrerequisite(f"there is no program {argv[0]}; install it, or name it with its full path")
    how = unprivileged()
    give_to_unprivileged(directory)
    clean = {"PATH": os.defpath, "HOME": str(directory), "LANG": "C", "TMPDIR": str(directory)}
    try:
        process = subprocess.Popen(
            [*how.prefix, *argv],
            cwd=directory,
            env=clean | dict(env or {}),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **how.popen_rights(),
        )
    except OSError as problem:
        raise unstartable(argv[0], directory=directory, problem=problem) from problem
    try:
        output, errors = process.communicate(input, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as problem:
        _end_group(process)
        raise NodeError(f"{argv[0]} did not end within {timeout_seconds:g} s and was killed") from problem
    except BaseException:
        _end_group(process)
        raise
    return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)


def unstartable(program: str, *, directory: Path, problem: OSError) -> MissingPrerequisite:
    """Why a program could not be started without root's rights, and what to do about it."""
    owner = unprivileged().owner
    found = shutil.which(program)
    if owner is not None and isinstance(problem, PermissionError):
        blocked = why_unreachable(Path(found or program), owner) or str(directory)
        return MissingPrerequisite(
            f"{program} refuses to run as root and cannot be reached by uid {owner[0]}: {blocked} keeps it out; "
            "run the harness as another user, allow user namespaces, or install it in a folder everybody can enter"
        )
    return MissingPrerequisite(
        f"{program} cannot be started in {directory}: {problem.strerror}; check that it is installed and executable"
    )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # ended in the meantime: as wanted
        os.killpg(process.pid, signal.SIGKILL)
    # Bounded, because a child in a session of its own was not killed and may keep the pipes open.
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1.0)
    process.wait()
