"""The tables of a database: checked, made and brought to the newest revision."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from coordinator.adapters.sql_engines import WRITES, is_postgresql
from coordinator.adapters.sql_errors import damaged
from coordinator.adapters.sql_leadership import add_missing_row
from letheon.errors import BadConfig

# Alembic writes prose; a migration that fails raises.
logging.getLogger("alembic").setLevel(logging.WARNING)

# "letheon" in ASCII: whoever migrates holds this advisory lock until its commit.
_MIGRATING = int.from_bytes(b"letheon")


def migrate(engine: Engine) -> None:
    """Brings the tables to the newest revision, in one transaction that only one may run.

    Raises DatabaseCorrupt for a damaged file, BadConfig for a database that is not Letheon's or
    whose revision this release does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        writing = connection.execution_options(**{WRITES: True})
        if is_postgresql(engine):
            # There may be no table yet whose row could be locked.
            writing.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        else:
            _check_file(writing)
        _check_revision(writing, ScriptDirectory.from_config(config))
        config.attributes["connection"] = writing
        command.upgrade(config, "head")
        add_missing_row(writing)
        writing.commit()


def _check_file(connection: Connection) -> None:
    found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise damaged(str(found))


def _check_revision(connection: Connection, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    unknown = sorted(set(found) - known)
    if unknown:
        raise BadConfig(
            f"the database has revision {', '.join(unknown)}, and the newest this release knows "
            f"is {scripts.get_current_head()}: install the newer Letheon that wrote it",
            key="database.url",
        )
    others = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
    if not found and others:
        raise BadConfig(
            f"the database holds other tables ({', '.join(others[:3])}) and none of Letheon's: "
            "name a database of its own",
            key="database.url",
        )
