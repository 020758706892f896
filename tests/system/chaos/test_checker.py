"""A checker that cannot fail proves nothing: each rule finds what it is there to find."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from builders import NOON, an_erasure

from coordinator.domain.erasure import ErasureState
from coordinator.domain.tombstones import Tombstone, TombstoneEvent
from letheon.cli.demo.ledger_reading import AgentReceipt
from letheon.federation.ledger import Entry, EntryKind, merges, seal

from . import checker
from .evidence import AREAS, Evidence, Fence, Records, Verdict
from .processes import Exit

SIZE = 5


class SmallWorld:
    """A federation written by hand: one site, a delta, two buffered ones and their flush."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for area in (*AREAS, "uploads"):
            (folder / area).mkdir(parents=True)
        self.rows: list[Entry] = []
        self.head = self.vector(0)
        self.add("initial", self.head, version=0)
        self.add("delta", self.vector(1), version=1, update="u1", coefficient=0.5)
        self.add("buffered", self.vector(2), version=1, update="u2")
        self.add("buffered", self.vector(3), version=1, update="u3")
        pairs = [(2, 0.25), (3, 0.25)]
        self.add("flush", None, version=2, details={"merged": merges(pairs)})
        for coefficient, seed in ((0.5, 1), (0.25, 2), (0.25, 3)):
            self.head = self.head + np.float32(coefficient) * self.vector(seed)

    def vector(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=SIZE).astype("<f4")

    def add(self, kind, payload, *, version, update=None, coefficient=None, details=None):
        sha256 = None
        if payload is not None:
            sha256 = hashlib.sha256(payload.tobytes()).hexdigest()
            (self.folder / "payloads" / sha256).write_bytes(payload.tobytes())
        self.rows.append(
            seal(
                self.rows[-1] if self.rows else None,
                kind=EntryKind(kind),
                version=version,
                epoch=0,
                at=datetime(2026, 1, 1, tzinfo=UTC),
                site="north" if update else None,
                update_id=update,
                coefficient=coefficient,
                payload_sha256=sha256,
                payload_bytes=None if payload is None else payload.nbytes,
                encoding=None if payload is None else "float32",
                details=details,
            )
        )

    def evidence(self) -> Evidence:
        digest = hashlib.sha256(self.head.astype("<f4").tobytes()).hexdigest()
        payloads = frozenset(row.payload_sha256 for row in self.rows if row.payload_sha256)
        return Evidence(
            records=Records(rows=tuple(self.rows), named={"payloads": payloads}),
            data=self.folder,
            receipts=tuple(
                AgentReceipt("north", row.update_id, row.entry, row.hash)
                for row in self.rows
                if row.update_id
            ),
            verdict=Verdict(True, self.rows[-1].version, digest, ""),
        )


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    return SmallWorld(tmp_path)


def found(evidence: Evidence, word: str) -> list[str]:
    """The violations, all of which must begin with the word."""
    violations = checker.check(evidence)
    assert all(violation.startswith(word) for violation in violations), violations
    return violations


def test_an_erasure_without_a_tombstone_and_a_tombstone_without_an_erasure_are_found(
    tmp_path: Path,
) -> None:
    evidence = SmallWorld(tmp_path).evidence()
    certified = replace(an_erasure(), state=ErasureState.CERTIFIED)
    requested = Tombstone(0, TombstoneEvent.REQUESTED, an_erasure(), NOON)
    known = replace(evidence, records=replace(evidence.records, erasures=(certified,)))
    assert len(list(checker.unlogged_erasures(known))) == 2
    assert len(list(checker.unlogged_erasures(replace(known, tombstones=(requested,))))) == 1
    assert len(list(checker.unlogged_erasures(replace(evidence, tombstones=(requested,))))) == 1


def test_a_federation_to_which_nothing_happened_holds(world: SmallWorld) -> None:
    assert checker.check(world.evidence()) == []


def test_a_receipt_without_a_row_is_a_lost_update(world: SmallWorld) -> None:
    evidence = world.evidence()
    receipt = AgentReceipt("north", "u9", 1, world.rows[1].hash)
    assert len(found(replace(evidence, receipts=(*evidence.receipts, receipt)), "lost")) == 1


def test_an_update_with_two_rows_is_doubled(world: SmallWorld) -> None:
    world.add("delta", world.vector(1), version=3, update="u1", coefficient=0.5)
    world.head = world.head + np.float32(0.5) * world.vector(1)
    assert len(found(world.evidence(), "doubled")) == 1


def test_a_waiting_update_that_is_merged_and_voided_is_doubled(world: SmallWorld) -> None:
    world.add("void", None, version=2, details={"entries": [3]})
    assert len(found(world.evidence(), "doubled")) == 1


@pytest.mark.parametrize(("fenced_at", "crossings"), [(0, 4), (1, 3), (3, 1), (4, 0)])
def test_rows_after_the_acknowledgement_cross_the_fence(
    world: SmallWorld, fenced_at: int, crossings: int
) -> None:
    fences = (Fence("north", "r1", fenced_at),)
    evidence = replace(world.evidence(), fences=fences)
    assert len(list(checker.crossed_fences(evidence))) == crossings


def test_a_cancel_lifts_the_fence_from_then_on(world: SmallWorld) -> None:
    evidence = replace(world.evidence(), fences=(Fence("north", "r1", 0, lifted_at_entry=0),))
    assert list(checker.crossed_fences(evidence)) == []


def test_an_acknowledged_request_that_nobody_knows_is_forgotten(world: SmallWorld) -> None:
    evidence = replace(world.evidence(), fences=(Fence("north", "r1", 4),))
    assert len(found(evidence, "forgotten")) == 1


def test_a_head_that_is_not_what_the_rows_make_is_found(world: SmallWorld) -> None:
    world.head = world.head + np.float32(1e-6)
    assert len(found(world.evidence(), "head")) == 1


def test_a_row_that_was_altered_breaks_the_chain(world: SmallWorld) -> None:
    world.rows[1] = replace(world.rows[1], coefficient=0.75)
    assert len(found(world.evidence(), "chain")) == 1


def test_a_payload_that_rotted_is_found(world: SmallWorld) -> None:
    path = world.folder / "payloads" / str(world.rows[2].payload_sha256)
    path.write_bytes(path.read_bytes()[:-1])
    assert len(found(world.evidence(), "head")) == 1


@pytest.mark.parametrize("where", ["payloads/abc", "checkpoints/abc", "uploads/u7.part"])
def test_a_file_that_no_row_needs_is_an_orphan(world: SmallWorld, where: str) -> None:
    (world.folder / where).write_bytes(b"left")
    assert len(found(world.evidence(), "orphan")) == 1


def test_a_payload_in_an_outbox_that_was_sent_is_an_orphan(
    world: SmallWorld, tmp_path: Path
) -> None:
    state = tmp_path / "agent"
    (state / "outbox").mkdir(parents=True)
    (state / "outbox" / "u1.payload").write_bytes(b"left")
    with sqlite3.connect(state / "agent.db") as connection:
        connection.execute("CREATE TABLE uploads (update_id TEXT, state TEXT)")
    evidence = replace(world.evidence(), agents={"north": state})
    assert len(found(evidence, "orphan")) == 1


def test_a_destroyed_payload_on_a_disk_is_found(world: SmallWorld) -> None:
    evidence = world.evidence()
    gone = frozenset({str(world.rows[3].payload_sha256)})
    evidence = replace(evidence, records=replace(evidence.records, destroyed=gone))
    assert len(found(evidence, "not destroyed")) == 1


def test_a_stack_is_a_violation_unless_an_injected_fault_explains_it(
    world: SmallWorld, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    stack = "Traceback ...\\nOSError: [Errno 28] No space left on device"
    (logs / "coordinator.log").write_text(f'{{"event": "chore_failed", "stack": "{stack}"}}\n')
    evidence = replace(world.evidence(), logs=logs)
    assert len(found(evidence, "log")) == 1
    assert checker.check(replace(evidence, hurt=frozenset({"full"}))) == []


def test_a_process_that_ends_by_itself_is_a_violation_and_a_killed_one_is_not(
    world: SmallWorld,
) -> None:
    exits = (Exit("site-1", -9, 0.0), Exit("coordinator", 78, 1.0))
    assert len(found(replace(world.evidence(), exits=exits), "coordinator")) == 1
