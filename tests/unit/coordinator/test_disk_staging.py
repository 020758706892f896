"""An upload's bytes are hashed beside being written, and the hash survives every cut."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.adapters import beside
from coordinator.adapters.disk_blobs import DiskBlobs
from coordinator.adapters.disk_staging import DiskStagingArea


def an_area(directory: Path) -> DiskStagingArea:
    return DiskStagingArea(
        directory / "uploads", DiskBlobs(directory / "payloads"), reserve_bytes=0
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=50), max_size=8), max_size=4), st.booleans()
)
def test_the_digest_is_that_of_all_bytes_however_the_streams_were_cut(
    tmp_path_factory: pytest.TempPathFactory, streams: list[list[bytes]], restarts: bool
) -> None:
    directory = tmp_path_factory.mktemp("staging")
    area = an_area(directory)
    whole = b"".join(data for stream in streams for data in stream)
    for stream in streams:
        with area.open("u", len(whole)) as staging:
            for data in stream:
                staging.append(data)
        if restarts:
            area = an_area(directory)
    with area.open("u", len(whole)) as staging:
        assert staging.digest() == hashlib.sha256(whole).hexdigest()


def test_no_thread_is_left_by_a_stream_that_is_cut(tmp_path: Path) -> None:
    area = an_area(tmp_path)

    def cut() -> None:
        with area.open("u", 100) as staging:
            for _ in range(3):
                staging.append(b"0123456789")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        cut()
    assert not [t for t in threading.enumerate() if t.name == "hash"]
    assert area.committed_bytes("u") == 30


def test_a_sync_without_new_bytes_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []

    def counting(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    with an_area(tmp_path).open("u", 100) as staging:
        staging.append(b"data")
        staging.sync()
        assert len(synced) == 1
        staging.sync()
        assert len(synced) == 1
        staging.append(b"more")
        staging.sync()
        assert len(synced) == 2


def test_a_long_file_is_sent_to_the_disk_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(beside, "_WRITE_BACK_BYTES", 8)
    monkeypatch.setattr(beside, "begin_to_write", lambda _, *part: begun.append(part))
    with an_area(tmp_path).open("u", 100) as staging:
        for _ in range(5):
            staging.append(b"12345")
    assert begun == [(0, 10), (10, 10)]
