"""Certificates: of a stranger, bent and signed again by their own signers, and damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from logged_certificates import ORIGIN, Logged, Signers, a_statement

from letheon.cli.render.as_html import html_of
from letheon.cli.render.page import page_of
from letheon.errors import CertificateInvalid
from letheon.proof.certificate import Trust, Verified, trust, verify_file
from letheon.proof.envelope import seal
from letheon.proof.words import document_of, lines_of

from ..choices import Choices
from ..signers import CALIBRATOR, COORDINATOR, STRANGER
from ..target import Target, promise
from ..trees import bent, written

_SIGNERS = Signers(CALIBRATOR, COORDINATOR)
_KEYS = trust(CALIBRATOR.public_pem, COORDINATOR.public_pem, ORIGIN)
_NO_KEYS = Trust()


@cache
def _genuine(*, amended: bool) -> bytes:
    return Logged(_SIGNERS, amended=amended).file()


def run(data: bytes) -> bool:
    choices = Choices(data)
    return choices.pick((_strange, _signed, _damaged, _bent))(choices)


def _strange(choices: Choices) -> bool:
    """Bytes of a stranger: with our keys only what our signers made is accepted."""
    given = _NO_KEYS if choices.flag() else _KEYS
    file = choices.rest()
    found = _read(file, given)
    if found is not None and given is _KEYS:
        promise(file in (_genuine(amended=False), _genuine(amended=True)), "nobody can forge one")
    return found is not None


def _signed(choices: Choices) -> bool:
    """Any statement that the calibrator could sign, logged as any other."""
    amended = choices.flag()
    signers = Signers(STRANGER, COORDINATOR) if choices.flag() else _SIGNERS
    statement = bent(a_statement(), choices)
    if not isinstance(statement, dict):
        return False
    try:
        file = Logged(signers, statement=statement, amended=amended).file()
    except (
        ValueError,
        AttributeError,
        RecursionError,
    ):  # what has no canonical form cannot be signed
        return False
    found = _read(file, _KEYS)
    if found is not None:
        promise(signers is _SIGNERS, "a stranger's signature is not the calibrator's")
        promise(found.statement == json.loads(file)["statement"], "it says what was signed")
    return _read(file, _NO_KEYS) is not None


def _damaged(choices: Choices) -> bool:
    """A genuine file with a few other bytes is never accepted."""
    genuine = _genuine(amended=choices.flag())
    file = bytearray(genuine)
    for _ in range(1 + choices.number(255) % 4):
        at = choices.number(0xFFFF) % len(file)
        file[at] ^= choices.number(255)
    given = _NO_KEYS if choices.flag() else _KEYS
    found = _read(bytes(file), given)
    promise((found is not None) == (bytes(file) == genuine), "no byte of a certificate is free")
    return found is not None


def _bent(choices: Choices) -> bool:
    """A genuine file whose proofs, keys and amendment somebody bent; parts are sealed again."""
    genuine = _genuine(amended=not choices.flag())
    file: Any = bent(json.loads(genuine), choices)
    if isinstance(file, dict) and choices.flag():
        _seal_again(file, choices)
    content = written(file)
    found = _read(content, _KEYS)
    if found is not None:
        promise(found.statement == json.loads(genuine)["statement"], "it says what was signed")
    return _read(content, _NO_KEYS) is not None


def _seal_again(file: dict[str, Any], choices: Choices) -> None:
    """As somebody would who has keys of another federation."""
    amendment = file.get("amendment")
    part = amendment if choices.flag() and isinstance(amendment, dict) else file
    try:
        part.update(seal(part.get("statement", {}), STRANGER))
    except (ValueError, RecursionError):
        return


def _read(content: bytes, given: Trust) -> Verified | None:
    try:
        found = verify_file(content, given)
    except CertificateInvalid:
        return None
    json.dumps(document_of(found))
    lines_of(found)
    html_of(page_of(found, content))
    return found


def _seeds() -> Iterator[bytes]:
    for amended in (False, True):
        yield b"\0\0" + _genuine(amended=amended)
        yield b"\0\xff" + _genuine(amended=amended)
        yield bytes([1, 255 * amended, 0])
        yield bytes([2, 255 * amended, 0, 0, 9, 0])
        yield bytes([3, 255 * amended, 0])
    for spot in range(40):
        for how, what in ((0, 17), (0, 7), (1, 15), (4, 0), (5, 0), (6, 3)):
            yield bytes([1, 255 * (spot % 2), 0, 1, 0, spot, how, what])
            yield bytes([3, 0, 1, 0, spot, how, what, 255 * (what % 2), 255 * (spot % 2)])


TARGET = Target(
    "certificates",
    "letheon.proof.certificate.verify_file, and what is said of an accepted one",
    run,
    _seeds,
    longest=12_000,
)
