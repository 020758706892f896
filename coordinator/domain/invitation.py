"""A one-time token with which a site gets its first certificate; only its digest is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime

from letheon.errors import InvitationRefused

_TOKEN_BYTES = 32
# A token is recognised at sight, in a log for one: it must not stay there.
_PREFIX = "lti-"


@dataclass(frozen=True)
class Invitation:
    """One token; `used_by_key` is the SHA-256 of the public key that it was spent on."""

    token_sha256: str
    site: str
    invited_by: str
    invited_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    used_by_key: str = ""
    void: bool = False  # a later one took its place


def new_token() -> str:
    """A token nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What is kept of a token, and found again by it."""
    return hashlib.sha256(token.encode()).hexdigest()


def spend(found: Invitation | None, site: str, key_sha256: str, now: datetime) -> Invitation:
    """The invitation as spent on a key; spent on the same key before, as it is.

    Raises InvitationRefused with the rule that is broken.
    """
    if found is None:
        raise _refused("no invitation has this token: copy it whole", "unknown")
    if found.site != site:
        raise _refused(f"the token was made for another site than sites/{site}", "another_site")
    if found.void:
        raise _refused("a later invitation of the site took the place of this one", "void")
    if found.expires_at <= now:
        raise _refused(
            f"the token has expired on {found.expires_at:%Y-%m-%d %H:%M} UTC: ask the "
            "coordinator's operator for a new one",
            "expired",
        )
    if found.used_at is not None and found.used_by_key != key_sha256:
        raise _refused(
            f"the token was used on {found.used_at:%Y-%m-%d %H:%M} UTC, by another key. If that "
            "was not you, tell the coordinator's operator now",
            "used",
        )
    if found.used_at is not None:
        return found
    return replace(found, used_at=now, used_by_key=key_sha256)


def _refused(sentence: str, rule: str) -> InvitationRefused:
    return InvitationRefused(sentence, rule=rule)
