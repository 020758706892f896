"""The head once more, from the rows and files alone: own lines, none of the coordinator's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from letheon.federation.ledger import Entry

_DTYPES = {"float32": "<f4", "float16": "<f2"}


class Replay:
    """Begins at the newest anchor, or at the first row."""

    def __init__(self, rows: Sequence[Entry], data: Path) -> None:
        self._rows, self._data = rows, data
        self.version = -1
        self.head = np.zeros(0, np.float32)
        self._contributions: dict[str | None, np.ndarray] = {}
        after = self._begin()
        for row in rows[after:]:
            self._take(row)
            self.version = row.version

    @property
    def sha256(self) -> str:
        """Of the head's little-endian float32 bytes."""
        return hashlib.sha256(self.head.astype("<f4").tobytes()).hexdigest()

    def _begin(self) -> int:
        for index in range(len(self._rows) - 1, -1, -1):
            row = self._rows[index]
            if row.kind == "anchor":
                self.head = self._read("checkpoints", row.details["checkpoint_sha256"], "float32")
                self.version = row.version
                removed = {r.site for r in self._rows[index:] if r.kind == "removal"}
                for site, sha256 in row.details.get("contributions", {}).items():
                    if site in removed and sha256:
                        total = self._read("contributions", sha256, "float32")
                        self._contributions[site] = total
                return index + 1
        return 0

    def _take(self, row: Entry) -> None:
        match str(row.kind):
            case "initial":
                self.head = self._payload(row)
            case "delta":
                self._add(row, row.coefficient)
            case "patch" | "calibration":
                self._add(row, 1.0)
            case "flush":
                self._merge(row.details["merged"])
            case "removal":
                self._merge(row.details.get("flushed", []))
                if row.details["subtracted"] and row.site in self._contributions:
                    self.head = self.head - self._contributions.pop(row.site)

    def _merge(self, pairs: Sequence[Sequence[object]]) -> None:
        for number, coefficient in pairs:
            self._add(self._rows[int(str(number))], float.fromhex(str(coefficient)))

    def _add(self, row: Entry, coefficient: float | None) -> None:
        term = np.float32(coefficient) * self._payload(row)
        self.head = self.head + term
        if row.site is not None:
            zero = np.zeros(self.head.size, np.float32)
            self._contributions[row.site] = self._contributions.get(row.site, zero) + term

    def _payload(self, row: Entry) -> np.ndarray:
        return self._read("payloads", str(row.payload_sha256), str(row.encoding))

    def _read(self, area: str, sha256: str, encoding: str) -> np.ndarray:
        content = (self._data / area / sha256).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{area}/{sha256} does not match its name")
        return np.frombuffer(content, _DTYPES[encoding]).astype(np.float32)
