"""What the coordinator says: release, clock, plan, and how it sees the site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from client_agent.checks.finding import Finding, Obstacle, failed, ok, warning
from letheon.errors import LetheonError, UnknownSite
from letheon.federation.plan import Plan
from letheon.names import site_name
from letheon.servicekit.channel import open_channel
from letheon.servicekit.clock import Clock
from letheon.servicekit.route import Route
from letheon.v1 import federation_pb2, federation_pb2_grpc, sites_pb2, sites_pb2_grpc
from letheon.version import __version__

_DEADLINE_S = 10.0
_AGREES_S = 0.5
_SKEW_WARNING_S = 5.0
_SKEW_FAILED_S = 60.0


@dataclass(frozen=True)
class Answers:
    """What the coordinator was asked; `None` where it did not answer that."""

    status: federation_pb2.FederationStatus
    skew_s: float  # its clock minus ours
    plan: Plan | None
    site: sites_pb2.Site | None
    trouble: LetheonError | None  # of the question about the site or the plan


def ask(address: str, route: Route, site: str | None, clock: Clock) -> Answers:
    """Asks the coordinator. Raises LetheonError if it does not answer at all."""
    channel = open_channel(address, route=route, deadline_s=_DEADLINE_S)
    try:
        federation = federation_pb2_grpc.FederationStub(channel)
        # The first call also makes the connection; the second tells the time.
        status = federation.GetFederation(federation_pb2.GetFederationRequest())
        before = clock.now()
        status = federation.GetFederation(federation_pb2.GetFederationRequest())
        middle = before + (clock.now() - before) / 2
        skew_s = (status.read_at.ToDatetime(tzinfo=UTC) - middle).total_seconds()
        plan, known, trouble = None, None, None
        try:
            message = federation.GetPlan(federation_pb2.GetPlanRequest())
            plan = Plan.from_canonical(message.canonical_json)
            if site is not None:
                request = sites_pb2.GetSiteRequest(name=site_name(site))
                known = sites_pb2_grpc.SitesStub(channel).GetSite(request)
        except LetheonError as error:
            trouble = error
        return Answers(status, skew_s, plan, known, trouble)
    finally:
        channel.close()


def judge(answers: Answers, site: str | None) -> Iterator[Finding]:
    """One finding each: coordinator, clock, identity."""
    yield _release(answers.status)
    yield _clock(answers.skew_s)
    if site is not None:
        yield _identity(answers, site)


def _release(status: federation_pb2.FederationStatus) -> Finding:
    theirs = status.release
    where = f"epoch {status.epoch}, version {status.head_version}"
    if not theirs:
        sentence = (
            f"it answers ({where}) and does not tell its release, this agent is {__version__}"
        )
        return warning("coordinator", sentence, "Ask its operator which release it runs.")
    sentence = f"it answers ({where}); release {theirs}, this agent {__version__}"
    if theirs.split(".")[:2] != __version__.split(".")[:2]:
        return warning("coordinator", sentence, f"Install release {theirs} of the agent.")
    return ok("coordinator", sentence)


def _clock(skew_s: float) -> Finding:
    direction = "behind" if skew_s > 0 else "ahead of"
    sentence = f"this machine is {abs(skew_s):.1f} s {direction} the coordinator"
    if abs(skew_s) < _AGREES_S:
        sentence = "this machine and the coordinator agree"
    advice = "Turn time synchronisation on: timedatectl set-ntp true."
    if abs(skew_s) > _SKEW_FAILED_S:
        return failed("clock", Obstacle(sentence, advice))
    if abs(skew_s) > _SKEW_WARNING_S:
        return warning("clock", sentence, advice)
    return ok("clock", sentence)


def _identity(answers: Answers, site: str) -> Finding:
    if isinstance(answers.trouble, UnknownSite):
        return warning(
            "identity", f"the coordinator does not know the site {site} yet", "letheon-agent enroll"
        )
    if answers.trouble is not None:
        obstacle = Obstacle(
            f"the coordinator does not tell about the site: {answers.trouble.message}",
            "Ask its operator.",
        )
        return failed("identity", obstacle)
    known = answers.site
    if known is None or known.state == sites_pb2.Site.ACTIVE:
        since = "" if known is None else f" since {_date(known)}"
        return ok("identity", f"the site {site} is registered{since}")
    if known.state == sites_pb2.Site.FENCED:
        return warning(
            "identity",
            f"{known.erasure} names the site {site}: nothing of it is accepted any more",
            "Keep the agent running: it answers the audit of that erasure.",
        )
    obstacle = Obstacle(
        f"the site {site} was erased ({known.erasure}); its name is never used again",
        "Stop the agent, or enrol under a new name.",
    )
    return failed("identity", obstacle)


def _date(site: sites_pb2.Site) -> str:
    at: datetime = site.registered_at.ToDatetime(tzinfo=UTC)
    return f"{at:%Y-%m-%d}"
