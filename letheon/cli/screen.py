"""What a command prints: a table for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

JsonValue: TypeAlias = (
    bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
)
Document: TypeAlias = Mapping[str, JsonValue]

_FORMAT_KEY = "letheon.format"
# Rich folds at 80 columns when it writes to a pipe; names and digests must stay whole there.
_PIPE_WIDTH = 200


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"


def _remember(context: typer.Context, value: Format) -> Format:
    context.meta[_FORMAT_KEY] = value
    return value


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        callback=_remember,
        is_eager=True,
        help="table for people, json for programs: one document on standard output.",
    ),
]


def chosen_format(context: typer.Context) -> Format:
    """The format the running command was asked for."""
    chosen: Format = context.meta.get(_FORMAT_KEY, Format.TABLE)
    return chosen


def console(*, stderr: bool = False) -> Console:
    """A console that colours only a terminal and folds nothing in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=True)


def print_document(document: Document | Sequence[Document]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=False) + "\n")


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; numbers are the caller's to format."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_fields(title: str, fields: Mapping[str, str]) -> None:
    """Name and value, one a line; empty values are left out."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value:
            table.add_row(name, value)
    console().print(table)


def say(line: str) -> None:
    """A plain line for a person on standard output, never parsed as markup."""
    console().print(line, markup=False)


@contextmanager
def transfer_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while bytes travel, on a terminal only: call it (done, in all)."""
    stderr = console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def size_text(size_bytes: int) -> str:
    """Bytes for people: 1 kB is 1000 bytes."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_text(seconds: float | None) -> str:
    """A duration for people; `never` for none."""
    if seconds is None:
        return "never"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"
