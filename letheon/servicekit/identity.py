"""The identity in a certificate: exactly one URI of the form `letheon://...`.

`letheon://chest/site/north` is site north of the federation chest, and
`letheon://chest/role/operator/ada` the operator ada.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import grpc
from cryptography import x509

from letheon.errors import MalformedName, NotAuthenticated
from letheon.servicekit.caller import Caller, Role

SCHEME = "letheon://"
_ID = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SITE = re.compile(rf"letheon://({_ID})/site/({_ID})")
_PERSON = re.compile(rf"letheon://({_ID})/role/([a-z]+)/({_ID})")
_FORMS = "letheon://FEDERATION/site/SITE or letheon://FEDERATION/role/ROLE/NAME"
# Roles that a certificate may name; `local` is nobody's certificate and a site has its own form.
CERTIFIED_ROLES = tuple(role for role in Role if role not in (Role.LOCAL, Role.SITE))


@dataclass(frozen=True)
class Identity:
    """Who somebody is in which federation; all three are lower-case letters, digits and dashes."""

    federation: str
    role: Role
    name: str

    def __post_init__(self) -> None:
        if _parsed(self.uri) is None:
            raise MalformedName(
                f"{self.uri!r} is no identity: {_FORMS}, of lower-case letters, digits and "
                "dashes, at most 63, no dash at either end",
                name=self.name,
            )

    @property
    def uri(self) -> str:
        """What the certificate says."""
        if self.role is Role.SITE:
            return f"{SCHEME}{self.federation}/site/{self.name}"
        return f"{SCHEME}{self.federation}/role/{self.role}/{self.name}"


def parse_identity(uri: str) -> Identity:
    """The identity of a URI. Raises MalformedName."""
    found = _parsed(uri)
    if found is None:
        roles = ", ".join(CERTIFIED_ROLES)
        raise MalformedName(f"{uri!r} is no identity: {_FORMS}, where ROLE is one of {roles}")
    return Identity(*found)


def _parsed(uri: str) -> tuple[str, Role, str] | None:
    if site := _SITE.fullmatch(uri):
        return site[1], Role.SITE, site[2]
    person = _PERSON.fullmatch(uri)
    if person is None or person[2] not in CERTIFIED_ROLES:
        return None
    return person[1], Role(person[2]), person[3]


def identity_of(certificate: x509.Certificate) -> Identity:
    """The one identity of a certificate.

    Raises NotAuthenticated if it names none, more than one, or one that cannot be read.
    """
    try:
        uris = [uri for uri in uris_of(certificate) if uri.startswith(SCHEME)]
    except MalformedName as error:
        raise NotAuthenticated(
            f"the certificate {serial_of(certificate)}: {error.message}", rule="one_identity"
        ) from error
    if len(uris) != 1:
        count = "no identity" if not uris else f"{len(uris)} identities"
        raise NotAuthenticated(
            f"the certificate {serial_of(certificate)} names {count}; exactly one URI is due: "
            f"{_FORMS}",
            rule="one_identity",
        )
    try:
        return parse_identity(uris[0])
    except MalformedName as error:
        raise NotAuthenticated(
            f"the certificate {serial_of(certificate)} names {error.message}", rule="one_identity"
        ) from error


def uris_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The URIs among the alternative names. Raises MalformedName if these cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    # TLS looks at fewer names than there are, and an authority may sign what it does not read.
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise MalformedName(f"its alternative names cannot be read: {error}") from error
    return list(names.value.get_values_for_type(x509.UniformResourceIdentifier))


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as the deny list has it: lower-case hexadecimal digits."""
    return f"{certificate.serial_number:x}"


@dataclass(frozen=True)
class Peer:
    """Whoever is at the other end, by its certificate."""

    identity: Identity
    serial: str
    ends_at: datetime  # of the certificate


@lru_cache(maxsize=1024)
def _known(pem: bytes) -> Peer:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise NotAuthenticated(
            "the certificate of the caller cannot be read", rule="one_identity"
        ) from error
    return Peer(identity_of(certificate), serial_of(certificate), certificate.not_valid_after_utc)


def peer_of(context: grpc.ServicerContext) -> Peer | None:
    """Whoever called, or None without a client certificate.

    The handshake has checked the chain. Raises NotAuthenticated.
    """
    found = cast(Any, context).auth_context().get("x509_pem_cert")
    if not found:
        return None
    return _known(bytes(found[0]))


def is_encrypted(context: grpc.ServicerContext) -> bool:
    """Whether the call came over TLS."""
    kind = cast(Any, context).auth_context().get("transport_security_type", [b""])
    return bytes(kind[0]) == b"ssl"


def caller_of(identity: Identity, serial: str) -> Caller:
    """The identity as services see it."""
    return Caller(identity.role, identity.name, serial)
