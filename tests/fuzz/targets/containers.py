"""What says how a model is laid out: layouts, headers of uploads, plans and safetensors files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from builders import LAYOUT, a_plan, a_vector

from letheon.errors import BadConfig, BadData, MalformedUpdate, UnknownPlugin
from letheon.federation.parameters import Layout, read_safetensors, write_safetensors
from letheon.federation.plan import Plan
from letheon.federation.validation import check_layout, check_values

from ..choices import Choices
from ..target import Target, promise
from ..trees import bent, odd_value, written
from ..workplace import workplace

_ENCODINGS = ("float32", "int8+zstd")
_OFFERED = [(t.name, t.shape, "float32") for t in LAYOUT.tensors]


def run(data: bytes) -> bool:
    choices = Choices(data)
    return choices.pick((_layout, _offer, _values, _file, _plan))(choices)


def _layout(choices: Choices) -> bool:
    tree = bent(LAYOUT.to_json(), choices)
    if choices.flag():
        tree = odd_value(choices)
    try:
        layout = Layout.from_json(tree)
    except BadData:
        return False
    promise(Layout.from_json(layout.to_json()) == layout, "a layout is read as it is written")
    promise(layout.offsets[0] == 0 and layout.size > 0, "it has a first element")
    return True


def _offer(choices: Choices) -> bool:
    """Names, shapes and encodings of an upload: only the plan's pass."""
    tree = bent([[name, list(shape), dtype] for name, shape, dtype in _OFFERED], choices)
    received = []
    for part in tree if isinstance(tree, list) else []:
        name, shape, dtype, *_ = [*(part if isinstance(part, list) else []), "", [], ""][:3]
        whole = [n for n in shape if isinstance(n, int)] if isinstance(shape, list) else []
        texts = [one if isinstance(one, str) else "" for one in (name, dtype)]
        received.append((texts[0], tuple(whole), texts[1]))
    try:
        encoding = check_layout(received, LAYOUT, _ENCODINGS)
    except MalformedUpdate:
        return False
    promise(encoding in _ENCODINGS, "an encoding that the plan allows")
    promise([(n, s) for n, s, _ in received] == [(n, s) for n, s, _ in _OFFERED], "as the plan")
    return True


def _values(choices: Choices) -> bool:
    values = np.frombuffer(choices.rest()[: 4 * LAYOUT.size].ljust(4 * LAYOUT.size), np.float32)
    try:
        norm = check_values(values, LAYOUT, 100.0)
    except MalformedUpdate:
        return False
    promise(bool(np.isfinite(values).all()) and norm <= 100.0, "finite, and within the norm")
    return True


def _file(choices: Choices) -> bool:
    """A safetensors file with another header, or other bytes."""
    content = _safetensors()
    size = int.from_bytes(content[:8], "little")
    if choices.flag():
        content = choices.rest()
    else:
        header = bent(json.loads(content[8 : 8 + size]), choices)
        if isinstance(header, dict) and choices.flag():
            order = bent([tensor.name for tensor in LAYOUT.tensors], choices)
            header["__metadata__"] = {"letheon.order": written(order).decode("utf-8", "replace")}
        text = written(header)
        length = len(text) if not choices.flag() else choices.number(2**62)
        content = length.to_bytes(8, "little") + text + content[8 + size :]
    path = workplace() / "model.safetensors"
    path.write_bytes(content)
    try:
        layout, vector = read_safetensors(path)
    except BadData:
        return False
    promise(vector.shape == (layout.size,), "as many values as the layout says")
    return True


def _plan(choices: Choices) -> bool:
    if choices.flag():
        content = choices.rest()
    else:
        tree: Any = bent(json.loads(a_plan().canonical_json()), choices)
        content = written(tree)
    try:
        plan = Plan.from_canonical(content)
        plan.build_strategy()
    except (BadConfig, UnknownPlugin):
        return False
    promise(Plan.from_canonical(plan.canonical_json()) == plan, "a plan is read as it is written")
    return True


@cache
def _safetensors() -> bytes:
    path = Path(workplace(), f"seed-{os.getpid()}.safetensors")
    write_safetensors(path, a_vector(), LAYOUT)
    return path.read_bytes()


def _seeds() -> Iterator[bytes]:
    yield from (bytes([kind, 0, 0]) for kind in range(5))
    for kind in (0, 1, 3, 4):
        for spot in range(24):
            for how, what in ((0, 5), (0, 7), (1, 11), (0, 17), (4, 0), (5, 0), (6, 3)):
                lead = [kind, 0] if kind in (3, 4) else [kind]
                yield bytes([*lead, 1, 0, spot, how, what])
    yield b"\2" + a_vector().tobytes()
    yield b"\3\xff" + _safetensors()
    yield b"\4\xff" + a_plan().canonical_json()
    yield b"\4\xff" + b"[" * 3000


TARGET = Target(
    "containers",
    "letheon.federation: Layout, check_layout, check_values, read_safetensors, Plan",
    run,
    _seeds,
)
