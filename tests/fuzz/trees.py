"""JSON bent at a few places: what a signer could sign, or a stranger could write."""

from __future__ import annotations

import copy
import json
from typing import Any

from letheon.servicekit.signing import canonical_json

from .choices import Choices

_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**63,
    2**64 + 1,
    10**4000,
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "0",
    "00",
    "\ud800",
    "sites/north",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-03-01",
    "00" * 32,
    "AAAA",
    [],
    {},
    [[]],
    [{}],
    ["x", 1],
    [[0, "00" * 32]],
    {"": {}},
)


def bent(tree: Any, choices: Choices, most: int = 4) -> Any:
    """A copy with at most `most` changes; none if the choices ran out."""
    tree = copy.deepcopy(tree)
    for _ in range(choices.number(255) % (most + 1)):
        places = _places(tree)
        if not places:
            break
        holder, key = places[choices.number(0xFFFF) % len(places)]
        _bend(holder, key, choices)
    return tree


def odd_value(choices: Choices) -> Any:
    """A value that readers like least."""
    kind = choices.number(255)
    if kind < 200:
        return copy.deepcopy(_ODD[kind % len(_ODD)])
    if kind < 220:
        return choices.text()
    if kind < 240:
        return int.from_bytes(choices.bytes(8), "big", signed=True)
    if kind < 250:
        return choices.some_bytes(40).hex()
    nested: Any = choices.text(8)
    for _ in range(choices.number(255) * 8):
        nested = [nested]
    return nested


def written(tree: Any) -> bytes:
    """Canonical JSON if there is such, else JSON, else what nobody can read to its end."""
    try:
        return canonical_json(tree)
    except ValueError:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 5000


def _bend(holder: Any, key: Any, choices: Choices) -> None:
    how = choices.number(255) % 8
    value = holder[key]
    if how <= 3:
        holder[key] = odd_value(choices)
    elif how == 4:
        del holder[key]
    elif how == 5:
        holder[key] = [value, value]  # not a copy: it may be deeper than a copy goes
    elif isinstance(holder, dict):
        holder[choices.text(12)] = value if how == 6 else odd_value(choices)
    else:
        holder.insert(choices.number(255) % (len(holder) + 1), odd_value(choices))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            keys: list[Any] = sorted(here)
        elif isinstance(here, list):
            keys = list(range(len(here)))
        else:
            continue
        found.extend((here, key) for key in keys)
        waiting.extend(here[key] for key in keys)
    return found
