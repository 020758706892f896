"""Following an erasure until it ends: what to say about each change, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from letheon.cli.documents import instant, seconds_between
from letheon.errors import Unavailable
from letheon.v1 import erasures_pb2

Erasure = erasures_pb2.Erasure
TERMINAL = frozenset({Erasure.CERTIFIED, Erasure.FAILED, Erasure.CANCELLED})

POLL_SECONDS = 0.5
# A coordinator that restarts is back within seconds; longer silence is told to the caller.
PATIENCE_SECONDS = 60.0


def follow(
    read: Callable[[], Erasure],
    *,
    wait: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Erasure]:
    """Each changed state of an erasure, the last one terminal.

    A coordinator that does not answer is asked again for PATIENCE_SECONDS; then the error of
    the last call is raised.
    """
    last: bytes | None = None
    heard = monotonic()
    while True:
        try:
            erasure = read()
        except Unavailable:
            if monotonic() - heard > PATIENCE_SECONDS:
                raise
            wait(POLL_SECONDS)
            continue
        heard = monotonic()
        content = erasure.SerializeToString(deterministic=True)
        if content != last:
            last = content
            yield erasure
        if erasure.state in TERMINAL:
            return
        wait(POLL_SECONDS)


class Narration:
    """The lines that tell a person how an erasure goes, each said once."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._state: int | None = None
        self._told_removal = False
        self._told_attempts = 0

    def lines(self, erasure: Erasure) -> Iterator[str]:
        """What is new since the last call."""
        if self._state is None:
            yield self._fenced(erasure)
        if erasure.HasField("removal") and not self._told_removal:
            self._told_removal = True
            yield self._removal(erasure)
        for attempt in erasure.attempts[self._told_attempts :]:
            yield from self._attempt(erasure, attempt)
        self._told_attempts = len(erasure.attempts)
        if erasure.state != self._state:
            self._state = erasure.state
            yield self._stage(erasure)

    def _fenced(self, erasure: Erasure) -> str:
        took = seconds_between(erasure.requested_at, erasure.fenced_at) or 0.0
        return (
            f"{_at(took)}  fenced: nothing of {erasure.site} enters any later version "
            f"({erasure.method}, {erasure.legal_basis})"
        )

    def _removal(self, erasure: Erasure) -> str:
        removal = erasure.removal
        took = seconds_between(erasure.requested_at, erasure.removed_at)
        what = (
            f"{removal.removed_entries} entries subtracted, norm "
            f"{removal.contribution_norm:.3g} of the head's {removal.head_norm_before:.3g}"
            if removal.subtracted
            else "nothing subtracted: the method suppresses"
        )
        return (
            f"{_at(took)}  removed: epoch {removal.epoch}, version {removal.version_before} to "
            f"{removal.version_after}; {what}; {removal.voided_entries} waiting deltas voided"
        )

    def _attempt(self, erasure: Erasure, attempt: erasures_pb2.Attempt) -> Iterator[str]:
        verdict = erasures_pb2.Attempt.Verdict.Name
        yield (
            f"{_at(seconds_between(erasure.requested_at, attempt.at))}  gate, attempt "
            f"{attempt.number} at version {attempt.version} after "
            f"{attempt.accepted_since_removal} retained deltas: {verdict(attempt.verdict)}"
        )
        for test in attempt.tests:
            yield f"{'':12}{test.name:<12} {verdict(test.verdict):<13} {test.detail}"

    def _stage(self, erasure: Erasure) -> str:
        name = Erasure.State.Name(erasure.state)
        asked = instant(erasure.requested_at) or self._now()
        end = instant(erasure.concluded_at) or self._now()
        line = f"{_at((end - asked).total_seconds())}  {name}"
        if erasure.state == Erasure.CERTIFIED:
            identifier = erasure.name.rpartition("/")[2]
            return f"{line}: `letheon certificate verify {identifier}` checks the certificate"
        if erasure.state == Erasure.FAILED:
            return f"{line}: {erasure.failure}; {erasure.site} stays fenced"
        if erasure.state == Erasure.CANCELLED:
            return f"{line}: {erasure.site} may train again"
        if erasure.state == Erasure.CLAIMED and erasure.holder:
            return f"{line} by {erasure.holder}"
        return line


def _at(seconds: float | None) -> str:
    return f"{seconds:8.2f} s" if seconds is not None else f"{'':10}"
