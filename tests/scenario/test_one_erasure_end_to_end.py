"""The story of one erasure, through the wire: from the request to the certificate."""

from pathlib import Path

import numpy as np
import pytest
from erasure_builders import a_running_federation

from letheon.errors import ModelDestroyed
from letheon.servicekit.signing import SigningKey
from letheon.v1 import certificates_pb2, erasures_pb2


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "key.pem")


def test_an_erasure_from_request_to_certificate(tmp_path: Path, key: SigningKey) -> None:
    with a_running_federation(tmp_path) as federation:
        federation.train("north", "south", "west", "south", seed=1)
        before = federation.head
        filed = federation.request("south")
        assert filed.state == erasures_pb2.Erasure.RECEIVED
        federation.coordinator.relay.run_once()
        entry = federation.queue.take("calibrator-1")
        assert entry is not None
        assert f"erasures/{entry.erasure}" == filed.name
        job = federation.job(filed.name)
        removal = job.remove()
        assert removal.subtracted
        assert removal.removed_entries == 2
        assert removal.epoch == 1
        assert (removal.version_before, removal.version_after) == (4, 5)
        assert np.array_equal(federation.download("models/4")[1], before)
        federation.train("north", "west", "north", seed=50)
        evidence = job.passes()
        assert evidence["removal_relative_error"] <= 1e-5
        assert evidence["replay_equals_head"]
        assert evidence["destroyed"]["payloads"] == 2
        done = job.certify(key)
        assert done.state == erasures_pb2.Erasure.CERTIFIED
        assert federation.verify_ledger().holds
        name = done.certificate
        stored = federation.certificates.GetCertificate(
            certificates_pb2.GetCertificateRequest(name=name)
        )
        assert stored.erasure == filed.name
        with pytest.raises(ModelDestroyed):
            federation.download("models/4")
