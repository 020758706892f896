"""An agent behind 2 Mbit/s on which connections break: its rounds are done, little is sent twice.

`make bench-network` runs it with a larger model and prints the numbers.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from throttled_link import ThrottledLink

sys.path.append(str(Path(__file__).parents[1] / "contract"))

from quick_trainer import QuickTrainer
from running_agent import RunningAgent, a_config
from scripted_coordinator import ScriptedCoordinator, a_plan

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROUNDS = 20
LINK_BYTES_PER_S = 250_000  # 2 Mbit/s
BROKEN = 0.05
WIDTH = int(os.environ.get("LETHEON_POOR_LINK_WIDTH", "8"))


def test_twenty_rounds_are_done_and_nothing_is_sent_twice_beyond_a_segment(
    tmp_path: Path,
) -> None:
    coordinator = ScriptedCoordinator(*a_plan(width=WIDTH)).start()
    size = coordinator.plan.parameters.size * 4
    host, _, port = coordinator.address.rpartition(":")
    link = ThrottledLink(
        (host, int(port)),
        LINK_BYTES_PER_S,
        piece_bytes=max(4096, size // 8),
        broken=BROKEN,
        seed=5,
    )
    network = {"upload_bytes_per_second": LINK_BYTES_PER_S}
    config = a_config(link.address, tmp_path / "state", network=network)
    began = time.monotonic()
    agent = RunningAgent(config, QuickTrainer(tmp_path))
    # A task whose download broke is asked for anew, as at a coordinator.
    coordinator.change(lambda: setattr(coordinator, "train_forever", True))
    coordinator.until(lambda: len(coordinator.receipts) >= ROUNDS, timeout_s=500)
    seconds = time.monotonic() - began
    agent.stop()
    link.close()
    coordinator.stop()
    again = link.to_server - coordinator.pushed_bytes
    sys.stdout.write(
        f"{ROUNDS} rounds of {size / 1e3:.0f} kB each way at 2 Mbit/s in {seconds:.0f} s,"
        f" {link.breaks} connections broken;"
        f" to the coordinator {coordinator.pushed_bytes / 1e3:.0f}"
        f" kB of payload and {again / 1e3:.0f} kB beside it (framing, questions, sent again)\n"
    )
    assert link.breaks >= 3, "the link was no poor one"
    # Resumed where it was, byte for byte: nothing arrived twice.
    assert coordinator.pushed_bytes == sum(len(one.held) for one in coordinator.uploads.values())
    segment = min(60 * LINK_BYTES_PER_S, size)
    # What a break takes along is on its way; polls, heartbeats and handshakes take the rest.
    assert again <= link.breaks * segment + 0.3 * ROUNDS * size + 200_000
