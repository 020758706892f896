"""Where a rebuilt version is replayed from, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.domain.model import Checkpoint
from coordinator.domain.site import Site, SiteState
from coordinator.ports import Blobs, Store, UnitOfWork
from coordinator.services.model_files import check_not_destroyed
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at, entries_after, state_at
from coordinator.services.replayable import compacted_through
from letheon.errors import (
    ExportSuspended,
    LedgerBroken,
    LetheonError,
    ModelDestroyed,
    PayloadCorrupt,
    VersionCompacted,
)
from letheon.federation.ledger import Entry, EntryKind, read_merges
from letheon.federation.replay import ReplayState, remove_contribution, removed_sites


@dataclass(frozen=True)
class Start:
    """A checkpoint (None: before the first row), and whether it holds a site to leave out."""

    checkpoint: Checkpoint | None
    held: bool

    @property
    def entry(self) -> int:
        """The row the checkpoint was taken after."""
        return BEFORE_FIRST if self.checkpoint is None else self.checkpoint.entry


def check_may_leave(uow: UnitOfWork, version: int, without: frozenset[str]) -> None:
    """Raises ModelDestroyed, or ExportSuspended for a fenced site that the version holds."""
    check_not_destroyed(uow, version)
    _check_records(uow, version, without)
    for site in uow.sites.all():
        if site.id not in without and _holds_fenced(uow, site, version):
            raise ExportSuspended(
                f"models/{version} carries sites/{site.id}, which is fenced for an erasure; "
                "rebuild it without that site",
                version=version,
                site=f"sites/{site.id}",
            )


def _check_records(uow: UnitOfWork, version: int, without: frozenset[str]) -> None:
    """Raises ExportSuspended for a version that holds records whose removal is due."""
    for erasure in uow.erasures.open():
        if erasure.names_site or erasure.site in without:
            continue
        first = uow.sites.get(erasure.site).first_version
        gone_since = None if erasure.removal is None else erasure.removal.version_after
        is_gone = gone_since is not None and version >= gone_since
        if first is not None and version >= first and not is_gone:
            raise ExportSuspended(
                f"models/{version} carries records of sites/{erasure.site} that "
                f"erasures/{erasure.id} takes out; rebuild it without that site",
                version=version,
                site=f"sites/{erasure.site}",
            )


def _holds_fenced(uow: UnitOfWork, site: Site, version: int) -> bool:
    if site.state is not SiteState.FENCED or site.first_version is None:
        return False
    if version < site.first_version:
        return False
    for erasure in uow.erasures.of_site(site.id):
        if not erasure.names_site:
            continue
        removal = erasure.removal
        if removal is not None and removal.subtracted and version >= removal.version_after:
            return False
        if erasure.promoted_version is not None and version >= erasure.promoted_version:
            return False
    return True


def find_start(store: Store, version: int, without: frozenset[str]) -> Start:
    """The best start from which every payload that the replay reads is there.

    A plain version begins at the newest checkpoint. A counterfactual begins at the newest one
    from before the first contribution of the sites, else at the first row, else at the oldest
    that holds them. Raises ModelDestroyed or VersionCompacted for want of any.
    """
    first_refusal: LetheonError | None = None
    for start in _candidates(store, version, without):
        refusal = _refusal(store, start, version, without)
        if refusal is None:
            return start
        first_refusal = first_refusal or refusal
    raise first_refusal or LedgerBroken("the ledger is empty", entry=0)


def _candidates(store: Store, version: int, without: frozenset[str]) -> list[Start]:
    with store.read() as uow:
        known = [c for c in uow.checkpoints.all() if c.version <= version]
        firsts = [uow.sites.get(site).first_version for site in without]
    first = min((f for f in firsts if f is not None), default=version + 1)
    clean = [Start(c, held=False) for c in known if c.version < first]
    holding = [Start(c, held=True) for c in reversed(known) if c.version >= first]
    return [*clean, Start(None, held=False), *holding]


def rows_of(store: Store, start: Start, version: int) -> Iterator[Entry]:
    """The rows after the start, up to the last one of the version."""
    for row in entries_after(store, start.entry):
        if row.version > version:
            return
        yield row


def _refusal(
    store: Store, start: Start, version: int, without: frozenset[str]
) -> LetheonError | None:
    """Why the replay cannot begin there: a payload it would read was given up."""
    with store.read() as uow:
        waiting = uow.buffered.waiting(start.entry) if start.checkpoint is not None else []
        buffered = {delta.entry: uow.entries.get(delta.entry) for delta in waiting}
        compacted = compacted_through(uow)
        destroys = bool(uow.destroyed.versions())
        for row in _read(rows_of(store, start, version), buffered, without):
            gone = uow.destroyed.destroyer_of(row.payload_sha256 or "") if destroys else None
            if gone is not None:
                return ModelDestroyed(
                    f"models/{version} can never be rebuilt: the payload of row {row.entry} was "
                    f"destroyed by erasures/{gone}",
                    version=version,
                    erasure=f"erasures/{gone}",
                )
            if row.entry <= compacted:
                oldest = uow.entries.get(compacted).version
                return VersionCompacted(
                    f"models/{version} cannot be rebuilt: the payload of row {row.entry} gave way "
                    f"to the anchor at row {compacted}; models/{oldest} is the oldest version",
                    oldest_version=oldest,
                )
    return None


def _read(
    rows: Iterator[Entry], buffered: dict[int, Entry], without: frozenset[str]
) -> Iterator[Entry]:
    """The rows whose payloads a replay reads."""
    for row in rows:
        if row.kind is EntryKind.BUFFERED:
            buffered[row.entry] = row
            continue
        for number, _ in read_merges(row):
            merged = buffered.pop(number, None)
            if merged is not None and merged.site not in without:
                yield merged
        if row.payload_sha256 is not None and row.site not in without:
            yield row


def load_start(
    store: Store, blobs: Blobs, start: Start, *, size: int, without: frozenset[str]
) -> ReplayState:
    """The state after the start, free of the sites. Raises PayloadCorrupt or LedgerBroken."""
    checkpoint = start.checkpoint
    if checkpoint is None:
        return ReplayState.before_first(size)
    if checkpoint.is_anchor:
        with store.read() as uow:
            anchor = uow.entries.get(checkpoint.entry)
        if anchor.details.get("checkpoint_sha256") != checkpoint.sha256:
            raise LedgerBroken("the anchor names another checkpoint", entry=checkpoint.entry)
    try:
        state = state_at(store, blobs, checkpoint)
        for site in sorted(without) if start.held else ():
            _check_kept(store, site)
            total = contribution_at(store, blobs, site, through=start.entry)
            remove_contribution(state.head, total)
    except PayloadCorrupt as error:
        raise PayloadCorrupt(
            f"the checkpoint after row {start.entry} cannot be used: {error.message}",
            entry=start.entry,
        ) from error
    return state


def _check_kept(store: Store, site: str) -> None:
    """Raises ModelDestroyed if an erasure destroyed what the site contributed.

    What was only suppressed is still in the weights, but can no longer be told from them.
    """
    with store.read() as uow:
        for erasure in uow.erasures.of_site(site):
            if erasure.promoted_at is not None and erasure.names_site:
                raise ModelDestroyed(
                    f"no version that holds sites/{site} can be rebuilt without it: what it "
                    f"contributed was destroyed by erasures/{erasure.id}",
                    erasure=f"erasures/{erasure.id}",
                )


def tracked_sites(
    store: Store, start: Start, version: int, without: frozenset[str]
) -> frozenset[str]:
    """The sites whose contributions the replay subtracts."""
    return removed_sites(rows_of(store, start, version)) - without
