"""What Prometheus reads from a coordinator."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from builders import a_coordinator, a_vector

MUST_EXIST = (
    'letheon_update_stage_seconds_count{stage="receive"}',
    'letheon_update_stage_seconds_count{stage="validate"}',
    'letheon_update_stage_seconds_count{stage="persist"}',
    'letheon_update_stage_seconds_count{stage="merge"}',
    'letheon_update_stage_seconds_count{stage="publish"}',
    'letheon_updates_total{outcome="merged"}',
    'letheon_updates_total{outcome="rejected"}',
    "letheon_update_staleness_versions_count",
    "letheon_head_version",
    "letheon_erasure_stage_seconds_count",
    'letheon_erasures{state="received"}',
    "letheon_erasure_oldest_open_age_seconds",
    'letheon_rpc_seconds_count{code="OK",method="PushDelta"}',
    'letheon_agent_last_seen_age_seconds{site="north"}',
)


def test_every_promised_metric_is_served(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, config={"metrics_listen": "127.0.0.1:0"}) as (coordinator, client):
        client.register("north")
        client.push("north", a_vector(1))
        client.push("north", a_vector(2))
        coordinator.core.gauges.refresh()
        url = f"http://{coordinator.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
    missing = [name for name in MUST_EXIST if name not in text]
    assert not missing
    assert 'letheon_updates_total{outcome="merged"} 2.0' in text
    assert "letheon_head_version 2.0" in text
