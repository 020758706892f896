"""letheon.v1.Models, Sites, Federation and Ledger behind a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import NOON, Client, a_coordinator, a_vector, an_erasure

from coordinator.bootstrap import Coordinator
from coordinator.domain.model import Destroyed
from letheon import __version__
from letheon.errors import (
    ExportSuspended,
    MalformedName,
    MalformedRequest,
    ModelDestroyed,
    NoServingModel,
    OffsetMismatch,
    PayloadCorrupt,
    RequestAltered,
    UnknownModelVersion,
    UnknownSite,
    VerificationRunning,
    WrongPlan,
)
from letheon.servicekit.transfer import check_chunk
from letheon.v1 import federation_pb2, ledger_pb2, models_pb2, sites_pb2

Running = tuple[Coordinator, Client]


@pytest.fixture
def running(tmp_path: Path, chosen_database: str | None) -> Iterator[Running]:
    with a_coordinator(tmp_path, database_url=chosen_database) as (coordinator, client):
        client.register("north", "south")
        yield coordinator, client


def read(client: Client, name: str, offset: int = 0) -> tuple[models_pb2.Model, bytes]:
    stream = client.models.DownloadModel(models_pb2.DownloadModelRequest(name=name, offset=offset))
    header = next(stream).header
    data = b""
    for part in stream:
        check_chunk(part.chunk, offset + len(data))
        data += part.chunk.data
    return header, data


def get(client: Client, name: str) -> models_pb2.Model:
    return client.models.GetModel(models_pb2.GetModelRequest(name=name))


def test_a_version_is_written_out_only_when_somebody_wants_it(running: Running) -> None:
    _, client = running
    client.push("north", a_vector(1))
    client.push("north", a_vector(2), base_version=1)
    listed = client.models.ListModels(models_pb2.ListModelsRequest()).models
    assert [m.version for m in listed] == [0]
    header, data = read(client, "models/head")
    assert (header.version, header.head, header.serving) == (2, True, False)
    assert hashlib.sha256(data).hexdigest() == header.sha256
    listed = client.models.ListModels(models_pb2.ListModelsRequest()).models
    assert [m.version for m in listed] == [2, 0]
    with pytest.raises(UnknownModelVersion):
        get(client, "models/1")


def test_a_download_resumes_with_its_version_after_the_head_moved_and_a_restart(
    tmp_path: Path,
) -> None:
    with a_coordinator(tmp_path) as (_, client):
        client.register("north")
        header, whole = read(client, "models/head")
        client.push("north", a_vector(1))
    with a_coordinator(tmp_path) as (_, client):
        again, rest = read(client, header.name, offset=40)
        assert again.sha256 == header.sha256
        assert rest == whole[40:]


def test_a_download_beyond_the_end_is_told_to_start_over(running: Running) -> None:
    _, client = running
    with pytest.raises(OffsetMismatch):
        read(client, "models/head", offset=10_000)


def test_a_file_that_changed_while_the_coordinator_was_down_is_corrupt(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as (coordinator, client):
        path = coordinator.core.blobs.models.path(get(client, "models/0").sha256)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with a_coordinator(tmp_path) as (_, client), pytest.raises(PayloadCorrupt):
        read(client, "models/0")


def test_a_destroyed_version_says_by_which_erasure(running: Running) -> None:
    coordinator, client = running
    with coordinator.core.store.write() as uow:
        uow.erasures.add(an_erasure("e1"))
        uow.destroyed.add_versions(Destroyed(3, 5, "e1", NOON))
        uow.commit()
    with pytest.raises(ModelDestroyed) as caught:
        get(client, "models/4")
    assert caught.value.facts["erasure"] == "erasures/e1"


@pytest.mark.parametrize("name", ["models", "models/", "models/x", "head", "models/-1"])
def test_a_name_that_is_none_is_refused(running: Running, name: str) -> None:
    _, client = running
    with pytest.raises(MalformedName):
        get(client, name)


def test_unneeded_files_go_and_pinned_ones_stay(running: Running) -> None:
    coordinator, client = running
    files = coordinator.core.files
    with coordinator.core.store.write() as uow:
        uow.models.pin(2, "erasure:e1")
        uow.commit()
    for number in range(7):
        client.push("north", a_vector(number), base_version=number)
        get(client, "models/head")
    files.drop_unneeded()
    listed = client.models.ListModels(models_pb2.ListModelsRequest()).models
    assert [m.version for m in listed] == [7, 6, 5, 4, 2, 0]  # 0 is served
    kept = {m.sha256 for m in listed}
    assert set(coordinator.core.blobs.models.all()) == kept


def test_an_export_is_recorded_once(running: Running) -> None:
    _, client = running
    request = models_pb2.ExportModelRequest(request_id="x1", recipient="clinic", purpose="trial")
    first = client.models.ExportModel(request)
    assert first.model == "models/0"
    assert client.models.ExportModel(request) == first
    assert list(client.models.ListExports(models_pb2.ListExportsRequest()).exports) == [first]
    request.recipient = "another"
    with pytest.raises(RequestAltered):
        client.models.ExportModel(request)
    with pytest.raises(MalformedRequest):
        client.models.ExportModel(models_pb2.ExportModelRequest(request_id="x2"))


def test_what_is_not_served_is_not_exported(running: Running) -> None:
    coordinator, client = running
    request = models_pb2.ExportModelRequest(request_id="x1", recipient="clinic")
    with coordinator.core.store.write() as uow:
        uow.federation.save(replace(uow.federation.get(), serving_carries_subject=True))
        uow.commit()
    with pytest.raises(ExportSuspended):
        client.models.ExportModel(request)
    with coordinator.core.store.write() as uow:
        uow.federation.save(replace(uow.federation.get(), serving_version=None))
        uow.commit()
    with pytest.raises(NoServingModel):
        client.models.ExportModel(request)
    with pytest.raises(NoServingModel):
        get(client, "models/serving")
    status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
    assert not status.HasField("serving_version")


def test_the_coordinator_tells_its_release(running: Running) -> None:
    _, client = running
    status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
    assert status.release == __version__


def test_registering_again_is_harmless_and_updates_the_count(running: Running) -> None:
    _, client = running
    client.push("north", a_vector(1))
    client.register("north", record_count=70)
    site = client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/north"))
    assert (site.record_count, site.accepted_deltas, site.first_version) == (70, 1, 1)
    listed = client.sites.ListSites(sites_pb2.ListSitesRequest()).sites
    assert [s.name for s in listed] == ["sites/north", "sites/south"]
    assert not listed[1].HasField("first_version")


def test_a_bad_registration_is_refused(running: Running) -> None:
    _, client = running
    register = client.sites.RegisterSite
    with pytest.raises(MalformedName):
        register(sites_pb2.RegisterSiteRequest(name="sites/North Hospital"))
    with pytest.raises(MalformedRequest):
        register(sites_pb2.RegisterSiteRequest(name="sites/west", record_count=-1))
    with pytest.raises(WrongPlan):
        register(sites_pb2.RegisterSiteRequest(name="sites/west", plan_digest="f" * 64))
    with pytest.raises(UnknownSite):
        client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/west"))


def test_the_federation_says_where_it_stands(running: Running) -> None:
    _, client = running
    receipt = client.push("north", a_vector(1))
    status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
    assert (status.head_version, status.epoch, status.entries) == (1, 0, 2)
    assert status.ledger_hash == receipt.ledger_hash
    assert dict(status.updates) == {"accepted": 1}
    assert status.serving_version == 0
    assert status.disk_bytes >= 4 * status.model_size_bytes
    areas = dict(status.disk_bytes_by_area)
    assert areas["payloads"] == 2 * status.model_size_bytes  # the initial weights and the delta
    assert set(areas) == {"payloads", "checkpoints", "contributions", "models", "uploads"}
    assert sum(areas.values()) - areas["uploads"] == status.disk_bytes
    assert (status.payloads_kept, status.entries_since_checkpoint) == (2, 1)
    assert (status.oldest_rebuildable_entry, status.oldest_rebuildable_version) == (0, 0)
    plan = client.federation.GetPlan(federation_pb2.GetPlanRequest())
    assert hashlib.sha256(plan.canonical_json).hexdigest() == plan.digest == status.plan_digest


def test_the_ledger_is_listed_in_order_with_the_bytes_that_are_hashed(running: Running) -> None:
    _, client = running
    for number in range(3):
        client.push("north", a_vector(number), base_version=number)
    listed = client.ledger.ListEntries(ledger_pb2.ListEntriesRequest(first=1, page_size=2)).entries
    assert [(row.entry, row.kind, row.site) for row in listed] == [
        (1, "delta", "sites/north"),
        (2, "delta", "sites/north"),
    ]
    assert all(hashlib.sha256(r.canonical_json.encode()).hexdigest() == r.hash for r in listed)
    with pytest.raises(MalformedRequest):
        client.ledger.ListEntries(ledger_pb2.ListEntriesRequest(page_size=5000))


def test_one_verification_at_a_time(running: Running) -> None:
    coordinator, client = running
    with coordinator.core.verify_ledger.held_off(), pytest.raises(VerificationRunning):
        list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))
    parts = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))
    assert parts[-1].verdict.holds
    assert parts[-2].progress.done == parts[-2].progress.total


def test_training_goes_on_while_the_ledger_is_verified(running: Running) -> None:
    _, client = running
    client.push("north", a_vector(1))
    stream = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
    assert client.push("south", a_vector(2)).version == 2
    verdict = list(stream)[-1].verdict
    assert verdict.holds
    assert verdict.version in {1, 2}


def test_the_served_bytes_are_version_zero_at_first(running: Running) -> None:
    coordinator, client = running
    client.push("north", a_vector(5))
    header, data = read(client, "models/serving")
    assert (header.version, header.serving) == (0, True)
    _, head = coordinator.core.live.snapshot()
    assert not np.array_equal(np.frombuffer(data, "<f4"), head)
