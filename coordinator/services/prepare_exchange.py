"""What a site whose records are erased must recompute: fixed once, when its agent is asked.

The contribution C_k of that moment is kept as a blob, so that what the agent sends back, the
recomputed contribution minus it, is right whatever the site adds meanwhile: that is made without
the records and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.domain.erasure import Erasure, Exchange, check_open
from coordinator.domain.site import check_not_fenced
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, job
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.rebuild_start import find_start
from coordinator.services.replay_start import last_subtraction
from letheon.errors import ExchangeRunning, ModelDestroyed, Refused
from letheon.federation.arithmetic import norm
from letheon.federation.ledger import EntryKind

MOST_DELTAS = 20_000  # in one task; beyond, removing and readmitting the site is the shorter way
_RETRY_S = 5.0

#: Update id, base version, coefficient as hex: one of the site's deltas as merged.
MergedDelta = tuple[str, int, str]


@dataclass(frozen=True)
class Prepared:
    """What is asked of the site."""

    exchange: Exchange
    deltas: list[MergedDelta]  # in the order in which they were merged


def prepare_exchange(erasure: Erasure, context: ErasureContext) -> Prepared:
    """Folds and keeps the site's contribution, and lists the deltas it is made of.

    Raises SiteFenced once the whole site is to go; Refused, ModelDestroyed or VersionCompacted if
    the deltas cannot be recomputed: the site is then to be removed and readmitted;
    ExchangeRunning while the site recomputes for another erasure.
    """
    check_open(erasure)
    with context.store.read() as uow:
        check_not_fenced(uow.sites.get(erasure.site))
        check_alone(uow, erasure)
    total, through = context.keep.contribution(erasure.site)
    with context.store.read() as uow:
        deltas = _deltas(uow, erasure.site, through)
        newest = uow.entries.get(through)
        floor = _first_clean_version(uow)
    if total is None or not deltas:
        raise Refused(f"sites/{erasure.site} has no delta in the head that could be exchanged")
    if len(deltas) > MOST_DELTAS:
        raise Refused(
            f"sites/{erasure.site} has {len(deltas)} deltas in the head; at most {MOST_DELTAS} are "
            "exchanged"
        )
    oldest = min(base for _, base, _ in deltas)
    if oldest < floor:
        raise ModelDestroyed(
            f"base models/{oldest} holds what another erasure has removed since: models/{floor} is "
            "the oldest that does not",
            version=oldest,
        )
    find_start(context.store, oldest, frozenset())
    exchange = Exchange(
        through_entry=through,
        version=newest.version,
        epoch=newest.epoch,
        contribution_sha256=context.blobs.contributions.put(vector_bytes(total)),
        contribution_norm=norm(total),
        deltas=len(deltas),
    )
    return Prepared(exchange, deltas)


def keep_exchange(uow: UnitOfWork, erasure_id: str, token: int, exchange: Exchange) -> Erasure:
    """The erasure with its exchange, in the transaction that creates the task. Raises as above."""
    erasure = job(uow, erasure_id, token)
    check_open(erasure)
    check_alone(uow, erasure)
    kept = replace(erasure, exchange=exchange)
    uow.erasures.save(kept)
    return kept


def check_alone(uow: UnitOfWork, erasure: Erasure) -> None:
    """Raises ExchangeRunning: two exchanges of one site at once would each subtract the same."""
    for other in uow.erasures.open():
        running = other.exchange is not None and other.removal is None
        if other.id != erasure.id and other.site == erasure.site and running:
            raise ExchangeRunning(
                f"sites/{erasure.site} recomputes its deltas for erasures/{other.id} first",
                retry_after_s=_RETRY_S,
                erasure=other.id,
            )


def _first_clean_version(uow: UnitOfWork) -> int:
    """The oldest version that holds nothing that an erasure has removed since."""
    return max((e.removal.version_after for e in uow.erasures.all() if e.removal), default=0)


def _deltas(uow: UnitOfWork, site: str, through: int) -> list[MergedDelta]:
    found: list[MergedDelta] = []
    for term in uow.entries.terms(site, after=last_subtraction(uow, site)):
        if term.entry > through:
            break
        row = uow.entries.get(term.of_entry)
        if row.kind not in (EntryKind.DELTA, EntryKind.BUFFERED):
            continue  # a patch made of the deltas: the recomputed sum replaces it too
        found.append((row.update_id or "", row.base_version or 0, term.coefficient.hex()))
    return found
