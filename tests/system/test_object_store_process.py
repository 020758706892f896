"""A coordinator process whose files are in a bucket: killed, restarted with nothing, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Client, a_federation, a_vector
from s3_server import SECRET, S3Server

from letheon.federation.plan import Plan
from letheon.v1 import federation_pb2, ledger_pb2

pytestmark = pytest.mark.system


@pytest.fixture
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


class Process:
    """The coordinator, told of its store by the environment, as an operator would."""

    def __init__(self, directory: Path, url: str, server: S3Server) -> None:
        self._directory, self._log = directory, directory / "log"
        self._address = directory / "address"
        self._address.unlink(missing_ok=True)
        config = directory / "coordinator.toml"
        config.write_text(
            f'listen = "127.0.0.1:0"\nredis_url = "redis://127.0.0.1:1/0"\n'
            f'data_dir = "{directory / "data"}"\nfederation_dir = "{directory / "federation"}"\n'
            f'address_file = "{self._address}"\n'
        )
        options = {f"LETHEON_STORAGE__OPTIONS__{k.upper()}": v for k, v in server.options().items()}
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "coordinator", "--config", str(config)],
                stderr=log,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "LETHEON_STORAGE__URL": url,
                    **options,
                },
            )

    def client(self) -> Client:
        pause = threading.Event()
        for _ in range(600):
            if self._address.exists():
                plan_file = self._directory / "federation" / "plan.json"
                plan = Plan.from_canonical(plan_file.read_bytes())
                return Client(self._address.read_text(), plan)
            assert self.popen.poll() is None, self.log()
            pause.wait(0.05)
        raise AssertionError("the coordinator does not get ready")

    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(timeout=30)


def ledger_hash(client: Client) -> str:
    return client.federation.GetFederation(federation_pb2.GetFederationRequest()).ledger_hash


def test_kill_9_and_an_empty_disk_for_copies_lose_nothing(s3: S3Server, tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    url = f"s3://{s3.new_bucket()}/one"
    first = Process(tmp_path, url, s3)
    try:
        client = first.client()
        client.register("north", "south")
        client.push("north", a_vector(1))
        client.push("south", a_vector(2), base_version=1)
        before = ledger_hash(client)
        client.close()
    finally:
        first.end(signal.SIGKILL)
    shutil.rmtree(tmp_path / "data" / "cache")
    second = Process(tmp_path, url, s3)
    try:
        client = second.client()
        assert ledger_hash(client) == before
        *_, last = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        assert last.verdict.holds
        client.close()
    finally:
        code = second.end(signal.SIGTERM)
    assert code == 0, second.log()
    for word in ("Traceback", "Unclosed", SECRET):
        assert word not in second.log()


def test_a_missing_bucket_ends_the_start_with_a_sentence(s3: S3Server, tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    process = Process(tmp_path, "s3://nowhere/x", s3)
    assert process.popen.wait(timeout=60) == 78
    assert "make the bucket first" in process.log().splitlines()[-1]
    assert "Traceback" not in process.log()


def test_a_store_that_is_away_ends_the_start_as_unavailable(s3: S3Server, tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    url = f"s3://{s3.new_bucket()}/x"
    s3.stop()
    process = Process(tmp_path, url, s3)
    assert process.popen.wait(timeout=60) == 69
    last = process.log().splitlines()[-1]
    assert url in last
    assert SECRET not in process.log()
