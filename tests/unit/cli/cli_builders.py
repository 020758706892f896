"""What the tests of the commands are about: erasures, removals, attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from letheon.federation.parameters import Layout, TensorSpec
from letheon.federation.plan import Image, Plan, PlanDraft, Plugin
from letheon.v1 import erasures_pb2

ASKED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
Erasure = erasures_pb2.Erasure


def stamp(seconds: float) -> Timestamp:
    """A moment so many seconds after the request."""
    made = Timestamp()
    made.FromDatetime(ASKED + timedelta(seconds=seconds))
    return made


def an_erasure(state: int = Erasure.RECEIVED, **overrides: Any) -> Erasure:
    fields: dict[str, Any] = {
        "name": "erasures/e1",
        "request_id": "r1",
        "site": "sites/site-3",
        "legal_basis": "GDPR-17-1-b",
        "level": erasures_pb2.L1,
        "method": "removal",
        "state": state,
        "requested_at": stamp(0),
        "fenced_at": stamp(0.02),
        "deadline": stamp(86_400),
    }
    return Erasure(**{**fields, **overrides})


def a_removal(**overrides: Any) -> erasures_pb2.Removal:
    fields: dict[str, Any] = {
        "epoch": 1,
        "version_before": 40,
        "version_after": 41,
        "contribution_norm": 2.5,
        "head_norm_before": 10.0,
        "removed_entries": 9,
        "voided_entries": 2,
        "subtracted": True,
    }
    return erasures_pb2.Removal(**{**fields, **overrides})


def an_attempt(number: int, verdict: int) -> erasures_pb2.Attempt:
    test = erasures_pb2.Attempt.Test(
        name="utility", verdict=verdict, detail="0.9 before, 0.9 now", numbers_json='{"sites":4}'
    )
    return erasures_pb2.Attempt(
        number=number, version=49, verdict=verdict, tests=[test], at=stamp(5),
        accepted_since_removal=8 * number,
    )  # fmt: skip


def a_plan() -> Plan:
    """Six parameters in two tensors."""
    layout = Layout((TensorSpec("w", (2, 2)), TensorSpec("b", (2,))))
    draft = PlanDraft(
        name="tiny",
        model=Plugin(plugin="small_cnn"),
        image=Image(channels=1, height=8, width=8),
        classes=2,
    )
    return draft.with_layout(layout)
