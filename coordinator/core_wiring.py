"""The core of a coordinator: stores, plan and head, recovered from the ledger.

With `coordinator.bootstrap` the only file naming concrete adapters.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry

from coordinator.adapters.blob_places import BlobPlace, configured_place, local_place
from coordinator.adapters.data_dir import check_federation
from coordinator.adapters.disk_staging import DiskStagingArea
from coordinator.adapters.sql import SqlStore
from coordinator.adapters.tombstone_file import TombstoneFile
from coordinator.config import CoordinatorConfig, Limits
from coordinator.core import Core
from coordinator.metrics import Gauges, Metrics
from coordinator.services.check_integrity import check_integrity
from coordinator.services.check_store import check_store_belongs, mark_store
from coordinator.services.import_plan import import_plan
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.keep_tombstones import KeepTombstones
from coordinator.services.ledger_mark import LedgerMark
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.payloads_in_flight import PayloadsInFlight
from coordinator.services.presence import Presence
from coordinator.services.receive_upload import FINAL
from coordinator.services.rounds import Rounds
from coordinator.services.sweep_leftovers import SweepOrphans
from coordinator.services.transfer_slots import TransferSlots
from coordinator.services.unfolded_terms import UnfoldedTerms
from coordinator.services.verify_ledger import VerifyLedger
from letheon.servicekit.clock import Clock
from letheon.servicekit.signing import SigningKey


def new_id() -> str:
    """A fresh identifier that may stand in a resource name."""
    return uuid.uuid4().hex


def open_store(config: CoordinatorConfig) -> SqlStore:
    """The database, migrated. Raises BadConfig, DatabaseCorrupt or StorageUnavailable."""
    database = config.database
    return SqlStore(
        config.database_url,
        pool_size=database.pool_size,
        pool_timeout_s=database.pool_timeout_seconds,
    )


def build_core(config: CoordinatorConfig, store: SqlStore, clock: Clock) -> Core:
    """Stores, plan and head, recovered from the ledger."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, clock)
    data, limits, upkeep = config.data_dir, config.limits, config.upkeep
    _check_federation(data, store)
    place = _open_blobs(config, clock)
    blobs = place.blobs
    staging = DiskStagingArea(
        data / "uploads",
        blobs.payloads,
        reserve_bytes=limits.reserve_bytes,
        free_up=place.free_up,
    )
    if place.marker is not None:
        check_store_belongs(store, blobs, place.marker)
    mark = LedgerMark(place.ledger, store)
    mark.check()
    plan = import_plan(store, blobs, clock, new_id, directory=config.federation_dir)
    _check_federation(data, store)
    if place.marker is not None:
        mark_store(store, place.marker)
    in_flight = PayloadsInFlight(store, blobs.payloads, refusals=FINAL)
    orphans = SweepOrphans(
        store, blobs, clock, in_flight=in_flight.digests, removed=metrics.orphans
    )
    if place.marker is None:
        # Elsewhere a process of another machine may be storing still: there only age counts.
        orphans.at_start()
    size = plan.parameters.size
    check_integrity(store, blobs, size=size)
    live = LiveModel(store, blobs, metrics, clock, size=size)
    presence, strategy = Presence(), plan.build_strategy()
    patience = timedelta(seconds=config.rounds.patience_seconds)
    return Core(
        store=store,
        blobs=blobs,
        staging=staging,
        plan=plan,
        strategy=strategy,
        live=live,
        files=ModelFiles(
            store,
            blobs,
            live,
            metrics,
            clock,
            keep_newest=upkeep.keep_models,
            resume_within_s=limits.resume_within_seconds,
        ),
        derived=KeepDerived(
            store=store,
            blobs=blobs,
            live=live,
            clock=clock,
            mark=mark,
            checkpoint_every=upkeep.checkpoint_entries,
            recovery_entries=upkeep.recovery_entries,
            keep_checkpoints=upkeep.keep_checkpoints,
            fold_after=upkeep.fold_entries,
            unfolded=UnfoldedTerms(store, count_to=upkeep.fold_entries),
        ),
        verify_ledger=VerifyLedger(store, blobs, live, size=size),
        orphans=orphans,
        presence=presence,
        rounds=Rounds(strategy, presence, clock, patience),
        slots=_slots(limits),
        tombstones=KeepTombstones(_open_tombstones(config), store, clock),
        in_flight=in_flight,
        registry=registry,
        metrics=metrics,
        gauges=Gauges(registry, store, blobs, live, presence, clock),
        clock=clock,
        new_id=new_id,
    )


def _slots(limits: Limits) -> TransferSlots:
    process = psutil.Process()
    return TransferSlots(
        limits.transfers,
        retry_after_s=limits.transfer_retry_seconds,
        per_site=limits.transfers_per_site,
        memory_bytes=limits.memory_bytes,
        memory_in_use=lambda: int(process.memory_info().rss),
    )


def _open_blobs(config: CoordinatorConfig, clock: Clock) -> BlobPlace:
    storage = config.storage
    if storage.url is None:
        return local_place(config.data_dir, clock)
    return configured_place(
        storage.url,
        {name: value.get_secret_value() for name, value in storage.options.items()},
        config.data_dir,
        clock,
        cache_bytes=storage.cache_bytes,
        reserve_bytes=config.limits.reserve_bytes,
    )


def _check_federation(data: Path, store: SqlStore) -> None:
    with store.read() as uow:
        row = uow.federation.find()
    check_federation(data, None if row is None else row.id)


def _open_tombstones(config: CoordinatorConfig) -> TombstoneFile | None:
    path = config.tombstones.path
    if path is None:
        return None
    key = config.tombstones.key or config.data_dir / "tombstones.pem"
    return TombstoneFile(path, SigningKey.load_or_create(key))
