"""Who may call what: one table of every rpc and every role. `docs/security/permissions.md` is it.

A method that is not in the table is denied to everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from letheon.names import base_of, certificate_id, contribution_of, erasure_id, site_id
from letheon.servicekit.caller import Role
from letheon.servicekit.interception import Message


class Reach(StrEnum):
    """How far a permission goes."""

    ANY = "any"
    OWN = "own"  # only what is of the caller's own site
    CENTRAL = "central"  # only what is of no site


class Limited(StrEnum):
    """Calls that are limited more than the others, each in its own bucket."""

    ERASURES = "erasure requests"
    REGISTRATIONS = "registrations"
    ENROLMENTS = "enrolments"


Naming = Callable[[Message], str]


def _nothing(_message: Message) -> str:
    return ""


@dataclass(frozen=True)
class Rule:
    """Roles and their reach; `site` and `erasure` read from a request whose it is, or give ''."""

    roles: Mapping[Role, Reach]
    site: Naming = _nothing
    erasure: Naming = _nothing
    limited: Limited | None = None
    without_certificate: bool = False  # also for those who have none yet


def _site_field(name: str) -> Naming:
    def read(message: Message) -> str:
        text = getattr(message, name)
        return site_id(text) if text else ""

    return read


def _uploading(message: Message) -> str:
    """The site whose upload a first message begins; a patch is of no site, whoever made it up."""
    purpose: str | None = message.header.WhichOneof("purpose")
    if purpose not in ("delta", "answer"):
        return ""
    text: str = getattr(message.header, purpose).site
    return site_id(text) if text else ""


def _reader(message: Message) -> str:
    """The site that a download says it is for; a calibrator or a person is none."""
    text: str = message.reader
    return site_id(text) if text.startswith("sites/") else ""


def _exchanged(message: Message) -> str:
    """The erasure whose files are downloaded: they hold what the site alone may see."""
    base = base_of(message.name)
    return base[0] if base is not None else contribution_of(message.name) or ""


_NAME = _site_field("name")
_SITE = _site_field("site")
_S, _O, _A, _C = Role.SITE, Role.OPERATOR, Role.AUDITOR, Role.CALIBRATOR
_CONSENT, _M = Role.CONSENT, Role.MONITOR
_ANY, _OWN, _CENTRAL = Reach.ANY, Reach.OWN, Reach.CENTRAL


def _of_erasure(message: Message) -> str:
    return erasure_id(message.name)


def _certified(message: Message) -> str:
    return certificate_id(message.name)


def _all(*roles: Role, **more: Any) -> Rule:  # noqa: ANN401
    return Rule(dict.fromkeys(roles, _ANY), **more)


def _own(*others: Role, **more: Any) -> Rule:  # noqa: ANN401
    return Rule({_S: _OWN, **dict.fromkeys(others, _ANY)}, **more)


EVERYBODY = tuple(role for role in Role if role is not Role.LOCAL)
_CALIBRATOR = _all(_C)
_WATCHERS = (_O, _A, _M)

TABLE: Mapping[str, Rule] = {
    "letheon.v1.Sites/RegisterSite": _own(site=_NAME, limited=Limited.REGISTRATIONS),
    "letheon.v1.Sites/GetSite": _own(*_WATCHERS, site=_NAME),
    "letheon.v1.Sites/ListSites": _all(*_WATCHERS),
    "letheon.v1.Sites/ForgetUpdateKey": _all(_O),
    "letheon.v1.Training/NextTask": _own(site=_SITE),
    "letheon.v1.Training/Heartbeat": _own(site=_SITE),
    "letheon.v1.Training/QueryUpload": Rule({_S: _OWN, _C: _CENTRAL}, site=_SITE),
    "letheon.v1.Training/PushDelta": Rule({_S: _OWN, _C: _CENTRAL}, site=_uploading),
    "letheon.v1.Training/SubmitAnswer": _own(site=_SITE),
    "letheon.v1.Models/GetModel": _all(_S, _O, _A, _C, _M),
    "letheon.v1.Models/ListModels": _all(_S, _O, _A, _C, _M),
    "letheon.v1.Models/DownloadModel": Rule(
        {_S: _OWN, _O: _ANY, _A: _ANY, _C: _ANY}, site=_reader, erasure=_exchanged
    ),
    "letheon.v1.Models/ExportModel": _all(_O),
    "letheon.v1.Models/RebuildModel": _all(_O, _A),
    "letheon.v1.Models/ListExports": _all(_O, _A),
    "letheon.v1.Federation/GetFederation": _all(*EVERYBODY),
    "letheon.v1.Federation/GetPlan": _all(*EVERYBODY),
    "letheon.v1.Ledger/VerifyLedger": _all(_O, _A),
    "letheon.v1.Ledger/ListEntries": _all(_O, _A),
    "letheon.v1.Updates/ListQuarantined": _all(_O, _A),
    "letheon.v1.Updates/ReleaseUpdate": _all(_O),
    "letheon.v1.Updates/RejectUpdate": _all(_O),
    "letheon.v1.Certificates/GetCertificate": _own(_O, _A, erasure=_certified),
    "letheon.v1.Certificates/ListCertificates": _all(_O, _A),
    "letheon.v1.Certificates/SupersedeCertificate": _all(_O),
    "letheon.v1.Audit/ListAuditRows": _all(_O, _A),
    "letheon.v1.Transparency/GetCheckpoint": _all(*EVERYBODY),
    "letheon.v1.Transparency/GetInclusion": _all(*EVERYBODY),
    "letheon.v1.Transparency/GetConsistency": _all(*EVERYBODY),
    "letheon.v1.Transparency/GetKeys": _all(*EVERYBODY),
    "letheon.v1.Erasures/RequestErasure": _own(
        _O, _CONSENT, _C, site=_SITE, limited=Limited.ERASURES
    ),
    "letheon.v1.Erasures/GetErasure": _own(*_WATCHERS, _C, _CONSENT, erasure=_of_erasure),
    "letheon.v1.Erasures/ListErasures": _all(*_WATCHERS, _C),
    "letheon.v1.Erasures/CancelErasure": _own(_O, erasure=_of_erasure),
    "letheon.v1.Erasures/ApproveErasure": _all(_O),
    "letheon.v1.ErasureJobs/ClaimErasure": _CALIBRATOR,
    "letheon.v1.ErasureJobs/RenewClaim": _CALIBRATOR,
    "letheon.v1.ErasureJobs/ReleaseClaim": _CALIBRATOR,
    "letheon.v1.ErasureJobs/RemoveContribution": _CALIBRATOR,
    "letheon.v1.ErasureJobs/AskSites": _CALIBRATOR,
    "letheon.v1.ErasureJobs/ListAnswers": _CALIBRATOR,
    "letheon.v1.ErasureJobs/DownloadAnswer": _CALIBRATOR,
    "letheon.v1.ErasureJobs/DownloadContributions": _CALIBRATOR,
    "letheon.v1.ErasureJobs/RecordAttempt": _CALIBRATOR,
    "letheon.v1.ErasureJobs/ConcludeErasure": _CALIBRATOR,
    "letheon.v1.Recovery/GetRecovery": _all(_O, _A),
    "letheon.v1.Recovery/ApplyTombstones": _all(_O),
    "letheon.v1.Enrolment/InviteSite": _all(_O),
    "letheon.v1.Enrolment/Enrol": _all(
        *EVERYBODY, limited=Limited.ENROLMENTS, without_certificate=True
    ),
    "letheon.v1.Enrolment/Renew": _all(_S, _C, limited=Limited.ENROLMENTS),
    "grpc.health.v1.Health/Check": _all(*EVERYBODY, without_certificate=True),
    "grpc.health.v1.Health/List": _all(*EVERYBODY, without_certificate=True),
    "grpc.health.v1.Health/Watch": _all(*EVERYBODY, without_certificate=True),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _all(_O, _A, _M),
}
