"""Small synthetic unit files with known values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from letheon.simulation.report.unit_file import FORMAT, UnitFile

RETAINED = 100  # accepted deltas of retained sites at the request
Curve = Callable[[int], float]


def level(value: float) -> Curve:
    """The same share at every look."""
    return lambda _accepted: value


def falling(before: float, after: float, *, at: int) -> Curve:
    """One share until so many accepted deltas, then another."""
    return lambda accepted: before if accepted < at else after


GOOD, LITTLE, LEARNED = level(0.9), level(0.02), level(0.8)


def looks(
    *,
    accuracy: Curve = GOOD,
    disclosed: Curve | None = LITTLE,
    undisclosed: Curve | None = LITTLE,
    forget: Curve = LEARNED,
    site_accuracy: tuple[float, ...] | None = None,
    first: int = 0,
    last: int = 160,
    shift: int = 0,
    seconds_a_delta: float = 0.5,
) -> dict[str, list[Any]]:
    """Columns, a look every 5 deltas. `shift` is added to what is written, not to the curves."""
    moments = list(range(first, last + 1, 5))
    return {
        "accepted": [moment + shift for moment in moments],
        "seconds": [seconds_a_delta * (moment - first) for moment in moments],
        "accuracy": [accuracy(m) for m in moments],
        "site_accuracy": [list(site_accuracy or [accuracy(m)] * 4) for m in moments],
        "disclosed": [disclosed(m) if disclosed else None for m in moments],
        "undisclosed": [undisclosed(m) if undisclosed else None for m in moments],
        "forget_accuracy": [forget(m) for m in moments],
    }


def evidence(
    *,
    forget: float = 0.8,
    relearned: float | None = 0.1,
    reference_auc: tuple[float, float, float] = (0.5, 0.47, 0.53),
) -> dict[str, Any]:
    """Of one version."""
    told: dict[str, Any] = {
        "forget_accuracy": forget,
        "loss_auc": [0.52, 0.48, 0.56],
        "reference_auc": list(reference_auc),
        "agreement_test": 0.93,
        "kl_test": 0.05,
        "agreement_forget": 0.92,
        "kl_forget": 0.06,
    }
    return told if relearned is None else {**told, "relearn": [0.02, 0.05, relearned]}


def retraining(**told: Any) -> dict[str, Any]:
    """From its own start, 100 deltas before the others; it has learned when they begin."""
    own = told.pop("evidence", None) or evidence()
    told.setdefault("accuracy", falling(0.5, 0.9, at=0))
    return {
        "looks": looks(first=-RETAINED, shift=RETAINED, **told),
        "evidence": {"60": own, "150": own},
    }


def attempt(accepted: int, verdict: str = "pass", *, verified: bool = False) -> dict[str, Any]:
    """Of the gate."""
    return {
        "accepted": accepted,
        "seconds": accepted / 2,
        "verdict": verdict,
        "verified": verified,
        "version": accepted,
        "tests": {},
    }


def method(**told: Any) -> dict[str, Any]:
    """A method's branch."""
    own = told.pop("evidence", None) or evidence()
    gate = told.pop("gate", [attempt(60)])
    lost = told.pop("overwritten", 0)
    failed = told.pop("failed", "")
    return {
        "looks": looks(**told),
        "gate": gate,
        "moments": {"removed": 0.05, "landed": 0.05, "finished": 0.05, "end": 80.0},
        "counts": {"superseded": 3, "stalled": 0, "overwritten": lost},
        "failed": failed,
        "evidence": {"60": own, "150": own},
    }


def unit(
    seed: int = 0,
    *,
    images: str = "pneumonia",
    kind: str = "backdoored",
    runs: Mapping[str, dict[str, Any]] | None = None,
    retrain: dict[str, Any] | None = None,
    retrain_again: dict[str, Any] | None = None,
    before_auc: tuple[float, float, float] = (0.65, 0.61, 0.69),
    settings: str = "aa" * 32,
) -> dict[str, Any]:
    """A whole unit: two retrainings and what `runs` names."""
    return {
        "format": FORMAT,
        "study": "core",
        "settings": settings,
        "images": images,
        "kind": kind,
        "seed": seed,
        "before": {
            "look": {"accuracy": 0.91, "disclosed": 0.99, "undisclosed": 0.97},
            "retained": RETAINED,
            "seconds": 60.0,
            "evidence": evidence(reference_auc=before_auc),
        },
        "runs": {
            "retrain": retrain or retraining(),
            "retrain_again": retrain_again or retraining(),
            **(runs or {}),
        },
    }


def parsed(*units: dict[str, Any]) -> list[UnitFile]:
    """As the report reads them."""
    return [UnitFile.model_validate(told) for told in units]


def write_units(folder: Path, units: list[dict[str, Any]]) -> Path:
    """One file each, as a study writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for told in units:
        name = f"{told['images']}-{told['kind']}-{told['seed']}.json"
        (folder / name).write_text(json.dumps(told, sort_keys=True) + "\n")
    return folder


def small_study() -> list[dict[str, Any]]:
    """Two seeds, both kinds: a good method, a bad one and an ablation."""
    return [
        {
            **unit(
                seed,
                kind=kind,
                runs={
                    "removal": method(accuracy=falling(0.5, 0.895 + seed / 200, at=40)),
                    "removal_guard": method(accuracy=falling(0.5, 0.89, at=50)),
                    "leave": method(disclosed=level(0.9), gate=[attempt(20, "inconclusive")]),
                },
            ),
            "bases": {"removal_guard": "removal"},
        }
        for seed in (0, 1)
        for kind in ("backdoored", "honest")
    ]
