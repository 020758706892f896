"""The transactional store in SQL: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection

from coordinator import ports
from coordinator.adapters import (
    sql_erasures,
    sql_evidence,
    sql_invitations,
    sql_models,
    sql_training,
)
from coordinator.adapters.sql_engines import HASTY, WRITES, is_postgresql, open_engine
from coordinator.adapters.sql_errors import in_our_words
from coordinator.adapters.sql_leadership import SqlLeadership
from coordinator.adapters.sql_pulse import WriterPulse
from coordinator.adapters.sql_schema import migrate
from coordinator.domain.leadership import check_token


class SqlUnitOfWork:
    """One transaction on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.sites: ports.SiteRepository = sql_training.SqlSites(connection)
        self.entries: ports.EntryRepository = sql_training.SqlEntries(connection)
        self.buffered: ports.BufferedRepository = sql_training.SqlBuffered(connection)
        self.quarantined: ports.QuarantineRepository = sql_training.SqlQuarantined(connection)
        self.uploads: ports.UploadRepository = sql_training.SqlUploads(connection)
        self.receipts: ports.ReceiptRepository = sql_training.SqlReceipts(connection)
        self.tasks: ports.TaskRepository = sql_training.SqlTasks(connection)
        self.erasures: ports.ErasureRepository = sql_erasures.SqlErasures(connection)
        self.claims: ports.ClaimRepository = sql_erasures.SqlClaims(connection)
        self.attempts: ports.AttemptRepository = sql_erasures.SqlAttempts(connection)
        self.outbox: ports.Outbox = sql_erasures.SqlOutbox(connection)
        self.certificates: ports.CertificateRepository = sql_erasures.SqlCertificates(connection)
        self.models: ports.ModelRepository = sql_models.SqlModels(connection)
        self.destroyed: ports.DestroyedRepository = sql_models.SqlDestroyed(connection)
        self.checkpoints: ports.CheckpointRepository = sql_models.SqlCheckpoints(connection)
        self.contributions: ports.ContributionRepository = sql_models.SqlContributions(connection)
        self.compactions: ports.CompactionRepository = sql_models.SqlCompactions(connection)
        self.exports: ports.ExportRepository = sql_models.SqlExports(connection)
        self.invitations: ports.InvitationRepository = sql_invitations.SqlInvitations(connection)
        self.site_keys: ports.SiteKeyRepository = sql_evidence.SqlSiteKeys(connection)
        self.signatures: ports.SignatureRepository = sql_evidence.SqlSignatures(connection)
        self.audit: ports.AuditRepository = sql_evidence.SqlAudit(connection)
        self.log: ports.LogRepository = sql_evidence.SqlLog(connection)
        self.downloads: ports.DownloadRepository = sql_evidence.SqlDownloads(connection)
        self.leadership: ports.LeadershipRepository = SqlLeadership(connection)
        self.federation: ports.FederationRepository = sql_models.SqlFederation(connection)

    def commit(self) -> None:
        """Makes everything durable."""
        self._connection.commit()
        self.sites = sql_training.SqlSites(self._connection)  # what it found is of before


class SqlStore:
    """Opens transactions on one database. Migrates it when built.

    PostgreSQL ends a writer that gives no sign of life for `silence_s`, as one that hangs.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        pool_timeout_s: float = 10.0,
        silence_s: float = 5.0,
    ) -> None:
        self._engine = open_engine(url, pool_size=pool_size, pool_timeout_s=pool_timeout_s)
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reading = self._engine.execution_options(
            **(snapshot if is_postgresql(self._engine) else {})
        )
        self._pulse = WriterPulse(silence_s)
        # The databases wait in ways of their own; queueing here is fair and prompt.
        self._writer = threading.Lock()
        self._token: int | None = None
        self._lost: Callable[[], None] = _ignore
        with in_our_words():
            migrate(self._engine)

    def lead(self, token: int, lost: Callable[[], None]) -> None:
        """From now on, writes are refused unless `token` is the newest; then calls `lost`."""
        self._token, self._lost = token, lost

    @contextmanager
    def read(self) -> Iterator[SqlUnitOfWork]:
        """A consistent view."""
        with in_our_words(), self._reading.connect() as connection:
            yield SqlUnitOfWork(connection)

    @contextmanager
    def write(self) -> Iterator[SqlUnitOfWork]:
        """The one writer; rolled back unless committed. Raises LeadershipLost."""
        with self._writing(hasty=False) as uow:
            yield uow

    @contextmanager
    def note(self) -> Iterator[SqlUnitOfWork]:
        """The one writer, for what survives a kill but perhaps no power cut."""
        with self._writing(hasty=True) as uow:
            yield uow

    def close(self) -> None:
        """Closes every connection."""
        self._pulse.close()
        self._engine.dispose()

    @contextmanager
    def _writing(self, *, hasty: bool) -> Iterator[SqlUnitOfWork]:
        with self._writer, in_our_words(), self._engine.connect() as connection:
            marked = connection.execution_options(**{WRITES: True, HASTY: hasty})
            self._check(SqlLeadership(marked), hasty=hasty)
            with self._pulse.of(marked) if is_postgresql(self._engine) else nullcontext():
                yield SqlUnitOfWork(marked)

    def _check(self, leadership: SqlLeadership, *, hasty: bool) -> None:
        newest = leadership.begin_writing(hasty=hasty, silence_s=self._pulse.silence_s)
        if self._token is None or newest == self._token:
            return
        self._lost()
        check_token(leadership.get(), self._token)


def _ignore() -> None:
    """Who does not lead loses nothing."""
