"""Files without a row go, whatever happens meanwhile; those about to get one stay."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import NOON, a_core, a_vector, enrol, take_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.adapters.blob_places import local_place
from coordinator.adapters.sql import SqlStore
from coordinator.core import Core
from coordinator.domain.model import Checkpoint
from coordinator.ports import ORPHAN_GRACE_S
from coordinator.services.sweep_leftovers import SweepOrphans
from letheon.federation.encoding import encode
from letheon.servicekit.clock import FakeClock

ROUND_S = 600.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def core(tmp_path: Path, clock: FakeClock) -> Core:
    return a_core(tmp_path, clock=clock)


def left_by_a_crash(core: Core, tmp_path: Path, area: str, data: bytes) -> str:
    """A blob that this process did not store."""
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "data" / area / sha256).write_bytes(data)
    return sha256


def pass_time(core: Core, clock: FakeClock, seconds: float) -> None:
    """With a sweep whenever one is due."""
    for _ in range(int(seconds // ROUND_S) + 1):
        core.orphans.if_due()
        clock.advance(ROUND_S)
    core.orphans.if_due()


@pytest.mark.parametrize("area", ["payloads", "models", "checkpoints", "contributions"])
def test_what_a_crash_left_goes_at_the_start_and_what_rows_name_stays(
    area: str, core: Core, tmp_path: Path
) -> None:
    enrol(core, "north")
    take_delta(core, "north", a_vector(1))
    core.derived.fold("north")
    core.derived.checkpoint()
    core.files.head()
    before = {name: blobs.all() for name, blobs in core.blobs.areas().items()}
    assert all(before.values())
    orphan = left_by_a_crash(core, tmp_path, area, b"no row names this")
    again = a_core(tmp_path)
    assert {name: blobs.all() for name, blobs in again.blobs.areas().items()} == before
    assert orphan not in before[area]
    found = again.registry.get_sample_value("letheon_orphans_removed_total", {"area": area})
    assert found == 1


@pytest.mark.parametrize("area", ["payloads", "models", "checkpoints", "contributions"])
def test_while_serving_an_orphan_goes_once_it_had_no_row_for_long(
    area: str, core: Core, clock: FakeClock, tmp_path: Path
) -> None:
    orphan = left_by_a_crash(core, tmp_path, area, b"no row names this")
    clock.advance(ROUND_S)
    pass_time(core, clock, ORPHAN_GRACE_S - 2 * ROUND_S)
    assert orphan in core.blobs.areas()[area].all()
    pass_time(core, clock, 2 * ROUND_S)
    assert orphan not in core.blobs.areas()[area].all()
    found = core.registry.get_sample_value("letheon_orphans_removed_total", {"area": area})
    assert found == 1


def test_a_payload_in_flight_stays_however_long_it_waits(
    core: Core, clock: FakeClock, tmp_path: Path
) -> None:
    waiting = left_by_a_crash(core, tmp_path, "payloads", b"waits for the head")
    flying = {waiting}
    sweep = SweepOrphans(core.store, core.blobs, clock, lambda: flying, lambda area, count: None)
    for _ in range(20):
        sweep.if_due()
        clock.advance(ROUND_S)
    assert waiting in core.blobs.payloads.all()
    flying.clear()
    for _ in range(20):
        sweep.if_due()
        clock.advance(ROUND_S)
    assert waiting not in core.blobs.payloads.all()


def test_a_sweep_looks_only_now_and_then(core: Core, clock: FakeClock, tmp_path: Path) -> None:
    clock.advance(ROUND_S)
    core.orphans.if_due()
    left_by_a_crash(core, tmp_path, "models", b"no row names this")
    clock.advance(ROUND_S - 1)
    core.orphans.if_due()  # not due: does not see it yet
    clock.advance(ORPHAN_GRACE_S - ROUND_S + 1)
    assert core.orphans.if_due() == {}
    clock.advance(ORPHAN_GRACE_S)
    assert core.orphans.if_due() == {"models": 1}


def test_deltas_sent_again_while_their_orphans_are_swept_are_all_kept(
    core: Core, clock: FakeClock, tmp_path: Path
) -> None:
    """A crash had published them without a row; the agent resends at the worst moment."""
    enrol(core, "north")
    deltas = [a_vector(seed) for seed in range(8)]
    for delta in deltas:
        left_by_a_crash(core, tmp_path, "payloads", bytes(encode(delta, core.plan.encoding)))
    clock.advance(ROUND_S)
    core.orphans.if_due()
    clock.advance(ORPHAN_GRACE_S)
    together = threading.Barrier(2, timeout=60)

    def sweep() -> None:
        together.wait()
        core.orphans.if_due()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    together.wait()
    for delta in deltas:
        take_delta(core, "north", delta)
    sweeper.join()
    for delta in deltas:
        sha256 = hashlib.sha256(encode(delta, core.plan.encoding)).hexdigest()
        assert bytes(core.blobs.payloads.get(sha256)) == bytes(encode(delta, core.plan.encoding))
    again = a_core(tmp_path)
    assert (again.live.snapshot()[1] == core.live.snapshot()[1]).all()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    """A database without rows; an example leaves it so."""
    store = SqlStore(f"sqlite:///{tmp_path_factory.mktemp('rows') / 'db.sqlite'}")
    yield store
    store.close()


CONTENTS = st.integers(0, 3)
STEPS = st.one_of(
    st.tuples(st.just("store"), CONTENTS),
    st.tuples(st.just("commit"), CONTENTS),
    st.tuples(st.just("drop"), CONTENTS),
    st.tuples(st.just("crash"), CONTENTS),
    st.tuples(st.just("wait"), st.integers(1, 5)),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_whatever_the_order_a_named_blob_is_there_and_an_old_one_without_a_row_is_not(
    steps: list[tuple[str, int]], rows: SqlStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A writer stores, then commits its row within the grace; or it crashes between the two."""
    directory, clock = tmp_path_factory.mktemp("sweep"), FakeClock()
    blobs = local_place(directory, clock).blobs
    sweep = SweepOrphans(rows, blobs, clock, frozenset, lambda area, count: None)
    sha256 = [hashlib.sha256(bytes([content])).hexdigest() for content in range(4)]
    stored_at: dict[int, float] = {}  # of writers that have not committed yet
    named: set[int] = set()
    for step, value in steps:
        match step:
            case "store":
                blobs.checkpoints.put(bytes([value]))
                stored_at[value] = clock.monotonic()
            case "commit" if value in stored_at and value not in named:
                del stored_at[value]
                named.add(value)
                with rows.note() as uow:
                    uow.checkpoints.add(Checkpoint(value, value, 0, sha256[value], NOON))
                    uow.commit()
            case "drop" if value in named:
                named.discard(value)
                with rows.note() as uow:
                    uow.checkpoints.remove(value)
                    uow.commit()
            case "crash":
                stored_at.pop(value, None)
            case "wait":
                clock.advance(value * ORPHAN_GRACE_S / 6)
                due = clock.monotonic() - ORPHAN_GRACE_S
                stored_at = {c: at for c, at in stored_at.items() if at > due}
        sweep.if_due()
        present = set(blobs.checkpoints.all())
        assert {sha256[content] for content in named | stored_at.keys()} <= present
    for _ in range(8):
        clock.advance(ORPHAN_GRACE_S / 3)
        sweep.if_due()
    assert set(blobs.checkpoints.all()) == {sha256[content] for content in named}
    with rows.note() as uow:
        for content in named:
            uow.checkpoints.remove(content)
        uow.commit()
