"""Agreement of two models' predictions, judged against how far two retrained models agree.

On clean test records alone it proves nothing: a model that still obeys a backdoor agrees there
just as well. Measure it on the erased records, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval, wilson
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.residue import Z95, judge_residue

_NORMALISED = 1e-3  # by how much probabilities of a record may miss 1


@dataclass(frozen=True)
class Agreement:
    """Two models on the same records."""

    agree: float  # share of records with the same most probable class
    kl: float  # mean KL(p || q), nats
    agree_low: float  # 95 % interval (Wilson 1927)
    agree_high: float
    records: int


def agreement(log_p: npt.ArrayLike, log_q: npt.ArrayLike) -> Agreement:
    """From log-probabilities [n, classes] of both models.

    Raises BadData for shapes that differ, no record, or rows that are no distribution.
    """
    p, q = _distributions(log_p), _distributions(log_q)
    if p.shape != q.shape:
        raise BadData(f"agreement: predictions {p.shape} and {q.shape} do not pair")
    share = float((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    with np.errstate(invalid="ignore"):  # a class neither model deems possible adds nothing
        divergence = np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0.0).sum(axis=1).mean()
    return Agreement(share, max(0.0, float(divergence)), *wilson(share, len(p), Z95), len(p))


def judge_agreement(
    candidate: Agreement,
    floor: Sequence[Agreement],
    before: Agreement | None,
    *,
    margin: float = 0.005,
    name: str = "disagreement",
) -> Finding:
    """The share of records on which a model and a retrained one disagree, against the floor.

    `floor` are agreements of retrained models with each other; the margin is at least two of
    their standard deviations. The version before must disagree with the retrained model by more,
    as control. Raises BadData without a floor.
    """
    if not floor:
        raise BadData("agreement is judged against that of at least two retrained models")
    apart = np.array([1 - pair.agree for pair in floor])
    spread = 2 * float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    return judge_residue(
        name,
        _disagreement(candidate),
        None if before is None else _disagreement(before),
        null=float(apart.mean()),
        margin=max(margin, spread),
        records=candidate.records,
        unit="share",
    )


def _disagreement(measured: Agreement) -> Interval:
    return Interval(1 - measured.agree, 1 - measured.agree_high, 1 - measured.agree_low, 0.0)


def _distributions(log_probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(log_probabilities, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise BadData(f"agreement needs log-probabilities [n, classes], not {values.shape}")
    if not (np.abs(np.exp(values).sum(axis=1) - 1) < _NORMALISED).all():
        raise BadData("agreement: the probabilities of a record do not add up to 1")
    return values
