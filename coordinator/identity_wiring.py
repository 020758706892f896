"""The part of the object graph that knows callers: TLS, the guard, and enrolment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
from prometheus_client import CollectorRegistry

from coordinator.config import CoordinatorConfig, RateLimits
from coordinator.identity_metrics import IdentityMetrics
from coordinator.ports import Store
from coordinator.rpc.enrolment import EnrolmentServicer
from coordinator.rpc.guard import Guard, Identification, Rates
from coordinator.rpc.permissions import Limited
from coordinator.services.enrol_site import EnrolSite
from coordinator.training_wiring import Service
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.call_rate import CallRate, CallsAtOnce
from letheon.servicekit.caller import Caller, calling
from letheon.servicekit.clock import Clock
from letheon.servicekit.deny_list import DenyList
from letheon.servicekit.interception import short_name
from letheon.servicekit.server_tls import ServerCertificates, ServerTls
from letheon.servicekit.slow_calls import SlowCalls
from letheon.v1 import enrolment_pb2_grpc

_log = logging.getLogger(__name__)
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Doors:
    """How the server is reached, and who watches its doors."""

    guard: Guard
    credentials: grpc.ServerCredentials | None
    second: tuple[str, grpc.ServerCredentials] | None


def build_doors(
    config: CoordinatorConfig,
    store: Store,
    registry: CollectorRegistry,
    clock: Clock,
    audit: Callable[[str, LetheonError], None],
) -> Doors:
    """`audit` is told of refused calls.

    Raises BadConfig naming the file of TLS that cannot be used.
    """
    metrics = IdentityMetrics(registry)
    refused = _telling(metrics, audit)
    slow = SlowCalls(
        clock,
        patience_s=config.limits.silence_seconds,
        bytes_per_s=config.limits.slowest_bytes_per_second,
    )
    if config.tls is None:
        return Doors(Guard(store, None, None, slow, refused=refused), None, None)
    tls = config.tls

    def note(ends_at: datetime) -> None:
        metrics.certificate_expiry.set(ends_at.timestamp())
        if ends_at <= clock.now():
            _log.error("certificate_expired", extra={"not_after": ends_at.isoformat()})

    certificates = ServerCertificates(
        ServerTls(tls.certificate, tls.key, tls.client_ca), on_read=note
    )
    known = Identification(_federation(config), DenyList(tls.deny_list), clock)
    listen = config.enrolment.listen
    return Doors(
        Guard(store, known, _rates(config.rate_limits, clock), slow, refused=refused),
        certificates.requiring(),
        None if listen is None else (listen, certificates.without_client_certificates()),
    )


def enrolment_service(config: CoordinatorConfig, store: Store, clock: Clock) -> Service:
    """Raises BadConfig if the authority's files cannot be used."""
    told = config.enrolment
    authority = None if told.ca is None else FileAuthority(told.ca)
    enrol_site = EnrolSite(
        store,
        authority,
        _federation(config) or "",
        clock,
        life=timedelta(days=told.certificate_days),
        validity=timedelta(hours=told.invitation_hours),
    )
    return Service(
        "Enrolment",
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server,
        EnrolmentServicer(enrol_site, told.address or told.listen or ""),
    )


def _federation(config: CoordinatorConfig) -> str | None:
    """The one that callers must name. Raises BadConfig if two are configured."""
    told = None if config.tls is None else config.tls.federation
    if config.enrolment.ca is None:
        return told
    own = FileAuthority(config.enrolment.ca).federation
    if told not in (None, own):
        raise BadConfig(
            f"tls.federation is {told}, and the authority in enrolment.ca signs for {own}",
            key="tls.federation",
        )
    return own


def _rates(limits: RateLimits, clock: Clock) -> Rates:
    def hourly(count: float) -> CallRate:
        return CallRate(count / _HOUR_S, max(1.0, count), clock)

    per_s = limits.calls_per_second
    return Rates(
        CallRate(per_s, max(1.0, 2 * per_s), clock),
        {
            Limited.ERASURES: hourly(limits.erasures_per_hour),
            Limited.REGISTRATIONS: hourly(limits.registrations_per_hour),
            Limited.ENROLMENTS: hourly(limits.enrolments_per_hour),
        },
        CallsAtOnce(limits.calls_at_once),
    )


def _telling(
    metrics: IdentityMetrics, audit: Callable[[str, LetheonError], None]
) -> Callable[[Caller, str, LetheonError], None]:
    def refused(caller: Caller, method: str, why: LetheonError) -> None:
        metrics.refused.labels(str(caller.role), why.reason).inc()
        _log.warning(
            "call_refused",
            extra={
                "caller": str(caller),
                "serial": caller.serial,
                "method": short_name(method),
                "reason": why.reason,
                "why": why.message,
            },
        )
        with calling(caller):
            audit(short_name(method), why)

    return refused
