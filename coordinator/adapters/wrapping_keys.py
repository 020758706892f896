"""Wrapping keys: files of one folder, or in memory. AES-256-GCM, a random nonce each time."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator.adapters.disk_blobs import sync_directory
from letheon.errors import BadConfig, KeyGone

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_NAME: Final = re.compile(r"wrapping-([0-9a-f]{32})\.key")


def _wrap(key: bytes, data_key: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data_key, context)


def _unwrap(key: bytes, wrapped: bytes, context: bytes) -> bytes:
    nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, sealed, context)
    except (InvalidTag, ValueError) as error:
        raise KeyGone("the data key does not open with the wrapping key in use") from error


class MemoryWrappingKeys:
    """They end with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def create(self) -> str:
        """A new one; its id."""
        key_id = secrets.token_hex(16)
        self._keys[key_id] = os.urandom(_KEY_BYTES)
        return key_id

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """Raises KeyGone."""
        return _wrap(self._key(key_id), data_key, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Raises KeyGone."""
        return _unwrap(self._key(key_id), wrapped, context)

    def destroy(self, key_id: str) -> None:
        """For good."""
        self._keys.pop(key_id, None)

    def all(self) -> list[str]:
        """Their ids."""
        return sorted(self._keys)

    def _key(self, key_id: str) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise KeyGone(f"there is no wrapping key {key_id}") from None


class FileWrappingKeys:
    """One file a key, readable by its owner alone."""

    def __init__(self, directory: Path) -> None:
        """Raises BadConfig if the folder cannot be used."""
        self._directory = directory
        self._known: dict[str, bytes] = {}  # each is read once
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for unfinished in directory.glob("*.key.new"):
                _overwrite(unfinished)
                unfinished.unlink()
        except OSError as error:
            raise BadConfig(
                f"encryption.key_dir {directory} cannot be used: {error.strerror}",
                key="encryption.key_dir",
            ) from error

    def create(self) -> str:
        """A new one, durable; its id."""
        key_id, key = secrets.token_hex(16), os.urandom(_KEY_BYTES)
        path = self._path(key_id)
        unfinished = path.with_name(f"{path.name}.new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        sync_directory(self._directory)
        self._known[key_id] = key
        return key_id

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """Raises KeyGone."""
        return _wrap(self._key(key_id), data_key, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Raises KeyGone."""
        return _unwrap(self._key(key_id), wrapped, context)

    def destroy(self, key_id: str) -> None:
        """Overwrites and removes the file, durably."""
        self._known.pop(key_id, None)
        try:
            _overwrite(self._path(key_id))
            self._path(key_id).unlink()
        except FileNotFoundError:
            return
        sync_directory(self._directory)

    def all(self) -> list[str]:
        """Their ids."""
        names = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(name[1] for name in names if name is not None)

    def _path(self, key_id: str) -> Path:
        return self._directory / f"wrapping-{key_id}.key"

    def _key(self, key_id: str) -> bytes:
        known = self._known.get(key_id)
        if known is not None:
            return known
        try:
            key = self._path(key_id).read_bytes()
        except OSError as error:
            raise KeyGone(f"there is no wrapping key {key_id}") from error
        if len(key) != _KEY_BYTES:
            raise KeyGone(f"the wrapping key {key_id} has {len(key)} bytes, not {_KEY_BYTES}")
        self._known[key_id] = key
        return key


def _overwrite(path: Path) -> None:
    """In place; a disk that writes elsewhere keeps the old bytes until it reuses their room."""
    with path.open("r+b") as file:
        file.write(os.urandom(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
