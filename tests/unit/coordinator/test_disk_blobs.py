"""Blobs and growing uploads on a disk."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from coordinator.adapters.disk_blobs import DiskBlobs, DiskStagingArea
from letheon.errors import DiskFull, PayloadCorrupt, UploadBusy

DATA = bytes(range(256)) * 8
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "payloads")


@pytest.fixture
def staging(tmp_path: Path, blobs: DiskBlobs) -> DiskStagingArea:
    return DiskStagingArea(tmp_path / "uploads", blobs, reserve_bytes=0)


def test_a_blob_is_named_by_its_digest_and_stored_once(blobs: DiskBlobs) -> None:
    assert blobs.put(DATA) == blobs.put(DATA) == SHA
    assert blobs.all() == [SHA]
    assert blobs.disk_bytes() == len(DATA)
    assert bytes(blobs.get(SHA)) == DATA


def test_an_altered_or_missing_blob_is_never_handed_out(blobs: DiskBlobs) -> None:
    blobs.put(DATA)
    blobs.path(SHA).write_bytes(DATA[:-1] + b"x")
    with pytest.raises(PayloadCorrupt):
        blobs.get(SHA)
    blobs.destroy(SHA)
    with pytest.raises(PayloadCorrupt):
        blobs.get(SHA)


def test_destroying_twice_is_harmless(blobs: DiskBlobs) -> None:
    blobs.put(DATA)
    blobs.destroy(SHA)
    blobs.destroy(SHA)
    assert blobs.disk_bytes() == 0
    assert blobs.all() == []


def test_half_written_blobs_are_gone_after_a_restart(tmp_path: Path, blobs: DiskBlobs) -> None:
    blobs.put(DATA)
    blobs.path(SHA).with_name(f"{SHA}.new-7").write_bytes(DATA[:9])
    again = DiskBlobs(tmp_path / "payloads")
    assert again.all() == [SHA]
    assert again.disk_bytes() == len(DATA)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_upload_goes_on_where_it_stopped_with_the_digest_of_the_whole(
    tmp_path: Path, blobs: DiskBlobs, staging: DiskStagingArea, restarted: bool
) -> None:
    with staging.open("u1", len(DATA)) as upload:
        upload.append(DATA[:1000])
    if restarted:
        staging = DiskStagingArea(tmp_path / "uploads", blobs, reserve_bytes=0)
    assert staging.committed_bytes("u1") == 1000
    with staging.open("u1", len(DATA)) as upload:
        assert upload.size_bytes == 1000
        upload.append(DATA[1000:])
        assert upload.digest() == SHA
        assert bytes(upload.view()) == DATA
        upload.publish()
    assert bytes(blobs.get(SHA)) == DATA
    assert blobs.disk_bytes() == len(DATA)
    assert staging.committed_bytes("u1") == 0


def test_an_upload_that_fails_keeps_what_it_had(staging: DiskStagingArea) -> None:
    def fail() -> None:
        with staging.open("u1", len(DATA)) as upload:
            upload.append(DATA[:10])
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        fail()
    assert staging.committed_bytes("u1") == 10
    assert not staging.is_open("u1")
    assert staging.all() == ["u1"]


def test_one_writer_per_upload(staging: DiskStagingArea) -> None:
    with staging.open("u1", 10), staging.open("u2", 10):
        assert staging.is_open("u1")
        with pytest.raises(UploadBusy), staging.open("u1", 10):
            pass
    with staging.open("u1", 10):
        pass


def test_without_room_nothing_begins(tmp_path: Path, blobs: DiskBlobs) -> None:
    full = DiskStagingArea(tmp_path / "uploads", blobs, reserve_bytes=1 << 62)
    with pytest.raises(DiskFull), full.open("u1", 10):
        pass
    assert not full.is_open("u1")


def test_a_discarded_upload_leaves_nothing(staging: DiskStagingArea) -> None:
    with staging.open("u1", 10) as upload:
        upload.append(b"12345")
        upload.discard()
    assert staging.all() == []
    with staging.open("u1", 10) as upload:
        assert upload.size_bytes == 0


def test_many_threads_store_the_same_blob_once(blobs: DiskBlobs) -> None:
    threads = [threading.Thread(target=blobs.put, args=(DATA,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.all() == [SHA]
    assert blobs.disk_bytes() == len(DATA)
