"""The story: train, kill the coordinator if asked, withdraw a site, go on until it is forgotten
and the retained sites have trained long enough to see whether anything comes back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from letheon import names
from letheon.cli.demo.ledger_reading import LedgerLog
from letheon.cli.demo.observer import Measurement, Observer, Snapshot, WithdrawnRecords
from letheon.cli.demo.settings import WITHDRAWN, DemoSettings
from letheon.cli.following import TERMINAL, Narration
from letheon.cli.local.running import LocalFederation
from letheon.cli.remote import Remote
from letheon.errors import InternalFault, LetheonError, Unavailable
from letheon.v1 import certificates_pb2, erasures_pb2, federation_pb2, ledger_pb2

Erasure = erasures_pb2.Erasure
Say = Callable[[str], None]

LOOK_AGAIN_S = 0.25
PATIENCE_S = 60.0
VERIFY_TIMEOUT_S = 300.0
# Training that stands still this long is broken, not slow: the slowest site needs 15 s a delta.
STANDSTILL_S = 60.0
SUBJECT = names.site_name(WITHDRAWN)

_T = TypeVar("_T")


class Standstill(InternalFault):
    """Nothing is accepted any more although sites should train."""


@dataclass(frozen=True)
class Moments:
    """The versions that the table compares; absent if the erasure never got there."""

    before: Measurement | None
    removed: Measurement | None
    gate: Measurement | None
    end: Measurement


@dataclass(frozen=True)
class Told:
    """What happened."""

    erasure: Erasure
    moments: Moments
    status: federation_pb2.FederationStatus
    verdict: ledger_pb2.LedgerVerdict
    certificate: bytes | None
    retained_after: int  # accepted deltas of retained sites after the removal
    request_took_s: float  # as the caller saw it


class Story:
    """Runs the story against a federation that is up."""

    def __init__(
        self,
        settings: DemoSettings,
        federation: LocalFederation,
        remote: Remote,
        observer: Observer,
        say: Say,
    ) -> None:
        self._settings = settings
        self._federation = federation
        self._remote = remote
        self._observer = observer
        self._say = say
        self.ledger = LedgerLog(remote)

    def run(self, withdrawn: Callable[[], WithdrawnRecords]) -> Told:
        """From the first delta to the resurfacing check.

        Raises LetheonError if training stands still or the coordinator stays away.
        """
        settings = self._settings
        if settings.kill_coordinator:
            self.train_until(lambda: len(self.ledger.deltas()) >= settings.before // 2)
            self._kill_coordinator()
        self.train_until(lambda: len(self.ledger.deltas()) >= settings.before)
        records = withdrawn()
        erasure, took = self._request()
        before, removed = self._watch_removal(erasure.name)
        erasure = self._watch_to_end(erasure.name)
        gate = self._fetch(erasure.attempts[-1].version) if erasure.attempts else None
        self.train_until(lambda: self._retained_after() >= settings.after)
        end = self._patiently(lambda: self._observer.fetch(None))

        def measure(snapshot: Snapshot | None) -> Measurement | None:
            return self._observer.measure(snapshot, records) if snapshot is not None else None

        return Told(
            erasure=erasure,
            moments=Moments(
                before=measure(before),
                removed=measure(removed),
                gate=measure(gate),
                end=self._observer.measure(end, records),
            ),
            status=self._patiently(
                lambda: self._remote.federation.GetFederation(federation_pb2.GetFederationRequest())
            ),
            verdict=self._verify_ledger(),
            certificate=self._certificate(erasure),
            retained_after=self._retained_after(),
            request_took_s=took,
        )

    def train_until(self, enough: Callable[[], bool]) -> None:
        """Lets the sites train. Raises Standstill if nothing arrives any more."""
        known, since = -1, time.monotonic()
        while True:
            self._turn()
            if enough():
                return
            if len(self.ledger.rows) != known:
                known, since = len(self.ledger.rows), time.monotonic()
            elif time.monotonic() - since > STANDSTILL_S:
                raise Standstill(f"no delta arrived for {STANDSTILL_S:.0f} s")
            time.sleep(LOOK_AGAIN_S)

    def _turn(self) -> None:
        self._federation.tend()
        self._patiently(self.ledger.refresh)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """The call, repeated while the coordinator restarts."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except Unavailable:
                if time.monotonic() > end:
                    raise
                self._federation.tend()
                time.sleep(LOOK_AGAIN_S)

    def _kill_coordinator(self) -> None:
        count = len(self.ledger.deltas())
        self._say(f"kill -9 of the coordinator after {count} accepted deltas")
        self._federation.child("coordinator").kill()
        self.train_until(lambda: len(self.ledger.deltas()) > count)
        self._say("the coordinator is back and training goes on")

    def _request(self) -> tuple[Erasure, float]:
        settings = self._settings
        request = erasures_pb2.RequestErasureRequest(
            request_id=str(uuid.uuid4()),
            site=SUBJECT,
            legal_basis="GDPR-17-1-b",
            level=erasures_pb2.L1,
            method=settings.method,
            calibrate=settings.calibrate,
            requester="demo",
        )
        self._say(f"{WITHDRAWN} withdraws: erasure by {settings.method} requested")
        began = time.monotonic()
        erasure = self._patiently(lambda: self._remote.erasures.RequestErasure(request))
        return erasure, time.monotonic() - began

    def _read(self, name: str) -> Erasure:
        question = erasures_pb2.GetErasureRequest(name=name)
        return self._patiently(lambda: self._remote.erasures.GetErasure(question))

    def _watch_removal(self, name: str) -> tuple[Snapshot | None, Snapshot | None]:
        """Takes the heads around the removal while their files still exist."""
        end = time.monotonic() + self._settings.erasure_limit_s
        while True:
            self._turn()
            erasure = self._read(name)
            if erasure.HasField("removal"):
                removal = erasure.removal
                return self._fetch(removal.version_before), self._fetch(removal.version_after)
            if erasure.state in TERMINAL or time.monotonic() > end:
                return None, None
            time.sleep(LOOK_AGAIN_S / 5)

    def _fetch(self, version: int) -> Snapshot | None:
        try:
            return self._observer.fetch(version)
        except LetheonError as error:
            self._say(f"version {version} cannot be measured: {error.message}")
            return None

    def _watch_to_end(self, name: str) -> Erasure:
        """Follows the erasure to its end, or to the limit of the demo's patience."""
        narration = Narration()
        end = time.monotonic() + self._settings.erasure_limit_s
        while True:
            self._turn()
            erasure = self._read(name)
            for line in narration.lines(erasure):
                self._say(line)
            if erasure.state in TERMINAL:
                return erasure
            if time.monotonic() > end:
                self._say(f"the erasure did not end in {self._settings.erasure_limit_s:.0f} s")
                return erasure
            time.sleep(LOOK_AGAIN_S)

    def _retained_after(self) -> int:
        removal = self.ledger.removal()
        if removal is None:
            return len(self.ledger.deltas(without=SUBJECT))
        return len(self.ledger.deltas(since=removal.entry, without=SUBJECT))

    def _verify_ledger(self) -> ledger_pb2.LedgerVerdict:
        def ask() -> ledger_pb2.LedgerVerdict:
            parts = self._remote.ledger.VerifyLedger(
                ledger_pb2.VerifyLedgerRequest(), timeout=VERIFY_TIMEOUT_S
            )
            verdict = ledger_pb2.LedgerVerdict(reason="the verification ended without a verdict")
            for part in parts:
                if part.WhichOneof("part") == "verdict":
                    verdict = part.verdict
            return verdict

        return self._patiently(ask)

    def _certificate(self, erasure: Erasure) -> bytes | None:
        if not erasure.certificate:
            return None
        request = certificates_pb2.GetCertificateRequest(name=erasure.certificate)
        return self._patiently(lambda: self._remote.certificates.GetCertificate(request)).content


def write_certificate(path: Path, content: bytes | None) -> None:
    """Keeps the certificate; one of an earlier run does not stay."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
