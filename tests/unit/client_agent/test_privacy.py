"""The site's account of its privacy: charged before anything leaves, and stopped at the budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import NOON
from test_recompute import World
from test_training_workbench import Site, plug_ins  # noqa: F401 - a fixture
from typer.testing import CliRunner
from workbench_arguments import adoption, opening, training

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.privacy_ledger import PrivacyLedger
from client_agent.checks.config_file import check_config_file
from client_agent.cli.main import app
from client_agent.domain.privacy import (
    Charge,
    PrivacyBudgetSpent,
    PrivacyLoss,
    PrivacyStanding,
    Quote,
)
from client_agent.domain.tasks import TaskAbandoned
from client_agent.privacy_config import PrivacyConfig
from client_agent.services.privacy_account import PrivacyAccount
from letheon.errors import BadConfig, BadData, InternalFault, MethodRefused, Refused
from letheon.imaging.privacy_accounting import NoisySteps, epsilon_of
from letheon.servicekit.clock import FakeClock

CONFIG = PrivacyConfig(noise_multiplier=1.0, epsilon_budget=2.0, delta=1e-3)
STEPS = Charge(noise_multiplier=1.0, sampling_rate=0.1, steps=10, unit="record")


def a_ledger(folder: Path) -> PrivacyLedger:
    return PrivacyLedger(LocalTables(folder / "agent.db"), FakeClock(NOON))


def a_quote(epsilon: float, charge: Charge = STEPS) -> Quote:
    return Quote(charge, PrivacyStanding(epsilon, epsilon + 0.5))


def test_an_update_is_charged_once_and_the_next_process_knows(tmp_path: Path) -> None:
    account = PrivacyAccount(CONFIG, a_ledger(tmp_path))
    account.learn(PrivacyStanding(0.0, 0.5))
    account.charge("u1", a_quote(0.5))
    account.charge("u1", a_quote(0.5))  # after a disk that took the charge and not the payload
    account.charge("u2", a_quote(1.0))
    again = a_ledger(tmp_path)
    assert again.updates() == 2
    assert again.spent() == [Charge(1.0, 0.1, 20, "record")]
    assert again.last() == (PrivacyStanding(1.0, 1.5), 1e-3)
    assert again.holds_any(["u0", "u2"])
    assert not again.holds_any(["u0"])


def test_the_account_is_spent_when_the_next_update_would_pass_the_budget(tmp_path: Path) -> None:
    told: list[PrivacyLoss] = []
    account = PrivacyAccount(CONFIG, a_ledger(tmp_path), told.append)
    assert account.loss is None
    account.learn(PrivacyStanding(1.0, 1.5))
    account.charge("u1", a_quote(1.5))
    assert not account.is_spent  # the next is 2.0 of 2.0
    account.charge("u2", a_quote(2.0))
    assert account.is_spent
    assert [loss.is_spent for loss in told] == [False, False, True]
    assert told[-1] == PrivacyLoss(2.0, 1e-3, 2.0, "record", is_spent=True)


def test_what_is_not_paid_for_is_not_let_out(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    account = PrivacyAccount(CONFIG, ledger)
    with pytest.raises(PrivacyBudgetSpent, match=r"would spend epsilon 2\.500 of 2"):
        account.charge("u1", a_quote(2.5))
    with pytest.raises(InternalFault, match="protects something else"):
        account.charge("u2", a_quote(0.5, replace(STEPS, unit="patient")))
    with pytest.raises(InternalFault, match="knows nothing"):
        account.learn(None)
    assert ledger.updates() == 0


def test_one_number_does_not_stand_for_records_and_patients(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.charge("u1", STEPS, PrivacyStanding(0.5, 1.0), 1e-5)
    ledger.check_unit("record")
    with pytest.raises(BadConfig, match=r"privacy.unit = \"patient\".*for each record"):
        ledger.check_unit("patient")


WRONG = {
    'noise_multiplier = "much"\nepsilon_budget = 8.0': ("privacy.noise_multiplier", "number"),
    "noise_multiplier = 0.0\nepsilon_budget = 8.0": ("privacy.noise_multiplier", "greater than 0"),
    "noise_multiplier = inf\nepsilon_budget = 8.0": ("privacy.noise_multiplier", "finite"),
    "noise_multiplier = 1.0": ("privacy.epsilon_budget", "required"),
    "noise_multiplier = 1.0\nepsilon_budget = -1.0": ("privacy.epsilon_budget", "greater than 0"),
    "noise_multiplier = 1.0\nepsilon_budget = 8.0\ndelta = 1.0": ("privacy.delta", "less than 1"),
    "noise_multiplier = 1.0\nepsilon_budget = 8.0\nclip_norm = 0.0": (
        "privacy.clip_norm",
        "greater than 0",
    ),
    'noise_multiplier = 1.0\nepsilon_budget = 8.0\nunit = "person"': ("privacy.unit", "record"),
    "noise_multiplier = 1.0\nepsilon_budget = 8.0\nbatch_size = 0": (
        "privacy.batch_size",
        "greater than or equal to 1",
    ),
    "noise_multiplier = 1.0\nepsilon_budget = 8.0\nnoise = 1.0": ("privacy.noise", "valid here"),
    'noise_multiplier = 1.0\nepsilon_budget = 8.0\n[training]\ncode = "/srv/t.py"': (
        "privacy",
        "training.code is the site's own",
    ),
    "noise_multiplier = 1.0\nepsilon_budget = 8.0\n[training]\nmixed_precision = true": (
        "privacy",
        "no mixed precision",
    ),
}
FILE = """\
coordinator = "127.0.0.1:7300"
site = "north"
state_dir = "{state}"
[data]
plugin = "synthetic"
arguments = {{ records = 40, classes = 2, channels = 1, height = 8, width = 8 }}
[privacy]
"""


@pytest.mark.parametrize("table", WRONG)
def test_a_wrong_value_names_the_key_and_the_rule(tmp_path: Path, table: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(FILE.format(state="/srv/state") + table)
    key, rule = WRONG[table]
    (error,) = check_config_file(file, {}).errors
    assert error.key == key
    assert rule in error.sentence
    result = CliRunner().invoke(app, ["check-config", "--config", str(file)])
    assert result.exit_code == 78
    assert key in result.output


class PrivateSite(Site):
    """A workbench whose plan is adopted with a table [privacy]."""

    def __init__(self, folder: Path, kind: str = "classification", **table: object) -> None:
        super().__init__(folder, kind)
        self.table = {**CONFIG.model_dump(), **table}
        self.told = self.bench.adopt(adoption(self.plan, privacy=self.table, spent=[]))

    def charged(self, spent: list[list[float]]) -> dict[str, object]:
        """Asks what it costs, pays, trains; what it cost."""
        quoted = self.bench.quote({"spent": spent})
        charge = quoted["charge"]
        paid = [*spent, [charge["noise_multiplier"], charge["sampling_rate"], charge["steps"]]]
        assert self.trained(spent=paid, charged=charge)["is_private"]
        return quoted

    def trained(self, **more: object) -> dict[str, object]:
        told = training(self.folder / "base", self.folder / "delta", seed=7, **more)
        return self.bench.train(told, lambda: False)


def test_a_training_tells_what_it_costs_and_what_the_next_would(tmp_path: Path) -> None:
    site = PrivateSite(tmp_path, epsilon_budget=100.0)
    count = len(site.trained_on())
    one = NoisySteps(1.0, 4 / count, 3)
    assert site.told["privacy"] == {"epsilon": 0.0, "epsilon_next": epsilon_of([one], 1e-3)}
    cost = site.charged([[1.0, 4 / count, 3]])
    assert cost == {
        "charge": {**one._asdict(), "unit": "record"},
        "standing": {
            "epsilon": epsilon_of([one] * 2, 1e-3),
            "epsilon_next": epsilon_of([one] * 3, 1e-3),
        },
    }
    assert np.linalg.norm(site.delta()) > 0


@pytest.mark.parametrize("kind", ["classification", "multi_label", "tabular", "segmentation"])
def test_every_task_can_be_trained_privately_and_never_twice_the_same(
    tmp_path: Path, kind: str
) -> None:
    site = PrivateSite(tmp_path, kind, epsilon_budget=100.0)
    site.charged([])
    first = site.delta()
    site.charged([])  # same base, seed and records
    assert np.isfinite(first).all()
    assert not np.array_equal(first, site.delta())


def test_the_training_process_refuses_beyond_the_budget_before_it_trains(tmp_path: Path) -> None:
    site = PrivateSite(tmp_path, epsilon_budget=0.01)
    with pytest.raises(PrivacyBudgetSpent, match=r"one more training would spend .* of 0\.01"):
        site.charged([])
    assert not (tmp_path / "delta").exists()


def test_nothing_is_trained_that_was_not_charged_as_it_is(tmp_path: Path) -> None:
    site = PrivateSite(tmp_path, epsilon_budget=100.0)
    charge = site.bench.quote({"spent": []})["charge"]
    for other in (None, {**charge, "sampling_rate": charge["sampling_rate"] / 2}):
        with pytest.raises(TaskAbandoned, match="what was charged is not what"):
            site.trained(spent=[], charged=other)
    assert not (tmp_path / "delta").exists()


def test_what_would_leave_without_noise_is_refused(tmp_path: Path) -> None:
    site = PrivateSite(tmp_path)
    (tmp_path / "ids.json").write_text(json.dumps(site.trained_on().record_ids))
    again = training(tmp_path / "base", tmp_path / "d", record_ids=str(tmp_path / "ids.json"))
    with pytest.raises(Refused, match="difference of two trainings"):
        site.bench.train(again, lambda: False)
    ascent = {"model": str(tmp_path / "base"), "target": str(tmp_path / "d"), "seed": 1}
    with pytest.raises(MethodRefused, match="take the method removal"):
        site.bench.erase({**ascent, "parameters": {}})


def test_a_delta_that_would_give_whole_records_away_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"privacy.delta = 0.5 is not below 1 / \d+ training"):
        PrivateSite(tmp_path, delta=0.5)


def test_patients_must_be_known_to_be_protected(tmp_path: Path) -> None:
    site = PrivateSite(tmp_path, unit="patient", epsilon_budget=100.0)  # two records each
    assert site.charged([])["charge"]["unit"] == "patient"  # type: ignore[index]
    nameless = replace(site.records, patients=None)
    site.bench.open(opening(tmp_path, "given", {"records": nameless}))
    with pytest.raises(BadData, match="which patient"):
        site.bench.adopt(adoption(site.plan, privacy=site.table, spent=[]))


def test_past_deltas_are_not_made_again_where_they_were_private(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked: list[list[str]] = []

    def is_private(update_ids: object) -> bool:
        asked.append(list(update_ids))  # type: ignore[call-overload]
        return True

    private = world.recompute()
    object.__setattr__(private, "is_private", is_private)
    with pytest.raises(Refused, match="would give the erased records away"):
        private(world.task, None)  # type: ignore[arg-type]
    assert asked == [["u0", "u1", "u2"]]
    assert world.trained == []
