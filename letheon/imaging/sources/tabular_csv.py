"""Records from one table of numbers and categories: a row is a record, a vector of features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.report import Findings, Loaded, Note, Skipped
from letheon.imaging.sources.table_file import THRESHOLD, beyond, parsed
from letheon.imaging.sources.table_values import Column, is_number, same_value


@dataclass(frozen=True)
class TabularCsvSource:
    """One site's CSV file. Nothing is estimated from it: what fills gaps and what scales a column
    is given, so that every site of a federation makes the same features.

    A record is float32 [features]: the columns in the order of the file, a categorical one as one
    feature a category. Record ids are `<file stem>:<row>`, counted from 1 as stored.
    """

    path: str | Path
    target: str  # column of the label
    columns: Sequence[str] | None = None  # names; None: the first line holds them
    positive: str | None = None  # "> 0": two classes, by a threshold
    classes: Mapping[str, str] | None = None  # or value -> class name
    class_names: Sequence[str] | None = None  # in label order; None: the sorted values
    drop: Sequence[str] = ()
    categorical: Mapping[str, Sequence[str | float]] = field(default_factory=dict)
    missing: Sequence[str] = ("?", "", "NA", "NaN", "nan")
    missing_in: Mapping[str, Sequence[str | float]] = field(default_factory=dict)
    impute: Mapping[str, float | str] = field(default_factory=dict)
    standardise: Mapping[str, Sequence[float]] = field(default_factory=dict)  # mean, std
    patient_column: str | None = None
    delimiter: str = ","
    strict: bool = False
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.positive is not None and self.classes is not None:
            raise ValueError("give positive (a threshold) or classes (a map), not both")
        if self.positive is not None and not THRESHOLD.match(self.positive):
            raise ValueError(f"positive must be like '> 0', not {self.positive!r}")
        if self.positive is not None and len(self.class_names or ("", "")) != 2:
            raise ValueError("positive makes two classes: class_names needs two names")
        for name, numbers in self.standardise.items():
            if len(numbers) != 2 or not numbers[1] > 0:
                raise ValueError(f"standardise.{name} must be [mean, std] with std > 0")
        if self.target in self.drop:
            raise ValueError(f"the target {self.target!r} is among the columns to drop")

    def load(self) -> Records:
        """Reads the file. Raises BadData."""
        return self.load_with_report().records

    def load_with_report(self) -> Loaded:
        """As `load`, with the rows that were left out."""
        return _Reading(self).loaded()

    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature: the column, or `column=category`. Raises BadData."""
        return _Reading(self).feature_names


class _Reading:
    """One load."""

    def __init__(self, source: TabularCsvSource) -> None:
        self._source = source
        self._path = Path(source.path).expanduser()
        self._findings = Findings(self._path, strict=source.strict)
        self._header, self._lines = parsed(self._path, source.columns, source.delimiter)
        self._columns = self._feature_columns()

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for column in self._columns for name in column.features)

    def loaded(self) -> Loaded:
        rows = list(self._rows())
        if not rows:
            raise self._findings.nothing_left("no row that can be used")
        names, labels = self._labels([row.target for row in rows])
        kept = [row for row, label in enumerate(labels) if label is not None]
        for row, label in enumerate(labels):
            if label is None:
                place = f"row {rows[row].number}"
                self._findings.skip(Skipped.UNKNOWN_LABEL, place, place=place)
        kept = self._without_copies(kept, rows)
        if not kept:
            raise self._findings.nothing_left("no row that can be used")
        patients = [rows[row].patient for row in kept]
        return self._findings.loaded(
            Records(
                images=np.array([rows[row].features for row in kept], dtype=np.float32),
                labels=np.array([labels[row] for row in kept], dtype=np.int64),
                record_ids=tuple(f"{self._path.stem}:{rows[row].number}" for row in kept),
                patients=None if None in patients else tuple(map(str, patients)),
                class_names=names,
            )
        )

    def _rows(self) -> Iterator[_Row]:
        source = self._source
        target = self._header.index(source.target)
        patient = None
        if source.patient_column is not None:
            patient = self._header.index(source.patient_column)
        for number, cells in self._lines:
            place = f"row {number}"
            try:
                self._check_line(cells, target)
                features, filled = self._features(cells)
            except Undecodable as error:
                example = f"{place}: {error.why}"
                self._findings.skip(error.skipped, example, place=place, why=error.why)
                continue
            if filled:
                self._findings.note(Note.FILLED_VALUES, place, filled)
            who = None if patient is None else cells[patient] or f"{place}"
            yield _Row(number, features, cells[target], who)

    def _check_line(self, cells: Sequence[str], target: int) -> None:
        if len(cells) != len(self._header):
            raise Undecodable(
                Skipped.BAD_VALUE,
                f"it has {len(cells)} values, the table {len(self._header)} columns",
            )
        if cells[target] in self._source.missing:
            raise Undecodable(Skipped.NO_LABEL, f"no {self._source.target}")

    def _features(self, cells: Sequence[str]) -> tuple[list[float], int]:
        features: list[float] = []
        filled = 0
        for column in self._columns:
            values, was_filled = column.read(cells[column.place])
            features.extend(values)
            filled += was_filled
        return features, filled

    def _without_copies(self, kept: list[int], rows: Sequence[_Row]) -> list[int]:
        seen: set[tuple[object, ...]] = set()
        found: list[int] = []
        for row in kept:
            one, place = rows[row], f"row {rows[row].number}"
            key = (*one.features, one.target)
            if key in seen and self._source.drop_duplicates:
                self._findings.skip(Skipped.DUPLICATE, place, place=place)
                continue
            if key in seen:
                self._findings.note(Note.SAME_PIXELS, place)
            seen.add(key)
            found.append(row)
        return found

    def _labels(self, values: Sequence[str]) -> tuple[tuple[str, ...], list[int | None]]:
        source = self._source
        if source.positive is not None:
            names = tuple(source.class_names or ("negative", "positive"))
            return names, [beyond(value, source.positive) for value in values]
        if source.classes is not None:
            named = [
                next((n for v, n in source.classes.items() if same_value(value, v)), None)
                for value in values
            ]
            names = tuple(source.class_names or sorted(set(source.classes.values())))
        else:
            named = list(values)
            numbers = all(is_number(value) for value in values)
            order = sorted(set(values), key=(lambda v: (float(v), v)) if numbers else None)
            names = tuple(source.class_names or order)
        places = [
            next((k for k, n in enumerate(names) if name is not None and same_value(name, n)), None)
            for name in named
        ]
        return names, places

    def _feature_columns(self) -> list[Column]:
        source = self._source
        aside = {source.target, *source.drop, source.patient_column}
        told = {
            "target": (source.target,),
            "drop": source.drop,
            "categorical": source.categorical,
            "impute": source.impute,
            "standardise": source.standardise,
            "missing_in": source.missing_in,
            "patient_column": () if source.patient_column is None else (source.patient_column,),
        }
        for key, names in told.items():
            if unknown := [name for name in names if name not in self._header]:
                raise BadData(
                    f"{self._path} has no column {unknown[0]!r}, which {key} names; it has"
                    f" {', '.join(self._header)}",
                    path=self._path,
                )
        return [
            Column(
                name=name,
                place=place,
                categories=tuple(map(str, source.categorical[name]))
                if name in source.categorical
                else None,
                missing=(*source.missing, *map(str, source.missing_in.get(name, ()))),
                fill=None if name not in source.impute else str(source.impute[name]),
                scale=_scale(source.standardise.get(name)),
            )
            for place, name in enumerate(self._header)
            if name not in aside
        ]


@dataclass(frozen=True)
class _Row:
    number: int
    features: list[float]
    target: str
    patient: str | None


def _scale(numbers: Sequence[float] | None) -> tuple[float, float] | None:
    return None if numbers is None else (float(numbers[0]), float(numbers[1]))
