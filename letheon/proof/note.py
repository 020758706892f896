"""Signed notes and checkpoints in the C2SP formats (signed-note, tlog-checkpoint).

A note is text that ends with a line feed, an empty line, and signature lines:

    — <key name> <base64 of key hash (4 bytes) and Ed25519 signature (64 bytes)>

The key hash is SHA-256(name, line feed, 0x01, public key), cut to 4 bytes. The text of a
checkpoint is three lines: origin, size, base64 of the root hash.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from letheon.errors import BadSignature, ProofInvalid
from letheon.proof.merkle import HASH_BYTES
from letheon.servicekit.signing import PublicKey, SigningKey

_ED25519 = b"\x01"
_KEY_HASH_BYTES = 4
_DASH = "— "
_LONGEST_NOTE = 64 * 1024
_MOST_DIGITS = 15


@dataclass(frozen=True)
class Checkpoint:
    """What the log looked like: so many leaves under this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class SignatureLine:
    """One signature of a note."""

    name: str
    key_hash: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A note as read; nothing of it is checked yet but its form."""

    text: str
    lines: tuple[SignatureLine, ...]


def key_hash(name: str, public: PublicKey) -> bytes:
    """The four bytes by which a signature line names its key."""
    content = name.encode() + b"\n" + _ED25519 + public.raw
    return hashlib.sha256(content).digest()[:_KEY_HASH_BYTES]


def verifier_key(name: str, public: PublicKey) -> str:
    """`name+hash+base64`, as witnesses and other checkers of notes take a key."""
    encoded = base64.b64encode(_ED25519 + public.raw).decode()
    return f"{name}+{key_hash(name, public).hex()}+{encoded}"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The signed note; the key is named after the origin."""
    text = checkpoint.text
    mark = key_hash(checkpoint.origin, key.public)
    encoded = base64.b64encode(mark + key.sign(text.encode())).decode()
    return f"{text}\n{_DASH}{checkpoint.origin} {encoded}\n"


def read_note(note: str) -> Note:
    """Raises ProofInvalid for what is no signed note."""
    if len(note) > _LONGEST_NOTE:
        raise ProofInvalid("the note is longer than any checkpoint", rule="note")
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise ProofInvalid("the note is no UTF-8", rule="note") from error
    head, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise ProofInvalid(
            "the note is cut off, or was never signed: no signature follows its empty line",
            rule="note",
        )
    lines = tuple(_signature_line(line) for line in tail.removesuffix("\n").split("\n"))
    return Note(head + "\n", lines)


def _signature_line(line: str) -> SignatureLine:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not name:
        raise ProofInvalid("a signature line of the note cannot be read", rule="note")
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ProofInvalid("a signature line of the note is not base64", rule="note") from error
    if base64.b64encode(content).decode() != encoded or len(content) <= _KEY_HASH_BYTES:
        raise ProofInvalid("a signature line of the note cannot be read", rule="note")
    return SignatureLine(name, content[:_KEY_HASH_BYTES], content[_KEY_HASH_BYTES:])


def verify_checkpoint(note: str, public: PublicKey, *, origin: str | None = None) -> Checkpoint:
    """The checkpoint, signed by this key; lines of other keys are passed over.

    Raises ProofInvalid: rule note (form), origin (of another log) or signature.
    """
    read = read_note(note)
    checkpoint = _checkpoint(read.text)
    if origin is not None and checkpoint.origin != origin:
        raise ProofInvalid(
            f"the checkpoint is of the log {checkpoint.origin}, not of {origin}", rule="origin"
        )
    mark = key_hash(checkpoint.origin, public)
    ours = [one for one in read.lines if (one.name, one.key_hash) == (checkpoint.origin, mark)]
    if not ours:
        raise ProofInvalid(
            f"the checkpoint is not signed with key {public.key_id}", rule="signature"
        )
    for line in ours:
        try:
            public.verify(read.text.encode(), line.signature)
        except BadSignature as error:
            raise ProofInvalid(
                "the signature of the checkpoint does not hold: it was altered", rule="signature"
            ) from error
    return checkpoint


def _checkpoint(text: str) -> Checkpoint:
    # Further lines are extensions that a later release, or another log, may write.
    origin, _, rest = text.partition("\n")
    size, _, rest = rest.partition("\n")
    encoded, end, _ = rest.partition("\n")
    try:
        root = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ProofInvalid("the root hash of the checkpoint is not base64", rule="note") from error
    right = (
        origin
        and end
        and size.isascii()
        and size.isdecimal()
        and len(size) <= _MOST_DIGITS
        and str(int(size)) == size
        and len(root) == HASH_BYTES
        and base64.b64encode(root).decode() == encoded
    )
    if not right:
        raise ProofInvalid("the note is no checkpoint: origin, size, root hash", rule="note")
    return Checkpoint(origin, int(size), root)
