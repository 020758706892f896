"""A coordinator that keeps the contract of the erasure jobs in memory, behind real gRPC."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import google_crc32c
import numpy as np

from letheon import errors
from letheon.federation.parameters import Layout, TensorSpec
from letheon.federation.plan import Image, Plan, PlanDraft, Plugin
from letheon.servicekit.server import Server
from letheon.v1 import erasures_pb2 as pb
from letheon.v1 import federation_pb2, models_pb2, training_pb2
from letheon.v1.erasures_pb2_grpc import (
    ErasureJobsServicer,
    ErasuresServicer,
    add_ErasureJobsServicer_to_server,
    add_ErasuresServicer_to_server,
)
from letheon.v1.federation_pb2_grpc import FederationServicer, add_FederationServicer_to_server
from letheon.v1.models_pb2_grpc import ModelsServicer, add_ModelsServicer_to_server
from letheon.v1.training_pb2_grpc import TrainingServicer, add_TrainingServicer_to_server

LAYOUT = Layout((TensorSpec("weight", (4, 3)), TensorSpec("bias", (2,))))
START = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = 40  # head version when the request comes
CONTRIBUTION_NORM = 2.0
CLAIM_LEASE_S = 30.0
OPEN = (pb.Erasure.CERTIFIED, pb.Erasure.FAILED, pb.Erasure.CANCELLED)


def a_plan(layout: Layout = LAYOUT, **overrides: object) -> Plan:
    settings: dict = {
        "name": "test",
        "model": Plugin(plugin="small_cnn"),
        "image": Image(channels=1, height=12, width=12),
        "classes": 2,
        "gate": {"every": 4, "max_attempts": 3, "answer_timeout_seconds": 60.0},
    }
    return PlanDraft(**{**settings, **overrides}).with_layout(layout)


def a_statistic(version: int, auc: float, **overrides: float) -> training_pb2.ForgetStatistic:
    """`auc` of a group large enough that the interval is +-0.03."""
    values = {
        "erased_records": 400,
        "control_records": 200,
        "auc": auc,
        "auc_low": auc - 0.03,
        "auc_high": auc + 0.03,
        "tpr_at_1pct_fpr": 0.2 if auc > 0.6 else 0.01,
        "accuracy_erased": 0.9,
        "accuracy_control": 0.9 - (auc - 0.5),
        "accuracy_gap_low": auc - 0.53,
        "accuracy_gap_high": auc - 0.47,
        "mean_loss_erased": 0.2,
        "mean_loss_control": 0.3,
    }
    return training_pb2.ForgetStatistic(version=version, **{**values, **overrides})


class ScriptedCoordinator:
    """One erasure of `sites/north`; `south` and `east` are retained."""

    def __init__(self, method: str = "removal", *, plan: Plan | None = None, **fields: object):
        self.plan = plan or a_plan()
        self.layout = self.plan.parameters
        self.lock = threading.RLock()
        self.epoch, self.version = 0, BEFORE
        rng = np.random.default_rng(1)
        self.weights = {BEFORE: rng.normal(size=self.layout.size).astype("<f4")}
        self.erasure = pb.Erasure(
            name="erasures/e1",
            request_id="r1",
            site="sites/north",
            legal_basis="GDPR-17-1-b",
            level=pb.L1,
            method=method,
            state=pb.Erasure.RECEIVED,
            **fields,
        )
        for name, at in (
            ("requested_at", START),
            ("fenced_at", START),
            ("deadline", START + timedelta(days=30)),
        ):
            getattr(self.erasure, name).FromDatetime(at.replace(tzinfo=None))
        self.token, self.holder, self.progress = 0, "", ""
        self.subtracts = method in ("removal", "removal_distilled", "removal_recombined")
        self.questions: dict[str, pb.AskSitesRequest] = {}
        self.attempts: list[pb.Attempt] = []
        self.receipts: dict[str, training_pb2.Receipt] = {}
        self.patches: list[tuple[str, np.ndarray, training_pb2.PatchPurpose]] = []
        self.certificate = b""
        self.filed: list[pb.RequestErasureRequest] = []
        self.refusals: dict[str, list[Exception]] = {}
        self.calls: Counter[str] = Counter()
        self.target_patch: np.ndarray | None = None
        # What sites say; a test replaces these. None: no answer.
        self.evaluate: Callable[[str, int], float | None] = lambda site, version: 0.9
        self.audit: Callable[[int], float | None] = lambda version: (
            0.7 if version <= BEFORE else 0.5
        )
        self.retained = ("sites/south", "sites/east")
        self.fenced: set[str] = set()  # of the retained sites, by erasures that came later
        self.target_reachable = True
        self.target_failure = ""

    def start(self) -> tuple[Server, str]:
        jobs, rest = _Jobs(self), _Rest(self)
        server = Server(
            [
                (add_ErasureJobsServicer_to_server, jobs),
                (add_ErasuresServicer_to_server, rest),
                (add_FederationServicer_to_server, rest),
                (add_ModelsServicer_to_server, rest),
                (add_TrainingServicer_to_server, rest),
            ],
            workers=8,
        )
        return server, server.start()

    def merge(self, change: np.ndarray) -> None:
        head = self.weights[self.version]
        self.version += 1
        self.weights[self.version] = head + change.astype("<f4")

    def deltas(self, count: int) -> None:
        """Retained sites work."""
        with self.lock:
            for _ in range(count):
                self.merge(np.full(self.layout.size, 1e-3, "<f4"))

    def later_removal(self) -> None:
        """Another erasure removes its contribution."""
        with self.lock:
            self.epoch += 1
            self.merge(np.full(self.layout.size, -1e-2, "<f4"))

    def enter(self, call: str) -> None:
        """Counts a call and raises what the test scripted for it."""
        self.calls[call] += 1
        if self.refusals.get(call):
            raise self.refusals[call].pop(0)

    def check(self, call: str, token: int) -> None:
        self.enter(call)
        if self.erasure.state in OPEN:
            raise errors.ErasureConcluded("concluded")
        if token != self.token:
            raise errors.ClaimLost(f"token {token} is not {self.token}")

    def model(self, version: int) -> models_pb2.Model:
        content = self.weights[version].tobytes()
        return models_pb2.Model(
            name=f"models/{version}",
            version=version,
            epoch=self.epoch,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )


def stream(model: models_pb2.Model, content: bytes, offset: int = 0):
    yield models_pb2.DownloadModelResponse(header=model)
    data = content[offset:]
    chunk = models_pb2.Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
    yield models_pb2.DownloadModelResponse(chunk=chunk)


def part_messages(site: str, values: np.ndarray):
    data = values.astype("<f4").tobytes()
    header = pb.ContributionPart(
        site=site,
        first_entry=1,
        last_entry=9,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
    )
    yield pb.DownloadContributionsResponse(header=header)
    for offset in range(0, len(data), 32):
        piece = data[offset : offset + 32]
        chunk = models_pb2.Chunk(offset=offset, data=piece, crc32c=google_crc32c.value(piece))
        yield pb.DownloadContributionsResponse(chunk=chunk)


class _Jobs(ErasureJobsServicer):
    def __init__(self, world: ScriptedCoordinator):
        self.world = world

    def ClaimErasure(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.enter("claim")
            if request.name != w.erasure.name:
                raise errors.UnknownErasure("no such erasure")
            if w.erasure.state in OPEN:
                raise errors.ErasureConcluded("concluded")
            if w.holder not in ("", request.holder):
                raise errors.ClaimHeld("held", retry_after_s=1)
            w.token, w.holder = w.token + 1, request.holder
            return self._claim()

    def _claim(self):
        w = self.world
        claim = pb.Claim(erasure=w.erasure, fencing_token=w.token, progress_json=w.progress)
        claim.lease.FromTimedelta(timedelta(seconds=CLAIM_LEASE_S))
        return claim

    def RenewClaim(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("renew", request.fencing_token)
            if request.HasField("progress_json"):
                json.loads(request.progress_json)
                w.progress = request.progress_json
            if request.state:
                w.erasure.state = request.state
            return self._claim()

    def ReleaseClaim(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("release", request.fencing_token)
            w.holder = ""
            return pb.ReleaseClaimResponse()

    def RemoveContribution(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("remove", request.fencing_token)
            if not w.erasure.HasField("removal"):
                before = w.version
                w.epoch += 1
                if w.subtracts:
                    w.merge(np.full(w.layout.size, -0.5, "<f4"))
                w.erasure.removal.CopyFrom(
                    pb.Removal(
                        epoch=w.epoch,
                        version_before=before,
                        version_after=w.version,
                        sha256_before=w.model(before).sha256,
                        sha256_after=w.model(w.version).sha256,
                        contribution_norm=CONTRIBUTION_NORM,
                        removed_entries=7,
                        subtracted=w.subtracts,
                    )
                )
            return w.erasure.removal

    def AskSites(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("ask", request.fencing_token)
            w.questions.setdefault(request.request_id, request)
            return pb.AskSitesResponse(tasks=["tasks/t"])

    def ListAnswers(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("answers", request.fencing_token)
            question = w.questions[request.request_id]
            return pb.ListAnswersResponse(answers=self._answers(question))

    def _answers(self, question):
        w = self.world
        match question.WhichOneof("task"):
            case "evaluate":
                return [self._evaluated(site, question) for site in w.retained]
            case "audit":
                versions = question.audit.versions
                aucs = {v: w.audit(v) for v in versions}
                found = [a_statistic(v, auc) for v, auc in aucs.items() if auc is not None]
                audit = training_pb2.AuditAnswer(statistics=found)
                if not found:
                    return [pb.Answer(task="tasks/a", site="sites/north")]
                return [pb.Answer(task="tasks/a", site="sites/north", audit=audit)]
        if not w.target_reachable:
            return []
        answer = pb.Answer(task="tasks/x", site="sites/north")
        if w.target_failure:
            answer.failure.reason = w.target_failure
        elif w.target_patch is not None:
            answer.erase.update_id = "answer-1"
            answer.erase.norm = float(np.linalg.norm(w.target_patch))
            answer.erase.steps = 24
        return [answer]

    def _evaluated(self, site, question):
        answer = pb.Answer(task="tasks/v", site=site)
        for version in question.evaluate.versions:
            accuracy = self.world.evaluate(site, version)
            if accuracy is not None:
                answer.evaluate.utilities.add(version=version, records=100, accuracy=accuracy)
        return answer

    def DownloadAnswer(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("download_answer", request.fencing_token)
            content = w.target_patch.astype("<f4").tobytes()
        digest = hashlib.sha256(content).hexdigest()
        yield from stream(models_pb2.Model(size_bytes=len(content), sha256=digest), content)

    def DownloadContributions(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("contributions", request.fencing_token)
            sites = [site for site in w.retained if site not in w.fenced]
        if request.with_subject:
            assert not w.erasure.HasField("removal")
            yield from part_messages(w.erasure.site, np.full(w.layout.size, 0.5, "<f4"))
        for number, site in enumerate(site for site in sites for _ in range(request.segments)):
            yield from part_messages(site, np.full(w.layout.size, 1e-2 * (number + 1), "<f4"))

    def RecordAttempt(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("record", request.fencing_token)
            if not any(a.number == request.attempt.number for a in w.attempts):
                w.attempts.append(request.attempt)
            recorded = pb.AttemptRecorded(erasure=w.erasure)
            if request.attempt.verdict == pb.Attempt.PASS:
                promoted = (START + timedelta(hours=1)).replace(tzinfo=None)
                w.erasure.promoted_at.FromDatetime(promoted)
                recorded.erasure.CopyFrom(w.erasure)
                recorded.evidence_json = '{"ledger":{"holds":true},"removal_error":1e-7}'
            return recorded

    def ConcludeErasure(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.check("conclude", request.fencing_token)
            if request.WhichOneof("end") == "certificate":
                w.certificate = request.certificate
                w.erasure.state = pb.Erasure.CERTIFIED
            else:
                w.erasure.failure = request.failure
                w.erasure.state = pb.Erasure.FAILED
            return w.erasure


class _Rest(ErasuresServicer, FederationServicer, ModelsServicer, TrainingServicer):
    def __init__(self, world: ScriptedCoordinator):
        self.world = world

    def RequestErasure(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.enter("request")
            w.filed.append(request)
            return w.erasure

    def GetFederation(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.enter("federation")
            return federation_pb2.FederationStatus(head_version=w.version, epoch=w.epoch)

    def GetPlan(self, request, context):  # noqa: N802
        plan = self.world.plan
        self.world.enter("plan")
        return federation_pb2.Plan(canonical_json=plan.canonical_json(), digest=plan.digest)

    def DownloadModel(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.enter("download")
            version = (
                w.version if request.name == "models/head" else int(request.name.split("/")[1])
            )
            model, content = w.model(version), w.weights[version].tobytes()
        yield from stream(model, content, request.offset)

    def QueryUpload(self, request, context):  # noqa: N802
        w = self.world
        with w.lock:
            w.enter("query")
            receipt = w.receipts.get(request.update_id)
            if receipt is None:
                return training_pb2.QueryUploadResponse(committed_bytes=0)
            return training_pb2.QueryUploadResponse(receipt=receipt)

    def PushDelta(self, request_iterator, context):  # noqa: N802
        w = self.world
        header = next(request_iterator).header
        content = b"".join(request.chunk.data for request in request_iterator)
        with w.lock:
            w.check("push", header.patch.fencing_token)
            if header.update_id not in w.receipts:
                if header.patch.epoch != w.epoch:
                    raise errors.PatchVoid("a later removal happened")
                if header.patch.site in w.fenced:
                    raise errors.PatchVoid("the site is named by an erasure")
                if hashlib.sha256(content).digest() != header.sha256:
                    raise errors.DigestMismatch("digest")
                patch = np.frombuffer(content, "<f4")
                w.merge(patch)
                w.patches.append((header.update_id, patch, header.patch))
                w.receipts[header.update_id] = training_pb2.Receipt(
                    update_id=header.update_id,
                    outcome=training_pb2.Receipt.MERGED,
                    version=w.version,
                )
            return training_pb2.PushDeltaResponse(receipt=w.receipts[header.update_id])
