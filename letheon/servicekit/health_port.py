"""A port of its own for the probes of a supervisor: health and nothing else, without TLS.

Probes such as the kubelet's speak plain gRPC and present no certificate. Three names are known to
every service, and each condition of readiness is one more:

    liveness     the process runs; what it depends on does not count, or an outage of the database
                 would restart every process that waits for it
    readiness    every condition holds (the empty name says the same)
    <condition>  this condition holds

Without an address the port is closed and everything here only remembers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from letheon.errors import MalformedName
from letheon.servicekit.server import Server

_log = logging.getLogger(__name__)

LIVENESS, READINESS = "liveness", "readiness"
_WORKERS = 4


class HealthPort:
    """Safe to share between threads. Nothing is ready before every condition was reported."""

    def __init__(
        self, listen: str | None, *, conditions: Sequence[str], informal: Sequence[str] = ()
    ) -> None:
        """`informal` names are told and do not count."""
        self._lock = threading.Lock()
        self._holds = dict.fromkeys((*conditions, *informal), False)
        self._conditions = tuple(conditions)
        self._was_ready = False
        names = (LIVENESS, READINESS, *self._holds)
        self._server = (
            None
            if listen is None
            else Server([], listen=listen, workers=_WORKERS, service_names=names)
        )
        self.address: str | None = None

    def start(self) -> None:
        """Answers from now on. Raises BadConfig if the address cannot be had."""
        if self._server is None:
            return
        self.address = self._server.start(healthy=False)
        self._server.report_one(LIVENESS, healthy=True)
        _log.info("probes_answered", extra={"address": self.address})

    def stop(self) -> None:
        """Ends at once: a probe is not worth waiting for."""
        if self._server is not None:
            self._server.stop(0.0)

    @property
    def is_ready(self) -> bool:
        """Whether every condition holds."""
        with self._lock:
            return self._was_ready

    def note(self, name: str, *, holds: bool) -> None:
        """What is known of a condition now. Raises MalformedName for one that was not declared."""
        with self._lock:
            if name not in self._holds:
                raise MalformedName(f"{name} is no condition of this service's readiness")
            if self._holds[name] is holds:
                return
            self._holds[name] = holds
            lacking = [each for each in self._conditions if not self._holds[each]]
            turned = self._was_ready is bool(lacking)
            self._was_ready = not lacking
            if self._server is not None:
                self._server.report_one(name, healthy=holds)
                for ready in ("", READINESS):
                    self._server.report_one(ready, healthy=self._was_ready)
        if turned:
            _log.info("ready" if not lacking else "not_ready", extra={"lacking": lacking})
