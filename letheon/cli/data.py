"""`letheon data inspect`: what a source finds, what it leaves out and why, and how it looks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from letheon import registry
from letheon.cli.exits import ExitCode
from letheon.cli.screen import (
    Document,
    Format,
    FormatOption,
    console,
    print_document,
    print_fields,
    print_rows,
    say,
)
from letheon.errors import BadConfig, MalformedRequest
from letheon.imaging.images import blocks
from letheon.imaging.records import Records
from letheon.imaging.sources.assembly import MixedSizes
from letheon.imaging.sources.detection import Detected, detect
from letheon.imaging.sources.report import MEANINGS, NOTES, Loaded
from letheon.imaging.sources.source import load_with_report

app = typer.Typer(no_args_is_help=True, help="Look at a site's data.")


@app.callback()
def _data() -> None:
    """Look at a site's data."""


@app.command("inspect")
def inspect(
    path: Annotated[
        Path | None,
        typer.Argument(help="A folder, .zip, .npz, CSV file, or an agent's TOML file."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source to read it with; else found out.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An argument of the source, as in TOML. Repeat."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="An agent's TOML file: its [data] is inspected.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw a contact sheet, a PNG, to this file.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything was skipped.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """What a source finds and leaves out. File names are shown: run it at the site only."""
    chosen, guessed = _chosen(path, source, config, _parsed(arguments or []))
    loaded, chosen, features = _loaded(chosen, guessed=guessed)
    document = _document(chosen, loaded)
    if sheet is not None:
        from letheon.cli.data_sheet import draw

        title = Path(str(chosen.arguments.get("path", chosen.plugin))).name
        draw(sheet, loaded.records, title=title, features=features)
        document["sheet"] = str(sheet)
    if output is Format.JSON:
        print_document(document)
    else:
        _print(document)
    if strict and loaded.report.skipped:
        console(stderr=True).print(
            "letheon: something was skipped, and --strict allows nothing to be.", markup=False
        )
        raise typer.Exit(int(ExitCode.CONFIGURATION))


def _chosen(
    path: Path | None, source: str | None, config: Path | None, arguments: Mapping[str, Any]
) -> tuple[Detected, bool]:
    """What to read, and whether that is a guess."""
    if config is None and path is not None and path.suffix == ".toml":
        path, config = None, path
    if (path is None) == (config is None):
        raise MalformedRequest("give a path, or an agent's file by --config")
    if config is not None:
        if source is not None:
            raise MalformedRequest("--source is for a path; the file given names its source")
        return _of_config(config, arguments), False
    if source is not None:
        return Detected(source, {"path": str(path), **arguments}), False
    found = detect(Path(str(path)))
    return Detected(found.plugin, {**found.arguments, **arguments}, found.guesses), True


def _of_config(config: Path, arguments: Mapping[str, Any]) -> Detected:
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{config} cannot be read: {error}") from error
    data = document.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("plugin"), str):
        raise BadConfig(f"{config} has no [data] with a plugin: it is no agent's file")
    return Detected(data["plugin"], {**data.get("arguments", {}), **arguments})


def _parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE by TOML's rules; a value that is none is a text."""
    found: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key.strip():
            raise MalformedRequest(f"--arguments takes KEY=VALUE, not {argument!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found[key.strip()] = value
    return found


def _loaded(chosen: Detected, *, guessed: bool) -> tuple[Loaded, Detected, Sequence[str]]:
    """Records, how they were read, and the names of features.

    A guess may need a size, which no guess can know: the largest one loses nothing.
    """
    try:
        return _read(chosen)
    except MixedSizes as error:
        if not guessed or not error.largest:
            raise
        sides = list(error.largest)
        size = (
            {"height": sides[0], "width": sides[1]}
            if chosen.plugin == "image_folder"
            else {"size": sides}
        )
        spelt = ", ".join(f"{key} = {value}" for key, value in size.items())
        guess = f"images of several sizes, shown at the largest ({spelt}): choose yours"
        return _read(
            Detected(chosen.plugin, {**chosen.arguments, **size}, (*chosen.guesses, guess))
        )


def _read(chosen: Detected) -> tuple[Loaded, Detected, Sequence[str]]:
    source = registry.build(registry.SOURCES, chosen.plugin, dict(chosen.arguments))
    names = getattr(source, "feature_names", tuple)
    return load_with_report(source), chosen, names()


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    mean: float


def _range(records: Records) -> _Range:
    """Over all values, a block of records at a time."""
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for block in blocks(records.images):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        total, count = total + float(block.sum(dtype=np.float64)), count + block.size
    return _Range(low, high, total / count)


def _document(chosen: Detected, loaded: Loaded) -> dict[str, Any]:
    records, told = loaded.records, loaded.report
    values = _range(records)
    return {
        "source": chosen.plugin,
        "arguments": dict(chosen.arguments),
        "guesses": list(chosen.guesses),
        "shape": list(records.images.shape[1:]),
        "labels": records.label_kind.value,
        "intensity": {"minimum": values.low, "maximum": values.high, "mean": values.mean},
        **told.to_dict(examples=True),
        "fingerprint": records.fingerprint(),
        "sheet": None,
    }


_AXES = {1: "features", 3: "channels x height x width", 4: "channels x depth x height x width"}


def _print(document: Document) -> None:
    told: Any = document
    values, patients = told["intensity"], told["patients"]
    print_fields(
        "Found",
        {
            "source": told["source"],
            "guessed": "; ".join(told["guesses"]),
            "records": str(told["records"]),
            "patients": "not known" if patients is None else str(patients),
            "shape": f"{' x '.join(map(str, told['shape']))} ({_AXES[len(told['shape'])]})",
            "labels": told["labels"],
            "values": f"{values['minimum']:.4g} to {values['maximum']:.4g},"
            f" mean {values['mean']:.4g}",
            "fingerprint": told["fingerprint"],
            "sheet": told["sheet"] or "",
        },
    )
    counts = [[name, str(count)] for name, count in told["class_counts"].items()]
    if counts:
        print_rows("Classes", ["class", "records"], counts)
    else:
        say("No label is known: give labels (a CSV file), or what else the source takes.")
    for title, column, meanings in (
        ("Skipped", "skipped", {reason.value: text for reason, text in MEANINGS.items()}),
        ("Notes", "notes", {note.value: text for note, text in NOTES.items()}),
    ):
        rows = [
            [name, str(count), meanings[name], ", ".join(told["examples"].get(name, []))]
            for name, count in told[column].items()
        ]
        if rows:
            print_rows(title, ["reason", "count", "meaning", "first"], rows)
    if not told["skipped"]:
        say("Nothing was skipped.")
    for sentence in told["advice"]:
        say(sentence[:1].upper() + sentence[1:] + ".")
