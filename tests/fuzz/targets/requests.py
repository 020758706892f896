"""Names: signing requests, certificates of TLS, identities, resource names, lists of serials."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from letheon import names
from letheon.errors import BadConfig, MalformedName, MalformedRequest, NotAuthenticated
from letheon.servicekit.deny_list import read_serials
from letheon.servicekit.identity import identity_of, parse_identity
from letheon.servicekit.key_files import read_request, signing_request

from ..choices import Choices
from ..target import Target, promise
from ..workplace import workplace

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_KEY = ec.derive_private_key(7, ec.SECP256R1())
_URI = "letheon://chest/site/north"


def run(data: bytes) -> bool:
    choices = Choices(data)
    return choices.pick((_request, _pem, _certificate, _identity, _name, _serials))(choices)


def _request(choices: Choices) -> bool:
    """A request with a few other bytes inside, in good PEM."""
    return _read_request(_pem_of("CERTIFICATE REQUEST", _damaged(choices, _request_der())))


def _pem(choices: Choices) -> bool:
    return _read_request(choices.rest())


def _read_request(pem: bytes) -> bool:
    try:
        name, key = read_request(pem)
    except MalformedRequest:
        return False
    promise(isinstance(name, str), "a request names somebody")
    promise(key.curve.name == "secp256r1", "with a P-256 key")
    return True


def _certificate(choices: Choices) -> bool:
    """A certificate with a few other bytes inside, as an authority could have signed it."""
    der = _damaged(choices, _certificate_der())
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):  # TLS has read it before we do
        return False
    try:
        identity = identity_of(certificate)
    except NotAuthenticated:
        return False
    promise(parse_identity(identity.uri) == identity, "an identity is read as it is written")
    return True


def _identity(choices: Choices) -> bool:
    text = choices.rest().decode("utf-8", "surrogateescape")
    try:
        identity = parse_identity(text)
    except MalformedName:
        return False
    promise(identity.uri == text, "an identity has one spelling")
    return True


def _name(choices: Choices) -> bool:
    parse, write = choices.pick(_NAMES)
    text = choices.rest().decode("utf-8", "surrogateescape")
    with contextlib.suppress(MalformedName):
        names.base_of(text)
        names.contribution_of(text)
    try:
        found = parse(text)
        promise(write(found) == text, "a name has one spelling")
    except MalformedName:
        return False
    return True


_NAMES: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (names.site_id, names.site_name),
    (names.task_id, names.task_name),
    (names.erasure_id, names.erasure_name),
    (names.certificate_id, names.certificate_name),
)


def _serials(choices: Choices) -> bool:
    path = workplace() / "deny.list"
    path.write_bytes(choices.rest())
    try:
        found = read_serials(path)
    except BadConfig:
        return False
    promise(all(one == f"{int(one, 16):x}" for one in found), "serials as certificates have them")
    return True


def _damaged(choices: Choices, der: bytes) -> bytes:
    changed = bytearray(der)
    for _ in range(choices.number(255) % 5):
        at = choices.number(0xFFFF) % len(changed)
        if choices.flag():
            part = choices.some_bytes(32)
            changed[at : at + len(part)] = part
        else:
            changed[at] = choices.number(255)
    return bytes(changed)


def _pem_of(label: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


@cache
def _request_der() -> bytes:
    request = x509.load_pem_x509_csr(signing_request(_KEY, "north"))
    return request.public_bytes(Encoding.DER)


@cache
def _certificate_der() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
    alternatives = [x509.UniformResourceIdentifier(_URI), x509.DNSName("north")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_KEY.public_key())
        .serial_number(77)
        .not_valid_before(_NOON)
        .not_valid_after(_NOON + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(_KEY, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER)


def _seeds() -> Iterator[bytes]:
    yield b"\0\0"
    yield b"\1" + signing_request(_KEY, "north")
    yield b"\2\0"
    for text in (_URI, "letheon://chest/role/operator/ada", "letheon://chest/role/site/x"):
        yield b"\3" + text.encode()
    for number, text in enumerate(("sites/north", "tasks/t-1", "erasures/e1/bases/7", "models/1")):
        yield bytes([4, number]) + text.encode()
    yield b"\5" + b"00:0a:FF # north\n\n# none\nab12 x\n"
    for kind, der in ((0, _request_der()), (2, _certificate_der())):
        for at in range(0, len(der), 3):
            yield bytes([kind, 1, *at.to_bytes(2, "big"), 0, 0x86 if at % 2 else 0xFF])


TARGET = Target(
    "requests",
    "letheon.servicekit: read_request, identity_of, parse_identity, read_serials; letheon.names",
    run,
    _seeds,
)
