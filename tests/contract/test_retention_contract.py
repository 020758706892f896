"""Retention beside training, over the wire: the disk is bounded and nobody waits for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from builders import a_coordinator, a_vector

from letheon.v1 import federation_pb2, ledger_pb2

KEEP = 5
DEADLINE_S = 60.0


def test_payloads_give_way_while_sites_train_and_the_ledger_still_holds(tmp_path: Path) -> None:
    config = {"retention": {"keep_entries": KEEP}, "upkeep": {"every_seconds": 0.02}}
    ask = federation_pb2.GetFederationRequest()
    with a_coordinator(tmp_path, config=config) as (_, client):
        client.register("north", "south")
        for number in range(30):
            client.push(("north", "south")[number % 2], a_vector(number), base_version=0)
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE_S
        status = client.federation.GetFederation(ask)
        while status.payloads_kept > 2 * KEEP + 1 and time.monotonic() < deadline:
            pause.wait(0.05)
            # Another row lets an anchor grow old.
            client.push("north", a_vector(1000 + status.entries), base_version=0)
            status = client.federation.GetFederation(ask)
        assert status.payloads_kept <= 2 * KEEP + 1
        assert status.oldest_rebuildable_entry > 0
        assert 0 < status.oldest_rebuildable_version <= status.head_version
        *_, last = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        assert last.verdict.holds
    with a_coordinator(tmp_path, config=config) as (_, client):
        again = client.federation.GetFederation(ask)
        assert again.head_version == status.head_version
        *_, last = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        assert last.verdict.holds
