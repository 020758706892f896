"""The queue of erasures: ids and wake-ups, never facts.

Contract: DESIGN section 8. An entry holds `{erasure, schema}`, or `{request, schema}` from a
consent system. Delivery is at least once: an entry that is neither renewed, acknowledged nor
buried is handed to another consumer after a while. Whoever takes an entry asks the coordinator
who may act on it; the queue never decides that.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from letheon.errors import ClaimLost, MalformedRequest
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.erasure_entry import (
    RECLAIM_AFTER_S,
    ConsentRequest,
    DeadLetter,
    Entry,
    announcement,
    fields_of,
    parse_entry,
)
from letheon.servicekit.redis_erasure_queue import RedisErasureQueue

__all__ = [
    "ConsentRequest",
    "DeadLetter",
    "Entry",
    "ErasureQueue",
    "MemoryErasureQueue",
    "RedisErasureQueue",
]


class ErasureQueue(Protocol):
    """Raises StorageUnavailable while the store does not answer; the caller backs off."""

    def announce(self, erasure_id: str) -> None:
        """Adds an entry. Announcing twice makes two entries, which is harmless."""
        ...

    def take(self, consumer: str, block_s: float = 0.0) -> Entry | None:
        """An abandoned entry, else a new one, waiting up to `block_s`; None if there is none.

        Malformed entries are buried on the way.
        """
        ...

    def renew(self, entry: Entry) -> None:
        """Says that the consumer still works on it. Raises ClaimLost if another one took over."""
        ...

    def put_back(self, entry: Entry, *, at_once: bool) -> None:
        """Lets go of an entry nothing is wrong with: this delivery does not count.

        It is handed out again at once, or after the usual silence. Harmless if another consumer
        took over or the store lost the entry.
        """
        ...

    def acknowledge(self, entry: Entry) -> None:
        """Removes the entry for good. Repeating it is harmless."""
        ...

    def bury(self, entry: Entry, reason: str) -> None:
        """Moves the entry to the dead letters."""
        ...

    def depth(self) -> int:
        """Entries waiting or in hand."""
        ...

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Oldest first."""
        ...


@dataclass(frozen=True)
class _Held:
    consumer: str
    renewed_at_s: float
    deliveries: int


class MemoryErasureQueue:
    """The queue of a federation that lives in one process."""

    def __init__(
        self, *, reclaim_after_s: float = RECLAIM_AFTER_S, clock: Clock | None = None
    ) -> None:
        self._reclaim_after_s = reclaim_after_s
        self._clock = clock if clock is not None else SystemClock()
        self._changed = threading.Condition()
        self._next = 1
        self._fields: dict[str, dict[str, str]] = {}
        self._held: dict[str, _Held] = {}
        self._dead: list[DeadLetter] = []

    def announce(self, erasure_id: str) -> None:
        """Adds an entry for the erasure."""
        self.add(announcement(erasure_id))

    def add(self, fields: Mapping[str, str]) -> None:
        """Adds an entry as another program would: the fields are checked when it is taken."""
        with self._changed:
            self._fields[f"{self._next}-0"] = dict(fields)
            self._next += 1
            self._changed.notify_all()

    def take(self, consumer: str, block_s: float = 0.0) -> Entry | None:
        """An abandoned entry, else a new one, waiting up to `block_s` real seconds."""
        with self._changed:
            found = self._find(consumer)
            if found is None and block_s > 0:
                self._changed.wait_for(lambda: len(self._held) < len(self._fields), block_s)
                found = self._find(consumer)
            return found

    def _find(self, consumer: str) -> Entry | None:
        now = self._clock.monotonic()
        abandoned = [
            e for e, h in self._held.items() if now - h.renewed_at_s >= self._reclaim_after_s
        ]
        fresh = [e for e in self._fields if e not in self._held]
        for key in (*abandoned, *fresh):
            before = self._held.get(key)
            deliveries = before.deliveries + 1 if before else 1
            try:
                entry = parse_entry(key, consumer, deliveries, self._fields[key])
            except MalformedRequest as error:
                self._dead.append(DeadLetter(key, error.message, self._fields[key]))
                self._drop(key)
                continue
            self._held[key] = _Held(consumer, now, deliveries)
            return entry
        return None

    def renew(self, entry: Entry) -> None:
        """Says that the consumer still works on it. Raises ClaimLost if another one took over."""
        with self._changed:
            held = self._held.get(entry.entry)
            if held is None:
                return
            if held.consumer != entry.consumer:
                raise ClaimLost(f"{held.consumer} took over entry {entry.entry}")
            self._held[entry.entry] = replace(held, renewed_at_s=self._clock.monotonic())

    def put_back(self, entry: Entry, *, at_once: bool) -> None:
        """Lets go of the entry; this delivery does not count."""
        with self._changed:
            held = self._held.get(entry.entry)
            if held is None or held.consumer != entry.consumer:
                return
            now = self._clock.monotonic()
            renewed_at_s = now - self._reclaim_after_s if at_once else now
            self._held[entry.entry] = replace(
                held, renewed_at_s=renewed_at_s, deliveries=entry.deliveries - 1
            )
            self._changed.notify_all()

    def acknowledge(self, entry: Entry) -> None:
        """Removes the entry for good."""
        with self._changed:
            self._drop(entry.entry)

    def bury(self, entry: Entry, reason: str) -> None:
        """Moves the entry to the dead letters."""
        with self._changed:
            self._dead.append(DeadLetter(entry.entry, reason, fields_of(entry)))
            self._drop(entry.entry)

    def _drop(self, key: str) -> None:
        self._held.pop(key, None)
        self._fields.pop(key, None)

    def depth(self) -> int:
        """Entries waiting or in hand."""
        with self._changed:
            return len(self._fields)

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Oldest first."""
        with self._changed:
            return tuple(self._dead)
