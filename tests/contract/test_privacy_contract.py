"""Differential privacy of a real agent: it stops at its budget, says so, and outlives kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_coordinator
from killed_agent import KilledAgent, until
from private_trainer import EPSILON
from running_agent import RunningAgent, a_config, an_erase, an_evaluation
from scripted_coordinator import ScriptedCoordinator, a_plan

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.privacy_ledger import PrivacyLedger
from letheon.servicekit.clock import SystemClock
from letheon.v1 import sites_pb2, training_pb2

TABLE = "\n[privacy]\nnoise_multiplier = 1.0\nepsilon_budget = {budget}\n"


def ledger_of(state: Path) -> PrivacyLedger:
    return PrivacyLedger(LocalTables(state / "agent.db"), SystemClock())


@pytest.fixture
def coordinator() -> Iterator[ScriptedCoordinator]:
    plan, weights = a_plan(max_delta_norm=1e6)
    with_plan = ScriptedCoordinator(plan, weights).start()
    yield with_plan
    with_plan.stop()


@pytest.mark.system
def test_an_agent_stops_training_at_its_budget_and_goes_on_answering(
    tmp_path: Path, coordinator: ScriptedCoordinator
) -> None:
    """With the real training process and the real accountant."""
    told = {"noise_multiplier": 4.0, "epsilon_budget": 0.22, "delta": 1e-3, "batch_size": 8}
    config = a_config(coordinator.address, tmp_path / "state", privacy=told)
    coordinator.train_forever = True
    agent = RunningAgent(config)
    coordinator.until(lambda: bool(coordinator.polled) and coordinator.polled[-1].privacy.spent)
    coordinator.tasks.append(an_evaluation())
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 2)
    agent.stop()
    assert agent.error is None
    loss = coordinator.polled[-1].privacy
    assert 0.0 < loss.epsilon <= loss.epsilon_budget == 0.22
    assert (loss.delta, loss.unit) == (1e-3, "record")
    received = len(coordinator.receipts)
    assert received == 3
    ledger = ledger_of(config.state_dir)
    assert ledger.updates() == received  # every one that left, and no other
    last = ledger.last()
    assert last is not None
    assert last[0].epsilon == loss.epsilon
    assert last[0].epsilon_next > 0.22
    assert agent.metric("privacy_epsilon", unit="record") == loss.epsilon
    assert agent.metric("privacy_epsilon_budget", unit="record") == 0.22
    assert agent.metric("privacy_budget_spent", unit="record") == 1.0
    # The loss of the training records stays at home.
    losses = [one.header.delta.train_loss for one in coordinator.uploads.values()]
    assert losses == [0.0] * received
    kinds = {one.WhichOneof("answer"): one for one in coordinator.answers}
    assert kinds.keys() == {"evaluate", "failure"}
    assert "differential privacy" in kinds["failure"].failure.reason


@pytest.mark.system
def test_a_kill_between_charge_and_training_only_overcharges(tmp_path: Path) -> None:
    with a_coordinator(tmp_path / "central") as (coordinator, client):
        agent = KilledAgent(tmp_path, coordinator.address, more=TABLE.format(budget=8.0))
        try:
            agent.arm("agent.charged", "kill")
            agent.start()
            assert agent.killed(), agent.log
            assert ledger_of(agent.state).updates() == 1
            assert agent.states == []
            assert agent.files("outbox") == 0
            agent.start()
            until(lambda: agent.states == ["accepted"], "the next delta is accepted")
            until(lambda: site(client).privacy.epsilon == 2 * EPSILON, "it is told")
            agent.stop()
        finally:
            agent.close()
        assert ledger_of(agent.state).updates() == 2


def site(client: object) -> sites_pb2.Site:
    found: sites_pb2.Site = client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/north"))  # type: ignore[attr-defined]
    return found


def test_a_coordinator_gives_a_site_that_trains_no_more_no_train_task_and_shows_it(
    tmp_path: Path,
) -> None:
    loss = sites_pb2.PrivacyLoss(epsilon=7.9, delta=1e-5, epsilon_budget=8.0, unit="record")
    with a_coordinator(tmp_path / "central") as (_, client):
        client.register("north", "south")

        def ask(privacy: sites_pb2.PrivacyLoss | None) -> str | None:
            request = training_pb2.NextTaskRequest(site="sites/north", privacy=privacy)
            return client.training.NextTask(request).WhichOneof("outcome")

        assert ask(loss) == "train"
        assert site(client).privacy == loss
        loss.spent = True
        assert ask(loss) == "retry_after"
        listed = client.sites.ListSites(sites_pb2.ListSitesRequest()).sites
        assert [one.HasField("privacy") for one in listed] == [True, False]
        assert ask(None) == "train"
        assert not site(client).HasField("privacy")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("epsilon", -1.0, "privacy.epsilon must be 0 or more"),
        ("epsilon", float("nan"), "privacy.epsilon must be 0 or more"),
        ("delta", 1.0, "privacy.delta must be between 0 and 1"),
        ("epsilon_budget", float("inf"), "privacy.epsilon_budget must be above 0"),
        ("unit", "PATIENT 17", "privacy.unit must be record or patient"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(
    tmp_path: Path, field: str, value: object, rule: str
) -> None:
    from letheon.errors import MalformedRequest

    loss = sites_pb2.PrivacyLoss(epsilon=1.0, delta=1e-5, epsilon_budget=8.0, unit="record")
    setattr(loss, field, value)
    with a_coordinator(tmp_path / "central") as (_, client):
        client.register("north")
        with pytest.raises(MalformedRequest, match=rule):
            client.training.NextTask(training_pb2.NextTaskRequest(site="sites/north", privacy=loss))
