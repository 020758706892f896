"""The laboratory where the plan's task is another than the classification of 2-D images."""

from __future__ import annotations

import numpy as np
import pytest
from task_builders import some_records

from calibrator.adapters.torch_laboratory import TorchLaboratory
from calibrator.domain.contributions import RetainedPart
from calibrator.ports import Rejected, Trial
from calibrator.services.images import Images, check_images
from letheon.errors import BadData, MethodRefused
from letheon.federation.parameters import Layout, TensorSpec, Vector, flatten
from letheon.federation.plan import Plan, PlanDraft
from letheon.imaging.models.model import TableSpec
from letheon.imaging.models.weights import initialise, read_weights


@pytest.fixture(scope="module")
def rows() -> tuple[TorchLaboratory, Vector, Plan]:
    """A plan of a table, and a network that tells its classes apart."""
    module = initialise("mlp", {"hidden": []}, TableSpec(5), 2, seed=0)
    weights = read_weights(module)
    weights["0.weight"][:] = np.array([[-1.0], [1.0]])
    layout = Layout(tuple(TensorSpec(name, array.shape) for name, array in weights.items()))
    draft = PlanDraft.model_validate(
        {
            "name": "rows",
            "classes": 2,
            "task": "tabular",
            "model": {"plugin": "mlp", "arguments": {"hidden": []}},
            "image": {"features": 5},
        }
    )
    plan = draft.with_layout(layout)
    return TorchLaboratory(plan, IMAGES, threads=1), flatten(weights, layout), plan


CALIBRATION = some_records("tabular", 30, seed=1)
IMAGES = Images(CALIBRATION, some_records("tabular", 40, seed=2))


def test_a_patch_is_tried_by_the_tasks_own_score(
    rows: tuple[TorchLaboratory, Vector, Plan],
) -> None:
    laboratory, head, _ = rows
    taken = laboratory.try_patch(head, np.zeros_like(head), (1.0,), 0.02)
    assert isinstance(taken, Trial)
    assert taken.accuracy_before > 0.9
    assert isinstance(laboratory.try_patch(head, -2 * head, (1.0,), 0.02), Rejected)


def test_what_is_made_for_images_is_refused_and_a_recombination_left_out(
    rows: tuple[TorchLaboratory, Vector, Plan],
) -> None:
    laboratory, head, _ = rows
    with pytest.raises(MethodRefused, match="take the method removal"):
        laboratory.calibrate(head, {}, seed=1, cap_norm=1.0, allowed_drop=0.5)
    with pytest.raises(MethodRefused, match="take the method removal"):
        laboratory.compute_patch(head, "distil", {}, seed=1, allowed_drop=None)
    parts = [RetainedPart("north", 1, 2, head)]
    left_out = laboratory.recombine(head, parts, {}, seed=1, allowed_drop=0.5)
    assert isinstance(left_out, Rejected)
    assert left_out.unequipped


def test_images_of_another_task_are_refused(rows: tuple[TorchLaboratory, Vector, Plan]) -> None:
    plan = rows[2]
    with pytest.raises(BadData, match="the plan wants 5"):
        check_images(Images(some_records("classification"), None), plan)
