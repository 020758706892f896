"""A coordinator that lacks a file says which, or makes it again; it never guesses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import a_config, a_core, a_vector, enrol, take_delta

from coordinator.core import Core
from coordinator.retention_wiring import Retention
from letheon.errors import Corrupt, PayloadMissing

Harm = Callable[[Path], None]


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


HARMS = pytest.mark.parametrize("harm", [remove, truncate])


def a_trained_core(directory: Path, deltas: int = 4) -> Core:
    core = a_core(directory)
    enrol(core, "north")
    for number in range(deltas):
        take_delta(core, "north", a_vector(number))
    return core


def compacted(directory: Path) -> Core:
    """Four rows after an anchor that stands in for all payloads before it."""
    core = a_trained_core(directory)
    retention = Retention(core, a_config(directory, retention={"keep_entries": 4}))
    assert retention.place_anchor() is not None
    for number in range(4):
        take_delta(core, "north", a_vector(10 + number))
    assert retention.compact() is not None
    return core


@HARMS
def test_a_payload_that_a_row_needs_is_asked_for_by_row_and_file(
    tmp_path: Path, harm: Harm
) -> None:
    core = a_trained_core(tmp_path)
    core.derived.checkpoint()  # the recovery alone would not need it
    with core.store.read() as uow:
        sha256 = uow.entries.get(2).payload_sha256
    assert sha256 is not None
    path = tmp_path / "data" / "payloads" / sha256
    whole = path.read_bytes()
    harm(path)
    with pytest.raises(PayloadMissing, match=f"row 2 needs the file payloads/{sha256}") as raised:
        a_core(tmp_path)
    assert "put it back from a backup" in raised.value.message
    path.write_bytes(whole)
    assert a_core(tmp_path).live.position == core.live.position


def test_payloads_that_were_given_up_are_not_missed(tmp_path: Path) -> None:
    core = compacted(tmp_path)
    assert len(core.blobs.payloads.all()) == 4
    assert np.array_equal(a_core(tmp_path).live.snapshot()[1], core.live.snapshot()[1])


@HARMS
def test_a_damaged_checkpoint_is_dropped_and_can_be_written_again(
    tmp_path: Path, harm: Harm
) -> None:
    core = a_trained_core(tmp_path)
    made = core.derived.checkpoint()
    harm(core.blobs.checkpoints.path(made.sha256))  # type: ignore[attr-defined]
    again = a_core(tmp_path)
    with again.store.read() as uow:
        assert made.entry not in [c.entry for c in uow.checkpoints.all()]
    assert np.array_equal(again.live.snapshot()[1], core.live.snapshot()[1])
    assert again.derived.checkpoint().sha256 == made.sha256
    assert a_core(tmp_path).live.recovery.entries == 0


@HARMS
def test_the_only_anchor_of_compacted_payloads_is_asked_for(tmp_path: Path, harm: Harm) -> None:
    core = compacted(tmp_path)
    core.derived.checkpoint()  # the recovery could begin here, a verification could not
    with core.store.read() as uow:
        [anchor] = [c for c in uow.checkpoints.all() if c.is_anchor]
    harm(tmp_path / "data" / "checkpoints" / anchor.sha256)
    with pytest.raises(PayloadMissing, match=f"the anchor of row {anchor.entry} needs the file"):
        a_core(tmp_path)


def test_without_any_readable_checkpoint_a_compacted_ledger_is_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    core = compacted(tmp_path)
    for checkpoint in (tmp_path / "data" / "checkpoints").iterdir():
        altered = bytearray(checkpoint.read_bytes())
        altered[0] ^= 1
        checkpoint.write_bytes(altered)
    with pytest.raises(PayloadMissing, match="no checkpoint after it can be read") as raised:
        a_core(tmp_path)
    with core.store.read() as uow:
        assert all(f"checkpoints/{c.sha256}" in raised.value.message for c in uow.checkpoints.all())


@HARMS
def test_a_contribution_is_asked_for_by_its_site(tmp_path: Path, harm: Harm) -> None:
    core = a_trained_core(tmp_path)
    folded = core.derived.fold("north")
    harm(tmp_path / "data" / "contributions" / str(folded.sha256))
    with pytest.raises(PayloadMissing, match="contribution of sites/north up to row 4"):
        a_core(tmp_path)


@HARMS
def test_a_model_file_nobody_pinned_is_dropped_and_a_pinned_one_asked_for(
    tmp_path: Path, harm: Harm
) -> None:
    core = a_trained_core(tmp_path)
    head = core.files.head()
    harm(tmp_path / "data" / "models" / head.sha256)
    again = a_core(tmp_path)
    assert again.files.head() == head.__class__(**{**vars(head), "written_at": again.clock.now()})
    with again.store.read() as uow:
        served = uow.models.find(0)
    assert served is not None
    harm(tmp_path / "data" / "models" / served.sha256)
    with pytest.raises(PayloadMissing, match="models/0, pinned by serving, needs the file"):
        a_core(tmp_path)


def test_what_is_missing_is_a_kind_of_damage() -> None:
    assert issubclass(PayloadMissing, Corrupt)
