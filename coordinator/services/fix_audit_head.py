"""Puts the newest row of the audit log into the transparency log now and then.

Every certificate does so too; between them this bounds how much of the audit log could be
rewritten without that a checkpoint somebody holds gives it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from coordinator.domain.evidence import LeafKind
from coordinator.ports import Store
from coordinator.services.transparency import Transparency
from letheon.servicekit.clock import Clock


@dataclass(frozen=True)
class FixAuditHead:
    """The chore; writes nothing until `every` has passed and rows came since."""

    store: Store
    log: Transparency
    clock: Clock
    every: timedelta

    def __call__(self) -> None:
        """Adds one leaf if it is due."""
        now = self.clock.now()
        with self.store.read() as uow:
            fixed, newest = uow.log.newest(LeafKind.AUDIT_HEAD), uow.audit.newest()
        if newest is None or (fixed is not None and now - fixed.at < self.every):
            return
        with self.store.write() as uow:
            before = uow.log.size()
            self.log.add_audit_head(uow)
            if uow.log.size() == before:
                return  # no row came since
            self.log.sign(uow, now)
            uow.commit()
