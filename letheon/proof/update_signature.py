"""What a site signs when it sends an update, and the check of it.

Every field stands in the ledger row of an accepted delta, so that the signature can be checked
again, at any later time, against the row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from letheon.errors import BadSignature
from letheon.servicekit.signing import PublicKey, SigningKey, canonical_json

FORMAT = "letheon-update/1"


@dataclass(frozen=True)
class SignedUpdate:
    """One update. Of the answer to an erase task, `base_version` and `epoch` are -1."""

    site: str  # identifier
    update_id: str
    task: str  # identifier
    base_version: int
    epoch: int
    record_count: int
    payload_sha256: str  # hex
    payload_bytes: int
    encoding: str

    def content(self) -> bytes:
        """The bytes that are signed."""
        return canonical_json({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True)
class UpdateSignature:
    """The signature of a site, and by which of its keys."""

    key_id: str
    signature: bytes


def sign_update(update: SignedUpdate, key: SigningKey) -> UpdateSignature:
    """The site's signature."""
    return UpdateSignature(key.key_id, key.sign(update.content()))


def check_update(update: SignedUpdate, signature: UpdateSignature, public: PublicKey) -> None:
    """Raises BadSignature(rule=signature) unless the site's key signed exactly this update."""
    if signature.key_id != public.key_id:
        raise BadSignature(
            f"update {update.update_id} is signed with key {signature.key_id}, and sites/"
            f"{update.site} is known by key {public.key_id}",
            rule="signature",
            site=update.site,
        )
    try:
        public.verify(update.content(), signature.signature)
    except BadSignature:
        raise BadSignature(
            f"the signature of update {update.update_id} is not that of sites/{update.site} for "
            "this payload, base, epoch and update id",
            rule="signature",
            site=update.site,
        ) from None


def successor_content(site: str, public: PublicKey) -> bytes:
    """What the present key of a site signs to hand over to a new one."""
    return canonical_json(
        {"format": "letheon-update-key/1", "site": site, "public_key_pem": public.pem}
    )
