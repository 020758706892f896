"""The transactional store: one unit of work, one repository a noun.

    with store.write() as uow:      # one writer at a time, everywhere
        site = uow.sites.get("north")
        uow.sites.save(fence(site, "e1"))
        uow.commit()                # last; leaving without it changes nothing

A repository's `get` raises the NotFound of its noun, `find` answers None. Adapters raise
StorageUnavailable when the store does not answer. Records are frozen: save a changed copy.
"""

# ruff: noqa: D102 (a repository method says by its name and types what it does)
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from coordinator.domain.claim import Claim
from coordinator.domain.erasure import Announcement, Attempt, Certificate, Erasure
from coordinator.domain.invitation import Invitation
from coordinator.domain.model import (
    BufferedDelta,
    Checkpoint,
    Compaction,
    Contribution,
    Destroyed,
    Export,
    FederationRow,
    Leadership,
    ModelFile,
    Term,
)
from coordinator.domain.quarantine import QuarantinedDelta
from coordinator.domain.site import Site
from coordinator.domain.task import Task
from coordinator.domain.upload import Receipt, Upload
from coordinator.ports.evidence import (
    AuditRepository,
    DownloadRepository,
    LogRepository,
    SignatureRepository,
    SiteKeyRepository,
)
from letheon.federation.ledger import Entry, EntryKind


class SiteRepository(Protocol):
    """Sites, oldest first."""

    def get(self, site: str) -> Site: ...
    def find(self, site: str) -> Site | None: ...
    def add(self, site: Site) -> None: ...
    def save(self, site: Site) -> None: ...
    def all(self) -> list[Site]: ...


class EntryRepository(Protocol):
    """The ledger: append only, gap-free from 0."""

    def add(self, entry: Entry) -> None: ...
    def get(self, entry: int) -> Entry: ...
    def newest(self, kind: EntryKind | None = None) -> Entry | None: ...
    def page(self, first: int, limit: int) -> list[Entry]: ...
    def terms(self, site: str, *, after: int, limit: int | None = None) -> list[Term]:
        """What was added to the weights for a site by entries > `after`, in replay order."""
        ...

    def payloads(self, *, through: int, site: str | None = None) -> Iterator[str]:
        """Digests of the payloads of entries <= `through`, of one site or of all."""
        ...

    def names_payload(self, sha256: str, *, after: int = -1) -> bool:
        """Whether any row > `after` names the payload."""
        ...

    def merged_weights(self) -> dict[str, float]:
        """Of each site the sum of the coefficients its deltas were merged with."""
        ...

    def accepted_between(self, first: int, last: int, *, without: str | None = None) -> int:
        """Number of delta and buffered entries in first..last, not counting one site's."""
        ...


class BufferedRepository(Protocol):
    """Deltas that wait for their buffer to fill."""

    def add(self, delta: BufferedDelta) -> None: ...
    def save(self, delta: BufferedDelta) -> None: ...
    def waiting(self, at_entry: int | None = None) -> list[BufferedDelta]:
        """Those that wait now, or waited after row `at_entry`, in entry order."""
        ...

    def voided(self, site: str) -> list[BufferedDelta]:
        """Those of a site that were never merged because it was fenced."""
        ...


class QuarantineRepository(Protocol):
    """Deltas that screening set aside, oldest first; decided ones stay as rows."""

    def get(self, update_id: str) -> QuarantinedDelta: ...
    def add(self, delta: QuarantinedDelta) -> None: ...
    def save(self, delta: QuarantinedDelta) -> None: ...
    def all(self, *, waiting: bool = False, site: str | None = None) -> list[QuarantinedDelta]: ...
    def keeps(self, sha256: str) -> bool:
        """Whether a waiting delta has this payload."""
        ...


class UploadRepository(Protocol):
    """Uploads under way."""

    def find(self, update_id: str) -> Upload | None: ...
    def add(self, upload: Upload) -> None: ...
    def remove(self, update_id: str) -> None: ...
    def all(self) -> list[Upload]: ...


class ReceiptRepository(Protocol):
    """Receipts, kept for ever: they make a repeated upload harmless."""

    def find(self, update_id: str) -> Receipt | None: ...
    def add(self, receipt: Receipt) -> None: ...
    def replace(self, receipt: Receipt) -> None:
        """Of a quarantined delta that was released."""
        ...

    def stored(self, *, site: str) -> list[Receipt]:
        """Receipts of answer payloads of a site."""
        ...

    def stored_digests(self) -> set[str]:
        """Digests of all answer payloads."""
        ...

    def stores(self, sha256: str) -> bool:
        """Whether an answer has this payload."""
        ...


class TaskRepository(Protocol):
    """Evaluate, audit and erase tasks."""

    def get(self, task: str) -> Task: ...
    def add(self, task: Task) -> None: ...
    def save(self, task: Task) -> None: ...
    def waiting(self, site: str) -> list[Task]: ...
    def of_request(self, request_id: str, erasure: str | None) -> list[Task]: ...
    def of_erasure(self, erasure: str) -> list[Task]: ...


class ErasureRepository(Protocol):
    """Erasures, newest first."""

    def get(self, erasure: str) -> Erasure: ...
    def by_request(self, request_id: str) -> Erasure | None: ...
    def of_site(self, site: str) -> list[Erasure]: ...
    def add(self, erasure: Erasure) -> None: ...
    def save(self, erasure: Erasure) -> None: ...
    def open(self) -> list[Erasure]: ...
    def all(self) -> list[Erasure]: ...


class ClaimRepository(Protocol):
    """The newest claim of each erasure."""

    def find(self, erasure: str) -> Claim | None: ...
    def save(self, claim: Claim) -> None: ...


class AttemptRepository(Protocol):
    """Runs of the gate, by number."""

    def of(self, erasure: str) -> list[Attempt]: ...
    def save(self, attempt: Attempt) -> None: ...


class Outbox(Protocol):
    """Erasures whose id must reach the stream; written with the erasure."""

    def add(self, erasure: str, now: datetime) -> None: ...
    def due(self, limit: int = 100) -> list[Announcement]: ...
    def mark_announced(self, announcement: int, now: datetime) -> None: ...


class CertificateRepository(Protocol):
    """Certificates, newest first."""

    def get(self, erasure: str) -> Certificate: ...
    def add(self, certificate: Certificate) -> None: ...
    def all(self) -> list[Certificate]: ...


class ModelRepository(Protocol):
    """Versions written out, what pins them, and what can never be rebuilt."""

    def find(self, version: int) -> ModelFile | None: ...
    def add(self, file: ModelFile) -> None: ...
    def remove(self, version: int) -> None: ...
    def newest(self, limit: int | None = None) -> list[ModelFile]: ...
    def pin(self, version: int, reason: str) -> None: ...
    def unpin(self, reason: str, version: int | None = None) -> None: ...
    def pins(self) -> dict[int, set[str]]: ...


class DestroyedRepository(Protocol):
    """What erasures destroyed: ranges of versions, and payload digests."""

    def versions(self) -> list[Destroyed]: ...
    def add_versions(self, destroyed: Destroyed) -> None: ...
    def add_payload(self, sha256: str, erasure: str, now: datetime) -> None: ...
    def destroyer_of(self, sha256: str) -> str | None: ...
    def payloads(self, erasure: str) -> list[str]: ...


class CheckpointRepository(Protocol):
    """Checkpoints of the head, newest first."""

    def add(self, checkpoint: Checkpoint) -> None: ...
    def remove(self, entry: int) -> None: ...
    def all(self) -> list[Checkpoint]: ...


class ContributionRepository(Protocol):
    """How far each site's contribution is folded."""

    def find(self, site: str) -> Contribution | None: ...
    def save(self, contribution: Contribution) -> None: ...
    def all(self) -> list[Contribution]: ...


class CompactionRepository(Protocol):
    """Payloads given up behind an anchor, newest first."""

    def save(self, compaction: Compaction) -> None: ...
    def all(self) -> list[Compaction]: ...


class ExportRepository(Protocol):
    """Recorded exports, newest first."""

    def find(self, request_id: str) -> Export | None: ...
    def add(self, export: Export) -> None: ...
    def all(self) -> list[Export]: ...


class InvitationRepository(Protocol):
    """Tokens of sites, by their digests."""

    def find(self, token_sha256: str) -> Invitation | None: ...
    def add(self, invitation: Invitation) -> None: ...
    def save(self, invitation: Invitation) -> None: ...
    def of_site(self, site: str) -> list[Invitation]: ...


class LeadershipRepository(Protocol):
    """Who may write."""

    def get(self) -> Leadership: ...
    def save(self, leadership: Leadership) -> None: ...


class FederationRepository(Protocol):
    """The federation row and its counters."""

    def find(self) -> FederationRow | None: ...
    def get(self) -> FederationRow: ...
    def add(self, row: FederationRow) -> None: ...
    def save(self, row: FederationRow) -> None: ...
    def count(self, outcome: str, by: int = 1) -> None: ...
    def counters(self) -> dict[str, int]: ...


class UnitOfWork(Protocol):
    """One transaction and its repositories."""

    sites: SiteRepository
    entries: EntryRepository
    buffered: BufferedRepository
    quarantined: QuarantineRepository
    uploads: UploadRepository
    receipts: ReceiptRepository
    tasks: TaskRepository
    erasures: ErasureRepository
    claims: ClaimRepository
    attempts: AttemptRepository
    outbox: Outbox
    certificates: CertificateRepository
    models: ModelRepository
    destroyed: DestroyedRepository
    checkpoints: CheckpointRepository
    contributions: ContributionRepository
    compactions: CompactionRepository
    exports: ExportRepository
    invitations: InvitationRepository
    site_keys: SiteKeyRepository
    signatures: SignatureRepository
    audit: AuditRepository
    log: LogRepository
    downloads: DownloadRepository
    leadership: LeadershipRepository
    federation: FederationRepository

    def commit(self) -> None: ...


class Store(Protocol):
    """Opens transactions."""

    def read(self) -> AbstractContextManager[UnitOfWork]:
        """A consistent view; cannot commit."""
        ...

    def write(self) -> AbstractContextManager[UnitOfWork]:
        """The one writer. Do not take the live model's lock inside: it is taken before.

        Raises LeadershipLost when `lead` named a token that is not the newest any more.
        """
        ...

    def note(self) -> AbstractContextManager[UnitOfWork]:
        """As `write`, for what may be lost in a power cut: it does not wait for the disk."""
        ...


class LedStore(Store, Protocol):
    """A store that one of several processes may write to."""

    def lead(self, token: int, lost: Callable[[], None]) -> None:
        """From now on, writes are refused unless `token` is the newest; then calls `lost`."""
        ...
