"""Engines of the two databases: what each needs so that a commit is durable and a reader free.

SQLite runs in WAL mode with synchronous=FULL, so an acknowledged commit survives a power cut, and
writers begin with BEGIN IMMEDIATE: a deferred transaction that reads first and writes later loses
the race for the write lock. PostgreSQL does both by default; its readers are REPEATABLE READ and
its writers queue at one row (docs/decisions/0011-one-writer.md).
"""

from __future__ import annotations

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from letheon.errors import BadConfig

WRITES = "letheon_writes"
HASTY = "letheon_hasty"  # the commit does not wait for the disk

_BUSY_TIMEOUT_S = 30
_POSTGRESQL = "postgresql+psycopg"
# A server that vanished without a word must not hold a call for the two hours TCP would.
_PATIENCE: dict[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}


def open_engine(url: str, *, pool_size: int, pool_timeout_s: float) -> Engine:
    """An engine; connects to nothing yet. Raises BadConfig for a URL that cannot be used."""
    try:
        parsed = make_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                return _sqlite(parsed, pool_size)
            case "postgresql":
                return _postgresql(parsed, pool_size, pool_timeout_s)
            case other:
                raise BadConfig(f"database.url: {other} is not supported; {_KNOWN}", key=_KEY)
    except ModuleNotFoundError as error:
        raise BadConfig(
            f"database.url: {error}; PostgreSQL needs `pip install 'letheon[postgres]'`", key=_KEY
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # The text of the error may hold the URL, and with it a password.
        raise BadConfig(f"database.url is no URL of a database; {_KNOWN}", key=_KEY) from error


def is_postgresql(engine: Engine) -> bool:
    """Whether the engine speaks to PostgreSQL; SQLite otherwise."""
    return engine.dialect.name == "postgresql"


_KEY = "database.url"
_KNOWN = "name sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"


def _sqlite(url: URL, pool_size: int) -> Engine:
    # A connection is a file handle: readers never wait for one.
    engine = create_engine(url, pool_size=pool_size, max_overflow=-1)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL, pool_size: int, pool_timeout_s: float) -> Engine:
    patience = {key: value for key, value in _PATIENCE.items() if key not in url.query}
    return create_engine(
        url.set(drivername=_POSTGRESQL),
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_s,
        pool_use_lifo=True,
        # A restarted server leaves dead connections in the pool.
        pool_pre_ping=True,
        # Named statements break behind a pooler that hands connections out by the transaction.
        connect_args={**patience, "prepare_threshold": None},
    )


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
    if not options.get(WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get(HASTY, False) else "FULL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
