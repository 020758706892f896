"""What the use cases need from the outside, as protocols."""

from coordinator.ports.files import (
    Blobs,
    BlobStore,
    Bytes,
    Staging,
    StagingArea,
)
from coordinator.ports.meter import (
    IdMaker,
    Meter,
)
from coordinator.ports.store import (
    AttemptRepository,
    BufferedRepository,
    CertificateRepository,
    CheckpointRepository,
    ClaimRepository,
    CompactionRepository,
    ContributionRepository,
    DestroyedRepository,
    EntryRepository,
    ErasureRepository,
    ExportRepository,
    FederationRepository,
    ModelRepository,
    Outbox,
    ReceiptRepository,
    SiteRepository,
    Store,
    TaskRepository,
    UnitOfWork,
    UploadRepository,
)
from coordinator.ports.tombstones import (
    TombstoneLog,
)

__all__ = [
    "AttemptRepository",
    "BlobStore",
    "Blobs",
    "BufferedRepository",
    "Bytes",
    "CertificateRepository",
    "CheckpointRepository",
    "ClaimRepository",
    "CompactionRepository",
    "ContributionRepository",
    "DestroyedRepository",
    "EntryRepository",
    "ErasureRepository",
    "ExportRepository",
    "FederationRepository",
    "IdMaker",
    "Meter",
    "ModelRepository",
    "Outbox",
    "ReceiptRepository",
    "SiteRepository",
    "Staging",
    "StagingArea",
    "Store",
    "TaskRepository",
    "TombstoneLog",
    "UnitOfWork",
    "UploadRepository",
]
