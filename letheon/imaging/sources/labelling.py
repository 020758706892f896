"""Which class an image has: by a label file, by a value in the image's own file, or unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from letheon.imaging.sources.assembly import Candidate
from letheon.imaging.sources.label_table import UNKNOWN, LabelTable
from letheon.imaging.sources.report import Findings, Note, Skipped

Label = int | tuple[int, ...]


def top_folder(name: str) -> str | None:
    """The first folder of a path; None for a file in none."""
    folder, slash, _ = name.partition("/")
    return folder if slash else None


class Labelling:
    """Gives labels, and counts images without one and rows without an image.

    With a table, its labels. With `tagged`, values found in the files: classes are known once all
    are seen. With neither, every label is unknown: enough to look at the images.
    """

    def __init__(
        self,
        findings: Findings,
        table: LabelTable | None,
        class_names: Sequence[str] | None,
        *,
        tagged: bool = False,
    ) -> None:
        self._findings = findings
        self._table = table
        self._tagged = tagged
        self._values: list[str] = []
        self._names = tuple(class_names or ())
        self._fixed = class_names is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; complete after `finished`."""
        return self._names if self._table is None else self._table.class_names

    def label(
        self, keys: Mapping[str, Sequence[str]], tag: str | None, name: str, place: str
    ) -> tuple[Label | None, str | None]:
        """Label and, where the table knows it, patient. None: left out, and counted.

        `keys` are, by kind, what a row may call the image.
        """
        if self._table is None:
            return self._by_tag(tag, name, place), None
        row = self._table.find(keys[self._table.kind])
        if row is None:
            self._findings.skip(Skipped.NO_LABEL, name, place=place, why="no row names it")
            return None, None
        if row.label is None:
            self._findings.skip(Skipped.UNKNOWN_LABEL, name, place=place)
        return row.label, row.patient

    def finished(self, candidates: list[Candidate]) -> list[Candidate]:
        """Counts rows that no image had; gives values found in files their class."""
        if self._table is not None:
            for key in self._table.unused():
                self._findings.note(Note.UNKNOWN_FILES, key)
            return candidates
        if not self._tagged:
            return candidates
        if not self._fixed:
            self._names = tuple(sorted(set(self._values)))
        index = {name: number for number, name in enumerate(self._names)}
        return [
            replace(candidate, label=index[self._values[candidate.label]])
            for candidate in candidates
            if isinstance(candidate.label, int)
        ]

    def _by_tag(self, tag: str | None, name: str, place: str) -> Label | None:
        if not self._tagged:
            return UNKNOWN
        if tag is None:
            self._findings.skip(
                Skipped.NO_LABEL, name, place=place, why="its file or folder gives none"
            )
            return None
        if self._fixed and tag not in self._names:
            self._findings.skip(Skipped.UNKNOWN_LABEL, name, place=place)
            return None
        self._values.append(tag)
        return len(self._values) - 1
