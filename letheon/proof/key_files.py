"""A signer's private key and its list of public keys, as files beside each other.

    signing_key.pem         private, mode 0600
    signing_key.pub.pem     the present public key
    signing_key.keys.json   every public key, each signed by the one before it

A rotation first writes the new private key beside the old one, then the list, then puts the new
key in its place: whoever loads the files finishes a rotation that was cut short.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from letheon.errors import BadConfig, ProofInvalid
from letheon.proof.key_list import KeyList, read_key_list
from letheon.servicekit.signing import SigningKey


@dataclass(frozen=True)
class Signer:
    """The key that signs now, and the list that ends with it."""

    key: SigningKey
    keys: KeyList


def public_path(private: Path) -> Path:
    """Where the present public key is."""
    return private.with_suffix(".pub.pem")


def list_path(private: Path) -> Path:
    """Where the list of keys is."""
    return private.with_suffix(".keys.json")


def load_signer(private: Path, role: str, now: datetime) -> Signer:
    """Key and list; made at the first call, and a rotation that was cut short is finished.

    Raises BadConfig if the files cannot be used or do not belong together.
    """
    listed = _read_list(private, role)
    _finish_rotation(private, listed)
    key = SigningKey.load_or_create(private)
    if listed is None:
        listed = KeyList.of_one(role, key, now)
        _write_whole(list_path(private), listed.content())
    if listed.current.key_id != key.key_id:
        raise BadConfig(
            f"{private} is key {key.key_id}, and {list_path(private)} ends with key "
            f"{listed.current.key_id}: put back the file that belongs to it, or, for a new signer, "
            "remove the list",
            path=private,
        )
    key.publish(public_path(private))
    return Signer(key, listed)


def rotate(private: Path, role: str, now: datetime) -> Signer:
    """A new key in place of the old one, which signs it and is then gone.

    Processes that hold the old key go on with it until they start anew. Raises BadConfig.
    """
    old = load_signer(private, role, now)
    coming = _coming(private)
    coming.unlink(missing_ok=True)  # of a rotation that never reached the list
    new = SigningKey.load_or_create(coming)
    try:
        listed = old.keys.followed_by(new, by=old.key, since=now)
    except ProofInvalid as error:
        coming.unlink()
        raise BadConfig(f"{private} cannot be rotated: {error.message}", path=private) from error
    _write_whole(list_path(private), listed.content())
    return load_signer(private, role, now)


def _coming(private: Path) -> Path:
    return private.with_name(f"{private.name}.next")


def _finish_rotation(private: Path, listed: KeyList | None) -> None:
    coming = _coming(private)
    if listed is None or not coming.exists():
        return
    new = SigningKey.load_or_create(coming)
    if new.key_id == listed.current.key_id:
        coming.replace(private)
        _sync(private.parent)


def _read_list(private: Path, role: str) -> KeyList | None:
    path = list_path(private)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}", path=path) from error
    try:
        return read_key_list(content, role)
    except ProofInvalid as error:
        raise BadConfig(f"{path}: {error.message}", path=path) from error


def _write_whole(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise BadConfig(f"{path} cannot be written: {error.strerror}", path=path) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
