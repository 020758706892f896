"""The secure set-up of a federation on one machine: an authority, and who gets what of it.

`prepare_secure` builds it; what a configuration file needs beyond a plain one is in `Secure`. A
further protection adds its own there: a field, made in `prepare_secure`, and keys in the tables.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from letheon.cli.local.folder import FederationFolder
from letheon.cli.remote import Endpoint, connect
from letheon.errors import BadConfig
from letheon.names import site_name
from letheon.servicekit.authority import CA_FILE, DENY_FILE, FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import CA, CERTIFICATE, KEY, write_identity
from letheon.v1 import enrolment_pb2

FEDERATION = "local"
_HOSTS = ("127.0.0.1", "localhost")
_LIFE = timedelta(days=90)
# Two people: what one asks for, the other may have to approve.
OPERATORS = ("operator", "second-operator")
Table = dict[str, Any]


@dataclass(frozen=True)
class Secure:
    """Folders of the secure set-up, and the tables it adds to each service's configuration."""

    root: Path
    enrolment: str  # host:port

    @property
    def keys(self) -> Path:
        """The key store of the coordinator's files, outside of them."""
        return self.root / "keys"

    @property
    def tombstones(self) -> Path:
        """The signed log of erasures, outside of the coordinator's files."""
        return self.root / "tombstones.log"

    @property
    def authority(self) -> Path:
        """The authority's own files."""
        return self.root / "ca"

    def identity(self, name: str = OPERATORS[0]) -> Path:
        """ca.pem, certificate.pem and key.pem of a person or a central service."""
        return self.root / "identities" / name

    def of_coordinator(self) -> Table:
        """Tables of coordinator.toml."""
        own = self.identity("coordinator")
        return {
            "tls": {
                "certificate": own / CERTIFICATE,
                "key": own / KEY,
                "client_ca": self.authority / CA_FILE,
                "federation": FEDERATION,
                "deny_list": self.authority / DENY_FILE,
            },
            "enrolment": {"ca": self.authority, "listen": self.enrolment},
            "signing": {"require_updates": True},
            "encryption": {"key_dir": self.keys},
            "tombstones": {"path": self.tombstones, "key": self.root / "tombstones.pem"},
        }

    def of_calibrator(self) -> Table:
        """Tables of calibrator.toml."""
        own = self.identity("calibrator")
        files = {"ca": own / CA, "certificate": own / CERTIFICATE, "key": own / KEY}
        return {"tls": {**files, "renew": True}}

    def of_agent(self, home: Path) -> Table:
        """Tables of the agent.toml of a site; its files come by a token."""
        tls = home.absolute() / "tls"
        return {
            "tls": {
                "ca": self.authority / CA_FILE,
                "certificate": tls / CERTIFICATE,
                "key": tls / KEY,
                "renew": True,
            }
        }

    def enrol(self, site: str, config: Path, coordinator: Endpoint, env: Mapping[str, str]) -> None:
        """Invites a site and has its agent trade the token, unless it has a certificate.

        Raises BadConfig with the sentence that the agent ended with.
        """
        if (config.parent / "tls" / CERTIFICATE).exists():
            return
        with connect(coordinator) as remote:
            request = enrolment_pb2.InviteSiteRequest(site=site_name(site))
            token = remote.enrolment.InviteSite(request).token
        done = subprocess.run(
            [sys.executable, "-m", "client_agent.cli", "enroll", "--config", config,
             "--enrolment", self.enrolment, "--certificate-only"],
            check=False,
            capture_output=True,
            text=True,
            # Not as an argument: those are seen by everybody on the machine.
            env={**env, "LETHEON_ENROLMENT_TOKEN": token},
        )  # fmt: skip
        if done.returncode != 0:
            why = done.stderr.strip().partition("\n")[0] or "no reason given"
            raise BadConfig(f"{site} was not enrolled: {why.removeprefix('letheon-agent: ')}")


def prepare_secure(folder: FederationFolder, enrolment: str) -> Secure:
    """Makes what is missing of it: the authority, and certificates of the central services and of
    two operators. Sites enrol themselves. What is there stays.
    """
    made = Secure(folder.root.absolute() / "secure", enrolment)
    now = datetime.now(UTC)
    if (made.authority / CA_FILE).exists():
        authority = FileAuthority(made.authority)
    else:
        authority = FileAuthority.init(made.authority, FEDERATION, now)
    if not (made.identity("coordinator") / CERTIFICATE).exists():
        write_identity(
            made.identity("coordinator"),
            authority,
            lambda key: authority.issue_server(_HOSTS, key, now, _LIFE),
        )
    for name in OPERATORS:
        _person(made, authority, Identity(FEDERATION, Role.OPERATOR, name), now)
    _person(made, authority, Identity(FEDERATION, Role.CALIBRATOR, "calibrator"), now)
    return made


def _person(made: Secure, authority: FileAuthority, identity: Identity, now: datetime) -> None:
    place = made.identity(identity.name)
    if not (place / CERTIFICATE).exists():
        write_identity(place, authority, lambda key: authority.issue(identity, key, now, _LIFE))
