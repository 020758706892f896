"""Where the blobs of a coordinator are: folders here or elsewhere, or an object store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.disk_blobs import DiskBlobs, is_digest
from coordinator.adapters.key_store_mark import check_at_hand, check_key_store
from coordinator.adapters.object_blobs import ObjectBlobs
from coordinator.adapters.remote_folder import RemoteFolder
from coordinator.adapters.s3_files import open_s3
from coordinator.adapters.sealed_blobs import SealedBlobs
from coordinator.adapters.store_marker import KEYS, LEDGER, DiskMarker, ObjectMarker
from coordinator.ports import Blobs, BlobStore, Marker
from coordinator.services.key_ring import KeyRing
from letheon.errors import BadConfig
from letheon.servicekit.clock import Clock

AREAS: Final = ("payloads", "models", "checkpoints", "contributions")
_CACHE: Final = "cache"  # folder in data_dir
_WORK: Final = "sealing"  # folder of sealed files that are not whole yet
_SEALED: Final = "sealed"
_SCHEMES: Final = ("s3", "file")


@dataclass(frozen=True)
class _Root:
    """Where blobs are kept: how an area of a name is opened, and what else the root can do."""

    place: str  # for a person
    open_area: Callable[[str], BlobStore]
    names: Callable[[str], Iterable[str]]  # files in an area, without opening it
    marker: Callable[[str], Marker]
    work: Path  # for unfinished sealed files, best on the same file system
    hashed: bool  # whether areas check the digests that name their files
    alone: bool  # whether no other process can be storing there


@dataclass(frozen=True)
class BlobPlace:
    """The areas and the files at their root: how far their ledger had come, and whose they are.

    Whose data_dir itself is, another file says.
    """

    blobs: Blobs
    ledger: Marker
    marker: Marker | None = None
    free_up: Callable[[int], None] | None = None  # gives so many bytes of this disk back
    sealed: SealedBlobs | None = None  # the area of payloads, if areas are sealed
    # Removes what a crash left between a sealed file and its key. Due once files and rows were seen
    # to belong together: of others it would destroy what is good.
    tidy: Callable[[], None] = lambda: None


def local_place(data_dir: Path, clock: Clock, ring: KeyRing | None = None) -> BlobPlace:
    """Folders of data_dir; sealed if there is a ring. Raises BadConfig."""
    _drop_copies(data_dir)
    blobs, sealed, tidy = _areas(_folder_root(data_dir, clock, alone=True), clock, ring)
    return BlobPlace(blobs, DiskMarker(data_dir, LEDGER), sealed=sealed, tidy=tidy)


def configured_place(
    url: str,
    options: Mapping[str, str],
    data_dir: Path,
    clock: Clock,
    *,
    cache_bytes: int,
    reserve_bytes: int,
    ring: KeyRing | None = None,
) -> BlobPlace:
    """What `storage.url` names, usable. Raises BadConfig or StorageUnavailable."""
    scheme, separator, path = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        allowed = ", ".join(f"{known}://" for known in _SCHEMES)
        raise BadConfig(f"storage.url {url}: begin it with one of {allowed}", key="storage.url")
    _refuse_forgotten(data_dir)
    if scheme == "file":
        if options:
            raise BadConfig("storage.options: a file:// URL has none", key="storage.options")
        _drop_copies(data_dir)
        return _folder_place(Path(path), clock, ring)
    cache = BlobCache(
        data_dir / _CACHE,
        AREAS if ring is None else tuple(map(sealed_area, AREAS)),
        limit_bytes=cache_bytes,
        reserve_bytes=reserve_bytes,
    )
    return object_place(open_s3(url, options), cache, clock, ring, work=data_dir / _WORK)


def check_keys_at_hand(
    url: str | None, options: Mapping[str, str], data_dir: Path, key_dir: Path
) -> None:
    """As `check_at_hand`, for the files that `storage.url` names, or those of data_dir.

    Raises BadConfig, or StorageUnavailable.
    """
    if url is None or url.startswith("file://"):
        marker: Marker = DiskMarker(Path(url.removeprefix("file://")) if url else data_dir, KEYS)
    else:
        marker = ObjectMarker(open_s3(url, options), KEYS)
    check_at_hand(marker, key_dir)


def object_place(
    remote: RemoteFolder,
    cache: BlobCache,
    clock: Clock,
    ring: KeyRing | None = None,
    *,
    work: Path | None = None,
) -> BlobPlace:
    """Objects of a remote folder; a ring needs `work`, a folder of the cache's file system."""
    root = _Root(
        place=remote.place,
        open_area=lambda area: ObjectBlobs(remote, area, cache, clock),
        names=remote.sizes,
        marker=lambda name: ObjectMarker(remote, name),
        work=work or Path(),
        hashed=True,
        alone=False,
    )
    blobs, sealed, tidy = _areas(root, clock, ring)
    ledger = ObjectMarker(remote, LEDGER)
    return BlobPlace(blobs, ledger, ObjectMarker(remote), cache.free_up, sealed, tidy)


def sealed_area(area: str) -> str:
    """Name of the folder of an area's sealed files."""
    return f"{_SEALED}-{area}"


def _folder_root(root: Path, clock: Clock, *, alone: bool) -> _Root:
    def names(area: str) -> list[str]:
        folder = root / area
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    return _Root(
        place=str(root),
        open_area=lambda area: DiskBlobs(root / area, clock),
        names=names,
        marker=lambda name: DiskMarker(root, name),
        work=root / _WORK,
        hashed=False,
        alone=alone,
    )


def _folder_place(root: Path, clock: Clock, ring: KeyRing | None) -> BlobPlace:
    if not root.is_absolute():
        raise BadConfig(f"storage.url file://{root}: the path is not absolute", key="storage.url")
    try:
        blobs, sealed, tidy = _areas(_folder_root(root, clock, alone=False), clock, ring)
    except OSError as error:
        raise BadConfig(
            f"storage.url file://{root} cannot be used: {error.strerror}", key="storage.url"
        ) from error
    return BlobPlace(blobs, DiskMarker(root, LEDGER), DiskMarker(root), sealed=sealed, tidy=tidy)


def _drop_copies(data_dir: Path) -> None:
    """Copies from when the place was remote: nobody would destroy them with their subject."""
    if (data_dir / _CACHE).exists():
        shutil.rmtree(data_dir / _CACHE)


def _refuse_forgotten(data_dir: Path) -> None:
    """Files from when the place was data_dir would outlive the erasure of their subject."""
    for area in (*AREAS, *map(sealed_area, AREAS)):
        folder = data_dir / area
        if folder.is_dir() and any(is_digest(file.name) for file in folder.iterdir()):
            raise BadConfig(
                f"storage.url is set, and {folder} still holds files: copy payloads, models, "
                "checkpoints and contributions to the new place and remove them here, or leave "
                "storage.url out",
                key="storage.url",
            )


def _areas(
    root: _Root, clock: Clock, ring: KeyRing | None
) -> tuple[Blobs, SealedBlobs | None, Callable[[], None]]:
    """The areas, that of payloads if they are sealed, and what tidies them."""
    _refuse_a_mixture(root, sealed=ring is not None)
    if ring is None:
        return Blobs(**{area: root.open_area(area) for area in AREAS}), None, lambda: None
    areas = _sealed_areas(root, clock, ring)

    def tidy() -> None:
        for area in areas.values():
            area.tidy(alone=root.alone)

    return Blobs(**areas), areas["payloads"], tidy


def _sealed_areas(root: _Root, clock: Clock, ring: KeyRing) -> dict[str, SealedBlobs]:
    root.work.mkdir(parents=True, exist_ok=True)
    check_key_store(root.marker(KEYS), ring, keys=sum(len(ring.all(area)) for area in AREAS))
    for unfinished in root.work.iterdir():
        unfinished.unlink()
    areas: dict[str, SealedBlobs] = {}
    for area in AREAS:
        below = root.open_area(sealed_area(area))
        areas[area] = SealedBlobs(below, ring, area, root.work, clock, hashed=root.hashed)
    return areas


def seal_areas(root: Path, clock: Clock, ring: KeyRing) -> dict[str, int]:
    """Seals the plain files of a folder, one after the other; answers how many, by area."""
    # Named by their digests, so that they may be copied to an object store.
    at = replace(_folder_root(root, clock, alone=True), hashed=True)
    sealed = _sealed_areas(at, clock, ring)
    for area in AREAS:
        sealed[area].tidy(alone=at.alone)
    counts: dict[str, int] = {}
    for area in AREAS:
        plain = DiskBlobs(root / area, clock)
        names = plain.all()
        for sha256 in names:
            plain.get(sha256)  # checked before it is sealed: a damaged one stays as it is
            sealed[area].adopt(plain.path(sha256), sha256)
        counts[area] = len(names)
    return counts


def _refuse_a_mixture(root: _Root, *, sealed: bool) -> None:
    """What is not sealed would outlive the destruction of keys; what is sealed cannot be read."""
    for area in AREAS:
        folder = area if sealed else sealed_area(area)
        count = sum(is_digest(name) for name in root.names(folder))
        if not count:
            continue
        if sealed:
            raise BadConfig(
                f"encryption.key_dir is set, and {root.place}/{folder} holds {count} files that "
                "are not encrypted: run `python -m coordinator.seal_store --config FILE` while the "
                "coordinator is stopped, or leave encryption.key_dir out",
                key="encryption.key_dir",
            )
        raise BadConfig(
            f"{root.place}/{folder} holds {count} encrypted files: set encryption.key_dir to the "
            "key store that they were written with",
            key="encryption.key_dir",
        )
