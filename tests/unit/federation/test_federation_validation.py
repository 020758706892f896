import numpy as np
import pytest
from federation_builders import a_layout, a_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import MalformedUpdate
from letheon.federation.arithmetic import BLOCK, norm
from letheon.federation.validation import check_layout, check_values

LAYOUT = a_layout((2, 3), (4,), ())
RIGHT = [(t.name, t.shape, "float16") for t in LAYOUT.tensors]
BIG = a_layout((BLOCK,), (BLOCK, 2), (5,))


def test_an_update_of_the_plans_layout_is_accepted() -> None:
    check_layout(RIGHT, LAYOUT, ["float16"])


@pytest.mark.parametrize(
    ("received", "rule", "tensor"),
    [
        ([("bias", (2, 3), "float16"), *RIGHT[1:]], "names", "bias"),
        ([RIGHT[1], RIGHT[0], RIGHT[2]], "names", "layer1.weight"),
        ([RIGHT[0], ("layer1.weight", (2, 2), "float16"), RIGHT[2]], "shape", "layer1.weight"),
        ([*RIGHT[:2], ("layer2.weight", (), "float32")], "dtype", "layer2.weight"),
        (RIGHT[:2], "count", "layer2.weight"),
        ([*RIGHT, ("extra", (1,), "float16")], "count", "extra"),
        ([], "count", "layer0.weight"),
    ],
)
def test_a_refused_layout_says_which_rule_and_which_tensor(
    received: list[tuple[str, tuple[int, ...], str]], rule: str, tensor: str
) -> None:
    with pytest.raises(MalformedUpdate) as refused:
        check_layout(received, LAYOUT, ["float16"])
    assert refused.value.facts == {"rule": rule, "tensor": tensor}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, BIG.size - 1), min_size=1, max_size=4),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_the_first_tensor_with_nan_or_infinity_is_named(places: list[int], value: float) -> None:
    delta = np.zeros(BIG.size, np.float32)
    delta[places] = value
    with pytest.raises(MalformedUpdate) as refused:
        check_values(delta, BIG, None)
    assert refused.value.facts == {"rule": "finite", "tensor": BIG.tensor_at(min(places))}


def test_the_norm_is_returned_and_the_delta_left_as_it_is() -> None:
    delta = a_vector(BIG.size)
    before = delta.tobytes()
    delta.flags.writeable = False
    assert check_values(delta, BIG, None) == pytest.approx(norm(delta), rel=1e-12)
    assert check_values(delta, BIG, norm(delta) * 1.01) == check_values(delta, BIG, None)
    assert delta.tobytes() == before


def test_a_delta_longer_than_the_plan_allows_is_refused() -> None:
    with pytest.raises(MalformedUpdate) as refused:
        check_values(np.ones(11, np.float32), LAYOUT, 3.3)
    assert refused.value.facts == {"rule": "norm", "tensor": "*"}


def test_a_delta_of_another_length_is_refused() -> None:
    with pytest.raises(MalformedUpdate) as refused:
        check_values(np.ones(10, np.float32), LAYOUT, None)
    assert refused.value.facts["rule"] == "count"
