"""Mislabelled canary patients: what a model can answer only because it memorised them.

The control is patients mislabelled in the same way that no model was trained on: what a model
answers for them is what it answers by mistake. For the lab only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.gap import gap_to_control
from letheon.unlearning.evidence.resampling import units_of
from letheon.unlearning.evidence.residue import Z95, judge_residue
from letheon.unlearning.evidence.shares import difference, share_interval


@dataclass(frozen=True, eq=False)
class Mislabelled:
    """A model on mislabelled records: n answers, all measured against the wrong label."""

    answers: npt.ArrayLike  # [n] predicted classes
    wrong_labels: npt.ArrayLike  # [n] as the canaries were trained with
    losses: npt.ArrayLike  # [n] cross-entropy with the wrong label, nats
    patients: Sequence[str] | None


@dataclass(frozen=True)
class Canaries:
    """Canaries against control patients, with 95 % intervals."""

    share: float  # of canary records answered with their wrong label
    low: float  # Wilson, a patient counting as one record
    high: float
    base_share: float  # of control records answered with theirs
    base_low: float
    base_high: float
    loss_gap: float  # mean loss of control - canaries, nats; above 0: canaries are remembered
    loss_low: float  # bootstrap by patient; infinite for a single patient
    loss_high: float
    records: int
    patients: int


def canaries(planted: Mislabelled, control: Mislabelled, *, resamples: int, seed: int) -> Canaries:
    """How much of the wrong labels the model still gives.

    Raises BadData for no record, differing lengths or a loss that is not finite.
    """
    hits, base_hits = _hits("canary", planted), _hits("control", control)
    share, base = _share(hits, planted.patients), _share(base_hits, control.patients)
    gap = gap_to_control(
        planted.losses,
        hits,
        control.losses,
        base_hits,
        planted.patients,
        control.patients,
        resamples=resamples,
        seed=seed,
    )
    return Canaries(
        share=share.value,
        low=share.low,
        high=share.high,
        base_share=base.value,
        base_low=base.low,
        base_high=base.high,
        loss_gap=gap.loss.value,
        loss_low=gap.loss.lower(Z95),
        loss_high=gap.loss.upper(Z95),
        records=gap.records,
        patients=gap.patients,
    )


def judge_canaries(
    candidate: Canaries,
    before: Canaries | None,
    retrained: Canaries | None = None,
    *,
    margin: float = 0.05,
    loss_margin: float = 0.1,
) -> tuple[Finding, Finding]:
    """The share above that of control patients, and the loss; the version before is control.

    The nulls are 0 for controls that match the canaries in their classes. Where they may not, give
    the same measurement of a retrained model: its values are then the nulls.
    """
    share = judge_residue(
        "canary_share",
        _excess(candidate),
        None if before is None else _excess(before),
        null=0.0 if retrained is None else _excess(retrained).value,
        margin=margin,
        records=candidate.records,
        unit="share above that of control patients",
    )
    loss = judge_residue(
        "canary_loss",
        _loss(candidate),
        None if before is None else _loss(before),
        null=0.0 if retrained is None else retrained.loss_gap,
        margin=loss_margin,
        records=candidate.records,
        unit="nats",
    )
    return share, loss


def _excess(measured: Canaries) -> Interval:
    return difference(
        Interval(measured.share, measured.low, measured.high, 0.0),
        Interval(measured.base_share, measured.base_low, measured.base_high, 0.0),
    )


def _loss(measured: Canaries) -> Interval:
    return Interval(measured.loss_gap, measured.loss_low, measured.loss_high, 0.0)


def _hits(name: str, side: Mislabelled) -> npt.NDArray[np.bool_]:
    answers, wrong = np.asarray(side.answers), np.asarray(side.wrong_labels)
    if answers.ndim != 1 or answers.shape != wrong.shape:
        raise BadData(f"{name}: {answers.size} answers, but {wrong.size} wrong labels")
    hits: npt.NDArray[np.bool_] = answers == wrong
    return hits


def _share(hits: npt.NDArray[np.bool_], patients: Sequence[str] | None) -> Interval:
    count = units_of(patients, hits.size).count
    return share_interval(float(hits.mean()), count)
