"""Which rows of the ledger hold what a site sent, and whether the site signed them.

Signatures stand beside the ledger, not in it. As a file they are one a line:
`{"entry":12,"key":"<16 hex digits>","signature":"<base64>"}`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from letheon.errors import BadSignature, LedgerBroken, ProofInvalid
from letheon.federation.ledger import Entry, EntryKind
from letheon.proof.update_signature import SignedUpdate, UpdateSignature, check_update
from letheon.servicekit.signing import PublicKey, canonical_json

_SIGNED = frozenset({EntryKind.DELTA, EntryKind.BUFFERED})


def is_signed_kind(row: Entry) -> bool:
    """Whether a row holds what a site sends."""
    return row.kind in _SIGNED and row.site is not None


def update_of(row: Entry) -> SignedUpdate:
    """What the site signed of the update in a row."""
    return SignedUpdate(
        site=str(row.site),
        update_id=str(row.update_id),
        task=str(row.details.get("task", "")),
        base_version=-1 if row.base_version is None else row.base_version,
        epoch=row.epoch,
        record_count=int(row.details.get("record_count", 0)),
        payload_sha256=str(row.payload_sha256),
        payload_bytes=row.payload_bytes or 0,
        encoding=str(row.encoding),
    )


def line_of(entry: int, signature: UpdateSignature) -> bytes:
    """The line of a signature, with its line feed."""
    text = base64.b64encode(signature.signature).decode()
    return canonical_json({"entry": entry, "key": signature.key_id, "signature": text}) + b"\n"


def read_signatures(lines: Iterable[bytes]) -> dict[int, UpdateSignature]:
    """Signatures by row. Raises ProofInvalid naming the first line that is none."""
    found: dict[int, UpdateSignature] = {}
    for number, line in enumerate(lines, start=1):
        try:
            told = json.loads(line)
            signature = UpdateSignature(
                str(told["key"]), base64.b64decode(told["signature"], validate=True)
            )
            entry = int(told["entry"])
        except (KeyError, TypeError, ValueError, RecursionError, binascii.Error) as error:
            raise ProofInvalid(f"line {number} is no signature of a row", rule="line") from error
        if entry in found:
            raise ProofInvalid(f"row {entry} has two signatures", rule="line")
        found[entry] = signature
    return found


@dataclass
class SignedByKeys:
    """Checks rows, in order, against keys that were got from the sites themselves.

    A site may have had several keys. Rows of a site before the first that is signed are from
    before it had a key; from then on each must be signed. Rows of other sites are counted only.
    """

    keys: Mapping[str, Sequence[PublicKey]]  # by site
    signatures: Mapping[int, UpdateSignature]
    signed: int = 0
    unsigned: int = 0  # of sites whose keys are given, from before they signed
    not_checked: int = 0  # of sites whose keys are not given
    _began: set[str] = field(default_factory=set)

    def check(self, row: Entry) -> None:
        """Raises LedgerBroken(entry) for a row whose signature is missing or does not hold."""
        if not is_signed_kind(row):
            return
        site = str(row.site)
        if site not in self.keys:
            self.not_checked += 1
            return
        signature = self.signatures.get(row.entry)
        if signature is None:
            if site in self._began:
                raise LedgerBroken(
                    f"row {row.entry} of sites/{site} is not signed, and earlier ones are",
                    entry=row.entry,
                )
            self.unsigned += 1
            return
        self._began.add(site)
        key = next((one for one in self.keys[site] if one.key_id == signature.key_id), None)
        if key is None:
            raise LedgerBroken(
                f"row {row.entry} is signed with key {signature.key_id}, which is none of those "
                f"given for sites/{site}",
                entry=row.entry,
            )
        try:
            check_update(update_of(row), signature, key)
        except BadSignature as error:
            raise LedgerBroken(f"row {row.entry}: {error.message}", entry=row.entry) from error
        self.signed += 1
