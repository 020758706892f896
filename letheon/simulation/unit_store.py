"""What a unit keeps on disk: its results, and the state that its branches go on from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from letheon.federation.parameters import Vector


class UnitStore:
    """One JSON file of results, and a folder of vectors beside it."""

    def __init__(self, file: Path, state: Path) -> None:
        self._file, self._state = file, state

    @property
    def before(self) -> Path:
        """The federation as it was at the request."""
        return self._state / "before.npz"

    def results(self) -> dict[str, Any] | None:
        """As last written; None if nothing was."""
        if not self._file.is_file():
            return None
        told: dict[str, Any] = json.loads(self._file.read_text())
        return told

    def write(self, results: Mapping[str, Any]) -> None:
        """The file is whole at any moment."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(results, sort_keys=True, separators=(",", ":")) + "\n")
        partial.replace(self._file)

    def keep(self, label: str, vectors: Mapping[str, Vector]) -> None:
        """Heads of a branch [d] by snapshot."""
        self._state.mkdir(parents=True, exist_ok=True)
        partial = self._state / f"{label}.partial"
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **vectors)
        partial.replace(self._kept_at(label))

    def kept(self, label: str) -> dict[str, Vector]:
        """What `keep` was given."""
        with np.load(self._kept_at(label), allow_pickle=False) as table:
            return {name: table[name] for name in table.files}

    def has(self, label: str) -> bool:
        """Whether heads of a branch are there; results may have been kept without them."""
        return self._kept_at(label).is_file()

    def _kept_at(self, label: str) -> Path:
        return self._state / f"{label}.npz"
