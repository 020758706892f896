"""The object graph of the calibrator: the only file that names concrete adapters."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache, partial

import grpc
from prometheus_client import CollectorRegistry

from calibrator.adapters.coordinator_client import CoordinatorClient
from calibrator.adapters.unequipped_laboratory import UnequippedLaboratory
from calibrator.config import CalibratorConfig, SourceConfig, TlsConfig
from calibrator.drive import Drive
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Head, Laboratory
from calibrator.services.images import Images, check_disjoint, check_images
from calibrator.services.job import Workshop
from calibrator.worker import Pace, Worker
from letheon import registry
from letheon.errors import Busy, InternalFault, Unavailable
from letheon.federation.plan import Plan
from letheon.imaging.records import Records
from letheon.proof.key_files import load_signer
from letheon.proof.key_list import CALIBRATOR
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.channel import open_channel
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.erasure_queue import RedisErasureQueue
from letheon.servicekit.health_port import HealthPort
from letheon.servicekit.identity import identity_of
from letheon.servicekit.metrics import serve_metrics
from letheon.servicekit.own_certificate import expiry_s
from letheon.servicekit.process_metrics import observe_process
from letheon.servicekit.renewal import Renewal, RenewalThread
from letheon.servicekit.route import Route, certificates_in
from letheon.servicekit.signing import SigningKey
from letheon.unlearning.method import Method
from letheon.v1 import enrolment_pb2
from letheon.v1.enrolment_pb2_grpc import EnrolmentStub

_LOG = logging.getLogger(__name__)
_BACKOFF_BASE_S = 0.2
_SALT_BYTES = 16
# Names on the health port; both must hold for a calibrator to be ready.
_COORDINATOR, _REDIS = "coordinator", "redis"


def run(config: CalibratorConfig, stop: threading.Event) -> bool:
    """Builds the calibrator and works until `stop`; false if a job outlived the grace.

    Raises BadConfig or BadData for what a human must put right first.
    """
    clock = SystemClock()
    backoff = partial(Backoff, _BACKOFF_BASE_S, config.backoff_cap_seconds)
    key = load_signer(config.key_path, CALIBRATOR, clock.now()).key
    with ExitStack() as stack:
        health = HealthPort(config.health_listen, conditions=(_COORDINATOR, _REDIS))
        health.start()
        stack.callback(health.stop)
        images = _load_images(config)
        metrics = _serve_metrics(config, stack)
        tls = config.tls
        channel = open_channel(
            config.coordinator, route=None if tls is None else Route(tls=tls.files)
        )
        at_work: list[Worker] = []
        stack.callback(close_unless_used, channel, at_work)
        if tls is not None:
            metrics.certificate_expiry.set(expiry_s(tls.files))
            if tls.renew:
                renewal = _renewal(tls, channel, clock, metrics, backoff())
                renewal.start()
                stack.callback(renewal.stop)
        client = CoordinatorClient(channel, reader=config.name)
        queue = RedisErasureQueue(
            config.redis_url.get_secret_value(), reclaim_after_s=config.reclaim_seconds
        )
        stack.callback(queue.close)
        if (plan := await_plan(client, clock, stop, backoff())) is None:
            return True
        health.note(_COORDINATOR, holds=True)
        check_images(images, plan)
        drive = Drive(
            _workshop(config, client, plan, images, clock, key),
            metrics,
            backoff,
            config.poll_seconds,
        )
        worker = Worker(
            name=config.name,
            queue=queue,
            claims=client,
            drive=drive,
            clock=clock,
            metrics=metrics,
            backoff=backoff,
            make_salt=partial(secrets.token_hex, _SALT_BYTES),
            pace=Pace(config.block_seconds, config.renew_seconds, config.max_jobs),
            queue_answers=partial(health.note, _REDIS),
        )
        at_work.append(worker)
        _LOG.info("calibrator_started", extra={"holder": config.name, "key_id": key.key_id})
        worker.run(stop)
        return worker.join(config.stop_grace_seconds)


def _renewal(
    tls: TlsConfig,
    channel: grpc.Channel,
    clock: Clock,
    metrics: CalibratorMetrics,
    backoff: Backoff,
) -> RenewalThread:
    stub = EnrolmentStub(channel)

    def renew(csr: bytes) -> bytes:
        return stub.Renew(enrolment_pb2.RenewRequest(csr=csr)).certificate

    own = identity_of(certificates_in(tls.certificate, "certificate")[0])
    return RenewalThread(
        Renewal(
            tls.certificate,
            tls.key,
            own.name,
            renew,
            clock,
            on_certificate=lambda ends: metrics.certificate_expiry.set(ends.timestamp()),
        ),
        backoff,
    )


def close_unless_used(channel: grpc.Channel, at_work: Sequence[Worker]) -> None:
    """Closes the channel, unless a job outlived the grace.

    A call that begins on a channel while another thread closes it crashes the process inside
    gRPC (1.85); a job that is still at work keeps the channel open to the end of the process.
    """
    if all(worker.join(0.0) for worker in at_work):
        channel.close()


def _serve_metrics(config: CalibratorConfig, stack: ExitStack) -> CalibratorMetrics:
    prometheus = CollectorRegistry()
    observe_process(prometheus, "calibrator", config.state_dir)
    if config.metrics_listen is not None:
        address, close = serve_metrics(config.metrics_listen, prometheus)
        stack.callback(close)
        _LOG.info("metrics_served", extra={"address": address})
    return CalibratorMetrics(prometheus)


def _workshop(
    config: CalibratorConfig,
    client: CoordinatorClient,
    plan: Plan,
    images: Images,
    clock: Clock,
    key: SigningKey,
) -> Workshop:
    return Workshop(
        coordinator=client,
        plan=plan,
        method=partial(build_method, config),
        laboratory=cache(partial(build_laboratory, plan, images, config.threads)),
        has_images=images.calibration is not None and images.audit is not None,
        clock=clock,
        directory=config.state_dir,
        key=key,
    )


def await_plan(head: Head, clock: Clock, stop: threading.Event, backoff: Backoff) -> Plan | None:
    """The plan, as soon as the coordinator answers; None if the process is to end first."""
    while not stop.is_set():
        try:
            return head.plan()
        except (Unavailable, Busy, InternalFault) as error:
            _LOG.warning("plan_not_available", extra={"reason": error.reason})
            clock.wait(stop, backoff.next_s())
    return None


def build_method(config: CalibratorConfig, name: str) -> Method:
    """A method with its configured arguments. Raises UnknownPlugin or BadConfig."""
    method: Method = registry.build(registry.UNLEARNING, name, config.methods.get(name, {}))
    return method


def build_laboratory(plan: Plan, images: Images, threads: int) -> Laboratory:
    """A laboratory; without any image it needs no torch."""
    if images.calibration is None and images.audit is None:
        return UnequippedLaboratory()
    from calibrator.adapters.torch_laboratory import TorchLaboratory

    return TorchLaboratory(plan, images, threads)


def _load_images(config: CalibratorConfig) -> Images:
    """Both sets, seen to be disjoint before anything else is done."""
    images = Images(_load(config.calibration), _load(config.audit))
    check_disjoint(images)
    return images


def _load(source: SourceConfig | None) -> Records | None:
    if source is None:
        return None
    records: Records = registry.build(registry.SOURCES, source.plugin, source.arguments).load()
    return records
