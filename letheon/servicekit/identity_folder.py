"""A folder with what one party of TLS needs: ca.pem, certificate.pem, key.pem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from letheon.errors import BadConfig
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.key_files import PublicKey, make_key, pem_of, write_whole
from letheon.servicekit.route import TlsFiles

CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"


def files_in(folder: Path, server_name: str | None = None) -> TlsFiles:
    """The files of a client. Raises BadConfig if one of the three is missing."""
    missing = [name for name in (CA, CERTIFICATE, KEY) if not (folder / name).exists()]
    if missing:
        raise BadConfig(
            f"the identity {folder} lacks {', '.join(missing)}: `letheon ca issue` writes all three"
        )
    return TlsFiles(folder / CA, folder / CERTIFICATE, folder / KEY, server_name)


def write_identity(
    folder: Path, authority: FileAuthority, sign: Callable[[PublicKey], x509.Certificate]
) -> x509.Certificate:
    """Makes a key in the folder and has its certificate signed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = sign(make_key(folder / KEY).public_key())
    write_whole(folder / CERTIFICATE, pem_of(made))
    write_whole(folder / CA, authority.certificate_pem)
    return made
