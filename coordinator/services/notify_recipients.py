"""Tells whoever holds a version with the subject that it is invalid, and states who answered.

Sites hear of it by their tasks. Exports are listed: whoever runs the federation writes to their
recipients. What was answered is stated by amendments, each superseding the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.evidence import Leaf, LeafKind
from coordinator.domain.task import AnswerKind, Task, TaskKind
from coordinator.ports import IdMaker, Store, UnitOfWork
from coordinator.services import audit
from coordinator.services.destroy_subject import NO_VERSIONS, Versions
from coordinator.services.transparency import Transparency
from letheon import names
from letheon.errors import Refused
from letheon.proof.certificate import AMENDMENT_FORMAT, fingerprint
from letheon.proof.envelope import read_canonical, seal
from letheon.proof.key_list import stamp
from letheon.proof.words import ACKNOWLEDGED, LISTED, SILENT
from letheon.servicekit.clock import Clock
from letheon.servicekit.signing import canonical_json

TO_BE_NOTIFIED, FAILED = "to be notified", "could not"


def recipients(uow: UnitOfWork, erasure: Erasure, versions: Versions) -> list[dict[str, Any]]:
    """Who may hold a version that carries the subject, before anybody was told."""
    if versions == NO_VERSIONS:
        return []
    held: dict[str, list[int]] = {}
    for download in uow.downloads.overlapping(versions.first, versions.last):
        if download.site == erasure.site and erasure.names_site:
            continue  # its own data
        first = max(download.first_version, versions.first)
        last = min(download.last_version, versions.last)
        known = held.setdefault(download.site, [first, last])
        held[download.site] = [min(known[0], first), max(known[1], last)]
    sites = [
        {"kind": "site", "site": site, "versions": span, "state": TO_BE_NOTIFIED}
        for site, span in sorted(held.items())
    ]
    exports = [
        {
            "kind": "export",
            "export": names.export_name(export.request_id),
            "version": export.version,
            "recipient": export.recipient,
            "exported_at": stamp(export.exported_at),
            "state": LISTED,
        }
        for export in uow.exports.all()
        if export.version in versions and erasure.site not in export.without
    ]
    return [*sites, *exports]


def notify(uow: UnitOfWork, erasure: str, statement: Mapping[str, Any], new_id: IdMaker) -> None:
    """One task for each site that the statement names."""
    asked = {task.site for task in _notices(uow, erasure)}
    for one in statement.get("recipients", ()):
        site = one.get("site") if isinstance(one, dict) else None
        if site is None or site in asked or uow.sites.find(site) is None:
            continue
        first, last = one["versions"]
        certificate = names.certificate_name(erasure)
        uow.tasks.add(
            Task(
                id=new_id(),
                request_id=f"{erasure}-invalidate",
                site=site,
                erasure=erasure,
                kind=TaskKind.INVALIDATE,
                payload={"first_version": first, "last_version": last, "certificate": certificate},
                created_at=uow.erasures.get(erasure).state_since,
            )
        )


@dataclass(frozen=True)
class Amend:
    """The use case of SupersedeCertificate, and what follows from the last answer."""

    store: Store
    log: Transparency
    clock: Clock

    def __call__(self, erasure: str) -> bytes:
        """The certificate file, its amendment stating who answered so far.

        Nothing new is signed if nothing changed. Raises UnknownErasure, UnknownCertificate, or
        Refused for a certificate from before there was a log.
        """
        with self.store.write() as uow:
            content = uow.certificates.get(erasure).content
            if self._amended(uow, erasure, self.clock.now()) is not None:
                uow.commit()
        with self.store.read() as uow:
            return self.log.file_of(uow, erasure) or content

    def if_settled(self, uow: UnitOfWork, erasure: str | None, now: datetime) -> None:
        """Amends once nobody is left to answer; inside the transaction of the last answer."""
        if erasure is None or any(task.is_waiting for task in _notices(uow, erasure)):
            return
        if uow.erasures.get(erasure).state is ErasureState.CERTIFIED:
            self._amended(uow, erasure, now)

    def _amended(self, uow: UnitOfWork, erasure: str, now: datetime) -> Leaf | None:
        original = uow.log.newest(LeafKind.CERTIFICATE, erasure)
        if original is None:
            raise Refused(
                f"certificates/{erasure} is from before there was a transparency log: it cannot "
                "be superseded",
                erasure=erasure,
            )
        newest = uow.log.newest(LeafKind.AMENDMENT, erasure)
        before = read_canonical((newest or original).content)["statement"]
        found = _with_answers(read_canonical(original.content)["statement"], uow, erasure)
        if found == before.get("recipients"):
            return None
        number = int(before.get("number", 0)) + 1
        complete = all(one["state"] in (ACKNOWLEDGED, LISTED) for one in found)
        statement = {
            "format": AMENDMENT_FORMAT,
            "federation": {"origin": self.log.origin},
            "erasure": names.erasure_name(erasure),
            "certificate": fingerprint(original.content),
            "supersedes": fingerprint((newest or original).content),
            "number": number,
            "recipients": found,
            "complete": complete,
            "signed_at": stamp(now),
        }
        content = canonical_json(seal(statement, self.log.signer.key))
        audit.record(
            uow,
            now,
            "certificate.superseded",
            names.certificate_name(erasure),
            number=number,
            complete=complete,
        )
        leaf = self.log.add(uow, LeafKind.AMENDMENT, content, erasure=erasure)
        self.log.sign(uow, now)
        return leaf


def _notices(uow: UnitOfWork, erasure: str) -> list[Task]:
    return [task for task in uow.tasks.of_erasure(erasure) if task.kind is TaskKind.INVALIDATE]


def _with_answers(
    statement: Mapping[str, Any], uow: UnitOfWork, erasure: str
) -> list[dict[str, Any]]:
    answers = {task.site: task for task in _notices(uow, erasure)}
    found = []
    for one in statement.get("recipients", ()):
        task = answers.get(one.get("site"))
        found.append(dict(one) if task is None else {**one, **_answer(task)})
    return found


def _answer(task: Task) -> dict[str, Any]:
    if task.answered_at is None:
        return {"state": SILENT, "notified_at": stamp(task.created_at)}
    if task.answer_kind is AnswerKind.FAILURE:
        return {"state": FAILED, "answered_at": stamp(task.answered_at)}
    return {
        "state": ACKNOWLEDGED,
        "acknowledged_at": stamp(task.answered_at),
        "copies_removed": (task.answer or {}).get("copies_removed", 0),
    }
