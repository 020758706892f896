"""TLS with the coordinator: chain, host name, expiry, and what it thinks of our certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509

from client_agent.checks.connection import STEP_S
from client_agent.checks.finding import Finding, Obstacle, failed, ok, warning
from letheon.errors import BadConfig
from letheon.servicekit.own_certificate import explained
from letheon.servicekit.route import TlsFiles, certificates_in, check_pair

# An HTTP/2 client's opening: a server that accepts us answers with its settings.
_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS, _TLS_ALERT = 4, 0x15
_SOON_DAYS = 14
_ASK_FOR_A_NEW_ONE = "Ask the coordinator's operator for a new certificate of this site."

Connect = Callable[[], socket.socket]


def check_own_certificate(tls: TlsFiles, now: datetime) -> Finding | None:
    """Of this site; None if it has none. The files were looked at by nobody before."""
    try:
        check_pair(tls)
    except BadConfig as error:
        return failed("certificate", Obstacle(error.message, "Put the right file there."))
    if tls.certificate is None:
        return None
    own = certificates_in(tls.certificate, "certificate")[0]
    end, begin = own.not_valid_after_utc, own.not_valid_before_utc
    days = (end - now).total_seconds() / 86400
    if days <= 0:
        sentence = f"the site's certificate has expired on {end:%Y-%m-%d}"
        return failed("certificate", Obstacle(sentence, _ASK_FOR_A_NEW_ONE))
    if begin > now:
        sentence = f"the site's certificate is valid only from {begin:%Y-%m-%d %H:%M} UTC on"
        return failed("certificate", Obstacle(sentence, "Check the clock of this machine."))
    sentence = f"the site's certificate is valid for {days:.0f} more days"
    if days < _SOON_DAYS:
        return warning("certificate", sentence, _ASK_FOR_A_NEW_ONE)
    return ok("certificate", sentence)


def check_tls(tls: TlsFiles, host: str, connect: Connect) -> Finding:
    """A handshake with everything checked.

    Raises Obstacle if there is no connection, or the coordinator does not accept ours.
    """
    name = tls.server_name or host.strip("[]")
    try:
        context = _context(tls)
    except (OSError, BadConfig) as error:
        obstacle = Obstacle(f"the files of [tls] cannot be used: {error}", "Put the right ones.")
        return failed("tls", obstacle)
    try:
        with connect() as plain, context.wrap_socket(plain, server_hostname=name) as secure:
            peer = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
            _expect_settings(secure, tls)
            version = secure.version()
    except ssl.SSLError as error:
        return failed("tls", _explain(error, name, tls, connect))
    except OSError as error:
        sentence = f"the coordinator broke off the TLS handshake: {error.strerror or error}"
        return failed("tls", Obstacle(sentence, "Is that port the coordinator's?"))
    end = peer.not_valid_after_utc
    days = (end - datetime.now(UTC)).total_seconds() / 86400
    sentence = f"{version} with {name}, its certificate is valid for {days:.0f} more days"
    if days < _SOON_DAYS:
        return warning("tls", sentence, "Tell the coordinator's operator.")
    return ok("tls", sentence)


def check_plain(connect: Connect) -> Finding:
    """Whether a server of plain HTTP/2 answers. Raises Obstacle if there is no connection."""
    answer = b""
    with connect() as plain, contextlib.suppress(OSError):
        plain.settimeout(STEP_S)
        plain.sendall(_OPENING)
        answer = plain.recv(9)
    if len(answer) > 3 and answer[3] == _SETTINGS:
        return warning(
            "tls",
            "the connection is not encrypted",
            "Fit for one machine only: elsewhere, add a [tls] table.",
        )
    if answer[:1] == bytes([_TLS_ALERT]) or not answer:
        obstacle = Obstacle(
            "the coordinator wants TLS and the configuration has no [tls] table",
            "Add [tls] with ca, and certificate and key if it wants those.",
        )
    else:
        obstacle = Obstacle("what answers there is no coordinator", "Check host and port.")
    return failed("tls", obstacle)


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(tls.ca or _authorities_of_grpc()))
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    return context


def _authorities_of_grpc() -> Path:
    return Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"


def _expect_settings(secure: ssl.SSLSocket, tls: TlsFiles) -> None:
    """With TLS 1.3 a server refuses our certificate only after the handshake."""
    secure.settimeout(STEP_S)
    secure.sendall(_OPENING)
    answer = secure.recv(9)
    if not answer:  # gRPC's server closes without a word
        raise _unwanted(tls)


def _unwanted(tls: TlsFiles) -> Obstacle:
    if tls.certificate is not None:
        why = explained(tls, datetime.now(UTC))
        return Obstacle(
            f"the coordinator does not accept the site's certificate{why}", _ASK_FOR_A_NEW_ONE
        )
    return Obstacle(
        "the coordinator wants a certificate of this site",
        "Ask its operator for one; give [tls] certificate and key.",
    )


def _explain(error: ssl.SSLError, name: str, tls: TlsFiles, connect: Connect) -> Obstacle:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, name, tls, _peer(connect))
    reason = (error.reason or str(error)).upper()
    if "WRONG_VERSION" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return Obstacle(
            "what answers there speaks no TLS", "Remove [tls], or name the port that speaks it."
        )
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return _unwanted(tls)
    if "ALERT" in reason:
        word = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        return Obstacle(
            f"the coordinator does not accept the site's certificate: {word}", _ASK_FOR_A_NEW_ONE
        )
    return Obstacle(f"TLS failed: {error.reason or error}", "Ask the coordinator's operator.")


def _unverified(
    error: ssl.SSLCertVerificationError, name: str, tls: TlsFiles, peer: x509.Certificate | None
) -> Obstacle:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        when = f" on {peer.not_valid_after_utc:%Y-%m-%d}" if peer is not None else ""
        return Obstacle(
            f"the coordinator's certificate has expired{when}",
            "Tell its operator; check the clock of this machine, too.",
        )
    if error.verify_code == 9:  # not yet valid
        return Obstacle(
            "the coordinator's certificate is not valid yet", "Check the clock of this machine."
        )
    if error.verify_code in (62, 64):  # host name, address
        names = ", ".join(_names(peer)) or "nobody"
        return Obstacle(
            f"the coordinator's certificate is for {names}, not for {name}",
            "Write that name as coordinator, or as tls.server_name.",
        )
    ca = f"tls.ca {tls.ca}" if tls.ca is not None else "a public authority"
    issuer = f" (its issuer: {peer.issuer.rfc4514_string()})" if peer is not None else ""
    return Obstacle(
        f"the coordinator's certificate was not signed by {ca}{issuer}",
        "Get the authority's file from the coordinator's operator. If the issuer is the hospital's"
        " own, a proxy inspects TLS: have the coordinator exempted.",
    )


def _peer(connect: Connect) -> x509.Certificate | None:
    """The server's certificate, unchecked: only to say more about it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    unread = (OSError, ValueError, x509.InvalidVersion, Obstacle)
    with contextlib.suppress(*unread), connect() as plain:
        plain.settimeout(STEP_S)
        with context.wrap_socket(plain) as secure:
            raw = secure.getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(raw) if raw else None
    return None


def _names(peer: x509.Certificate | None) -> list[str]:
    if peer is None:
        return []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = peer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(one.value) for one in names]
    return []
