"""The head in memory: derived from the ledger, changed by one writer at a time.

    with live.exclusive() as head, store.write() as uow:
        entry = follow(head.newest, EntryKind.DELTA, ...)
        uow.entries.add(entry)
        head.commit(uow, [entry], lambda _: delta)

The lock of the head is taken before the database's writer lock, never inside it. A commit whose
outcome is unknown, or a merge that fails after it, leaves the head `behind`: the next writer
first recovers it from the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from coordinator.ports import Blobs, Meter, Store, UnitOfWork
from coordinator.services.replay_start import (
    add_contributions,
    entries_after,
    payload_reader,
    state_at,
)
from letheon.errors import PayloadCorrupt
from letheon.federation.ledger import Entry, EntryKind, read_merges
from letheon.federation.parameters import Vector
from letheon.federation.replay import (
    ReadPayload,
    ReplayState,
    apply,
    merge_delta,
    remove_contribution,
    removed_sites,
)
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where the head stands."""

    entry: int
    version: int
    epoch: int
    epoch_first_version: int  # the oldest base that may still be named
    ledger_hash: str


def _position(newest: Entry, epoch_first_version: int) -> Position:
    return Position(
        entry=newest.entry,
        version=newest.version,
        epoch=newest.epoch,
        epoch_first_version=epoch_first_version,
        ledger_hash=newest.hash,
    )


class Head:
    """The weights and the newest row; only inside `LiveModel.exclusive`."""

    def __init__(
        self,
        weights: Vector,
        newest: Entry,
        *,
        epoch_first_version: int,
        read_payload: ReadPayload,
        meter: Meter,
    ) -> None:
        self.weights = weights
        self.newest = newest
        self.is_behind = False
        self.read_payload = read_payload
        self._meter = meter
        # One object, so that who reads without the lock never sees two halves.
        self.position = _position(newest, epoch_first_version)

    def commit(
        self,
        uow: UnitOfWork,
        entries: Sequence[Entry],
        payloads: dict[int, Vector] | None = None,
        *,
        contribution: Vector | None = None,
    ) -> None:
        """Commits the transaction that added `entries`, then takes the weights over them.

        `payloads` are decoded payloads at hand, by entry; others are read. `contribution` is
        what a removal among the entries subtracts. Buffered rows a flush names may be older.
        """
        # Rows a flush merges are read before the commit: after it, nothing may fail for long.
        merged = {n: uow.entries.get(n) for e in entries for n, _ in read_merges(e)}
        self.is_behind = True
        with self._meter.stage("persist"):
            reach("accept.committing")
            uow.commit()
            reach("accept.committed")
        with self._meter.stage("merge"):
            for entry in entries:
                self._take(entry, payloads or {}, merged, contribution)
        self.is_behind = False

    def _take(
        self,
        entry: Entry,
        payloads: dict[int, Vector],
        merged: dict[int, Entry],
        contribution: Vector | None,
    ) -> None:
        def payload(row: Entry) -> Vector:
            at_hand = payloads.get(row.entry)
            return self.read_payload(row) if at_hand is None else at_hand

        match entry.kind:
            case EntryKind.DELTA | EntryKind.PATCH | EntryKind.CALIBRATION:
                merge_delta(self.weights, entry.coefficient or 0.0, payload(entry))
            case EntryKind.FLUSH | EntryKind.REMOVAL:
                for number, coefficient in read_merges(entry):
                    merge_delta(self.weights, coefficient, payload(merged[number]))
                if entry.details.get("subtracted"):
                    remove_contribution(self.weights, contribution)
            case _:
                pass
        begins_epoch = entry.kind is EntryKind.REMOVAL
        first = entry.version if begins_epoch else self.position.epoch_first_version
        self.newest, self.position = entry, _position(entry, first)


class LiveModel:
    """Owner of the one head of this process."""

    def __init__(
        self, store: Store, blobs: Blobs, meter: Meter, clock: Clock, *, size: int
    ) -> None:
        self._store, self._blobs, self._meter, self._clock = store, blobs, meter, clock
        self._size = size
        self._lock = threading.RLock()
        self._read_payload = payload_reader(blobs)
        self._head = self._recovered()

    @property
    def position(self) -> Position:
        """Where the head stood at the last commit. Does not wait for a writer."""
        return self._head.position

    @contextmanager
    def exclusive(self) -> Iterator[Head]:
        """The head, for the one writer."""
        with self._lock:
            if self._head.is_behind:
                self._head = self._recovered()
            yield self._head

    def snapshot(self) -> tuple[Position, Vector]:
        """A copy [d] of the head and where it stands."""
        with self.exclusive() as head:
            return head.position, np.array(head.weights)

    def _recovered(self) -> Head:
        """The newest complete checkpoint, and the rows after it applied."""
        started = self._clock.monotonic()
        state = self._start()
        first = state.entry
        state.tracked = removed_sites(entries_after(self._store, first))
        add_contributions(self._store, self._blobs, state)
        for entry in entries_after(self._store, first):
            apply(state, entry, self._read_payload)
        with self._store.read() as uow:
            newest = uow.entries.get(state.entry)
            removal = uow.entries.newest(EntryKind.REMOVAL)
        head = Head(
            state.head,
            newest,
            epoch_first_version=0 if removal is None else removal.version,
            read_payload=self._read_payload,
            meter=self._meter,
        )
        _log.info(
            "head_recovered",
            extra={
                "from_entry": first,
                "entry": newest.entry,
                "version": newest.version,
                "seconds": self._clock.monotonic() - started,
            },
        )
        return head

    def _start(self) -> ReplayState:
        with self._store.read() as uow:
            checkpoints = uow.checkpoints.all()
        for checkpoint in checkpoints:
            try:
                return state_at(self._store, self._blobs, checkpoint)
            except PayloadCorrupt as error:
                _log.warning(
                    "checkpoint_unusable", extra={"entry": checkpoint.entry, **error.facts}
                )
        return ReplayState.before_first(self._size)
