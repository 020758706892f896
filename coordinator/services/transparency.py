"""The transparency log: leaves are added, signed over, and proven to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coordinator.domain.evidence import Leaf, LeafKind, SignedCheckpoint
from coordinator.ports import Store, UnitOfWork
from letheon.errors import ProofInvalid
from letheon.proof import merkle
from letheon.proof.audit_chain import head_content
from letheon.proof.certificate_file import LoggedStatement, assemble
from letheon.proof.key_files import Signer
from letheon.proof.manifest import Manifest
from letheon.proof.note import Checkpoint, sign_checkpoint
from letheon.servicekit.clock import Clock


def origin_of(federation: str) -> str:
    """The name of a federation's log, and of its checkpoints' key."""
    return f"letheon/{federation}"


@dataclass(frozen=True)
class Transparency:
    """The log of one federation, and the key that signs it and every model sent."""

    store: Store
    signer: Signer
    origin: str
    clock: Clock

    def add(
        self, uow: UnitOfWork, kind: LeafKind, content: bytes, *, erasure: str | None = None
    ) -> Leaf:
        """The leaf, the present one if it stands there already. `sign` comes after the last."""
        leaf_hash = merkle.leaf_hash(content).hex()
        known = uow.log.by_hash(leaf_hash)
        if known is not None:
            return known
        leaf = Leaf(uow.log.size(), kind, erasure, content, leaf_hash, self.clock.now())
        uow.log.add(leaf)
        return leaf

    def add_audit_head(self, uow: UnitOfWork) -> None:
        """Fixes the audit log up to its newest row."""
        newest = uow.audit.newest()
        if newest is not None:
            self.add(uow, LeafKind.AUDIT_HEAD, head_content(self.origin, newest))

    def sign(self, uow: UnitOfWork, now: datetime) -> SignedCheckpoint:
        """The checkpoint of the log as it is now."""
        size = uow.log.size()
        known = uow.log.checkpoint(size)
        if known is not None:
            return known
        made = self._signed(size, merkle.root(uow.log.hashes(size)), now)
        uow.log.add_checkpoint(made)
        return made

    def checkpoint(self) -> str:
        """The newest signed note; that of an empty log if there is none yet."""
        with self.store.read() as uow:
            known = uow.log.checkpoint()
        if known is not None:
            return known.note
        return self._signed(0, merkle.EMPTY_ROOT, self.clock.now()).note

    def inclusion(self, index: int, size: int) -> tuple[Leaf, list[bytes]]:
        """A leaf and its proof in the tree of `size` leaves. Raises ProofInvalid."""
        with self.store.read() as uow:
            self._check_size(uow, size)
            leaf = uow.log.find(index)
            hashes = uow.log.hashes(size)
        if leaf is None or index >= size:
            raise ProofInvalid(f"a log of {size} entries has no entry {index}", rule="index")
        return leaf, merkle.inclusion_proof(hashes, index)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """That the log of `second` entries begins with that of `first`. Raises ProofInvalid."""
        with self.store.read() as uow:
            self._check_size(uow, second)
            return merkle.consistency_proof(uow.log.hashes(second), first)

    def file_of(self, uow: UnitOfWork, erasure: str) -> bytes | None:
        """The certificate file with its proofs; None if the certificate was never logged."""
        certificate = uow.log.newest(LeafKind.CERTIFICATE, erasure)
        if certificate is None:
            return None
        amendment = uow.log.newest(LeafKind.AMENDMENT, erasure)
        newest = certificate if amendment is None else amendment
        checkpoint = uow.log.checkpoint(newest.number + 1)
        if checkpoint is None:
            return None
        return assemble(
            LoggedStatement(certificate.content, certificate.number),
            None if amendment is None else LoggedStatement(amendment.content, amendment.number),
            uow.log.hashes(checkpoint.size),
            checkpoint.note,
            self.signer.keys.signer_of(checkpoint.note),
        )

    def manifest(
        self, *, name: str, version: int, epoch: int, size_bytes: int, sha256: str, plan: str
    ) -> tuple[Manifest, bytes]:
        """What is sent before a model, and its signature."""
        manifest = Manifest(self.origin, name, version, epoch, size_bytes, sha256, plan)
        return manifest, self.signer.key.sign(manifest.content())

    def _signed(self, size: int, root: bytes, now: datetime) -> SignedCheckpoint:
        note = sign_checkpoint(Checkpoint(self.origin, size, root), self.signer.key)
        return SignedCheckpoint(size, note, now)

    @staticmethod
    def _check_size(uow: UnitOfWork, size: int) -> None:
        present = uow.log.size()
        if not 0 <= size <= present:
            raise ProofInvalid(f"the log has {present} entries, not {size}", rule="size")
