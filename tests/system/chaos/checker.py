"""The one checker: what must hold of every federation, whatever was done to it.

Each function answers sentences, one a violation; none means that it holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from coordinator.domain.erasure import OPEN, Erasure, ErasureState
from coordinator.domain.tombstones import due, missing, standings
from letheon.errors import CertificateInvalid, LedgerBroken
from letheon.federation.ledger import Entry, verify_chain
from letheon.proof import certificate

from .evidence import AREAS, Evidence, outbox_payloads, stacks
from .replay import Replay

Check = Callable[[Evidence], Iterator[str]]
_ARRIVALS = frozenset({"delta", "buffered"})
_KILLED = -9
# Exit codes of a coordinator that refuses to start, and the faults that explain them.
_REFUSALS: Mapping[int, frozenset[str]] = {
    65: frozenset({"damage", "damage_stopped"}),
    69: frozenset({"postgres", "full"}),
}


def merged_by(row: Entry) -> list[int]:
    """The buffered rows that a row merges."""
    pairs = row.details.get("merged", []) + row.details.get("flushed", [])
    return [int(number) for number, _ in pairs]


def lost_updates(evidence: Evidence) -> Iterator[str]:
    """A receipt whose row is not in the ledger."""
    by_number = {row.entry: row for row in evidence.records.rows}
    for receipt in evidence.receipts:
        row = by_number.get(receipt.entry)
        kept = row is not None and (row.update_id, row.hash) == (
            receipt.update_id,
            receipt.ledger_hash,
        )
        if not kept:
            yield f"lost: {receipt.site} holds a receipt for {receipt.update_id} at row " \
                  f"{receipt.entry}, the ledger does not"  # fmt: skip


def doubled_updates(evidence: Evidence) -> Iterator[str]:
    """An update that entered twice, or a waiting one that was merged or voided twice."""
    rows = evidence.records.rows
    times = Counter(row.update_id for row in rows if row.update_id)
    for update_id, count in times.items():
        if count > 1:
            yield f"doubled: {update_id} is {count} times in the ledger"
    ends: Counter[int] = Counter()
    for row in rows:
        ends.update(merged_by(row))
        if row.kind == "void":
            ends.update(int(number) for number in row.details.get("entries", ()))
    waiting = {row.entry for row in rows if row.kind == "buffered"}
    for number, count in ends.items():
        if count > 1:
            yield f"doubled: buffered row {number} was merged or voided {count} times"
        if number not in waiting:
            yield f"row {number} was merged or voided and never waited"


def unlogged_erasures(evidence: Evidence) -> Iterator[str]:
    """An erasure that its tombstone log does not know, or that it knows more of."""
    known = {erasure.id: erasure for erasure in evidence.records.erasures}
    standing = standings(evidence.tombstones)
    for erasure in known.values():
        for event in due(erasure, standing.get(erasure.id)):
            yield f"no tombstone says that erasure {erasure.id} was {event}"
    for each in missing(known, standing):
        yield f"the tombstones know of erasure {each.erasure.id}, the database does not"


def crossed_fences(evidence: Evidence) -> Iterator[str]:
    """Anything of a subject that was added after the request was acknowledged."""
    rows = evidence.records.rows
    site_of = {row.entry: row.site for row in rows}
    for fence in evidence.fences:
        until = fence.lifted_at_entry
        for row in rows:
            if row.entry <= fence.entry or (until is not None and row.entry > until):
                continue
            added = row.site == fence.site and row.kind in (_ARRIVALS | {"patch"})
            if added or any(site_of.get(n) == fence.site for n in merged_by(row)):
                yield (
                    f"crossed: row {row.entry} ({row.kind}) adds what is of {fence.site}, "
                    f"fenced at row {fence.entry} by {fence.request_id}"
                )


def forgotten_requests(evidence: Evidence) -> Iterator[str]:
    """An acknowledged request that the database does not know."""
    known = {(e.request_id, e.site) for e in evidence.records.erasures}
    for fence in evidence.fences:
        if (fence.request_id, fence.site) not in known:
            yield f"forgotten: request {fence.request_id} for {fence.site} was acknowledged"


def erasure_ends(evidence: Evidence) -> Iterator[str]:
    """An erasure that did not end, or not well."""
    lifted = {f.request_id for f in evidence.fences if f.lifted_at_entry is not None}
    for erasure in evidence.records.erasures:
        match erasure.state:
            case ErasureState.CERTIFIED:
                yield from _certificate(erasure, evidence)
            case ErasureState.CANCELLED if erasure.request_id not in lifted:
                yield f"erasure {erasure.id} was cancelled and nobody asked for it"
            case ErasureState.FAILED:
                if "damage" not in evidence.hurt or "PAYLOAD_CORRUPT" not in erasure.failure:
                    yield f"erasure {erasure.id} failed: {erasure.failure}"
            case state if state in OPEN:
                yield f"erasure {erasure.id} of {erasure.site} is still {state} without any fault"


def _certificate(erasure: Erasure, evidence: Evidence) -> Iterator[str]:
    content = evidence.records.certificates.get(erasure.id)
    if content is None:
        yield f"erasure {erasure.id} is CERTIFIED without a certificate"
        return
    try:
        verified = certificate.verify(content, evidence.public_pem)
    except CertificateInvalid as error:
        yield f"the certificate of {erasure.id} does not verify: {error.message}"
        return
    subject = verified.statement.get("subject", {}).get("site", "")
    if subject.removeprefix("sites/") != erasure.site:
        yield f"the certificate of {erasure.id} is of {subject}, not of {erasure.site}"


def chain_and_head(evidence: Evidence) -> Iterator[str]:
    """A chain that breaks, or a head that is not what the rows make."""
    rows, verdict = evidence.records.rows, evidence.verdict
    try:
        verify_chain(rows)
    except LedgerBroken as error:
        yield f"chain: {error.message}"
        return
    if verdict is None:
        yield "head: the coordinator gave no verdict on its ledger"
        return
    if not verdict.holds:
        yield f"head: the coordinator says of its ledger: {verdict.reason}"
    try:
        replay = Replay(rows, evidence.data)
    except (OSError, ValueError, KeyError) as error:
        yield f"head: the rows cannot be replayed: {error!r}"
        return
    if (replay.version, replay.sha256) != (verdict.version, verdict.sha256_head):
        yield (
            f"head: version {verdict.version} is {verdict.sha256_head[:12]}, the replay makes "
            f"version {replay.version} {replay.sha256[:12]}"
        )


def orphan_files(evidence: Evidence) -> Iterator[str]:
    """A file that no row needs."""
    for area in AREAS:
        folder = evidence.data / area
        for name in _names(folder) - evidence.records.named.get(area, frozenset()):
            yield f"orphan: {area}/{name}"
    for part in _names(evidence.data / "uploads"):
        if part.removesuffix(".part") not in evidence.records.uploads:
            yield f"orphan: uploads/{part}"
    for site, state in evidence.agents.items():
        for name in _names(state / "outbox") - outbox_payloads(state):
            yield f"orphan: outbox of {site}: {name}"
        for name in _names(state / "work"):
            yield f"orphan: work of {site}: {name}"


def destroyed_files(evidence: Evidence) -> Iterator[str]:
    """A payload that an erasure destroyed and that is on a disk."""
    used = evidence.records.named.get("contributions", frozenset())
    gone = evidence.records.destroyed - used
    for area in AREAS:
        for name in _names(evidence.data / area) & gone:
            yield f"not destroyed: {area}/{name}"
    for site, state in evidence.agents.items():
        for folder in ("outbox", "models", "work"):
            for name in _names(state / folder):
                content = (state / folder / name).read_bytes()
                if hashlib.sha256(content).hexdigest() in gone:
                    yield f"not destroyed: {folder}/{name} of {site}"


def logged_faults(evidence: Evidence) -> Iterator[str]:
    """A stack in a log that no injected fault explains."""
    if evidence.logs is None:
        return
    for log in sorted(evidence.logs.glob("*.log")):
        seen: Counter[str] = Counter()
        for line in stacks(log):
            last = str(line["stack"]).strip().splitlines()[-1]
            if not _explains(evidence, line, last):
                seen[f"{line['event']}: {last[:200]}"] += 1
        for what, count in seen.items():
            yield f"log of {log.stem}: {what} ({count} times)"


def _explains(evidence: Evidence, line: Mapping[str, object], last: str) -> bool:
    if "No space left on device" in str(line["stack"]):
        return "full" in evidence.hurt
    if line["event"] == "start_failed":
        return bool({"damage", "postgres"} & evidence.hurt)
    if "PayloadCorrupt" in last or "LedgerBroken" in last:
        return "damage" in evidence.hurt
    return False


def unexplained_exits(evidence: Evidence) -> Iterator[str]:
    """A process that ended by itself."""
    for end in evidence.exits:
        faults = _REFUSALS.get(end.code, frozenset()) if end.name == "coordinator" else frozenset()
        explained = bool(faults & evidence.hurt)
        if end.code != _KILLED and not explained:
            yield f"{end.name} ended by itself with status {end.code}"


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


CHECKS: tuple[Check, ...] = (
    lost_updates,
    doubled_updates,
    crossed_fences,
    unlogged_erasures,
    forgotten_requests,
    erasure_ends,
    chain_and_head,
    orphan_files,
    destroyed_files,
    logged_faults,
    unexplained_exits,
)


def check(evidence: Evidence) -> list[str]:
    """Every violation."""
    return [violation for rule in CHECKS for violation in rule(evidence)]
