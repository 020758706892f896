"""The keys of one signer over time: each new one is signed by the one before it.

The file is canonical JSON: format, role and keys, oldest first, each with its PEM, the time from
which it signs, and the signature of the key before it. Whoever holds any key of the list by a
trusted way can check every later one. A key is valid from its own time to that of the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from letheon.errors import BadSignature, ProofInvalid
from letheon.proof.note import verify_checkpoint
from letheon.servicekit.signing import (
    PublicKey,
    SigningKey,
    canonical_json,
    read_signature,
    signature_text,
)

FORMAT = "letheon-keys/1"
COORDINATOR, CALIBRATOR = "coordinator", "calibrator"
_ENTRY_KEYS = {"public_key_pem", "since", "signature"}
_MOST_KEYS = 1000


@dataclass(frozen=True)
class ListedKey:
    """One key, and from when it signs."""

    public: PublicKey
    since: datetime
    signature: str  # by the key before it, base64; empty for the first

    def document(self) -> dict[str, str]:
        """As it stands in the file."""
        return {
            "public_key_pem": self.public.pem,
            "since": stamp(self.since),
            "signature": self.signature,
        }


@dataclass(frozen=True)
class KeyList:
    """Keys of one signer, oldest first; at least one, and every link holds."""

    role: str
    keys: tuple[ListedKey, ...]

    @classmethod
    def of_one(cls, role: str, key: SigningKey, since: datetime) -> KeyList:
        """The list of a signer that never changed its key."""
        return cls(role, (ListedKey(key.public, since, ""),))

    @property
    def current(self) -> PublicKey:
        """The key that signs now."""
        return self.keys[-1].public

    def followed_by(self, new: SigningKey, *, by: SigningKey, since: datetime) -> KeyList:
        """The list with one more key, signed by the present one.

        Raises ProofInvalid unless `by` is the present key and `since` later than its own.
        """
        if by.key_id != self.current.key_id:
            raise ProofInvalid(
                f"the newest key of the list is {self.current.key_id}, not {by.key_id}", rule="key"
            )
        if since <= self.keys[-1].since:
            raise ProofInvalid("a key begins later than the one before it", rule="time")
        link = _link(self.role, self.keys, new.public, since)
        added = ListedKey(new.public, since, signature_text(by.sign(link)))
        return KeyList(self.role, (*self.keys, added))

    def find(self, key_id: str) -> PublicKey | None:
        """The key of that id, or None."""
        return next((one.public for one in self.keys if one.public.key_id == key_id), None)

    def check_valid(self, key_id: str, at: datetime) -> PublicKey:
        """The key, which signed at that time. Raises ProofInvalid: rule key or time."""
        for number, one in enumerate(self.keys):
            if one.public.key_id != key_id:
                continue
            ends = self.keys[number + 1].since if number + 1 < len(self.keys) else None
            if at < one.since or (ends is not None and at >= ends):
                until = "" if ends is None else f" to {stamp(ends)}"
                raise ProofInvalid(
                    f"key {key_id} signed from {stamp(one.since)}{until}, not at {stamp(at)}",
                    rule="time",
                )
            return one.public
        return self.check_holds(key_id)

    def check_holds(self, key_id: str) -> PublicKey:
        """The key of that id, whenever it signed. Raises ProofInvalid(rule="key")."""
        found = self.find(key_id)
        if found is None:
            raise ProofInvalid(f"no key {key_id} is in the list of the {self.role}", rule="key")
        return found

    def signer_of(self, note: str) -> PublicKey:
        """The key of the list that signed a checkpoint. Raises ProofInvalid if none did."""
        for one in reversed(self.keys):
            try:
                verify_checkpoint(note, one.public)
            except ProofInvalid:
                continue
            return one.public
        raise ProofInvalid(f"no key of the {self.role} signed the checkpoint", rule="signature")

    def check_follows(self, trusted: PublicKey) -> None:
        """Raises ProofInvalid unless the trusted key is in the list."""
        if self.find(trusted.key_id) is None:
            raise ProofInvalid(
                f"the list of the {self.role}'s keys does not hold the key {trusted.key_id} that "
                "is trusted here",
                rule="key",
            )

    def content(self) -> bytes:
        """The file."""
        keys = [key.document() for key in self.keys]
        return canonical_json({"format": FORMAT, "role": self.role, "keys": keys})


def read_key_list(content: bytes, role: str | None = None) -> KeyList:
    """A list whose every link holds. Raises ProofInvalid: rule form, role, time or signature."""
    found = _document(content)
    if role is not None and found["role"] != role:
        raise ProofInvalid(
            f"the list holds keys of the {found['role']}, not of the {role}", rule="role"
        )
    keys: list[ListedKey] = []
    for entry in found["keys"]:
        keys.append(_entry(found["role"], keys, entry))
    listed = KeyList(found["role"], tuple(keys))
    if listed.content() != content:
        raise ProofInvalid("the list of keys is not in canonical form", rule="form")
    return listed


def is_key_list(content: bytes) -> bool:
    """Whether a file is meant to be a list, rather than a single key in PEM."""
    return content.lstrip()[:1] == b"{"


def _document(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProofInvalid("the list of keys is not JSON", rule="form") from error
    if not isinstance(found, dict) or set(found) != {"format", "role", "keys"}:
        raise ProofInvalid("a list of keys has format, role and keys", rule="form")
    if found["format"] != FORMAT:
        raise ProofInvalid(f"the list of keys is not of format {FORMAT}", rule="form")
    entries = found["keys"]
    right = isinstance(entries, list) and 0 < len(entries) <= _MOST_KEYS
    if found["role"] not in (COORDINATOR, CALIBRATOR) or not right:
        raise ProofInvalid("a list of keys names its role and at least one key", rule="form")
    return found


def _entry(role: str, before: Sequence[ListedKey], entry: object) -> ListedKey:
    number = len(before)
    if not isinstance(entry, Mapping) or set(entry) != _ENTRY_KEYS:
        raise ProofInvalid(f"key {number} of the list cannot be read", rule="form")
    if not all(isinstance(value, str) for value in entry.values()):
        raise ProofInvalid(f"key {number} of the list cannot be read", rule="form")
    try:
        public = PublicKey.from_pem(entry["public_key_pem"])
        since = datetime.fromisoformat(entry["since"]).astimezone(UTC)
    except (BadSignature, ValueError, OverflowError) as error:
        raise ProofInvalid(f"key {number} of the list cannot be read", rule="form") from error
    listed = ListedKey(public, since, entry["signature"])
    if not before:
        if listed.signature:
            raise ProofInvalid("the first key of the list is signed by nobody", rule="signature")
        return listed
    if since <= before[-1].since:
        raise ProofInvalid(f"key {number} begins before the one it follows", rule="time")
    try:
        link = _link(role, before, public, since)
        before[-1].public.verify(link, read_signature(listed.signature))
    except BadSignature as error:
        raise ProofInvalid(
            f"key {number} of the list is not signed by the key before it", rule="signature"
        ) from error
    return listed


def _link(role: str, before: Sequence[ListedKey], public: PublicKey, since: datetime) -> bytes:
    """What the key before signs: the new key, its time, and all that came before."""
    digest = hashlib.sha256(canonical_json([one.document() for one in before])).hexdigest()
    return canonical_json(
        {
            "format": FORMAT,
            "role": role,
            "follows": digest,
            "public_key_pem": public.pem,
            "since": stamp(since),
        }
    )


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
