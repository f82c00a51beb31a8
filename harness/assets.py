"""Finds the data that is shipped with the harness: `fixtures/`, `scenarios/`, `reference_app/`.

In a checkout these folders lie beside the package; an installed wheel carries them inside it, under `_data`, so that
nothing but `harness` is put among the top-level names. Must not: read or write what it finds.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError

__all__ = ["path"]

_PACKAGE = Path(__file__).resolve().parent


def path(relative: str) -> Path:
    """Where a file or folder of the data is, such as `fixtures/balancers/nginx.conf.j2`.

    Raises HarnessError when it is not there: a broken installation, never the fault of a setup.
    """
    # The wheel's own folder first: beside an installed package lie those of others, and one is named `fixtures`.
    carried = _PACKAGE / "_data"
    found = (carried if carried.is_dir() else _PACKAGE.parent) / relative
    if not found.exists():
        raise HarnessError(f"{relative} is missing from this installation (looked for {found}): install harness again")
    return found
