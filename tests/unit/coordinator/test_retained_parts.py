"""What the retained sites contributed, in parts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import a_plan, a_vector, take
from erasure_bench import Bench, a_bench
from hypothesis import given, settings
from hypothesis import strategies as st
from retention_builders import FEDBUFF, retention

from coordinator.domain.erasure import ErasureState
from coordinator.domain.upload import PatchKind, PatchPurpose
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.replay_start import contribution_at, payload_reader
from coordinator.services.retained_parts import Part, RetainedParts
from letheon.errors import (
    ClaimLost,
    ErasureConcluded,
    MalformedRequest,
    PatchVoid,
    PayloadCorrupt,
    UnknownErasure,
)
from letheon.federation.arithmetic import relative_error
from letheon.federation.parameters import Vector
from letheon.simulation.history import retained_parts


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = a_bench(tmp_path)
    yield made
    made.close()


def parts(bench: Bench, erasure: str, token: int, segments: int = 3) -> list[Part]:
    return list(RetainedParts(erasure, token, segments, bench.context))


def contribution(bench: Bench, site: str) -> Vector:
    context = bench.context
    entry = context.live.position.entry
    total = contribution_at(context.store, context.blobs, site, through=entry)
    assert total is not None
    return total


def assert_sums(bench: Bench, found: list[Part]) -> None:
    """The parts of each site sum to its contribution, to rounding."""
    for site in {part.site for part in found}:
        total = sum(part.values.astype(np.float64) for part in found if part.site == site)
        assert relative_error(np.asarray(total, np.float32), contribution(bench, site)) < 1e-5


def assert_as_in_the_simulation(bench: Bench, found: list[Part], segments: int) -> None:
    rows, read = bench.rows(), payload_reader(bench.context.blobs)
    kept = [r for r in rows if r.site not in (None, "south") and r.payload_sha256 is not None]
    due = retained_parts(rows, {row.entry: read(row) for row in kept}, "south", segments)
    assert len(found) == len(due)
    for part, vector in zip(found, due, strict=True):
        assert np.array_equal(part.values, vector)


def train(bench: Bench, order: str, seed: int = 0) -> None:
    names = {"n": "north", "s": "south", "w": "west"}
    for number, letter in enumerate(order):
        bench.push(names[letter], a_vector(seed + number))


def test_each_part_is_what_the_simulation_makes_of_the_same_rows(bench: Bench) -> None:
    train(bench, "wnsnnwwnsnnwn")
    found = parts(bench, *bench.removed("south"))
    assert [part.site for part in found] == ["west"] * 3 + ["north"] * 3
    assert [(p.first_entry, p.last_entry) for p in found] == [
        (1, 6), (7, 7), (12, 12), (2, 5), (8, 10), (11, 13),
    ]  # fmt: skip
    assert_as_in_the_simulation(bench, found, 3)
    assert_sums(bench, found)


@given(order=st.text("nsw", min_size=1, max_size=12), segments=st.integers(1, 5))
@settings(max_examples=12, deadline=None)
def test_whoever_trained_when_the_parts_are_those_of_the_simulation(
    tmp_path_factory: pytest.TempPathFactory, order: str, segments: int
) -> None:
    bench = a_bench(tmp_path_factory.mktemp("parts"))
    train(bench, order)
    found = parts(bench, *bench.removed("south"), segments)
    assert_as_in_the_simulation(bench, found, segments)
    assert_sums(bench, found)
    bench.close()


def test_under_fedbuff_a_term_counts_where_the_flush_merged_it(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, plan=a_plan(**FEDBUFF))
    train(bench, "wnsnnwwnsnnw")
    train(bench, "n", 50)  # waits, and is flushed by the removal
    found = parts(bench, *bench.removed("south"), 2)
    rows = bench.rows()
    assert {rows[part.first_entry].kind.value for part in found} == {"flush"}
    assert rows[found[-1].last_entry].kind.value == "removal"
    assert_as_in_the_simulation(bench, found, 2)
    assert_sums(bench, found)
    bench.close()


@pytest.mark.parametrize("segments", [1, 2, 3, 64])
def test_what_was_compacted_is_one_part_the_contribution_minus_the_others(
    bench: Bench, segments: int
) -> None:
    core = bench.coordinator.core
    train(bench, "wnsnnwwnsnnw")
    retention(core).place_anchor()
    train(bench, "nwnwnw", 30)
    compaction = retention(core).compact()
    assert compaction is not None
    with pytest.raises(PayloadCorrupt):
        payload_reader(bench.context.blobs)(bench.rows()[2])
    before = {site: contribution(bench, site) for site in ("north", "west")}
    found = parts(bench, *bench.removed("south"), segments)
    of_north = [part for part in found if part.site == "north"]
    assert len(of_north) == min(segments, 1 + 3)
    if segments == 1:
        assert np.array_equal(of_north[0].values, before["north"])
    else:
        assert of_north[0].last_entry <= compaction.through_entry < of_north[1].first_entry
    assert of_north[-1].last_entry == 18
    assert_sums(bench, found)


def test_a_patch_made_of_a_sites_contribution_is_part_of_it(bench: Bench) -> None:
    train(bench, "nsw")
    erasure, token = bench.removed("south")
    position, before = bench.position, contribution(bench, "west")
    purpose = PatchPurpose(
        erasure, token, PatchKind.CALIBRATION, position.epoch, position.version, "west"
    )
    take(bench.coordinator.core, purpose, a_vector(9))
    assert np.array_equal(contribution(bench, "west"), before + a_vector(9))
    found = parts(bench, erasure, token, 1)
    assert [part.last_entry for part in found] == [1, bench.position.entry]
    assert_as_in_the_simulation(bench, found, 1)


def test_a_site_that_an_erasure_names_is_never_among_them(bench: Bench) -> None:
    bench.register("east")
    train(bench, "nsw")
    bench.push("east", a_vector(7))
    erasure, token = bench.removed("south")
    assert {part.site for part in parts(bench, erasure, token)} == {"north", "west", "east"}
    bench.request("west", "r2")  # only fenced so far
    assert {part.site for part in parts(bench, erasure, token)} == {"north", "east"}
    bench.removed("north", "r3")
    assert {part.site for part in parts(bench, erasure, token)} == {"east"}


def test_before_the_removal_the_subject_comes_first_if_asked_for(bench: Bench) -> None:
    train(bench, "nssw")
    filed = bench.request("south")
    _, claim = claim_erasure(filed.id, "c1", bench.context)
    asked = RetainedParts(filed.id, claim.token, 1, bench.context, with_subject=True)
    subject, *retained = asked
    assert (subject.site, subject.first_entry, subject.last_entry) == ("south", 2, 3)
    assert np.array_equal(subject.values, contribution(bench, "south"))
    assert [part.site for part in retained] == ["north", "west"]
    without = bench.head - subject.values
    remove_contribution(filed.id, claim.token, bench.context)
    assert np.array_equal(bench.head, without)
    with pytest.raises(MalformedRequest, match="since its removal"):
        list(asked)


def test_a_fence_that_falls_while_the_parts_are_made_voids_the_rest(bench: Bench) -> None:
    train(bench, "nsw")
    erasure, token = bench.removed("south")
    made = iter(RetainedParts(erasure, token, 2, bench.context))
    assert next(made).site == "north"
    bench.request("north", "r2")
    with pytest.raises(PatchVoid, match="sites/north"):
        next(made)


def test_a_claim_that_is_lost_ends_the_parts(bench: Bench) -> None:
    train(bench, "nsw")
    erasure, token = bench.removed("south")
    made = iter(RetainedParts(erasure, token, 2, bench.context))
    next(made)
    claim_erasure(erasure, "c1", bench.context)
    with pytest.raises(ClaimLost):
        next(made)
    with pytest.raises(ClaimLost):
        parts(bench, erasure, token)


def test_what_cannot_be_cut_is_refused_with_the_rule(bench: Bench) -> None:
    train(bench, "ns")
    filed = bench.request("south")
    _, claim = claim_erasure(filed.id, "c1", bench.context)
    for segments in (0, 65):
        with pytest.raises(MalformedRequest, match="1 to 64"):
            parts(bench, filed.id, claim.token, segments)
    with pytest.raises(UnknownErasure):
        parts(bench, "e9", 1)
    with bench.context.store.write() as uow:
        uow.erasures.save(replace(uow.erasures.get(filed.id), state=ErasureState.FAILED))
        uow.commit()
    with pytest.raises(ErasureConcluded):
        parts(bench, filed.id, claim.token)


def test_before_any_retained_site_contributed_there_are_none(bench: Bench) -> None:
    train(bench, "s")
    assert parts(bench, *bench.removed("south")) == []


def test_parts_are_made_while_a_writer_holds_the_head(bench: Bench) -> None:
    train(bench, "nswn")
    made = iter(RetainedParts(*bench.removed("south"), 2, bench.context))
    with bench.context.live.exclusive(), ThreadPoolExecutor(1) as other:
        assert other.submit(next, made).result(timeout=30).site == "north"
    train(bench, "nw", 40)
    assert [part.site for part in made] == ["north", "west", "west"]
