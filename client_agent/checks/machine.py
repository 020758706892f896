"""Disk and memory of this machine."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import psutil

from client_agent.checks.finding import Finding, Obstacle, failed, ok, warning

_GIB = 1024**3
_SPARE_BYTES = 64 * 1024**2
_CACHED_MODELS = 4


def check_disk(state_dir: Path, model_bytes: int, max_deltas: int) -> Finding:
    """Whether the state directory can be written and has room for models and deltas.

    Makes no directory; leaves nothing behind. `model_bytes` 0: the model's size is not known.
    """
    place = state_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        _write_something(place)
        free = shutil.disk_usage(place).free
    except OSError as error:
        return failed("disk", _unusable(state_dir, place, error))
    needed = (_CACHED_MODELS + max_deltas + 1) * model_bytes + _SPARE_BYTES
    users = " and an agent runs on it" if _is_in_use(state_dir) else ""
    made = "" if state_dir.exists() else " (made at the first start)"
    sentence = f"{state_dir}{made} can be written, {_gib(free)} free{users}"
    if free < 2 * model_bytes + _SPARE_BYTES:
        what = f"{state_dir} has {_gib(free)} free, models and deltas need {_gib(needed)}"
        return failed("disk", Obstacle(what, "Make room, or move state_dir to another disk."))
    if free < needed:
        return warning("disk", sentence, f"Models and deltas may need {_gib(needed)}.")
    return ok("disk", sentence)


def check_memory(limit_bytes: int | None) -> Finding:
    """Whether the training process can have what it may take."""
    memory = psutil.virtual_memory()
    told = "no limit" if limit_bytes is None else f"limit {_gib(limit_bytes)}"
    sentence = (
        f"{_gib(memory.available)} of {_gib(memory.total)} available; training process: {told}"
    )
    if limit_bytes is not None and limit_bytes > memory.total:
        advice = "training.memory_limit_bytes is above what the machine has: lower it."
        return warning("memory", sentence, advice)
    if memory.available < min(limit_bytes or _GIB, _GIB):
        return warning("memory", sentence, "Training may be ended for want of memory: free some.")
    return ok("memory", sentence)


def _write_something(folder: Path) -> None:
    if not folder.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 4096)
        file.flush()
        os.fsync(file.fileno())


def _unusable(state_dir: Path, place: Path, error: OSError) -> Obstacle:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Obstacle(
            f"the disk of {state_dir} is full", "Make room, or move state_dir to another disk."
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return Obstacle(
            f"state_dir {state_dir} cannot be made: {place} is no directory", "Choose another path."
        )
    return Obstacle(
        f"state_dir {state_dir} cannot be written: {error.strerror}",
        f"Let the agent's user write {place}, and check that it is not mounted read-only.",
    )


def _is_in_use(state_dir: Path) -> bool:
    try:
        with (state_dir / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
