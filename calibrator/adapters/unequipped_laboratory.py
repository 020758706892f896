"""The laboratory of a calibrator without images: it refuses, with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calibrator.domain.contributions import Recombination, RetainedPart
from calibrator.ports import Rejected, Trial
from letheon.federation.parameters import Vector

NO_AUDIT = (
    "the calibrator has no audit images to check a patch with: "
    "configure a source under [audit], or ask for method removal"
)
NO_CALIBRATION = (
    "the calibrator has no calibration images: configure sources under [calibration] and [audit]"
)


class UnequippedLaboratory:
    """Implements `calibrator.ports.Laboratory` without torch."""

    def try_patch(
        self,
        head: Vector,  # noqa: ARG002
        patch: Vector,  # noqa: ARG002
        scales: Sequence[float],  # noqa: ARG002
        allowed_drop: float,  # noqa: ARG002
    ) -> Trial | Rejected:
        """Always rejected."""
        return Rejected(NO_AUDIT, unequipped=True)

    def calibrate(
        self,
        head: Vector,  # noqa: ARG002
        parameters: Mapping[str, Any],  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        cap_norm: float,  # noqa: ARG002
        allowed_drop: float,  # noqa: ARG002
    ) -> Trial | Rejected:
        """Always rejected."""
        return Rejected(NO_CALIBRATION, unequipped=True)

    def compute_patch(
        self,
        head: Vector,  # noqa: ARG002
        rule: str,  # noqa: ARG002
        parameters: Mapping[str, Any],  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        allowed_drop: float | None,  # noqa: ARG002
    ) -> Trial | Rejected:
        """Always rejected."""
        return Rejected(NO_CALIBRATION, unequipped=True)

    def recombine(
        self,
        head: Vector,  # noqa: ARG002
        parts: Sequence[RetainedPart],  # noqa: ARG002
        parameters: Mapping[str, Any],  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        allowed_drop: float,  # noqa: ARG002
    ) -> Recombination | Rejected:
        """Always rejected."""
        return Rejected(NO_CALIBRATION, unequipped=True)
