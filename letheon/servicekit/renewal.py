"""Keeps the certificate of a process fresh: a new one at two thirds of its life, no restart.

The key stays the same, so that only one file changes, whole or not at all; channels take the new
certificate at their next call (`reloading_channel`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import Clock
from letheon.servicekit.key_files import read_key, signing_request, write_whole
from letheon.servicekit.route import certificates_in

_log = logging.getLogger(__name__)
_SHARE_OF_LIFE = 2 / 3
_LONGEST_WAIT_S = 3600.0  # a certificate may be put there by hand meanwhile
_JOIN_S = 5.0

Renew = Callable[[bytes], bytes]  # a signing request to a certificate, both PEM


def due_at(certificate: x509.Certificate) -> datetime:
    """When two thirds of its life are over."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * _SHARE_OF_LIFE


@dataclass(frozen=True)
class Renewal:
    """Renews one certificate. `on_certificate` is told when the present one ends."""

    certificate: Path
    key: Path
    name: str  # the identifier that the certificate is for
    renew: Renew
    clock: Clock
    on_certificate: Callable[[datetime], None]

    def wait_s(self) -> float:
        """Seconds until it is due, 0.0 if it is. Raises BadConfig if the file cannot be read."""
        own = certificates_in(self.certificate, "certificate")[0]
        self.on_certificate(own.not_valid_after_utc)
        return max(0.0, (due_at(own) - self.clock.now()) / timedelta(seconds=1))

    def now(self) -> None:
        """Asks for the next certificate and puts it in place.

        Raises what the call raises, and BadConfig for an answer that does not fit the key.
        """
        key = read_key(self.key)
        pem = self.renew(signing_request(key, self.name))
        try:
            made = x509.load_pem_x509_certificate(pem)
        except (ValueError, x509.InvalidVersion) as error:
            raise BadConfig("the coordinator's answer holds no certificate") from error
        if made.public_key() != key.public_key():
            raise BadConfig("the coordinator's certificate is not for the key of this process")
        write_whole(self.certificate, pem)
        self.on_certificate(made.not_valid_after_utc)
        _log.info("certificate_renewed", extra={"not_after": made.not_valid_after_utc.isoformat()})


class RenewalThread:
    """Renews in the background until it is stopped; a failure is tried again with back-off."""

    def __init__(self, renewal: Renewal, backoff: Backoff) -> None:
        self._renewal, self._backoff = renewal, backoff
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a call under way is given some seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause_s = self._turn()
            if self._renewal.clock.wait(self._stopping, pause_s):
                return

    def _turn(self) -> float:
        try:
            wait_s = self._renewal.wait_s()
            if wait_s > 0.0:
                return min(wait_s, _LONGEST_WAIT_S)
            self._renewal.now()
        except (LetheonError, OSError) as error:
            _log.warning("certificate_not_renewed", extra={"why": str(error)})
            return self._backoff.next_s()
        self._backoff.reset()
        return 0.0
