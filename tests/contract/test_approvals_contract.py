"""Who may ask to erase what, and when a second operator must consent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import Client, a_vector
from secure_coordinator import Secured, a_secure_coordinator

from coordinator.domain.site import SiteState
from letheon.errors import (
    ErasureAlreadyRequested,
    ErasureNotApproved,
    ErasureNotAwaiting,
    NotPermitted,
    SiteFenced,
)
from letheon.servicekit.caller import Role
from letheon.v1 import erasures_pb2 as pb
from letheon.v1 import sites_pb2, training_pb2_grpc
from letheon.v1.erasures_pb2_grpc import ErasureJobsStub, ErasuresStub
from letheon.v1.sites_pb2_grpc import SitesStub

SITES = ("north", "south", "west")


class Clinic(Client):
    """The steps of an agent, over a connection with the site's own certificate."""

    def __init__(self, secured: Secured, site: str) -> None:
        self.plan, self.site = secured.plan, site
        self.channel = secured.channel(Role.SITE, site)
        self.training = training_pb2_grpc.TrainingStub(self.channel)
        self.sites = SitesStub(self.channel)
        self.erasures = ErasuresStub(self.channel)


@pytest.fixture
def secured(tmp_path: Path, chosen_database: str | None) -> Iterator[Secured]:
    config = {"approvals": {"share": 0.4}}
    with a_secure_coordinator(tmp_path, config=config, database_url=chosen_database) as running:
        # 1 and 1 and 4 deltas: west holds two thirds of the merged weight.
        for name, deltas in zip(SITES, (1, 1, 4), strict=True):
            clinic = Clinic(running, name)
            clinic.register(name)
            for number in range(deltas):
                head = running.coordinator.core.live.position.version
                delta = a_vector(number, running.plan.parameters)
                clinic.push(name, np.asarray(delta), base_version=head)
        yield running


def asked(site: str, request_id: str = "", **more: str) -> pb.RequestErasureRequest:
    return pb.RequestErasureRequest(
        request_id=request_id or f"r-{site}",
        site=f"sites/{site}",
        legal_basis="GDPR-17-1-b",
        **more,
    )


def erasures(secured: Secured, name: str = "ada") -> ErasuresStub:
    return ErasuresStub(secured.channel(Role.OPERATOR, name))


def state_of(secured: Secured, site: str) -> SiteState:
    with secured.coordinator.core.store.read() as uow:
        return uow.sites.get(site).state


def test_a_site_erases_its_own_data_alone_whatever_its_share(secured: Secured) -> None:
    filed = Clinic(secured, "west").erasures.RequestErasure(asked("west"))
    assert filed.state == pb.Erasure.RECEIVED
    assert filed.requested_by == "site/west"
    assert state_of(secured, "west") is SiteState.FENCED


def test_a_site_cannot_ask_for_another(secured: Secured) -> None:
    with pytest.raises(NotPermitted, match="for itself only, and this is for sites/north"):
        Clinic(secured, "west").erasures.RequestErasure(asked("north"))
    assert state_of(secured, "north") is SiteState.ACTIVE


def test_a_small_site_is_erased_at_the_word_of_one_operator(secured: Secured) -> None:
    filed = erasures(secured).RequestErasure(asked("north"))
    assert filed.state == pb.Erasure.RECEIVED
    assert filed.requested_by == "operator/ada"


def test_a_large_one_waits_for_a_second_operator_and_fences_nothing_until_then(
    secured: Secured,
) -> None:
    waiting = erasures(secured).RequestErasure(asked("west"))
    assert waiting.state == pb.Erasure.AWAITING_APPROVAL
    assert waiting.share == pytest.approx(4 / 6, abs=0.05)
    assert not waiting.HasField("fenced_at")
    assert state_of(secured, "west") is SiteState.ACTIVE
    head = secured.coordinator.core.live.position.version
    west = Clinic(secured, "west")
    west.push("west", a_vector(9, secured.plan.parameters), base_version=head)

    approved = erasures(secured, "grace").ApproveErasure(
        pb.ApproveErasureRequest(name=waiting.name)
    )
    assert approved.state == pb.Erasure.RECEIVED
    assert (approved.requested_by, approved.approved_by) == ("operator/ada", "operator/grace")
    assert state_of(secured, "west") is SiteState.FENCED
    with pytest.raises(SiteFenced):
        west.push("west", a_vector(10, secured.plan.parameters), base_version=head + 1)


def test_whoever_asked_cannot_approve_with_a_new_certificate_either(secured: Secured) -> None:
    waiting = erasures(secured).RequestErasure(asked("west"))
    with pytest.raises(NotPermitted, match="another operator must approve"):
        erasures(secured).ApproveErasure(pb.ApproveErasureRequest(name=waiting.name))


def test_approving_twice_is_harmless_and_a_third_has_nothing_to_approve(secured: Secured) -> None:
    waiting = erasures(secured).RequestErasure(asked("west"))
    question = pb.ApproveErasureRequest(name=waiting.name)
    grace = erasures(secured, "grace")
    assert grace.ApproveErasure(question) == grace.ApproveErasure(question)
    with pytest.raises(ErasureNotAwaiting, match="is received and waits for no approval"):
        erasures(secured, "hedy").ApproveErasure(question)


def test_no_calibrator_takes_what_waits(secured: Secured) -> None:
    waiting = erasures(secured).RequestErasure(asked("west"))
    jobs = ErasureJobsStub(secured.channel(Role.CALIBRATOR, "c1"))
    with pytest.raises(ErasureNotApproved):
        jobs.ClaimErasure(pb.ClaimErasureRequest(name=waiting.name, holder="c1"))
    with secured.coordinator.core.store.read() as uow:
        assert uow.outbox.due() == []


def test_the_consent_of_an_operator_is_needed_for_a_large_request_of_the_consent_system(
    secured: Secured,
) -> None:
    portal = ErasuresStub(secured.channel(Role.CONSENT, "portal"))
    waiting = portal.RequestErasure(asked("west"))
    assert waiting.state == pb.Erasure.AWAITING_APPROVAL
    approved = erasures(secured).ApproveErasure(pb.ApproveErasureRequest(name=waiting.name))
    assert approved.state == pb.Erasure.RECEIVED


def test_requests_one_after_the_other_count_together(secured: Secured) -> None:
    operator = erasures(secured)
    states = [operator.RequestErasure(asked(site)).state for site in ("north", "south", "west")]
    assert states == [
        pb.Erasure.RECEIVED,
        pb.Erasure.RECEIVED,
        pb.Erasure.AWAITING_APPROVAL,
    ]


def test_a_flood_of_requests_for_everybody_fences_no_more_than_the_share(
    secured: Secured,
) -> None:
    operator = erasures(secured)
    for site in SITES:
        operator.RequestErasure(asked(site))
    for number in range(5):
        with pytest.raises(ErasureAlreadyRequested):
            operator.RequestErasure(asked("west", f"again-{number}"))
    fenced = [site for site in SITES if state_of(secured, site) is SiteState.FENCED]
    assert fenced == ["north", "south"]


def test_repeating_a_request_that_waits_gives_the_same_one(secured: Secured) -> None:
    operator = erasures(secured)
    assert operator.RequestErasure(asked("west")) == operator.RequestErasure(asked("west"))


def test_a_site_may_withdraw_itself_while_an_operators_request_waits(secured: Secured) -> None:
    waiting = erasures(secured).RequestErasure(asked("west"))
    own = Clinic(secured, "west").erasures.RequestErasure(asked("west", "own"))
    assert own.state == pb.Erasure.RECEIVED
    with pytest.raises(ErasureAlreadyRequested):
        erasures(secured, "grace").ApproveErasure(pb.ApproveErasureRequest(name=waiting.name))
    # Withdrawing the one that waits lifts no fence of the other.
    erasures(secured).CancelErasure(pb.CancelErasureRequest(name=waiting.name))
    assert state_of(secured, "west") is SiteState.FENCED


def test_a_site_cancels_its_own_request_and_not_an_operators(secured: Secured) -> None:
    clinic = Clinic(secured, "north")
    theirs = erasures(secured).RequestErasure(asked("north"))
    with pytest.raises(NotPermitted, match="site/north did not ask for"):
        clinic.erasures.CancelErasure(pb.CancelErasureRequest(name=theirs.name))
    south = Clinic(secured, "south")
    own = south.erasures.RequestErasure(asked("south"))
    cancelled = south.erasures.CancelErasure(pb.CancelErasureRequest(name=own.name))
    assert cancelled.state == pb.Erasure.CANCELLED


def test_a_site_cannot_touch_another_sites_upload(secured: Secured) -> None:
    from letheon.errors import UpdateAltered
    from letheon.federation.encoding import encode

    plan = secured.plan
    payload = encode(a_vector(3, plan.parameters), plan.encoding)
    head = secured.coordinator.core.live.position.version
    north, south = Clinic(secured, "north"), Clinic(secured, "south")
    header = north.header("north", payload, base_version=head)
    assert north.send(header, payload[:100]).committed_bytes == 100
    stolen = south.header("south", payload, base_version=head, update_id=header.update_id)
    with pytest.raises(UpdateAltered, match="was begun by another"):
        south.send(stolen, payload)
    header.offset = 100
    assert north.send(header, payload).HasField("receipt")


def test_a_site_registers_and_reads_itself_only(secured: Secured) -> None:
    sites = Clinic(secured, "north").sites
    assert sites.GetSite(sites_pb2.GetSiteRequest(name="sites/north")).name == "sites/north"
    with pytest.raises(NotPermitted):
        sites.GetSite(sites_pb2.GetSiteRequest(name="sites/south"))
