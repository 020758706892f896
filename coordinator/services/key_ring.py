"""Issues, finds and forgets data keys, and changes the wrapping key once some were forgotten."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.ports import DATA_KEY_BYTES, KeyRecords, WrappedKey, WrappingKeys
from letheon.errors import BadConfig, KeyGone
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataKey:
    """An opened data key, and where the sealed file is."""

    key: bytes = field(repr=False)
    blob: str
    size_bytes: int  # of the plaintext


class KeyRing:
    """All data keys of one store. Any thread may call; nothing is called with the lock held."""

    def __init__(self, wrapping: WrappingKeys, records: KeyRecords) -> None:
        """Ends a change of the wrapping key that a crash cut. Raises BadConfig."""
        self._wrapping, self._records = wrapping, records
        self._lock = threading.RLock()
        self.on_change: Callable[[int], object] = int  # told the new generation
        self._settle()

    @property
    def identity(self) -> str:
        """Of the key store."""
        return self._records.identity

    @property
    def generation(self) -> int:
        """How often the wrapping key was changed."""
        with self._lock:
            return self._records.generation()

    def fresh(self) -> bytes:
        """A data key of nobody yet."""
        return secrets.token_bytes(DATA_KEY_BYTES)

    def keep(
        self, area: str, name: str, key: bytes, *, blob: str = "", size_bytes: int = 0
    ) -> None:
        """Keeps a key under a name, durably."""
        with self._lock:
            record = WrappedKey(area, name, blob, size_bytes, b"")
            wrapped = self._wrapping.wrap(self._current(), key, record.context)
            self._records.save(WrappedKey(area, name, blob, size_bytes, wrapped))

    def find(self, area: str, name: str) -> DataKey | None:
        """The opened key, or None. Raises KeyGone if it does not open."""
        with self._lock:
            record = self._records.find(area, name)
            if record is None:
                return None
            return DataKey(self._opened(record), record.blob, record.size_bytes)

    def record(self, area: str, name: str) -> WrappedKey | None:
        """The record, closed, or None."""
        with self._lock:
            return self._records.find(area, name)

    def all(self, area: str) -> dict[str, WrappedKey]:
        """What is kept in an area, by name; closed."""
        with self._lock:
            return self._records.all(area)

    def forget(self, area: str, *names: str) -> None:
        """Removes keys, durably."""
        with self._lock:
            self._records.remove(area, names)

    def shred(self) -> bool:
        """Makes what was forgotten worthless wherever a copy of it is; says if there was anything.

        Killed at any point, the next start or the next call ends it.
        """
        with self._lock:
            if not self._records.was_reduced():
                return False
            old = self._current()
            new = self._wrapping.create()
            reach("keys.created")
            self._records.rewrap(
                new, lambda record: self._wrapping.wrap(new, self._opened(record), record.context)
            )
            reach("keys.rewrapped")
            self._wrapping.destroy(old)
            reach("keys.destroyed")
            self._records.compact()
            generation = self._records.generation()
        self.on_change(generation)
        _log.info("wrapping_key_changed", extra={"generation": generation})
        return True

    def close(self) -> None:
        """Closes the records."""
        with self._lock:
            self._records.close()

    def _settle(self) -> None:
        current = self._records.wrapping_key()
        if current is None:
            current = self._wrapping.create()
            self._records.rewrap(current, lambda record: record.wrapped)
        known = self._wrapping.all()
        if current not in known:
            raise BadConfig(
                f"the wrapping key {current} is not in the key store: put the key store back as it "
                "was; without it nothing that it sealed can be read",
                key="encryption.key_dir",
            )
        for other in known:
            if other != current:  # made and not used yet, or used no more
                self._wrapping.destroy(other)

    def _current(self) -> str:
        current = self._records.wrapping_key()
        if current is None:
            raise KeyGone("the key store names no wrapping key")
        return current

    def _opened(self, record: WrappedKey) -> bytes:
        return self._wrapping.unwrap(self._current(), record.wrapped, record.context)
