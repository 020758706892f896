"""One coordinator a folder, and a folder and a database that belong together."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from builders import a_config, a_core, a_federation, a_vector

from coordinator.adapters.data_dir import check_federation, locked
from coordinator.core_wiring import build_core, open_store
from coordinator.domain.model import Checkpoint
from coordinator.services.keep_derived import vector_bytes
from letheon.errors import BadConfig
from letheon.servicekit.clock import FakeClock


def test_a_second_coordinator_on_the_same_folder_is_refused_at_once(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "data"),
        pytest.raises(BadConfig, match=f"used by another coordinator, pid {os.getpid()}"),
        locked(tmp_path / "data"),
    ):
        pass
    with locked(tmp_path / "data"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="file/data"), locked(tmp_path / "file" / "data"):
        pass


def test_a_folder_belongs_to_the_first_federation_it_sees(tmp_path: Path) -> None:
    check_federation(tmp_path, None)
    check_federation(tmp_path, "f1")
    check_federation(tmp_path, "f1")
    with pytest.raises(BadConfig, match="federation f1, the database is of federation f2"):
        check_federation(tmp_path, "f2")
    with pytest.raises(BadConfig, match=r"database is empty: restore.*letheon restore"):
        check_federation(tmp_path, None)


def test_a_marker_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "federation.json").write_text("{")
    with pytest.raises(BadConfig, match=r"federation\.json cannot be read"):
        check_federation(tmp_path, "f1")


def test_the_files_of_another_federation_are_refused_and_kept(tmp_path: Path) -> None:
    core = a_core(tmp_path / "one")
    a_core(tmp_path / "two")
    held = core.blobs.payloads.all()
    a_federation(tmp_path / "one" / "federation")
    swapped = a_config(
        tmp_path / "one",
        database={"url": f"sqlite:///{tmp_path / 'two' / 'data' / 'coordinator.sqlite'}"},
    )
    with pytest.raises(BadConfig, match="name the two that belong together"):
        build_core(swapped, open_store(swapped), FakeClock())
    assert list(core.blobs.payloads.all()) == list(held)


def test_a_lost_database_is_not_made_anew_over_the_files(tmp_path: Path) -> None:
    a_core(tmp_path)
    (tmp_path / "data" / "coordinator.sqlite").unlink()
    for leftover in (tmp_path / "data").glob("coordinator.sqlite-*"):
        leftover.unlink()
    with pytest.raises(BadConfig, match="database is empty"):
        a_core(tmp_path)


def test_a_checkpoint_of_another_model_is_dropped_and_the_head_replayed(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    _, head = core.live.snapshot()
    other = core.blobs.checkpoints.put(vector_bytes(a_vector(1)[:-1]))
    with core.store.write() as uow:
        uow.checkpoints.add(Checkpoint(0, 0, 0, other, core.clock.now()))
        uow.commit()
    again = a_core(tmp_path)
    assert np.array_equal(again.live.snapshot()[1], head)
    assert other not in again.blobs.checkpoints.all()
