import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon import registry
from letheon.errors import BadConfig
from letheon.federation.aggregation.fedavg import FedAvg
from letheon.federation.aggregation.strategy import Offer


def an_offer(site: str = "north", staleness: int = 0, records: int = 10) -> Offer:
    return Offer(site, staleness, records, 1.0)


def test_a_round_waits_for_the_slowest_site() -> None:
    strategy, sites = FedAvg(), {"north", "south"}
    assert not strategy.ready([], sites)
    assert not strategy.ready([an_offer("north")], sites)
    assert strategy.ready([an_offer("north"), an_offer("south")], sites)


def test_a_second_delta_of_one_site_does_not_stand_in_for_another() -> None:
    assert not FedAvg().ready([an_offer("north")] * 2, {"north", "south"})


def test_a_delta_of_a_site_that_is_not_waited_for_does_not_hold_the_round_up() -> None:
    assert FedAvg().ready([an_offer("north"), an_offer("late", staleness=1)], {"north"})


def test_nothing_is_merged_when_nothing_waits() -> None:
    assert not FedAvg().ready([], set())
    assert FedAvg().coefficients([]) == ()


def test_a_delta_weighs_by_its_share_of_the_records() -> None:
    assert FedAvg().coefficients([an_offer(records=30), an_offer(records=10)]) == (0.75, 0.25)


def test_sites_that_name_no_records_weigh_the_same() -> None:
    assert FedAvg().coefficients([an_offer(records=0)] * 4) == (0.25,) * 4


def test_the_server_rate_scales_the_step() -> None:
    assert FedAvg(server_learning_rate=0.5).coefficients([an_offer()] * 2) == (0.25, 0.25)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_at_a_rate_of_one_the_coefficients_are_a_mean(records: list[int]) -> None:
    offers = [an_offer(f"site-{i}", records=count) for i, count in enumerate(records)]
    assert sum(FedAvg().coefficients(offers)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("arguments", [{"server_learning_rate": 0}, {"staleness": "constant"}])
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadConfig):
        registry.build(registry.AGGREGATION, "fedavg", arguments)
