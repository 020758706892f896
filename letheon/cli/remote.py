"""The coordinator as the commands reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from letheon.errors import CoordinatorUnreachable
from letheon.servicekit.channel import open_channel
from letheon.v1.certificates_pb2_grpc import CertificatesStub
from letheon.v1.erasures_pb2_grpc import ErasuresStub
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.ledger_pb2_grpc import LedgerStub
from letheon.v1.models_pb2_grpc import ModelsStub
from letheon.v1.recovery_pb2_grpc import RecoveryStub
from letheon.v1.sites_pb2_grpc import SitesStub

DEFAULT_COORDINATOR = "127.0.0.1:7300"


def _from_root(context: typer.Context, value: str | None) -> str:
    """The option of the command, else that of `letheon` itself (or its environment)."""
    inherited: str | None = context.find_root().params.get("coordinator")
    return value or inherited or DEFAULT_COORDINATOR


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


@contextmanager
def connect(address: str | None) -> Iterator[Remote]:
    """A channel for the length of a command. Nothing is sent before the first call.

    A coordinator that cannot be reached is named in the error.
    """
    address = address or DEFAULT_COORDINATOR
    channel = open_channel(address)
    try:
        yield Remote(
            federation=FederationStub(channel),
            sites=SitesStub(channel),
            models=ModelsStub(channel),
            erasures=ErasuresStub(channel),
            certificates=CertificatesStub(channel),
            ledger=LedgerStub(channel),
            recovery=RecoveryStub(channel),
        )
    except CoordinatorUnreachable as error:
        raise CoordinatorUnreachable(
            f"the coordinator at {address} does not answer", address=address, detail=error.message
        ) from error
    finally:
        channel.close()
