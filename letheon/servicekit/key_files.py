"""Keys and signing requests of TLS: made, written and read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from letheon.errors import BadConfig, MalformedRequest

# P-256: what every TLS library accepts in certificates, gRPC's among them, as Ed25519 is not.
PublicKey: TypeAlias = ec.EllipticCurvePublicKey
_CSR_BYTES = 16 * 1024


def pem_of(made: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """PEM of a certificate or a signing request."""
    return made.public_bytes(Encoding.PEM)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Writes a private key for its owner only; whole or not at all."""
    write_whole(
        path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600
    )


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces a file: who reads it sees the former content or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in the file, made if there is none. Raises BadConfig for one that cannot be used."""
    if path.exists():
        return read_key(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(path, key)
    return key


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of a PEM file. Raises BadConfig."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadConfig(f"the key {path} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadConfig(f"the key {path} is no elliptic-curve key (P-256 is due)")
    return key


def signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A request, in PEM, for a certificate of whoever `name` is; it proves that the key is ours."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return pem_of(made.sign(key, hashes.SHA256()))


def read_request(pem: bytes) -> tuple[str, PublicKey]:
    """The name that a signing request asks for, and its key.

    Raises MalformedRequest unless it is a signed request of one name and a P-256 key.
    """
    if len(pem) > _CSR_BYTES:
        raise MalformedRequest(f"csr is larger than {_CSR_BYTES} bytes", field="csr")
    try:
        request = x509.load_pem_x509_csr(pem)
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = request.public_key()
        genuine = request.is_signature_valid
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, InvalidSignature) as error:
        raise MalformedRequest("csr is no certificate signing request in PEM", field="csr") from (
            error
        )
    if not genuine:
        raise MalformedRequest("csr is not signed by its own key", field="csr")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise MalformedRequest("csr holds no P-256 key", field="csr")
    if len(names) != 1:
        raise MalformedRequest("csr names nobody: one common name is due", field="csr")
    return str(names[0].value), key
