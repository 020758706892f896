"""`letheon data inspect` on small real files of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_files import a_dicom, a_series, ramp, save
from PIL import Image
from typer.testing import CliRunner, Result

from letheon.cli.main import app
from letheon.imaging.sources.npz import write_npz
from letheon.imaging.sources.synthetic import SyntheticSource

FIELDS = {
    "source",
    "arguments",
    "guesses",
    "shape",
    "labels",
    "intensity",
    "records",
    "patients",
    "class_counts",
    "skipped",
    "notes",
    "advice",
    "examples",
    "fingerprint",
    "sheet",
}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "inspect", *map(str, words)])


def inspected(*words: object) -> dict[str, Any]:
    result = run(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document) == FIELDS
    return document  # type: ignore[no-any-return]


def dicom(folder: Path) -> Path:
    for number in range(3):
        save(a_dicom(ramp() * (number + 1), PatientID=f"p{number}"), folder / f"{number}")
    (folder / "index.csv").write_text("file,label\n0,a\n1,b\n2,a\n")
    return folder


def masked(folder: Path) -> Path:
    for number, side in enumerate((5, 6)):
        values = np.random.default_rng(number).random((side, 5, 4)).astype(np.float32)
        for part, array in (("images", values), ("labels", (values > 0.5).astype(np.uint8))):
            (folder / part).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / part / f"{number}.nii.gz")
    return folder


def pictures(folder: Path) -> Path:
    for name, value in (("a/1.png", 10), ("a/2.png", 10), ("b/1.png", 200)):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6), value).save(folder / name)
    (folder / "a" / "jane-doe.png").write_bytes(b"\x89PNG torn")
    return folder


def table(folder: Path) -> Path:
    (folder / "site.data").write_text("61,1,?,0\n52,0,?,1\n47,0,3,0\n")
    return folder / "site.data"


def shard(folder: Path) -> Path:
    write_npz(folder / "s.npz", SyntheticSource(8, 2, 3, 9, 9).load())
    return folder / "s.npz"


@pytest.mark.parametrize(
    ("build", "source", "shape", "records"),
    [
        (dicom, "dicom", [1, 4, 5], 3),
        (masked, "nifti", [1, 4, 5, 6], 2),
        (pictures, "image_folder", [1, 6, 8], 3),
        (table, "tabular_csv", [2], 3),
        (shard, "npz", [3, 9, 9], 8),
    ],
)
def test_the_kind_is_found_out_and_a_sheet_drawn(
    tmp_path: Path, build: Any, source: str, shape: list[int], records: int
) -> None:
    (tmp_path / "data").mkdir()
    path = build(tmp_path / "data")
    document = inspected(path, "--sheet", tmp_path / "out" / "sheet.png")
    assert (document["source"], document["shape"], document["records"]) == (source, shape, records)
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 20


def test_what_was_skipped_is_shown_with_the_first_files(tmp_path: Path) -> None:
    result = run(pictures(tmp_path))
    assert result.exit_code == 0
    for words in ("unreadable", "jane-doe.png", "same_pixels", "image_folder", "not known"):
        assert words in result.stdout


def test_strict_fails_after_showing_everything(tmp_path: Path) -> None:
    result = run(pictures(tmp_path), "--strict")
    assert result.exit_code == 78
    assert "jane-doe.png" in result.stdout
    (tmp_path / "a" / "jane-doe.png").unlink()
    assert run(tmp_path, "--strict").exit_code == 0


def test_arguments_are_read_as_toml(tmp_path: Path) -> None:
    words = ["--source", "dicom", "--arguments", "size=[3, 2]", "--arguments", "channels=3"]
    document = inspected(dicom(tmp_path), *words, "--arguments", "intensity=min-max")
    assert document["shape"] == [3, 3, 2]
    assert document["arguments"]["intensity"] == "min-max"
    assert document["class_counts"] == {}


def test_the_data_of_an_agent_are_inspected_as_it_reads_them(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = dicom(tmp_path / "data")
    arguments = f'{{ path = "{folder}", labels = "index.csv", class_names = ["b", "a"] }}'
    (tmp_path / "agent.toml").write_text(
        f'site = "north"\n[data]\nplugin = "dicom"\narguments = {arguments}\n'
    )
    for words in (["--config", tmp_path / "agent.toml"], [tmp_path / "agent.toml"]):
        assert inspected(*words)["class_counts"] == {"b": 1, "a": 2}


def test_long_series_are_said_to_be_volumes(tmp_path: Path) -> None:
    a_series(tmp_path, depth=9)
    assert "volume = true" in inspected(tmp_path)["advice"][0]
    assert not inspected(tmp_path, "--arguments", "volume=true")["advice"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["gone"], 78, "there is no folder or .zip gone"),
        (["{empty}"], 78, "nothing that a source reads"),
        (["{empty}", "--source", "nonsense"], 78, "no plug-in 'nonsense'"),
        (["{empty}", "--source", "dicom", "--arguments", "speling=1"], 78, "speling"),
        (["{empty}", "--arguments", "size"], 2, "KEY=VALUE"),
        ([], 2, "give a path"),
        (["--config", "gone.toml"], 78, "gone.toml cannot be read"),
    ],
)
def test_what_cannot_be_inspected_ends_with_a_sentence_and_a_code(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = run(*(word.format(empty=tmp_path / "empty") for word in words))
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output


def test_mixed_sizes_are_only_guessed_without_a_source(tmp_path: Path) -> None:
    assert "size = [4, 5, 6]" in inspected(masked(tmp_path))["guesses"][-1]
    result = run(tmp_path, "--source", "nifti", "--arguments", "images=images")
    assert result.exit_code == 78
    assert "give it as `size`" in result.output


def test_every_field_is_in_the_document_of_the_command() -> None:
    text = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    section = text.partition("### inspection\n")[2].partition("\n#")[0]
    assert [name for name in FIELDS if f"`{name}`" not in section] == []
