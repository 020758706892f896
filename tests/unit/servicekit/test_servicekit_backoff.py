import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.servicekit.backoff import Backoff


@given(st.integers(), st.integers(1, 60))
def test_a_delay_stays_between_the_base_and_the_cap(seed: int, repeats: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=20.0, rng=random.Random(seed))
    assert all(0.5 <= backoff.next_s() <= 20.0 for _ in range(repeats))


@given(st.integers())
def test_a_delay_is_at_most_three_times_the_one_before(seed: int) -> None:
    backoff = Backoff(base_s=1.0, cap_s=300.0, rng=random.Random(seed))
    last = 1.0
    for _ in range(20):
        delay = backoff.next_s()
        assert delay <= 3 * last
        last = delay


def test_a_delay_is_never_less_than_the_other_side_asked_for() -> None:
    assert Backoff(rng=random.Random(1)).next_s(at_least_s=400.0) == 400.0


def test_after_a_success_the_delays_begin_small_again() -> None:
    backoff = Backoff(base_s=1.0, cap_s=300.0, rng=random.Random(2))
    for _ in range(30):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 3.0


def test_a_base_above_the_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s=10, cap_s=1)
