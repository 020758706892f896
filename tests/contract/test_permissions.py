"""Every rpc as every role, for its own site and for another: over mutual TLS, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from every_rpc import METHODS, is_due, outcome, request_for
from secure_coordinator import Secured, a_secure_coordinator

from coordinator.rpc.permissions import EVERYBODY, TABLE
from coordinator.rpc.permissions_page import PAGE, page
from letheon.errors import NotAuthenticated, NotPermitted
from letheon.servicekit.caller import Role
from letheon.v1 import erasures_pb2, erasures_pb2_grpc, sites_pb2, sites_pb2_grpc

OWN, OTHER = "north", "south"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with a_secure_coordinator(tmp_path_factory.mktemp("permissions"), signs=False) as running:
        for name in (OWN, OTHER):
            channel = running.channel(Role.SITE, name)
            sites_pb2_grpc.SitesStub(channel).RegisterSite(
                sites_pb2.RegisterSiteRequest(name=f"sites/{name}", record_count=10)
            )
        yield running


@pytest.fixture(scope="module")
def erasures(secured: Secured) -> dict[str, str]:
    """One of each site, which the site itself asked for; by site the identifier."""
    made = {}
    for name in (OWN, OTHER):
        stub = erasures_pb2_grpc.ErasuresStub(secured.channel(Role.SITE, name))
        request = erasures_pb2.RequestErasureRequest(
            request_id=f"of-{name}", site=f"sites/{name}", legal_basis="GDPR-17-1-b"
        )
        made[name] = stub.RequestErasure(request).name.partition("/")[2]
    return made


def test_the_table_has_every_rpc_and_no_other() -> None:
    assert {name for name in TABLE if name.startswith("letheon.")} == set(METHODS)


@pytest.mark.parametrize("role", EVERYBODY)
def test_every_rpc_lets_through_whom_the_table_names_and_nobody_else(
    secured: Secured, erasures: dict[str, str], role: Role
) -> None:
    channel = secured.channel(role, OWN)
    wrong = []
    for full, (stub_class, method) in METHODS.items():
        stub = stub_class(channel)
        # Anything but the guard's own refusal: the request is hardly ever whole.
        for site in (OWN, OTHER):
            due = is_due(full, role, own=site == OWN)
            refusal = outcome(stub, method, request_for(full, method, site, erasures))
            passed = not isinstance(refusal, NotPermitted | NotAuthenticated)
            if passed != due:
                wrong.append(f"{full} of {site}: {refusal!r}")
    assert wrong == []


def test_without_a_certificate_nothing_but_enrolment_is_answered(
    secured: Secured, erasures: dict[str, str]
) -> None:
    channel = secured.uncertified()
    answered = [
        full
        for full, (stub_class, method) in METHODS.items()
        if not isinstance(
            outcome(stub_class(channel), method, request_for(full, method, OWN, erasures)),
            NotAuthenticated,
        )
    ]
    assert answered == ["letheon.v1.Enrolment/Enrol"]


def test_an_rpc_that_is_in_no_table_is_denied_to_everybody_even_locally(tmp_path: Path) -> None:
    from builders import a_coordinator

    from letheon.v1 import federation_pb2

    with a_coordinator(tmp_path) as (coordinator, client):
        guard = coordinator.guard
        guard.table = {name: rule for name, rule in TABLE.items() if "GetPlan" not in name}
        assert client.federation.GetFederation(federation_pb2.GetFederationRequest())
        with pytest.raises(NotPermitted, match="GetPlan is in no table of permissions"):
            client.federation.GetPlan(federation_pb2.GetPlanRequest())


def test_a_site_reads_no_files_of_another_sites_exchange(
    secured: Secured, erasures: dict[str, str]
) -> None:
    from letheon.v1 import models_pb2, models_pb2_grpc

    stub = models_pb2_grpc.ModelsStub(secured.channel(Role.SITE, OWN))
    name = f"erasures/{erasures[OTHER]}/contribution"
    request = models_pb2.DownloadModelRequest(name=name, reader=f"sites/{OWN}")
    with pytest.raises(NotPermitted, match="for itself only, and this is for sites/south"):
        list(stub.DownloadModel(request))


def test_the_page_of_permissions_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make permissions"
