"""A head recombined from what retained sites contributed; then one of them is erased, too."""

import hashlib
import uuid
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from builders import a_vector
from erasure_builders import Federation, Job, a_running_federation

from calibrator.adapters.coordinator_client import CoordinatorClient
from calibrator.domain.case import Ticket
from calibrator.ports import PatchUpload
from letheon.errors import PatchVoid
from letheon.federation.encoding import encode
from letheon.federation.parameters import Vector


def push_share(
    client: CoordinatorClient, federation: Federation, job: Job, site: str, share: Vector, to: Path
) -> int:
    """As the calibrator does."""
    payload = encode(share, federation.client.plan.encoding)
    to.write_bytes(payload)
    upload = PatchUpload(
        update_id=str(uuid.uuid4()),
        path=to,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        kind="calibration",
        epoch=federation.epoch,
        base_version=federation.version,
        site=site,
    )
    return client.push(Ticket(job.name, job.token), upload)


def test_what_a_recombination_took_from_a_site_goes_when_the_site_goes(tmp_path: Path) -> None:
    with a_running_federation(tmp_path) as federation:
        client = CoordinatorClient(federation.client.channel, reader="calibrator-1")
        federation.train("north", "south", "west", "north", "west", seed=1)
        job = federation.job(federation.request("south").name)
        ticket = Ticket(job.name, job.token)
        subject, *parts = client.retained_parts(ticket, 2, with_subject=True)
        without = federation.head - subject.values
        job.remove()
        np.testing.assert_array_equal(federation.head, without)

        # Threefold what each had contributed: far from anything that training would do.
        shares = {
            site: np.float32(2.0)
            * reduce(np.add, [part.values for part in parts if part.site == site])
            for site in ("sites/north", "sites/west")
        }
        for site, share in shares.items():
            push_share(client, federation, job, site, share, tmp_path / "share")
        np.testing.assert_allclose(federation.head, without + sum(shares.values()), atol=1e-5)
        federation.train("north", "west", seed=50)
        assert job.passes()["removal_relative_error"] <= 1e-5

        later = federation.job(federation.request("west", "r2").name)
        with pytest.raises(PatchVoid, match="sites/west"):
            push_share(client, federation, job, "sites/west", a_vector(3), tmp_path / "share")
        later.remove()
        federation.train("north", seed=90)
        evidence = later.passes()
        assert evidence["removal_relative_error"] <= 1e-5
        assert evidence["destroyed"]["payloads"] == 3 + 1  # deltas, and the share
        assert federation.verify_ledger().holds
        kept = {row.site for row in federation.rows() if row.kind == "calibration"}
        assert kept == {"sites/north", "sites/west"}
