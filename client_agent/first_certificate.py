"""A site's first certificate: its key is made here and stays, a one-time token buys the rest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

from client_agent.config import AgentConfig
from client_agent.network_config import route_to
from letheon.errors import BadConfig, CoordinatorUnreachable
from letheon.names import site_name
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity import identity_of
from letheon.servicekit.key_files import make_key, signing_request, write_whole
from letheon.servicekit.route import Route, TlsFiles
from letheon.v1 import enrolment_pb2
from letheon.v1.enrolment_pb2_grpc import EnrolmentStub

_DEADLINE_S = 30.0


def certificate_paths(state_dir: Path) -> tuple[Path, Path]:
    """Where certificate and key of an agent are put that gets them by a token."""
    return state_dir / "tls" / "certificate.pem", state_dir / "tls" / "key.pem"


def fetch_certificate(config: AgentConfig, enrolment: str, token: str) -> datetime:
    """Makes the key if there is none, has its certificate signed at `enrolment`, host:port, and
    writes it where the configuration says; when it ends.

    Repeating it with the same key is harmless while the token is valid. Raises
    CoordinatorUnreachable, InvitationRefused, NoAuthority; BadConfig without the files' names.
    """
    files = route_to(config.coordinator, config.tls, config.network).tls
    if files is None or files.certificate is None or files.key is None:
        raise BadConfig(
            "a token is of use only where the configuration names tls.certificate and tls.key: "
            "there they are put",
            key="tls.certificate",
        )
    key = make_key(files.key)
    proxy = route_to(enrolment, None, config.network).proxy
    route = Route(TlsFiles(ca=files.ca, server_name=files.server_name), proxy)
    channel = open_channel(enrolment, route=route, deadline_s=_DEADLINE_S)
    try:
        issued = EnrolmentStub(channel).Enrol(
            enrolment_pb2.EnrolRequest(
                site=site_name(config.site), token=token, csr=signing_request(key, config.site)
            )
        )
    except CoordinatorUnreachable as error:
        raise CoordinatorUnreachable(
            f"no answer at {enrolment}, where certificates are signed: {error.message}"
        ) from error
    finally:
        channel.close()
    try:
        made = x509.load_pem_x509_certificate(issued.certificate)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadConfig("the coordinator's answer holds no certificate") from error
    if made.public_key() != key.public_key() or identity_of(made).name != config.site:
        raise BadConfig("the coordinator's certificate is not for this site and its key")
    write_whole(files.certificate, issued.certificate)
    return made.not_valid_after_utc
