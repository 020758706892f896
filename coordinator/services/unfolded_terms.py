"""Counts how many terms of each site are not folded yet, reading every ledger row once.

Asking the database for each of some hundreds of sites again and again would make the cost of a
delta grow with the number of sites.
"""

from __future__ import annotations

from collections import Counter

from coordinator.ports import Store
from coordinator.services.replay_start import BEFORE_FIRST, entries_after
from letheon.federation.ledger import Entry, EntryKind, read_merges

_ADDS_DIRECTLY = frozenset({EntryKind.DELTA, EntryKind.PATCH, EntryKind.CALIBRATION})


class UnfoldedTerms:
    """Counts by site; used by one thread."""

    def __init__(self, store: Store, *, count_to: int) -> None:
        self._store = store
        self._count_to = count_to
        self._terms: Counter[str] | None = None  # None until first asked
        self._through = BEFORE_FIRST

    def sites_beyond(self, terms: int) -> list[str]:
        """Sites with more unfolded terms than that."""
        if self._terms is None:
            self._terms = self._count_all()
        for row in entries_after(self._store, self._through):
            self._count(row, self._terms)
            self._through = row.entry
        return sorted(site for site, count in self._terms.items() if count > terms)

    def largest(self) -> int:
        """Unfolded terms, as counted last, of the site that has most."""
        return max(self._terms.values(), default=0) if self._terms else 0

    def forget(self, site: str) -> None:
        """The site was folded."""
        if self._terms is not None:
            self._terms.pop(site, None)

    def _count_all(self) -> Counter[str]:
        found: Counter[str] = Counter()
        with self._store.read() as uow:
            newest = uow.entries.newest()
            self._through = BEFORE_FIRST if newest is None else newest.entry
            for site in uow.sites.all():
                row = uow.contributions.find(site.id)
                after = BEFORE_FIRST if row is None else row.folded_through
                terms = uow.entries.terms(site.id, after=after, limit=self._count_to + 1)
                found[site.id] = len(terms)
        return found

    def _count(self, row: Entry, terms: Counter[str]) -> None:
        if row.kind in _ADDS_DIRECTLY and row.site is not None:
            terms[row.site] += 1
        subtracts = row.kind is EntryKind.REMOVAL and row.details.get("subtracted")
        if subtracts and row.site is not None:
            terms.pop(row.site, None)
        merged = read_merges(row)
        if not merged:
            return
        with self._store.read() as uow:
            for number, _ in merged:
                site = uow.entries.get(number).site
                if site is not None:
                    terms[site] += 1
