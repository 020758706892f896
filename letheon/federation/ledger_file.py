"""The ledger as a file: one row a line, its canonical bytes verbatim.

A line is `{"hash":"<64 hex digits>","row":<canonical bytes>}` and a newline, with no other space.
So the canonical bytes are those from byte 81 up to the closing brace, and every other byte of a
line has one right value: no change of a file goes unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from letheon.errors import LedgerBroken
from letheon.federation.ledger import FIRST_ENTRY, Entry, canonical_bytes, parse, verify_chain

_OPENING, _MIDDLE, _END = b'{"hash":"', b'","row":', b"}\n"
_HASH_DIGITS = 64
ROW_OFFSET = len(_OPENING) + _HASH_DIGITS + len(_MIDDLE)


def line_of(canonical: bytes, row_hash: str) -> bytes:
    """The line of a row, with its newline."""
    return b"".join((_OPENING, row_hash.encode(), _MIDDLE, canonical, _END))


def verify_lines(
    lines: Iterable[bytes],
    *,
    tip: str | None = None,
    check: Callable[[Entry], None] = lambda _: None,
) -> Entry:
    """The last row, once every line, number, link and hash holds from row 0 on; keeps one row.

    `lines` end with their newline. `tip` as for `verify_chain`; `check` may look at each row that
    holds. Raises LedgerBroken(entry=the
    first row that does not hold).
    """
    last: Entry | None = None
    for row in _rows(lines):
        last = verify_chain([row], after=last)
        check(row)
    if last is None:
        raise LedgerBroken("the file has no row", entry=FIRST_ENTRY)
    if tip is not None and tip != last.hash:
        raise LedgerBroken(
            f"row {last.entry} is the last of the file, but its hash is not the one asked for: "
            f"row {last.entry + 1} is missing, or this is another ledger",
            entry=last.entry + 1,
        )
    return last


def _rows(lines: Iterable[bytes]) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=FIRST_ENTRY):
        yield _row(line, number)


def _row(line: bytes, number: int) -> Entry:
    middle = line[len(_OPENING) + _HASH_DIGITS : ROW_OFFSET]
    if not line.startswith(_OPENING) or middle != _MIDDLE or not line.endswith(_END):
        cut = "" if line.endswith(b"\n") else ", the file was cut there"
        raise LedgerBroken(f"row {number} is no line of an exported ledger{cut}", entry=number)
    named = line[len(_OPENING) : len(_OPENING) + _HASH_DIGITS]
    canonical = line[ROW_OFFSET : -len(_END)]
    if hashlib.sha256(canonical).hexdigest().encode() != named:
        raise LedgerBroken(f"row {number} was altered: its hash differs", entry=number)
    try:
        row = parse(canonical)
        intact = canonical_bytes(row) == canonical
    # Whoever can hash can write any JSON: numbers no float holds, lists without end.
    except (LedgerBroken, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise LedgerBroken(f"row {number} cannot be read: {error}", entry=number) from error
    if not intact:
        raise LedgerBroken(f"row {number} is not written in canonical form", entry=number)
    return row
