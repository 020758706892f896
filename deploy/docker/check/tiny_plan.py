"""Writes the smallest plan and its initial weights, without torch: for a start of the image."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from letheon.federation.parameters import Layout, TensorSpec, write_safetensors
from letheon.federation.plan import PlanDraft

LAYOUT = Layout((TensorSpec("weight", (4, 3)), TensorSpec("bias", (4,))))


def main(folder: Path) -> None:
    """plan.json and initial.safetensors."""
    draft = {
        "name": "image-check",
        "model": {"plugin": "mlp"},
        "image": {"features": 3},
        "classes": 4,
        "task": "tabular",
    }
    plan = PlanDraft.model_validate(draft).with_layout(LAYOUT)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_bytes(plan.canonical_json())
    write_safetensors(folder / "initial.safetensors", np.zeros(LAYOUT.size, np.float32), LAYOUT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
