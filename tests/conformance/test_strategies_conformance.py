"""The laws of a strategy, on every registered one with its defaults and with every discount."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon import registry
from letheon.federation.aggregation.strategy import Offer, Strategy
from letheon.federation.arithmetic import accumulate, as_coefficient, relative_error
from letheon.federation.staleness import DISCOUNTS

ARGUMENTS: list[dict[str, object]] = [
    {},
    {"clip_norm": 2.0},
    *({"staleness": discount} for discount in sorted(DISCOUNTS)),
]


def takes(name: str, arguments: dict[str, object]) -> bool:
    """A synchronous strategy has no use for a discount."""
    return arguments.keys() <= {each.name for each in fields(registry.find(GROUP, name))}  # type: ignore[arg-type]


GROUP = registry.AGGREGATION
STRATEGIES = [
    (name, arguments)
    for name in registry.names(GROUP)
    for arguments in ARGUMENTS
    if takes(name, arguments)
]
every_strategy = pytest.mark.parametrize(("name", "arguments"), STRATEGIES, ids=str)

offers = st.builds(
    Offer,
    site=st.sampled_from(["north", "south", "east"]),
    staleness=st.integers(0, 10_000),
    record_count=st.integers(0, 100_000),
    norm=st.floats(0, 1e6),
)
buffers = st.lists(offers, min_size=1, max_size=8)
quick = settings(max_examples=20, deadline=None)


def built(name: str, arguments: dict[str, object]) -> Strategy:
    strategy: Strategy = registry.build(registry.AGGREGATION, name, arguments)
    return strategy


def test_there_are_strategies_to_check() -> None:
    assert {"fedasync", "fedavg", "fedbuff"} <= set(registry.names(registry.AGGREGATION))


@every_strategy
def test_a_strategy_is_one_and_says_what_it_is(name: str, arguments: dict[str, object]) -> None:
    strategy = built(name, arguments)
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy.linear, bool)
    assert isinstance(strategy.buffers, bool)
    assert strategy.buffers or not strategy.synchronous


@every_strategy
@quick
@given(waiting=buffers)
def test_coefficients_are_float32_numbers_one_for_each_delta(
    name: str, arguments: dict[str, object], waiting: list[Offer]
) -> None:
    coefficients = built(name, arguments).coefficients(waiting)
    assert len(coefficients) == len(waiting)
    for coefficient in coefficients:
        assert type(coefficient) is float
        assert coefficient == as_coefficient(coefficient)
        assert coefficient >= 0


@every_strategy
@quick
@given(waiting=buffers, data=st.data())
def test_a_staler_delta_never_weighs_more(
    name: str, arguments: dict[str, object], waiting: list[Offer], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(waiting) - 1))
    later = data.draw(st.integers(0, 10_000))
    stale = list(waiting)
    stale[index] = replace(stale[index], staleness=stale[index].staleness + later)
    strategy = built(name, arguments)
    assert strategy.coefficients(stale)[index] <= strategy.coefficients(waiting)[index]


@every_strategy
@quick
@given(waiting=buffers, random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_to_rounding(
    name: str, arguments: dict[str, object], waiting: list[Offer], random: object
) -> None:
    order = list(range(len(waiting)))
    random.shuffle(order)  # type: ignore[attr-defined]
    strategy = built(name, arguments)
    one = np.array(strategy.coefficients(waiting))
    other = np.array(strategy.coefficients([waiting[i] for i in order]))
    assert np.allclose(one[order], other, rtol=1e-6, atol=0)
    rng = np.random.default_rng(0)
    deltas = rng.standard_normal((len(waiting), 500)).astype(np.float32)
    start = rng.standard_normal(500).astype(np.float32) * 10
    first, second = start.copy(), start.copy()
    for i in range(len(waiting)):
        accumulate(first, one[i], deltas[i])
    for place, i in enumerate(order):
        accumulate(second, other[place], deltas[i])
    assert relative_error(first, second) <= 1e-5


@every_strategy
@quick
@given(waiting=buffers)
def test_equal_deltas_move_the_head_along_that_delta(
    name: str, arguments: dict[str, object], waiting: list[Offer]
) -> None:
    delta = np.array([3, -1, 0, 2], dtype=np.float32)
    head = np.zeros(4, dtype=np.float32)
    coefficients = built(name, arguments).coefficients(waiting)
    for coefficient in coefficients:
        accumulate(head, coefficient, delta)
    assert np.allclose(head, sum(coefficients) * delta, rtol=1e-5, atol=0)


@every_strategy
@quick
@given(waiting=buffers)
def test_a_zero_delta_changes_nothing_and_asking_changes_nothing(
    name: str, arguments: dict[str, object], waiting: list[Offer]
) -> None:
    strategy = built(name, arguments)
    head = np.array([1, -2, 3], dtype=np.float32)
    before = list(waiting)
    first = strategy.coefficients(waiting)
    for coefficient in first:
        accumulate(head, coefficient, np.zeros(3, dtype=np.float32))
    assert head.tolist() == [1, -2, 3]
    strategy.ready(waiting)
    assert waiting == before
    assert strategy.coefficients(waiting) == first
    assert built(name, arguments).coefficients(waiting) == first


@every_strategy
def test_a_strategy_becomes_ready_and_only_a_buffering_one_waits(
    name: str, arguments: dict[str, object]
) -> None:
    strategy = built(name, arguments)
    offer = Offer("north", 0, 10, 1.0)
    assert not strategy.ready([])
    assert any(strategy.ready([offer] * count) for count in range(1, 1001))
    assert strategy.buffers or strategy.ready([offer])


@every_strategy
@quick
@given(waiting=buffers, names=st.frozensets(st.sampled_from(["north", "south", "east", "west"])))
def test_a_synchronous_strategy_waits_for_every_site_and_the_others_for_none(
    name: str, arguments: dict[str, object], waiting: list[Offer], names: frozenset[str]
) -> None:
    strategy = built(name, arguments)
    missing = names - {offer.site for offer in waiting}
    if strategy.synchronous:
        assert strategy.ready(waiting, names) is not bool(missing)
    else:
        assert strategy.ready(waiting, names) == strategy.ready(waiting)
    assert not strategy.ready([], names)
