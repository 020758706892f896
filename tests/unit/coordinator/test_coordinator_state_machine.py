"""The coordinator against a model of a few lines: whatever the order, nothing is lost or doubled.

hypothesis drives the real use cases on a real database and real files, restarts included; the
model holds what a reader of DESIGN would expect and does the arithmetic of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_bench import Bench, a_bench
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from retention_builders import retain

from coordinator.domain.erasure import ErasureState
from coordinator.domain.upload import Outcome, Receipt
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.conclude_erasure import Failed, conclude_erasure
from coordinator.services.rebuild_model import Rebuild, RebuildModel, Rebuilt
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.rounds import CloseRound
from letheon.errors import (
    ErasureAlreadyRequested,
    ErasureNotCancellable,
    ExportSuspended,
    ModelDestroyed,
    SiteFenced,
    StaleEpoch,
    UnknownModelVersion,
    UpdateAltered,
    VersionCompacted,
)
from letheon.federation.ledger import EntryKind, read_merges

SITES = ("north", "south", "west", "east")
SITE = st.sampled_from(SITES)
SEED = st.integers(0, 30)
OPEN = {ErasureState.RECEIVED, ErasureState.CLAIMED, ErasureState.ERASING, ErasureState.VERIFYING}


@dataclass
class Model:
    """What should be so."""

    head: np.ndarray[Any, Any]
    version: int = 0
    epoch: int = 0
    epoch_first_version: int = 0
    contributions: dict[str, Any] = field(default_factory=dict)
    fenced: dict[str, str] = field(default_factory=dict)  # site -> erasure
    removed: set[str] = field(default_factory=set)  # erasures
    state: dict[str, ErasureState] = field(default_factory=dict)
    site_of: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, tuple[str, int, Receipt]] = field(default_factory=dict)
    buffered: list[tuple[str, int, int]] = field(default_factory=list)  # site, entry, seed
    heads: dict[int, Any] = field(default_factory=dict)  # by version, as seen after a step


class CoordinatorMachine(RuleBasedStateMachine):
    """FedAsync; the buffered strategy below."""

    plan_overrides: dict[str, Any] = {}  # noqa: RUF012 (a constant of the class)

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="letheon-machine-"))
        self.bench: Bench = a_bench(self.folder, plan=a_plan(**self.plan_overrides), sites=SITES)
        self.model = Model(head=self.bench.head)
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.close()
            shutil.rmtree(self.folder)

    # what sites do

    @rule(site=SITE, seed=SEED, behind=st.integers(0, 3))
    def push(self, site: str, seed: int, behind: int) -> None:
        m = self.model
        self.count += 1
        update_id = f"update-{self.count}"
        base = max(m.epoch_first_version, m.version - behind)
        send = {"base_version": base, "update_id": update_id}
        if site in m.fenced:
            with pytest.raises(SiteFenced):
                self.bench.push(site, a_vector(seed), **send)
            return
        before = self.bench.rows()[-1].entry
        receipt = self.bench.push(site, a_vector(seed), **send)
        assert receipt.staleness == m.version - base
        m.receipts[update_id] = (site, seed, receipt)
        if receipt.outcome is Outcome.MERGED:
            self._merge(site, receipt.coefficient, seed)
            m.version += 1
            assert receipt.version == m.version
        else:
            m.buffered.append((site, receipt.entry, seed))
            self._take_flush(after=before)

    @rule(site=SITE, seed=SEED)
    @precondition(lambda self: self.model.epoch > 0)
    def push_from_before_the_epoch(self, site: str, seed: int) -> None:
        send = {"epoch": self.model.epoch - 1, "base_version": 0}
        with pytest.raises((StaleEpoch, SiteFenced)):
            self.bench.push(site, a_vector(seed), **send)

    @rule(site=SITE, seed=SEED)
    def push_from_a_version_that_is_not(self, site: str, seed: int) -> None:
        with pytest.raises((UnknownModelVersion, SiteFenced)):
            self.bench.push(site, a_vector(seed), base_version=self.model.version + 1)

    @rule(data=st.data())
    @precondition(lambda self: self.model.receipts)
    def resend(self, data: st.DataObject) -> None:
        update_id = data.draw(st.sampled_from(list(self.model.receipts)))
        site, seed, receipt = self.model.receipts[update_id]
        assert self.bench.push(site, a_vector(seed), update_id=update_id) == receipt
        with pytest.raises(UpdateAltered):
            self.bench.push(site, a_vector(seed + 100), update_id=update_id)

    # what an erasure does

    @rule(site=SITE)
    def request(self, site: str) -> None:
        m = self.model
        self.count += 1
        if site in m.fenced and m.state[m.fenced[site]] in OPEN | {ErasureState.CERTIFIED}:
            with pytest.raises(ErasureAlreadyRequested):
                self.bench.request(site, f"request-{self.count}")
            return
        erasure = self.bench.request(site, f"request-{self.count}")
        assert self.bench.request(site, f"request-{self.count}") == erasure
        m.fenced[site] = erasure.id
        m.site_of[erasure.id] = site
        m.state[erasure.id] = ErasureState.RECEIVED
        m.buffered = [each for each in m.buffered if each[0] != site]

    @rule(data=st.data())
    @precondition(lambda self: self._open())
    def claim_and_remove(self, data: st.DataObject) -> None:
        m = self.model
        erasure = data.draw(st.sampled_from(self._open()))
        _, claim = claim_erasure(erasure, "calibrator", self.bench.context)
        m.tokens[erasure] = claim.token
        before = self.bench.rows()[-1].entry
        removal = remove_contribution(erasure, claim.token, self.bench.context)
        assert remove_contribution(erasure, claim.token, self.bench.context) == removal
        if erasure in m.removed:
            return
        m.removed.add(erasure)
        m.state[erasure] = ErasureState.ERASING
        site = m.site_of[erasure]
        self._take_flush(after=before)
        contribution = m.contributions.pop(site, None)
        if contribution is not None:
            m.head = m.head - contribution
        m.epoch += 1
        m.version = removal.version_after
        m.epoch_first_version = removal.version_after

    @rule(data=st.data())
    @precondition(lambda self: self._open())
    def cancel(self, data: st.DataObject) -> None:
        m = self.model
        erasure = data.draw(st.sampled_from(self._open()))
        if erasure in m.removed:
            with pytest.raises(ErasureNotCancellable):
                cancel_erasure(erasure, self.bench.context)
            return
        cancel_erasure(erasure, self.bench.context)
        m.state[erasure] = ErasureState.CANCELLED
        site = m.site_of[erasure]
        earlier = [
            e
            for e, state in m.state.items()
            if m.site_of[e] == site and state is ErasureState.FAILED
        ]
        if earlier:
            m.fenced[site] = earlier[-1]
        else:
            del m.fenced[site]

    @rule(data=st.data())
    @precondition(lambda self: self._in_hand())
    def fail(self, data: st.DataObject) -> None:
        erasure = data.draw(st.sampled_from(self._in_hand()))
        end = Failed("the gate did not pass")
        conclude_erasure(erasure, self.model.tokens[erasure], end, self.bench.context)
        self.model.state[erasure] = ErasureState.FAILED

    @rule(data=st.data())
    @precondition(lambda self: self._may_pass())
    def passes(self, data: st.DataObject) -> None:
        erasure = data.draw(st.sampled_from(self._in_hand()))
        site = self.model.site_of[erasure]
        own = {
            row.payload_sha256
            for row in self.bench.rows()
            if row.site == site and row.payload_sha256
        }
        others = {row.payload_sha256 for row in self.bench.rows() if row.site != site}
        evidence = self.bench.passes(erasure, self.model.tokens[erasure])
        assert evidence["replay_equals_head"]
        assert not (own - others) & set(self.bench.context.blobs.payloads.all())
        self.model.state[erasure] = ErasureState.VERIFYING
        self.model.removed.add(erasure)
        end = Failed("the certificate is left out of this machine")
        conclude_erasure(erasure, self.model.tokens[erasure], end, self.bench.context)
        self.model.state[erasure] = ErasureState.FAILED

    # what the process does

    @rule()
    def restart(self) -> None:
        self.bench.close()
        self.bench = a_bench(self.folder)

    @rule()
    def checkpoint(self) -> None:
        self.bench.context.keep.checkpoint()

    @rule(site=SITE)
    def fold(self, site: str) -> None:
        self.bench.context.keep.fold(site)

    @rule()
    def retain(self) -> None:
        retain(self.bench.coordinator.core)

    @rule(data=st.data())
    def rebuild(self, data: st.DataObject) -> None:
        """An earlier version comes back bit for bit, or with the reason why it cannot."""
        version = data.draw(st.integers(0, self.model.version))
        core = self.bench.coordinator.core
        use_case = RebuildModel(
            core.store, core.blobs, core.live, core.clock, size=core.plan.parameters.size
        )
        self.count += 1
        asked = Rebuild(f"rebuild-{self.count}", version, frozenset(), "auditor", "")
        try:
            *_, made = use_case(asked)
        except (ExportSuspended, ModelDestroyed, VersionCompacted):
            return
        assert isinstance(made, Rebuilt)
        if version in self.model.heads:
            assert np.array_equal(made.weights, self.model.heads[version])

    @rule()
    def verify(self) -> None:
        assert self.bench.ledger_holds()

    @invariant()
    def the_head_is_what_was_accepted(self) -> None:
        if not hasattr(self, "model"):
            return
        m, position = self.model, self.bench.position
        assert (position.version, position.epoch) == (m.version, m.epoch)
        assert np.array_equal(self.bench.head, m.head)
        m.heads[m.version] = m.head.copy()

    @invariant()
    def every_update_is_in_the_ledger_once(self) -> None:
        if not hasattr(self, "model"):
            return
        ids = [row.update_id for row in self.bench.rows() if row.update_id]
        assert sorted(ids) == sorted(self.model.receipts)

    # the model's own arithmetic

    def _merge(self, site: str, coefficient: float, seed: int) -> None:
        m = self.model
        term = np.float32(coefficient) * a_vector(seed)
        m.head = m.head + term
        total = m.contributions.get(site)
        zero = np.zeros_like(term)
        m.contributions[site] = (zero if total is None else total) + term

    def _take_flush(self, *, after: int) -> None:
        """Merges what the new rows say was flushed; each buffered delta exactly once."""
        m = self.model
        for row in self.bench.rows():
            if row.entry <= after or row.kind not in (EntryKind.FLUSH, EntryKind.REMOVAL):
                continue
            merged = read_merges(row)
            waiting = {entry: (site, seed) for site, entry, seed in m.buffered}
            for entry, coefficient in merged:
                site, seed = waiting.pop(entry)
                self._merge(site, coefficient, seed)
            m.buffered = [each for each in m.buffered if each[1] in waiting]
            if row.kind is EntryKind.FLUSH:
                m.version += 1

    def _open(self) -> list[str]:
        return [e for e, state in self.model.state.items() if state in OPEN]  # ids are random

    def _in_hand(self) -> list[str]:
        return [erasure for erasure in self._open() if erasure in self.model.removed]

    def _may_pass(self) -> bool:
        """A version is promoted only when every removal that is due has happened."""
        return bool(self._in_hand()) and self._in_hand() == self._open()


class BufferedMachine(CoordinatorMachine):
    """FedBuff: deltas wait in a buffer of three, are flushed together, or voided by a fence."""

    plan_overrides = {  # noqa: RUF012
        "strategy": {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}
    }


class SynchronousMachine(CoordinatorMachine):
    """FedAvg: a round waits for every site that is not fenced."""

    plan_overrides = {"strategy": {"plugin": "fedavg"}}  # noqa: RUF012

    @rule()
    def close_round(self) -> None:
        core, m = self.bench.coordinator.core, self.model
        before = self.bench.rows()[-1].entry
        CloseRound(core.rounds, core.store, core.live)()
        self._take_flush(after=before)
        waited_for = set(SITES) - set(m.fenced)
        assert not m.buffered or waited_for - {site for site, _, _ in m.buffered}


FEW = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestCoordinatorMachine = CoordinatorMachine.TestCase
TestCoordinatorMachine.settings = FEW
TestBufferedMachine = BufferedMachine.TestCase
TestBufferedMachine.settings = FEW
TestSynchronousMachine = SynchronousMachine.TestCase
TestSynchronousMachine.settings = FEW
