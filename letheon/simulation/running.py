"""Runs a federation with its erasures: one event at a time, whichever comes first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from letheon.errors import InternalFault
from letheon.simulation.erasure import At, Conductor, LaterRemoval, Wait
from letheon.simulation.federation import Federation

Watch = Callable[[Federation], None]


def train(federation: Federation, until: Callable[[Federation], bool], watch: Watch) -> None:
    """Trains until `until` holds; `watch` is called after every event.

    Raises InternalFault if nobody works any more.
    """
    while not until(federation):
        if federation.next_event() is None:
            raise InternalFault("no site works any more: the simulation cannot go on")
        federation.step()
        watch(federation)


def wait_until(federation: Federation, seconds: float) -> None:
    """Trains until that virtual second, to the second."""
    while (event := federation.next_event()) is not None and event <= seconds:
        federation.step()
    federation.now = seconds


def train_and_erase(
    federation: Federation,
    conductors: Sequence[Conductor],
    until: Callable[[Federation], bool],
    watch: Watch,
) -> None:
    """As `train`, with erasures going on beside it; `watch` is called after their steps, too."""
    waits: list[tuple[Conductor, Wait]] = []
    for conductor in conductors:
        _resume(conductor, waits)
    while not until(federation):
        wakes = min((w.seconds for _, w in waits if isinstance(w, At)), default=math.inf)
        event = federation.next_event()
        if event is None and wakes == math.inf:
            raise InternalFault("no site works any more: the simulation cannot go on")
        if wakes <= (math.inf if event is None else event):
            federation.now = wakes
        else:
            federation.step()
            watch(federation)
        if _wake(federation, waits):
            watch(federation)


def _wake(federation: Federation, waits: list[tuple[Conductor, Wait]]) -> bool:
    """Resumes every conductor whose wait is over, in their order; whether there was one."""
    due = [pair for pair in waits if _over(pair[1], federation)]
    for pair in due:
        waits.remove(pair)
        _resume(pair[0], waits)
    return bool(due)


def _over(wait: Wait, federation: Federation) -> bool:
    if isinstance(wait, At):
        return wait.seconds <= federation.now
    if isinstance(wait, LaterRemoval):
        return federation.central.epoch > wait.epoch
    return federation.central.version >= wait.version


def _resume(conductor: Conductor, waits: list[tuple[Conductor, Wait]]) -> None:
    try:
        waits.append((conductor, next(conductor)))
    except StopIteration:
        return
