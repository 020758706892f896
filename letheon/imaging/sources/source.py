"""What a data source is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.report import Findings, Loaded, Note


@runtime_checkable
class Source(Protocol):
    """Gives a site's records. Built from a configuration table; touches nothing until `load`.

    Laws: loading twice gives equal records in the same order; record ids are unique and do not
    depend on which part of the data was asked for; pixels lie in [0, 1] (features of a table may
    lie anywhere, and are finite).
    """

    def load(self) -> Records:
        """Reads the records. Raises BadData with one clear sentence."""
        ...


@runtime_checkable
class ReportingSource(Source, Protocol):
    """A source that also says what it left out. `load` gives the records of the same reading."""

    def load_with_report(self) -> Loaded:
        """Reads the records. Raises BadData, in strict mode also for the first skip."""
        ...


def load_with_report(source: Source) -> Loaded:
    """The records and a report; of a source that reports nothing, one without skips.

    Raises BadData.
    """
    if isinstance(source, ReportingSource):
        return source.load_with_report()
    records = source.load()
    if not isinstance(records, Records):
        raise BadData("the source plug-in returned no records")
    findings = Findings(Path(getattr(source, "path", "")))
    _note_copies(records, findings)
    return findings.loaded(records)


def _note_copies(records: Records, findings: Findings) -> None:
    seen: set[bytes] = set()
    for image in records.images:
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        if digest in seen:
            findings.note(Note.SAME_PIXELS)
        seen.add(digest)
