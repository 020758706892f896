"""A certificate in a log of its own, as a coordinator hands it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letheon.proof import merkle
from letheon.proof.certificate import AMENDMENT_FORMAT, FORMAT, commitment, fingerprint, sign
from letheon.proof.certificate_file import LoggedStatement, assemble
from letheon.proof.envelope import seal
from letheon.proof.note import Checkpoint, sign_checkpoint
from letheon.servicekit.signing import SigningKey, canonical_json

ORIGIN = "letheon/abc"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECIPIENTS: tuple[dict[str, Any], ...] = (
    {"kind": "site", "site": "north", "versions": [3, 7], "state": "to be notified"},
    {
        "kind": "export",
        "export": "exports/x1",
        "version": 5,
        "recipient": "ethics board",
        "exported_at": "2026-02-01T00:00:00.000000Z",
        "state": "listed",
    },
)


@dataclass(frozen=True)
class Signers:
    """Whoever signs a certificate and a log."""

    calibrator: SigningKey
    coordinator: SigningKey


def some_signers(folder: Path) -> Signers:
    return Signers(
        SigningKey.load_or_create(folder / "calibrator.pem"),
        SigningKey.load_or_create(folder / "coordinator.pem"),
    )


def ledger_section(size: int = 9, wanted: Sequence[int] = (2, 4, 8)) -> dict[str, Any]:
    """Rows of a ledger with the proof that they stand in it."""
    hashes = [merkle.leaf_hash(bytes([number])).hex() for number in range(size)]
    leaves = [merkle.leaf_hash(bytes.fromhex(one)) for one in hashes]
    return {
        "size": size,
        "root": merkle.root(leaves).hex(),
        "rows": [[number, hashes[number]] for number in wanted],
        "rows_in_all": len(wanted),
        "proof": [node.hex() for node in merkle.batch_proof(leaves, wanted)],
    }


def a_statement(**more: Any) -> dict[str, Any]:
    site = "sites/south"
    return {
        "format": FORMAT,
        "federation": {"plan_digest": "p", "origin": ORIGIN},
        "erasure": "erasures/e1",
        "subject": {"site": site, "salt": "s", "commitment": commitment(site, "s")},
        "level": "L1",
        "level_granted": "L1",
        "method": {"name": "removal"},
        "claim": "influence removed and statistically verified",
        "ledger": ledger_section(),
        "recipients": list(RECIPIENTS),
        "supersedes": None,
        "signed_at": "2026-03-01T12:00:00.000000Z",
        **more,
    }


@dataclass(frozen=True)
class Logged:
    """A certificate with what was logged before, between and after it."""

    signers: Signers
    statement: dict[str, Any] = field(default_factory=a_statement)
    amended: bool = False
    origin: str = ORIGIN

    @property
    def envelope(self) -> bytes:
        return sign(self.statement, self.signers.calibrator)

    @property
    def amendment(self) -> bytes:
        statement = {
            "format": AMENDMENT_FORMAT,
            "federation": {"origin": self.origin},
            "erasure": "erasures/e1",
            "certificate": fingerprint(self.envelope),
            "supersedes": fingerprint(self.envelope),
            "number": 1,
            "recipients": [
                {**RECIPIENTS[0], "state": "acknowledged", "acknowledged_at": "2026-03-02"},
                RECIPIENTS[1],
            ],
            "complete": True,
            "signed_at": "2026-03-02T12:00:00.000000Z",
        }
        return canonical_json(seal(statement, self.signers.coordinator))

    def with_(self, **more: Any) -> Logged:
        return replace(self, **more)

    def file(self) -> bytes:
        contents = [b"first", self.envelope, b"between"]
        amendment = None
        if self.amended:
            contents.append(self.amendment)
            amendment = LoggedStatement(self.amendment, 3)
        leaves = [merkle.leaf_hash(content) for content in contents]
        checkpoint = Checkpoint(self.origin, len(leaves), merkle.root(leaves))
        key = self.signers.coordinator
        return assemble(
            LoggedStatement(self.envelope, 1),
            amendment,
            leaves,
            sign_checkpoint(checkpoint, key),
            key.public,
        )
