"""The coordinator as the commands reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from letheon.errors import CoordinatorUnreachable
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity_folder import files_in
from letheon.servicekit.own_certificate import explained
from letheon.servicekit.route import Route
from letheon.v1.audit_pb2_grpc import AuditStub
from letheon.v1.certificates_pb2_grpc import CertificatesStub
from letheon.v1.enrolment_pb2_grpc import EnrolmentStub
from letheon.v1.erasures_pb2_grpc import ErasuresStub
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.ledger_pb2_grpc import LedgerStub
from letheon.v1.models_pb2_grpc import ModelsStub
from letheon.v1.recovery_pb2_grpc import RecoveryStub
from letheon.v1.sites_pb2_grpc import SitesStub
from letheon.v1.transparency_pb2_grpc import TransparencyStub
from letheon.v1.updates_pb2_grpc import UpdatesStub

DEFAULT_COORDINATOR = "127.0.0.1:7300"


class Endpoint(str):
    """`host:port` of a coordinator, and the folder of the identity that is shown to it."""

    identity: Path | None

    def __new__(cls, address: str, identity: Path | None = None) -> Endpoint:
        """A text that behaves as the address alone."""
        made = super().__new__(cls, address)
        made.identity = identity
        return made


def _from_root(context: typer.Context, value: str | None) -> Endpoint:
    """The option of the command, else that of `letheon` itself (or its environment)."""
    told = context.find_root().params
    inherited: str | None = told.get("coordinator")
    return Endpoint(value or inherited or DEFAULT_COORDINATOR, told.get("identity"))


CoordinatorOption = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        callback=_from_root,
        metavar="HOST:PORT",
        help=f"Where the coordinator listens; else LETHEON_COORDINATOR or {DEFAULT_COORDINATOR}.",
    ),
]


@dataclass(frozen=True)
class Remote:
    """One stub a proto service. Every call raises the classes of `letheon.errors`."""

    federation: FederationStub
    sites: SitesStub
    models: ModelsStub
    erasures: ErasuresStub
    certificates: CertificatesStub
    ledger: LedgerStub
    recovery: RecoveryStub
    updates: UpdatesStub
    enrolment: EnrolmentStub
    audit: AuditStub
    transparency: TransparencyStub


@contextmanager
def connect(address: str | None) -> Iterator[Remote]:
    """A channel for the length of a command. Nothing is sent before the first call.

    With the identity of an `Endpoint` it is encrypted, and both sides prove who they are. A
    coordinator that cannot be reached is named in the error. Raises BadConfig for an identity
    that cannot be used.
    """
    address = address or DEFAULT_COORDINATOR
    identity = address.identity if isinstance(address, Endpoint) else None
    tls = None if identity is None else files_in(identity)
    channel = open_channel(address, route=None if tls is None else Route(tls=tls))
    try:
        yield Remote(
            federation=FederationStub(channel),
            sites=SitesStub(channel),
            models=ModelsStub(channel),
            erasures=ErasuresStub(channel),
            certificates=CertificatesStub(channel),
            ledger=LedgerStub(channel),
            recovery=RecoveryStub(channel),
            updates=UpdatesStub(channel),
            enrolment=EnrolmentStub(channel),
            audit=AuditStub(channel),
            transparency=TransparencyStub(channel),
        )
    except CoordinatorUnreachable as error:
        raise CoordinatorUnreachable(
            f"the coordinator at {address} does not answer"
            + ("" if tls is None else explained(tls, datetime.now(UTC))),
            address=address,
            detail=error.message,
        ) from error
    finally:
        channel.close()
