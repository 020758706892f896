"""Labelled images of one site, in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData

Images = npt.NDArray[np.float32]  # [n, channels, height, width] in [0, 1]
Labels = npt.NDArray[np.int64]  # [n], class index
Indices = npt.NDArray[np.int64]  # rows of a Records


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """Images with their labels and the identifiers that never leave the site.

    `record_ids` names each row; `patients` names the patient of each row, or is None where the
    source does not know. Raises BadData if the parts do not belong together.
    """

    images: Images
    labels: Labels
    record_ids: tuple[str, ...]
    patients: tuple[str, ...] | None
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.float32:
            raise BadData(
                "images must be float32 of shape [n, channels, height, width], "
                f"not {self.images.dtype} of shape {list(self.images.shape)}"
            )
        count = len(self.images)
        if self.labels.shape != (count,) or self.labels.dtype != np.int64:
            raise BadData(
                f"{count} images need int64 labels of shape [{count}], "
                f"not {self.labels.dtype} of shape {list(self.labels.shape)}"
            )
        if len(self.record_ids) != count:
            raise BadData(f"{count} images, but {len(self.record_ids)} record ids")
        if self.patients is not None and len(self.patients) != count:
            raise BadData(f"{count} images, but {len(self.patients)} patient entries")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        # Neither record nor patient identifiers: a repr ends up in logs and tracebacks.
        _, channels, height, width = self.images.shape
        return (
            f"Records({len(self)} images of {channels}x{height}x{width}, "
            f"{len(self.class_names)} classes)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records):
            return NotImplemented
        return (
            self.record_ids == other.record_ids
            and self.patients == other.patients
            and self.class_names == other.class_names
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.images, other.images)
        )

    __hash__ = None  # type: ignore[assignment]

    def select(self, indices: npt.ArrayLike) -> Records:
        """The rows at `indices` (integers in any order, or a mask [n]), copied."""
        rows = np.asarray(indices)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise BadData(f"a mask over {len(self)} records has shape {list(rows.shape)}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        patients = self.patients
        return Records(
            images=self.images[rows],
            labels=self.labels[rows],
            record_ids=tuple(self.record_ids[row] for row in rows),
            patients=None if patients is None else tuple(patients[row] for row in rows),
            class_names=self.class_names,
        )

    def groups(self) -> tuple[str, ...]:
        """What must stay together, for each row: the patient, or else the record itself. [n]"""
        return self.record_ids if self.patients is None else self.patients

    def fingerprint(self) -> str:
        """sha256 hex over pixels, labels, identifiers and class names, in order."""
        digest = hashlib.sha256()
        head = [self.images.shape, self.record_ids, self.patients, self.class_names]
        text = json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.images, dtype="<f4").data)
        return digest.hexdigest()
