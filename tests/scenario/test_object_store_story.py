"""A federation whose files are in an object store: training, a restart with nothing, an erasure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_vector
from erasure_builders import Federation, a_running_federation
from s3_server import S3Server

from letheon.errors import StorageUnavailable
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2

PREFIX = "federation-1"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


def stored_on(server: S3Server, bucket: str) -> dict[str, Any]:
    options = {**server.options(), "config_kwargs": '{"retries": {"max_attempts": 0}}'}
    storage = {"url": f"s3://{bucket}/{PREFIX}", "options": options}
    return {
        "storage": storage,
        "upkeep": {"every_seconds": 3600.0, "keep_models": 100, "fold_entries": 2},
    }


def payloads_of(federation: Federation, site: str) -> set[str]:
    with federation.coordinator.core.store.read() as uow:
        newest = uow.entries.newest()
        assert newest is not None
        return set(uow.entries.payloads(through=newest.entry, site=site))


def in_bucket(server: S3Server, bucket: str, area: str) -> set[str]:
    folder = f"{PREFIX}/{area}/"
    return {key.removeprefix(folder) for key in server.keys(bucket) if key.startswith(folder)}


def in_cache(directory: Path, area: str) -> set[str]:
    return {path.name for path in (directory / "data" / "cache" / area).iterdir()}


def test_a_federation_lives_in_a_bucket_and_an_erasure_empties_it(
    s3: S3Server, tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    config = stored_on(s3, bucket)
    with a_running_federation(tmp_path, config=config) as federation:
        federation.train("north", "south", "west", "south", "north", seed=1)
        federation.coordinator.core.derived.checkpoint()
        federation.train("south", "north", seed=30)
        federation.coordinator.maintenance.run_once()
        head = federation.head
        souths = payloads_of(federation, "south")
        assert len(souths) == 3
        assert souths < in_bucket(s3, bucket, "payloads")
        assert in_bucket(s3, bucket, "contributions")
    assert not (tmp_path / "data" / "payloads").exists()
    shutil.rmtree(tmp_path / "data" / "cache")
    with a_running_federation(tmp_path, config=config) as federation:
        assert np.array_equal(federation.head, head)
        assert federation.verify_ledger().holds
        assert souths <= in_cache(tmp_path, "payloads")
        job = federation.job(federation.request("south").name)
        job.remove()
        federation.train("north", "west", seed=60)
        s3.stop()
        with pytest.raises(StorageUnavailable):
            job.passes()
        s3.start()
        job.passes()
        done = job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        assert done.state == erasures_pb2.Erasure.CERTIFIED
        assert not souths & in_bucket(s3, bucket, "payloads")
        assert not souths & in_cache(tmp_path, "payloads")
        for area in ("checkpoints", "models", "contributions"):
            assert in_cache(tmp_path, area) <= in_bucket(s3, bucket, area)
        assert federation.verify_ledger().holds
        after = federation.head
    shutil.rmtree(tmp_path / "data" / "cache")
    with a_running_federation(tmp_path, config=config) as federation:
        assert np.array_equal(federation.head, after)
        assert not federation.coordinator.core.orphans.at_start()


def test_a_delta_that_met_an_outage_is_accepted_once_it_is_over(
    s3: S3Server, tmp_path: Path
) -> None:
    with a_running_federation(tmp_path, config=stored_on(s3, s3.new_bucket())) as federation:
        s3.stop()
        with pytest.raises(StorageUnavailable) as caught:
            federation.client.push("north", a_vector(1), update_id="update-1")
        assert s3.endpoint not in caught.value.message
        assert federation.version == 0
        s3.start()
        payload = a_vector(1).tobytes()
        header = federation.client.header(
            "north", payload, update_id="update-1", offset=len(payload)
        )
        receipt = federation.client.send(header, payload).receipt  # not a byte is sent again
        assert receipt.version == 1
        assert federation.verify_ledger().holds
