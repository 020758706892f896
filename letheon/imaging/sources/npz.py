"""Records from a NumPy archive, and shards written as one.

Two forms are read. MedMNIST (Yang et al., Sci. Data 10:41, 2023): `{train,val,test}_images` and
`_labels`. One table: `images`, `labels`, `class_names`, a split array with 0 = train,
1 = validation, 2 = test, and `record_ids` and a patient array where known. Images are
[n, h, w] or [n, h, w, c], uint8, or float32 in [0, 1]. With `layout` = "channels_first" images are
[n, features], [n, c, h, w] or [n, c, d, h, w], and labels may be one column a class or masks.
Nothing pickled is ever read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.records import LabelKind, Pixels, Records, Targets
from letheon.imaging.sources.archive import Archive, Array, opened

SPLITS = ("train", "validation", "test")
_PREFIXES = {"train": "train", "validation": "val", "test": "test"}
_LAYOUT, _CHANNELS_FIRST = "layout", "channels_first"
_PATIENT_KEYS = ("patients", "patient", "subject", "lesion")


@dataclass(frozen=True)
class NpzSource:
    """A `.npz` file; see the module for its forms.

    Record ids are the file's `record_ids`, or `<file stem>:<split>:<row>`, where the row counts
    within the array as stored.
    """

    path: str | Path
    # "train", "validation", "test" or "all"; None: "train" of a file that is split, else "all"
    split: str | None = None
    split_key: str | None = None  # the split array; None: "split"
    patient_key: str | None = None  # the patient array; None: patient, subject or lesion
    class_names: Sequence[str] | None = None  # for files without; None: "class 0", ...

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS, "all"):
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or all, not {self.split!r}")

    def load(self) -> Records:
        """Reads the asked split. Raises BadData."""
        path = Path(self.path).expanduser()
        with opened(path) as table:
            if not table.has("images") and any(
                table.has(f"{prefix}_images") for prefix in _PREFIXES.values()
            ):
                return self._load_medmnist(table)
            return self._load_table(table)

    def _load_medmnist(self, table: Archive) -> Records:
        asked = self.split or "train"
        wanted = SPLITS if asked == "all" else (asked,)
        present = [split for split in wanted if table.has(f"{_PREFIXES[split]}_images")]
        if not present:
            table.read(f"{_PREFIXES[asked]}_images")
        parts = [self._part(table, split, f"{_PREFIXES[split]}_") for split in present]
        counts = [
            table.labels(f"{prefix}_labels")
            for prefix in _PREFIXES.values()
            if table.has(f"{prefix}_labels")
        ]
        names = self._names(table, np.concatenate(counts))
        return _joined(table.path, parts, names)

    def _load_table(self, table: Archive) -> Records:
        part = self._part(table, "all", "")
        names = self._names(table, part.labels)
        splits = self._splits(table, len(part.labels))
        words = [SPLITS[code] for code in splits] if splits is not None else ["all"] * len(part)
        if part.record_ids is None:
            stem = table.path.stem
            part.record_ids = tuple(f"{stem}:{word}:{row}" for row, word in enumerate(words))
        records = _joined(table.path, [part], names)
        if self.split == "all" or splits is None:
            return records
        return records.select(splits == SPLITS.index(self.split or "train"))

    def _splits(self, table: Archive, count: int) -> npt.NDArray[np.int64] | None:
        key = self.split_key or "split"
        if not table.has(key):
            others = sorted(name for name in table.keys if name.startswith("split"))
            unsplit_will_do = self.split == "all" or (self.split is None and not others)
            if unsplit_will_do and self.split_key is None:
                return None
            advice = (
                f"choose one of {', '.join(others)} by split_key"
                if others
                else "the file is not split, leave split out"
            )
            raise BadData(f"{table.path} has no array {key!r}: {advice}", path=table.path)
        splits = table.whole_numbers(key)
        if splits.shape != (count,) or (splits.size and not 0 <= splits.min() <= splits.max() <= 2):
            raise BadData(
                f"{key!r} of {table.path} must hold 0 (train), 1 (validation) or 2 (test) "
                f"for each of {count} records",
                path=table.path,
            )
        return splits

    def _part(self, table: Archive, split: str, prefix: str) -> _Part:
        images, labels = self._arrays(table, prefix)
        if len(labels) != len(images):
            raise BadData(
                f"{table.path} has {len(images)} images but {len(labels)} labels", path=table.path
            )
        key = f"{prefix}record_ids"
        return _Part(
            split=split,
            images=images,
            labels=labels,
            patients=self._patients(table, prefix, len(labels)),
            record_ids=table.strings(key, len(labels)) if table.has(key) else None,
        )

    def _arrays(self, table: Archive, prefix: str) -> tuple[Pixels, Targets]:
        if not table.has(_LAYOUT):
            return table.images(f"{prefix}images"), table.labels(f"{prefix}labels")
        if (told := table.strings(_LAYOUT, 1)[0]) != _CHANNELS_FIRST:
            raise BadData(
                f"{_LAYOUT!r} of {table.path} is {told!r}; the only one is {_CHANNELS_FIRST!r}",
                path=table.path,
            )
        return table.features_or_volumes(f"{prefix}images"), table.targets(f"{prefix}labels")

    def _patients(self, table: Archive, prefix: str, count: int) -> tuple[str, ...] | None:
        if self.patient_key is not None:
            return table.strings(f"{prefix}{self.patient_key}", count)
        for key in _PATIENT_KEYS:
            if table.has(f"{prefix}{key}"):
                return table.strings(f"{prefix}{key}", count)
        return None

    def _names(self, table: Archive, labels: Targets) -> tuple[str, ...]:
        if self.class_names is not None:
            names = tuple(self.class_names)
        elif table.has("class_names"):
            names = table.strings("class_names", None)
        else:
            names = tuple(f"class {index}" for index in range(int(labels.max(initial=-1)) + 1))
        several = labels.ndim == 2  # 1, 0 or unknown, one column a class
        if labels.size and not several and not 0 <= labels.min() <= labels.max() < len(names):
            raise BadData(
                f"labels of {table.path} run from {labels.min()} to {labels.max()}, "
                f"but there are {len(names)} class names",
                path=table.path,
            )
        return names


@dataclass
class _Part:
    split: str
    images: Pixels
    labels: Targets
    patients: tuple[str, ...] | None
    record_ids: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.labels)


def _joined(path: Path, parts: Sequence[_Part], names: tuple[str, ...]) -> Records:
    if len({part.images.shape[1:] for part in parts}) > 1:
        raise BadData(f"the splits of {path} hold images of different shapes", path=path)
    record_ids: list[str] = []
    for part in parts:
        made = (f"{path.stem}:{part.split}:{row}" for row in range(len(part)))
        record_ids.extend(part.record_ids if part.record_ids is not None else made)
    if len(set(record_ids)) != len(record_ids):
        raise BadData(f"{path} gives two records the same id", path=path)
    known = [part.patients for part in parts if part.patients is not None]
    patients = tuple(name for names_ in known for name in names_)
    return Records(
        images=parts[0].images if len(parts) == 1 else np.concatenate([p.images for p in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        record_ids=tuple(record_ids),
        patients=patients if len(known) == len(parts) else None,
        class_names=names,
    )


def write_npz(path: str | Path, records: Records) -> None:
    """Writes a shard; `NpzSource(path, split="all")` reads equal records back.

    Pixels are stored as uint8 where that loses nothing, else as float32. The file appears
    whole or not at all.
    """
    target = Path(path)
    images = np.asarray(records.images)
    plain = images.ndim == 4 and records.label_kind is LabelKind.CLASS
    if plain:
        images = np.moveaxis(images, 1, -1)
        images = images[..., 0] if images.shape[-1] == 1 else images
    arrays: dict[str, Array] = {
        "images": images if images.ndim == 2 else _smallest(images),
        "labels": np.asarray(records.labels),
        "class_names": np.array(records.class_names, dtype=np.str_),
        "record_ids": np.array(records.record_ids, dtype=np.str_),
    }
    if not plain:
        arrays[_LAYOUT] = np.array([_CHANNELS_FIRST], dtype=np.str_)
    if records.patients is not None:
        arrays["patients"] = np.array(records.patients, dtype=np.str_)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _smallest(images: Pixels) -> npt.NDArray[np.uint8] | Pixels:
    grey_levels = np.rint(images * np.float32(255)).astype(np.uint8)
    restored = grey_levels.astype(np.float32) / np.float32(255)
    return grey_levels if np.array_equal(restored, images) else images
