"""What `letheon models rebuild` receives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from letheon import names
from letheon.cli.screen import console, transfer_bar
from letheon.errors import InternalFault
from letheon.servicekit.transfer import receive
from letheon.v1 import models_pb2

# It replays every row since a checkpoint, then travels; it has no natural upper bound.
REBUILD_TIMEOUT_S = 3600.0


def full_site_name(text: str) -> str:
    """`site-3` or `sites/site-3` as a resource name. Raises MalformedName."""
    name = f"sites/{text.removeprefix('sites/')}"
    names.site_id(name)
    return name


def receive_rebuilt(
    parts: Iterable[models_pb2.RebuildModelResponse], path: Path
) -> models_pb2.RebuiltModel:
    """Shows progress, writes the values to `path` and returns the header.

    Raises InternalFault if the stream ends without one, DigestMismatch for other bytes than it
    promised, CoordinatorUnreachable for a broken stream.
    """
    stream = iter(parts)
    header = _header(stream)
    with transfer_bar("downloading") as bar:
        receive(_as_download(header, stream), path, bar)
    return header


def _header(parts: Iterator[models_pb2.RebuildModelResponse]) -> models_pb2.RebuiltModel:
    stderr = console(stderr=True)
    columns = (TextColumn("replaying the ledger"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("replay", total=None)
        for part in parts:
            if part.WhichOneof("part") == "header":
                return part.header
            progress.update(bar, completed=part.progress.done, total=part.progress.total)
    raise InternalFault("the coordinator ended the rebuild without a model")


def _as_download(
    header: models_pb2.RebuiltModel, parts: Iterator[models_pb2.RebuildModelResponse]
) -> Iterator[models_pb2.DownloadModelResponse]:
    model = models_pb2.Model(
        name=header.export.model,
        version=header.version,
        epoch=header.epoch,
        size_bytes=header.size_bytes,
        sha256=header.sha256,
    )
    yield models_pb2.DownloadModelResponse(header=model)
    for part in parts:
        yield models_pb2.DownloadModelResponse(chunk=part.chunk)


def rebuilt_sentence(made: models_pb2.RebuiltModel, out: Path) -> str:
    """What was written, for a person."""
    export = made.export
    without = f" without {', '.join(export.without)}" if export.without else ""
    started = f"replayed from entry {made.replayed_from}"
    if made.start_held_site:
        started += ", from whose checkpoint their contribution was subtracted first"
    return (
        f"Wrote {export.model}{without} to {out} for {export.recipient}, {started}; sha256 of its "
        f"values {made.sha256}."
    )
