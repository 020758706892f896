"""When each agent was last heard of, in memory, written down now and then; and what it said of
its privacy budget, in memory alone: it says so again with every poll.

Agents poll every second; a durable write for each sign of life would cost more than training.
"""

from __future__ import annotations

import threading
from datetime import datetime

from coordinator.domain.privacy import PrivacyLoss
from coordinator.domain.site import Site, seen
from coordinator.ports import Store


class Presence:
    """Signs of life since the last `save`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, datetime] = {}
        self._privacy: dict[str, PrivacyLoss] = {}

    def heard(self, site: str, now: datetime) -> None:
        """A call of this site came in."""
        with self._lock:
            self._seen[site] = now

    def told_of_privacy(self, site: str, loss: PrivacyLoss | None) -> None:
        """What a poll of this site said; None: it does not train privately."""
        with self._lock:
            if loss is None:
                self._privacy.pop(site, None)
            else:
                self._privacy[site] = loss

    def privacy_of(self, site: str) -> PrivacyLoss | None:
        """What the site said last, since this process began."""
        with self._lock:
            return self._privacy.get(site)

    def trains_no_more(self, site: str) -> bool:
        """Whether the site said that its privacy budget is spent."""
        loss = self.privacy_of(site)
        return loss is not None and loss.is_spent

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
