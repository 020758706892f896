"""Resource names: the only place that joins or parses with "/".

`site_name("north")` is `sites/north`; `site_id("sites/north")` is `north`.
"""

from __future__ import annotations

import re

from letheon.errors import MalformedName

_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BASE = re.compile(rf"erasures/({_ID.pattern})/bases/(\d{{1,18}})")
_CONTRIBUTION = re.compile(rf"erasures/({_ID.pattern})/contribution")
_RULE = "lower-case letters, digits and dashes, at most 63, no dash at either end"

HEAD = "models/head"
SERVING = "models/serving"


def _join(collection: str, identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise MalformedName(
            f"{identifier!r} cannot name one of {collection}: {_RULE}", name=identifier
        )
    return f"{collection}/{identifier}"


def _parse(collection: str, name: str) -> str:
    head, slash, identifier = name.partition("/")
    if head != collection or not slash or not _ID.fullmatch(identifier):
        raise MalformedName(
            f"{name!r} is not a name of the form {collection}/ID, where ID is {_RULE}", name=name
        )
    return identifier


def site_name(identifier: str) -> str:
    """`sites/{identifier}`. Raises MalformedName."""
    return _join("sites", identifier)


def site_id(name: str) -> str:
    """The identifier in `sites/{identifier}`. Raises MalformedName."""
    return _parse("sites", name)


def task_name(identifier: str) -> str:
    """`tasks/{identifier}`. Raises MalformedName."""
    return _join("tasks", identifier)


def task_id(name: str) -> str:
    """The identifier in `tasks/{identifier}`. Raises MalformedName."""
    return _parse("tasks", name)


def erasure_name(identifier: str) -> str:
    """`erasures/{identifier}`. Raises MalformedName."""
    return _join("erasures", identifier)


def erasure_id(name: str) -> str:
    """The identifier in `erasures/{identifier}`. Raises MalformedName."""
    return _parse("erasures", name)


def base_name(erasure: str, version: int) -> str:
    """`erasures/{erasure}/bases/{version}`, of the full name of an erasure."""
    return f"{erasure_name(erasure_id(erasure))}/bases/{version}"


def base_of(name: str) -> tuple[str, int] | None:
    """Erasure identifier and version in `erasures/{erasure}/bases/{version}`, else None."""
    found = _BASE.fullmatch(name)
    return (found[1], int(found[3])) if found else None


def contribution_name(erasure: str) -> str:
    """`erasures/{erasure}/contribution`, of the full name of an erasure."""
    return f"{erasure_name(erasure_id(erasure))}/contribution"


def contribution_of(name: str) -> str | None:
    """Erasure identifier in `erasures/{erasure}/contribution`, else None."""
    found = _CONTRIBUTION.fullmatch(name)
    return found[1] if found else None


def certificate_name(identifier: str) -> str:
    """`certificates/{identifier}`. Raises MalformedName."""
    return _join("certificates", identifier)


def certificate_id(name: str) -> str:
    """The identifier in `certificates/{identifier}`. Raises MalformedName."""
    return _parse("certificates", name)


def export_name(identifier: str) -> str:
    """`exports/{identifier}`. Raises MalformedName."""
    return _join("exports", identifier)


def model_name(version: int) -> str:
    """`models/{version}`. Raises MalformedName for a negative version."""
    return _join("models", str(version))


def model_version(name: str) -> int:
    """The version in `models/{version}`. Raises MalformedName; `models/head` is not a version."""
    identifier = _parse("models", name)
    if not identifier.isdecimal():
        raise MalformedName(f"{name!r} does not name a model version: a number is due", name=name)
    return int(identifier)
