"""Signs of life of the one writer, so that the server may end a writer that gives none.

A transaction may compute for long between two statements: a removal of a large model does. To the
server such a writer looks like one whose process is stopped, and which keeps the lock of all
writers. So a thread asks for nothing, on the writer's own connection and now and then: a process
that is stopped, or whose machine is, asks no more (decision 0050).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

_log = logging.getLogger(__name__)
_SIGNS = 3  # within the silence that the server bears


class WriterPulse:
    """Speaks for the writer in hand while it computes; the thread starts with the first one."""

    def __init__(self, silence_s: float) -> None:
        self.silence_s = silence_s
        self._lock = threading.Lock()
        self._writing: Any = None  # psycopg's connection, which threads may share
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer-pulse", daemon=True)

    @contextmanager
    def of(self, connection: Connection) -> Iterator[None]:
        """Keeps the transaction of this connection alive until the end of the block."""
        with self._lock:
            self._writing = connection.connection.driver_connection
            if self._thread.ident is None:
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._writing = None

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self.silence_s / _SIGNS):
            self.speak()

    def speak(self) -> None:
        """Gives a sign now, if there is a writer that computes."""
        with self._lock:
            self._speak()

    def _speak(self) -> None:
        from psycopg import Error  # with the extra `postgres`, as the connection itself
        from psycopg.pq import TransactionStatus

        # Not one that asks something just now, nor one that has committed already.
        if (
            self._writing is None
            or self._writing.info.transaction_status != TransactionStatus.INTRANS
        ):
            return
        try:
            self._writing.execute("SELECT 1")
        except Error as error:
            # The writer hears of it at its own next statement.
            _log.debug("writer_not_kept_alive", extra={"reason": str(error).partition("\n")[0]})
