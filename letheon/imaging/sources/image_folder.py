"""Records from PNG, JPEG, BMP or TIFF files: one folder a class, or a CSV file of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from letheon.errors import BadData
from letheon.imaging.records import Pixels, Records
from letheon.imaging.sources.assembly import Candidate, Reading, Undecodable, assemble
from letheon.imaging.sources.label_table import LabelKeys, LabelTable, file_keys, read_labels
from letheon.imaging.sources.labelling import Label, Labelling
from letheon.imaging.sources.picture import SUFFIXES, describe, pixels
from letheon.imaging.sources.report import Findings, Loaded, Note, Skipped
from letheon.imaging.sources.tree import TooLarge, Tree, open_tree


@dataclass(frozen=True)
class ImageFolderSource:
    """`<path>/<class>/<image>` or `<path>/<class>/<patient>/.../<image>`, in a folder or .zip; or,
    with `labels`, images anywhere below it, their labels and patients in a CSV file.

    Images are turned grey (1 channel) or RGB (3) and resized without keeping their aspect; without
    height and width they must be of one size. Record ids are paths below `path`. Errors give the
    place of an image, not its file name, which may name a patient.
    """

    path: str | Path
    height: int | None = None
    width: int | None = None
    channels: int | None = None  # None: 3 if most images have colours, else 1
    class_names: Sequence[str] | None = None  # in label order; None: sorted by name
    labels: str | None = None  # a CSV file; see LabelKeys
    label_column: str | None = None
    label_columns: Sequence[str] | None = None
    key_column: str | None = None
    patient_column: str | None = None
    strict: bool = False
    drop_duplicates: bool = False
    check_pixels: bool = True
    cache_mib: int = 1024

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels}")
        if (self.height is None) != (self.width is None):
            raise ValueError("give height and width, or neither")
        if min(self.height or 1, self.width or 1) < 1 or 0 in (self.height, self.width):
            raise ValueError("height and width must be at least 1 pixel")
        Reading(self.cache_mib, self.check_pixels, self.drop_duplicates)
        self._label_keys()

    def load(self) -> Records:
        """Finds every image; decodes them when needed. Raises BadData."""
        return self.load_with_report().records

    def load_with_report(self) -> Loaded:
        """As `load`, with what was left out."""
        return _Reading(self).loaded()

    def _label_keys(self) -> LabelKeys | None:
        if self.labels is None:
            return None
        return LabelKeys(
            self.labels,
            self.label_column,
            self.label_columns,
            self.key_column,
            self.patient_column,
            self.class_names,
        )


@dataclass(frozen=True)
class _Found:
    name: str
    label: Label
    patient: str | None
    place: str


class _Reading:
    """One load."""

    def __init__(self, source: ImageFolderSource) -> None:
        self._source = source
        self._tree: Tree = open_tree(source.path)
        self._findings = Findings(self._tree.path, strict=source.strict)

    def loaded(self) -> Loaded:
        source = self._source
        keys = source._label_keys()
        if keys is None:
            names = self._classes()
            found = list(self._by_folder(names))
        else:
            table = read_labels(self._tree, keys)
            names = table.class_names
            found = list(self._by_table(table))
        shown = {one.name: self._shown(one) for one in found}
        channels = source.channels or _usual(list(shown.values()))
        candidates = [
            self._candidate(one, size[0], channels)
            for one in found
            if (size := shown[one.name]) is not None
        ]
        return assemble(
            candidates,
            class_names=names,
            findings=self._findings,
            reading=Reading(source.cache_mib, source.check_pixels, source.drop_duplicates),
            wanted=f"no image that can be used ({', '.join(sorted(SUFFIXES))})",
        )

    def _classes(self) -> tuple[str, ...]:
        folders = self._tree.folders
        root = self._tree.path
        if not folders:
            raise BadData(
                f"{root} has no class folders: one folder for each class, or labels = a CSV file",
                path=root,
            )
        if self._source.class_names is None:
            return folders
        if unknown := sorted(set(folders) - set(self._source.class_names)):
            raise BadData(
                f"{root} has folders that are no class: {', '.join(unknown)}; "
                f"the classes are {', '.join(self._source.class_names)}",
                path=root,
            )
        return tuple(self._source.class_names)

    def _by_folder(self, names: Sequence[str]) -> Iterator[_Found]:
        """Files by class, then by name."""
        label_of = {name: label for label, name in enumerate(names)}
        files = [name for name in self._images() if len(PurePosixPath(name).parts) > 1]
        files.sort(key=lambda name: (label_of[name.partition("/")[0]], name))
        patients = any(len(PurePosixPath(name).parts) > 2 for name in files)
        for number, name in enumerate(files, start=1):
            parts = PurePosixPath(name).parts
            # A loose file beside patient folders is its own patient.
            patient = (parts[1] if len(parts) > 2 else name) if patients else None
            yield _Found(name, label_of[parts[0]], patient, f"image {number} (class {parts[0]!r})")

    def _by_table(self, table: LabelTable) -> Iterator[_Found]:
        labelling = Labelling(self._findings, table, table.class_names)
        files = list(self._images())
        keys = file_keys(files)
        for number, name in enumerate(files, start=1):
            place = f"image {number}"
            label, patient = labelling.label(
                dict.fromkeys(("file", "instance", "series", "study", "patient"), keys[name]),
                None,
                name,
                place,
            )
            if label is None:
                continue
            if patient is None and table.has_patients:
                self._findings.note(Note.NO_PATIENT, name)
                patient = name
            yield _Found(name, label, patient, place)
        labelling.finished([])

    def _images(self) -> Iterator[str]:
        for number, name in enumerate(self._tree.names, start=1):
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                yield name
            elif name != self._source.labels:
                self._findings.skip(Skipped.OTHER_FILE, name, place=f"file {number}")

    def _shown(self, one: _Found) -> tuple[tuple[int, int], bool] | None:
        """Size and whether it has colours; nothing is read where both are given."""
        source = self._source
        given = (source.height or 0, source.width or 0)
        if 0 not in given and source.channels is not None:
            return given, source.channels == 3
        try:
            size, colour = describe(self._read(one.name))
        except Undecodable as error:
            self._findings.skip(error.skipped, one.name, place=one.place, why=error.why)
            return None
        return (size if 0 in given else given), colour

    def _candidate(self, one: _Found, size: tuple[int, int], channels: int) -> Candidate:
        return Candidate(
            record_id=one.name,
            name=one.name,
            place=one.place,
            patient=one.patient,
            label=one.label,
            shape=(channels, *size),
            decode=self._decoder(one.name, size, channels),
        )

    def _decoder(self, name: str, size: tuple[int, int], channels: int) -> Callable[[], Pixels]:
        return lambda: pixels(self._read(name), size, channels)

    def _read(self, name: str) -> bytes:
        try:
            return self._tree.read(name)
        except TooLarge as error:
            raise Undecodable(Skipped.TOO_LARGE, error.message) from None
        except (OSError, KeyError) as error:
            raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None


def _usual(shown: Sequence[tuple[tuple[int, int], bool] | None]) -> int:
    known = [one[1] for one in shown if one is not None]
    return 3 if sum(known) * 2 > len(known) else 1
