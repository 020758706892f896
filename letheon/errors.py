"""The errors of the federation, in its own words.

Each class says who can do something about it; `letheon.servicekit.status` maps each to a gRPC
status and back, so that a caller on the other side of the wire catches the same class with the
same facts. This module imports nothing of Letheon.

    LetheonError
    ├── BadInput              the caller fixes its request and never repeats it unchanged
    ├── NotFound              the caller stops
    ├── AlreadyExists         the caller reads the existing thing
    ├── Refused               the state must change first; a human or time decides
    ├── StartOver             the work is void: ask for new work
    ├── OffsetMismatch        go on from `committed_bytes`
    ├── Busy                  wait `retry_after_s`, then repeat
    ├── Unavailable           repeat the same call with back-off
    └── Corrupt               stored bytes are not what was stored: raise an alarm
"""

from __future__ import annotations

from typing import ClassVar


class LetheonError(Exception):
    """Root of the tree.

    `facts` are short strings that a program may read (names, numbers, the rule); they never
    hold a record or patient identifier.
    """

    reason: ClassVar[str] = "LETHEON_ERROR"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = {name: str(value) for name, value in facts.items()}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        words = "".join(f"_{c}" if c.isupper() else c.upper() for c in cls.__name__)
        cls.reason = words.lstrip("_")


class BadInput(LetheonError):
    """The request breaks a rule. Never retried unchanged."""


class MalformedName(BadInput):
    """A resource name that does not parse."""


class MalformedRequest(BadInput):
    """A field is missing, out of range or contradicts another."""


class MalformedUpdate(BadInput):
    """A delta or patch that breaks a rule of the plan; facts: rule, tensor."""


class DigestMismatch(BadInput):
    """The payload is not the one its header promised."""


class ChecksumMismatch(BadInput):
    """A chunk arrived damaged; the upload goes on from the committed offset."""


class CertificateInvalid(BadInput):
    """A certificate whose signature, key or form does not hold; facts: rule."""


class BadSignature(BadInput):
    """The signature does not belong to these bytes and this key; facts: rule."""


class ProofInvalid(BadInput):
    """A proof, a checkpoint, a chain or a list of keys that does not hold; facts: rule."""


class BadConfig(BadInput):
    """A configuration file that breaks its schema; names the key and the valid ones."""


class BadData(BadInput):
    """A data source that is missing, unreadable or unfit for the task."""


class UnknownPlugin(BadInput):
    """No plug-in of that name in that group; names those there are."""


class NotFound(LetheonError):
    """The named thing does not exist. The caller stops."""


class UnknownSite(NotFound):
    """No such site."""


class UnknownModelVersion(NotFound):
    """No such model version, or no file of it."""


class UnknownErasure(NotFound):
    """No such erasure."""


class UnknownUpload(NotFound):
    """No such upload."""


class UnknownTask(NotFound):
    """No such task: withdrawn, or of another site."""


class UnknownUpdate(NotFound):
    """No such update in quarantine."""


class UnknownCertificate(NotFound):
    """The erasure has no certificate."""


class AlreadyExists(LetheonError):
    """The caller reads the existing thing."""


class ErasureAlreadyRequested(AlreadyExists):
    """An erasure of this subject is open or certified; facts: erasure."""


class RequestAltered(AlreadyExists):
    """The request_id was used before for something else."""


class UpdateAltered(AlreadyExists):
    """The update_id was used before for other bytes."""


class Refused(LetheonError):
    """The call is well formed but the state does not allow it."""


class UpdateDecided(Refused):
    """A quarantined update was released, rejected or voided before; facts: state."""


class SiteFenced(Refused):
    """An erasure names the site: nothing of it is accepted; facts: erasure."""


class SiteKeyChanged(Refused):
    """The site is known by another update-signing key; facts: site, key_id."""


class WrongPlan(Refused):
    """The caller works on another plan than the federation."""


class MethodRefused(Refused):
    """The unlearning method cannot be used here; says why and what can."""


class TrainingCodeFailed(Refused):
    """The site's own training code raised, or gave what no delta can be made of; facts: place."""


class LevelRefused(Refused):
    """The assurance level is not offered, or the method cannot give it."""


class ErasureNotCancellable(Refused):
    """The removal has happened, or the erasure is concluded; facts: state."""


class ErasureConcluded(Refused):
    """The erasure is certified, failed or cancelled; facts: state."""


class AttemptMissing(Refused):
    """No passing attempt of the gate was recorded."""


class ContributionNotSubtractable(Refused):
    """The strategy is not linear, so a contribution is not a sum."""


class ModelDestroyed(Refused):
    """The version was destroyed by an erasure and can never be rebuilt; facts: erasure."""


class VersionCompacted(Refused):
    """The payloads of that version gave way to an anchor; facts: oldest_version."""


class NoServingModel(Refused):
    """The serving policy offers no version at present."""


class ExportSuspended(Refused):
    """The serving version carries a subject whose erasure is open."""


class ErasureNotApproved(Refused):
    """The erasure waits for the approval of a second operator: nobody may carry it out."""


class ErasureNotAwaiting(Refused):
    """The erasure waits for nobody's approval; facts: state."""


class NoAuthority(Refused):
    """The coordinator has no certificate authority: certificates come from elsewhere."""


class NotAuthenticated(LetheonError):
    """The caller did not prove who it is. A human is asked."""


class NotPermitted(LetheonError):
    """The caller may not do this. A human is asked."""


class InvitationRefused(NotPermitted):
    """The token is unknown, used, expired, or of another site; facts: rule."""


class StartOver(LetheonError):
    """The work is void; ask for new work."""


class StaleEpoch(StartOver):
    """The task began before the newest erasure; facts: epoch."""


class ClaimLost(StartOver):
    """Another calibrator holds the claim now."""


class PatchVoid(StartOver):
    """A later removal happened since the snapshot of this patch or evidence."""


class UploadBusy(StartOver):
    """Another stream is writing this upload; query the committed size, then go on."""


class OffsetMismatch(LetheonError):
    """The stream does not begin where the durable bytes end; facts: committed_bytes."""


class Busy(LetheonError):
    """Nothing was done; repeat after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, **facts: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **facts)

    @property
    def retry_after_s(self) -> float:
        """Seconds to wait."""
        return float(self.facts["retry_after_s"])


class TooManyTransfers(Busy):
    """All transfer slots are taken."""


class RateLimited(Busy):
    """The caller calls more often than its identity may; facts: limit."""


class MemoryShort(Busy):
    """The process is near its memory limit; nothing was begun."""


class DiskFull(Busy):
    """There is no room for the payload."""


class CheckpointBehind(Busy):
    """The head is too far ahead of the newest checkpoint: a restart would replay too much."""


class ClaimHeld(Busy):
    """Another calibrator holds the claim."""


class LeadershipHeld(Busy):
    """Another coordinator may write; facts: holder."""


class DatabaseBusy(Busy):
    """Every connection to the database is in use."""


class VerificationRunning(Busy):
    """A verification of the ledger runs already."""


class ExchangeRunning(Busy):
    """The site recomputes its deltas for another erasure of its records first."""


class RebuildRunning(Busy):
    """A version is being rebuilt already."""


class Unavailable(LetheonError):
    """The same call may be repeated with back-off."""


class StorageUnavailable(Unavailable):
    """The database or the store does not answer."""


class RestoreIncomplete(Unavailable):
    """The database is older than its tombstone log: nothing is served before `letheon restore`."""


class LeadershipLost(Unavailable):
    """Another coordinator has taken over; this one ends. Facts: holder."""


class CoordinatorUnreachable(Unavailable):
    """No connection to the coordinator, or no answer in time."""


class Corrupt(LetheonError):
    """Stored bytes are not what was stored."""


class PayloadCorrupt(Corrupt):
    """A payload or model file no longer matches its digest."""


class KeyGone(PayloadCorrupt):
    """What was sealed has no data key that opens it: destroyed, or of another key store."""


class DatabaseCorrupt(Corrupt):
    """The database is not what was written to it; a human restores a backup."""


class PayloadMissing(Corrupt):
    """A file that a row names is missing or cut short; facts: entry, sha256, file."""


class LedgerBroken(Corrupt):
    """The chain or the replay does not hold; facts: entry."""


class TombstonesBroken(Corrupt):
    """A line of the tombstone log does not hold; facts: line."""


class InternalFault(LetheonError):
    """A bug on the other side; facts: correlation_id. The log there has the stack."""
