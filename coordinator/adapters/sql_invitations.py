"""The repository of invitations."""

from __future__ import annotations

from sqlalchemy import Connection

from coordinator.adapters import tables
from coordinator.adapters.rows import Rows
from coordinator.domain.invitation import Invitation


class SqlInvitations:
    """Tokens of sites, by their digests."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.invitations, Invitation)

    def find(self, token_sha256: str) -> Invitation | None:
        """The invitation, or None."""
        return self._rows.find(token_sha256)

    def add(self, invitation: Invitation) -> None:
        """A new one."""
        self._rows.add(invitation)

    def save(self, invitation: Invitation) -> None:
        """A changed one."""
        self._rows.save(invitation)

    def of_site(self, site: str) -> list[Invitation]:
        """Every invitation of a site, oldest first."""
        columns = tables.invitations.c
        query = self._rows.select(columns.site == site)
        return self._rows.all(query.order_by(columns.invited_at))
