"""The laboratory with a network in it. Imported only when a patch or a calibration is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from threading import Lock
from typing import Any

import numpy as np
import torch

from calibrator.adapters.unequipped_laboratory import NO_AUDIT, NO_CALIBRATION
from calibrator.domain.contributions import Recombination, RetainedPart
from calibrator.ports import Rejected, Trial
from calibrator.services.images import Images
from letheon.errors import MethodRefused
from letheon.federation import arithmetic
from letheon.federation.parameters import Vector, flatten, unflatten
from letheon.federation.plan import Plan
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import build_task
from letheon.unlearning.calibration import FAMILY_TRANSFORM, calibrate, read_parameters
from letheon.unlearning.recombination import Factors, add_share, fit
from letheon.unlearning.server_rules import find_rule

NO_PROBE = (
    "a calibration with transform probe needs the attacker's own trigger, which no calibrator "
    "has: take transform family"
)
NO_CLASSES = (
    "this step is made for 2-D images of one class each, and the plan's task is another: "
    "take the method removal"
)
_IMAGE_SIDES = 3  # channels, height, width


class TorchLaboratory:
    """Implements `calibrator.ports.Laboratory`. One caller works at a time."""

    def __init__(self, plan: Plan, images: Images, threads: int) -> None:
        """`threads`: of torch, for the whole process."""
        torch.set_num_threads(threads)
        spec = spec_of(plan.image.shape)
        self._task = build_task(plan.task.plugin, plan.task.arguments)
        # The rules transform 2-D images and compare classes of them.
        self._takes_rules = self._task.one_class and len(plan.image.shape) == _IMAGE_SIDES
        self._layout = plan.parameters
        model = plan.model
        self._initial = partial(initialise, model.plugin, model.arguments, spec, plan.classes)
        self._module = self._initial(0)
        self._images = images
        self._lock = Lock()

    def try_patch(
        self, head: Vector, patch: Vector, scales: Sequence[float], allowed_drop: float
    ) -> Trial | Rejected:
        """The largest scale whose accuracy on the audit images drops by at most `allowed_drop`."""
        audit = self._images.audit
        if audit is None:
            return Rejected(NO_AUDIT, unequipped=True)
        with self._lock:
            before = self._accuracy(head, audit)
            tried = []
            for scale in sorted(scales, reverse=True):
                scaled = patch * np.float32(scale)
                after = self._accuracy(head + scaled, audit)
                tried.append(f"{after:.3f} at {scale:g}")
                if before - after <= allowed_drop:
                    return Trial(scaled, scale, before, after, {})
        return Rejected(
            f"the patch costs too much accuracy on the audit images: {before:.3f} before, "
            f"{', '.join(tried)}; allowed drop {allowed_drop:.3f}"
        )

    def calibrate(
        self,
        head: Vector,
        parameters: Mapping[str, Any],
        *,
        seed: int,
        cap_norm: float,
        allowed_drop: float,
    ) -> Trial | Rejected:
        """One round from `head`; its change is capped to `cap_norm` and checked."""
        calibration, audit = self._images.calibration, self._images.audit
        if calibration is None or audit is None:
            return Rejected(NO_CALIBRATION, unequipped=True)
        settings, transform = read_parameters(parameters)
        if transform != FAMILY_TRANSFORM:
            raise MethodRefused(NO_PROBE)
        self._check_rules()
        with self._lock:
            self._load(head)
            outcome = calibrate(self._module, np.asarray(calibration.images), settings, seed)
            change = flatten(read_weights(self._module), self._layout) - head
            length = arithmetic.norm(change)
            scale = min(1.0, cap_norm / length) if length > 0 else 1.0
            change *= arithmetic.as_coefficient(scale)
            before = self._accuracy(head, audit)
            after = self._accuracy(head + change, audit)
        if before - after > allowed_drop:
            return Rejected(_too_costly("the round", before, after, allowed_drop))
        numbers = {
            "invariance_before": outcome.invariance_before,
            "invariance_after": outcome.invariance_after,
            "anchor_after": outcome.anchor_after,
        }
        return Trial(change, scale, before, after, numbers)

    def compute_patch(
        self,
        head: Vector,
        rule: str,
        parameters: Mapping[str, Any],
        *,
        seed: int,
        allowed_drop: float | None,
    ) -> Trial | Rejected:
        """What the rule changes `head` by, whole, with its accuracy before and after."""
        calibration, audit = self._images.calibration, self._images.audit
        if calibration is None or audit is None:
            return Rejected(NO_CALIBRATION, unequipped=True)
        work = find_rule(rule)
        self._check_rules()
        with self._lock:
            self._load(head)
            numbers = work(self._module, calibration, parameters, seed, self._initial)
            change = flatten(read_weights(self._module), self._layout) - head
            before = self._accuracy(head, audit)
            after = self._accuracy(head + change, audit)
        if allowed_drop is not None and before - after > allowed_drop:
            return Rejected(_too_costly(f"the patch of rule {rule}", before, after, allowed_drop))
        return Trial(change, 1.0, before, after, numbers)

    def recombine(
        self,
        head: Vector,
        parts: Sequence[RetainedPart],
        parameters: Mapping[str, Any],
        *,
        seed: int,
        allowed_drop: float,
    ) -> Recombination | Rejected:
        """Each site's share of the change, with the accuracy before and after all of them."""
        calibration, audit = self._images.calibration, self._images.audit
        if calibration is None or audit is None:
            return Rejected(NO_CALIBRATION, unequipped=True)
        if not self._takes_rules:
            return Rejected(NO_CLASSES, unequipped=True)
        with self._lock:
            self._load(head)
            fitted = fit(self._module, [p.values for p in parts], calibration, parameters, seed)
            patches = self._shares(parts, fitted.factors)
            before = self._accuracy(head, audit)
            after = self._accuracy(reduce(np.add, patches.values(), head), audit)
        if before - after > allowed_drop:
            return Rejected(_too_costly("the recombination", before, after, allowed_drop))
        return Recombination(patches, before, after, fitted.numbers)

    def _shares(self, parts: Sequence[RetainedPart], factors: Factors) -> dict[str, Vector]:
        sizes = [tensor.size for tensor in self._layout.tensors]
        shares: dict[str, Vector] = {}
        for part, row in zip(parts, factors, strict=True):
            share = shares.setdefault(part.site, np.zeros_like(part.values))
            add_share(share, part.values, row, sizes)
        return shares

    def _check_rules(self) -> None:
        if not self._takes_rules:
            raise MethodRefused(NO_CLASSES)

    def _load(self, weights: Vector) -> None:
        write_weights(self._module, unflatten(weights, self._layout))

    def _accuracy(self, weights: Vector, records: Records) -> float:
        self._load(weights)
        return self._task.utility(self._module, records).accuracy


def _too_costly(what: str, before: float, after: float, allowed_drop: float) -> str:
    return (
        f"{what} costs too much accuracy on the audit images: {before:.3f} before, "
        f"{after:.3f} after; allowed drop {allowed_drop:.3f}"
    )
