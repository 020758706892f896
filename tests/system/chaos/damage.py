"""Payload files that rot: found by their digest, reported, put back as from a backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from letheon.federation.ledger import Entry
from letheon.v1 import ledger_pb2

from .evidence import Records, read_records
from .faults import Fault
from .processes import until
from .world import World

_FOUND_S = 25.0
_ERASED_S = 8.0
_BAD_DATA = 65  # of sysexits.h


@dataclass(frozen=True)
class Damage:
    """`blame` takes a sentence when damage was not found."""

    world: World
    url: str
    verdict: Callable[[], ledger_pb2.LedgerVerdict]
    blame: Callable[[str], None]

    def do(self, fault: Fault) -> bool:
        """Damages one payload that a replay needs; false if there is none."""
        if not until(lambda: not self.world.status().open_erasures, _ERASED_S):
            return False  # it would rightly end FAILED, and that is another story
        stopped = fault.kind == "damage_stopped"
        if stopped:
            self.world.fleet.stop("coordinator")
        try:
            row = _needed(read_records(self.url), fault.chance)
            if row is None:
                return False
            path = self.world.payloads / str(row.payload_sha256)
            whole = path.read_bytes()
            self._write(row, _damaged(whole, fault.variant, fault.chance))
            if stopped:
                self._start_on(row)
            else:
                self._find(row)
            if path.exists():  # else it was destroyed or compacted meanwhile: no backup has it
                self._write(row, whole)
            return True
        finally:
            if stopped:
                self.world.fleet.stop("coordinator")
                self.world.fleet.start("coordinator")

    def _find(self, row: Entry) -> None:
        """A proof finds it, or a start that another fault made necessary names it."""
        verdicts: list[ledger_pb2.LedgerVerdict] = []
        log = self.world.logs / "coordinator.log"
        before = log.stat().st_size

        def found() -> bool:
            if str(row.payload_sha256) in _since(log, before):
                return True
            verdicts.append(self.verdict())
            return True

        is_found = until(found, _FOUND_S)
        if is_found and not verdicts:
            return
        if not verdicts:
            self.blame(f"damage: no verdict within {_FOUND_S} s")
        elif verdicts[0].holds and _anchor(read_records(self.url)) < row.entry:
            self.blame(f"damage: the payload of row {row.entry} was damaged, the verdict holds")

    def _start_on(self, row: Entry) -> None:
        """Either it refuses to start and names the payload, or it serves and a proof finds it."""
        fleet = self.world.fleet
        log = self.world.logs / "coordinator.log"
        before = log.stat().st_size
        fleet.run_once("coordinator")
        serves = until(lambda: fleet.ended("coordinator") or self.world.status(), _FOUND_S)
        if serves and not fleet.ended("coordinator"):
            self._find(row)
            return
        code = fleet.wait_end("coordinator", 5.0)
        if code != _BAD_DATA or str(row.payload_sha256) not in _since(log, before):
            self.blame(f"damage: a start on a damaged payload ended with {code}, not named")

    def _write(self, row: Entry, content: bytes) -> None:
        # A new file in its place: shortening one that a process has mapped would kill that
        # process by SIGBUS, which no disk does.
        path = self.world.payloads / str(row.payload_sha256)
        draft = self.world.root / "draft"
        draft.write_bytes(content)
        draft.chmod(0o644)
        draft.replace(path)


def _since(log: Path, position: int) -> str:
    """What was logged after a position."""
    with log.open("rb") as file:
        file.seek(position)
        return file.read().decode(errors="replace")


def _damaged(content: bytes, how: str, chance: float) -> bytes:
    at = int(chance * len(content))
    if how == "truncated":
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _anchor(records: Records) -> int:
    return max((row.entry for row in records.rows if row.kind == "anchor"), default=0)


def _needed(records: Records, chance: float) -> Entry | None:
    """A row after the newest anchor whose payload a replay reads."""
    anchor = _anchor(records)
    rows = [row for row in records.rows if row.entry > anchor and row.kind == "delta"]
    return rows[int(chance * len(rows))] if rows else None
