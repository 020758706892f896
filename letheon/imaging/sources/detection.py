"""What kind of data a path holds, for a person who points at it without a configuration."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from letheon.errors import BadData
from letheon.imaging.sources.label_table import LabelKeys, read_labels
from letheon.imaging.sources.nifti_volume import SUFFIXES as VOLUMES
from letheon.imaging.sources.picture import SUFFIXES as PICTURES
from letheon.imaging.sources.table_values import is_number
from letheon.imaging.sources.tree import Tree, open_tree

_TABLES = (".csv", ".data", ".tsv")
_LABEL_FILES = ("labels.csv", "label.csv", "index.csv", "metadata.csv")
_LABEL_COLUMNS = ("label", "class", "diagnosis", "dx", "target", "finding")
_MASK_FOLDERS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))
_LOOKED_AT = 1000  # lines of a table
_GAPS = 0.2  # a column with more missing values than this share is not used for a first look
_TRIED = 50  # files without a telling name whose first bytes are looked at


@dataclass(frozen=True)
class Detected:
    """The source that fits, its arguments, and what was guessed, a sentence each."""

    plugin: str
    arguments: Mapping[str, Any]
    guesses: tuple[str, ...] = ()


def detect(path: Path) -> Detected:
    """Looks at names and first bytes. Raises BadData where nothing fits."""
    place = path.expanduser()
    suffix = place.suffix.lower()
    if place.is_file() and suffix == ".npz":
        return Detected("npz", {"path": str(place), "split": "all"})
    if place.is_file() and suffix in _TABLES:
        return _table(place)
    tree = open_tree(place)
    kinds = Counter(kind for name in tree.names if (kind := _kind_by_name(name)) is not None)
    if not kinds:
        kinds = Counter(_kinds_by_bytes(tree))
    if not kinds:
        raise BadData(
            f"{place} holds nothing that a source reads: DICOM, NIfTI (.nii, .nii.gz), pictures"
            f" ({', '.join(sorted(PICTURES))}), .npz or a CSV table",
            path=place,
        )
    kind = kinds.most_common(1)[0][0]
    return {"dicom": _dicom, "nifti": _nifti, "image_folder": _pictures}[kind](place, tree)


def _kind_by_name(name: str) -> str | None:
    lower = name.lower()
    if lower.endswith(VOLUMES):
        return "nifti"
    if lower.endswith((".dcm", ".dicom", ".ima")) or lower.rpartition("/")[2] == "dicomdir":
        return "dicom"
    return "image_folder" if lower.endswith(tuple(PICTURES)) else None


def _kinds_by_bytes(tree: Tree) -> list[str]:
    """DICOM files often have no suffix: theirs are told by the mark behind the preamble."""
    return ["dicom" for name in tree.names[:_TRIED] if tree.read(name)[128:132] == b"DICM"]


def _dicom(place: Path, tree: Tree) -> Detected:
    return _with_labels("dicom", place, tree)


def _nifti(place: Path, tree: Tree) -> Detected:
    for images, masks in _MASK_FOLDERS:
        # Below a single folder, as archives often are packed.
        for inside in ("", *(f"{folder}/" for folder in tree.folders[:1])):
            names = [name for name in tree.names if name.startswith(f"{inside}{masks}/")]
            if names and any(name.startswith(f"{inside}{images}/") for name in tree.names):
                arguments = {"images": f"{inside}{images}", "masks": f"{inside}{masks}"}
                return Detected(
                    "nifti",
                    {"path": str(place), **arguments},
                    (f"volumes in {inside}{images}, masks in {inside}{masks}",),
                )
    return _with_labels("nifti", place, tree)


def _pictures(place: Path, tree: Tree) -> Detected:
    return _with_labels("image_folder", place, tree)


def _with_labels(plugin: str, place: Path, tree: Tree) -> Detected:
    for name in _LABEL_FILES:
        if name not in tree.names:
            continue
        for column in _LABEL_COLUMNS:
            try:
                table = read_labels(tree, LabelKeys(name, column))
            except BadData:
                continue
            arguments = {"path": str(place), "labels": name, "label_column": column}
            guess = f"labels from {name}, its column {column!r}, by {table.kind}"
            return Detected(plugin, arguments, (guess,))
    return Detected(plugin, {"path": str(place)})


def _table(place: Path) -> Detected:
    """The last column is taken for the target; columns with many gaps are dropped."""
    with place.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in islice(csv.reader(file), _LOOKED_AT)]
    if not lines or len(lines[0]) < 2:
        raise BadData(f"{place} has no two columns separated by commas", path=place)
    arguments: dict[str, Any] = {"path": str(place)}
    names = lines[0]
    guesses = []
    if any(is_number(cell) for cell in names):
        names = [f"column {number}" for number in range(1, len(names) + 1)]
        arguments["columns"] = names
        guesses.append("no header")
    arguments["target"] = names[-1]
    guesses.append(f"the last column, {names[-1]}, is the target")
    if gaps := _columns_with_gaps(names, lines):
        arguments["drop"] = gaps
        guesses.append(f"dropped for their gaps: {', '.join(gaps)}")
    return Detected("tabular_csv", arguments, tuple(guesses))


def _columns_with_gaps(names: list[str], lines: list[list[str]]) -> list[str]:
    shares = {
        name: sum(place < len(line) and line[place] in ("", "?", "NA") for line in lines)
        for place, name in enumerate(names[:-1])
    }
    return [name for name, count in shares.items() if count > _GAPS * len(lines)]
