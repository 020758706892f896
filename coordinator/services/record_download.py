"""Remembers which versions a site has read, so that an erasure can tell it which are invalid."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.domain.evidence import Download
from coordinator.ports import Store
from letheon.servicekit.clock import Clock


@dataclass(frozen=True)
class RecordDownload:
    """Called before the first byte of a version leaves."""

    store: Store
    clock: Clock

    def __call__(self, site: str, *, version: int, epoch: int) -> None:
        """Widens what the site has read of the epoch; writes nothing if it read that before."""
        with self.store.read() as uow:
            known = uow.downloads.find(site, epoch)
            if uow.sites.find(site) is None or _holds(known, version):
                return
        with self.store.note() as uow:
            now = self.clock.now()
            known = uow.downloads.find(site, epoch)
            fresh = Download(site, epoch, version, version, now, now)
            known = known or fresh
            uow.downloads.save(
                replace(
                    known,
                    first_version=min(known.first_version, version),
                    last_version=max(known.last_version, version),
                    last_at=now,
                )
            )
            uow.commit()


def _holds(known: Download | None, version: int) -> bool:
    return known is not None and known.first_version <= version <= known.last_version
