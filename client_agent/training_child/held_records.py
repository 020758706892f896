"""The site's records by use: fixed at enrolment, fewer once some are excluded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client_agent.adapters.residual_files import ResidualFiles
from client_agent.domain.subjects import SiteKey
from client_agent.training_child.excluded import without_excluded, write_index
from client_agent.training_child.fixed_split import SplitRecords, split_records, write_durably
from letheon import registry
from letheon.errors import BadData
from letheon.imaging.fitness import class_counts
from letheon.imaging.records import Records

_REASON = re.compile(r"[a-z][a-z_]{0,39}")
_MOST_REASONS = 32


@dataclass(frozen=True)
class HeldRecords:
    """Everything the source gave, and what of it may be used."""

    everything: SplitRecords  # also what is excluded: counts, audits and recomputations need it
    key: SiteKey
    excluded: frozenset[str]
    parts: SplitRecords  # that may be used
    record_set: str  # fingerprint of those it trains on
    record_set_file: Path
    index_file: Path
    residuals: ResidualFiles
    skipped: Mapping[str, int]  # left out by the source, by reason

    def without(self, excluded: frozenset[str]) -> HeldRecords:
        """The same with these records excluded. Raises BadData if none is left to train on."""
        self.residuals.reset()  # made with the records as well
        parts = without_excluded(self.everything, self.key, excluded)
        return replace(
            self, excluded=excluded, parts=parts, record_set=_note(parts, self.record_set_file)
        )

    def to_json(self) -> dict[str, Any]:
        """Counts and files for the daemon.

        Counts leave the site: they are those from before any exclusion, so that none of them
        tells how many records an erasure named.
        """
        train = self.everything.train
        return {
            "train_records": len(train),
            "control_records": len(self.everything.control),
            "validation_records": len(self.everything.validation),
            "class_counts": class_counts(train),
            "record_set": self.record_set,
            "record_set_file": str(self.record_set_file),
            "index_file": str(self.index_file),
            "skipped": dict(self.skipped),
        }


def load_records(arguments: Mapping[str, Any]) -> HeldRecords:
    """Reads the source and fixes the split. Raises BadData, BadConfig, UnknownPlugin."""
    plugin = arguments["plugin"]
    records, skipped = _read(
        registry.build(registry.SOURCES, plugin, arguments["plugin_arguments"])
    )
    if not isinstance(records, Records):
        raise BadData(f"source plug-in {plugin!r} returned no records")
    if len(records) == 0:
        raise BadData("the data source has no records")
    folder = Path(arguments["state_dir"])
    everything = split_records(
        records,
        folder,
        control=arguments["control_share"],
        validation=arguments["validation_share"],
        seed=arguments["split_seed"],
    )
    key = SiteKey(Path(arguments["site_key"]).read_bytes())
    excluded = frozenset(arguments["excluded"])
    parts, ids = without_excluded(everything, key, excluded), folder / "records.json"
    return HeldRecords(
        everything=everything,
        key=key,
        excluded=excluded,
        parts=parts,
        record_set=_note(parts, ids),
        record_set_file=ids,
        index_file=write_index(folder, records, key),
        residuals=ResidualFiles(Path(arguments["residuals"])),
        skipped=skipped,
    )


def _read(source: Any) -> tuple[Any, Mapping[str, int]]:  # noqa: ANN401 - a plug-in, checked by the caller
    """The records, and how many were left out by reason, of a source that tells."""
    if not hasattr(source, "load_with_report"):
        return source.load(), {}
    loaded = source.load_with_report()
    return loaded.records, skip_counts(loaded.report.to_dict()["skipped"])


def _note(parts: SplitRecords, file: Path) -> str:
    """Writes the ids of the records it trains on; their fingerprint."""
    write_durably(file, json.dumps(parts.train.record_ids).encode())
    return parts.train.fingerprint()


def skip_counts(told: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, fit to be labels of a metric: what is no plain word, such as the name of a
    file, is counted as `other`, and so is everything beyond the first reasons.
    """
    counts: dict[str, int] = {}
    for reason, count in told.items():
        plain = _REASON.fullmatch(reason) is not None and len(counts) < _MOST_REASONS
        label = reason if plain or reason in counts else "other"
        counts[label] = counts.get(label, 0) + int(count)
    return counts
