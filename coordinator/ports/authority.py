"""Whoever signs the certificates of sites."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from letheon.servicekit.identity import Identity


class Authority(Protocol):
    """Signs what it is asked to; whether it may be asked was decided before."""

    def issue(
        self, identity: Identity, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
    ) -> x509.Certificate:
        """A client's certificate for an identity. Raises StorageUnavailable if it cannot sign."""
        ...
