"""An upload that is sealed as it grows: hashed beside that, and the same however it was cut."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.adapters import sealing
from coordinator.adapters.blob_places import local_place
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.sealed_staging import SealedStaging, SealedStagingArea
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.services.key_ring import KeyRing
from letheon.errors import DiskFull
from letheon.servicekit.clock import SystemClock

_SEGMENT = 16  # bytes, so that a few bytes are several segments


@contextmanager
def small_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "SEGMENT_BYTES", _SEGMENT)
        patch.setattr(sealing, "STORED_BYTES", _SEGMENT + sealing.OVERHEAD_BYTES)
        yield


@contextmanager
def an_area(directory: Path) -> Iterator[SealedStagingArea]:
    """Making it again on the same folder is a restart."""
    ring = KeyRing(FileWrappingKeys(directory / "keys"), SqliteKeyRecords(directory / "keys"))
    payloads = local_place(directory / "blobs", SystemClock(), ring).sealed
    assert payloads is not None
    yield SealedStagingArea(directory / "uploads", payloads, ring, reserve_bytes=0)
    ring.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.binary(min_size=1, max_size=50), max_size=6), min_size=1, max_size=3
    ).filter(any),
    st.booleans(),
)
def test_digest_and_content_are_those_of_all_bytes_however_the_streams_were_cut(
    tmp_path_factory: pytest.TempPathFactory, streams: list[list[bytes]], restarts: bool
) -> None:
    directory = tmp_path_factory.mktemp("sealed")
    whole = b"".join(data for stream in streams for data in stream)
    with small_segments():
        groups = [[stream] for stream in streams] if restarts else [streams]
        for group in groups:
            with an_area(directory) as area:
                for stream in group:
                    with area.open("u", len(whole)) as staging:
                        for data in stream:
                            staging.append(data)
        with an_area(directory) as area, area.open("u", len(whole)) as staging:
            assert staging.digest() == hashlib.sha256(whole).hexdigest()
            assert bytes(staging.view()) == whole


def test_no_thread_is_left_by_a_sealed_stream_that_is_cut(tmp_path: Path) -> None:
    with an_area(tmp_path) as area:

        def cut() -> None:
            with area.open("u", 100) as staging:
                for _ in range(3):
                    staging.append(b"0123456789")
                assert [t for t in threading.enumerate() if t.name == "hash"]
                raise ConnectionError

        with pytest.raises(ConnectionError):
            cut()
        assert not [t for t in threading.enumerate() if t.name == "hash"]
        assert area.committed_bytes("u") == 30


def test_what_is_durable_is_not_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []

    def counting(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    with an_area(tmp_path) as area, area.open("u", 100) as staging:
        monkeypatch.setattr(os, "fsync", counting)
        staging.append(b"data")
        staging.sync()
        staging.sync()
        staging.view()
        assert len(synced) == 1
        staging.append(b"more")
        staging.sync()
        assert len(synced) == 2


def test_after_a_full_disk_the_hash_is_that_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bytes(range(100))
    real, room = SealedStaging._write, [2]

    def until_full(staging: SealedStaging, segment: bytearray | memoryview) -> None:
        if not room[0]:
            raise DiskFull("no room")
        room[0] -= 1
        real(staging, segment)

    with small_segments(), an_area(tmp_path) as area:
        with monkeypatch.context() as patch:
            patch.setattr(SealedStaging, "_write", until_full)
            with pytest.raises(DiskFull), area.open("u", len(whole)) as staging:
                staging.append(whole[:60])
        there = area.committed_bytes("u")
        assert 0 < there < 60
        with area.open("u", len(whole)) as staging:
            staging.append(whole[there:])
            assert staging.digest() == hashlib.sha256(whole).hexdigest()
