"""The parts of a simulated history."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.federation.ledger import Entry, EntryKind, merges, seal
from letheon.federation.parameters import Vector
from letheon.simulation.history import retained_parts

SIZE = 6
NOON = datetime(2026, 1, 1, tzinfo=UTC)


class History:
    """Rows of deltas, and what they hold."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        self.payloads: dict[int, Vector] = {}

    def add(self, kind: EntryKind, site: str | None = None, **fields: object) -> Entry:
        previous = self.rows[-1] if self.rows else None
        row = seal(
            previous, kind=kind, version=len(self.rows), epoch=0, at=NOON, site=site,
            base_version=0, **fields,
        )  # fmt: skip
        self.rows.append(row)
        rng = np.random.default_rng(row.entry)
        self.payloads[row.entry] = rng.normal(size=SIZE).astype(np.float32)
        return row

    def delta(self, site: str, coefficient: float = 0.5) -> Entry:
        return self.add(EntryKind.DELTA, site, coefficient=coefficient)

    def parts(self, segments: int, without: str = "south") -> list[Vector]:
        return retained_parts(self.rows, self.payloads, without, segments)


@given(
    order=st.lists(st.sampled_from(["north", "south", "west"]), min_size=1, max_size=20),
    segments=st.integers(1, 6),
)
def test_the_parts_sum_to_what_the_retained_sites_contributed(
    order: list[str], segments: int
) -> None:
    history = History()
    for site in order:
        history.delta(site)
    found = history.parts(segments)
    retained = [row.entry for row in history.rows if row.site != "south"]
    counts = {site: order.count(site) for site in order if site != "south"}
    assert len(found) == sum(min(segments, count) for count in counts.values())
    due = sum((0.5 * history.payloads[e] for e in retained), np.zeros(SIZE))
    np.testing.assert_allclose(sum(found, np.zeros(SIZE)), due, atol=1e-5)


def test_sites_come_in_the_order_of_their_first_delta_and_their_oldest_part_first() -> None:
    history = History()
    rows = [history.delta(site) for site in ("west", "south", "north", "north", "north", "west")]
    found = history.parts(2)
    pieces = [[0], [5], [2, 3], [4]]  # of as many deltas as can be
    for part, piece in zip(found, pieces, strict=True):
        due = sum(np.float32(0.5) * history.payloads[rows[n].entry] for n in piece)
        np.testing.assert_allclose(part, due, atol=1e-6)


def test_a_delta_counts_with_the_coefficient_of_the_flush_that_merged_it() -> None:
    history = History()
    waiting = history.add(EntryKind.BUFFERED, "north")
    history.add(EntryKind.BUFFERED, "west")  # waits on
    history.add(EntryKind.FLUSH, details={"merged": merges([(waiting.entry, 0.25)])})
    [part] = history.parts(3)
    np.testing.assert_array_equal(part, np.float32(0.25) * history.payloads[waiting.entry])


@pytest.mark.parametrize("without", ["north", "nobody"])
def test_the_site_that_goes_is_never_among_them(without: str) -> None:
    history = History()
    history.delta("north")
    assert len(history.parts(2, without)) == (without == "nobody")
