"""The transaction of a passing attempt: promote, anchor, and mark what must be destroyed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime

from coordinator.domain.erasure import Erasure, ErasureState, check_open, move
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import Checkpoint, Contribution, ModelFile
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.advance_serving import add_promotion
from coordinator.services.destroy_subject import (
    NO_VERSIONS,
    Counts,
    Versions,
    mark,
    tainted_versions,
)
from coordinator.services.erasure_context import ErasureContext, job
from coordinator.services.gate_attempt import (
    RunOfTheGate,
    attempt_of,
    check_evidence,
    check_removed,
)
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import Head
from coordinator.services.notify_recipients import recipients
from coordinator.services.prove_ledger import Proof, RemovalError, catch_up
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at
from coordinator.services.request_erasure import FALLBACK_PIN
from coordinator.services.withdraw_tasks import withdraw_tasks
from letheon.errors import PatchVoid
from letheon.federation.ledger import Entry, EntryKind
from letheon.names import erasure_name
from letheon.servicekit.faults import reach
from letheon.servicekit.signing import canonical_json


def promote_erased(
    erasure_id: str,
    token: int,
    run: RunOfTheGate,
    proof: Proof,
    error: RemovalError | None,
    epoch: int,
    rows: dict[str, object],
    context: ErasureContext,
) -> Erasure:
    """The erasure, its candidate served, its subject marked for destruction.

    `rows` is what the certificate says of the ledger (`removed_rows`).

    Raises ClaimLost, ErasureConcluded, PatchVoid (a removal came between), LedgerBroken.
    """
    with context.live.exclusive() as head:
        if head.position.epoch != epoch:
            raise PatchVoid("a later removal happened: gather evidence again", epoch=epoch)
        sha256 = catch_up(proof, head, context)
        reach("promotion.proven")
        checkpoint = context.blobs.checkpoints.put(vector_bytes(head.weights))
        reach("promotion.checkpointed")
        with context.store.write() as uow:
            erasure = job(uow, erasure_id, token)
            check_open(erasure)
            check_evidence(uow, erasure, run.version, epoch)
            return _Promotion(context, uow, head, erasure, run).carry_out(
                proof, error, sha256, checkpoint, rows
            )


class _Promotion:
    """One transaction; `head` is held."""

    def __init__(
        self,
        context: ErasureContext,
        uow: UnitOfWork,
        head: Head,
        erasure: Erasure,
        run: RunOfTheGate,
    ) -> None:
        self._context, self._uow, self._head = context, uow, head
        self._erasure, self._run = erasure, run
        self._now: datetime = context.clock.now()
        self._removal = check_removed(erasure)
        self._file: ModelFile = self._candidate_file()

    def carry_out(
        self,
        proof: Proof,
        error: RemovalError | None,
        head_sha256: str,
        checkpoint: str,
        rows: dict[str, object],
    ) -> Erasure:
        """Writes every row and commits."""
        uow, erasure = self._uow, self._erasure
        versions = tainted_versions(uow, erasure, self._run.version)
        accounts = self._accounts(versions)
        held = recipients(uow, erasure, versions)
        promotion = add_promotion(
            uow, self._head, self._run.version, self._context.clock, erasure=erasure.id
        )
        uow.models.unpin(FALLBACK_PIN)
        self._mark_other_subjects()
        replaced = self._sum_of_the_site()
        anchor = self._anchor(promotion, checkpoint)
        counts = mark(
            uow,
            erasure,
            proof.survey,
            versions,
            anchor=anchor.entry,
            now=self._now,
            sums=replaced,
        )
        withdraw_tasks(uow, erasure.id, self._now)
        uow.attempts.save(attempt_of(uow, erasure, self._removal, self._run, self._now))
        evidence = {
            **self._replay_section(proof, head_sha256, anchor),
            **self._removal_section(error),
            **accounts,
            **self._destruction_section(counts, versions),
            "promotion_entry": promotion.entry,
            "serving_version": self._run.version,
            "serving_sha256": self._file.sha256,
            "federation_origin": self._context.log.origin,
            "ledger_rows": rows,
            "recipients": held,
        }
        promoted = replace(
            move(erasure, ErasureState.VERIFYING, self._now),
            promoted_at=self._now,
            promoted_version=self._run.version,
            evidence_json=canonical_json(evidence).decode(),
        )
        uow.erasures.save(promoted)
        audit.record(
            uow,
            self._now,
            "erasure.promoted",
            erasure_name(erasure.id),
            version=self._run.version,
            sha256=self._file.sha256,
            destroyed=asdict(counts),
        )
        self._head.commit(uow, [promotion, anchor])
        since = erasure.removed_at or self._now
        self._context.observe_stage("verify", (self._now - since).total_seconds())
        return promoted

    def _mark_other_subjects(self) -> None:
        """A subject that is being suppressed, or was without success, is still in the version."""
        uow = self._uow
        if any(site != self._erasure.site for site in remaining_subjects(uow)):
            row = uow.federation.get()
            uow.federation.save(replace(row, serving_carries_subject=True))

    def _candidate_file(self) -> ModelFile:
        file = self._uow.models.find(self._run.version)
        if file is None:
            raise PatchVoid(
                f"models/{self._run.version} has no file: only a version that sites evaluated "
                "can be promoted",
                version=self._run.version,
            )
        return file

    def _anchor(self, promotion: Entry, checkpoint: str) -> Entry:
        """The anchor row after the promotion, with the contributions of the retained sites."""
        uow = self._uow
        anchor = follow(
            promotion,
            EntryKind.ANCHOR,
            at=self._now,
            details={
                "checkpoint_sha256": checkpoint,
                "contributions": self._contributions(promotion.entry),
                "erasure": self._erasure.id,
            },
        )
        uow.entries.add(anchor)
        uow.checkpoints.add(
            Checkpoint(
                anchor.entry, anchor.version, anchor.epoch, checkpoint, self._now, is_anchor=True
            )
        )
        return anchor

    def _sum_of_the_site(self) -> frozenset[str]:
        """What is stored of a site that stays, before it is folded up to the anchor."""
        row = self._uow.contributions.find(self._erasure.site)
        return frozenset({row.sha256} if row is not None and row.sha256 is not None else ())

    def _contributions(self, through: int) -> dict[str, str]:
        """Digests of the sums of the retained sites, folded as far as the ledger goes."""
        found: dict[str, str] = {}
        for site in self._uow.sites.all():
            if site.id == self._erasure.site and self._erasure.names_site:
                continue
            row = self._uow.contributions.find(site.id)
            after = BEFORE_FIRST if row is None else row.folded_through
            terms = self._uow.entries.terms(site.id, after=after)
            if terms:
                row = self._folded(site.id, through, len(terms) + (row.terms if row else 0))
            if row is not None and row.sha256 is not None:
                found[site.id] = row.sha256
        return found

    def _folded(self, site: str, through: int, terms: int) -> Contribution:
        context = self._context
        total = contribution_at(context.store, context.blobs, site, through=through)
        sha256 = None if total is None else context.blobs.contributions.put(vector_bytes(total))
        row = Contribution(site, through, sha256, terms)
        self._uow.contributions.save(row)
        return row

    def _accounts(self, versions: Versions) -> dict[str, object]:
        """Who had a version that holds the subject; read before the rows are marked."""
        carry = [
            export
            for export in self._uow.exports.all()
            if export.version in versions and self._erasure.site not in export.without
        ]
        trained = [
            site.id
            for site in self._uow.sites.all()
            if site.id != self._erasure.site and _touches(site.first_version, versions)
        ]
        return {
            "exports_that_carry_the_subject": [
                {
                    "export": export.request_id,
                    "version": export.version,
                    "recipient": export.recipient,
                    "exported_at": export.exported_at.isoformat(timespec="microseconds"),
                }
                for export in carry
            ],
            "sites_that_trained_from_versions_with_the_subject": trained,
        }

    def _replay_section(self, proof: Proof, head_sha256: str, anchor: Entry) -> dict[str, object]:
        return {
            "ledger_entries": proof.survey.rows,
            "replayed_from_entry": proof.replayed_from,
            "replay_through_entry": proof.state.entry,
            "replay_sha256": head_sha256,
            "head_sha256": head_sha256,
            "replay_equals_head": True,
            "anchor_entry": anchor.entry,
            "anchor_hash": anchor.hash,
        }

    def _removal_section(self, error: RemovalError | None) -> dict[str, object]:
        row = self._uow.entries.get(self._removal.entry)
        earlier = json.loads(self._erasure.evidence_json or "{}")
        measured: dict[str, object] = {}
        if error is not None:
            measured = removal_evidence(error)
        elif self._removal.exchanged:
            measured = {
                "removal_relative_error": None,
                "removal_note": "the site's deltas were exchanged for deltas recomputed without "
                "the records: the replay proves the patch, not what the site computed",
            }
        elif not self._removal.subtracted:
            measured = {
                "removal_relative_error": None,
                "removal_note": "the method does not subtract the contribution: no replay without "
                "the subject to compare with",
            }
        elif not earlier:
            measured = {
                "removal_relative_error": None,
                "removal_note": "what the replay without the subject needs was destroyed before",
            }
        return {
            "removal_entry": row.entry,
            "removal_hash": row.hash,
            "contribution_sha256": row.details.get("contribution_sha256"),
            **earlier,
            **measured,
        }

    def _destruction_section(self, counts: Counts, versions: Versions) -> dict[str, object]:
        none = versions == NO_VERSIONS
        return {
            "destroyed": asdict(counts),
            "destroyed_versions": None if none else [versions.first, versions.last],
            "encrypted_at_rest": self._context.ring is not None,
        }


def removal_evidence(error: RemovalError) -> dict[str, object]:
    """What the certificate says of the counterfactual."""
    return {
        "removal_relative_error": error.relative,
        "counterfactual_from_entry": error.replayed_from,
        "counterfactual_start_held_subject": error.start_held_subject,
    }


def _touches(first_version: int | None, versions: Versions) -> bool:
    """Whether a site that first contributed then can have used one of the versions."""
    return first_version is not None and versions.first <= versions.last >= first_version - 1
