"""Why the coordinator could not be reached: read from what gRPC says, which has no codes for it."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """The closed label set of the counter of failed connections."""

    PROXY = "proxy"
    CERTIFICATE = "certificate"
    TLS = "tls"
    NAME = "name"
    NO_ANSWER = "no_answer"


# The first that fits decides; lower case.
_WORDS: tuple[tuple[str, Cause], ...] = (
    ("http proxy returned response code", Cause.PROXY),
    ("certificate_verify_failed", Cause.CERTIFICATE),
    ("hostname verification check failed", Cause.CERTIFICATE),
    ("alert_certificate", Cause.CERTIFICATE),
    ("alert_unknown_ca", Cause.CERTIFICATE),
    ("tls handshake failed", Cause.TLS),
    ("dns resolution failed", Cause.NAME),
    ("name resolution", Cause.NAME),
)
_SENTENCES = {
    Cause.PROXY: "the proxy refuses the connection: see network.proxy and its password file",
    Cause.CERTIFICATE: "a certificate is not accepted: expired, of another name or authority",
    Cause.TLS: "one side speaks TLS and the other does not, or not in the same way",
    Cause.NAME: "the name of the coordinator or proxy cannot be resolved",
    Cause.NO_ANSWER: "nobody answers: the network, the firewall, a certificate that is missing, or"
    " the coordinator is away",
}


def cause_of(text: str) -> Cause:
    """The cause in the text of a failed call."""
    lower = text.lower()
    return next((cause for words, cause in _WORDS if words in lower), Cause.NO_ANSWER)


def explain(cause: Cause) -> str:
    """One sentence and what to do."""
    return f"{_SENTENCES[cause]}; letheon-agent doctor says more"
