"""What an attack is, what can become of it, and the list that every family adds itself to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from letheon.errors import LetheonError

if TYPE_CHECKING:
    from .world import World

_LONGEST_TEXT = 150


class Verdict(StrEnum):
    """What became of an attack."""

    STOPPED = "stopped"  # it had no effect
    DETECTED = "detected"  # it had one, and whoever looks is told
    SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class Outcome:
    """The verdict and what was seen."""

    verdict: Verdict
    happened: str


@dataclass(frozen=True)
class Attack:
    """One row of the table."""

    family: str
    name: str
    expected: str
    run: Callable[[World], Outcome]
    quick: bool  # also in the selection that CI runs


@dataclass(frozen=True)
class Done:
    """An attack that was carried out."""

    attack: Attack
    outcome: Outcome
    seconds: float

    @property
    def failed(self) -> bool:
        """Neither stopped nor detected."""
        return self.outcome.verdict is Verdict.SUCCEEDED


ATTACKS: list[Attack] = []


def attack(
    family: str, name: str, *, expected: str, quick: bool = False
) -> Callable[[Callable[[World], Outcome]], Callable[[World], Outcome]]:
    """Puts a function into the list, in the order of the files."""

    def add(run: Callable[[World], Outcome]) -> Callable[[World], Outcome]:
        ATTACKS.append(Attack(family, name, expected, run, quick))
        return run

    return add


def stopped(happened: str) -> Outcome:
    """It had no effect."""
    return Outcome(Verdict.STOPPED, _short(happened))


def detected(happened: str) -> Outcome:
    """It had an effect, which is told."""
    return Outcome(Verdict.DETECTED, _short(happened))


def succeeded(happened: str) -> Outcome:
    """It had an effect, and nobody is told."""
    return Outcome(Verdict.SUCCEEDED, _short(happened))


def refused(call: Callable[[], object], *by: type[LetheonError], what: str = "") -> Outcome:
    """Stopped if the call raises one of these errors; any other end is a success of the attack.

    `what` begins the sentence.
    """
    begin = f"{what}: " if what else ""
    try:
        call()
    except by as error:
        return stopped(f"{begin}{error.reason}: {error.message}")
    except LetheonError as error:
        due = " or ".join(one.reason for one in by)
        return succeeded(f"{begin}{due} was due, {error.reason} came: {error.message}")
    return succeeded(f"{begin}it was let through")


def every(outcomes: dict[str, Outcome], said: str) -> Outcome:
    """One outcome for many: the worst, with the names of those that went wrong."""
    bad = [f"{name}: {found.happened}" for name, found in outcomes.items()
           if found.verdict is Verdict.SUCCEEDED]  # fmt: skip
    if bad:
        return succeeded(f"{len(bad)} of {len(outcomes)}: {'; '.join(bad)}")
    if any(found.verdict is Verdict.DETECTED for found in outcomes.values()):
        return detected(said)
    return stopped(said)


def carry_out(one: Attack, world: World) -> Done:
    """Runs it. What the attacks themselves do not expect counts as a success: nobody was ready."""
    began = time.monotonic()
    try:
        outcome = one.run(world)
    except Exception as error:  # noqa: BLE001 (an attack that breaks down has shown nothing)
        ended = world.exit_of("coordinator")
        state = "" if ended is None else f" (the coordinator has ended with {ended})"
        outcome = succeeded(f"the attack broke down{state}: {type(error).__name__}: {error}")
    return Done(one, outcome, time.monotonic() - began)


@contextlib.contextmanager
def put_back(undo: Callable[[], object]) -> Iterator[None]:
    """Whatever was tampered with is right again afterwards: attacks do not depend on each other."""
    try:
        yield
    finally:
        undo()


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
