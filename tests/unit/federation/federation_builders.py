"""A federation in memory whose arithmetic is written out in plain numpy: the oracle of replay."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from letheon.federation.ledger import Entry, EntryKind, merges, seal
from letheon.federation.parameters import Layout, TensorSpec, Vector, digest

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
KEEP = object()


def a_layout(*shapes: tuple[int, ...]) -> Layout:
    return Layout(tuple(TensorSpec(f"layer{i}.weight", shape) for i, shape in enumerate(shapes)))


def a_vector(size: int, seed: int = 0, scale: float = 1.0) -> Vector:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * scale).astype(np.float32)


@dataclass
class LiveFederation:
    """Merges as the ledger says, with `head + float32(c) * D` and nothing else."""

    head: Vector
    rows: list[Entry] = field(default_factory=list)
    payloads: dict[int, Vector] = field(default_factory=dict)
    contributions: dict[str, Vector] = field(default_factory=dict)
    buffered: dict[int, Entry] = field(default_factory=dict)
    version: int = -1
    epoch: int = 0

    def __post_init__(self) -> None:
        self.record(EntryKind.INITIAL, payload=self.head.copy(), changes=True)

    def record(
        self,
        kind: EntryKind,
        *,
        payload: Vector | None = None,
        changes: bool = False,
        **fields: Any,
    ) -> Entry:
        self.version += changes
        previous = self.rows[-1] if self.rows else None
        at = MORNING + timedelta(seconds=len(self.rows))
        row = seal(previous, kind=kind, version=self.version, epoch=self.epoch, at=at, **fields)
        if payload is not None:
            payload.flags.writeable = False
            self.payloads[row.entry] = payload
        self.rows.append(row)
        return row

    def read(self, row: Entry) -> Vector:
        return self.payloads[row.entry]

    def _add(self, site: str | None, coefficient: float, delta: Vector) -> None:
        self.head = self.head + np.float32(coefficient) * delta
        if site is not None:
            total = self.contributions.get(site, np.zeros_like(delta))
            self.contributions[site] = total + np.float32(coefficient) * delta

    def delta(self, site: str, delta: Vector, coefficient: float) -> Entry:
        self._add(site, coefficient, delta)
        return self.record(
            EntryKind.DELTA, payload=delta, changes=True, site=site, coefficient=coefficient
        )

    def buffer(self, site: str, delta: Vector) -> Entry:
        row = self.record(EntryKind.BUFFERED, payload=delta, site=site)
        self.buffered[row.entry] = row
        return row

    def _drain(self, coefficient: float) -> list[list[int | str]]:
        pairs = [(number, coefficient / (1 + i)) for i, number in enumerate(self.buffered)]
        for number, factor in pairs:
            self._add(self.buffered[number].site, factor, self.payloads[number])
        self.buffered.clear()
        return merges(pairs)

    def flush(self, coefficient: float) -> Entry:
        merged = self._drain(coefficient)
        return self.record(EntryKind.FLUSH, changes=bool(merged), details={"merged": merged})

    def void(self, site: str) -> Entry:
        numbers = [number for number, row in self.buffered.items() if row.site == site]
        for number in numbers:
            del self.buffered[number], self.payloads[number]
        return self.record(EntryKind.VOID, site=site, details={"entries": numbers})

    def remove(
        self, site: str, coefficient: float = 0.5, *, subtracted: bool = True, sha256: Any = KEEP
    ) -> Entry:
        self.void(site)
        flushed = self._drain(coefficient)
        total = self.contributions.get(site)
        if subtracted:
            self.contributions.pop(site, None)
            if total is not None:
                self.head = self.head - total
        self.epoch += 1
        recorded = None if total is None else digest(total)
        details = {
            "subtracted": subtracted,
            "contribution_sha256": recorded if sha256 is KEEP else sha256,
            "flushed": flushed,
        }
        changes = subtracted or bool(flushed)
        return self.record(EntryKind.REMOVAL, changes=changes, site=site, details=details)

    def patch(
        self, delta: Vector, *, site: str | None = None, kind: EntryKind = EntryKind.PATCH
    ) -> Entry:
        self._add(site, 1.0, delta)
        return self.record(kind, payload=delta, changes=True, site=site)

    def promote(self) -> Entry:
        return self.record(EntryKind.PROMOTION, details={"version": self.version, "erasure": None})

    def anchor(self) -> Entry:
        sums = {site: digest(total) for site, total in self.contributions.items()}
        details = {"checkpoint_sha256": digest(self.head), "contributions": sums}
        return self.record(EntryKind.ANCHOR, details=details)
