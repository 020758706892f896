"""Payload files that rot: found by their digest, reported, put back as from a backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
        verdicts: list[ledger_pb2.LedgerVerdict] = []
        until(lambda: verdicts.append(self.verdict()) or True, _FOUND_S)
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
        with log.open("rb") as file:
            file.seek(before)
            told = file.read().decode(errors="replace")
        if code != _BAD_DATA or str(row.payload_sha256) not in told:
            self.blame(f"damage: a start on a damaged payload ended with {code}, not named")

    def _write(self, row: Entry, content: bytes) -> None:
        # A new file in its place: shortening one that a process has mapped would kill that
        # process by SIGBUS, which no disk does.
        path = self.world.payloads / str(row.payload_sha256)
        draft = self.world.root / "draft"
        draft.write_bytes(content)
        draft.chmod(0o644)
        draft.replace(path)


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
