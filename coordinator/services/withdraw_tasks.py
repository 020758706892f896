"""Takes back questions that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from coordinator.domain.task import Task
from coordinator.ports import UnitOfWork


def withdraw_tasks(uow: UnitOfWork, erasure: str, now: datetime) -> None:
    """Withdraws the unanswered tasks of an erasure, inside the caller's transaction."""
    withdraw(uow, uow.tasks.of_erasure(erasure), now)


def withdraw(uow: UnitOfWork, tasks: Iterable[Task], now: datetime) -> None:
    """Withdraws those that are unanswered."""
    for task in tasks:
        if task.is_waiting:
            uow.tasks.save(replace(task, withdrawn_at=now))
