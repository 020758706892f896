"""A hospital's table: fixed categories, fixed filling, fixed scale."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from letheon.errors import BadData
from letheon.imaging.sources.report import Loaded, Note, Skipped
from letheon.imaging.sources.tabular_csv import TabularCsvSource

HEADER = "age,sex,chol,ill\n"
HEART = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num"


def read(folder: Path, text: str, **arguments: Any) -> Loaded:
    (folder / "site.csv").write_text(text)
    told = {"target": "ill", "categorical": {"sex": ["f", "m"]}, **arguments}
    return TabularCsvSource(folder / "site.csv", **told).load_with_report()


def features(loaded: Loaded) -> list[list[float]]:
    return np.asarray(loaded.records.images).tolist()


def test_columns_become_features_in_the_order_of_the_file(tmp_path: Path) -> None:
    loaded = read(tmp_path, HEADER + "60,m,200,1\n50,f,240,0\n", standardise={"age": [50, 10]})
    assert features(loaded) == [[1, 0, 1, 200], [0, 1, 0, 240]]
    assert loaded.records.labels.tolist() == [1, 0]
    assert loaded.records.record_ids == ("site:1", "site:2")
    source = TabularCsvSource(tmp_path / "site.csv", "ill", categorical={"sex": ["f", "m"]})
    assert source.feature_names() == ("age", "sex=f", "sex=m", "chol")


def test_a_site_without_a_category_makes_the_same_features(tmp_path: Path) -> None:
    loaded = read(tmp_path, HEADER + "60,m,200,1\n50,m,240,0\n")
    assert features(loaded) == [[60, 0, 1, 200], [50, 0, 1, 240]]


def test_rows_with_gaps_are_left_out_and_counted(tmp_path: Path) -> None:
    text = HEADER + "60,m,?,1\n50,f,240,0\n50,,240,0\n44,f,2,?\n"
    loaded = read(tmp_path, text)
    assert loaded.report.skipped == {Skipped.MISSING_VALUE: 2, Skipped.NO_LABEL: 1}
    assert loaded.records.record_ids == ("site:2",)
    with pytest.raises(BadData, match=r"row 1 of .*a value is missing.*no chol"):
        read(tmp_path, text, strict=True)


def test_gaps_are_filled_with_what_the_configuration_says(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        HEADER + "60,m,?,1\n50,,0,0\n",
        impute={"chol": 220, "sex": "f"},
        missing_in={"chol": [0]},
    )
    assert features(loaded) == [[60, 0, 1, 220], [50, 1, 0, 220]]
    assert loaded.report.notes == {Note.FILLED_VALUES: 3}


def test_values_that_a_column_does_not_take_are_counted(tmp_path: Path) -> None:
    text = HEADER + "old,m,1,1\n50,x,240,0\n50,f,inf,0\n50,f,240\n50,f,240,0\n"
    loaded = read(tmp_path, text)
    assert loaded.report.skipped == {Skipped.BAD_VALUE: 4}
    assert loaded.records.record_ids == ("site:5",)


def test_a_number_is_one_category_however_it_is_written(tmp_path: Path) -> None:
    loaded = read(tmp_path, HEADER + "60,1.0,2,1\n50,2,2,0\n", categorical={"sex": [1, 2]})
    assert [row[1:3] for row in features(loaded)] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("rule", "labels"), [("> 0", [0, 1, 1]), (">= 2", [0, 0, 1]), ("== 1", [0, 1, 0])]
)
def test_a_threshold_makes_two_classes(tmp_path: Path, rule: str, labels: list[int]) -> None:
    loaded = read(tmp_path, HEADER + "1,f,1,0\n2,f,1,1\n3,f,1,2\n", positive=rule)
    assert loaded.records.labels.tolist() == labels
    assert loaded.records.class_names == ("negative", "positive")


def test_values_are_mapped_to_classes(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        HEADER + "1,f,1,0\n2,f,1,1.0\n3,f,1,2\n4,f,1,9\n",
        classes={"0": "well", "1": "ill", "2": "ill"},
        class_names=["well", "ill"],
    )
    assert loaded.records.labels.tolist() == [0, 1, 1]
    assert loaded.report.skipped == {Skipped.UNKNOWN_LABEL: 1}


def test_patients_and_equal_rows_are_told(tmp_path: Path) -> None:
    text = "who,age,ill\np,1,0\np,1,0\nq,3,1\n"
    told = {"categorical": {}, "patient_column": "who"}
    loaded = read(tmp_path, text, **told)
    assert loaded.records.patients == ("p", "p", "q")
    assert loaded.report.notes == {Note.SAME_PIXELS: 1}
    assert read(tmp_path, text, **told, drop_duplicates=True).report.records == 2


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (HEADER + "1,f,1,0\n", {"target": "sick"}, "no column 'sick', which target names"),
        (HEADER + "1,f,1,0\n", {"drop": ["x"]}, "no column 'x', which drop names"),
        (HEADER + "1,f,1,0\n", {"impute": {"x": 1}}, "no column 'x', which impute names"),
        (HEADER, {}, "no row that can be used"),
        ("age,age,ill\n1,2,0\n", {"categorical": {}}, "two columns of one name"),
        ("1,f,1,0\n", {"columns": ["age", "ill"]}, "4 columns, but `columns` names 2"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadData, match=message):
        read(tmp_path, text, **arguments)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="there is no file"):
        TabularCsvSource(tmp_path / "gone.csv", "ill").load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive": "many"}, "like '> 0'"),
        ({"positive": "> 0", "classes": {"1": "x"}}, "not both"),
        ({"standardise": {"age": [1, 0]}}, "std > 0"),
        ({"drop": ["ill"]}, "target"),
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularCsvSource("x.csv", "ill", **arguments)


@pytest.mark.parametrize(
    ("hospital", "records"),
    [("cleveland", 303), ("hungarian", 261), ("switzerland", 46), ("va", 130)],
)
def test_the_four_hospitals_make_the_same_features(
    real_file: Any, hospital: str, records: int
) -> None:
    source = TabularCsvSource(
        real_file(f"heart_disease/processed.{hospital}.data"),
        target="num",
        columns=HEART.split(","),
        positive="> 0",
        drop=["slope", "ca", "thal"],
        categorical={"cp": [1, 2, 3, 4], "restecg": [0, 1, 2]},
    )
    loaded = source.load_with_report()
    assert len(loaded.records) == records
    assert loaded.records.images.shape == (records, 15)
    assert set(loaded.report.skipped) <= {Skipped.MISSING_VALUE}
