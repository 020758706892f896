"""A simulated federation as a file: arrays in an `.npz`, the rest as JSON inside it.

All methods of a unit branch from one such file, so that a study taken up again compares like with
like. Nothing pickled is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from letheon.errors import BadData, LedgerBroken
from letheon.federation.ledger import canonical_bytes, parse, waiting
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReplayState
from letheon.simulation.central import Central, Rules
from letheon.simulation.federation import Counts, Federation, Setting, Task

_FORMAT = "letheon-simulation/2"
_UNREADABLE = (OSError, EOFError, LookupError, TypeError, ValueError, BadZipFile, LedgerBroken)
_TASK_FIELDS = (
    "site",
    "number",
    "base_version",
    "epoch",
    "learning_rate",
    "seed",
    "begins",
    "ends",
    "lost",
)


def save_state(path: Path, federation: Federation) -> None:
    """Writes the state; the file appears whole or not at all."""
    central = federation.central
    meta = {
        "format": _FORMAT,
        "entries": [canonical_bytes(entry).decode() for entry in central.entries],
        "payloads": list(central.payloads),
        "record_counts": {str(k): v for k, v in central.record_counts.items()},
        "contributions": list(central.state.contributions),
        "fenced": sorted(central.fenced),
        "epoch_began": central.epoch_began,
        "first_base": central.first_base,
        "accepted": central.accepted,
        "accepted_before_epoch": central.accepted_before_epoch,
        "received_bytes": central.received_bytes,
        "residuals": list(central.residuals),
        "now": federation.now,
        "counts": asdict(federation.counts),
        "synchronous": federation.synchronous,
        "halted": federation.halted,
        "numbers": federation.numbers,
        "sequence": federation.sequence,
        "last_local": list(federation.last_local),
        "last_deltas": [site for site, _ in federation.last_deltas],
        "agenda": [
            [ends, sequence, {name: getattr(task, name) for name in _TASK_FIELDS}]
            for ends, sequence, task in federation.agenda
        ],
    }
    arrays = {
        "head": central.head,
        "payloads": _stack(central.payloads, central),
        "contributions": _stack(central.state.contributions, central),
        "residuals": _stack(central.residuals, central),
        "last_local": _stack(federation.last_local, central),
        "last_deltas": _stack(dict(enumerate(d for _, d in federation.last_deltas)), central),
        "bases": _stack(dict(enumerate(t.base for _, _, t in federation.agenda)), central),
    }
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)
    partial.replace(path)


def load_state(path: Path, setting: Setting, rules: Rules) -> Federation:
    """The federation of a file. Raises BadData for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as table:
            arrays = {name: table[name] for name in table.files}
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != _FORMAT:
            raise BadData(f"{path} is of format {meta['format']}, not {_FORMAT}", path=path)
        return _restored(meta, arrays, setting, rules)
    except _UNREADABLE as error:
        raise BadData(f"{path} is no saved simulation: {error!r}", path=path) from error


def _restored(
    meta: Mapping[str, Any], arrays: Mapping[str, Any], setting: Setting, rules: Rules
) -> Federation:
    entries = [parse(text.encode()) for text in meta["entries"]]
    newest = entries[-1]
    payloads = dict(zip(meta["payloads"], arrays["payloads"], strict=True))
    for payload in payloads.values():
        payload.flags.writeable = False
    state = ReplayState(
        entry=newest.entry,
        version=newest.version,
        epoch=newest.epoch,
        head=arrays["head"],
        contributions=dict(zip(meta["contributions"], arrays["contributions"], strict=True)),
        buffered=waiting(entries),
    )
    central = Central(
        rules=rules,
        state=state,
        entries=entries,
        payloads=payloads,
        record_counts={int(k): v for k, v in meta["record_counts"].items()},
        fenced=set(meta["fenced"]),
        epoch_began=meta["epoch_began"],
        first_base=meta["first_base"],
        accepted=meta["accepted"],
        accepted_before_epoch=meta["accepted_before_epoch"],
        received_bytes=meta["received_bytes"],
        residuals=dict(zip(meta["residuals"], arrays["residuals"], strict=True)),
    )
    agenda = [
        (ends, sequence, Task(base=base, **task))
        for (ends, sequence, task), base in zip(meta["agenda"], arrays["bases"], strict=True)
    ]
    return Federation(
        setting=setting,
        central=central,
        now=meta["now"],
        counts=Counts(**meta["counts"]),
        synchronous=meta["synchronous"],
        halted=meta["halted"],
        numbers=meta["numbers"],
        agenda=agenda,
        sequence=meta["sequence"],
        last_local=dict(zip(meta["last_local"], arrays["last_local"], strict=True)),
        last_deltas=list(zip(meta["last_deltas"], arrays["last_deltas"], strict=True)),
    )


def _stack(vectors: Mapping[Any, Vector], central: Central) -> Vector:
    """[n, d], also for n = 0."""
    empty = np.empty((0, central.rules.layout.size), dtype=np.float32)
    return np.stack(list(vectors.values())) if vectors else empty
