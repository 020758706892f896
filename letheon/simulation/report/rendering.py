"""Page and pictures as bytes, written or compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from letheon.simulation.report import choice
from letheon.simulation.report.ablations import with_bases
from letheon.simulation.report.page import PICTURES, picture, render_page
from letheon.simulation.report.patients import read_patients
from letheon.simulation.report.plots import draw_curves, draw_latency, draw_residue
from letheon.simulation.report.summary import summarise_units, units_in
from letheon.simulation.report.unit_file import UnitFile, read_units

PAGE = "results.md"
LABORATORY = "laboratory"  # beside the folder of the studies' results


def read_studies(results: Path) -> dict[str, list[UnitFile]]:
    """The units of every study: a folder each. Raises BadData as `read_units`."""
    folders = sorted(path for path in results.glob("*") if path.is_dir())
    return {folder.name: read_units(folder) for folder in folders}


def render(results: Path, configurations: Path) -> dict[str, bytes]:
    """Every file, by its path below the folder of documents. Needs matplotlib and scipy."""
    studies = {
        study: with_bases(units, configurations / f"{study}.toml")
        for study, units in read_studies(results).items()
    }
    patients = {study: read_patients(results / study) for study in studies}
    page = render_page(studies, configurations, patients, results.parent / LABORATORY)
    files = {PAGE: page.encode()}
    for study, units in sorted(studies.items()):
        if study != choice.STUDY:
            files |= _pictures(study, units)
    return files


def write(files: Mapping[str, bytes], documents: Path) -> None:
    """Writes all of them and takes away pictures that no result makes any more."""
    for name in stale(files, documents):
        (documents / name).unlink()
    for name, content in files.items():
        path = documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def differing(files: Mapping[str, bytes], documents: Path) -> list[str]:
    """Paths that are missing, differ from what the results make, or should not be there."""
    changed = [
        name
        for name, content in sorted(files.items())
        if not (documents / name).is_file() or (documents / name).read_bytes() != content
    ]
    return changed + stale(files, documents)


def stale(files: Mapping[str, bytes], documents: Path) -> list[str]:
    """Pictures beside ours that no result makes."""
    found = (documents / PICTURES).glob("*.png")
    paths = sorted(path.relative_to(documents).as_posix() for path in found)
    return [path for path in paths if path not in files]


def _pictures(study: str, units: Sequence[UnitFile]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    groups = [group for group in summarise_units(units).groups if group.seeds and group.methods]
    for images in sorted({group.images for group in groups}):
        mine = [group for group in groups if group.images == images]
        for group in mine:
            drawn = draw_curves(units_in(units, images, group.kind), images, group.kind)
            files[picture(study, images, group.kind)] = drawn
            if group.kind == "backdoored":
                files[picture(study, images, "latency")] = draw_latency(group, images)
        files[picture(study, images, "residue")] = draw_residue(mine, images)
    return files
