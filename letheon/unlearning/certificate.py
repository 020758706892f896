"""Certificates: the signed records of erasures, checked offline and without torch.

A certificate file is canonical JSON `{key_id, public_key_pem, signature, statement}`; the Ed25519
signature (base64) is over the canonical JSON of `statement`. Because the file must be canonical as
a whole, changing any byte of it is detected.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from letheon.errors import CertificateInvalid
from letheon.servicekit.signing import SigningKey, canonical_json

FORMAT = "letheon-certificate/1"
_KEYS = {"key_id", "public_key_pem", "signature", "statement"}
_KEY_ID_DIGITS = 16

Statement = Mapping[str, Any]  # JSON, as composed by `letheon.unlearning.statement`


@dataclass(frozen=True)
class Verified:
    """What a certificate says, and how far its check reaches."""

    statement: Statement
    key_id: str
    key_supplied: bool  # false: checked with the key inside the file, which proves integrity only

    @property
    def caveat(self) -> str:
        """The sentence to print beside the result; empty when the signer's key was supplied."""
        if self.key_supplied:
            return ""
        return (
            "checked with the public key inside the file: this proves that the file is intact, "
            "not who signed it"
        )


def commitment(site: str, salt: str) -> str:
    """Salted commitment to a subject: sha256 of `salt:site`, hex."""
    return hashlib.sha256(f"{salt}:{site}".encode()).hexdigest()


def sign(statement: Statement, key: SigningKey) -> bytes:
    """The certificate file."""
    signature = key.sign(canonical_json(statement))
    return canonical_json(
        {
            "key_id": key.key_id,
            "public_key_pem": key.public_pem,
            "signature": base64.b64encode(signature).decode(),
            "statement": statement,
        }
    )


def verify(file_bytes: bytes, public_pem: str | bytes | None) -> Verified:
    """Checks form, key, signature and the subject's commitment.

    Raises CertificateInvalid naming the rule that does not hold: form, key, signature, commitment.
    """
    file = _read(file_bytes)
    embedded = _load_key(file["public_key_pem"])
    pem = embedded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    if file["public_key_pem"] != pem or file["key_id"] != _key_id(embedded):
        raise CertificateInvalid("key and key id inside the file do not agree", rule="key")
    if public_pem is not None and _key_id(_load_key(public_pem)) != file["key_id"]:
        raise CertificateInvalid(
            f"signed with key {file['key_id']}, not with the key supplied", rule="key"
        )
    try:
        signature = base64.b64decode(file["signature"], validate=True)
        embedded.verify(signature, canonical_json(file["statement"]))
    except (binascii.Error, InvalidSignature) as error:
        raise CertificateInvalid(
            "the signature does not hold: the file was altered", rule="signature"
        ) from error
    _check_statement(file["statement"])
    return Verified(file["statement"], file["key_id"], public_pem is not None)


def _read(file_bytes: bytes) -> dict[str, Any]:
    try:
        file = json.loads(file_bytes)
    except (ValueError, RecursionError) as error:
        raise CertificateInvalid("not a JSON file", rule="form") from error
    if not isinstance(file, dict) or set(file) != _KEYS:
        raise CertificateInvalid(f"a certificate has the keys {sorted(_KEYS)}", rule="form")
    if not all(isinstance(file[key], str) for key in _KEYS - {"statement"}):
        raise CertificateInvalid("key and signature are strings", rule="form")
    if not isinstance(file["statement"], dict):
        raise CertificateInvalid("the statement is an object", rule="form")
    try:
        canonical = canonical_json(file)
    except ValueError as error:  # lone surrogates and numbers that are not finite
        raise CertificateInvalid("a value has no canonical form", rule="form") from error
    if canonical != file_bytes:
        raise CertificateInvalid("the file is not in canonical form: it was altered", rule="form")
    signature = file["signature"]
    try:
        strict = base64.b64encode(base64.b64decode(signature, validate=True)).decode()
    except ValueError as error:
        raise CertificateInvalid("the signature is not base64", rule="form") from error
    if strict != signature:
        raise CertificateInvalid("the signature is not canonical base64", rule="form")
    return file


def _load_key(pem: str | bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateInvalid("not a public key in PEM", rule="key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateInvalid("not an Ed25519 public key", rule="key")
    return key


def _key_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_DIGITS]


def _check_statement(statement: Statement) -> None:
    if statement.get("format") != FORMAT:
        raise CertificateInvalid(f"the statement is not of format {FORMAT}", rule="form")
    subject = statement.get("subject", {})
    site, salt = subject.get("site", ""), subject.get("salt", "")
    if subject.get("commitment") != commitment(str(site), str(salt)):
        raise CertificateInvalid("the commitment is not that of the subject", rule="commitment")
