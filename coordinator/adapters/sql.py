"""The transactional store in SQL: SQLite in a file.

SQLite runs in WAL mode with synchronous=FULL, so an acknowledged commit survives a power cut, and
writers begin with BEGIN IMMEDIATE: a deferred transaction that reads first and writes later loses
the race for the write lock. Other databases are refused until this code has run on them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from coordinator import ports
from coordinator.adapters import sql_erasures, sql_models, sql_training
from letheon.errors import BadConfig, StorageUnavailable

# Alembic writes prose; a migration that fails raises.
logging.getLogger("alembic").setLevel(logging.WARNING)

_BUSY_TIMEOUT_S = 30
_WRITES = "letheon_writes"
_HASTY = "letheon_hasty"  # the commit does not wait for the disk


class SqlUnitOfWork:
    """One transaction on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.sites: ports.SiteRepository = sql_training.SqlSites(connection)
        self.entries: ports.EntryRepository = sql_training.SqlEntries(connection)
        self.buffered: ports.BufferedRepository = sql_training.SqlBuffered(connection)
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
        self.federation: ports.FederationRepository = sql_models.SqlFederation(connection)

    def commit(self) -> None:
        """Makes everything durable."""
        self._connection.commit()


class SqlStore:
    """Opens transactions on one database. Migrates it when built."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        # SQLite's own waiting is a poll with growing pauses; queueing here is fair and prompt.
        self._writer = threading.Lock()
        with _as_unavailable():
            migrate(self._engine)

    @contextmanager
    def read(self) -> Iterator[SqlUnitOfWork]:
        """A consistent view."""
        with _as_unavailable(), self._engine.connect() as connection:
            yield SqlUnitOfWork(connection)

    @contextmanager
    def write(self) -> Iterator[SqlUnitOfWork]:
        """The one writer; rolled back unless committed."""
        with self._writer, _as_unavailable(), self._engine.connect() as connection:
            yield SqlUnitOfWork(connection.execution_options(**{_WRITES: True}))

    @contextmanager
    def note(self) -> Iterator[SqlUnitOfWork]:
        """The one writer, for what survives a kill but perhaps no power cut."""
        options = {_WRITES: True, _HASTY: True}
        with self._writer, _as_unavailable(), self._engine.connect() as connection:
            yield SqlUnitOfWork(connection.execution_options(**options))

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()


def migrate(engine: Engine) -> None:
    """Brings the tables to the newest revision, under the writer's lock."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        writing = connection.execution_options(**{_WRITES: True})
        config.attributes["connection"] = writing
        command.upgrade(config, "head")
        writing.commit()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise StorageUnavailable(f"the database does not answer: {error.orig}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StorageUnavailable("the database closed the connection") from error
        raise


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend != "sqlite":
            raise BadConfig(f"database: {backend} is not supported yet; name a SQLite file")
        engine = create_engine(parsed)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadConfig(f"database: {error}") from error
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(_WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get(_HASTY, False) else "FULL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
