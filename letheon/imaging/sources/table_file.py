"""The lines of a table, and a rule that splits a column in two."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from letheon.errors import BadData
from letheon.imaging.sources.table_values import is_number

_MOST_BYTES = 1024**3
THRESHOLD = re.compile(r"^\s*(>=|<=|==|!=|>|<)\s*(-?[\d.]+(?:[eE][-+]?\d+)?)\s*$")


def beyond(value: str, rule: str) -> int | None:
    """1 where the value passes the rule, 0 where not, None where it is no number."""
    match = THRESHOLD.match(rule)
    if match is None or not is_number(value):
        return None
    number, sign, limit = float(value), match[1], float(match[2])
    if math.isnan(number):
        return None
    passes = {
        ">": number > limit,
        ">=": number >= limit,
        "<": number < limit,
        "<=": number <= limit,
        "==": number == limit,
        "!=": number != limit,
    }
    return int(passes[sign])


def parsed(
    path: Path, columns: Sequence[str] | None, delimiter: str
) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    """Column names, and the lines below them with their row numbers."""
    if not path.is_file():
        raise BadData(f"there is no file {path}: give one site's table", path=path)
    if path.stat().st_size > _MOST_BYTES:
        raise BadData(f"{path} is larger than 1 GiB: that is no table of records", path=path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = [
            [cell.strip() for cell in line]
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(
            f"{path} is not a CSV file in UTF-8 ({type(error).__name__}): export it as one",
            path=path,
        ) from None
    lines = [line for line in lines if any(line)]
    header = tuple(columns or (lines[0] if lines else ()))
    if lines and (columns is None or tuple(lines[0]) == header):
        lines = lines[1:]
    if len(set(header)) != len(header):
        raise BadData(f"{path} has two columns of one name", path=path)
    if lines and columns is not None and len(lines[0]) != len(header):
        raise BadData(
            f"{path} has {len(lines[0])} columns, but `columns` names {len(header)}", path=path
        )
    return header, list(enumerate(lines, start=1))
