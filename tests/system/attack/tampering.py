"""Whoever owns the machine of the coordinator changes what it keeps."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.proof.merkle import leaf_hash, root
from letheon.proof.note import Checkpoint, sign_checkpoint
from letheon.servicekit.signing import SigningKey, canonical_json
from letheon.v1 import audit_pb2, ledger_pb2
from letheon.v1.audit_pb2_grpc import AuditStub
from letheon.v1.ledger_pb2_grpc import LedgerStub

from .attacks import Outcome, attack, detected, every, put_back, stopped, succeeded
from .world import NotStarted, World

FAMILY = "tampering with what is kept"


def run(*words: str | Path) -> tuple[int, str]:
    """Exit code and output of a command of `letheon`."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, " ".join(done.output.split())


@contextmanager
def database(world: World) -> Iterator[sqlite3.Connection]:
    """The coordinator's own, as whoever owns the file opens it."""
    with closing(sqlite3.connect(world.database, timeout=10, isolation_level=None)) as opened:
        yield opened


def _without_triggers(opened: sqlite3.Connection, table: str) -> Sequence[str]:
    """Takes the triggers of a table away; what makes them again."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    found = opened.execute(query, (table,)).fetchall()
    for name, _ in found:
        opened.execute(f"DROP TRIGGER {name}")
    return [sql for _, sql in found]


Change = Callable[[sqlite3.Connection], object]


def sql(statement: str, *values: Any) -> Change:
    """A change of one statement."""
    return lambda opened: opened.execute(statement, values)


@contextmanager
def rewritten(world: World, table: str, change: Change) -> Iterator[None]:
    """The table with a change; afterwards it is what it was.

    Nobody else writes meanwhile: the coordinator would build on what was tampered with.
    """
    with database(world) as opened:
        opened.execute("BEGIN IMMEDIATE")
        before = opened.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        triggers = _without_triggers(opened, table)
        change(opened)
        opened.execute("COMMIT")
        opened.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            marks = ", ".join("?" for _ in before[0])
            opened.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", before)  # noqa: S608
            for made in triggers:
                opened.execute(made)
            opened.execute("COMMIT")


def _noticed(world: World) -> Outcome:
    verdict = world.ledger()
    if verdict.holds:
        return succeeded("the ledger is said to hold")
    return detected(f"letheon ledger verify: {verdict.reason}")


def _some_row(world: World) -> int:
    query = "SELECT entry FROM entries WHERE kind = 'delta' ORDER BY entry LIMIT 1 OFFSET 3"
    with database(world) as opened:
        return int(opened.execute(query).fetchone()[0])


@attack(FAMILY, "a ledger row gets another coefficient, site, or time", expected="the chain breaks",
        quick=True)  # fmt: skip
def ledger_row(world: World) -> Outcome:
    entry, found = _some_row(world), {}
    for column, value in {"coefficient": 0.9, "site": "tiny", "epoch": 3}.items():
        change = sql(f"UPDATE entries SET {column} = ? WHERE entry = ?", value, entry)  # noqa: S608
        with rewritten(world, "entries", change):
            found[column] = _noticed(world)
    return every(found, f"letheon ledger verify names row {entry}, for each of the three")


def _rechaining(world: World, column: str, value: Any) -> Change:
    """Changes a column of one row and writes every hash after it anew, as its owner can."""
    entry, changes, previous = _some_row(world), [], ""
    ask = ledger_pb2.ListEntriesRequest(first=entry, page_size=1000)
    for row in LedgerStub(world.operator()).ListEntries(ask).entries:
        content = json.loads(row.canonical_json)
        if row.entry == entry:
            content[column] = value.hex() if isinstance(value, float) else value
            previous = content["previous_hash"]
        content["previous_hash"] = previous
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        made = hashlib.sha256(text.encode()).hexdigest()
        changes.append((previous, made, row.entry))
        previous = made

    def change(opened: sqlite3.Connection) -> None:
        opened.execute(f"UPDATE entries SET {column} = ? WHERE entry = ?", (value, entry))  # noqa: S608
        opened.executemany(
            "UPDATE entries SET previous_hash = ?, hash = ? WHERE entry = ?", changes
        )

    return change


@attack(FAMILY, "a ledger row gets another base, and all hashes after it are written anew",
        expected="the site's signature does not fit any more", quick=True)  # fmt: skip
def ledger_rehashed(world: World) -> Outcome:
    with rewritten(world, "entries", _rechaining(world, "base_version", 1)):
        return _noticed(world)


@attack(FAMILY, "the same with a coefficient, which no site signs, and the coordinator restarted",
        expected="the files remember another row")  # fmt: skip
def ledger_rewritten(world: World) -> Outcome:
    with _another_ledger(world):
        try:
            world.start_coordinator()
        except NotStarted as error:
            return detected(f"the coordinator does not start: {error}")
        return _noticed(world)


@attack(FAMILY, "the same, and what the files remember as well",
        expected="the hash of a receipt, or one noted elsewhere, is not in it")  # fmt: skip
def ledger_rewritten_with_its_mark(world: World) -> Outcome:
    north = world.insiders["north"]
    noted = north.push(north.honest(90)).ledger_hash
    mark = world.data / "ledger.json"
    remembered = mark.read_bytes()
    with _another_ledger(world, undo=lambda: mark.write_bytes(remembered)):
        mark.unlink()
        world.start_coordinator()
        file = world.root / "rewritten.jsonl"
        run(*world.command("ledger", "export", "--out", file))
        code, said = run("ledger", "verify", "--file", file, "--tip", noted)
        if code != 1:
            return succeeded(f"letheon ledger verify --tip ends with {code}: {said}")
        return detected(f"letheon ledger verify --file --tip: {said}")


@contextmanager
def _another_ledger(world: World, undo: Callable[[], object] = lambda: None) -> Iterator[None]:
    """The coordinator is stopped, its ledger another, checkpoints of the real one gone."""
    kept = world.root / "ledger-kept.sqlite"
    with database(world) as opened, closing(sqlite3.connect(kept)) as copy:
        rechain = _rechaining(world, "coefficient", 0.25)
        world.stop("coordinator")
        opened.backup(copy)
        rechain(opened)
        # Whoever owns the disk removes what would tell.
        opened.execute("DELETE FROM checkpoints WHERE version > 0")

    def put_all_back() -> None:
        world.stop_if_running("coordinator")
        for path in world.data.glob("coordinator.sqlite*"):
            path.unlink()
        shutil.copyfile(kept, world.database)
        undo()
        world.start_coordinator()

    with put_back(put_all_back):
        yield


@attack(FAMILY, "a site's signature is exchanged, and taken out", expected="the row is named",
        quick=True)  # fmt: skip
def signature_of_a_row(world: World) -> Outcome:
    entry = _some_row(world)
    change = (
        "UPDATE entry_signatures SET signature = (SELECT signature FROM entry_signatures "
        "WHERE entry = ?) WHERE entry = ?"
    )
    with rewritten(world, "entry_signatures", sql(change, entry + 1, entry)):
        exchanged = _noticed(world)
    taken = "DELETE FROM entry_signatures WHERE entry = ?"
    with rewritten(world, "entry_signatures", sql(taken, entry)):
        gone = _noticed(world)
    return every({"exchanged": exchanged, "taken out": gone}, gone.happened)


@attack(FAMILY, "a byte of a payload is flipped on the disk", expected="its tag does not fit",
        quick=True)  # fmt: skip
def payload_byte(world: World) -> Outcome:
    path = min((world.data / "sealed-payloads").iterdir(), key=lambda one: one.stat().st_mtime_ns)
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    mode = path.stat().st_mode
    with put_back(lambda: (path.write_bytes(content), path.chmod(mode))):
        path.chmod(0o600)
        path.write_bytes(bytes(changed))
        return _noticed(world)


@attack(FAMILY, "a row of the audit log is changed, or deleted, in SQL", expected="the database "
        "refuses; without its triggers the chain breaks", quick=True)  # fmt: skip
def audit_row(world: World) -> Outcome:
    found: dict[str, Outcome] = {}
    changes = {
        "changed": "UPDATE audit_log SET caller = 'nobody' WHERE number = 3",
        "deleted": "DELETE FROM audit_log WHERE number = 3",
    }
    for name, change in changes.items():
        with database(world) as opened:
            try:
                opened.execute(change)
            except sqlite3.IntegrityError as error:
                found[f"{name}, as it is"] = stopped(str(error))
            else:
                found[f"{name}, as it is"] = succeeded("the database took it")
        with rewritten(world, "audit_log", sql(change)):
            found[f"{name}, triggers gone"] = _audit(world)
    return every(found, found["changed, triggers gone"].happened)


@attack(FAMILY, "the end of the audit log is cut off", expected="the transparency log fixed more "
        "rows", quick=True)  # fmt: skip
def audit_truncated(world: World) -> Outcome:
    with rewritten(world, "audit_log", sql("DELETE FROM audit_log WHERE number > 8")):
        return _audit(world)


@attack(FAMILY, "the audit log is written anew from its first row, hashes and all",
        expected="the transparency log fixed other hashes", quick=True)  # fmt: skip
def audit_rehashed(world: World) -> Outcome:
    def rehash(opened: sqlite3.Connection) -> None:
        previous, ask = "0" * 64, audit_pb2.ListAuditRowsRequest(page_size=1000)
        for row in AuditStub(world.operator()).ListAuditRows(ask).rows:
            content = {**json.loads(row.canonical_json), "previous_hash": previous}
            if row.number == 3:
                content["caller"] = "somebody-else"
            made = hashlib.sha256(canonical_json(content)).hexdigest()
            opened.execute(
                "UPDATE audit_log SET caller = ?, previous_hash = ?, hash = ? WHERE number = ?",
                (content["caller"], previous, made, row.number),
            )
            previous = made

    with rewritten(world, "audit_log", rehash):
        return _audit(world)


def _audit(world: World) -> Outcome:
    code, said = run(*world.command("audit", "verify"))
    if code == 1:
        return detected(f"letheon audit verify: {said.removeprefix('letheon: ')}")
    return succeeded(f"letheon audit verify ends with {code}: {said}")


def with_other_database(world: World, change: Callable[[], object]) -> Callable[[], None]:
    """Stops the coordinator, changes its database, starts it; answers what undoes that."""
    kept = world.root / "kept.sqlite"
    world.stop("coordinator")
    shutil.copyfile(world.database, kept)
    change()
    world.start_coordinator()

    def undo() -> None:
        world.stop_if_running("coordinator")
        for path in world.data.glob("coordinator.sqlite*"):
            path.unlink()
        shutil.copyfile(kept, world.database)
        world.start_coordinator()

    return undo


@attack(FAMILY, "the transparency log is forked: another leaf, signed anew by the coordinator",
        expected="whoever pinned the former one refuses it")  # fmt: skip
def log_forked(world: World) -> Outcome:
    pin, key = world.root / "pin.txt", world.folder.coordinator_public_key
    first = run(*world.command("log", "verify", "--key", key, "--pin", pin))
    if first[0]:
        return succeeded(f"the log does not hold before: {first[1]}")

    def fork() -> None:
        content = b'{"another": "history"}'
        with database(world) as opened:
            _without_triggers(opened, "log_leaves")
            _without_triggers(opened, "log_checkpoints")
            opened.execute(
                "UPDATE log_leaves SET content = ?, leaf_hash = ? WHERE number = 0",
                (content, leaf_hash(content).hex()),
            )
            rows = opened.execute("SELECT leaf_hash FROM log_leaves ORDER BY number").fetchall()
            origin = pin.read_text().split("\n")[0]
            tree = root([bytes.fromhex(each[0]) for each in rows])
            signer = SigningKey.load_or_create(world.data / "coordinator_key.pem")
            note = sign_checkpoint(Checkpoint(origin, len(rows), tree), signer)
            opened.execute("DELETE FROM log_checkpoints WHERE size > ?", (len(rows),))
            opened.execute(
                "INSERT OR REPLACE INTO log_checkpoints VALUES (?, ?, ?)",
                (len(rows), note, "2026-01-01T00:00:00.000000+00:00"),
            )

    return _other_log(world, fork, pin, key)


@attack(FAMILY, "the leaves of the transparency log are taken away, and it grows anew",
        expected="whoever pinned the former one refuses it")  # fmt: skip
def log_shrunk(world: World) -> Outcome:
    pin, key = world.root / "pin-2.txt", world.folder.coordinator_public_key
    first = run(*world.command("log", "verify", "--key", key, "--pin", pin))
    if first[0]:
        return succeeded(f"the log does not hold before: {first[1]}")

    def shrink() -> None:
        with database(world) as opened:
            _without_triggers(opened, "log_leaves")
            _without_triggers(opened, "log_checkpoints")
            opened.execute("DELETE FROM log_leaves")
            opened.execute("DELETE FROM log_checkpoints")

    return _other_log(world, shrink, pin, key)


def _other_log(world: World, change: Callable[[], object], pin: Path, key: Path) -> Outcome:
    try:
        undo = with_other_database(world, change)
    except NotStarted as error:
        return stopped(f"the coordinator does not start: {error}")
    with put_back(undo):
        code, said = run(*world.command("log", "verify", "--key", key, "--pin", pin))
        if code == 1:
            return detected(f"letheon log verify: {said.removeprefix('letheon: ')}")
        return succeeded(f"letheon log verify ends with {code}: {said}")
