"""What every registered data source keeps to."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from letheon import registry
from letheon.errors import BadConfig
from letheon.imaging.fitness import check_fit
from letheon.imaging.sources.npz import write_npz
from letheon.imaging.sources.source import Source
from letheon.imaging.sources.synthetic import SyntheticSource

CLASSES, CHANNELS, HEIGHT, WIDTH = 2, 3, 9, 10


def npz(folder: Path) -> Mapping[str, Any]:
    write_npz(folder / "site.npz", SyntheticSource(12, CLASSES, CHANNELS, HEIGHT, WIDTH).load())
    return {"path": str(folder / "site.npz"), "split": "all"}


def image_folder(folder: Path) -> Mapping[str, Any]:
    for name, value in (("a/1.png", 0), ("a/2.jpg", 90), ("b/1.png", 200)):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 15), (value, value, value)).save(folder / name)
    return {"path": str(folder), "height": HEIGHT, "width": WIDTH, "channels": CHANNELS}


def synthetic(folder: Path) -> Mapping[str, Any]:
    return {
        "records": 12,
        "classes": CLASSES,
        "channels": CHANNELS,
        "height": HEIGHT,
        "width": WIDTH,
        "seed": 3,
    }


# A new source is tried by adding what builds its arguments here.
ARGUMENTS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    "npz": npz,
    "image_folder": image_folder,
    "synthetic": synthetic,
}


@pytest.fixture(params=registry.names(registry.SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    name = request.param
    assert name in ARGUMENTS, f"source {name} is registered but not tried here"
    built: Source = registry.build(registry.SOURCES, name, ARGUMENTS[name](tmp_path))
    return built


def test_a_source_follows_the_protocol(source: Source) -> None:
    assert isinstance(source, Source)


def test_its_records_fit_the_plan_they_were_made_for(source: Source) -> None:
    records = source.load()
    check_fit(records, classes=CLASSES, channels=CHANNELS, height=HEIGHT, width=WIDTH)
    assert len(records.class_names) == CLASSES


def test_loading_twice_gives_equal_records(source: Source) -> None:
    first, second = source.load(), source.load()
    assert first == second
    assert first.fingerprint() == second.fingerprint()


def test_record_ids_are_unique(source: Source) -> None:
    records = source.load()
    assert len(set(records.record_ids)) == len(records)


def test_the_records_of_one_load_do_not_share_pixels_with_the_next(source: Source) -> None:
    records = source.load()
    if records.images.flags.writeable:
        records.images[:] = 0
    assert source.load().images.any()


def test_pixels_are_contiguous(source: Source) -> None:
    assert source.load().images.flags.c_contiguous


def test_its_records_survive_a_shard(source: Source, tmp_path: Path) -> None:
    records = source.load()
    write_npz(tmp_path / "shard" / "s.npz", records)
    shard: Source = registry.build(
        registry.SOURCES, "npz", {"path": str(tmp_path / "shard" / "s.npz"), "split": "all"}
    )
    assert shard.load() == records
    assert np.array_equal(shard.load().images, records.images)


@pytest.mark.parametrize("name", registry.names(registry.SOURCES))
def test_an_unknown_argument_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=name):
        registry.build(registry.SOURCES, name, {**ARGUMENTS[name](tmp_path), "speling": 1})
