"""Records as PyTorch takes them. Torch is imported when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from letheon.imaging.records import Records
from letheon.site.job import Config

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset


def batches(records: Records, config: Config) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`config.steps` batches of images and labels, drawn as Letheon's own training draws them.

    Passes over all records, each in a new order that hangs on the seed alone; on `config.device`.
    In a training made again without some records the others meet in the same batches as then;
    a batch of which nobody is left is passed over.
    """
    from letheon.imaging.local_training import batch_rows

    told = config.steps, config.batch_size, config.seed, config.places
    for rows in batch_rows(len(records), *told):
        if len(rows) == 0:
            continue
        images, labels = _tensors(records, rows)
        yield images.to(config.device), labels.to(config.device)


def dataset(records: Records) -> Dataset[tuple[torch.Tensor, torch.Tensor]]:
    """A map-style dataset for a DataLoader: item `i` is image and label of record `i`.

    Give the DataLoader `generator=torch.Generator().manual_seed(config.seed)` if it shuffles.
    """
    from torch.utils.data import Dataset

    class _Items(Dataset[Any]):
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
            images, labels = _tensors(records, np.array([row]))
            return images[0], labels[0]

    return _Items()


def _tensors(records: Records, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401 - as numpy's
    """Copies, so that an augmentation in place reaches no record."""
    import torch

    images = torch.from_numpy(np.array(records.images[rows], dtype=np.float32))
    return images, torch.from_numpy(np.array(records.labels[rows], dtype=np.int64))
