"""TLS of a server from files that may be replaced while it serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import grpc

from letheon.errors import BadConfig
from letheon.servicekit.route import TlsFiles, certificates_in, check_pair, stamps_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server; a client shows a certificate that `client_ca` signed."""

    certificate: Path
    key: Path
    client_ca: Path

    @property
    def files(self) -> TlsFiles:
        """The same for the checks that both sides share."""
        return TlsFiles(self.client_ca, self.certificate, self.key)


class ServerCertificates:
    """What new connections are served with: read again at the first handshake after a change.

    Files that do not fit are not taken: the former ones stay, and the log says so once.
    """

    def __init__(self, tls: ServerTls, *, on_read: Callable[[datetime], None]) -> None:
        """`on_read` is told when the certificate ends. Raises BadConfig naming the file."""
        self._tls, self._on_read = tls, on_read
        self._lock = threading.Lock()
        self._seen = stamps_of(tls.files)
        self._wanted, self._open = self._read()

    def requiring(self) -> grpc.ServerCredentials:
        """Every client shows a certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._wanted, lambda: self._latest()[0], require_client_authentication=True
        )

    def without_client_certificates(self) -> grpc.ServerCredentials:
        """Only the server shows one: for those who come to get theirs."""
        return grpc.dynamic_ssl_server_credentials(
            self._open, lambda: self._latest()[1], require_client_authentication=False
        )

    def _read(
        self,
    ) -> tuple[grpc.ServerCertificateConfiguration, grpc.ServerCertificateConfiguration]:
        tls = self._tls
        check_pair(tls.files)
        pair = [(tls.key.read_bytes(), tls.certificate.read_bytes())]
        self._on_read(certificates_in(tls.certificate, "certificate")[0].not_valid_after_utc)
        roots = tls.client_ca.read_bytes()
        return (
            grpc.ssl_server_certificate_configuration(pair, root_certificates=roots),
            grpc.ssl_server_certificate_configuration(pair),
        )

    def _latest(
        self,
    ) -> tuple[grpc.ServerCertificateConfiguration, grpc.ServerCertificateConfiguration]:
        # Called by gRPC at every handshake, in a thread of its own making.
        with self._lock:
            seen = stamps_of(self._tls.files)
            if seen != self._seen:
                self._seen = seen
                try:
                    self._wanted, self._open = self._read()
                    _log.info("certificates_read")
                except (BadConfig, OSError) as error:
                    _log.error("certificates_not_taken", extra={"why": str(error)})
            return self._wanted, self._open


def is_loopback(address: str) -> bool:
    """Whether `host:port` can only be reached from this machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
