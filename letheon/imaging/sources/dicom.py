"""Records from DICOM files in a folder or .zip: each image one, or each series one volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from letheon.imaging.records import Pixels, Records
from letheon.imaging.sources.assembly import Candidate, Reading, Undecodable, assemble
from letheon.imaging.sources.dicom_headers import (
    Instance,
    check_tag,
    read_instance,
    require_pydicom,
)
from letheon.imaging.sources.dicom_pixels import OpenFile, Rendering, Window
from letheon.imaging.sources.dicom_series import (
    Slice,
    around_middle,
    ordered,
    record_id,
    series_of,
    volumes_of,
)
from letheon.imaging.sources.intensity import Intensity, Method, checked_size
from letheon.imaging.sources.label_table import LabelKeys, LabelTable, file_keys, read_labels
from letheon.imaging.sources.labelling import Labelling, top_folder
from letheon.imaging.sources.report import Findings, Loaded, Note, Skipped
from letheon.imaging.sources.tree import TooLarge, Tree, open_tree

_LONG = 8  # images of a series, from which on it is likely a volume


@dataclass(frozen=True)
class DicomSource:
    """A folder or .zip with DICOM files at any depth; see docs/data.md.

    Record ids are SOP or series instance UIDs, so that moving files changes nothing. A patient is
    the PatientID with its issuer; without one, the study.
    """

    path: str | Path
    labels: str | None = None  # a CSV file; see LabelKeys
    label_column: str | None = None
    label_columns: Sequence[str] | None = None
    key_column: str | None = None
    patient_column: str | None = None  # instead of the PatientID
    label_tag: str | None = None  # or a tag: BodyPartExamined, (0018,0015)
    class_folders: bool = False  # or the topmost folder of a file
    class_names: Sequence[str] | None = None
    modality: str | None = None  # such as CT: others are left out
    volume: bool = False  # a series is one record
    middle: int | None = None  # of each series only so many images around its middle
    size: Sequence[int] | None = None  # [height, width], or [depth, height, width] of a volume
    channels: int | None = None  # 1 grey, 3 RGB; None: as most files are
    window: Literal["file"] | Sequence[float] | None = "file"  # or [center, width]
    intensity: Method | None = None  # where no window applies; see Intensity
    percentiles: Sequence[float] = (1.0, 99.0)
    bounds: Sequence[float] | None = None
    strict: bool = False
    drop_duplicates: bool = False
    check_pixels: bool = True
    cache_mib: int = 1024
    _rendering: Rendering = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if sum((self.labels is not None, self.label_tag is not None, self.class_folders)) > 1:
            raise ValueError("give one of labels (a file), label_tag and class_folders, not both")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels}")
        if self.middle is not None and (self.middle < 1 or self.volume):
            raise ValueError("middle must be at least 1 image of a series, and is not for volumes")
        sides = "[depth, height, width]" if self.volume else "[height, width]"
        rendering = Rendering(
            window=_window(self),
            intensity=_intensity(self),
            channels=1,
            size=checked_size(self.size, 3 if self.volume else 2, sides),
        )
        Reading(self.cache_mib, self.check_pixels, self.drop_duplicates)
        object.__setattr__(self, "_rendering", rendering)

    def load(self) -> Records:
        """Reads every header; pixels when needed. Raises BadData, BadConfig."""
        return self.load_with_report().records

    def load_with_report(self) -> Loaded:
        """As `load`, with what was left out."""
        require_pydicom()
        if self.label_tag is not None:
            check_tag(self.label_tag)
        return _Reading(self).loaded()


def _window(source: DicomSource) -> Window:
    """None where an intensity was asked for: the file's window would hide it."""
    if source.window is None or source.window == "file":
        asked = source.intensity is not None or source.bounds is not None
        return None if asked else source.window
    if len(source.window) != 2 or not source.window[1] > 1:
        raise ValueError("window must be 'file' or [center, width] with a width above 1")
    return float(source.window[0]), float(source.window[1])


def _intensity(source: DicomSource) -> Intensity | None:
    low, high = source.percentiles
    bounds = None if source.bounds is None else (float(source.bounds[0]), float(source.bounds[1]))
    method = source.intensity or ("range" if bounds is not None else None)
    return None if method is None else Intensity(method, (low, high), bounds)


class _Reading:
    """One load."""

    def __init__(self, source: DicomSource) -> None:
        self._source = source
        self._tree: Tree = open_tree(source.path)
        self._findings = Findings(self._tree.path, strict=source.strict)
        self._places = {name: f"file {n}" for n, name in enumerate(self._tree.names, start=1)}
        self._keys = file_keys(self._tree.names)
        self._files = OpenFile(self._tree.read)

    def loaded(self) -> Loaded:
        source = self._source
        table = self._table()
        series = series_of(self._instances(source.labels))
        channels = source.channels or _usual_channels(series)
        self._advise_volumes(series)
        labelling = Labelling(
            self._findings,
            table,
            source.class_names,
            tagged=source.label_tag is not None or source.class_folders,
        )
        candidates = [
            candidate
            for images in series
            for slices, deep in self._images(images)
            if (candidate := self._candidate(slices, labelling, channels, deep=deep)) is not None
        ]
        candidates = labelling.finished(candidates)
        wanted = "no DICOM image that can be used"
        return assemble(
            candidates,
            class_names=labelling.class_names,
            findings=self._findings,
            reading=Reading(source.cache_mib, source.check_pixels, source.drop_duplicates),
            wanted=wanted,
        )

    def _advise_volumes(self, series: Sequence[Sequence[Instance]]) -> None:
        long = sum(sum(one.frames for one in images) >= _LONG for images in series)
        if long and not self._source.volume and self._source.middle is None:
            self._findings.advise(
                f"{long} of {len(series)} series have {_LONG} images or more, each its own record:"
                " volume = true makes each series one, middle = 1 takes its middle image"
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

    def _instances(self, labels: str | None) -> Iterator[Instance]:
        seen: set[str] = set()
        for name in self._tree.names:
            if name == labels:
                continue
            try:
                one = read_instance(name, self._read(name), self._source.label_tag)
            except Undecodable as error:
                if error.skipped is Skipped.NO_DECODER:
                    self._findings.advise(error.why)
                self._skip(error, name)
                continue
            if self._source.modality not in (None, one.modality):
                self._skip(Undecodable(Skipped.OTHER_MODALITY, one.modality), name)
            elif one.instance in seen:
                self._skip(Undecodable(Skipped.DUPLICATE, "the same instance UID"), name)
            else:
                seen.add(one.instance)
                yield one

    def _read(self, name: str) -> bytes:
        try:
            return self._tree.read(name)
        except TooLarge as error:
            raise Undecodable(Skipped.TOO_LARGE, error.message) from None
        except OSError as error:
            raise Undecodable(Skipped.UNREADABLE, error.strerror or type(error).__name__) from None

    def _images(self, series: Sequence[Instance]) -> Iterator[tuple[list[Slice], bool]]:
        if not self._source.volume:
            slices = [Slice(one, frame) for one in series for frame in range(one.frames)]
            if (middle := self._source.middle) is not None:
                slices = around_middle(series, middle)
            yield from (([one], False) for one in slices)
            return
        for volume in volumes_of(series):
            try:
                yield ordered(volume), True
            except Undecodable as error:
                self._skip(error, volume[0].name, count=len(volume))

    def _candidate(
        self, slices: Sequence[Slice], labelling: Labelling, channels: int, *, deep: bool
    ) -> Candidate | None:
        first = slices[0].instance
        label, patient = labelling.label(
            self._keys_of(first),
            top_folder(first.name) if self._source.class_folders else first.tag,
            first.name,
            self._places[first.name],
        )
        if label is None:
            return None
        if first.patient is None and patient is None:
            self._findings.note(Note.NO_PATIENT, first.name)
        rendering = replace(self._source._rendering, channels=channels)
        plain = (first.rows, first.columns)
        size = rendering.size or ((len(slices), *plain) if deep else plain)
        return Candidate(
            record_id=record_id(slices, deep=deep),
            name=first.name,
            place=self._places[first.name],
            patient=patient or first.patient or f"study {first.study}",
            label=label,
            shape=(channels, *size),
            decode=_decoder(rendering, tuple(slices), self._files, deep=deep),
        )

    def _keys_of(self, one: Instance) -> dict[str, tuple[str, ...]]:
        return {
            "file": self._keys[one.name],
            "instance": (one.instance,),
            "series": (one.series,),
            "study": (one.study,),
            "patient": () if one.patient is None else (one.patient, one.patient.split("^")[0]),
        }

    def _skip(self, error: Undecodable, name: str, count: int = 1) -> None:
        self._findings.skip(
            error.skipped, name, place=self._places[name], why=error.why, count=count
        )


def _decoder(
    rendering: Rendering, slices: Sequence[Slice], files: OpenFile, *, deep: bool
) -> Callable[[], Pixels]:
    return lambda: rendering.image(slices, files, deep=deep)


def _usual_channels(series: Sequence[Sequence[Instance]]) -> int:
    colours = [one.colour for images in series for one in images]
    return 3 if colours and sum(colours) * 2 > len(colours) else 1
