"""Batches of the records to erase, as the target's part of a method takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from letheon.imaging.records import Records

if TYPE_CHECKING:
    import torch


def draw_batches(
    records: Records, steps: int, batch_size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of images and labels, without replacement within a pass over the records."""
    import torch

    generator = np.random.default_rng(seed)
    size = min(batch_size, len(records))
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < size:
            order = generator.permutation(len(records))
        rows, order = order[:size], order[size:]
        yield torch.from_numpy(records.images[rows]), torch.from_numpy(records.labels[rows])
