"""Small records of every task that a small network can learn something of."""

from __future__ import annotations

import numpy as np

from letheon.imaging.records import Records


def some_records(task: str, count: int = 24, *, volumes: bool = False, seed: int = 0) -> Records:
    """Records of a task: images 1x16x16, volumes 1x8x16x16, rows of 5 features; two classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    if task == "tabular":
        rows = generator.normal(size=(count, 5)) + 2.0 * labels[:, None] - 1.0
        return _named(rows, labels.astype(np.int64))
    space = (8, 16, 16) if volumes else (16, 16)
    images = generator.uniform(0.0, 0.4, size=(count, 1, *space))
    masks = np.zeros((count, *space), dtype=np.uint8)
    for row in range(count):
        corner = generator.integers(2, 6, size=len(space))
        box = tuple(slice(int(start), int(start) + 5) for start in corner)
        masks[(row, *box)] = labels[row] if task != "segmentation" else 1
    images += 0.5 * masks[:, None]
    if task == "segmentation":
        return _named(images, masks)
    if task == "multi_label":
        other = (images[:, 0].reshape(count, -1).mean(axis=1) > 0.2).astype(np.int64)
        other[::5] = -1
        return _named(images, np.stack([labels.astype(np.int64), other], axis=1))
    return _named(images, labels.astype(np.int64))


def _named(images: np.ndarray, labels: np.ndarray) -> Records:
    count = len(images)
    return Records(
        images=images.astype(np.float32),
        labels=labels,
        record_ids=tuple(f"r{row}" for row in range(count)),
        patients=tuple(f"p{row // 2}" for row in range(count)),
        class_names=("no", "yes"),
    )
