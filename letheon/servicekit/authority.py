"""A certificate authority in a folder, for consortia that have none of their own.

The folder holds `ca.pem`, `ca.key` (mode 0600), `issued.jsonl`, one line a certificate, and
`deny.list`, which the coordinator reads.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from letheon.errors import AlreadyExists, BadConfig, NotFound, StorageUnavailable
from letheon.servicekit.deny_list import read_serials
from letheon.servicekit.identity import SCHEME, Identity, serial_of, uris_of
from letheon.servicekit.key_files import PublicKey, pem_of, write_key

CA_FILE, KEY_FILE, DENY_FILE, _ISSUED_FILE = "ca.pem", "ca.key", "deny.list", "issued.jsonl"
_CA_DAYS = 3650
# Clocks of hospitals are not all right: a certificate is valid from a little before its making.
_EARLIER = timedelta(minutes=5)


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority signed."""

    serial: str
    subject: str  # the identity's URI, or the host names of a server
    begins_at: str  # ISO 8601, UTC
    ends_at: str
    revoked: bool = False


class FileAuthority:
    """Signs with the key in its folder. Several processes may use one folder."""

    def __init__(self, folder: Path) -> None:
        """Raises BadConfig if the files cannot be used, or others may read the key."""
        self._folder = folder
        path = folder / KEY_FILE
        try:
            mode = path.stat().st_mode
            self._certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
            key = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise BadConfig(
                f"{folder} holds no authority: {Path(error.filename).name} is missing; "
                "`letheon ca init` makes one",
                path=folder,
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise BadConfig(f"the authority in {folder} cannot be read: {error}") from error
        if mode & 0o077:
            raise BadConfig(f"others may read the authority's key {path}: run `chmod 600 {path}`")
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != self._certificate.public_key()
        ):
            raise BadConfig(f"{path} is not the key of {folder / CA_FILE}")
        self._key = key

    @classmethod
    def init(cls, folder: Path, federation: str, now: datetime) -> FileAuthority:
        """Makes an authority for a federation.

        Raises AlreadyExists if there is one, MalformedName for the federation's name.
        """
        if (folder / CA_FILE).exists() or (folder / KEY_FILE).exists():
            raise AlreadyExists(f"{folder} holds an authority already; nothing was changed")
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"letheon {federation}")])
        builder = _builder(name, name, key.public_key(), now, timedelta(days=_CA_DAYS))
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SCHEME + federation)]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        write_key(folder / KEY_FILE, key)
        (folder / CA_FILE).write_bytes(pem_of(certificate))
        (folder / DENY_FILE).touch()
        return cls(folder)

    @property
    def certificate_pem(self) -> bytes:
        """What others trust."""
        return pem_of(self._certificate)

    @property
    def federation(self) -> str:
        """The federation it was made for."""
        uris = [uri for uri in uris_of(self._certificate) if uri.startswith(SCHEME)]
        return uris[0].removeprefix(SCHEME) if uris else ""

    def issue(
        self, identity: Identity, key: PublicKey, now: datetime, life: timedelta
    ) -> x509.Certificate:
        """A client's certificate for an identity."""
        names = [x509.UniformResourceIdentifier(identity.uri)]
        return self._sign(identity.uri, identity.name, names, key, now, life, client=True)

    def issue_server(
        self, hosts: Sequence[str], key: PublicKey, now: datetime, life: timedelta
    ) -> x509.Certificate:
        """A coordinator's certificate, for host names and addresses."""
        names = [_host(host) for host in hosts]
        return self._sign(", ".join(hosts), hosts[0], names, key, now, life, client=False)

    def issued(self) -> list[Issued]:
        """Everything it signed, oldest first."""
        denied = read_serials(self._folder / DENY_FILE)
        path = self._folder / _ISSUED_FILE
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.strip()]
        return [Issued(**{**each, "revoked": each["serial"] in denied}) for each in found]

    def revoke(self, serial: str, reason: str, now: datetime) -> Issued:
        """Puts a certificate on the deny list; repeating it is harmless.

        Raises NotFound for one that was not issued here.
        """
        wanted = serial.lower().replace(":", "").lstrip("0")
        found = next((each for each in self.issued() if each.serial == wanted), None)
        if found is None:
            raise NotFound(f"this authority issued no certificate {serial}; `letheon ca list`")
        if not found.revoked:
            note = " ".join(reason.split()) or "no reason given"
            line = f"{wanted} # {now:%Y-%m-%d} {found.subject}: {note}\n"
            with self._alone():
                _append(self._folder / DENY_FILE, line)
        return Issued(**{**asdict(found), "revoked": True})

    def _sign(
        self,
        subject: str,
        common_name: str,
        names: Sequence[x509.GeneralName],
        key: PublicKey,
        now: datetime,
        life: timedelta,
        *,
        client: bool,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            _builder(name, self._certificate.subject, key, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        made = Issued(
            serial_of(certificate),
            subject,
            certificate.not_valid_before_utc.isoformat(),
            certificate.not_valid_after_utc.isoformat(),
        )
        noted = {name: value for name, value in asdict(made).items() if name != "revoked"}
        with self._alone():
            # Noted before it is handed out: one that nobody knows of cannot be revoked.
            _append(self._folder / _ISSUED_FILE, json.dumps(noted) + "\n")
        return certificate

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            lock = (self._folder / "lock").open("a")
        except OSError as error:
            raise StorageUnavailable(
                f"the authority in {self._folder} cannot be written: {error.strerror}"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC) - min(_EARLIER, life / 10)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now.astimezone(UTC) + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text.strip("[]")))
    except ValueError:
        return x509.DNSName(text)


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror}") from error
