"""The images a local federation trains and is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from letheon.errors import BadData
from letheon.imaging.records import LabelKind, Records
from letheon.imaging.sources.npz import NpzSource
from letheon.imaging.sources.synthetic import SyntheticSource
from letheon.imaging.tasks.task import build_task

Split = Literal["train", "validation", "test"]

_TASKS = {
    LabelKind.CLASS: "classification",
    LabelKind.MULTI: "multi_label",
    LabelKind.MASK: "segmentation",
}
_SYNTHETIC = {"train": 3000, "validation": 400, "test": 600}
_SYNTHETIC_CLASSES = 4
_SYNTHETIC_SIDE = 28


@dataclass(frozen=True)
class Dataset:
    """Three disjoint sets of records with the same classes and shape."""

    name: str
    training: Records
    validation: Records
    test: Records

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one record: (channels, [depth,] height, width), or (features,)."""
        return tuple(int(side) for side in self.training.images.shape[1:])

    @property
    def task(self) -> str:
        """The task that the labels are made for."""
        if len(self.image_shape) == 1:
            return "tabular"
        return _TASKS[self.training.label_kind]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.training.class_names)


def read_npz(path: Path, *, patient_key: str | None = None) -> Dataset:
    """Reads a `.npz` with three splits (see `NpzSource`).

    Raises BadData for a file that is missing, unreadable, not split, or has one class only.
    """
    if not path.is_file():
        raise BadData(f"there is no data file {path}", path=path)

    def load(split: Split) -> Records:
        return NpzSource(path=path, split=split, patient_key=patient_key).load()

    return _checked(Dataset(path.stem, load("train"), load("validation"), load("test")))


def make_synthetic(seed: int) -> Dataset:
    """Structured phantoms that a small network learns in seconds; no file is needed."""

    def load(offset: int, records: int) -> Records:
        return SyntheticSource(
            records=records,
            classes=_SYNTHETIC_CLASSES,
            channels=1,
            height=_SYNTHETIC_SIDE,
            width=_SYNTHETIC_SIDE,
            seed=seed + offset,
        ).load()

    parts = [load(i, n) for i, n in enumerate(_SYNTHETIC.values())]
    return _checked(Dataset("synthetic", *parts))


def _checked(dataset: Dataset) -> Dataset:
    task = build_task(dataset.task, {})
    for part in (dataset.training, dataset.validation, dataset.test):
        task.check_fit(part, shape=dataset.image_shape, classes=dataset.classes)
    return dataset
