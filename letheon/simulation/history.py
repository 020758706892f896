"""The history of a simulated federation, as methods read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from letheon.federation.ledger import Entry, read_merges
from letheon.federation.parameters import Vector
from letheon.federation.replay import fold


def merged_terms(entries: Sequence[Entry]) -> list[tuple[Entry, float]]:
    """(row of the delta, coefficient) of everything merged so far, in merge order."""
    rows = {row.entry: row for row in entries}
    terms: list[tuple[Entry, float]] = []
    for row in entries:
        if row.coefficient is not None and row.site is not None and row.base_version is not None:
            terms.append((row, row.coefficient))
        terms.extend((rows[number], coefficient) for number, coefficient in read_merges(row))
    return terms


def retained_parts(
    entries: Sequence[Entry], payloads: Mapping[int, Vector], without: str, segments: int
) -> list[Vector]:
    """As `parts_by_site`, without one site and without the names: [k] of [d]."""
    return [part for _, part in parts_by_site(entries, payloads, {without}, segments)]


def parts_by_site(
    entries: Sequence[Entry],
    payloads: Mapping[int, Vector],
    without: Collection[str],
    segments: int,
) -> list[tuple[str, Vector]]:
    """Each other site's contribution in up to `segments` pieces of about as many deltas.

    [k] of (site, [d]), by site in the order of their first delta, oldest piece first.
    """
    by_site: dict[str, list[tuple[Entry, float]]] = {}
    for row, coefficient in merged_terms(entries):
        if row.site is not None and row.site not in without:
            by_site.setdefault(row.site, []).append((row, coefficient))
    parts: list[tuple[str, Vector]] = []
    for site, terms in by_site.items():
        for piece in np.array_split(np.arange(len(terms)), min(segments, len(terms))):
            total: Vector | None = None
            for place in piece:
                row, coefficient = terms[int(place)]
                total = fold(total, coefficient, payloads[row.entry])
            if total is not None:
                parts.append((site, total))
    return parts
