"""Writing the TOML that the services read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

TomlValue: TypeAlias = (
    str | bool | int | float | Path | Sequence["TomlValue"] | Mapping[str, "TomlValue"]
)
TomlTable: TypeAlias = Mapping[str, TomlValue]


def toml_text(table: TomlTable) -> str:
    """A document: plain keys first, then one section for each nested table."""
    return "\n".join(_section((), table)).strip() + "\n"


def _section(path: tuple[str, ...], table: TomlTable) -> list[str]:
    lines = [""]
    if path:
        lines.append(f"[{'.'.join(_key(part) for part in path)}]")
    nested = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key not in nested]
    for key, value in nested.items():
        lines += _section((*path, key), value)
    return lines


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if bare else json.dumps(key)


def _value(value: TomlValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        # A JSON string is a TOML basic string but for the escape of DEL, which no path holds.
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}"
    return f"[{', '.join(_value(item) for item in value)}]"
