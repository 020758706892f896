"""What a source found, and what it left out: counts by reason, and example files for the site.

Reasons and notes are closed sets, so that their counts can be metrics. Example files can name a
patient: they are shown by commands at the site and appear in no log, error or metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import LabelKind, Records

_EXAMPLES = 5


class Skipped(StrEnum):
    """Why something became no record."""

    OTHER_FILE = "other_file"
    NOT_AN_IMAGE = "not_an_image"
    OTHER_MODALITY = "other_modality"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    NO_DECODER = "no_decoder"
    UNSUPPORTED = "unsupported"
    NO_LABEL = "no_label"
    UNKNOWN_LABEL = "unknown_label"
    MISSING_SLICES = "missing_slices"
    DUPLICATE_SLICES = "duplicate_slices"
    MIXED_SLICES = "mixed_slices"
    DUPLICATE = "duplicate"
    NO_MASK = "no_mask"
    MASK_MISMATCH = "mask_mismatch"
    EMPTY = "empty"
    MISSING_VALUE = "missing_value"
    BAD_VALUE = "bad_value"


MEANINGS: Mapping[Skipped, str] = {
    Skipped.OTHER_FILE: "a file of another kind",
    Skipped.NOT_AN_IMAGE: "a DICOM object without pixels (report, presentation state, DICOMDIR)",
    Skipped.OTHER_MODALITY: "of another modality than the one asked for",
    Skipped.UNREADABLE: "the file cannot be read",
    Skipped.TRUNCATED: "the file ends too early, at the latest before its pixels: copy it again",
    Skipped.TOO_LARGE: "more pixels or bytes than are read",
    Skipped.NO_DECODER: "compressed, and no decoder for it is installed",
    Skipped.UNSUPPORTED: "a form of image that is not read",
    Skipped.NO_LABEL: "no label is known",
    Skipped.UNKNOWN_LABEL: "its label is none of the classes",
    Skipped.MISSING_SLICES: "the series has gaps between its slices",
    Skipped.DUPLICATE_SLICES: "the series has two slices at one place",
    Skipped.MIXED_SLICES: "the series has slices of several orientations or sizes",
    Skipped.DUPLICATE: "a record like an earlier one",
    Skipped.NO_MASK: "there is no mask for the volume",
    Skipped.MASK_MISMATCH: "the mask has another shape, place or values than the volume takes",
    Skipped.EMPTY: "nothing but one value",
    Skipped.MISSING_VALUE: "a value is missing and none is given for it",
    Skipped.BAD_VALUE: "a value that its column does not take",
}


class Note(StrEnum):
    """What a person should know of records that are kept."""

    SAME_PIXELS = "same_pixels"
    PATIENT_IN_TWO_CLASSES = "patient_in_two_classes"
    UNKNOWN_FILES = "unknown_files"
    NO_PATIENT = "no_patient"
    NOT_FINITE = "not_finite"
    FILLED_VALUES = "filled_values"


NOTES: Mapping[Note, str] = {
    Note.SAME_PIXELS: "records with the pixels of an earlier one; drop_duplicates leaves them out",
    Note.PATIENT_IN_TWO_CLASSES: "patients with records of more than one class",
    Note.UNKNOWN_FILES: "rows of the label file that name no image here",
    Note.NO_PATIENT: "records without a patient id, each its own study or file as a patient",
    Note.NOT_FINITE: "pixels that were NaN or infinite, now 0",
    Note.FILLED_VALUES: "missing values that the configuration filled",
}


@dataclass(frozen=True)
class SourceReport:
    """Counts of one load. `examples` holds the first files of each reason: for the site only."""

    records: int
    patients: int | None  # None: the source does not know patients
    class_counts: Mapping[str, int]  # records that have the class; of masks, records that show it
    skipped: Mapping[Skipped, int]
    notes: Mapping[Note, int]
    advice: tuple[str, ...] = ()  # sentences, without file names
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def to_dict(self, *, examples: bool = False) -> dict[str, Any]:
        """Plain values, to be sent or measured; with `examples` for the site's own screen only."""
        document: dict[str, Any] = {
            "records": self.records,
            "patients": self.patients,
            "class_counts": dict(self.class_counts),
            "skipped": {reason.value: count for reason, count in self.skipped.items()},
            "notes": {note.value: count for note, count in self.notes.items()},
            "advice": list(self.advice),
        }
        if examples:
            document["examples"] = {name: list(files) for name, files in self.examples.items()}
        return document


@dataclass(frozen=True)
class Loaded:
    """Records, and what became of everything else."""

    records: Records
    report: SourceReport


class Findings:
    """Gathers what is skipped while a source reads. With `strict` the first skip is an error."""

    def __init__(self, root: Path, *, strict: bool = False) -> None:
        self.root = root
        self._strict = strict
        self._skipped: Counter[Skipped] = Counter()
        self._notes: Counter[Note] = Counter()
        self._advice: list[str] = []
        self._examples: dict[str, list[str]] = {}

    def skip(
        self, reason: Skipped, example: str, *, place: str, why: str = "", count: int = 1
    ) -> None:
        """Leaves out `example`, a file's name; `place` says where it is without naming it.

        A copy is only left out when that was asked for. Raises BadData in strict mode.
        """
        if self._strict and reason is not Skipped.DUPLICATE:
            detail = f" ({why})" if why else ""
            raise BadData(
                f"{place} of {self.root} cannot be used: {MEANINGS[reason]}{detail}; strict mode"
                " skips nothing. `letheon data inspect` names it",
                path=self.root,
                rule=reason.value,
            )
        self._skipped[reason] += count
        self._remember(reason.value, example)

    def note(self, note: Note, example: str = "", count: int = 1) -> None:
        """Counts something that is kept."""
        self._notes[note] += count
        if example:
            self._remember(note.value, example)

    def advise(self, sentence: str) -> None:
        """Says what to do; once."""
        if sentence not in self._advice:
            self._advice.append(sentence)

    def count(self, reason: Skipped) -> int:
        """How many were left out for it."""
        return self._skipped[reason]

    def nothing_left(self, wanted: str) -> BadData:
        """The error of a source without a record: what was looked for, and what was skipped."""
        reasons = [
            f"{count} x {MEANINGS[reason]}"
            for reason, count in sorted(self._skipped.items())
            if count
        ]
        skipped = f"; skipped: {', '.join(reasons)}" if reasons else ""
        advice = "".join(f". {sentence}" for sentence in self._advice)
        return BadData(f"{self.root} holds {wanted}{skipped}{advice}", path=self.root)

    def loaded(self, records: Records) -> Loaded:
        """The records with their report."""
        patients = records.patients
        self._note_patients(records)
        report = SourceReport(
            records=len(records),
            patients=None if patients is None else len(set(patients)),
            class_counts=class_counts(records),
            skipped=_sorted(self._skipped),
            notes=_sorted(self._notes),
            advice=tuple(self._advice),
            examples={name: tuple(files) for name, files in sorted(self._examples.items())},
        )
        return Loaded(records, report)

    def _note_patients(self, records: Records) -> None:
        if records.patients is None or records.label_kind is not LabelKind.CLASS:
            return
        classes: dict[str, set[int]] = {}
        for patient, label in zip(records.patients, records.labels.tolist(), strict=True):
            classes.setdefault(patient, set()).add(label)
        for patient in sorted(name for name, found in classes.items() if len(found) > 1):
            self.note(Note.PATIENT_IN_TWO_CLASSES, patient)

    def _remember(self, name: str, example: str) -> None:
        examples = self._examples.setdefault(name, [])
        if len(examples) < _EXAMPLES:
            examples.append(example)


def class_counts(records: Records) -> dict[str, int]:
    """Records by class; of masks, the records in which the class is seen."""
    counts = np.zeros(len(records.class_names), dtype=np.int64)
    match records.label_kind:
        case LabelKind.CLASS:
            known = records.labels[records.labels >= 0]
            counts += np.bincount(known, minlength=len(counts))[: len(counts)]
        case LabelKind.MULTI:
            counts += (records.labels == 1).sum(axis=0)
        case LabelKind.MASK:
            for row in range(len(records)):
                present = np.unique(records.labels[row])
                counts[present[present < len(counts)]] += 1
    return dict(zip(records.class_names, counts.tolist(), strict=True))


_Name = TypeVar("_Name", Skipped, Note)


def _sorted(counts: Counter[_Name]) -> dict[_Name, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}
