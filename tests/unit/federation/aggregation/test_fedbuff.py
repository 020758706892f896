import pytest

from letheon import registry
from letheon.errors import BadConfig
from letheon.federation.aggregation.fedbuff import FedBuff
from letheon.federation.aggregation.strategy import Offer


def an_offer(site: str = "north", staleness: int = 0, records: int = 10) -> Offer:
    return Offer(site, staleness, records, 1.0)


def test_a_buffer_is_ready_when_it_is_full() -> None:
    strategy = FedBuff(buffer_size=2)
    assert not strategy.ready([an_offer()])
    assert strategy.ready([an_offer(), an_offer()])


def test_equal_fresh_deltas_share_the_server_step() -> None:
    assert FedBuff().coefficients([an_offer()] * 4) == (0.25,) * 4


def test_a_site_with_more_records_weighs_more() -> None:
    offers = [an_offer(records=30), an_offer(records=10)]
    assert FedBuff(buffer_size=2).coefficients(offers) == (0.75, 0.25)


def test_sites_that_name_no_records_weigh_the_same() -> None:
    assert FedBuff(buffer_size=2).coefficients([an_offer(records=0)] * 2) == (0.5, 0.5)


def test_a_stale_buffer_moves_the_head_less() -> None:
    strategy = FedBuff(buffer_size=2)
    assert strategy.coefficients([an_offer(staleness=3)] * 2) == (0.25, 0.25)


def test_a_buffer_flushed_early_gives_nobody_a_larger_share() -> None:
    assert FedBuff(buffer_size=4).coefficients([an_offer()]) == (0.25,)
    assert FedBuff(buffer_size=4).coefficients([]) == ()


@pytest.mark.parametrize(
    "arguments",
    [{"buffer_size": 0}, {"buffer_size": 2.5}, {"buffer_size": True}, {"staleness": "no"}],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadConfig):
        registry.build(registry.AGGREGATION, "fedbuff", arguments)
