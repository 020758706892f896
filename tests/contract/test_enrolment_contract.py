"""A site's first certificate by a token, and its next ones: over TLS, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import a_coordinator, a_site
from secure_coordinator import Secured, a_secure_coordinator

from client_agent.config import AgentConfig
from client_agent.first_certificate import fetch_certificate
from coordinator.domain.invitation import digest_of
from coordinator.domain.site import SiteState
from letheon.errors import (
    CoordinatorUnreachable,
    InvitationRefused,
    MalformedRequest,
    NoAuthority,
    NotPermitted,
    SiteFenced,
)
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.caller import Role
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.identity import identity_of, serial_of
from letheon.servicekit.identity_folder import files_in
from letheon.servicekit.key_files import make_key, signing_request
from letheon.servicekit.renewal import Renewal, RenewalThread
from letheon.servicekit.route import certificates_in
from letheon.v1 import enrolment_pb2 as pb
from letheon.v1.enrolment_pb2_grpc import EnrolmentStub

NORTH = "sites/north"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def secured(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Iterator[Secured]:
    with a_secure_coordinator(tmp_path, clock=clock, database_url=chosen_database) as running:
        yield running


def invited(secured: Secured, site: str = NORTH) -> str:
    stub = EnrolmentStub(secured.channel(Role.OPERATOR, "ada"))
    return stub.InviteSite(pb.InviteSiteRequest(site=site)).token


def csr(folder: Path, name: str = "north") -> bytes:
    return signing_request(make_key(folder / "key.pem"), name)


def enrol(secured: Secured, token: str, request: bytes, site: str = NORTH) -> pb.IssuedCertificate:
    stub = EnrolmentStub(secured.uncertified())
    return stub.Enrol(pb.EnrolRequest(site=site, token=token, csr=request))


def an_agent(secured: Secured, site: str = "north") -> AgentConfig:
    home = secured.folder / "agents" / site
    return AgentConfig.model_validate(
        {
            "coordinator": secured.address,
            "site": site,
            "state_dir": home,
            "data": {"plugin": "synthetic"},
            "tls": {
                "ca": secured.folder / "ca" / "ca.pem",
                "certificate": home / "tls" / "certificate.pem",
                "key": home / "tls" / "key.pem",
                "renew": True,
            },
        }
    )


def test_an_agent_trades_its_token_for_a_certificate_and_its_key_stays(secured: Secured) -> None:
    agent = an_agent(secured)
    fetch_certificate(agent, secured.enrolment, invited(secured))
    tls = agent.tls
    assert tls is not None
    assert tls.certificate is not None
    assert tls.key is not None
    own = certificates_in(tls.certificate, "certificate")[0]
    assert identity_of(own).uri == "letheon://chest/site/north"
    assert timedelta(days=29) < own.not_valid_after_utc - datetime.now(UTC) < timedelta(days=31)
    assert tls.key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in tls.certificate.read_text()


def test_a_token_is_kept_as_its_digest_only(secured: Secured) -> None:
    token = invited(secured)
    with secured.coordinator.core.store.read() as uow:
        kept = uow.invitations.find(digest_of(token))
    assert kept is not None
    assert token not in repr(kept)
    assert kept.invited_by == "operator/ada"


def test_a_token_is_good_for_one_key(secured: Secured, tmp_path: Path) -> None:
    token = invited(secured)
    enrol(secured, token, csr(tmp_path / "one"))
    with pytest.raises(InvitationRefused, match=r"was used on .* by another key") as caught:
        enrol(secured, token, csr(tmp_path / "two"))
    assert caught.value.facts["rule"] == "used"


def test_a_lost_answer_costs_nothing_the_same_key_is_signed_again(
    secured: Secured, tmp_path: Path
) -> None:
    token = invited(secured)
    first = enrol(secured, token, csr(tmp_path / "one"))
    second = enrol(secured, token, csr(tmp_path / "one"))
    assert first.certificate != second.certificate


def test_an_expired_token_is_refused(secured: Secured, tmp_path: Path, clock: FakeClock) -> None:
    token = invited(secured)
    clock.advance(73 * 3600)
    with pytest.raises(InvitationRefused, match="has expired on"):
        enrol(secured, token, csr(tmp_path / "one"))


def test_a_token_of_another_site_is_refused(secured: Secured, tmp_path: Path) -> None:
    token = invited(secured)
    with pytest.raises(InvitationRefused, match="was made for another site than sites/south"):
        enrol(secured, token, csr(tmp_path / "one", "south"), "sites/south")


def test_a_signing_request_for_another_name_is_refused_and_leaves_the_token(
    secured: Secured, tmp_path: Path
) -> None:
    token = invited(secured)
    with pytest.raises(InvitationRefused, match="the csr is for 'south'"):
        enrol(secured, token, csr(tmp_path / "one", "south"))
    assert enrol(secured, token, csr(tmp_path / "two")).certificate


def test_a_made_up_token_is_refused(secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(InvitationRefused, match="no invitation has this token"):
        enrol(secured, "lti-guess", csr(tmp_path / "one"))


def test_a_later_invitation_takes_the_place_of_an_earlier_one(
    secured: Secured, tmp_path: Path
) -> None:
    first, second = invited(secured), invited(secured)
    with pytest.raises(InvitationRefused, match="a later invitation"):
        enrol(secured, first, csr(tmp_path / "one"))
    assert enrol(secured, second, csr(tmp_path / "one")).certificate


@pytest.mark.parametrize("request_bytes", [b"", b"no pem", b"x" * 20_000])
def test_what_is_no_signing_request_is_refused(secured: Secured, request_bytes: bytes) -> None:
    with pytest.raises(MalformedRequest, match="csr"):
        enrol(secured, invited(secured), request_bytes)


def test_the_name_of_an_erased_site_gets_no_certificate(secured: Secured, tmp_path: Path) -> None:
    token = invited(secured)
    with secured.coordinator.core.store.write() as uow:
        uow.sites.add(a_site("north", state=SiteState.ERASED, erasure="e1"))
        uow.commit()
    with pytest.raises(SiteFenced, match="its name is never used again"):
        enrol(secured, token, csr(tmp_path / "one"))


def test_a_certificate_is_renewed_for_its_own_identity_only(
    secured: Secured, tmp_path: Path
) -> None:
    place = secured.identity(Role.SITE, "north")
    stub = EnrolmentStub(secured.channel_with(files_in(place)))
    made = stub.Renew(pb.RenewRequest(csr=csr(place))).certificate
    (tmp_path / "new.pem").write_bytes(made)
    assert identity_of(certificates_in(tmp_path / "new.pem", "c")[0]).name == "north"
    with pytest.raises(NotPermitted, match="site/north cannot have a certificate for 'south'"):
        stub.Renew(pb.RenewRequest(csr=csr(place, "south")))


def test_without_an_authority_every_call_says_so(tmp_path: Path) -> None:
    with a_secure_coordinator(tmp_path, signs=False) as secured:
        stub = EnrolmentStub(secured.channel(Role.OPERATOR, "ada"))
        with pytest.raises(NoAuthority, match=r"enrolment\.ca is not configured"):
            stub.InviteSite(pb.InviteSiteRequest(site=NORTH))


def test_a_plain_coordinator_signs_nothing(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as (_, client), pytest.raises(NoAuthority):
        EnrolmentStub(client.channel).InviteSite(pb.InviteSiteRequest(site=NORTH))


def test_the_token_goes_to_no_server_that_the_authority_did_not_sign(
    secured: Secured, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    with a_secure_coordinator(other) as stranger:
        token = invited(secured)
        with pytest.raises(CoordinatorUnreachable, match="where certificates are signed"):
            fetch_certificate(an_agent(secured), stranger.enrolment, token)
        assert fetch_certificate(an_agent(secured), secured.enrolment, token)


def test_a_process_renews_at_two_thirds_of_the_life_without_a_restart(tmp_path: Path) -> None:
    # It begins in the past: TLS itself goes by the clock of the machine.
    clock = FakeClock(datetime.now(UTC) - timedelta(days=2.2))
    with a_secure_coordinator(tmp_path, clock=clock) as secured:
        _renews(secured, clock)


def _renews(secured: Secured, clock: FakeClock) -> None:
    place = secured.identity(Role.SITE, "north", life=timedelta(days=3), now=clock.now())
    channel = secured.channel_with(files_in(place))
    stub, renewed, ends = EnrolmentStub(channel), threading.Event(), []

    def renew(request: bytes) -> bytes:
        answer = stub.Renew(pb.RenewRequest(csr=request)).certificate
        renewed.set()
        return answer

    before = serial_of(certificates_in(place / "certificate.pem", "c")[0])
    certificate, key = place / "certificate.pem", place / "key.pem"
    thread = RenewalThread(
        Renewal(certificate, key, "north", renew, clock, ends.append), Backoff(0.1, 1.0)
    )
    thread.start()
    for _ in range(47):  # not before two thirds are over
        clock.await_waiters(1)
        assert not renewed.is_set()
        clock.advance(3600)
    while not renewed.wait(0.05):
        clock.advance(3600)
    clock.await_waiters(1)
    thread.stop()
    assert serial_of(certificates_in(certificate, "c")[0]) != before
    secured.authority.revoke(before, "", clock.now())
    assert stub.Renew(pb.RenewRequest(csr=csr(place))).certificate  # the same channel goes on
    assert ends[-1] > ends[0]


def test_a_renewal_that_fails_is_tried_again(secured: Secured, clock: FakeClock) -> None:
    place = secured.identity(Role.SITE, "north", life=timedelta(days=3))
    clock.advance(2.5 * 86400)
    calls: list[bytes] = []
    stub = EnrolmentStub(secured.channel_with(files_in(place)))

    def renew(request: bytes) -> bytes:
        calls.append(request)
        if len(calls) < 3:
            raise CoordinatorUnreachable("no answer")
        return stub.Renew(pb.RenewRequest(csr=request)).certificate

    certificate, key = place / "certificate.pem", place / "key.pem"
    renewal = Renewal(certificate, key, "north", renew, clock, lambda _ends: None)
    thread = RenewalThread(renewal, Backoff(1.0, 10.0))
    before = certificate.read_bytes()
    thread.start()
    for _ in range(2):
        clock.await_waiters(1)
        clock.advance(10.0)
    clock.await_waiters(1)
    while certificate.read_bytes() == before:
        clock.advance(10.0)
    thread.stop()
    assert len(calls) == 3


def test_an_agent_whose_certificate_is_due_renews_it_by_itself(
    tmp_path: Path, chosen_database: str | None
) -> None:
    from quick_trainer import QuickTrainer

    from client_agent import bootstrap

    now = datetime.now(UTC)
    with a_secure_coordinator(tmp_path, database_url=chosen_database) as secured:
        life = timedelta(days=3)
        place = secured.identity(Role.SITE, "north", life=life, now=now - timedelta(days=2.2))
        config = an_agent(secured)
        tls = config.tls
        assert tls is not None
        files = {"certificate": place / "certificate.pem", "key": place / "key.pem"}
        config = config.model_copy(update={"tls": tls.model_copy(update=files)})
        before, key = (path.read_bytes() for path in files.values())
        clock = FakeClock(now)
        running = bootstrap.build(config, clock=clock, trainer=QuickTrainer(tmp_path))
        try:
            clock.await_waiters(1)  # for the next one: this one is done
            while files["certificate"].read_bytes() == before:
                clock.advance(600.0)
                clock.await_waiters(1)
            name = "letheon_agent_certificate_not_after_timestamp_seconds"
            ends = running.registry.get_sample_value(name)
            assert ends is not None
            assert ends > (now + timedelta(days=29)).timestamp()
            assert files["key"].read_bytes() == key
        finally:
            running.stop()
            running.close()
