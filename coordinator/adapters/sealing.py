"""The form of a sealed file: segments of AES-256-GCM, each readable without the others.

Segment i of at most SEGMENT_BYTES of plaintext is stored as a random nonce (12 bytes), as many
bytes of ciphertext and a tag (16 bytes), bound to i. All segments but the last are full, so that
the place of each follows from i. A data key seals one file and no other; a segment is written
anew, under another nonce, when an upload goes on behind it. How long the plaintext is, the record
of the key says: a file that was cut at a segment does not pass for whole.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator.ports import Bytes
from letheon.errors import PayloadCorrupt

SEGMENT_BYTES: Final = 256 << 10
NONCE_BYTES: Final = 12
OVERHEAD_BYTES: Final = NONCE_BYTES + 16
STORED_BYTES: Final = SEGMENT_BYTES + OVERHEAD_BYTES  # of a full segment


def sealed_size(size_bytes: int) -> int:
    """Bytes on disk of a plaintext."""
    return size_bytes + OVERHEAD_BYTES * -(-size_bytes // SEGMENT_BYTES)


def plain_size(stored_bytes: int) -> int:
    """Bytes of plaintext in a sealed file; a torn last segment counts as what it could hold."""
    full, rest = divmod(stored_bytes, STORED_BYTES)
    return full * SEGMENT_BYTES + max(0, rest - OVERHEAD_BYTES)


class Cipher:
    """Seals and opens the segments of one file."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, segment: bytes | bytearray | memoryview, index: int) -> bytearray:
        """A stored segment."""
        nonce, stored = os.urandom(NONCE_BYTES), bytearray(len(segment) + OVERHEAD_BYTES)
        stored[:NONCE_BYTES] = nonce
        with memoryview(stored) as view, view[NONCE_BYTES:] as room:
            self._aead.encrypt_into(nonce, segment, _place(index), room)
        return stored

    def open(self, stored: bytes | memoryview, index: int) -> bytes:
        """Raises PayloadCorrupt."""
        try:
            nonce, sealed = bytes(stored[:NONCE_BYTES]), stored[NONCE_BYTES:]
            return self._aead.decrypt(nonce, sealed, _place(index))
        except (InvalidTag, ValueError) as error:
            raise _damaged(index) from error

    def open_into(self, stored: memoryview, index: int, room: memoryview) -> None:
        """As `open`, into `room`, which is as long as the plaintext."""
        try:
            nonce, sealed = bytes(stored[:NONCE_BYTES]), stored[NONCE_BYTES:]
            self._aead.decrypt_into(nonce, sealed, _place(index), room)
        except (InvalidTag, ValueError) as error:
            raise _damaged(index) from error


def seal_into(file: BinaryIO, data: Bytes, cipher: Cipher) -> None:
    """Writes the whole plaintext as segments. One segment more than the data is in memory."""
    with memoryview(data) as view:
        for index in range(-(-len(view) // SEGMENT_BYTES)):
            start = index * SEGMENT_BYTES
            with view[start : start + SEGMENT_BYTES] as segment:
                file.write(cipher.seal(segment, index))


def segments(file: BinaryIO, cipher: Cipher) -> Iterator[bytes]:
    """The plaintext from the first segment on. Raises PayloadCorrupt at a damaged one."""
    file.seek(0)
    index = 0
    while stored := file.read(STORED_BYTES):
        yield cipher.open(stored, index)
        index += 1


def opened(file: BinaryIO, cipher: Cipher, size_bytes: int) -> mmap.mmap:
    """All the plaintext, read-only, in memory that is no file.

    Raises PayloadCorrupt if a segment is damaged, or the file is not as long as it should be.
    """
    stored = os.fstat(file.fileno()).st_size
    if stored != sealed_size(size_bytes) or not size_bytes:
        raise PayloadCorrupt(f"a sealed file has {stored} bytes, {sealed_size(size_bytes)} are due")
    descriptor = os.memfd_create("opened", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size_bytes)
        with mmap.mmap(descriptor, size_bytes) as room, memoryview(room) as view:
            _open_all(file, cipher, view)
        return mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def _open_all(file: BinaryIO, cipher: Cipher, room: memoryview) -> None:
    file.seek(0)
    for index in range(-(-len(room) // SEGMENT_BYTES)):
        start = index * SEGMENT_BYTES
        with room[start : start + SEGMENT_BYTES] as place:
            stored = file.read(len(place) + OVERHEAD_BYTES)
            cipher.open_into(memoryview(stored), index, place)


class SealedFile(io.RawIOBase):
    """The plaintext of a sealed file, to read from any place; one segment of it is in memory."""

    def __init__(self, file: BinaryIO, cipher: Cipher, size_bytes: int) -> None:
        super().__init__()
        self._file, self._cipher, self._size = file, cipher, size_bytes
        self._at = 0
        self._index, self._segment = -1, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the first byte")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """As a file."""
        return self._at

    def readinto(self, buffer: object, /) -> int:
        """Bytes of the present segment. Raises PayloadCorrupt."""
        if self._at >= self._size:
            return 0
        index, within = divmod(self._at, SEGMENT_BYTES)
        if index != self._index:
            self._file.seek(index * STORED_BYTES)
            self._segment = self._cipher.open(self._file.read(STORED_BYTES), index)
            self._index = index
        with memoryview(buffer).cast("B") as view:  # type: ignore[arg-type]
            piece = self._segment[within : within + len(view)]
            if not piece:
                raise _damaged(index)
            view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        """Closes the sealed file too."""
        self._file.close()
        super().close()


def _place(index: int) -> bytes:
    return index.to_bytes(8, "big")


def _damaged(index: int) -> PayloadCorrupt:
    return PayloadCorrupt(f"segment {index} of a sealed file is damaged, or sealed by another key")
