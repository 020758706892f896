"""Which images the demo uses, and what is planted in one site's share of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pooch

from letheon.cli.local.dataset import Dataset, make_synthetic, read_npz
from letheon.errors import BadData
from letheon.imaging.backdoor import Trigger, plant
from letheon.imaging.records import Records

# PneumoniaMNIST of MedMNIST v2 (Yang et al., Sci. Data 10:41, 2023), CC BY 4.0.
PNEUMONIA_URL = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"
PNEUMONIA_MD5 = "28209eda62fecd6e6a2d98b1501bb15f"
DOWNLOAD_TIMEOUT_S = 20.0
MEDMNIST_CACHE = Path("~/.medmnist")
PREFERRED = ("pneumoniamnist", "pbc_blood_28")


@dataclass(frozen=True)
class Found:
    """The images, and a sentence on where they come from."""

    dataset: Dataset
    origin: str


@dataclass(frozen=True)
class Backdoor:
    """The planted artefact: known to the lab only."""

    trigger: Trigger
    target_class: int
    share: float
    seed: int

    def plant(self, records: Records) -> Records:
        """Stamps and relabels a share of the records of other classes."""
        return plant(records, self.trigger, self.target_class, self.share, self.seed)


def find_images(
    data: Path | None, dataset: str | None, *, seed: int, download_to: Path, offline: bool = False
) -> Found:
    """The first of: `data` (a file, or a folder to look in), the MedMNIST cache, the published
    PneumoniaMNIST file, phantoms.

    Raises BadData if `data` is given and holds nothing that fits.
    """
    if data is not None:
        path = data if data.is_file() else _in_folder(data, dataset)
        return Found(read_npz(path), f"images from {path}")
    if dataset == "synthetic":
        return Found(make_synthetic(seed), "synthetic phantoms, as asked")
    cached = MEDMNIST_CACHE.expanduser() / "pneumoniamnist.npz"
    if cached.is_file():
        return Found(read_npz(cached), f"images from the MedMNIST cache, {cached}")
    reason = "no download was tried" if offline else ""
    if not offline:
        try:
            return Found(read_npz(_download(download_to)), f"images from {PNEUMONIA_URL}")
        except (OSError, ValueError) as error:
            # pooch raises ValueError for another MD5, and requests' errors are OSErrors.
            reason = f"the download failed: {type(error).__name__}"
    notice = (
        f"SYNTHETIC phantoms, no medical images: no --data, nothing in {MEDMNIST_CACHE}, and "
        f"{reason}. The numbers below say nothing about medicine."
    )
    return Found(make_synthetic(seed), notice)


def _in_folder(folder: Path, dataset: str | None) -> Path:
    if not folder.is_dir():
        raise BadData(f"there is no file or folder {folder}", path=folder)
    names = (dataset,) if dataset else PREFERRED
    for name in names:
        for pattern in (f"{name}.npz", f"*/{name}.npz"):
            for path in sorted(folder.glob(pattern)):
                return path
    wanted = " or ".join(f"{name}.npz" for name in names)
    raise BadData(f"{folder} has no {wanted}, also one level down", path=folder)


def _download(folder: Path) -> Path:
    pooch.get_logger().setLevel(logging.WARNING)
    path = pooch.retrieve(
        url=PNEUMONIA_URL,
        known_hash=f"md5:{PNEUMONIA_MD5}",
        fname="pneumoniamnist.npz",
        path=folder,
        downloader=pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT_S),
    )
    return Path(path)


def resplit(dataset: Dataset, *, seed: int, validation: float = 0.1, test: float = 0.2) -> Dataset:
    """All images shuffled and split anew, by patient where patients are known.

    PneumoniaMNIST's own test images come from another distribution than its training images:
    accuracy on them jumps by ten points from version to version and hides what is compared here.
    """
    parts = (dataset.training, dataset.validation, dataset.test)
    every = _joined(parts)
    groups = np.array(every.groups())
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    ends = [round(test * len(order)), round((test + validation) * len(order))]
    tested, validated, trained = np.split(order, ends)
    return replace(
        dataset,
        training=every.select(np.isin(groups, trained)),
        validation=every.select(np.isin(groups, validated)),
        test=every.select(np.isin(groups, tested)),
    )


def _joined(parts: Sequence[Records]) -> Records:
    known = [part.patients for part in parts if part.patients is not None]
    return Records(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        record_ids=tuple(record for part in parts for record in part.record_ids),
        patients=tuple(p for each in known for p in each) if len(known) == len(parts) else None,
        class_names=parts[0].class_names,
    )


def trimmed(dataset: Dataset, *, training: int, test: int, seed: int) -> Dataset:
    """At most so many images each, drawn at random: the demo has minutes, not hours."""
    return replace(
        dataset,
        training=_sample(dataset.training, training, seed),
        test=_sample(dataset.test, test, seed),
    )


def _sample(records: Records, most: int, seed: int) -> Records:
    if len(records) <= most:
        return records
    chosen = np.random.default_rng(seed).permutation(len(records))[:most]
    return records.select(np.sort(chosen))
