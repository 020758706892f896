"""What is signed line by line or key by key: notes, lists of keys, and the audit log as a file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from letheon.errors import LedgerBroken, ProofInvalid
from letheon.federation import ledger_file
from letheon.federation.ledger import EntryKind, canonical_bytes, seal
from letheon.proof import audit_chain
from letheon.proof.key_list import CALIBRATOR, FORMAT, KeyList, read_key_list, stamp
from letheon.proof.merkle import leaf_hash
from letheon.proof.note import Checkpoint, key_hash, read_note, sign_checkpoint, verify_checkpoint
from letheon.servicekit.signing import signature_text

from ..choices import Choices
from ..signers import COORDINATOR, STRANGER, a_key
from ..target import Target, promise
from ..trees import bent, written

_ORIGIN = "letheon/abc"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_GENUINE = sign_checkpoint(Checkpoint(_ORIGIN, 5, leaf_hash(b"root")), COORDINATOR)
_SIGNED_HERE = _GENUINE.rpartition("\n\n")[0] + "\n"


def run(data: bytes) -> bool:
    choices = Choices(data)
    return choices.pick((_note, _signed_note, _keys, _signed_keys, _audit, _ledger))(choices)


def _note(choices: Choices) -> bool:
    """A stranger's: only what our key signed is a checkpoint of ours."""
    text = choices.rest().decode("utf-8", "surrogateescape")
    try:
        checkpoint = verify_checkpoint(text, COORDINATOR.public, origin=_ORIGIN)
    except ProofInvalid:
        return False
    promise(read_note(text).text == _SIGNED_HERE, "only what was signed is accepted")
    promise(checkpoint.text == _SIGNED_HERE, "and it says what was signed")
    return True


def _signed_note(choices: Choices) -> bool:
    """Any text that our key signed, among any other lines."""
    origin = choices.text() if choices.flag() else _ORIGIN
    size = choices.text() if choices.flag() else str(choices.number(2**16))
    root = choices.text(60) if choices.flag() else base64.b64encode(leaf_hash(b"")).decode()
    more = choices.text(60) if choices.flag() else ""
    text = f"{origin}\n{size}\n{root}\n{more}"
    content = text.encode("utf-8", "surrogateescape")
    mark = hashlib.sha256(
        origin.encode("utf-8", "surrogateescape") + b"\n\x01" + COORDINATOR.public.raw
    ).digest()[:4]
    line = f"— {origin} {base64.b64encode(mark + COORDINATOR.sign(content)).decode()}\n"
    lines = [choices.text(80) + "\n" for _ in range(choices.number(255) % 3)]
    lines.insert(choices.number(255) % (len(lines) + 1), line)
    try:
        checkpoint = verify_checkpoint(f"{text}\n{''.join(lines)}", COORDINATOR.public)
    except ProofInvalid:
        promise(choices.rest() or _is_odd(origin, size, root, more, lines), "ours holds")
        return False
    promise(text.startswith(checkpoint.text), "a checkpoint says what was signed")
    promise(key_hash(checkpoint.origin, COORDINATOR.public) == mark, "by the key that it names")
    return True


def _is_odd(origin: str, size: str, root: str, more: str, lines: list[str]) -> bool:
    """Whether there was a reason to refuse it."""
    plain = (origin, root, more) == (
        _ORIGIN,
        base64.b64encode(leaf_hash(b"")).decode(),
        "",
    )
    return not (plain and size.isdecimal() and len(lines) == 1)


def _key_list(count: int) -> KeyList:
    keys = KeyList.of_one(CALIBRATOR, a_key(10), _NOON)
    for number in range(1, count):
        since = _NOON + timedelta(days=number)
        keys = keys.followed_by(a_key(10 + number), by=a_key(9 + number), since=since)
    return keys


def _keys(choices: Choices) -> bool:
    return _read_keys(choices.rest(), choices)


def _signed_keys(choices: Choices) -> bool:
    """A list whose links its own signers made anew after it was bent."""
    file = bent(json.loads(_key_list(1 + choices.number(255) % 3).content()), choices)
    if choices.flag() and isinstance(file, dict) and isinstance(file.get("keys"), list):
        _link(file)
    return _read_keys(written(file), choices)


def _link(file: dict[str, Any]) -> None:
    before: list[Any] = []
    for number, entry in enumerate(file["keys"]):
        if before and isinstance(entry, dict):
            link = {
                "format": FORMAT,
                "role": file.get("role"),
                "follows": hashlib.sha256(written(before)).hexdigest(),
                "public_key_pem": entry.get("public_key_pem"),
                "since": entry.get("since"),
            }
            signer = a_key(9 + number % 200)
            entry["signature"] = signature_text(signer.sign(written(link)))
        before.append(entry)


def _read_keys(content: bytes, choices: Choices) -> bool:
    try:
        keys = read_key_list(content, CALIBRATOR)
    except ProofInvalid:
        return False
    promise(keys.content() == content, "a list is written in one way only")
    at = choices.pick((_NOON, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)))
    for one in keys.keys:
        stamp(one.since)
        try:
            keys.check_valid(one.public.key_id, at)
            keys.signer_of(_GENUINE)
        except ProofInvalid:
            pass
    return True


def _rows() -> list[audit_chain.AuditRow]:
    rows: list[audit_chain.AuditRow] = []
    for number in range(3):
        rows.append(
            audit_chain.follow(
                rows[-1] if rows else None,
                at=_NOON + timedelta(minutes=number),
                role="operator",
                caller="ada",
                serial="f0",
                action="site.invited",
                object_name="sites/north",
                outcome=audit_chain.DONE,
                details={"why": "test"},
            )
        )
    return rows


def _audit(choices: Choices) -> bool:
    lines = []
    for row in _rows():
        canonical = written(bent(json.loads(row.canonical()), choices, 2))
        right = choices.number(255) < 240
        row_hash = hashlib.sha256(canonical).hexdigest() if right else choices.text(64)
        lines.append(audit_chain.line_of(canonical, row_hash.encode(errors="replace").decode()))
    lines.extend(choices.rest().splitlines(keepends=True))
    try:
        audit_chain.verify_lines(lines)
    except ProofInvalid:
        return False
    return True


def _ledger(choices: Choices) -> bool:
    lines = []
    for canonical, row_hash in _LEDGER:
        row = written(bent(json.loads(canonical), choices, 2))
        right = choices.number(255) < 240
        lines.append(
            ledger_file.line_of(row, hashlib.sha256(row).hexdigest() if right else row_hash)
        )
    lines.extend(choices.rest().splitlines(keepends=True))
    try:
        ledger_file.verify_lines(lines)
    except LedgerBroken:
        return False
    return True


def _ledger_rows() -> list[tuple[bytes, str]]:
    first = seal(None, kind=EntryKind.INITIAL, version=0, epoch=0, at=_NOON)
    second = seal(
        first,
        kind=EntryKind.DELTA,
        version=1,
        epoch=0,
        at=_NOON,
        site="north",
        coefficient=0.5,
        details={"entries": [1]},
    )
    return [(canonical_bytes(row), row.hash) for row in (first, second)]


_LEDGER = _ledger_rows()


def _seeds() -> Iterator[bytes]:
    other = sign_checkpoint(Checkpoint(_ORIGIN, 5, leaf_hash(b"root")), STRANGER)
    for note in (_GENUINE, other, _GENUINE + other.rpartition("\n\n")[2], "a\n\n— b AAAA\n"):
        yield b"\0" + note.encode()
    yield b"\1"
    for place in range(4):
        yield b"\1" + b"\0" * place + b"\xff\x04abcd" + b"\0" * 20
    for count in (1, 2, 3):
        yield b"\2" + _key_list(count).content()
        yield bytes([3, count - 1])
        for spot in range(0, 9, 2):
            for how in range(8):
                yield bytes([3, count - 1, 1, 0, spot, how, 17, 255])
    for spot in range(10):
        yield bytes([4, 1, 0, spot, 0, 17 + spot])
        yield bytes([5, 1, 0, spot, 0, 17 + spot])
    yield b"\4" + b"\0" * 30
    yield b"\5" + b"\0" * 30


TARGET = Target(
    "notes",
    "letheon.proof: note, key_list, audit_chain; letheon.federation.ledger_file",
    run,
    _seeds,
    longest=8192,
)
