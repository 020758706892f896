"""Certificates: the signed records of erasures, checked offline and without torch.

A certificate file is canonical JSON. Its four fields `{key_id, public_key_pem, signature,
statement}` are the calibrator's (`letheon.proof.envelope`). A file that the coordinator hands out
has two more: `log`, the proof that these four stand in the transparency log, with a signed
checkpoint, and, once recipients answered, `amendment`, a later statement of the coordinator that
supersedes the list of recipients, with its own proof. Because the file must be canonical as a
whole, changing any byte of it is detected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from letheon.errors import CertificateInvalid, ProofInvalid
from letheon.proof import merkle
from letheon.proof.envelope import (
    KEYS,
    Envelope,
    Statement,
    load_key,
    open_envelope,
    read_canonical,
    seal,
)
from letheon.proof.form import check_form
from letheon.proof.key_list import CALIBRATOR, COORDINATOR, KeyList, is_key_list, read_key_list
from letheon.proof.note import read_note, verify_checkpoint
from letheon.servicekit.signing import PublicKey, SigningKey, canonical_json

FORMAT = "letheon-certificate/2"
OLDER_FORMATS = ("letheon-certificate/1",)
AMENDMENT_FORMAT = "letheon-amendment/1"
_LOG_KEYS = {"checkpoint", "index", "proof", "public_key_pem"}
_AMENDMENT_KEYS = KEYS | {"index", "proof"}


@dataclass(frozen=True)
class Trusted:
    """Keys that the reader got by another way than the file: of one signer, or none."""

    keys: KeyList | None = None
    key: PublicKey | None = None

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return self.keys is not None or self.key is not None

    def check(self, public: PublicKey, signed_at: datetime | None, whose: str) -> None:
        """Raises CertificateInvalid unless the key is trusted, and was valid when it signed."""
        if self.keys is not None:
            _check_listed(self.keys, public, signed_at)
        elif self.key is not None and self.key.key_id != public.key_id:
            raise CertificateInvalid(
                f"signed with key {public.key_id}, not with the {whose}'s key supplied "
                f"({self.key.key_id})",
                rule="key",
            )


@dataclass(frozen=True)
class Trust:
    """What the reader brings: keys of both signers, and which federation it expects."""

    calibrator: Trusted = field(default_factory=Trusted)
    coordinator: Trusted = field(default_factory=Trusted)
    origin: str | None = None


@dataclass(frozen=True)
class Logged:
    """That a certificate stands in the transparency log."""

    origin: str
    index: int
    size: int
    root: str  # hex
    key_id: str


@dataclass(frozen=True)
class Verified:
    """What a certificate says, and how far its check reaches."""

    statement: Statement
    key_id: str
    key_supplied: bool  # false: checked with the key inside the file, which proves integrity only
    logged: Logged | None = None  # None: a file of the older form, or straight from the calibrator
    log_key_supplied: bool = False
    amendment: Statement | None = None

    @property
    def caveat(self) -> str:
        """The sentence to print beside the result; empty when the signers' keys were supplied."""
        if not self.key_supplied:
            return (
                "checked with the public key inside the file: this proves that the file is intact, "
                "not who signed it"
            )
        if self.logged is None and self.statement.get("format") in OLDER_FORMATS:
            return ""  # made before there was a log
        if self.logged is None:
            return "the file holds no proof that the certificate stands in the transparency log"
        if not self.log_key_supplied:
            return (
                "the checkpoint of the log was checked with the public key inside the file: supply "
                "the coordinator's to know that it is this federation's log"
            )
        return ""

    @property
    def recipients(self) -> Sequence[Mapping[str, Any]]:
        """Who holds what the erasure made invalid, as last stated."""
        newest = self.amendment if self.amendment is not None else self.statement
        found: Sequence[Mapping[str, Any]] = newest.get("recipients", ())
        return found


def commitment(site: str, salt: str) -> str:
    """Salted commitment to a subject: sha256 of `salt:site`, hex."""
    return hashlib.sha256(f"{salt}:{site}".encode()).hexdigest()


def trusted(content: bytes | str | None, role: str) -> Trusted:
    """A public key in PEM, or a list of keys. Raises CertificateInvalid(rule="key")."""
    if content is None:
        return Trusted()
    raw = content.encode() if isinstance(content, str) else content
    if not is_key_list(raw):
        return Trusted(key=load_key(raw))
    try:
        return Trusted(keys=read_key_list(raw, role))
    except ProofInvalid as error:
        raise CertificateInvalid(error.message, rule="key") from error


def trust(
    key: bytes | str | None = None,
    log_key: bytes | str | None = None,
    origin: str | None = None,
) -> Trust:
    """From files: each key is a PEM or a list of keys. Raises CertificateInvalid(rule="key")."""
    return Trust(trusted(key, CALIBRATOR), trusted(log_key, COORDINATOR), origin)


def sign(statement: Statement, key: SigningKey) -> bytes:
    """What the calibrator signs: the four fields, canonical."""
    return canonical_json(seal(statement, key))


def fingerprint(envelope: bytes) -> str:
    """By which a later statement names the one that it supersedes: SHA-256, hex."""
    return hashlib.sha256(envelope).hexdigest()


def verify(file_bytes: bytes, public_pem: str | bytes | None = None) -> Verified:
    """As `verify_file`, with the calibrator's key or none."""
    return verify_file(file_bytes, trust(public_pem))


def verify_file(file_bytes: bytes, given: Trust) -> Verified:
    """Checks form, keys, signatures, commitment, ledger rows and the proofs of the log.

    Raises CertificateInvalid naming the rule that does not hold: form, key, signature,
    commitment, ledger, log or federation.
    """
    file = read_canonical(file_bytes)
    if not set(file) >= KEYS or set(file) - KEYS - {"log", "amendment"}:
        raise CertificateInvalid(f"a certificate has the keys {sorted(KEYS)}", rule="form")
    signed = open_envelope({key: file[key] for key in KEYS})
    given.calibrator.check(signed.public, signed_at(signed.statement), "calibrator")
    check_statement(signed.statement)
    logged, amendment = None, None
    try:
        _check_ledger_rows(signed.statement)
        if "log" in file:
            logged = _check_log(file["log"], signed, given)
        if "amendment" in file:
            amendment = _check_amendment(file, signed, given)
    except ProofInvalid as error:
        raise CertificateInvalid(error.message, rule=error.facts.get("rule", "log")) from error
    if logged is None and given.coordinator.given and signed.statement["format"] == FORMAT:
        raise CertificateInvalid(
            "the file holds no proof that the certificate stands in the transparency log: fetch "
            "it from the coordinator",
            rule="log",
        )
    if given.origin is not None and _origin(signed.statement) != given.origin:
        raise CertificateInvalid(
            f"the certificate is of the federation {_origin(signed.statement) or 'of no name'}, "
            f"not of {given.origin}",
            rule="federation",
        )
    return Verified(
        signed.statement,
        signed.public.key_id,
        given.calibrator.given,
        logged,
        logged is not None and given.coordinator.given,
        amendment,
    )


def check_statement(statement: Statement) -> None:
    """Format, form and commitment. Raises CertificateInvalid."""
    if statement.get("format") not in (FORMAT, *OLDER_FORMATS):
        raise CertificateInvalid(
            f"the statement is not of format {FORMAT}, nor of an older one: a newer release of "
            "Letheon may know it",
            rule="form",
        )
    check_form(statement)
    subject = statement.get("subject", {})
    site, salt = subject.get("site", ""), subject.get("salt", "")
    if subject.get("commitment") != commitment(str(site), str(salt)):
        raise CertificateInvalid("the commitment is not that of the subject", rule="commitment")


def signed_at(statement: Statement) -> datetime | None:
    """When the signer says it signed, or None."""
    try:
        found = datetime.fromisoformat(str(statement.get("signed_at", "")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _check_listed(keys: KeyList, public: PublicKey, at: datetime | None) -> None:
    try:
        if at is None:
            keys.check_holds(public.key_id)
        else:
            keys.check_valid(public.key_id, at)
    except ProofInvalid as error:
        raise CertificateInvalid(error.message, rule="key") from error


def _origin(statement: Statement) -> str:
    return str(statement.get("federation", {}).get("origin", ""))


def _check_ledger_rows(statement: Statement) -> None:
    """That the removed rows stand in the ledger whose root the statement names."""
    ledger = statement.get("ledger")
    if ledger is None:
        return
    try:
        leaves = {
            _number(entry): merkle.leaf_hash(bytes.fromhex(row_hash))
            for entry, row_hash in ledger["rows"]
        }
        size, root = _number(ledger["size"]), bytes.fromhex(ledger["root"])
        proof = [bytes.fromhex(one) for one in ledger["proof"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateInvalid("the rows of the ledger cannot be read", rule="ledger") from error
    try:
        merkle.verify_batch(leaves, size, proof, root)
    except ProofInvalid as error:
        raise CertificateInvalid(
            f"the removed rows do not stand in the ledger: {error.message}", rule="ledger"
        ) from error


def _check_log(log: object, signed: Envelope, given: Trust) -> Logged:
    if not isinstance(log, dict) or set(log) != _LOG_KEYS:
        raise CertificateInvalid(f"the log section has the keys {sorted(_LOG_KEYS)}", rule="form")
    if not isinstance(log["checkpoint"], str) or not isinstance(log["public_key_pem"], str):
        raise CertificateInvalid("checkpoint and key are strings", rule="form")
    public = load_key(log["public_key_pem"])
    if public.pem != log["public_key_pem"]:
        raise CertificateInvalid("the log's key is not in canonical PEM", rule="key")
    # The time of a checkpoint is not told: any key of the coordinator's list may have signed it.
    given.coordinator.check(public, None, "coordinator")
    if len(read_note(log["checkpoint"]).lines) != 1:
        raise CertificateInvalid("the checkpoint of a certificate has one signature", rule="form")
    origin = _origin(signed.statement)
    checkpoint = verify_checkpoint(log["checkpoint"], public)
    if checkpoint.origin != origin:
        raise CertificateInvalid(
            f"the certificate is of {origin or 'no federation'}, the checkpoint of "
            f"{checkpoint.origin}",
            rule="federation",
        )
    index = _check_leaf(signed.content, log, checkpoint.size, checkpoint.root)
    return Logged(checkpoint.origin, index, checkpoint.size, checkpoint.root.hex(), public.key_id)


def _check_leaf(content: bytes, proof: Mapping[str, Any], size: int, root: bytes) -> int:
    try:
        index = _number(proof["index"])
        path = [_hash(one) for one in proof["proof"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateInvalid("the inclusion proof cannot be read", rule="form") from error
    merkle.verify_inclusion(merkle.leaf_hash(content), index, size, path, root)
    return index


def _check_amendment(file: Mapping[str, Any], signed: Envelope, given: Trust) -> Statement:
    fields = file["amendment"]
    if not isinstance(fields, dict) or set(fields) != _AMENDMENT_KEYS or "log" not in file:
        raise CertificateInvalid(
            f"an amendment has the keys {sorted(_AMENDMENT_KEYS)} and needs the log", rule="form"
        )
    amendment = open_envelope({key: fields[key] for key in KEYS})
    statement = amendment.statement
    given.coordinator.check(amendment.public, signed_at(statement), "coordinator")
    if not given.coordinator.given and amendment.public.key_id != (
        load_key(file["log"]["public_key_pem"]).key_id
    ):
        raise CertificateInvalid("the amendment is not signed by the log's key", rule="key")
    if statement.get("format") != AMENDMENT_FORMAT:
        raise CertificateInvalid(f"the amendment is not of format {AMENDMENT_FORMAT}", rule="form")
    check_form(statement)
    named = (statement.get("certificate"), statement.get("erasure"), _origin(statement))
    due = (fingerprint(signed.content), signed.statement.get("erasure"), _origin(signed.statement))
    if named != due:
        raise CertificateInvalid("the amendment is of another certificate", rule="amendment")
    checkpoint = verify_checkpoint(
        file["log"]["checkpoint"], load_key(file["log"]["public_key_pem"])
    )
    index = _check_leaf(amendment.content, fields, checkpoint.size, checkpoint.root)
    if index <= _number(file["log"]["index"]):
        raise CertificateInvalid("the amendment is older than the certificate", rule="amendment")
    return statement


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number of a leaf")
    return value


def _hash(text: object) -> bytes:
    if not isinstance(text, str) or bytes.fromhex(text).hex() != text:
        raise ValueError("a hash is lower-case hex")
    found = bytes.fromhex(text)
    if len(found) != merkle.HASH_BYTES:
        raise ValueError("a hash has 32 bytes")
    return found
