"""What a delta or patch must satisfy before a byte of it reaches the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from letheon.errors import MalformedUpdate
from letheon.federation.arithmetic import BLOCK, squares
from letheon.federation.parameters import Layout, Vector


def check_layout(
    received: Sequence[tuple[str, tuple[int, ...], str]], layout: Layout, encodings: Sequence[str]
) -> str:
    """Compares (name, shape, dtype) of each tensor on offer, in order, with the plan's.

    Returns the encoding of all of them, which is one of `encodings`.
    Raises MalformedUpdate(rule=names|shape|dtype|count, tensor=the first that differs).
    """
    encoding = received[0][2] if received else encodings[0]
    for (name, shape, dtype), spec in zip(received, layout.tensors, strict=False):
        if name != spec.name:
            raise MalformedUpdate(
                f"tensor {name!r} stands where the plan has {spec.name!r}",
                rule="names",
                tensor=name,
            )
        if tuple(shape) != spec.shape:
            raise MalformedUpdate(
                f"tensor {name!r} has shape {list(shape)}, the plan {list(spec.shape)}",
                rule="shape",
                tensor=name,
            )
        if dtype != encoding or dtype not in encodings:
            raise MalformedUpdate(
                f"tensor {name!r} is {dtype}, the plan's encoding {' or '.join(encodings)}",
                rule="dtype",
                tensor=name,
            )
    _check_count(received, layout)
    return encoding


def _check_count(received: Sequence[tuple[str, tuple[int, ...], str]], layout: Layout) -> None:
    due, got = len(layout.tensors), len(received)
    if got == due:
        return
    odd = layout.tensors[got].name if got < due else received[due][0]
    what = "is missing" if got < due else "is not in the plan"
    raise MalformedUpdate(
        f"{got} tensors instead of {due}: {odd!r} {what}", rule="count", tensor=odd
    )


def check_values(delta: Vector, layout: Layout, max_norm: float | None) -> float:
    """L2 norm of the delta [d]; one pass, no temporary of its size.

    Raises MalformedUpdate: rule=count for another length, rule=finite naming the first tensor
    that holds NaN or infinity, rule=norm (tensor="*": the whole delta) beyond `max_norm`.
    """
    if delta.shape != (layout.size,):
        raise MalformedUpdate(
            f"{delta.size} values instead of {layout.size}", rule="count", tensor="*"
        )
    total = 0.0
    for number, part in enumerate(squares(delta)):
        if not math.isfinite(part):
            tensor = layout.tensor_at(_first_not_finite(delta, number * BLOCK))
            raise MalformedUpdate(
                f"tensor {tensor!r} holds NaN or infinity", rule="finite", tensor=tensor
            )
        total += part
    length = math.sqrt(total)
    if max_norm is not None and length > max_norm:
        raise MalformedUpdate(
            f"the L2 norm is {length:.6g}, the plan allows {max_norm:.6g}", rule="norm", tensor="*"
        )
    return length


def _first_not_finite(delta: Vector, start: int) -> int:
    finite = np.isfinite(np.asarray(delta)[start : start + BLOCK])
    return start + int(np.argmin(finite))
