"""A coordinator with mutual TLS in this process, its authority, and channels of anybody to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from builders import a_config, a_federation, on_database

from coordinator.bootstrap import Coordinator, build
from letheon.federation.plan import Plan
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.channel import open_channel
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import files_in, write_identity
from letheon.servicekit.route import Route, TlsFiles

FEDERATION = "chest"
_LIFE = timedelta(days=1)
# A test makes more calls than any caller.
_UNLIMITED = {
    "calls_per_second": 1e6,
    "erasures_per_hour": 1e6,
    "registrations_per_hour": 1e6,
    "enrolments_per_hour": 1e6,
}


@dataclass
class Secured:
    """The running coordinator, its authority, and who calls it."""

    folder: Path
    authority: FileAuthority
    coordinator: Coordinator
    plan: Plan
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        return self.coordinator.address

    @property
    def enrolment(self) -> str:
        assert self.coordinator.enrolment_address is not None
        return self.coordinator.enrolment_address

    def identity(
        self, role: Role, name: str, *, life: timedelta = _LIFE, now: datetime | None = None
    ) -> Path:
        """A folder with a new certificate."""
        place = self.folder / "identities" / f"{role}-{name}"
        who = Identity(self.authority.federation, role, name)
        at = now or datetime.now(UTC)
        write_identity(place, self.authority, lambda key: self.authority.issue(who, key, at, life))
        return place

    def channel(self, role: Role, name: str) -> grpc.Channel:
        """Of somebody with a certificate."""
        return self.channel_with(files_in(self.identity(role, name)))

    def channel_with(self, tls: TlsFiles, address: str = "") -> grpc.Channel:
        """With these files."""
        channel = open_channel(address or self.address, route=Route(tls=tls), deadline_s=10.0)
        self.closing.callback(channel.close)
        return channel

    def uncertified(self) -> grpc.Channel:
        """To the port without client certificates."""
        return self.channel_with(TlsFiles(ca=self.folder / "ca" / "ca.pem"), self.enrolment)


@contextmanager
def a_secure_coordinator(
    folder: Path,
    *,
    clock: Clock | None = None,
    config: Mapping[str, Any] | None = None,
    database_url: str | None = None,
    signs: bool = True,
) -> Iterator[Secured]:
    """With an authority of its own, which also signs for sites if `signs`."""
    plan = a_federation(folder / "federation")
    now = datetime.now(UTC)
    authority = FileAuthority.init(folder / "ca", FEDERATION, now)
    own = folder / "own"
    hosts = ["127.0.0.1", "localhost"]
    write_identity(own, authority, lambda key: authority.issue_server(hosts, key, now, _LIFE))
    settings = {
        "tls": {
            "certificate": own / "certificate.pem",
            "key": own / "key.pem",
            "client_ca": folder / "ca" / "ca.pem",
            "federation": FEDERATION,
            "deny_list": folder / "ca" / "deny.list",
        },
        "enrolment": {"listen": "127.0.0.1:0", **({"ca": folder / "ca"} if signs else {})},
        "rate_limits": _UNLIMITED,
        **on_database(database_url),
        **(config or {}),
    }
    coordinator = build(a_config(folder, **settings), clock=clock, queue=MemoryErasureQueue())
    coordinator.start()
    secured = Secured(folder, authority, coordinator, plan)
    try:
        yield secured
    finally:
        secured.closing.close()
        coordinator.stop()
