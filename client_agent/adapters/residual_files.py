"""Error feedback: what an encoding took from a delta, kept for the next one.

A delta D travels as E(D + r); what that lost, r' = D + r - E(D + r), is the residual of the next
(Karimireddy et al., arXiv 1901.09847). r' counts from the moment the delta is in the outbox: a
training that was given up, or died, changes nothing. A delta that the coordinator never accepts
takes its part of the residual with it, as any lost delta does.

A residual is made of the records and of the models it was computed on, so it must not outlive
either: another epoch, exclusion counter, plan or encoding begins with none. Nor may what an update
without noise lost travel in a private one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from client_agent.adapters.state_dir import sync_directory
from letheon.federation.parameters import Vector

_CURRENT = "current"


@dataclass(frozen=True)
class ResidualKey:
    """What a residual is valid for."""

    plan_digest: str
    encoding: str
    epoch: int
    exclusion_counter: int
    is_private: bool = False  # of updates trained under differential privacy


class ResidualFiles:
    """A folder with the residual that counts and, until its delta is stored, the next one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self, key: ResidualKey, size: int) -> Vector | None:
        """The residual [size], or None if there is none of that key."""
        try:
            head, _, values = (self._folder / _CURRENT).read_bytes().partition(b"\n")
            if json.loads(head) != asdict(key) or len(values) != 4 * size:
                return None
        except (OSError, ValueError):
            return None
        return np.frombuffer(values, dtype="<f4").astype(np.float32)

    def stage(self, update_id: str, key: ResidualKey, residual: Vector) -> None:
        """Keeps the residual [d] that counts once the delta of that id is stored."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.drop_staged()
        head = json.dumps(asdict(key)).encode() + b"\n"
        # Losing it to a power cut costs what the encoding took once, so it is not synced.
        (self._folder / update_id).write_bytes(head + residual.astype("<f4").tobytes())

    def commit(self, update_id: str) -> None:
        """The delta is stored: its residual counts from now on. Harmless if there is none."""
        staged = self._folder / update_id
        if staged.is_file():
            staged.replace(self._folder / _CURRENT)

    def settle(self, stored: Collection[str]) -> None:
        """After a restart: decides by the deltas that are stored what a kill left undecided."""
        for staged in self._staged():
            self.commit(staged.name) if staged.name in stored else staged.unlink()

    def drop_staged(self) -> None:
        """Removes what belongs to no stored delta."""
        for staged in self._staged():
            staged.unlink()

    def reset(self) -> None:
        """Forgets everything, durably: the records it was made of must go."""
        self.drop_staged()
        (self._folder / _CURRENT).unlink(missing_ok=True)
        if self._folder.is_dir():
            sync_directory(self._folder)

    def _staged(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [path for path in self._folder.iterdir() if path.name != _CURRENT]
