"""Which version consumers get: advancing it, and what an erasure does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from coordinator.domain.model import FederationRow


class ServingPolicy(StrEnum):
    """What is served while an erasure is open."""

    SERVE_OLD = "serve-old"
    SERVE_NONE = "serve-none"
    SERVE_FALLBACK = "serve-fallback"


@dataclass(frozen=True)
class SiteUtility:
    """Accuracy of one version on one site's validation records."""

    version: int
    records: int
    accuracy: float


def weighted_accuracy(utilities: Sequence[SiteUtility], version: int) -> float | None:
    """Mean accuracy of a version, weighted by records; None if nobody measured it."""
    measured = [u for u in utilities if u.version == version and u.records > 0]
    records = sum(u.records for u in measured)
    if not records:
        return None
    return sum(u.accuracy * u.records for u in measured) / records


def candidate_passes(
    utilities: Sequence[SiteUtility], *, candidate: int, serving: int | None, margin: float
) -> bool:
    """Whether the candidate is as useful as the served version, to within `margin`.

    Without a served version, or without a measurement of it, any measured candidate passes.
    """
    reached = weighted_accuracy(utilities, candidate)
    if reached is None:
        return False
    due = None if serving is None else weighted_accuracy(utilities, serving)
    return due is None or reached >= due - margin


def begin_erasure(
    row: FederationRow,
    policy: ServingPolicy,
    *,
    subject_first_version: int | None,
    fallback_version: int | None,
) -> FederationRow:
    """What is served from the moment a request is acknowledged.

    `fallback_version` is the newest one from before the subject's first contribution that can
    still be served. A candidate that holds the subject is dropped.
    """
    row = replace(row, candidate_version=None, candidate_since=None)
    serving = row.serving_version
    if serving is None or subject_first_version is None or serving < subject_first_version:
        return row
    match policy:
        case ServingPolicy.SERVE_OLD:
            return replace(row, serving_carries_subject=True)
        case ServingPolicy.SERVE_NONE:
            served = None
        case ServingPolicy.SERVE_FALLBACK:
            served = fallback_version
    # What an earlier erasure withheld is the version from before both.
    withheld = serving if row.withheld_version is None else row.withheld_version
    return replace(row, serving_version=served, withheld_version=withheld)


def end_without_promotion(row: FederationRow, *, others_due: bool) -> FederationRow:
    """What is served after an erasure was cancelled: the version from before it.

    Nothing changes while the influence of other subjects is due to go.
    """
    if others_due:
        return row
    serving = row.serving_version if row.withheld_version is None else row.withheld_version
    return replace(
        row, serving_version=serving, withheld_version=None, serving_carries_subject=False
    )


def promote(row: FederationRow, version: int, *, entry: int) -> FederationRow:
    """The row once `version` is served."""
    return replace(
        row,
        serving_version=version,
        withheld_version=None,
        serving_carries_subject=False,
        candidate_version=None,
        candidate_since=None,
        last_advance_entry=entry,
    )


def enough_answers(answered_sites: int, active_sites: int) -> bool:
    """Whether at least half of the active sites have answered."""
    return answered_sites > 0 and 2 * answered_sites >= active_sites


def utilities_of(answers: Sequence[Mapping[str, object]]) -> list[SiteUtility]:
    """The utilities in evaluate answers, whose fields are named as in the proto."""
    found: list[SiteUtility] = []
    for answer in answers:
        rows = answer.get("utilities", [])
        for row in rows if isinstance(rows, list) else []:
            found.append(
                SiteUtility(
                    version=int(row["version"]),
                    records=int(row["records"]),
                    accuracy=float(row["accuracy"]),
                )
            )
    return found
