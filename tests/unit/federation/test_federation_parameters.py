import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_builders import a_layout, a_vector
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from letheon.errors import BadData
from letheon.federation.parameters import (
    Layout,
    TensorSpec,
    digest,
    flatten,
    read_safetensors,
    unflatten,
    write_safetensors,
)

LAYOUT = a_layout((2, 3), (), (4,), (0, 5), (1,))

shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=6)


@given(shapes.filter(lambda drawn: any(0 not in shape for shape in drawn)))
def test_flattening_undoes_unflattening_and_every_element_has_its_tensor(
    drawn: list[tuple[int, ...]],
) -> None:
    layout = a_layout(*drawn)
    vector = a_vector(layout.size)
    tensors = unflatten(vector, layout)
    assert np.array_equal(flatten(tensors, layout), vector)
    owners = [name for name, tensor in tensors.items() for _ in range(tensor.size)]
    assert [layout.tensor_at(i) for i in range(layout.size)] == owners
    assert Layout.from_json(layout.to_json()) == layout


def test_unflattened_tensors_are_views_of_the_vector() -> None:
    vector = a_vector(LAYOUT.size)
    unflatten(vector, LAYOUT)["layer2.weight"][1] = 42
    assert vector[8] == 42


def test_the_digest_of_a_layout_knows_names_shapes_and_order() -> None:
    one, other = TensorSpec("a", (2,)), TensorSpec("b", (2,))
    layouts = [
        Layout((one, other)),
        Layout((other, one)),
        Layout((one,)),
        Layout((one, TensorSpec("b", (1, 2)))),
    ]
    assert len({layout.digest for layout in layouts}) == 4
    assert Layout((one, other)).digest == layouts[0].digest


def test_the_digest_of_a_vector_is_that_of_its_little_endian_bytes() -> None:
    vector = a_vector(10)
    expected = hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()
    assert digest(vector) == expected
    assert digest(a_vector(20)[::2].copy()) == digest(a_vector(20)[::2])


@pytest.mark.parametrize("index", [-1, LAYOUT.size])
def test_an_index_outside_the_vector_has_no_tensor(index: int) -> None:
    with pytest.raises(IndexError):
        LAYOUT.tensor_at(index)


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [{"name": "a"}],
        [{"name": "a", "shape": [0]}],
        [{"name": "", "shape": [1]}],
        [{"name": "a", "shape": [1]}, {"name": "a", "shape": [1]}],
        [{"name": "a", "shape": [-1, -2]}],
        [{"name": "a", "shape": 3}],
        ["a"],
    ],
)
def test_a_layout_that_names_no_vector_is_refused(tensors: list[Any]) -> None:
    with pytest.raises(BadData):
        Layout.from_json(tensors)


def test_tensors_that_do_not_fit_the_layout_are_refused_by_name() -> None:
    tensors = dict(unflatten(a_vector(LAYOUT.size), LAYOUT))
    with pytest.raises(BadData, match=r"layer0\.weight"):
        flatten({**tensors, "layer0.weight": np.zeros(6, np.float32)}, LAYOUT)
    with pytest.raises(BadData, match="extra"):
        flatten({**tensors, "extra": np.zeros(1, np.float32)}, LAYOUT)
    del tensors["layer4.weight"]
    with pytest.raises(BadData, match=r"layer4\.weight"):
        flatten(tensors, LAYOUT)
    with pytest.raises(BadData):
        unflatten(a_vector(3), LAYOUT)


def test_a_safetensors_file_keeps_values_names_shapes_and_order(tmp_path: Path) -> None:
    layout = Layout((TensorSpec("z", (2, 2)), TensorSpec("a", ()), TensorSpec("m", (3,))))
    vector = a_vector(layout.size)
    write_safetensors(tmp_path / "w.safetensors", vector, layout)
    read_layout, read_vector = read_safetensors(tmp_path / "w.safetensors")
    assert read_layout == layout
    assert read_vector.tobytes() == vector.tobytes()


def test_a_file_of_another_writer_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"b": np.ones(1, np.float32), "a": np.zeros(2, np.float32)}, str(path))
    layout, vector = read_safetensors(path)
    assert [tensor.name for tensor in layout.tensors] == ["a", "b"]
    assert vector.tolist() == [0, 0, 1]


def test_a_file_that_holds_no_float32_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(BadData, match="readable"):
        read_safetensors(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(BadData, match="readable"):
        read_safetensors(path)
    save_file({"counts": np.ones(1, np.int64)}, str(path))
    with pytest.raises(BadData, match="counts"):
        read_safetensors(path)
    save_file({"a": np.ones(1, np.float32)}, str(path), metadata={"letheon.order": '["b"]'})
    with pytest.raises(BadData, match="order"):
        read_safetensors(path)


@pytest.mark.parametrize("order", ["[" * 3000, "[1]", '[["1"]]', "[" * 900 + "]" * 900])
def test_an_order_that_names_no_tensors_is_refused(tmp_path: Path, order: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"1": np.zeros(2, np.float32)}, str(path), metadata={"letheon.order": order})
    with pytest.raises(BadData):
        read_safetensors(path)


def test_a_layout_of_lists_without_end_or_of_infinite_size_is_refused() -> None:
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    for shape in ([float("inf")], deep):
        with pytest.raises(BadData):
            Layout.from_json([{"name": "w", "shape": shape}])
    with pytest.raises(BadData):
        Layout.from_json([{"name": deep, "shape": [1]}])
