"""Erasing records of a site over the wire: requests, tasks, refusals and downloads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from builders import LAYOUT, a_vector
from erasure_builders import Federation, a_running_federation

from letheon.errors import (
    MalformedName,
    MalformedRequest,
    OffsetMismatch,
    RequestAltered,
    StaleEpoch,
    UnknownModelVersion,
)
from letheon.servicekit import transfer
from letheon.v1 import erasures_pb2, models_pb2, training_pb2

REFERENCE = hashlib.sha256(b"opaque").hexdigest()


@pytest.fixture
def federation(tmp_path: Path):
    with a_running_federation(tmp_path) as made:
        made.train("south", "north")
        made.train("south", seed=40)
        yield made


def next_task(federation: Federation, site: str = "south") -> training_pb2.NextTaskResponse:
    return federation.client.training.NextTask(training_pb2.NextTaskRequest(site=f"sites/{site}"))


def answer(federation: Federation, task: str, **given: object) -> None:
    request = training_pb2.SubmitAnswerRequest(site="sites/south", task=task, **given)
    federation.client.training.SubmitAnswer(request)


def test_a_request_names_a_reference_and_gets_the_method_of_records(federation: Federation):
    filed = federation.request("south", records=REFERENCE)
    assert (filed.records, filed.exclusion_counter, filed.method) == (REFERENCE, 1, "patient_swap")
    assert federation.request("south", records=REFERENCE).name == filed.name
    with pytest.raises(RequestAltered):
        federation.request("south", records="0" * 64)
    with pytest.raises(MalformedRequest):
        federation.request("south", "r2", records="Anna Schmidt, 1957")


def test_the_site_is_told_to_exclude_and_answers_in_one_bit(federation: Federation):
    filed = federation.request("south", records=REFERENCE)
    task = next_task(federation).exclude
    assert (task.erasure, task.records, task.exclusion_counter) == (filed.name, REFERENCE, 1)
    assert next_task(federation, "north").WhichOneof("outcome") == "train"
    answer(federation, task.name, exclude=training_pb2.ExcludeAnswer(found=True))
    train = next_task(federation).train
    assert train.exclusion_counter == 1
    job = federation.job(filed.name)
    (told,) = job.answers(f"{filed.name.rpartition('/')[2]}-exclude")
    assert told.exclude.found


def test_an_upload_begun_before_is_refused_before_a_byte_is_taken(federation: Federation):
    federation.request("south", records=REFERENCE)
    with pytest.raises(StaleEpoch, match="records of this site were excluded"):
        federation.client.push("south", a_vector(9), base_version=federation.version)
    assert list((federation.data / "staging").glob("*")) == []


def test_what_is_to_be_recomputed_and_what_it_needs_can_be_downloaded_and_resumed(
    federation: Federation, tmp_path: Path
):
    filed = federation.request("south", records=REFERENCE)
    job = federation.job(filed.name)
    version = federation.version
    erase = training_pb2.EraseTask(method="patient_swap", version=version)
    job.ask("swap", erase=erase)
    answer(
        federation,
        next_task(federation).exclude.name,
        exclude=training_pb2.ExcludeAnswer(found=True),
    )
    task = next_task(federation).erase
    assert task.records == REFERENCE
    assert [delta.base_version for delta in task.deltas] == [0, 2]
    assert all(delta.coefficient > 0 for delta in task.deltas)
    name = f"{filed.name}/bases/2"
    path = tmp_path / "base"
    made = transfer.download(
        federation.client.models.DownloadModel, path, name=name, reader="sites/south"
    )
    assert (made.version, path.stat().st_size) == (2, 4 * LAYOUT.size)
    request = models_pb2.DownloadModelRequest(name=name, offset=12, reader="sites/south")
    header, *chunks = federation.client.models.DownloadModel(request)
    assert b"".join(part.chunk.data for part in chunks) == path.read_bytes()[12:]
    request.offset = 10**6
    with pytest.raises(OffsetMismatch):
        list(federation.client.models.DownloadModel(request))
    request = models_pb2.DownloadModelRequest(
        name=f"{filed.name}/contribution", reader="sites/south"
    )
    header, *chunks = federation.client.models.DownloadModel(request)
    assert header.header.size_bytes == 4 * LAYOUT.size
    assert np.isfinite(np.frombuffer(chunks[0].chunk.data, "<f4")).all()


@pytest.mark.parametrize("reader", ["sites/north", "somebody", ""])
def test_nobody_else_gets_a_base_or_a_contribution(federation: Federation, reader: str):
    filed = federation.request("south", records=REFERENCE)
    federation.job(filed.name).ask("swap", erase=training_pb2.EraseTask(version=federation.version))
    for what in ("bases/0", "contribution"):
        request = models_pb2.DownloadModelRequest(name=f"{filed.name}/{what}", reader=reader)
        with pytest.raises(UnknownModelVersion):
            list(federation.client.models.DownloadModel(request))


@pytest.mark.parametrize(
    "name", ["erasures/x/bases/", "erasures//contribution", "erasures/x/bases/-1"]
)
def test_a_malformed_name_of_an_exchange_is_refused(federation: Federation, name: str):
    with pytest.raises(MalformedName):
        list(federation.client.models.DownloadModel(models_pb2.DownloadModelRequest(name=name)))


def test_a_removal_of_records_without_an_exchange_readmits_the_site(federation: Federation):
    filed = federation.request("south", records=REFERENCE)
    removal = federation.job(filed.name).remove()
    assert (removal.subtracted, removal.exchanged, removal.epoch) == (True, False, 1)
    assert federation.get(filed.name).state == erasures_pb2.Erasure.ERASING
    assert federation.verify_ledger().holds
