"""The private directory of one agent: who may use it, and what a kill may leave in it."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from letheon.errors import BadConfig

RESIDUALS = "residuals"


@dataclass(frozen=True)
class StateDir:
    """Paths below the state directory, and the lock that makes it private to one agent."""

    root: Path
    _lock: IO[str]

    @property
    def database(self) -> Path:
        """SQLite file of the outbox and the contribution log."""
        return self.root / "agent.db"

    @property
    def outbox(self) -> Path:
        """Payloads that have not arrived yet."""
        return self.root / "outbox"

    @property
    def models(self) -> Path:
        """Model cache; may be emptied at any moment."""
        return self.root / "models"

    @property
    def residuals(self) -> Path:
        """What encodings took from deltas, for the next ones."""
        return self.root / RESIDUALS

    @property
    def update_key(self) -> Path:
        """Private key that signs what the site sends."""
        return self.root / "update_key.pem"

    @property
    def log(self) -> Path:
        """Checkpoints of the coordinator's transparency log."""
        return self.root / "log"

    @property
    def exchange(self) -> Path:
        """Sums of recomputed deltas; kept until their exchange is answered."""
        return self.root / "exchange"

    @property
    def work(self) -> Path:
        """Scratch; emptied at start."""
        return self.root / "work"

    def release(self) -> None:
        """Lets another agent use the directory."""
        self._lock.close()


def occupy(root: Path) -> StateDir:
    """Creates the directory if need be, takes its lock and clears what a kill left behind.

    Raises BadConfig if it cannot be written or another agent uses it.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Holds deltas and record ids: the owner's business only.
        root.chmod(stat.S_IRWXU)
        lock = (root / "lock").open("a")
    except OSError as error:
        raise BadConfig(f"state_dir {root} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BadConfig(
            f"state_dir {root} is in use by another agent: give each its own"
        ) from error
    state = StateDir(root, lock)
    for folder in (state.outbox, state.models, state.exchange, state.work, state.log):
        folder.mkdir(exist_ok=True)
    # Parts of downloads stay: they are resumed, or removed when a new epoch is heard of.
    for leftover in (*state.work.iterdir(), *root.glob("*.tmp"), *state.models.glob("*.tmp")):
        leftover.unlink()
    return state


def sync_directory(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
