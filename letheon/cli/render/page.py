"""What the page says, in order, whatever it is printed on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from letheon.proof.certificate import Verified
from letheon.proof.words import facts_of, recipient_text

_MOST_RECIPIENTS = 12
_LEVELS = {
    "L0": "stop using",
    "L1": "influence removed and statistically verified",
    "L2": "certified by (epsilon, delta)",
    "L3": "exact, retrained",
}


@dataclass(frozen=True)
class Table:
    """Rows under a heading; `columns` is empty for name and value."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """Everything on the page."""

    title: str
    claim: str
    tables: Sequence[Table]
    not_proven: Sequence[str]
    check: Sequence[str]  # how to check it, and what was checked when it was printed


def page_of(verified: Verified, content: bytes) -> Page:
    """The page of a certificate that holds."""
    statement = verified.statement
    return Page(
        title="Certificate of erasure",
        claim=_sentence(str(statement.get("claim", ""))),
        tables=[
            _request(statement),
            _model(statement),
            _tests(statement),
            *_recipients(verified),
        ],
        not_proven=_not_proven(statement),
        check=_check(verified, content),
    )


def _request(statement: Mapping[str, Any]) -> Table:
    facts = facts_of(statement)
    times = statement.get("times", {})
    records = facts["records"]
    subject = facts["site"] if not records else f"records of {facts['site']}, reference {records}"
    asked, granted = facts["level"], facts["level_granted"]
    level = f"{granted or asked}: {_LEVELS.get(str(granted or asked), '')}"
    if granted not in (None, asked):
        level += f" ({asked} was asked)"
    met = "met" if statement.get("deadline_met") else "NOT MET"
    return Table(
        "Request",
        (),
        [
            ("Erasure", str(facts["erasure"] or "")),
            ("Subject", str(subject or "")),
            ("Commitment", str(statement.get("subject", {}).get("commitment", ""))),
            ("Legal basis", str(statement.get("legal_basis", ""))),
            ("Requested", _day(times.get("requested_at"))),
            ("Fenced", _day(times.get("fenced_at"))),
            ("Served without it since", _day(times.get("promoted_at"))),
            ("Deadline", f"{_day(times.get('deadline'))}, {met}"),
            ("Assurance level", level),
            ("Method", str(facts["method"] or "")),
            ("Signed", _day(statement.get("signed_at"))),
        ],
    )


def _model(statement: Mapping[str, Any]) -> Table:
    model, process = statement.get("model", {}), statement.get("process", {})
    ledger = statement.get("ledger") or {}
    removed = model.get("removed_entries", 0)
    proven = (
        f"{removed} removed; {len(ledger.get('rows', []))} ledger rows proven to stand in the "
        f"ledger of {ledger.get('size')} rows"
        if ledger
        else f"{removed} removed"
    )
    destroyed = process.get("destroyed_versions")
    gone = "none" if not destroyed else f"{destroyed[0]} to {destroyed[1]}"
    return Table(
        "Model",
        (),
        [
            ("Epoch", str(model.get("epoch", ""))),
            ("Before", _version(model, "before")),
            ("After the removal", _version(model, "after")),
            ("Served now", _version(model, "promoted")),
            ("Contributions", proven),
            ("Versions destroyed", gone),
        ],
    )


def _version(model: Mapping[str, Any], which: str) -> str:
    digest = str(model.get(f"sha256_{which}", ""))
    return f"version {model.get(f'version_{which}', '')}, SHA-256 {digest}"


def _tests(statement: Mapping[str, Any]) -> Table:
    return Table(
        "Tests of the gate",
        ("test", "verdict", "positive control", "numbers"),
        [
            (
                str(test.get("name", "")),
                str(test.get("verdict", "")),
                _control(test),
                str(test.get("detail", "")),
            )
            for test in statement.get("gate", {}).get("tests", [])
        ],
    )


def _not_proven(statement: Mapping[str, Any]) -> list[str]:
    """The statement's sentences; those that repeat a row of the table are told in one."""
    tests = statement.get("gate", {}).get("tests", [])
    repeated = {f"{test.get('name')} was inconclusive: {test.get('detail')}" for test in tests}
    sentences = [str(one) for one in statement.get("what_is_not_proven", [])]
    names = [one.partition(" ")[0] for one in sentences if one in repeated]
    told = [one for one in sentences if one not in repeated]
    if names:
        told.append(f"What the inconclusive tests above were to show: {', '.join(names)}.")
    return told


def _control(test: Mapping[str, Any]) -> str:
    """Whether the same test failed on the version from before, as it must to mean anything."""
    if not str(test.get("name", "")).startswith("forget"):
        return "none needed"
    return "fired" if test.get("positive_control_fired") else "did not fire"


def _recipients(verified: Verified) -> list[Table]:
    told = [recipient_text(one) for one in verified.recipients]
    if not told:
        return []
    rows = told[:_MOST_RECIPIENTS]
    if len(told) > len(rows):
        rows.append((f"and {len(told) - len(rows)} more", "", "see the file"))
    return [Table("Recipients of what was made invalid", ("who", "holds", "said"), rows)]


def _check(verified: Verified, content: bytes) -> list[str]:
    lines = [
        f"Signed by the calibrator with key {verified.key_id}"
        + (", which was supplied when this page was printed." if verified.key_supplied else ".")
    ]
    if verified.logged is not None:
        logged = verified.logged
        lines.append(
            f"Entry {logged.index} of {logged.size} in the transparency log {logged.origin}, root "
            f"{logged.root}, checkpoint signed with key {logged.key_id}."
        )
    if verified.caveat:
        lines.append(f"{_sentence(verified.caveat)}")
    lines.append(
        f"This page is a copy for reading. The certificate is the file with SHA-256 "
        f"{hashlib.sha256(content).hexdigest()}; check it with: letheon-verify FILE --key "
        "CALIBRATOR.pub.pem --log-key COORDINATOR.pub.pem"
    )
    return lines


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _day(text: object) -> str:
    found = str(text or "")
    return f"{found[:10]} {found[11:16]} UTC" if len(found) > 16 else found
