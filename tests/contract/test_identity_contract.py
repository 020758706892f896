"""Who is let in, and who is told what: certificates of all kinds against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import a_federation
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from secure_coordinator import Secured, a_secure_coordinator

from letheon.errors import (
    BadConfig,
    CoordinatorUnreachable,
    NotAuthenticated,
    RateLimited,
)
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import Identity, serial_of
from letheon.servicekit.identity_folder import files_in, write_identity
from letheon.servicekit.key_files import make_key, pem_of
from letheon.servicekit.own_certificate import problem_of
from letheon.servicekit.route import TlsFiles, certificates_in
from letheon.v1 import erasures_pb2, erasures_pb2_grpc, federation_pb2, sites_pb2
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.sites_pb2_grpc import SitesStub

DAY = timedelta(days=1)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with a_secure_coordinator(tmp_path) as running:
        yield running


def ask(channel: object) -> int:
    """Any call that everybody may make."""
    answer = FederationStub(channel).GetFederation(federation_pb2.GetFederationRequest())
    return int(answer.head_version)


def signed_by_hand(secured: Secured, uris: list[str], name: str = "odd") -> TlsFiles:
    """A certificate of the authority with these URIs, which the authority itself would not make."""
    place = secured.folder / "identities" / name

    def sign(key: object) -> x509.Certificate:
        issuer = secured.authority
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(x509.Name([]))
        return (
            builder.issuer_name(issuer._certificate.subject)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris]),
                critical=True,
            )
            .sign(issuer._key, hashes.SHA256())
        )

    write_identity(place, secured.authority, sign)
    return files_in(place)


def test_a_certificate_of_the_federation_is_let_in(secured: Secured) -> None:
    assert ask(secured.channel(Role.MONITOR, "prometheus")) == 0


def test_a_revoked_certificate_is_refused_at_the_next_call_of_an_open_connection(
    secured: Secured,
) -> None:
    place = secured.identity(Role.OPERATOR, "ada")
    channel = secured.channel_with(files_in(place))
    ask(channel)
    serial = serial_of(certificates_in(place / "certificate.pem", "certificate")[0])
    secured.authority.revoke(serial, "lost laptop", datetime.now(UTC))
    with pytest.raises(NotAuthenticated, match=f"{serial} of letheon://chest/role/operator/ada"
                       " was revoked"):  # fmt: skip
        ask(channel)


@pytest.mark.parametrize(
    ("uris", "sentence"),
    [
        ([], "names no identity; exactly one URI is due"),
        (["https://example.org/north"], "names no identity"),
        (
            ["letheon://chest/site/north", "letheon://chest/site/south"],
            "names 2 identities; exactly one",
        ),
        (["letheon://chest/role/king/ada"], "is no identity"),
        (["letheon://chest/role/local/ada"], "is no identity"),
        (["letheon://chest/role/site/north"], "is no identity"),
        (["letheon://chest/site/North"], "is no identity"),
        (["letheon://chest/site/north/.."], "is no identity"),
        (["letheon://brain/site/north"], "is of the federation brain, this one is chest"),
    ],
)
def test_a_certificate_with_another_identity_is_refused_with_the_rule(
    secured: Secured, uris: list[str], sentence: str
) -> None:
    channel = secured.channel_with(signed_by_hand(secured, uris))
    with pytest.raises(NotAuthenticated, match=sentence):
        ask(channel)


def test_a_connection_does_not_outlive_its_certificate(tmp_path: Path) -> None:
    from letheon.servicekit.clock import FakeClock

    clock = FakeClock(datetime.now(UTC))
    with a_secure_coordinator(tmp_path, clock=clock) as secured:
        channel = secured.channel_with(files_in(secured.identity(Role.SITE, "north", life=DAY)))
        ask(channel)
        clock.advance(2 * DAY.total_seconds())
        with pytest.raises(NotAuthenticated, match="letheon://chest/site/north has expired on"):
            ask(channel)


def test_an_expired_certificate_gets_no_connection_and_a_sentence_on_our_side(
    secured: Secured,
) -> None:
    tls = files_in(secured.identity(Role.SITE, "late", life=DAY, now=datetime.now(UTC) - 3 * DAY))
    with pytest.raises(CoordinatorUnreachable):
        ask(secured.channel_with(tls))
    assert "has expired on" in (problem_of(tls, datetime.now(UTC)) or "")


def test_an_unknown_authority_gets_no_connection_and_a_sentence_on_our_side(
    secured: Secured, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    stranger = FileAuthority.init(tmp_path / "stranger", "chest", now)
    place = tmp_path / "forged"
    who = Identity("chest", Role.OPERATOR, "mallory")
    write_identity(place, stranger, lambda key: stranger.issue(who, key, now, DAY))
    tls = TlsFiles(tmp_path / "ca" / "ca.pem", place / "certificate.pem", place / "key.pem")
    with pytest.raises(CoordinatorUnreachable):
        ask(secured.channel_with(tls))
    assert "is not an authority in" in (problem_of(tls, now) or "")


def test_a_self_signed_certificate_gets_no_connection_and_a_sentence_on_our_side(
    secured: Secured, tmp_path: Path
) -> None:
    now, key = datetime.now(UTC), make_key(tmp_path / "self" / "key.pem")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "north")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "self" / "certificate.pem").write_bytes(pem_of(made))
    folder = tmp_path / "self"
    tls = TlsFiles(tmp_path / "ca" / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    with pytest.raises(CoordinatorUnreachable):
        ask(secured.channel_with(tls))
    assert "is self-signed" in (problem_of(tls, now) or "")


def test_a_key_that_does_not_fit_is_named_before_anything_is_sent(secured: Secured) -> None:
    one, other = (secured.identity(Role.SITE, name) for name in ("one", "other"))
    tls = TlsFiles(one / "ca.pem", one / "certificate.pem", other / "key.pem")
    with pytest.raises(BadConfig, match="is not the key of the certificate"):
        secured.channel_with(tls)


def test_a_client_without_a_certificate_gets_no_connection_at_the_main_port(
    secured: Secured,
) -> None:
    tls = TlsFiles(ca=secured.folder / "ca" / "ca.pem")
    with pytest.raises(CoordinatorUnreachable):
        ask(secured.channel_with(tls))
    assert "no certificate is shown" in (problem_of(tls, datetime.now(UTC)) or "")


def test_a_new_server_certificate_is_served_without_a_restart(
    secured: Secured, tmp_path: Path
) -> None:
    ask(secured.channel(Role.MONITOR, "before"))
    now = datetime.now(UTC)
    registry = secured.coordinator.core.registry
    name = "letheon_certificate_expiry_timestamp_seconds"
    before = registry.get_sample_value(name)
    own = secured.folder / "own"
    write_identity(
        own,
        secured.authority,
        lambda key: secured.authority.issue_server(["127.0.0.1"], key, now, 20 * DAY),
    )
    ask(secured.channel(Role.MONITOR, "after"))
    after = registry.get_sample_value(name)
    assert before is not None
    assert after == certificates_in(own / "certificate.pem", "c")[0].not_valid_after_utc.timestamp()
    assert after > before


def test_a_server_certificate_that_does_not_fit_its_key_is_not_taken(secured: Secured) -> None:
    stranger = secured.identity(Role.SITE, "stranger")
    (secured.folder / "own" / "certificate.pem").write_bytes(
        (stranger / "certificate.pem").read_bytes()
    )
    assert ask(secured.channel(Role.MONITOR, "after")) == 0


def test_a_client_shows_its_new_certificate_at_the_next_call_of_the_same_channel(
    secured: Secured,
) -> None:
    place = secured.identity(Role.OPERATOR, "ada")
    channel = secured.channel_with(files_in(place))
    ask(channel)
    old = serial_of(certificates_in(place / "certificate.pem", "certificate")[0])
    secured.identity(Role.OPERATOR, "ada")  # the same folder
    secured.authority.revoke(old, "", datetime.now(UTC))
    assert ask(channel) == 0


def test_a_rate_above_the_limit_is_told_when_to_come_again_and_others_are_not_touched(
    tmp_path: Path,
) -> None:
    limits = {"calls_per_second": 1000.0, "erasures_per_hour": 2.0}
    with a_secure_coordinator(tmp_path, config={"rate_limits": limits}) as secured:
        flood = erasures_pb2_grpc.ErasuresStub(secured.channel(Role.CONSENT, "portal"))
        other = erasures_pb2_grpc.ErasuresStub(secured.channel(Role.OPERATOR, "ada"))
        request = erasures_pb2.RequestErasureRequest(site="sites/nowhere", legal_basis="x")
        answers = []
        for _ in range(3):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at below
                flood.RequestErasure(request)
            answers.append(caught.value)
        assert [isinstance(each, RateLimited) for each in answers] == [False, False, True]
        assert isinstance(answers[2], RateLimited)
        assert 1500 < answers[2].retry_after_s <= 1800
        with pytest.raises(Exception) as caught:  # noqa: PT011
            other.RequestErasure(request)
        assert not isinstance(caught.value, RateLimited)


def test_a_refused_call_is_audited_with_the_identity_that_made_it(secured: Secured) -> None:
    stub = SitesStub(secured.channel(Role.SITE, "north"))
    with pytest.raises(Exception, match="for itself only, and this is for sites/south"):
        stub.RegisterSite(sites_pb2.RegisterSiteRequest(name="sites/south"))
    with secured.coordinator.core.store.read() as uow:
        row = uow.audit.newest()
    assert row is not None
    assert (row.role, row.caller, row.outcome) == ("site", "north", "refused")
    assert row.serial


def test_other_machines_are_not_served_without_tls(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    config = tmp_path / "coordinator.toml"
    config.write_text(
        f'listen = "0.0.0.0:0"\ndata_dir = "{tmp_path}/data"\nredis_url = "redis://127.0.0.1:1/0"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    assert "which other machines reach, and there is no [tls]" in done.stderr
