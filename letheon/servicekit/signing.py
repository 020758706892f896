"""Ed25519 keys and the canonical bytes that are signed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from letheon.errors import BadConfig, BadSignature

SIGNATURE_BYTES = 64


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises ValueError for NaN and infinities, TypeError for what is not JSON.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


class SigningKey:
    """A private Ed25519 key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load_or_create(cls, path: Path | str) -> SigningKey:
        """The key in the PEM file; makes it, readable by its owner only, if there is none.

        Two processes that start together end up with the same key. Raises BadConfig if the file
        is not an Ed25519 key or may be read by everybody.
        """
        path = Path(path)
        if not path.exists():
            _create(path)
        try:
            if path.stat().st_mode & stat.S_IRWXO:
                raise BadConfig(f"everybody may open the key {path}: chmod 0600 is due", path=path)
            private = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise BadConfig(f"the key {path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadConfig(f"{path} is no unencrypted private key in PEM form") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise BadConfig(f"{path} is a key, but not an Ed25519 key", path=path)
        return cls(private)

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private.sign(content)

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return PublicKey(self._private.public_key())

    @property
    def public_pem(self) -> str:
        """The public key, PEM."""
        return self.public.pem

    def publish(self, path: Path | str) -> None:
        """Writes the public key, PEM, for those who check signatures; replaces what is there.

        Raises BadConfig if it cannot be written.
        """
        path = Path(path)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            draft.write_text(self.public_pem, encoding="ascii")
            draft.replace(path)
        except OSError as error:
            raise BadConfig(f"the public key {path} cannot be written: {error.strerror}") from error

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw public key."""
        return self.public.key_id


class PublicKey:
    """A public Ed25519 key."""

    def __init__(self, public: Ed25519PublicKey) -> None:
        self._public = public

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """Raises BadSignature for what is no Ed25519 key in PEM form."""
        try:
            public = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadSignature("the public key is not in PEM form") from error
        if not isinstance(public, Ed25519PublicKey):
            raise BadSignature("the public key is not an Ed25519 key")
        return cls(public)

    @property
    def raw(self) -> bytes:
        """32 bytes."""
        return self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def pem(self) -> str:
        """In the one form that is signed and compared."""
        return self._public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verify(self, content: bytes, signature: bytes) -> None:
        """Raises BadSignature unless the signature is of these bytes by this key."""
        try:
            self._public.verify(signature, content)
        except InvalidSignature:
            raise BadSignature("the signature does not fit these bytes and this key") from None


def verify(public_pem: str | bytes, content: bytes, signature: bytes) -> None:
    """Returns if the signature is right; raises BadSignature if it is not, or the key is none."""
    PublicKey.from_pem(public_pem).verify(content, signature)


def signature_text(signature: bytes) -> str:
    """Base64, as signatures stand in files."""
    return base64.b64encode(signature).decode()


def read_signature(text: str) -> bytes:
    """The 64 bytes. Raises BadSignature for any other text, also for other spellings of it."""
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError as error:  # not base64, or characters that are not ASCII
        raise BadSignature("the signature is not base64") from error
    if len(signature) != SIGNATURE_BYTES or signature_text(signature) != text:
        raise BadSignature("the signature is not 64 bytes in canonical base64")
    return signature


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link never replaces the key of a process that was faster.
            path.hardlink_to(draft)
        except FileExistsError:
            return
        finally:
            draft.unlink()
    except OSError as error:
        raise BadConfig(f"the key {path} cannot be made: {error.strerror}", path=path) from error
