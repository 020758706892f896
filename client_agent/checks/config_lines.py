"""In which line of a TOML file a key stands. tomllib keeps no positions."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?\s*(?P<table>[\w.\"' -]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*(?P<key>[\w.\"'-]+)\s*=")


def lines_of(text: str) -> Mapping[str, int]:
    """Line number, from 1, of every table and key by its dotted name."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _plain(header["table"])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = _plain(key["key"])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def line_of(key: str, lines: Mapping[str, int]) -> int | None:
    """The line of a dotted key, or of the nearest table around it; None if there is none."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s\"']", "", name)
