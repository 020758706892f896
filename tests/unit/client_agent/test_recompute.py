"""Making past deltas again without some records, one durable step at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import LAYOUT, a_plan, a_vector
from test_agent_subjects import KEY, Memory

from client_agent.adapters.exchange_log import ExchangeLog
from client_agent.domain.answers import EraseAnswer
from client_agent.domain.subjects import IndexedRecord, SubjectState
from client_agent.domain.tasks import EraseTask, MergedDelta, ModelFile
from client_agent.domain.upload import DeltaFacts, Payload, Receipt, ReceiptOutcome, Upload
from client_agent.services.recompute import Recompute
from letheon.errors import ModelDestroyed, Refused
from letheon.federation.encoding import decode, encode
from letheon.federation.parameters import Vector

PLAN = a_plan()
OTHER, ERASED = KEY.of_patient("other"), KEY.of_patient("erased")
RATES = (0.5, 0.25, 1.0)


def value_of(record_ids: list[str | None], base: Vector, seed: int) -> Vector:
    """What this file's trainer makes of records, base and seed."""
    left = len(record_ids) - record_ids.count(None)
    drawn = np.random.default_rng([seed, left]).normal(size=LAYOUT.size)
    return (0.01 * drawn + 0.001 * base).astype(np.float32)


class World:
    """Trainer and coordinator of a site with three accepted deltas, on disk for the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.memory = folder, Memory(folder)
        self.bases = {v: a_vector(v) for v in (0, 2, 5)}
        self.trained: list[tuple[int, list[str | None]]] = []
        self.gone: set[int] = set()
        for name in ("work", "exchange"):
            (folder / name).mkdir(exist_ok=True)
        rows = [IndexedRecord("a", ERASED), IndexedRecord("b", OTHER), IndexedRecord("c", OTHER)]
        self.memory.index.replace(rows)
        self.memory.outbox.remember_records("set-1", ["a", "b", "c"])
        self.contribution = np.zeros(LAYOUT.size, np.float32)
        deltas = []
        for number, (base, rate) in enumerate(zip(self.bases, RATES, strict=True)):
            self._accepted(f"u{number}", base, seed=number)
            deltas.append(MergedDelta(f"u{number}", base, rate))
            made = value_of(["a", "b", "c"], self.bases[base], number)
            self.contribution += np.float32(rate) * made
        subject = self.memory.subjects.by_reference(self._subject())
        assert subject is not None
        self.task = EraseTask(
            "tasks/x1", "erasures/e1", "patient_swap", "{}", 5, 0, subject.reference, tuple(deltas)
        )

    def _subject(self) -> str:
        return self.memory.subjects.add([ERASED], "B").reference

    def _accepted(self, update_id: str, base: int, seed: int) -> None:
        if self.memory.outbox.facts_of(update_id) is not None:
            return
        path = self.folder / "work" / update_id
        path.write_bytes(b"1234")
        facts = DeltaFacts(base, 0, seed, 0.1, 0, 3, 0.5, "set-1")
        payload = Payload(path, 4, "x", "float32")
        kept = self.memory.outbox.add(Upload(update_id, "tasks/t", payload, facts))
        receipt = Receipt(update_id, ReceiptOutcome.MERGED, base + 1, 0.5, 0, 1, "h", "s")
        self.memory.outbox.accept(kept, receipt)

    def recompute(self) -> Recompute:
        memory, folder = self.memory, self.folder
        return Recompute(
            self, memory.outbox, memory.subjects, memory.index, ExchangeLog(memory.tables),
            self, KEY, folder / "exchange", folder / "work", memory.clock,
        )  # type: ignore[arg-type]  # fmt: skip

    def download_named(self, name: str, path: Path) -> ModelFile:
        if name == "erasures/e1/contribution":
            self.contribution.tofile(path)
            return ModelFile(5, 0, path)
        version = int(name.removeprefix("erasures/e1/bases/"))
        if version in self.gone:
            raise ModelDestroyed("destroyed by erasures/e0")
        self.bases[version].tofile(path)
        return ModelFile(version, 0, path)

    def retrain(self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path):
        ids = json.loads(record_ids.read_text())
        self.trained.append((base.version, ids))
        content = encode(value_of(ids, np.fromfile(base.path, "<f4"), seed), "float32")
        target.write_bytes(content)
        return Payload(target, len(content), "x", "float32")


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.memory.close()


def expected(world: World) -> Vector:
    total = np.zeros(LAYOUT.size, np.float32)
    for number, (base, rate) in enumerate(zip(world.bases, RATES, strict=True)):
        total += np.float32(rate) * value_of(["b", "c"], world.bases[base], number)
    return total - world.contribution


def the_answer(world: World) -> tuple[Upload, Vector]:
    (upload,) = world.memory.outbox.waiting()
    return upload, decode(upload.payload.path.read_bytes(), "float32")


def test_every_delta_is_made_again_at_its_base_with_its_seed_and_without_the_records(world: World):
    recompute = world.recompute()
    assert [recompute(world.task, PLAN) for _ in range(4)] == [False, False, False, True]
    assert world.trained == [(base, [None, "b", "c"]) for base in (0, 2, 5)]
    upload, patch = the_answer(world)
    np.testing.assert_array_equal(patch, expected(world))
    assert isinstance(upload.purpose, EraseAnswer)
    assert upload.purpose.steps == 3
    assert list((world.folder / "exchange").iterdir()) == []


def test_a_kill_between_any_two_steps_costs_no_delta(world: World):
    for _ in range(4):
        assert world.recompute()(world.task, PLAN) in (False, True)  # a new process each time
    assert len(world.trained) == 3
    np.testing.assert_array_equal(the_answer(world)[1], expected(world))


def test_a_sum_that_was_written_but_not_noted_is_made_again(world: World):
    world.recompute()(world.task, PLAN)
    world.memory.tables.do("UPDATE exchanges SET done = 0")
    for _ in range(4):
        world.recompute()(world.task, PLAN)
    np.testing.assert_array_equal(the_answer(world)[1], expected(world))


def test_an_exclusion_that_comes_meanwhile_does_not_mix_in(world: World):
    world.recompute()(world.task, PLAN)
    world.memory.subjects.add([KEY.of_record("b")], "B")
    for _ in range(3):
        world.recompute()(world.task, PLAN)
    assert [ids for _, ids in world.trained] == [[None, "b", "c"]] * 3


def test_a_delta_of_nothing_but_the_subject_is_exchanged_for_nothing(world: World):
    world.memory.subjects.add([OTHER], "B")
    for _ in range(4):
        world.recompute()(world.task, PLAN)
    assert world.trained == []
    np.testing.assert_array_equal(the_answer(world)[1], -world.contribution)


def test_a_destroyed_base_ends_it_and_nothing_is_answered(world: World):
    world.gone = {2}
    world.recompute()(world.task, PLAN)
    with pytest.raises(ModelDestroyed):
        world.recompute()(world.task, PLAN)
    world.recompute().forget(world.task.name)
    assert list((world.folder / "exchange").iterdir()) == []
    assert world.memory.outbox.waiting() == ()


def test_a_lost_log_is_said_without_naming_a_record(world: World):
    world.memory.tables.do("DELETE FROM uploads WHERE update_id = 'u1'")
    world.recompute()(world.task, PLAN)
    with pytest.raises(Refused, match="contribution log of this site does not know") as refused:
        world.recompute()(world.task, PLAN)
    assert "u1" not in refused.value.message
    world.memory.tables.do("UPDATE uploads SET record_set = NULL")
    world.memory.tables.do("DELETE FROM record_sets")
    with pytest.raises(Refused):
        world.recompute()(world.task, PLAN)


def test_an_unknown_reference_is_refused(world: World):
    import dataclasses

    task = dataclasses.replace(world.task, records="f" * 64)
    with pytest.raises(Refused, match="knows no records under the reference"):
        world.recompute()(task, PLAN)
    assert world.memory.subjects.all()[0].state is SubjectState.DUE
