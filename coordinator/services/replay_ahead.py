"""Replays rows while the payloads of the next ones are read: hashing costs more than adding."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector
from letheon.federation.replay import NOBODY, ReadPayload, ReplayState, apply

_READS_ITS_OWN = frozenset(
    {EntryKind.INITIAL, EntryKind.DELTA, EntryKind.PATCH, EntryKind.CALIBRATION}
)
_AHEAD = 2  # payloads; each may be as large as the model


def replay_ahead(
    state: ReplayState,
    rows: Iterable[Entry],
    read: ReadPayload,
    *,
    without: frozenset[str] = NOBODY,
) -> Iterator[Entry]:
    """Takes the state over the rows and yields each once it is applied. Raises as `apply`."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[tuple[Entry, Future[Vector] | None]] = deque()
        for row in rows:
            reads = row.kind in _READS_ITS_OWN and row.site not in without
            waiting.append((row, pool.submit(read, row) if reads else None))
            if len(waiting) > _AHEAD:
                yield _apply_first(state, waiting, read, without)
        while waiting:
            yield _apply_first(state, waiting, read, without)


def _apply_first(
    state: ReplayState,
    waiting: deque[tuple[Entry, Future[Vector] | None]],
    read: ReadPayload,
    without: frozenset[str],
) -> Entry:
    row, ahead = waiting.popleft()

    def payload(of: Entry) -> Vector:
        return ahead.result() if ahead is not None and of is row else read(of)

    apply(state, row, payload, without=without)
    return row
