"""Calls by those who may not make them, with every kind of certificate that is not good enough."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator.rpc.permissions import EVERYBODY
from letheon.errors import CoordinatorUnreachable, NotAuthenticated, NotPermitted, UpdateAltered
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import write_identity
from letheon.servicekit.key_files import make_key, pem_of, write_whole
from letheon.servicekit.route import TlsFiles
from letheon.v1 import audit_pb2, federation_pb2, models_pb2, training_pb2
from letheon.v1.audit_pb2_grpc import AuditStub
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.models_pb2_grpc import ModelsStub

from ...every_rpc import METHODS, is_due, outcome, request_for
from .attacks import Outcome, attack, detected, every, refused, stopped, succeeded
from .insider import erasure_of
from .world import World

OWN, OTHER = "north", "gone"
FAMILY = "calls that are not permitted"


@attack(FAMILY, "every rpc as every role that the table denies it to, for its own and another "
        "site", expected="PERMISSION_DENIED, each", quick=True)  # fmt: skip
def every_denied_call(world: World) -> Outcome:
    erasures = {OWN: "none", OTHER: erasure_of(world.insiders[OTHER])}

    def as_role(role: Role) -> tuple[int, list[str]]:
        channel = world.channel(world.identity(role, OWN))
        tried, through = 0, []
        for full, (stub, method) in METHODS.items():
            for site in (OWN, OTHER):
                if is_due(full, role, own=site == OWN):
                    continue
                tried += 1
                said = outcome(stub(channel), method, request_for(full, method, site, erasures))
                if not isinstance(said, NotPermitted | NotAuthenticated):
                    through.append(f"{role} {full} of {site}: {said!r}")
        return tried, through

    with ThreadPoolExecutor(len(EVERYBODY)) as pool:
        found = list(pool.map(as_role, EVERYBODY))
    through = [each for _, names in found for each in names]
    tried = sum(count for count, _ in found)
    if through:
        return succeeded(f"{len(through)} of {tried} went through: {'; '.join(through)}")
    return stopped(f"{tried} calls as {len(found)} roles, all refused")


@attack(FAMILY, "every rpc without a certificate, at the port of enrolment",
        expected="UNAUTHENTICATED, all but Enrol", quick=True)  # fmt: skip
def every_call_without_certificate(world: World) -> Outcome:
    channel = world.channel_with(TlsFiles(ca=world.secure.authority / "ca.pem"), world.enrolment)
    erasures = {OWN: "none"}
    through = [
        full
        for full, (stub, method) in METHODS.items()
        if full != "letheon.v1.Enrolment/Enrol"
        and not isinstance(
            outcome(stub(channel), method, request_for(full, method, OWN, erasures)),
            NotAuthenticated,
        )
    ]
    if through:
        return succeeded(", ".join(through))
    return stopped(f"{len(METHODS) - 1} calls, all refused")


@attack(FAMILY, "an answer to a task of another site, and its upload looked up",
        expected="nothing of the other site is told or changed", quick=True)  # fmt: skip
def objects_of_another_site(world: World) -> Outcome:
    north, south = world.insiders["north"], world.insiders["south"]
    victim = south.push(south.honest(900))
    query = training_pb2.QueryUploadRequest(update_id=victim.update_id, site="sites/north")
    told = north.training.QueryUpload(query)
    if told.WhichOneof("outcome") == "receipt" or told.committed_bytes:
        return succeeded(f"north was told of an upload of south: {told}")
    header = north.header(b"x" * 8, update_id=victim.update_id)
    taken = refused(lambda: north.send(header, b"x" * 8), UpdateAltered)
    read = models_pb2.DownloadModelRequest(name="models/head", reader="sites/south")
    model = refused(lambda: next(iter(north.models.DownloadModel(read))), NotPermitted)
    return every({"its update id": taken, "its download": model},
                 "its receipt is not told, its update id and its name are refused")  # fmt: skip


def _ping(channel: grpc.Channel) -> object:
    return FederationStub(channel).GetFederation(federation_pb2.GetFederationRequest(), timeout=5)


def _stranger(folder: Path, world: World, *, self_signed: bool) -> TlsFiles:
    """A certificate for site north that the federation's authority did not sign."""
    ca = world.secure.authority / "ca.pem"
    if self_signed:
        key = make_key(folder / "key.pem")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier("letheon://local/site/north")]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        write_whole(folder / "certificate.pem", pem_of(made))
    else:
        other = FileAuthority.init(folder / "ca", "local", datetime.now(UTC))
        who = Identity("local", Role.SITE, "north")
        life, now = timedelta(hours=1), datetime.now(UTC)
        write_identity(folder, other, lambda key: other.issue(who, key, now, life))
    return TlsFiles(ca, folder / "certificate.pem", folder / "key.pem")


@attack(FAMILY, "no certificate, a self-signed one, one of another authority, no TLS at all",
        expected="the connection is not made", quick=True)  # fmt: skip
def bad_certificates(world: World) -> Outcome:
    made = world.root / "strangers"
    (made / "self").mkdir(parents=True)
    (made / "other").mkdir()
    cases = {
        "no certificate": TlsFiles(ca=world.secure.authority / "ca.pem"),
        "self-signed": _stranger(made / "self", world, self_signed=True),
        "another authority": _stranger(made / "other", world, self_signed=False),
        "no TLS": None,
    }
    return every(
        {
            name: refused(lambda tls=tls: _ping(world.channel_with(tls)), CoordinatorUnreachable)
            for name, tls in cases.items()
        },
        "none of the four gets a connection",
    )


@attack(FAMILY, "a certificate that has expired, of another federation, with two identities or "
        "none", expected="refused at the handshake or UNAUTHENTICATED", quick=True)  # fmt: skip
def wrong_certificates(world: World) -> Outcome:
    before = datetime.now(UTC) - timedelta(days=2)
    authority, now, life = world.authority, datetime.now(UTC), timedelta(hours=1)
    none = world.root / "strangers" / "none"
    write_identity(
        none, authority, lambda key: authority.issue_server(["127.0.0.1"], key, now, life)
    )
    two = world.root / "strangers" / "two"
    uris = [f"letheon://local/site/{site}" for site in ("north", "south")]

    def of_two(key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return authority._sign(uris[0], "north", names, key, now, life, client=True)

    write_identity(two, authority, of_two)
    cases = {
        "expired": world.identity(Role.SITE, "north", now=before, life=timedelta(days=1)),
        "another federation": world.identity(Role.SITE, "north", federation="brain"),
        "the coordinator's kind": none,
        "two identities": two,
    }
    return every(
        {
            name: refused(
                lambda folder=folder: _ping(world.channel(folder)),
                CoordinatorUnreachable,
                NotAuthenticated,
            )
            for name, folder in cases.items()
        },
        "expired and wrong purpose end at the handshake, the others UNAUTHENTICATED",
    )


@attack(FAMILY, "a revoked certificate on a connection that is open already",
        expected="UNAUTHENTICATED from the next call on", quick=True)  # fmt: skip
def revoked_certificate(world: World) -> Outcome:
    folder = world.identity(Role.AUDITOR, "stolen")
    channel = world.channel(folder)
    _ping(channel)
    serial = world.authority.issued()[-1].serial
    world.authority.revoke(serial, "stolen", datetime.now(UTC))
    return refused(lambda: _ping(channel), NotAuthenticated)


@attack(FAMILY, "a server that poses as the coordinator with a site's certificate",
        expected="agents refuse to talk to it", quick=True)  # fmt: skip
def impostor(world: World) -> Outcome:
    files = world.insiders["north"].files
    assert files.key is not None
    assert files.certificate is not None
    credentials = grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.certificate.read_bytes())]
    )
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        channel = world.channel_with(world.insiders["south"].files, f"127.0.0.1:{port}")
        return refused(lambda: _ping(channel), CoordinatorUnreachable)
    finally:
        server.stop(0)


@attack(FAMILY, "refused calls are looked for in the audit log", expected="who, what and why",
        quick=True)  # fmt: skip
def refusals_are_recorded(world: World) -> Outcome:
    stub, first, found = AuditStub(world.operator()), 0, set()
    while rows := stub.ListAuditRows(audit_pb2.ListAuditRowsRequest(first=first)).rows:
        found |= {(row.role, row.action) for row in rows if row.outcome == "refused"}
        first = rows[-1].number + 1
    if ("site", "call.ListSites") in found and ("auditor", "call.GetFederation") in found:
        return detected(f"{len(found)} kinds of refused calls, by role and rpc, are in it")
    return succeeded(f"only {sorted(found)} are in it")


def version_of(world: World) -> int:
    """The newest version, as everybody may read it."""
    stub = ModelsStub(world.insiders["north"].channel)
    return int(stub.GetModel(models_pb2.GetModelRequest(name="models/head")).version)
