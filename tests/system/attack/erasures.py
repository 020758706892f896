"""Erasures as a weapon: to wreck the model, or to get rid of somebody else's data."""

from __future__ import annotations

import contextlib

from letheon.errors import (
    ErasureNotApproved,
    LetheonError,
    NotPermitted,
    RateLimited,
    SiteFenced,
    UnknownSite,
)
from letheon.servicekit.caller import Role
from letheon.v1 import erasures_pb2 as pb
from letheon.v1.erasures_pb2_grpc import ErasureJobsStub, ErasuresStub

from .attacks import Outcome, attack, every, put_back, refused, stopped, succeeded
from .insider import asked, erasure_of
from .world import SITES, World

FAMILY = "erasures as a weapon"


@attack(FAMILY, "a site asks to erase another site", expected="PERMISSION_DENIED", quick=True)
def of_another_site(world: World) -> Outcome:
    north = world.insiders["north"]
    return refused(lambda: north.erasures.RequestErasure(asked("south", "x1")), NotPermitted)


@attack(FAMILY, "one operator asks to erase every site",
        expected="beyond 30 % of the model a second person must approve; nothing is fenced before",
        quick=True)  # fmt: skip
def flood_of_one_operator(world: World) -> Outcome:
    stub = ErasuresStub(world.operator())
    filed: list[pb.Erasure] = []

    def undo() -> None:
        for one in filed:
            stub.CancelErasure(pb.CancelErasureRequest(name=one.name))

    with put_back(undo):
        for site in ("north", "south", "east", "west", "tiny"):
            filed.append(stub.RequestErasure(asked(site, f"flood-{site}")))
        fenced = [one for one in filed if one.state == pb.Erasure.RECEIVED]
        waiting = [one for one in filed if one.state == pb.Erasure.AWAITING_APPROVAL]
        share = len(fenced) / len(SITES)  # each sent as many deltas
        own = refused(
            lambda: stub.ApproveErasure(pb.ApproveErasureRequest(name=waiting[0].name)),
            NotPermitted,
        )
        again = ErasuresStub(world.channel(world.identity(Role.OPERATOR, "operator")))
        twin = refused(
            lambda: again.ApproveErasure(pb.ApproveErasureRequest(name=waiting[0].name)),
            NotPermitted,
        )
        jobs = ErasureJobsStub(world.channel(world.identity(Role.CALIBRATOR, "eager")))
        carried = refused(
            lambda: jobs.ClaimErasure(pb.ClaimErasureRequest(name=waiting[0].name, holder="eager")),
            ErasureNotApproved,
        )
        if share > 0.3 or not waiting:
            return succeeded(f"{len(fenced)} sites with {share:.0%} of the model were fenced")
    return every(
        {"approved by the same person": own, "with another certificate": twin, "claimed": carried},
        f"{len(fenced)} of {len(filed)} fenced ({share:.0%} of the model), {len(waiting)} wait; "
        "the same person cannot approve, nobody can carry it out",
    )


@attack(FAMILY, "a hundred requests within a second by one operator",
        expected="RATE_LIMITED after 60 in an hour", quick=True)  # fmt: skip
def flood_of_requests(world: World) -> Outcome:
    stub = ErasuresStub(world.channel(world.identity(Role.OPERATOR, "flooder")))
    taken = 0
    for number in range(100):
        try:
            stub.RequestErasure(asked("nobody", f"flood-{number}"))
        except UnknownSite:
            taken += 1
        except RateLimited as error:
            return stopped(f"after {taken}: {error.message}")
    return succeeded("a hundred were looked at")


@attack(FAMILY, "a site that is fenced goes on sending, and cancels for another",
        expected="SITE_FENCED; PERMISSION_DENIED", quick=True)  # fmt: skip
def fenced_site_goes_on(world: World) -> Outcome:
    name = f"erasures/{erasure_of(world.insiders['gone'])}"
    gone, north = world.insiders["gone"], world.insiders["north"]
    pushed = refused(lambda: gone.push(gone.honest(77)), SiteFenced)
    cancelled = refused(
        lambda: north.erasures.CancelErasure(pb.CancelErasureRequest(name=name)), NotPermitted
    )
    return every({"it sends": pushed, "another cancels": cancelled}, "both refused")


@attack(FAMILY, "an erasure is carried out by a calibrator that lost its claim",
        expected="CLAIM_LOST")  # fmt: skip
def late_calibrator(world: World) -> Outcome:
    from letheon.errors import ClaimLost

    name = f"erasures/{erasure_of(world.insiders['gone'])}"
    jobs = ErasureJobsStub(world.channel(world.identity(Role.CALIBRATOR, "late")))
    first = jobs.ClaimErasure(pb.ClaimErasureRequest(name=name, holder="late"))
    jobs.ReleaseClaim(pb.ReleaseClaimRequest(name=name, fencing_token=first.fencing_token))
    second = jobs.ClaimErasure(pb.ClaimErasureRequest(name=name, holder="present"))
    late = refused(
        lambda: jobs.RemoveContribution(
            pb.RemoveContributionRequest(name=name, fencing_token=first.fencing_token)
        ),
        ClaimLost,
    )
    with contextlib.suppress(LetheonError):
        jobs.ReleaseClaim(pb.ReleaseClaimRequest(name=name, fencing_token=second.fencing_token))
    return late
