"""The erasure queue on a Redis stream with a consumer group.

Only commands and behaviour that Redis 6.2, Redis 7 and Valkey 8 share are used. Redis may be
flushed at any moment: the group is made again, and the coordinator announces what is open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from letheon.errors import ClaimLost, MalformedRequest, StorageUnavailable
from letheon.servicekit.erasure_entry import (
    RECLAIM_AFTER_S,
    DeadLetter,
    Entry,
    announcement,
    fields_of,
    parse_entry,
)

STREAM = "letheon:erasures"
DEAD = "letheon:erasures:dead"
GROUP = "calibrators"
# A blocking read must end before the socket gives up on a peer that went away silently.
_LONGEST_BLOCK_S = 20.0
_SOCKET_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0
_RECLAIM_BATCH = 16
# Older dead letters are dropped, about there: the stream must not fill Redis.
DEAD_LETTERS_KEPT = 1000
# Longer than anybody waits before taking over an entry whose consumer is silent.
_LONG_SILENT_MS = 30 * 24 * 3600 * 1000
_T = TypeVar("_T")


class RedisErasureQueue:
    """One stream, one group. Safe to share between threads."""

    def __init__(self, url: str, *, reclaim_after_s: float = RECLAIM_AFTER_S) -> None:
        self._idle_ms = round(reclaim_after_s * 1000)
        # Undecodable fields must become a malformed entry, not a crash of every consumer.
        self._redis: Any = redis.Redis.from_url(
            url,
            # The shapes of answers depend on the protocol, whose default depends on the client.
            protocol=2,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            # One repeat covers a connection that died while idle; the caller does the backing off.
            retry=Retry(NoBackoff(), 1),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def announce(self, erasure_id: str) -> None:
        """Adds an entry for the erasure."""
        fields = announcement(erasure_id)
        _ask(lambda: self._redis.xadd(STREAM, fields))

    def take(self, consumer: str, block_s: float = 0.0) -> Entry | None:
        """An abandoned entry, else a new one, waiting up to `block_s` (at most 20 seconds)."""
        entry = self._in_group(lambda: self._reclaim(consumer))
        return entry or self._in_group(lambda: self._read(consumer, block_s))

    def _in_group(self, command: Callable[[], _T]) -> _T:
        """Runs the command; makes the stream and its group if they are not there (any more)."""
        try:
            return _ask(command, group_missing_is_ours=True)
        except _GroupMissing:
            _ask(self._create_group)
            return _ask(command)

    def _create_group(self) -> None:
        try:
            # From the first entry on: what was announced before the group existed counts too.
            self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _reclaim(self, consumer: str) -> Entry | None:
        """Takes over an entry whose consumer went silent.

        XPENDING and XCLAIM one by one instead of XAUTOCLAIM: Redis 6.2 answers XAUTOCLAIM with a
        nil that does not say which pending entry was deleted, and keeps it pending for ever.
        """
        silent = self._redis.xpending_range(
            STREAM, GROUP, "-", "+", _RECLAIM_BATCH, idle=self._idle_ms
        )
        for pending in silent:
            key = pending["message_id"]
            # Counts idle time again, so that of two consumers only one gets the entry.
            claimed = self._redis.xclaim(STREAM, GROUP, consumer, self._idle_ms, [key])
            if not claimed:
                continue
            _, fields = claimed[0]
            if fields is None:
                self._redis.xack(STREAM, GROUP, key)
                continue
            entry = self._accept(key, consumer, int(pending["times_delivered"]) + 1, fields)
            if entry is not None:
                return entry
        return None

    def _read(self, consumer: str, block_s: float) -> Entry | None:
        block_ms = round(min(block_s, _LONGEST_BLOCK_S) * 1000)
        while True:
            answer = self._redis.xreadgroup(
                # BLOCK 0 would wait for ever.
                GROUP,
                consumer,
                {STREAM: ">"},
                count=1,
                block=block_ms if block_ms > 0 else None,
            )
            if not answer:
                return None
            key, fields = answer[0][1][0]
            entry = self._accept(key, consumer, 1, fields or {})
            if entry is not None:
                return entry

    def _accept(
        self, key: str, consumer: str, deliveries: int, fields: Mapping[str, str]
    ) -> Entry | None:
        try:
            return parse_entry(key, consumer, deliveries, fields)
        except MalformedRequest as error:
            self._move_to_dead(key, fields, error.message)
            return None

    def renew(self, entry: Entry) -> None:
        """Starts the idle time again, without counting a delivery.

        An entry that Redis lost (a flush) is no error: the claim lives in the coordinator.
        Raises ClaimLost if another consumer took over.
        """

        def command() -> None:
            owner = self._redis.xpending_range(STREAM, GROUP, entry.entry, entry.entry, 1)
            if not owner:
                return
            if owner[0]["consumer"] != entry.consumer:
                raise ClaimLost(f"{owner[0]['consumer']} took over entry {entry.entry}")
            self._redis.xclaim(STREAM, GROUP, entry.consumer, 0, [entry.entry], justid=True)

        self._in_group(command)

    def put_back(self, entry: Entry, *, at_once: bool) -> None:
        """Lets go of the entry; this delivery does not count.

        It stays pending, under the name of this consumer, and looks as if it had been silent for
        long: the next one that takes anything takes it over. To add it anew would wake up a
        waiting consumer somewhat earlier, but a crash between adding and removing would leave two.
        """

        def command() -> None:
            owner = self._redis.xpending_range(STREAM, GROUP, entry.entry, entry.entry, 1)
            if not owner or owner[0]["consumer"] != entry.consumer:
                return
            self._redis.xclaim(
                STREAM,
                GROUP,
                entry.consumer,
                0,
                [entry.entry],
                idle=_LONG_SILENT_MS if at_once else 0,
                retrycount=entry.deliveries - 1,
                justid=True,
            )

        self._in_group(command)

    def acknowledge(self, entry: Entry) -> None:
        """Removes the entry for good."""
        _ask(lambda: self._remove(entry.entry))

    def bury(self, entry: Entry, reason: str) -> None:
        """Moves the entry to `letheon:erasures:dead`."""
        _ask(lambda: self._move_to_dead(entry.entry, fields_of(entry), reason))

    def _move_to_dead(self, key: str, fields: Mapping[str, str], reason: str) -> None:
        letter = {"entry": key, "reason": reason, "fields": json.dumps(dict(fields))}
        # First, and apart: a transaction of Redis goes on after a command of it failed.
        self._redis.xadd(DEAD, letter, maxlen=DEAD_LETTERS_KEPT, approximate=True)
        self._remove(key)

    def _remove(self, key: str) -> None:
        with self._redis.pipeline(transaction=True) as both:
            both.xack(STREAM, GROUP, key)
            both.xdel(STREAM, key)
            both.execute()

    def depth(self) -> int:
        """Entries waiting or in hand."""
        return int(_ask(lambda: self._redis.xlen(STREAM)))

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Oldest first."""
        return tuple(
            DeadLetter(
                fields.get("entry", key),
                fields.get("reason", ""),
                json.loads(fields.get("fields", "{}")),
            )
            for key, fields in _ask(lambda: self._redis.xrange(DEAD))
        )


class _GroupMissing(Exception):
    """The stream or its group is not there: never made, or flushed away."""


def _ask(command: Callable[[], _T], *, group_missing_is_ours: bool = False) -> _T:
    try:
        return command()
    except redis.ResponseError as error:
        gone = str(error).startswith(("NOGROUP", "UNBLOCKED"))
        if gone and group_missing_is_ours:
            raise _GroupMissing from error
        raise StorageUnavailable(f"Redis refuses: {error}") from error
    except redis.RedisError as error:
        raise StorageUnavailable(f"Redis does not answer: {error}") from error
