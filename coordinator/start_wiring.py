"""What a start needs before it may write: probes, the database, the lease."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, closing
from datetime import timedelta

from coordinator.adapters.data_dir import locked
from coordinator.adapters.sql import SqlStore
from coordinator.config import CoordinatorConfig
from coordinator.core_wiring import open_store
from coordinator.services.hold_leadership import HoldLeadership
from coordinator.services.wait_at_start import wait_for_database
from coordinator.standby import CONDITIONS, INFORMAL, Standby
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.health_port import HealthPort


def a_health_port(listen: str | None) -> HealthPort:
    """The port of the probes, not started; without an address it only remembers."""
    return HealthPort(listen, conditions=CONDITIONS, informal=INFORMAL)


def migrate(config: CoordinatorConfig, *, ending: threading.Event) -> None:
    """Brings the database to this release's tables, and nothing else; waits for PostgreSQL.

    Raises what `build` raises of the database, and BadConfig if a coordinator uses its folder.
    """
    with ExitStack() as opened:
        if config.is_on_sqlite:
            opened.enter_context(locked(config.data_dir))
        opened.enter_context(closing(open_database(config, SystemClock(), ending)))


def open_database(config: CoordinatorConfig, clock: Clock, ending: threading.Event) -> SqlStore:
    """The database, migrated; PostgreSQL is waited for until `ending` is set.

    Raises BadConfig or DatabaseCorrupt; StorageUnavailable for a file that cannot be opened, and
    with DatabaseBusy once `ending` is set.
    """
    if config.is_on_sqlite:
        return open_store(config)  # a file that cannot be opened does not come by waiting
    return wait_for_database(lambda: open_store(config), clock, ending)


def leadership_of(
    config: CoordinatorConfig,
    store: SqlStore,
    clock: Clock,
    ending: threading.Event,
    watch: Standby,
) -> HoldLeadership:
    """The lease of this process, not taken yet; `watch` is told what it shows."""
    return HoldLeadership(
        store,
        clock,
        holder=config.database.instance or socket.gethostname(),
        lease=timedelta(seconds=config.database.lease_seconds),
        ending=ending,
        watch=watch,
    )
