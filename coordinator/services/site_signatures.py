"""Keys of sites, and the check of what they signed.

A site without a key may send unsigned updates unless the configuration asks for signatures; from
the moment it has registered one, every update of it needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from coordinator.domain.evidence import EntrySignature, SiteKey
from coordinator.domain.upload import AnswerPurpose, DeltaPurpose, Header
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from letheon.errors import BadSignature, InternalFault, MalformedRequest, SiteKeyChanged
from letheon.federation.ledger import Entry
from letheon.names import site_name
from letheon.proof.signed_rows import update_of
from letheon.proof.update_signature import (
    SignedUpdate,
    UpdateSignature,
    check_update,
    successor_content,
)
from letheon.servicekit.signing import PublicKey, read_signature, signature_text


@dataclass(frozen=True)
class SiteSignatures:
    """The rule of the federation: whether a site may do without a key."""

    required: bool = False

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises BadSignature(rule=signature) for one that is missing, forged or of another."""
        update = _of_header(header)
        key = present_key(uow.site_keys.of(update.site))
        signature = header.signature
        if key is None:
            if self.required:
                raise BadSignature(
                    f"sites/{update.site} has registered no update-signing key, and this "
                    "federation takes signed updates only: its agent needs a newer release",
                    rule="signature",
                    site=update.site,
                )
            return
        if signature is None:
            raise BadSignature(
                f"update {update.update_id} is not signed, and sites/{update.site} has registered "
                f"key {key.key_id}",
                rule="signature",
                site=update.site,
            )
        check_update(update, signature, PublicKey.from_pem(key.public_pem))

    def keep(self, uow: UnitOfWork, entry: Entry, header: Header) -> None:
        """Keeps a checked signature with its ledger row."""
        signature = header.signature
        if signature is not None and present_key(uow.site_keys.of(entry.site or "")) is not None:
            text = signature_text(signature.signature)
            uow.signatures.add(EntrySignature(entry.entry, signature.key_id, text))


def register_key(uow: UnitOfWork, site: str, pem: str, proof: bytes, now: datetime) -> None:
    """The key of a site from now on; repeating it changes nothing.

    A second key needs `proof`: the signature of the first one over it. Raises MalformedRequest
    for what is no key, SiteKeyChanged without a proof that holds.
    """
    try:
        public = PublicKey.from_pem(pem)
    except BadSignature as error:
        raise MalformedRequest(error.message, field="update_key_pem") from error
    known = uow.site_keys.of(site)
    present = present_key(known)
    if present is not None and present.key_id == public.key_id:
        return
    if any(key.key_id == public.key_id for key in known):
        raise SiteKeyChanged(
            f"key {public.key_id} of sites/{site} came to its end: a new one is due",
            site=site,
            key_id=public.key_id,
        )
    newest = uow.entries.newest()
    since = -1 if newest is None else newest.entry
    if present is not None:
        _check_handed_over(site, present, public, proof)
        uow.site_keys.save(replace(present, until_entry=since))
    uow.site_keys.add(SiteKey(site, public.key_id, public.pem, since, now))
    audit.record(uow, now, "site_key.registered", site_name(site), key_id=public.key_id)


def forget_key(uow: UnitOfWork, site: str, now: datetime) -> None:
    """Ends the present key, so that the site may register another without a proof."""
    uow.sites.get(site)
    present = present_key(uow.site_keys.of(site))
    if present is None:
        return
    newest = uow.entries.newest()
    through = -1 if newest is None else newest.entry
    uow.site_keys.save(replace(present, until_entry=through))
    audit.record(uow, now, "site_key.forgotten", site_name(site), key_id=present.key_id)


def _check_handed_over(site: str, present: SiteKey, new: PublicKey, proof: bytes) -> None:
    try:
        PublicKey.from_pem(present.public_pem).verify(successor_content(site, new), proof)
    except BadSignature:
        raise SiteKeyChanged(
            f"sites/{site} is known by key {present.key_id}, and key {new.key_id} is not signed "
            "by it: put back the agent's state directory, or have an operator forget the old key",
            site=site,
            key_id=present.key_id,
        ) from None


def present_key(keys: Sequence[SiteKey]) -> SiteKey | None:
    """The key that signs now, or None."""
    return next((key for key in reversed(keys) if key.until_entry is None), None)


def key_due(keys: Sequence[SiteKey], entry: int) -> SiteKey | None:
    """The key that had to sign a row, or None."""
    for key in keys:
        if key.since_entry < entry and (key.until_entry is None or entry <= key.until_entry):
            return key
    return None


def check_row(row: Entry, key: SiteKey | None, kept: EntrySignature | None) -> bool:
    """Whether the row is signed. Raises BadSignature if it should be and is not, or not so."""
    if key is None:
        return False
    if kept is None:
        raise BadSignature(
            f"the delta of sites/{row.site} is not signed, though the site had registered key "
            f"{key.key_id}",
            rule="signature",
        )
    signature = UpdateSignature(kept.key_id, read_signature(kept.signature))
    check_update(update_of(row), signature, PublicKey.from_pem(key.public_pem))
    return True


def _of_header(header: Header) -> SignedUpdate:
    match header.purpose:
        case DeltaPurpose() as delta:
            facts = (delta.base_version, delta.epoch, delta.record_count)
        case AnswerPurpose():
            facts = (-1, -1, 0)
        case _:
            raise InternalFault("patches are the calibrator's and carry no site's signature")
    base_version, epoch, record_count = facts
    return SignedUpdate(
        site=header.purpose.site,
        update_id=header.update_id,
        task=header.purpose.task,
        base_version=base_version,
        epoch=epoch,
        record_count=record_count,
        payload_sha256=header.sha256,
        payload_bytes=header.size_bytes,
        # The layout is checked later, and may still be empty.
        encoding=header.layout[0][2] if header.layout else "",
    )
