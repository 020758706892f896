"""Patches of the calibrator, and payloads of erase answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from builders import NOON, a_core, a_vector, an_erasure, enrol, take, take_delta

from coordinator.core import Core
from coordinator.domain.claim import Claim
from coordinator.domain.erasure import ErasureState, Removal
from coordinator.domain.site import fence
from coordinator.domain.task import Task, TaskKind
from coordinator.domain.upload import (
    AnswerPurpose,
    Outcome,
    PatchKind,
    PatchPurpose,
    Receipt,
)
from coordinator.services.replay_start import contribution_at
from letheon.errors import (
    ClaimLost,
    ErasureConcluded,
    MalformedUpdate,
    PatchVoid,
    UnknownErasure,
    UnknownModelVersion,
    UnknownSite,
    UnknownTask,
)
from letheon.federation.ledger import EntryKind

PATCH = PatchPurpose("e1", 2, PatchKind.PATCH, epoch=0, base_version=1)


@pytest.fixture
def core(tmp_path: Path) -> Core:
    """A federation with an erasure of north in CALIBRATING; its claim has token 2."""
    built = a_core(tmp_path)
    enrol(built, "north", "south")
    take_delta(built, "south", a_vector(1))
    removal = Removal(0, 1, 1, "a" * 64, "b" * 64, 40.0, 9.0, 0, 0, True, 1)
    with built.store.write() as uow:
        state = ErasureState.CALIBRATING
        uow.erasures.add(an_erasure("e1", "north", state=state, removal=removal))
        uow.sites.save(fence(uow.sites.get("north"), "e1"))
        uow.claims.save(Claim("e1", "cal-1", 2, NOON + timedelta(hours=1)))
        uow.tasks.add(Task("t1", "r", "north", "e1", TaskKind.ERASE, {"version": 1}, NOON))
        uow.commit()
    return built


@pytest.mark.parametrize(
    ("kind", "row"),
    [(PatchKind.PATCH, EntryKind.PATCH), (PatchKind.CALIBRATION, EntryKind.CALIBRATION)],
)
def test_a_patch_is_added_to_the_head_whatever_came_since(
    core: Core, kind: PatchKind, row: EntryKind
) -> None:
    take_delta(core, "south", a_vector(2))
    before = core.live.snapshot()[1]
    receipt = take(core, replace(PATCH, kind=kind), a_vector(9))
    assert isinstance(receipt, Receipt)
    assert (receipt.outcome, receipt.version, receipt.staleness) == (Outcome.MERGED, 3, 1)
    assert np.array_equal(core.live.snapshot()[1], before + a_vector(9))
    with core.store.read() as uow:
        entry = uow.entries.get(receipt.entry)
    assert (entry.kind, entry.site, entry.details["erasure"]) == (row, None, "e1")
    assert list(core.verify_ledger())[-1].holds  # type: ignore[union-attr]


def test_a_repeated_patch_is_added_once(core: Core) -> None:
    first = take(core, PATCH, a_vector(9), update_id="p1")
    assert take(core, PATCH, a_vector(9), update_id="p1") == first
    assert core.live.position.version == 2


@pytest.mark.parametrize(
    ("purpose", "error"),
    [
        (replace(PATCH, erasure="e2"), UnknownErasure),
        (replace(PATCH, fencing_token=1), ClaimLost),
        (replace(PATCH, fencing_token=3), ClaimLost),
        (replace(PATCH, epoch=1), PatchVoid),
        (replace(PATCH, base_version=5), UnknownModelVersion),
    ],
)
def test_a_patch_that_may_not_enter_changes_nothing(
    core: Core, purpose: PatchPurpose, error: type[Exception]
) -> None:
    before = core.live.position
    with pytest.raises(error):
        take(core, purpose, a_vector(9))
    assert core.live.position == before
    assert core.staging.all() == []


def test_a_patch_of_a_concluded_erasure_is_refused(core: Core) -> None:
    with core.store.write() as uow:
        uow.erasures.save(replace(uow.erasures.get("e1"), state=ErasureState.FAILED))
        uow.commit()
    with pytest.raises(ErasureConcluded):
        take(core, PATCH, a_vector(9))


def test_a_patch_beyond_the_cap_is_rejected_and_calibration_has_none(core: Core) -> None:
    large = a_vector(9, scale=10.0)  # norm near 80; the cap is a quarter of 40
    with pytest.raises(MalformedUpdate) as caught:
        take(core, PATCH, large)
    assert caught.value.facts["rule"] == "cap"
    assert core.live.position.version == 1
    take(core, replace(PATCH, kind=PatchKind.CALIBRATION), large)
    assert core.live.position.version == 2


def test_a_patch_made_of_a_sites_contribution_goes_when_the_site_goes(core: Core) -> None:
    receipt = take(core, replace(PATCH, kind=PatchKind.CALIBRATION, site="south"), a_vector(9))
    assert isinstance(receipt, Receipt)
    with core.store.read() as uow:
        assert uow.entries.get(receipt.entry).site == "south"
        assert uow.sites.get("south").last_version == receipt.version
    entry = core.live.position.entry
    total = contribution_at(core.store, core.blobs, "south", through=entry)
    assert total is not None
    assert np.allclose(core.live.snapshot()[1] - total, a_vector(1001), atol=1e-6)  # version 0
    assert list(core.verify_ledger())[-1].holds  # type: ignore[union-attr]


def test_once_a_site_is_fenced_nothing_made_of_its_contribution_enters(core: Core) -> None:
    purpose = replace(PATCH, kind=PatchKind.CALIBRATION, site="south")
    assert take(core, purpose, a_vector(9), update_id="p1", size_limit=80) == 80
    with core.store.write() as uow:
        assert uow.uploads.find("p1").site == "south"  # type: ignore[union-attr]
        uow.sites.save(fence(uow.sites.get("south"), "e2"))
        uow.commit()
    with pytest.raises(PatchVoid, match="erasures/e2"):
        take(core, purpose, a_vector(9), update_id="p1")
    with pytest.raises(UnknownSite):
        take(core, replace(purpose, site="nowhere"), a_vector(9))
    assert core.live.position.version == 1
    assert core.staging.all() == []


def test_a_claim_taken_over_in_mid_upload_stops_the_patch(core: Core) -> None:
    assert take(core, PATCH, a_vector(9), update_id="p1", size_limit=80) == 80
    with core.store.write() as uow:
        uow.claims.save(Claim("e1", "cal-2", 3, NOON + timedelta(hours=1)))
        uow.commit()
    with pytest.raises(ClaimLost):
        take(core, PATCH, a_vector(9), update_id="p1")
    assert core.staging.all() == []
    assert core.live.position.version == 1


def test_an_answer_of_a_fenced_site_is_stored_for_its_task(core: Core) -> None:
    before = core.live.position
    receipt = take(core, AnswerPurpose("north", "t1"), a_vector(9))
    assert isinstance(receipt, Receipt)
    assert (receipt.outcome, receipt.entry, receipt.task) == (Outcome.STORED, 0, "t1")
    assert core.live.position == before
    assert receipt.sha256 in core.blobs.payloads.all()
    with core.store.read() as uow:
        assert uow.receipts.stored(site="north") == [receipt]


@pytest.mark.parametrize("purpose", [AnswerPurpose("south", "t1"), AnswerPurpose("north", "t9")])
def test_an_answer_to_no_task_of_the_site_is_refused(core: Core, purpose: AnswerPurpose) -> None:
    with pytest.raises(UnknownTask):
        take(core, purpose, a_vector(9))


def test_an_answer_to_a_withdrawn_task_is_refused(core: Core) -> None:
    with core.store.write() as uow:
        uow.tasks.save(replace(uow.tasks.get("t1"), withdrawn_at=NOON))
        uow.commit()
    with pytest.raises(UnknownTask):
        take(core, AnswerPurpose("north", "t1"), a_vector(9))
