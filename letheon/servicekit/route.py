"""How a channel reaches its server: TLS material from files, and an HTTP CONNECT proxy.

Nothing of it comes from the environment: what a hospital's IT wrote down in the configuration
file is all there is.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from letheon.errors import BadConfig

_DEFAULT_PROXY_PORT = 3128


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one side of a connection; `ca` None: the authorities of the system."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None  # in the server's certificate, if it is not the host's name


@dataclass(frozen=True)
class HttpProxy:
    """A proxy that is asked to CONNECT, with Basic authentication if it wants that."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """With the credentials: for gRPC, never for a log."""
        login = f"{quote(self.user, '')}:{quote(self.password, '')}@" if self.user else ""
        return f"http://{login}{self.host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """Value of the Proxy-Authorization header."""
        if not self.user:
            return None
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True)
class Route:
    """What lies between a client and its server; the default is a plain, direct connection."""

    tls: TlsFiles | None = None
    proxy: HttpProxy | None = None

    def options(self) -> tuple[tuple[str, str | int], ...]:
        """Channel arguments of gRPC."""
        made: list[tuple[str, str | int]] = [
            ("grpc.enable_http_proxy", int(self.proxy is not None))
        ]
        if self.proxy is not None:
            made.append(("grpc.http_proxy", self.proxy.url))
        if self.tls is not None and self.tls.server_name is not None:
            made.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return tuple(made)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS credentials, or None for a plain connection. Raises BadConfig naming the file."""
        return None if self.tls is None else credentials_of(self.tls)


def credentials_of(tls: TlsFiles) -> grpc.ChannelCredentials:
    """TLS credentials of a client. Raises BadConfig naming the file."""
    check_pair(tls)
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca, "ca"),
        private_key=_read(tls.key, "key"),
        certificate_chain=_read(tls.certificate, "certificate"),
    )


def stamps_of(tls: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """What tells one content of the files from another; of a file that is missing None."""
    return tuple(_stamp(path) for path in (tls.ca, tls.certificate, tls.key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def certificates_in(path: Path, key: str) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises BadConfig naming file and configuration key."""
    try:
        return x509.load_pem_x509_certificates(_read(path, key) or b"")
    except (ValueError, x509.InvalidVersion) as error:
        raise BadConfig(f"tls.{key} {path} holds no PEM certificate", key=f"tls.{key}") from error


def check_pair(tls: TlsFiles) -> None:
    """Raises BadConfig unless every file can be read and key and certificate belong together."""
    if tls.ca is not None:
        certificates_in(tls.ca, "ca")
    if tls.certificate is None or tls.key is None:
        return
    own = certificates_in(tls.certificate, "certificate")[0]
    try:
        key = load_pem_private_key(_read(tls.key, "key") or b"", password=None)
    except (ValueError, TypeError) as error:
        raise BadConfig(
            f"tls.key {tls.key} holds no PEM key, or one that needs a passphrase", key="tls.key"
        ) from error
    if key.public_key() != own.public_key():
        raise BadConfig(
            f"tls.key {tls.key} is not the key of the certificate {tls.certificate}", key="tls.key"
        )


def read_proxy(url: str, password: str | None) -> HttpProxy:
    """The proxy of `http://user@host:port`. Raises ValueError with the rule that is broken."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise ValueError(
            "a proxy is http://user@host:port; TLS to the proxy itself, SOCKS, NTLM and Kerberos"
            " are not supported: run a local CONNECT helper and name that one"
        )
    if parts.password is not None:
        raise ValueError("no password in the URL: write it to a file, proxy_password_file names it")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("nothing follows the port of a proxy")
    try:
        host, port = parts.hostname, parts.port or _DEFAULT_PROXY_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise ValueError("a proxy is http://user@host:port")
    if password is not None and not parts.username:
        raise ValueError("proxy_password_file is of use only with a user: http://user@host:port")
    return HttpProxy(host, port, unquote(parts.username or ""), password or "")


def bypasses_proxy(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host is reached directly: `*`, a name, a `.suffix`, an address or a network."""
    wanted = host.strip("[]").lower().rstrip(".")
    return any(_matches(wanted, pattern.strip().lower()) for pattern in patterns)


def _matches(host: str, pattern: str) -> bool:
    if pattern in ("*", host):
        return True
    try:
        return ip_address(host) in ip_network(pattern, strict=False)
    except ValueError:  # a name on one side at least
        suffix = pattern.lstrip("*")
        return suffix.startswith(".") and (host.endswith(suffix) or host == suffix[1:])


def _read(path: Path | None, key: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadConfig(
            f"tls.{key} {path} cannot be read: {error.strerror}", key=f"tls.{key}"
        ) from error
