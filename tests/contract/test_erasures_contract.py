"""letheon.v1.Erasures and Certificates over the wire: statuses, defaults, idempotency."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from erasure_builders import Federation, a_running_federation
from google.protobuf.duration_pb2 import Duration

from letheon.errors import (
    ErasureAlreadyRequested,
    ErasureNotCancellable,
    ExportSuspended,
    LevelRefused,
    MalformedName,
    MalformedRequest,
    MethodRefused,
    ModelDestroyed,
    RequestAltered,
    SiteFenced,
    UnknownCertificate,
    UnknownErasure,
    UnknownSite,
)
from letheon.proof.certificate import trust, verify_file
from letheon.servicekit.signing import SigningKey
from letheon.v1 import certificates_pb2, erasures_pb2, models_pb2, sites_pb2


@pytest.fixture
def federation(tmp_path: Path, chosen_database: str | None) -> Iterator[Federation]:
    with a_running_federation(tmp_path, database_url=chosen_database) as running:
        yield running


def certified(federation: Federation, tmp_path: Path) -> erasures_pb2.Erasure:
    federation.train("south", "north")
    job = federation.job(federation.request("south").name)
    job.remove()
    federation.train("north", "west", seed=40)
    job.passes()
    return job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))


def test_defaults_are_level_one_removal_and_the_deadline_of_the_plan(
    federation: Federation,
) -> None:
    filed = federation.request("south", requester="dpo@north")
    assert filed.level == erasures_pb2.L1
    assert filed.method == "removal"
    assert filed.requester == "dpo@north"
    assert filed.legal_basis == "GDPR-17-1-b"
    days = (filed.deadline.ToDatetime() - filed.requested_at.ToDatetime()).days
    assert days == 30
    assert filed.requested_at.ToDatetime() <= filed.fenced_at.ToDatetime()


def test_a_filed_request_can_be_read_and_listed(federation: Federation) -> None:
    first = federation.request("south")
    second = federation.request("north", "r2")
    listed = federation.erasures.ListErasures(erasures_pb2.ListErasuresRequest()).erasures
    assert [one.name for one in listed] == [second.name, first.name]
    assert federation.get(first.name) == first
    federation.erasures.CancelErasure(erasures_pb2.CancelErasureRequest(name=second.name))
    still_open = federation.erasures.ListErasures(
        erasures_pb2.ListErasuresRequest(open_only=True)
    ).erasures
    assert [one.name for one in still_open] == [first.name]


def test_a_repeated_request_returns_the_same_erasure(federation: Federation) -> None:
    assert federation.request("south").name == federation.request("south").name
    with pytest.raises(RequestAltered):
        federation.request("north")
    with pytest.raises(ErasureAlreadyRequested):
        federation.request("south", "r2")


def test_what_cannot_be_had_is_refused_with_a_reason(federation: Federation) -> None:
    with pytest.raises(LevelRefused, match="not offered yet"):
        federation.request("south", level=erasures_pb2.L3)
    with pytest.raises(MethodRefused, match="overwrites"):
        federation.request("south", method="afu_ic")
    with pytest.raises(UnknownSite):
        federation.request("nowhere")
    with pytest.raises(MalformedRequest) as raised:
        federation.request("south", legal_basis="")
    assert raised.value.facts["field"] == "legal_basis"
    with pytest.raises(MalformedRequest):
        federation.request("south", deadline=Duration(seconds=-1))
    with pytest.raises(MalformedName):
        federation.erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(request_id="r", site="south", legal_basis="x")
        )


def test_unknown_things_are_not_found(federation: Federation) -> None:
    with pytest.raises(UnknownErasure):
        federation.get("erasures/nothing")
    with pytest.raises(UnknownErasure):
        federation.erasures.CancelErasure(
            erasures_pb2.CancelErasureRequest(name="erasures/nothing")
        )
    with pytest.raises(UnknownCertificate):
        federation.certificates.GetCertificate(
            certificates_pb2.GetCertificateRequest(name="certificates/nothing")
        )


def test_a_fenced_site_is_refused_and_a_cancelled_erasure_lets_it_back(
    federation: Federation,
) -> None:
    filed = federation.request("south")
    with pytest.raises(SiteFenced) as raised:
        federation.train("south")
    assert raised.value.facts["erasure"] in filed.name
    federation.erasures.CancelErasure(erasures_pb2.CancelErasureRequest(name=filed.name))
    federation.train("south")


def test_after_the_removal_a_request_cannot_be_cancelled(federation: Federation) -> None:
    federation.train("south")
    filed = federation.request("south")
    federation.job(filed.name).remove()
    with pytest.raises(ErasureNotCancellable):
        federation.erasures.CancelErasure(erasures_pb2.CancelErasureRequest(name=filed.name))


def test_exports_are_suspended_while_the_served_version_carries_the_subject(
    federation: Federation, tmp_path: Path
) -> None:
    done = certified(federation, tmp_path)
    assert done.state == erasures_pb2.Erasure.CERTIFIED
    federation.request("north", "r2")
    with pytest.raises(ExportSuspended):
        federation.client.models.ExportModel(
            models_pb2.ExportModelRequest(request_id="x1", recipient="clinic", purpose="care")
        )


def test_a_certified_erasure_shows_its_certificate_and_its_attempts(
    federation: Federation, tmp_path: Path
) -> None:
    done = certified(federation, tmp_path)
    assert [attempt.version for attempt in done.attempts] == [federation.version]
    assert done.attempts[0].tests[0].detail == "as good as before"
    assert done.removal.removed_entries == 1
    assert done.HasField("promoted_at")
    assert done.HasField("concluded_at")
    assert done.holder == ""
    listed = federation.certificates.ListCertificates(certificates_pb2.ListCertificatesRequest())
    assert [one.erasure for one in listed.certificates] == [done.name]
    stored = federation.certificates.GetCertificate(
        certificates_pb2.GetCertificateRequest(name=done.certificate)
    )
    key = SigningKey.load_or_create(tmp_path / "key.pem")
    log_key = federation.coordinator.core.log.signer.key.public_pem
    verified = verify_file(stored.content, trust(key.public_pem, log_key))
    assert verified.statement["erasure"] == done.name
    assert verified.caveat == ""


def test_the_name_of_an_erased_site_is_never_used_again(
    federation: Federation, tmp_path: Path
) -> None:
    done = certified(federation, tmp_path)
    with pytest.raises(SiteFenced):
        federation.client.register("south")
    site = federation.client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/south"))
    assert site.state == sites_pb2.Site.ERASED
    assert site.erasure == done.name


def test_a_destroyed_version_says_by_which_erasure(federation: Federation, tmp_path: Path) -> None:
    done = certified(federation, tmp_path)
    with pytest.raises(ModelDestroyed) as raised:
        federation.download("models/1")
    assert raised.value.facts["erasure"] == done.name


def test_every_stage_of_an_erasure_is_measured(federation: Federation, tmp_path: Path) -> None:
    certified(federation, tmp_path)
    core = federation.coordinator.core

    def sample(name: str, **labels: str) -> float | None:
        return core.registry.get_sample_value(name, labels)

    for stage in ("fence", "claim", "remove", "verify", "promote", "conclude", "total"):
        assert sample("letheon_erasure_stage_seconds_count", stage=stage) == 1, stage
    federation.request("north", "r2")
    core.gauges.refresh()
    assert sample("letheon_erasures", state="certified") == 1
    assert sample("letheon_erasures", state="received") == 1
    oldest = sample("letheon_erasure_oldest_open_age_seconds")
    assert oldest is not None
    assert oldest >= 0
    federation.coordinator.relay.run_once()
    depth = sample("letheon_erasure_queue_depth")
    assert depth is not None
    assert depth >= 2  # the relay's own thread may have announced one of them as well
    core.gauges.refresh()
    assert sample("letheon_erasure_outbox_depth") == 0
