"""Erasures that were admitted with less to be claimed, up to a certificate that says so."""

import random
import threading
from pathlib import Path

from builders import a_plan
from erasure_builders import Federation, a_running_federation
from erasure_world import BEFORE, ScriptedCoordinator
from prometheus_client import CollectorRegistry
from real_erasure import Sites

from calibrator.adapters.coordinator_client import CoordinatorClient
from calibrator.domain.progress import Progress
from calibrator.drive import Drive, Signals
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Certified, Failed
from calibrator.services.job import Job, Workshop
from letheon import registry
from letheon.proof import certificate
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.signing import SigningKey
from letheon.v1 import certificates_pb2, sites_pb2
from letheon.v1 import erasures_pb2 as pb

GATE = {"every": 3, "answer_timeout_seconds": 60.0, "straggler_grace_seconds": 0.0, "bootstrap": 20}
CAVEAT = "sites/north holds 95 % of all training records"


def carried_out(federation: Federation, name: str, directory: Path) -> Certified | Failed | None:
    """A calibrator's drive against the real coordinator, from the claim to the end."""
    client, clock = CoordinatorClient(federation.client.channel, reader="c1"), SystemClock()
    workshop = Workshop(
        coordinator=client,
        plan=federation.client.plan,
        method=lambda method: registry.build(registry.UNLEARNING, method, {}),
        laboratory=lambda: None,  # type: ignore[arg-type, return-value]
        has_images=False,
        clock=clock,
        directory=directory,
        key=SigningKey.load_or_create(directory / "key.pem"),
    )
    drive = Drive(
        workshop,
        CalibratorMetrics(CollectorRegistry()),
        lambda: Backoff(0.01, 0.1, random.Random(0)),
        poll_s=0.02,
    )
    claim = client.claim(name, "c1")
    progress = Progress(stage_since=clock.now(), salt="00ff")
    signals = Signals(threading.Event(), threading.Event())
    return drive.run(Job(claim.ticket, claim.erasure, progress), signals)


def test_a_subject_with_seven_control_records_gets_a_certificate_that_claims_no_more(
    tmp_path: Path,
) -> None:
    with a_running_federation(tmp_path, sites=(), plan=a_plan(gate=GATE)) as federation:
        sites = Sites(federation.client)
        told = sites_pb2.RegisterSiteRequest(
            name="sites/south", record_count=100, control_records=7
        )
        federation.client.sites.RegisterSite(told)
        filed = federation.request("south")
        sites.start()
        try:
            ended = carried_out(federation, filed.name, tmp_path)
        finally:
            sites.close()
        assert isinstance(ended, Certified)
        request = certificates_pb2.GetCertificateRequest(
            name=federation.get(filed.name).certificate
        )
        stored = federation.certificates.GetCertificate(request).content
    said = certificate.verify(stored, None).statement
    # The site's own audit passed the tests: with so few records that must not count.
    assert {test["name"]: test["verdict"] for test in said["gate"]["tests"]}["forget_auc"] == "pass"
    assert (said["level"], said["level_granted"]) == ("L1", "L0")
    assert said["claim"] == "influence removed, not statistically verified"
    assert any("sites/south holds 7 control records" in line for line in said["what_is_not_proven"])


def test_an_erasure_nobody_could_test_is_removed_and_fails_with_its_sentence(bench) -> None:
    why = "no site but sites/north is active"
    world = ScriptedCoordinator(uncertifiable=why, level_admitted=pb.L0, caveats=[why])

    assert isinstance(bench(world).run(), Failed)

    assert world.erasure.removal.version_after == BEFORE + 1
    assert world.erasure.failure.endswith(f"removed in version {BEFORE + 1}, but {why}")
    assert not world.attempts


def test_a_certificate_grants_what_was_admitted_whatever_a_test_says(bench) -> None:
    world = ScriptedCoordinator(level_admitted=pb.L0, caveats=[CAVEAT])

    assert isinstance(bench(world).run(), Certified)

    said = certificate.verify(world.certificate, None).statement
    assert said["level_granted"] == "L0"
    assert said["claim"] == "influence removed, not statistically verified"
    assert f"Known when the request was filed: {CAVEAT}." in said["what_is_not_proven"]
