"""Shared by the tests of retention: passes of it, and what must stay the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from builders import a_config, a_vector, take_delta

from coordinator.core import Core
from coordinator.domain.model import Compaction
from coordinator.retention_wiring import Retention
from coordinator.services.replay_start import contribution_at
from coordinator.services.verify_ledger import Verdict
from letheon.federation.parameters import Vector

FEDBUFF: dict[str, Any] = {"strategy": {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}}
SITES = ("north", "south", "west")
KEEP = 4


def retention(core: Core, keep_entries: int = KEEP) -> Retention:
    config = a_config(Path("unused"), retention={"keep_entries": keep_entries})
    return Retention(core, config)


def retain(core: Core, keep_entries: int = KEEP) -> None:
    """One pass, as the background thread makes it; what goes wrong is raised."""
    made = retention(core, keep_entries)
    made.place_anchor()
    made.compact()


def train(core: Core, count: int, seed: int = 0, sites: tuple[str, ...] = SITES) -> None:
    for number in range(count):
        take_delta(core, sites[number % len(sites)], a_vector(seed + number))


def train_and_retain(core: Core, count: int, seed: int = 0, keep_entries: int = KEEP) -> None:
    for number in range(count):
        train(core, 1, seed + number, (SITES[number % 3],))
        retain(core, keep_entries)


def verdict(core: Core) -> Verdict:
    last = list(core.verify_ledger())[-1]
    assert isinstance(last, Verdict)
    return last


def derived(core: Core) -> dict[str, Vector | None]:
    """Head and contributions."""
    entry = core.live.position.entry
    sums = {s: contribution_at(core.store, core.blobs, s, through=entry) for s in SITES}
    return {"head": core.live.snapshot()[1], **sums}


def assert_same(found: dict[str, Vector | None], due: dict[str, Vector | None]) -> None:
    for name, vector in due.items():
        other = found[name]
        if vector is None or other is None:
            assert vector is other
        else:
            assert np.array_equal(vector.view(np.uint32), other.view(np.uint32)), name


def compactions(core: Core) -> list[Compaction]:
    with core.store.read() as uow:
        return uow.compactions.all()
