"""A part of another source: one data set dealt among sites in place, patient by patient.

For a federation on one machine (`letheon up --sites-file`): each site reads the same file and
keeps its own share. A hospital has its own data and no use for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from letheon import registry
from letheon.errors import BadConfig, BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.report import Loaded, class_counts
from letheon.imaging.sources.source import Source, load_with_report


@dataclass(frozen=True)
class ShareSource:
    """Share `share` (1 to `shares`) of the patients of the source `plugin`.

    Patients are dealt in turn, in an order that hangs on the seed and their names alone: the shares
    are disjoint, together all records, and differ by one patient at most. Records of unknown
    patients are dealt one by one.
    """

    plugin: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shares: int = 2
    share: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.share <= self.shares:
            raise ValueError(f"share must be 1 to {self.shares}, not {self.share}")
        if self.seed < 0:
            raise ValueError("seed must be >= 0")

    def load(self) -> Records:
        """Reads the whole source and keeps the share. Raises BadData, BadConfig, UnknownPlugin."""
        return self.load_with_report().records

    def load_with_report(self) -> Loaded:
        """As `load`; what was left out is told of the whole source, which every share reads."""
        source = registry.build(registry.SOURCES, self.plugin, self.arguments)
        if not isinstance(source, Source):
            raise BadConfig(f"plug-in {self.plugin!r} is no source")
        loaded = load_with_report(source)
        groups = loaded.records.groups()
        names = sorted(set(groups))
        if len(names) < self.shares:
            raise BadData(f"{len(names)} patients cannot be dealt into {self.shares} shares")
        order = np.random.default_rng(self.seed).permutation(len(names))
        ours = {names[place] for place in order[self.share - 1 :: self.shares]}
        mask = np.array([group in ours for group in groups], dtype=np.bool_)
        records = loaded.records.select(mask)
        known = None if records.patients is None else len(set(records.patients))
        report = replace(
            loaded.report,
            records=len(records),
            patients=known,
            class_counts=class_counts(records),
        )
        return Loaded(records, report)
