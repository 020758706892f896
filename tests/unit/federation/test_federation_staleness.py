import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadConfig
from letheon.federation.staleness import (
    DISCOUNTS,
    Constant,
    Discount,
    Exponential,
    Hinge,
    Polynomial,
    staleness_from,
)

positive = st.floats(0, 5)
discounts = st.one_of(
    st.just(Constant()),
    st.builds(Polynomial, positive),
    st.builds(Exponential, positive),
    st.builds(Hinge, st.integers(0, 20), positive),
)
versions = st.integers(0, 100_000)


@given(discounts, versions, versions)
def test_a_staler_delta_never_weighs_more(discount: Discount, one: int, other: int) -> None:
    fresh, stale = sorted((one, other))
    assert 0 <= discount.weight(stale) <= discount.weight(fresh) <= 1


@given(discounts)
def test_a_fresh_delta_weighs_one(discount: Discount) -> None:
    assert discount.weight(0) == 1


def test_the_weights_are_those_of_the_formulas() -> None:
    assert Constant().weight(9) == 1
    assert Polynomial(0.5).weight(3) == 0.5
    assert Exponential(0.1).weight(10) == math.exp(-1)
    assert [Hinge(4, 0.5).weight(s) for s in (0, 4, 6, 10)] == [1, 1, 0.5, 0.25]


@pytest.mark.parametrize("name", sorted(DISCOUNTS))
def test_every_discount_has_defaults_and_a_name(name: str) -> None:
    assert staleness_from(name, {}).weight(0) == 1


def test_arguments_reach_the_discount() -> None:
    assert staleness_from("hinge", {"grace": 1, "slope": 1.0}) == Hinge(1, 1.0)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("linear", {}, "constant, exponential, hinge, polynomial"),
        ("polynomial", {"rate": 1}, "rate"),
        ("polynomial", {"exponent": -1}, "exponent must be"),
        ("exponential", {"rate": float("nan")}, "rate must be"),
        ("hinge", {"slope": "steep"}, "refuses"),
    ],
)
def test_a_wrong_discount_is_refused_with_a_sentence(
    name: str, arguments: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadConfig, match=sentence):
        staleness_from(name, arguments)
