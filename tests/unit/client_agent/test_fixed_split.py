"""The split of a site's records, fixed at enrolment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_agent.training_child.fixed_split import SplitRecords, split_records
from letheon.errors import BadData
from letheon.imaging.records import Records


def records(count: int, *, patients: int | None = None, first: int = 0) -> Records:
    numbers = range(first, first + count)
    return Records(
        images=np.zeros((count, 1, 4, 4), np.float32),
        labels=np.arange(count, dtype=np.int64) % 2,
        record_ids=tuple(f"r{number}" for number in numbers),
        patients=None if patients is None else tuple(f"p{n % patients}" for n in numbers),
        class_names=("no", "yes"),
    )


def split(all_records: Records, folder: Path, seed: int = 0) -> SplitRecords:
    return split_records(all_records, folder, control=0.2, validation=0.2, seed=seed)


def ids(parts: SplitRecords) -> list[set[str]]:
    return [set(part.record_ids) for part in (parts.train, parts.control, parts.validation)]


def test_the_split_stays_although_the_seed_changes(tmp_path: Path) -> None:
    assert ids(split(records(60), tmp_path, seed=1)) == ids(split(records(60), tmp_path, seed=2))


def test_the_split_file_is_for_its_owner_only(tmp_path: Path) -> None:
    split(records(60), tmp_path)
    assert (tmp_path / "split.json").stat().st_mode & 0o077 == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(10, 80), more=st.integers(0, 80), patients=st.integers(5, 20))
def test_records_that_arrive_later_keep_the_parts_disjoint_by_patient(
    tmp_path_factory: pytest.TempPathFactory, first: int, more: int, patients: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    before = split(records(first, patients=patients), folder)
    after = split(records(first + more, patients=patients), folder)
    for old, new in zip(ids(before), ids(after), strict=True):
        assert old <= new
    people = [set(p.patients or ()) for p in (after.train, after.control, after.validation)]
    assert sum(map(len, people)) == len(set.union(*people))


def test_control_records_never_become_training_records_when_others_leave(tmp_path: Path) -> None:
    everything = records(60)
    control = split(everything, tmp_path).control.record_ids
    rest = everything.select([i for i in range(60) if i % 3])
    assert not set(control) & set(split(rest, tmp_path).train.record_ids)


def test_other_data_than_at_enrolment_are_refused(tmp_path: Path) -> None:
    split(records(60), tmp_path)
    with pytest.raises(BadData, match="fixed at enrolment"):
        split(records(60, first=1000), tmp_path)


def test_repeated_record_ids_are_refused(tmp_path: Path) -> None:
    twice = records(10).select([*range(10), 0])
    with pytest.raises(BadData, match="repeat"):
        split(twice, tmp_path)
