"""The coordinator of a simulated federation: a ledger, and a head that is its replay.

Every row is sealed by `letheon.federation.ledger` and takes effect through
`letheon.federation.replay.apply`, coefficients come from the plan's strategy: the rules are those
of the real coordinator, and `tests/conformance/test_simulation_conformance.py` holds both to the
same bits. What is missing is everything that makes it durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from letheon.errors import ContributionNotSubtractable, UnknownModelVersion
from letheon.federation.aggregation.strategy import Offer, Strategy
from letheon.federation.arithmetic import norm
from letheon.federation.encoding import decode, encode, needs_feedback
from letheon.federation.exchange import begins_epoch, check_cap
from letheon.federation.ledger import Entry, EntryKind, merges, seal
from letheon.federation.parameters import Layout, Vector, digest
from letheon.federation.plan import PlanDraft
from letheon.federation.replay import ReplayState, apply
from letheon.federation.validation import check_values

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)  # virtual second 0

#: Changes a delta before it is merged (the guard): (site, delta [d], version) -> delta [d].
Alter = Callable[[str, Vector, int], Vector]


class Fate(StrEnum):
    """What became of a delta."""

    MERGED = "merged"
    BUFFERED = "buffered"
    FENCED = "fenced"  # its site is the subject of an erasure
    SUPERSEDED = "superseded"  # its task predates the epoch


@dataclass(frozen=True)
class Rules:
    """What the coordinator goes by. `refuse_old_epochs` is off only in an ablation."""

    plan: PlanDraft
    layout: Layout
    strategy: Strategy
    refuse_old_epochs: bool = True


@dataclass
class Central:
    """Head, ledger and payloads; `copy` shares only what never changes."""

    rules: Rules
    state: ReplayState
    entries: list[Entry] = field(default_factory=list)
    payloads: dict[int, Vector] = field(default_factory=dict)  # by entry, as merged, read-only
    record_counts: dict[int, int] = field(default_factory=dict)  # of waiting deltas, by entry
    fenced: set[str] = field(default_factory=set)
    epoch_began: int = 0  # the version the learning rate counts from
    first_base: int = 0  # the version after the newest removal: the oldest base of the epoch
    accepted: int = 0  # deltas since the beginning
    received_bytes: int = 0  # of their payloads
    residuals: dict[str, Vector] = field(default_factory=dict)  # by site: what encodings took [d]
    accepted_before_epoch: int = 0

    @classmethod
    def begin(cls, rules: Rules, initial: Vector) -> Central:
        """Version 0: the initial weights [d] as the first row."""
        central = cls(rules, ReplayState.before_first(rules.layout.size))
        central._append(EntryKind.INITIAL, 0.0, payload=np.array(initial))
        return central

    @property
    def head(self) -> Vector:
        """The head [d]; not a copy."""
        return self.state.head

    @property
    def version(self) -> int:
        """The model version of the head."""
        return self.state.version

    @property
    def epoch(self) -> int:
        """The epoch that tasks begun now belong to."""
        return self.state.epoch

    def copy(self) -> Central:
        """A central that goes on by itself."""
        return Central(
            rules=self.rules,
            state=self.state.copy(),
            entries=list(self.entries),
            payloads=dict(self.payloads),
            record_counts=dict(self.record_counts),
            fenced=set(self.fenced),
            epoch_began=self.epoch_began,
            first_base=self.first_base,
            accepted=self.accepted,
            received_bytes=self.received_bytes,
            residuals=dict(self.residuals),
            accepted_before_epoch=self.accepted_before_epoch,
        )

    def learning_rate(self, *, synchronous: bool = False) -> float:
        """Of a task dispatched now. A round is one version, but falls by as many as its deltas."""
        versions = self.version - self.epoch_began
        if synchronous:
            versions = self.accepted - self.accepted_before_epoch
        return self.rules.plan.training.learning_rate_at(versions)

    def restart_rate(self) -> None:
        """The learning rate begins anew, as it does with an epoch."""
        self.epoch_began, self.accepted_before_epoch = self.version, self.accepted

    def contribution(self, site: str) -> Vector | None:
        """C_k [d], or None if the site added nothing."""
        return self.state.contributions.get(site)

    def accept(
        self,
        site: str,
        delta: Vector,
        *,
        base_version: int,
        epoch: int,
        records: int,
        now: float,
        alter: Alter | None = None,
        hold: bool = False,
        task: dict[str, Any] | None = None,
    ) -> Fate:
        """Takes a delta [d] or refuses it; merges what the strategy says is ready.

        `task` says how it was trained, for the row. `hold` keeps it waiting whatever the strategy
        says: a synchronous round does. Raises UnknownModelVersion for a base that is none of the
        epoch, MalformedUpdate for values that the coordinator refuses.
        """
        if site in self.fenced:
            return Fate.FENCED
        if self.rules.refuse_old_epochs:
            if epoch != self.epoch:
                return Fate.SUPERSEDED
            self._check_base(base_version)
        plan = self.rules.plan
        payload = self._travelled(site, delta)
        length = check_values(payload, self.rules.layout, plan.max_delta_norm)
        if alter is not None:
            payload = alter(site, payload, self.version)
        staleness = self.version - base_version
        self.accepted += 1
        if self.rules.strategy.buffers or hold:
            self.record_counts[self.state.entry + 1] = records
            self._append(
                EntryKind.BUFFERED,
                now,
                site=site,
                payload=payload,
                base_version=base_version,
                staleness=staleness,
                details=task,
            )
            waiting = self._offers(self._waiting())
            if not hold and self.rules.strategy.ready(waiting):
                self.flush(now)
            return Fate.BUFFERED
        offer = Offer(site, staleness, records, length)
        (coefficient,) = self.rules.strategy.coefficients([offer])
        self._append(
            EntryKind.DELTA,
            now,
            site=site,
            payload=payload,
            coefficient=coefficient,
            base_version=base_version,
            staleness=staleness,
            details=task,
        )
        return Fate.MERGED

    def _travelled(self, site: str, delta: Vector) -> Vector:
        """The delta [d] as it arrives: as encoded by the site, with what the one before lost."""
        plan = self.rules.plan
        if needs_feedback(plan.encoding):
            delta = delta + self.residuals.get(site, np.float32(0.0))
        encoded = encode(delta, plan.encoding, top_share=plan.top_share)
        self.received_bytes += len(encoded)
        payload = decode(encoded, plan.encoding, len(delta))
        if needs_feedback(plan.encoding):
            self.residuals[site] = delta - payload
        return payload

    def flush(self, now: float, coefficients: Sequence[float] | None = None) -> None:
        """Merges every waiting delta, with the strategy's coefficients unless some are given."""
        waiting = self._waiting()
        given = coefficients or self.rules.strategy.coefficients(self._offers(waiting))
        pairs = zip((row.entry for row in waiting), given, strict=True)
        self._append(EntryKind.FLUSH, now, details={"merged": merges(pairs)})

    def fence(self, site: str, now: float) -> None:
        """From here on nothing of the site is taken, and what waits of it is voided at once."""
        self.fenced.add(site)
        self.void(site, now)

    def void(self, site: str, now: float) -> None:
        """What waits of the site is never merged."""
        own = [row.entry for row in self._waiting() if row.site == site]
        if own:
            self._append(EntryKind.VOID, now, site=site, details={"entries": own})

    def remove(self, site: str, now: float, *, subtract: bool) -> None:
        """The removal: flushes the waiting deltas of the others, begins an epoch.

        The site is fenced first if it is not yet. Raises ContributionNotSubtractable for a
        strategy that is not linear.
        """
        strategy = self.rules.strategy
        if subtract and not strategy.linear:
            raise ContributionNotSubtractable(
                f"the strategy is not linear: what sites/{site} added is no sum to be subtracted"
            )
        self.fence(site, now)
        others = self._waiting()
        coefficients = strategy.coefficients(self._offers(others)) if others else ()
        pairs = zip((row.entry for row in others), coefficients, strict=True)
        total = self.contribution(site)
        sha256 = digest(total) if total is not None and subtract else None
        details = {
            "subtracted": subtract,
            "contribution_sha256": sha256,
            "flushed": merges(pairs),
            "version_before": self.version,
        }
        self._append(EntryKind.REMOVAL, now, site=site, details=details)
        self.first_base = self.version
        self.residuals.clear()  # made on models that the subject had moved
        self.restart_rate()

    def patch(
        self,
        patch: Vector,
        now: float,
        *,
        site: str | None = None,
        kind: EntryKind = EntryKind.PATCH,
    ) -> None:
        """Adds a patch [d] to the head."""
        self._append(kind, now, site=site, payload=np.array(patch), coefficient=1.0)

    def exchange(self, patch: Vector, now: float, *, site: str) -> None:
        """Adds the patch [d] of an exchange as the site's own, and begins an epoch if it is large.

        Nothing is subtracted or flushed then: what waits was accepted and stays. Raises
        MalformedUpdate for a patch that is longer than the plan allows.
        """
        total, limits = self.contribution(site), self.rules.plan.erasure
        length, whole = norm(patch), 0.0 if total is None else norm(total)
        check_cap(length, contribution_norm=whole, ratio=limits.patch_cap_ratio)
        if begins_epoch(length, contribution_norm=whole, share=limits.epoch_share):
            details: dict[str, Any] = {
                "subtracted": False,
                "contribution_sha256": None,
                "flushed": [],
                "version_before": self.version,
            }
            self._append(EntryKind.REMOVAL, now, site=site, details=details)
            self.first_base = self.version
            self.restart_rate()
        self.patch(patch, now, site=site)

    def _check_base(self, version: int) -> None:
        if not self.first_base <= version <= self.version:
            raise UnknownModelVersion(
                f"base {version} is not one of epoch {self.epoch} "
                f"({self.first_base} to {self.version})",
                version=version,
            )

    def _waiting(self) -> list[Entry]:
        return [self.state.buffered[number] for number in sorted(self.state.buffered)]

    def _offers(self, rows: Sequence[Entry]) -> list[Offer]:
        return [
            Offer(
                row.site or "",
                row.staleness or 0,
                self.record_counts[row.entry],
                norm(self.payloads[row.entry]),
            )
            for row in rows
        ]

    def _append(
        self,
        kind: EntryKind,
        now: float,
        *,
        site: str | None = None,
        payload: Vector | None = None,
        coefficient: float | None = None,
        base_version: int | None = None,
        staleness: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Seals the row that follows, keeps its payload, and applies it."""
        changes = _changes(kind, details or {})
        row = seal(
            self.entries[-1] if self.entries else None,
            kind=kind,
            version=self.version + changes,
            epoch=self.epoch + (kind is EntryKind.REMOVAL),
            at=_BEGAN + timedelta(seconds=now),
            site=site,
            update_id=None if payload is None or site is None else f"u{len(self.entries)}",
            base_version=base_version,
            staleness=staleness,
            coefficient=coefficient,
            payload_sha256=None if payload is None else _sha256(payload),
            payload_bytes=None if payload is None else payload.nbytes,
            encoding=None if payload is None else "float32",
            details=details,
        )
        if payload is not None:
            payload.flags.writeable = False
            self.payloads[row.entry] = payload
        apply(self.state, row, lambda entry: self.payloads[entry.entry])
        self.entries.append(row)


def _changes(kind: EntryKind, details: dict[str, Any]) -> bool:
    """Whether a row of this kind will raise the version."""
    match kind:
        case EntryKind.FLUSH:
            return bool(details["merged"])
        case EntryKind.REMOVAL:
            return bool(details["subtracted"]) or bool(details["flushed"])
        case EntryKind.BUFFERED | EntryKind.VOID:
            return False
        case _:
            return True


def _sha256(payload: Vector) -> str:
    return hashlib.sha256(np.ascontiguousarray(payload, dtype="<f4").data).hexdigest()
