"""Certificates for a benchmark over mutual TLS: an authority, a server, a folder for each site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from letheon.cli.local.toml_text import TomlTable
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import write_identity

FEDERATION = "bench"
SERVER = "server"
_DAY = timedelta(days=1)


def make_identities(directory: Path, sites: Sequence[str]) -> None:
    """`directory/server` and `directory/SITE`, each with certificate.pem, key.pem and ca.pem."""
    now = datetime.now(UTC)
    authority = FileAuthority.init(directory / "ca", FEDERATION, now)
    write_identity(
        directory / SERVER,
        authority,
        lambda key: authority.issue_server(["127.0.0.1"], key, now, _DAY),
    )
    for site in sites:
        own = Identity(FEDERATION, Role.SITE, site)
        write_identity(
            directory / site, authority, lambda key, own=own: authority.issue(own, key, now, _DAY)
        )


def server_table(directory: Path) -> TomlTable:
    """The `[tls]` of a coordinator."""
    own = directory / SERVER
    return {
        "certificate": own / "certificate.pem",
        "key": own / "key.pem",
        "client_ca": own / "ca.pem",
    }
