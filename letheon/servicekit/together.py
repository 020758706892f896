"""What waits at once is done at once, by one of the threads that wait, for all of them.

A commit, or the sync of a folder, costs the same for one caller as for many. Whoever comes while
one is under way waits for its end; the next one is then for everybody who came meanwhile. Nobody
waits for company: a caller who is alone begins at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

MOST: Final = 64  # jobs at once; whoever is beyond is served next


class _Ticket(Generic[Job, Done]):
    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcome: tuple[Done] | BaseException | None = None


class Together(Generic[Job, Done]):
    """Calls `do` with the jobs that wait, in the order in which they came; never twice at once.

    `do` answers for each job, in order; what is an exception is raised to its caller. What `do`
    raises is raised to all of them.
    """

    def __init__(
        self, do: Callable[[Sequence[Job]], Sequence[Done | Exception]], *, most: int = MOST
    ) -> None:
        self._do, self._most = do, most
        self._changed = threading.Condition()
        self._waiting: list[_Ticket[Job, Done]] = []
        self._is_busy = False

    @property
    def waiting(self) -> int:
        """Jobs that nobody does yet."""
        with self._changed:
            return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether somebody does a batch."""
        with self._changed:
            return self._is_busy

    def __call__(self, job: Job) -> Done:
        """The answer for this job. Raises what is answered for it, or what `do` raises."""
        ticket = _Ticket[Job, Done](job)
        with self._changed:
            self._waiting.append(ticket)
        while (batch := self._turn(ticket)) is not None:
            try:
                self._serve(batch)
            finally:
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        assert ticket.outcome is not None  # noqa: S101 (`_turn` waited for it)
        return ticket.outcome[0]

    def _turn(self, ticket: _Ticket[Job, Done]) -> list[_Ticket[Job, Done]] | None:
        """Whom to serve now; None once the ticket was served."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.outcome is not None or not self._is_busy)
            if ticket.outcome is not None:
                return None
            self._is_busy = True
            batch = self._waiting[: self._most]
            del self._waiting[: self._most]
            return batch

    def _serve(self, batch: list[_Ticket[Job, Done]]) -> None:
        outcomes: Sequence[Done | BaseException]
        try:
            outcomes = self._do([ticket.job for ticket in batch])
        except BaseException as error:  # noqa: BLE001 (it is raised again, to each)
            outcomes = [error] * len(batch)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            ticket.outcome = outcome if isinstance(outcome, BaseException) else (outcome,)
