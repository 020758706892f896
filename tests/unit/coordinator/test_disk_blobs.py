"""Blobs and growing uploads on a disk."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest

from coordinator.adapters.disk_blobs import DiskBlobs
from coordinator.adapters.disk_staging import DiskStagingArea
from letheon.errors import DiskFull, UploadBusy

DATA = bytes(range(256)) * 8
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "payloads")


@pytest.fixture
def staging(tmp_path: Path, blobs: DiskBlobs) -> DiskStagingArea:
    return DiskStagingArea(tmp_path / "uploads", blobs, reserve_bytes=0)


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


def test_an_upload_that_a_stream_holds_is_never_discarded(staging: DiskStagingArea) -> None:
    with staging.open("u1", 10) as upload:
        upload.append(b"12345")
        assert not staging.discard_idle("u1")
    assert staging.committed_bytes("u1") == 5
    assert staging.discard_idle("u1")
    assert staging.committed_bytes("u1") == 0
    assert staging.discard_idle("u1")


def test_a_file_of_another_file_system_is_copied_in(tmp_path: Path, blobs: DiskBlobs) -> None:
    other = Path("/dev/shm")  # noqa: S108
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        upload = Path(elsewhere) / "upload.part"
        upload.write_bytes(DATA)
        blobs.adopt(upload, SHA)
        assert not upload.exists()
    assert bytes(blobs.get(SHA)) == DATA
    assert [path.name for path in (tmp_path / "payloads").iterdir()] == [SHA]
