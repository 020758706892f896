"""Shared by the tests of erasures: the use cases of a coordinator that serves nobody."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders import LAYOUT, a_config, a_federation, a_vector, on_database

from coordinator.bootstrap import Coordinator, build
from coordinator.domain.erasure import Erasure, Verdict
from coordinator.domain.model import FederationRow
from coordinator.domain.site import Site
from coordinator.domain.task import TaskKind
from coordinator.domain.upload import DeltaPurpose, Header, Receipt
from coordinator.erasure_wiring import erasure_context
from coordinator.services.ask_sites import Question, ask_sites
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.gate_attempt import RunOfTheGate
from coordinator.services.live_model import Position
from coordinator.services.receive_upload import ReceiveUpload
from coordinator.services.record_attempt import record_attempt
from coordinator.services.register_site import RegisterSite
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.request_erasure import RequestErasure, request_erasure
from coordinator.services.verify_ledger import Verdict as LedgerVerdict
from coordinator.training_wiring import receive_upload
from letheon.federation.encoding import encode
from letheon.federation.ledger import Entry
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import MemoryErasureQueue


@dataclass
class Bench:
    """The use cases of a coordinator that serves nobody."""

    coordinator: Coordinator
    context: ErasureContext
    uploads: ReceiveUpload
    plan: Plan

    @property
    def position(self) -> Position:
        return self.context.live.position

    @property
    def head(self) -> Vector:
        return self.context.live.snapshot()[1]

    def register(self, *sites: str) -> None:
        register = RegisterSite(self.context.store, self.context.clock, self.plan.digest)
        for site in sites:
            register(site, display_name=site, record_count=100, plan_digest="")

    def push(self, site: str, delta: Vector, **more: Any) -> Receipt:
        """One delta from the present head, in one stream."""
        payload = encode(delta, self.plan.encoding)
        header = Header(
            update_id=more.get("update_id", str(uuid.uuid4())),
            size_bytes=len(payload),
            sha256=hashlib.sha256(payload).hexdigest(),
            offset=0,
            layout=tuple((t.name, t.shape, self.plan.encoding) for t in LAYOUT.tensors),
            purpose=DeltaPurpose(
                site=site,
                task=f"train-{self.position.epoch}-0-0",
                base_version=more.get("base_version", self.position.version),
                epoch=more.get("epoch", self.position.epoch),
                exclusion_counter=more.get("exclusion_counter", 0),
                record_count=100,
                train_loss=0.5,
            ),
        )
        chunks = more.get("chunks", lambda offset: iter([payload[offset:]]))
        receipt = self.uploads.receive(header, chunks)
        assert isinstance(receipt, Receipt)
        return receipt

    def train(self, *sites: str, seed: int = 0) -> None:
        """One delta of each."""
        for i, site in enumerate(sites, start=1):
            self.push(site, a_vector(seed + 7 * i))

    def request(self, site: str, request_id: str = "r1", **more: Any) -> Erasure:
        command = RequestErasure(request_id, site, **{"legal_basis": "GDPR-17-1-b", **more})
        return request_erasure(command, self.context)

    def removed(self, site: str, request_id: str = "r1", **more: Any) -> tuple[str, int]:
        """Requested, claimed and removed: the erasure and its token."""
        erasure = self.request(site, request_id, **more)
        _, claim = claim_erasure(erasure.id, "c1", self.context)
        remove_contribution(erasure.id, claim.token, self.context)
        return erasure.id, claim.token

    def run(self, version: int, verdict: Verdict = Verdict.PASS, number: int = 0) -> RunOfTheGate:
        return RunOfTheGate(number, version, verdict, [])

    def passes(self, erasure: str, token: int) -> dict[str, Any]:
        """Evaluates the head and lets it pass; the evidence."""
        version = self.position.version
        ask_sites(
            erasure,
            token,
            f"gate-{version}",
            Question(TaskKind.EVALUATE, (version,), {"versions": [version]}),
            self.context,
        )
        recorded = record_attempt(erasure, token, self.run(version), self.context)
        return json.loads(recorded.evidence_json)

    def erasure(self, erasure: str) -> Erasure:
        with self.context.store.read() as uow:
            return uow.erasures.get(erasure)

    def site(self, site: str) -> Site:
        with self.context.store.read() as uow:
            return uow.sites.get(site)

    def serving(self) -> FederationRow:
        with self.context.store.read() as uow:
            return uow.federation.get()

    def rows(self) -> list[Entry]:
        with self.context.store.read() as uow:
            return uow.entries.page(0, 1000)

    def ledger_holds(self) -> bool:
        *_, verdict = self.context.verify_ledger()
        return isinstance(verdict, LedgerVerdict) and verdict.holds

    def close(self) -> None:
        self.coordinator.close()


def a_bench(
    directory: Path,
    *,
    plan: Plan | None = None,
    clock: Clock | None = None,
    sites: Sequence[str] = ("north", "south", "west"),
    database_url: str | None = None,
) -> Bench:
    """Making it again on the same folder is a restart."""
    known = directory / "federation" / "plan.json"
    if known.exists():
        plan = Plan.from_canonical(known.read_bytes())
        sites = ()
    else:
        plan = a_federation(directory / "federation", plan)
    config = a_config(directory, **on_database(database_url))
    coordinator = build(config, clock=clock, queue=MemoryErasureQueue())
    core = coordinator.core
    uploads = receive_upload(core)
    bench = Bench(coordinator, erasure_context(core, config), uploads, plan)
    bench.register(*sites)
    return bench
