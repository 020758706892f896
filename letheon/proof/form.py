"""The form of a statement: whatever is read of it has the type that readers expect.

A signature tells who wrote a statement, not that whoever wrote it kept to the form; and without a
key anybody's holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from letheon.errors import CertificateInvalid

_OBJECTS = ("subject", "federation", "method", "times", "model", "process", "gate")


def check_form(statement: Mapping[str, Any]) -> None:
    """Raises CertificateInvalid(rule=form) naming the part that is of another type."""
    for name in _OBJECTS:
        _due(isinstance(statement.get(name, {}), dict), name, "an object")
    recipients = statement.get("recipients", [])
    _due(_are_objects(recipients), "recipients", "a list of objects")
    for one in recipients:
        _due(_is_span(one.get("versions")), "versions of a recipient", "a first and a last one")
    _due(
        _are_objects(statement.get("gate", {}).get("tests", [])), "gate.tests", "a list of objects"
    )
    destroyed = statement.get("process", {}).get("destroyed_versions")
    _due(_is_span(destroyed), "process.destroyed_versions", "a first and a last one")
    sentences = statement.get("what_is_not_proven", [])
    listed = isinstance(sentences, list) and all(isinstance(one, str) for one in sentences)
    _due(listed, "what_is_not_proven", "a list of sentences")


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _is_span(value: object) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2)


def _due(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise CertificateInvalid(f"{name} of the statement is not {what}", rule="form")
