"""Shared by the tests of erasures: a coordinator, a queue in memory, a calibrator's steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders import Client, a_config, a_federation, a_vector, on_database

from coordinator.bootstrap import Coordinator, build
from letheon.federation.encoding import decode
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.proof.certificate import FORMAT, OLDER_FORMATS, commitment, sign
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.servicekit.signing import SigningKey, canonical_json
from letheon.v1 import (
    certificates_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    ledger_pb2,
    models_pb2,
    training_pb2,
)

PASS = erasures_pb2.Attempt.PASS
FAIL = erasures_pb2.Attempt.FAIL


@dataclass
class Federation:
    """A coordinator that serves, its queue, and everybody who calls it."""

    coordinator: Coordinator
    client: Client
    queue: MemoryErasureQueue
    erasures: erasures_pb2_grpc.ErasuresStub
    jobs: erasures_pb2_grpc.ErasureJobsStub
    certificates: certificates_pb2_grpc.CertificatesStub
    data: Path

    @property
    def head(self) -> Vector:
        """A copy of the live head [d]."""
        return self.coordinator.core.live.snapshot()[1]

    @property
    def version(self) -> int:
        return self.coordinator.core.live.position.version

    @property
    def epoch(self) -> int:
        return self.coordinator.core.live.position.epoch

    def train(self, *sites: str, seed: int = 0) -> list[training_pb2.Receipt]:
        """One delta of each, from the present head."""
        return [
            self.client.push(
                site, a_vector(seed + 7 * i), base_version=self.version, epoch=self.epoch
            )
            for i, site in enumerate(sites, start=1)
        ]

    def request(self, site: str, request_id: str = "r1", **more: Any) -> erasures_pb2.Erasure:
        return self.erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(
                request_id=request_id,
                site=f"sites/{site}",
                **{"legal_basis": "GDPR-17-1-b", **more},
            )
        )

    def get(self, name: str) -> erasures_pb2.Erasure:
        return self.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=name))

    def job(self, name: str, holder: str = "calibrator-1") -> Job:
        """Claims it."""
        claim = self.jobs.ClaimErasure(erasures_pb2.ClaimErasureRequest(name=name, holder=holder))
        return Job(self, name, claim.fencing_token)

    def download(self, name: str) -> tuple[models_pb2.Model, Vector]:
        parts = list(self.client.models.DownloadModel(models_pb2.DownloadModelRequest(name=name)))
        data = b"".join(part.chunk.data for part in parts[1:])
        return parts[0].header, decode(data, "float32")

    def verify_ledger(self) -> ledger_pb2.LedgerVerdict:
        *_, last = self.client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        return last.verdict

    def rows(self) -> list[ledger_pb2.Entry]:
        request = ledger_pb2.ListEntriesRequest(page_size=1000)
        return list(self.client.ledger.ListEntries(request).entries)

    def blobs(self, area: str) -> set[str]:
        return {path.name for path in (self.data / area).iterdir()}


@dataclass
class Job:
    """An erasure in the hands of a calibrator."""

    federation: Federation
    name: str
    token: int

    def remove(self) -> erasures_pb2.Removal:
        return self.federation.jobs.RemoveContribution(
            erasures_pb2.RemoveContributionRequest(name=self.name, fencing_token=self.token)
        )

    def ask(self, request_id: str, **task: Any) -> Sequence[str]:
        return self.federation.jobs.AskSites(
            erasures_pb2.AskSitesRequest(
                name=self.name, fencing_token=self.token, request_id=request_id, **task
            )
        ).tasks

    def ask_evaluate(self, request_id: str, *versions: int) -> Sequence[str]:
        return self.ask(request_id, evaluate=training_pb2.EvaluateTask(versions=versions))

    def answers(self, request_id: str) -> Sequence[erasures_pb2.Answer]:
        return self.federation.jobs.ListAnswers(
            erasures_pb2.ListAnswersRequest(
                name=self.name, fencing_token=self.token, request_id=request_id
            )
        ).answers

    def attempt(
        self, version: int, verdict: int = PASS, number: int = 0
    ) -> erasures_pb2.AttemptRecorded:
        return self.federation.jobs.RecordAttempt(
            erasures_pb2.RecordAttemptRequest(
                name=self.name,
                fencing_token=self.token,
                attempt=erasures_pb2.Attempt(
                    number=number,
                    version=version,
                    verdict=verdict,
                    tests=[
                        erasures_pb2.Attempt.Test(
                            name="utility",
                            verdict=verdict,
                            positive_control_fired=True,
                            detail="as good as before",
                            numbers_json="{}",
                        )
                    ],
                ),
            )
        )

    def passes(self) -> dict[str, Any]:
        """Evaluates the head, lets it pass; the process evidence."""
        version = self.federation.version
        self.ask_evaluate(f"gate-{version}", version)
        return json.loads(self.attempt(version).evidence_json)

    def renew(self, **more: Any) -> erasures_pb2.Claim:
        return self.federation.jobs.RenewClaim(
            erasures_pb2.RenewClaimRequest(name=self.name, fencing_token=self.token, **more)
        )

    def conclude(self, **end: Any) -> erasures_pb2.Erasure:
        return self.federation.jobs.ConcludeErasure(
            erasures_pb2.ConcludeErasureRequest(name=self.name, fencing_token=self.token, **end)
        )

    def certify(self, key: SigningKey) -> erasures_pb2.Erasure:
        return self.conclude(certificate=a_certificate(self.name, key, self.evidence()))

    def evidence(self) -> dict[str, Any] | None:
        """What the coordinator found when the gate passed; None before that."""
        with self.federation.coordinator.core.store.read() as uow:
            found = uow.erasures.get(self.name.rpartition("/")[2]).evidence_json
        return json.loads(found) if found else None


def a_certificate(
    erasure: str, key: SigningKey, evidence: Mapping[str, Any] | None = None
) -> bytes:
    """As a calibrator signs it; without evidence, of the format from before there was a log."""
    site = "sites/south"
    said: dict[str, Any] = {
        "format": OLDER_FORMATS[0] if evidence is None else FORMAT,
        "erasure": erasure,
        "subject": {"site": site, "salt": "s", "commitment": commitment(site, "s")},
    }
    if evidence is not None:
        said["federation"] = {"origin": evidence["federation_origin"]}
        said["ledger"] = evidence["ledger_rows"]
        said["recipients"] = evidence["recipients"]
        said["signed_at"] = "2026-03-01T00:00:00.000000Z"
    return sign(said, key)


def tampered(certificate: bytes) -> bytes:
    """The same file with another word in its statement."""
    file = json.loads(certificate)
    file["statement"]["claim"] = "anything"
    return canonical_json(file)


@contextmanager
def a_running_federation(
    directory: Path,
    *,
    sites: Sequence[str] = ("north", "south", "west"),
    plan: Plan | None = None,
    clock: Clock | None = None,
    queue: MemoryErasureQueue | None = None,
    config: Mapping[str, Any] | None = None,
    database_url: str | None = None,
) -> Iterator[Federation]:
    """Entering it again on the same folder is a restart."""
    known = directory / "federation" / "plan.json"
    if known.exists():
        plan = Plan.from_canonical(known.read_bytes())
        sites = ()
    else:
        plan = a_federation(directory / "federation", plan)
    queue = queue or MemoryErasureQueue()
    settings = a_config(
        directory,
        **{
            "upkeep": {"every_seconds": 3600.0, "keep_models": 100},
            **on_database(database_url),
            **(config or {}),
        },
    )
    coordinator = build(settings, clock=clock, queue=queue)
    client = Client(coordinator.start(), plan)
    client.register(*sites)
    try:
        yield Federation(
            coordinator,
            client,
            queue,
            erasures_pb2_grpc.ErasuresStub(client.channel),
            erasures_pb2_grpc.ErasureJobsStub(client.channel),
            certificates_pb2_grpc.CertificatesStub(client.channel),
            directory / "data",
        )
    finally:
        client.close()
        coordinator.stop()
