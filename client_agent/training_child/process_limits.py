"""What the kernel is told about the training process. Linux; elsewhere stdin's end must do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"


def die_with_parent(parent: int) -> None:
    """Ends this process when the daemon's main thread ends, even by kill -9.

    Exits at once if the daemon is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Short of memory, the kernel shall end this process and not the daemon that restarts it.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    if os.getppid() != parent:
        sys.exit(0)


def limit_memory(limit_bytes: int) -> None:
    """Bounds private memory; an allocation beyond it fails in this process alone."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
