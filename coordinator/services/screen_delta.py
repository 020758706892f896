"""Screens deltas against what was accepted of late; what is remembered can be read anew."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field

from coordinator.ports import Blobs, Store
from coordinator.services.replay_start import payload_reader
from letheon.errors import PayloadCorrupt
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import Vector
from letheon.federation.plan import Screening
from letheon.federation.screening import Finding, Rules, Seen, Sketch, judge, sketch

_log = logging.getLogger(__name__)
_LOOK_BACK = 4  # rows looked through for each delta that is to be found


@dataclass(frozen=True)
class Screened:
    """A finding, and what to remember if the delta is accepted all the same."""

    finding: Finding
    sketch: Sketch | None


@dataclass
class ScreenDelta:
    """Of the plan's `[screening]`. Any thread may call.

    The memory is of one epoch: an erasure begins a new one, and what was remembered of its subject
    is dropped with everything else and read anew from the payloads that are left.
    """

    settings: Screening
    store: Store
    blobs: Blobs
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _epoch: int | None = None
    _recent: deque[Seen] = field(default_factory=deque, repr=False)

    @property
    def is_on(self) -> bool:
        """Whether deltas are looked at."""
        return self.settings.mode != "off"

    @property
    def holds_back(self) -> bool:
        """Whether an outlier is set aside."""
        return self.settings.mode == "quarantine"

    def look(self, site: str, payload: Vector, norm: float, *, epoch: int) -> Screened:
        """What the two looks say of a delta [d] of that L2 norm."""
        if not self.is_on:
            return Screened(Finding(), None)
        own = sketch(payload)
        with self._lock:
            self._turn_to(epoch)
            recent = list(self._recent)
        finding = judge(site, norm, own, recent, self._rules)
        if finding.reason:
            fields = {"site": site, "why": finding.reason, "held_back": self.holds_back}
            _log.warning("delta_is_an_outlier", extra=fields)
        return Screened(finding, own)

    def accepted(self, site: str, norm: float, screened: Screened, *, epoch: int) -> None:
        """Remembers a delta, unless it is an outlier: those move no bound."""
        if screened.sketch is None or screened.finding.reason:
            return
        with self._lock:
            self._turn_to(epoch)
            self._recent.append(Seen(site, norm, screened.sketch))

    @property
    def _rules(self) -> Rules:
        told = self.settings
        return Rules(
            history=told.history,
            norm_ratio=told.norm_ratio,
            cosine_floor=told.cosine_floor,
            deviations=told.deviations,
        )

    def _turn_to(self, epoch: int) -> None:
        if self._epoch != epoch:
            self._recent = deque(self._read(epoch), maxlen=self.settings.history)
            self._epoch = epoch

    def _read(self, epoch: int) -> list[Seen]:
        """The newest deltas of the epoch, oldest first; after a restart and after an erasure."""
        read, found = payload_reader(self.blobs), list[Seen]()
        with self.store.read() as uow:
            newest = uow.entries.newest()
            last = -1 if newest is None else newest.entry
            first = max(0, last + 1 - _LOOK_BACK * self.settings.history)
            rows = uow.entries.page(first, last + 1 - first) if last >= first else []
        kinds = (EntryKind.DELTA, EntryKind.BUFFERED)
        rows = [row for row in rows if row.kind in kinds and row.epoch == epoch and row.site]
        for row in rows[-self.settings.history :]:
            try:
                payload = read(row)
            except PayloadCorrupt:
                continue  # compacted, or destroyed since
            found.append(Seen(str(row.site), float(row.details.get("norm", 0)), sketch(payload)))
        return found
