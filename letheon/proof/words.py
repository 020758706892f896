"""What a checked certificate says, in a few lines for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from letheon.proof.certificate import Verified
from letheon.proof.envelope import Statement

ACKNOWLEDGED, SILENT, LISTED = "acknowledged", "silent", "listed"


def facts_of(statement: Statement) -> dict[str, Any]:
    """What is told first."""
    subject, method = statement.get("subject", {}), statement.get("method", {})
    return {
        "erasure": statement.get("erasure"),
        "site": subject.get("site"),
        "records": subject.get("records"),
        "level": statement.get("level"),
        "level_granted": statement.get("level_granted"),
        "method": method.get("name"),
        "claim": statement.get("claim"),
    }


def document_of(verified: Verified) -> dict[str, Any]:
    """For programs."""
    logged = verified.logged
    return {
        "valid": True,
        "key_id": verified.key_id,
        "key_supplied": verified.key_supplied,
        "log": None
        if logged is None
        else {
            "origin": logged.origin,
            "index": logged.index,
            "size": logged.size,
            "root": logged.root,
            "key_id": logged.key_id,
            "key_supplied": verified.log_key_supplied,
        },
        "amended": verified.amendment is not None,
        "recipients": [dict(one) for one in verified.recipients],
        "caveat": verified.caveat or None,
        **facts_of(verified.statement),
    }


def lines_of(verified: Verified) -> list[str]:
    """For people."""
    facts = facts_of(verified.statement)
    asked, granted = facts["level"], facts["level_granted"]
    level = f"level {asked}" if granted in (None, asked) else f"level {granted} ({asked} was asked)"
    records = facts["records"]
    subject = facts["site"] if records is None else f"records {records} of {facts['site']}"
    lines = [
        f"The certificate holds, signed with key {verified.key_id}.",
        f"{facts['erasure']} of {subject}, {level}, by {facts['method']}: {facts['claim']}.",
    ]
    if verified.logged is not None:
        logged = verified.logged
        lines.append(
            f"Entry {logged.index} of the transparency log {logged.origin} ({logged.size} entries, "
            f"signed with key {logged.key_id})."
        )
    if verified.recipients:
        lines.append(recipients_line(verified.recipients))
    return [*lines, f"Note: {verified.caveat}."] if verified.caveat else lines


def current_recipients(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The recipients that a certificate file states last, unchecked."""
    newest = file.get("amendment") or file
    found = newest.get("statement", {}).get("recipients", [])
    return [dict(one) for one in found if isinstance(one, dict)]


def recipients_line(recipients: Any) -> str:  # noqa: ANN401 - JSON
    """How many recipients there are, and how many of them answered."""
    agents = [one for one in recipients if one.get("kind") == "site"]
    exports = [one for one in recipients if one.get("kind") == "export"]
    answered = [one for one in agents if one.get("state") == ACKNOWLEDGED]
    return (
        f"Recipients of what was made invalid: {len(agents)} sites, {len(answered)} of them "
        f"acknowledged, and {len(exports)} exports, listed."
    )


def _range(versions: Sequence[int]) -> str:
    if not versions:
        return ""
    if versions[0] == versions[-1]:
        return f"version {versions[0]}"
    return f"versions {versions[0]} to {versions[-1]}"


def recipient_text(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Who, what they hold, and what they said."""
    versions = one.get("versions") or []
    if one.get("kind") == "export":
        return (
            str(one.get("recipient", "")),
            f"export of version {one.get('version')} on {str(one.get('exported_at', ''))[:10]}",
            "listed: ask for its deletion",
        )
    held = _range(versions)
    state = str(one.get("state", ""))
    at = str(one.get("acknowledged_at") or "")[:10]
    return (
        f"sites/{one.get('site')}",
        held,
        f"acknowledged {at}" if state == ACKNOWLEDGED else f"no answer yet ({state})",
    )
