"""A database that is older than the files beside it is refused before anything is swept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import a_core, a_vector, enrol, take_delta

from coordinator.core import Core
from letheon.errors import BadConfig

DATABASE = "coordinator.sqlite"


def a_trained_core(tmp_path: Path) -> Core:
    core = a_core(tmp_path)
    enrol(core, "north")
    for seed in range(3):
        take_delta(core, "north", a_vector(seed))
    return core


def copy_database(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in target.glob(f"{DATABASE}*"):
        path.unlink()
    for path in source.glob(f"{DATABASE}*"):
        shutil.copy(path, target / path.name)


def test_a_database_restored_alone_is_refused_and_no_payload_is_swept(tmp_path: Path) -> None:
    core = a_trained_core(tmp_path)
    core.derived.checkpoint()
    copy_database(tmp_path / "data", tmp_path / "backup")
    for seed in range(10, 14):
        take_delta(core, "north", a_vector(seed))
    core.derived.checkpoint()
    held = core.blobs.payloads.all()
    core.store.close()
    copy_database(tmp_path / "data", tmp_path / "newest")
    copy_database(tmp_path / "backup", tmp_path / "data")
    with pytest.raises(
        BadConfig, match=r"have seen row 7 of the ledger, the database ends at row 3"
    ):
        a_core(tmp_path)
    assert core.blobs.payloads.all() == held
    copy_database(tmp_path / "newest", tmp_path / "data")
    assert a_core(tmp_path).live.position.entry == 7


def test_another_history_is_refused_too(tmp_path: Path) -> None:
    core = a_trained_core(tmp_path)
    copy_database(tmp_path / "data", tmp_path / "backup")
    take_delta(core, "north", a_vector(20))
    core.derived.checkpoint()
    core.store.close()
    mark = (tmp_path / "data" / "ledger.json").read_bytes()
    (tmp_path / "data" / "ledger.json").unlink()
    copy_database(tmp_path / "backup", tmp_path / "data")
    other = a_core(tmp_path)  # knowingly
    take_delta(other, "north", a_vector(21))
    other.store.close()
    (tmp_path / "data" / "ledger.json").write_bytes(mark)
    with pytest.raises(BadConfig, match="has another row there"):
        a_core(tmp_path)


def test_files_that_are_behind_the_database_are_fine(tmp_path: Path) -> None:
    core = a_trained_core(tmp_path)
    core.derived.checkpoint()
    take_delta(core, "north", a_vector(30))
    core.store.close()
    assert a_core(tmp_path).live.position.entry == 4


def test_a_mark_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    a_trained_core(tmp_path).store.close()
    (tmp_path / "data" / "ledger.json").write_text("{")
    with pytest.raises(BadConfig, match=r"ledger\.json cannot be read"):
        a_core(tmp_path)
