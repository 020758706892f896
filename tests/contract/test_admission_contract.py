"""Which erasures are admitted, over the wire: statuses, caveats, and nothing fenced on refusal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erasure_builders import Federation, a_running_federation

from letheon.errors import (
    ContributionNotSubtractable,
    ErasureAlreadyRequested,
    LevelRefused,
    MalformedRequest,
    MethodRefused,
)
from letheon.servicekit.clock import FakeClock
from letheon.v1 import erasures_pb2, sites_pb2


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def federation(
    tmp_path: Path, clock: FakeClock, chosen_database: str | None
) -> Iterator[Federation]:
    with a_running_federation(tmp_path, clock=clock, database_url=chosen_database) as running:
        yield running


def tell(federation: Federation, site: str, records: int = 100, **more: Any) -> sites_pb2.Site:
    request = sites_pb2.RegisterSiteRequest(name=f"sites/{site}", record_count=records, **more)
    return federation.client.sites.RegisterSite(request)


def is_untouched(federation: Federation, site: str = "south") -> bool:
    """Nothing is fenced, filed or announced: the site trains on."""
    (receipt,) = federation.train(site)
    found = federation.client.sites.GetSite(sites_pb2.GetSiteRequest(name=f"sites/{site}"))
    erasures = federation.erasures.ListErasures(erasures_pb2.ListErasuresRequest()).erasures
    with federation.coordinator.core.store.read() as uow:
        due = uow.outbox.due()
    return (
        found.state == sites_pb2.Site.ACTIVE and not erasures and not due and receipt.version == 1
    )


def test_an_ordinary_erasure_is_admitted_as_asked(federation: Federation) -> None:
    filed = federation.request("south")
    assert filed.level_admitted == erasures_pb2.L1
    assert list(filed.caveats) == []
    assert filed.uncertifiable == ""


def test_a_level_or_method_that_cannot_be_had_fences_nothing(federation: Federation) -> None:
    with pytest.raises(LevelRefused):
        federation.request("south", level=erasures_pb2.L2)
    with pytest.raises(MethodRefused):
        federation.request("south", method="afu_ic")
    assert is_untouched(federation)


def test_a_method_that_needs_an_absent_agent_fences_nothing(
    federation: Federation, clock: FakeClock
) -> None:
    clock.advance(301.0)
    with pytest.raises(MethodRefused, match=r"does not need it: .*removal"):
        federation.request("south", method="afu_ic_rebased")
    assert is_untouched(federation)
    tell(federation, "south")  # its agent is back
    assert federation.request("south", method="afu_ic_rebased").level_admitted == erasures_pb2.L1


def test_a_strategy_that_is_not_linear_is_refused_before_anything_is_fenced(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = federation.coordinator.core.strategy
    with monkeypatch.context() as patched:
        patched.setattr(type(strategy), "linear", False)
        with pytest.raises(ContributionNotSubtractable, match="fedasync is not linear"):
            federation.request("south")
    assert is_untouched(federation)


def test_too_few_control_records_are_said_at_once_and_whenever_the_erasure_is_read(
    federation: Federation,
) -> None:
    tell(federation, "south", control_records=7)
    with pytest.raises(MethodRefused, match="only suppresses"):
        federation.request("south", method="afu_ic_rebased")
    filed = federation.request("south")
    assert filed.level == erasures_pb2.L1
    assert filed.level_admitted == erasures_pb2.L0
    assert "sites/south holds 7 control records" in filed.caveats[0]
    assert federation.get(filed.name) == filed
    claim = federation.jobs.ClaimErasure(
        erasures_pb2.ClaimErasureRequest(name=filed.name, holder="c1")
    )
    assert claim.erasure.caveats == filed.caveats


def test_what_sites_tell_of_their_records_decides_and_is_told_to_nobody(
    federation: Federation,
) -> None:
    tell(federation, "south", records=3000, class_counts={"naevus": 2000, "melanoma": 1000})
    for site in ("north", "west"):
        told = tell(federation, site, class_counts={"naevus": 100, "melanoma": 0})
        assert {field.name for field, _ in told.ListFields()}.isdisjoint(
            {"class_counts", "control_records"}
        )
    filed = federation.request("south")
    assert filed.level_admitted == erasures_pb2.L0
    assert [("93 %" in one, "'melanoma'" in one) for one in filed.caveats] == [
        (True, False),
        (False, True),
    ]


def test_the_last_sites_are_admitted_with_less_and_less(federation: Federation) -> None:
    assert not federation.request("west", "r1").caveats
    second = federation.request("south", "r2")
    assert second.caveats[0].startswith("sites/north is the only site that is retained")
    assert second.level_admitted == erasures_pb2.L1
    last = federation.request("north", "r3")
    assert "no certificate can be given" in last.uncertifiable
    assert last.level_admitted == erasures_pb2.L0


def test_a_repeated_request_keeps_its_first_admission(
    federation: Federation, clock: FakeClock
) -> None:
    filed = federation.request("south", method="afu_ic_rebased")
    clock.advance(3600.0)
    tell(federation, "south", control_records=1)
    assert federation.request("south", method="afu_ic_rebased").caveats == filed.caveats
    with pytest.raises(ErasureAlreadyRequested):
        federation.request("south", "r2", method="afu_ic_rebased")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("control_records", {"control_records": -1}),
        ("class_counts", {"class_counts": {"": 3}}),
        ("class_counts", {"class_counts": {"x": -3}}),
        ("class_counts", {"class_counts": {"x" * 201: 3}}),
        ("class_counts", {"class_counts": {str(n): 1 for n in range(1001)}}),
    ],
)
def test_counts_that_make_no_sense_name_their_field(
    federation: Federation, field: str, told: dict[str, Any]
) -> None:
    with pytest.raises(MalformedRequest) as raised:
        tell(federation, "south", **told)
    assert raised.value.facts["field"] == field
