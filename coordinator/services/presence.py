"""When each agent was last heard of: in memory, written down now and then.

Agents poll every second; a durable write for each sign of life would cost more than training.
"""

from __future__ import annotations

import threading
from datetime import datetime

from coordinator.domain.site import Site, seen
from coordinator.ports import Store


class Presence:
    """Signs of life since the last `save`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, datetime] = {}

    def heard(self, site: str, now: datetime) -> None:
        """A call of this site came in."""
        with self._lock:
            self._seen[site] = now

    def on(self, site: Site) -> Site:
        """The site with the newest sign of life."""
        at = self._seen.get(site.id)
        return site if at is None or at <= site.last_seen_at else seen(site, at)

    def save(self, store: Store) -> None:
        """Writes the signs of life down."""
        with self._lock:
            heard, self._seen = self._seen, {}
        if not heard:
            return
        with store.note() as uow:
            for identifier, at in heard.items():
                site = uow.sites.find(identifier)
                if site is not None and at > site.last_seen_at:
                    uow.sites.save(seen(site, at))
            uow.commit()
