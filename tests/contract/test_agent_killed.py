"""kill -9 and a full disk at every point where an agent's state changes: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from builders import Client, a_coordinator
from durability_tables import table
from killed_agent import KilledAgent, until
from running_agent import uploads_in

from letheon.v1 import (
    erasures_pb2,
    erasures_pb2_grpc,
    federation_pb2,
    ledger_pb2,
    training_pb2,
)

pytestmark = pytest.mark.system


class Federation:
    """A real coordinator and one agent that may be killed."""

    def __init__(self, folder: Path, client: Client, address: str) -> None:
        self.client = client
        self.agent = KilledAgent(folder, address)
        self.erasures = erasures_pb2_grpc.ErasuresStub(client.channel)
        self.jobs = erasures_pb2_grpc.ErasureJobsStub(client.channel)

    @property
    def head_version(self) -> int:
        request = federation_pb2.GetFederationRequest()
        return self.client.federation.GetFederation(request).head_version

    def check_nothing_lost_or_doubled(self, deltas: int) -> None:
        """Every row of the agent is an entry of the ledger, and there are no others."""
        assert self.agent.files("outbox") == self.agent.files("work") == 0
        rows = uploads_in(self.agent.state)
        assert [row["state"] for row in rows] == ["accepted"] * deltas
        listed = self.client.ledger.ListEntries(ledger_pb2.ListEntriesRequest(page_size=1000))
        assert self.head_version == deltas
        assert {row["ledger_hash"] for row in rows} <= {entry.hash for entry in listed.entries}
        for row in rows:
            question = training_pb2.QueryUploadRequest(
                update_id=row["update_id"], site="sites/north"
            )
            receipt = self.client.training.QueryUpload(question).receipt
            assert (receipt.entry, receipt.version) == (row["entry"], row["version"])

    def ask_to_erase(self) -> str:
        """An erasure whose method asks the site of the agent; the request id of the question."""
        filed = self.erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(
                request_id="r1",
                site="sites/north",
                legal_basis="GDPR-17-1-b",
                method="afu_ic_rebased",
            )
        )
        claim = self.jobs.ClaimErasure(
            erasures_pb2.ClaimErasureRequest(name=filed.name, holder="c1")
        )
        self.job = {"name": filed.name, "fencing_token": claim.fencing_token}
        self.jobs.RemoveContribution(erasures_pb2.RemoveContributionRequest(**self.job))
        task = training_pb2.EraseTask(
            method="afu_ic_rebased", parameters_json="{}", version=self.head_version, seed=1
        )
        asked = self.jobs.AskSites(
            erasures_pb2.AskSitesRequest(**self.job, request_id="q1", erase=task)
        )
        assert len(asked.tasks) == 1
        return "q1"

    def answers(self, question: str) -> list[erasures_pb2.Answer]:
        request = erasures_pb2.ListAnswersRequest(**self.job, request_id=question)
        answers = self.jobs.ListAnswers(request).answers
        return [answer for answer in answers if answer.WhichOneof("outcome") is not None]


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with ExitStack() as stack:
        coordinator, client = stack.enter_context(a_coordinator(tmp_path / "central"))
        made = Federation(tmp_path, client, coordinator.address)
        stack.callback(made.agent.close)
        yield made


DOCUMENTED = table("A site's agent")


def states(cell: str) -> list[str]:
    return [] if cell == "none" else [cell]


@pytest.mark.parametrize("point", [p for p, row in DOCUMENTED.items() if row["delta row"] != "-"])
def test_killed_at_any_point_of_a_delta_it_loses_no_receipt_and_merges_nothing_twice(
    federation: Federation, point: str
) -> None:
    row, agent = DOCUMENTED[point], federation.agent
    agent.arm(point, "kill")
    agent.start()
    assert agent.killed(), agent.log
    assert agent.states == states(row["delta row"])
    kept = {folder for folder in ("work", "outbox") if agent.files(folder)}
    assert kept == {row["file"]}
    assert federation.head_version == (row["at the coordinator"] == "yes")
    deltas = len(agent.states) + 1  # what is kept arrives, and the next process trains one
    agent.start()
    until(lambda: agent.states == ["accepted"] * deltas, f"{deltas} accepted deltas")
    agent.stop()
    federation.check_nothing_lost_or_doubled(deltas)


@pytest.mark.parametrize("point", DOCUMENTED)
def test_killed_at_any_point_of_an_erase_answer_the_erasure_gets_it_once(
    federation: Federation, point: str
) -> None:
    agent = federation.agent
    federation.client.register("north", "west")  # somebody must be left to repair the model
    question = federation.ask_to_erase()
    agent.arm(point, "kill")
    agent.start()
    assert agent.killed(), agent.log
    assert agent.states == states(DOCUMENTED[point]["answer row"])
    agent.start()
    until(lambda: agent.states == ["accepted"], "the answer is concluded")
    agent.stop()
    (answer,) = federation.answers(question)
    (row,) = uploads_in(agent.state)
    assert answer.erase.update_id == row["update_id"]
    assert agent.files("outbox") == agent.files("work") == 0


# How many deltas there are in the end: where the failure came after the first was safe, the
# training counts as failed and there is a second at once.
FULL = {
    "agent.trained": 1,
    "agent.moved": 1,
    "agent.stored": 2,
    "agent.segment_sent": 1,
    "agent.acknowledged": 1,
}


@pytest.mark.parametrize("point", FULL)
def test_a_full_disk_makes_it_wait_and_loses_no_delta(federation: Federation, point: str) -> None:
    agent = federation.agent
    agent.arm(point, "full")
    agent.start()
    until(lambda: agent.fired(point), "the fault")
    until(lambda: agent.states == ["accepted"] * FULL[point], f"{FULL[point]} accepted")
    agent.stop()
    assert "storage_failed" in agent.log
    assert agent.log.count("delta_trained") == FULL[point]
    federation.check_nothing_lost_or_doubled(FULL[point])


@pytest.mark.parametrize("point", ["agent.trained", "agent.moved", "agent.acknowledged"])
def test_a_full_disk_delays_an_erase_answer_and_never_makes_it_a_failure(
    federation: Federation, point: str
) -> None:
    agent = federation.agent
    federation.client.register("north", "west")  # somebody must be left to repair the model
    question = federation.ask_to_erase()
    agent.arm(point, "full")
    agent.start()
    until(lambda: federation.answers(question), "an answer")
    agent.stop()
    (answer,) = federation.answers(question)
    assert answer.HasField("erase")
    assert "storage_failed" in agent.log
    assert agent.files("outbox") == agent.files("work") == 0


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [halve, zero])
def test_files_that_a_power_cut_left_half_written_do_no_harm(
    federation: Federation, harm: Callable[[Path], None]
) -> None:
    agent = federation.agent
    agent.arm("agent.stored", "kill")
    agent.start()
    assert agent.killed(), agent.log
    (payload,) = (agent.state / "outbox").iterdir()
    harm(payload)
    (model,) = (agent.state / "models").glob("*.f32")
    for name in ("incoming.part", "incoming.part-header", "incoming-7.part"):
        (agent.state / "models" / name).write_bytes(model.read_bytes())
        harm(agent.state / "models" / name)
    (agent.state / "work" / "half").write_bytes(b"?")
    agent.start()
    until(lambda: agent.states == ["dropped", "accepted"], "the next delta is accepted")
    agent.stop()
    assert agent.files("outbox") == agent.files("work") == 0
    assert federation.head_version == 1
