"""Labelled images of one site."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.images import Images, Indices, Pixels, blocks, select

__all__ = ["Images", "Indices", "LabelKind", "Labels", "Pixels", "Records", "Targets"]

Labels = npt.NDArray[np.int64]  # [n], class index
# Labels of any kind. Masks may be a store as `Images` is: numpy's indexing and nothing else.
Targets = npt.NDArray[Any]


class LabelKind(Enum):
    """What the labels say of a record."""

    CLASS = "class"  # int64 [n]: its one class, or -1 where it is unknown
    MULTI = "multi_label"  # int64 [n, classes]: 1 has it, 0 has it not, -1 unknown
    MASK = "mask"  # uint8 [n, (depth,) height, width]: the class of every pixel


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """Images with their labels and the identifiers that never leave the site.

    `images` are float32 of shape [n, features], [n, channels, height, width] or
    [n, channels, depth, height, width]; pixels lie in [0, 1], features anywhere. They may be
    decoded when first needed (see `Images`). `labels` are of one `LabelKind`. `record_ids` names
    each row; `patients` names the patient of each row, or is None where the source does not know.
    `class_names` names the classes, of a mask its values. Raises BadData if the parts do not
    belong together.
    """

    images: Images
    labels: Targets
    record_ids: tuple[str, ...]
    patients: tuple[str, ...] | None
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images.shape) not in (2, 4, 5) or self.images.dtype != np.float32:
            raise BadData(
                "images must be float32 of shape [n, features], [n, channels, height, width] or "
                "[n, channels, depth, height, width], "
                f"not {self.images.dtype} of shape {list(self.images.shape)}"
            )
        count = len(self.images)
        self._check_labels(count)
        if len(self.record_ids) != count:
            raise BadData(f"{count} images, but {len(self.record_ids)} record ids")
        if self.patients is not None and len(self.patients) != count:
            raise BadData(f"{count} images, but {len(self.patients)} patient entries")

    def _check_labels(self, count: int) -> None:
        shape, dtype = self.labels.shape, self.labels.dtype
        if dtype == np.int64 and shape == (count,):
            return
        if dtype == np.int64 and shape == (count, len(self.class_names)):
            if self.labels.size and not -1 <= self.labels.min() <= self.labels.max() <= 1:
                raise BadData("labels of several classes must be 1, 0 or -1 (unknown)")
            return
        spatial = self.images.shape[2:]
        if dtype == np.uint8 and spatial and shape == (count, *spatial):
            return
        raise BadData(
            f"{count} images need int64 labels of shape [{count}], int64 of shape "
            f"[{count}, {len(self.class_names)}] (one column a class)"
            + (f", or uint8 masks of shape {[count, *spatial]}" if spatial else "")
            + f", not {dtype} of shape {list(shape)}"
        )

    @property
    def label_kind(self) -> LabelKind:
        """What the labels say."""
        if self.labels.dtype == np.uint8:
            return LabelKind.MASK
        return LabelKind.CLASS if len(self.labels.shape) == 1 else LabelKind.MULTI

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        # Neither record nor patient identifiers: a repr ends up in logs and tracebacks.
        shape = "x".join(str(side) for side in self.images.shape[1:])
        return f"Records({len(self)} images of {shape}, {len(self.class_names)} classes)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records):
            return NotImplemented
        return (
            self.record_ids == other.record_ids
            and self.patients == other.patients
            and self.class_names == other.class_names
            and _equal(self.labels, other.labels)
            and _equal(self.images, other.images)
        )

    __hash__ = None  # type: ignore[assignment]

    def select(self, indices: npt.ArrayLike) -> Records:
        """The rows at `indices` (integers in any order, or a mask [n]).

        Copied from arrays; what is decoded when needed stays so.
        """
        rows = np.asarray(indices)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise BadData(f"a mask over {len(self)} records has shape {list(rows.shape)}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        patients = self.patients
        labels: Any = select(self.labels, rows)
        return Records(
            images=select(self.images, rows),
            labels=labels,
            record_ids=tuple(self.record_ids[row] for row in rows),
            patients=None if patients is None else tuple(patients[row] for row in rows),
            class_names=self.class_names,
        )

    def groups(self) -> tuple[str, ...]:
        """What must stay together, for each row: the patient, or else the record itself. [n]"""
        return self.record_ids if self.patients is None else self.patients

    def fingerprint(self) -> str:
        """sha256 hex over pixels, labels, identifiers and class names, in order.

        The same whether pixels are in memory or decoded when needed.
        """
        digest = hashlib.sha256()
        head: list[object] = [
            self.images.shape,
            self.record_ids,
            self.patients,
            self.class_names,
        ]
        if self.label_kind is not LabelKind.CLASS:
            head.append(self.label_kind.value)
        text = json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
        labels = "|u1" if self.label_kind is LabelKind.MASK else "<i8"
        for block in blocks(self.labels):
            digest.update(np.ascontiguousarray(block, dtype=labels).data)
        for block in blocks(self.images):
            digest.update(np.ascontiguousarray(block, dtype="<f4").data)
        return digest.hexdigest()


def _equal(first: Images, second: Images) -> bool:
    if first.shape != second.shape:
        return False
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    return all(
        np.array_equal(first[row], second[row])  # one row at a time bounds the memory
        for row in range(len(first))
    )
