"""Records from NIfTI volumes in a folder or .zip: whole, or slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from letheon.imaging.records import Pixels, Records
from letheon.imaging.sources.assembly import Candidate, Reading, Undecodable, assemble
from letheon.imaging.sources.intensity import (
    Intensity,
    Method,
    checked_size,
    padded_or_cropped,
    resized,
)
from letheon.imaging.sources.label_table import LabelKeys, LabelTable, file_keys, read_labels
from letheon.imaging.sources.labelling import Label, Labelling, top_folder
from letheon.imaging.sources.nifti_scans import CUTS, Scan, Scans, laid_out
from letheon.imaging.sources.nifti_volume import SUFFIXES, require_nibabel
from letheon.imaging.sources.report import Findings, Loaded, Note, Skipped
from letheon.imaging.sources.tree import Tree, open_tree


@dataclass(frozen=True)
class NiftiSource:
    """`.nii` and `.nii.gz` files at any depth, turned to the closest canonical orientation.

    A volume is [channels, depth, height, width]: slices from foot to head, the front first, from
    left to right. Record ids are paths below `path`, with `:axis:index` for slices. Patients are
    those of the label file, else one a volume.
    """

    path: str | Path
    images: str = ""  # folder of the volumes, below path
    masks: str | None = None  # folder of masks of the same names, below path: segmentation
    labels: str | None = None  # or a CSV file; see LabelKeys
    label_column: str | None = None
    label_columns: Sequence[str] | None = None
    key_column: str | None = None
    patient_column: str | None = None
    class_folders: bool = False  # or the topmost folder below images
    class_names: Sequence[str] | None = None  # of masks: of the values 0, 1, ...
    volume: bool = True  # false: each slice is a record
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    slices: Literal["non-empty", "all"] | Sequence[int] = "non-empty"  # or [first, end)
    middle: int | None = None  # only so many around the middle
    size: Sequence[int] | None = None  # [depth, height, width], or [height, width] of slices
    fit: Literal["pad", "resize"] = "pad"  # to size: pad and crop around the centre, or resize
    intensity: Method = "percentile"
    percentiles: Sequence[float] = (1.0, 99.0)
    bounds: Sequence[float] | None = None
    four_d: Literal["skip", "channels"] = "skip"
    strict: bool = False
    drop_duplicates: bool = False
    check_pixels: bool = True
    cache_mib: int = 1024

    def __post_init__(self) -> None:
        if sum((self.masks is not None, self.labels is not None, self.class_folders)) > 1:
            raise ValueError(
                "give one of masks (a folder), labels (a file), class_folders, not both"
            )
        if self.axis not in CUTS:
            raise ValueError(f"axis must be one of {', '.join(CUTS)}, not {self.axis!r}")
        if self.fit not in ("pad", "resize") or self.four_d not in ("skip", "channels"):
            raise ValueError("fit must be pad or resize, four_d skip or channels")
        if isinstance(self.slices, str) and self.slices not in ("non-empty", "all"):
            raise ValueError("slices must be non-empty, all or [first, end]")
        if not isinstance(self.slices, str) and len(self.slices) != 2:
            raise ValueError("slices must be non-empty, all or [first, end]")
        if self.middle is not None and (self.middle < 1 or self.volume):
            raise ValueError("middle must be at least 1 slice, and is not for volumes")
        what = "[depth, height, width]" if self.volume else "[height, width]"
        checked_size(self.size, 3 if self.volume else 2, what)
        Reading(self.cache_mib, self.check_pixels, self.drop_duplicates)
        _intensity(self)

    def load(self) -> Records:
        """Goes through every volume; keeps pixels as far as they fit. Raises BadData, BadConfig."""
        return self.load_with_report().records

    def load_with_report(self) -> Loaded:
        """As `load`, with what was left out."""
        require_nibabel()
        return _Reading(self).loaded()


def _intensity(source: NiftiSource) -> Intensity:
    low, high = source.percentiles
    bounds = None if source.bounds is None else (float(source.bounds[0]), float(source.bounds[1]))
    return Intensity(source.intensity, (low, high), bounds)


class _Reading:
    """One load."""

    def __init__(self, source: NiftiSource) -> None:
        self._source = source
        self._tree: Tree = open_tree(source.path)
        self._findings = Findings(self._tree.path, strict=source.strict)
        self._scans = Scans(
            self._tree,
            _intensity(source),
            images=source.images,
            masks=source.masks,
            channels=source.four_d == "channels",
        )
        self._classes = 0

    def loaded(self) -> Loaded:
        source = self._source
        table = self._table()
        names = list(self._volumes())
        keys = file_keys(names)
        labelling = Labelling(
            self._findings, table, source.class_names, tagged=source.class_folders
        )
        candidates = [
            candidate
            for number, name in enumerate(names, start=1)
            for candidate in self._candidates(name, f"volume {number}", keys[name], labelling)
        ]
        return assemble(
            labelling.finished(candidates),
            class_names=self._mask_names() if source.masks is not None else labelling.class_names,
            findings=self._findings,
            reading=Reading(source.cache_mib, source.check_pixels, source.drop_duplicates),
            wanted="no NIfTI volume that can be used (.nii, .nii.gz)",
        )

    def _table(self) -> LabelTable | None:
        source = self._source
        if source.labels is None:
            return None
        keys = LabelKeys(
            source.labels,
            source.label_column,
            source.label_columns,
            source.key_column,
            source.patient_column,
            source.class_names,
        )
        return read_labels(self._tree, keys)

    def _volumes(self) -> Iterator[str]:
        inside = f"{self._source.images.strip('/')}/" if self._source.images else ""
        masks = None if self._source.masks is None else f"{self._source.masks.strip('/')}/"
        for name in self._tree.names:
            if masks is not None and name.startswith(masks):
                continue
            if not name.startswith(inside) or name == self._source.labels:
                continue
            if name.lower().endswith(SUFFIXES):
                yield name
            else:
                self._findings.skip(Skipped.OTHER_FILE, name, place="a file")

    def _candidates(
        self, name: str, place: str, keys: tuple[str, ...], labelling: Labelling
    ) -> list[Candidate]:
        source = self._source
        label, patient = labelling.label(
            {"file": keys, **dict.fromkeys(("instance", "series", "study", "patient"), keys)},
            top_folder(name.removeprefix(f"{source.images.strip('/')}/")),
            name,
            place,
        )
        if label is None:
            return []
        try:
            scan = self._scans.read(name)
        except Undecodable as error:
            self._findings.skip(error.skipped, name, place=place, why=error.why)
            return []
        if scan.not_finite:
            self._findings.note(Note.NOT_FINITE, name, scan.not_finite)
        if patient is None and not source.volume:
            self._findings.note(Note.NO_PATIENT, name)
        if scan.mask is not None:
            self._classes = max(self._classes, int(scan.mask.max(initial=0)) + 1)
        return [
            self._candidate(name, place, part, scan, label, patient) for part in self._parts(scan)
        ]

    def _candidate(
        self,
        name: str,
        place: str,
        part: int | None,
        scan: Scan,
        label: Label,
        patient: str | None,
    ) -> Candidate:
        size = self._size(scan, part)
        return Candidate(
            record_id=name if part is None else f"{name}:{self._source.axis}:{part}",
            name=name,
            place=place if part is None else f"slice {part} of {place}",
            patient=patient or name,
            label=label,
            shape=(scan.channels, *size),
            decode=self._decoder(name, part, size),
            mask=None if scan.mask is None else self._mask_decoder(name, part, size),
        )

    def _parts(self, scan: Scan) -> Sequence[int | None]:
        source = self._source
        if source.volume:
            return [None]
        axis = CUTS[source.axis]
        count = scan.values.shape[axis]
        rows = list(range(count))
        if source.slices == "non-empty":
            across = tuple(a for a in range(4) if a != axis)
            busy = scan.values.max(axis=across) > scan.values.min(axis=across)
            rows = [row for row in rows if busy[row]]
        elif not isinstance(source.slices, str):
            rows = rows[source.slices[0] : source.slices[1]]
        if source.middle is not None:
            start = max(0, (len(rows) - source.middle) // 2)
            rows = rows[start : start + source.middle]
        return rows

    def _size(self, scan: Scan, part: int | None) -> tuple[int, ...]:
        if self._source.size is not None:
            return tuple(self._source.size)
        return laid_out(scan.values, self._source.axis, part).shape[1:]

    def _decoder(self, name: str, part: int | None, size: tuple[int, ...]) -> Callable[[], Pixels]:
        def decode() -> Pixels:
            seen = laid_out(self._scans.read(name).values, self._source.axis, part)
            fitted = (
                resized(seen, size)
                if self._source.fit == "resize"
                else padded_or_cropped(seen, size)
            )
            return np.ascontiguousarray(fitted, dtype=np.float32)

        return decode

    def _mask_decoder(
        self, name: str, part: int | None, size: tuple[int, ...]
    ) -> Callable[[], npt.NDArray[np.uint8]]:
        def decode() -> npt.NDArray[np.uint8]:
            mask = self._scans.read(name).mask
            if mask is None:
                raise Undecodable(Skipped.NO_MASK)
            seen = laid_out(mask[None], self._source.axis, part)
            if self._source.fit == "resize":
                seen = resized(seen.astype(np.float32), size, nearest=True)
            return np.ascontiguousarray(padded_or_cropped(seen, size)[0]).astype(np.uint8)

        return decode

    def _mask_names(self) -> tuple[str, ...]:
        if self._source.class_names is not None:
            return tuple(self._source.class_names)
        return ("background", *(f"class {value}" for value in range(1, max(2, self._classes))))
