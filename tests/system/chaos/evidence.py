"""What is known of a federation once it stands still: rows, files, receipts, logs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from coordinator.adapters.sql import SqlUnitOfWork
from coordinator.adapters.tombstone_file import TombstoneFile
from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.tombstones import Tombstone
from letheon.cli.demo.ledger_reading import AgentReceipt, read_receipts
from letheon.federation.ledger import Entry, EntryKind
from letheon.servicekit.signing import SigningKey

from .processes import Exit
from .world import World

AREAS = ("payloads", "checkpoints", "contributions", "models")
_ALL_ROWS = 10**9


@dataclass(frozen=True)
class Fence:
    """An acknowledged request, as the one who asked saw it."""

    site: str
    request_id: str
    entry: int  # the newest row when the answer had come
    lifted_at_entry: int | None = None  # the newest row before a cancel was sent


@dataclass(frozen=True)
class Verdict:
    """What the coordinator says of its own ledger."""

    holds: bool
    version: int
    sha256_head: str
    reason: str


@dataclass(frozen=True)
class Records:
    """What the database says."""

    rows: tuple[Entry, ...]
    erasures: tuple[Erasure, ...] = ()
    certificates: dict[str, bytes] = field(default_factory=dict)
    destroyed: frozenset[str] = frozenset()
    named: dict[str, frozenset[str]] = field(default_factory=dict)  # files by area
    uploads: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Evidence:
    """All that the checker looks at."""

    records: Records
    data: Path  # of the coordinator
    agents: dict[str, Path] = field(default_factory=dict)  # state directories by site
    receipts: tuple[AgentReceipt, ...] = ()
    fences: tuple[Fence, ...] = ()
    verdict: Verdict | None = None
    public_pem: str = ""
    tombstones: tuple[Tombstone, ...] = ()
    logs: Path | None = None
    exits: tuple[Exit, ...] = ()
    hurt: frozenset[str] = frozenset()  # kinds of fault that were injected


def read_records(url: str) -> Records:
    """Everything the checker needs of a coordinator's database, which is left as it is."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            uow = SqlUnitOfWork(connection)
            rows = tuple(uow.entries.page(0, _ALL_ROWS))
            erasures = tuple(uow.erasures.all())
            destroyed = {digest for e in erasures for digest in uow.destroyed.payloads(e.id)}
            return Records(
                rows=rows,
                erasures=erasures,
                certificates={c.erasure: c.content for c in uow.certificates.all()},
                destroyed=frozenset(destroyed),
                named=_named(uow, rows, erasures, destroyed),
                uploads=frozenset(upload.update_id for upload in uow.uploads.all()),
            )
    finally:
        engine.dispose()


def _named(
    uow: SqlUnitOfWork, rows: tuple[Entry, ...], erasures: tuple[Erasure, ...], gone: set[str]
) -> dict[str, frozenset[str]]:
    """The files that rows name, by area."""
    payloads = {row.payload_sha256 for row in rows} | uow.receipts.stored_digests()
    anchors = {c.entry for c in uow.checkpoints.all() if c.is_anchor}
    contributions = {c.sha256 for c in uow.contributions.all()}
    certified = {e.site for e in erasures if e.state is ErasureState.CERTIFIED}
    for row in rows:
        if row.entry in anchors:
            contributions |= set(row.details.get("contributions", {}).values())
        if row.kind is EntryKind.REMOVAL and row.site not in certified:
            contributions.add(row.details.get("contribution_sha256"))
    found = {
        "payloads": payloads - gone,
        "checkpoints": {c.sha256 for c in uow.checkpoints.all()},
        "contributions": contributions,
        "models": {file.sha256 for file in uow.models.newest()},
    }
    return {area: frozenset(name for name in names if name) for area, names in found.items()}


def gather(
    world: World,
    *,
    url: str,
    fences: tuple[Fence, ...],
    verdict: Verdict | None,
    hurt: frozenset[str],
) -> Evidence:
    """The evidence of a federation whose processes have stopped."""
    sites = world.settings.sites
    receipts = [r for site in sites for r in read_receipts(world.agent_database(site), site)]
    key = world.public_key
    return Evidence(
        records=read_records(url),
        data=world.data,
        agents={site: world.agent_database(site).parent for site in sites},
        receipts=tuple(receipts),
        fences=fences,
        verdict=verdict,
        public_pem=key.read_text(encoding="ascii") if key.exists() else "",
        tombstones=read_tombstones(world),
        logs=world.logs,
        exits=tuple(world.fleet.exits),
        hurt=hurt,
    )


def read_tombstones(world: World) -> tuple[Tombstone, ...]:
    """The log of erasures, its signatures and its chain checked."""
    key = SigningKey.load_or_create(world.root / "tombstones.pem")
    return tuple(TombstoneFile(world.tombstones, key).all())


def outbox_payloads(state: Path) -> set[str]:
    """The files that rows of an agent's outbox need."""
    with sqlite3.connect(f"file:{state / 'agent.db'}?mode=ro", uri=True) as connection:
        ready = connection.execute("SELECT update_id FROM uploads WHERE state = 'ready'")
        return {f"{update_id}.payload" for (update_id,) in ready}


def stacks(log: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log that carry a stack, and the Python tracebacks that are no JSON."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("{"):
            if "Traceback" in line or "Fatal Python error" in line:
                yield {"event": "not JSON", "stack": line}
            continue
        try:
            content = json.loads(line)
        except ValueError:
            continue  # a line that a kill cut short
        if "stack" in content:
            yield content
