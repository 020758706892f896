"""SIGTERM while an agent uploads, downloads or trains: it ends in time and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_agent import KilledAgent, until
from scripted_coordinator import ScriptedCoordinator, a_plan

from letheon.servicekit.transfer import CHUNK_BYTES as MIB

pytestmark = pytest.mark.system


class Holding(ScriptedCoordinator):
    """Holds the transfers that a test wants held, as a link on which nothing moves."""

    def __init__(self) -> None:
        super().__init__(*a_plan(width=96))
        self.holds = ""
        self.reached, self.go_on = threading.Event(), threading.Event()

    def PushDelta(self, request_iterator, context):  # noqa: N802
        return super().PushDelta(self._held("upload", request_iterator), context)

    def DownloadModel(self, request, context):  # noqa: N802
        yield from self._held("download", super().DownloadModel(request, context))

    def _held(self, what, messages):
        for number, message in enumerate(messages):
            if number == 2 and self.holds == what:  # after the header and one chunk
                self.reached.set()
                self.go_on.wait(60)
            yield message


@pytest.fixture
def coordinator() -> Iterator[Holding]:
    made = Holding()
    made.start()
    yield made
    made.go_on.set()  # nobody is held any more
    made.stop()


@pytest.fixture
def agent(coordinator: Holding, tmp_path: Path) -> Iterator[KilledAgent]:
    made = KilledAgent(tmp_path, coordinator.address, interval_s=0.0, grace_s=2.0)
    yield made
    made.close()


def test_stopped_in_the_middle_of_an_upload_it_sends_the_delta_after_the_next_start(
    coordinator: Holding, agent: KilledAgent
) -> None:
    coordinator.holds = "upload"
    agent.start()
    coordinator.ask_to_train()
    assert coordinator.reached.wait(60)
    assert agent.stop() < 5.0  # a grace of 2 seconds, and the end of the process
    assert agent.states == ["ready"]
    coordinator.go_on.set()
    agent.start()
    until(lambda: agent.states == ["accepted"], "accepted")
    agent.stop()
    assert len(coordinator.receipts) == 1
    assert agent.files("outbox") == 0


def test_stopped_in_the_middle_of_a_download_it_goes_on_with_its_part(
    coordinator: Holding, agent: KilledAgent
) -> None:
    coordinator.holds = "download"
    agent.start()
    coordinator.ask_to_train()
    assert coordinator.reached.wait(60)
    until(lambda: list((agent.state / "models").glob("*.part")), "a part")
    assert agent.stop() < 5.0
    coordinator.go_on.set()
    coordinator.ask_to_train()
    agent.start()
    until(lambda: agent.states == ["accepted"], "accepted")
    agent.stop()
    assert coordinator.downloads[0] == ("models/head", 0)
    assert coordinator.downloads[1] == ("models/0", MIB)
