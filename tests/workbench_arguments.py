"""Arguments of the training process as the daemon gives them; keywords replace some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from letheon.federation.plan import Plan

SECRET = b"k" * 32


def opening(folder: Path, plugin: str, arguments: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Of `open`; makes the site key."""
    key = folder / "site.key"
    key.write_bytes(SECRET)
    return {
        "plugin": plugin,
        "plugin_arguments": arguments,
        "state_dir": str(folder),
        "residuals": str(folder / "residuals"),
        "control_share": 0.2,
        "validation_share": 0.2,
        "split_seed": 0,
        "site_key": str(key),
        "excluded": [],
        **more,
    }


def adoption(plan: Plan | str, **more: Any) -> dict[str, Any]:
    """Of `adopt`."""
    text = plan if isinstance(plan, str) else plan.canonical_json().decode()
    return {
        "plan": text,
        "threads": 1,
        "encoding": None,
        "device": "cpu",
        "mixed_precision": False,
        **more,
    }


def training(base: Path, target: Path, **more: Any) -> dict[str, Any]:
    """Of `train`."""
    told = {"seed": 7, "learning_rate": 0.05, "epoch": 0, "exclusion_counter": 0}
    return {"base": str(base), "target": str(target), **told, **more}
