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
        self._told_fence = False
        self._told_removal = False
        self._told_attempts = 0

    def lines(self, erasure: Erasure) -> Iterator[str]:
        """What is new since the last call."""
        waits = erasure.state == Erasure.AWAITING_APPROVAL
        if not self._told_fence and not waits and erasure.HasField("fenced_at"):
            self._told_fence = True
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
            f"{_at(took)}  fenced: nothing of {_subject(erasure)} enters any later version "
            f"({erasure.method}, {erasure.legal_basis})"
        )

    def _removal(self, erasure: Erasure) -> str:
        removal = erasure.removal
        took = seconds_between(erasure.requested_at, erasure.removed_at)
        if removal.subtracted:
            what = (
                f"{removal.removed_entries} entries subtracted, norm "
                f"{removal.contribution_norm:.3g} of the head's {removal.head_norm_before:.3g}"
            )
            if erasure.records:
                what += f"; {erasure.site} goes on from zero"
        elif removal.exchanged:
            what = f"{removal.removed_entries} deltas exchanged for deltas without the records"
        else:
            what = "nothing subtracted: the method suppresses"
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
            line += f": {erasure.failure}; {erasure.site} stays fenced"
            return line + _STANDS if erasure.removal.subtracted else line
        if erasure.state == Erasure.AWAITING_APPROVAL:
            share = f"{100 * erasure.share:.0f} % of the model"
            return (
                f"{line}: {share}; nothing is fenced before a second operator approves "
                f"(`letheon erase approve {erasure.name.rpartition('/')[2]}`)"
            )
        if erasure.state == Erasure.CANCELLED:
            return f"{line}: {erasure.site} may train again"
        if erasure.state == Erasure.CLAIMED and erasure.holder:
            return f"{line} by {erasure.holder}"
        return line


# Of an erasure that ended FAILED after its removal.
_STANDS = f"""
{"":12}What was removed stays removed. Its payloads are kept for the certificate that is still due:
{"":12}file a new request. It is judged against the model as it is then and lists the
{"":12}same entries."""


def _at(seconds: float | None) -> str:
    return f"{seconds:8.2f} s" if seconds is not None else f"{'':10}"


def _subject(erasure: Erasure) -> str:
    return f"these records of {erasure.site}" if erasure.records else erasure.site
