"""A backup from before an erasure is put back: nothing is served until it is forgotten again."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders import Client, a_config, a_coordinator, a_vector
from erasure_bench import Bench
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from coordinator.bootstrap import Coordinator
from coordinator.domain.erasure import ErasureState
from coordinator.domain.site import SiteState
from coordinator.erasure_wiring import erasure_context
from coordinator.services.approve_erasure import approve_erasure
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.request_erasure import RequestErasure, request_erasure
from coordinator.training_wiring import receive_upload
from letheon.cli.main import app
from letheon.errors import RestoreIncomplete, SiteFenced, StaleEpoch, StorageUnavailable
from letheon.servicekit.caller import Caller, Role, calling
from letheon.v1 import federation_pb2, recovery_pb2, recovery_pb2_grpc, training_pb2


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The second place."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "tombstones.log"


def running(tmp_path: Path, log: Path) -> Any:
    return a_coordinator(tmp_path, config={"tombstones": {"path": log}})


def bench_of(coordinator: Coordinator, client: Client, tmp_path: Path) -> Bench:
    core = coordinator.core
    context = erasure_context(core, a_config(tmp_path))
    return Bench(coordinator, context, receive_upload(core), client.plan)


def back_up(tmp_path: Path) -> None:
    """What an operator's backup of data_dir and database holds; the log is not part of it."""
    data, kept = tmp_path / "data", tmp_path / "backup"
    shutil.copytree(data, kept, ignore=shutil.ignore_patterns("*.sqlite*", "lock"))
    with (
        closing(sqlite3.connect(data / "coordinator.sqlite")) as source,
        closing(sqlite3.connect(kept / "coordinator.sqlite")) as target,
    ):
        source.backup(target)


def put_back(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "backup", tmp_path / "data")


def health(client: Client) -> int:
    stub = health_pb2_grpc.HealthStub(client.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest()).status)


def recovery(client: Client) -> recovery_pb2.RecoveryStatus:
    stub = recovery_pb2_grpc.RecoveryStub(client.channel)
    return stub.GetRecovery(recovery_pb2.GetRecoveryRequest())


def train(bench: Bench, *sites: str) -> None:
    bench.register(*sites)
    bench.train(*sites)


@pytest.fixture
def erased_since(tmp_path: Path, log: Path) -> str:
    """South was removed and everything of it destroyed; the backup from before is back."""
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south", "west")
        back_up(tmp_path)
        erasure, token = bench.removed("south")
        bench.train("north", "west", seed=50)
        bench.passes(erasure, token)
    put_back(tmp_path)
    return erasure


def test_nothing_is_served_and_every_call_says_what_to_do(
    tmp_path: Path, log: Path, erased_since: str
) -> None:
    with running(tmp_path, log) as (_, client):
        assert health(client) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(RestoreIncomplete, match="letheon restore"):
            client.federation.GetFederation(federation_pb2.GetFederationRequest())
        with pytest.raises(RestoreIncomplete):
            client.push("south", a_vector(9))
        status = recovery(client)
        assert status.held
        assert [(each.erasure, each.step) for each in status.missing] == [
            (f"erasures/{erased_since}", "file")
        ]


def test_restore_fences_the_subject_again_and_the_erasure_is_carried_out_anew(
    tmp_path: Path, log: Path, erased_since: str
) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        assert bench.site("south").state is SiteState.ACTIVE
        address = ["--coordinator", coordinator.address]
        seen = CliRunner().invoke(app, ["restore", "--dry-run", *address])
        assert erased_since in seen.output
        assert recovery(client).held
        done = CliRunner().invoke(app, ["restore", *address])
        assert done.exit_code == 0, done.output
        assert "The coordinator serves" in done.output

        assert health(client) == health_pb2.HealthCheckResponse.SERVING
        assert bench.site("south").state is SiteState.FENCED
        with pytest.raises(SiteFenced):
            client.push("south", a_vector(9), base_version=bench.position.version)
        assert bench.erasure(erased_since).state is ErasureState.RECEIVED
        _, claim = claim_erasure(erased_since, "c1", bench.context)
        before = set(bench.context.blobs.payloads.all())
        remove_contribution(erased_since, claim.token, bench.context)
        bench.train("north", "west", seed=90)
        bench.passes(erased_since, claim.token)
        assert before - set(bench.context.blobs.payloads.all())
        assert bench.ledger_holds()
    with running(tmp_path, log) as (_, client):
        assert not recovery(client).held


def test_an_interrupted_restore_is_finished_by_the_next(
    tmp_path: Path, log: Path, erased_since: str
) -> None:
    # As after a crash between the database's commit and the log's line.
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        whole = log.read_bytes()
        CliRunner().invoke(app, ["restore", "--coordinator", coordinator.address])
        assert not recovery(client).held
    log.write_bytes(whole)
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        assert recovery(client).missing == []
        assert bench.site("south").state is SiteState.FENCED


def test_a_withdrawal_after_the_backup_is_withdrawn_again(tmp_path: Path, log: Path) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south")
        erasure = bench.request("south")
        back_up(tmp_path)
        cancel_erasure(erasure.id, bench.context)
    put_back(tmp_path)
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        assert [each.step for each in recovery(client).missing] == ["cancel"]
        CliRunner().invoke(app, ["restore", "--coordinator", coordinator.address])
        assert bench.erasure(erasure.id).state is ErasureState.CANCELLED
        assert bench.site("south").state is SiteState.ACTIVE


def test_a_site_that_joined_after_the_backup_stays_fenced(tmp_path: Path, log: Path) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north")
        back_up(tmp_path)
        train(bench, "late")
        bench.request("late")
    put_back(tmp_path)
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        CliRunner().invoke(app, ["restore", "--coordinator", coordinator.address])
        client.register("late")
        with pytest.raises(SiteFenced):
            client.push("late", a_vector(1))


def test_a_request_is_not_acknowledged_before_its_tombstone_is_durable(
    tmp_path: Path, log: Path
) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south")
        moved = log.rename(log.with_suffix(".away"))
        with pytest.raises(StorageUnavailable, match="tombstone log"):
            bench.request("south")
        assert bench.site("south").state is SiteState.FENCED
        moved.rename(log)
        assert bench.request("south").site == "south"
        assert log.read_text().count('"event":"requested"') == 1


def test_what_a_crash_left_out_of_the_log_is_added_at_the_start(tmp_path: Path, log: Path) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south")
        bench.request("south")
        log.write_bytes(b"")
    with running(tmp_path, log) as (_, client):
        assert not recovery(client).held
        assert log.read_text().count('"event":"requested"') == 1


def test_without_a_log_a_restore_command_says_so(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as (coordinator, _):
        said = CliRunner().invoke(app, ["restore", "--coordinator", coordinator.address])
        assert "keeps no tombstones" in said.output


def test_records_that_were_excluded_stay_excluded_after_a_restore(
    tmp_path: Path, log: Path
) -> None:
    reference = "f" * 64
    with running(tmp_path, log) as (coordinator, client):
        client.register("north", "south")
        client.push("south", a_vector(1))
        back_up(tmp_path)
        bench = bench_of(coordinator, client, tmp_path)
        filed = bench.request("south", records=reference, method="patient_swap")
    put_back(tmp_path)
    with running(tmp_path, log) as (coordinator, client):
        recovery_pb2_grpc.RecoveryStub(client.channel).ApplyTombstones(
            recovery_pb2.ApplyTombstonesRequest()
        )
        bench = bench_of(coordinator, client, tmp_path)
        again = bench.erasure(filed.id)
        assert (again.records, again.exclusion_counter) == (reference, 1)
        assert bench.site("south").state is SiteState.ACTIVE
        with pytest.raises(StaleEpoch, match="records of this site were excluded"):
            client.push("south", a_vector(2), base_version=1)
        task = client.training.NextTask(training_pb2.NextTaskRequest(site="sites/south"))
        assert task.exclude.records == reference
        assert task.exclude.exclusion_counter == 1


def test_an_approval_after_the_backup_fences_again(tmp_path: Path, log: Path) -> None:
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south", "west")  # a third of the model each
        with calling(Caller(Role.OPERATOR, "ada", "1")):
            asked = RequestErasure("r1", "south", "GDPR-17-1-b")
            waiting = request_erasure(asked, bench.context)
        assert waiting.state is ErasureState.AWAITING_APPROVAL
        back_up(tmp_path)
        with calling(Caller(Role.OPERATOR, "grace", "2")):
            approve_erasure(waiting.id, bench.context)
    put_back(tmp_path)
    with running(tmp_path, log) as (coordinator, client):
        (missing,) = recovery(client).missing
        assert missing.erasure == f"erasures/{waiting.id}"
        stub = recovery_pb2_grpc.RecoveryStub(client.channel)
        stub.ApplyTombstones(recovery_pb2.ApplyTombstonesRequest())
        with coordinator.core.store.read() as uow:
            assert uow.sites.get("south").state is SiteState.FENCED
            again = uow.erasures.get(waiting.id)
        assert again.state is ErasureState.RECEIVED
        assert (again.requested_by, again.approved_by) == ("operator/ada", "operator/grace")


def test_a_site_that_asked_before_the_restore_may_withdraw_after_it(
    tmp_path: Path, log: Path
) -> None:
    south = Caller(Role.SITE, "south", "3")
    with running(tmp_path, log) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        train(bench, "north", "south")
        back_up(tmp_path)
        with calling(south):
            filed = request_erasure(RequestErasure("r1", "south", "GDPR-17-1-b"), bench.context)
    put_back(tmp_path)
    with running(tmp_path, log) as (coordinator, client):
        stub = recovery_pb2_grpc.RecoveryStub(client.channel)
        stub.ApplyTombstones(recovery_pb2.ApplyTombstonesRequest())
        bench = bench_of(coordinator, client, tmp_path)
        with calling(south):
            assert cancel_erasure(filed.id, bench.context).state is ErasureState.CANCELLED
