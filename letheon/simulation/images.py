"""The images of a study: read, thinned out and made small enough for a few cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.npz import NpzSource

DATA_VARIABLE = "LETHEON_DATA"


class ImagesConfig(BaseModel):
    """Which images, and what is done to them before they are dealt to sites."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")  # part of a file name
    file: str  # an .npz; relative to the data folder
    patient_key: str | None = None  # array of patients; none: the usual names are looked for
    records_are_patients: bool = False  # every record by itself, whatever the file says
    site_key: str | None = None  # array of natural sites; none: dealt by Dirichlet
    merge_classes: dict[str, str] = {}  # class name -> the class it is counted as
    shrink: int = Field(default=1, ge=1)  # mean over squares of so many pixels a side
    most: int = Field(default=6000, ge=100)  # records, drawn by patient
    before: int | None = Field(default=None, ge=1)  # deltas until the request; none: the study's


def find_file(config: ImagesConfig, data: Path | None) -> Path:
    """The file, in `data`, in the folder that LETHEON_DATA names, or as an absolute path.

    Raises BadData naming where it was looked for.
    """
    places = [Path(config.file).expanduser()]
    folders = [data] if data is not None else []
    if DATA_VARIABLE in os.environ:
        folders.append(Path(os.environ[DATA_VARIABLE]))
    places += [folder / config.file for folder in folders if folder.is_dir()]
    places += [folder for folder in folders if folder.name == Path(config.file).name]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise BadData(
        f"the images {config.name!r} are not there (looked for {looked}): give --data or set "
        f"{DATA_VARIABLE}"
    )


def load_images(
    config: ImagesConfig, path: Path, *, seed: int
) -> tuple[Records, tuple[str, ...] | None]:
    """The records, and the natural site of each where the config names an array of them.

    Raises BadData for a file that does not hold what the config says.
    """
    source = NpzSource(path=path, split="all", patient_key=config.patient_key)
    records = source.load()
    if config.records_are_patients:
        records = replace(records, patients=None)
    records = _merged(records, config.merge_classes)
    sites = None if config.site_key is None else _natural_sites(path, config.site_key, records)
    rows = _sampled(records, config.most, seed)
    images = _shrunk(records.images[rows], config.shrink)
    chosen = records.select(rows)
    small = replace(chosen, images=images)
    return small, None if sites is None else tuple(sites[row] for row in rows)


def _natural_sites(path: Path, key: str, records: Records) -> list[str]:
    with np.load(path, allow_pickle=False) as table:
        if key not in table.files or table[key].shape != (len(records),):
            raise BadData(f"{path} has no array {key!r} with a site for each record", path=path)
        return [f"site-{int(value) + 1}" for value in table[key]]


def _merged(records: Records, merges: Mapping[str, str]) -> Records:
    """The records with some classes counted as others; class numbers close up."""
    names = records.class_names
    for name in (*merges.keys(), *merges.values()):
        if name not in names:
            raise BadData(f"there is no class {name!r} to merge; there are: {', '.join(names)}")
    kept = tuple(name for name in names if name not in merges)
    index = {name: kept.index(merges.get(name, name)) for name in names}
    table = np.array([index[name] for name in names], dtype=np.int64)
    return replace(records, labels=table[records.labels], class_names=kept)


def _sampled(records: Records, most: int, seed: int) -> list[int]:
    """Rows of whole patients, drawn at random until `most` is reached; sorted."""
    if len(records) <= most:
        return list(range(len(records)))
    members: dict[str, list[int]] = {}
    for row, group in enumerate(records.groups()):
        members.setdefault(group, []).append(row)
    rows: list[int] = []
    groups = list(members.values())
    for place in np.random.default_rng(seed).permutation(len(groups)):
        if len(rows) + len(groups[place]) <= most:
            rows.extend(groups[place])
    return sorted(rows)


def _shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return images
    count, channels, height, width = images.shape
    if height % factor or width % factor:
        raise BadData(f"images of {height}x{width} cannot be shrunk by {factor}")
    blocks = images.reshape(count, channels, height // factor, factor, width // factor, factor)
    return np.ascontiguousarray(blocks.mean(axis=(3, 5), dtype=np.float32))
