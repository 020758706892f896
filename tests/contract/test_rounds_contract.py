"""Synchronous rounds over the wire: what an agent is told, and when the head moves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_plan, a_vector
from erasure_builders import Federation, a_running_federation

from letheon.v1 import training_pb2

PLAN = a_plan(strategy={"plugin": "fedavg"})


@pytest.fixture
def federation(tmp_path: Path, chosen_database: str | None) -> Iterator[Federation]:
    with a_running_federation(tmp_path, plan=PLAN, database_url=chosen_database) as running:
        yield running


def next_task(federation: Federation, site: str) -> training_pb2.NextTaskResponse:
    return federation.client.training.NextTask(training_pb2.NextTaskRequest(site=f"sites/{site}"))


def test_a_site_that_has_delivered_is_told_to_come_back_and_then_trains_on(
    federation: Federation,
) -> None:
    federation.train("north")
    told = next_task(federation, "north")
    assert told.WhichOneof("outcome") == "retry_after"
    assert 0 < told.retry_after.ToTimedelta().total_seconds() <= 2.5
    assert next_task(federation, "south").WhichOneof("outcome") == "train"
    federation.train("south", "west")
    assert next_task(federation, "north").WhichOneof("outcome") == "train"


def test_a_receipt_says_buffered_and_the_version_moves_once_a_round(federation: Federation) -> None:
    receipts = federation.train("north", "south", "west")
    assert {receipt.outcome for receipt in receipts} == {training_pb2.Receipt.BUFFERED}
    assert federation.version == 1
    federation.train("south", "west")
    header, head = federation.download("models/head")
    assert header.version == 1
    assert head.tobytes() == federation.head.tobytes()


def test_a_delivered_site_still_answers_what_an_erasure_asks(federation: Federation) -> None:
    federation.train("north", "south", "west")
    job = federation.job(federation.request("south").name)
    job.remove()
    federation.train("north")
    (task, *_) = job.ask_evaluate("gate-1", federation.version)
    told = next_task(federation, "north")
    assert told.WhichOneof("outcome") == "evaluate"
    assert told.evaluate.name in {task, *_}


def test_a_resent_delta_does_not_end_a_round(federation: Federation) -> None:
    send = {"update_id": "11111111-1111-4111-8111-111111111111"}
    first = federation.client.push("north", a_vector(3), **send)
    assert federation.client.push("north", a_vector(3), **send) == first
    federation.train("south")
    assert federation.version == 0
