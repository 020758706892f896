"""The plan and the initial weights of a federation. Brings torch: imported only when needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from letheon.federation.parameters import Layout, TensorSpec, flatten, write_safetensors
from letheon.federation.plan import load_plan
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.tasks.task import build_task, check_network


@dataclass(frozen=True)
class Written:
    """What `write_federation` made: digest of the plan, number of parameters."""

    digest: str
    parameters: int


def write_federation(draft_path: Path, folder: Path, *, seed: int) -> Written:
    """Builds the network of a draft plan and writes plan.json and initial.safetensors.

    The weights are written first: a folder with a plan is a folder that is complete.

    Raises BadConfig or UnknownPlugin for a draft that cannot be built.
    """
    draft = load_plan(draft_path)
    task = build_task(draft.task.plugin, draft.task.arguments)
    shape = draft.image.shape
    task.output_shape(shape, draft.classes)
    module = initialise(
        draft.model.plugin,
        draft.model.arguments,
        spec_of(shape),
        draft.classes,
        seed,
    )
    check_network(module, task, shape, draft.classes)
    tensors = read_weights(module)
    layout = Layout(tuple(TensorSpec(name, tuple(a.shape)) for name, a in tensors.items()))
    plan = draft.with_layout(layout)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "initial.safetensors", flatten(tensors, layout), layout)
    (folder / "plan.json").write_bytes(plan.canonical_json())
    return Written(digest=plan.digest, parameters=layout.size)
