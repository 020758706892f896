"""Keys of encryption at rest: data keys, one a blob, and the wrapping key around all of them.

What holds a subject is destroyed by forgetting its data keys. A copy of their wrapped form may
survive where nobody looks, so the wrapping key is changed after it: the survivors are wrapped
anew, and what is left of the old wrapped keys opens nothing any more.
"""

# ruff: noqa: D102 (a method says by its name and types what it does)
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

DATA_KEY_BYTES: Final = 32  # AES-256
UPLOADS: Final = "uploads"  # the area of uploads under way, beside those of blobs


@dataclass(frozen=True)
class WrappedKey:
    """The data key of one blob, or of one upload under way, as it is kept."""

    area: str
    name: str  # sha256 of the plaintext, or the id of an upload
    blob: str  # name of the sealed file; empty for an upload
    size_bytes: int  # of the plaintext; 0 for an upload
    wrapped: bytes

    @property
    def context(self) -> bytes:
        """What the wrapping is bound to: a key put beside another name does not unwrap."""
        return f"{self.area}/{self.name}".encode()


class WrappingKeys(Protocol):
    """A key management service: wrapping keys are made, used by their id, and destroyed in it.

    Wrapping and unwrapping raise KeyGone for an id that is not there.
    """

    def create(self) -> str:
        """A new wrapping key, durable when this returns; its id."""
        ...

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes: ...
    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """Raises KeyGone too if the bytes were wrapped otherwise, or for another context."""
        ...

    def destroy(self, key_id: str) -> None:
        """For good, durably; destroying it twice is harmless."""
        ...

    def all(self) -> list[str]: ...


class KeyRecords(Protocol):
    """Wrapped data keys and which wrapping key is in use. Every change is durable and whole."""

    @property
    def identity(self) -> str:
        """Of this set of records, made with it."""
        ...

    def wrapping_key(self) -> str | None:
        """Id of the wrapping key in use; None before the first."""
        ...

    def generation(self) -> int:
        """How often the wrapping key was changed."""
        ...

    def was_reduced(self) -> bool:
        """Whether a key was removed since the wrapping key was changed."""
        ...

    def find(self, area: str, name: str) -> WrappedKey | None: ...
    def all(self, area: str) -> dict[str, WrappedKey]: ...
    def save(self, key: WrappedKey) -> None:
        """Adds it, or puts it in the place of the one of the same area and name."""
        ...

    def remove(self, area: str, names: Iterable[str]) -> None: ...
    def rewrap(self, key_id: str, wrap: Callable[[WrappedKey], bytes]) -> None:
        """Puts another wrapping key in use, every record wrapped by it: all or nothing."""
        ...

    def compact(self) -> None:
        """Lets go of what removed and older records may have left in its files."""
        ...

    def close(self) -> None: ...
