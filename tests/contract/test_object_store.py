"""An object store over the wire: outages, refusals, versions, large files, copies, ownership."""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_core
from s3_server import SECRET, S3Server

from coordinator.adapters.blob_places import AREAS, configured_place, local_place
from coordinator.adapters.s3_files import parse_options
from coordinator.ports import Blobs
from letheon.errors import BadConfig, DiskFull, StorageUnavailable
from letheon.servicekit.clock import FakeClock

DATA = bytes(range(256)) * 8
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


def opened(
    url: str,
    options: dict[str, str],
    data: Path,
    *,
    cache_bytes: int = 1 << 30,
    reserve_bytes: int = 0,
) -> Blobs:
    return configured_place(
        url, options, data, FakeClock(), cache_bytes=cache_bytes, reserve_bytes=reserve_bytes
    ).blobs


def move_away(directory: Path) -> Path:
    """Moves the files of a coordinator out of its data_dir, as an operator would."""
    moved = directory / "moved"
    moved.mkdir()
    for area in AREAS:
        (directory / "data" / area).rename(moved / area)
    return moved


def test_an_outage_is_said_to_be_one_and_nothing_is_lost(tmp_path: Path) -> None:
    server = S3Server()
    try:
        url = f"s3://{server.new_bucket()}"
        options = {**server.options(), "config_kwargs": '{"retries": {"max_attempts": 0}}'}
        blobs = opened(url, options, tmp_path).payloads
        blobs.put(DATA)
        upload = tmp_path / "upload.part"
        upload.write_bytes(b"another")
        other = hashlib.sha256(b"another").hexdigest()
        server.stop()
        assert bytes(blobs.get(SHA)) == DATA  # the copy is enough
        with pytest.raises(StorageUnavailable, match="did not write"):
            blobs.adopt(upload, other)
        with pytest.raises(StorageUnavailable):
            blobs.put(b"a third")
        with pytest.raises(StorageUnavailable):
            blobs.destroy(SHA)
        with pytest.raises(StorageUnavailable):
            blobs.get(SHA)  # its copy went first
        with pytest.raises(StorageUnavailable, match=url):
            opened(url, options, tmp_path / "second")
        assert upload.read_bytes() == b"another"
        server.start()
        blobs.adopt(upload, other)
        assert blobs.all() == sorted([SHA, other])
        assert bytes(blobs.get(SHA)) == DATA
        blobs.destroy(SHA)
        assert blobs.all() == [other]
    finally:
        server.stop()


def test_a_damaged_copy_is_fetched_again(
    s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = opened(f"s3://{s3.new_bucket()}/here", s3.options(), tmp_path).payloads
    blobs.put(DATA)
    copy = tmp_path / "cache" / "payloads" / SHA
    for damaged in (DATA[:-1], DATA[:-1] + b"x", b""):
        copy.write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            assert bytes(blobs.get(SHA)) == DATA
        assert copy.read_bytes() == DATA
        copy.write_bytes(damaged)
        with blobs.open(SHA) as file:
            assert file.read() == DATA
    assert "cached_copy_damaged" in caplog.text


def test_a_file_larger_than_the_bound_is_read_without_a_copy(s3: S3Server, tmp_path: Path) -> None:
    blobs = opened(f"s3://{s3.new_bucket()}", s3.options(), tmp_path, cache_bytes=0).payloads
    blobs.put(DATA)
    assert bytes(blobs.get(SHA)) == DATA
    assert not list((tmp_path / "cache").glob("*/*"))


def test_without_room_for_a_copy_the_caller_is_told_to_come_back(
    s3: S3Server, tmp_path: Path
) -> None:
    url = f"s3://{s3.new_bucket()}"
    opened(url, s3.options(), tmp_path / "first").payloads.put(DATA)
    full = opened(url, s3.options(), tmp_path / "second", reserve_bytes=1 << 62).payloads
    with pytest.raises(DiskFull) as caught:
        full.get(SHA)
    assert caught.value.retry_after_s > 0
    with pytest.raises(DiskFull):
        full.put(b"new")
    assert not list((tmp_path / "second" / "cache").glob("*/*"))


def test_a_large_file_travels_in_parts(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    blobs = opened(f"s3://{bucket}", s3.options(), tmp_path, cache_bytes=0).payloads
    large = bytes(20 << 20) + DATA
    sha256 = blobs.put(large)
    tag = s3.client.head_object(Bucket=bucket, Key=f"payloads/{sha256}")["ETag"]
    assert tag.endswith('-3"')
    assert len(blobs.get(sha256)) == len(large)


def test_parts_that_a_crash_left_are_gone_after_the_start(s3: S3Server, tmp_path: Path) -> None:
    bucket, client = s3.new_bucket(), s3.client
    begun = client.create_multipart_upload(Bucket=bucket, Key=f"own/payloads/{SHA}")
    client.upload_part(
        Bucket=bucket,
        Key=f"own/payloads/{SHA}",
        PartNumber=1,
        UploadId=begun["UploadId"],
        Body=DATA,
    )
    foreign = client.create_multipart_upload(Bucket=bucket, Key="other/file")
    opened(f"s3://{bucket}/own", s3.options(), tmp_path)
    left = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["UploadId"] for upload in left] == [foreign["UploadId"]]


def test_a_destroyed_blob_leaves_no_version_in_a_versioned_bucket(
    s3: S3Server, tmp_path: Path
) -> None:
    bucket, client = s3.new_bucket(versioned=True), s3.client
    blobs = opened(f"s3://{bucket}", s3.options(), tmp_path).payloads
    blobs.put(DATA)
    client.delete_object(Bucket=bucket, Key=f"payloads/{SHA}")
    blobs.put(DATA)
    blobs.destroy(SHA)
    versions = client.list_object_versions(Bucket=bucket)
    assert not versions.get("Versions")
    assert not versions.get("DeleteMarkers")


@pytest.mark.parametrize("url", ["http://host/x", "ssh://host/x", "memory://x", "bucket/x", "s3:x"])
def test_only_known_schemes_are_accepted(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"begin it with one of s3://, file://"):
        opened(url, {}, tmp_path)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://", {}, "names no bucket"),
        ("file://relative", {}, "not absolute"),
        ("file:///proc/nothing", {}, "cannot be used"),
        ("file:///tmp/x", {"key": "k"}, "has none"),
        ("s3://b", {"endpoint_url": "nonsense", "key": "k", "secret": "s"}, "not those of an S3"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_a_sentence(
    url: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=words):
        opened(url, options, tmp_path)


def test_a_missing_bucket_is_named(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"s3://nowhere does not exist: make the bucket first"):
        opened("s3://nowhere", s3.options(), tmp_path)


def test_refused_access_is_found_at_the_start_and_tells_no_secret(tmp_path: Path) -> None:
    server = S3Server()
    try:
        url = f"s3://{server.new_bucket()}"
        blobs = opened(url, server.options(), tmp_path / "first").payloads
        with server.refusing():
            with pytest.raises(BadConfig, match=r"storage\.options") as caught:
                opened(url, server.options(), tmp_path / "second")
            with pytest.raises(StorageUnavailable):
                blobs.put(DATA)
        assert SECRET not in str(caught.value)
        blobs.put(DATA)
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_a_store_of_another_federation_is_refused_before_anything_changes(
    scheme: str, s3: S3Server, tmp_path: Path
) -> None:
    url = f"s3://{s3.new_bucket()}/f" if scheme == "s3" else f"file://{tmp_path / 'shared'}"
    storage = {"url": url, "options": s3.options() if scheme == "s3" else {}}
    first = a_core(tmp_path / "first", config={"storage": storage})
    a_core(tmp_path / "first", config={"storage": storage})  # its own, again
    before = first.blobs.payloads.all()
    with pytest.raises(BadConfig, match="belongs to federation"):
        a_core(tmp_path / "second", config={"storage": storage})
    a_core(tmp_path / "third")
    move_away(tmp_path / "third")
    with pytest.raises(BadConfig, match="belongs to federation"):
        a_core(tmp_path / "third", config={"storage": storage})
    assert first.blobs.payloads.all() == before
    # The one that was refused at its first start can start elsewhere: nothing was imported.
    a_core(tmp_path / "second")


def test_a_store_without_this_federation_s_files_is_refused(tmp_path: Path) -> None:
    a_core(tmp_path)
    empty = {"url": f"file://{tmp_path / 'empty'}"}
    with pytest.raises(BadConfig, match="payloads still holds files"):
        a_core(tmp_path, config={"storage": empty})
    moved = move_away(tmp_path)
    with pytest.raises(BadConfig, match="does not hold the files of this federation"):
        a_core(tmp_path, config={"storage": empty})
    core = a_core(tmp_path, config={"storage": {"url": f"file://{moved}"}})
    assert core.live.position.version == 0


def test_copies_of_a_remote_store_do_not_outlive_it(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    opened(f"s3://{bucket}", s3.options(), tmp_path).payloads.put(DATA)
    assert (tmp_path / "cache" / "payloads" / SHA).exists()
    local_place(tmp_path, FakeClock())
    assert not (tmp_path / "cache").exists()


def test_a_copy_that_cannot_be_kept_does_not_fail_what_was_stored(
    s3: S3Server, tmp_path: Path
) -> None:
    other = Path("/dev/shm")  # noqa: S108
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    blobs = opened(f"s3://{s3.new_bucket()}", s3.options(), tmp_path).payloads
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        upload = Path(elsewhere) / "upload.part"
        upload.write_bytes(DATA)
        blobs.adopt(upload, SHA)
        assert not upload.exists()
    assert bytes(blobs.get(SHA)) == DATA


def test_options_are_text_and_the_others_are_read_as_json() -> None:
    options = {
        "key": "12345",
        "secret": "true",
        "anon": "false",
        "max_concurrency": "3",
        "client_kwargs": '{"region_name": "eu-central-1"}',
        "s3_additional_kwargs": "not json",
    }
    assert parse_options(options) == {
        "key": "12345",
        "secret": "true",
        "anon": False,
        "max_concurrency": 3,
        "client_kwargs": {"region_name": "eu-central-1"},
        "s3_additional_kwargs": "not json",
    }


def test_without_s3fs_the_sentence_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(BadConfig, match=r"pip install 'letheon\[s3\]'"):
        opened("s3://bucket", {}, tmp_path)


def test_a_start_that_was_killed_before_its_mark_goes_on(tmp_path: Path) -> None:
    storage = {"url": f"file://{tmp_path / 'store'}"}
    a_core(tmp_path, config={"storage": storage})
    (tmp_path / "store" / "federation.json").unlink()
    a_core(tmp_path, config={"storage": storage})
    assert (tmp_path / "store" / "federation.json").exists()


def test_a_mark_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    storage = {"url": f"file://{tmp_path / 'store'}"}
    a_core(tmp_path, config={"storage": storage})
    (tmp_path / "store" / "federation.json").write_text("{")
    with pytest.raises(BadConfig, match="cannot be read"):
        a_core(tmp_path, config={"storage": storage})
