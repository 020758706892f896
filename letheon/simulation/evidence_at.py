"""What the laboratory can say of one version beside a retrained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from letheon.federation.parameters import Vector
from letheon.imaging.records import Records
from letheon.imaging.scores import predict, record_losses
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.measure import Lens
from letheon.simulation.sites import Network
from letheon.simulation.virtual_time import derived_seed
from letheon.unlearning.evidence.agreement import agreement
from letheon.unlearning.evidence.membership import calibrated_scores, membership
from letheon.unlearning.evidence.relearning import relearn

RESAMPLES = 200
RELEARN_STEPS = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Seen:
    """Losses of one version on members and others, and what it predicts."""

    members: Floats
    others: Floats
    member_accuracy: float
    test: Floats  # log-probabilities [n, classes]
    forget: Floats


class Laboratory:
    """Compares versions with two independent retrainings of the same budget."""

    def __init__(self, network: Network, hospitals: Hospitals, lens: Lens, seed: int) -> None:
        self._network = network
        self._hospitals = hospitals
        self._lens = lens
        self._seed = derived_seed(seed, "laboratory")
        held = hospitals.sites[hospitals.target]
        self._train, self._control = held.train, held.control

    def evidence(self, weights: Vector, first: Vector, second: Vector) -> dict[str, Any]:
        """`first` and `second` are the retrained models [d]; the second calibrates losses."""
        own, retrained, reference = map(self._see, (weights, first, second))
        plain = self._membership(-own.members, -own.others)
        calibrated = self._membership(
            calibrated_scores(own.members, reference.members),
            calibrated_scores(own.others, reference.others),
        )
        on_test = agreement(own.test, retrained.test)
        on_forget = agreement(own.forget, retrained.forget)
        told: dict[str, Any] = {
            "forget_accuracy": own.member_accuracy,
            "forget_loss": float(own.members.mean()),
            "control_loss": float(own.others.mean()),
            "loss_auc": [plain.auc, plain.auc_low, plain.auc_high],
            "reference_auc": [calibrated.auc, calibrated.auc_low, calibrated.auc_high],
            "tpr_at_1pct": calibrated.tpr_at_1pct,
            "agreement_test": on_test.agree,
            "kl_test": on_test.kl,
            "agreement_forget": on_forget.agree,
            "kl_forget": on_forget.kl,
        }
        if self._hospitals.backdoored:
            told["relearn"] = list(self._relearned(weights))
            told["canaries"] = self._canaries(weights)
        return {key: _rounded(value) for key, value in told.items()}

    def _see(self, weights: Vector) -> _Seen:
        module = self._network.load(weights)
        members, right = record_losses(module, self._train)
        others, _ = record_losses(module, self._control)
        test = predict(module, self._lens.test[0]).log_probabilities
        forget = predict(module, self._train.images).log_probabilities
        return _Seen(members, others, float(right.mean()), test, forget)

    def _membership(self, members: Floats, others: Floats) -> Any:  # noqa: ANN401
        return membership(
            members,
            others,
            self._train.groups(),
            self._control.groups(),
            resamples=RESAMPLES,
            seed=self._seed,
        )

    def _relearned(self, weights: Vector) -> tuple[float, ...]:
        def probe(module: nn.Module) -> float:
            return self._lens.disclosed_success(module)

        return relearn(
            self._network.load(weights),
            self._train,
            probe,
            steps=RELEARN_STEPS,
            seed=self._seed,
        )

    def _canaries(self, weights: Vector) -> float | None:
        """Share of the canaries that the model still gives their planted, wrong label."""
        canaries: Records = self._hospitals.planted.canaries
        if len(canaries) == 0:
            return None
        return float(record_losses(self._network.load(weights), canaries)[1].mean())


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, float):
        return round(value, 5)
    return [_rounded(item) for item in value] if isinstance(value, list) else value
