"""A study's folder: what it was made with, so that two studies never mix in one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letheon.errors import BadConfig
from letheon.simulation.config import MethodConfig, StudyConfig
from letheon.simulation.units import Unit, branches_of, done_of

_LISTS = {"seeds", "images", "methods", "kinds", "name"}  # may grow from run to run


def claim_folder(study: StudyConfig, out: Path) -> None:
    """Notes what the folder's results are made with.

    Seeds, images, kinds and methods may be added from run to run. Raises BadConfig, naming what
    differs, if the folder holds results of other settings, or of other images or another method
    under the same name.
    """
    made_with = out / "state" / "study.json"
    now = _told(study)
    try:
        before: dict[str, Any] = json.loads(made_with.read_text())
    except FileNotFoundError:
        before = {"settings": now["settings"], "images": {}, "methods": {}}
    except ValueError as error:
        raise BadConfig(f"{made_with} is damaged: give another --out") from error
    _compare(before, now, out)
    merged = {
        "settings": now["settings"],
        "images": {**before["images"], **now["images"]},
        "methods": {**before["methods"], **now["methods"]},
    }
    made_with.parent.mkdir(parents=True, exist_ok=True)
    partial = made_with.with_name(f"study.{os.getpid()}.partial")
    partial.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n")
    partial.replace(made_with)


def keep_finished(study: StudyConfig, units: Sequence[Unit], out: Path, folder: Path) -> list[Path]:
    """Copies the results of finished units, and nothing of what is needed to go on; the copies."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for unit in units:
        if done_of(study, unit, out) == branches_of(study, unit):
            kept.append(Path(shutil.copy(out / f"{unit.name}.json", folder)))
    return kept


def _told(study: StudyConfig) -> dict[str, Any]:
    told = study.model_dump(mode="json")
    return {
        "settings": _settings({key: value for key, value in told.items() if key not in _LISTS}),
        "images": {each["name"]: each for each in told["images"]},
        "methods": {each.label: _method(each) for each in study.methods},
    }


def _settings(told: dict[str, Any]) -> dict[str, Any]:
    """Methods of a study of patients are names that decide nothing: they may be added, too."""
    patients = told.get("patients")
    if patients is None:
        return told
    return {**told, "patients": {k: v for k, v in patients.items() if k != "methods"}}


def _method(method: MethodConfig) -> dict[str, Any]:
    """What decides the numbers of its branch: not for which kinds it runs, nor what it varies.

    A key at its default is left out: folders made before there was that key are still the same.
    """
    told = method.model_dump(mode="json", exclude={"kinds", "variant_of"}, exclude_defaults=True)
    return {**told, "label": method.label}


def _compare(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    old, new = _settings(before["settings"]), now["settings"]
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    for what in ("images", "methods"):
        known = before[what]
        for name, told in now[what].items():
            if name in known and _decisive(what, known[name]) != told:
                changed.append(f"{what} {name!r}")
    if changed:
        raise BadConfig(
            f"{out} holds results made with other settings ({', '.join(changed)}): "
            "give another --out, or another name to what has changed"
        )


def _decisive(what: str, known: dict[str, Any]) -> dict[str, Any]:
    """What a folder says of a method, also one written with every key and its default."""
    if what != "methods":
        return known
    return _method(MethodConfig.model_validate({k: v for k, v in known.items() if v is not None}))
