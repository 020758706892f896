"""What a removal will do to the head, computed while others train and checked once they wait.

A draft is of one position of the ledger. Everything that a removal reads (buffer, terms, weights)
changes only together with the position: a draft of the position that the head still has when it is
held is as good as one made then (docs/decisions/0052-a-removal-is-drafted-ahead.md).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from coordinator.domain.model import BufferedDelta
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.flush_buffer import coefficients
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import Head, Position
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at, payload_reader
from letheon.errors import DiskFull, StorageUnavailable
from letheon.federation.arithmetic import norm
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import merge_delta
from letheon.federation.replay import remove_contribution as subtract_from

Named = Callable[[Vector], str]  # the digest of weights [d], perhaps stored


@dataclass(frozen=True)
class Folded:
    """A contribution [d] folded through a row; None is zero."""

    total: Vector | None
    through: int


@dataclass(frozen=True)
class Draft:
    """What the removal of a site will do at one position."""

    position: Position
    own: list[BufferedDelta]  # of the subject: voided
    others: list[BufferedDelta]  # flushed
    pairs: list[tuple[int, float]]  # (buffered entry, coefficient) of the others
    payloads: dict[int, Vector]  # of the others, by buffered entry
    total: Vector | None  # the contribution [d]
    norm: float  # of it, L2
    sha256: str | None  # of it
    subtracts: bool
    before: Vector | None  # [d]; None where it is a file already
    after: Vector  # [d]
    norm_before: float
    sha256_before: str
    sha256_after: str
    stored: frozenset[str] = frozenset()  # which versions are files without a row

    @property
    def contribution(self) -> Vector | None:
        """What is subtracted."""
        return self.total if self.subtracts else None


def fold_whole(site: str, context: ErasureContext) -> Folded:
    """All that the site contributed so far; may take long. Raises PayloadCorrupt."""
    with context.store.read() as uow:
        newest = uow.entries.newest()
    through = BEFORE_FIRST if newest is None else newest.entry
    total = contribution_at(context.store, context.blobs, site, through=through)
    return Folded(total, through)


def draft_ahead(
    site: str, folded: Folded, context: ErasureContext, *, subtracts: bool
) -> Draft | None:
    """The draft at the position of this moment, its versions stored; None without room for them.

    The version before is stored as one that anybody may ask for. The version after has no row: who
    does not go on with the draft calls `discard`.
    """
    position, before = context.live.snapshot()
    with context.store.read() as uow:
        known = uow.models.find(position.version)

    def publish(weights: Vector) -> str:
        return (known or context.files.write(position, weights)).sha256

    def store(weights: Vector) -> str:
        return context.blobs.models.put(vector_bytes(weights))

    try:
        made = _draft(
            site,
            folded,
            position,
            before,
            context,
            subtracts=subtracts,
            names=(publish, store),
            in_place=known is not None,
        )
    except (DiskFull, StorageUnavailable):
        return None  # a removal needs no files: whoever repeats the call writes them
    # Not the version before: it has a row, and who finds none must write its file anew.
    return replace(made, stored=frozenset({made.sha256_after}))


def draft_held(
    site: str, folded: Folded, head: Head, context: ErasureContext, *, subtracts: bool
) -> Draft:
    """The draft of a head that is held; nothing is stored."""
    before, names = np.array(head.weights), (digest, digest)
    return _draft(site, folded, head.position, before, context, subtracts=subtracts, names=names)


def discard(draft: Draft, context: ErasureContext) -> None:
    """Destroys what `draft_ahead` stored and no row will name."""
    if draft.sha256_after in draft.stored:
        context.files.discard(draft.sha256_after)


def _draft(
    site: str,
    folded: Folded,
    position: Position,
    before: Vector,
    context: ErasureContext,
    *,
    subtracts: bool,
    names: tuple[Named, Named],
    in_place: bool = False,
) -> Draft:
    """`in_place`: nobody needs `before` any more; it becomes what follows it."""
    with context.store.read() as uow:
        waiting = uow.buffered.waiting()
        unfolded = uow.entries.terms(site, after=folded.through, limit=1)
        others = [delta for delta in waiting if delta.site != site]
        rows = {delta.entry: uow.entries.get(delta.entry) for delta in others}
    if unfolded:
        folded = fold_whole(site, context)
    read = payload_reader(context.blobs)
    payloads = {number: read(row) for number, row in rows.items()}
    pairs = coefficients(context.strategy, others)
    name_before, name_after = names
    total = folded.total
    # All of it releases the interpreter's lock: two vectors are hashed and written at once.
    with ThreadPoolExecutor(3) as pool:
        norm_before = pool.submit(norm, before)
        sha256_before = pool.submit(name_before, before)
        measured = pool.submit(_measured, total)
        if in_place:
            norm_before.result(), sha256_before.result()  # neither may see the change
            after = before
        else:
            after = np.array(before)
        for entry, coefficient in pairs:
            merge_delta(after, coefficient, payloads[entry])
        subtract_from(after, total if subtracts else None)
        sha256_after = name_after(after)
    contribution_norm, contribution_sha256 = measured.result()
    return Draft(
        position=position,
        own=[delta for delta in waiting if delta.site == site],
        others=others,
        pairs=pairs,
        payloads=payloads,
        total=total,
        norm=contribution_norm,
        sha256=contribution_sha256,
        subtracts=subtracts,
        before=None if in_place else before,
        after=after,
        norm_before=norm_before.result(),
        sha256_before=sha256_before.result(),
        sha256_after=sha256_after,
    )


def _measured(total: Vector | None) -> tuple[float, str | None]:
    return (0.0, None) if total is None else (norm(total), digest(total))
