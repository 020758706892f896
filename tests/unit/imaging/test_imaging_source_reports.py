"""What a source says of what it left out, and what it never says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from letheon.errors import BadConfig, BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.dicom import DicomSource
from letheon.imaging.sources.nifti import NiftiSource
from letheon.imaging.sources.report import MEANINGS, NOTES, Findings, Note, Skipped, class_counts
from letheon.imaging.sources.source import load_with_report


def records(labels: np.ndarray, patients: tuple[str, ...] | None = None) -> Records:
    count = len(labels)
    return Records(
        images=np.random.default_rng(0).random((count, 1, 2, 2), np.float32),
        labels=labels,
        record_ids=tuple(f"jane-{row}" for row in range(count)),
        patients=patients,
        class_names=("a", "b", "c"),
    )


class Plain:
    """A plug-in that knows `load` alone."""

    path = "/srv/data"

    def load(self) -> Records:
        twice = records(np.array([0, 1, 1]), ("p", "p", "q"))
        return twice.select([0, 1, 1, 2])


def test_every_reason_and_note_has_its_meaning_and_its_line_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    for name, meaning in (*MEANINGS.items(), *NOTES.items()):
        assert f"| `{name.value}` | {meaning} |" in text
    assert set(MEANINGS) == set(Skipped)
    assert set(NOTES) == set(Note)


def test_a_plug_in_that_only_loads_is_reported_on_too() -> None:
    report = load_with_report(Plain()).report
    assert report.records == 4
    assert report.class_counts == {"a": 1, "b": 3, "c": 0}
    assert report.notes == {Note.SAME_PIXELS: 1, Note.PATIENT_IN_TWO_CLASSES: 1}


def test_a_plug_in_that_returns_something_else_is_named() -> None:
    class Wrong:
        def load(self) -> object:
            return [1, 2]

    with pytest.raises(BadData, match="returned no records"):
        load_with_report(Wrong())  # type: ignore[arg-type]


def test_file_names_stay_out_of_what_is_sent() -> None:
    findings = Findings(Path("/srv/data"))
    for number in range(9):
        findings.skip(Skipped.TRUNCATED, f"jane-{number}.dcm", place=f"file {number}")
    report = findings.loaded(records(np.array([0, 1]))).report
    assert report.skipped == {Skipped.TRUNCATED: 9}
    assert report.examples == {"truncated": tuple(f"jane-{number}.dcm" for number in range(5))}
    sent = json.dumps(report.to_dict())
    assert "jane" not in sent + repr(report)
    assert json.loads(sent)["skipped"] == {"truncated": 9}
    assert "jane-0.dcm" in json.dumps(report.to_dict(examples=True))


def test_nothing_left_says_what_was_skipped_and_what_to_do() -> None:
    findings = Findings(Path("/srv/data"))
    findings.skip(Skipped.NO_DECODER, "x", place="file 1")
    findings.advise("install it")
    message = str(findings.nothing_left("no image"))
    assert message.startswith("/srv/data holds no image; skipped: 1 x compressed")
    assert message.endswith("install it")


def test_counts_of_several_labels_and_masks_are_of_the_records_that_show_a_class() -> None:
    several = records(np.array([[1, 0, -1], [1, 1, 0]]))
    assert class_counts(several) == {"a": 2, "b": 1, "c": 0}
    masks = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]], np.uint8)
    assert class_counts(records(masks)) == {"a": 2, "b": 1, "c": 0}
    assert class_counts(records(np.array([-1, 2]))) == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("library", "source"), [("pydicom", DicomSource), ("nibabel", NiftiSource)]
)
def test_a_missing_library_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, source: type[DicomSource]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadConfig, match=f"{library}: pip install"):
        source(tmp_path).load()


def test_sources_are_imported_without_the_libraries_of_their_files() -> None:
    script = (
        "import sys, letheon.cli.data, letheon.imaging.sources.dicom,"
        " letheon.imaging.sources.nifti, letheon.imaging.sources.tabular_csv;"
        "print([m for m in ('torch', 'monai', 'pydicom', 'nibabel', 'matplotlib')"
        " if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
