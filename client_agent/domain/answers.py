"""What leaves the site in answer to a task: aggregates only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Utility:
    """Utility of one version on records it never trained on."""

    version: int
    records: int
    accuracy: float
    balanced_accuracy: float
    macro_auc: float | None  # None if a class has no record
    mean_loss: float


@dataclass(frozen=True)
class ForgetStatistic:
    """How much easier one version finds the erased records than the control records."""

    version: int
    erased_records: int
    control_records: int
    auc: float  # of -loss, erased against control; 0.5 = indistinguishable
    auc_low: float
    auc_high: float
    tpr_at_1pct_fpr: float
    accuracy_erased: float
    accuracy_control: float
    accuracy_gap_low: float
    accuracy_gap_high: float
    mean_loss_erased: float
    mean_loss_control: float


@dataclass(frozen=True)
class EvaluateAnswer:
    """One utility per version asked for."""

    utilities: tuple[Utility, ...]


@dataclass(frozen=True)
class AuditAnswer:
    """One statistic per version asked for."""

    statistics: tuple[ForgetStatistic, ...]


@dataclass(frozen=True)
class EraseAnswer:
    """The payload travels apart, under `update_id`."""

    update_id: str
    norm: float  # L2 norm of the payload
    steps: int
    loss_before: float  # mean loss on the records to erase
    loss_after: float


@dataclass(frozen=True)
class ExcludeAnswer:
    """Whether the site knows the records; it then uses them no longer."""

    found: bool


@dataclass(frozen=True)
class InvalidateAnswer:
    """None of the versions is held any more."""

    copies_removed: int


@dataclass(frozen=True)
class TaskFailure:
    """The task cannot be done; a sentence without any record or patient identifier."""

    reason: str


Answer = EvaluateAnswer | AuditAnswer | EraseAnswer | ExcludeAnswer | InvalidateAnswer | TaskFailure
