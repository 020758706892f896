import numpy as np
import pytest

from letheon import registry
from letheon.errors import BadConfig
from letheon.federation.aggregation.fedasync import FedAsync
from letheon.federation.aggregation.strategy import Offer


def coefficient(strategy: FedAsync, **changes: object) -> float:
    fields = {"site": "north", "staleness": 0, "record_count": 10, "norm": 1.0, **changes}
    return strategy.coefficients([Offer(**fields)])[0]  # type: ignore[arg-type]


def test_one_delta_is_enough() -> None:
    strategy = FedAsync()
    assert not strategy.ready([])
    assert strategy.ready([Offer("north", 0, 10, 1.0)])
    assert strategy.coefficients([]) == ()


def test_a_fresh_delta_is_merged_at_the_server_learning_rate() -> None:
    assert coefficient(FedAsync()) == float(np.float32(0.6))


def test_a_late_update_weighs_less_than_a_fresh_one() -> None:
    assert coefficient(FedAsync(server_learning_rate=1.0), staleness=3) == 0.5


def test_a_long_delta_is_clipped_and_a_short_one_is_not() -> None:
    strategy = FedAsync(server_learning_rate=1.0, clip_norm=2.0)
    assert coefficient(strategy, norm=8.0) == 0.25
    assert coefficient(strategy, norm=1.0) == 1.0
    assert coefficient(strategy, norm=0.0) == 1.0


def test_a_site_weighs_what_the_plan_says() -> None:
    strategy = FedAsync(server_learning_rate=1.0, site_weights={"north": 0.5})
    assert coefficient(strategy) == 0.5
    assert coefficient(strategy, site="south") == 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"server_learning_rate": 0},
        {"server_learning_rate": True},
        {"clip_norm": -1.0},
        {"clip_norm": float("nan")},
        {"site_weights": {"north": -0.1}},
        {"staleness": "unknown"},
        {"staleness_arguments": {"rate": 1}},
        {"momentum": 1},
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadConfig):
        registry.build(registry.AGGREGATION, "fedasync", arguments)
