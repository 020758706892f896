"""Several erasures one after another, restarts, and how an erasure ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erasure_bench import Bench, a_bench
from erasure_builders import a_certificate, tampered

from coordinator.domain.erasure import ErasureState
from coordinator.domain.site import SiteState
from coordinator.domain.task import TaskKind
from coordinator.services.ask_sites import Question, ask_sites
from coordinator.services.conclude_erasure import Certified, Failed, conclude_erasure
from coordinator.services.remove_contribution import remove_contribution
from letheon.errors import (
    AttemptMissing,
    CertificateInvalid,
    ErasureConcluded,
    MalformedRequest,
    ModelDestroyed,
    SiteFenced,
)
from letheon.servicekit.signing import SigningKey


@pytest.fixture
def bench(tmp_path: Path, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database)
    yield made
    made.close()


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "key.pem")


def certify(bench: Bench, erasure: str, token: int, key: SigningKey) -> Any:
    end = Certified(a_certificate(f"erasures/{erasure}", key))
    return conclude_erasure(erasure, token, end, bench.context)


def test_the_second_of_two_erasures_still_has_its_removal_measured(
    bench: Bench, key: SigningKey
) -> None:
    bench.train("south", "north", "west", "south", "west")
    first = bench.removed("south", "r1")
    second = bench.removed("west", "r2")
    bench.train("north", seed=40)
    bench.passes(*first)
    certify(bench, *first, key)
    bench.train("north", seed=50)
    evidence = bench.passes(*second)
    assert evidence["removal_relative_error"] <= 1e-5
    certify(bench, *second, key)
    assert bench.ledger_holds()
    assert bench.site("west").state is SiteState.ERASED


def test_the_later_of_two_removals_may_be_certified_first(bench: Bench, key: SigningKey) -> None:
    bench.train("south", "north", "west", "south", "west")
    first = bench.removed("south", "r1")
    second = bench.removed("west", "r2")
    bench.train("north", seed=40)
    bench.passes(*second)
    certify(bench, *second, key)
    before = bench.erasure(first[0]).removal
    assert before is not None
    with pytest.raises(ModelDestroyed):  # it held the other subject: no positive control is left
        bench.context.files.of(before.version_before)
    assert remove_contribution(*first, bench.context) == before
    bench.train("north", seed=50)
    evidence = bench.passes(*first)
    assert evidence["removal_relative_error"] <= 1e-5
    certify(bench, *first, key)
    assert bench.ledger_holds()


def test_a_destroyed_version_is_left_out_of_an_evaluation_and_named_in_an_audit(
    bench: Bench, key: SigningKey
) -> None:
    bench.train("south", "north", "west")
    first = bench.removed("south", "r1")
    second = bench.removed("west", "r2")
    bench.train("north", seed=40)
    bench.passes(*second)
    head = bench.context.files.head().version
    evaluate = Question(TaskKind.EVALUATE, (3, head), {"versions": [3, head]})
    [task] = ask_sites(*first, "q1", evaluate, bench.context)
    assert task.payload == {"versions": [head]}
    audit = Question(TaskKind.AUDIT, (3, head), {"versions": [3, head], "seed": 1})
    [task] = ask_sites(*first, "q2", audit, bench.context)
    assert task.payload["versions"] == [3, head]


def test_an_erasure_after_another_replays_from_its_anchor(bench: Bench, key: SigningKey) -> None:
    bench.train("south", "north", "west", "north")
    first = bench.removed("south", "r1")
    bench.train("north", seed=40)
    anchor = bench.passes(*first)["anchor_entry"]
    certify(bench, *first, key)
    bench.train("north", "west", seed=60)
    second = bench.removed("west", "r2")
    bench.train("north", seed=90)
    evidence = bench.passes(*second)
    assert evidence["replayed_from_entry"] == anchor
    assert evidence["counterfactual_from_entry"] == anchor
    assert evidence["counterfactual_start_held_subject"]
    assert evidence["removal_relative_error"] <= 1e-5
    certify(bench, *second, key)
    assert bench.ledger_holds()


def test_a_restart_after_certification_recovers_and_verifies(
    tmp_path: Path, key: SigningKey
) -> None:
    bench = a_bench(tmp_path)
    bench.train("south", "north", "west")
    job = bench.removed("south")
    bench.train("north", seed=40)
    bench.passes(*job)
    certify(bench, *job, key)
    bench.train("west", "north", seed=60)
    head = bench.head
    bench.close()
    again = a_bench(tmp_path)
    assert np.array_equal(again.head, head)
    assert again.ledger_holds()
    again.train("north", seed=70)
    assert again.ledger_holds()
    again.close()


def test_a_certificate_needs_a_passing_attempt(bench: Bench, key: SigningKey) -> None:
    bench.train("south")
    job = bench.removed("south")
    with pytest.raises(AttemptMissing):
        certify(bench, *job, key)


def test_a_certificate_must_be_intact_and_of_this_erasure(bench: Bench, key: SigningKey) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    bench.passes(erasure, token)
    good = a_certificate(f"erasures/{erasure}", key)
    for bad in (b"{}", b"\xff", tampered(good), a_certificate("erasures/other", key)):
        with pytest.raises(CertificateInvalid):
            conclude_erasure(erasure, token, Certified(bad), bench.context)
    done = conclude_erasure(erasure, token, Certified(good), bench.context)
    assert done.state is ErasureState.CERTIFIED
    assert conclude_erasure(erasure, token, Certified(good), bench.context) == done
    with bench.context.store.read() as uow:
        assert uow.certificates.get(erasure).content == good
        assert not any(f"erasure:{erasure}" in why for why in uow.models.pins().values())


def test_a_failure_keeps_the_fence_and_needs_a_reason(bench: Bench, key: SigningKey) -> None:
    bench.train("south")
    erasure, token = bench.removed("south")
    with pytest.raises(MalformedRequest):
        conclude_erasure(erasure, token, Failed(" "), bench.context)
    failed = conclude_erasure(erasure, token, Failed("out of attempts"), bench.context)
    assert (failed.state, failed.failure) == (ErasureState.FAILED, "out of attempts")
    assert conclude_erasure(erasure, token, Failed("again"), bench.context) == failed
    with pytest.raises(SiteFenced):
        bench.train("south")
    with pytest.raises(ErasureConcluded):
        certify(bench, erasure, token, key)
