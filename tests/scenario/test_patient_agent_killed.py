"""kill -9 of an agent in the middle of making its past deltas again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import a_plan
from erasure_builders import Federation, a_running_federation
from patient_agent import PATIENTS
from patient_world import GATE, carried_out, until
from records_trainer import CONFIG, delta_of

from calibrator.ports import Certified, Failed
from client_agent import erase_command
from client_agent.adapters.local_tables import LocalTables
from letheon.federation.encoding import decode
from letheon.federation.parameters import Vector
from letheon.names import erasure_id
from letheon.servicekit import faults
from letheon.v1 import erasures_pb2, ledger_pb2

pytestmark = pytest.mark.system
SCRIPT = Path(__file__).parent.parent / "patient_agent.py"
ERASED = "patient-007"


class AgentProcess:
    """The agent of one site as a process that tests arm with faults, kill and start again."""

    def __init__(self, folder: Path, address: str) -> None:
        self.state, self.faults = folder / "state", folder / "faults"
        self.faults.mkdir(parents=True)
        self.config = folder / "agent.toml"
        self.config.write_text(
            CONFIG.format(address=address, site="south", state=self.state, interval=0.1)
        )
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def arm(self, point: str) -> None:
        (self.faults / f"agent.{point}").write_text("kill")

    def start(self) -> None:
        environment = {
            **os.environ,
            faults.DIRECTORY_VARIABLE: str(self.faults),
            faults.PROCESS_VARIABLE: "agent",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(SCRIPT), str(self.config)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def is_killed(self) -> bool:
        assert self.process is not None
        return self.process.poll() == -signal.SIGKILL

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Federation, AgentProcess]]:
    plan = a_plan(gate=GATE)
    with a_running_federation(tmp_path / "centre", sites=(), plan=plan) as federation:
        agent = AgentProcess(tmp_path / "south", federation.coordinator.address)
        agent.start()
        try:
            until(lambda: federation.version >= 3, "south has contributed")
            yield federation, agent
        finally:
            agent.close()


def payload(federation: Federation, entry: dict) -> Vector:
    return decode(
        federation.coordinator.core.blobs.payloads.get(entry["payload_sha256"]), entry["encoding"]
    )


def expected_patch(federation: Federation, agent: AgentProcess, rows: list[dict]) -> Vector:
    """The deltas before the exchange made again here, minus those that were merged."""
    tables = LocalTables(agent.state / "agent.db")
    left = [f"{p}-scan-{i}" for p in PATIENTS for i in range(2) if p != ERASED]
    heads = {0: payload(federation, rows[0])}
    total = np.zeros(heads[0].size, np.float32)
    for row in rows[1:]:
        if row["kind"] not in ("delta", "patch"):
            continue
        coefficient = float.fromhex(row["coefficient"])
        if row["kind"] == "patch":
            return total
        made = payload(federation, row)
        heads[row["version"]] = heads[row["version"] - 1] + np.float32(coefficient) * made
        log = tables.one("SELECT seed FROM uploads WHERE update_id = ?", row["update_id"])
        assert log is not None
        again = delta_of(left, heads[row["base_version"]], log["seed"])
        total += np.float32(coefficient) * (again - made)
    raise AssertionError("there is no patch")


def test_a_killed_agent_goes_on_where_it_was_and_the_patch_is_right(
    world: tuple[Federation, AgentProcess],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation, agent = world
    agent.arm("agent.recomputed")  # after the sum of the first delta is on disk, before it is noted
    code = erase_command.main(["--config", str(agent.config), "--patient", ERASED, "--json"])
    name = json.loads(capsys.readouterr().out)["erasure"]
    assert code == 0
    ended: list[Certified | Failed | None] = []
    (tmp_path / "calibrator").mkdir()
    thread = threading.Thread(
        target=lambda: ended.append(carried_out(federation, name, tmp_path / "calibrator"))
    )
    # What is destroyed at the end is needed here to tell whether the patch was right.
    monkeypatch.setattr("coordinator.services.record_attempt.destroy_marked", lambda *_: None)
    monkeypatch.setattr("coordinator.services.conclude_erasure.destroy_marked", lambda *_: None)
    thread.start()
    try:
        until(agent.is_killed, "the agent died of the first delta")
        agent.start()
        until(lambda: ended, "the erasure ended")
    finally:
        thread.join(60)
    assert isinstance(ended[0], Certified), ended
    assert federation.get(name).state == erasures_pb2.Erasure.CERTIFIED
    request = ledger_pb2.ListEntriesRequest(page_size=1000)
    listed = federation.client.ledger.ListEntries(request).entries
    rows = [json.loads(row.canonical_json) for row in listed]
    (patch,) = [row for row in rows if row["kind"] == "patch"]
    assert patch["details"]["erasure"] == erasure_id(name)
    assert patch["site"] == "south"
    old = [r for r in rows if r["entry"] <= patch["details"]["exchanged_through_entry"]]
    due = expected_patch(federation, agent, [*old, patch])
    np.testing.assert_allclose(payload(federation, patch), due, atol=1e-6)
    assert agent.log().count('"delta_recomputed"') >= 2
    assert ERASED not in agent.log()
