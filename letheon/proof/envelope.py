"""A signed statement: canonical JSON `{key_id, public_key_pem, signature, statement}`.

The signature (base64) is Ed25519 over the canonical JSON of `statement`. The four fields, as
canonical JSON, are also what a leaf of the transparency log holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from letheon.errors import BadSignature, CertificateInvalid
from letheon.servicekit.signing import (
    PublicKey,
    SigningKey,
    canonical_json,
    read_signature,
    signature_text,
)

KEYS = frozenset({"key_id", "public_key_pem", "signature", "statement"})
Statement = Mapping[str, Any]  # JSON, as composed by `letheon.unlearning.statement`


@dataclass(frozen=True)
class Envelope:
    """A statement whose signature holds; by whose key, the reader decides."""

    statement: Statement
    public: PublicKey
    content: bytes  # canonical


def seal(statement: Statement, key: SigningKey) -> dict[str, Any]:
    """The four fields."""
    return {
        "key_id": key.key_id,
        "public_key_pem": key.public_pem,
        "signature": signature_text(key.sign(canonical_json(statement))),
        "statement": statement,
    }


def open_envelope(fields: Mapping[str, Any]) -> Envelope:
    """Raises CertificateInvalid naming the rule that does not hold: form, key or signature."""
    if set(fields) != KEYS or not all(isinstance(fields[key], str) for key in KEYS - {"statement"}):
        raise CertificateInvalid(f"a signed statement has the keys {sorted(KEYS)}", rule="form")
    if not isinstance(fields["statement"], dict):
        raise CertificateInvalid("the statement is an object", rule="form")
    public = load_key(fields["public_key_pem"])
    if (fields["public_key_pem"], fields["key_id"]) != (public.pem, public.key_id):
        raise CertificateInvalid("key and key id inside the file do not agree", rule="key")
    try:
        signature = read_signature(fields["signature"])
    except BadSignature as error:
        raise CertificateInvalid(error.message, rule="form") from error
    try:
        public.verify(canonical_json(fields["statement"]), signature)
    except BadSignature as error:
        raise CertificateInvalid(
            "the signature does not hold: the file was altered", rule="signature"
        ) from error
    return Envelope(fields["statement"], public, canonical_json(dict(fields)))


def load_key(pem: str | bytes) -> PublicKey:
    """Raises CertificateInvalid(rule="key")."""
    try:
        return PublicKey.from_pem(pem)
    except BadSignature as error:
        raise CertificateInvalid(error.message, rule="key") from error


def read_canonical(content: bytes) -> dict[str, Any]:
    """A JSON object in canonical form. Raises CertificateInvalid(rule="form") for anything else."""
    try:
        file = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CertificateInvalid("not a JSON file", rule="form") from error
    if not isinstance(file, dict):
        raise CertificateInvalid("the file is no JSON object", rule="form")
    try:
        canonical = canonical_json(file)
    except (ValueError, RecursionError) as error:  # lone surrogates, numbers that are not finite
        raise CertificateInvalid("a value has no canonical form", rule="form") from error
    if canonical != content:
        raise CertificateInvalid("the file is not in canonical form: it was altered", rule="form")
    return file
