"""The certificates of one run: an authority of its own, and what it signed for the balancer. Made by trustme. And where those
are that this machine believes, for sites that are not of the run.

They lie in the run's private folder and go with it: nobody is ever asked to trust them. Must not: be used for anything
that outlives the run, or show a key to anybody but the balancer.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadInput

__all__ = ["Certificates", "believed_here", "make_certificates"]

_AUTHORITY = "authority.pem"
_BALANCER = "balancer.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Where they are."""

    authority: Path
    """The certificate of the authority: what a client has to trust."""
    balancer: Path
    """The balancer's key and certificate in one file, as both nginx and HAProxy read it. Only its owner may."""


def believed_here(*, instead: str) -> Path:
    """The file of authorities that this machine believes. Raises BadInput: it has none; `instead` says what to do."""
    known = ssl.get_default_verify_paths().cafile
    if known is None:
        raise BadInput(f"this machine has no file of authorities it believes: {instead}")
    return Path(known)


def make_certificates(folder: Path, *names: str) -> Certificates:
    """A new authority and one certificate for these names (or addresses), in a folder that is made for them.

    Keys are ECDSA on P-256, which every client has known since TLS 1.2 and which costs a handshake least.
    """
    # Not at the top: it brings all of `cryptography`, for which setups without TLS need not wait.
    import trustme

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
    made = Certificates(authority=folder / _AUTHORITY, balancer=folder / _BALANCER)
    made.authority.write_bytes(authority.cert_pem.bytes())
    # Made with its rights, not given them afterwards: there is no moment in which others could read the key.
    with open(made.balancer, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(leaf.private_key_and_cert_chain_pem.bytes())
    return made
