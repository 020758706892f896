"""The authority in a folder, its list, and the files that must not be touched."""

from __future__ import annotations

import json
from base64 import b64decode, encodebytes
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.errors import (
    AlreadyExists,
    BadConfig,
    MalformedName,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
)
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.call_rate import CallRate
from letheon.servicekit.caller import Role
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.deny_list import DenyList, read_serials
from letheon.servicekit.identity import CERTIFIED_ROLES, Identity, identity_of, parse_identity
from letheon.servicekit.key_files import make_key, read_request, signing_request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def test_the_key_is_for_its_owner_only_and_a_loose_one_is_refused(tmp_path: Path) -> None:
    FileAuthority.init(tmp_path, "chest", NOW)
    key = tmp_path / "ca.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(BadConfig, match=r"others may read .*chmod 600"):
        FileAuthority(tmp_path)


def test_an_authority_is_not_made_over_another(tmp_path: Path) -> None:
    FileAuthority.init(tmp_path, "chest", NOW)
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(AlreadyExists):
        FileAuthority.init(tmp_path, "chest", NOW)
    assert (tmp_path / "ca.key").read_bytes() == before


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    FileAuthority.init(tmp_path / "a", "chest", NOW)
    FileAuthority.init(tmp_path / "b", "chest", NOW)
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(BadConfig, match="is not the key of"):
        FileAuthority(tmp_path / "a")


@given(names, names, st.sampled_from([Role.SITE, *CERTIFIED_ROLES]))
def test_an_identity_is_read_back_from_its_uri(federation: str, name: str, role: Role) -> None:
    identity = Identity(federation, role, name)
    assert parse_identity(identity.uri) == identity


@given(st.text(max_size=80))
def test_no_text_but_a_whole_identity_is_one(text: str) -> None:
    try:
        found = parse_identity(f"letheon://{text}")
    except MalformedName:
        return
    assert found.uri == f"letheon://{text}"


@pytest.mark.parametrize("name", ["", "North", "a/b", "-a", "a-", "a" * 64, "ü", "a b"])
def test_a_name_outside_the_rule_gets_no_identity(name: str) -> None:
    with pytest.raises(MalformedName):
        Identity("chest", Role.SITE, name)


@pytest.mark.parametrize(
    "names",
    [
        b"\x30\x03\x86\x05x",  # a URI longer than its list
        b"\x30\x04\xa3\x02\x30\x00",  # of a kind that is not supported
    ],
)
def test_a_certificate_whose_names_cannot_be_read_names_nobody(names: bytes) -> None:
    key, alternative = ec.generate_private_key(ec.SECP256R1()), ObjectIdentifier("2.5.29.17")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + DAY)
        .add_extension(x509.UnrecognizedExtension(alternative, names), critical=False)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(NotAuthenticated, match="alternative names cannot be read"):
        identity_of(made)


def test_what_was_issued_is_listed_and_what_was_revoked_is_denied(tmp_path: Path) -> None:
    authority = FileAuthority.init(tmp_path / "ca", "chest", NOW)
    denied = DenyList(tmp_path / "ca" / "deny.list")
    key = make_key(tmp_path / "key.pem").public_key()
    made = authority.issue(Identity("chest", Role.SITE, "north"), key, NOW, DAY)
    assert identity_of(made) == Identity("chest", Role.SITE, "north")
    (issued,) = authority.issued()
    assert (issued.subject, issued.revoked) == ("letheon://chest/site/north", False)
    assert issued.serial not in denied
    authority.revoke(issued.serial.upper(), "a\nreason", NOW)
    authority.revoke(issued.serial, "again", NOW)
    assert issued.serial in denied
    assert authority.issued()[0].revoked
    assert len((tmp_path / "ca" / "deny.list").read_text().splitlines()) == 1
    with pytest.raises(NotFound):
        authority.revoke("abc", "", NOW)


def test_a_deny_list_takes_serials_as_openssl_prints_them(tmp_path: Path) -> None:
    path = tmp_path / "deny.list"
    path.write_text("# lost\n00:AB:cd  north, lost\n\n12ef # x\n")
    assert read_serials(path) == {"abcd", "12ef"}


def test_a_deny_list_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "deny.list"
    path.write_text("abcd\nnorth\n")
    with pytest.raises(BadConfig, match="line 2: 'north' is no serial number"):
        DenyList(path)


def test_a_deny_list_that_goes_bad_later_keeps_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "deny.list"
    path.write_text("abcd\n")
    denied = DenyList(path)
    path.unlink()
    assert "abcd" in denied
    path.write_text("12ef\nabcd\n")
    assert "12ef" in denied


REQUEST = signing_request(ec.generate_private_key(ec.SECP256R1()), "north")


@given(st.integers(0, len(REQUEST) - 1), st.integers(1, 255))
def test_a_signing_request_with_one_byte_changed_is_refused_or_says_the_same(
    place: int, change: int
) -> None:
    altered = bytearray(REQUEST)
    altered[place] ^= change
    try:
        name, key = read_request(bytes(altered))
    except MalformedRequest as error:
        assert error.facts["field"] == "csr"  # noqa: PT017
        return
    assert (name, key) == read_request(REQUEST)  # a byte of the frame that PEM does not look at


def test_a_signing_request_of_no_known_version_is_refused() -> None:
    place = bytearray(b64decode(b"".join(REQUEST.splitlines()[1:-1])))
    version = place.index(b"\x02\x01\x00") + 2  # INTEGER of one byte
    place[version] = 10
    body = encodebytes(bytes(place))
    altered = b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + REQUEST.splitlines()[-1] + b"\n"
    with pytest.raises(MalformedRequest, match="no certificate signing request"):
        read_request(altered)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader_of_signing_requests(raw: bytes) -> None:
    for each in (raw, b"-----BEGIN CERTIFICATE REQUEST-----\n" + raw):
        with pytest.raises(MalformedRequest):
            read_request(each)


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.sampled_from("ab")), max_size=60),
    st.floats(0.2, 5.0),
    st.integers(1, 6),
)
def test_nobody_gets_more_than_burst_and_rate_allow_and_none_takes_from_another(
    calls: list[tuple[float, str]], per_s: float, burst: int
) -> None:
    clock = FakeClock()
    rate = CallRate(per_s, burst, clock)
    passed = {"a": 0, "b": 0}
    first_refused_after = {"a": 0, "b": 0}
    for pause_s, key in calls:
        clock.advance(pause_s)
        wait_s = rate.take(key)
        if wait_s == 0.0:
            passed[key] += 1
        else:
            assert passed[key] >= burst  # never before its own burst is spent
            first_refused_after[key] = passed[key]
            assert wait_s <= 1.0 / per_s + 1e-9
    for count in passed.values():
        assert count <= burst + per_s * clock.monotonic() + 1e-6


def test_the_commands_make_a_federation_of_certificates(tmp_path: Path) -> None:
    run = CliRunner()
    ca = ["--ca", str(tmp_path / "ca")]
    assert run.invoke(app, ["ca", "init", "chest", *ca]).exit_code == 0
    again = run.invoke(app, ["ca", "init", "chest", *ca])
    assert again.exit_code == 4
    out = tmp_path / "ada"
    done = run.invoke(app, ["ca", "issue", "operator", "ada", "--out", str(out), *ca])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]
    kept = run.invoke(app, ["ca", "issue", "operator", "ada", "--out", str(out), *ca])
    assert kept.exit_code == 78
    nameless = run.invoke(app, ["ca", "issue", "site", "--out", str(tmp_path / "x"), *ca])
    assert nameless.exit_code == 2
    hostless = run.invoke(app, ["ca", "issue", "coordinator", "--out", str(tmp_path / "x"), *ca])
    assert "--host NAME" in hostless.stderr
    listed = json.loads(run.invoke(app, ["ca", "list", *ca, "--format", "json"]).stdout)
    (row,) = listed["certificates"]
    assert (row["subject"], row["state"]) == ("letheon://chest/role/operator/ada", "valid")
    assert run.invoke(app, ["ca", "revoke", row["serial"], *ca]).exit_code == 0
    listed = json.loads(run.invoke(app, ["ca", "list", *ca, "--format", "json"]).stdout)
    assert listed["certificates"][0]["state"] == "revoked"
