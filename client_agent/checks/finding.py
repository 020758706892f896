"""What a check of the doctor says: a status, a sentence, and what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it needs was found broken before


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    status: Status
    sentence: str
    advice: str = ""  # empty where nothing is to be done


class Obstacle(Exception):
    """A check failed: the sentence, and what to do."""

    def __init__(self, sentence: str, advice: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.advice = advice


def ok(check: str, sentence: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check, Status.OK, sentence)


def warning(check: str, sentence: str, advice: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(check, Status.WARNING, sentence, advice)


def failed(check: str, obstacle: Obstacle) -> Finding:
    """It does not work."""
    return Finding(check, Status.FAILED, obstacle.sentence, obstacle.advice)


def skipped(check: str, because: str) -> Finding:
    """It could not be looked at."""
    return Finding(check, Status.SKIPPED, f"not checked: {because}")


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises; TimeoutError if that takes longer.

    For calls that take no timeout themselves, such as the resolver's; the thread is left behind.
    """
    answers: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # only where there was no error
