"""Metrics that are more than a count: deadlines, verifications, rules, disks."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from builders import NOON, an_erasure
from prometheus_client import CollectorRegistry
from prometheus_tools import ROOT

from coordinator.domain.erasure import ErasureState
from coordinator.gauges import ErasureGauges
from coordinator.metrics import RULES, Metrics
from coordinator.services.verify_ledger import Verdict
from letheon.errors import UnknownSite
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.interception import watch
from letheon.servicekit.metrics import MetricsEndpoint
from letheon.servicekit.process_metrics import observe_process

_RULE = re.compile(r'MalformedUpdate\((?:[^()]|\([^()]*\))*?rule="(\w+)"', re.DOTALL)


def test_a_deadline_counts_down_and_an_open_erasure_beyond_it_is_late() -> None:
    registry = CollectorRegistry()
    gauges = ErasureGauges(registry)
    erasure = replace(an_erasure(), requested_at=NOON, deadline=NOON + timedelta(hours=1))

    gauges.set([erasure], 0, NOON + timedelta(minutes=50))
    assert registry.get_sample_value("letheon_erasure_deadline_left_seconds") == 600.0
    assert registry.get_sample_value("letheon_erasures_late", {"end": "open"}) == 0

    gauges.set([erasure], 0, NOON + timedelta(minutes=70))
    assert registry.get_sample_value("letheon_erasure_deadline_left_seconds") == -600.0
    assert registry.get_sample_value("letheon_erasures_late", {"end": "open"}) == 1


def test_an_erasure_certified_after_its_deadline_stays_counted_and_no_deadline_is_left() -> None:
    registry = CollectorRegistry()
    gauges = ErasureGauges(registry)
    late = replace(
        an_erasure(),
        state=ErasureState.CERTIFIED,
        deadline=NOON,
        concluded_at=NOON + timedelta(seconds=1),
    )
    gauges.set([late, replace(late, concluded_at=NOON)], 0, NOON + timedelta(days=9))
    assert registry.get_sample_value("letheon_erasures_late", {"end": "certified"}) == 1
    assert registry.get_sample_value("letheon_erasures_late", {"end": "open"}) == 0
    assert registry.get_sample_value("letheon_erasure_deadline_left_seconds") == math.inf


def test_a_verification_says_whether_it_held_when_and_how_long_it_took() -> None:
    registry, clock = CollectorRegistry(), FakeClock()
    metrics = Metrics(registry, clock)
    name = "letheon_ledger_verification"
    assert math.isnan(registry.get_sample_value(f"{name}_holds") or 0.0)

    held = Verdict(True, 9, 0, 8, "", "", None, "")
    metrics.verified(held, 1.5)
    assert registry.get_sample_value(f"{name}_holds") == 1
    assert registry.get_sample_value(f"{name}_seconds") == 1.5
    assert registry.get_sample_value(f"{name}_timestamp_seconds") == clock.now().timestamp()

    metrics.verified(replace(held, holds=False), 0.5)
    assert registry.get_sample_value(f"{name}_holds") == 0
    assert registry.get_sample_value(f"{name}_failures_total") == 1


def test_every_rule_that_an_upload_can_break_has_its_label() -> None:
    found: set[str] = set()
    for folder in ("coordinator", "letheon/federation", "letheon/servicekit"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(_RULE.findall(path.read_text()))
    assert len(found) > 5
    assert found <= set(RULES)


def test_a_rule_of_a_later_release_is_counted_as_other() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, FakeClock())
    metrics.rejected("parity")
    assert registry.get_sample_value("letheon_update_rejections_total", {"rule": "other"}) == 1


def test_the_disk_is_read_at_every_scrape_and_left_out_while_it_cannot_be(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    folder = tmp_path / "state"
    observe_process(registry, "agent", folder)
    assert registry.get_sample_value("letheon_disk_free_bytes") is None
    folder.mkdir()
    free = registry.get_sample_value("letheon_disk_free_bytes")
    size = registry.get_sample_value("letheon_disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free <= size
    assert registry.get_sample_value("letheon_process_resident_memory_bytes")


class _Call:
    """The part of a served call that `watch` looks at; gRPC makes the real ones."""

    def __init__(self, *, active: bool) -> None:
        self._active = active

    def is_active(self) -> bool:
        return self._active

    def code(self) -> None:
        return None


@pytest.mark.parametrize(
    ("active", "code"), [(True, grpc.StatusCode.NOT_FOUND), (False, grpc.StatusCode.CANCELLED)]
)
def test_a_call_whose_caller_has_gone_away_is_no_failure_of_the_service(
    active: bool, code: grpc.StatusCode
) -> None:
    seen: list[grpc.StatusCode] = []
    with (
        pytest.raises(UnknownSite),
        watch(_Call(active=active), lambda got, _s: seen.append(got)),  # type: ignore[arg-type]
    ):
        raise UnknownSite("no such site")
    assert seen == [code]


def test_a_page_whose_port_the_predecessor_holds_is_opened_later() -> None:
    first = MetricsEndpoint("127.0.0.1:0", CollectorRegistry())
    first.open()
    second = MetricsEndpoint(first.address, CollectorRegistry())
    second.open_if_free()
    assert second.address is None
    first.close()
    second.open()
    assert second.address == first.address
    second.close()
