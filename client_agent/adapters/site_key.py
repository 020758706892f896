"""The site key on disk: made at the first start, readable by its owner only, never sent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from client_agent.domain.subjects import KEY_BYTES, SiteKey
from letheon.errors import BadConfig

FILE = "site.key"


def load_site_key(root: Path, *, may_make: bool) -> SiteKey:
    """The key of a state directory; made if there is none and `may_make`.

    Raises BadConfig for a key that is lost, of another size, or readable by others.
    """
    path = root / FILE
    if not path.exists():
        if not may_make:
            raise BadConfig(
                f"{path} is missing: it makes the pseudonyms of this site's patients. Put it back "
                "from a backup; with another key no earlier erasure could be told from other "
                "patients any more, and excluded records would be used again"
            )
        _make(path)
    try:
        mode, secret = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise BadConfig(f"the site key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise BadConfig(f"others may read the site key {path}: run `chmod 600 {path}`")
    if len(secret) != KEY_BYTES:
        raise BadConfig(
            f"the site key {path} has {len(secret)} bytes, not {KEY_BYTES}: put it back from a "
            "backup"
        )
    return SiteKey(secret)


def _make(path: Path) -> None:
    """Whole or not at all: a key that was half written must not pass for one."""
    temporary = path.with_name(FILE + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
