"""What site code sends, checked: every error names the tensor or number, and the rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from letheon.errors import MalformedUpdate, TrainingCodeFailed
from letheon.site.job import Arrays, Sent

WEIGHT_KEYS = ("num-examples", "num_examples")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def checked(
    state: Mapping[str, Any],
    base: Arrays,
    *,
    records: int,
    num_examples: object,
    metrics: Mapping[str, object] | None,
) -> Sent:
    """What the code sent, as Letheon goes on with it.

    The number of examples is `num_examples`, or the metric "num-examples" or "num_examples", or
    else all records. Raises MalformedUpdate(rule, tensor) for weights that are not the model's,
    TrainingCodeFailed for a number that is none.
    """
    told = dict(metrics or {})
    for key in WEIGHT_KEYS:
        found = told.pop(key, None)
        num_examples = found if num_examples is None else num_examples
    return Sent(
        weights=_weights(state, base),
        num_examples=records if num_examples is None else _examples(num_examples, records),
        metrics={str(name): _number(str(name), value) for name, value in told.items()},
    )


def _weights(state: Mapping[str, Any], base: Arrays) -> Arrays:
    if not isinstance(state, Mapping):
        raise TrainingCodeFailed(
            f"the code sent a {type(state).__name__}: send(model.state_dict()) is what is wanted"
        )
    for name in state:
        if name not in base:
            raise _malformed("names", str(name), f"is not in the plan's model{_advice(str(name))}")
    return {name: _tensor(name, state, expected) for name, expected in base.items()}


def _advice(name: str) -> str:
    if name.endswith(_STATISTICS):
        return "; running statistics are neither merged nor erased: use GroupNorm"
    if name.startswith(("module.", "_orig_mod.")):
        return ": send the state of the network itself, not of what wraps it"
    return ""


def _tensor(
    name: str, state: Mapping[str, Any], expected: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    if name not in state:
        raise _malformed("names", name, "is missing from what the code sent")
    value = state[name]
    if hasattr(value, "detach"):  # a torch tensor, on whatever device
        value = value.detach().cpu()
        # numpy knows no bfloat16.
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise _malformed("dtype", name, f"is {array.dtype}; weights are floating-point numbers")
    if array.shape != expected.shape:
        raise _malformed(
            "shape", name, f"has shape {list(array.shape)}, the plan {list(expected.shape)}"
        )
    with np.errstate(over="ignore"):  # what does not fit float32 is found as infinity below
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise _malformed("finite", name, "holds NaN or infinity")
    return values


def _malformed(rule: str, name: str, what: str) -> MalformedUpdate:
    return MalformedUpdate(f"tensor {name!r} {what}", rule=rule, tensor=name)


def _examples(value: object, records: int) -> int:
    number = _number("num_examples", value)
    if number != int(number) or not 1 <= number <= records:
        raise TrainingCodeFailed(
            f"num_examples is {value}: it counts records, from 1 to the {records} of this site, "
            "each once however often it was seen"
        )
    return int(number)


def _number(name: str, value: object) -> float:
    item = getattr(value, "item", None)
    if callable(item):
        with suppress(ValueError, RuntimeError):
            value = item()  # a scalar of torch or numpy
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TrainingCodeFailed(f"{name} must be a number, not a {type(value).__name__}")
    if not math.isfinite(value):
        raise TrainingCodeFailed(f"{name} must be a finite number, not {value}")
    return float(value)
