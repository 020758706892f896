"""Membership inference: scores that tell trained-on records from others, and how well they do.

Scores, all higher for a likelier member: the negative loss (Yeom et al., arXiv 1709.01604);
the loss calibrated by one model that never saw the record (Watson et al., arXiv 2111.08440); the
offline likelihood ratio of LiRA over shadow models that never saw it (Carlini et al., arXiv
2112.03570). U-LiRA (Hayes et al., arXiv 2403.01218) is the last with every shadow model taken
through training *and* the erasure of the record: give those as the shadows of an erased model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.ranking import Ranking
from letheon.unlearning.evidence.resampling import INTERVAL, Floats, Units, units_of
from letheon.unlearning.evidence.residue import judge_residue

_SHADOWS_FOR_OWN_VARIANCE = 64  # below, LiRA's authors share one variance among records


@dataclass(frozen=True)
class Membership:
    """One attack on one model, with 95 % bootstrap intervals by patient."""

    auc: float  # 0.5: members look like others
    auc_low: float
    auc_high: float
    tpr_at_1pct: float  # share of members found at 1 % false positives
    tpr_low: float
    tpr_high: float
    members: int
    others: int


def membership(
    member_scores: npt.ArrayLike,
    other_scores: npt.ArrayLike,
    member_groups: Sequence[str] | None,
    other_groups: Sequence[str] | None,
    *,
    resamples: int,
    seed: int,
) -> Membership:
    """How well scores [n] of members and [m] of others tell them apart.

    Groups are the patients, resampled within each side; None: each record is its own. Raises
    BadData for an empty side, differing lengths or a score that is not finite.
    """
    members, others = _scores("member", member_scores), _scores("other", other_scores)
    units = units_of(member_groups, members.size), units_of(other_groups, others.size)
    ranking = Ranking.of(members, others)
    (auc_low, tpr_low), (auc_high, tpr_high) = _intervals(ranking, *units, resamples, seed)
    ones = np.ones(members.size), np.ones(others.size)
    return Membership(
        auc=ranking.auc(*ones),
        auc_low=auc_low,
        auc_high=auc_high,
        tpr_at_1pct=ranking.true_positive_rate(*ones),
        tpr_low=tpr_low,
        tpr_high=tpr_high,
        members=members.size,
        others=others.size,
    )


def judge_membership(
    candidate: Membership,
    before: Membership | None,
    *,
    retrained: float = 0.5,
    margin: float = 0.05,
    name: str = "membership_auc",
) -> Finding:
    """The AUC against that of the same attack on a retrained model, plus a margin.

    The same attack on the version before must see the members, as control.
    """
    return judge_residue(
        name,
        _auc(candidate),
        None if before is None else _auc(before),
        null=retrained,
        margin=margin,
        records=candidate.members,
        unit="AUC",
    )


def calibrated_scores(losses: npt.ArrayLike, reference_losses: npt.ArrayLike) -> Floats:
    """Scores [n]: loss under models that never saw the record minus loss under this one.

    `losses` [n] and `reference_losses` [n], or [r, n] of r models, in nats. Raises BadData for
    shapes that do not fit.
    """
    own, reference = np.asarray(losses, np.float64), np.asarray(reference_losses, np.float64)
    if own.ndim != 1 or reference.ndim not in (1, 2) or reference.shape[-1] != own.size:
        raise BadData(f"losses {own.shape} and reference losses {reference.shape} do not fit")
    return np.asarray(np.atleast_2d(reference).mean(axis=0) - own)


def scaled_confidences(log_probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Logit-scaled confidence [n]: log p_y - log(1 - p_y), near normal over models.

    From log-probabilities [n, classes] and labels [n], without ever forming 1 - p_y. Raises
    BadData for shapes that do not fit or a single class.
    """
    log_p, wanted = np.array(log_probabilities, np.float64), np.asarray(labels, np.int64)
    if log_p.ndim != 2 or log_p.shape[1] < 2 or wanted.shape != log_p.shape[:1]:
        raise BadData(f"log-probabilities {log_p.shape} and labels {wanted.shape} do not fit")
    rows = np.arange(wanted.size)
    own = log_p[rows, wanted]
    log_p[rows, wanted] = -np.inf
    return np.asarray(own - np.logaddexp.reduce(log_p, axis=1))


def lira_scores(confidences: npt.ArrayLike, shadow_confidences: npt.ArrayLike) -> Floats:
    """Scores [n] of offline LiRA: standard deviations above what shadow models say.

    `confidences` [n] of the model and `shadow_confidences` [s, n] of models that never saw the
    record, logit-scaled (`scaled_confidences`). Per record a normal distribution; with fewer than
    64 shadows its variance is the mean over records. LiRA's statistic is the normal distribution
    function of this score: the same order, without ties where it saturates. Raises BadData for
    fewer than two shadows, shapes that do not fit, or shadows that all agree.
    """
    own = np.asarray(confidences, np.float64)
    shadows = np.asarray(shadow_confidences, np.float64)
    if own.ndim != 1 or shadows.ndim != 2 or shadows.shape[1] != own.size or own.size == 0:
        raise BadData(f"confidences {own.shape} and shadow confidences {shadows.shape} do not fit")
    if len(shadows) < 2:
        raise BadData(f"LiRA needs at least two shadow models, not {len(shadows)}")
    variances = shadows.var(axis=0, ddof=1)
    if len(shadows) < _SHADOWS_FOR_OWN_VARIANCE:
        variances = np.full(own.size, variances.mean())
    if not (variances > 0).all():
        raise BadData("LiRA: the shadow models agree to the last bit on a record")
    return np.asarray((own - shadows.mean(axis=0)) / np.sqrt(variances))


def _intervals(
    ranking: Ranking, members: Units, others: Units, resamples: int, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lower and upper bounds of (AUC, rate). One patient on a side leaves everything open."""
    if resamples < 1:
        raise BadData("the bootstrap needs at least one resample")
    if min(members.count, others.count) == 1:
        return (0.0, 0.0), (1.0, 1.0)
    rng, drawn = np.random.default_rng(seed), np.empty((resamples, 2))
    for row in drawn:
        weights = members.resample(rng), others.resample(rng)
        row[:] = ranking.auc(*weights), ranking.true_positive_rate(*weights)
    low, high = np.percentile(drawn, INTERVAL, axis=0)
    return (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))


def _scores(name: str, scores: npt.ArrayLike) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise BadData(f"membership needs at least one {name} record")
    if not np.isfinite(values).all():
        raise BadData(f"a score of the {name} records is not finite")
    return values


def _auc(measured: Membership) -> Interval:
    """With the error of Mann and Whitney's U: a bootstrap of separated records has no width."""
    members, others = measured.members, measured.others
    error = math.sqrt((members + others + 1) / (12 * members * others))
    return Interval(measured.auc, measured.auc_low, measured.auc_high, error)
