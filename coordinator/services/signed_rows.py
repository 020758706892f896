"""Checks, row by row, that what sites sent is signed by them."""

from __future__ import annotations

from coordinator.domain.evidence import EntrySignature, SiteKey
from coordinator.ports import Store
from coordinator.services.site_signatures import check_row, key_due
from letheon.errors import BadSignature, LedgerBroken
from letheon.federation.ledger import Entry
from letheon.proof.signed_rows import is_signed_kind

_AT_ONCE = 1000


class SignedRows:
    """Takes the rows in order; counts those that are signed and those that need not be."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.signed = self.unsigned = 0
        self._keys: dict[str, list[SiteKey]] = {}
        self._kept: dict[int, EntrySignature] = {}
        self._through = -1
        with store.read() as uow:
            for key in uow.site_keys.all():
                self._keys.setdefault(key.site, []).append(key)

    def check(self, row: Entry) -> None:
        """Raises LedgerBroken(entry) for a signature that is missing or does not hold."""
        if not is_signed_kind(row):
            return
        key = key_due(self._keys.get(row.site or "", ()), row.entry)
        try:
            signed = check_row(row, key, self._signature(row.entry) if key else None)
        except BadSignature as error:
            raise LedgerBroken(f"row {row.entry}: {error.message}", entry=row.entry) from error
        self.signed += signed
        self.unsigned += not signed

    def _signature(self, entry: int) -> EntrySignature | None:
        if entry > self._through:
            self._through = entry + _AT_ONCE - 1
            with self._store.read() as uow:
                self._kept = uow.signatures.between(entry, self._through)
        return self._kept.get(entry)
