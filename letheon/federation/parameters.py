"""Model parameters as one flat float32 vector, and the layout that names its parts.

The vector has `d` elements: the tensors of the layout one after the other, each in C order.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from letheon.errors import BadData

Vector: TypeAlias = npt.NDArray[np.float32]

_ORDER = "letheon.order"  # metadata key: a safetensors file sorts its tensors, a layout does not


@dataclass(frozen=True)
class TensorSpec:
    """Name and shape of one tensor; a scalar has the empty shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in the order of its flat vector.

    Raises BadData for no tensor, a repeated or empty name, or a negative dimension.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not names or not self.size:
            raise BadData("a layout needs at least one element")
        if "" in names or len(set(names)) != len(names):
            raise BadData("the tensor names of a layout must be unique and not empty")
        if any(dimension < 0 for tensor in self.tensors for dimension in tensor.shape):
            raise BadData("a dimension of a layout is negative")

    @cached_property
    def size(self) -> int:
        """Number of elements `d` of the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index in the flat vector of each tensor's first element."""
        return tuple(accumulate((t.size for t in self.tensors[:-1]), initial=0))

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON of the layout."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> list[dict[str, Any]]:
        """`[{"name": str, "shape": [int, ...]}, ...]`, in order."""
        return [{"name": t.name, "shape": list(t.shape)} for t in self.tensors]

    @classmethod
    def from_json(cls, tensors: Sequence[Mapping[str, Any]]) -> Layout:
        """The inverse of `to_json`. Raises BadData."""
        try:
            return cls(
                tuple(
                    TensorSpec(str(tensor["name"]), tuple(int(n) for n in tensor["shape"]))
                    for tensor in tensors
                )
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadData(f"a layout is a list of {{name, shape}}: {error!r}") from error

    def tensor_at(self, index: int) -> str:
        """Name of the tensor that holds element `index` of the flat vector."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.tensors[bisect_right(self.offsets, index) - 1].name


def flatten(tensors: Mapping[str, npt.NDArray[Any]], layout: Layout) -> Vector:
    """A new vector [d] with the tensors in the order of the layout, as float32.

    Raises BadData for a missing or superfluous tensor or another shape.
    """
    expected = {tensor.name for tensor in layout.tensors}
    if expected != tensors.keys():
        odd = sorted(expected ^ tensors.keys())[0]
        raise BadData(f"tensor {odd!r} is either missing or not in the layout", tensor=odd)
    vector = np.empty(layout.size, dtype=np.float32)
    for spec, offset in zip(layout.tensors, layout.offsets, strict=True):
        tensor = tensors[spec.name]
        if tensor.shape != spec.shape:
            raise BadData(
                f"tensor {spec.name!r} has shape {tensor.shape}, not {spec.shape}", tensor=spec.name
            )
        vector[offset : offset + spec.size] = tensor.reshape(-1)
    return vector


def unflatten(vector: Vector, layout: Layout) -> dict[str, Vector]:
    """Views of the vector [d], one per tensor, in the order of the layout.

    Raises BadData for another length.
    """
    if vector.shape != (layout.size,):
        raise BadData(f"the vector has shape {vector.shape}, the layout ({layout.size},)")
    return {
        spec.name: vector[offset : offset + spec.size].reshape(spec.shape)
        for spec, offset in zip(layout.tensors, layout.offsets, strict=True)
    }


def digest(vector: Vector) -> str:
    """SHA-256, hex, of the little-endian float32 bytes of the vector."""
    contiguous = np.ascontiguousarray(vector, dtype="<f4")
    return hashlib.sha256(contiguous.data).hexdigest()


def write_safetensors(path: Path | str, vector: Vector, layout: Layout) -> None:
    """Writes the tensors of the vector [d], and their order, to a safetensors file."""
    order = json.dumps([tensor.name for tensor in layout.tensors])
    save_file(unflatten(vector, layout), str(path), metadata={_ORDER: order})


def read_safetensors(path: Path | str) -> tuple[Layout, Vector]:
    """Layout and vector of a safetensors file of float32 tensors.

    The order is the one `write_safetensors` left in the file, else that of the names. Raises
    BadData for a missing or unreadable file, or a tensor that is not float32.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors: dict[str, npt.NDArray[Any]] = {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 (no mapping)
            }
            order = json.loads((file.metadata() or {}).get(_ORDER, "null"))
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise BadData(f"{path} is not a readable safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise BadData(f"tensor {name!r} is {tensor.dtype}, not float32", tensor=name)
    names = sorted(tensors) if order is None else order
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not listed or sorted(names) != sorted(tensors):
        raise BadData(f"the order left in {path} does not name its tensors")
    layout = Layout(tuple(TensorSpec(name, tensors[name].shape) for name in names))
    return layout, flatten(tensors, layout)
