"""kill -9 of the coordinator in the middle of a large transfer: it goes on where it was."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Client, a_federation, a_plan
from test_coordinator_process import start, wait_for, write_config
from throttled_link import ThrottledLink

from letheon.errors import Busy, Unavailable, UploadBusy
from letheon.federation.parameters import Layout, TensorSpec
from letheon.federation.plan import Plan
from letheon.servicekit import transfer
from letheon.v1 import federation_pb2

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MIB = 1024 * 1024
# 200 MB in `make bench-resume`; less where every test run pays for it.
MODEL_MB = int(os.environ.get("LETHEON_RESUME_MB", "100"))
LINK_BYTES_PER_S = 60e6


class Central:
    """A coordinator process that is killed and started again on the same port."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder, self.plan = folder, plan
        self._address = folder / "address"
        self.process = self._start()

    def _start(self) -> Any:
        self._address.unlink(missing_ok=True)
        process = start(write_config(self._folder, listen=f"127.0.0.1:{self.port}"))
        wait_for(self._address, process)
        return process

    def kill_and_start_again(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.process = self._start()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Central]:
    folder = tmp_path_factory.mktemp("central")
    rows = MODEL_MB * 1_000_000 // 4 // 1000
    plan = a_plan(Layout((TensorSpec("weight", (rows, 1000)),)))
    a_federation(folder / "federation", plan)
    made = Central(folder, plan)
    yield made
    made.close()


def killing(central: Central, at_bytes: int, seen: Callable[[], int]) -> threading.Thread:
    """Kills the coordinator once so many bytes went over the link."""

    def work() -> None:
        pause = threading.Event()
        while seen() < at_bytes:
            pause.wait(0.005)
        central.kill_and_start_again()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until_done(attempt: Callable[[], Any]) -> Any:
    """As an agent: the same call again, until it is answered."""
    end, pause = time.monotonic() + 120, threading.Event()
    while True:
        try:
            return attempt()
        except (Unavailable, Busy, UploadBusy):
            if time.monotonic() > end:
                raise
            pause.wait(0.1)


@pytest.fixture
def link(central: Central) -> Iterator[tuple[ThrottledLink, Client]]:
    made = ThrottledLink(("127.0.0.1", central.port), LINK_BYTES_PER_S)
    client = Client(made.address, central.plan)
    client.register("north")
    yield made, client
    client.close()
    made.close()


def test_an_upload_goes_on_at_the_committed_offset_after_kill_9_of_the_coordinator(
    central: Central, link: tuple[ThrottledLink, Client], tmp_path: Path
) -> None:
    throttled, client = link
    size = 4 * central.plan.parameters.size
    payload = tmp_path / "payload"
    delta = np.random.default_rng(1).standard_normal(size // 4, np.float32) * np.float32(1e-3)
    payload.write_bytes(delta.tobytes())
    del delta
    header = client.header("north", payload.read_bytes())
    offsets: list[int] = []
    killer = killing(central, at_bytes=int(size * 0.85), seen=lambda: throttled.to_server)
    began = time.monotonic()
    receipt = until_done(
        lambda: transfer.push(
            client.training.PushDelta,
            header,
            payload,
            query=client.training.QueryUpload,
            on_progress=lambda done, _: offsets.append(done),
        )
    )
    seconds = time.monotonic() - began
    killer.join()
    again = throttled.to_server - size
    sys.stdout.write(
        f"upload of {size / 1e6:.0f} MB, coordinator killed at 85 %: {again / MIB:.1f} MiB sent"
        f" again, {seconds:.1f} s, begun at {[round(one / MIB) for one in offsets]} MiB\n"
    )
    # Framing and what was on its way when the connection broke come on top of the segment.
    assert again <= transfer.SEGMENT_BYTES + 0.02 * size
    assert offsets == sorted(offsets)
    assert any(0 < one < size for one in offsets)
    assert receipt.sha256 == header.sha256.hex()
    status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
    assert status.head_version == receipt.version == 1


def test_a_download_goes_on_at_the_part_that_is_held_after_kill_9_of_the_coordinator(
    central: Central, link: tuple[ThrottledLink, Client], tmp_path: Path
) -> None:
    throttled, client = link
    size = 4 * central.plan.parameters.size
    killer = killing(central, at_bytes=size // 2, seen=lambda: throttled.to_client)
    arrived = until_done(
        lambda: transfer.download(
            client.models.DownloadModel, tmp_path / "model", name="models/head"
        )
    )
    killer.join()
    again = throttled.to_client - size
    sys.stdout.write(
        f"download of {size / 1e6:.0f} MB, coordinator killed at 50 %:"
        f" {again / MIB:.1f} MiB sent again\n"
    )
    assert again <= 16 * MIB
    with arrived.path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == arrived.sha256
