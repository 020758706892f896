"""Versions as files: written out when somebody wants one, kept while somebody needs one."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.domain.model import ModelFile
from coordinator.ports import Blobs, Meter, Store, UnitOfWork
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import LiveModel, Position
from letheon.errors import (
    ModelDestroyed,
    NoServingModel,
    OffsetMismatch,
    PayloadCorrupt,
    UnknownModelVersion,
)
from letheon.federation.parameters import Vector
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


def check_not_destroyed(uow: UnitOfWork, version: int) -> None:
    """Raises ModelDestroyed if an erasure destroyed the version."""
    for gone in uow.destroyed.versions():
        if gone.first_version <= version <= gone.last_version:
            raise ModelDestroyed(
                f"models/{version} was destroyed by erasures/{gone.erasure}",
                version=version,
                erasure=f"erasures/{gone.erasure}",
            )


class ModelFiles:
    """Finds, writes and keeps the files of versions."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        live: LiveModel,
        meter: Meter,
        clock: Clock,
        *,
        keep_newest: int,
        resume_within_s: float,
    ) -> None:
        self._store, self._blobs, self._live = store, blobs, live
        self._meter, self._clock = meter, clock
        self._keep_newest, self._resume_within_s = keep_newest, resume_within_s
        self._writing = threading.RLock()  # held while files and their rows come or go
        self._lock = threading.Lock()
        self._readers: Counter[int] = Counter()
        started = clock.monotonic()
        with store.read() as uow:
            files = uow.models.newest()
        # Any file may have been in the middle of a download when the process ended, and may
        # have changed since it was written.
        self._cut_at = {file.version: started for file in files}
        self._unchecked = {file.version for file in files}

    def head(self) -> ModelFile:
        """The file of the newest version, written now if need be."""
        found = self._find(self._live.position.version)
        if found is not None:
            return found
        with self._writing:
            found = self._find(self._live.position.version)
            if found is not None:
                return found
            with self._meter.stage("publish"):
                return self.write(*self._live.snapshot())

    def serving(self) -> ModelFile:
        """The file of the served version. Raises NoServingModel."""
        with self._store.read() as uow:
            version = uow.federation.get().serving_version
        if version is None:
            raise NoServingModel("the serving policy offers no version while an erasure is open")
        return self.of(version)

    def of(self, version: int) -> ModelFile:
        """The file of a version. Raises UnknownModelVersion or ModelDestroyed."""
        if version == self._live.position.version:
            return self.head()
        with self._store.read() as uow:
            check_not_destroyed(uow, version)
            found = uow.models.find(version)
        if found is None:
            raise UnknownModelVersion(
                f"models/{version} does not exist or is not kept as a file", version=version
            )
        return found

    def write(self, position: Position, weights: Vector, *, pin: str | None = None) -> ModelFile:
        """Writes a version out, pinned for a reason if given. Raises ModelDestroyed."""
        data = vector_bytes(weights)
        with self._writing:
            file = ModelFile(
                version=position.version,
                epoch=position.epoch,
                sha256=self._blobs.models.put(data),
                size_bytes=len(data),
                written_at=self._clock.now(),
            )
            reach("model.put")
            with self._store.write() as uow:
                check_not_destroyed(uow, file.version)
                uow.models.add(file)
                if pin is not None:
                    uow.models.pin(file.version, pin)
                uow.commit()
        reach("model.recorded")
        _log.info("model_written", extra={"version": file.version, "epoch": file.epoch})
        return file

    def discard(self, sha256: str) -> None:
        """Destroys a stored version that has no row and is not to get one."""
        with self._writing:
            with self._store.read() as uow:
                if any(file.sha256 == sha256 for file in uow.models.newest()):
                    return
            self._blobs.models.destroy(sha256)

    @contextmanager
    def reading(self, file: ModelFile, offset: int) -> Iterator[None]:
        """Keeps the file while it is read, and for a while after a read that was cut.

        Raises OffsetMismatch beyond the end, PayloadCorrupt.
        """
        if not 0 <= offset <= file.size_bytes:
            raise OffsetMismatch(
                f"models/{file.version} has {file.size_bytes} bytes, not {offset}",
                committed_bytes=0,
            )
        with self._lock:
            self._readers[file.version] += 1
        try:
            self._check(file)
            yield
        except BaseException:
            self._cut_at[file.version] = self._clock.monotonic()
            raise
        finally:
            with self._lock:
                self._readers[file.version] -= 1

    def drop_unneeded(self) -> list[int]:
        """Removes files that nobody reads or pinned, beyond the newest; answers versions."""
        since = self._clock.monotonic() - self._resume_within_s
        with self._lock:
            self._cut_at = {v: at for v, at in self._cut_at.items() if at > since}
            busy = {version for version, readers in self._readers.items() if readers > 0}
            self._readers = Counter({v: n for v, n in self._readers.items() if n > 0})
        with self._writing:
            return self._drop(busy | self._cut_at.keys())

    def _drop(self, in_use: set[int]) -> list[int]:
        with self._store.write() as uow:
            needed = in_use | uow.models.pins().keys()
            old = uow.models.newest()[self._keep_newest :]
            dropped = [file for file in old if file.version not in needed]
            if not dropped:
                return []
            for file in dropped:
                uow.models.remove(file.version)
            kept = {file.sha256 for file in uow.models.newest()}
            uow.commit()
        for file in dropped:
            if file.sha256 not in kept:
                self._blobs.models.destroy(file.sha256)
        return [file.version for file in dropped]

    def _find(self, version: int) -> ModelFile | None:
        with self._store.read() as uow:
            return uow.models.find(version)

    def _check(self, file: ModelFile) -> None:
        """Hashes a file that this process did not write, once."""
        if file.version not in self._unchecked:
            return
        with self._blobs.models.open(file.sha256) as opened:
            # typeshed asks for a wider protocol than a BinaryIO promises.
            found = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != file.sha256:
            raise PayloadCorrupt(
                f"the file of models/{file.version} no longer matches its digest",
                version=file.version,
            )
        self._unchecked.discard(file.version)
