"""Why a coordinator may not take the certificate that we show: it closes without a word."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from letheon.errors import BadConfig, NotAuthenticated
from letheon.servicekit.identity import identity_of
from letheon.servicekit.route import TlsFiles, certificates_in


def problem_of(tls: TlsFiles, now: datetime) -> str | None:
    """A sentence on what is wrong with our own certificate, or None if nothing can be seen here.

    Raises BadConfig if a file cannot be read.
    """
    if tls.certificate is None:
        return "no certificate is shown, and a coordinator with TLS wants one"
    own = certificates_in(tls.certificate, "certificate")[0]
    if own.not_valid_after_utc <= now:
        ended = f"{own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return f"the certificate {tls.certificate} has expired on {ended}"
    if own.not_valid_before_utc > now:
        return (
            f"the certificate {tls.certificate} is valid only from "
            f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; look at the clock of this machine"
        )
    if own.issuer == own.subject and _signed(own, own):
        return f"the certificate {tls.certificate} is self-signed: no authority vouches for it"
    try:
        identity_of(own)
    except NotAuthenticated as error:
        return error.message
    if tls.ca is not None and not any(_signed(own, ca) for ca in certificates_in(tls.ca, "ca")):
        return (
            f"the certificate {tls.certificate} was signed by {own.issuer.rfc4514_string()}, which "
            f"is not an authority in {tls.ca}; the coordinator may trust another one"
        )
    return None


def expiry_s(tls: TlsFiles) -> float:
    """When our certificate ends, seconds since 1970; 0.0 if we have none. Raises BadConfig."""
    if tls.certificate is None:
        return 0.0
    return certificates_in(tls.certificate, "certificate")[0].not_valid_after_utc.timestamp()


def explained(tls: TlsFiles, now: datetime) -> str:
    """`problem_of`, as the end of a sentence on a failed connection; empty if there is nothing."""
    try:
        found = problem_of(tls, now)
    except BadConfig as error:
        found = error.message
    return "" if found is None else f": {found}"


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
