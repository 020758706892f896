"""Labels, and patients, of images from a CSV file beside them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from letheon.errors import BadData
from letheon.imaging.sources.tree import Tree

UNKNOWN = -1
_MOST_BYTES = 512 * 1024**2

# What a row is about, by the name of its key column (letters only, lower case).
KEY_KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("file", "filename", "filepath", "path", "image", "imageid", "imagepath", "id"), "file"
    ),
    **dict.fromkeys(("sopinstanceuid", "sopuid", "instanceuid", "sop"), "instance"),
    **dict.fromkeys(("seriesinstanceuid", "seriesuid", "series"), "series"),
    **dict.fromkeys(("studyinstanceuid", "studyuid", "study"), "study"),
    **dict.fromkeys(("patientid", "patient", "subject", "subjectid"), "patient"),
}
_PATIENT_COLUMNS = ("patient", "patientid", "subject", "subjectid")


@dataclass(frozen=True)
class Row:
    """What the file says of one image."""

    label: int | tuple[int, ...] | None  # None: a value that is no class
    patient: str | None


@dataclass(frozen=True)
class LabelKeys:
    """Where in the file the labels are; the same keys in every source that takes one."""

    labels: str  # the file: below the data, or anywhere
    label_column: str | None = None  # None: "label"
    label_columns: Sequence[str] | None = None  # several: one class a column, 1, 0 or unknown
    key_column: str | None = None  # None: the first one that is known
    patient_column: str | None = None  # None: patient or subject, if there is one
    class_names: Sequence[str] | None = None  # in label order; None: the sorted values

    def __post_init__(self) -> None:
        if self.label_columns is not None and self.label_column is not None:
            raise ValueError("give label_column or label_columns, not both")
        if self.label_columns is not None and len(self.label_columns) == 0:
            raise ValueError("label_columns names no column")


@dataclass
class LabelTable:
    """Rows by key. `found` remembers which were asked for."""

    path: str
    kind: str  # file, instance, series, study or patient
    class_names: tuple[str, ...]
    several: bool  # labels are tuples, one number a class
    rows: Mapping[str, Row]
    has_patients: bool
    _used: set[str] = field(default_factory=set)

    def find(self, candidates: Iterable[str]) -> Row | None:
        """The row of the first candidate that there is."""
        for candidate in candidates:
            if candidate in self.rows:
                self._used.add(candidate)
                return self.rows[candidate]
        return None

    def unused(self) -> list[str]:
        """Keys that no image had, in the order of the file."""
        return [key for key in self.rows if key not in self._used]


def file_keys(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By file, what a row may call it: its path, its name or its stem, where only it is so called.

    `.nii.gz` counts as one suffix.
    """
    bases = {name: PurePosixPath(name).name for name in names}
    stems = {name: base.removesuffix(".gz").rpartition(".")[0] for name, base in bases.items()}
    count = Counter((*bases.values(), *stems.values()))
    return {
        name: (name, *(key for key in (bases[name], stems[name]) if key and count[key] == 1))
        for name in names
    }


def read_labels(tree: Tree, keys: LabelKeys) -> LabelTable:
    """Raises BadData for a file that is missing, lacks a column or contradicts itself."""
    place, text = _text(tree, keys.labels)
    delimiter = ";" if ";" in (first := text.partition("\n")[0]) and "," not in first else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        lines = list(reader)
    except csv.Error as error:
        raise BadData(f"{place} is no CSV file: {error}") from None
    key = _key_column(header, keys, place)
    patient = _patient_column(header, keys, place)
    columns = list(keys.label_columns or [keys.label_column or "label"])
    for column in columns:
        _require(column, header, place)
    table = _Values(place, columns, keys)
    classes = table.classes([line[columns[0]] for line in lines])
    rows: dict[str, Row] = {}
    seen_at: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        if not (name := (line[key] or "").strip().replace("\\", "/").removeprefix("./")):
            raise BadData(f"line {number} of {place} has no {key}: name the image or remove it")
        row = Row(
            table.label(line, number), ((line[patient] or "").strip() or None) if patient else None
        )
        if rows.setdefault(name, row) != row:
            raise BadData(
                f"lines {seen_at[name]} and {number} of {place} say different things of one"
                f" {key}: keep one of them"
            )
        seen_at.setdefault(name, number)
    kind = KEY_KINDS.get(_plain(key), "file")
    return LabelTable(
        place, kind, classes, keys.label_columns is not None, rows, patient is not None
    )


class _Values:
    """The label of a line."""

    def __init__(self, place: str, columns: Sequence[str], keys: LabelKeys) -> None:
        self._place = place
        self._columns = columns
        self._keys = keys
        self._index: dict[str, int] = {}

    def classes(self, values: Sequence[str | None]) -> tuple[str, ...]:
        if self._keys.label_columns is not None:
            return tuple(self._keys.class_names or self._columns)
        present = {(value or "").strip() for value in values} - {""}
        numbers = all(_number(value) is not None for value in present)
        if self._keys.class_names is None:
            order = sorted(present, key=(lambda v: (_number(v) or 0.0, v)) if numbers else None)
            names = tuple(order)
        else:
            names = tuple(self._keys.class_names)
        self._index = {name: index for index, name in enumerate(names)}
        if self._keys.class_names is not None and numbers and not present & set(names):
            # The file counts classes instead of naming them.
            self._index = {
                value: int(number)
                for value in present
                if (number := _number(value)) is not None
                and number.is_integer()
                and 0 <= number < len(names)
            }
        return names

    def label(self, line: Mapping[str, str | None], number: int) -> int | tuple[int, ...] | None:
        if self._keys.label_columns is None:
            return self._index.get((line[self._columns[0]] or "").strip())
        return tuple(self._flag(line[column], column, number) for column in self._columns)

    def _flag(self, value: str | None, column: str, line: int) -> int:
        word = (value or "").strip().lower()
        if word in ("", "?", "nan", "unknown"):
            return UNKNOWN
        flag = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}.get(word, _number(word))
        if flag not in (1.0, 0.0, -1.0):
            raise BadData(
                f"column {column!r} in line {line} of {self._place} is neither 1 nor 0, nor empty"
                " where it is unknown, as several labels are"
            )
        return int(flag)


def _text(tree: Tree, labels: str) -> tuple[str, str]:
    if labels in tree.names:
        place, data = f"{tree.path}/{labels}", tree.read(labels)
    else:
        outside = Path(labels).expanduser()
        place = str(outside)
        if not outside.is_file():
            raise BadData(
                f"there is no label file {labels!r} below {tree.path}, nor elsewhere: give its"
                " path below the data or an absolute one",
                path=tree.path,
            )
        if outside.stat().st_size > _MOST_BYTES:
            raise BadData(f"{place} is larger than {_MOST_BYTES >> 20} MiB: that is no label file")
        data = outside.read_bytes()
    try:
        return place, data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadData(f"{place} is not UTF-8 text: save it as CSV in UTF-8") from None


def _key_column(header: Sequence[str], keys: LabelKeys, place: str) -> str:
    if keys.key_column is not None:
        return _require(keys.key_column, header, place)
    order = ("file", "instance", "series", "study", "patient")
    known = [(order.index(KEY_KINDS[_plain(c)]), c) for c in header if _plain(c) in KEY_KINDS]
    if not known:
        raise BadData(
            f"{place} has the columns {', '.join(header) or 'none'}: none of them names the image;"
            " give one by key_column"
        )
    return min(known, key=lambda pair: pair[0])[1]


def _patient_column(header: Sequence[str], keys: LabelKeys, place: str) -> str | None:
    if keys.patient_column is not None:
        return _require(keys.patient_column, header, place)
    return next((column for column in header if _plain(column) in _PATIENT_COLUMNS), None)


def _require(column: str, header: Sequence[str], place: str) -> str:
    if column not in header:
        raise BadData(f"{place} has no column {column!r}; it has {', '.join(header) or 'none'}")
    return column


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalpha())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
