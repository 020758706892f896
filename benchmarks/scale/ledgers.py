"""Coordinators of a small model in this process, and how many deltas and sites they have seen."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.ingestion.payloads import noise
from benchmarks.ingestion.world import make_federation
from coordinator.adapters.sql import SqlStore
from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.core_wiring import build_core, open_store
from coordinator.domain.site import Site, SiteState
from coordinator.domain.upload import DeltaPurpose, Header, Receipt
from coordinator.services.receive_upload import ReceiveUpload
from coordinator.training_wiring import receive_upload
from letheon.federation.parameters import Layout, TensorSpec
from letheon.servicekit.clock import SystemClock

LAYOUT = Layout((TensorSpec("weight", (2500, 8)), TensorSpec("bias", (480,))))  # 80 kB
CHORES_EVERY = 25  # deltas; in a process they run by time


@dataclass
class Grown:
    """A coordinator that serves nobody; deltas go through the use case behind PushDelta."""

    directory: Path
    sites: int
    deltas: int = 0
    _values: np.ndarray = field(default_factory=lambda: noise(LAYOUT.size))

    def __post_init__(self) -> None:
        make_federation(self.directory / "federation", LAYOUT)
        self.config = CoordinatorConfig.model_validate(
            {
                "data_dir": self.directory / "data",
                "federation_dir": self.directory / "federation",
                "redis_url": "redis://127.0.0.1:1/0",
            }
        )
        self.config.data_dir.mkdir(parents=True)
        self.store: SqlStore = open_store(self.config)
        self.core: Core = build_core(self.config, self.store, SystemClock())
        self.uploads: ReceiveUpload = receive_upload(self.core)
        self._enrol()

    def push(self, count: int) -> tuple[float, float]:
        """So many deltas, of one site after the other, with the chores that follow them.

        Seconds of the clock and of the processor for each.
        """
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            self._push()
            self.deltas += 1
            if self.deltas % CHORES_EVERY == 0:
                self._chores()
        return (
            (time.perf_counter() - clock) / count,
            (time.process_time() - processor) / count,
        )

    def close(self) -> None:
        """Leaves the folder to a process."""
        self.store.close()

    def database_bytes(self) -> int:
        """Of SQLite, its log included."""
        files = self.config.data_dir.glob("coordinator.sqlite*")
        return sum(file.stat().st_size for file in files)

    def derived_bytes(self) -> int:
        """Checkpoints, contributions and model files: all blobs but payloads."""
        areas = self.core.blobs.areas()
        return sum(area.disk_bytes() for name, area in areas.items() if name != "payloads")

    def _push(self) -> None:
        position = self.core.live.position
        payload = np.roll(self._values, self.deltas * 7919).astype("<f4").tobytes()
        site = f"site-{self.deltas % self.sites}"
        header = Header(
            update_id=str(uuid.uuid4()),
            size_bytes=len(payload),
            sha256=hashlib.sha256(payload).hexdigest(),
            offset=0,
            layout=tuple((t.name, t.shape, "float32") for t in LAYOUT.tensors),
            purpose=DeltaPurpose(
                site, "train-0-0-0", position.version, position.epoch, 0, 100, 0.5
            ),
        )
        found = self.uploads.receive(header, lambda offset: iter([payload[offset:]]))
        if not isinstance(found, Receipt):
            raise TypeError("the delta was not taken whole")

    def _chores(self) -> None:
        self.core.derived.checkpoint_if_due()
        self.core.derived.fold_if_due()

    def _enrol(self) -> None:
        now = self.core.clock.now()
        with self.store.write() as uow:
            for number in range(self.sites):
                uow.sites.add(
                    Site(
                        id=f"site-{number}",
                        state=SiteState.ACTIVE,
                        display_name=f"site-{number}",
                        record_count=100,
                        registered_at=now,
                        last_seen_at=now,
                    )
                )
            uow.commit()
