"""What every store of blobs promises: folders, a file:// URL, any fsspec file system, real S3."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_server import S3Server

from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.blob_places import AREAS, configured_place, local_place, object_place
from coordinator.adapters.remote_folder import RemoteFolder
from coordinator.ports import ORPHAN_GRACE_S, BlobStore
from letheon.errors import PayloadCorrupt
from letheon.servicekit.clock import FakeClock

DATA = bytes(range(256)) * 8
SHA = hashlib.sha256(DATA).hexdigest()
KINDS = ("data_dir", "file", "memory", "s3")


@dataclass
class Place:
    """One store, and what a test does to it behind its back."""

    open: Callable[[], BlobStore]  # anew, as after a restart
    overwrite: Callable[[str, bytes], None]
    raw: Callable[[str], bytes | None]
    copies: Path  # local copies of remote blobs; of a local store a folder that is never made
    clock: FakeClock


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    clock, data = FakeClock(), tmp_path / "data"
    copies = data / "cache" / "payloads"
    kind: str = request.param
    if kind == "data_dir":
        yield _on_disk(data, lambda: local_place(data, clock).blobs.payloads, copies, clock)
    elif kind == "file":
        root = tmp_path / "elsewhere"
        yield _on_disk(root, lambda: _configured(f"file://{root}", {}, data, clock), copies, clock)
    elif kind == "memory":
        yield from _in_memory(data, copies, clock)
    else:
        server: S3Server = request.getfixturevalue("s3")
        yield _on_s3(server, data, copies, clock)


def _configured(url: str, options: dict[str, str], data: Path, clock: FakeClock) -> BlobStore:
    place = configured_place(url, options, data, clock, cache_bytes=1 << 20, reserve_bytes=0)
    return place.blobs.payloads


def _on_disk(root: Path, open_: Callable[[], BlobStore], copies: Path, clock: FakeClock) -> Place:
    def raw(sha256: str) -> bytes | None:
        path = root / "payloads" / sha256
        return path.read_bytes() if path.exists() else None

    def overwrite(sha256: str, data: bytes) -> None:
        (root / "payloads" / sha256).write_bytes(data)

    return Place(open_, overwrite, raw, copies, clock)


def _in_memory(data: Path, copies: Path, clock: FakeClock) -> Iterator[Place]:
    files = MemoryFileSystem(skip_instance_cache=True)
    root = f"/{data.parent.name}"
    remote = RemoteFolder(files, root, place="memory")

    def open_() -> BlobStore:
        cache = BlobCache(data / "cache", AREAS, limit_bytes=1 << 20, reserve_bytes=0)
        return object_place(remote, cache, clock).blobs.payloads

    yield Place(
        open_,
        lambda sha256, data: remote.write(f"payloads/{sha256}", data),
        lambda sha256: remote.read(f"payloads/{sha256}"),
        copies,
        clock,
    )
    if files.exists(root):
        files.rm(root, recursive=True)


def _on_s3(server: S3Server, data: Path, copies: Path, clock: FakeClock) -> Place:
    bucket, client = server.new_bucket(), server.client
    key = "some/prefix/payloads/"

    def raw(sha256: str) -> bytes | None:
        if key + sha256 not in server.keys(bucket):
            return None
        body = client.get_object(Bucket=bucket, Key=key + sha256)["Body"]
        return bytes(body.read())

    return Place(
        lambda: _configured(f"s3://{bucket}/some/prefix", server.options(), data, clock),
        lambda sha256, data: client.put_object(Bucket=bucket, Key=key + sha256, Body=data),
        raw,
        copies,
        clock,
    )


def _empty(copies: Path) -> None:
    for copy in copies.glob("*"):
        copy.unlink()


def test_a_blob_is_named_by_its_digest_and_stored_once(place: Place) -> None:
    blobs = place.open()
    assert blobs.put(DATA) == blobs.put(memoryview(DATA)) == SHA
    assert blobs.all() == [SHA]
    assert blobs.sizes() == {SHA: len(DATA)}
    assert blobs.disk_bytes() == len(DATA)
    assert bytes(blobs.get(SHA)) == DATA
    with blobs.open(SHA) as file:
        file.seek(256)
        assert file.read() == DATA[256:]
    assert place.raw(SHA) == DATA


def test_a_file_is_taken_in_and_gone_afterwards(place: Place, tmp_path: Path) -> None:
    blobs = place.open()
    for _ in range(2):
        upload = tmp_path / "upload.part"
        upload.write_bytes(DATA)
        blobs.adopt(upload, SHA)
        assert not upload.exists()
    assert bytes(blobs.get(SHA)) == DATA
    assert blobs.disk_bytes() == len(DATA)


def test_a_blob_of_another_area_is_shared_and_each_is_destroyed_alone(
    place: Place, tmp_path: Path
) -> None:
    blobs, other = place.open(), local_place(tmp_path / "other", place.clock).blobs.models
    other.put(DATA)
    for _ in range(2):
        blobs.share(SHA, other)
    other.destroy(SHA)
    assert bytes(blobs.get(SHA)) == DATA
    assert blobs.sizes() == {SHA: len(DATA)}
    assert blobs.disk_bytes() == len(DATA)
    assert not blobs.destroy_orphan(SHA)  # it was stored of late
    blobs.destroy(SHA)
    with pytest.raises(PayloadCorrupt):
        blobs.share(SHA, other)


def test_what_was_stored_is_there_after_a_restart(place: Place) -> None:
    place.open().put(DATA)
    again = place.open()
    assert again.all() == [SHA]
    assert again.disk_bytes() == len(DATA)
    assert bytes(again.get(SHA)) == DATA


def test_the_loss_of_every_local_copy_is_harmless(place: Place) -> None:
    blobs = place.open()
    blobs.put(DATA)
    _empty(place.copies)
    assert bytes(blobs.get(SHA)) == DATA
    _empty(place.copies)
    assert bytes(place.open().get(SHA)) == DATA


@pytest.mark.parametrize("damaged", [DATA[:-1] + b"x", DATA[:-1], b""], ids=["bit", "cut", "empty"])
def test_a_damaged_blob_is_found_and_never_handed_out(place: Place, damaged: bytes) -> None:
    blobs = place.open()
    blobs.put(DATA)
    place.overwrite(SHA, damaged)
    _empty(place.copies)
    with pytest.raises(PayloadCorrupt):
        blobs.get(SHA)
    assert not list(place.copies.glob("*"))


def test_a_missing_blob_is_said_to_be_missing(place: Place) -> None:
    blobs = place.open()
    with pytest.raises(PayloadCorrupt):
        blobs.get(SHA)
    with pytest.raises(PayloadCorrupt):
        blobs.open(SHA)


def test_what_somebody_else_put_there_is_no_blob(place: Place) -> None:
    blobs = place.open()
    blobs.put(DATA)
    place.overwrite("README", b"hello")
    assert place.open().all() == [SHA]
    assert place.open().disk_bytes() == len(DATA)


def test_a_destroyed_blob_leaves_no_byte_here_or_there(place: Place) -> None:
    blobs = place.open()
    blobs.put(DATA)
    blobs.get(SHA)
    blobs.destroy(SHA)
    blobs.destroy(SHA)
    assert place.raw(SHA) is None
    assert blobs.all() == []
    assert blobs.disk_bytes() == 0
    assert not list(place.copies.glob("*"))
    with pytest.raises(PayloadCorrupt):
        blobs.get(SHA)


def test_a_blob_stored_of_late_is_no_orphan(place: Place) -> None:
    blobs = place.open()
    blobs.put(DATA)
    assert not blobs.destroy_orphan(SHA)
    place.clock.advance(ORPHAN_GRACE_S - 1)
    blobs.put(DATA)  # found, not written: it counts all the same
    place.clock.advance(ORPHAN_GRACE_S - 1)
    assert not blobs.destroy_orphan(SHA)
    assert bytes(blobs.get(SHA)) == DATA
    place.clock.advance(1)
    assert blobs.destroy_orphan(SHA)
    assert blobs.all() == []


def test_many_threads_store_and_read_the_same_blobs(place: Place) -> None:
    blobs = place.open()
    many = [DATA + bytes([i]) for i in range(4)]

    def store_and_read(data: bytes) -> bool:
        return bytes(blobs.get(blobs.put(data))) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(store_and_read, many * 4))
    assert blobs.all() == sorted(hashlib.sha256(data).hexdigest() for data in many)
    assert blobs.disk_bytes() == sum(len(data) for data in many)


def test_an_orphan_stored_anew_while_it_is_removed_is_not_lost(place: Place) -> None:
    """Whoever was told that its blob is stored finds it, whatever a sweep does meanwhile."""
    blobs = place.open()
    for i in range(10):
        data = DATA + bytes([i])
        sha256 = blobs.put(data)
        place.clock.advance(ORPHAN_GRACE_S)
        together = threading.Barrier(2, timeout=60)

        def sweep(sha256: str = sha256, together: threading.Barrier = together) -> None:
            together.wait()
            blobs.destroy_orphan(sha256)

        sweeper = threading.Thread(target=sweep)
        sweeper.start()
        together.wait()
        blobs.put(data)
        sweeper.join()
        assert bytes(blobs.get(sha256)) == data


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    reads=st.lists(st.integers(0, 11), max_size=30),
    limit=st.integers(0, 100),
)
def test_local_copies_stay_within_their_bound_whatever_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], reads: list[int], limit: int
) -> None:
    directory = tmp_path_factory.mktemp("bound")
    remote = RemoteFolder(
        MemoryFileSystem(skip_instance_cache=True), f"/{directory.name}", place="memory"
    )
    cache = BlobCache(directory, AREAS, limit_bytes=limit, reserve_bytes=0)
    blobs = object_place(remote, cache, FakeClock()).blobs
    areas = (blobs.payloads, blobs.checkpoints)
    stored = [
        (areas[i % 2], areas[i % 2].put(bytes([i]) * size), size) for i, size in enumerate(sizes)
    ]
    for read in reads:
        area, sha256, size = stored[read % len(stored)]
        assert len(area.get(sha256)) == size
        on_disk = [path.stat().st_size for path in directory.glob("*/*")]
        assert sum(on_disk) == cache.size_bytes <= limit
