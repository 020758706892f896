"""The pure rules of the coordinator."""

from __future__ import annotations

from datetime import timedelta

import pytest
from builders import NOON, a_site, an_erasure
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain import claim as claims
from coordinator.domain.erasure import (
    BEFORE_REMOVAL,
    MOVES,
    OPEN,
    TERMINAL,
    ErasureState,
    cancel,
    move,
)
from coordinator.domain.model import FederationRow
from coordinator.domain.serving import (
    ServingPolicy,
    SiteUtility,
    begin_erasure,
    candidate_passes,
    end_without_promotion,
    enough_answers,
    promote,
    utilities_of,
    weighted_accuracy,
)
from coordinator.domain.site import check_not_fenced, erased, fence, in_version, lift_fence
from coordinator.domain.training_task import epoch_of, train_task
from letheon.errors import (
    ClaimHeld,
    ClaimLost,
    ErasureConcluded,
    ErasureNotCancellable,
    Refused,
    SiteFenced,
)

LEASE = timedelta(seconds=30)
ROW = FederationRow("f", "d" * 64, "{}", 10, None, False, 12, NOON, 40)
states = st.sampled_from(sorted(ErasureState))


@given(states, states)
def test_only_the_listed_moves_exist(start: ErasureState, to: ErasureState) -> None:
    erasure = an_erasure(state=start)
    if to is start:
        assert move(erasure, to, NOON) == erasure
    elif to in MOVES[start]:
        moved = move(erasure, to, NOON)
        assert moved.state is to
        assert (moved.concluded_at is not None) == (to in TERMINAL)
    else:
        with pytest.raises(ErasureConcluded if start in TERMINAL else Refused):
            move(erasure, to, NOON)


@given(states)
def test_an_erasure_is_cancelled_before_its_removal_only(start: ErasureState) -> None:
    erasure = an_erasure(state=start)
    cancellable = {*BEFORE_REMOVAL, ErasureState.CANCELLED}
    assert ErasureState.ERASING not in cancellable
    if start in cancellable:
        assert cancel(erasure, NOON).state is ErasureState.CANCELLED
    else:
        with pytest.raises(ErasureNotCancellable) as caught:
            cancel(erasure, NOON)
        assert caught.value.facts["state"] == start


def test_every_open_state_can_fail_and_no_terminal_one_moves() -> None:
    assert all(ErasureState.FAILED in MOVES[state] for state in OPEN)
    assert all(not MOVES[state] for state in TERMINAL)


def test_a_fenced_site_is_refused_until_the_fence_is_lifted() -> None:
    site = fence(a_site(), "e1")
    with pytest.raises(SiteFenced) as caught:
        check_not_fenced(site)
    assert caught.value.facts["erasure"] == "e1"
    with pytest.raises(SiteFenced):
        check_not_fenced(erased(site))
    check_not_fenced(lift_fence(site))


def test_the_first_version_of_a_site_stays_and_the_last_moves() -> None:
    site = in_version(in_version(a_site(), 3), 7)
    assert (site.first_version, site.last_version) == (3, 7)


def test_a_claim_is_held_until_its_lease_ends_and_the_token_grows() -> None:
    first = claims.take(None, erasure="e1", holder="a", now=NOON, lease=LEASE)
    first = claims.renew(first, now=NOON, lease=LEASE, progress_json='{"step":2}')
    with pytest.raises(ClaimHeld) as caught:
        claims.take(first, erasure="e1", holder="b", now=NOON + LEASE / 2, lease=LEASE)
    assert caught.value.retry_after_s == 15.0
    second = claims.take(first, erasure="e1", holder="b", now=NOON + LEASE, lease=LEASE)
    assert second.token == first.token + 1
    assert second.progress_json == '{"step":2}'
    with pytest.raises(ClaimLost):
        claims.check_token(second, erasure="e1", token=first.token)
    assert claims.check_token(second, erasure="e1", token=second.token) == second


def test_a_lease_that_a_clock_ahead_of_time_granted_holds_nobody_up() -> None:
    tomorrow = NOON + timedelta(days=1)
    first = claims.take(None, erasure="e1", holder="a", now=tomorrow, lease=LEASE)
    second = claims.take(first, erasure="e1", holder="b", now=NOON, lease=LEASE)
    assert (second.holder, second.token) == ("b", 2)
    with pytest.raises(ClaimLost):
        claims.check_token(second, erasure="e1", token=first.token)


def test_a_holder_that_restarts_takes_its_claim_again_at_once() -> None:
    first = claims.take(None, erasure="e1", holder="a", now=NOON, lease=LEASE)
    assert claims.take(first, erasure="e1", holder="a", now=NOON, lease=LEASE).token == 2


def test_a_late_holder_goes_on_while_nobody_took_over() -> None:
    first = claims.take(None, erasure="e1", holder="a", now=NOON, lease=LEASE)
    late = claims.check_token(first, erasure="e1", token=1)
    renewed = claims.renew(late, now=NOON + 10 * LEASE, lease=LEASE)
    assert renewed.lease_until == NOON + 11 * LEASE


def test_nobody_holds_a_claim_that_was_never_made() -> None:
    with pytest.raises(ClaimLost):
        claims.check_token(None, erasure="e1", token=0)


def test_accuracy_is_weighted_by_records() -> None:
    found = [SiteUtility(1, 30, 0.5), SiteUtility(1, 10, 0.9), SiteUtility(2, 10, 1.0)]
    assert weighted_accuracy(found, 1) == pytest.approx(0.6)
    assert weighted_accuracy(found, 3) is None
    assert weighted_accuracy([SiteUtility(1, 0, 0.5)], 1) is None


@pytest.mark.parametrize(
    ("reached", "margin", "passes"), [(0.80, 0.05, True), (0.76, 0.05, True), (0.74, 0.05, False)]
)
def test_a_candidate_may_lose_the_margin_and_no_more(
    reached: float, margin: float, passes: bool
) -> None:
    found = [SiteUtility(12, 10, reached), SiteUtility(10, 10, 0.8)]
    assert candidate_passes(found, candidate=12, serving=10, margin=margin) is passes


def test_a_candidate_nobody_measured_does_not_pass() -> None:
    assert not candidate_passes([], candidate=12, serving=None, margin=1.0)
    found = [SiteUtility(12, 10, 0.1)]
    assert candidate_passes(found, candidate=12, serving=None, margin=0.0)


def test_half_of_the_sites_are_enough() -> None:
    assert [enough_answers(n, 5) for n in range(6)] == [False, False, False, True, True, True]
    assert not enough_answers(0, 0)


@pytest.mark.parametrize(
    ("policy", "serving", "withheld", "carries"),
    [
        (ServingPolicy.SERVE_OLD, 10, None, True),
        (ServingPolicy.SERVE_NONE, None, 10, False),
        (ServingPolicy.SERVE_FALLBACK, 2, 10, False),
    ],
)
def test_the_policy_decides_what_is_served_during_an_erasure(
    policy: ServingPolicy, serving: int | None, withheld: int | None, carries: bool
) -> None:
    row = begin_erasure(ROW, policy, subject_first_version=5, fallback_version=2)
    assert (row.serving_version, row.withheld_version) == (serving, withheld)
    assert row.serving_carries_subject is carries
    assert row.candidate_version is None
    back = end_without_promotion(row, others_due=False)
    assert (back.serving_version, back.serving_carries_subject) == (10, False)
    assert end_without_promotion(row, others_due=True) == row
    promoted = promote(row, 30, entry=50)
    assert (promoted.serving_version, promoted.withheld_version) == (30, None)
    assert not promoted.serving_carries_subject


@pytest.mark.parametrize("first", [None, 11])
def test_a_version_without_the_subject_stays_served(first: int | None) -> None:
    for policy in ServingPolicy:
        row = begin_erasure(ROW, policy, subject_first_version=first, fallback_version=None)
        assert row.serving_version == 10
        assert not row.serving_carries_subject


def test_without_a_fallback_nothing_is_served() -> None:
    row = begin_erasure(
        ROW, ServingPolicy.SERVE_FALLBACK, subject_first_version=5, fallback_version=None
    )
    assert row.serving_version is None


def test_two_erasures_remember_the_version_from_before_both() -> None:
    policy = ServingPolicy.SERVE_NONE
    first = begin_erasure(ROW, policy, subject_first_version=5, fallback_version=None)
    second = begin_erasure(first, policy, subject_first_version=3, fallback_version=None)
    assert second.withheld_version == 10


def test_a_second_fallback_keeps_the_version_that_the_first_erasure_withheld() -> None:
    policy = ServingPolicy.SERVE_FALLBACK
    first = begin_erasure(ROW, policy, subject_first_version=5, fallback_version=2)
    second = begin_erasure(first, policy, subject_first_version=1, fallback_version=0)
    assert (second.serving_version, second.withheld_version) == (0, 10)


def test_utilities_are_read_from_answers() -> None:
    answer = {"utilities": [{"version": 3, "records": 4, "accuracy": 0.5}]}
    assert utilities_of([answer, {}]) == [SiteUtility(3, 4, 0.5)]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_train_task_tells_its_epoch(epoch: int, entry: int, draw: int) -> None:
    north, south = (
        train_task(
            federation="f",
            site=site,
            epoch=epoch,
            entry=entry,
            draw=draw,
            exclusion_counter=0,
            learning_rate=0.1,
        )
        for site in ("north", "south")
    )
    assert epoch_of(north.id) == epoch
    assert 0 <= north.seed < 2**63
    assert south.seed != north.seed


@pytest.mark.parametrize("name", ["", "train", "train-x-0-0", "0f3e", "train-1-2-3-4"])
def test_other_identifiers_name_no_train_task(name: str) -> None:
    assert epoch_of(name) is None
