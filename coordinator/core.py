"""What every part of the coordinator is built on."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from coordinator.gauges import Gauges
from coordinator.metrics import Metrics
from coordinator.ports import Blobs, IdMaker, StagingArea, Store
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.keep_tombstones import KeepTombstones
from coordinator.services.key_ring import KeyRing
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.payloads_in_flight import PayloadsInFlight
from coordinator.services.presence import Presence
from coordinator.services.rounds import Rounds
from coordinator.services.sweep_leftovers import SweepOrphans
from coordinator.services.transfer_slots import TransferSlots
from coordinator.services.transparency import Transparency
from coordinator.services.verify_ledger import VerifyLedger
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock


@dataclass(frozen=True)
class Core:
    """Stores, the plan, the head and its derivatives; servicers and chores are built on them."""

    store: Store
    blobs: Blobs
    staging: StagingArea
    plan: Plan
    strategy: Strategy
    live: LiveModel
    files: ModelFiles
    derived: KeepDerived
    verify_ledger: VerifyLedger
    orphans: SweepOrphans
    presence: Presence
    rounds: Rounds
    slots: TransferSlots
    in_flight: PayloadsInFlight
    ring: KeyRing | None  # None without encryption at rest
    tombstones: KeepTombstones
    log: Transparency
    registry: CollectorRegistry
    metrics: Metrics
    gauges: Gauges
    clock: Clock
    new_id: IdMaker
