"""A folder in memory for targets that read files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it


@cache
def workplace() -> Path:
    """One for the process, removed at its end."""
    in_memory = _MEMORY if "TMPDIR" not in os.environ and Path(_MEMORY).is_dir() else None
    folder = tempfile.mkdtemp(prefix="letheon-fuzz-", dir=in_memory)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
