"""Keys of the targets, made from fixed bytes: an input means the same in every process."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from letheon.servicekit.signing import SigningKey


def a_key(number: int) -> SigningKey:
    """The same one for the same number, 0 to 255."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


CALIBRATOR, COORDINATOR, STRANGER = a_key(1), a_key(2), a_key(3)
