"""What each row of the ledger does to the weights, defined once.

The live coordinator calls `merge_delta`, `fold` and `remove_contribution` on its head; `apply`
calls the same functions on a replayed one. That the two agree bit for bit is then a matter of
construction. By kind of row, with D the decoded payload and c its coefficient:

    initial              head := D
    delta                head += c D;  C_site += c D
    buffered             kept
    flush                for each (row, c) in order: head += c D;  C_site += c D
    void                 the buffered rows are dropped, their payloads never read
    removal              as flush; then, if subtracted: head -= C_site, C_site := 0;  epoch + 1
    patch, calibration   head += D;  C_site += D if attributed to a site
    promotion, anchor    nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from letheon.errors import LedgerBroken
from letheon.federation.arithmetic import accumulate, subtract
from letheon.federation.ledger import (
    FIRST_ENTRY,
    Entry,
    EntryKind,
    changes_weights,
    read_merges,
)
from letheon.federation.parameters import Vector, digest

ReadPayload: TypeAlias = Callable[[Entry], Vector]

NOBODY: frozenset[str] = frozenset()


def merge_delta(head: Vector, coefficient: float, delta: Vector) -> None:
    """`head += float32(coefficient) * delta` in place, multiply then add; both [d]."""
    accumulate(head, coefficient, delta)


def fold(contribution: Vector | None, coefficient: float, delta: Vector) -> Vector:
    """The contribution with `coefficient * delta` added in place; None begins at zero."""
    total = np.zeros(delta.shape, dtype=np.float32) if contribution is None else contribution
    accumulate(total, coefficient, delta)
    return total


def remove_contribution(head: Vector, contribution: Vector | None) -> None:
    """`head -= contribution` in place; None (the site never contributed) changes nothing."""
    if contribution is not None:
        subtract(head, contribution)


@dataclass
class ReplayState:
    """Where a replay stands: after row `entry`, at `version` and `epoch`, with `head` [d].

    `contributions` holds C_k [d] by site, a site without one having none; only of the sites in
    `tracked` if that is given, which is what a replay of many sites can afford: those with a
    removal ahead. `buffered` holds the waiting rows by number.
    """

    entry: int
    version: int
    epoch: int
    head: Vector
    contributions: dict[str, Vector] = field(default_factory=dict)
    buffered: dict[int, Entry] = field(default_factory=dict)
    tracked: frozenset[str] | None = None

    @classmethod
    def before_first(cls, size: int, *, tracked: frozenset[str] | None = None) -> ReplayState:
        """The state before the first row of a model of `size` elements."""
        head = np.zeros(size, dtype=np.float32)
        return cls(entry=FIRST_ENTRY - 1, version=-1, epoch=0, head=head, tracked=tracked)

    def copy(self) -> ReplayState:
        """A state that shares no writable array with this one; untracked sites are left out."""
        return ReplayState(
            entry=self.entry,
            version=self.version,
            epoch=self.epoch,
            head=np.array(self.head),
            contributions={
                site: np.array(total)
                for site, total in self.contributions.items()
                if self.tracks(site)
            },
            buffered=dict(self.buffered),
            tracked=self.tracked,
        )

    def tracks(self, site: str) -> bool:
        """Whether the contribution of the site is kept."""
        return self.tracked is None or site in self.tracked


def apply(
    state: ReplayState,
    entry: Entry,
    read_payload: ReadPayload,
    *,
    without: frozenset[str] = NOBODY,
) -> None:
    """Takes the state over one row, bit for bit as the live coordinator does.

    `read_payload` gives the decoded payload [d] of a row, which may be read-only. Rows of sites
    in `without` are passed over and their payloads never read: the counterfactual.
    Raises LedgerBroken(entry=...) for a row out of order, one that contradicts the state, or a
    contribution that is not the one recorded. After a raise the state is of no use.
    """
    _check_numbers(state, entry)
    match entry.kind:
        case EntryKind.INITIAL:
            np.copyto(state.head, _payload(state, entry, read_payload))
        case EntryKind.DELTA:
            if entry.coefficient is None or entry.site is None:
                raise _broken(entry, "lacks its coefficient or its site")
            _merge(state, entry, entry.coefficient, read_payload, without)
        case EntryKind.PATCH | EntryKind.CALIBRATION:
            if entry.coefficient not in (None, 1.0):
                raise _broken(entry, f"is a patch with coefficient {entry.coefficient}, not 1")
            _merge(state, entry, 1.0, read_payload, without)
        case EntryKind.BUFFERED:
            state.buffered[entry.entry] = entry
        case EntryKind.FLUSH:
            _flush(state, entry, read_payload, without)
        case EntryKind.VOID:
            _void(state, entry)
        case EntryKind.REMOVAL:
            _flush(state, entry, read_payload, without)
            _remove(state, entry, without)
        case EntryKind.PROMOTION | EntryKind.ANCHOR:
            pass
    state.entry, state.version, state.epoch = entry.entry, entry.version, entry.epoch


def replay(
    start: ReplayState,
    entries: Iterable[Entry],
    read_payload: ReadPayload,
    *,
    without: frozenset[str] = NOBODY,
) -> ReplayState:
    """The state after the rows, from a copy of `start`. Raises as `apply`."""
    state = start.copy()
    for entry in entries:
        apply(state, entry, read_payload, without=without)
    return state


def removed_sites(entries: Iterable[Entry]) -> frozenset[str]:
    """The sites these rows subtract: those whose contributions a replay of them needs."""
    return frozenset(
        row.site
        for row in entries
        if row.kind is EntryKind.REMOVAL and row.site and row.details.get("subtracted")
    )


def _broken(entry: Entry, what: str) -> LedgerBroken:
    return LedgerBroken(f"row {entry.entry} ({entry.kind}) {what}", entry=entry.entry)


def _check_numbers(state: ReplayState, entry: Entry) -> None:
    if entry.entry != state.entry + 1:
        raise _broken(entry, f"cannot follow row {state.entry}")
    version = state.version + changes_weights(entry)
    epoch = state.epoch + (entry.kind is EntryKind.REMOVAL)
    if (entry.version, entry.epoch) != (version, epoch):
        raise _broken(
            entry,
            f"says version {entry.version}, epoch {entry.epoch}; "
            f"the rows before it make that {version}, {epoch}",
        )


def _payload(state: ReplayState, entry: Entry, read_payload: ReadPayload) -> Vector:
    payload = read_payload(entry)
    if payload.shape != state.head.shape:
        raise _broken(entry, f"has a payload of shape {payload.shape}, not {state.head.shape}")
    return payload


def _merge(
    state: ReplayState,
    entry: Entry,
    coefficient: float,
    read_payload: ReadPayload,
    without: frozenset[str],
) -> None:
    if entry.site in without:
        return
    delta = _payload(state, entry, read_payload)
    merge_delta(state.head, coefficient, delta)
    if entry.site is not None and state.tracks(entry.site):
        total = state.contributions.get(entry.site)
        state.contributions[entry.site] = fold(total, coefficient, delta)


def _flush(
    state: ReplayState, entry: Entry, read_payload: ReadPayload, without: frozenset[str]
) -> None:
    for number, coefficient in read_merges(entry):
        row = state.buffered.pop(number, None)
        if row is None:
            raise _broken(entry, f"merges row {number}, which does not wait")
        _merge(state, row, coefficient, read_payload, without)


def _void(state: ReplayState, entry: Entry) -> None:
    for number in entry.details.get("entries", ()):
        if state.buffered.pop(number, None) is None:
            raise _broken(entry, f"voids row {number}, which does not wait")


def _remove(state: ReplayState, entry: Entry, without: frozenset[str]) -> None:
    site = entry.site
    if site is None or "subtracted" not in entry.details:
        raise _broken(entry, "lacks its site or does not say whether it subtracted")
    if not entry.details["subtracted"] or site in without:
        return
    if not state.tracks(site):
        raise _broken(entry, f"subtracts {site!r}, whose contribution this replay did not keep")
    contribution = state.contributions.pop(site, None)
    recorded = entry.details.get("contribution_sha256")
    if recorded and digest(_or_zero(contribution, state.head)) != recorded:
        raise _broken(entry, f"subtracted another contribution of {site!r} than the rows make")
    remove_contribution(state.head, contribution)


def _or_zero(contribution: Vector | None, head: Vector) -> Vector:
    return np.zeros(head.shape, dtype=np.float32) if contribution is None else contribution
