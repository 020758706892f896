"""The core of a coordinator: stores, plan and head, recovered from the ledger.

With `coordinator.bootstrap` the only file naming concrete adapters.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
from prometheus_client import CollectorRegistry

from coordinator.adapters import blob_places
from coordinator.adapters.blob_places import BlobPlace, configured_place, local_place
from coordinator.adapters.data_dir import check_federation
from coordinator.adapters.disk_staging import DiskStagingArea
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.sealed_staging import SealedStagingArea
from coordinator.adapters.sql import SqlStore
from coordinator.adapters.tombstone_file import TombstoneFile
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.config import CoordinatorConfig, Limits
from coordinator.core import Core
from coordinator.gauges import Gauges, observe_slots
from coordinator.metrics import Metrics
from coordinator.services.check_integrity import check_integrity
from coordinator.services.check_store import check_store_belongs, mark_store
from coordinator.services.import_plan import import_plan
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.keep_tombstones import KeepTombstones
from coordinator.services.key_ring import KeyRing
from coordinator.services.ledger_mark import LedgerMark
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.payloads_in_flight import PayloadsInFlight
from coordinator.services.presence import Presence
from coordinator.services.receive_upload import FINAL
from coordinator.services.rounds import Rounds
from coordinator.services.sweep_leftovers import SweepOrphans
from coordinator.services.transfer_slots import TransferSlots
from coordinator.services.transparency import Transparency, origin_of
from coordinator.services.unfolded_terms import UnfoldedTerms
from coordinator.services.verify_ledger import VerifyLedger
from letheon.errors import StorageUnavailable
from letheon.proof.key_files import load_signer
from letheon.proof.key_list import COORDINATOR
from letheon.servicekit.clock import Clock
from letheon.servicekit.process_metrics import observe_process
from letheon.servicekit.signing import SigningKey

_log = logging.getLogger(__name__)
# The server ends a writer that is silent for half a lease, so that it is free when the lease is
# over; a pause of less than this is nobody's fault.
_LEAST_SILENCE_S = 1.0


def new_id() -> str:
    """A fresh identifier that may stand in a resource name."""
    return uuid.uuid4().hex


class Metered(NamedTuple):
    """Where metrics are registered, and what counts there."""

    registry: CollectorRegistry
    metrics: Metrics


def meter(config: CoordinatorConfig, clock: Clock) -> Metered:
    """The registry of a process, which exists before the process may write."""
    registry = CollectorRegistry()
    observe_process(registry, "coordinator", config.data_dir)
    return Metered(registry, Metrics(registry, clock))


def open_store(config: CoordinatorConfig) -> SqlStore:
    """The database, migrated. Raises BadConfig, DatabaseCorrupt or StorageUnavailable."""
    database = config.database
    return SqlStore(
        config.database_url,
        pool_size=database.pool_size,
        pool_timeout_s=database.pool_timeout_seconds,
        silence_s=max(_LEAST_SILENCE_S, database.lease_seconds / 2),
    )


def build_core(
    config: CoordinatorConfig, store: SqlStore, clock: Clock, metered: Metered | None = None
) -> Core:
    """Stores, plan and head, recovered from the ledger; `metered` as of `meter`, else its own."""
    registry, metrics = metered or meter(config, clock)
    data, limits, upkeep = config.data_dir, config.limits, config.upkeep
    _check_federation(data, store)
    ring = open_ring(config)
    place = open_place(config, clock, ring)
    blobs = place.blobs
    staging = _open_staging(config, place, ring)
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
    place.tidy()
    live = LiveModel(store, blobs, metrics, clock, size=size)
    presence, strategy = Presence(), plan.build_strategy()
    slots = _slots(limits)
    observe_slots(registry, slots)
    derived = KeepDerived(
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
    )
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
        derived=derived,
        verify_ledger=VerifyLedger(store, blobs, live, size=size, ended=metrics.verified),
        orphans=orphans,
        presence=presence,
        rounds=Rounds(strategy, presence, clock, patience),
        slots=slots,
        tombstones=KeepTombstones(_open_tombstones(config), store, clock),
        log=_open_log(config, store, clock),
        in_flight=in_flight,
        ring=ring,
        registry=registry,
        metrics=metrics,
        gauges=Gauges(registry, store, blobs, live, derived, presence, clock, metrics.known),
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


def open_ring(config: CoordinatorConfig) -> KeyRing | None:
    """The keys of encryption at rest; None without. Raises BadConfig."""
    directory = config.encryption.key_dir
    if directory is None:
        return None
    return KeyRing(FileWrappingKeys(directory), SqliteKeyRecords(directory))


def check_keys_at_hand(config: CoordinatorConfig) -> None:
    """That a coordinator which may stand by for long will have the keys. Raises BadConfig."""
    directory, storage = config.encryption.key_dir, config.storage
    if directory is None:
        return
    options = {name: value.get_secret_value() for name, value in storage.options.items()}
    try:
        blob_places.check_keys_at_hand(storage.url, options, config.data_dir, directory)
    except StorageUnavailable as error:  # it is asked again by the one that leads
        _log.warning("key_store_not_checked", extra={"why": error.message})


def open_place(config: CoordinatorConfig, clock: Clock, ring: KeyRing | None) -> BlobPlace:
    """Where the blobs are. Raises BadConfig or StorageUnavailable."""
    storage = config.storage
    if storage.url is None:
        return local_place(config.data_dir, clock, ring)
    return configured_place(
        storage.url,
        {name: value.get_secret_value() for name, value in storage.options.items()},
        config.data_dir,
        clock,
        cache_bytes=storage.cache_bytes,
        reserve_bytes=config.limits.reserve_bytes,
        ring=ring,
    )


def _open_staging(
    config: CoordinatorConfig, place: BlobPlace, ring: KeyRing | None
) -> DiskStagingArea:
    plain, sealed = config.data_dir / "uploads", config.data_dir / "sealed-uploads"
    reserve_bytes = config.limits.reserve_bytes
    # What the other kind left is of no use to this one: those uploads begin anew.
    if ring is None or place.sealed is None:
        shutil.rmtree(sealed, ignore_errors=True)
        return DiskStagingArea(
            plain, place.blobs.payloads, reserve_bytes=reserve_bytes, free_up=place.free_up
        )
    shutil.rmtree(plain, ignore_errors=True)
    return SealedStagingArea(
        sealed, place.sealed, ring, reserve_bytes=reserve_bytes, free_up=place.free_up
    )


def _check_federation(data: Path, store: SqlStore) -> None:
    with store.read() as uow:
        row = uow.federation.find()
    check_federation(data, None if row is None else row.id)


def _open_log(config: CoordinatorConfig, store: SqlStore, clock: Clock) -> Transparency:
    """The log of the federation that the plan was imported for."""
    with store.read() as uow:
        federation = uow.federation.get().id
    signer = load_signer(config.signing_key, COORDINATOR, clock.now())
    return Transparency(store, signer, origin_of(federation), clock)


def _open_tombstones(config: CoordinatorConfig) -> TombstoneFile | None:
    path = config.tombstones.path
    if path is None:
        return None
    key = config.tombstones.key or config.data_dir / "tombstones.pem"
    return TombstoneFile(path, SigningKey.load_or_create(key))
