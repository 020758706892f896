"""Messages of the wire as plain documents: what `--format json` prints, and tables read.

Absent optional fields are null; names keep their collection (`sites/site-3`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from letheon.cli.screen import JsonValue
from letheon.v1 import erasures_pb2, federation_pb2, ledger_pb2, models_pb2, sites_pb2

Fields = dict[str, JsonValue]


def instant(stamp: Timestamp) -> datetime | None:
    """UTC, or None for a timestamp that was never set."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(tzinfo=UTC)


def instant_text(stamp: Timestamp) -> str | None:
    """ISO 8601 in UTC with milliseconds, or None."""
    at = instant(stamp)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def seconds_between(first: Timestamp, second: Timestamp) -> float | None:
    """Seconds from one to the other, or None if either is not set."""
    begin, end = instant(first), instant(second)
    return (end - begin).total_seconds() if begin and end else None


def federation_document(status: federation_pb2.FederationStatus) -> Fields:
    """Where the federation stands."""
    return {
        "plan_digest": status.plan_digest,
        "epoch": status.epoch,
        "head_version": status.head_version,
        "serving_version": status.serving_version if status.HasField("serving_version") else None,
        "serving_carries_subject": status.serving_carries_subject,
        "entries": status.entries,
        "ledger_hash": status.ledger_hash,
        "model_size_bytes": status.model_size_bytes,
        "disk_bytes": status.disk_bytes,
        "disk_bytes_by_area": dict(sorted(status.disk_bytes_by_area.items())),
        "payloads_kept": status.payloads_kept,
        "oldest_rebuildable_entry": status.oldest_rebuildable_entry,
        "oldest_rebuildable_version": status.oldest_rebuildable_version,
        "entries_since_checkpoint": status.entries_since_checkpoint,
        "updates": dict(sorted(status.updates.items())),
        "open_erasures": status.open_erasures,
        "read_at": instant_text(status.read_at),
        "release": status.release or None,
    }


def site_document(site: sites_pb2.Site, now: datetime) -> Fields:
    """A site; `silent_s` is the time since its agent was last heard of."""
    seen = instant(site.last_seen_at)
    return {
        "name": site.name,
        "display_name": site.display_name,
        "state": sites_pb2.Site.State.Name(site.state),
        "records": site.record_count,
        "accepted_deltas": site.accepted_deltas,
        "first_version": site.first_version if site.HasField("first_version") else None,
        "last_version": site.last_version if site.HasField("last_version") else None,
        "registered_at": instant_text(site.registered_at),
        "last_seen_at": instant_text(site.last_seen_at),
        "silent_s": round(max(0.0, (now - seen).total_seconds()), 3) if seen else None,
        "erasure": site.erasure or None,
        "update_key": site.update_key or None,
        "privacy": _privacy_document(site.privacy) if site.HasField("privacy") else None,
    }


def _privacy_document(loss: sites_pb2.PrivacyLoss) -> Fields:
    return {
        "epsilon": round(loss.epsilon, 4),
        "epsilon_budget": loss.epsilon_budget,
        "delta": loss.delta,
        "unit": loss.unit,
        "spent": loss.spent,
    }


def model_document(model: models_pb2.Model) -> Fields:
    """One model version."""
    return {
        "name": model.name,
        "version": model.version,
        "epoch": model.epoch,
        "state": models_pb2.Model.State.Name(model.state),
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "serving": model.serving,
        "head": model.head,
        "written_at": instant_text(model.written_at),
        "destroyed_by": model.destroyed_by or None,
    }


def export_document(export: models_pb2.Export) -> Fields:
    """A recorded export."""
    return {
        "name": export.name,
        "model": export.model,
        "recipient": export.recipient,
        "purpose": export.purpose,
        "exported_at": instant_text(export.exported_at),
        "without": list(export.without),
    }


def _numbers(text: str) -> JsonValue:
    if not text:
        return {}
    try:
        numbers: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return numbers


def attempt_document(attempt: erasures_pb2.Attempt) -> Fields:
    """One run of the gate with the numbers of each test."""
    verdict = erasures_pb2.Attempt.Verdict.Name
    return {
        "number": attempt.number,
        "version": attempt.version,
        "verdict": verdict(attempt.verdict),
        "accepted_since_removal": attempt.accepted_since_removal,
        "at": instant_text(attempt.at),
        "tests": [
            {
                "name": test.name,
                "verdict": verdict(test.verdict),
                "positive_control_fired": test.positive_control_fired,
                "detail": test.detail,
                "numbers": _numbers(test.numbers_json),
            }
            for test in attempt.tests
        ],
    }


def removal_document(removal: erasures_pb2.Removal) -> Fields:
    """What the removal did."""
    return {
        "epoch": removal.epoch,
        "version_before": removal.version_before,
        "version_after": removal.version_after,
        "sha256_before": removal.sha256_before,
        "sha256_after": removal.sha256_after,
        "contribution_norm": removal.contribution_norm,
        "head_norm_before": removal.head_norm_before,
        "removed_entries": removal.removed_entries,
        "voided_entries": removal.voided_entries,
        "subtracted": removal.subtracted,
        "exchanged": removal.exchanged,
    }


def erasure_document(erasure: erasures_pb2.Erasure) -> Fields:
    """An erasure with its removal, attempts and the seconds from request to each stage."""
    asked = erasure.requested_at
    return {
        "name": erasure.name,
        "id": erasure.name.rpartition("/")[2],
        "request_id": erasure.request_id,
        "site": erasure.site,
        "records": erasure.records or None,
        "exclusion_counter": erasure.exclusion_counter or None,
        "legal_basis": erasure.legal_basis,
        "level": level_text(erasure.level),
        "method": erasure.method,
        "calibrate": erasure.calibrate,
        "requester": erasure.requester,
        "requested_by": erasure.requested_by or None,
        "approved_by": erasure.approved_by or None,
        "share": round(erasure.share, 4) or None,
        "state": erasures_pb2.Erasure.State.Name(erasure.state),
        "requested_at": instant_text(asked),
        "deadline": instant_text(erasure.deadline),
        "seconds": {
            "fenced": seconds_between(asked, erasure.fenced_at),
            "removed": seconds_between(asked, erasure.removed_at),
            "promoted": seconds_between(asked, erasure.promoted_at),
            "concluded": seconds_between(asked, erasure.concluded_at),
        },
        "removal": removal_document(erasure.removal) if erasure.HasField("removal") else None,
        "attempts": [attempt_document(attempt) for attempt in erasure.attempts],
        "level_admitted": level_text(erasure.level_admitted or erasure.level),
        "caveats": list(erasure.caveats),
        "uncertifiable": erasure.uncertifiable or None,
        "failure": erasure.failure or None,
        "certificate": erasure.certificate or None,
        "holder": erasure.holder or None,
    }


def level_text(level: erasures_pb2.AssuranceLevel.ValueType) -> str:
    """`L1`; an unspecified level means L1."""
    return erasures_pb2.AssuranceLevel.Name(level) if level else "L1"


def entry_document(entry: ledger_pb2.Entry) -> Fields:
    """A row of the ledger; `content` is what its hash covers."""
    return {
        "entry": entry.entry,
        "kind": entry.kind,
        "version": entry.version,
        "epoch": entry.epoch,
        "site": entry.site or None,
        "at": instant_text(entry.at),
        "hash": entry.hash,
        "content": _numbers(entry.canonical_json),
    }


def verdict_document(verdict: ledger_pb2.LedgerVerdict) -> Fields:
    """The outcome of a ledger verification."""
    bad = verdict.first_bad_entry if verdict.HasField("first_bad_entry") else None
    return {
        "holds": verdict.holds,
        "entries": verdict.entries,
        "replayed_from": verdict.replayed_from,
        "version": verdict.version,
        "sha256_replayed": verdict.sha256_replayed,
        "sha256_head": verdict.sha256_head,
        "first_bad_entry": bad,
        "reason": verdict.reason or None,
        "signed_deltas": verdict.signed_deltas,
        "unsigned_deltas": verdict.unsigned_deltas,
    }
