"""What a certificate says: composed from the numbers of one erasure, as canonical JSON.

It claims no more than was done and measured, and lists what it does not prove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from letheon.federation.admission import LEVELS, STOP_USE
from letheon.proof.certificate import FORMAT, OLDER_FORMATS, commitment
from letheon.unlearning.gate import FORGETTING, Judgement, Verdict
from letheon.unlearning.method import Offer, PatchAdded, Recombine

_SECTIONS_OF_THEIR_OWN = ("federation_origin", "ledger_rows", "recipients")
VERIFIED = "influence removed and statistically verified"
NOT_VERIFIED = "influence removed, not statistically verified"
SUPPRESSED = "influence suppressed and statistically verified; the contribution was not subtracted"


@dataclass(frozen=True)
class Filing:
    """The request, as filed."""

    erasure: str  # erasures/{erasure}
    request_id: str
    site: str  # sites/{site}
    legal_basis: str
    level: str
    method: str
    requested_at: datetime
    fenced_at: datetime
    deadline: datetime
    level_admitted: str = "L1"  # the highest that the facts known at the request leave
    caveats: Sequence[str] = ()  # of the admission, a sentence each
    records: str = ""  # the salted commitment, if the subject is some records of the site


@dataclass(frozen=True)
class Change:
    """What the removal did to the head, and what was promoted in the end."""

    epoch: int
    version_before: int
    version_after: int
    version_promoted: int
    sha256_before: str
    sha256_after: str
    sha256_promoted: str
    subtracted: bool
    contribution_norm: float
    head_norm_before: float
    removed_entries: int
    voided_entries: int
    exchanged: bool = False


@dataclass(frozen=True)
class Findings:
    """What the gate saw and what the method did on the way."""

    judgement: Judgement
    attempt: int  # number of the passing attempt, from 1
    accepted_since_removal: int
    steps: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # of the method, in order


def compose(
    filing: Filing,
    change: Change,
    findings: Findings,
    offer: Offer,
    *,
    process: Mapping[str, Any],
    plan_digest: str,
    salt: str,
    promoted_at: datetime,
    signed_at: datetime,
) -> dict[str, Any]:
    """The statement. `process` is the coordinator's evidence of the passing attempt.

    An older coordinator tells neither its origin nor the rows of its ledger: what is signed then
    is a statement of the older format.
    """
    origin, ledger = process.get("federation_origin"), process.get("ledger_rows")
    recipients = process.get("recipients", [])
    process = {key: value for key, value in process.items() if key not in _SECTIONS_OF_THEIR_OWN}
    return {
        "format": FORMAT if origin else OLDER_FORMATS[-1],
        "federation": {"plan_digest": plan_digest, **({"origin": origin} if origin else {})},
        **({"ledger": ledger} if ledger else {}),
        **({"recipients": recipients, "supersedes": None} if origin else {}),
        "erasure": filing.erasure,
        "request_id": filing.request_id,
        "subject": {
            "site": filing.site,
            "salt": salt,
            "commitment": commitment(filing.site, salt),
            **({"records": filing.records} if filing.records else {}),
        },
        "legal_basis": filing.legal_basis,
        "level": filing.level,
        "level_granted": level_granted(filing, findings.judgement),
        "claim": claim(filing, findings.judgement, offer),
        "method": {"name": offer.name, "steps": [dict(step) for step in findings.steps]},
        "times": _times(filing, promoted_at),
        "deadline_met": promoted_at <= filing.deadline,
        "model": asdict(change),
        "process": dict(process),
        "gate": _gate(findings),
        "what_is_not_proven": [
            *not_proven(filing, findings, offer, exchanged=change.exchanged),
            at_rest(process),
        ],
        "signed_at": _stamp(signed_at),
    }


def _times(filing: Filing, promoted_at: datetime) -> dict[str, str]:
    return {
        "requested_at": _stamp(filing.requested_at),
        "fenced_at": _stamp(filing.fenced_at),
        "promoted_at": _stamp(promoted_at),
        "deadline": _stamp(filing.deadline),
    }


def _gate(findings: Findings) -> dict[str, Any]:
    return {
        "attempt": findings.attempt,
        "accepted_since_removal": findings.accepted_since_removal,
        "verdict": findings.judgement.verdict.value,
        "reason": findings.judgement.reason,
        "tests": [
            {
                "name": test.name,
                "verdict": test.verdict.value,
                "positive_control_fired": test.positive_control_fired,
                "detail": test.detail,
                "numbers": dict(test.numbers),
            }
            for test in findings.judgement.tests
        ],
    }


def level_granted(filing: Filing, judgement: Judgement) -> str:
    """The level whose whole definition holds: L1 only if a forgetting test passed."""
    if not judgement.statistically_verified:
        return STOP_USE
    return min(filing.level, filing.level_admitted, key=LEVELS.index)


def claim(filing: Filing, judgement: Judgement, offer: Offer) -> str:
    """The sentence of what was achieved; no more than was admitted, whatever a test says."""
    if not (offer.subtracts or offer.exchanges):
        return SUPPRESSED
    return NOT_VERIFIED if level_granted(filing, judgement) == STOP_USE else VERIFIED


def not_proven(
    filing: Filing, findings: Findings, offer: Offer, *, exchanged: bool = False
) -> list[str]:
    """What a reader must not conclude."""
    sentences = [
        "That the model equals one trained without the subject: it was not retrained, and no test "
        "of a model proves deletion; the recorded process is the primary evidence.",
        "That nothing indirect is left: other sites' deltas were computed on models that had "
        "learned from the subject, and only the tests listed here measure what that left.",
        "That no single record can be told: the tests compare averages over all erased records.",
        "That copies of earlier versions outside the coordinator are gone: whoever took one away "
        "is listed, and an acknowledgement is the recipient's word.",
    ]
    if filing.records:
        sentences.append(
            "Whose the records are, and how many: only the site can open the reference, and that "
            "it named the right ones, and uses them no longer, rests on its word."
        )
    if exchanged:
        sentences.append(
            "That the site recomputed its deltas rightly: their sum was checked for its size and "
            "for what it does to accuracy, but what a site trains on cannot be seen from outside."
        )
    if not (offer.subtracts or offer.exchanges):
        sentences.append(
            "That the influence left the weights: the method suppresses it, and later training "
            "may bring it back."
        )
    if any(_recombined(step) for step in findings.steps):
        sentences.append(
            "That the recombination left what is indirect as it was: it weighs other sites' "
            "contributions anew, and its weights may enlarge what they learned from the subject."
        )
    if findings.attempt > 1:
        sentences.append(
            f"The tests were run {findings.attempt} times until they passed; intervals are not "
            "corrected for that."
        )
    sentences += [f"Known when the request was filed: {caveat}." for caveat in filing.caveats]
    sentences += [
        f"{test.name} was inconclusive: {test.detail}"
        for test in findings.judgement.tests
        if test.name in FORGETTING and test.verdict is Verdict.INCONCLUSIVE
    ]
    return sentences


def at_rest(process: Mapping[str, Any]) -> str:
    """What a reader must not conclude from the destruction of files."""
    if process.get("encrypted_at_rest"):
        return (
            "That nobody copied the key store before the erasure: the files that held the subject "
            "were encrypted, and backups of them opened nothing once their data keys and the "
            "wrapping key were destroyed, but whoever kept a copy of the key store can open them."
        )
    return (
        "That backups of the coordinator's files are gone: the files were not encrypted at rest, "
        "so a backup from before the erasure still holds what they held."
    )


def _recombined(step: Mapping[str, Any]) -> bool:
    return (step.get("step"), step.get("outcome")) == (Recombine.__name__, PatchAdded.__name__)


def _stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
