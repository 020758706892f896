"""Puts a certificate file together: what was signed, and the proofs that it was logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from letheon.proof.merkle import inclusion_proof
from letheon.servicekit.signing import PublicKey, canonical_json


@dataclass(frozen=True)
class LoggedStatement:
    """An envelope as it stands in the log."""

    content: bytes  # canonical, the bytes of the leaf
    index: int


def assemble(
    certificate: LoggedStatement,
    amendment: LoggedStatement | None,
    leaves: Sequence[bytes],
    checkpoint: str,
    log_key: PublicKey,
) -> bytes:
    """The file, canonical. `leaves` are the hashes of the tree that the checkpoint signs."""
    file: dict[str, Any] = json.loads(certificate.content)
    file["log"] = {
        "index": certificate.index,
        "proof": _path(leaves, certificate.index),
        "checkpoint": checkpoint,
        "public_key_pem": log_key.pem,
    }
    if amendment is not None:
        file["amendment"] = {
            **json.loads(amendment.content),
            "index": amendment.index,
            "proof": _path(leaves, amendment.index),
        }
    return canonical_json(file)


def _path(leaves: Sequence[bytes], index: int) -> list[str]:
    return [node.hex() for node in inclusion_proof(leaves, index)]
