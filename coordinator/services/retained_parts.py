"""What the retained sites contributed, cut in parts: what a recombination weighs anew.

A site's contribution is the sum of its terms (deltas as merged, patches attributed to it). It is
cut in segments of about as many terms. Payloads that only rows up to the newest compaction name
may be gone: what they added is one part, the contribution minus the segments of the others. The
arithmetic is that of the replay. Nothing here holds the head, and few vectors are in memory at a
time: one, or two where payloads are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.domain.erasure import Erasure, check_open
from coordinator.domain.model import Term
from coordinator.domain.site import SiteState, check_stays
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, job
from coordinator.services.remaining_subjects import check_none_due, sites_with_records_due
from coordinator.services.replay_start import fold_terms, last_subtraction
from coordinator.services.replayable import compacted_through
from letheon.errors import MalformedRequest, PayloadCorrupt
from letheon.federation.parameters import Vector
from letheon.federation.replay import remove_contribution

MOST_SEGMENTS = 64


@dataclass(frozen=True)
class Part:
    """What a site added to the head by some of its terms."""

    site: str
    first_entry: int  # that added to the head
    last_entry: int
    values: Vector  # [d]


@dataclass(frozen=True)
class RetainedParts:
    """The parts that a calibrator asked for; iterating makes them, one by one.

    By site in the order of its first term, oldest part first: the same rows, the same parts.
    Raises MalformedRequest, UnknownErasure, ErasureConcluded or PayloadCorrupt; ClaimLost, and
    PatchVoid once an erasure names one of the sites, before any further part.
    """

    erasure: str
    token: int
    segments: int  # of each site, at most
    context: ErasureContext
    with_subject: bool = False  # before its removal, its contribution first, as one part

    def __iter__(self) -> Iterator[Part]:
        """Begins anew."""
        if not 1 <= self.segments <= MOST_SEGMENTS:
            raise MalformedRequest(f"segments is 1 to {MOST_SEGMENTS}", field="segments")
        with self.context.store.read() as uow:
            erasure = job(uow, self.erasure, self.token)
            check_open(erasure)
            sites = _retained(uow)
        if self.with_subject:
            yield from self._subject(erasure)
        for site in sites:
            yield from self._checked(self._parts_of(site), sites)

    def _subject(self, erasure: Erasure) -> Iterator[Part]:
        if erasure.removal is not None:
            raise MalformedRequest(
                f"sites/{erasure.site} contributes nothing since its removal", field="with_subject"
            )
        total, _ = self.context.keep.contribution(erasure.site)
        if total is not None:
            terms = self._terms(erasure.site)
            yield Part(erasure.site, terms[0].entry, terms[-1].entry, total)

    def _checked(self, parts: Iterator[Part], sites: Sequence[str]) -> Iterator[Part]:
        while True:
            try:
                part = next(parts, None)
            except PayloadCorrupt:
                self._check(sites)  # a site that is erased meanwhile has no payloads any more
                raise
            if part is None:
                return
            self._check(sites)
            yield part

    def _check(self, sites: Sequence[str]) -> None:
        with self.context.store.read() as uow:
            check_open(job(uow, self.erasure, self.token))
            known = {site.id: site for site in uow.sites.all()}
            due = sites_with_records_due(uow)
        for site in sites:
            check_stays(known[site])
            check_none_due(site, due)

    def _parts_of(self, site: str) -> Iterator[Part]:
        with self.context.store.read() as uow:
            floor = _floor(uow, site)
            [first] = uow.entries.terms(site, after=last_subtraction(uow, site), limit=1)
        if first.entry > floor:
            yield from self._sums(site, _cut(self._terms(site), self.segments))
            return
        total, through = self.context.keep.contribution(site)
        if total is None:
            return
        terms = [term for term in self._terms(site) if term.entry <= through]
        kept = [term for term in terms if term.entry > floor]
        segments = _cut(kept, self.segments - 1)
        for part in self._sums(site, segments):
            remove_contribution(total, part.values)
        rest = terms[: len(terms) - len(kept)] if segments else terms
        yield Part(site, rest[0].entry, rest[-1].entry, total)
        yield from self._sums(site, segments)

    def _terms(self, site: str) -> list[Term]:
        with self.context.store.read() as uow:
            return uow.entries.terms(site, after=last_subtraction(uow, site))

    def _sums(self, site: str, segments: Sequence[list[Term]]) -> Iterator[Part]:
        for terms in segments:
            total = fold_terms(self.context.blobs, None, terms)
            if total is not None:
                yield Part(site, terms[0].entry, terms[-1].entry, total)


def _retained(uow: UnitOfWork) -> list[str]:
    """Sites that no erasure names and that contributed, in the order of their first term.

    Of a site that was readmitted only what it added since counts; one with records that are due
    to go is left out.
    """
    found = []
    due = sites_with_records_due(uow)
    for site in uow.sites.all():
        if site.state is SiteState.ACTIVE and site.id not in due:
            first = uow.entries.terms(site.id, after=last_subtraction(uow, site.id), limit=1)
            found += [(term.entry, term.of_entry, site.id) for term in first]
    return [site for _, _, site in sorted(found)]


def _floor(uow: UnitOfWork, site: str) -> int:
    """Up to this row payloads of the site may be gone: compacted, or destroyed by an exchange."""
    exchanged = [
        erasure.removal.entry
        for erasure in uow.erasures.of_site(site)
        if erasure.promoted_at is not None and erasure.removal and erasure.removal.exchanged
    ]
    return max([compacted_through(uow), *exchanged])


def _cut(terms: list[Term], segments: int) -> list[list[Term]]:
    """The terms in at most so many segments of about as many; none of no terms."""
    count = min(segments, len(terms))
    pieces = np.array_split(np.arange(len(terms)), count) if count else []
    return [terms[piece[0] : piece[-1] + 1] for piece in pieces]
