"""Where the blobs of a coordinator are: folders here or elsewhere, or an object store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.disk_blobs import DiskBlobs, is_digest
from coordinator.adapters.object_blobs import ObjectBlobs
from coordinator.adapters.remote_folder import RemoteFolder
from coordinator.adapters.s3_files import open_s3
from coordinator.adapters.store_marker import LEDGER, DiskMarker, ObjectMarker
from coordinator.ports import Blobs, BlobStore, Marker
from letheon.errors import BadConfig
from letheon.servicekit.clock import Clock

AREAS: Final = ("payloads", "models", "checkpoints", "contributions")
_CACHE: Final = "cache"  # folder in data_dir
_SCHEMES: Final = ("s3", "file")


@dataclass(frozen=True)
class BlobPlace:
    """The areas and the files at their root: how far their ledger had come, and whose they are.

    Whose data_dir itself is, another file says.
    """

    blobs: Blobs
    ledger: Marker
    marker: Marker | None = None
    free_up: Callable[[int], None] | None = None  # gives so many bytes of this disk back


def local_place(data_dir: Path, clock: Clock) -> BlobPlace:
    """Folders of data_dir."""
    _drop_copies(data_dir)
    blobs = _areas(lambda area: DiskBlobs(data_dir / area, clock))
    return BlobPlace(blobs, DiskMarker(data_dir, LEDGER))


def configured_place(
    url: str,
    options: Mapping[str, str],
    data_dir: Path,
    clock: Clock,
    *,
    cache_bytes: int,
    reserve_bytes: int,
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
        return _folder_place(Path(path), clock)
    cache = BlobCache(
        data_dir / _CACHE, AREAS, limit_bytes=cache_bytes, reserve_bytes=reserve_bytes
    )
    return object_place(open_s3(url, options), cache, clock)


def object_place(remote: RemoteFolder, cache: BlobCache, clock: Clock) -> BlobPlace:
    """Objects of a remote folder."""
    blobs = _areas(lambda area: ObjectBlobs(remote, area, cache, clock))
    ledger = ObjectMarker(remote, LEDGER)
    return BlobPlace(blobs, ledger, ObjectMarker(remote), cache.free_up)


def _folder_place(root: Path, clock: Clock) -> BlobPlace:
    if not root.is_absolute():
        raise BadConfig(f"storage.url file://{root}: the path is not absolute", key="storage.url")
    try:
        blobs = _areas(lambda area: DiskBlobs(root / area, clock))
    except OSError as error:
        raise BadConfig(
            f"storage.url file://{root} cannot be used: {error.strerror}", key="storage.url"
        ) from error
    return BlobPlace(blobs, DiskMarker(root, LEDGER), DiskMarker(root))


def _drop_copies(data_dir: Path) -> None:
    """Copies from when the place was remote: nobody would destroy them with their subject."""
    if (data_dir / _CACHE).exists():
        shutil.rmtree(data_dir / _CACHE)


def _refuse_forgotten(data_dir: Path) -> None:
    """Files from when the place was data_dir would outlive the erasure of their subject."""
    for area in AREAS:
        folder = data_dir / area
        if folder.is_dir() and any(is_digest(file.name) for file in folder.iterdir()):
            raise BadConfig(
                f"storage.url is set, and {folder} still holds files: copy payloads, models, "
                "checkpoints and contributions to the new place and remove them here, or leave "
                "storage.url out",
                key="storage.url",
            )


def _areas(open_area: Callable[[str], BlobStore]) -> Blobs:
    return Blobs(**{area: open_area(area) for area in AREAS})
