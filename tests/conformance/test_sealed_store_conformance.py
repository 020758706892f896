"""Sealed blobs keep the promises of blobs over every store, and leave no plaintext about."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_server import S3Server

from coordinator.adapters import sealing
from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.blob_places import (
    AREAS,
    BlobPlace,
    configured_place,
    local_place,
    object_place,
    sealed_area,
)
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.remote_folder import RemoteFolder
from coordinator.adapters.sealed_staging import SealedStagingArea
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.ports import ORPHAN_GRACE_S, UPLOADS, BlobStore
from coordinator.services.key_ring import KeyRing
from letheon.errors import BadConfig, KeyGone, PayloadCorrupt
from letheon.servicekit.clock import FakeClock

SECRET = b"the weights of north" * 40_000  # several segments, the last one short
SHA = hashlib.sha256(SECRET).hexdigest()


@dataclass
class World:
    """A sealed place, its keys, and every byte that lies about outside of the key store."""

    open: Callable[[], BlobPlace]
    ring: KeyRing
    stored: Callable[[], list[bytes]]
    clock: FakeClock
    data: Path

    @property
    def blobs(self) -> BlobStore:
        """As after a start whose rows and files belong together."""
        place = self.open()
        place.tidy()
        return place.blobs.payloads


def a_ring(keys: Path) -> KeyRing:
    return KeyRing(FileWrappingKeys(keys), SqliteKeyRecords(keys))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=["data_dir", "file", "memory", "s3"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock, data, ring = FakeClock(), tmp_path / "data", a_ring(tmp_path / "keys")
    data.mkdir()

    def on_disk() -> list[bytes]:
        folders = (data, tmp_path / "elsewhere")
        return [p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()]

    def configured(url: str, options: dict[str, str]) -> BlobPlace:
        return configured_place(
            url, options, data, clock, cache_bytes=1 << 24, reserve_bytes=0, ring=ring
        )

    if request.param == "data_dir":
        yield World(lambda: local_place(data, clock, ring), ring, on_disk, clock, data)
    elif request.param == "file":
        url = f"file://{tmp_path / 'elsewhere'}"
        yield World(lambda: configured(url, {}), ring, on_disk, clock, data)
    elif request.param == "memory":
        files = MemoryFileSystem(skip_instance_cache=True)
        remote = RemoteFolder(files, f"/{tmp_path.name}", place="memory")
        areas = tuple(map(sealed_area, AREAS))

        def in_memory() -> BlobPlace:
            cache = BlobCache(data / "cache", areas, limit_bytes=1 << 24, reserve_bytes=0)
            return object_place(remote, cache, clock, ring, work=data / "sealing")

        def everywhere() -> list[bytes]:
            return [*on_disk(), *(files.cat_file(n) for n in files.find(f"/{tmp_path.name}"))]

        yield World(in_memory, ring, everywhere, clock, data)
        if files.exists(f"/{tmp_path.name}"):
            files.rm(f"/{tmp_path.name}", recursive=True)
    else:
        server: S3Server = request.getfixturevalue("s3")
        bucket = server.new_bucket()

        def in_bucket() -> list[bytes]:
            bodies = (
                server.client.get_object(Bucket=bucket, Key=key)["Body"].read()
                for key in server.keys(bucket)
            )
            return [*on_disk(), *bodies]

        yield World(
            lambda: configured(f"s3://{bucket}/prefix", server.options()),
            ring,
            in_bucket,
            clock,
            data,
        )


def test_bytes_come_back_under_the_digest_of_the_plaintext(world: World) -> None:
    blobs = world.blobs
    assert blobs.put(SECRET) == blobs.put(memoryview(SECRET)) == SHA
    assert bytes(blobs.get(SHA)) == SECRET
    again = world.blobs  # as after a restart
    assert again.all() == [SHA]
    assert again.sizes() == {SHA: len(SECRET)}
    assert again.disk_bytes() == sealing.sealed_size(len(SECRET))
    assert bytes(again.get(SHA)) == SECRET


def test_a_download_goes_on_from_any_byte(world: World) -> None:
    blobs = world.blobs
    blobs.put(SECRET)
    with blobs.open(SHA) as file:
        for offset in (0, 1, sealing.SEGMENT_BYTES - 1, sealing.SEGMENT_BYTES, len(SECRET) - 1):
            file.seek(offset)
            assert file.read(100) == SECRET[offset : offset + 100]
        file.seek(sealing.SEGMENT_BYTES - 5)
        assert file.read() == SECRET[sealing.SEGMENT_BYTES - 5 :]


def test_nothing_of_the_plaintext_nor_its_digest_is_stored(world: World) -> None:
    world.blobs.put(SECRET)
    found = world.stored()
    assert found
    assert not [content for content in found if SECRET[:20] in content or SHA.encode() in content]


def test_a_file_is_taken_in_and_gone_afterwards(world: World, tmp_path: Path) -> None:
    blobs = world.blobs
    for _ in range(2):
        upload = tmp_path / "whole"
        upload.write_bytes(SECRET)
        blobs.adopt(upload, SHA)
        assert not upload.exists()
    assert bytes(blobs.get(SHA)) == SECRET
    assert blobs.disk_bytes() == sealing.sealed_size(len(SECRET))


def test_a_blob_of_another_area_is_sealed_under_a_key_of_this_one(
    world: World, tmp_path: Path
) -> None:
    other = local_place(tmp_path / "other", FakeClock()).blobs.models
    other.put(SECRET)
    world.blobs.share(SHA, other)
    other.destroy(SHA)
    assert bytes(world.blobs.get(SHA)) == SECRET
    assert not [content for content in world.stored() if SECRET[:20] in content]


def test_a_destroyed_blob_has_neither_key_nor_file(world: World) -> None:
    blobs = world.blobs
    blobs.put(SECRET)
    blobs.destroy(SHA)
    blobs.destroy(SHA)
    assert blobs.all() == []
    assert blobs.disk_bytes() == 0
    assert world.ring.record("payloads", SHA) is None
    for read in (blobs.get, blobs.open):
        with pytest.raises(KeyGone):
            read(SHA)
    assert blobs.put(SECRET) == SHA
    assert bytes(blobs.get(SHA)) == SECRET


def test_a_file_without_a_key_is_removed_at_the_start(world: World) -> None:
    world.blobs.put(SECRET)
    other = world.blobs.put(b"other")
    world.ring.forget("payloads", SHA)  # and the process died before the file was removed
    blobs = world.blobs
    assert blobs.all() == [other]
    assert blobs.disk_bytes() == sealing.sealed_size(5)


def test_a_blob_stored_of_late_is_no_orphan(world: World) -> None:
    blobs = world.blobs
    blobs.put(SECRET)
    world.clock.advance(ORPHAN_GRACE_S - 1)
    blobs.put(SECRET)
    world.clock.advance(ORPHAN_GRACE_S - 1)
    assert not blobs.destroy_orphan(SHA)
    world.clock.advance(1)
    assert blobs.destroy_orphan(SHA)
    assert blobs.all() == []


def test_many_threads_store_and_read_the_same_blobs(world: World) -> None:
    blobs = world.blobs
    many = [SECRET[:1000] + bytes([i]) for i in range(4)]

    def store_and_read(data: bytes) -> bool:
        return bytes(blobs.get(blobs.put(data))) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(store_and_read, many * 4))
    assert len(blobs.all()) == 4


def staging_of(world: World, place: BlobPlace) -> SealedStagingArea:
    assert place.sealed is not None
    return SealedStagingArea(
        world.data / "sealed-uploads", place.sealed, world.ring, reserve_bytes=0
    )


def test_an_upload_is_sealed_from_its_first_byte_and_becomes_the_payload(world: World) -> None:
    place = world.open()
    area = staging_of(world, place)
    cut = sealing.SEGMENT_BYTES + 1000
    with area.open("u", len(SECRET)) as staging:
        staging.append(SECRET[:cut])
    assert area.committed_bytes("u") == cut
    assert not [c for c in world.stored() if SECRET[:20] in c]
    area = staging_of(world, world.open())  # after a restart
    with area.open("u", len(SECRET)) as staging:
        assert staging.size_bytes == cut
        for at in range(cut, len(SECRET), 70_000):
            staging.append(SECRET[at : at + 70_000])
        assert staging.digest() == SHA
        assert bytes(staging.view()) == SECRET
        staging.publish()
    assert bytes(world.blobs.get(SHA)) == SECRET
    assert area.all() == []
    assert world.ring.all(UPLOADS) == {}
    assert not [c for c in world.stored() if SECRET[:20] in c]


def test_the_same_bytes_published_again_do_not_replace_the_key_of_the_first(world: World) -> None:
    place = world.open()
    place.blobs.payloads.put(SECRET)
    record = world.ring.record("payloads", SHA)
    with staging_of(world, place).open("u", len(SECRET)) as staging:
        staging.append(SECRET)
        staging.publish()
    assert world.ring.record("payloads", SHA) == record
    assert bytes(place.blobs.payloads.get(SHA)) == SECRET
    assert staging_of(world, place).all() == []


def test_a_torn_segment_is_cut_off_and_sent_again(tmp_path: Path) -> None:
    clock, ring = FakeClock(), a_ring(tmp_path / "keys")
    world = World(lambda: local_place(tmp_path / "d", clock, ring), ring, list, clock, tmp_path)
    area = staging_of(world, world.open())
    with area.open("u", len(SECRET)) as staging:
        staging.append(SECRET[: sealing.SEGMENT_BYTES + 500])
    part = next((tmp_path / "sealed-uploads").glob("*.part"))
    os.truncate(part, part.stat().st_size - 7)
    area = staging_of(world, world.open())
    with area.open("u", len(SECRET)) as staging:
        assert staging.size_bytes == sealing.SEGMENT_BYTES
        staging.append(SECRET[sealing.SEGMENT_BYTES :])
        assert staging.digest() == SHA
        staging.publish()
    assert bytes(world.blobs.get(SHA)) == SECRET


def test_a_discarded_upload_leaves_neither_file_nor_key(world: World) -> None:
    area = staging_of(world, world.open())
    for name, discard in (("a", area.discard), ("b", area.discard_idle)):
        with area.open(name, 100) as staging:
            staging.append(b"x" * 50)
        discard(name)
        assert area.all() == []
        assert world.ring.all(UPLOADS) == {}
        assert area.committed_bytes(name) == 0


def _sealed(path: Path, data: bytes, key: bytes) -> None:
    with path.open("wb") as file:
        sealing.seal_into(file, data, sealing.Cipher(key))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 2 * sealing.SEGMENT_BYTES + 3),
    at=st.floats(0, 1),
    change=st.sampled_from(["flip", "cut", "grow", "swap"]),
)
def test_no_change_of_a_sealed_file_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, size: int, at: float, change: str
) -> None:
    path = tmp_path_factory.mktemp("sealed") / "file"
    data, key = os.urandom(size), os.urandom(32)
    _sealed(path, data, key)
    stored = bytearray(path.read_bytes())
    assert len(stored) == sealing.sealed_size(size)
    assert sealing.plain_size(len(stored)) == size
    place = min(int(at * len(stored)), len(stored) - 1)
    if change == "flip":
        stored[place] ^= 1
    elif change == "cut":
        del stored[place:]
    elif change == "grow":
        stored += b"x" * (1 + place % 40)
    elif len(stored) > 2 * sealing.STORED_BYTES:
        n = sealing.STORED_BYTES
        stored[:n], stored[n : 2 * n] = stored[n : 2 * n], stored[:n]
    else:
        return
    path.write_bytes(stored)
    with path.open("rb") as file, pytest.raises(PayloadCorrupt):
        sealing.opened(file, sealing.Cipher(key), size)


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.integers(0, sealing.SEGMENT_BYTES + 10), max_size=6), cuts=st.booleans())
def test_an_upload_in_any_pieces_is_what_was_sent(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[int], *, cuts: bool
) -> None:
    root = tmp_path_factory.mktemp("pieces")
    clock, ring = FakeClock(), a_ring(root / "keys")
    place = local_place(root / "data", clock, ring)
    assert place.sealed is not None
    data = os.urandom(sum(pieces) + 1)
    area = SealedStagingArea(root / "up", place.sealed, ring, reserve_bytes=0)
    at = 0
    for size in (*pieces, 1):
        if cuts:
            area = SealedStagingArea(root / "up", place.sealed, ring, reserve_bytes=0)
        with area.open("u", len(data)) as staging:
            assert staging.size_bytes == at
            staging.append(data[at : at + size])
            at += size
    with area.open("u", len(data)) as staging:
        assert staging.digest() == hashlib.sha256(data).hexdigest()
        staging.publish()
    assert bytes(place.blobs.payloads.get(hashlib.sha256(data).hexdigest())) == data


def test_sealed_and_plain_files_do_not_mix(tmp_path: Path) -> None:
    clock, ring = FakeClock(), a_ring(tmp_path / "keys")
    local_place(tmp_path / "plain", clock).blobs.models.put(SECRET)
    with pytest.raises(BadConfig, match="1 files that are not encrypted: run"):
        local_place(tmp_path / "plain", clock, ring)
    local_place(tmp_path / "sealed", clock, ring).blobs.models.put(SECRET)
    with pytest.raises(BadConfig, match=r"1 encrypted files: set encryption\.key_dir"):
        local_place(tmp_path / "sealed", clock)


def test_another_key_store_or_an_older_copy_of_it_is_refused(tmp_path: Path) -> None:
    clock, ring = FakeClock(), a_ring(tmp_path / "keys")
    blobs = local_place(tmp_path / "data", clock, ring).blobs.models
    blobs.put(SECRET)
    with pytest.raises(BadConfig, match="name the one that belongs to them"):
        local_place(tmp_path / "data", clock, a_ring(tmp_path / "other"))
    ring.close()
    old = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    ring = a_ring(tmp_path / "keys")
    local_place(tmp_path / "data", clock, ring).blobs.models.destroy(SHA)
    assert ring.shred()
    ring.close()
    for path in (tmp_path / "keys").iterdir():
        path.unlink()
    for name, content in old.items():
        (tmp_path / "keys" / name).write_bytes(content)
    with pytest.raises(BadConfig, match="the key store is an older copy"):
        local_place(tmp_path / "data", clock, a_ring(tmp_path / "keys"))
