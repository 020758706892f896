"""Certificates of sites: the invitation, the first certificate, and the next ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.domain.invitation import Invitation, digest_of, new_token, spend
from coordinator.domain.site import SiteState
from coordinator.ports import Store, UnitOfWork
from coordinator.ports.authority import Authority
from coordinator.services import audit
from letheon.errors import (
    InvitationRefused,
    MalformedRequest,
    NoAuthority,
    NotPermitted,
    SiteFenced,
)
from letheon.names import site_name
from letheon.servicekit.caller import Caller, Role
from letheon.servicekit.clock import Clock
from letheon.servicekit.identity import Identity
from letheon.servicekit.key_files import PublicKey, pem_of, read_request

_LONGEST_VALIDITY = timedelta(days=30)


@dataclass(frozen=True)
class EnrolSite:
    """The use cases of the Enrolment service; without an authority each says so."""

    store: Store
    authority: Authority | None
    federation: str
    clock: Clock
    life: timedelta  # of a certificate
    validity: timedelta  # of an invitation

    def invite(
        self, site: str, invited_by: str, validity: timedelta | None = None
    ) -> tuple[str, Invitation]:
        """The token, which nobody can read again, and the invitation. Earlier ones become void.

        Raises NoAuthority, MalformedRequest, SiteFenced.
        """
        self._signing()
        lasting = validity or self.validity
        if not timedelta(0) < lasting <= _LONGEST_VALIDITY:
            raise MalformedRequest(
                f"an invitation is valid for at most {_LONGEST_VALIDITY.days} days",
                field="validity",
            )
        token, now = new_token(), self.clock.now()
        made = Invitation(digest_of(token), site, invited_by, now, now + lasting)
        with self.store.write() as uow:
            _check_not_erased(uow, site)
            for earlier in uow.invitations.of_site(site):
                if earlier.used_at is None and not earlier.void:
                    uow.invitations.save(replace(earlier, void=True))
            uow.invitations.add(made)
            audit.record(uow, now, "site.invited", site_name(site))
            uow.commit()
        return token, made

    def enrol(self, site: str, token: str, csr: bytes) -> tuple[bytes, datetime]:
        """The first certificate, in PEM, and when it ends.

        Raises NoAuthority, MalformedRequest, InvitationRefused, SiteFenced.
        """
        authority = self._signing()
        name, key = read_request(csr)
        if name != site:
            raise InvitationRefused(
                f"the csr is for {name[:63]!r}, the invitation for sites/{site}",
                rule="another_site",
            )
        now = self.clock.now()
        with self.store.write() as uow:
            spent = spend(uow.invitations.find(digest_of(token)), site, _digest(key), now)
            _check_not_erased(uow, site)
            uow.invitations.save(spent)
            # Signed before the commit: a token is not lost to an authority that cannot sign.
            identity = Identity(self.federation, Role.SITE, site)
            made = self._sign(authority, identity, key, now)
            audit.record(uow, now, "site.enrolled", site_name(site), invited_by=spent.invited_by)
            uow.commit()
        return made

    def renew(self, caller: Caller, csr: bytes) -> tuple[bytes, datetime]:
        """The next certificate of whoever has one, in PEM, and when it ends.

        Raises NoAuthority, MalformedRequest, NotPermitted, SiteFenced.
        """
        authority = self._signing()
        name, key = read_request(csr)
        if caller.role is Role.LOCAL or name != caller.name:
            raise NotPermitted(f"{caller} cannot have a certificate for {name[:63]!r}")
        identity, now = Identity(self.federation, caller.role, caller.name), self.clock.now()
        with self.store.write() as uow:
            if caller.role is Role.SITE:
                _check_not_erased(uow, caller.name)
            made = self._sign(authority, identity, key, now)
            audit.record(uow, now, "certificate.renewed", str(caller))
            uow.commit()
        return made

    def _signing(self) -> Authority:
        if self.authority is None:
            raise NoAuthority(
                "this coordinator signs no certificates: enrolment.ca is not configured. Ask the "
                "consortium's own authority for one"
            )
        return self.authority

    def _sign(
        self, authority: Authority, identity: Identity, key: PublicKey, now: datetime
    ) -> tuple[bytes, datetime]:
        made: x509.Certificate = authority.issue(identity, key, now, self.life)
        return pem_of(made), made.not_valid_after_utc


def _check_not_erased(uow: UnitOfWork, site: str) -> None:
    known = uow.sites.find(site)
    if known is not None and known.state is SiteState.ERASED:
        raise SiteFenced(
            f"sites/{site} was erased; its name is never used again",
            site=site,
            erasure=known.erasure,
        )


def _digest(key: PublicKey) -> str:
    raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).hexdigest()
