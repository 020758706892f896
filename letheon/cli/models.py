"""`letheon models`: versions, and taking a copy away on the record."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from letheon import names
from letheon.cli.documents import Fields, export_document, model_document
from letheon.cli.rebuilding import (
    REBUILD_TIMEOUT_S,
    full_site_name,
    rebuilt_sentence,
    receive_rebuilt,
)
from letheon.cli.remote import CoordinatorOption, Remote, connect
from letheon.cli.screen import (
    Format,
    FormatOption,
    print_document,
    print_fields,
    print_rows,
    say,
    size_text,
    transfer_bar,
)
from letheon.errors import BadConfig
from letheon.federation.parameters import write_safetensors
from letheon.federation.plan import Plan
from letheon.servicekit.transfer import download
from letheon.v1 import federation_pb2, models_pb2

app = typer.Typer(no_args_is_help=True, help="Model versions, and taking a copy on the record.")


def full_model_name(text: str) -> str:
    """`7`, `head`, `serving` or `models/7` as a resource name. Raises MalformedName."""
    identifier = text.removeprefix("models/")
    if identifier in ("head", "serving"):
        return f"models/{identifier}"
    name = f"models/{identifier}"
    names.model_version(name)
    return name


@app.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Versions written out as files, newest first."""
    with connect(coordinator) as remote:
        found = remote.models.ListModels(models_pb2.ListModelsRequest(page_size=limit)).models
    rows = [model_document(model) for model in found]
    if output is Format.JSON:
        print_document({"models": rows})
        return
    print_rows(
        "Models",
        ["version", "epoch", "state", "role", "size", "written", "sha256"],
        [
            [
                str(row["version"]),
                str(row["epoch"]),
                _state(row),
                _role(row),
                size_text(model.size_bytes),
                str(row["written_at"] or ""),
                str(row["sha256"])[:16],
            ]
            for row, model in zip(rows, found, strict=True)
        ],
    )


def _state(row: Fields) -> str:
    by = row["destroyed_by"]
    return f"{row['state']} by {by}" if by else str(row["state"])


def _role(row: Fields) -> str:
    return ", ".join(role for role in ("head", "serving") if row[role])


@app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="A version, `head` or `serving`.")],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """One version."""
    request = models_pb2.GetModelRequest(name=full_model_name(model))
    with connect(coordinator) as remote:
        row = model_document(remote.models.GetModel(request))
    if output is Format.JSON:
        print_document(row)
    else:
        print_fields(
            str(row["name"]),
            {key: str(value) for key, value in row.items() if value not in (None, False, "")},
        )


@app.command("exports")
def exports(coordinator: CoordinatorOption = None, output: FormatOption = Format.TABLE) -> None:
    """Who took a copy, newest first."""
    with connect(coordinator) as remote:
        found = remote.models.ListExports(models_pb2.ListExportsRequest()).exports
    rows = [export_document(each) for each in found]
    if output is Format.JSON:
        print_document({"exports": rows})
        return
    print_rows(
        "Exports",
        ["model", "recipient", "purpose", "exported_at", "without"],
        [
            [
                each.model,
                each.recipient,
                each.purpose,
                str(row["exported_at"] or ""),
                ", ".join(each.without),
            ]
            for row, each in zip(rows, found, strict=True)
        ],
    )


@app.command("export")
def export(
    recipient: Annotated[str, typer.Option(help="The organisation or system that takes it.")],
    out: Annotated[Path, typer.Option(help="File to write, safetensors.")],
    purpose: Annotated[str, typer.Option(help="What for, for the record.")] = "",
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Record that a recipient takes the serving version, then write it to a file.

    An erasure later lists every recipient. Digest and layout are checked before the file is
    written.
    """
    if out.exists():
        raise BadConfig(f"{out} exists; choose another --out", path=out)
    with connect(coordinator) as remote:
        record = remote.models.ExportModel(
            models_pb2.ExportModelRequest(
                request_id=str(uuid.uuid4()), recipient=recipient, purpose=purpose
            )
        )
        digest = write_model(remote, record.model, out, reader=recipient)
    document: Fields = {**export_document(record), "path": str(out), "sha256": digest}
    if output is Format.JSON:
        print_document(document)
    else:
        say(f"Wrote {record.model} to {out} for {recipient}; sha256 of its values {digest}.")


@app.command("rebuild")
def rebuild(
    version: Annotated[int, typer.Option(help="The version to compute.")],
    recipient: Annotated[str, typer.Option(help="The organisation or system that takes it.")],
    out: Annotated[Path, typer.Option(help="File to write, safetensors.")],
    without: Annotated[
        list[str] | None, typer.Option(help="A site to leave out; may be repeated.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="What for, for the record.")] = "",
    request_id: Annotated[
        str | None, typer.Option(help="Repeat a rebuild safely: the same id, one record.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Compute a version by replaying the ledger, and write it to a file.

    Any version since the oldest anchor; with --without, what it would be had those sites never
    contributed. It is recorded as an export before its first byte leaves.
    """
    if out.exists():
        raise BadConfig(f"{out} exists; choose another --out", path=out)
    request = models_pb2.RebuildModelRequest(
        request_id=request_id or str(uuid.uuid4()),
        version=version,
        without=[full_site_name(site) for site in without or ()],
        recipient=recipient,
        purpose=purpose,
    )
    with connect(coordinator) as remote, writing_model(remote, out) as raw:
        made = receive_rebuilt(remote.models.RebuildModel(request, timeout=REBUILD_TIMEOUT_S), raw)
    document: Fields = {
        **export_document(made.export),
        "path": str(out),
        "sha256": made.sha256,
        "epoch": made.epoch,
        "replayed_from": made.replayed_from,
        "start_held_site": made.start_held_site,
    }
    if output is Format.JSON:
        print_document(document)
    else:
        say(rebuilt_sentence(made, out))


def write_model(remote: Remote, name: str, out: Path, *, reader: str) -> str:
    """Downloads a version and writes it as safetensors in the layout of the plan.

    Returns the sha256 of its values. Raises PayloadCorrupt or DigestMismatch if the bytes are
    not those the coordinator promised.
    """
    with writing_model(remote, out) as raw, transfer_bar("downloading") as bar:
        done = download(remote.models.DownloadModel, raw, name=name, reader=reader, on_progress=bar)
    return done.sha256


@contextmanager
def writing_model(remote: Remote, out: Path) -> Iterator[Path]:
    """A path for the raw values; left without an error, they are at `out` as safetensors."""
    content = remote.federation.GetPlan(federation_pb2.GetPlanRequest()).canonical_json
    layout = Plan.from_canonical(content).parameters
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        raw = Path(folder) / "model.f32"
        yield raw
        vector = np.fromfile(raw, dtype="<f4").astype(np.float32, copy=False)
        written = Path(folder) / "model.safetensors"
        write_safetensors(written, vector, layout)
        written.replace(out)
