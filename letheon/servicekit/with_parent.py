"""Runs a program that dies with its parent: `python -I with_parent.py PARENT_PID PROGRAM ...`.

The kernel sends SIGKILL when the thread that created this process ends; `processes.Child` sees to
it that this thread lives as long as the parent. Without Linux the program runs unguarded.
This file is run by its path and imports nothing but the standard library, to start fast.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replaces this process by the program; it keeps the process id."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have died before the line above: then nobody will tell us.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    # Python ignores these two, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvp(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
