"""A site with a privacy budget: it stops, the others go on, and its patients are still erased."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import a_plan
from erasure_builders import a_running_federation
from patient_world import GATE, SiteAgent, carried_out, until
from private_trainer import EPSILON
from test_patient_erasure import SMALL, accepted, ask, site_of, statement_of
from typer.testing import CliRunner

from client_agent.cli.main import app as agent_app
from letheon.cli.main import app

BUDGET = 3.2  # six updates
PRIVACY = f"\n[privacy]\nnoise_multiplier = 1.0\nepsilon_budget = {BUDGET}\n"
UPDATES = int(BUDGET / EPSILON)


def test_a_site_stops_at_its_budget_and_a_patient_leaves_by_readmission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patients = {SMALL: 2, **{f"patient-{i:03}": 2 for i in range(40)}}
    with a_running_federation(tmp_path / "centre", sites=(), plan=a_plan(gate=GATE)) as federation:
        address = federation.coordinator.address
        others = {f"one-{i}": 1 for i in range(20)}
        south = SiteAgent(tmp_path / "south", "south", address, patients, 0.02, PRIVACY)
        agents = [
            south,
            SiteAgent(tmp_path / "north", "north", address, others, 0.2),
            SiteAgent(tmp_path / "west", "west", address, others, 0.2),
        ]
        try:
            for agent in agents:
                agent.start()
            until(lambda: accepted(federation, "south") > 0, "south has contributed")
            until(lambda: site_of(federation, "south").privacy.spent, "south's budget is spent")
            north = accepted(federation, "north")
            until(lambda: accepted(federation, "north") > north, "the others go on")
            assert accepted(federation, "south") == len(south.trainer.trained) == UPDATES

            told = CliRunner().invoke(app, ["sites", "--coordinator", address])
            assert f"epsilon 3.00 of {BUDGET:g} a record, spent" in " ".join(told.output.split())
            own = ["privacy", "--config", str(south.config_file), "--format", "json"]
            answered = CliRunner().invoke(agent_app, own)
            assert answered.exit_code == 1
            assert '"charged_updates": 6' in answered.output

            row = ask(south, capsys, "--patient", SMALL)
            said = statement_of(carried_out(federation, row["erasure"], tmp_path))
            (step,) = said["method"]["steps"]
            assert step["step"] == "Readmission"
            assert "trains under differential privacy" in step["why_not_exchanged"]
            assert south.trainer.retrained == []
            # What was told was told: the removal gives no budget back.
            assert len(south.trainer.trained) == UPDATES
            assert site_of(federation, "south").privacy.spent
            assert federation.verify_ledger().holds
        finally:
            for agent in agents:
                agent.stop()
