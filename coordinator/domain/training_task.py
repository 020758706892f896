"""Train tasks are not stored: what must be known of one later is in its identifier."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_ID = re.compile(r"train-(\d{1,18})-(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True)
class TrainTask:
    """Train from the head for the plan's number of local steps."""

    id: str
    epoch: int
    seed: int
    exclusion_counter: int
    learning_rate: float  # of the local steps


def train_task(
    *,
    federation: str,
    site: str,
    epoch: int,
    entry: int,
    draw: int,
    exclusion_counter: int,
    learning_rate: float,
) -> TrainTask:
    """A task with its own seed.

    `entry` (the newest ledger row) grows over restarts, `draw` counts within one process: no two
    tasks of a site share both, so no two share their sampling order.
    """
    text = f"{federation}/{site}/{entry}/{draw}".encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1  # int64, not negative
    identifier = f"train-{epoch}-{entry}-{draw}"
    return TrainTask(identifier, epoch, seed, exclusion_counter, learning_rate)


def epoch_of(task: str) -> int | None:
    """The epoch a train task began in, or None if the identifier names no train task."""
    found = _ID.fullmatch(task)
    return int(found[1]) if found else None
