"""A coordinator that encrypts is killed while it destroys keys, and while it accepts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_vector
from coordinator_under_faults import FragileCoordinator, a_fragile_coordinator
from durability_tables import table
from erasure_builders import a_certificate

from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from letheon.errors import CoordinatorUnreachable
from letheon.federation.encoding import encode
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, training_pb2

pytestmark = pytest.mark.system
KEYS = table("Keys of encryption at rest")
ACCEPT = table("An accepted delta")
COUNT = {"one": 1, "two": 2}


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[FragileCoordinator]:
    with (
        EmbeddedRedis(tmp_path / "redis") as redis,
        a_fragile_coordinator(
            tmp_path,
            redis_url=redis.url,
            settings={"encryption": {"key_dir": tmp_path / "keys"}},
        ) as made,
    ):
        yield made


def kept_payloads(coordinator: FragileCoordinator) -> set[str]:
    records = SqliteKeyRecords(coordinator.root / "keys")
    try:
        return set(records.all("payloads"))
    finally:
        records.close()


@pytest.mark.timeout(120)
def test_a_change_of_the_wrapping_key_cut_at_any_point_is_ended(
    coordinator: FragileCoordinator, tmp_path: Path
) -> None:
    key = SigningKey.load_or_create(tmp_path / "calibrator.pem")
    coordinator.client.register("north")
    for number, (point, row) in enumerate(KEYS.items()):
        subject = f"leaving-{number}"
        coordinator.client.register(subject)
        coordinator.train("north", subject, "north", seed=100 * number)
        query = "SELECT payload_sha256 FROM entries WHERE site = ?"
        own = {sha256 for (sha256,) in coordinator.sql(query, subject)}
        before = FileWrappingKeys(tmp_path / "keys").all()
        assert own <= kept_payloads(coordinator)
        erasure = coordinator.request(subject).name
        token = coordinator.claim(erasure)
        coordinator.remove(erasure, token)
        coordinator.train("north", seed=100 * number + 50)
        version = coordinator.version()
        coordinator.ask_evaluate(erasure, token, version)
        coordinator.answer("north", version)
        coordinator.arm(point)
        with pytest.raises(CoordinatorUnreachable):
            coordinator.passes(erasure, token, version)
        coordinator.died()
        assert len(FileWrappingKeys(tmp_path / "keys").all()) == COUNT[row["keys"]], point
        assert not own & kept_payloads(coordinator), point

        coordinator.start()
        (after,) = FileWrappingKeys(tmp_path / "keys").all()
        assert after not in before, point
        ended = coordinator.conclude(
            erasure, coordinator.claim(erasure), a_certificate(erasure, key)
        )
        assert ended.state == erasures_pb2.Erasure.State.Value("CERTIFIED"), point
    verdict = coordinator.verdict()
    assert verdict.holds, verdict.reason


@pytest.mark.timeout(180)
def test_an_encrypted_delta_cut_on_its_way_takes_effect_once(
    coordinator: FragileCoordinator,
) -> None:
    coordinator.client.register("north")
    for number, point in enumerate(("accept.received", "accept.published", "ledger.committed")):
        row = ACCEPT[point]
        update_id, delta = f"update-{number}", a_vector(number)
        sha256 = hashlib.sha256(encode(delta, coordinator.plan.encoding)).hexdigest()
        before = coordinator.version()
        coordinator.arm(point)
        with pytest.raises(CoordinatorUnreachable):
            coordinator.client.push("north", delta, base_version=number, update_id=update_id)
        coordinator.died()
        coordinator.start()
        query = training_pb2.QueryUploadRequest(update_id=update_id, site="sites/north")
        known = coordinator.client.training.QueryUpload(query)
        assert (known.WhichOneof("outcome") == "receipt") == (row["resend"] == "receipt"), point
        resent = coordinator.client.push(
            "north",
            delta,
            base_version=number,
            update_id=update_id,
            offset=known.committed_bytes,
        )
        assert resent.version == coordinator.version() == before + 1, point
        assert sha256 in kept_payloads(coordinator), point
    named = {sha256 for (sha256,) in coordinator.sql("SELECT payload_sha256 FROM entries")}
    assert kept_payloads(coordinator) == named - {None}
    verdict = coordinator.verdict()
    assert verdict.holds, verdict.reason
